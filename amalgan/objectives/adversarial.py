"""Adversarial games.

A game is a pair of functions of *both* verdicts, r = D(x) on real data and f = D(fake), logits of shape (B,), or (B, T)
where there is a verdict at every step: what the
discriminator minimises and what the generator minimises, per example. With s(a) = log(1 + e^a):

    game             discriminator              generator         source
    minimax          s(-r) + s(f)               -s(f)             Goodfellow et al. 2014, eq. 1
    non-saturating   s(-r) + s(f)               s(-f)             ibid., section 3
    least-squares    ((r - 1)^2 + f^2) / 2      (f - 1)^2 / 2     Mao et al. 2017, eq. 9 (a=0, b=c=1)
    wasserstein      f - r                      -f                Arjovsky et al. 2017 (needs a penalty)
    hinge            [1 - r]+ + [1 + f]+        -f                Lim and Ye 2017
    relativistic     s(f - r)                   s(r - f)          Jolicoeur-Martineau 2019; Huang et al. 2024 (paired)
    forward-kl       -r + e^(f-1)               -e^(f-1)          Nowozin et al. 2016, tables 2 and 6
    reverse-kl       e^-r + f - 1               1 - f             ibid.
    pearson          -r + f^2/4 + f             -(f^2/4 + f)      ibid.
    hellinger        e^-r + e^f - 2             1 - e^f           ibid.

The last four are f-divergences: the generator minimises what the discriminator maximises, E_p T(r) - E_q F(T(f)), where
T is the output activation and F the conjugate of the divergence's function. For u = p/q the best verdict and what it
attains are

    forward-kl   1 + log u         KL(p || q)                 covers all of the data, and what lies between
    reverse-kl   log u             KL(q || p)                 would rather drop a mode than make what is no data
    pearson      2 (u - 1)         int (p - q)^2 / q          as forward-kl, and more so
    hellinger    log(u) / 2        int (sqrt p - sqrt q)^2
    minimax      log u             2 JSD(p, q) - 2 log 2      Jensen and Shannon's, up to constants

A new game is one line in GAMES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from amalgan.errors import UsageError
from amalgan.objectives.core import Loss, Objective, Turn, Weight, at

Side = Callable[[Tensor, Tensor], Tensor]
Game = tuple[Side, Side]

GAMES: dict[str, Game] = {
    "minimax": (lambda r, f: softplus(-r) + softplus(f), lambda r, f: -softplus(f)),
    "non-saturating": (lambda r, f: softplus(-r) + softplus(f), lambda r, f: softplus(-f)),
    "least-squares": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "hinge": (lambda r, f: relu(1 - r) + relu(1 + f), lambda r, f: -f),
    "relativistic": (lambda r, f: softplus(f - r), lambda r, f: softplus(r - f)),
    "forward-kl": (lambda r, f: -r + torch.exp(f - 1), lambda r, f: -torch.exp(f - 1)),
    "reverse-kl": (lambda r, f: torch.exp(-r) + f - 1, lambda r, f: 1 - f),
    "pearson": (lambda r, f: -r + f**2 / 4 + f, lambda r, f: -(f**2 / 4 + f)),
    "hellinger": (lambda r, f: torch.exp(-r) + torch.exp(f) - 2, lambda r, f: 1 - torch.exp(f)),
}
LOGISTIC = ("minimax", "non-saturating")  # games whose discriminator's side is a cross-entropy of labels


def smoothed(game: str = "non-saturating", share: float = 0.1) -> Game:
    """One-sided label smoothing: real data is labelled 1 - share, fakes stay 0 (Salimans et al. 2016, section 3.4).

    The discriminator then minimises (1 - share) s(-r) + share s(r) + s(f) = s(-r) + s(f) + share r. Its best verdict is
    log (1 - share) p / (q + share p): no longer sure of data that nothing imitates.

    Arguments:
        game: a name in LOGISTIC.
        share: in [0, 0.5); 0.1 in the paper.

    Raises:
        UsageError: a game without labels, or another share.
    """
    if game not in LOGISTIC:
        raise UsageError("smoothed labels", f"game={game!r}, which has none", f"write one of {', '.join(LOGISTIC)}")
    if not 0 <= share < 0.5:
        raise UsageError("smoothed labels", f"share={share}", "write a share in [0, 0.5), 0.1 in the paper")
    sharp, generator = GAMES[game]

    def discriminator(r: Tensor, f: Tensor) -> Tensor:
        return sharp(r, f) + share * r

    return discriminator, generator


def _sides(game: str | Game) -> Game:
    """What the discriminator and what the generator minimises.

    Raises:
        UsageError: an unknown name.
    """
    if isinstance(game, str) and game not in GAMES:
        raise UsageError("an adversarial game", f"game={game!r}", f"write one of {', '.join(GAMES)}")
    return GAMES[game] if isinstance(game, str) else game


class Adversarial(Objective):
    """A game between the networks that make samples and the discriminator that judges them.

    Arguments:
        game: a name in GAMES, or a pair of functions such as those.
        on: the fields of the draw that play the fake; with several, the mean over them.
        moves: the networks that the generator's side trains.
        best: share of the fakes that teach the generator, those that the discriminator likes best, in (0, 1], a number
            or a schedule (Sinha et al. 2020, who let it fall in the course of training).
        real: the field that is real: data, or what else a discriminator is shown, such as codes from the prior.

    Raises:
        UsageError: an unknown game, or another share.
    """

    def __init__(
        self,
        game: str | Game = "relativistic",
        on: tuple[str, ...] = ("fake",),
        moves: tuple[str, ...] = ("decoder",),
        best: Weight = 1.0,
        real: str = "x",
    ) -> None:
        _sides(game)
        if not callable(best) and not 0 < best <= 1:
            raise UsageError("the best of the fakes", f"best={best}", "write a share in (0, 1], 1 for all of them")
        self.game, self.on, self.moves, self.best, self.real = game, on, moves, best, real

    def losses(self, turn: Turn) -> Iterator[Loss]:
        discriminator, generator = _sides(self.game)
        judges = turn.player == "discriminator"
        play = discriminator if judges else generator
        unseen = torch.tensor(math.nan)
        # most games' generators never look at the verdict on real data, which is then not asked for
        looks = judges or bool(play(unseen, torch.tensor(0.0)).isnan())
        real = turn.verdicts(self.real, *self.on)[0].logits if looks else unseen
        best = 1.0 if judges else at(self.best, turn.progress)
        values = [_mean_of_best(play(real, fake.logits), fake.logits, best, turn) for fake in turn.verdicts(*self.on)]
        value = sum(values[1:], values[0]) / len(values)
        if judges:
            yield Loss("discriminator", value, ("discriminator",))
        else:
            yield Loss("adversarial", value, self.moves)


def _mean_of_best(value: Tensor, logits: Tensor, share: float, turn: Turn) -> Tensor:
    """Mean of a game's values (B,) or (B, T) over the share of the whole batch with the highest mean verdicts."""
    if share >= 1:
        return value.mean()
    verdicts = logits.detach().float().reshape(len(logits), -1).mean(1)
    noise = turn.draw.noise
    whole = verdicts.new_zeros(noise.world, len(verdicts))
    whole[noise.rank] = verdicts
    whole = turn.mean(whole).flatten() * noise.world  # of all processes, since they must agree on who is among the best
    chosen = verdicts >= whole.topk(max(1, round(share * len(whole)))).values[-1]
    return torch.where(chosen, value.reshape(len(value), -1).mean(1), 0).mean() / turn.mean(chosen.float().mean())


