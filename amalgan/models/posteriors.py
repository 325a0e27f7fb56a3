"""What an encoder says of z: q(z|x).

A family reads the encoder's output, `factor` numbers for each dimension of z, and returns a posterior: the classes
`GaussianPosterior` and `PointPosterior` are families themselves, `DeltaPosterior(delta)` is one, and so is
`amalgan.models.flows.FlowPosterior`, a network.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from amalgan.errors import UsageError

LOG_2PI = math.log(2 * math.pi)
SMALLEST, LARGEST = -14.0, 8.0  # log variances: beyond, exp() overflows or the noise is below rounding


class Posterior(Protocol):
    """q(z|x) for a batch: `mean` (B, d), and z (B, d) from N(0, I) numbers. Those with a density have `log_prob(z)`."""

    mean: Tensor

    def sample(self, epsilon: Tensor) -> Tensor: ...


class Family(Protocol):
    """raw (B, factor * d), as an encoder returns it -> a posterior of B examples."""

    factor: int

    def __call__(self, raw: Tensor) -> Posterior: ...


class GaussianPosterior:
    """q(z|x) = N(mean, exp(log_variance)), independent over dimensions.

    Arguments:
        raw: (B, 2 d), means then log variances, as an encoder returns them.
    """

    factor = 2

    def __init__(self, raw: Tensor) -> None:
        self.mean, log_variance = raw.float().chunk(2, 1)
        self.log_variance = log_variance.clamp(SMALLEST, LARGEST)

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


class DeltaPosterior:
    """Gaussian posteriors whose KL to N(0, I) cannot fall below delta nats an example (Razavi et al. 2019, delta-VAE).

    Per dimension KL(mu, s) = (mu^2 + s - 1 - log s) / 2. For any variance s the least is at mu = 0, namely
    g(s) = (s - 1 - log s) / 2, falling from infinity to 0 as s goes from 0 to 1. So if s stays below the s* < 1 with
    g(s*) = delta / d, the KL of every code is above delta / d in each of its d dimensions, and delta is the infimum: at
    mu = 0 and s -> s*. The log variance is log s* - softplus(-raw), which has a slope everywhere.

    What is committed is the rate, not that it tells anything: mu = 0 for every x costs delta and says nothing. But a
    narrow posterior is paid for then, and to say up to -log(s*) / 2 nats a dimension with it costs only mu^2 / 2 more.

    Arguments:
        delta: nats per example, > 0, at most 6.5 a dimension.
    """

    factor = 2

    def __init__(self, delta: float) -> None:
        if not (math.isfinite(delta) and delta > 0):
            raise UsageError("a posterior with a least KL", f"delta={delta}", "write a number of nats > 0")
        self.delta = delta

    def __call__(self, raw: Tensor) -> GaussianPosterior:
        """Means then unconfined log variances (B, 2 d)."""
        mean, free = raw.float().chunk(2, 1)
        largest = largest_log_variance(self.delta / mean.shape[1])
        return GaussianPosterior(torch.cat([mean, largest - softplus(-free)], 1))


@cache
def largest_log_variance(nats: float) -> float:
    """log s* < 0 with (s* - 1 - log s*) / 2 = nats: below it, a Gaussian's KL to N(0, 1) is at least that.

    Raises:
        UsageError: more nats than the smallest variance of a posterior costs.
    """
    most = (math.expm1(SMALLEST) - SMALLEST) / 2
    if nats > most:
        raise UsageError("a posterior with a least KL", f"{nats:g} nats a dimension", f"write at most {most:.1f}")
    t = 2 * nats + 1  # Newton on e^-t - 1 + t = 2 nats, t = -log s: convex and rising, so it comes down on the root
    for _ in range(60):
        t -= (math.expm1(-t) + t - 2 * nats) / -math.expm1(-t)
    return -t


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
