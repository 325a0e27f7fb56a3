"""Judges of windows: what they say where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from amalgan.data import series as data
from amalgan.metrics import series as m


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges that learn for a quarter of their time: enough for what is asked here."""
    monkeypatch.setattr(m, "STEPS", 100)
    monkeypatch.setattr(m, "TIMES", 1)


def sines(count: int, seed: int = 0, steps: int = 16) -> Tensor:
    made = data.sines(f"sines:T={steps},D=1,N={count}", seed)
    return torch.from_numpy((made.values.reshape(count, steps, 1) + 1) / 2).float()


def autoregressive(a: Tensor, count: int, steps: int, seed: int = 0) -> Tensor:
    """x_t = 0.3 + A x_{t-1} + e, e ~ N(0, 0.01)."""
    source = torch.Generator().manual_seed(seed)
    x = [torch.zeros(count, len(a))]
    for _ in range(steps + 50):
        x.append(0.3 + x[-1] @ a.T + 0.1 * torch.randn(count, len(a), generator=source))
    return torch.stack(x[-steps:], 1)


def test_halves_of_the_same_data_cannot_be_told_apart_and_unlike_data_can() -> None:
    x = sines(2000)
    alike = m.discriminative(x[:600], x[600:1000], x[1000:1600], x[1600:])
    unlike = m.discriminative(x[:600], x[600:1000], *m.shuffled(x[1000:]).tensor_split([600]))
    assert alike < 0.04 and unlike > 0.42
    jitter = x[1000:] + 0.2 * torch.randn(x[1000:].shape, generator=torch.Generator().manual_seed(0))
    assert m.discriminative(x[:600], x[600:1000], *jitter.tensor_split([600])) > 0.4


def test_a_predictor_is_worth_what_it_learned_from() -> None:
    x = sines(1200)
    real = x[800:]
    good, bad, trivial = m.predicted(x[:800], real), m.predicted(m.shuffled(x[:800]), real), m.last_row(real)
    assert good < 0.5 * trivial and bad > 0.8 * trivial
    assert trivial == pytest.approx(float((real[:, 1:] - real[:, :-1]).abs().mean()))
    constant = torch.full((50, 16, 1), 0.5)
    assert m.predicted(constant, real) == pytest.approx(trivial, rel=0.05)  # it learned that nothing changes


def test_a_classifier_that_learned_from_samples() -> None:
    made = data.sines("sines:T=16,D=1,K=2,N=900", 0)
    x = torch.from_numpy((made.values.reshape(900, 16, 1) + 1) / 2).float()
    assert made.label is not None
    c = torch.from_numpy((made.label[::16] == made.label[0]).astype(np.int64))
    (right,) = m.accuracies(x[:600], c[:600], [(x[600:], c[600:])], 2)
    (wrong,) = m.accuracies(x[:600], 1 - c[:600], [(x[600:], c[600:])], 2)
    assert right > 0.85 and wrong < 0.15


def test_autocorrelation_of_a_cosine_is_a_cosine() -> None:
    """Of whole periods, with any phase: cos(w k) at lag k, up to the ends of the window."""
    t, phase = torch.arange(64), 2 * np.pi * torch.rand(4000, 1, generator=torch.Generator().manual_seed(0))
    x = torch.cos(2 * np.pi * t / 16 + phase)[:, :, None]
    found = m.autocorrelation(x)[:, 0]
    assert torch.allclose(found, torch.cos(2 * np.pi * torch.arange(1, 33) / 16).double(), atol=0.02)
    assert m.autocorrelation_difference(x, x + 3) == pytest.approx(0, abs=1e-5)


def test_correlations_by_numpy() -> None:
    x = autoregressive(torch.tensor([[0.5, 0.4], [0.0, 0.5]]), 300, 10)
    y = m.shuffled(x)
    some, others = (np.corrcoef((z - z.mean(1, keepdim=True)).reshape(-1, 2).T.numpy())[0, 1] for z in (x, y))
    assert m.correlation_difference(x, y) == pytest.approx(abs(some - others), abs=1e-6)


def test_a_vector_autoregression_recovers_its_coefficients() -> None:
    a = torch.tensor([[0.5, 0.3], [-0.2, 0.4]])
    x = autoregressive(a, 400, 20)
    fitted = m.VectorAutoregression(x)
    assert fitted.order == 1
    assert torch.allclose(fitted.solved[0], torch.full((2,), 0.3).double(), atol=0.02)
    assert torch.allclose(fitted.solved[1:].T, a.double(), atol=0.03)
    assert torch.allclose(fitted.covariance, 0.01 * torch.eye(2).double(), atol=5e-4)
    made = fitted.sample(3000, 1)
    assert torch.allclose(made.mean((0, 1)), x.mean((0, 1)), atol=0.02)
    assert m.autocorrelation_difference(made, x) < 0.02
    assert torch.equal(fitted.sample(5, 1), made[:5])


def test_a_second_order_needs_two_rows() -> None:
    """A sine obeys x_t = 2 cos(w) x_{t-1} - x_{t-2}."""
    t, phase = torch.arange(20), 6.28 * torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
    x = torch.sin(0.7 * t + phase)[:, :, None]
    x = x + 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    fitted = m.VectorAutoregression(x)
    assert fitted.order >= 2
    assert m.autocorrelation_difference(fitted.sample(500), x) < 0.05


def test_the_bootstrap_is_made_of_blocks_that_followed_alike_rows() -> None:
    x = sines(300, steps=60)[:, :15]
    blocks = {tuple(window[t : t + 5].flatten().tolist()) for window in x for t in range(11)}
    made = m.BlockBootstrap(x).sample(40)
    assert made.shape == (40, 15, 1)
    assert all(tuple(part.flatten().tolist()) in blocks for window in made for part in window.split(5))
    free = m.shuffled(x)[:40].diff(dim=1).abs().mean()
    assert made[:, [5, 10]].sub(made[:, [4, 9]]).abs().mean() < 0.5 * free
    assert torch.equal(m.BlockBootstrap(x).sample(7), made[:7])
