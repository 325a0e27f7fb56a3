"""The balance of two terms: one pulls at a network with a share of the force of the other.

    w = share * |grad_theta L_by| / |grad_theta L|,     theta: the parameters that both reach    (Esser et al. 2021)

Esser et al. (VQGAN, eq. 7) take theta to be the decoder's last layer, since they measure at every step; here it is the
whole network, so that nothing need be known of layers, nor of which field of the draw a term looks at: a game may be on
fakes, with which the reconstruction has nothing but the decoder in common. Measuring now and then makes it cheap.
Gradients of whole batches are compared, as the optimiser will see them: those with respect to images would be of single
examples, most of whose pulls cancel out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from amalgan.errors import UsageError
from amalgan.objectives.core import Loss, Objective, Turn
from amalgan.objectives.elbo import Reconstruction


class Balanced(Objective):
    """A term whose weight adapts, so that at network `at` its gradient is `share` times as long as that of `by`.

        vae() + Balanced(gan(), share=0.3)
        vae() + warm_up(0.3, begin=0.2) * Balanced(gan())

    The ratio is a matter of factors, so its logarithm is averaged over what was measured so far, the latest counting
    most: from one batch to the next it jumps by a factor of 1.7 (a VAE-GAN on MNIST), and where a gradient all but
    vanishes for once an unsmoothed weight leaps to its cap. The average is a buffer of the model, so that a run goes on
    exactly. The discriminator plays at full strength. On the 28 px VAE-GAN a step costs 1.05 times what it does at a
    fixed weight, 1.5 times if every step is measured; and there a share of 0.1 is as strong as the recipe's `lam`.

    Arguments:
        inner: the term; what in it moves `at` is measured, with the weights it has there, and all of it is weighted.
            So a schedule belongs outside: within, it would be balanced away.
        share: of the pull of `by`, a number >= 0; 0 measures and watches.
        by: the term that it is measured against, which need not be part of the sum.
        at: the network at which they are compared.
        every: measure on every so-manieth step.
        smooth: how much of the average's weight is kept at each measurement, in [0, 1); 0 takes each as it is.
        cap: the ratio is kept between 1 / cap and cap. It may be large: a reconstruction is in nats of a whole example,
            and pulls some thousands of times as strongly as a verdict.
        name: of the buffer; two such terms in one plan that differ need two names.

    Raises:
        UsageError: a number outside its range, two different terms of one name, or one that never pulls at `at`.
    """

    def __init__(
        self,
        inner: Objective,
        share: float = 1.0,
        by: Objective = Reconstruction(),  # noqa: B008
        at: str = "decoder",
        every: int = 16,
        smooth: float = 0.8,
        cap: float = 1e6,
        name: str = "balance",
    ) -> None:
        sound = math.isfinite(share) and share >= 0 and every >= 1 and 0 <= smooth < 1 and 1 <= cap < math.inf
        if not sound:
            raise UsageError(
                "a balance of terms",
                f"share={share}, every={every}, smooth={smooth}, cap={cap}",
                "write share >= 0, every >= 1, smooth in [0, 1) and cap >= 1",
            )
        self.inner, self.share, self.by, self.at = inner, share, by, at
        self.every, self.smooth, self.cap, self.name = every, smooth, cap, name

    def remember(self, model: nn.Module) -> None:
        """The buffer: the sum of what was measured, the latest counting most, and the sum of what they count."""
        super().remember(model)
        known: dict[str, Balanced] = model.__dict__.setdefault("balances", {})
        other = known.setdefault(self.name, self)
        if other is not self and repr(other) != repr(self):
            found = f"{other} and {self}, both called {self.name!r}"
            raise UsageError("terms that are balanced", found, 'give one of them a name of its own: name="second"')
        if not hasattr(model, self.name):
            model.register_buffer(self.name, torch.zeros(2, device=next(model.parameters()).device))

    def losses(self, turn: Turn) -> Iterator[Loss]:
        yield from self._weighted(list(self.inner.losses(turn)), turn)

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        """The first round of a turn is measured: in later ones the draw's graph is gone."""
        for number, losses in enumerate(self.inner.rounds(turn)):
            yield self._weighted(losses, turn, measure=number == 0)

    def _weighted(self, losses: list[Loss], turn: Turn, measure: bool = True) -> list[Loss]:
        if turn.player != "generator" or not any(loss.weight for loss in losses):
            return losses
        model = turn.draw.model
        self.remember(model)
        average = getattr(model, self.name)
        if measure and (turn.step % self.every == 0 or not average[1]):
            ratio = self._ratio(losses, turn).clamp(1 / self.cap, self.cap)
            average.lerp_(torch.stack([ratio.log(), torch.ones_like(ratio)]), 1 - self.smooth)
        weight = self.share * math.exp(float(average[0] / average[1]))
        return [replace(loss, weight=weight * loss.weight) for loss in losses]

    def _ratio(self, losses: list[Loss], turn: Turn) -> Tensor:
        """|grad L_by| / |grad L| at the parameters that both reach; gradients are means over processes, as in steps."""
        parameters = turn.draw.model.networks[self.at]
        pulls = [self._pull(some, parameters) for some in (self.by.losses(turn), losses)]
        both = [pair for pair in zip(*pulls) if None not in pair]
        if not both:
            raise UsageError(
                f"{self.inner!r} balanced with {self.by!r}",
                f"not both of them pull at {self.at}",
                "write at=..., the name of a network that both move",
            )
        flat = [torch.cat([gradient.float().flatten() for gradient in side]) for side in zip(*both)]
        reference, pull = turn.mean(torch.stack(flat)).norm(dim=1)
        return reference / pull.clamp(min=torch.finfo(pull.dtype).tiny)

    def _pull(self, losses: Iterator[Loss] | list[Loss], parameters: list[nn.Parameter]) -> list[Tensor | None]:
        demands = [loss.weight * loss.value for loss in losses if self.at in loss.moves and loss.weight != 0]
        if not demands:
            return [None] * len(parameters)
        with torch.autocast(demands[0].device.type, enabled=False):
            return list(
                torch.autograd.grad(sum(demands[1:], demands[0]), parameters, retain_graph=True, allow_unused=True)
            )
