"""Likelihoods and posteriors against torch.distributions, by quadrature and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.distributions as d
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.models import likelihoods as l
from amalgan.models.posteriors import DeltaPosterior, GaussianPosterior, PointPosterior, largest_log_variance

SOURCE = torch.Generator().manual_seed(0)
RAW = 3 * torch.randn(4, 2, 3, 3, generator=SOURCE)
X = torch.rand(4, 2, 3, 3, generator=SOURCE)
LEARNED = l.GaussianLearned()


def independent(base: d.Distribution) -> Callable[[Tensor], Tensor]:
    return lambda x: base.log_prob(x.double()).flatten(1).sum(1)


def oracle(name: str, raw: Tensor) -> Callable[[Tensor], Tensor]:
    raw = raw.double()
    mean = torch.sigmoid(raw)
    deviation = torch.tensor(0.02, dtype=torch.float64).sqrt()
    made: dict[str, d.Distribution] = {
        "gaussian": d.Normal(mean, deviation),
        "laplace": d.Laplace(mean, 0.1),
        "gaussian-learned": d.Normal(mean, math.exp(-1.5)),
        "bernoulli": d.Bernoulli(logits=raw, validate_args=False),
        "continuous-bernoulli": d.ContinuousBernoulli(logits=raw),
    }
    return independent(made[name])


LIKELIHOODS: dict[str, l.Likelihood] = {
    "gaussian": l.Gaussian(0.02),
    "laplace": l.Laplace(0.1),
    "gaussian-learned": LEARNED,
    "bernoulli": l.Bernoulli(),
    "continuous-bernoulli": l.ContinuousBernoulli(),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_prob_is_that_of_torch_distributions(name: str) -> None:
    x = X.round() if name == "bernoulli" else X
    ours = LIKELIHOODS[name].log_prob(RAW, x)
    assert ours.shape == (4,)
    assert torch.allclose(ours.double(), oracle(name, RAW)(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_mean_is_that_of_torch_distributions(name: str) -> None:
    mean = LIKELIHOODS[name].mean(RAW)
    if name == "continuous-bernoulli":
        expected = d.ContinuousBernoulli(logits=RAW.double()).mean
    else:
        expected = torch.sigmoid(RAW.double())
    assert mean.shape == X.shape and torch.allclose(mean.double(), expected, atol=2e-6)


def test_gaussian_with_a_variance_per_pixel() -> None:
    likelihood = l.GaussianPixel()
    assert likelihood.factor == 2
    means, log_variances = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    raw = torch.cat([means, log_variances], 1)
    # the floor is soft: -10 + s(v + 10) is v but for e^-10
    expected = independent(d.Normal(torch.sigmoid(means).double(), torch.exp(log_variances.double() / 2)))(X)
    assert torch.allclose(likelihood.log_prob(raw, X).double(), expected, rtol=1e-3)
    assert torch.allclose(likelihood.mean(raw), torch.sigmoid(means), atol=1e-6)
    lowest = torch.cat([means, torch.full_like(means, -1e4)], 1)
    floor = independent(d.Normal(torch.sigmoid(means).double(), math.exp(l.SMALLEST_LOG_VARIANCE / 2)))(X)
    assert torch.allclose(likelihood.log_prob(lowest, X).double(), floor, rtol=1e-4)


@pytest.mark.parametrize("logit", [0.0, 1e-6, -1e-3, 0.0499, 0.0501, -0.2, 3.0, -12.0, 30.0, -80.0, 500.0])
@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
def test_continuous_bernoulli_near_one_half_and_at_the_extremes(logit: float, x: float) -> None:
    """log p(x) = log(l / (2 sinh(l/2))) + l (x - 1/2), the symmetric form; E[x] = coth(l/2)/2 + 1/2 - 1/l."""
    raw, at = torch.full((1, 1), logit, requires_grad=True), torch.full((1, 1), x)
    likelihood = l.ContinuousBernoulli()
    size = abs(logit)
    # log(l / (2 sinh(l/2))) = log l - l/2 - log(1 - e^-l)
    log_ratio = -(size**2) / 24 if size < 1e-2 else math.log(size) - size / 2 - math.log(-math.expm1(-size))
    mean = 0.5 + logit / 12 if size < 1e-2 else 0.5 + 0.5 / math.tanh(logit / 2) - 1 / logit
    value = likelihood.log_prob(raw, at)
    assert value.item() == pytest.approx(log_ratio + logit * (x - 0.5), rel=1e-5, abs=2e-5)
    assert likelihood.mean(raw).item() == pytest.approx(mean, abs=5e-6)
    # an exponential family: the slope of log p by the logit is x - E[x]
    (slope,) = torch.autograd.grad(value.sum(), raw)
    assert slope.item() == pytest.approx(x - mean, abs=2e-5)


@pytest.mark.parametrize("raw", [-8.0, -0.7, 0.0, 0.02, 5.0])
@pytest.mark.parametrize("name", ["gaussian", "laplace", "gaussian-learned", "continuous-bernoulli", "gaussian-pixel"])
def test_densities_integrate_to_one(name: str, raw: float) -> None:
    """Over the real line, the continuous Bernoulli over [0, 1]; the constants are therefore all there."""
    likelihood = l.GaussianPixel() if name == "gaussian-pixel" else LIKELIHOODS[name]
    low, high = (0.0, 1.0) if name == "continuous-bernoulli" else (-30.0, 31.0)
    if name == "gaussian-pixel":
        low, high = -80.0, 80.0  # deviations up to e^2.5
    edges = torch.linspace(low, high, 400_001, dtype=torch.float64)
    x = (edges[1:] + edges[:-1]) / 2
    raws = torch.full((len(x), likelihood.factor), raw)
    with torch.no_grad():
        density = likelihood.log_prob(raws, x.float()[:, None]).double().exp()
    # 1e-3: x is float32, whose grain at 30 is a fortieth of the cells' width
    assert float(density.sum() * (edges[1] - edges[0])) == pytest.approx(1.0, abs=1e-3)


def test_a_bernoulli_sums_to_one() -> None:
    total = sum(l.Bernoulli().log_prob(torch.tensor([[0.3]]), torch.tensor([[x]])).exp().item() for x in (0.0, 1.0))
    assert total == pytest.approx(1.0)


def test_by_hand() -> None:
    one = torch.zeros(1, 1)  # raw 0: mean 1/2
    x = torch.ones(1, 1)
    assert l.Bernoulli().log_prob(one, x).item() == pytest.approx(-math.log(2))
    assert l.ContinuousBernoulli().log_prob(one, x).item() == pytest.approx(0.0, abs=1e-6)  # uniform on [0, 1]
    assert l.Gaussian(0.25).log_prob(one, x).item() == pytest.approx(-0.5 - 0.5 * math.log(math.pi / 2))
    assert l.Laplace(0.5).log_prob(one, x).item() == pytest.approx(-1.0)
    assert l.Gaussian(1.0, squash=False).log_prob(one + 3, x).item() == pytest.approx(-2 - 0.5 * math.log(2 * math.pi))


@pytest.mark.parametrize("make", [l.Gaussian, l.Laplace])
@pytest.mark.parametrize("width", [0.0, -1.0, math.nan])
def test_a_width_is_positive(make: Callable[[float], l.Likelihood], width: float) -> None:
    with pytest.raises(UsageError, match="> 0"):
        make(width)


@pytest.mark.parametrize("likelihood", [l.Gaussian(squash=False), l.Laplace(squash=False), l.GaussianPixel(False)])
def test_points_are_not_squashed(likelihood: l.Likelihood) -> None:
    raw = torch.tensor([[7.0, -9.0, 0.0, 0.0]])[:, : 2 * likelihood.factor]
    assert torch.equal(likelihood.mean(raw), torch.tensor([[7.0, -9.0]]))


def test_the_learned_variance_finds_the_error() -> None:
    """Its optimum is the mean squared error: the gradient vanishes there."""
    likelihood = l.GaussianLearned(squash=False)
    x, raw = torch.randn(50, 7), torch.zeros(50, 7)
    with torch.no_grad():
        likelihood.log_variance.copy_(x.square().mean().log())
    (slope,) = torch.autograd.grad(likelihood.log_prob(raw, x).mean(), likelihood.log_variance)
    assert slope.abs() < 1e-4


# Posteriors


def posterior() -> tuple[GaussianPosterior, d.Normal]:
    mean, log_variance = torch.randn(5, 3, generator=SOURCE), torch.randn(5, 3, generator=SOURCE)
    return GaussianPosterior(torch.cat([mean, log_variance], 1)), d.Normal(mean, torch.exp(log_variance / 2))


def test_posterior_against_torch_distributions() -> None:
    ours, theirs = posterior()
    z = torch.randn(5, 3)
    assert ours.log_prob(z).shape == (5,)
    assert torch.allclose(ours.log_prob(z), theirs.log_prob(z).sum(1), atol=1e-5)
    assert ours.kl().shape == (5, 3)
    assert torch.allclose(ours.kl(), d.kl_divergence(theirs, d.Normal(0.0, 1.0)), atol=1e-5)


def test_posterior_takes_leading_dimensions() -> None:
    ours, theirs = posterior()
    z = torch.randn(7, 5, 3)
    assert ours.log_prob(z).shape == (7, 5)
    assert torch.allclose(ours.log_prob(z), theirs.log_prob(z).sum(-1), atol=1e-4)


def test_posterior_samples_have_its_moments() -> None:
    """100,000 samples; each of 12 moments within 5 standard errors: a false alarm in 100,000 runs."""
    ours, theirs = posterior()
    z = ours.sample(torch.randn(100_000, 5, 3, generator=SOURCE))
    standard = (z - theirs.mean) / theirs.stddev
    assert standard.mean(0).abs().max() < 5 / math.sqrt(100_000)
    assert (standard.square().mean(0) - 1).abs().max() < 5 * math.sqrt(2 / 100_000)
    assert torch.equal(ours.sample(torch.zeros(5, 3)), ours.mean)


def test_kl_is_the_expected_log_ratio() -> None:
    ours, _ = posterior()
    z = ours.sample(torch.randn(100_000, 5, 3, generator=SOURCE))
    ratio = ours.log_prob(z) - d.Normal(0.0, 1.0).log_prob(z).sum(-1)
    error = ratio.std(0) / math.sqrt(len(z))
    assert ((ratio.mean(0) - ours.kl().sum(1)).abs() < 5 * error).all()


def test_the_prior_has_no_divergence_from_itself_and_nothing_overflows() -> None:
    assert GaussianPosterior(torch.zeros(2, 6)).kl().abs().max() == 0.0
    wild = GaussianPosterior(torch.cat([torch.zeros(1, 2), torch.tensor([[1e5, -1e5]])], 1))
    assert torch.isfinite(wild.kl()).all() and torch.isfinite(wild.sample(torch.ones(1, 2))).all()
    assert torch.isfinite(wild.log_prob(torch.zeros(1, 2))).all()


def test_a_point_posterior_is_its_mean() -> None:
    point = PointPosterior(torch.randn(2, 3))
    assert torch.equal(point.sample(torch.randn(2, 3)), point.mean)
    assert not hasattr(point, "kl") and not hasattr(point, "log_prob")


# Posteriors whose KL has a floor


@pytest.mark.parametrize("delta, dimensions", [(0.01, 1), (0.5, 1), (3.0, 4), (60.0, 10)])
def test_the_least_kl_over_all_raw_codes_is_delta(delta: float, dimensions: int) -> None:
    """On a grid from the narrowest posterior to rounding: delta itself where mu = 0 and raw is large, nowhere less."""
    family = DeltaPosterior(delta)
    mean, free = torch.meshgrid(torch.linspace(-2, 2, 41), torch.linspace(-30, 40, 701), indexing="ij")
    raw = torch.stack([mean.flatten(), free.flatten()], 1).repeat_interleave(dimensions, 1)
    kl = family(raw).kl().sum(1)
    least = int(kl.argmin())
    assert kl[least].item() == pytest.approx(delta, rel=1e-3)  # of 1 - s + log s seven digits are lost at s near 1
    assert raw[least, 0].abs() < 1e-6 and raw[least, -1] > 10
    closed = [(s - 1 - math.log(s)) / 2 for s in [math.exp(largest_log_variance(delta / dimensions))]]
    assert closed == [pytest.approx(delta / dimensions, rel=1e-9)] and largest_log_variance(delta / dimensions) < 0


def test_no_raw_code_is_without_a_slope() -> None:
    raw = torch.tensor([[0.3, -0.2, 4.0, -4.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(DeltaPosterior(2.0)(raw).kl().sum(), raw)
    assert (slope != 0).all() and torch.isfinite(slope).all()
    assert torch.allclose(slope[:, :2], raw[:, :2])  # d KL / d mu = mu, as of any Gaussian
    wild = DeltaPosterior(2.0)(torch.tensor([[0.0, 0.0, 1e5, -1e5]]))
    assert torch.isfinite(wild.kl()).all() and wild.kl().sum() >= 2.0


def test_a_delta_posterior_is_a_gaussian_with_its_confined_variance() -> None:
    raw = torch.randn(5, 6, generator=SOURCE)
    ours = DeltaPosterior(2.0)(raw)
    sigma = torch.exp((largest_log_variance(2.0 / 3) - torch.nn.functional.softplus(-raw[:, 3:])) / 2)
    theirs = d.Normal(raw[:, :3], sigma)
    z = torch.randn(7, 5, 3)
    assert torch.allclose(ours.log_prob(z), theirs.log_prob(z).sum(-1), atol=1e-3, rtol=1e-4)
    assert torch.allclose(ours.kl(), d.kl_divergence(theirs, d.Normal(0.0, 1.0)), atol=1e-5)
    assert torch.allclose(ours.sample(z), raw[:, :3] + sigma * z)


@pytest.mark.parametrize("delta", [0.0, -1.0, math.inf])
def test_delta_is_a_positive_number(delta: float) -> None:
    with pytest.raises(UsageError, match="> 0"):
        DeltaPosterior(delta)


def test_delta_is_no_more_than_the_narrowest_posterior_costs() -> None:
    with pytest.raises(UsageError, match=r"at most 6\.5"):
        DeltaPosterior(14.0)(torch.zeros(1, 4))
