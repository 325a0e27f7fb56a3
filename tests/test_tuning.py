"""Tuning end to end on a few digits: what is searched, by which split, and what is said of it."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from amalgan import cli, files, jobs, recipes, runs, tuning
from amalgan import data as data_room
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.errors import AmalganError, UsageError
from amalgan.metrics.features import Features
from amalgan.modalities.images import Images
from amalgan.search import Range, Words, space, usual

pytest.importorskip("optuna")

DIGITS = Spec("images", (1, 8, 8), tuple("0123456789"))
TINY: dict[str, Any] = {"steps": 3, "n": 40, "seeds": 1, "width": 8, "batch": 16}


def eyes() -> Features:
    return Features("pixels", nn.Flatten())


class Seen:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.notes: list[str] = []

    def update(self, share: float, seconds_left: float, doing: str = "") -> None:
        self.shares.append(share)

    def note(self, text: str) -> None:
        self.notes.append(text)


class Sealed(Split):
    """Has a length, and nothing that could be looked at."""

    def __init__(self, split: Split) -> None:
        self.length = len(split)

    def __len__(self) -> int:
        return self.length

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the test split was asked for its {name}")

    def batch(self, *_: Any) -> Any:
        raise AssertionError("the test split was read")

    tensor = batch


@pytest.fixture(scope="module")
def digits() -> data_room.Data:
    """With a test split that nobody can read: whatever is tuned on these did without it."""
    data = data_room.open("digits", limit=120)
    return replace(data, test=Sealed(data.test))


@pytest.fixture(scope="module")
def tuned(digits: data_room.Data, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuning.Tuning, Seen]:
    out, seen = tmp_path_factory.mktemp("tuned"), Seen()
    found = tuning.tune("vaegan", digits, trials=5, out=out, features=eyes(), progress=seen, **TINY)
    return out, found, seen


def again(digits: data_room.Data, out: Path, **change: Any) -> dict[str, Any]:
    return tuning.tune("vaegan", digits, **{"trials": 5, "out": out, "features": eyes(), **TINY, **change}).record


# What is searched


def test_an_entry_is_a_range_or_values_or_a_name() -> None:
    found = space("vaegan", "lam=0.01:10:log, beta=0.1:4,latent=8|16|32,width=8:64:log,game=hinge|relativistic,lr")
    assert found["lam"] == Range(0.01, 10, log=True) and found["beta"] == Range(0.1, 4, log=False)
    assert found["latent"] == Words((8, 16, 32)) and found["width"] == Range(8, 64, log=True, whole=True)
    assert found["game"] == Words(("hinge", "relativistic")) and found["lr"] == usual("vaegan", "lr")
    assert space("vaegan", "deviation=true|false")["deviation"] == Words((True, False))
    assert (
        space("vaegan", ",".join(f"{name}={held}" for name, held in found.items())) == found
    )  # they print as they read


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("lamda=1:2", "no argument 'lamda'"),
        ("lam=2:1", "lam=1:2"),
        ("lam=0:1:log", "lower bound above 0"),
        ("lam=1:2:cubic", "the scale 'cubic'"),
        ("lam=much:more", "is no number"),
        ("lam=1", "one value alone"),
        ("latent=0:8", "between 1 and 4096"),
        ("latent=1.5:8", "type int"),
        ("game=hinge|chess", "write one of"),
        ("game=hinge:relativistic", "words have no range"),
        ("noise", "no usual range"),
        ("beta=1:2", "it is fixed at 3.0"),
        (",", "nothing to search"),
    ],
)
def test_a_mistaken_search_is_told_with_what_to_write(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        space("vaegan", text, {"beta": 3.0})


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_every_recipe_has_usual_ranges_around_its_defaults(recipe: str) -> None:
    found, known = space(recipe), recipes.parameters(recipe)
    assert "lr" in found
    for name, held in found.items():
        assert isinstance(held, Range) and held.low < known[name].default < held.high
        recipes.check(recipe, {name: held.low})
        recipes.check(recipe, {name: held.high})


def test_every_usual_range_is_of_some_recipe() -> None:
    assert recipes.SEARCH.keys() <= {name for recipe in recipes.RECIPES for name in space(recipe)}


def test_what_is_fixed_or_refused_is_not_searched() -> None:
    assert "lam" not in space("vaegan", fixed={"lam": 1.0})
    assert "gamma" not in space("vaegan", spec=DIGITS)  # the joint form refuses it
    assert "gamma" in space("vaegan", fixed={"form": "learned"}, spec=DIGITS)
    with pytest.raises(UsageError, match="nothing to search"):
        space("mle", fixed={"lr": 0.01})


# A study


def test_the_defaults_are_the_first_trial_and_the_rest_are_drawn(tuned: Any) -> None:
    out, found, _ = tuned
    trials, known = found.record["trials"], recipes.parameters("vaegan")
    assert [trial["number"] for trial in trials] == list(range(5))
    first = runs.load(out / "trials" / "000").arguments
    assert {name for name in known if first[name] != known[name].default} == {
        "width",
        "batch",
    }  # those that were written
    assert len({json.dumps(trial["settings"]) for trial in trials}) == 5
    for trial in trials:
        run = runs.load(out / trial["folder"])
        assert run.finished and run.seed == 0 and run.steps == 3
        assert {name: run.arguments[name] for name in trial["settings"]} == trial["settings"]
        assert set(trial["values"]) == {"pixel_mse", "frechet"} and trial["outcome"] == "done"
        assert all(float(f"{v:.3g}") == v for v in trial["settings"].values())  # as short as a command line should be


def test_it_is_judged_on_validation_and_the_test_split_was_not_read(tuned: Any, digits: data_room.Data) -> None:
    out, found, _ = tuned
    with pytest.raises(AssertionError, match="was read"):
        Images().reference(digits, "test", 40, features=eyes())  # the seal holds
    assert found.record["judged"]["split"] == "validation"
    for rows in out.glob("**/judged/rows.json"):
        assert '\\"validation\\"' in rows.read_text()


def test_the_chosen_one_is_held_against_the_defaults_on_fresh_seeds(tuned: Any) -> None:
    out, found, _ = tuned
    record = found.record
    assert record["chosen"] != 0 and found.settings == record["trials"][record["chosen"]]["settings"]
    assert record["again"]["seeds"] == [1]
    last = {path.name for path in (out / "again" / "runs").iterdir()}
    assert last == {"000-1", f"{record['chosen']:03d}-1"}
    chosen = runs.load(out / "again" / "runs" / f"{record['chosen']:03d}-1")
    assert {name: chosen.arguments[name] for name in found.settings} == found.settings and chosen.seed == 1
    assert record["headline"] == "1 fresh seed cannot tell merit from luck: give the same command with --seeds 3."
    assert (out / "again" / "report.html").is_file()


def test_the_command_trains_what_was_chosen(tuned: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found, _ = tuned
    words = found.record["commands"]["train"].replace("DATA", "digits").split()
    assert words[:3] == ["amalgan", "train", "vaegan"]
    assert cli.run([*words[1:], "--out", str(tmp_path), "--dry-run", "--json"]) == 0
    arguments = json.loads(capsys.readouterr().out)["arguments"]
    assert arguments == runs.load(found.folder / found.record["trials"][found.record["chosen"]]["folder"]).arguments


def test_what_a_person_sees(tuned: Any) -> None:
    _, found, seen = tuned
    assert seen.shares == sorted(seen.shares) and seen.shares[-1] == 1.0
    assert sum(note.startswith("trial ") for note in seen.notes) == 5 and "trial 0, the defaults" in seen.notes[0]
    console = Console(width=120, record=True, file=io.StringIO())
    found.print(console)
    text = console.export_text()
    for word in ("defaults", "pixel_mse ↓", "doctor", "* chosen", "tuned", "floor", found.record["headline"],
                 "amalgan train vaegan", "amalgan evaluate", "which was not read", "report.html"):  # fmt: skip
        assert word in text


def test_the_study_holds_numbers_and_words_alone(tuned: Any) -> None:
    """Nothing in it could be unpickled."""
    with closing(sqlite3.connect(tuned[0] / "study.db")) as study:
        tables = [name for (name,) in study.execute("select name from sqlite_master where type = 'table'")]
        values = [value for name in tables for row in study.execute(f"select * from {name}") for value in row]
    assert values and not any(isinstance(value, bytes) for value in values)


def test_the_same_call_does_nothing_again_and_a_larger_one_adds(
    tuned: Any, digits: data_room.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, found, _ = tuned
    go, trained = runs.Prepared.go, []

    def counted(self: runs.Prepared, *rest: Any, **options: Any) -> Any:
        trained.append(self.folder.relative_to(out).as_posix())
        return go(self, *rest, **options)

    monkeypatch.setattr(runs.Prepared, "go", counted)
    before = {key: value for key, value in found.record.items() if key not in ("date", "command")}
    after = again(digits, out)
    assert not trained and {key: after[key] for key in before} == before
    more = again(digits, out, trials=6)
    assert trained[0] == "trials/005" and all(name.startswith("again/") for name in trained[1:])
    assert more["trials"][:5] == [
        trial | {"place": more["trials"][i]["place"]} for i, trial in enumerate(after["trials"])
    ]


def test_numbers_of_another_split_do_not_count(tuned: Any, digits: data_room.Data) -> None:
    """As a report on the run of a trial would leave them."""
    out, found, _ = tuned
    kept = out / "trials" / "001" / "judged" / "rows.json"
    held = json.loads(kept.read_text())
    rows = [row | {"value": 0.0} for row in held["rows"]]
    files.write_json(kept, {"key": held["key"].replace("validation", "test"), "rows": rows})
    assert again(digits, out)["trials"][1]["values"] == found.record["trials"][1]["values"]


def test_a_study_of_something_else_in_the_same_folder_is_refused(tuned: Any, digits: data_room.Data) -> None:
    for change in ({"steps": 4}, {"lam": 1.0}, {"search": "lr"}, {"seed": 1}, {"question": "sampling"}, {"n": 30}):
        with pytest.raises(UsageError, match="choose another --out"):
            again(digits, tuned[0], **change)


def test_what_is_drawn_depends_on_seed_and_number_alone(tuned: Any, digits: data_room.Data, tmp_path: Path) -> None:
    drawn = [trial["settings"] for trial in tuned[1].record["trials"]]
    assert [trial["settings"] for trial in again(digits, tmp_path / "a", trials=3)["trials"]] == drawn[:3]
    other = again(digits, tmp_path / "b", trials=2, seed=1)["trials"]
    assert other[0]["settings"] == drawn[0] and other[1]["settings"] != drawn[1]


@pytest.mark.slow
def test_a_planted_valley_is_found_and_exceeds_the_noise(
    digits: data_room.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that follow from lr alone, with the least at 0.001, and a little of each model's own luck."""

    def planted(self: Images, model: Any, data: Any, against: Any) -> list[Any]:
        way = abs(math.log(model.config["arguments"]["lr"] / 0.001))
        luck = 0.02 * float(next(model.decoder.parameters()).detach().flatten()[0])
        return [self.row(name, 1 + way + luck, 0.0, 9.0, 10) for name in ("pixel_mse", "frechet")]

    monkeypatch.setattr(Images, "evaluate", planted)
    options = TINY | {"steps": 1, "seeds": 3, "trials": 12}
    found = tuning.tune("vae", digits, search="lr=0.0001:0.01:log,beta", out=tmp_path, features=eyes(), **options)
    assert 0.0006 < found.settings["lr"] < 0.0016
    assert found.record["headline"].startswith("Tuning helped: on 3 fresh seeds the chosen settings beat the defaults")
    assert "Against defaults: clearly better pixel error" in found.record["sentences"][0]


