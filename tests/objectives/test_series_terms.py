"""Verdicts at every step, and TimeGAN's terms: numbers worked out by hand, and gradients of a batch that is shared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amalgan import objectives as o
from amalgan.noise import Noise
from amalgan.objectives.core import Turn
from amalgan.objectives.timegan import root


class Stepwise(nn.Module):
    """D_t(x) = a x_t: logits (B, T)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 3.0 * x[:, :, 0], x.flatten(1)


def turn(player: str, **fields: Any) -> Turn:
    draw = SimpleNamespace(model=SimpleNamespace(discriminator=Stepwise()), **fields)
    return Turn(draw, player)  # type: ignore[arg-type]


X, FAKE = torch.tensor([[[0.1], [0.2]], [[0.3], [0.4]]]), torch.tensor([[[0.9], [0.5]], [[0.0], [1.0]]])


@pytest.mark.parametrize("game", o.GAMES)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_losses_are_averaged_over_steps_and_examples(game: str, player: str) -> None:
    play = o.GAMES[game][player == "generator"]
    (loss,) = o.gan(game).losses(turn(player, x=X, fake=FAKE))
    each = [float(play(3 * X[b, t, 0], 3 * FAKE[b, t, 0])) for b in range(2) for t in range(2)]
    assert float(loss.value.detach()) == pytest.approx(sum(each) / 4, rel=1e-6)


def test_the_slope_is_that_of_the_mean_verdict() -> None:
    """D = mean of 3 x_1 and 3 x_2 has the slope (1.5, 1.5)."""
    (loss,) = o.ZeroCentred(2.0).losses(turn("discriminator", x=X))
    assert float(loss.value.detach()) == pytest.approx((1.5**2 + 1.5**2) / 2)
    (loss,) = o.OneCentred().losses(turn("discriminator", x=X, fake=FAKE, noise=Noise(0, 0)))
    assert float(loss.value.detach()) == pytest.approx((4.5**0.5 - 1) ** 2, rel=1e-5)


def test_terms_of_timegan_by_hand() -> None:
    codes, ahead = torch.tensor([[[0.0], [0.5]]]), torch.tensor([[[0.2], [0.9]]])
    of = turn("generator", x=codes, ahead=ahead, data=X, recovered=X + 0.25, sample=X * 2 + 1)
    named = {
        loss.name: float(loss.value.detach())
        for term in (o.Recovery(), o.Supervision(), o.Supervision(("embedder",), rooted=False), o.Moments())
        for loss in term.losses(of)
    }
    assert named["recovery"] == pytest.approx(0.25)
    assert named["supervision"] == pytest.approx(0.3) and named["predictability"] == pytest.approx(0.09)
    # at each step data 0.1 apart from their mean on both sides: 0.1 and 0.2; means 0.2, 0.3 and 1.4, 1.6
    assert named["moments"] == pytest.approx(0.1 + 1.25, abs=1e-4)


@pytest.mark.parametrize("below, weight", [(0.15, 1.0), (9.0, 0.0)])
def test_a_discriminator_that_loses_little_rests_and_is_watched(below: float, weight: float) -> None:
    (loss,) = o.Rest(o.gan("non-saturating"), below).losses(turn("discriminator", x=X, fake=FAKE))
    assert loss.weight == weight and float(loss.value.detach()) > 0
    (loss,) = o.Rest(o.gan("non-saturating"), below).losses(turn("generator", x=X, fake=FAKE))
    assert loss.weight == 1.0


def test_two_processes_have_the_root_of_the_whole_batch_and_its_gradient() -> None:
    """The mean of what both yield, where each is told the mean square of both; `law_six` has the whole of TimeGAN."""
    scale, noise = torch.tensor(0.7, requires_grad=True), torch.tensor([0.1, 0.4, 0.3, 0.9])
    squares = [(scale * part).square().mean() for part in noise.split(2)]
    told = turn("generator")
    told.mean = lambda value: (squares[0] + squares[1]).detach() / 2
    value = (root(squares[0], told) + root(squares[1], told)) / 2
    whole = (scale * noise).square().mean().sqrt()
    assert float(value.detach()) == pytest.approx(float(whole.detach()))
    found, expected = (torch.autograd.grad(v, scale, retain_graph=True)[0] for v in (value, whole))
    assert float(found) == pytest.approx(float(expected))


def test_a_root_is_a_root() -> None:
    square = torch.tensor(0.09, requires_grad=True)
    value = root(square, turn("generator"))
    assert float(value.detach()) == pytest.approx(0.3)
    assert float(torch.autograd.grad(value, square)[0]) == pytest.approx(1 / 0.6)
