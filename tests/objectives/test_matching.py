"""Feature matching, historical averaging and unrolling: by hand, against autograd, and in exact shares of a batch."""

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
from amalgan.networks.normalise import spectral
from amalgan.networks.points import Decoder, Discriminator
from amalgan.noise import Noise
from amalgan.objectives.core import Turn


class Straight(nn.Module):
    """D(x) = w . x, features x."""

    def __init__(self, *slope: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(slope))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ self.w, x


def turn(player: str = "generator", judge: nn.Module | None = None, **fields: Any) -> Turn:
    draw: Any = SimpleNamespace(
        model=SimpleNamespace(discriminator=judge or Straight(1.0, 2.0)), noise=Noise(0), **fields
    )
    return Turn(draw, player)


# Feature matching

X, FAKE = torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, 4.0]])  # means (2, 1), (0, 2)


def test_feature_matching_by_hand() -> None:
    fake = FAKE.clone().requires_grad_()
    (loss,) = o.FeatureMatching().losses(turn(x=X, fake=fake))
    assert loss.value.item() == pytest.approx(4 + 1) and loss.moves == ("decoder",)
    (slope,) = torch.autograd.grad(loss.value, fake)
    assert torch.allclose(slope, torch.tensor([[-2.0, 1.0]] * 2))  # 2 (mean - mean) / 2 examples
    same = turn(x=X, fake=X.flip(0))
    assert [loss.value.item() for loss in o.FeatureMatching().losses(same)] == [0.0]
    assert list(o.FeatureMatching().losses(turn("discriminator", x=X, fake=FAKE))) == []
    both = turn(x=X, fake=FAKE, reconstruction=X)
    (loss,) = o.FeatureMatching(("fake", "reconstruction")).losses(both)
    assert loss.value.item() == pytest.approx(2.5)


def test_features_are_matched_over_the_whole_batch() -> None:
    """Two processes: the mean of values is |M|^2 and the mean of slopes its gradient, not the sum of |m|^2."""
    source = torch.Generator().manual_seed(0)
    x, fake = torch.randn(2, 6, 2, generator=source)
    fake.requires_grad_()
    (whole,) = o.FeatureMatching().losses(turn(x=x, fake=fake))
    mean = (fake.mean(0) - x.mean(0)).detach()
    halves = []
    for part in (slice(0, 3), slice(3, 6)):
        at = turn(x=x[part], fake=fake[part])
        at.mean = lambda value: mean
        halves += [loss.value for loss in o.FeatureMatching().losses(at)]
    shared = torch.stack(halves).mean()
    assert shared.item() == pytest.approx(whole.value.item(), rel=1e-5)
    assert torch.allclose(*(torch.autograd.grad(value, fake)[0] for value in (shared, whole.value)), atol=1e-6)


# Historical averaging


def latent_model() -> LatentModel:
    torch.manual_seed(0)
    return LatentModel(
        Spec("points", (2,)), 2, Gaussian(squash=False), Decoder((2,), 2, 5), discriminator=Discriminator((2,), 5)
    )


@pytest.mark.parametrize("network, player", [("decoder", "generator"), ("discriminator", "discriminator")])
def test_historical_averaging_by_hand(network: str, player: str) -> None:
    """theta = 1, 3, 5 everywhere has the means 1, 2, 3: squares 0, 1, 4 of n weights, slopes 2 (theta - mean)."""
    model = latent_model()
    term = o.HistoricalAveraging(0.5, network)
    term.remember(model)
    weights = model.networks[network]
    n = sum(weight.numel() for weight in weights)
    other = "generator" if player == "discriminator" else "discriminator"
    for theta, square in ((1.0, 0.0), (3.0, 1.0), (5.0, 4.0)):
        with torch.no_grad():
            for weight in weights:
                weight.fill_(theta)
        draw: Any = SimpleNamespace(model=model)
        assert list(term.losses(Turn(draw, other))) == [] and list(term.losses(Turn(draw, player, virtual=True))) == []
        (loss,) = term.losses(Turn(draw, player))
        assert loss.value.item() == pytest.approx(n * square) and (loss.weight, loss.moves) == (0.5, (network,))
        slopes = torch.autograd.grad(loss.value, weights)
        assert all(torch.allclose(slope, torch.full_like(slope, 2 * square**0.5)) for slope in slopes)
    state = model.state_dict()
    assert state[f"history_{network}_turns"] == 3 and (state[f"history_{network}_0"] == 3).all()
    assert not any(name.startswith("history") for name, _ in model.named_parameters())


def test_a_network_that_is_not_there_has_no_history() -> None:
    with pytest.raises(UsageError, match="decoder, discriminator"):
        o.HistoricalAveraging(network="encoder").remember(latent_model())


