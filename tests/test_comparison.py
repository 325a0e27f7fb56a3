"""A comparison end to end on a few digits: paired, resumable, and honest about what failed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from amalgan import comparison, files, jobs, runs
from amalgan import data as data_room
from amalgan.errors import AmalganError, UsageError
from amalgan.metrics.features import Features
from amalgan.training.trainer import Diverged

NAMES = ("vae", "gan", "vaegan")
TINY: dict[str, Any] = {"steps": 4, "seeds": 2, "n": 40, "latent": 4, "width": 8, "batch": 16}


def eyes() -> Features:
    return Features("pixels", nn.Flatten())


class Seen:
    """Keeps what it is told of the progress."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float, str]] = []

    def update(self, share: float, seconds_left: float, doing: str = "") -> None:
        self.told.append((share, seconds_left, doing))


@pytest.fixture(scope="module")
def digits() -> data_room.Data:
    return data_room.open("digits", limit=120)


@pytest.fixture(scope="module")
def compared(
    digits: data_room.Data, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[Any]]:
    out = tmp_path_factory.mktemp("compared")
    seen = Seen()
    compared = comparison.compare(digits, NAMES, out=out, features=eyes(), progress=seen, **TINY)
    return out, compared.record, seen.told


def test_one_row_for_each_recipe_metric_and_seed(compared: Any) -> None:
    out, results, _ = compared
    assert json.loads((out / "results.json").read_text())["rows"] == results["rows"]
    found = {(r["recipe"], r["metric"], r["prior"], r["seed"]) for r in results["rows"]}
    assert len(found) == len(results["rows"])
    for name in NAMES:
        for seed in (0, 1):
            assert (name, "frechet", "standard", seed) in found
            assert ((name, "frechet", "fitted", seed) in found) == (name != "gan")
            assert ((name, "pixel_mse", "", seed) in found) == (name != "gan")
    assert all(r["features"] == results["judged"]["features_fingerprint"] for r in results["rows"] if r["features"])
    assert results["data"]["fingerprint"] and results["machine"]["torch"] == torch.__version__
    assert (out / "report.html").stat().st_size < 3_000_000


def test_the_summary_holds_means_and_intervals_of_the_rows(compared: Any) -> None:
    _, results, _ = compared
    entry = next(
        e for e in results["summary"] if (e["recipe"], e["metric"], e["prior"]) == ("vae", "frechet", "fitted")
    )
    key = ("vae", "frechet", "fitted")
    a, b = (r["value"] for r in results["rows"] if (r["recipe"], r["metric"], r["prior"]) == key)
    assert entry["value"] == pytest.approx((a + b) / 2)
    # two seeds: s / sqrt(2) = |a - b| / 2, and t(1) = 12.706
    assert entry["high"] - entry["value"] == pytest.approx(12.7062 * abs(a - b) / 2, rel=1e-4)
    assert entry["values"] == [a, b]


def test_progress_has_time_left_from_the_start_and_ends_at_one(compared: Any) -> None:
    _, _, seen = compared
    assert seen[0][1] > 0
    shares = [share for share, _, _ in seen]
    assert shares == sorted(shares) and shares[0] < 0.2 and shares[-1] == 1.0
    assert {"timing vae", "training gan, seed 1", "judging vaegan, seed 0"} <= {doing for _, _, doing in seen}


def test_runs_are_paired(compared: Any) -> None:
    """The same seed: the same order of the data and the same initial weights of equal networks."""
    out, results, _ = compared
    assert len({tuple(results["recipes"][n][a] for a in ("latent", "width", "batch")) for n in NAMES}) == 1
    trainers = {n: runs._trainer(runs.load(out / "runs" / f"{n}-1").record, data_room.open("digits"), 4) for n in NAMES}
    assert all(torch.equal(trainers["vae"].order(3), t.order(3)) for t in trainers.values())
    first = trainers["vae"].model.state_dict()
    for name in ("gan", "vaegan"):
        shared = {k: v for k, v in trainers[name].model.decoder.state_dict(prefix="decoder.").items()}
        assert shared and all(torch.equal(v, first[k]) for k, v in shared.items())
    encoder = trainers["vaegan"].model.encoder.state_dict(prefix="encoder.")
    assert all(torch.equal(v, first[k]) for k, v in encoder.items())


