"""Posteriors with a flow: the density integrates to one, both directions are inverse, the KL in samples, training."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from amalgan import objectives as o
from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.errors import UsageError
from amalgan.metrics.likelihood import importance_sampled_nll, latents
from amalgan.models import LatentModel
from amalgan.models.flows import FlowedPosterior, FlowPosterior
from amalgan.models.likelihoods import Gaussian
from amalgan.models.priors import StandardNormal
from amalgan.networks.points import mlp
from amalgan.noise import Noise
from amalgan.training import Plan, Trainer

POINTS = Spec("points", (2,))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(UsageError, match=r"amalgan\[flows\]"):
        FlowPosterior(2)


@pytest.fixture
def flow() -> FlowPosterior:
    """One that is far from the identity."""
    pytest.importorskip("zuko", reason="posteriors with flows need zuko: pip install 'amalgan[flows]'")
    torch.manual_seed(0)
    made = FlowPosterior(2)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return made


def grid(side: float = 12.0, points: int = 801) -> tuple[Tensor, float]:
    line = torch.linspace(-side, side, points)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 1, 2), (2 * side / (points - 1)) ** 2


@torch.no_grad()
def test_its_density_is_that_of_its_samples_and_integrates_to_one(flow: FlowPosterior) -> None:
    posterior = flow(torch.randn(1, 4))
    z, cell = grid()
    log_q = posterior.log_prob(z)[:, 0]
    assert float(log_q.exp().sum() * cell) == pytest.approx(1.0, abs=1e-3)
    n = 40_000
    samples = posterior.sample(torch.randn(n, 1, 2))
    assert samples.shape == (n, 1, 2) and posterior.log_prob(samples).shape == (n, 1)
    mean = (log_q.exp()[:, None] * z[:, 0]).sum(0) * cell
    assert ((samples[:, 0].mean(0) - mean).abs() < 5 * samples[:, 0].std(0) / math.sqrt(n)).all()
    # the KL in samples is the integral
    standard = StandardNormal(2)
    kl = float((log_q.exp() * (log_q - standard.log_prob(z[:, 0]))).sum() * cell)
    ratio = (posterior.log_prob(samples) - standard.log_prob(samples))[:, 0]
    assert float(ratio.mean()) == pytest.approx(kl, abs=5 * float(ratio.std()) / math.sqrt(n))


@torch.no_grad()
@pytest.mark.parametrize("bf16", [False, True])
def test_its_two_directions_are_inverse_to_each_other(flow: FlowPosterior, bf16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        posterior = flow(torch.randn(50, 4))
        epsilon = torch.randn(50, 2)
        z = posterior.sample(epsilon)
        log_q, mean = posterior.log_prob(z), posterior.mean
    start, log_determinant = posterior.normalise.call_and_ladj(z)
    assert torch.allclose(start, posterior.base.sample(epsilon), atol=1e-3)
    assert torch.allclose(log_q, posterior.base.log_prob(start) + log_determinant, atol=1e-4)
    assert log_determinant.abs().max() > 0.1, "the flow does nothing"
    assert torch.equal(mean, posterior.sample(torch.zeros(50, 2)))


def test_a_code_of_one_dimension_has_no_halves() -> None:
    pytest.importorskip("zuko")
    with pytest.raises(UsageError, match="latent >= 2"):
        FlowPosterior(1)


def model() -> LatentModel:
    torch.manual_seed(0)
    family = FlowPosterior(2, units=16)
    decoder, encoder = mlp([2, 32, 2]), mlp([2, 32, 4])
    return LatentModel(POINTS, 2, Gaussian(0.1, squash=False), decoder, encoder, nn.Linear(2, 1), family)


def test_it_belongs_to_the_encoder_trains_judges_and_is_saved() -> None:
    pytest.importorskip("zuko")
    made = model()
    flow_weights = [p for p in made.family.parameters()]  # type: ignore[attr-defined]
    assert {id(p) for p in flow_weights} < {id(p) for p in made.networks["encoder"]}
    assert {id(p) for parameters in made.networks.values() for p in parameters} == {id(p) for p in made.parameters()}
    assert made.has_density
    plan: Plan = recipes.plan("vaegan", POINTS, {"latent": 2, "width": 16, "batch": 32, "lr": 3e-3})
    before = [p.detach().clone() for p in flow_weights]
    x = torch.randn(400, 2) * torch.tensor([1.0, 0.3])
    objective = o.Reconstruction() + o.SampledKL()
    trainer = Trainer(replace(plan, model=made, stages=[(objective, 1.0)]), Split(x, None), 150, seed=1)
    trainer.step()
    first = sum(trainer.signals.read().values())
    for _ in trainer.run():
        pass
    assert sum(trainer.signals.read().values()) < first
    assert not any(torch.equal(a, b) for a, b in zip(before, flow_weights))
    made.eval()
    posterior = made.posterior(x[:5])
    assert isinstance(posterior, FlowedPosterior) and made.reconstruct(x[:5]).shape == (5, 2)
    seen, nll = latents(made, x[:300]), importance_sampled_nll(made, x[:300], 50)
    assert seen.kl.shape == (300, 1)
    assert -float(seen.elbo.mean()) > float(nll.mean()) - 0.1  # the bound lies above, but for one z's noise
    again = model()
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.posterior(x[:5]).mean, posterior.mean)
    with pytest.raises(UsageError, match=r"write SampledKL\(\)"):
        list(o.KL().losses(o.Turn(made.draw(x[:5], None, Noise(0)), "generator")))
