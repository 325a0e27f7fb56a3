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


@pytest.mark.slow
def test_a_run_that_could_not_be_judged_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    data = jobs.opened("digits")
    assert jobs.opened("digits") is data
    job: jobs.Job = {"row": "small", "recipe": "ae", "arguments": {"width": 2}, "steps": 3, "seed": 0}
    with pytest.raises(ValueError), jobs.trained("small", data, job) as run:
        assert run.finished and run.log()[-1]["step"] == 3
        raise ValueError("the judge was stopped")
    (folder,) = (tmp_path / "runs" / "small").iterdir()
    made = (folder / "log.jsonl").stat().st_mtime_ns
    with jobs.trained("small", data, job) as again:
        assert again.folder == folder and (folder / "log.jsonl").stat().st_mtime_ns == made
    assert not folder.exists()
