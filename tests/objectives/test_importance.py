"""The importance weighted bound: exact where the posterior is, the ELBO at k = 1, tighter as k grows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from amalgan import objectives as o
from amalgan.data import Spec
from amalgan.errors import UsageError
from amalgan.models import LatentModel
from amalgan.models.likelihoods import Gaussian
from amalgan.noise import Noise
from amalgan.objectives.core import Turn

VARIANCE = 0.25  # of x given z; with p(z) = N(0, 1), x ~ N(0, 1 + VARIANCE)


class Posterior(nn.Module):
    """mean = slope x, one variance for all: exact at slope 1 / (1 + v), variance v / (1 + v)."""

    def __init__(self, slope: float, variance: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.variance = variance

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.slope * x, torch.full_like(x, math.log(self.variance))], 1)


def bound(k: int, slope: float, variance: float, n: int = 4) -> tuple[float, Tensor]:
    model = LatentModel(
        Spec("points", (1,)), 1, Gaussian(VARIANCE, squash=False), nn.Identity(), Posterior(slope, variance)
    )
    x = torch.linspace(-1, 2, n)[:, None]
    (loss,) = o.importance_weighted(k).losses(Turn(model.draw(x, None, Noise(0)), "generator"))
    assert (loss.name, loss.moves) == ("importance", ("encoder", "decoder"))
    return loss.value.item(), x


@pytest.mark.parametrize("k", [1, 7])
def test_with_the_exact_posterior_it_is_the_negative_log_likelihood(k: int) -> None:
    value, x = bound(k, 1 / (1 + VARIANCE), VARIANCE / (1 + VARIANCE))
    total = 1 + VARIANCE
    assert value == pytest.approx(float((x**2 / (2 * total) + 0.5 * math.log(2 * math.pi * total)).mean()), rel=1e-5)


def test_with_a_wrong_posterior_it_is_the_elbo_at_one_and_tightens_with_k() -> None:
    n, v, s = 20_000, VARIANCE, 0.3
    one, x = bound(1, 0.0, s, n)
    # z ~ N(0, s): E (x - z)^2 / 2v + log(2 pi v) / 2 + KL(N(0, s) || N(0, 1))
    elbo = float(((x**2 + s) / (2 * v)).mean()) + 0.5 * math.log(2 * math.pi * v) + 0.5 * (s - 1 - math.log(s))
    assert one == pytest.approx(elbo, rel=0.02)
    exact = float((x**2 / (2 * (1 + v))).mean()) + 0.5 * math.log(2 * math.pi * (1 + v))
    five, fifty = bound(5, 0.0, s, n)[0], bound(50, 0.0, s, n)[0]
    assert exact < fifty < five < one


def test_the_discriminator_is_asked_nothing_and_k_must_be_positive() -> None:
    assert list(o.importance_weighted(2).losses(Turn(None, "discriminator"))) == []  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        o.importance_weighted(0)
