"""Autoencoders: reconstruction and the evidence lower bound.

    -ELBO(x) = E_q(z|x)[-log p(x|z)] + beta * KL(q(z|x) || p(z))                        (Kingma and Welling 2014)

with q(z|x) = N(mu, sigma^2) and p(z) = N(0, I), so that per dimension

    KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2                                          (ibid., appendix B)

All values are nats per example: summed over dimensions, averaged over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from amalgan.errors import UsageError
from amalgan.objectives.core import Loss, Objective, Turn, Weight

VAE_NETWORKS = ("encoder", "decoder")


class Reconstruction(Objective):
    """-log p(x|z) at the draw's z, under the model's likelihood, constants included.

    Arguments:
        moves: the networks it trains.
    """

    def __init__(self, moves: tuple[str, ...] = VAE_NETWORKS) -> None:
        self.moves = moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            yield Loss("reconstruction", -turn.draw.log_likelihood.mean(), self.moves)


class KL(Objective):
    """KL(q(z|x) || N(0, I)) in closed form, optionally with free bits.

    With `free_bits` lambda the demand per dimension is max(lambda, mean over the batch of KL_d), so that the first
    lambda nats of each dimension cost nothing (Kingma et al. 2016, section 4 of the appendix).

    Arguments:
        free_bits: nats per latent dimension, >= 0.
        moves: the networks it trains.
    """

    def __init__(self, free_bits: float = 0.0, moves: tuple[str, ...] = VAE_NETWORKS) -> None:
        self.free_bits, self.moves = free_bits, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            per_dimension = turn.draw.posterior.kl().mean(0)
            if self.free_bits > 0:
                over = turn.mean(per_dimension.detach()) > self.free_bits
                per_dimension = torch.where(over, per_dimension, self.free_bits)
            yield Loss("kl", per_dimension.sum(), self.moves)


def ae() -> Objective:
    """The plain autoencoder: -log p(x|z) alone, at z = mu(x)."""
    return Reconstruction()


def vae(beta: Weight = 1.0, free_bits: float = 0.0) -> Objective:
    """The (beta-)VAE: reconstruction + beta * KL (Kingma and Welling 2014; Higgins et al. 2017).

    Arguments:
        beta: weight of the KL, a number >= 0 or a schedule; 1 is the ELBO.
        free_bits: nats per latent dimension that cost nothing.
    """
    return Reconstruction() + beta * KL(free_bits)


class ImportanceWeighted(Objective):
    """The importance weighted bound, tighter than the ELBO for k > 1 (Burda et al. 2016, eq. 8).

        -E log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x),     z_1 .. z_k ~ q(z|x),     p(z) = N(0, I)

    Arguments:
        k: samples of the posterior per example, >= 1; the decoder works k times as much.
        moves: the networks it trains.
    """

    def __init__(self, k: int = 5, moves: tuple[str, ...] = VAE_NETWORKS) -> None:
        if k < 1:
            raise UsageError("an importance weighted bound", f"k={k}", "write a whole number >= 1")
        self.k, self.moves = k, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            draw, model = turn.draw, turn.draw.model
            epsilon = draw.noise("importance", (len(draw.x), self.k, model.latent)).transpose(0, 1)  # rows are examples
            z = draw.posterior.sample(epsilon)  # (k, B, d)
            log_p_x = model.log_likelihood(draw.x.repeat(self.k, *[1] * (draw.x.dim() - 1)), z.flatten(0, 1))
            log_weight = log_p_x.view(self.k, -1) + model.standard.log_prob(z) - draw.posterior.log_prob(z)
            yield Loss("importance", -(torch.logsumexp(log_weight, 0) - math.log(self.k)).mean(), self.moves)


def importance_weighted(k: int = 5) -> Objective:
    """The importance weighted autoencoder: one bound in place of reconstruction + KL. See `ImportanceWeighted`."""
    return ImportanceWeighted(k)
