"""Demonstrations: read, divided by episode, and refused where they cannot be what they are said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amalgan import environments
from amalgan.data import control
from amalgan.data.control import Episode, arrays_of
from amalgan.errors import UsageError

POLE = "CartPole-v1"


def poles(count: int = 12, steps: int = 7) -> dict[str, np.ndarray]:
    """Episodes by chance in the CartPole world, cut after a few steps."""
    source = np.random.default_rng(0)
    world, episodes = environments.make(POLE), []
    for i in range(count):
        seen, done = [world.start([i])[0]], source.integers(0, 2, steps + i % 3)
        for action in done:
            seen.append(world.step(np.array([action]))[0][0])
        episodes.append(Episode(np.stack(seen), done, np.ones(len(done))))
    return arrays_of(episodes)


def test_the_bundled_demonstrator_settles() -> None:
    data = control.open("point-mass")
    details = data.spec.details
    assert data.spec.shape == (6,) and details["horizon"] == 40 and details["choices"] == 0
    assert [len(part) for part in (data.train, data.validation, data.test)] == [48 * 40, 6 * 40, 6 * 40]
    seen = control.demonstration(data.test, data.spec)
    off = np.linalg.norm(seen[:, :2] - 2, axis=1)
    assert seen.shape == (40, 4) and off[-1] < 0.05 < 1 < off[0]
    x = data.train.tensor()
    assert torch.allclose(x[:, :4].mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(x[:, :4].std(0, correction=0), torch.ones(4), atol=1e-5)
    assert x[:, 4:].abs().max() <= 1
    again, other = control.open("point-mass"), control.open("point-mass", seed=1)
    assert again.fingerprint == data.fingerprint != other.fingerprint
    assert -30 < details["expert"] < -20


def test_rows_are_what_the_file_says(tmp_path: Path) -> None:
    held = poles()
    np.savez(tmp_path / "poles.npz", allow_pickle=False, **held)
    data = control.open(tmp_path / "poles.npz", env=POLE)
    details, x = data.spec.details, torch.cat([data.train.tensor(), data.validation.tensor(), data.test.tensor()])
    assert data.spec.shape == (6,) and details["choices"] == 2 and details["expert"] == pytest.approx(8.0)
    seen = x[:, :4].numpy() * details["deviation"] + details["mean"]
    ours = {(*np.round(s, 5), int(a)) for s, a in zip(seen.tolist(), x[:, 4:].argmax(1).tolist())}
    before = np.delete(held["obs"], np.append(held["indices"], len(held["acts"])) + np.arange(12), 0)
    theirs = {(*np.round(s, 5), int(a)) for s, a in zip(before.tolist(), held["acts"])}
    assert ours == theirs and (x[:, 4:].sum(1) == 1).all()
    assert all(int(part.c.max()) + 1 == n for part, n in ((data.train, 10), (data.validation, 1), (data.test, 1)))


def test_fewer_demonstrations_and_every_third_step() -> None:
    whole, few = control.open(poles(), env=POLE), control.open(poles(), env=POLE, demonstrations=2, every=3)
    assert torch.equal(few.test.tensor(), few.test.tensor()) and len(few.test) == len(whole.test)
    first = whole.train.c == 0
    x = (few.train.x[few.train.c == 0, :4], whole.train.x[first][::3][:, :4])  # in units of their own
    raw = [a.double() * torch.tensor(d.spec.details["deviation"]) + torch.tensor(d.spec.details["mean"])
           for a, d in zip(x, (few, whole))]  # fmt: skip
    assert torch.allclose(*raw, atol=1e-5) and int(few.train.c.max()) == 1


def test_episodes_go_to_one_side_alone_and_repeated_ones_once() -> None:
    held = poles()
    data = control.open(held, env=POLE)
    starts = [{tuple(x.tolist()) for x in part.x} for part in (data.train, data.validation, data.test)]
    assert not starts[0] & starts[1] and not starts[0] & starts[2] and not starts[1] & starts[2]
    episodes = control.cut("", held, environments.make(POLE))
    twice = control.open(arrays_of(episodes + episodes[:4]), env=POLE)
    assert any("4 that repeat" in note for note in twice.notes) and len(twice.train) == len(data.train)


def test_what_was_cut_short_does_not_count_for_the_demonstrator() -> None:
    held = poles()
    data = control.open({**held, "terminal": np.arange(12) % 3 != 0}, env=POLE)
    assert data.spec.details["expert"] == pytest.approx(8.5) and any("4 stop before" in note for note in data.notes)
    unpaid = control.open({name: held[name] for name in ("obs", "acts", "indices")}, env=POLE)
    assert unpaid.spec.details["expert"] is None


def broken(**changed: Any) -> dict[str, Any]:
    return {name: x for name, x in {**poles(), **changed}.items() if x is not None}


OBS, ACTS = poles()["obs"], poles()["acts"]
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no actions": (broken(acts=None), {}, "acts"),
    "empty": (broken(acts=ACTS[:0], obs=OBS[:0], indices=None), {}, "no steps"),
    "cut off": (broken(obs=OBS[:-3]), {}, "one observation more"),
    "indices not rising": (broken(indices=np.array([5, 3])), {}, "rising order"),
    "an episode without steps": (broken(indices=np.array([5, 5])), {}, "rising order"),
    "observations of another world": (broken(obs=OBS[:, :3]), {}, r"\(N, 4\)"),
    "a choice that is none": (broken(acts=ACTS + 1), {}, "0 to 1"),
    "numbers for choices": (broken(acts=ACTS.astype(np.float32)), {}, "whole numbers"),
    "values that are none": (broken(obs=np.where(OBS > 0.04, np.nan, OBS)), {}, "finite"),
    "rewards that do not fit": (broken(rews=np.ones(3)), {}, "one for each action"),
    "too few": (broken(indices=np.array([20]), obs=OBS[: len(ACTS) + 2], terminal=None), {}, "3 or more"),
    "more than there are": (broken(), {"demonstrations": 11}, "--demonstrations 10"),
    "none": (broken(), {"demonstrations": 0}, "--demonstrations 10"),
    "every none": (broken(), {"every": 0}, "--every"),
    "no world": (broken(), {"env": None}, "--env"),
    "forces for a pendulum": (broken(obs=OBS[:, :3], acts=3.0 + ACTS[:, None]), {"env": "Pendulum-v1"}, "2.0"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_refused_with_the_reason(wrong: str) -> None:
    arrays, options, reason = WRONG[wrong]
    with pytest.raises(UsageError, match=reason):
        control.open(arrays, **{"env": POLE, **options})


def test_longer_than_the_world_lasts() -> None:
    held = {"obs": np.zeros((501 + 1, 4)), "acts": np.zeros(501, int)}
    with pytest.raises(UsageError, match="500 at most"):
        control.open(held, env=POLE)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "pickled.npz", obs=np.array([{}], dtype=object), acts=np.zeros(1))
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    for name in ("text.npz", "pickled.npz", "single.npz", "absent.npz", ""):
        with pytest.raises(UsageError, match="npz"):
            control.open(tmp_path / name, env=POLE)
    with pytest.raises(UsageError, match="a list"):
        control.open([1, 2], env=POLE)
