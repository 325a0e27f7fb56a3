"""Priors: the mixture against scikit-learn's, samples against densities, sample i whatever n."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from amalgan.models.priors import Judged, Mixture, StandardNormal, calibrated

MEANS = torch.tensor([[0.0, 0.0], [4.0, 1.0], [-2.0, 3.0]])
SCALES = torch.tensor([[[1.0, 0.0], [0.8, 0.5]], [[0.3, 0.0], [0.0, 1.2]], [[0.6, 0.0], [-0.4, 0.6]]])
WEIGHTS = torch.tensor([0.5, 0.2, 0.3])


def truth() -> Mixture:
    mixture = Mixture(3, 2)
    mixture.weights.copy_(WEIGHTS)
    mixture.means.copy_(MEANS)
    mixture.scales.copy_(SCALES)
    return mixture


@pytest.fixture(scope="module")
def points() -> Tensor:
    source = torch.Generator().manual_seed(0)
    which = torch.multinomial(WEIGHTS, 2000, replacement=True, generator=source)
    epsilon = torch.randn(2000, 2, generator=source)
    return MEANS[which] + torch.einsum("nij,nj->ni", SCALES[which], epsilon)


def test_density_against_torch_distributions(points: Tensor) -> None:
    components = torch.distributions.MultivariateNormal(MEANS, scale_tril=SCALES)
    expected = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(WEIGHTS), components)
    assert torch.allclose(truth().log_prob(points), expected.log_prob(points), atol=1e-4)
    assert truth().log_prob(points.view(4, 500, 2)).shape == (4, 500)


def test_fit_reaches_the_likelihood_of_scikit_learn(points: Tensor) -> None:
    mixture = pytest.importorskip("sklearn.mixture")
    theirs = mixture.GaussianMixture(3, n_init=5, random_state=0).fit(points.numpy()).score(points.numpy())
    for seed in range(3):
        ours = float(Mixture(3, 2).fit(points, seed, iterations=200).log_prob(points).mean())
        assert ours == pytest.approx(theirs, abs=0.05)
    assert float(truth().log_prob(points).mean()) <= theirs + 1e-3  # the fit is no worse than the truth


def test_one_component_is_the_gaussian_of_the_data(points: Tensor) -> None:
    fitted = Mixture(1, 2).fit(points)
    assert torch.allclose(fitted.means[0], points.mean(0), atol=1e-4)
    covariance = fitted.scales[0] @ fitted.scales[0].T
    assert torch.allclose(covariance, torch.cov(points.T), rtol=0.01, atol=0.01)  # but for the ridge


@pytest.mark.parametrize("many", [5, 40])
def test_more_components_than_the_data_can_bear(many: int) -> None:
    """Few points, many components, a dimension that never varies: finite, and samples near the data."""
    z = torch.randn(45, 6, generator=torch.Generator().manual_seed(3))
    z[:, 2] = 1.0
    fitted = Mixture(many, 6).fit(z)
    assert torch.isfinite(fitted.log_prob(z)).all() and torch.isfinite(fitted.sample(500)).all()
    assert (fitted.sample(500)[:, 2] - 1).abs().max() < 1.0
    assert float(fitted.weights.sum()) == pytest.approx(1.0, abs=1e-5)


def test_equal_points_are_survived() -> None:
    fitted = Mixture(2, 2).fit(torch.randn(1, 2).repeat(30, 1) + 1e-3 * torch.randn(30, 2))
    assert torch.isfinite(fitted.sample(10)).all()


def test_samples_have_the_moments_of_the_mixture() -> None:
    """100,000 samples, 5 standard errors on each of 5 numbers: a false alarm in 350,000 runs."""
    z = truth().sample(100_000, seed=1)
    mean = WEIGHTS @ MEANS
    second = torch.einsum("k,kij->ij", WEIGHTS, SCALES @ SCALES.mT + MEANS[:, :, None] * MEANS[:, None, :])
    assert ((z.mean(0) - mean).abs() < 5 * z.std(0) / math.sqrt(len(z))).all()
    products = z[:, :, None] * z[:, None, :]
    assert ((products.mean(0) - second).abs() < 5 * products.std(0) / math.sqrt(len(z))).all()


def test_samples_fall_where_the_density_says() -> None:
    """The mean log density of samples is that of the torch oracle's samples, within 5 standard errors."""
    ours = truth().log_prob(truth().sample(50_000, seed=2))
    components = torch.distributions.MultivariateNormal(MEANS, scale_tril=SCALES)
    torch.manual_seed(0)
    oracle = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(WEIGHTS), components)
    theirs = truth().log_prob(oracle.sample((50_000,)))
    error = math.sqrt(float(ours.var() + theirs.var()) / 50_000)
    assert abs(float(ours.mean() - theirs.mean())) < 5 * error