class Inference(Objective):
    """A game between pairs (x, E(x)) and (G(z), z), of which each side makes a half (Dumoulin et al. 2017; Donahue et al. 2017).

    Encoder and generator want what the discriminator does not: they minimise its loss with the sides exchanged. At the end
    the pairs cannot be told apart, and so E inverts G, though nothing is ever reconstructed.

    Arguments:
        game: as for `Adversarial`.
        real, fake: fields of the draw that are such pairs.
        moves: the networks that make halves.
    """

    def __init__(
        self,
        game: str | Game = "non-saturating",
        real: str = "pair",
        fake: str = "made_pair",
        moves: tuple[str, ...] = ("encoder", "decoder"),
    ) -> None:
        _sides(game)
        self.game, self.real, self.fake, self.moves = game, real, fake, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        play, _ = _sides(self.game)
        real, fake = (verdict.logits for verdict in turn.verdicts(self.real, self.fake))
        if turn.player == "discriminator":
            yield Loss("discriminator", play(real, fake).mean(), ("discriminator",))
        else:
            yield Loss("adversarial", play(fake, real).mean(), self.moves)


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
    game: str | Game = "relativistic",
    on: tuple[str, ...] = ("fake",),
    moves: tuple[str, ...] = ("decoder",),
    best: Weight = 1.0,
    real: str = "x",
) -> Objective:
    """The generative adversarial network: one game. See `Adversarial`."""
    return Adversarial(game, on, moves, best, real)
