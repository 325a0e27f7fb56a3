"""The algebra: objectives are games that add up.

    L(VAE-GAN) = L(VAE) + lambda * L(GAN)          vaegan = vae(beta) + lam * gan(game)

An objective is asked, at every turn of every player, for the losses that it lays on that player. A loss has a name, a
value (nats per example), a weight, and the networks it *moves*: gradients are taken for exactly those. Sums chain the
losses of their parts; a weight multiplies those of the generator's side only, since a discriminator playing at lambda
would make lambda a hidden learning rate. Weight 0 means watch, do not train.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from amalgan.errors import UsageError
from amalgan.networks.together import looks_around
from amalgan.noise import Noise

Schedule = Callable[[float], float]  # progress of the stage in [0, 1] -> weight
Weight = float | Schedule
View = Callable[[str, Tensor], Tensor]  # a field of the draw and its content -> what the discriminator sees of it
Discriminator = Callable[[Tensor], tuple[Tensor, Tensor]]  # what it sees -> logits and features


def at(weight: Weight, progress: float) -> float:
    """A weight at some progress of the stage."""
    return weight(progress) if callable(weight) else weight


@dataclass(frozen=True)
class Loss:
    """One term's demand on one player: minimise `weight * value` by moving `moves`.

    `value` is a scalar in nats per example, logged unweighted under `name`; `moves` names networks of the model.
    """

    name: str
    value: Tensor
    moves: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What is said of `input` (B, ...): `logits` (B,) or (B, T), high for real, and `features` (B, F).

    A discriminator that judges m examples at once (`Packed`) says B / m of both.
    """

    logits: Tensor
    features: Tensor
    input: Tensor


class Draw(Protocol):
    """The record of one play that a model hands to an objective: x, c, its noise, and what that model's plays have besides.

    Its fields are computed when first read, and kept; a latent model's draw has posterior, z, reconstruction, fake.
    """

    model: Any
    x: Tensor
    c: Tensor | None
    noise: Noise

    def __getattr__(self, field: str) -> Any: ...


class Turn:
    """One player's turn on one draw. Verdicts live as long as the turn: the discriminator has moved by the next one.

    On the discriminator's turn samples are cut from the networks that made them, and are leaves, so that penalties can
    differentiate by them. On other turns the model's discriminator judges the real data without a graph: it teaches
    nobody.

    Arguments:
        draw: the play.
        player: whose turn it is, "generator" or "discriminator".
        step: the trainer's step, for terms that act only now and then.
        progress: share of the stage that has passed, in [0, 1], for schedules.
        mean: over the processes that share the batch, without gradient; what a term decides by, all must decide alike.
        view: through which the discriminator sees what it judges.
        judge: who judges, by default the model's discriminator.
        virtual: the turn is only imagined, in the course of another: samples are not cut, and no term remembers it.
    """

    def __init__(
        self,
        draw: Draw,
        player: str,
        step: int = 0,
        progress: float = 0.0,
        mean: Callable[[Tensor], Tensor] = torch.Tensor.detach,
        view: View = lambda field, x: x,
        judge: Discriminator | None = None,
        virtual: bool = False,
    ) -> None:
        self.draw, self.player, self.step, self.progress, self.mean = draw, player, step, progress, mean
        self.view, self._judged_by, self.virtual = view, judge, virtual
        self._verdicts: dict[str, Verdict] = {}

    @property
    def judge(self) -> Discriminator:
        """Who judges: what a view shows -> logits and features."""
        return self._judged_by or self.draw.model.discriminator

    def through(self, view: View) -> Turn:
        """The same turn, with verdicts of its own: the discriminator looks through one more view."""

        def both(field: str, x: Tensor) -> Tensor:
            return view(field, self.view(field, x))

        return self._but(view=both)

    def judged_by(self, judge: Discriminator) -> Turn:
        """The same turn, with the verdicts of another discriminator."""
        return self._but(judge=judge)

    def imagined(self, player: str, judge: Discriminator) -> Turn:
        """A virtual turn of a player on the same draw, with the verdicts of another discriminator."""
        return self._but(player=player, judge=judge, virtual=True)

    def _but(self, **changes: Any) -> Turn:
        kept = {"player": self.player, "view": self.view, "judge": self._judged_by, "virtual": self.virtual}
        return Turn(self.draw, step=self.step, progress=self.progress, mean=self.mean, **{**kept, **changes})

    def verdicts(self, *fields: str) -> list[Verdict]:
        """The discriminator's verdicts on those fields of the draw, in one pass if it looks at each example alone."""
        missing = [field for field in dict.fromkeys(fields) if field not in self._verdicts]
        if self.player == "discriminator":
            self._give({field: self._cut(getattr(self.draw, field)) for field in missing})
        else:
            # another judge may be what it is because of the generator
            with torch.set_grad_enabled(self._judged_by is not None and torch.is_grad_enabled()):
                self._give({field: self.draw.x for field in missing if field == "x"})
            self._give({field: getattr(self.draw, field) for field in missing if field != "x"})
        return [self._verdicts[field] for field in fields]

    def _cut(self, x: Tensor) -> Tensor:
        return x if self.virtual and x.requires_grad else x.detach().requires_grad_(x.is_floating_point())

    def _give(self, inputs: dict[str, Tensor]) -> None:
        seen = [self.view(field, x) for field, x in inputs.items()]
        together = len(seen) > 1 and not looks_around(self.draw.model.discriminator)
        if together:
            logits, features = self.judge(torch.cat(seen))
            sizes = [len(x) for x in seen]
            judged = list(zip(logits.split(sizes), features.split(sizes)))
        else:
            judged = [self.judge(x) for x in seen]
        for (field, x), (logits, features) in zip(inputs.items(), judged):
            self._verdicts[field] = Verdict(logits, features, x)


