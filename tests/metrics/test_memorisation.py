from __future__ import annotations

import pytest
import torch
from metrics_fakes import digits
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional as F

from amalgan.data.core import Split
from amalgan.errors import UsageError
from amalgan.metrics.memorisation import distances_to, memorisation, near_duplicate_threshold, uniqueness


def test_neighbours_equal_brute_force_also_through_a_split() -> None:
    data = digits()
    x, train = data.test.x, data.train
    oracle = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train.x.flatten(1).double().numpy())
    distance, index = oracle.kneighbors(x.flatten(1).double().numpy())
    for reference in (train.x, train):
        found, where = distances_to(x, reference)
        assert torch.allclose(found, torch.tensor(distance[:, 0]), atol=1e-6)
        assert (where.numpy() == index[:, 0]).mean() > 0.99  # ties may fall either way


def test_a_model_that_copies_is_seen() -> None:
    data = digits()
    generator = torch.Generator().manual_seed(0)
    copies = data.train.x[:400] + 1e-3 * torch.randn(400, 1, 8, 8, generator=generator)
    found = memorisation(copies, data.train, data.test.x)
    assert found.share == 1 and found.ratio < 0.05 and found.copies == 0
    assert found.neighbour.tolist() == list(range(400))
    assert memorisation(data.train.x[:50], data.train, data.test.x).copies == 1


def test_a_model_that_generalises_is_not_accused() -> None:
    data = digits()
    found = memorisation(data.validation.x, data.train, data.test.x)
    assert found.ratio == pytest.approx(1, abs=0.1)
    assert found.share < 0.06  # expected 0.01; of 200 samples more than 11 by chance: 1e-6


def test_blur_is_nearer_but_is_no_copy() -> None:
    data = digits()
    blurred = F.avg_pool2d(data.validation.x, 3, 1, 1)
    found = memorisation(blurred, data.train, data.test.x)
    assert found.copies == 0
    noise = memorisation(torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)), data.train, data.test.x)
    assert noise.share == 0 and noise.ratio > 1.3


def test_uniqueness() -> None:
    data = digits()
    threshold = near_duplicate_threshold(data.test.x)
    real = uniqueness(data.test.x, threshold)
    assert real.unique == pytest.approx(0.99, abs=0.005) and real.distinct == 1
    few = uniqueness(data.train.x[:10].repeat(40, 1, 1, 1), threshold)
    assert few.unique == 0 and few.distinct == 10 / 400
    half = torch.cat([data.train.x[:100], data.train.x[:100] + 1e-4])
    assert uniqueness(half, threshold)[:2] == (0, 1)


def test_uniqueness_when_real_images_repeat() -> None:
    real = torch.eye(4).repeat(2, 1)
    assert near_duplicate_threshold(real) == 0
    assert uniqueness(real, 0.0).unique == 0 and uniqueness(torch.eye(4), 0.0).unique == 1


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="same shape"):
        memorisation(torch.zeros(3, 1, 8, 8), Split(torch.zeros(3, 1, 8, 8), None), torch.zeros(3, 1, 4, 4))
