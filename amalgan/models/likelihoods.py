"""What a decoder's output means: p(x|z), its mean, and log p(x|z) in nats, constants included.

A decoder returns a raw tensor of `factor * C` channels (or dimensions); a likelihood reads it. Images live in [0, 1],
so every mean is squashed by a logistic; points live on the real line, so there the mean is the raw output (`squash`).

    bernoulli              x log p + (1 - x) log(1 - p)                    a density only for x in {0, 1}
    continuous-bernoulli   the same + log C(p)                             Loaiza-Ganem and Cunningham 2019, eq. 7
    gaussian               -(x - m)^2 / (2 v) - log(2 pi v) / 2            v fixed, one learned number, or per pixel
    laplace                -|x - m| / b - log(2 b)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from amalgan.errors import UsageError

SMALLEST_LOG_VARIANCE = -10.0  # a pixel that never varies would otherwise earn infinite density


class Likelihood(nn.Module):
    """Abstract: `mean(raw)` (B, ...), `log_prob(raw, x)` (B,) nats; `factor` raw channels per data channel."""

    factor = 1

    def __init__(self, squash: bool = True) -> None:
        super().__init__()
        self.squash = squash

    def mean(self, raw: Tensor) -> Tensor:
        """E[x|z] of the same shape as x, in [0, 1] where the likelihood squashes."""
        return torch.sigmoid(raw.float()) if self.squash else raw.float()

    def raw(self, level: Tensor) -> Tensor:
        """What a decoder says of channels whose mean is `level` (C,), in [0, 1] where the likelihood squashes:
        (factor * C,), 0 for all that is not a mean. The continuous Bernoulli's mean lies between that and 1/2."""
        means = torch.logit(level, eps=0.01) if self.squash else level
        return torch.cat([means, means.new_zeros((self.factor - 1) * len(means))])

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """log p(x|z) in nats per example, (B,)."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Independent Bernoulli pixels with logits `raw`; for grey x it is a cross entropy, not a density."""

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        return -binary_cross_entropy_with_logits(raw.float(), x, reduction="none").flatten(1).sum(1)


class ContinuousBernoulli(Likelihood):
    """The Bernoulli form normalised over [0, 1]: log C(p) = log(2 artanh(1 - 2p) / (1 - 2p)), C(1/2) = 2.

    In the logit l = log p/(1-p): artanh(1 - 2p) = -l/2, so log C = log(l / tanh(l/2)), and E[x] = 1/2 + l/12 - ...
    near 0, else p/(2p - 1) + 1/(2 artanh(1 - 2p)).
    """

    def mean(self, raw: Tensor) -> Tensor:
        logit = raw.float()
        near = logit.abs() < 0.05
        safe = torch.where(near, torch.ones_like(logit), logit)
        exact = 0.5 + 0.5 / torch.tanh(safe / 2) - 1 / safe
        return torch.where(near, 0.5 + logit / 12 - logit**3 / 720, exact)

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        logit = raw.float()
        size = logit.abs()
        near = size < 0.05  # series there: the quotient loses its digits
        safe = torch.where(near, torch.ones_like(size), size)
        exact = safe.log() - torch.tanh(safe / 2).log()
        log_normaliser = torch.where(near, math.log(2) + size**2 / 12, exact)
        cross_entropy = binary_cross_entropy_with_logits(logit, x, reduction="none")
        return (log_normaliser - cross_entropy).flatten(1).sum(1)


class Gaussian(Likelihood):
    """N(mean, v): v a fixed number.

    Arguments:
        variance: of one pixel, > 0.
    """

    def __init__(self, variance: float = 0.02, squash: bool = True) -> None:
        super().__init__(squash)
        if not variance > 0:
            raise UsageError("a Gaussian likelihood", f"variance={variance}", "write a number > 0, in squared pixels")
        self.variance = variance

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        squared = (x - self.mean(raw)) ** 2
        return -(squared / (2 * self.variance)).flatten(1).sum(1) - x[0].numel() * 0.5 * math.log(
            2 * math.pi * self.variance
        )


class GaussianLearned(Likelihood):
    """N(mean, v) with one learned v for all pixels (Rybkin et al. 2021 call the model sigma-VAE)."""

    def __init__(self, squash: bool = True) -> None:
        super().__init__(squash)
        self.log_variance = nn.Parameter(torch.tensor(-3.0))

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        log_variance = self.log_variance.clamp(min=SMALLEST_LOG_VARIANCE)
        squared = (x - self.mean(raw)) ** 2
        return -0.5 * (squared * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)).flatten(1).sum(1)


class GaussianPixel(Likelihood):
    """N(mean, v) with v from the decoder, one for each pixel: raw holds means and log variances along dimension 1."""

    factor = 2

    def mean(self, raw: Tensor) -> Tensor:
        return super().mean(raw.chunk(2, 1)[0])

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        log_variance = SMALLEST_LOG_VARIANCE + softplus(raw.float().chunk(2, 1)[1] - SMALLEST_LOG_VARIANCE)
        squared = (x - self.mean(raw)) ** 2
        return -0.5 * (squared * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)).flatten(1).sum(1)


class Laplace(Likelihood):
    """Laplace(mean, b): b a fixed number.

    Arguments:
        scale: mean absolute deviation of one pixel, > 0.
    """

    def __init__(self, scale: float = 0.1, squash: bool = True) -> None:
        super().__init__(squash)
        if not scale > 0:
            raise UsageError("a Laplace likelihood", f"scale={scale}", "write a number > 0, in pixels of [0, 1]")
        self.scale = scale

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        absolute = (x - self.mean(raw)).abs()
        return -(absolute / self.scale).flatten(1).sum(1) - x[0].numel() * math.log(2 * self.scale)
