"""Terms that put something between a game and its discriminator: what it judges, real or fake, it judges through that.

    InstanceNoise    x + sigma e                                                          (Sonderby et al. 2017)
    Augmented        T(x), T of one distribution for real and fake, differentiable        (Zhao et al. 2020)
    Adaptive         the same, as often as the discriminator's certainty asks for         (Karras et al. 2020)
    PhaseShuffled    x as it is, through a discriminator whose maps are moved in time     (Donahue et al. 2019)

Terms within look through the view, terms outside do not; views lie upon each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from amalgan.errors import UsageError
from amalgan.networks.waves import shuffled, shuffles
from amalgan.objectives.core import Loss, Objective, Turn, Weight, at


class Viewed(Objective):
    """A game that looks through something. Abstract: a term says what it is `through`, and what it does `after`."""

    inner: Objective

    def losses(self, turn: Turn) -> Iterator[Loss]:
        seen = self.through(turn)
        yield from self.inner.losses(seen)
        yield from self.after(seen)

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        seen = self.through(turn)
        yield from self.inner.rounds(seen)
        watched = list(self.after(seen))
        if watched:
            yield watched

    def through(self, turn: Turn) -> Turn:
        """The turn as the inner terms see it."""
        raise NotImplementedError

    def after(self, seen: Turn) -> Iterator[Loss]:
        """What is done when they have asked, and logged of it; by default nothing."""
        yield from ()


class InstanceNoise(Viewed):
    """A game whose discriminator sees real and fake alike as x + sigma * N(0, I).

    Where data and samples hardly overlap a discriminator tells them apart without effort and its slope leads nowhere;
    noise lets them overlap, and falls as they come together (Sonderby et al. 2017, section 3.3; Arjovsky and Bottou
    2017, theorem 3.2). Penalties within `inner` judge what the discriminator sees, lines between samples excepted.

    Arguments:
        inner: the game, with its penalties.
        sigma: standard deviation in the units of x, a number >= 0 or a schedule.
    """

    def __init__(self, inner: Objective, sigma: Weight = 0.1) -> None:
        self.inner, self.sigma = inner, sigma

    def through(self, turn: Turn) -> Turn:
        sigma = at(self.sigma, turn.progress)

        def noisy(field: str, x: Tensor) -> Tensor:
            return x + sigma * turn.draw.noise(f"instance {turn.player} {field}", tuple(x.shape))

        return turn.through(noisy) if sigma > 0 else turn


# Augmentation: operations on images x (B, C, H, W) in [0, 1], differentiable by x, each on those in `on` (B,) alone.
# `dice` says which numbers in [0, 1] an operation draws, (B,) by name. What moves in or is cut out is middle grey, as
# in the paper's code, whose images lie in [-1, 1] and are padded with 0.

GREY = 0.5
Dice = Callable[[str], Tensor]


def _as_images(each: Tensor) -> Tensor:
    return each.view(-1, 1, 1, 1)


def _whole(dice: Tensor, low: int, high: int) -> Tensor:
    """Whole numbers low .. high, evenly."""
    return (low + (dice * (high - low + 1)).floor()).clamp(max=high).long()


def translation(x: Tensor, on: Tensor, dice: Dice) -> Tensor:
    """By up to an eighth of a side, either way."""
    for dim, name in ((2, "down"), (3, "right")):
        reach = (x.shape[dim] + 4) // 8  # an eighth, rounded
        by = torch.where(on, _whole(dice(name), -reach, reach), 0)
        place = torch.arange(x.shape[dim], device=x.device) - by[:, None]
        inside = (place >= 0) & (place < x.shape[dim])
        along = (len(x), 1, -1, 1) if dim == 2 else (len(x), 1, 1, -1)
        moved = x.gather(dim, place.clamp(0, x.shape[dim] - 1).view(along).expand_as(x))
        x = torch.where(inside.view(along), moved, GREY)
    return x


def cutout(x: Tensor, on: Tensor, dice: Dice) -> Tensor:
    """A rectangle of half the sides, its centre anywhere in the image."""
    within = _as_images(on)
    for dim, name in ((2, "row"), (3, "column")):
        side = x.shape[dim]
        half = (side + 1) // 2
        first = _whole(dice(name), 0, side - half % 2) - half // 2
        place = torch.arange(side, device=x.device) - first[:, None]
        within = within & ((place >= 0) & (place < half)).view((len(x), 1, -1, 1) if dim == 2 else (len(x), 1, 1, -1))
    return torch.where(within, GREY, x)


def colour(x: Tensor, on: Tensor, dice: Dice) -> Tensor:
    """Brightness + U(-1/4, 1/4); then saturation times U(0, 2), about the pixel's grey; contrast times U(1/2, 3/2)."""
    y = x + (_as_images(dice("brightness")) - 0.5) / 2
    grey = y.mean(1, keepdim=True)
    y = grey + 2 * _as_images(dice("saturation")) * (y - grey)
    level = y.mean((1, 2, 3), keepdim=True)
    y = level + (0.5 + _as_images(dice("contrast"))) * (y - level)
    return torch.where(_as_images(on), y, x)


