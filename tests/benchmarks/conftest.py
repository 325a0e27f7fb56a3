"""Benchmarks let the processor flush the smallest numbers to zero; tests after them want those back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _numbers_as_small_as_they_come() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)
