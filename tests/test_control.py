"""Control through the same commands: train, sample, evaluate, compare, report; what is refused; and the bars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import amalgan
from amalgan import cli, modalities, runs
from amalgan.data import control as data
from amalgan.metrics import control as judge

SMALL = ["--width=16", "--batch=64"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control") / "cloning"
    words = ["train", "cloning", "--demos", "point-mass", "--steps", "300", "--lr=1e-2", "--out", str(folder), *SMALL]
    assert cli.run(words) == 0
    return folder


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.run(words) == 0
    return capsys.readouterr().out


def test_episodes_are_arrays_and_films(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(["sample", str(run), "-n", "5", "--out", str(tmp_path / "both")], capsys)
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"0-episodes.npz", "0-episodes.gif"}
    with Image.open(tmp_path / "both" / "0-episodes.gif") as film:
        assert film.n_frames > 10 and film.size == (4 * 96, 96)
    said(["sample", str(run), "-n", "5", "--explore", "--out", str(tmp_path / "tried.npz")], capsys)
    played = data.open(tmp_path / "both" / "0-episodes.npz", env="point-mass")  # what was played can be shown again
    tried = data.open(tmp_path / "tried.npz", env="point-mass")
    assert played.spec.details["expert"] > tried.spec.details["expert"]
    assert all((run / "samples" / f"{name}.png").is_file() for name in ("final", "step_00000030"))
    assert runs.load(run).sample(3).episodes == runs.load(run).sample(8).episodes[:3]


def test_it_has_learned_what_was_demonstrated(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(["evaluate", str(run), "--json"], capsys))["rows"]
    found = {row["metric"]: row for row in rows}
    assert found.keys() == modalities.of("control").metrics.keys()
    score = found["normalised_score"]
    assert score["floor"] == 1 and score["ceiling"] == 0 and score["value"] > 0.9
    assert found["constant_reward"]["value"] < 0.5, "nothing is learned from nothing"
    earned, expert, chance = found["return"]["value"], found["return"]["floor"], found["return"]["ceiling"]
    assert score["value"] == pytest.approx((earned - chance) / (expert - chance))
    assert found["occupancy"]["value"] < found["occupancy"]["ceiling"] / 5
    assert found["action_nll"]["value"] < found["action_nll"]["ceiling"] == pytest.approx(2 * np.log(2))


@pytest.mark.slow
def test_demonstrations_without_rewards_are_judged_by_the_worlds_own_count(run: Path, tmp_path: Path) -> None:
    held = data.arrays_of(data.shown(12))
    np.savez(tmp_path / "unpaid.npz", obs=held["obs"], acts=held["acts"], indices=held["indices"])
    trained = amalgan.train("cloning", tmp_path / "unpaid.npz", steps=3, out=tmp_path / "run", batch=16,
                            data_options={"env": "point-mass"})  # fmt: skip
    rows = trained.evaluate(n=4)
    assert "constant-reward control" in rows[0].note
    metrics = {row.metric for row in rows}
    assert metrics == {"return", "occupancy", "action_nll"}
    assert modalities.of("control").questions(tuple(metrics))[0].metrics == ("return",)
    other = {row.metric: row.value for row in runs.load(run).evaluate(data=tmp_path / "unpaid.npz", n=4)}
    assert other["return"] > -40 and "normalised_score" not in other


def test_chance_is_chance() -> None:
    spec = data.open("point-mass").spec
    episodes = judge.by_chance(spec, 40, 3)
    done = np.concatenate([e.actions for e in episodes])
    assert abs(done.mean()) < 0.05 and done.std() == pytest.approx(1 / 3**0.5, abs=0.03)
    assert judge.normalised(-3.0, -3.0, -1.0) == 0 and judge.normalised(-1.0, -3.0, -1.0) == 1
    x = judge.occupied(episodes, spec)
    assert judge.occupancy(x, x) == pytest.approx(0, abs=1e-4) and x.shape == (1600, 6)


@pytest.mark.slow
def test_compare_tells_them_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--data", "point-mass", "--demonstrations=4", "--recipes", "cloning,gail", "--seeds=2"]
    told = said([*words, "--steps=40", "--jobs=1", "--out", str(tmp_path / "c"), *SMALL], capsys)
    assert "normalised_score" in told and "constant_reward" in told
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Episodes" in page and "expert: 10 moments" in page and "pairs seen" in page
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert [j["question"] for j in results["verdict"]["judgements"]] == ["control"]
    assert "Random actions would give" in page


MISTAKES = {
    "no world": (["train", "gail", "--data", "FILE"], "--env"),
    "no such world": (["train", "gail", "--data", "FILE", "--env", "Pendulumm-v7"], "Pendulum-v1"),
    "a world of another shape": (["train", "gail", "--data", "FILE", "--env", "Pendulum-v1"], "(N, 3)"),
    "no such file": (["train", "cloning", "--data", "absent.npz", "--env", "point-mass"], "point-mass"),
    "images of control": (["train", "cloning", "--data", "point-mass", "--size", "32"], "write --"),
    "a payment that nobody knows": (["train", "gail", "--data", "point-mass", "--reward", "kind"], "softplus"),
    "only cloning": (["train", "gail", "--data", "point-mass", "--cloned", "1"], "between 0 and 0.99"),
    "a prompt for a policy": (["sample", "RUN", "--prompt", "go"], "--explore"),
    "pairs of episodes": (["reconstruct", "RUN"], "train vae"),
    "recipes of two kinds": (["compare", "--data", "point-mass", "--recipes", "gail,gan"], "one kind"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_three_parts_and_exit_code_2(
    mistake: str, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mistake == "no such world":
        pytest.importorskip("gymnasium")
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "mine.npz", allow_pickle=False, **data.arrays_of(data.shown(4)))
    words, instead = MISTAKES[mistake]
    named = {"RUN": str(run), "FILE": "mine.npz"}
    assert cli.run([named.get(word, word) for word in words]) == 2
    told = capsys.readouterr().err
    assert "asked:" in told and "found:" in told and instead in told and "Traceback" not in told


def test_any_world_of_gymnasium_is_trained_filmed_and_judged(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    from amalgan import environments

    world = environments.make("Acrobot-v1")
    source = np.random.default_rng(0)
    world.horizon = 12  # episodes that somebody stopped writing
    held = data.arrays_of(data.acted(world, range(4), lambda seen, _: source.integers(0, 3, len(seen))))
    np.savez(tmp_path / "acrobot.npz", allow_pickle=False, **held)
    run = amalgan.train("cloning", tmp_path / "acrobot.npz", steps=2, out=tmp_path / "run", batch=8,
                        data_options={"env": "Acrobot-v1"})  # fmt: skip
    assert run.spec.details["environment"] == "gymnasium:Acrobot-v1"  # never one of ours of the same name
    assert run.spec.details["choices"] == 3 and run.spec.details["horizon"] == 500
    episodes = run.sample(1)
    assert len(episodes) == 1 and episodes.episodes[0].observations.shape[1] == 6
    with Image.open(tmp_path / "run" / "samples" / "final.png") as strip:
        assert strip.size == (960, 96) and len(strip.convert("RGB").getcolors(10_000) or []) > 20


# The bars, on demonstrations of others


@pytest.mark.slow
@pytest.mark.parametrize("env, theirs, steps", [("Pendulum-v1", "pendulum", 400), ("CartPole-v1", "cartpole", 200)])
def test_ten_demonstrations_come_to_four_fifths_of_the_expert(
    env: str, theirs: str, steps: int, real_data: Path, tmp_path: Path
) -> None:
    source = real_data / "expert_rollouts" / f"{theirs}_expert.npz"
    options = {"env": env, "demonstrations": 10}
    for recipe in ("cloning", "gail"):
        run = amalgan.train(recipe, source, steps=steps, out=tmp_path / recipe, data_options=options)
        found = {row.metric: row.value for row in run.evaluate()}
        assert found["normalised_score"] > 0.8, recipe
        assert found["constant_reward"] < 0.1
