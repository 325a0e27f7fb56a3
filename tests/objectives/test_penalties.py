"""Penalties on a linear critic by hand, on a curved one against finite differences, and lazily on average."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amalgan import objectives as o
from amalgan.networks.together import Packed
from amalgan.noise import Noise
from amalgan.objectives.core import Loss, Turn


def r1(gamma: float = 1.0, every: int = 1) -> o.Objective:
    return o.ZeroCentred(gamma, ("x",), every)


def r1_r2(gamma: float = 1.0, every: int = 1) -> o.Objective:
    return o.ZeroCentred(gamma, ("x", "fake"), every)


class Linear(nn.Module):
    """D(x) = w . x, of slope w everywhere."""

    def __init__(self, *slope: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(slope))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1) @ self.w, x


class Curved(nn.Module):
    """D(x) = sum tanh(A x)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(x @ self.a.T).sum(1), x


def losses(objective: o.Objective, critic: nn.Module, step: int = 0, player: str = "discriminator") -> list[Loss]:
    source = torch.Generator().manual_seed(1)
    size = 2 if isinstance(critic, Linear) else 3
    x, fake, reconstruction = (torch.randn(7, size, generator=source) for _ in range(3))
    uniform = torch.rand(7, generator=source)
    draw: Any = SimpleNamespace(
        model=SimpleNamespace(discriminator=critic), x=x, fake=fake, reconstruction=reconstruction,
        noise=SimpleNamespace(uniform=lambda name, shape: uniform),
    )  # fmt: skip
    return list(objective.losses(Turn(draw, player, step)))


@pytest.mark.parametrize(
    "objective, expected",
    [
        (r1(1.0), 12.5),  # |(3, 4)|^2 / 2
        (r1_r2(1.0), 25.0),  # the same at the fakes
        (o.ZeroCentred(1.0, ("x", "fake", "reconstruction")), 25.0),  # two fakes count as one
        (o.ZeroCentred(1.0, ("fake",)), 12.5),  # R2 alone
        (o.OneCentred(1.0), 16.0),  # (5 - 1)^2
        (o.OneCentred(1.0, one_sided=True), 16.0),  # above 1 the same
    ],
)
def test_on_a_linear_critic_by_hand(objective: o.Objective, expected: float) -> None:
    critic = Linear(3.0, 4.0)
    (loss,) = losses(objective, critic)
    assert loss.value.item() == pytest.approx(expected) and loss.moves == ("discriminator",)
    (slope,) = torch.autograd.grad(loss.weight * loss.value, critic.w)
    # d/dw of k |w|^2 / 2 is k w; of (|w| - 1)^2 it is 2 (|w| - 1) w / |w|
    by_hand = 8 / 5 if expected == 16.0 else expected / 12.5
    assert torch.allclose(slope, by_hand * critic.w)


def test_penalties_are_zero_where_theory_says_so() -> None:
    assert losses(r1_r2(), Linear(0.0, 0.0))[0].value.item() == 0.0
    assert losses(o.OneCentred(), Linear(0.6, 0.8))[0].value.item() == pytest.approx(0.0, abs=1e-10)


def test_from_one_side_a_slope_below_one_costs_nothing() -> None:
    critic = Linear(0.3, 0.4)
    assert losses(o.OneCentred(1.0), critic)[0].value.item() == pytest.approx(0.25)
    (loss,) = losses(o.OneCentred(1.0, one_sided=True), critic)
    assert loss.value.item() == 0.0 and not torch.autograd.grad(loss.value, critic.w)[0].any()


def test_a_flat_critic_does_not_poison_the_weights() -> None:
    critic = Linear(0.0, 0.0)
    (loss,) = losses(o.OneCentred(), critic)
    assert loss.value.item() == pytest.approx(1.0, abs=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss.value, critic.w)[0]).all()


