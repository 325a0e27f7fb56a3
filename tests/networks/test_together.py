"""Discriminators that judge several examples at once: by hand, never real with fake, and no prior that they judge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amalgan import objectives as o
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.errors import UsageError
from amalgan.models import LatentModel
from amalgan.models.likelihoods import Gaussian
from amalgan.networks import images, points
from amalgan.networks.conditions import Given
from amalgan.networks.together import MinibatchDeviation, Packed, judges_alone, looks_around, pack
from amalgan.noise import Noise
from amalgan.objectives.core import Turn


class Sums(nn.Module):
    """logits = sum x, features = x."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1).sum(1), x.flatten(1)


def deviating(group: int = 4, slope: float = 1.0) -> MinibatchDeviation:
    made = MinibatchDeviation(Sums(), group)
    made.slope.data.fill_(slope)
    return made


def packed(m: int = 2, shape: tuple[int, ...] = (2,)) -> Packed:
    return Packed(lambda wide: Sums(), shape, m)


# Minibatch deviation


def test_the_deviation_of_a_group_by_hand() -> None:
    """Features (0, 1) and (2, 1): deviations 1 and 0, their mean 1/2. Of what is left over, one alone, it is 0."""
    x = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0], [5.0, 5.0], [7.0, 7.0]])
    logits, features = deviating(2, slope=4.0)(x)
    s = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0])
    assert torch.allclose(logits, x.sum(1) + 4 * s, atol=1e-3)
    assert torch.allclose(features, torch.cat([x, s[:, None]], 1), atol=1e-3)


def test_it_starts_as_the_discriminator_that_it_wraps() -> None:
    torch.manual_seed(0)
    inner, x = images.Discriminator((1, 8, 8), 4), torch.rand(6, 1, 8, 8)
    made = MinibatchDeviation(inner)
    assert torch.equal(made(x)[0], inner(x)[0])
    (slope,) = torch.autograd.grad(made(x)[0].sum(), made.slope)
    assert slope > 0


def test_verdicts_at_every_step_are_all_told() -> None:
    class Stepwise(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x[:, :, 0], x.flatten(1)

    made, x = MinibatchDeviation(Stepwise(), 2), torch.randn(4, 3, 1)
    made.slope.data.fill_(1.0)
    logits, features = made(x)
    assert torch.allclose(logits - x[:, :, 0], features[:, -1:].expand(-1, 3), atol=1e-6)


def test_shares_of_whole_groups_are_judged_as_in_the_whole_batch() -> None:
    x, made = torch.randn(16, 3), deviating()
    assert torch.equal(made(x)[0], torch.cat([made(part)[0] for part in x.split(8)]))
    assert not torch.equal(made(x)[0][:2], made(x[:2])[0])


def test_it_passes_gradients_also_where_all_are_alike() -> None:
    x = torch.ones(4, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(deviating()(x)[0].sum(), x, create_graph=True)
    assert torch.isfinite(slope).all()


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(UsageError, match="group of 2"):
        deviating(1)


# Packs


def test_packs_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    logits, features = packed()(x)
    assert logits.tolist() == [10, 26] and features.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize("m", [1, 2, 3])
def test_packs_of_images_are_stacked_along_channels(m: int) -> None:
    torch.manual_seed(0)
    made = Packed(lambda shape: images.Discriminator(shape, 4), (3, 8, 8), m)
    x = torch.rand(6, 3, 8, 8)
    logits, features = made(x)
    assert len(logits) == len(features) == 6 // m
    alone, _ = made.discriminator(torch.cat([x[i : i + 1] for i in range(m)], 1))
    assert torch.allclose(logits[:1], alone, atol=1e-6)


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 2"):
        packed()(torch.zeros(5, 2))
    with pytest.raises(UsageError, match="labels"):
        Given(packed(), torch.zeros(4, dtype=torch.long))(torch.zeros(4, 2))
    with pytest.raises(UsageError, match="images, or points"):
        packed(2, (5, 2))
    with pytest.raises(UsageError, match="1 or more"):
        packed(0)


# What the library makes of them


def test_who_looks_around() -> None:
    plain, normalised = points.Discriminator((2,)), nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    assert not looks_around(plain) and judges_alone(plain) and pack(plain) == 1
    assert looks_around(normalised) and judges_alone(normalised)  # once trained, statistics of batches are constants
    for made, m in ((deviating(), 1), (packed(3), 3), (Given(packed(3), torch.zeros(3)), 3)):
        assert looks_around(made) and not judges_alone(made) and pack(made) == m


def draw(judge: nn.Module, n: int = 6) -> Any:
    x, fake = torch.randn(2, n, 2, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(model=SimpleNamespace(discriminator=judge), x=x, fake=fake, noise=Noise(0))


@pytest.mark.parametrize("judge", [deviating(4), packed(2), packed(3)])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_real_and_fake_are_never_in_one_group(judge: nn.Module, player: str) -> None:
    """Six of each: in one pass the second group of four would hold two of each kind."""
    play = draw(judge)
    verdicts = Turn(play, player).verdicts("x", "fake")
    for verdict, x in zip(verdicts, (play.x, play.fake)):
        assert torch.equal(verdict.logits, judge(x)[0]) and torch.equal(verdict.features, judge(x)[1])


@pytest.mark.parametrize("game", o.GAMES)
def test_games_are_played_between_packs(game: str) -> None:
    play, judge = draw(packed(2)), packed(2)
    r, f = judge(play.x)[0], judge(play.fake)[0]
    for player, side in zip(("discriminator", "generator"), o.GAMES[game]):
        (loss,) = o.gan(game).losses(Turn(play, player))
        assert loss.value.item() == pytest.approx(side(r, f).mean().item())


def test_the_best_packs_teach() -> None:
    play = draw(packed(2))
    (loss,) = o.gan("wasserstein", best=0.3).losses(Turn(play, "generator"))
    assert loss.value.item() == pytest.approx(-float(packed(2)(play.fake)[0].max()))


@pytest.mark.parametrize("make", [lambda d: MinibatchDeviation(d((2,))), lambda d: Packed(d, (2,), 2)])
def test_there_is_no_prior_that_they_judge(make: Any) -> None:
    torch.manual_seed(0)
    judge = make(lambda shape: points.Discriminator(shape, 4))
    model = LatentModel(
        Spec("points", (2,)), 2, Gaussian(squash=False), points.Decoder((2,), 2, 4), discriminator=judge
    )
    split = Split(torch.randn(40, 2), None)
    model.finish(SimpleNamespace(train=split, validation=split))
    assert model.calibration is None and "calibrated" not in model.grown() and len(model.sample(3)) == 3
    with pytest.raises(UsageError, match="judges samples alone"):
        model.sample(3, prior="judged")
    with pytest.raises(UsageError, match="judges examples together"):
        model.calibrate(split)
