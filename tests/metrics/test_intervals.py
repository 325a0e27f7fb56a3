from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # comes with scikit-learn, the oracle of these tests

from amalgan.errors import UsageError
from amalgan.metrics.intervals import (
    bootstrap,
    clearly_better,
    difference,
    seed_interval,
    share,
    t_probability,
    t_quantile,
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 7, 9, 10, 29, 30, 100, 1001])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_quantile_equals_scipy(degrees: int, confidence: float) -> None:
    assert t_quantile(degrees, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-8)


def test_quantile_by_hand() -> None:
    # One degree of freedom is Cauchy's distribution: P(|T| < t) = 2/pi atan(t); two: t = p sqrt(2 / (1 - p^2)).
    assert t_quantile(1, 0.95) == pytest.approx(math.tan(0.95 * math.pi / 2))
    assert t_quantile(2, 0.95) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)))
    assert t_probability(0.0, 5) == 0


def test_seed_interval_by_hand() -> None:
    # mean 2, s = 1, m = 3: half width 4.302653 / sqrt(3)
    value, low, high, n = seed_interval([1.0, 2.0, 3.0])
    assert (value, n) == (2.0, 3)
    assert high - value == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6) and value - low == pytest.approx(
        high - value
    )


def test_one_seed_says_nothing() -> None:
    assert seed_interval([0.3]) == (0.3, -math.inf, math.inf, 1)
    assert not clearly_better([0.0], [1e9], lower_is_better=True)
    with pytest.raises(UsageError, match="no values"):
        seed_interval([])


def test_pairing_sees_what_separate_intervals_do_not() -> None:
    luck = [0.0, 5.0, 10.0, 20.0]
    a, b = [v + 1 for v in luck], [v + 1.5 + 0.01 * i for i, v in enumerate(luck)]
    assert seed_interval(a).high > seed_interval(b).low, "apart, the intervals overlap"
    assert clearly_better(a, b, lower_is_better=True) and not clearly_better(b, a, lower_is_better=True)
    assert clearly_better(b, a, lower_is_better=False) and not clearly_better(a, b, lower_is_better=False)


def test_nothing_is_better_than_itself_and_lengths_must_match() -> None:
    assert not clearly_better([1.0, 2.0], [1.0, 2.0], True) and not clearly_better([1.0, 2.0], [1.0, 2.0], False)
    with pytest.raises(UsageError, match="same seeds"):
        difference([1.0], [1.0, 2.0])


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8), st.floats(-50, 50), st.floats(0.1, 10))
def test_interval_moves_and_scales_with_its_values(values: list[float], shift: float, scale: float) -> None:
    plain, moved = seed_interval(values), seed_interval([scale * v + shift for v in values])
    assert moved.low == pytest.approx(scale * plain.low + shift, abs=1e-6)
    assert moved.high == pytest.approx(scale * plain.high + shift, abs=1e-6)


def test_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    items = torch.randn(2000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = bootstrap(items, seed=3)
    half = 1.96 * float(items.std()) / math.sqrt(2000)
    assert found.value == float(items.mean()) and found.n == 2000
    assert found.half_width == pytest.approx(half, rel=0.15)
    assert bootstrap(items, seed=3) == found and bootstrap(items, seed=4) != found
    assert bootstrap(torch.full((5,), 2.0)).low == 2.0


def test_shares_have_wilson_intervals() -> None:
    """Of 10 trials 1, 9 and none: Brown, Cai and DasGupta 2001 give [0.018, 0.404] for 1 of 10."""
    one, nine, none = share(1, 10), share(9, 10), share(0, 10)
    assert (one.low, one.high) == pytest.approx((0.0179, 0.4042), abs=1e-3)
    assert (nine.low, nine.high) == pytest.approx((1 - one.high, 1 - one.low))
    assert none.value == none.low == 0 and none.high == pytest.approx(0.2775, abs=1e-3)
    with pytest.raises(UsageError, match="11 of 10"):
        share(11, 10)
