"""Terms about the condition of an example: what a discriminator besides its verdict tells of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from amalgan.objectives.core import Loss, Objective, Turn


class Classification(Objective):
    """-log p(c | x) of an auxiliary classifier, a `Classifying` discriminator's guess (Odena et al. 2017, equation 3).

    The discriminator learns the conditions of data and fakes, the generator to make fakes that show theirs. Of conditions
    that are numbers it is half the squared error. What is unknown costs nothing.

    Arguments:
        on: fields of the draw that are fakes.
        moves: the networks that it trains on the generator's turn.
    """

    def __init__(self, on: tuple[str, ...] = ("fake",), moves: tuple[str, ...] = ("decoder",)) -> None:
        self.on, self.moves = on, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        judges = turn.player == "discriminator"
        fields = ("x", *self.on) if judges else self.on
        guess, c = turn.draw.model.discriminator.guess, turn.draw.c
        if c is None:
            return
        values = [_cost(guess(verdict.features).float(), c) for verdict in turn.verdicts(*fields)]
        fakes = sum(values[-len(self.on) :]) / len(self.on)
        value = values[0] + fakes if judges else fakes
        yield Loss("classification", torch.as_tensor(value), ("discriminator",) if judges else self.moves)


class MutualInformation(Objective):
    """-log q(code | fake): what a discriminator's guess tells of the first numbers of the noise a fake was made from.

    A lower bound on the mutual information between those numbers and samples, less a constant (Chen et al. 2016, equation 5): the
    generator is paid for letting them show. q is a Gaussian of unit variance, so it is half a squared error.

    Arguments:
        moves: the networks that it trains on the generator's turn.
    """

    def __init__(self, moves: tuple[str, ...] = ("decoder",)) -> None:
        self.moves = moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        (verdict,) = turn.verdicts("fake")
        guess = turn.draw.model.discriminator.guess(verdict.features).float()
        value = (guess - turn.draw.code[:, : guess.shape[1]]).square().sum(1).mean() / 2
        yield Loss("information", value, ("discriminator",) if turn.player == "discriminator" else self.moves)


def _cost(guess: Tensor, c: Tensor) -> Tensor:
    """Nats an example, over the whole batch: what is unknown counts as none."""
    if c.dim() == 1:
        return cross_entropy(guess, c, ignore_index=-1, reduction="sum") / len(c)
    known = c.isfinite()
    return ((guess - c.nan_to_num(0.0)).square() * known).sum() / (2 * len(c))
