"""Tensors back to something a person can look at: images in a grid, points as a cloud of ink. Pillow only."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import UsageError

WIDTH = 640  # px that a grid is blown up towards
LEAST = 32  # px that one image is blown up to at least
PAD, CANVAS, MARGIN = 2, 480, 24


def show(x: Tensor, columns: int | None = None, scale: int | None = None, bounds: float | None = None) -> Image.Image:
    """A picture of images (N, C, H, W) in [0, 1] or uint8, or of points (N, D): two coordinates, or a histogram of one.

    Arguments:
        columns: images in a row; by default as square as it gets.
        scale: screen px for each image px, whole and unsmoothed, so that 8 x 8 digits stay what they are; by default
            large enough to see.
        bounds: points are drawn within [-bounds, bounds]^2; by default what holds them. Give it to compare pictures.
    Raises:
        UsageError: no items, or neither images nor points.
    """
    x = x.detach().cpu()
    if x.ndim == 3 and x.shape[0] in (1, 3):
        x = x[None]
    if x.ndim == 4 and x.shape[1] in (1, 3) and len(x):
        return images(x, columns, scale)
    if x.ndim == 2 and x.shape[1] >= 1 and len(x):
        return points(x.double().numpy(), bounds)
    raise UsageError(
        "a picture",
        f"a tensor of shape {tuple(x.shape)}",
        "give images (N, 1 or 3, H, W) or points (N, D), at least one",
    )


def images(x: Tensor, columns: int | None, scale: int | None) -> Image.Image:
    n, _, h, w = x.shape
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    if columns < 1 or (scale is not None and scale < 1):
        raise UsageError("a grid of images", f"columns={columns}, scale={scale}", "write numbers from 1 up")
    rows = math.ceil(n / columns)
    scale = scale or max(1, math.ceil(LEAST / min(h, w)), WIDTH // (columns * (w + PAD)))
    if x.dtype != torch.uint8:
        x = x.float().nan_to_num(0).clamp(0, 1).mul(255).round().to(torch.uint8)
    x = x.expand(n, 3, h, w).repeat_interleave(scale, 2).repeat_interleave(scale, 3).permute(0, 2, 3, 1)
    h, w = h * scale, w * scale
    sheet = np.full((rows * (h + PAD) + PAD, columns * (w + PAD) + PAD, 3), 255, np.uint8)
    for i, tile in enumerate(x.numpy()):
        top, left = PAD + i // columns * (h + PAD), PAD + i % columns * (w + PAD)
        sheet[top : top + h, left : left + w] = tile
    return Image.fromarray(sheet)


def points(x: np.ndarray, bounds: float | None) -> Image.Image:
    """Each point a soft dot; where many fall the ink saturates, 1 - exp(-ink)."""
    x = x[np.isfinite(x).all(1)]
    reach = bounds or 1.05 * float(np.abs(x[:, :2]).max(initial=1e-9))
    if x.shape[1] == 1:
        count, _ = np.histogram(x[:, 0], bins=CANVAS // 8, range=(-reach, reach))
        height = np.repeat(count / max(1, count.max()), 8) * (CANVAS - 1)
        ink = (np.arange(CANVAS)[::-1, None] < height[None]) * 2.0
    else:
        at = ((x[:, :2] / reach + 1) / 2 * (CANVAS - 1)).round()
        at = at[(np.abs(x[:, :2]) <= reach).all(1)].astype(int)
        dots = np.zeros((CANVAS + 2, CANVAS + 2))
        np.add.at(dots, (CANVAS - at[:, 1], at[:, 0] + 1), 1.0)
        each = float(np.clip(4000 / max(1, len(x)), 0.15, 2.0))
        kernel = {-1: 0.5, 0: 1.0, 1: 0.5}
        spread = [a * b * np.roll(dots, (i, j), (0, 1)) for i, a in kernel.items() for j, b in kernel.items()]
        ink = each * np.sum(spread, axis=0)[1:-1, 1:-1]
    paper = 1 - np.exp(-ink)[..., None]
    sheet = (255 * (1 - paper) + paper * np.array([31, 78, 168])).round().astype(np.uint8)
    picture = Image.new("RGB", (CANVAS + 2 * MARGIN, CANVAS + 2 * MARGIN), "white")
    picture.paste(Image.fromarray(sheet), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((MARGIN - 1, MARGIN - 1, MARGIN + CANVAS, MARGIN + CANVAS), outline=(160, 160, 160))
    for text, left in ((f"{-reach:.3g}", MARGIN), ("0", MARGIN + CANVAS // 2), (f"{reach:.3g}", MARGIN + CANVAS - 30)):
        draw.text((left, MARGIN + CANVAS + 6), text, fill=(90, 90, 90))
    return picture
