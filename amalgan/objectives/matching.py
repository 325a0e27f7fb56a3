"""Remedies for a generator that chases its discriminator in circles.

    FeatureMatching        |E f(x) - E f(G(z))|^2, f the discriminator's features    (Salimans et al. 2016, section 3.1)
    HistoricalAveraging    gamma |theta - 1/t sum_i theta_i|^2                        (ibid., section 3.3)
    Unrolled               the game against the discriminator as it will be           (Metz et al. 2017, section 2.2)

What is meant of the whole batch is so where several processes share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from amalgan.errors import UsageError
from amalgan.objectives.core import Loss, Objective, Turn


class FeatureMatching(Objective):
    """|E f(x) - E f(fake)|^2, the expectations those of the whole batch: squared features, summed, not nats.

    The generator is asked for the discriminator's statistics in place of its approval; the discriminator is trained by
    `judge()`. Several processes may share the batch: with m the difference of means in one's own part and M the mean of
    m over processes, 2 M m - M M has the mean |M|^2 and, the mean taken, its gradient.

    Arguments:
        on: the fields of the draw that play the fake; with several, the mean over them.
        moves: the networks it trains.
    """

    def __init__(self, on: tuple[str, ...] = ("fake",), moves: tuple[str, ...] = ("decoder",)) -> None:
        self.on, self.moves = on, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            real, *fakes = turn.verdicts("x", *self.on)
            values = [_square_of_mean(fake.features.mean(0) - real.features.mean(0), turn) for fake in fakes]
            yield Loss("matching", torch.stack(values).mean(), self.moves)


def _square_of_mean(difference: Tensor, turn: Turn) -> Tensor:
    whole = turn.mean(difference.detach())
    return ((2 * difference - whole) * whole).sum()


class HistoricalAveraging(Objective):
    """gamma |theta - mean of theta so far|^2: a network that turns in circles is drawn to their centre.

    The mean is over the network's turns, this one included; it and their number are buffers of the model,
    `history_NETWORK_...`, saved and resumed with the weights. Units: squared weights, summed.

    Arguments:
        gamma: strength.
        network: whose weights.

    Raises:
        UsageError: when a plan is made, a network that the model lacks.
    """

    def __init__(self, gamma: float = 1.0, network: str = "decoder") -> None:
        self.gamma, self.network = gamma, network

    def remember(self, model: Any) -> None:
        if self.network not in model.networks:
            found = f"a model with {', '.join(model.networks)}"
            raise UsageError(f"the history of the {self.network}", found, "name a network that the model has")
        for index, weight in enumerate(model.networks[self.network]):
            model.register_buffer(f"history_{self.network}_{index}", torch.zeros_like(weight, requires_grad=False))
        model.register_buffer(f"history_{self.network}_turns", torch.zeros((), dtype=torch.int64))

    def losses(self, turn: Turn) -> Iterator[Loss]:
        mover = "discriminator" if self.network == "discriminator" else "generator"
        if turn.player != mover or turn.virtual:
            return
        model = turn.draw.model
        turns = model.get_buffer(f"history_{self.network}_turns").add_(1)
        squares = []
        for index, weight in enumerate(model.networks[self.network]):
            mean = model.get_buffer(f"history_{self.network}_{index}")
            mean += (weight.detach() - mean) / turns
            squares.append((weight - mean).square().sum())
        yield Loss("history", torch.stack(squares).sum(), (self.network,), weight=self.gamma)


class Unrolled(Objective):
    """A game whose generator meets the discriminator as it will be k steps on, and feels how it moves it there.

    theta_0 = theta,  theta_{i+1} = theta_i - lr d L_D / d theta_i on the same draw, samples uncut; the generator
    minimises L_G(theta_k). Every step is differentiable, so that a generator which leaves for where the discriminator
    is weak now sees that it will be caught. The discriminator's own turn is the game's. A step of the generator costs
    about k more of the discriminator, twice differentiated; its state, statistics of batches included, is left as it
    was.

    Arguments:
        inner: the game, with its penalties.
        k: imagined steps, >= 0; 0 is the game itself. 5 or 10 in the paper.
        lr: of the imagined steps, plain gradient descent.

    Raises:
        UsageError: a negative k or lr.
    """

    def __init__(self, inner: Objective, k: int = 5, lr: float = 1e-2) -> None:
        if k < 0 or not lr >= 0:
            raise UsageError("an unrolled game", f"k={k}, lr={lr}", "write k >= 0 steps, of a size lr >= 0")
        self.inner, self.k, self.lr = inner, k, lr

    def losses(self, turn: Turn) -> Iterator[Loss]:
        yield from self.inner.losses(self._ahead(turn) if turn.player == "generator" and self.k else turn)

    def _ahead(self, turn: Turn) -> Turn:
        """The turn with verdicts of the discriminator that k imagined steps would make."""
        discriminator = turn.draw.model.discriminator
        weights: dict[str, Tensor] = dict(discriminator.named_parameters())
        state = {name: buffer.clone() for name, buffer in discriminator.named_buffers()}
        for _ in range(self.k):
            judge = partial(functional_call, discriminator, {**weights, **state})
            losses = self.inner.losses(turn.imagined("discriminator", judge))
            demands = [loss.weight * loss.value for loss in losses if loss.weight != 0]
            if not demands:  # it rests
                break
            demand = torch.stack(demands).sum()
            slopes = torch.autograd.grad(demand, list(weights.values()), create_graph=True, materialize_grads=True)
            whole = _Mean.apply(torch.cat([slope.flatten() for slope in slopes]), turn.mean)
            parts = whole.split([weight.numel() for weight in weights.values()])
            weights = {name: w - self.lr * part.view(w.shape) for (name, w), part in zip(weights.items(), parts)}
        return turn.judged_by(partial(functional_call, discriminator, {**weights, **state}))


class _Mean(torch.autograd.Function):
    """The mean over processes, forward and back: a step that all take depends on the samples of each."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.mean = mean
        return mean(value).view_as(value)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return ctx.mean(slope), None
