"""How well does decode(encode(x)) return x?

    pixel error = mean over images, channels and pixels of (x - reconstruction)^2        "per pixel" is in the name
    distortion  = -log p(x | z), z ~ q(z | x): nats per example, the model's own likelihood, constants included

The trivial reconstruction is the mean image of the training set; whatever does not beat it has learned nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.metrics.neighbours import Items


def pixel_error(x: Tensor, reconstruction: Tensor) -> float:
    """Mean squared error per pixel of x `(B, *shape)` and its reconstruction, images in [0, 1]."""
    if x.shape != reconstruction.shape or len(x) == 0:
        raise UsageError(
            "the error per pixel",
            f"x {tuple(x.shape)} and reconstruction {tuple(reconstruction.shape)}",
            "pass two non-empty tensors of one shape",
        )
    return (
        sum(float((u.double() - v.double()).square().sum()) for u, v in zip(x.split(1024), reconstruction.split(1024)))
        / x.numel()
    )


@torch.no_grad()
def reconstruct(model: Any, x: Tensor, c: Tensor | None = None, batch: int = 500) -> Tensor:
    """The reconstructions `(N, *shape)` of x `(N, *shape)` with conditions c `(N, ...)`, in batches."""
    return torch.cat([told.reconstruct(part).float().cpu() for told, part in batches(model, x, c, batch)])


def batches(model: Any, x: Tensor, c: Tensor | None, size: int) -> Iterator[tuple[Any, Tensor]]:
    """The model as it is told the conditions of some of x, and those of x, where the model is, in order."""
    device = device_of(model)
    for start in range(0, len(x), size):
        some = None if c is None else c[start : start + size].to(device)
        yield model if some is None else model.given(some), x[start : start + size].to(device)


def mean_item(items: Tensor | Items, batch: int = 4096) -> Tensor:
    """The mean image (or point) `(*shape)` of a tensor or data split."""
    total = torch.zeros((), dtype=torch.float64)
    for index in torch.arange(len(items)).split(batch):
        total = total + (items[index] if isinstance(items, Tensor) else items.batch(index)[0]).double().sum(0)
    return (total / len(items)).float()


def device_of(model: Any) -> torch.device:
    """Where the model's first parameter lives."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