@given(st.integers(1, 200), st.integers(0, 300), st.sampled_from(["standard", "mixture"]))
@settings(max_examples=30, deadline=None)
def test_sample_i_is_sample_i_whatever_n_and_start(n: int, start: int, which: str) -> None:
    prior = truth() if which == "mixture" else StandardNormal(2)
    whole = prior.sample(520, seed=4)
    assert torch.allclose(prior.sample(n, seed=4, start=start), whole[start : start + n], atol=1e-6)
    assert not torch.allclose(prior.sample(n, seed=5, start=start), whole[start : start + n])


def test_the_standard_normal() -> None:
    z = torch.randn(6, 3)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    assert torch.allclose(StandardNormal(3).log_prob(z), expected, atol=1e-5)


# Judged by a discriminator


def narrower(z: torch.Tensor) -> torch.Tensor:
    """log p_data / p_model where z ~ N(0, 1) is what the model makes, and data are N(0, 0.5^2)."""
    data, made = (torch.distributions.Normal(0.0, sigma) for sigma in (0.5, 1.0))
    return (data.log_prob(z) - made.log_prob(z)).squeeze(1)


@pytest.mark.parametrize("odds", [1.0, 1.5, 4.0])
def test_judged_samples_follow_the_smaller_of_both_densities(odds: float) -> None:
    """p ~ min(p_data, m p_model), by its moments; r is at most 2 here, so that m = 4 gives p_data itself.

    100,000 samples, 5 standard errors.
    """
    grid = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    densities = [torch.distributions.Normal(0.0, sigma).log_prob(grid).exp() for sigma in (0.5, 1.0)]
    both = torch.minimum(densities[0], odds * densities[1])
    step = float(grid[1] - grid[0])
    overlap = float(both.sum()) * step
    z = Judged(StandardNormal(1), narrower, odds).sample(100_000, seed=1).squeeze(1).double()
    for power in (2, 4):
        expected = float((both * grid**power).sum()) * step / overlap
        error = float((z**power).std()) / math.sqrt(len(z))
        assert abs(float((z**power).mean()) - expected) < 5 * error


@given(st.integers(1, 200), st.integers(0, 300))
@settings(max_examples=20, deadline=None)
def test_judged_sample_i_is_sample_i_whatever_n_and_start(n: int, start: int) -> None:
    prior = Judged(StandardNormal(1), narrower)
    assert torch.equal(prior.sample(n, seed=4, start=start), prior.sample(520, seed=4)[start : start + n])


def test_a_judge_that_likes_nothing_ends() -> None:
    prior = Judged(StandardNormal(2), lambda z: torch.full((len(z),), -math.inf))
    assert torch.isfinite(prior.sample(5)).all()


def test_calibration_recovers_the_known_ratio() -> None:
    """Verdicts of any unit: N(0, 1) against N(1, 1) has log ratio x - 1/2; verdicts are 7 x + 3 here."""
    torch.manual_seed(0)
    real, fake = torch.randn(40_000) + 1, torch.randn(40_000)
    slope, offset = calibrated(7 * real + 3, 7 * fake + 3)
    assert float(slope) == pytest.approx(1 / 7, rel=0.05)
    assert float(offset + 3 * slope) == pytest.approx(-0.5, abs=0.05)


def test_calibration_of_verdicts_that_say_nothing_or_everything() -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    for real, fake in ((x, x), (x - 3, x + 3), (torch.zeros(5), torch.zeros(5))):  # nothing; the wrong way; no spread
        slope, _ = calibrated(real, fake)
        assert 0 <= float(slope) < 0.2
    slope, offset = calibrated(x + 50, x - 50)
    assert torch.isfinite(slope) and float(slope * -50 + offset) < -3 and float(slope * 50 + offset) > 3
