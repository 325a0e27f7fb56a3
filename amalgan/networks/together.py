"""Discriminators that judge examples together: what a generator repeats shows in no single sample, only among several.

    MinibatchDeviation   D(x) + a s,  s the standard deviation of features in the group of x     (Karras et al. 2018)
    Packed               D(x_1, .., x_m)                                                         (Lin et al. 2018)

Groups and packs are of consecutive examples of one kind, all real or all fake: what such a network is shown in one pass
is of one kind, see `looks_around`. Their verdict on an example is no function of that example, so a model that has one
knows no judged prior. Processes that share a batch agree with one that has it all where each one's share holds whole
groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from amalgan.errors import UsageError
from amalgan.networks.conditions import is_told


class Together(nn.Module):
    """A discriminator whose verdict on an example depends on others of its batch, in training and after. Abstract."""


class MinibatchDeviation(Together):
    """x (B, ...) -> logits (B,) or (B, T), features (B, F + 1): another discriminator's, told how much a group varies.

    In each group of `group` consecutive examples, the last of what is left over, s is the standard deviation of each
    feature over the group, averaged over features (Karras et al. 2018, section 3; groups of 4 as in their code). What a
    last linear layer would make of s is added to the logits; a starts at 0.

    Arguments:
        discriminator: x -> logits, features (B, F).
        group: examples that are compared, >= 2.

    Raises:
        UsageError: a group of one.
    """

    def __init__(self, discriminator: nn.Module, group: int = 4) -> None:
        super().__init__()
        if group < 2:
            raise UsageError(
                "the deviation within groups", f"group={group}", "write a group of 2 or more, 4 in the papers"
            )
        self.discriminator, self.group = discriminator, group
        self.slope = nn.Parameter(torch.zeros(()))

    @property
    def told(self) -> bool:
        """Whether the other discriminator takes a condition, too."""
        return is_told(self.discriminator)

    def forward(self, x: Tensor, *told: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.discriminator(x, *told)
        whole = len(features) - len(features) % self.group
        groups = features[:whole].unflatten(0, (-1, self.group)), features[whole:].unsqueeze(0)
        deviation = torch.cat([self._deviation(part) for part in groups if part.numel()])
        shown = deviation.view(-1, *[1] * (logits.dim() - 1))
        return logits + self.slope * shown, torch.cat([features, deviation[:, None]], 1)

    @staticmethod
    def _deviation(groups: Tensor) -> Tensor:
        """(G, n, F) -> (G * n,), each example told its group's."""
        variance = groups.float().var(1, correction=0)
        # the square root has no slope at 0: one example alone would turn weights into NaN
        return (variance + 1e-8).sqrt().mean(1).repeat_interleave(groups.shape[1])


class Packed(Together):
    """x (B, *shape) -> logits (B / m,), features (B / m, F): m consecutive examples are judged at once (PacGAN).

    They are concatenated along channels, or along the features of points. What is a mean over examples elsewhere is a
    mean over packs in games and features, and a slope is that by all m examples of a pack.

    Arguments:
        make: (m C, H, W) or (m D,) -> discriminator of one such input.
        shape: (C, H, W) or (D,) of one example.
        m: examples in a pack, >= 1; 1 packs nothing.

    Raises:
        UsageError: m < 1, another kind of shape; a batch that holds no whole number of packs; labels.
    """

    def __init__(self, make: Callable[[tuple[int, ...]], nn.Module], shape: tuple[int, ...], m: int = 2) -> None:
        super().__init__()
        if m < 1 or len(shape) not in (1, 3):
            raise UsageError(f"packs of {m} examples", f"of shape {shape}", "pack 1 or more images, or points")
        self.m, self.discriminator = m, make((m * shape[0], *shape[1:]))

    def forward(self, x: Tensor, *told: Tensor) -> tuple[Tensor, Tensor]:
        if told:
            raise UsageError("packs of examples with labels", "a discriminator that is told them", "write pack 1")
        if len(x) % self.m:
            found = f"a batch, or one process's share of it, of {len(x)}"
            raise UsageError(f"packs of {self.m} examples", found, f"write --batch a multiple of {self.m}")
        return self.discriminator(x.unflatten(0, (-1, self.m)).flatten(1, 2))


def looks_around(network: Any) -> bool:
    """Whether what a network makes of an example, in training, depends on what else is in the batch."""
    return _any(network, (Together, nn.modules.batchnorm._BatchNorm))


def judges_alone(network: Any) -> bool:
    """Whether a trained network's verdict on an example is its own, whatever else it judges beside it."""
    return not _any(network, Together)


def pack(network: Any) -> int:
    """How many examples share one verdict: m, or 1."""
    return next((module.m for module in network.modules() if isinstance(module, Packed)), 1)


def _any(network: Any, kind: Any) -> bool:
    return any(isinstance(module, kind) for module in network.modules())