def test_what_is_finished_is_not_done_again(
    compared: Any, digits: data_room.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, results, _ = compared
    weights = {p: p.read_bytes() for p in out.glob("runs/*/model/model.safetensors")}
    assert len(weights) == 6

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained or judged again")

    monkeypatch.setattr(runs.Prepared, "go", never)
    monkeypatch.setattr("amalgan.modalities.images.Images.evaluate", never)
    again = comparison.compare(digits, NAMES, out=out, features=eyes(), **TINY).record
    assert again["rows"] == results["rows"]
    assert all(p.read_bytes() == content for p, content in weights.items())


def test_a_lost_run_alone_is_trained_again_and_comes_out_the_same(compared: Any, digits: data_room.Data) -> None:
    out, results, _ = compared
    (out / "runs" / "gan-1" / "model" / "config.json").unlink()
    seen = Seen()
    again = comparison.compare(digits, NAMES, out=out, features=eyes(), progress=seen, **TINY).record
    doing = [(doing, left) for _, left, doing in seen.told]
    assert {d for d, _ in doing if d.startswith("training")} == {"training gan, seed 1"}
    assert again["rows"] == results["rows"]


def test_another_budget_or_other_arguments_in_the_same_folder_are_refused(
    compared: Any, digits: data_room.Data
) -> None:
    out, _, _ = compared
    with pytest.raises(UsageError, match="holds a comparison at 4 steps"):
        comparison.compare(digits, NAMES, out=out, features=eyes(), **TINY | {"steps": 5})
    with pytest.raises(UsageError, match="choose another --out"):
        comparison.compare(digits, NAMES, out=out, features=eyes(), **TINY, lr=0.1)


def test_the_terminal_table_fits_and_says_what_stands_in_it(compared: Any) -> None:
    _, results, _ = compared
    console = Console(width=100, record=True, file=io.StringIO())
    comparison.Comparison(compared[0]).print(console)
    text = console.export_text()
    for word in (
        results["verdict"]["headline"],
        "report.html",
        "pixel_mse ↓",
        "coverage ↑",
        "floor",
        "ceiling",
        "from N(0, I)",
        "±",
        "vaegan",
    ):
        assert word in text


def test_a_run_that_diverges_is_told_and_the_others_go_on(
    digits: data_room.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = runs.Prepared.go

    def diverging(self: runs.Prepared, *rest: Any, **options: Any) -> Any:
        if self.record["recipe"] == "gan" and self.record["seed"] == 0:
            raise Diverged("finite losses", "term 'adversarial' is not a finite number since step 2", "lower --lr")
        return go(self, *rest, **options)

    monkeypatch.setattr(runs.Prepared, "go", diverging)
    results = comparison.compare(digits, ("vae", "gan"), out=tmp_path, features=eyes(), **TINY).record
    outcomes = {(r["recipe"], r["seed"]): r["outcome"] for r in results["runs"]}
    assert outcomes == {("vae", 0): "done", ("vae", 1): "done", ("gan", 0): "failed", ("gan", 1): "done"}
    assert results["failed"] == {"gan": [0]}
    assert "gan failed on some seeds (seed 0)" in " ".join(results["verdict"]["cautions"])
    page = (tmp_path / "report.html").read_text()
    assert "Failed runs" in page and "term &#x27;adversarial&#x27; is not a finite number" in page
    monkeypatch.setattr(runs.Prepared, "go", lambda *_, **__: pytest.fail("a divergence is tried again"))
    again = comparison.compare(digits, ("vae", "gan"), out=tmp_path, features=eyes(), **TINY).record
    assert again["failed"] == {"gan": [0]}


def test_stopping_says_how_to_go_on(digits: data_room.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go, calls = runs.Prepared.go, []

    def stopped(self: runs.Prepared, *rest: Any, **options: Any) -> Any:
        calls.append(self.record["recipe"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return go(self, *rest, **options)

    monkeypatch.setattr(runs.Prepared, "go", stopped)
    options = TINY | {"seeds": 1}
    with pytest.raises(runs.Interrupted, match="give the same command again") as stop:
        comparison.compare(digits, ("vae", "gan"), out=tmp_path, features=eyes(), **options)
    assert stop.value.exit_code == 130
    assert "1 of them is finished" in stop.value.found
    comparison.compare(digits, ("vae", "gan"), out=tmp_path, features=eyes(), **options)
    assert calls == ["vae", "gan", "gan"]


def test_networks_and_batches_are_the_same_for_all() -> None:
    settings = comparison.alike(NAMES, {"lam": 30.0, "lr": 1e-3})
    assert {s["latent"] for s in settings.values()} == {32}  # the gan's own default is another
    assert settings["vaegan"]["lam"] == 30.0 and "lam" not in settings["vae"]
    assert {s["lr"] for s in settings.values()} == {1e-3}
    assert {s["latent"] for s in comparison.alike(("gan", "vae"), {"latent": 5}).values()} == {5}


def test_budgets_in_images_are_steps_of_whole_batches() -> None:
    settings = comparison.alike(("vae", "gan"), {"batch": 60})
    budget = comparison._budget(None, 1000, None, "examples")
    assert budget == {"unit": "examples", "amount": 1000}
    assert comparison._steps(budget, settings["vae"]) == 17
    assert comparison._steps(comparison._budget(None, None, 0.5, "examples"), settings["vae"]) is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"recipes": ("vae", "vae")}, "each recipe once"),
        ({"recipes": ("vqvae",)}, "write one of"),
        ({"recipes": ()}, "each recipe once"),
        ({"seeds": 0}, "--seeds 3"),
        ({"seeds": (1, 1)}, "different numbers"),
        ({"steps": 4, "minutes": 1.0}, "write one of them"),
        ({"steps": 0}, "greater than 0"),
        ({"same": "joules"}, "--same examples"),
        ({"jobs": 0}, "--jobs 1"),
        ({"minutes": float("nan")}, "greater than 0"),
        ({"lamda": 3}, "no recipe knows it"),
        ({"latent": 0}, "between"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(change: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=match):
        comparison.compare("digits", out=tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_the_command_can_be_typed_again() -> None:
    budget = {"unit": "minutes", "amount": 0.2}
    line = comparison.command("my photos", ("vae", "gan"), 3, budget, size=32, strict=True, clip=None, lam=30.0, n=40)
    assert line == (
        "amalgan compare --data 'my photos' --recipes vae,gan --seeds 3 --minutes 0.2 --size 32 --strict --lam 30.0 -n 40"
    )


def test_estimates_mend_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(jobs.time, "perf_counter", lambda: now[0])
    seen = Seen()
    parts = {"training vae, seed 0": 10.0, "judging vae, seed 0": 5.0, "training vae, seed 1": 10.0,
             "judging vae, seed 1": 5.0}  # fmt: skip
    pace = jobs.Pace(seen, parts)
    pace.begin("training vae, seed 0")
    assert seen.told[-1][1] == 30.0
    now[0] = 20.0  # took twice as long as expected: so will the other seed
    pace.end("training vae, seed 0")
    assert seen.told[-1][1] == 5 + 20 + 5
    pace.begin("judging vae, seed 0")
    now[0] = 21.0
    pace.end("judging vae, seed 0")
    pace.left("training vae, seed 1", 0.0)  # found finished
    assert seen.told[-1][1] == 1.0


def test_side_by_side_takes_less_time_but_no_less_than_the_longest() -> None:
    seen = Seen()
    jobs.Pace(seen, {"training a": 10.0, "training b": 30.0, "judging a": 5.0, "writing": 2.0}, lanes=4).begin("x")
    assert seen.told[-1][1] == 2.0 + 30.0


@pytest.mark.slow
def test_processes_side_by_side_give_what_one_gives(compared: Any, tmp_path: Path) -> None:
    _, results, _ = compared
    options = TINY | {"jobs": 2, "threads": 1, "data_options": {"limit": 120}}
    beside = comparison.compare("digits", NAMES, out=tmp_path, features=eyes(), **options).record
    assert beside["machine"]["side_by_side"] == 2
    assert beside["rows"] == results["rows"]
    assert not list(tmp_path.glob("runs/*/stderr.txt"))


def test_a_process_that_ends_badly_is_told_with_what_it_said(tmp_path: Path) -> None:
    prepared = runs.prepare("vae", "digits", steps=3, out=tmp_path, timed=False)
    prepared.record["data"]["fingerprint"] = "of other data"
    job = jobs.Job(prepared)
    with pytest.raises(AmalganError, match="has changed since the run began"):
        list(jobs.side_by_side([job], 1, jobs.Pace(None)))


@pytest.mark.slow
def test_an_interrupt_reaches_the_processes_and_the_same_command_goes_on(tmp_path: Path) -> None:
    code = (
        "import signal, sys\nfrom torch import nn\nfrom amalgan import comparison, errors\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "from amalgan.metrics.features import Features\n"
        "try: comparison.compare('digits', ('vae', 'gan'), seeds=1, steps=int(sys.argv[2]), out=sys.argv[1], jobs=2,\n"
        "                        n=40, latent=4, width=8, features=Features('pixels', nn.Flatten()))\n"
        "except errors.AmalganError as error: print(error); sys.exit(error.exit_code)"
    )
    launch = [sys.executable, "-c", code, str(tmp_path), "2000"]
    process = subprocess.Popen(launch, stdout=subprocess.PIPE, text=True)
    logs = [tmp_path / "runs" / f"{name}-0" / "log.jsonl" for name in ("vae", "gan")]
    for _ in range(1200):
        if all(log.is_file() and log.stat().st_size for log in logs):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "same command again" in said
    for log in logs:  # each was saved where it stopped
        assert list((log.parent / "checkpoints").glob("step_*"))
    assert subprocess.run(launch, env=os.environ, check=False).returncode == 0
    assert comparison.Comparison(tmp_path).record["runs"][0]["steps"] == 2000


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(AmalganError, match="damaged"):
        comparison.compare("digits", ("vae",), out=tmp_path, steps=3)


def test_a_run_that_is_not_finished_has_no_report(tmp_path: Path) -> None:
    prepared = runs.prepare("vae", "digits", steps=3, out=tmp_path / "run", timed=False)
    files.write_json(tmp_path / "run" / "recipe.json", prepared.record)
    with pytest.raises(UsageError, match="not finished"):
        comparison.single(tmp_path / "run")
