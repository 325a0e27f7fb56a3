"""Images whose halves belong together: a small pattern at the left end is repeated at the right end, far away.

On grey lie two marks, one at each end, of 2 x 2 cells of 4 x 4 px. Which cells are dark and which bright is the same in both;
how dark or bright, each cell has to itself. All this is independent and uniform: p(x) = 1 / (2^4 32^8) for every such image, 0
for all others. Halves that know nothing of each other match in one of 16.

The marks are 48 px apart. No unit of the discriminators in `networks.images` and, without attention,
`networks.residual` has both in view, and their verdicts are sums over such units: what they say of the left half plus
what they say of the right. So they judge each half, but not whether the two match, which nothing teaches a generator then.
Marks are large and lie in one place, so that to draw them is learned long before to match them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..errors import UsageError

HEIGHT, WIDTH = 16, 64  # px
CELLS, CELL = 2, 4  # cells along a mark; px of a cell
MARK = CELLS * CELL  # px
ROWS = slice((HEIGHT - MARK) // 2, (HEIGHT + MARK) // 2)  # of both marks
ENDS = (slice(MARK), slice(-MARK, None))  # columns of each
GREY, INKS = 128, 32  # of 255: the ground; shades of dark, from black up, and of bright, from white down
CODE = 2 ** torch.arange(CELLS**2).view(CELLS, CELLS)  # what a bright cell adds to the number of its pattern
PATTERNS = 2**CELLS**2


class Agreement(NamedTuple):
    """The share of images with two well-formed halves, and how far beyond chance the halves of those match.

    Cohen's kappa, (p - q) / (1 - q): p is the share of images whose halves match, q what it would be if every left half met any
    right one (Cohen 1960, Educational and Psychological Measurement 20:37). 1 if all match, about 0 if they know nothing of
    each other; 0, too, if all images are of one pattern, whose halves match whatever one knows of the other.
    """

    formed: float
    kappa: float


@dataclass(frozen=True)
class Halves:
    """The data set, and a judge of its images."""

    name: str = "halves"
    classes: tuple[str, ...] = tuple(f"{number:0{CELLS**2}b}" for number in range(PATTERNS))
    note: str = "two marks far apart, of one pattern; labels are the patterns; the density is known"

    def draw(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """n images uint8 (n, 1, 16, 64) and the numbers (n,) of their patterns; image i is the same whatever n is."""
        of_cells, of_inks = (np.random.default_rng([seed, stream]) for stream in range(2))
        bright = of_cells.integers(2, size=(n, CELLS, CELLS))
        ink = of_inks.integers(INKS, size=(n, 2, CELLS, CELLS))
        marks = np.where(bright[:, None], 255 - ink, ink).repeat(CELL, 2).repeat(CELL, 3)
        x = np.full((n, HEIGHT, WIDTH), GREY, np.uint8)
        for side, columns in enumerate(ENDS):
            x[:, ROWS, columns] = marks[:, side]
        return torch.from_numpy(x[:, None]), (torch.from_numpy(bright) * CODE).sum((1, 2))

    def agreement(self, x: Tensor) -> Agreement:
        """How many of x (n, 1, 16, 64), in [0, 1], hold two marks, and whether in those the second follows from the first.

        Pixels are rounded to dark, grey or bright; a cell is what most of its pixels are. A half is well-formed if fewer of its
        pixels are wrong than a cell has.

        Raises:
            UsageError: images of another shape.
        """
        if x.shape[1:] != (1, HEIGHT, WIDTH):
            found, instead = f"images of shape {tuple(x.shape[1:])}", f"pass grey ones of {HEIGHT} x {WIDTH} px"
            raise UsageError("the agreement of two halves", found, instead)
        kinds = torch.cat([x < 0.25, x > 0.75], 1).float()  # (n, 2, H, W): dark, bright
        formed, seen = [], []
        for half, columns in zip(kinds.chunk(2, 3), ENDS):
            inside = half[:, :, ROWS, columns]
            of_kind = avg_pool2d(inside, CELL, divisor_override=1)  # (n, 2, 2, 2): pixels of each kind in each cell
            most, cell = of_kind.max(1)
            outside = half.sum((1, 2, 3)) - inside.sum((1, 2, 3))
            formed.append(MARK**2 - most.sum((1, 2)) + outside < CELL**2)
            seen.append((cell * CODE).sum((1, 2)))
        both = formed[0] & formed[1]
        left, right = (patterns[both] for patterns in seen)
        count = max(1, len(left))
        matched = int((left == right).sum()) / count
        chance = int(left.bincount(minlength=PATTERNS) @ right.bincount(minlength=PATTERNS)) / count**2
        return Agreement(float(both.double().mean()), (matched - chance) / (1 - chance) if chance < 1 else 0.0)


def strangers(x: Tensor) -> Tensor:
    """The same images (n, 1, 16, 64), each with the right half of the one before it."""
    left, right = x.chunk(2, 3)
    return torch.cat([left, right.roll(1, 0)], 3)
