"""The terms that TimeGAN adds to a game (Yoon et al. 2019, section 4; jsyoon0823/TimeGAN, timegan.py).

    recovery       sqrt E (x - x~)^2                          a code that can be decoded again
    supervision    sqrt E (h_{t+1} - h'_t)^2                  a code whose next step can be told
    moments        E |std(x^) - std(x)| + E |mean(x^) - mean(x)|,    over the batch, mean over steps and columns
    rest           the discriminator sits out a turn on which it loses less than a threshold

x in [0, 1], so that all are shares of a column's range, not nats. Roots and moments are of the whole batch, which several
processes may share: with v the mean square of one's own part and V = turn.mean(v) that of all, (v + V) / (2 sqrt V) has
the mean sqrt V and, the mean taken, its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from amalgan.objectives.core import Loss, Objective, Turn

SMALLEST = 1e-6  # added to a variance under a root, as in the paper's code


def root(square: Tensor, turn: Turn, smallest: float = 0.0) -> Tensor:
    """sqrt of the mean over processes of `square` + smallest; its gradient is that of the whole batch."""
    whole = turn.mean(square.detach()) + smallest
    return (square + smallest + whole) / (2 * whole.sqrt().clamp(min=1e-8))


class Recovery(Objective):
    """sqrt E (x - x~)^2."""

    def __init__(self, moves: tuple[str, ...] = ("embedder", "recovery")) -> None:
        self.moves = moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            error = (turn.draw.recovered - turn.draw.data).square().mean()
            yield Loss("recovery", root(error, turn), self.moves)


class Supervision(Objective):
    """sqrt E (h_{t+1} - h'_t)^2, how well the supervisor tells the next code; without the root for the embedder.

    Arguments:
        moves: ("supervisor",), or ("embedder",), whose codes are to be predictable.
        rooted: as in the paper's code for the supervisor, not for the embedder.
    """

    def __init__(self, moves: tuple[str, ...] = ("supervisor",), rooted: bool = True) -> None:
        self.moves, self.rooted = moves, rooted

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            error = (turn.draw.x[:, 1:] - turn.draw.ahead[:, :-1]).square().mean()
            if self.rooted:
                yield Loss("supervision", root(error, turn), self.moves)
            else:
                yield Loss("predictability", error, self.moves)


class Moments(Objective):
    """How far the standard deviation and the mean of samples, at each step in each column, are from those of the data."""

    def __init__(self, moves: tuple[str, ...] = ("generator", "supervisor")) -> None:
        self.moves = moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            (mean, spread), (mean_of_data, spread_of_data) = (
                self._of(x, turn) for x in (turn.draw.sample, turn.draw.data)
            )
            value = _apart(mean, mean_of_data, turn) + _apart(spread, spread_of_data, turn)
            yield Loss("moments", value, self.moves)

    @staticmethod
    def _of(x: Tensor, turn: Turn) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (T, D) of x (B, T, D)."""
        mean = x.mean(0)
        return mean, root((x - turn.mean(mean.detach())).square().mean(0), turn, SMALLEST)


def _apart(x: Tensor, y: Tensor, turn: Turn) -> Tensor:
    """Mean of |x - y|, where both are means over processes: the sign is that of the whole."""
    return ((x - y) * turn.mean((x - y).detach()).sign()).mean()


class Rest(Objective):
    """The discriminator rests while all it loses in `inner` is less than `below`; then its losses are watched.

    Arguments:
        inner: the game.
        below: nats, 0.15 in the paper's code.
    """

    def __init__(self, inner: Objective, below: float = 0.15) -> None:
        self.inner, self.below = inner, below

    def losses(self, turn: Turn) -> Iterator[Loss]:
        losses = list(self.inner.losses(turn))
        if turn.player == "discriminator":
            lost = sum(float(turn.mean(loss.value.detach())) for loss in losses)
            losses = [replace(loss, weight=0.0) for loss in losses] if lost < self.below else losses
        yield from losses
