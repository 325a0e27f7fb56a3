"""Adversarial games.

A game is a pair of functions of *both* verdicts, r = D(x) on real data and f = D(fake), logits of shape (B,), or (B, T)
where there is a verdict at every step: what the
discriminator minimises and what the generator minimises, per example. With s(a) = log(1 + e^a):

    game             discriminator              generator       source
    minimax          s(-r) + s(f)               -s(f)           Goodfellow et al. 2014, eq. 1
    non-saturating   s(-r) + s(f)               s(-f)           ibid., section 3
    least-squares    ((r - 1)^2 + f^2) / 2      (f - 1)^2 / 2   Mao et al. 2017, eq. 9 (a=0, b=c=1)
    wasserstein      f - r                      -f              Arjovsky et al. 2017 (needs a penalty)
    hinge            [1 - r]+ + [1 + f]+        -f              Lim and Ye 2017
    relativistic     s(f - r)                   s(r - f)        Jolicoeur-Martineau 2019; Huang et al. 2024 (paired)

A new game is one line in GAMES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from amalgan.errors import UsageError
from amalgan.objectives.core import Loss, Objective, Turn

Game = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]

GAMES: dict[str, Game] = {
    "minimax": (lambda r, f: softplus(-r) + softplus(f), lambda r, f: -softplus(f)),
    "non-saturating": (lambda r, f: softplus(-r) + softplus(f), lambda r, f: softplus(-f)),
    "least-squares": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "hinge": (lambda r, f: relu(1 - r) + relu(1 + f), lambda r, f: -f),
    "relativistic": (lambda r, f: softplus(f - r), lambda r, f: softplus(r - f)),
}


class Adversarial(Objective):
    """A game between the networks that make samples and the discriminator that judges them.

    Arguments:
        game: a name in GAMES.
        on: the fields of the draw that play the fake; with several, the mean over them.
        moves: the networks that the generator's side trains.
    """

    def __init__(
        self, game: str = "relativistic", on: tuple[str, ...] = ("fake",), moves: tuple[str, ...] = ("decoder",)
    ) -> None:
        if game not in GAMES:
            raise UsageError("an adversarial game", f"game={game!r}", f"write one of {', '.join(GAMES)}")
        self.game, self.on, self.moves = game, on, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        discriminator, generator = GAMES[self.game]
        judges = turn.player == "discriminator"
        play = discriminator if judges else generator
        unseen = torch.tensor(math.nan)
        # most games' generators never look at the verdict on real data, which is then not asked for
        looks = judges or bool(play(unseen, torch.tensor(0.0)).isnan())
        real = turn.verdicts("x", *self.on)[0].logits if looks else unseen
        values = [play(real, fake.logits).mean() for fake in turn.verdicts(*self.on)]
        value = sum(values[1:], values[0]) / len(values)
        if judges:
            yield Loss("discriminator", value, ("discriminator",))
        else:
            yield Loss("adversarial", value, self.moves)


class Similarity(Objective):
    """Learned similarity: a Gaussian likelihood of the discriminator's features, without its constant.

        || D_l(x) - D_l(reconstruction) ||^2 / (2 v)              (Larsen et al. 2016, eq. 7, where v = 1)

    It passes through the discriminator and never moves it.

    Arguments:
        moves: the networks it trains.
        variance: v, of one feature. Features of a discriminator without normalisation are small: with 1 the code was
            not worth its KL on MNIST (0.002 nats after 800 steps), with 0.02 it is.
    """

    def __init__(self, moves: tuple[str, ...] = ("encoder", "decoder"), variance: float = 1.0) -> None:
        self.moves, self.variance = moves, variance

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            real, reconstruction = turn.verdicts("x", "reconstruction")
            error = (real.features.detach() - reconstruction.features) ** 2
            yield Loss("similarity", error.sum(1).mean() / (2 * self.variance), self.moves)


class Equilibrium(Objective):
    """Larsen et al.'s gate: whoever wins clearly sits out the turn.

    With c_r = mean s(-r) and c_f = mean s(f), judged on the first turn of a draw: if either is below centre - margin
    the discriminator rests; if either is above centre + margin the gated terms of the generator rest; if both would
    rest, both play (autoencoding_beyond_pixels, aegan.py). A relativistic game leaves r and f free to drift together,
    and has no such equilibrium.

    Arguments:
        inner: the gated objective, which holds the game and every term that moves the decoder.
        centre, margin: nats.
    """

    def __init__(self, inner: Objective, centre: float = 0.68, margin: float = 0.35) -> None:
        self.inner, self.centre, self.margin = inner, centre, margin

    def losses(self, turn: Turn) -> Iterator[Loss]:
        rests = vars(turn.draw).get("rests")
        if rests is None:  # once for both players' turns on this draw
            rests = vars(turn.draw)["rests"] = self._rests(turn)
        if turn.player not in rests:
            yield from self.inner.losses(turn)

    def _rests(self, turn: Turn) -> set[str]:
        real, fake = (verdict.logits.detach() for verdict in turn.verdicts("x", "fake"))
        costs = [float(turn.mean(softplus(a).mean())) for a in (-real, fake)]
        rests = set()
        if min(costs) < self.centre - self.margin:
            rests.add("discriminator")
        if max(costs) > self.centre + self.margin:
            rests.add("generator")
        return rests if len(rests) < 2 else set()


def gan(
    game: str = "relativistic", on: tuple[str, ...] = ("fake",), moves: tuple[str, ...] = ("decoder",)
) -> Objective:
    """The generative adversarial network: one game. See `Adversarial`."""
    return Adversarial(game, on, moves)
