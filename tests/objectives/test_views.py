"""What the discriminator gets to see: noise and operations, on real and fake alike, whoever shares the batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amalgan import objectives as o
from amalgan.data import Spec
from amalgan.errors import UsageError
from amalgan.models import LatentModel
from amalgan.models.likelihoods import Gaussian
from amalgan.networks import waves
from amalgan.noise import Noise
from amalgan.objectives import views
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
    spread = [float(term.through(turn("discriminator", progress=p, **fields)).verdicts("x")[0].logits.detach().std()) for p in (0, 0.5, 1)]  # fmt: skip
    assert spread == pytest.approx([0.3, 0.15, 0], abs=2e-3)
    assert repr(term) == "InstanceNoise(inner=Adversarial(game='wasserstein'), sigma=decay)"


def test_two_processes_see_the_halves_of_what_one_sees() -> None:
    x = torch.randn(6, 1)
    whole, *halves = (
        o.InstanceNoise(o.gan()).through(turn("generator", noise=noise, x=part)).verdicts("x")[0].logits
        for noise, part in ((Noise(3, 5), x), (Noise(3, 5, 0, 2), x[:3]), (Noise(3, 5, 1, 2), x[3:]))
    )
    assert torch.equal(whole, torch.cat(halves)) and not torch.equal(whole, x.squeeze(1))


def test_views_lie_upon_each_other_and_terms_outside_do_not_look_through_them() -> None:
    at = turn("discriminator", x=torch.ones(2, 1))
    twice = at.through(lambda field, x: 2 * x).through(lambda field, x: x + 1)
    assert twice.verdicts("x")[0].logits.tolist() == [3, 3] and at.verdicts("x")[0].logits.tolist() == [1, 1]


# Differentiable augmentation: every operation by hand, with dice that fall as they are told


ALL = torch.tensor([True])


def dice(**numbers: float) -> Any:
    return lambda name: torch.tensor([numbers[name]])


def image(height: int = 8, width: int = 8, channels: int = 1) -> Tensor:
    count = channels * height * width
    return torch.arange(1, count + 1).view(1, channels, height, width) / (count + 1)


def test_translation_by_hand() -> None:
    """An eighth of 8 and of 16 px: one down, two to the left; what moves in is grey."""
    x = image(8, 16)
    y = views.translation(x, ALL, dice(down=0.99, right=0.0))
    assert torch.equal(y[..., 1:, :-2], x[..., :-1, 2:])
    assert (y[..., 0, :] == 0.5).all() and (y[..., -2:] == 0.5).all()
    assert torch.equal(views.translation(x, ALL, dice(down=0.5, right=0.5)), x)
    assert torch.equal(views.translation(x, ~ALL, dice(down=0.0, right=0.0)), x)


def test_every_translation_is_as_likely() -> None:
    shifts = views._whole(torch.linspace(0, 1, 30_001), -1, 1)
    assert shifts.min() == -1 and shifts.max() == 1  # also where the dice says 1
    assert torch.bincount(shifts + 1).tolist() == pytest.approx([10_000] * 3, abs=2)


@pytest.mark.parametrize("row, rows", [(0.0, range(0, 2)), (0.5, range(2, 6)), (1.0, range(6, 8))])
def test_cutout_by_hand(row: float, rows: range) -> None:
    """Half the side, its centre anywhere: at the edge half of it is outside."""
    x = image()
    y = views.cutout(x, ALL, dice(row=row, column=0.5))
    cut = torch.zeros(8, 8, dtype=torch.bool)
    cut[list(rows), 2:6] = True
    assert (y[0, 0][cut] == 0.5).all() and torch.equal(y[0, 0][~cut], x[0, 0][~cut])
    assert torch.equal(views.cutout(x, ~ALL, dice(row=row, column=0.5)), x)


def test_colour_by_hand() -> None:
    x = torch.tensor([0.2, 0.4, 0.9]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    still = {"brightness": 0.5, "saturation": 0.5, "contrast": 0.5}
    assert torch.allclose(views.colour(x, ALL, dice(**still)), x)
    assert torch.allclose(views.colour(x, ALL, dice(**still | {"brightness": 1.0})), x + 0.25)
    assert torch.allclose(views.colour(x, ALL, dice(**still | {"saturation": 0.0})), torch.full_like(x, 0.5))
    twice = torch.tensor([-0.1, 0.3, 1.3]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert torch.allclose(views.colour(x, ALL, dice(**still | {"saturation": 1.0})), twice)
    assert torch.allclose(views.colour(x, ALL, dice(**still | {"contrast": 0.0})), 0.5 + (x - 0.5) / 2)
    assert torch.equal(views.colour(x, ~ALL, dice(**still | {"brightness": 1.0})), x)


def test_flip_by_hand() -> None:
    x = image()
    assert torch.equal(views.flip(x, ALL, dice(side=0.2)), x.flip(3))
    assert torch.equal(views.flip(x, ALL, dice(side=0.7)), x) and torch.equal(views.flip(x, ~ALL, dice(side=0.2)), x)
    assert "flip" not in views.USUAL


@pytest.mark.parametrize("name", views.OPERATIONS)
def test_operations_pass_gradients_twice(name: str) -> None:
    x = torch.rand(3, 2, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    on = torch.tensor([True, False, True])

    def uniform(what: str) -> Tensor:
        return Noise(0).uniform(what, (3,))

    def squares(x: Tensor) -> Tensor:
        return views.OPERATIONS[name](x, on, uniform).square()

    assert torch.autograd.gradcheck(squares, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(squares, x, fast_mode=True)


class Looks(nn.Module):
    """D(x) = mean x, features all of x: what it was shown can be read off."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1).mean(1), x.flatten(1)


