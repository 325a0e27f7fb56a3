"""Autoencoders: reconstruction and the evidence lower bound.

    -ELBO(x) = E_q(z|x)[-log p(x|z)] + beta * KL(q(z|x) || p(z))                        (Kingma and Welling 2014)

with q(z|x) = N(mu, sigma^2) and p(z) = N(0, I), so that per dimension

    KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2                                          (ibid., appendix B)

All values are nats per example: summed over dimensions, averaged over the batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

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
