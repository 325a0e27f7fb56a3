"""Moments and averages shared out over processes: nothing is kept twice, and any number of processes goes on from it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from law_six import plan, split
from processes import launched
from torch import Tensor

from amalgan import runs
from amalgan.errors import AmalganError
from amalgan.training import Trainer, checkpoints, distributed

SMALL = ["--width=4", "--latent=4", "--batch=8", "--precision", "fp32"]


def one_of(rank: int, world: int, monkeypatch: pytest.MonkeyPatch, name: str = "joint") -> Trainer:
    """The trainer of one of so many processes, which this process plays alone."""
    monkeypatch.setattr(distributed, "world", lambda: world)
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "mean", Tensor.detach)
    made = Trainer(replace(plan(name), batch=4 * world), split(name), 4, shard=True)
    for group in made.optimisers.values():  # moments come with the first step
        for weight in group.param_groups[0]["params"]:
            weight.grad = torch.ones_like(weight)
        group.step()
    return made


def bytes_kept(made: Trainer) -> int:
    """Of moments and averages."""
    moments = [value for of in made.optimisers.values() for state in of.state.values() for value in state.values()]
    return sum(value.nbytes for value in [*moments, *made.average.values()])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_nothing_is_kept_twice_and_nothing_is_lost(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = [one_of(rank, world, monkeypatch) for rank in range(world)]
    parts = [made.state() for made in trainers]
    whole = one_of(0, 1, monkeypatch).state()
    for group, tensors in whole.items():
        names = [name for part in parts for name in part.get(group, {})]
        assert sorted(names) == sorted(tensors), group
    kept = [bytes_kept(made) for made in trainers]
    assert max(kept) < 1.2 * bytes_kept(one_of(0, 1, monkeypatch)) / world


def test_who_keeps_what_is_the_same_for_all_and_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 3)
    weights = [torch.nn.Parameter(torch.zeros(n)) for n in (5, 100, 40, 60, 3, 98)]
    owners = distributed.owners(weights)
    assert [owners[weight] for weight in weights] == [1, 0, 2, 2, 0, 1]
    assert [sum(w.numel() for w in weights if owners[w] == of) for of in range(3)] == [103, 103, 100]


def test_a_small_network_may_leave_a_process_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = one_of(39, 40, monkeypatch, "vae")
    assert any(not of.param_groups[0]["params"] for of in made.optimisers.values())


@pytest.mark.slow
def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    """Two processes share out; one, two and four go on; all end alike."""
    said = launched(
        2,
        "-m",
        "amalgan",
        "train",
        "vaegan",
        "--data",
        "digits",
        "--steps",
        "8",
        "--shard",
        *SMALL,
        "--out",
        str(tmp_path / "2"),
    )
    assert said.count("8 steps on cpu") == said.count("vaegan: 8 steps in") == 1, "one process speaks"
    saved = tmp_path / "2" / "checkpoints" / "step_00000008"
    assert sorted(path.name for path in saved.iterdir()) == ["state-1.safetensors", "state.json", "state.safetensors"]
    for processes in (1, 4):
        shutil.copytree(tmp_path / "2", tmp_path / str(processes))
    for processes in (1, 2, 4):
        launched(processes, "-m", "amalgan", "resume", str(tmp_path / str(processes)), "--steps", "16")
    states = {n: checkpoints.latest(tmp_path / str(n) / "checkpoints") for n in (1, 2, 4)}
    parts = {n: len(list((tmp_path / str(n) / "checkpoints" / "step_00000016").glob("*.safetensors"))) for n in states}
    assert parts == {1: 1, 2: 2, 4: 4}
    groups, record, damaged = states[2]
    assert record["step"] == 16 and not damaged
    for n in (1, 4):
        others = states[n][0]
        assert {group: sorted(of) for group, of in others.items()} == {
            group: sorted(of) for group, of in groups.items()
        }
        for group in ("model", "average", "optimiser.encoder", "optimiser.decoder"):
            ours, theirs = (
                torch.cat([of[name].flatten().float() for name in sorted(of)]) for of in (groups[group], others[group])
            )
            assert (ours - theirs).norm() < 2e-3 * ours.norm(), (n, group)
    assert runs.load(tmp_path / "4").sample(3).isfinite().all()


def test_a_part_that_is_missing_or_damaged_is_found(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, {"model": {"w": torch.zeros(3)}}, 1)
    checkpoints.write(tmp_path, {"model": {"w": torch.ones(3)}}, 2)
    newest = tmp_path / "step_00000002"
    record = (newest / "state.json").read_text().replace('"digests": [', '"digests": ["", ')
    (newest / "state.json").write_text(record)
    groups, found, damaged = checkpoints.latest(tmp_path)
    assert found["step"] == 1 and "step_00000002" in damaged[0] and not groups["model"]["w"].any()


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, {"model": {"w": torch.zeros(3)}}, 1)
    record = tmp_path / "step_00000001" / "state.json"
    record.write_text(record.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(AmalganError, match="update amalgan"):
        checkpoints.latest(tmp_path)


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, {"model": {"w": torch.zeros(3)}, "average": {"w": torch.ones(3)}}, 1)
    groups, _, _ = checkpoints.latest(tmp_path, lambda group, name: group == "average")
    assert list(groups) == ["average"]