def seen(term: Any, x: Tensor, player: str = "discriminator", noise: Noise | None = None) -> Tensor:
    draw: Any = SimpleNamespace(model=SimpleNamespace(discriminator=Looks()), noise=noise or Noise(0), x=x)
    return term.through(Turn(draw, player)).verdicts("x")[0].features.detach()


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_each_example_with_its_own_probability(p: float) -> None:
    x = image().expand(2000, 1, 8, 8)
    changed = (seen(o.Augmented(o.gan(), p, ("colour",)), x) != x.flatten(1)).any(1).float().mean()
    assert float(changed) == pytest.approx(p, abs=0.045)  # four standard errors


def test_real_and_fake_are_done_the_same_things_as_often() -> None:
    """Of one distribution, each with dice of its own: the mean and spread of what is seen agree, the pictures do not."""
    x = image().expand(2000, 1, 8, 8)
    draw: Any = SimpleNamespace(model=SimpleNamespace(discriminator=Looks()), noise=Noise(0), x=x, fake=x)
    real, fake = o.Augmented(o.gan()).through(Turn(draw, "discriminator")).verdicts("x", "fake")
    assert not torch.equal(real.features, fake.features)
    assert torch.allclose(real.features.mean(0), fake.features.mean(0), atol=0.03)
    assert torch.allclose(real.features.std(0), fake.features.std(0), atol=0.03)


def test_two_processes_augment_the_halves_of_what_one_does() -> None:
    x, term = torch.rand(6, 1, 8, 8), o.Augmented(o.gan(), 0.7)
    whole, *halves = (
        seen(term, part, noise=noise)
        for noise, part in ((Noise(3, 5), x), (Noise(3, 5, 0, 2), x[:3]), (Noise(3, 5, 1, 2), x[3:]))
    )
    assert torch.equal(whole, torch.cat(halves)) and not torch.equal(whole, x.flatten(1))


def test_points_and_unknown_operations_are_refused() -> None:
    with pytest.raises(UsageError, match="instance noise"):
        seen(o.Augmented(o.gan()), torch.zeros(3, 2))
    with pytest.raises(UsageError, match="colour"):
        o.Augmented(o.gan(), operations=("rotation",))
    with pytest.raises(UsageError, match="colour"):
        o.Augmented(o.gan(), operations=())
    with pytest.raises(UsageError, match="probability"):
        o.Augmented(o.gan(), 1.5)
    with pytest.raises(UsageError, match="target"):
        o.Adaptive(o.gan(), target=1.0)


# The adaptive kind


def model() -> LatentModel:
    return LatentModel(Spec("images", (1, 8, 8)), 1, Gaussian(), nn.Linear(1, 64), discriminator=Looks())


def shown(term: o.Objective, of: LatentModel, level: Tensor, player: str = "discriminator", **more: Any) -> float:
    """p after a turn on images of those levels, which are their verdicts."""
    draw: Any = SimpleNamespace(model=of, noise=Noise(0), x=level.view(-1, 1, 1, 1).expand(-1, 1, 8, 8), fake=torch.zeros(len(level), 1, 8, 8))  # fmt: skip
    at = Turn(draw, player, **more)
    list(term.losses(at))
    return float(of.augmentation)


