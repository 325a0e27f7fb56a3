"""Reconstruction and KL: zero or known, and free bits."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from amalgan import objectives as o
from amalgan.errors import UsageError
from amalgan.models.posteriors import GaussianPosterior, PointPosterior
from amalgan.models.priors import StandardNormal
from amalgan.objectives.core import Loss, Turn


def losses(objective: o.Objective, mean: Tensor, log_variance: Tensor, player: str = "generator") -> list[Loss]:
    posterior = GaussianPosterior(torch.cat([mean, log_variance], 1))
    draw = SimpleNamespace(posterior=posterior, log_likelihood=torch.tensor([-3.0, -5.0]), model=None, x=None)
    return list(objective.losses(Turn(draw, player)))


def test_kl_of_the_prior_from_itself_is_zero() -> None:
    (loss,) = losses(o.KL(), torch.zeros(2, 3), torch.zeros(2, 3))
    assert loss.value.item() == 0.0 and loss.name == "kl" and loss.moves == ("encoder", "decoder")


def test_kl_by_hand() -> None:
    # mu = 1, sigma = 1: 1/2 each; mu = 0, sigma^2 = 4: (4 - 1 - log 4) / 2
    (loss,) = losses(o.KL(), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 4.0]]).log1p().repeat(2, 1))
    sigma2 = 5.0  # log1p(4)
    assert loss.value.item() == pytest.approx(0.5 + (sigma2 - 1 - torch.tensor(sigma2).log().item()) / 2, rel=1e-6)


def test_reconstruction_is_minus_the_mean_log_likelihood() -> None:
    (loss,) = losses(o.ae(), torch.zeros(2, 1), torch.zeros(2, 1))
    assert loss.value.item() == 4.0 and loss.weight == 1.0


def test_the_vae_is_the_sum_with_beta() -> None:
    both = losses(o.vae(4.0), torch.ones(2, 2), torch.zeros(2, 2))
    assert [(loss.name, loss.value.item(), loss.weight) for loss in both] == [
        ("reconstruction", 4.0, 1.0),
        ("kl", 1.0, 4.0),
    ]


@pytest.mark.parametrize("objective", [o.ae(), o.vae(), o.vae(2.0, 0.5), o.Capacity(3.0), o.SampledKL()])
def test_nothing_is_asked_of_a_discriminator(objective: o.Objective) -> None:
    assert losses(objective, torch.zeros(2, 1), torch.zeros(2, 1), "discriminator") == []


def test_free_bits_are_free_per_dimension_and_on_the_mean_over_the_batch() -> None:
    # KL per dimension = mu^2 / 2: means over the batch 0.5 (one example at 0, one at 1) and 0.02
    mean = torch.tensor([[0.0, 0.2], [2**0.5, 0.2]], requires_grad=True)
    (loss,) = losses(o.KL(free_bits=0.3), mean, torch.zeros(2, 2))
    assert loss.value.item() == pytest.approx(0.5 + 0.3)
    (slope,) = torch.autograd.grad(loss.value, mean)
    assert slope[:, 1].abs().max() == 0.0  # below lambda nothing pulls
    assert slope[1, 0].item() == pytest.approx(2**0.5 / 2) and slope[0, 0].item() == 0.0
    (loss,) = losses(o.KL(), mean, torch.zeros(2, 2))
    assert loss.value.item() == pytest.approx(0.52)


def test_free_bits_go_by_the_mean_over_processes() -> None:
    """Our half lies below lambda, the mean over both halves above: we pay our half, so that the sum is right."""
    posterior = GaussianPosterior(torch.tensor([[0.2, 0.0]]))
    turn = Turn(SimpleNamespace(posterior=posterior), "generator", mean=lambda value: (value + 1.0) / 2)
    (loss,) = o.KL(free_bits=0.3).losses(turn)
    assert loss.value.item() == pytest.approx(0.02)


# A weight for each dimension


def test_every_dimension_has_its_weight() -> None:
    # KL per dimension: 1/2, 2 and 0
    mean = torch.tensor([[1.0, 2.0, 0.0]], requires_grad=True)
    (loss,) = losses(o.KL(weights=(4.0, 0.5, 9.0)), mean, torch.zeros(1, 3))
    assert loss.value.item() == pytest.approx(4 / 2 + 0.5 * 2)
    (slope,) = torch.autograd.grad(loss.value, mean)
    assert slope.tolist() == [[4.0, 1.0, 0.0]]
    (with_free_bits,) = losses(o.KL(1.0, weights=[4.0, 0.5, 9.0]), mean, torch.zeros(1, 3))
    assert with_free_bits.value.item() == pytest.approx(4 * 1 + 0.5 * 2 + 9 * 1)
    assert repr(o.KL(weights=[1, 2])) == "KL(weights=(1, 2))"


@pytest.mark.parametrize("weights", [(1.0, -1.0), (1.0, math.nan), (math.inf, 0.0)])
def test_weights_are_numbers_from_zero_on(weights: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=">= 0"):
        o.KL(weights=weights)


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0, 1.0, 1.0)])
def test_weights_are_as_many_as_dimensions(weights: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="write 2 numbers"):
        losses(o.KL(weights=weights), torch.zeros(1, 2), torch.zeros(1, 2))


# Capacity


@pytest.mark.parametrize("capacity, value, slope", [(2.0, 0.5, 1.0), (3.0, 0.5, -1.0)])
def test_the_kl_is_pulled_to_its_capacity_from_both_sides(capacity: float, value: float, slope: float) -> None:
    """KL = (1 + 4) / 2 = 2.5; d KL / d mu = mu."""
    mean = torch.tensor([[1.0, 2.0]], requires_grad=True)
    (loss,) = losses(o.Capacity(capacity), mean, torch.zeros(1, 2))
    assert (loss.name, loss.value.item(), loss.moves) == ("capacity", value, ("encoder", "decoder"))
    assert torch.equal(torch.autograd.grad(loss.value, mean)[0], slope * mean)


def test_the_capacity_may_be_a_schedule_and_is_of_the_mean_over_the_batch() -> None:
    posterior = GaussianPosterior(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))  # 2 nats and 0: the mean is 1
    for progress, value in ((0.0, 1.0), (0.25, 0.0), (1.0, 3.0)):
        turn = Turn(SimpleNamespace(posterior=posterior), "generator", progress=progress)
        (loss,) = o.Capacity(o.warm_up(4.0, share=1.0)).losses(turn)
        assert loss.value.item() == pytest.approx(value)


def test_the_capacity_goes_by_the_mean_over_processes() -> None:
    """Ours is at 2 nats, below 3, both halves at 4, above: we pay 2 - 3 = -1, they 6 - 3, in the mean |4 - 3|."""
    posterior = GaussianPosterior(torch.tensor([[2.0, 0.0]]))
    turn = Turn(SimpleNamespace(posterior=posterior), "generator", mean=lambda value: value + 2.0)
    (loss,) = o.Capacity(3.0).losses(turn)
    assert loss.value.item() == -1.0


@pytest.mark.parametrize("capacity", [-1.0, math.nan])
def test_a_capacity_is_a_number_from_zero_on(capacity: float) -> None:
    with pytest.raises(UsageError, match=">= 0"):
        o.Capacity(capacity)


# A KL in samples


def test_a_sampled_kl_has_the_value_and_the_gradient_of_the_closed_form() -> None:
    """200,000 samples, within 5 standard errors of about 2 / sqrt(n)."""
    n = 200_000
    raw = torch.tensor([[0.7, -0.3, 0.4, -1.0]], requires_grad=True)
    posterior = GaussianPosterior(raw.expand(n, 4))
    z = posterior.sample(torch.randn(n, 2, generator=torch.Generator().manual_seed(0)))
    draw: Any = SimpleNamespace(posterior=posterior, z=z, model=SimpleNamespace(standard=StandardNormal(2)))
    values, slopes = [], []
    for term in (o.SampledKL(), o.KL()):
        (loss,) = term.losses(Turn(draw, "generator"))
        assert (loss.name, loss.moves) == ("kl", ("encoder", "decoder"))
        values.append(loss.value.item())
        slopes.append(torch.autograd.grad(loss.value, raw, retain_graph=True)[0])
    tolerance = 5 * 2 / math.sqrt(n)
    assert values[0] == pytest.approx(values[1], abs=tolerance)
    assert torch.allclose(*slopes, atol=tolerance)


@pytest.mark.parametrize("term", [o.KL(), o.Capacity(1.0)])
def test_a_posterior_without_closed_form_is_refused_in_words(term: o.Objective) -> None:
    point: Any = SimpleNamespace(posterior=PointPosterior(torch.zeros(2, 1)))
    with pytest.raises(UsageError, match=r"write ae\(\)"):
        list(term.losses(Turn(point, "generator")))
    sampled: Any = SimpleNamespace(posterior=SimpleNamespace(log_prob=None))
    with pytest.raises(UsageError, match=r"write SampledKL\(\)"):
        list(term.losses(Turn(sampled, "generator")))
