"""The Jensen-Shannon estimate against divergences that are known, and what it says where it cannot say more."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from amalgan.errors import UsageError
from amalgan.metrics.divergence import Divergence, jensen_shannon


def known(mean: float, sigma: float) -> float:
    """JSD(N(0, 1), N(mean, sigma^2)) in nats, by a sum over a fine grid."""
    grid = torch.linspace(-14, 16, 300_001, dtype=torch.float64)
    p, q = Normal(0.0, 1.0).log_prob(grid).exp(), Normal(mean, sigma).log_prob(grid).exp()
    middle, step = (p + q) / 2, float(grid[1] - grid[0])

    def kl(a: Tensor) -> float:
        return float(torch.special.xlogy(a, a / middle.clamp(min=1e-300)).sum()) * step

    return (kl(p) + kl(q)) / 2


def two(mean: float, sigma: float, n: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """N(0, I), and the same but for its first column."""
    source = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(n, width, generator=source), torch.randn(n, width, generator=source)
    fake[:, 0] = mean + sigma * fake[:, 0]
    return real, fake


@pytest.mark.slow
@pytest.mark.parametrize("mean, sigma", [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (0.0, 2.0)])
@pytest.mark.parametrize("width", [1, 8])
def test_it_comes_near_a_known_divergence_from_below(mean: float, sigma: float, width: int) -> None:
    """Within four standard errors above (a false alarm in 30,000), and no more than 0.03 nats of loss below."""
    found = jensen_shannon(*two(mean, sigma, 2000, width, seed=0))
    error = (found.high - found.low) / (2 * 1.96)
    truth = known(mean, sigma)
    assert truth - 0.03 - 4 * error < found.value < truth + 4 * error
    assert not found.saturated
    if mean == 0 and sigma == 1:
        assert "do not tell the two apart" in found.sentence
    else:
        assert found.low > 0 and "were mistaken" in found.sentence


def test_narrow_sets_saturate_however_near_they_lie() -> None:
    """Twenty widths of a line apart, a fiftieth of its length: the estimate cannot know how near that is."""
    source = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(500, 2, generator=source) * torch.tensor([1.0, 1e-3]) for _ in range(2))
    found = jensen_shannon(real, fake + torch.tensor([0.0, 0.02]))
    assert found.saturated and found.value == pytest.approx(math.log(2), abs=0.02)
    assert "not by how much" in found.sentence


def test_a_discriminator_that_learns_nothing_tells_nothing_apart() -> None:
    """Stopped where it began, it calls no example real and none generated: that is not to mistake none."""
    alike = [torch.randn(60, 64, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3)]
    found = jensen_shannon(*alike, seed=1)
    assert found.value == pytest.approx(0, abs=0.05) and not found.saturated and found.mistaken >= 40
    assert "do not tell the two apart" in found.sentence and "-0.000" not in found.sentence


def test_hardly_below_nothing_is_nothing() -> None:
    assert "at least 0.000 nats [0.000, 0.000]" in Divergence(-1e-16, -2e-16, 0.0, 60, 120).sentence


@pytest.mark.slow
def test_it_is_the_same_again_and_leaves_the_generator_alone() -> None:
    real, fake = two(1.0, 1.0, 200, 2, seed=3)
    first = jensen_shannon(real, fake, seed=1)
    assert jensen_shannon(real, fake, seed=1) == first
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    jensen_shannon(real, fake)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("shapes", [((100, 2), (100, 3)), ((30, 2), (100, 2)), ((100,), (100,))])
def test_what_cannot_be_compared_is_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match="40 rows"):
        jensen_shannon(*(torch.zeros(shape) for shape in shapes))