# Unrolling


def test_a_linear_critic_unrolled_by_hand() -> None:
    """L_D = w . (F - X) for means F, X: w_k = w - k lr (F - X); L_G = -w_k . F, slope by F: -w_k + k lr F."""
    fake = FAKE.clone().requires_grad_()
    (loss,) = o.Unrolled(o.gan("wasserstein"), k=3, lr=0.1).losses(turn(x=X, fake=fake))
    w, real, made = torch.tensor([1.0, 2.0]), X.mean(0), FAKE.mean(0)
    ahead = w - 3 * 0.1 * (made - real)
    assert loss.value.item() == pytest.approx(float(-ahead @ made)) and loss.moves == ("decoder",)
    (slope,) = torch.autograd.grad(loss.value, fake)
    assert torch.allclose(slope, ((-ahead + 0.3 * made) / 2).expand(2, 2))


def networks(judge: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(1)
    made: nn.Module = nn.Linear(2, 2)
    plain = Discriminator((2,), 6).double()
    for unit in list(plain.trunk):
        if isinstance(unit, nn.ReLU):
            plain.trunk[list(plain.trunk).index(unit)] = nn.Tanh()
    return made.double(), spectral(
        plain
    ).eval() if judge == "spectral" else plain  # in training, its norms are followed


GAMES = {
    "non-saturating": o.gan("non-saturating"),
    "relativistic": o.gan(),
    "penalised": o.gan("hinge") + o.ZeroCentred(0.5, ("x", "fake")) + o.OneCentred(0.3),
}


@pytest.mark.parametrize("judge", ["plain", "spectral"])
@pytest.mark.parametrize("game", GAMES)
def test_unrolling_against_finite_differences(game: str, judge: str) -> None:
    """The generator's gradient through k steps of the discriminator, its penalties included."""
    maker, critic = networks(judge)
    source = torch.Generator().manual_seed(2)
    x, z = torch.randn(2, 5, 2, generator=source, dtype=torch.float64)

    def value() -> Tensor:
        draw: Any = SimpleNamespace(
            model=SimpleNamespace(discriminator=critic), noise=Noise(0), x=x, fake=maker(z), reconstruction=None
        )
        (loss,) = o.Unrolled(GAMES[game], k=3, lr=0.2).losses(Turn(draw, "generator"))
        return loss.value

    (slope,) = torch.autograd.grad(value(), [maker.weight])  # type: ignore[list-item]
    for index in ((0, 0), (1, 0)):
        sides = []
        for by in (1e-3, -2e-3):
            with torch.no_grad():
                maker.weight[index] += by  # type: ignore[index]
            sides.append(value().item())
        with torch.no_grad():
            maker.weight[index] += 1e-3  # type: ignore[index]
        assert slope[index].item() == pytest.approx((sides[0] - sides[1]) / 2e-3, rel=2e-3)


def test_imagined_steps_leave_the_state_of_the_discriminator_as_it_was() -> None:
    critic = nn.Sequential(nn.BatchNorm1d(2), spectral(nn.Linear(2, 2)), Straight(1.0, 2.0)).train()
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    (loss,) = o.Unrolled(o.gan("hinge"), k=3).losses(turn(judge=critic, x=X, fake=FAKE.clone().requires_grad_()))
    assert torch.isfinite(loss.value)
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    assert all(p.grad is None for p in critic.parameters())


def test_no_steps_are_the_game_itself() -> None:
    for player in ("generator", "discriminator"):
        at = [turn(player, x=X, fake=FAKE.clone().requires_grad_()) for _ in range(2)]
        plain, unrolled = o.gan().losses(at[0]), o.Unrolled(o.gan(), k=0).losses(at[1])
        assert [loss.value.item() for loss in plain] == [loss.value.item() for loss in unrolled]
    ahead = turn("discriminator", x=X, fake=FAKE)
    (loss,) = o.Unrolled(o.gan(), k=4).losses(ahead)
    assert loss.value.item() == next(iter(o.gan().losses(turn("discriminator", x=X, fake=FAKE)))).value.item()


def test_a_discriminator_that_rests_is_not_unrolled() -> None:
    gated = o.Unrolled(o.Equilibrium(o.gan("minimax"), centre=9.0, margin=0.1), k=2)  # always wins clearly
    fake = FAKE.clone().requires_grad_()
    (loss,) = gated.losses(turn(x=X, fake=fake))
    (plain,) = o.gan("minimax").losses(turn(x=X, fake=fake))
    assert loss.value.item() == plain.value.item()


@pytest.mark.parametrize("arguments", [{"k": -1}, {"lr": -0.1}, {"lr": float("nan")}])
def test_steps_forward_alone(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="k >= 0"):
        o.Unrolled(o.gan(), **arguments)