def test_one_question_is_one_number(digits: data_room.Data, tmp_path: Path) -> None:
    record = again(digits, tmp_path / "a", question="sampling", trials=2)
    assert [metric["metric"] for metric in record["metrics"]] == ["frechet"] and record["question"] == "sampling"
    with pytest.raises(UsageError, match="gan has no encoder, so cannot reconstruct"):
        tuning.tune("gan", digits, question="reconstruction", out=tmp_path / "b", features=eyes(), **TINY)
    assert not (tmp_path / "b").exists()


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=12))
def test_what_is_chosen_is_beaten_by_no_other(values: list[tuple[float, float]]) -> None:
    metrics = [{"metric": "a", "better": "lower"}, {"metric": "b", "better": "higher"}]
    found = [{"number": i, "outcome": "done", "values": {"a": a, "b": b}} for i, (a, b) in enumerate(values)]
    chosen = tuning.choose(found, metrics)
    assert chosen is not None and not tuning.beaten(chosen, found, metrics)
    assert tuning.choose([], metrics) is None


def test_what_mattered_is_said_of_many_trials() -> None:
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    metrics = [{"metric": "frechet", "better": "lower"}]
    study.optimize(lambda t: t.suggest_float("lr", 0, 1) ** 2 + 0.01 * t.suggest_float("beta", 0, 1), n_trials=30)
    assert tuning.importance(study, metrics)["frechet"]["lr"] > 0.8
    study = optuna.create_study()
    assert tuning.importance(study, metrics) == {}


