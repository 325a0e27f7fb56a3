"""Imitation: a policy is paid by a judge who cannot tell what it does from what was demonstrated.

    game            the judge minimises s(-D(demonstrated)) + s(D(played)),  s(a) = log(1 + e^a)   (Ho and Ermon 2016)
    payment         r_t = form(D(s_t, a_t)), a form in REWARDS
    advantage       A_t = sum_l (gamma lambda)^l delta_{t+l},  delta_t = r_t + gamma V(s_{t+1}) - V(s_t)
                                                                                    (Schulman et al. 2016, equation 16)
    policy          -min(rho A, clip(rho, 1 - e, 1 + e) A),  rho = pi(a|s) / pi_before(a|s)
                                                                                    (Schulman et al. 2017, equation 7)
    value           (V(s_t) - (A_t + V_before(s_t)))^2 / 2

At rho = 1 the gradient of the policy's loss is the policy gradient -A grad log pi(a|s) of `policy`. Episodes end at a
time limit, not because something came to its end: what would have been paid beyond it is V(s_T), never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from amalgan.errors import UsageError
from amalgan.objectives.core import Loss, Objective, Turn
from amalgan.objectives.policy import Likelihood

# What a step is paid, from the judge's logit, high for demonstrated. In a world that ends early where things go badly,
# forms that are never negative reward staying, forms that are never positive reward leaving, whatever was demonstrated.
REWARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "softplus": softplus,  # -log(1 - D) >= 0: the usual one (Ho and Ermon 2016, as its released code has it)
    "negative": lambda logit: -softplus(-logit),  # log D <= 0
    "logit": lambda logit: logit,  # log D - log(1 - D), either sign (Fu et al. 2018)
    "constant": torch.ones_like,  # the control: if it learns, the world gives the answer away
}


def gae(rewards: Tensor, values: Tensor, discount: float, trace: float) -> Tensor:
    """Generalised advantages (n, T) of rewards (n, T) and values (n, T + 1): see the head of this file."""
    errors = rewards + discount * values[:, 1:] - values[:, :-1]
    found, held = [], torch.zeros_like(errors[:, 0])
    for error in errors.flip(1).unbind(1):
        held = error + discount * trace * held
        found.append(held)
    return torch.stack(found[::-1], 1)


def clipped(ratio: Tensor, advantage: Tensor, reach: float) -> Tensor:
    """The loss of each step, (...): no more is won by a ratio outside [1 - reach, 1 + reach]."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - reach, 1 + reach) * advantage)


class Imitation(Objective):
    """The policy's side of the game: one play, judged once, then several gradient steps on parts of it.

    The judge's side is `judge()`, as in SeqGAN. What the world itself pays is logged as "return", never learned from.

    Arguments:
        reward: a name in REWARDS.
        discount, trace: gamma and lambda.
        reach: e, how far a ratio may move.
        epochs: passes over the play.
        parts: gradient steps a pass: each on some moments of every episode, in another order each pass.
        entropy: weight of the policy's entropy, in payments per nat.
        moves: the policy and the value.
    """

    def __init__(
        self,
        reward: str = "softplus",
        discount: float = 0.99,
        trace: float = 0.95,
        reach: float = 0.2,
        epochs: int = 2,
        parts: int = 4,
        entropy: float = 1e-3,
        moves: tuple[str, str] = ("generator", "value"),
    ) -> None:
        if reward not in REWARDS:
            raise UsageError("imitation", f"reward={reward!r}", f"write one of {', '.join(REWARDS)}")
        self.reward, self.discount, self.trace, self.reach = reward, discount, trace, reach
        self.epochs, self.parts, self.entropy, self.moves = epochs, parts, entropy, moves

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        if turn.player != "generator":
            return
        draw, model = turn.draw, turn.draw.model
        play = draw.play
        with torch.no_grad():
            paid = (1 - self.discount) * self.paid(draw)  # so that values are means of payments, whatever the discount
            values = model.value(play.observations)
            before = model.generator.log_prob(model.generator(play.observations[:, :-1]), play.actions)
            advantage = gae(paid, values, self.discount, self.trace)
            target = advantage + values[:, :-1]
            centre = turn.mean(advantage.mean())
            scale = turn.mean((advantage - centre).square().mean()).sqrt() + 1e-8
            advantage = (advantage - centre) / scale
        watched = [
            Loss("reward", paid.mean() / (1 - self.discount), self.moves[:1], weight=0.0),
            Loss("return", play.rewards.sum(1).mean(), self.moves[:1], weight=0.0),
        ]
        for at in self._moments(draw):
            whose = torch.arange(len(at), device=at.device)[:, None]
            held = (play.observations, play.actions, play.alive, before, advantage, target)
            seen, done, alive, old, worth, aim = (part[whose, at] for part in held)
            made = model.generator(seen)
            ratio = torch.exp(model.generator.log_prob(made, done) - old)
            # where nothing can be done any more there is nothing to learn about doing
            share = alive / turn.mean(alive.float().mean()).clamp(min=1e-8)
            yield [
                Loss("policy", (clipped(ratio, worth, self.reach) * share).mean(), self.moves[:1]),
                Loss("entropy", -(model.generator.entropy(made) * share).mean(), self.moves[:1], weight=self.entropy),
                Loss("value", (model.value(seen) - aim).square().mean() / 2, self.moves[1:]),
                *watched,
            ]
            watched = []

    def paid(self, draw: Any) -> Tensor:
        """What each step of the play is paid, (n, T)."""
        pairs = draw.play.pairs
        logits, _ = draw.model.discriminator(pairs.flatten(0, 1))
        return REWARDS[self.reward](logits).view(pairs.shape[:2])

    def _moments(self, draw: Any) -> Iterator[Tensor]:
        """(n, T / parts) places in each episode, for each gradient step.

        Every part holds as many moments of each episode, so that processes that share the episodes share the parts.
        """
        for epoch in range(self.epochs):
            order = draw.noise(f"moments {epoch}", tuple(draw.play.alive.shape)).argsort(1)
            yield from order.tensor_split(min(self.parts, order.shape[1]), 1)


def cloning() -> Objective:
    """Behaviour cloning: the likelihood of what was done, given what was seen; see `Likelihood`."""
    return Likelihood()


def imitation(
    reward: str = "softplus",
    discount: float = 0.99,
    trace: float = 0.95,
    reach: float = 0.2,
    epochs: int = 2,
    parts: int = 4,
    entropy: float = 1e-3,
) -> Objective:
    """See `Imitation`."""
    return Imitation(reward, discount, trace, reach, epochs, parts, entropy)
