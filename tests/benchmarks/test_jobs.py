"""Long work in pieces: what is done stays done, a line cut short is done again, a changed job is a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import jobs


def square(job: jobs.Job) -> dict[str, Any]:
    return {"square": job["x"] ** 2}


def never(job: jobs.Job) -> dict[str, Any]:
    raise AssertionError(f"{job} was done before")


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RUNS", tmp_path)
    asked: list[jobs.Job] = [{"x": 2}, {"x": 3}]
    done = jobs.work("squares", asked, square)
    assert [result["square"] for result in done] == [4, 9] and {"cpu_seconds", "date"} < done[0].keys()
    assert jobs.work("squares", asked[::-1], never) == done[::-1]
    lines = (tmp_path / "squares.jsonl").read_text().splitlines()
    (tmp_path / "squares.jsonl").write_text(lines[0] + "\n" + lines[1][:-5])  # the power failed
    left = jobs.finished("squares")
    assert len(left) == 1 and (jobs.key(asked[0]) in left) != (jobs.key(asked[1]) in left)
    again = jobs.work("squares", asked, square, processes=1)
    assert [result["square"] for result in again] == [4, 9]
    assert len(jobs.finished("squares")) == 2, "the line after a cut one is whole"
