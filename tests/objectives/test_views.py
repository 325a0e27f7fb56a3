"""What the discriminator gets to see: noise on real and fake alike, the same whoever shares the batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amalgan import objectives as o
from amalgan.noise import Noise
from amalgan.objectives.core import Turn

N = 200_000


class Squares(nn.Module):
    """D(x) = x for power 1, x^2 for power 2."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.squeeze(1) ** self.power, x


def turn(player: str, power: int = 1, progress: float = 0.0, noise: Noise | None = None, **fields: Tensor) -> Turn:
    draw: Any = SimpleNamespace(
        model=SimpleNamespace(discriminator=Squares(power)), noise=noise or Noise(0), **fields
    )  # fmt: skip
    return Turn(draw, player, progress=progress)


def value(objective: o.Objective, at: Turn) -> float:
    (loss,) = objective.losses(at)
    return float(loss.value.detach())


@pytest.mark.parametrize("player, rise", [("discriminator", 0.5**2), ("generator", 0.5**2 / 2)])
def test_a_quadratic_game_costs_the_variance_more(player: str, rise: float) -> None:
    """E (x + e - 1)^2 / 2 = (x - 1)^2 / 2 + sigma^2 / 2, for real and fake."""
    fields = {"x": torch.full((N, 1), 0.7), "fake": torch.full((N, 1), 0.2)}
    without = value(o.gan("least-squares"), turn(player, **fields))
    through = value(o.InstanceNoise(o.gan("least-squares"), 0.5), turn(player, **fields))
    assert through - without == pytest.approx(rise, abs=0.005)


def test_penalties_judge_what_the_discriminator_sees() -> None:
    """D = x^2 has the slope 2 (x + e): its square is 4 (x^2 + sigma^2) in the mean."""
    term = o.InstanceNoise(o.ZeroCentred(2.0), 0.5)
    assert value(term, turn("discriminator", 2, x=torch.full((N, 1), 0.7))) == pytest.approx(
        4 * (0.49 + 0.25) / 2, rel=0.02
    )


def test_the_noise_falls_with_the_schedule_and_at_zero_is_none() -> None:
    term = o.InstanceNoise(o.gan("wasserstein"), o.decay(0.3))
    fields = {"x": torch.zeros(N, 1), "fake": torch.zeros(N, 1)}
    spread = [float(term._through(turn("discriminator", progress=p, **fields)).verdicts("x")[0].logits.detach().std()) for p in (0, 0.5, 1)]  # fmt: skip
    assert spread == pytest.approx([0.3, 0.15, 0], abs=2e-3)
    assert repr(term) == "InstanceNoise(inner=Adversarial(game='wasserstein'), sigma=decay)"


def test_two_processes_see_the_halves_of_what_one_sees() -> None:
    x = torch.randn(6, 1)
    whole, *halves = (
        o.InstanceNoise(o.gan())._through(turn("generator", noise=noise, x=part)).verdicts("x")[0].logits
        for noise, part in ((Noise(3, 5), x), (Noise(3, 5, 0, 2), x[:3]), (Noise(3, 5, 1, 2), x[3:]))
    )
    assert torch.equal(whole, torch.cat(halves)) and not torch.equal(whole, x.squeeze(1))


def test_views_lie_upon_each_other_and_terms_outside_do_not_look_through_them() -> None:
    at = turn("discriminator", x=torch.ones(2, 1))
    twice = at.through(lambda field, x: 2 * x).through(lambda field, x: x + 1)
    assert twice.verdicts("x")[0].logits.tolist() == [3, 3] and at.verdicts("x")[0].logits.tolist() == [1, 1]
