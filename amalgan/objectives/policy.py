"""Objectives for generators whose samples are choices, through which no gradient passes.

    Likelihood        -log p(x)
    PolicyGradient    -sum_t log p(a_t | a_<t) (Q_t - b_t),  a ~ p        (Williams 1992; Yu et al. 2017, equation 6)
    Reinforce         -log p(y) (Q - b),  y ~ p,  Q what a game's generator earns at y        (Wang et al. 2018, equation 4)
    Judge             the discriminator's side of a game, where the other side is a policy gradient

SeqGAN is a list of stages: likelihood(), then judge(), then policy_gradient() + judge(). GraphGAN is reinforce() + judge().
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.objectives.adversarial import GAMES, Adversarial
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
    """The generator is paid for each of its choices what completions from there earn from the discriminator.

    Its value is a surrogate: only its gradient means anything. The mean payment is logged as "reward".

    Arguments:
        rollouts: completions of every prefix, N in the paper (16).
        baseline: "none" as in the paper, or "mean": the mean payment of the batch at the same position is taken off,
            which changes no expectation and less noise.
        follow: how slowly the policy that completes follows the generator; see `SequenceModel.action_values`.
        moves: the networks it trains.
    """

    def __init__(
        self,
        rollouts: int = 16,
        baseline: str = "mean",
        follow: float = 0.0,
        moves: tuple[str, ...] = ("generator",),
    ) -> None:
        if baseline not in BASELINES:
            raise UsageError("a policy gradient", f"baseline={baseline!r}", f"write one of {', '.join(BASELINES)}")
        self.rollouts, self.baseline, self.follow, self.moves = rollouts, baseline, follow, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player != "generator":
            return
        chosen = turn.draw.fake_tokens
        payment = turn.draw.action_values(self.rollouts, self.follow)
        counts = turn.draw.model.alive(turn.draw.fake)
        advantage = payment - self._baseline(turn, payment, counts)
        yield Loss("policy", -(chosen * advantage).sum(1).mean(), self.moves)
        yield Loss("reward", payment[:, -1].mean(), self.moves, weight=0.0)

    def _baseline(self, turn: Turn, payment: Tensor, counts: Tensor) -> Tensor:
        if self.baseline == "none":
            return torch.zeros_like(payment)
        number = turn.mean(counts.float().sum(0))
        return turn.mean((payment * counts).sum(0)) / number.clamp(min=1e-8)


class Reinforce(Objective):
    """The generator is paid for each sample as a whole: minus what the game would have it minimise there.

    It takes the draw's `fake` and, with gradient, `fake_log_prob` (B,). Its value is a surrogate: only its gradient
    means anything. The mean payment is logged as "reward".

    Arguments:
        game: a name in GAMES; its generator's side, which may not look at real data.
        baseline: "none" as in the paper, or "mean": the mean payment of the batch is taken off.
        moves: the networks it trains.
    """

    def __init__(self, game: str = "minimax", baseline: str = "mean", moves: tuple[str, ...] = ("generator",)) -> None:
        if baseline not in BASELINES:
            raise UsageError("a policy gradient", f"baseline={baseline!r}", f"write one of {', '.join(BASELINES)}")
        alone = [name for name, (_, play) in GAMES.items() if not play(UNSEEN, torch.tensor(0.0)).isnan()]
        if game not in alone:
            raise UsageError("a payment for samples", f"game={game!r}", f"write one of {', '.join(alone)}")
        self.game, self.baseline, self.moves = game, baseline, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player != "generator":
            return
        (verdict,) = turn.verdicts("fake")
        logits = verdict.logits.detach()
        payment = -GAMES[self.game][1](UNSEEN, logits)
        usual = turn.mean(payment.mean()) if self.baseline == "mean" else 0.0
        yield Loss("policy", -(turn.draw.fake_log_prob * (payment - usual)).mean(), self.moves)
        yield Loss("reward", payment.mean(), self.moves, weight=0.0)


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
    """See `PolicyGradient`."""
    return PolicyGradient(rollouts, baseline, follow)


def reinforce(game: str = "minimax", baseline: str = "mean") -> Objective:
    """See `Reinforce`."""
    return Reinforce(game, baseline)


def judge(game: str = "non-saturating", on: tuple[str, ...] = ("fake",)) -> Objective:
    """See `Judge`."""
    return Judge(game, on)
