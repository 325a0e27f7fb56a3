"""The gallery of planted faults: what it does to data, what it counts, and one fault that is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import doctor

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


def test_data_are_changed_as_said() -> None:
    digits = doctor.opened("digits")
    dark, few = doctor.changed(digits, "dark"), doctor.changed(digits, "thirty")
    assert int(dark.test.x.max()) <= 31 and len(dark.train) == len(digits.train)
    assert len(few.train) == 30 and len(few.validation) == len(digits.validation) and few.train.c is None
    centred = doctor.changed(digits, "centred").validation.tensor(9)
    assert torch.allclose(centred, 2 * digits.validation.tensor(9) - 1)
    assert int(doctor.changed(digits, "holes").train.tensor().isnan().sum()) == 1
    shuffled = doctor.changed(digits, "shuffled-labels").train
    assert shuffled.c.bincount().tolist() == digits.train.c.bincount().tolist()
    assert 0.05 < float((shuffled.c == digits.train.c).float().mean()) < 0.2


def result(*found: str, stands: tuple[str, ...] = (), coverage: float = 0.5, severity: str = "fails") -> dict[str, Any]:
    named = {name: [150, severity, {"lr": 1e-3}] for name in found}
    about = {"cpu_seconds": 1.0, "date": "2031-12-24"}
    return {"found": named, "stands": list(stands), "coverage": [coverage], **about}


def test_the_table_counts_hits_alarms_and_cures() -> None:
    planted = [doctor.job("slow-steps", "ring", seed) for seed in range(4)]
    results = [result("the step size is far too small", coverage=0.1)] * 3 + [result("blur")]
    healthy = [result()] * 8 + [result("the step size is far too small"), result("dead latent units", severity="costs")]
    treated = list(doctor.treatments(planted, results))
    assert [j["arguments"]["lr"] for _, j in treated] == [1e-3] * 3
    after = [result(coverage=0.8), result(coverage=0.9), result(stands=("the step size is far too small",))]
    rows = {(row.row, row.metric): row for row in doctor.table(planted, results, healthy, treated, after)
            if row.row in ("slow-steps", "healthy")}  # fmt: skip
    assert rows["slow-steps", "sensitivity"].value == 0.75 and rows["slow-steps", "sensitivity"].seeds == 4
    assert rows["slow-steps", "false_alarm"].value == 0.1 and rows["slow-steps", "cured"].value == pytest.approx(2 / 3)
    assert rows["slow-steps", "coverage_before"].value == pytest.approx(0.1)
    assert rows["healthy", "false_alarm"].value == 0.1


def test_every_planted_fault_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert [name for fault in doctor.FAULTS.values() for name in fault.finds if name not in page] == []


@pytest.mark.slow
def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    found = doctor.do(doctor.job("slow-steps", "ring", 100))
    assert "the step size is far too small" in found["found"] and "the step size is far too small" in found["stands"]
