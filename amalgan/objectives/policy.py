"""Objectives for generators whose samples are choices, through which no gradient passes.

    Likelihood        -log p(x)
    PolicyGradient    -sum_t log p(a_t | a_<t) (Q_t - b_t),  a ~ p        (Williams 1992; Yu et al. 2017, equation 6)
    Judge             the discriminator's side of a game, where the other side is a policy gradient

Q is the discriminator's judgement of completions (`policy_gradient`), or any score of the whole sample (`reward`).
SeqGAN is a list of stages: likelihood(), then judge(), then policy_gradient() + judge().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.objectives.adversarial import Adversarial
from amalgan.objectives.core import Draw, Loss, Objective, Turn

BASELINES = ("none", "mean")


class Likelihood(Objective):
    """-log p(x), in nats per example, from the draw's `log_likelihood`."""

    def __init__(self, moves: tuple[str, ...] = ("generator",)) -> None:
        self.moves = moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            yield Loss("likelihood", -turn.draw.log_likelihood.mean(), self.moves)


class PolicyGradient(Objective):
    """The generator is paid for each of its choices.

    Its value is a surrogate: only its gradient means anything. The mean payment of the last choice is logged beside it.

    Arguments:
        payment: of each choice: a draw -> (B, T), without gradient.
        baseline: "none" as in the paper, or "mean": the mean payment of the batch at the same position is taken off,
            which makes less noise and changes the expectation by a factor 1 - 1 / B alone.
        moves: the networks it trains.
        names: under which the surrogate and the mean payment are logged.
    """

    def __init__(
        self,
        payment: Callable[[Draw], Tensor],
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
        chosen, payment = turn.draw.fake_tokens, self.payment(turn.draw)
        counts = turn.draw.model.alive(turn.draw.fake)
        advantage = payment - self._baseline(turn, payment, counts)
        yield Loss(self.names[0], -(chosen * advantage).sum(1).mean(), self.moves)
        yield Loss(self.names[1], payment[:, -1].mean(), self.moves, weight=0.0)

    def _baseline(self, turn: Turn, payment: Tensor, counts: Tensor) -> Tensor:
        if self.baseline == "none":
            return torch.zeros_like(payment)
        number = turn.mean(counts.float().sum(0))
        return turn.mean((payment * counts).sum(0)) / number.clamp(min=1e-8)


class Judge(Objective):
    """The discriminator's side of a game alone.

    Arguments:
        game: a name in GAMES; its discriminator's side.
        on: the fields of the draw that play the fake.
    """

    def __init__(self, game: str = "non-saturating", on: tuple[str, ...] = ("fake",)) -> None:
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
    return PolicyGradient(lambda draw: draw.action_values(rollouts, follow), baseline)


def reward(fn: Callable[[Tensor], Tensor], baseline: str = "mean") -> Objective:
    """All choices of a sample are paid what `fn` says of it, whatever that is: it need not be differentiable.

    So it steers any generator of choices: `likelihood() + 0.1 * reward(fn)`; see `PolicyGradient`.

    Arguments:
        fn: samples (B, T) -> payments (B,).
    """

    def payment(draw: Draw) -> Tensor:
        with torch.no_grad():
            return fn(draw.fake).float().unsqueeze(1).expand(draw.fake.shape)

    return PolicyGradient(payment, baseline, names=("steer", "score"))


def judge(game: str = "non-saturating", on: tuple[str, ...] = ("fake",)) -> Objective:
    """See `Judge`."""
    return Judge(game, on)
