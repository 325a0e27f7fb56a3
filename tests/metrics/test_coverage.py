from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.metrics import neighbours
from amalgan.metrics.coverage import coverage, radii


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_brute_force(real: Tensor, fake: Tensor, k: int) -> tuple[float, float, float, float]:
    def reach(x: Tensor) -> Tensor:
        oracle = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(x.double().numpy())
        return torch.tensor(oracle.kneighbors()[0][:, k - 1])  # without arguments an item is not its own neighbour

    d = torch.cdist(real.double(), fake.double(), compute_mode="donot_use_mm_for_euclid_dist")
    inside = d <= reach(real)[:, None]
    recall = (d <= reach(fake)).any(1)
    return tuple(
        float(v)
        for v in (
            inside.any(0).double().mean(),
            recall.double().mean(),
            inside.double().sum(0).mean() / k,
            inside.any(1).double().mean(),
        )
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(7, 60), st.integers(7, 60), st.integers(1, 6), st.integers(1, 5))
def test_equals_brute_force(seed: int, n: int, m: int, d: int, k: int) -> None:
    real, fake = normal(n, d, seed), normal(m, d, seed + 1) * 0.7 + 0.3
    assert coverage(real, fake, k)[:4] == pytest.approx(by_brute_force(real, fake, k), abs=1e-12)


def test_tiles_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(211, 5, 0), normal(197, 5, 1) * 0.8
    whole, indices = coverage(real, fake), neighbours.nearest(real, k=3)[1]
    monkeypatch.setattr(neighbours, "ROWS", 16)
    monkeypatch.setattr(neighbours, "COLUMNS", 2)
    monkeypatch.setattr(neighbours, "SQUARE", 9)
    assert coverage(real, fake) == whole
    assert torch.equal(neighbours.nearest(real, k=3)[1], indices)


def test_many_items_are_compared_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(400, 16, 0) + 3, normal(300, 16, 1) * 0.9 + 3
    exact = coverage(real, fake)
    monkeypatch.setattr(neighbours, "MANY", 0)
    asked: list[torch.dtype] = []
    plain = neighbours.squared_distances
    monkeypatch.setattr(neighbours, "squared_distances", lambda x, *more: (asked.append(x.dtype), plain(x, *more))[1])
    assert coverage(real, fake)[:4] == pytest.approx(exact[:4], abs=0.01)
    assert set(asked) == {torch.float32}


def test_more_balls_than_a_byte_counts() -> None:
    """700 reals in the corners of a regular simplex, so that each ball holds all others and a fake in the middle."""
    real = torch.eye(700)
    found = coverage(real, torch.cat([real.mean(0)[None], torch.full((9, 700), 50.0) * torch.arange(1, 10)[:, None]]))
    assert found.density == pytest.approx(700 / 10 / 5) and found.coverage == 1 and found.precision == 1 / 10


def test_by_hand() -> None:
    # On a line, k = 1. Reals 0 1 2 10: radii 1 1 1 8. Fakes 0.5, 10, 11 and 30: radii 9.5 1 1 19.
    real, fake = torch.tensor([[0.0], [1], [2], [10]]), torch.tensor([[0.5], [10], [11], [30]])
    assert radii(real, 1).tolist() == [1, 1, 1, 8]
    found = coverage(real, fake, k=1)
    assert found.precision == 3 / 4  # 30 lies in no real ball
    assert found.density == (2 + 1 + 1 + 0) / 4  # 0.5 lies in the balls of 0 and 1; 10 and 11 in that of 10
    assert found.recall == 1  # 0, 1, 2 and 10 are all within 9.5 of 0.5
    assert found.coverage == 3 / 4  # no fake within 1 of 2


def test_collapse_is_high_precision_and_no_recall() -> None:
    real = normal(1000, 4, 0)
    collapsed = real[:1] * 0.1 + 0.001 * normal(1000, 4, 1)  # near the centre, where real images are dense
    found = coverage(real, collapsed)
    assert found.precision == 1 and found.recall < 0.01 and found.coverage < 0.05 and found.density > 1
    spread = coverage(collapsed, real)
    assert spread.precision < 0.01 and spread.recall == 1, "the right way round"


def test_exact_collapse_and_copies() -> None:
    real = normal(300, 4, 0) + 5
    one = coverage(real, real[:1].expand(300, 4))
    assert one.precision == 1 and one.recall == 1 / 300
    same = coverage(real, real.clone())
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)


def test_noise_everywhere_has_low_precision() -> None:
    found = coverage(normal(500, 8, 0) * 0.1, normal(500, 8, 1) * 3)
    assert found.precision < 0.01 and found.coverage < 0.02 and found.density < 0.01


def test_real_against_real_is_as_published() -> None:
    # Expected coverage of one law against itself is 1 - 2^-k for n = m large (Naeem et al. 2020): 31/32, s.d. about
    # 0.006 here.
    found = coverage(normal(2000, 6, 0), normal(2000, 6, 1), k=5)
    assert found.coverage == pytest.approx(31 / 32, abs=0.025)
    assert found.density == pytest.approx(1, abs=0.1)


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="smaller k"):
        coverage(normal(5, 2, 0), normal(9, 2, 1), k=5)
    with pytest.raises(UsageError, match="same feature network"):
        coverage(normal(9, 2, 0), normal(9, 3, 1))