@pytest.mark.parametrize("objective", [r1(2.0), r1_r2(2.0), o.OneCentred(10.0), o.OneCentred(10.0, one_sided=True)])
def test_on_a_curved_critic_against_finite_differences(objective: o.Objective) -> None:
    """The value from slopes by central differences, and its derivative by the critic's weights likewise."""
    critic = Curved().double()
    source = torch.Generator().manual_seed(1)
    x, fake, _ = (torch.randn(7, 3, generator=source) for _ in range(3))
    share = torch.rand(7, generator=source)[:, None]

    def slope(points: Tensor) -> Tensor:
        eye = 1e-5 * torch.eye(3, dtype=torch.float64)
        points = points.double()
        return torch.stack([(critic(points + e)[0] - critic(points - e)[0]) / 2e-5 for e in eye], 1).square().sum(1)

    def value() -> float:
        with torch.no_grad():
            if isinstance(objective, o.OneCentred):
                beyond = slope(share * x + (1 - share) * fake).sqrt() - 1
                return float((beyond.clamp(min=0) if objective.one_sided else beyond).square().mean())
            assert isinstance(objective, o.ZeroCentred)
            return float(sum(slope(at).mean() for at in (x, fake)[: len(objective.on)]) / 2)

    (loss,) = _double(objective, critic, x, fake, share)
    assert loss.value.item() == pytest.approx(value(), rel=1e-5)
    (by_weights,) = torch.autograd.grad(loss.value, critic.a)
    with torch.no_grad():
        critic.a[0, 0] += 1e-4
        above = value()
        critic.a[0, 0] -= 2e-4
        below = value()
        critic.a[0, 0] += 1e-4
    assert by_weights[0, 0].item() == pytest.approx((above - below) / 2e-4, rel=1e-3)


def _double(objective: o.Objective, critic: nn.Module, x: Tensor, fake: Tensor, share: Tensor) -> list[Loss]:
    draw: Any = SimpleNamespace(
        model=SimpleNamespace(discriminator=critic), x=x.double(), fake=fake.double(),
        noise=SimpleNamespace(uniform=lambda name, shape: share.double().squeeze(1)),
    )  # fmt: skip
    return list(objective.losses(Turn(draw, "discriminator")))


@pytest.mark.parametrize("make", [r1, r1_r2, o.OneCentred])
@pytest.mark.parametrize("every", [1, 3, 8])
def test_lazily_but_the_same_on_average(make: Any, every: int) -> None:
    steps = [losses(make(gamma=2.0, every=every), Linear(3.0, 4.0), step) for step in range(24)]
    assert [bool(found) for found in steps] == [step % every == 0 for step in range(24)]
    mean = sum(loss.weight * loss.value.item() for found in steps for loss in found) / 24
    (eager,) = losses(make(gamma=2.0), Linear(3.0, 4.0))
    assert mean == pytest.approx(eager.weight * eager.value.item())


@pytest.mark.parametrize("make", [r1, r1_r2, o.OneCentred])
def test_the_generator_is_not_asked(make: Any) -> None:
    assert losses(make(), Linear(3.0, 4.0), player="generator") == []


def test_the_critic_is_judged_between_the_two_ends() -> None:
    seen: list[Tensor] = []

    class Watched(Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(x.detach())
            return super().forward(x)

    losses(o.OneCentred(), Watched(1.0, 1.0))
    source = torch.Generator().manual_seed(1)
    x, fake, _ = (torch.randn(7, 2, generator=source) for _ in range(3))
    share = torch.rand(7, generator=source)[:, None]
    assert torch.allclose(seen[0], fake + share * (x - fake), atol=1e-6)


# Packs: D(x_1, x_2) = a . x_1 + b . x_2 has the slope (a, b), whatever the batch


PAIRS = [  # |(1, 2, 2, 4)|^2 = 25
    (r1(1.0), 12.5),
    (r1_r2(1.0), 25.0),
    (o.OneCentred(1.0), 16.0),
]


@pytest.mark.parametrize("objective, expected", PAIRS)
def test_the_slope_of_a_pack_is_by_all_of_it(objective: o.Objective, expected: float) -> None:
    critic = Packed(lambda shape: Linear(1.0, 2.0, 2.0, 4.0), (2,), 2)
    (loss,) = objective.losses(Turn(of_six(critic), "discriminator"))
    assert loss.value.item() == pytest.approx(expected)


def of_six(critic: nn.Module) -> Any:
    x, fake = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(model=SimpleNamespace(discriminator=critic), x=x, fake=fake, noise=Noise(0))


def test_the_line_is_between_packs() -> None:
    """One share for all of a pack: its points are share x + (1 - share) fake."""
    seen: list[Tensor] = []

    class Watched(Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(x.detach().view(3, 2, 2))
            return super().forward(x)

    draw = of_six(Packed(lambda shape: Watched(1.0, 2.0, 2.0, 4.0), (2,), 2))
    list(o.OneCentred().losses(Turn(draw, "discriminator")))
    shares = ((seen[0] - draw.fake.view(3, 2, 2)) / (draw.x - draw.fake).view(3, 2, 2)).flatten(1)
    assert torch.allclose(shares, shares[:, :1].expand(-1, 4), atol=1e-4) and shares[:, 0].unique().numel() == 3
