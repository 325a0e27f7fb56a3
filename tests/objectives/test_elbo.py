"""Reconstruction and KL: zero or known, and free bits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from amalgan import objectives as o
from amalgan.models.posteriors import GaussianPosterior
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


@pytest.mark.parametrize("objective", [o.ae(), o.vae(), o.vae(2.0, 0.5)])
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
