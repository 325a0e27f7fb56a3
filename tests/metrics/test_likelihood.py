from __future__ import annotations

import math

import pytest
import torch
from metrics_fakes import Gaussian, LinearGaussian, Replays
from torch import Tensor

from amalgan.errors import AmalganError, UsageError
from amalgan.metrics.likelihood import active_units, importance_sampled_nll, importance_sampled_nlls, latents
from amalgan.models.priors import StandardNormal

SHAPE = (1, 4, 4)


def images(model: LinearGaussian, n: int = 40) -> Tensor:
    """Data from the model itself."""
    x = model.sample(n, seed=5)
    return x + model.s * torch.randn(x.shape, generator=torch.Generator().manual_seed(6))


def test_the_exact_posterior_gives_log_p_from_one_sample() -> None:
    model = LinearGaussian(SHAPE, 3)
    x = images(model)
    exact = -model.exact_log_prob(x)
    for k in (1, 7):
        assert torch.allclose(importance_sampled_nll(model, x, k=k), exact, atol=1e-4)


def test_a_spoilt_posterior_is_mended_by_more_samples() -> None:
    model = LinearGaussian(SHAPE, 3, shift=0.2, widen=0.5)
    x = images(model, 200)
    exact = float(-model.exact_log_prob(x).mean())
    gaps = [float(importance_sampled_nll(model, x, k=k).mean()) - exact for k in (1, 10, 1000)]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[0] > 0.5 and abs(gaps[2]) < 0.02
    assert float(-latents(model, x).elbo.mean()) - exact == pytest.approx(gaps[0], abs=0.6)


def test_elbo_is_exact_for_the_exact_posterior_on_average() -> None:
    # log p(x) = E_q log p(x|z) - KL when q is the posterior; one z an image leaves noise of at most sqrt(3/2) nats: 4
    # s.d. of the mean.
    model = LinearGaussian(SHAPE, 3)
    x = images(model, 4000)
    found = latents(model, x)
    assert found.kl.shape == (4000, 3) and found.distortion.shape == (4000,)
    assert float(found.elbo.mean()) == pytest.approx(
        float(model.exact_log_prob(x).mean()), abs=4 * math.sqrt(1.5 / 4000)
    )


def test_noise_does_not_depend_on_batches_but_on_seed_and_image() -> None:
    model = LinearGaussian(SHAPE, 3, shift=0.2)
    x = images(model, 12)
    whole = importance_sampled_nll(model, x, k=20, seed=1)
    for at_once in (1, 7, 20, 50):
        assert torch.allclose(importance_sampled_nll(model, x, k=20, seed=1, at_once=at_once), whole, atol=1e-5)
    assert torch.allclose(importance_sampled_nll(model, x[:5], k=20, seed=1), whole[:5], atol=1e-5)
    assert not torch.allclose(importance_sampled_nll(model, x, k=20, seed=2), whole, atol=1e-5)
    same = importance_sampled_nll(model, x[:1].expand(3, -1, -1, -1), k=20)
    assert same[0] != same[1], "each image has noise of its own"
    assert torch.allclose(
        latents(model, x, seed=3, batch=5).distortion, latents(model, x, seed=3).distortion, atol=1e-5
    )


def test_the_encoder_runs_once_an_image_and_no_gradient_is_kept() -> None:
    model = LinearGaussian(SHAPE, 3)
    nll = importance_sampled_nll(model, images(model, 6), k=5000)
    assert model.encoded == 6 and not nll.requires_grad


def test_a_fitted_prior_takes_the_place_of_the_normal_one() -> None:
    # With the prior N(m, I) in place of N(0, I), log p(x) is that of a model whose bias is b + W m.
    model = LinearGaussian(SHAPE, 3)
    m = torch.tensor([1.0, -0.5, 0.3])

    class Shifted:
        def log_prob(self, z: Tensor) -> Tensor:
            return StandardNormal(3).log_prob(z - m)

    x = images(model, 20)
    other = LinearGaussian(SHAPE, 3)
    other.b.data += model.w.data @ m
    found = importance_sampled_nll(model, x, k=5000, prior=Shifted())
    both = importance_sampled_nlls(model, x, [StandardNormal(3), Shifted()], k=5000)
    assert torch.equal(both[1], found) and torch.equal(both[0], importance_sampled_nll(model, x, k=5000))
    assert float(found.mean()) == pytest.approx(float(-other.exact_log_prob(x).mean()), abs=0.1)


def test_active_units() -> None:
    mean = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.2, 0.05, 0.0])
    assert active_units(mean) == 2  # variances 1, 0.04, 0.0025, 0
    assert active_units(mean, threshold=0.001) == 3


def test_mistakes() -> None:
    model = LinearGaussian(SHAPE, 3)
    with pytest.raises(UsageError, match="k >= 1"):
        importance_sampled_nll(model, images(model), k=0)
    with pytest.raises(UsageError, match="without a posterior density"):
        importance_sampled_nll(Replays(torch.zeros(1, 1)), torch.zeros(1, 1))
    model.w.data[0, 0] = math.nan
    with pytest.raises(AmalganError, match="NaN for 3 of 3"):
        importance_sampled_nll(model, torch.zeros(3, *SHAPE))


def test_the_fake_posterior_is_right() -> None:
    q = Gaussian(torch.tensor([[0.5]]), torch.tensor([[0.2]]))
    normal = torch.distributions.Normal(0.5, math.exp(0.1))
    assert float(q.log_prob(torch.tensor([[0.7]]))) == pytest.approx(float(normal.log_prob(torch.tensor(0.7))))
    assert float(q.kl()) == pytest.approx(
        float(torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)))
    )
