"""Named streams: independent by name, stable by row, cut by rank."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgan.noise import BLOCK, Noise, generator, key, rows


def test_a_key_is_the_same_everywhere() -> None:
    """Pinned (`b2sum -l 64` of the parts, halved): were it to change, no run could be resumed or repeated."""
    assert key(0, "prior", 17) == 6823654165879019512


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["prior", "posterior", "order"])), unique=True))
def test_keys_of_different_parts_differ(parts: list[tuple[int, str]]) -> None:
    keys = [key(*part) for part in parts]
    assert len(set(keys)) == len(keys) and all(0 <= k < 2**63 for k in keys)


def test_parts_do_not_run_together() -> None:
    assert key(1, 23) != key(12, 3) and key("a", "b") != key("ab")


def test_streams_are_independent() -> None:
    """Correlation of 40,000 numbers between any two names, steps or seeds within 5 standard errors."""
    n = 40_000
    streams = [Noise(seed, step)(name, (n,)) for seed in (0, 1) for step in (0, 1) for name in ("prior", "posterior")]
    table = torch.corrcoef(torch.stack(streams)).fill_diagonal_(0)
    assert table.abs().max() < 5 / math.sqrt(n)
    assert all(abs(s.mean()) < 5 / math.sqrt(n) and abs(s.var() - 1) < 5 * math.sqrt(2 / n) for s in streams)


def test_another_stream_shifts_nothing() -> None:
    noise = Noise(3, 5)
    alone = noise("prior", (4, 2))
    noise("between", (99,))
    assert torch.equal(noise("prior", (4, 2)), alone)


@given(st.integers(1, 3 * BLOCK), st.integers(0, 5 * BLOCK), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_row_i_is_row_i(n: int, start: int, d: int) -> None:
    whole = rows(8 * BLOCK, (d,), 1, "prior")
    assert torch.equal(rows(n, (d,), 1, "prior", start=start), whole[start : start + n])


def test_rows_do_not_repeat() -> None:
    whole = rows(4 * BLOCK, (1,), 1, "prior")
    assert len(whole.unique()) == len(whole)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_ranks_draw_the_rows_that_one_process_would(local: int, world: int, step: int) -> None:
    whole = Noise(7, step)("prior", (local * world, 3))
    parts = [Noise(7, step, rank, world)("prior", (local, 3)) for rank in range(world)]
    assert torch.equal(torch.cat(parts), whole)


def test_a_generator_is_fresh_each_time() -> None:
    assert torch.equal(torch.randn(3, generator=generator(1, "a")), torch.randn(3, generator=generator(1, "a")))


@pytest.mark.parametrize("n", [1, 63, 64, 65])
def test_block_borders(n: int) -> None:
    assert rows(n, (2,), 0, "prior", start=BLOCK - 1).shape == (n, 2)
