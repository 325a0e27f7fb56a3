"""What there is to see of one trained run: its numbers and its pictures, kept beside it.

    RUN/judged/rows.json             the rows of `amalgan.metrics.evaluate`, and what they were measured with
               pictures.safetensors  uint8 images, or float points:
                   real, samples, samples_standard         N of the data, of the model, of the model from N(0, I)
                   originals, reconstructions              held-out items and their way through the code
                   interpolations (rows, columns, ...)     straight lines between codes, or arcs between noises
                   nearest, nearest_training               samples that come closest to a training item, and that

Reports are made from these files alone: they need neither the data nor the model.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from amalgan import __version__, files
from amalgan.metrics.evaluate import METRICS, Reference, evaluate
from amalgan.metrics.memorisation import distances_to
from amalgan.runs import Run

SHOWN, POINTS = 64, 2500  # samples in a picture
PAIRS, LINES, STOPS = 10, 4, 9  # reconstructions and neighbours; interpolations and their steps
SEARCHED = 500  # samples among which the nearest to the training data are looked for


def judge(run: Run, against: Reference) -> list[dict[str, Any]]:
    """The rows of a finished run, measured once and kept, with its pictures; anew if what they rest on changed.

    Raises:
        AmalganError: the model's samples are not finite.
    """
    kept, folder = read_rows(run, against), run.folder / "judged"
    if kept is not None:
        return kept
    model = run.model.eval()
    rows = [
        {key: plain(value) for key, value in asdict(row).items()} for row in evaluate(model, run.data, against=against)
    ]
    pictures_of = {name: x.contiguous() for name, x in pictures(model, against).items()}
    files.write_bytes(folder / "pictures.safetensors", save(pictures_of))
    files.write_json(folder / "rows.json", {"key": _key(run, against), "rows": rows})
    return rows


def read_rows(run: Run, against: Reference | None = None) -> list[dict[str, Any]] | None:
    """The rows kept of a run, if they were measured `against` this reference (against any, if None); else None."""
    path = run.folder / "judged" / "rows.json"
    if not path.is_file() or not (path.parent / "pictures.safetensors").is_file():
        return None
    held = files.read_json(path, f"the numbers of {run.folder}")
    return held["rows"] if against is None or held.get("key") == _key(run, against) else None


def read_pictures(folder: Path) -> dict[str, Tensor]:
    """The pictures kept of a run, {} where there are none or they are damaged."""
    try:
        return load((folder / "judged" / "pictures.safetensors").read_bytes())
    except (OSError, SafetensorError):
        return {}


@torch.no_grad()
def pictures(model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
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
    return {name: _stored(x) for name, x in found.items()}


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


def _key(run: Run, against: Reference) -> str:
    """What the rows rest on: the model, the data, the feature network, the sample size, the metrics."""
    weights = (run.folder / "model" / "model.safetensors").stat()
    return json.dumps(
        [__version__, sorted(METRICS), run.record["data"]["fingerprint"], against.eyes.fingerprint, against.split,
         against.n, run.steps, weights.st_size, weights.st_mtime_ns]
    )  # fmt: skip


def plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
