"""What probability does a model with an encoder give to data it has not seen?

    log p(x) >= E_q log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x),  z_1..z_k ~ q(z|x)    Burda et al. 2016; exact as k grows
    ELBO      = E_q log p(x|z) - KL(q(z|x) || p(z))    the same at k = 1
    active    = number of latent dimensions j with Var_x(E_q z_j) > 0.01                Burda et al. 2016

All in nats per example with every constant included. k is part of the number: state it wherever the number stands.
The prior p(z) is any object with `log_prob(z)`, `(B, d) -> (B,)`; the standard normal unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from amalgan.errors import AmalganError, UsageError
from amalgan.metrics.reconstruction import batches, device_of
from amalgan.models.priors import StandardNormal
from amalgan.noise import generator


class Prior(Protocol):
    """A density over latents."""

    def log_prob(self, z: Tensor) -> Tensor:
        """`(B, d) -> (B,)`, nats."""


class Latents(NamedTuple):
    """Per image: distortion -log p(x|z) `(N,)` and KL per dimension `(N, d)`, nats; posterior means `(N, d)`.

    Of a posterior without a closed form the KL is `(N, 1)`, of the whole code.
    """

    distortion: Tensor
    kl: Tensor
    mean: Tensor

    @property
    def elbo(self) -> Tensor:
        return -self.distortion - self.kl.sum(1)


def importance_sampled_nll(
    model: Any,
    x: Tensor,
    k: int = 500,
    seed: int = 0,
    prior: Prior | None = None,
    at_once: int = 1024,
    c: Tensor | None = None,
) -> Tensor:
    """Upper bound on -log p(x) by importance sampling from the posterior, `(N,)` float64 nats per example.

    -(logsumexp_i [log p(x|z_i) + log p(z_i) - log q(z_i|x)] - log k)

    The noise of image i depends on `seed` and i alone, not on the batches. The encoder runs once per image, not once
    per sample.

    Arguments:
        model: with `posterior(x)`, whose `sample(epsilon)` and `log_prob(z)` accept `(S, B, d)`, and
            `log_likelihood(x, z)`.
        x: `(N, *shape)`.
        k: importance samples per image.
        prior: p(z); N(0, I) by default.
        at_once: pairs of image and sample decoded in one pass: this bounds the memory.
        c: conditions `(N, ...)`: then it is -log p(x|c).

    Raises:
        UsageError: k < 1, or a model without an encoder.
        AmalganError: a weight is NaN.
    """
    return importance_sampled_nlls(model, x, [prior or StandardNormal(model.latent)], k, seed, at_once, c)[0]


@torch.no_grad()
def importance_sampled_nlls(
    model: Any,
    x: Tensor,
    priors: Sequence[Prior],
    k: int = 500,
    seed: int = 0,
    at_once: int = 1024,
    c: Tensor | None = None,
) -> Tensor:
    """`importance_sampled_nll` under several priors `(P, N)` at the price of one: the samples are shared."""
    if k < 1 or not model.has_density:
        raise UsageError(
            f"importance sampled likelihood with k = {k}",
            "fewer than one sample" if k < 1 else "a model without a posterior density to sample from",
            "use k >= 1 and a model of the VAE family",
        )
    device = device_of(model)
    images, samples = max(1, at_once // k), min(k, at_once)
    result, done = [], 0
    for told, batch in batches(model, x, c, images):
        posterior = told.posterior(batch)
        noise = torch.stack([_noise(seed, done + i, k, posterior.mean.shape[1]) for i in range(len(batch))], 1)
        done += len(batch)
        total = torch.full((len(priors), len(batch)), -math.inf, dtype=torch.float64, device=device)
        for epsilon in noise.split(samples):  # (S, B, d)
            epsilon = epsilon.to(posterior.mean)
            z = posterior.sample(epsilon)
            log_q = posterior.log_prob(z)
            assert log_q.shape == z.shape[:2], "posterior.log_prob must sum over the last dimension only"
            flat, repeated = z.flatten(0, 1), batch.repeat(len(z), *[1] * (batch.ndim - 1))
            given_z = told.log_likelihood(repeated, flat).double().view(log_q.shape) - log_q.double()
            for p, prior in enumerate(priors):
                weight = given_z + prior.log_prob(flat).double().view(log_q.shape)
                total[p] = torch.logaddexp(total[p], weight.logsumexp(0))
        result.append(math.log(k) - total.cpu())
    nll = torch.cat(result, 1)
    broken = int(nll.isnan().any(0).sum())
    if broken:
        raise AmalganError(
            "importance sampled likelihood",
            f"NaN for {broken} of {len(x)} examples",
            "the model's weights or variances are broken (training diverged?): evaluate an earlier checkpoint",
        )
    return nll


@torch.no_grad()
def latents(model: Any, x: Tensor, seed: int = 0, c: Tensor | None = None, batch: int = 500) -> Latents:
    """Distortion (one z an image), KL per dimension (against N(0, I); closed where it can be), posterior means of x."""
    parts, done = [], 0
    for told, part in batches(model, x, c, batch):
        posterior = told.posterior(part)
        d = posterior.mean.shape[1]
        epsilon = torch.cat([_noise(seed, done + i, 1, d) for i in range(len(part))]).to(posterior.mean)
        done += len(part)
        z = posterior.sample(epsilon)
        distortion = -told.log_likelihood(part, z)
        # without a closed form the code is one group, its KL taken at the same z
        sampled = not hasattr(posterior, "kl")
        kl = (posterior.log_prob(z) - model.standard.log_prob(z))[:, None] if sampled else posterior.kl()
        parts.append((distortion.double().cpu(), kl.double().cpu(), posterior.mean.double().cpu()))
    return Latents(*(torch.cat(column) for column in zip(*parts)))


def active_units(mean: Tensor, threshold: float = 0.01) -> int:
    """Number of latent dimensions whose posterior mean `(N, d)` has a variance over the data above `threshold`."""
    return int((mean.var(0) > threshold).sum())


def _noise(seed: int, index: int, k: int, d: int) -> Tensor:
    """The `(k, d)` normal numbers of image `index`: a stream of its own, whatever the batch."""
    return torch.randn(k, d, generator=generator(seed, "importance", index))
