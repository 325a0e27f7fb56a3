from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from amalgan.errors import AmalganError, UsageError
from amalgan.metrics.distance import Moments, frechet, kernel, kernel_u_statistic, moments


def cloud(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator) / math.sqrt(d)
    return torch.randn(n, d, generator=generator) @ mix * scale + shift


def gaussian(mean: list[float], covariance: list[list[float]]) -> Moments:
    return Moments(10**6, torch.tensor(mean, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64))


def test_frechet_by_hand() -> None:
    # Means 3-4-5 apart, covariances diag(1, 4) and diag(9, 16): 25 + (1 - 3)^2 + (2 - 4)^2 = 33.
    a, b = gaussian([0, 0], [[1, 0], [0, 4]]), gaussian([3, 4], [[9, 0], [0, 16]])
    assert frechet(a, b) == pytest.approx(33, rel=1e-12)


def test_frechet_of_covariances_that_do_not_commute() -> None:
    # In two dimensions tr (AB)^1/2 = sqrt(tr AB + 2 sqrt(det A det B)).
    a, b = gaussian([0, 0], [[2, 1], [1, 3]]), gaussian([0, 0], [[4, -1], [-1, 1]])
    root = math.sqrt((2 * 4 - 1 - 1 + 3) + 2 * math.sqrt(5 * 3))
    assert frechet(a, b) == pytest.approx(5 + 5 - 2 * root, rel=1e-12)


def test_frechet_of_singular_clouds() -> None:
    # All mass on a line, along different axes: the cross term vanishes; against a single point only the trace is left.
    a, b = gaussian([0, 0], [[4, 0], [0, 0]]), gaussian([0, 0], [[0, 0], [0, 9]])
    assert frechet(a, b) == pytest.approx(13)
    assert frechet(a, gaussian([0, 0], [[0, 0], [0, 0]])) == pytest.approx(4)


class Flat(nn.Module):
    """Images to their 12 values: a feature network for torchmetrics."""

    num_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def pair(n: int = 300) -> tuple[Tensor, Tensor]:
    return cloud(n, 12, 0).sigmoid(), cloud(n, 12, 1, 0.7, 0.3).sigmoid()


def test_frechet_equals_torchmetrics() -> None:
    a, b = pair()
    oracle = FrechetInceptionDistance(feature=Flat(), normalize=False, input_img_size=(3, 2, 2)).set_dtype(
        torch.float64
    )
    oracle.update(a.view(-1, 3, 2, 2).double(), real=True)
    oracle.update(b.view(-1, 3, 2, 2).double(), real=False)
    assert frechet(a, b) == pytest.approx(float(oracle.compute()), rel=1e-6)


def test_kernel_equals_torchmetrics() -> None:
    a, b = pair()
    oracle = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=300)
    oracle.update(a.view(-1, 3, 2, 2), real=True)
    oracle.update(b.view(-1, 3, 2, 2), real=False)
    assert kernel_u_statistic(a, b) == pytest.approx(float(oracle.compute()[0]), rel=1e-3)  # the oracle is in float32


def test_kernel_by_hand() -> None:
    # d = 1, x = {0, 1}, y = {1, 2}: k = (xy + 1)^3; within x: k(0, 1) = 1; within y: k(1, 2) = 27; across: (1 + 1 + 8 +
    # 27) / 4.
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    assert kernel_u_statistic(x, y) == pytest.approx(1 + 27 - 2 * 37 / 4)


def test_kernel_is_unbiased_and_its_error_is_honest() -> None:
    # 40 draws of two clouds of one law. The mean is within 4 standard errors of zero (false alarms: 6e-5) and so is
    # each draw's ratio to its own stated error, five subsets each, within 12 (t with 4 degrees: 3e-4 a draw).
    draws = [
        kernel(
            torch.randn(250, 4, generator=torch.Generator().manual_seed(s)),
            torch.randn(250, 4, generator=torch.Generator().manual_seed(s + 999)),
        )
        for s in range(40)
    ]
    values = torch.tensor([d.value for d in draws])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(40)
    assert max(abs(d.value / d.standard_error) for d in draws) < 12
    assert kernel(cloud(250, 4, 0), cloud(250, 4, 0, shift=1)).value > 10 * abs(values).max()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 8), st.integers(3, 40))
def test_laws(seed: int, d: int, n: int) -> None:
    a, b = cloud(n, d, seed), cloud(n + 1, d, seed + 1, 2.0)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-6, abs=1e-6) and frechet(a, b) >= 0
    assert kernel_u_statistic(a, b) == pytest.approx(kernel_u_statistic(b, a))
    turned, _ = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed)))
    assert frechet(a @ turned, b @ turned) == pytest.approx(frechet(a, b), rel=1e-3, abs=1e-3)


def test_moments_survive_a_large_offset() -> None:
    # Sum of squares minus square of sums would lose all digits here.
    a = cloud(5000, 3, 0).double()
    assert torch.allclose(moments(a + 1e7).covariance, moments(a).covariance, atol=1e-6)
    assert torch.allclose(moments(a).covariance, torch.cov(a.T), atol=1e-12)


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="n >= 2"):
        frechet(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(UsageError, match="3 features against 4"):
        frechet(torch.zeros(5, 3), torch.zeros(5, 4))
    with pytest.raises(UsageError, match="3 features against 4"):
        kernel(torch.zeros(5, 3), torch.zeros(5, 4))
    broken = torch.zeros(5, 3)
    broken[2, 1] = math.nan
    with pytest.raises(AmalganError, match="1 of 5 rows"):
        kernel(torch.zeros(5, 3), broken)