# What goes wrong


@pytest.mark.slow
def test_a_trial_that_is_killed_has_failed_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = jobs._launch

    def doomed(job: jobs.Job) -> subprocess.Popen[bytes]:
        if not job.name.endswith("trial 1"):
            return launch(job)
        (job.folder / "stderr.txt").touch()
        return subprocess.Popen([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])

    monkeypatch.setattr(jobs, "_launch", doomed)
    options = TINY | {"seeds": 0, "trials": 3}
    trials = tuning.tune("vae", "digits", jobs=2, out=tmp_path, features=eyes(), **options).record["trials"]
    assert [trial["outcome"] == "done" for trial in trials] == [True, False, True]
    assert "killed from outside" in trials[1]["reason"]


@pytest.mark.slow
def test_a_doctor_stops_what_comes_to_nothing(digits: data_room.Data, tmp_path: Path) -> None:
    """Steps a thousand times too large; the defaults, though as ill, are the measure, and go to their end."""
    options = TINY | {"steps": 900, "trials": 2, "seeds": 0}
    record = tuning.tune("vae", digits, search="lr=0.3:0.4", out=tmp_path, features=eyes(), **options).record
    first, ill = record["trials"]
    assert first["outcome"] == "done" and first["steps"] == 900
    assert ill["outcome"] == "failed" and ill["steps"] < 900
    assert ill["doctor"][0] in ill["reason"] and f"at step {ill['steps']} of 900" in ill["reason"]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(tuning.printed(record))
    assert f"stopped at step {ill['steps']}: {ill['doctor'][0]}" in console.export_text()
    assert record["chosen"] == 0 and record["headline"] == "Of all that was tried, the defaults did best."


