"""Terms that put something between a game and its discriminator: what it judges, real or fake, it judges through that."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from amalgan.objectives.core import Loss, Objective, Turn, Weight


class InstanceNoise(Objective):
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

    def losses(self, turn: Turn) -> Iterator[Loss]:
        yield from self.inner.losses(self._through(turn))

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        yield from self.inner.rounds(self._through(turn))

    def _through(self, turn: Turn) -> Turn:
        sigma = self.sigma(turn.progress) if callable(self.sigma) else self.sigma

        def noisy(field: str, x: Tensor) -> Tensor:
            return x + sigma * turn.draw.noise(f"instance {turn.player} {field}", tuple(x.shape))

        return turn.through(noisy) if sigma > 0 else turn
