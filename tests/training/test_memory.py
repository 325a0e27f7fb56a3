"""Parts of a batch that fit into memory: the fewest, whatever else a trainer keeps."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from law_six import plan, split

import amalgan
from amalgan.errors import UsageError
from amalgan.training import Trainer, memory

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process holds")


class Machine:
    """Memory of which a step takes what the trainer keeps, and so many bytes an example."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, example: int, free: int | None) -> None:
        self.example, self.kept, self.held, self.tried = example, 0, 500, list[int]()
        monkeypatch.setattr(memory, "reset_peak", lambda device: True)
        monkeypatch.setattr(memory, "peak", lambda device: self.held)
        monkeypatch.setattr(memory, "free", lambda device: free)

    def make(self, batch: int) -> Trainer:
        self.tried.append(batch)
        trainer = Trainer(replace(plan("vae"), batch=batch), split("vae"), 1000 * memory.LAZIEST)
        weights = sum(p.numel() for p in trainer.model.parameters())
        self.held = 500 + 4 * weights * (5 if trainer.average else 4) + self.example * batch
        return trainer


def weights() -> int:
    """Bytes that a trainer keeps whatever the batch."""
    trainer = Trainer(plan("vae"), split("vae"), 1)
    return 4 * sum(p.numel() for p in trainer.model.parameters()) * (5 if trainer.average else 4)


@pytest.mark.parametrize("fits, parts", [(64, 1), (63, 2), (32, 2), (31, 4), (16, 4), (15, 8), (1, 8)])
def test_the_fewest_parts_of_which_one_fits(monkeypatch: pytest.MonkeyPatch, fits: int, parts: int) -> None:
    """By hand: of so many examples that fit, a batch of 64 is cut so that a part has no more, but eight at least."""
    machine = Machine(monkeypatch, 10**6, int((weights() + fits * 10**6 + 1000) / memory.FILLED))
    assert memory.fewest_parts(machine.make, 64, "cpu") == parts
    assert machine.tried == [size for size in (8, 16, 32) if size <= max(8, fits)]


def test_parts_divide_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 10**6, int((weights() + 14 * 10**6 + 1000) / memory.FILLED))
    assert memory.fewest_parts(machine.make, 60, "cpu") == 5  # of 12; 10, 12, 15, 20, 30 and 60 divide it


def test_unknown_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--accumulate auto\n.*does not say.*\n.*write a number"):
        memory.fewest_parts(Machine(monkeypatch, 1, None).make, 64, "cpu")


@LINUX
def test_a_peak_is_seen_after_it_has_passed() -> None:
    assert memory.reset_peak("cpu")
    before = memory.peak("cpu")
    torch.ones(2**24).sum()  # 64 MiB, gone by now
    after = memory.peak("cpu")
    assert before is not None and after is not None and 60 * 2**20 < after - before < 80 * 2**20
    assert memory.reset_peak("cpu") and (memory.peak("cpu") or 0) < after - 50 * 2**20


@LINUX
@pytest.mark.parametrize("recipe", ["vae", "vaegan"])
def test_auto_is_a_number_of_parts(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plenty needs one part; next to nothing as many as may be; the run is then the one of that number."""
    given: dict[str, Any] = {"steps": 3, "width": 4, "latent": 4, "batch": 16, "precision": "fp32"}
    assert amalgan.train(recipe, "digits", out=tmp_path / "a", accumulate="auto", **given).record["accumulate"] == 1
    monkeypatch.setattr(memory, "free", lambda device: 1)
    parts = amalgan.train(recipe, "digits", out=tmp_path / "b", accumulate="auto", **given)
    assert parts.record["accumulate"] == 2
    same = amalgan.train(recipe, "digits", out=tmp_path / "c", accumulate=2, **given)
    assert all(torch.equal(a, b) for a, b in zip(parts.model.parameters(), same.model.parameters(), strict=True))


def test_another_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'all'\n.*a number of parts >= 1, or auto"):
        amalgan.train("vae", "digits", out=tmp_path / "a", steps=1, accumulate="all")
