"""Weights: numbers, schedules, sums."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amalgan import objectives as o
from amalgan.errors import UsageError
from amalgan.objectives.core import Loss, Objective, Turn


class Constant(Objective):
    """A loss of a given value on both turns."""

    def __init__(self, name: str, value: float) -> None:
        self.name, self.value = name, value

    def losses(self, turn: Turn) -> Iterator[Loss]:
        yield Loss(self.name, torch.tensor(self.value), ("decoder",))


def weights(objective: Objective, player: str = "generator", progress: float = 0.0) -> dict[str, float]:
    nothing: Any = None
    return {loss.name: loss.weight for loss in objective.losses(Turn(nothing, player, 0, progress))}


def test_warm_up() -> None:
    rise = o.warm_up(2.0, share=0.5, start=1.0)
    assert [rise(p) for p in (0.0, 0.25, 0.5, 1.0)] == [1.0, 1.5, 2.0, 2.0]
    assert o.warm_up(share=0)(0.0) == 1.0


def test_a_warm_up_may_begin_late() -> None:
    rise = o.warm_up(3.0, share=0.25, start=1.0, begin=0.5)
    assert [rise(p) for p in (0.0, 0.49, 0.5, 0.625, 0.75, 1.0)] == [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]
    step = o.warm_up(2.0, share=0.0, begin=0.5)
    assert [step(p) for p in (0.0, 0.49, 0.5, 1.0)] == [0.0, 0.0, 2.0, 2.0]


def test_cyclic() -> None:
    wave = o.cyclic(2.0, cycles=4, share=0.5)
    assert wave(0.0) == 0.0
    assert wave(1 / 16) == pytest.approx(1.0)  # a quarter into the first cycle
    assert wave(1 / 8) == wave(0.24) == 2.0  # the rise is over, then flat
    assert wave(0.25) == 0.0  # and anew
    assert wave(1.0) == 2.0


def test_decay() -> None:
    fall = o.decay(3.0, 1.0)
    assert [fall(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([3.0, 2.0, 1.0])
    assert fall(0.25) == pytest.approx(1 + 2 * (1 + math.sqrt(0.5)) / 2)


@given(st.floats(0, 1), st.floats(0, 10), st.integers(1, 9), st.floats(0.05, 1))
def test_schedules_stay_within_their_ends(progress: float, to: float, cycles: int, share: float) -> None:
    for schedule in (o.warm_up(to, share), o.warm_up(to, share, begin=0.3), o.cyclic(to, cycles, share), o.decay(to)):
        assert -1e-9 <= schedule(progress) <= to + 1e-9


def test_weights_multiply_on_the_generators_turn_only() -> None:
    objective = 2 * (Constant("a", 1.0) + 3 * Constant("b", 1.0)) + Constant("c", 1.0) * 0
    assert weights(objective) == {"a": 2, "b": 6, "c": 0}
    assert weights(objective, "discriminator") == {"a": 1, "b": 1, "c": 1}


def test_a_schedule_is_a_weight() -> None:
    objective = o.warm_up(4.0, share=1.0) * Constant("a", 1.0)
    assert [weights(objective, progress=p)["a"] for p in (0.0, 0.5, 1.0)] == [0.0, 2.0, 4.0]


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_is_a_number_from_zero_on(weight: float) -> None:
    with pytest.raises(UsageError, match=">= 0"):
        weight * Constant("a", 1.0)
