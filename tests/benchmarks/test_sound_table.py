"""The table of spoken digits: means over seeds, two ceilings, and a note where a goal was missed."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import jobs, sound


def numbers(accuracy: float) -> dict[str, Any]:
    values = dict.fromkeys(sound.METRICS.values(), 0.9) | {"label_accuracy": accuracy, "uniqueness": 0.5}
    return {
        "numbers": values,
        "prior": "fitted",
        "training_cpu_seconds": 60.0,
        "device": "a machine",
        "date": "2031-12-24",
    }


def test_rows_of_the_table_say_what_fell_short(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[jobs.Job] = []

    def work(name: str, wanted: list[jobs.Job], do: Any) -> list[dict[str, Any]]:
        asked.extend(wanted)
        bounds = {metric: [0.99, 0.1] for metric in sound.METRICS}
        real = {"bounds": bounds, "n": 300, "round_trip_accuracy": 0.98, "round_trip_error": 0.4, "date": "2031-12-23"}
        return [real, *(numbers(0.9 + 0.01 * job["seed"]) for job in wanted[1:])]

    monkeypatch.setattr(jobs, "work", work)
    rows = {(row.row, row.metric): row for row in sound.table("fsdd")}
    assert len({jobs.key(job) for job in asked}) == len(asked) == 1 + len(sound.SEEDS) * len(sound.ROWS)
    right = rows["vaegan", "label_accuracy"]
    assert right.value == pytest.approx(0.91) and right.seeds == 3 and "short" not in right.note
    assert right.device == "a machine" and right.date == "2031-12-24", "where and when it was made, not printed"
    assert "short of the goal of 0.95" in rows["vaegan", "distinct"].note
    assert "short" not in rows["vae", "distinct"].note
    assert rows["real", "label_accuracy"].value == 0.99
    assert rows["real-there-and-back", "label_accuracy"].value == 0.98
    assert rows["real-there-and-back", "error"].unit == "dB"
