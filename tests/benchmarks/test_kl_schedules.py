"""The benchmark of remedies: a decoder that reads the pixels before and no others, a setting for every row."""

from __future__ import annotations

import pytest
import torch

from amalgan.models.posteriors import DeltaPosterior, GaussianPosterior
from benchmarks import schedules


def test_a_pixel_is_told_of_those_before_it_alone() -> None:
    torch.manual_seed(0)
    likelihood = schedules.Autoregressive(64)
    x = torch.rand(1, 784, requires_grad=True)
    for pixel in (0, 1, 400, 783):
        (slope,) = torch.autograd.grad(likelihood.logits(torch.zeros(1, 784), x)[0, pixel], x, allow_unused=True)
        assert (slope[0, pixel:] == 0).all(), "it sees itself or what comes after"
        assert pixel < 400 or (slope[0, : pixel - 100] != 0).any(), "it sees nothing"


@torch.no_grad()
def test_what_it_says_is_a_density() -> None:
    """Over all values of the last 6 pixels, the others fixed, the probabilities add up to that of the others."""
    torch.manual_seed(0)
    likelihood, raw = schedules.Autoregressive(64), torch.randn(1, 784)
    start = torch.randint(0, 2, (1, 778)).float()
    ends = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
    whole = likelihood.log_prob(raw.expand(64, -1), torch.cat([start.expand(64, -1), ends], 1)).double()
    logits = likelihood.logits(raw, torch.cat([start, ends[:1]], 1))[:, :778]
    others = -torch.nn.functional.binary_cross_entropy_with_logits(logits, start, reduction="sum")
    assert float(whole.logsumexp(0)) == pytest.approx(float(others), abs=1e-3)


def test_a_row_says_the_settings_of_its_own_runs() -> None:
    for row, said in (("capacity-shallow", "to 25"), ("capacity-deep", "to 15"), ("free-bits-deep", "free bits 0.5")):
        jobs = [schedules.job(row, seed) for seed in (0, 1)]
        runs = [{"nll": nll, "active_units": 3, "cpu_seconds": 2.0, "date": "2031-12-24"} for nll in (99.0, 101.0)]
        nll, units = schedules.rows(row, jobs, runs, 206.0)
        assert (nll.key, nll.value, nll.seeds, nll.n, nll.ceiling) == (
            ("kl-schedules", row, "nll"),
            100,
            2,
            10_000,
            206,
        )
        assert (units.metric, units.value, units.ceiling) == ("active_units", 3, None)
        assert said in nll.note and "100 importance samples" in nll.note


@pytest.mark.parametrize("row", schedules.ROWS)
def test_every_row_has_its_objective_and_networks(row: str) -> None:
    job = schedules.job(row, 100)
    model, objective = schedules.model(job), schedules.OBJECTIVES[job["method"]](job)
    assert isinstance(model.family, DeltaPosterior) == (job["method"] == "delta")
    assert isinstance(model.family, DeltaPosterior) or model.family is GaussianPosterior
    assert isinstance(model.likelihood, schedules.Autoregressive) == row.endswith("-deep")
    assert repr(objective) and set(schedules.OBJECTIVES) == set(schedules.SETTINGS)
