"""Distances between two clouds of features: Frechet and kernel.

    frechet = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (L' C_2 L)^1/2),  C_1 = L L'     Heusel et al. 2017; Dowson & Landau 1982
    kernel  = E k(x, x') + E k(y, y') - 2 E k(x, y),  k(x, y) = (x.y / d + 1)^3   Binkowski et al. 2018, unbiased

m, C are the means and covariances of the two clouds. L is any root of C_1, since L' C_2 L and C_1 C_2 have the same
eigenvalues; it is symmetric and positive, so its root's trace is the sum of the roots of its eigenvalues: no iteration, no
complex numbers, no singular case. Everything is in float64 and passes over the features in blocks. Frechet is biased upwards
at small n (with n <= d badly so): compare only at equal n, beside its floor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from amalgan.errors import AmalganError, UsageError

BLOCK = 4096
STRIP = 256  # columns of a covariance that are added up at once


class Moments(NamedTuple):
    """Number of rows n, mean `(d,)` and unbiased covariance `(d, d)`, float64."""

    n: int
    mean: Tensor
    covariance: Tensor


class Estimate(NamedTuple):
    """A value and its standard error (nan where it cannot be known)."""

    value: float
    standard_error: float


def moments(features: Tensor) -> Moments:
    """Mean and covariance of rows `(n, d)`, in two passes over blocks (centred before squaring: no cancellation).

    Raises:
        UsageError: fewer than two rows, or not a matrix.
        AmalganError: a feature is NaN or infinite.
    """
    _check(features)
    n = len(features)
    mean = sum((part.double().sum(0) for part in features.split(BLOCK)), torch.zeros(())) / n
    covariance = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for part in features.split(BLOCK):
        centred = part.double() - mean
        for first in range(0, len(mean), STRIP):  # what lies left of the diagonal is known from its right
            strip = covariance[first : first + STRIP, first:]
            strip.addmm_(centred[:, first : first + STRIP].T, centred[:, first:])
    covariance = covariance.triu() + covariance.triu(1).T
    return Moments(n, mean, covariance / (n - 1))


def frechet(a: Tensor | Moments, b: Tensor | Moments) -> float:
    """The Frechet distance of two clouds `(n, d)`, `(m, d)` or of their moments; squared units of features, >= 0."""
    a = a if isinstance(a, Moments) else moments(a)
    b = b if isinstance(b, Moments) else moments(b)
    if a.mean.shape != b.mean.shape:
        raise UsageError(
            "the Frechet distance of two clouds",
            f"{len(a.mean)} features against {len(b.mean)}",
            "use the same feature network for both",
        )
    root, singular = torch.linalg.cholesky_ex(a.covariance)
    if singular:
        values, vectors = torch.linalg.eigh(a.covariance)
        root = vectors * values.clamp(min=0).sqrt()
    inner = root.T @ b.covariance @ root
    cross = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    gap = (a.mean - b.mean).square().sum()
    return max(0.0, float(gap + a.covariance.trace() + b.covariance.trace() - 2 * cross))


def kernel(a: Tensor, b: Tensor, subset: int = 1000, seed: int = 0) -> Estimate:
    """The kernel distance of two clouds `(n, d)`, `(m, d)`, unbiased: between equal laws it may fall below zero.

    Both clouds are shuffled and cut into disjoint subsets; the value is the mean over pairs of subsets and, the pairs
    being independent, its standard error is their deviation over the root of their number.

    Arguments:
        subset: rows in a subset; made smaller where there would be fewer than five subsets.
    """
    _check(a)
    _check(b)
    if a.shape[1] != b.shape[1]:
        raise UsageError(
            "the kernel distance of two clouds",
            f"{a.shape[1]} features against {b.shape[1]}",
            "use the same feature network for both",
        )
    n = min(len(a), len(b))
    size = max(2, min(subset, n // 5))
    generator = torch.Generator().manual_seed(seed)
    rows = zip(
        torch.randperm(len(a), generator=generator).split(size), torch.randperm(len(b), generator=generator).split(size)
    )
    values = torch.tensor([kernel_u_statistic(a[i], b[j]) for i, j in list(rows)[: n // size]], dtype=torch.float64)
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), error)


def kernel_u_statistic(x: Tensor, y: Tensor) -> float:
    """The unbiased squared discrepancy of rows `(n, d)` and `(m, d)`: no row is compared with itself."""
    n, m, d = len(x), len(y), x.shape[1]

    def total(u: Tensor, v: Tensor) -> Tensor:
        v = v.double()
        return sum(((part.double() @ v.T / d + 1).pow(3).sum() for part in u.split(BLOCK)), torch.zeros(()))

    def itself(u: Tensor) -> Tensor:
        return (u.double().square().sum(1) / d + 1).pow(3).sum()

    within_x = (total(x, x) - itself(x)) / (n * (n - 1))
    within_y = (total(y, y) - itself(y)) / (m * (m - 1))
    return float(within_x + within_y - 2 * total(x, y) / (n * m))


def _check(features: Tensor) -> None:
    if features.ndim != 2 or len(features) < 2:
        raise UsageError(
            "a distance between two clouds of features",
            f"features of shape {tuple(features.shape)}",
            "pass a matrix (n, d) of n >= 2 rows: one item has no spread, generate more samples",
        )
    if not torch.isfinite(features.sum(0)).all() and not all(torch.isfinite(p).all() for p in features.split(BLOCK)):
        bad = int(sum((~torch.isfinite(p)).any(1).sum() for p in features.split(BLOCK)))
        raise AmalganError(
            "a distance between two clouds of features",
            f"NaN or infinity in {bad} of {len(features)} rows",
            "the samples are broken (training diverged?): evaluate an earlier checkpoint",
        )
