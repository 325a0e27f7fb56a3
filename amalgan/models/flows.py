"""Posteriors that need not be Gaussian: N(mu(x), sigma(x)^2) sent through a normalising flow that is told of x as well.

    z_0 = mu + sigma * epsilon,    z = T(z_0; x),    log q(z|x) = log N(z_0; mu, sigma^2) - log |det dT/dz_0|

(Rezende and Mohamed 2015). T is a neural spline flow in coupling layers (Durkan et al. 2019), of the library zuko: both
of its directions take one pass, so that any z can be judged, not only the flow's own, as importance sampling wants. The
KL has no closed form: train with `SampledKL` in place of `KL`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from amalgan.errors import UsageError
from amalgan.models.posteriors import GaussianPosterior


class FlowPosterior(nn.Module):
    """The family of posteriors that one conditional flow makes: a network, whose parameters belong to the encoder.

    It reads what a Gaussian posterior reads, means then log variances (B, 2 d), which are also what the flow is told.
    It stays in fp32 under autocast: rounded to bf16, its two directions would not be inverse to each other.

    Arguments:
        latent: d, >= 2: coupling layers move one half of the code by the other.
        transforms: coupling layers, >= 1.
        units: of each of the two hidden layers in each.

    Raises:
        UsageError: zuko is not installed, or d < 2.
    """

    factor = 2

    def __init__(self, latent: int, transforms: int = 2, units: int = 64) -> None:
        super().__init__()
        try:
            import zuko
        except ImportError:
            found = "zuko is not installed"
            raise UsageError("a posterior with a flow", found, 'pip install "amalgan[flows]"') from None
        if latent < 2:
            raise UsageError(
                "a posterior with a flow", f"a code of {latent}", "write latent >= 2, or GaussianPosterior"
            )
        self.flow = zuko.flows.NSF(
            latent, 2 * latent, transforms=transforms, hidden_features=(units, units), passes=2, randperm=False
        )

    def forward(self, raw: Tensor) -> FlowedPosterior:
        raw = raw.float()
        with torch.autocast(raw.device.type, enabled=False):
            return FlowedPosterior(GaussianPosterior(raw), self.flow(raw).transform)


class FlowedPosterior:
    """q(z|x) of a Gaussian sent through a flow. It has a density, and a KL in samples only.

    Arguments:
        base: q_0.
        normalise: z -> z_0, the inverse of T, as zuko's flows say it.
    """

    def __init__(self, base: GaussianPosterior, normalise: Any) -> None:
        self.base, self.normalise = base, normalise

    @property
    def mean(self) -> Tensor:
        """T(mu), (B, d): the code at the middle of the base, which stands for the mean."""
        return self.sample(torch.zeros_like(self.base.mean))

    def sample(self, epsilon: Tensor) -> Tensor:
        """z = T(mu + sigma * epsilon), (B, d) or with leading dimensions."""
        with torch.autocast(epsilon.device.type, enabled=False):
            return self.normalise.inv(self.base.sample(epsilon.float()))

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) in nats, (B,); z may carry leading dimensions: (k, B, d) -> (k, B)."""
        with torch.autocast(z.device.type, enabled=False):
            start, log_determinant = self.normalise.call_and_ladj(z.float())
            return self.base.log_prob(start) + log_determinant
