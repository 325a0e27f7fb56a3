"""What an encoder says of z: q(z|x)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


class GaussianPosterior:
    """q(z|x) = N(mean, exp(log_variance)), independent over dimensions.

    Arguments:
        raw: (B, 2 d), means then log variances, as an encoder returns them.
    """

    factor = 2

    def __init__(self, raw: Tensor) -> None:
        self.mean, log_variance = raw.float().chunk(2, 1)
        self.log_variance = log_variance.clamp(-14.0, 8.0)  # beyond, exp() overflows or the noise is below rounding

    def sample(self, epsilon: Tensor) -> Tensor:
        """z = mean + sigma * epsilon, (B, d), the reparameterisation."""
        return self.mean + torch.exp(0.5 * self.log_variance) * epsilon

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) in nats, (B,); z may carry leading dimensions: (k, B, d) -> (k, B)."""
        squared = (z - self.mean) ** 2 * torch.exp(-self.log_variance)
        return -0.5 * (squared + self.log_variance + LOG_2PI).sum(-1)

    def kl(self) -> Tensor:
        """KL(q || N(0, I)) per dimension, (B, d), nats."""
        return 0.5 * (self.mean**2 + torch.exp(self.log_variance) - 1 - self.log_variance)


class PointPosterior:
    """All mass on `mean`: the code of a plain autoencoder. It has no density and no KL.

    Arguments:
        raw: (B, d), as an encoder returns it.
    """

    factor = 1

    def __init__(self, raw: Tensor) -> None:
        self.mean = raw.float()

    def sample(self, epsilon: Tensor) -> Tensor:
        """The code itself: noise is not added."""
        return self.mean
