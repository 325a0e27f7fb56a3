"""Penalties on the discriminator's slope, which keep a game from tearing itself apart.

    R1  = gamma/2 E |grad_x D(x)|^2         R2: the same at the fakes              (Mescheder et al. 2018)
    GP  = gamma E (|grad D(x^)| - 1)^2,     x^ on the line between x and a fake    (Gulrajani et al. 2017)
    LP  = gamma E [|grad D(x^)| - 1]+^2,    from above alone             (ibid., section 4; Petzka et al. 2018)

Lazy: every k-th step at k times the strength costs a fraction and does the same on average (Karras et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import relu

from amalgan.networks.together import pack
from amalgan.objectives.core import Loss, Objective, Turn


def _squared_slope(logits: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """|grad_input D|^2 for each of the inputs, as many as there are logits, differentiable once more.

    D is the mean of several verdicts on one example; of one verdict on several examples, the slope is that by them all.
    """
    all_of_them = torch.cat(logits)
    slopes = torch.autograd.grad(all_of_them.sum() / all_of_them[0].numel(), inputs, create_graph=True)
    return [slope.float().square().reshape(len(of), -1).sum(1) for of, slope in zip(logits, slopes)]


class ZeroCentred(Objective):
    """gamma/2 * mean |grad D|^2: R1 on ("x",), R2 on the fakes, R1 + R2 on both.

    As in the game, several fakes count as one: their mean.

    Arguments:
        gamma: strength, in nats per squared unit of slope.
        on: fields of the draw at which the slope is taken, the real one first where it is among them.
        every: act on every so-manieth step, that many times as strong.
        real: the field that is real.
    """

    def __init__(self, gamma: float = 1.0, on: tuple[str, ...] = ("x",), every: int = 1, real: str = "x") -> None:
        self.gamma, self.on, self.every, self.real = gamma, on, every, real

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "discriminator" and turn.step % self.every == 0:
            verdicts = turn.verdicts(*self.on)
            slopes = _squared_slope([v.logits for v in verdicts], [v.input for v in verdicts])
            real, fakes = (slopes[:1], slopes[1:]) if self.on[0] == self.real else ([], slopes)
            value = torch.stack([torch.cat(side).mean() for side in (real, fakes) if side]).sum() / 2
            yield Loss("slope", value, ("discriminator",), weight=self.gamma * self.every)


class OneCentred(Objective):
    """gamma * mean (|grad D(x^)| - 1)^2 on random points between data and samples: the WGAN-GP penalty.

    Several fakes count as one: their mean.

    Arguments:
        gamma: strength, 10 in the paper.
        on: fields of the draw that are the other ends of the lines.
        every: act on every so-manieth step, that many times as strong.
        one_sided: only slopes above 1 cost: between data and samples that are no couple of the optimal transport, the
            best critic's is less.
    """

    def __init__(
        self, gamma: float = 10.0, on: tuple[str, ...] = ("fake",), every: int = 1, one_sided: bool = False
    ) -> None:
        self.gamma, self.on, self.every, self.one_sided = gamma, on, every, one_sided

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "discriminator" and turn.step % self.every == 0:
            x, m, between = turn.draw.x, pack(turn.draw.model.discriminator), []
            for field in self.on:
                share = turn.draw.noise.uniform(f"between {field}", (len(x),))
                share = share[::m].repeat_interleave(m) if m > 1 else share  # the line is between packs
                share = share.view(-1, *[1] * (x.dim() - 1))
                fake = getattr(turn.draw, field)
                between.append(share * x + (1 - share) * (fake if turn.virtual else fake.detach()))
            points = torch.cat(between).requires_grad_()
            logits, _ = turn.judge(points)
            (squared,) = _squared_slope([logits], [points])
            # the square root has no slope at 0: a discriminator flat there would turn its weights into NaN
            beyond = (squared + 1e-12).sqrt() - 1
            value = (relu(beyond) if self.one_sided else beyond).square().mean()
            yield Loss("slope", value, ("discriminator",), weight=self.gamma * self.every)
