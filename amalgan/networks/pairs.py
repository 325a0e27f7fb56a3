"""A discriminator of pairs: an example and its code, side by side in one vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu


class Pairs(nn.Module):
    """[x, z] (B, D + d) -> logits (B,) and features (B, width): what a network sees in x, beside z.

    Arguments:
        network: x (B, *shape) -> (B, F).
        features: F.
        shape: of one x, D numbers in all.
        latent: d.
        width: units of the layers that join the two.
    """

    def __init__(
        self, network: nn.Module, features: int, shape: tuple[int, ...], latent: int, width: int = 128
    ) -> None:
        super().__init__()
        self.network, self.shape, self.size = network, shape, math.prod(shape)
        self.code, self.both = nn.Linear(latent, width), nn.Linear(features + width, width)
        self.verdict = nn.Linear(width, 1)

    def forward(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        x, z = pair.split([self.size, pair.shape[1] - self.size], 1)
        with torch.autocast(pair.device.type, enabled=False):  # codes are told to more digits than images are
            said = leaky_relu(self.code(z.float()), 0.2)
        seen = leaky_relu(self.network(x.view(len(x), *self.shape)).float(), 0.2)
        features = leaky_relu(self.both(torch.cat([seen, said], 1)), 0.2)
        return self.verdict(features).float().squeeze(1), features.float()
