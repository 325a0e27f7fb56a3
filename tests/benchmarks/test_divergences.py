"""The divergences by quadrature are those in closed form, and the best Gaussian is where theory has it."""

from __future__ import annotations

import math

import pytest
import torch

from amalgan.objectives import GAMES
from benchmarks import divergences as d


@pytest.mark.parametrize(
    "game, expected",
    [  # of N(0, 1) from N(1, 1.5^2)
        ("forward-kl", math.log(1.5) + 2 / (2 * 2.25) - 0.5),
        ("reverse-kl", -math.log(1.5) + (2.25 + 1) / 2 - 0.5),
        ("hellinger", 2 - 2 * math.sqrt(2 * 1.5 / 3.25) * math.exp(-1 / (4 * 3.25))),
        ("pearson", 2.25 / math.sqrt(2 * 2.25 - 1) * math.exp(1 / (2 * 2.25 - 1)) - 1),
    ],
)
def test_divergences_of_two_gaussians_in_closed_form(
    game: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(d, "mixture", lambda: torch.distributions.Normal(torch.tensor(0.0).double(), 1.0))
    found = d.divergence(game, torch.tensor(1.0).double(), torch.tensor(1.5).double())
    assert float(found) == pytest.approx(expected, rel=1e-8)


@pytest.mark.slow
def test_the_best_gaussian_covers_or_drops() -> None:
    """KL(data || q) is least where q has the data's mean and variance; KL(q || data) beside the larger peak."""
    mean = sum(m * w for m, w in zip(d.MEANS, d.WEIGHTS))
    variance = d.SIGMA**2 + sum(w * (m - mean) ** 2 for m, w in zip(d.MEANS, d.WEIGHTS))
    assert d.ideal("forward-kl") == pytest.approx((mean, math.sqrt(variance)), abs=1e-5)
    found = d.described("reverse-kl", *d.ideal("reverse-kl"))
    assert found["mass_left"] < 0.02 and found["mean"] == pytest.approx(2, abs=0.1)
    assert set(d.DIVERGENCES) <= set(GAMES)


def test_a_run_in_small() -> None:
    found = d.do({"game": "reverse-kl", "seed": 100, **d.METHOD, "steps": 3})
    assert all(math.isfinite(value) for value in found.values()) and found["mass_left"] + found["mass_right"] == 1
