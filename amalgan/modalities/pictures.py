"""What there is to see of images and points: kept of a judged run as tensors, told on a page as HTML.

    real, samples, samples_standard         of the data, of the model, of the model from N(0, I)
    originals, reconstructions              held-out items and their way through the code
    interpolations (rows, columns, ...)     straight lines between codes, or arcs between noises
    nearest, nearest_training               samples that come closest to a training item, and that
    real_by_label, by_label (rows, classes, ...)   real items and samples of each class
    looked, looked_from (P, 2)              samples, and pixels (row, column) of theirs
    looks NAME (n, P, H', W')               where a layer of attention looks from there, over the most it looks anywhere

uint8 images, or float points.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amalgan import files
from amalgan.data import show
from amalgan.drawing import colour_of, embedded, figure, glances, grid, scatter
from amalgan.metrics.evaluate import Reference
from amalgan.metrics.memorisation import distances_to
from amalgan.modalities.core import Page

SHOWN, POINTS = 64, 2500  # samples in a picture
PAIRS, LINES, STOPS = 10, 4, 9  # reconstructions and neighbours; interpolations and their steps
LABELS, BY_LABEL = 20, 6  # classes that are shown, and items of each
# Of an image, as shares of its sides: from where attention looks
PLACES = {"the middle": (0.5, 0.5), "above it": (0.25, 0.5), "below it": (0.75, 0.5), "a corner": (0.1, 0.1)}
SEARCHED = 500  # samples among which the nearest to the training data are looked for
LEVELS = ((36, 10, 4), (25, 8, 3), (16, 6, 2), (9, 5, 1), (4, 3, 1))  # samples, pairs, interpolations of a page


def save(
    x: Tensor, path: Path, columns: int | None = None, prefix: str = "", named: dict[str, Any] | None = None
) -> None:
    """.png a grid, .npz an array x, anything else a folder of pictures; what is `named` joins the arrays, and classes y
    among it are folders."""
    if path.suffix == ".npz":
        files.write_arrays(path, {"x": x.cpu().numpy(), **(named or {})})
    elif path.suffix == ".png":
        _picture(x, path, columns)
    else:
        for i, one in enumerate(x):
            folder = path
            if named and "classes" in named and named["y"][i] >= 0:
                folder = path / str(named["classes"][named["y"][i]]).replace("/", "-")
            _picture(one[None], folder / f"{prefix}{i:05d}.png", None)


def _picture(x: Tensor, path: Path, columns: int | None) -> None:
    held = io.BytesIO()
    show(x, columns).save(held, format="PNG")
    files.write_bytes(path, held.getvalue())


# Kept


@torch.no_grad()
def exhibits(model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
    """Pictures of a model, by the names at the top of this file; the same `seed`, the same noise for every model."""
    points = model.spec.modality == "points"
    count = POINTS if points else SHOWN
    found = {"real": against.real[:count], "samples": model.sample(count, seed)}
    if model.has_encoder:
        some = against.real[: count if points else PAIRS]
        found["originals"], found["reconstructions"] = some, model.reconstruct(some)
        if model.fitted is not None:
            found["samples_standard"] = model.sample(count, seed, prior="standard")
    if not points:
        found["interpolations"] = interpolations(model, against.real)
        samples = model.sample(SEARCHED, seed).float().cpu()
        distance, index = distances_to(samples, against.train)
        closest = distance.argsort()[:PAIRS]
        found["nearest"], found["nearest_training"] = samples[closest], against.train.batch(index[closest])[0]
        if hasattr(model, "asked") and model.spec.classes and against.real_c is not None:
            count = min(LABELS, len(model.spec.classes))
            c = torch.arange(count).repeat(BY_LABEL)
            made = model.sample(len(c), seed, c=c)
            found["by_label"] = made.view(BY_LABEL, count, *made.shape[1:])
            found["real_by_label"] = by_class(against.real, against.real_c, count)
        found |= looks(model, seed)
    return {name: _stored(x) for name, x in found.items()}


@torch.no_grad()
def looks(model: Any, seed: int = 0) -> dict[str, Tensor]:
    """Samples, and where the attention of those who make and judge them looks; {} of networks without any."""
    z = model.prior("standard").sample(LINES, seed).to(next(model.parameters()).device)
    told = model.given(model.labels(LINES, seed).to(z.device)) if hasattr(model, "asked") else model
    pixels = [tuple(int(share * side) for share, side in zip(at, model.spec.shape[-2:])) for at in PLACES.values()]
    maps = told.attention(z, pixels)
    seen = {f"looks {name}": some / some.amax((2, 3), keepdim=True) for name, some in maps.items()}
    return {"looked": told.decode(z), "looked_from": torch.tensor(pixels)} | seen if seen else {}


def by_class(x: Tensor, c: Tensor, classes: int) -> Tensor:
    """(BY_LABEL, classes, *shape): the first items of each class; nothing where there are no more."""
    shown = torch.zeros(BY_LABEL, classes, *x.shape[1:])
    for label in range(classes):
        some = x[c == label][:BY_LABEL]
        shown[: len(some), label] = some
    return shown


@torch.no_grad()
def interpolations(model: Any, real: Tensor, seed: int = 0) -> Tensor:
    """(LINES, STOPS, *shape): with an encoder straight lines between the codes of real items, else arcs between noises.

    An arc, sin((1-t)w)/sin(w) a + sin(tw)/sin(w) b with w the angle between a and b, keeps the length that noise has.
    """
    t = torch.linspace(0, 1, STOPS)[:, None]
    if model.has_encoder:
        ends = model.encode(real[: 2 * LINES]).float().cpu()
        z = [a + t * (b - a) for a, b in ends.split(2)]
    else:
        ends = model.prior("standard").sample(2 * LINES, seed)
        z = [_arc(a, b, t) for a, b in ends.split(2)]
    made = model.decode(torch.cat(z).to(next(model.parameters()).device))
    return made.view(LINES, STOPS, *made.shape[1:])


def _arc(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    angle = torch.acos((a @ b / (a.norm() * b.norm())).clamp(-1, 1)).clamp(1e-4, math.pi - 1e-4)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def _stored(x: Tensor) -> Tensor:
    x = x.detach().float().cpu()
    return x.clone() if x.dim() == 2 else (x.nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)


# Told


def sections(page: Page) -> list[tuple[str, str, str]]:
    """Key, title and HTML."""
    results, shown, (samples, pairs, lines) = page.results, page.shown, LEVELS[min(page.level, len(LEVELS) - 1)]
    if not any(shown.values()):
        return []
    told = [
        ("samples", "Samples", _samples(results, shown, samples, page.seed)),
        ("reconstructions", "Reconstructions", _reconstructions(results, shown, pairs)),
    ]
    if results["data"]["modality"] != "points":
        told += [
            ("labels", "By label", _by_label(results, shown)),
            ("attention", "Attention", _attention(results, shown, lines)),
            ("interpolations", "Between two images", _interpolations(results, shown, lines)),
            ("neighbours", "Nearest training images", _neighbours(results, shown, pairs)),
        ]
    return told


def _samples(results: dict[str, Any], shown: dict[str, dict[str, Tensor]], count: int, seed: int) -> str:
    real = next(pictures["real"] for pictures in shown.values() if pictures)
    draw = _drawer(results, real, count)
    figures = [figure("Real data", "real", draw(real, "real", "real data, held out"))]
    standard = []
    for name, pictures in shown.items():
        colour = colour_of(results, name)
        if not pictures:
            figures.append(figure(name, colour, '<p class="failed">No finished run.</p>'))
            standard.append("<div></div>")
            continue
        fitted = "samples_standard" in pictures
        drawn = draw(pictures["samples"], colour, f"samples of {name}")
        figures.append(figure(name, colour, drawn, "fitted prior" if fitted else "N(0, I)"))
        if fitted:
            drawn = draw(pictures["samples_standard"], colour, f"samples of {name} from the standard normal prior")
            standard.append(figure(name, colour, drawn, "N(0, I)"))
        else:
            standard.append("<div></div>")
    amount = f"{len(real):,} points" if real.dim() == 2 else f"the first {len(real[:count])}"
    text = f'<p class="lead">Not picked: {amount} of each model of seed {seed}, from the same noise.</p>'
    text += f'<div class="figures">{"".join(figures)}</div>'
    if any("figure" in part for part in standard):
        why = (
            "<div><h3>The same models from N(0,&nbsp;I)</h3><p>A trained encoder rarely fills the standard normal. "
            "Where these look worse than those above, the fault is the prior's, not the decoder's.</p></div>"
        )
        text += f'<div class="figures again">{why}{"".join(standard)}</div>'
    return text


def _by_label(results: dict[str, Any], shown: dict[str, dict[str, Tensor]]) -> str:
    able = {name: p for name, p in shown.items() if "by_label" in p}
    if not able:
        return ""
    columns = [("Real data", "real", next(iter(able.values()))["real_by_label"])]
    columns += [(name, colour_of(results, name), p["by_label"]) for name, p in able.items()]
    figures = [
        figure(name, colour, embedded(grid(x.flatten(0, 1), x.shape[1]), f"{name}: a column a label", _crisp(x[0])))
        for name, colour, x in columns
    ]
    lead = (
        '<p class="lead">A column for each label, in their order. Look down a column: is it always that label, and does '
        "it vary as the real one does?</p>"
    )
    return f'{lead}<div class="figures broad">{"".join(figures)}</div>'


def _attention(results: dict[str, Any], shown: dict[str, dict[str, Tensor]], lines: int) -> str:
    figures = []
    for name, pictures in shown.items():
        for key, maps in sorted(pictures.items()):
            layer = key.removeprefix("looks ")
            if layer != key:
                pixels = [(int(row), int(column)) for row, column in pictures["looked_from"]]
                drawn = glances(pictures["looked"][:lines], pixels, maps[:lines])
                player = layer.partition(".")[0]
                where = f"{player}, over {maps.shape[2]} × {maps.shape[3]} px"
                alt = f"{name}: samples with {len(pixels)} marked pixels, and where the {player} looks from each"
                figures.append(figure(name, colour_of(results, name), embedded(drawn, alt), where))
    lead = (
        f'<p class="lead">Samples, and beside each where attention looks from the marked pixels: {", ".join(PLACES)}. Full '
        "colour is where it looks most. How much that counts is the layer's gamma, under Training: near 0 it does not.</p>"
    )
    return f'{lead}<div class="figures broad">{"".join(figures)}</div>' if figures else ""


def _drawer(results: dict[str, Any], real: Tensor, count: int) -> Callable[[Tensor, str, str], str]:
    """How one set of samples becomes a picture."""
    if real.dim() == 2:
        reach = 1.1 * float(real[:, :2].abs().max())
        return lambda x, colour, alt: scatter(x, reach, colour, alt)
    columns = max(1, math.isqrt(count))
    return lambda x, colour, alt: embedded(grid(x[:count], columns), f"{len(x[:count])} {alt}", _crisp(x))


def _reconstructions(results: dict[str, Any], shown: dict[str, dict[str, Tensor]], count: int) -> str:
    able = {name: p for name, p in shown.items() if "reconstructions" in p}
    if not able:
        return ""
    originals = next(iter(able.values()))["originals"]
    if originals.dim() == 2:
        draw = _drawer(results, originals, count)
        figures = [figure("Originals", "real", draw(originals, "real", "held-out points"))]
        for name, p in able.items():
            colour = colour_of(results, name)
            figures.append(figure(name, colour, draw(p["reconstructions"], colour, f"reconstructions of {name}")))
        return f'<div class="figures">{"".join(figures)}</div>'
    rows = [("Originals", "real", originals)]
    rows += [(name, colour_of(results, name), p["reconstructions"]) for name, p in able.items()]
    lead = '<p class="lead">Held-out images, and below each what comes back through the code.</p>'
    return lead + _strips(rows, count, "held-out images" if len(rows) == 1 else "")


def _strips(rows: Sequence[tuple[str, str, Tensor]], count: int, alt: str = "") -> str:
    drawn = ""
    for name, colour, x in rows:
        picture = embedded(grid(x[:count], count), f"{name}: a row of {len(x[:count])} images {alt}".strip(), _crisp(x))
        drawn += f'<div class="strip"><span><span class="chip {colour}"></span>{escape(name)}</span>{picture}</div>'
    return f'<div class="strips" style="--tiles:{count}">{drawn}</div>'


def _interpolations(results: dict[str, Any], shown: dict[str, dict[str, Tensor]], lines: int) -> str:
    figures = []
    for name, pictures in shown.items():
        if "interpolations" in pictures:
            x = pictures["interpolations"][:lines]
            drawn = embedded(
                grid(x.flatten(0, 1), x.shape[1]), f"{len(x)} interpolations of {name}, one a row", _crisp(x[0])
            )
            way = "between the codes of two held-out images" if "originals" in pictures else "between two noises"
            figures.append(figure(name, colour_of(results, name), drawn, way))
    lead = (
        '<p class="lead">A good code changes from one thing into another through things that could be real. '
        "Look for double exposures in the middle of a row.</p>"
    )
    return f'{lead}<div class="figures broad">{"".join(figures)}</div>' if figures else ""


def _neighbours(results: dict[str, Any], shown: dict[str, dict[str, Tensor]], count: int) -> str:
    parts = []
    for name, pictures in shown.items():
        if "nearest" in pictures:
            made, training = pictures["nearest"][:count], pictures["nearest_training"][:count]
            both = grid(torch.cat([made, training]), count)
            alt = f"samples of {name} above, the nearest training image of each below"
            picture = embedded(both, alt, _crisp(made))
            label = f'<span><span class="chip {colour_of(results, name)}"></span>{escape(name)}</span>'
            parts.append(f'<div class="strip">{label}{picture}</div>')
    lead = (
        f'<p class="lead">Of {SEARCHED} samples of each model the {count} that come closest to a training '
        "image (above), and that image (below). Pairs that are the same in every stroke are copies; pairs that are "
        "merely alike are not.</p>"
    )
    return f'{lead}<div class="strips" style="--tiles:{count}">{"".join(parts)}</div>' if parts else ""


def _crisp(x: Tensor) -> bool:
    return max(x.shape[-2:]) <= 16