def flip(x: Tensor, on: Tensor, dice: Dice) -> Tensor:
    """Left and right exchanged, in half of the examples."""
    return torch.where(_as_images(on & (dice("side") < 0.5)), x.flip(3), x)


OPERATIONS: dict[str, Callable[[Tensor, Tensor, Dice], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
    "flip": flip,
}
USUAL = ("colour", "translation", "cutout")  # a flip is left out: it makes what digits and letters never are


def _known(operations: tuple[str, ...]) -> tuple[str, ...]:
    if not operations or not set(operations) <= OPERATIONS.keys():
        found = f"operations={operations!r}"
        raise UsageError("differentiable augmentation", found, f"write some of {', '.join(OPERATIONS)}")
    return operations


def _augmented(turn: Turn, p: float | Tensor, operations: tuple[str, ...]) -> Turn:
    """The turn through operations in their order, each on an example with probability p of its own."""

    def view(field: str, x: Tensor) -> Tensor:
        if x.dim() != 4:
            found = f"data of shape {tuple(x.shape[1:])}"
            raise UsageError("differentiable augmentation of images", found, "leave it out, or use instance noise")
        for name in operations:

            def dice(what: str, name: str = name) -> Tensor:
                stream = f"augmentation {turn.player} {field} {name} {what}"
                return turn.draw.noise.uniform(stream, (len(x),))  # noqa: B023, used within this pass alone

            x = OPERATIONS[name](x, dice("whether") < p, dice)
        return x

    return turn.through(view)


class Augmented(Viewed):
    """A game whose discriminator sees real and fake alike through random operations (Zhao et al. 2020, section 3).

    A discriminator with little data learns it by heart; augmented data alone would teach the generator the operations,
    so samples are shown through them too, with a gradient. What is done to every example may leak into samples; what is
    done with probability p < 1 need not, since then untouched ones are the most frequent (Karras et al. 2020, section
    2.2). Penalties within `inner` judge what the discriminator sees, lines between samples excepted.

    Arguments:
        inner: the game, with its penalties.
        p: with which each operation is done to an example, in [0, 1], a number or a schedule; 1 in the paper.
        operations: names in OPERATIONS, done in this order.

    Raises:
        UsageError: unknown operations or another p; in training, data that are no images.
    """

    def __init__(self, inner: Objective, p: Weight = 1.0, operations: tuple[str, ...] = USUAL) -> None:
        if not callable(p) and not 0 <= p <= 1:
            raise UsageError("differentiable augmentation", f"p={p}", "write a probability in [0, 1], or a schedule")
        self.inner, self.p, self.operations = inner, p, _known(operations)

    def through(self, turn: Turn) -> Turn:
        return _augmented(turn, at(self.p, turn.progress), self.operations)


class Adaptive(Viewed):
    """Augmentation that comes as overfitting does: p rises while mean sign D(x) > target, else it falls.

    sign D(x) averages 0 where the discriminator cannot tell, and 1 where it has learnt the data by heart (Karras et al.
    2020, section 3). p begins at 0, is the model's buffer `augmentation`, and is logged under that name. A relativistic
    game leaves verdicts free to drift together; there the sign of their difference says the same: `beside`.

    Arguments:
        inner: the game, with its penalties.
        target: mean sign of the verdicts on data, in (-1, 1).
        examples: real ones shown while p rises by 1.
        operations: as for `Augmented`.
        beside: fields of the draw whose verdicts, their mean, are taken off those on data; of a relativistic game its fakes.

    Raises:
        UsageError: unknown operations or another target; in training, data that are no images.
    """

    def __init__(
        self,
        inner: Objective,
        target: float = 0.6,
        examples: float = 500_000,
        operations: tuple[str, ...] = USUAL,
        beside: tuple[str, ...] = (),
    ) -> None:
        if not -1 < target < 1 or not examples > 0:
            found = f"target={target}, examples={examples}"
            raise UsageError("adaptive augmentation", found, "write a target in (-1, 1), and examples > 0")
        self.inner, self.target, self.examples, self.operations = inner, target, examples, _known(operations)
        self.beside = beside

    def remember(self, model: nn.Module) -> None:
        super().remember(model)
        model.register_buffer("augmentation", torch.zeros(()))

    def through(self, turn: Turn) -> Turn:
        return _augmented(turn, turn.draw.model.augmentation, self.operations)

    def after(self, seen: Turn) -> Iterator[Loss]:
        """One move of p by the verdicts of the discriminator's turn, those of all processes; p is watched."""
        if seen.player == "discriminator" and not seen.virtual:
            real, *fakes = (verdict.logits.detach().float() for verdict in seen.verdicts("x", *self.beside))
            against = sum(fakes) / max(1, len(fakes))
            certain = seen.mean((real - against).sign().mean()) - self.target
            shown = len(seen.draw.x) * seen.draw.noise.world
            p = seen.draw.model.augmentation
            p.add_(certain.sign() * (shown / self.examples)).clamp_(0, 1)
            yield Loss("augmentation", p.clone(), ("discriminator",), weight=0.0)


class PhaseShuffled(Viewed):
    """A game whose discriminator of waves moves its maps by -n .. n samples, evenly, each example's after each layer by shifts of
    its own (Donahue et al. 2019; their code moves a whole batch alike).

    Every pass draws anew: that of the game, that of its penalties. Outside of the term the discriminator moves nothing.

    Arguments:
        inner: the game, with its penalties.
        n: samples, >= 0; 2 in the paper.

    Raises:
        UsageError: n < 0; in training, a discriminator without maps of waves.
    """

    def __init__(self, inner: Objective, n: int = 2) -> None:
        if n < 0:
            raise UsageError("phase shuffle", f"n={n}", "write n=2, or 0 for none")
        self.inner, self.n = inner, n

    def through(self, turn: Turn) -> Turn:
        network, judge, passes = turn.draw.model.discriminator, turn.judge, itertools.count()
        layers = len(shuffles(network))
        if not layers:
            raise UsageError("phase shuffle", "a discriminator without maps of waves", "leave it out")

        def judged(x: Tensor) -> tuple[Tensor, Tensor]:
            stream, batch = f"phase {turn.player} {next(passes)}", len(turn.draw.x)
            # x holds several fields of the draw, one after the other; each is drawn for the global batch and cut to our share
            fields = [f"{stream} {field}" for field in range(len(x) // batch)]
            shifts = [
                torch.cat(
                    [_whole(turn.draw.noise.uniform(f"{of} {layer}", (batch,)), -self.n, self.n) for of in fields]
                )
                for layer in range(layers)
            ]
            with shuffled(network, shifts):
                return judge(x)

        return turn.judged_by(judged)
