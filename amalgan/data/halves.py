"""Images whose halves belong together: a small pattern at the left end is repeated at the right end, far away.

On grey lie two marks of 2 x 2 cells of 3 x 3 px, each anywhere within 9 px of its end. Which cells are dark and which
bright is the same in both; how dark or bright, each cell has to itself. All this is independent and uniform: p(x) = 1 /
(2^4 (4 * 11)^2 32^8) for every such image, 0 for all others. Halves that know nothing of each other match in one of 16.

The marks are at least 46 px apart. No unit of the discriminators in `networks.images` and, without attention,
`networks.residual` has both in view, and their verdicts are sums over such units: what they say of the left half plus
what they say of the right. So they judge each half, but not whether the two match, which nothing teaches a generator then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from ..errors import UsageError

HEIGHT, WIDTH = 16, 64  # px
CELLS, CELL = 2, 3  # cells along a mark; px of a cell
MARK, END = CELLS * CELL, 9  # px of a mark; px at each end in which it lies
ROOM = END - MARK + 1  # places for a mark across an end
GREY, INKS = 128, 32  # of 255: the ground; shades of dark, from black up, and of bright, from white down
CODE = 2 ** torch.arange(CELLS**2).view(CELLS, CELLS)  # what a bright cell adds to the number of its pattern
PATTERNS = 2**CELLS**2


class Agreement(NamedTuple):
    """The share of images with two well-formed halves, and the share of those whose halves match (0 if there are none)."""

    formed: float
    matched: float


@dataclass(frozen=True)
class Halves:
    """The data set, and a judge of its images."""

    name: str = "halves"
    classes: tuple[str, ...] = tuple(f"{number:0{CELLS**2}b}" for number in range(PATTERNS))
    note: str = "two marks far apart, of one pattern; labels are the patterns; the density is known"

    def draw(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """n images uint8 (n, 1, 16, 64) and the numbers (n,) of their patterns; image i is the same whatever n is."""
        of_cells, of_inks, of_places = (np.random.default_rng([seed, stream]) for stream in range(3))
        bright = of_cells.integers(2, size=(n, CELLS, CELLS))
        ink = of_inks.integers(INKS, size=(n, 2, CELLS, CELLS))
        marks = np.where(bright[:, None], 255 - ink, ink).repeat(CELL, 2).repeat(CELL, 3)
        corner = of_places.integers([HEIGHT - MARK + 1, ROOM], size=(n, 2, 2))
        corner[:, 1, 1] += WIDTH - END
        rows, columns = (corner[:, :, axis, None] + np.arange(MARK) for axis in (0, 1))
        x = np.full((n, HEIGHT, WIDTH), GREY, np.uint8)
        x[np.arange(n)[:, None, None, None], rows[..., None], columns[:, :, None]] = marks
        return torch.from_numpy(x[:, None]), (torch.from_numpy(bright) * CODE).sum((1, 2))

    def agreement(self, x: Tensor) -> Agreement:
        """How many of x (n, 1, 16, 64), in [0, 1], hold two marks, and how many of those the same one twice.

        Pixels are rounded to dark, grey or bright. Wherever a half has room for a mark, that one is tried whose cells are
        what most of their pixels are. A half is well-formed if for one of these fewer of its pixels are wrong than a
        cell has.

        Raises:
            UsageError: images of another shape.
        """
        if x.shape[1:] != (1, HEIGHT, WIDTH):
            found, instead = f"images of shape {tuple(x.shape[1:])}", f"pass grey ones of {HEIGHT} x {WIDTH} px"
            raise UsageError("the agreement of two halves", found, instead)
        dark, bright = (x < 0.25).float(), (x > 0.75).float()
        # at each place where a cell may begin: how many of its pixels are of one kind, and which (0 dark, 1 bright)
        right, cell = torch.stack([_sums(dark, CELL), _sums(bright, CELL)]).max(0)
        # at each place where a mark may begin: its pattern's number, and pixels that are wrong in it, less those drawn
        pattern = conv2d(cell.float(), CODE[None, None].float(), dilation=CELL)
        right = conv2d(right, torch.ones(1, 1, CELLS, CELLS), dilation=CELL)
        drawn = dark + bright
        wrong = MARK**2 - right - _sums(drawn, MARK)
        formed, seen = [], []
        for half, end in zip(drawn.chunk(2, 3), (slice(ROOM), slice(-ROOM, None))):
            fewest, at = (half.sum((1, 2, 3))[:, None] + wrong[..., end].flatten(1)).min(1)
            formed.append(fewest < CELL**2)
            seen.append(pattern[..., end].flatten(1).gather(1, at[:, None]).squeeze(1))
        both = formed[0] & formed[1]
        matched = (seen[0] == seen[1])[both]
        return Agreement(float(both.double().mean()), float(matched.double().mean()) if len(matched) else 0.0)


def strangers(x: Tensor) -> Tensor:
    """The same images (n, 1, 16, 64), each with the right half of the one before it."""
    left, right = x.chunk(2, 3)
    return torch.cat([left, right.roll(1, 0)], 3)


def _sums(x: Tensor, side: int) -> Tensor:
    """Over each square of x (n, 1, H, W): (n, 1, H - side + 1, W - side + 1)."""
    return avg_pool2d(x, side, 1, divisor_override=1)
