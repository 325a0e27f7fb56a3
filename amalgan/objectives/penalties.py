"""Penalties on the discriminator's slope, which keep a game from tearing itself apart.

    R1  = gamma/2 E |grad_x D(x)|^2         R2: the same at the fakes              (Mescheder et al. 2018)
    GP  = gamma E (|grad D(x^)| - 1)^2,     x^ on the line between x and a fake    (Gulrajani et al. 2017)

Lazy: every k-th step at k times the strength costs a fraction and does the same on average (Karras et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from amalgan.objectives.core import Loss, Objective, Turn


def _squared_slope(logits: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """|grad_input D|^2 for each of the inputs, (B,) each, differentiable once more; D is the mean of several verdicts."""
    slopes = torch.autograd.grad(logits.sum() / logits[0].numel(), inputs, create_graph=True)
    return [slope.float().square().flatten(1).sum(1) for slope in slopes]


class ZeroCentred(Objective):
    """gamma/2 * mean |grad D|^2: R1 on ("x",), R2 on the fakes, R1 + R2 on both.

    As in the game, several fakes count as one: their mean.

    Arguments:
        gamma: strength, in nats per squared unit of slope.
        on: fields of the draw at which the slope is taken, "x" first where it is among them.
        every: act on every so-manieth step, that many times as strong.
    """

    def __init__(self, gamma: float = 1.0, on: tuple[str, ...] = ("x",), every: int = 1) -> None:
        self.gamma, self.on, self.every = gamma, on, every

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "discriminator" and turn.step % self.every == 0:
            verdicts = turn.verdicts(*self.on)
            logits = torch.cat([verdict.logits for verdict in verdicts])
            slopes = _squared_slope(logits, [verdict.input for verdict in verdicts])
            real, fakes = (slopes[:1], slopes[1:]) if self.on[0] == "x" else ([], slopes)
            value = torch.stack([torch.cat(side).mean() for side in (real, fakes) if side]).sum() / 2
            yield Loss("slope", value, ("discriminator",), weight=self.gamma * self.every)


class OneCentred(Objective):
    """gamma * mean (|grad D(x^)| - 1)^2 on random points between data and samples: the WGAN-GP penalty.

    Several fakes count as one: their mean.

    Arguments:
        gamma: strength, 10 in the paper.
        on: fields of the draw that are the other ends of the lines.
        every: act on every so-manieth step, that many times as strong.
    """

    def __init__(self, gamma: float = 10.0, on: tuple[str, ...] = ("fake",), every: int = 1) -> None:
        self.gamma, self.on, self.every = gamma, on, every

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "discriminator" and turn.step % self.every == 0:
            x, between = turn.draw.x, []
            for field in self.on:
                share = turn.draw.noise.uniform(f"between {field}", (len(x),)).view(-1, *[1] * (x.dim() - 1))
                between.append(share * x + (1 - share) * getattr(turn.draw, field).detach())
            points = torch.cat(between).requires_grad_()
            logits, _ = turn.draw.model.discriminator(points)
            (squared,) = _squared_slope(logits, [points])
            # the square root has no slope at 0: a discriminator flat there would turn its weights into NaN
            value = ((squared + 1e-12).sqrt() - 1).square().mean()
            yield Loss("slope", value, ("discriminator",), weight=self.gamma * self.every)
