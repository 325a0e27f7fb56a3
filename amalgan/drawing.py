"""Pictures for a page that needs nothing else: images as PNG in base64, points, curves and intervals as inline SVG.

Colours are classes (`r0`, `r1`, ... for recipes, `ink`, `soft`, `line`), so that the page's style sheet decides them,
in light and dark.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw
from torch import Tensor, from_numpy

Points = Sequence[tuple[float, float]]
INKS = ("#2f62c9", "#c8581c", "#12807a", "#9a3f92", "#7a6a10", "#b0304a")  # of a page in light, for pictures


# Images


def grid(x: Tensor, columns: int) -> Image.Image:
    """uint8 images (N, C, H, W) in rows of `columns`, with transparent gaps, at a size that scales well on a page."""
    n, channels, h, w = x.shape
    blow = 2 if 16 < max(h, w) <= 40 else 1  # tiny ones are scaled by the page, without smoothing
    gap = 1 if max(h, w) <= 16 else 2
    tiles = x.permute(0, 2, 3, 1).numpy().repeat(blow, 1).repeat(blow, 2)
    h, w, rows = h * blow, w * blow, math.ceil(n / columns)
    sheet = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, channels + 1), np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w, :channels], sheet[top : top + h, left : left + w, channels] = tile, 255
    return Image.fromarray(sheet, "LA" if channels == 1 else "RGBA")


def glances(x: Tensor, pixels: Sequence[tuple[int, int]], maps: Tensor) -> Image.Image:
    """A row for each image: the image with marked pixels, then, from each of these, where it is looked at.

    Arguments:
        x: uint8 (N, C, H, W).
        pixels: P of them, (row, column).
        maps: uint8 (N, P, H', W'), 255 where it is looked at most; there the dimmed image turns into the mark's colour.
    """
    n, _, h, w = x.shape
    blow = max(1, 96 // max(h, w))
    images = x.expand(n, 3, h, w).permute(0, 2, 3, 1).numpy().repeat(blow, 1).repeat(blow, 2)
    tiles = []
    for image, from_each in zip(images, maps.numpy()):
        tiles.append(_marked(image, pixels, INKS, blow))
        for pixel, ink, looks in zip(pixels, INKS, from_each):
            share = (
                np.asarray(Image.fromarray(looks).resize((w * blow, h * blow), Image.Resampling.NEAREST))[..., None]
                / 255
            )
            lit = 0.3 * image * (1 - share) + np.array(ImageColor.getrgb(ink)) * share
            tiles.append(_marked(lit.round().astype(np.uint8), [pixel], [ink], blow))
    return grid(from_numpy(np.stack(tiles)).permute(0, 3, 1, 2), 1 + len(pixels))


def _marked(image: np.ndarray, pixels: Sequence[tuple[int, int]], inks: Sequence[str], blow: int) -> np.ndarray:
    """The image (H, W, 3) with discs on pixels that are `blow` px wide here."""
    held, radius = Image.fromarray(image), max(3, blow // 2)
    pen = ImageDraw.Draw(held)
    for (row, column), ink in zip(pixels, inks):
        y, x = (blow * (place + 0.5) for place in (row, column))
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=ink, outline="white")
    return np.asarray(held)


def embedded(picture: Image.Image, alt: str, crisp: bool = False) -> str:
    """An <img> that carries its own pixels; `crisp` ones are enlarged without smoothing."""
    held = io.BytesIO()
    picture.save(held, "PNG", optimize=True)
    data = base64.b64encode(held.getvalue()).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    kind = ' class="crisp"' if crisp else ""
    return f'<img{kind} {size} alt="{escape(alt)}" src="data:image/png;base64,{data}">'


# Points


def scatter(x: Tensor, reach: float, colour: str, alt: str) -> str:
    """Points (N, D), the first two coordinates within [-reach, reach]; of (N, 1) each on a line of its own."""
    flat = x.double().numpy()
    second = flat[:, 1] if flat.shape[1] > 1 else np.linspace(-reach, reach, len(flat))
    at = np.stack([100 + 96 * flat[:, 0] / reach, 100 - 96 * second / reach], 1)
    at = at[np.isfinite(at).all(1) & (np.abs(at - 100) <= 98).all(1)]
    path = "".join(f"M{u:.1f} {v:.1f}h0" for u, v in at)
    frame = '<rect class="frame" x="1" y="1" width="198" height="198" rx="3"/>'
    return _svg(200, 200, alt, f'{frame}<path class="dots {colour}" d="{path}"/>')


# Lines

Line = Sequence[float]  # values in [0, 1], equally far apart


def lines(frames: Sequence[Sequence[Sequence[Line]]], columns: int) -> Image.Image:
    """Frames in rows of `columns`, in each of them sets of lines; the k-th line of a set has the k-th colour."""
    wide, high, blow = 160, 90, 2  # drawn at twice the size: PIL's own lines have steps
    held = Image.new("RGB", (columns * wide * blow, math.ceil(len(frames) / columns) * high * blow), "white")
    pen = ImageDraw.Draw(held)
    for i, sets in enumerate(frames):
        left, top = i % columns * wide * blow, i // columns * high * blow
        pen.rectangle([left, top, left + wide * blow - 1, top + high * blow - 1], outline="#dddddd")
        for k, line in ((k, line) for drawn in sets for k, line in enumerate(drawn)):
            at = [(left + blow * x, top + blow * y) for x, y in _placed(line, wide, high)]
            pen.line(at, fill=INKS[k % len(INKS)], width=blow + 1, joint="curve")
    return held.resize((held.width // blow, held.height // blow), Image.Resampling.LANCZOS)


def panels(frames: Sequence[Sequence[tuple[str, Line, bool]]], columns: int, alt: str) -> str:
    """Frames in rows of `columns`, in each of them lines (class, values, whether it is thick)."""
    wide, high, gap, parts = 112, 63, 4, []
    for i, drawn in enumerate(frames):
        left, top = i % columns * (wide + gap), i // columns * (high + gap)
        parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{wide}" height="{high}" rx="3"/>')
        for colour, line, thick in drawn:
            path = "M" + "L".join(f"{left + x:.1f} {top + y:.1f}" for x, y in _placed(line, wide, high))
            parts.append(f'<path class="curve {colour}{" mean" if thick else ""}" d="{path}"/>')
    width, height = columns * (wide + gap) - gap, math.ceil(len(frames) / columns) * (high + gap) - gap
    return _svg(width, height, alt, "".join(parts))


def _placed(line: Line, wide: float, high: float) -> list[tuple[float, float]]:
    """Points of a line in a frame, what leaves [0, 1] cut off."""
    step, margin = (wide - 8) / max(1, len(line) - 1), 4
    return [(margin + step * i, high - margin - (high - 8) * min(max(y, 0.0), 1.0)) for i, y in enumerate(line)]


# Curves


def curves(lines: Sequence[tuple[str, Points, bool]], last: float, alt: str, unit: str) -> str:
    """Lines (class, points, whether it is a mean) up to `last` on common axes; what shoots out of the range is cut off.

    The vertical range holds the middle 99 % of what comes after the first twentieth; it is logarithmic if all values
    are positive and their range spans more than a factor of 30.
    """
    width, height, left, bottom, top, right = 340, 190, 46, 24, 8, 8
    later = [y for _, points, _ in lines for x, y in points if x >= last / 20 and math.isfinite(y)]
    low, high = (float(q) for q in np.quantile(later, (0.005, 0.995))) if later else (0.0, 1.0)
    logarithmic = bool(later) and min(later) > 0 and high > 30 * low
    to = math.log10 if logarithmic else float
    low, high = _padded(to(low), to(high))
    place_x: Callable[[float], float] = lambda x: left + (width - left - right) * x / last  # noqa: E731
    place_y: Callable[[float], float] = lambda y: top + (height - top - bottom) * (high - y) / (high - low)  # noqa: E731
    parts = []
    for value, label in _ticks(low, high, logarithmic):
        y = place_y(value)
        parts.append(f'<path class="line" d="M{left} {y:.1f}H{width - right}"/>')
        parts.append(f'<text class="soft" x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>')
    for value in (0.0, last / 2, last):
        anchor = "start" if value == 0 else "end" if value == last else "middle"
        text = short(value) + (f" {unit}" if value == last else "")
        parts.append(
            f'<text class="soft" x="{place_x(value):.1f}" y="{height - 7}" text-anchor="{anchor}">{text}</text>'
        )
    for colour, points, mean in lines:
        drawn = [(place_x(x), place_y(_clipped(y, to, low, high, logarithmic))) for x, y in points if math.isfinite(y)]
        if drawn:
            path = "M" + "L".join(f"{u:.1f} {v:.1f}" for u, v in drawn)
            parts.append(f'<path class="curve {colour}{" mean" if mean else ""}" d="{path}"/>')
    return _svg(width, height, alt, "".join(parts))


def _clipped(y: float, to: Callable[[float], float], low: float, high: float, logarithmic: bool) -> float:
    return low if logarithmic and y <= 0 else min(max(to(y), low), high)


# Intervals


def intervals(
    rows: Sequence[tuple[str, str, Sequence[float], float, float]],
    floor: float | None,
    ceiling: float | None,
    alt: str,
    share: bool = False,
) -> str:
    """One line for each (name, class, values, low, high): small dots for seeds, a large one for the mean, and a bar.

    The bar is the interval. Floor and ceiling are marked where they are known. The axis is logarithmic if all is
    positive and spans more than a factor of 8; it is 0 to 1 for a share.
    """
    width, left, right, step, head, foot = 340, 76, 16, 26, 22, 24
    height = head + step * len(rows) + foot
    values = [v for _, _, seen, _, _ in rows for v in seen]
    ends = [v for _, _, _, low, high in rows for v in (low, high) if math.isfinite(v)]
    anchors = [v for v in (floor, ceiling) if v is not None]
    every = values + anchors
    logarithmic = (
        not share
        and min(values + [v for v in anchors if v > 0]) > 0
        and max(every) > 8 * min(v for v in every if v > 0)
    )
    to: Callable[[float], float] = (lambda v: math.log10(max(v, 1e-12))) if logarithmic else float
    inside = [to(v) for v in values + [a for a in anchors if a > 0 or not logarithmic]]
    span = max(inside) - min(inside)
    ends = [to(v) for v in ends if v > 0 or not logarithmic]
    # wide intervals of few seeds may not squeeze the rest
    low, high = _padded(
        min([*inside, *(e for e in ends if e > min(inside) - 0.5 * span)]),
        max([*inside, *(e for e in ends if e < max(inside) + 0.5 * span)]),
    )
    low, high = (-0.02, 1.02) if share else (low, high)
    place: Callable[[float], float] = lambda v: (  # noqa: E731
        left + (width - left - right) * (min(max(to(v), low), high) - low) / (high - low)
    )
    base = head + step * len(rows)
    parts = [f'<path class="line" d="M{left} {base}H{width - right}"/>']
    for value, label in _ticks(low, high, logarithmic, 4):
        x = left + (width - left - right) * (value - low) / (high - low)
        parts.append(f'<path class="line" d="M{x:.1f} {base}v4"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{base + 16}" text-anchor="middle">{label}</text>')
    marks = [
        (name, v)
        for name, v in (("floor", floor), ("ceiling", ceiling))
        if v is not None and (v > 0 or not logarithmic)
    ]
    for name, value in marks:
        x = place(value)
        anchor = "start" if x < left + 30 else "end" if x > width - right - 30 else "middle"
        parts.append(f'<path class="anchor" d="M{x:.1f} {head - 6}V{base}"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{head - 10}" text-anchor="{anchor}">{name}</text>')
    for i, (name, colour, seen, lower, upper) in enumerate(rows):
        y = head + step * i + step / 2
        parts.append(f'<text class="ink" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        if math.isfinite(lower) and math.isfinite(upper):
            parts.append(f'<path class="whisker {colour}" d="M{place(lower):.1f} {y:.1f}H{place(upper):.1f}"/>')
        parts += [f'<circle class="seed {colour}" cx="{place(v):.1f}" cy="{y:.1f}" r="3"/>' for v in seen]
        mean = sum(seen) / len(seen)
        parts.append(f'<circle class="mean {colour}" cx="{place(mean):.1f}" cy="{y:.1f}" r="5"/>')
    return _svg(width, height, alt, "".join(parts))


# Trees


def tree(
    names: Sequence[str], father: Sequence[int], across: Sequence[Sequence[int]], found: Sequence[int],
    sought: Sequence[int], colour: str, alt: str,
) -> str:  # fmt: skip
    """A rooted tree in rings: its root in the middle, every other vertex one ring further out than its father.

    Arguments:
        names: of the vertices, the root's first and every father's before its children's.
        father: the place of each one's father, the root's its own.
        across: pairs of places that are linked outside the tree.
        found: places to be linked with the root in a recipe's colour and named.
        sought: places to be ringed.
    """
    at = _rings(father)
    point: Callable[[int], str] = lambda i: f"{at[i][0]:.1f} {at[i][1]:.1f}"  # noqa: E731
    lines = [(i, f) for i, f in enumerate(father) if i != f]
    paths = ["".join(f"M{point(i)}L{point(j)}" for i, j in some) for some in (across, lines)]
    parts = [f'<path class="line" stroke-width=".5" d="{paths[0]}"/>']
    parts.append(f'<path class="anchor" style="stroke-dasharray:none" d="{paths[1]}"/>')
    parts += [f'<path class="whisker {colour}" d="M{point(0)}L{point(i)}"/>' for i in found]
    for i, (x, y) in enumerate(at):
        kind = f"mean {colour}" if i in found else "frame"
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{6 if i == 0 else 5 if i in found else 3}"/>'
        )
    parts += [f'<circle class="anchor" cx="{at[i][0]:.1f}" cy="{at[i][1]:.1f}" r="9"/>' for i in sought]
    for i in (0, *found):
        x, y = at[i]
        away, anchor = (11, "start") if x >= 130 else (-11, "end")
        drop = 4 + (y - 130) / 12 if i else -10
        parts.append(
            f'<text class="ink" x="{x + away:.1f}" y="{y + drop:.1f}" text-anchor="{anchor}">{escape(names[i][:24])}</text>'
        )
    return _svg(260, 260, alt, "".join(parts))


def _rings(father: Sequence[int]) -> list[tuple[float, float]]:
    """Places within 260 x 260: leaves share the circle evenly, each other vertex stands amid its children."""
    children: list[list[int]] = [[] for _ in father]
    depth = [0] * len(father)
    for i, f in enumerate(father):
        if i != f:
            children[f].append(i)
            depth[i] = depth[f] + 1
    order, left = [], [0]  # depth first, so that leaves of one branch stand side by side
    while left:
        order.append(left.pop())
        left += children[order[-1]][::-1]
    leaves = [i for i in order if not children[i]]
    angle = {leaf: 2 * math.pi * k / len(leaves) for k, leaf in enumerate(leaves)}
    for i in reversed(order):
        if children[i]:
            angle[i] = (angle[children[i][0]] + angle[children[i][-1]]) / 2
    reach = 112 / max(1, *depth)
    return [(130 + depth[i] * reach * math.cos(angle[i]), 130 + depth[i] * reach * math.sin(angle[i])) for i in range(len(father))]  # fmt: skip


# Axes


def short(value: float) -> str:
    """A tick's label: 0.02, 1.5, 20k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def _padded(low: float, high: float) -> tuple[float, float]:
    if high <= low:
        extra = abs(low) * 0.1 or 1.0
        return low - extra, high + extra
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _ticks(low: float, high: float, logarithmic: bool, about: int = 4) -> list[tuple[float, str]]:
    """Round numbers within [low, high] and their labels; on a logarithmic axis `low` and `high` are exponents."""
    if logarithmic:
        whole = [(float(e), short(10.0**e)) for e in range(math.ceil(low), math.floor(high) + 1)]
        every = max(1, math.ceil(len(whole) / 5))
        if len(whole) >= 2:
            return whole[::every]
        steps = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
        return [(math.log10(v), short(v)) for v in steps if low <= math.log10(v) <= high]
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [(k * step, short(round(k * step, 12))) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _svg(width: int, height: int, alt: str, inside: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">{inside}</svg>'


# Frames


def figure(name: str, colour: str, drawn: str, aside: str = "") -> str:
    """A picture with its caption, in a recipe's colour."""
    more = f" <i>{escape(aside)}</i>" if aside else ""
    caption = f'<span class="chip {colour}"></span><b>{escape(name)}</b>{more}'
    return f"<figure><figcaption>{caption}</figcaption>{drawn}</figure>"


def colour_of(results: dict[str, Any], name: str) -> str:
    """The class of a recipe's colour on the page of these results."""
    return f"r{list(results['recipes']).index(name) % 6}"