class Objective:
    """What each player minimises. Abstract: a term says `losses`; sums and scaling are written here, once, for all."""

    def losses(self, turn: Turn) -> Iterator[Loss]:
        """The losses that this objective lays on `turn.player`, none if it asks nothing of that player."""
        raise NotImplementedError

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        """The gradient steps of a turn, in order: the losses of each. One round, unless a term owns its turn.

        The networks move between one round and the next: what a later round computes, it computes with them as they are.
        """
        yield list(self.losses(turn))

    def remember(self, model: nn.Module) -> None:
        """Give the model the buffers in which terms keep what must outlive a step, so that a run can go on exactly.

        Asked once, when a plan is made; a term that keeps nothing passes it on to the objectives that it is made of.
        """
        for part in vars(self).values():
            for term in part if isinstance(part, tuple) else (part,):
                if isinstance(term, Objective):
                    term.remember(model)

    def __add__(self, other: Objective) -> Objective:
        return Sum(self, other)

    def __mul__(self, weight: Weight) -> Objective:
        return Scaled(weight, self)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        """As a person would write it: the arguments that are not as by default. An attribute bears its argument's name."""
        arguments = inspect.signature(type(self)).parameters.items()
        shown = {name: _written(getattr(self, name, default.default)) for name, default in arguments}
        shown = {name: text for name, text in shown.items() if text != _written(dict(arguments)[name].default)}
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in shown.items())})"


def _written(value: Any) -> str:
    """Numbers in six digits; a function, and so a schedule or a side of a game, by the name of what made it."""
    if inspect.isfunction(value):
        return value.__qualname__.partition(".")[0]
    if isinstance(value, tuple) and any(map(inspect.isfunction, value)):
        return f"({', '.join(map(_written, value))})"
    return f"{value:g}" if isinstance(value, float) else repr(value)


class Sum(Objective):
    """L = L_1 + L_2 + ..., for every player."""

    def __init__(self, *parts: Objective) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))

    def losses(self, turn: Turn) -> Iterator[Loss]:
        for part in self.parts:
            yield from part.losses(turn)

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        """Round by round: a part that has one round asks in the first alone."""
        for together in zip_longest(*(part.rounds(turn) for part in self.parts), fillvalue=()):
            yield [loss for losses in together for loss in losses]


class Scaled(Objective):
    """weight * L on the generator's turn, L itself on the discriminator's. The weight is a number or a schedule."""

    def __init__(self, weight: Weight, inner: Objective) -> None:
        if not callable(weight) and not (math.isfinite(weight) and weight >= 0):
            raise UsageError("a weight for an objective", f"{weight}", "write a number >= 0, or a schedule")
        self.weight, self.inner = weight, inner

    def __repr__(self) -> str:
        inner = f"({self.inner})" if isinstance(self.inner, Sum) else f"{self.inner}"
        return inner if self.weight == 1 else f"{_written(self.weight)} * {inner}"

    def losses(self, turn: Turn) -> Iterator[Loss]:
        for loss in self.inner.losses(turn):
            yield self._scaled(loss, turn)

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        for losses in self.inner.rounds(turn):
            yield [self._scaled(loss, turn) for loss in losses]

    def _scaled(self, loss: Loss, turn: Turn) -> Loss:
        if turn.player != "generator":
            return loss
        return replace(loss, weight=at(self.weight, turn.progress) * loss.weight)


# Schedules: functions of the progress of the stage, so that a longer budget stretches them.


def warm_up(to: float = 1.0, share: float = 0.1, start: float = 0.0, begin: float = 0.0) -> Schedule:
    """`start` until `begin` of the stage, a line to `to` over `share` of it, then constant (Bowman et al. 2016).

    Of a game's weight, a late beginning lets the discriminator learn before it counts: at weight 0 it plays already.
    """

    def risen(progress: float) -> float:
        if progress < begin:
            return 0.0
        return min(1.0, (progress - begin) / share) if share > 0 else 1.0

    return lambda progress: start + (to - start) * risen(progress)


def cyclic(to: float = 1.0, cycles: int = 4, share: float = 0.5) -> Schedule:
    """`cycles` times a linear rise from 0 to `to` over `share` of the cycle, then flat (Fu et al. 2019)."""
    return lambda progress: to * min(1.0, (progress * cycles % 1.0) / share) if progress < 1 else to


def fading(start: float = 1.0, share: float = 0.5) -> Schedule:
    """Linear from `start` to 0 over the first `share` of the stage, then 0."""
    return lambda progress: start * max(0.0, 1 - progress / share)


def decay(start: float = 1.0, to: float = 0.0) -> Schedule:
    """Half a cosine from `start` down to `to` over the stage."""
    return lambda progress: to + (start - to) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
