from __future__ import annotations

import pytest
import torch
from metrics_fakes import LinearGaussian, digits

from amalgan.data.core import Split
from amalgan.errors import UsageError
from amalgan.metrics.reconstruction import mean_item, pixel_error, reconstruct


def test_pixel_error_by_hand() -> None:
    x, y = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    y[0, 0, 0, 0], y[1, 0, 1, 1] = 1.0, 0.5
    assert pixel_error(x, y) == (1 + 0.25) / 8
    assert pixel_error(x, x) == 0 and pixel_error(x, y) == pixel_error(y, x)
    with pytest.raises(UsageError, match=r"\(1, 2, 2\)"):
        pixel_error(x, y[0])


def test_the_mean_image_is_the_best_constant() -> None:
    train = digits().train
    mean = mean_item(train, batch=100)
    assert torch.allclose(mean, train.x.mean(0), atol=1e-6) and torch.equal(mean, mean_item(train.x, batch=100))
    best = pixel_error(train.x, mean.expand_as(train.x))
    assert best == pytest.approx(float(train.x.var(0, unbiased=False).mean()), rel=1e-5)
    assert best < pixel_error(train.x, (mean + 0.01).expand_as(train.x))
    assert mean_item(Split(torch.full((3, 1, 2, 2), 51, dtype=torch.uint8), None)).unique().item() == pytest.approx(0.2)


def test_reconstruct_does_not_depend_on_the_batch() -> None:
    model = LinearGaussian((1, 4, 4), 3)
    x = model.sample(11)
    assert torch.allclose(reconstruct(model, x, batch=4), model.reconstruct(x), atol=1e-6)
    assert not reconstruct(model, x).requires_grad
