"""Does the model repeat its training data, or itself?

With D(x) the distance of x to its nearest training item, over samples s and held-out items h of equal number:

    ratio = median D(s) / median D(h)          about 1: samples are as far from the training data as unseen data are
    share = share of samples with D(s) < Q_q   Q_q: the q-quantile of D(h); about q unless the model copies, then 1

Blurred samples are near everything in pixel space: a ratio somewhat below 1 with a small share is blur, a large share
is copying. Near-duplicates among samples are calibrated alike, on images brought to zero mean and unit norm each (their
distance is then a correlation; without this, blurred digits passed for duplicates): two samples count as one if closer
than all but a share q of real images are to another real image, at equal n.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.metrics.neighbours import Items, nearest


class Memorisation(NamedTuple):
    """Distance ratio, share of samples nearer to the training data than all but few held-out items, exact copies."""

    ratio: float
    share: float
    copies: float
    quantile: float
    neighbour: Tensor  # (n,) the nearest training item of each sample, to be looked at


class Uniqueness(NamedTuple):
    """Share of samples without a near-duplicate, share of distinct ones, distance below which two count as one."""

    unique: float
    distinct: float
    threshold: float


def distances_to(x: Tensor, y: Tensor | Items) -> tuple[Tensor, Tensor]:
    """Distance and index `(n,)` of y's nearest item to each of x `(n, ...)`: searched in float32, the winner exact."""
    _, index = nearest(x, y, dtype=torch.float32)
    index = index[:, 0]
    winners = torch.cat(
        [(y[part] if isinstance(y, Tensor) else y.batch(part)[0]).flatten(1) for part in index.split(1024)]
    )
    return torch.cat(
        [(u.double() - v.double()).norm(dim=1) for u, v in zip(x.flatten(1).split(1024), winners.split(1024))]
    ), index


def memorisation(
    samples: Tensor,
    train: Tensor | Items,
    held_out: Tensor,
    quantile: float = 0.01,
    held_out_distances: Tensor | None = None,
) -> Memorisation:
    """How near samples `(n, ...)` are to the training set, measured against held-out items `(m, ...)`.

    Arguments:
        train: the whole training set, a tensor or a data split (walked through in blocks).
        quantile: q of the formula above.
        held_out_distances: `distances_to(held_out, train)[0]` where already known.
    """
    if len(samples) == 0 or len(held_out) == 0 or samples.shape[1:] != held_out.shape[1:]:
        raise UsageError(
            "nearest training items of samples and of held-out items",
            f"samples {tuple(samples.shape)} and held-out items {tuple(held_out.shape)}",
            "pass both non-empty and in the same shape",
        )
    of_samples, index = distances_to(samples, train)
    of_held_out = distances_to(held_out, train)[0] if held_out_distances is None else held_out_distances
    reference = float(of_held_out.median())
    return Memorisation(
        ratio=float(of_samples.median()) / reference if reference > 0 else float("nan"),
        share=float((of_samples < torch.quantile(of_held_out, quantile)).double().mean()),
        copies=float((of_samples == 0).double().mean()),
        quantile=quantile,
        neighbour=index,
    )


def near_duplicate_threshold(real: Tensor, quantile: float = 0.01) -> float:
    """The distance to the nearest other item that only a share `quantile` of real items `(n, ...)` fall below."""
    return float(torch.quantile(_to_nearest_other(real), quantile))


def uniqueness(samples: Tensor, threshold: float) -> Uniqueness:
    """Share of samples `(n, ...)` with no other sample nearer than `threshold` (see `near_duplicate_threshold`)."""
    distinct = torch.unique(samples.flatten(1), dim=0)
    if threshold > 0:
        unique = float((_to_nearest_other(samples) >= threshold).double().mean())
    else:
        unique = float((_to_nearest_other(samples) > 0).double().mean())  # the real data hold exact copies themselves
    return Uniqueness(unique, len(distinct) / len(samples), threshold)


def _to_nearest_other(x: Tensor) -> Tensor:
    """Distance `(n,)` of each item to its nearest other one; images `(n, C, H, W)` at zero mean and unit norm each."""
    x = _at_unit_contrast(x) if x.ndim == 4 else x
    _, index = nearest(x, dtype=torch.float32)
    pairs = zip(x.flatten(1).split(1024), index[:, 0].split(1024))
    return torch.cat([(u.double() - x[i].flatten(1).double()).norm(dim=1) for u, i in pairs])


def _at_unit_contrast(x: Tensor) -> Tensor:
    centred = x - x.mean((1, 2, 3), keepdim=True)
    return centred / centred.flatten(1).norm(dim=1).clamp(min=1e-6)[:, None, None, None]