def test_p_rises_while_verdicts_are_certain_and_falls_after() -> None:
    of = model()
    term = o.Adaptive(o.gan("hinge"), examples=100, operations=("flip",))
    term.remember(of)
    sure, unsure = torch.ones(10), torch.tensor([1.0] * 7 + [-1.0] * 3)  # mean signs 1 and 0.4
    assert [shown(term, of, sure) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert shown(term, of, sure, "generator") == pytest.approx(0.3)  # p moves on the discriminator's turn alone
    assert shown(term, of, unsure) == pytest.approx(0.2)
    assert shown(term, of, sure, virtual=True) == pytest.approx(0.2)  # an imagined turn is not remembered
    assert [shown(term, of, unsure) for _ in range(4)] == pytest.approx([0.1, 0.0, 0.0, 0.0], abs=1e-6)
    assert max(shown(term, of, sure) for _ in range(15)) == 1.0


def test_verdicts_that_drift_together_are_compared_with_each_other() -> None:
    """Samples are black, so their verdicts are 0 in each game; data's are 5 +- 1, all above, or 0 +- 1, half of them."""
    of = model()
    term = o.Adaptive(o.gan(), examples=100, operations=("flip",), beside=("fake",))
    term.remember(of)
    spread = torch.tensor([-1.0, 1.0] * 5)
    assert shown(term, of, 5 + spread) == pytest.approx(0.1)
    assert shown(term, of, spread) == pytest.approx(0.0, abs=1e-6)
    of.augmentation.fill_(0.5)
    drifted: Any = SimpleNamespace(model=of, noise=Noise(0), x=torch.ones(10, 1, 8, 8), fake=torch.ones(10, 1, 8, 8))
    list(term.losses(Turn(drifted, "discriminator")))  # both at 1: certain by sign, but nothing is told apart
    assert float(of.augmentation) == pytest.approx(0.4)


def test_processes_move_p_alike_by_the_verdicts_of_all() -> None:
    """Ours alone are certain; those of all are not. Both halves of the batch have been shown."""
    of = model()
    term = o.Adaptive(o.gan("hinge"), examples=100, operations=("flip",))
    term.remember(of)
    of.augmentation.fill_(0.5)
    draw: Any = SimpleNamespace(
        model=of, noise=Noise(0, 0, 0, 2), x=torch.ones(5, 1, 8, 8), fake=torch.zeros(5, 1, 8, 8)
    )
    list(term.losses(Turn(draw, "discriminator", mean=lambda value: (value - 1) / 2)))
    assert float(of.augmentation) == pytest.approx(0.4)


def test_p_is_saved_with_the_model() -> None:
    of = model()
    (o.vae() + 0.1 * o.Adaptive(o.gan())).remember(of)
    assert of.state_dict()["augmentation"] == 0.0


# Maps of waves, moved in time


class Listening(waves.Discriminator):
    """Notes the shifts of every pass."""

    def __init__(self) -> None:
        super().__init__((1, 1024), 1)
        self.heard: list[list[Tensor]] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.heard.append([layer.shifts for layer in waves.shuffles(self)])  # type: ignore[misc]
        return x[:, 0, 0], x


def shifts_of(player: str, count: int, noise: Noise, n: int = 2) -> list[list[Tensor]]:
    """Of every pass in a turn of the Wasserstein game with its penalty: (fields * count,) for each layer."""
    judge = Listening()
    fields = {"x": torch.zeros(count, 1, 1024), "fake": torch.zeros(count, 1, 1024)}
    draw: Any = SimpleNamespace(model=SimpleNamespace(discriminator=judge), noise=noise, **fields)
    list(o.PhaseShuffled(o.gan("wasserstein") + o.OneCentred(), n).losses(Turn(draw, player)))
    judge(fields["x"])
    assert judge.heard.pop() == [None, None], "outside of the term nothing is moved"
    return judge.heard


def test_shifts_are_even_and_drawn_anew_for_each_example_layer_and_pass() -> None:
    passes = shifts_of("discriminator", 4000, Noise(3, 1))
    assert [[len(by) for by in layers] for layers in passes] == [[8000, 8000], [4000, 4000]]  # real and fake; between
    drawn = [part for layers in passes for by in layers for part in by.split(4000)]
    drawn += [by for layers in shifts_of("generator", 4000, Noise(3, 1)) for by in layers]
    for by in drawn:
        shares = torch.bincount(by + 2, minlength=5) / 4000
        assert len(shares) == 5 and (shares - 0.2).abs().max() < 0.03  # nearly five standard errors
    for i, one in enumerate(drawn):
        assert all((one == other).float().mean() < 0.3 for other in drawn[:i])
    assert {int(by) for by in shifts_of("generator", 200, Noise(0), n=1)[0][0]} == {-1, 0, 1}


def test_shifts_are_a_function_of_seed_and_draw_and_are_shared_out() -> None:
    whole, again, later = (shifts_of("discriminator", 6, noise) for noise in (Noise(3, 1), Noise(3, 1), Noise(3, 2)))
    same = [torch.equal(a, b) for one, other in zip(whole, again) for a, b in zip(one, other)]
    assert all(same) and not torch.equal(whole[0][0], later[0][0])
    shares = [shifts_of("discriminator", 3, Noise(3, 1, rank, 2)) for rank in (0, 1)]
    for at, layers in enumerate(whole):
        for layer, by in enumerate(layers):
            mine = [share[at][layer].split(3) for share in shares]
            assert torch.equal(by, torch.cat([part for parts in zip(*mine) for part in parts]))


def test_phase_shuffle_is_for_waves() -> None:
    with pytest.raises(UsageError, match="without maps of waves"):
        value(o.PhaseShuffled(o.gan()), turn("generator", x=torch.zeros(2, 1), fake=torch.zeros(2, 1)))
    with pytest.raises(UsageError, match="n=-1"):
        o.PhaseShuffled(o.gan(), -1)
