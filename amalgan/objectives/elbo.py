"""Autoencoders: reconstruction and the evidence lower bound.

    -ELBO(x) = E_q(z|x)[-log p(x|z)] + beta * KL(q(z|x) || p(z))                        (Kingma and Welling 2014)

with q(z|x) = N(mu, sigma^2) and p(z) = N(0, I), so that per dimension

    KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2                                          (ibid., appendix B)

All values are nats per example: summed over dimensions, averaged over the batch. A code that costs more than it tells
is given up, and a strong decoder hardly needs it (Bowman et al. 2016). Against that: a beta that rises late or in waves
(`warm_up`, `cyclic`), bits that cost nothing (`KL(free_bits=...)`), a KL that is aimed at (`Capacity`), posteriors that
cannot equal the prior (`models.posteriors.DeltaPosterior`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.objectives.core import Loss, Objective, Turn, Weight, at

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
    """KL(q(z|x) || N(0, I)) in closed form, optionally with free bits or a weight for each dimension.

    With `free_bits` lambda the demand per dimension is max(lambda, mean over the batch of KL_d), so that the first
    lambda nats of each dimension cost nothing (Kingma et al. 2016, eq. 15, each dimension a group of its own).

    Arguments:
        free_bits: nats per latent dimension, >= 0.
        moves: the networks it trains.
        weights: of the dimensions, d numbers >= 0: sum_d w_d KL_d is demanded. None: 1 each.

    Raises:
        UsageError: a weight that is no number >= 0; weights for more or fewer dimensions than the code has; a posterior
            without a closed form.
    """

    def __init__(
        self,
        free_bits: float = 0.0,
        moves: tuple[str, ...] = VAE_NETWORKS,
        weights: Sequence[float] | None = None,
    ) -> None:
        if weights is not None and not all(math.isfinite(weight) and weight >= 0 for weight in weights):
            raise UsageError("weights of a KL's dimensions", f"{list(weights)}", "write numbers >= 0, one a dimension")
        self.free_bits, self.moves = free_bits, moves
        self.weights = None if weights is None else tuple(weights)

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            per_dimension = _per_dimension(turn)
            if self.free_bits > 0:
                over = turn.mean(per_dimension.detach()) > self.free_bits
                per_dimension = torch.where(over, per_dimension, self.free_bits)
            if self.weights is not None:
                per_dimension = per_dimension * self._weights(per_dimension)
            yield Loss("kl", per_dimension.sum(), self.moves)

    def _weights(self, per_dimension: Tensor) -> Tensor:
        assert self.weights is not None
        if len(self.weights) != len(per_dimension):
            found = f"{len(self.weights)} for a code of {len(per_dimension)}"
            raise UsageError("weights of a KL's dimensions", found, f"write {len(per_dimension)} numbers >= 0")
        return per_dimension.new_tensor(self.weights)


def _per_dimension(turn: Turn) -> Tensor:
    """KL_d, the mean over the batch, (d,)."""
    posterior = turn.draw.posterior
    if not hasattr(posterior, "kl"):
        found = f"a {type(posterior).__name__}, which has no closed form"
        instead = "write SampledKL()" if hasattr(posterior, "log_prob") else "leave the KL out: write ae()"
        raise UsageError("the KL of a posterior", found, instead)
    return posterior.kl().mean(0)


class SampledKL(Objective):
    """log q(z|x) - log p(z) at the draw's z: the KL in the mean, for posteriors without a closed form.

    Its gradient passes through z and through q, and has the KL's mean (Rezende and Mohamed 2015, eq. 15).

    Arguments:
        moves: the networks it trains.
    """

    def __init__(self, moves: tuple[str, ...] = VAE_NETWORKS) -> None:
        self.moves = moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            draw = turn.draw
            ratio = draw.posterior.log_prob(draw.z) - draw.model.standard.log_prob(draw.z)
            yield Loss("kl", ratio.mean(), self.moves)


class Capacity(Objective):
    """|KL(q(z|x) || N(0, I)) - C|, the KL in the mean over the batch: codes of C nats (Burgess et al. 2018, eq. 8).

        Reconstruction() + 30 * Capacity(warm_up(25, share=0.8)) + 0 * KL()        the last only to see the KL itself

    Below C the encoder is pushed to say more, above it less; as C rises dimensions come in one after the other. At weight
    1 and a C that the KL exceeds anyway this is the ELBO but for a constant: what is to hold the KL down needs more.

    Arguments:
        to: C, nats per example, a number >= 0 or a schedule.
        moves: the networks it trains.
    """

    def __init__(self, to: Weight, moves: tuple[str, ...] = VAE_NETWORKS) -> None:
        if not callable(to) and not (math.isfinite(to) and to >= 0):
            raise UsageError("the capacity of a code", f"{to}", "write a number >= 0 in nats, or a schedule")
        self.to, self.moves = to, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            over = _per_dimension(turn).sum() - at(self.to, turn.progress)
            # the sign is that of the whole batch, which several processes may share
            yield Loss("capacity", over * turn.mean(over.detach()).sign(), self.moves)


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
