"""Objectives for generators whose samples are choices, through which no gradient passes.

    Likelihood        -log p(x)
    PolicyGradient    -sum_t log p(a_t | a_<t) (Q_t - b_t),  a ~ p        (Williams 1992; Yu et al. 2017, equation 6)
    Judge             the discriminator's side of a game, where the other side is a policy gradient

Q is the discriminator's judgement of completions (`policy_gradient`), what a game's generator earns with the whole sample
(`reinforce`), or any other score of it (`reward`). SeqGAN is a list of stages: likelihood(), then judge(), then
policy_gradient() + judge(). GraphGAN is reinforce() + judge().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.objectives.adversarial import GAMES, Adversarial, Game
from amalgan.objectives.core import Loss, Objective, Turn

BASELINES = ("none", "mean")
UNSEEN = torch.tensor(torch.nan)  # the verdict on real data, in a game whose generator never looks at it


class Likelihood(Objective):
    """-log p(x), in nats per example, from the draw's `log_likelihood`."""

    def __init__(self, moves: tuple[str, ...] = ("generator",)) -> None:
        self.moves = moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            yield Loss("likelihood", -turn.draw.log_likelihood.mean(), self.moves)


class PolicyGradient(Objective):
    """The generator is paid for each of its choices.

    It takes the draw's `choices` (B, T), the log-probabilities of the choices that made each fake, with gradient, and
    `made` (B, T), which of them were made at all. Its value is a surrogate: only its gradient means anything. The mean
    payment of the last choice is logged beside it.

    Arguments:
        payment: of each choice: a turn -> (B, T), without gradient.
        baseline: "none" as in the paper, or "mean": the mean payment of the batch at the same position is taken off,
            which makes less noise and changes the expectation by a factor 1 - 1 / B alone.
        moves: the networks it trains.
        names: under which the surrogate and the mean payment are logged.
    """

    def __init__(
        self,
        payment: Callable[[Turn], Tensor],
        baseline: str = "mean",
        moves: tuple[str, ...] = ("generator",),
        names: tuple[str, str] = ("policy", "reward"),
    ) -> None:
        if baseline not in BASELINES:
            raise UsageError("a policy gradient", f"baseline={baseline!r}", f"write one of {', '.join(BASELINES)}")
        self.payment, self.baseline, self.moves, self.names = payment, baseline, moves, names

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player != "generator":
            return
        choices, payment = turn.draw.choices, self.payment(turn)
        advantage = payment - self._baseline(turn, payment)
        yield Loss(self.names[0], -(choices * advantage).sum(1).mean(), self.moves)
        yield Loss(self.names[1], payment[:, -1].mean(), self.moves, weight=0.0)

    def _baseline(self, turn: Turn, payment: Tensor) -> Tensor:
        if self.baseline == "none":
            return torch.zeros_like(payment)
        made = turn.draw.made
        number = turn.mean(made.float().sum(0))
        return turn.mean((payment * made).sum(0)) / number.clamp(min=1e-8)


class Judge(Objective):
    """The discriminator's side of a game alone.

    Arguments:
        game: a name in GAMES, or a pair of functions such as those; its discriminator's side.
        on: the fields of the draw that play the fake.
    """

    def __init__(self, game: str | Game = "non-saturating", on: tuple[str, ...] = ("fake",)) -> None:
        self.inner = Adversarial(game, on, moves=())

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "discriminator":
            yield from self.inner.losses(turn)


def likelihood() -> Objective:
    """Maximum likelihood: see `Likelihood`."""
    return Likelihood()


def policy_gradient(rollouts: int = 16, baseline: str = "mean", follow: float = 0.0) -> Objective:
    """Each choice is paid what completions from there earn from the discriminator; see `PolicyGradient`.

    Arguments:
        rollouts: completions of every prefix, N in the paper (16).
        follow: how slowly the policy that completes follows the generator; see `SequenceModel.action_values`.
    """
    return PolicyGradient(lambda turn: turn.draw.action_values(rollouts, follow), baseline)


def reward(fn: Callable[[Tensor], Tensor], baseline: str = "mean") -> Objective:
    """All choices of a sample are paid what `fn` says of it, whatever that is: it need not be differentiable.

    So it steers any generator of choices: `likelihood() + 0.1 * reward(fn)`; see `PolicyGradient`.

    Arguments:
        fn: samples (B, T) -> payments (B,).
    """

    def payment(turn: Turn) -> Tensor:
        with torch.no_grad():
            return fn(turn.draw.fake).float().unsqueeze(1).expand_as(turn.draw.made)

    return PolicyGradient(payment, baseline, names=("steer", "score"))


def reinforce(game: str = "minimax", baseline: str = "mean") -> Objective:
    """All choices of a sample are paid minus what the game would have the generator minimise; see `PolicyGradient`.

    Arguments:
        game: a name in GAMES; its generator's side, which may not look at real data.

    Raises:
        UsageError: another game.
    """
    alone = [name for name, (_, play) in GAMES.items() if not play(UNSEEN, torch.tensor(0.0)).isnan()]
    if game not in alone:
        raise UsageError("a payment for samples", f"game={game!r}", f"write one of {', '.join(alone)}")

    def payment(turn: Turn) -> Tensor:
        (verdict,) = turn.verdicts("fake")
        return -GAMES[game][1](UNSEEN, verdict.logits.detach()).unsqueeze(1).expand_as(turn.draw.made)

    return PolicyGradient(payment, baseline)


def judge(game: str | Game = "non-saturating", on: tuple[str, ...] = ("fake",)) -> Objective:
    """See `Judge`."""
    return Judge(game, on)
