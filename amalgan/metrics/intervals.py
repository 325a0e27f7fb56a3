"""How sure is a number: intervals over seeds, over items, and of paired differences.

Over m seeds with values v_1..v_m, mean v and sample deviation s, the interval is v +- t * s / sqrt(m), where t is the
quantile of Student's distribution with m - 1 degrees of freedom. Two recipes run on the same seeds are compared by the
interval of their
paired differences: the seed's own luck (data order, initial weights) then cancels.

The quantile needs no table. For a whole number v of degrees of freedom, with theta = atan(t / sqrt(v)), the probability
of |T| < t is a finite sum (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4), and bisection inverts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from amalgan.errors import UsageError


class Interval(NamedTuple):
    """A value, the bounds of its interval and the number n of seeds or items; one seed alone has infinite bounds."""

    value: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def t_probability(t: float, degrees: int) -> float:
    """P(|T| < t) for Student's T with a whole number of `degrees` of freedom (Abramowitz & Stegun 26.7.3, 26.7.4)."""
    theta = math.atan2(t, math.sqrt(degrees))
    cos, sin = math.cos(theta), math.sin(theta)
    odd = degrees % 2
    total, term = 0.0, (cos if odd else 1.0)
    for j in range(
        1 + odd, degrees, 2
    ):  # terms cos^(j-1) with coefficients 2*4*.. / 3*5*.. (odd) or 1*3*.. / 2*4*.. (even)
        total += term
        term *= cos * cos * j / (j + 1)
    return 2 / math.pi * (theta + sin * total) if odd else sin * total


def t_quantile(degrees: int, confidence: float = 0.95) -> float:
    """The t for which P(|T| < t) = `confidence`; 12.706 for one degree of freedom at 95 %, 1.960 for very many."""
    if degrees < 1 or not 0 < confidence < 1:
        raise UsageError(
            f"a t quantile with {degrees} degrees of freedom at confidence {confidence}",
            "fewer than one degree of freedom, or a confidence outside (0, 1)",
            "give at least two values and a confidence such as 0.95",
        )
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def seed_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean over seeds and its t-interval: v +- t(m - 1) * s / sqrt(m). With one seed the bounds are infinite."""
    m = len(values)
    if m == 0:
        raise UsageError("an interval over seeds", "no values", "run at least one seed")
    mean = math.fsum(values) / m
    if m == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    s = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (m - 1))
    half = t_quantile(m - 1, confidence) * s / math.sqrt(m)
    return Interval(mean, mean - half, mean + half, m)


def share(successes: int, of: int, confidence: float = 0.95) -> Interval:
    """A share and its interval (Wilson 1927): (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n).

    Raises:
        UsageError: a share of nothing, or of fewer than there are successes.
    """
    if not 0 <= successes <= of or of < 1:
        raise UsageError("the interval of a share", f"{successes} of {of}", "count successes among one trial or more")
    p, z = successes / of, t_quantile(10_000, confidence)
    middle, reach = p + z**2 / (2 * of), z * math.sqrt(p * (1 - p) / of + z**2 / (4 * of**2))
    low, high = ((middle + side * reach) / (1 + z**2 / of) for side in (-1, 1))
    return Interval(p, min(p, max(0.0, low)), max(p, min(1.0, high)), of)


def difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """The t-interval of the paired differences a_i - b_i, where a_i and b_i share the seed i."""
    if len(a) != len(b):
        raise UsageError(
            "a paired comparison over seeds",
            f"{len(a)} values against {len(b)}",
            "run both recipes on the same seeds and pass the values in the same order",
        )
    return seed_interval([u - v for u, v in zip(a, b)], confidence)


def clearly_better(a: Sequence[float], b: Sequence[float], lower_is_better: bool, confidence: float = 0.95) -> bool:
    """Whether a beats b beyond chance: the paired t-interval lies on the better side of zero. Never on one seed."""
    interval = difference(a, b, confidence)
    return interval.high < 0 if lower_is_better else interval.low > 0


def bootstrap(
    items: Tensor,
    statistic: Callable[[Tensor], float | Tensor] = torch.mean,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """The percentile interval of a statistic under resampling of items with replacement (Efron 1979).

    Arguments:
        items: (N, ...), one entry an item; resampled along the first dimension.
        statistic: items -> number.
    """
    n = len(items)
    if n == 0:
        raise UsageError("a bootstrap interval", "no items", "pass at least one item")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.tensor(
        [float(statistic(items[torch.randint(n, (n,), generator=generator)])) for _ in range(resamples)],
        dtype=torch.float64,
    )
    tail = (1 - confidence) / 2
    low, high = torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(float(statistic(items)), low, high, n)