def test_settings_that_a_recipe_refuses_fail_alone(digits: data_room.Data, tmp_path: Path) -> None:
    record = again(digits, tmp_path, search="gamma=0.2:0.9", trials=2)
    assert [trial["outcome"] for trial in record["trials"]] == ["done", "failed"]
    assert "only form=learned reads it" in record["trials"][1]["reason"]


def test_stopping_says_how_to_go_on_and_the_trial_is_gone_on_with(
    digits: data_room.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, stop_at = runs.Keeper._log, []

    def asked_to_stop(self: runs.Keeper, step: int, looks: bool) -> dict[str, float]:
        if self.folder.name == "001" and step == 2 and not stop_at:
            stop_at.append(step)
            self.stop = True
        return keep(self, step, looks)

    monkeypatch.setattr(runs.Keeper, "_log", asked_to_stop)
    with pytest.raises(runs.Interrupted, match="give the same command again") as stop:
        again(digits, tmp_path, trials=3)
    assert stop.value.exit_code == 130 and "1 is finished" in stop.value.found
    assert list((tmp_path / "trials" / "001" / "checkpoints").glob("step_*"))
    begun, load = [], runs.Trainer.load_state

    def counted(self: Any, groups: Any, step: int) -> None:
        begun.append(step)
        load(self, groups, step)

    monkeypatch.setattr(runs.Trainer, "load_state", counted)
    record = again(digits, tmp_path, trials=3)
    assert begun == [2]  # it went on from there
    assert [trial["outcome"] for trial in record["trials"]] == ["done"] * 3


def test_a_trial_that_another_process_holds_is_left_to_it(
    digits: data_room.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any, **__: Any) -> None:
        raise AmalganError("training", "the machine is gone", "")

    with monkeypatch.context() as broken:
        broken.setattr(jobs, "train_one", dies)
        with pytest.raises(AmalganError, match="machine is gone"):
            again(digits, tmp_path, trials=2)
    held = files.claim(tmp_path / "trials" / "000" / "claimed")
    record = again(digits, tmp_path, trials=2)
    assert [trial["outcome"] for trial in record["trials"]] == ["at work", "done"]
    assert record["headline"] == "Other processes are at work on the rest."
    assert not (tmp_path / "results.json").exists() and record["commands"] == {}
    assert held is not None
    os.close(held)  # as the system does when a process ends
    assert [trial["outcome"] for trial in again(digits, tmp_path, trials=2)["trials"]] == ["done", "done"]


def test_a_claim_is_held_until_it_is_let_go(tmp_path: Path) -> None:
    held = files.claim(tmp_path / "a" / "claimed")
    assert held is not None and files.claim(tmp_path / "a" / "claimed") is None
    os.close(held)
    again = files.claim(tmp_path / "a" / "claimed")
    assert again is not None
    os.close(again)


def test_of_two_that_make_a_file_the_faster_one_wins(tmp_path: Path) -> None:
    with files.placed(tmp_path / "a") as slow:
        with files.placed(tmp_path / "a") as fast:  # of another process it would have another name, too
            fast.write_text("fast")
        slow.write_text("slow")
    assert (tmp_path / "a").read_text() == "fast" and [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(ZeroDivisionError), files.placed(tmp_path / "b") as half:
        half.write_text("half")
        raise ZeroDivisionError
    assert not (tmp_path / "b").exists() and len(list(tmp_path.iterdir())) == 1


COMMAND = [
    "tune",
    "vae",
    "--data",
    "ring",
    "--limit=400",
    "--trials=4",
    "--seeds=1",
    "--width=8",
    "--batch=16",
    "-n=100",
]


def launched(out: Path, *words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "amalgan", *COMMAND, "--out", str(out), *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_the_same_command_goes_on_after_a_kill(tmp_path: Path) -> None:
    words = ["--jobs=1", "--steps=700", "--search=lr=0.0004:0.002:log", "--trials=3"]
    process = launched(tmp_path, *words)
    for _ in range(1200):
        if list(tmp_path.glob("trials/001/log.jsonl")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    drawn = runs.load(tmp_path / "trials" / "001").arguments
    process = launched(tmp_path, *words)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    record = tuning.Tuning(tmp_path).record
    assert [trial["outcome"] for trial in record["trials"]] == ["done"] * 3
    assert runs.load(tmp_path / "trials" / "001").arguments == drawn


@pytest.mark.slow
def test_processes_share_a_study(tmp_path: Path) -> None:
    """Two that begin at once, each with two runs side by side: every trial is done by one of them, once."""
    words = ["--jobs=2", "--steps=150"]
    both = [launched(tmp_path, *words) for _ in range(2)]
    said = [process.communicate(timeout=500)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    told = [sum(f"\ntrial {i}" in text for text in said) for i in range(4)]
    assert told == [1, 1, 1, 1], said
    assert [trial["outcome"] for trial in tuning.Tuning(tmp_path).record["trials"]] == ["done"] * 4
    assert not list(tmp_path.glob("trials/*/stderr.txt"))


def test_a_damaged_study_is_named(digits: data_room.Data, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no study")
    with pytest.raises(AmalganError, match="study.db"):
        again(digits, tmp_path)


def test_optuna_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert cli.run(["tune", "vae", "--data", "digits"]) == 2
    assert "pip install 'amalgan[tune]'" in capsys.readouterr().err


# On the command line


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--trials", "0"], "1 or more"),
        (["--steps", "3", "--minutes", "1"], "one of them"),
        (["--steps", "0"], "1 or more"),
        (["--for", "fame"], "write --for reconstruction, sampling, or both"),
        (["--search", "lam=2:1"], "lam=1:2"),
        (["--lam", "1", "--search", "lam"], "leave out --lam"),
        (["--jobs", "0"], "--jobs 1"),
        (["--seeds", "-1"], "from 0 up"),
        (["--latent", "0"], "between 1 and 4096"),
        (["--temperature", "2"], "unrecognized"),
    ],
)
def test_mistakes_leave_with_2_and_nothing_written(
    words: list[str], hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["tune", "vaegan", "--data", "digits", "--out", str(tmp_path / "out"), *words]) == 2
    assert hint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_would_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # under torchrun each process does trials of its own, and waits for nobody
    words = [
        "tune",
        "vaegan",
        "--data",
        "digits",
        "--steps",
        "200",
        "--lam",
        "0.5",
        "--out",
        str(tmp_path / "out"),
        "--dry-run",
    ]
    assert cli.run(words) == 0
    text = capsys.readouterr().out
    assert "latent 8:128:log" in text and "lam 0.0125" not in text and "40 trials of 200 steps" in text
    assert cli.run([*words, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["search"]["lr"] == "0.0001:0.0016:log" and planned["defaults"]["arguments"]["lam"] == 0.5
    assert planned["estimate_seconds"] > 0 and not (tmp_path / "out").exists()


def test_the_answer_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "tune",
        "vae",
        "--data",
        "ring",
        "--limit",
        "200",
        "--trials",
        "2",
        "--steps",
        "3",
        "--seeds",
        "0",
        "-n",
        "50",
    ]
    assert cli.run([*words, "--jobs", "1", "--width", "8", "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == json.loads((tmp_path / "results.json").read_text())
    assert answer["command"].startswith("amalgan tune vae --data ring --limit 200 --trials 2 --steps 3 --seeds 0 -n 50")
