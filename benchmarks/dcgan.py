"""DCGAN (Radford et al. 2016) as a recipe of one's own: networks of 2015, the library's game, trainer and judges.

What makes it DCGAN is batch norm in both networks between strided 4x4 convolutions, small random weights, and Adam with
2e-4 and (0.5, 0.999). Here a logistic squashes pixels onto [0, 1], as tanh onto [-1, 1] but for a factor of 2 inside; the batch
is half the paper's; and weights are averaged, as those of all methods beside it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from amalgan import objectives as o
from amalgan import recipes
from amalgan.data import Spec
from amalgan.networks.images import SLOPE, Linear32, widths
from amalgan.networks.residual import Norm, pyramid
from amalgan.recipes.images import EMBEDDED, Condition, plan_of, players, told_of
from amalgan.training import Plan


class Generator(nn.Module):
    """z (B, d), e (B, told) -> raw image (B, C, H, W): from 4 px a side, doubled by transposed convolutions.

    Arguments:
        shape: (C, H, W).
        latent: d.
        width: channels of the finest maps; doubled at each coarser level, up to four times.
        told: numbers in e, that say how batch norm scales and shifts; 0 for no e.
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, told: int) -> None:
        super().__init__()
        sides = pyramid(shape)
        channels = widths(width, len(sides) - 1)[::-1]
        self.coarsest = (channels[0], *sides[-1])
        self.code = Linear32(latent, math.prod(self.coarsest))
        self.norms = nn.ModuleList(Norm(c, "batch", told) for c in channels)
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(*pair, 4, stride=2, padding=1) for pair in pairwise([*channels, shape[0]])
        )
        self.apply(small)

    def forward(self, z: Tensor, *e: Tensor) -> Tensor:
        h = self.code(z).view(len(z), *self.coarsest)
        for norm, convolution in zip(self.norms, self.convolutions):
            h = convolution(relu(norm(h, *e)))
        return h


class Discriminator(nn.Module):
    """x (B, C, H, W) -> logits (B,) and features (B, F): halved by convolutions, batch norm after all but the first."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        sides = pyramid(shape)
        channels = [shape[0], *widths(width, len(sides) - 1)]
        self.convolutions = nn.ModuleList(nn.Conv2d(*pair, 4, stride=2, padding=1) for pair in pairwise(channels))
        self.norms = nn.ModuleList([nn.Identity(), *(nn.BatchNorm2d(c) for c in channels[2:])])
        self.verdict = Linear32(channels[-1] * math.prod(sides[-1]), 1)
        self.apply(small)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = 2 * x - 1
        for norm, convolution in zip(self.norms, self.convolutions):
            h = leaky_relu(norm(convolution(h)), SLOPE)
        features = h.flatten(1)
        return self.verdict(features).squeeze(1), features


def small(layer: nn.Module) -> None:
    """Weights from N(0, 0.02^2)."""
    if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
        nn.init.normal_(layer.weight, 0, 0.02)


def dcgan(
    spec: Spec,
    *,
    latent: int = 100,
    condition: Condition = "none",
    hidden: float = 0.1,
    width: int = 64,
    lr: float = 2e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """The non-saturating game between networks of convolutions with batch norm (Radford et al. 2016).

    Arguments:
        latent: dimensions of the noise, >= 1.
        condition: labels tells them to both players: conditional batch norm in the generator, projection in the other.
        hidden: share of the labels that are hidden in training, in [0, 1).
        width: channels of the finest layer, >= 1.
        lr: Adam's step size.
        batch: examples per step; 128 in the paper.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    told = told_of(spec, condition, "modulation", hidden)
    generator = Generator(spec.shape, latent, width, EMBEDDED if told else 0)
    model = players(spec, latent, generator, Discriminator(spec.shape, width), told)
    plan = plan_of(model, [(o.gan("non-saturating"), 1.0)], lr, batch, ema)
    return replace(plan, betas=dict.fromkeys(model.networks, (0.5, 0.999)))


def register() -> None:
    """Make it a recipe like any other, in this process."""
    if dcgan.__name__ not in recipes.RECIPES:
        recipes.RECIPES[dcgan.__name__] = dcgan
        recipes.KINDS["images"] += (dcgan,)
