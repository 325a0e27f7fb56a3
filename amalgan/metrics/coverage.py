"""Fidelity and diversity apart: precision, recall, density, coverage.

R_k(x, X) is the distance of x to its k-th nearest other item of X. Balls of that radius around the items stand for the
set's support.

    precision = share of fakes inside at least one real ball             Kynkaanniemi et al. 2019
    recall    = share of reals inside at least one fake ball
    density   = mean over fakes of (number of real balls they lie in) / k    Naeem et al. 2020; may exceed 1
    coverage  = share of reals with at least one fake in their own ball

A model collapsed onto good images has precision 1 and recall 0; a model that sprays noise over everything the other way
round. Real against real gives precision = recall near 1, density near 1 and coverage near 1 - 2^-k (0.97 at k = 5).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.metrics.neighbours import nearest, precision, tiles


class Coverage(NamedTuple):
    """Precision, recall, density and coverage at k neighbours."""

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def radii(features: Tensor, k: int = 5) -> Tensor:
    """Distance `(n,)` of each row `(n, d)` to its k-th nearest other row."""
    return nearest(features, k=k, dtype=precision(len(features), *features.shape))[0][:, -1]


def _count(true: Tensor) -> Tensor:
    """How many of each column `(n, m)` are true, `(m,)`: by bytes, 60 times as fast as `true.sum(0)` at 1,024 x 8,192."""
    parts = true.view(torch.uint8).split(255)  # so many that a byte can count
    return torch.stack([part.sum(0, dtype=torch.uint8) for part in parts]).sum(0)


def coverage(real: Tensor, fake: Tensor, k: int = 5, real_radii: Tensor | None = None) -> Coverage:
    """Precision, recall, density and coverage of fakes `(m, d)` against reals `(n, d)`, in bounded memory; of many of them in
    float32, where a share that hangs on a hair may differ in its last digit.

    Arguments:
        k: neighbours that set a ball's radius.
        real_radii: `radii(real, k)` where already known.

    Raises:
        UsageError: shapes differ, or there are k items or fewer.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise UsageError(
            "precision, recall, density and coverage",
            f"real features {tuple(real.shape)} and generated features {tuple(fake.shape)}",
            "pass two matrices (n, d) and (m, d) of the same feature network",
        )
    reach_real = (radii(real, k) if real_radii is None else real_radii).square()
    reach_fake = radii(fake, k).square()
    balls_around_fake = torch.zeros(len(fake), dtype=torch.long)  # real balls that hold this fake
    real_is_inside = torch.zeros(len(real), dtype=torch.bool)
    real_is_covered = torch.zeros(len(real), dtype=torch.bool)
    for i, j, d2 in tiles(real, fake, precision(len(real), *fake.shape)):
        rows, columns = slice(i, i + len(d2)), slice(j, j + d2.shape[1])
        in_real_ball = d2 <= reach_real[rows, None]
        balls_around_fake[columns] += _count(in_real_ball)
        real_is_covered[rows] |= in_real_ball.any(1)
        real_is_inside[rows] |= (d2 <= reach_fake[columns]).any(1)
    return Coverage(
        precision=float((balls_around_fake > 0).double().mean()),
        recall=float(real_is_inside.double().mean()),
        density=float(balls_around_fake.double().mean()) / k,
        coverage=float(real_is_covered.double().mean()),
        k=k,
    )
