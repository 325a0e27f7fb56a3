from __future__ import annotations

import math

import pytest
import torch
from metrics_fakes import ring, ring_means

from amalgan.errors import UsageError
from amalgan.metrics.modes import class_modes, jsd, kl, mixture_modes


def test_divergences_by_hand() -> None:
    p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    assert kl(p, q) == pytest.approx(math.log(2)) and kl(q, p) == math.inf and kl(q, q) == 0
    assert jsd(p, q) == pytest.approx((math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2)
    assert jsd(p, q) == jsd(q, p) and jsd(p, 1 - p) == pytest.approx(math.log(2))


def test_the_true_ring() -> None:
    found = mixture_modes(ring(7500).test.x, ring_means(), 0.01)
    # In two dimensions P(distance < 3 sigma) = 1 - exp(-4.5) = 0.98889; at n = 2,500 the s.d. is 0.0021.
    assert (found.modes, found.modes_strict) == (8, 8)
    assert found.quality == pytest.approx(1 - math.exp(-4.5), abs=0.0085)  # four s.d.: one false alarm in 16,000
    assert found.reverse_kl < 0.005 and found.jsd < 0.002


def test_collapse_onto_one_mode() -> None:
    found = mixture_modes(ring_means()[:1].expand(2500, 2), ring_means(), 0.01)
    assert (found.modes, found.quality) == (1, 1)
    assert found.reverse_kl == pytest.approx(math.log(8))


def test_stray_samples_count_only_by_the_weak_rule() -> None:
    samples = ring_means()[:1].repeat(2500, 1)
    samples[:7] = ring_means()[1:]
    found = mixture_modes(samples, ring_means(), 0.01)
    assert (found.modes, found.modes_strict) == (8, 1)


def test_the_border_of_quality() -> None:
    # Four samples of eight: just inside, just outside, far off.
    means = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    found = mixture_modes(torch.tensor([[0.029, 0.0], [0.031, 0.0], [1.0, 0.0], [0.5, 0.5]]), means, 0.01)
    assert found.quality == 0.5 and found.counts.tolist() == [1, 1] and found.reverse_kl == 0


def test_nothing_good_is_the_worst_value() -> None:
    found = mixture_modes(torch.full((10, 2), 9.0), ring_means(), 0.01)
    assert (found.modes, found.quality, found.reverse_kl, found.jsd) == (0, 0, math.log(8), math.log(2))
    with pytest.raises(UsageError, match="means"):
        mixture_modes(torch.zeros(5, 3), ring_means(), 0.01)


def test_classes() -> None:
    real = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    even = class_modes(real, real, classes=5)  # class 4 does not occur in the real data
    assert (even.modes, even.modes_strict, even.kl) == (4, 4, 0)
    skewed = class_modes(torch.tensor([0] * 15 + [1]), real, classes=5)
    assert (skewed.modes, skewed.modes_strict) == (2, 1)
    assert skewed.kl == pytest.approx(15 / 16 * math.log(15 / 4) + 1 / 16 * math.log(1 / 4))
