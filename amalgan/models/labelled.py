"""A latent model whose decoder and discriminator are told the label of what they make and judge.

fake = G(z, c),  verdicts D(x, c), D(fake, c)                            (Mirza and Osindero 2014; RCGAN for series)
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from amalgan.models.latent import LatentDraw, LatentModel
from amalgan.noise import Noise, uniform_rows

TOLD = ("decoder", "discriminator")


class Given(nn.Module):
    """A network that is told the labels c (B,) of a batch; of k B rows each B in turn carry them (several fakes do)."""

    def __init__(self, network: nn.Module, c: Tensor) -> None:
        super().__init__()
        self.network, self.c = network, c

    def forward(self, x: Tensor) -> Any:
        return self.network(x, self.c.repeat(len(x) // len(self.c)))


class LabelledModel(LatentModel):
    """A latent model of labelled data: `decoder(z, c)`, `discriminator(x, c)`; the encoder is not told.

    Arguments as for `LatentModel`; the spec has classes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shares: Tensor  # of the labels in the training set, from which samples draw theirs
        self.register_buffer("shares", torch.full((len(self.spec.classes),), 1 / len(self.spec.classes)))

    def given(self, c: Tensor) -> LatentModel:
        """The same networks, told the labels c (B,) of a batch of B."""
        view = copy(self)
        view._modules = {
            name: Given(part, c) if name in TOLD and part is not None else part for name, part in self._modules.items()
        }
        return view

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> LatentDraw:
        """One play on a batch x (B, *shape) with labels c (B,)."""
        assert c is not None
        return LatentDraw(self.given(c), x, c, noise)

    def labels(self, n: int, seed: int = 0) -> Tensor:
        """n labels (n,), as frequent as in the training set."""
        uniform = uniform_rows(n, (), seed, "labels")
        return torch.searchsorted(self.shares.cpu().cumsum(0), uniform, right=True).clamp(max=len(self.shares) - 1)

    def calibrate(self, split: Any, seed: int = 0) -> None:
        """Nothing: verdicts are about examples with their labels, and a prior draws codes alone."""

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        prior: str = "fitted",
        start: int = 0,
        batch: int = 256,
        c: Tensor | None = None,
    ) -> Tensor:
        """n samples (n, *shape) with the labels c (n,), by default those of `labels`."""
        device = self.shares.device
        z = self.prior(prior).sample(n, seed, start).to(device)
        c = (self.labels(start + n, seed)[start:] if c is None else c).to(device)
        parts = zip(z.split(batch), c.split(batch))
        return torch.cat([self.given(labels).decode(part) for part, labels in parts])

    @torch.no_grad()
    def finish(self, data: Any, seed: int = 0) -> None:
        """What is done once, after training: the prior is fitted, and labels are counted."""
        super().finish(data, seed)
        known = data.train.c[data.train.c >= 0]
        self.shares.copy_(torch.bincount(known, minlength=len(self.shares)) / max(1, len(known)))
