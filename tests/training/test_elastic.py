"""A worker that is killed: torchrun starts all of them again, and the run comes out as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from amalgan import runs
from amalgan.errors import AmalganError
from amalgan.training import distributed

STEPS = 300
TRAIN = ["-m", "amalgan", "train", "vaegan", "--data", "digits", "--steps", str(STEPS), "--precision", "fp32",
         "--width=4", "--latent=4", "--batch=8", "--checkpoint-seconds", "0.05"]  # fmt: skip
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
PATIENCE = 240  # seconds; a run takes twenty where nothing else runs, and each restart imports torch anew


@pytest.fixture
def launched() -> Any:
    """Starts commands in groups of their own, which end with the test."""
    started: list[subprocess.Popen[str]] = []

    def launch(words: list[str], **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, **options)  # fmt: skip
        # what is not read fills the pipe, and who writes waits
        process.said = []  # type: ignore[attr-defined]
        threading.Thread(target=lambda: process.said.extend(process.stdout), daemon=True).start()  # type: ignore[attr-defined,union-attr,arg-type]
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            for worker in workers(process.pid).values():  # each has a group of its own
                os.kill(worker, signal.SIGKILL)
            os.killpg(process.pid, signal.SIGKILL)


def workers(agent: int) -> dict[int, int]:
    """Process ids of the workers of an agent, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = dict(part.split("=", 1) for part in (folder / "environ").read_text().split("\0") if "=" in part)
        except (OSError, ValueError):  # it has gone in the meantime
            continue
        if parent == agent and "RANK" in words:
            found[int(words["RANK"])] = int(folder.name)
    return found


def saved(folder: Path) -> int:
    """The step of the last checkpoint."""
    steps = [int(path.parent.name.rpartition("_")[2]) for path in folder.glob("checkpoints/step_*/state.json")]
    return max(steps, default=0)


def until(so: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait until it is so; False where the process ended first."""
    deadline = time.monotonic() + PATIENCE
    while not so():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.01)
    return True


def finish(process: subprocess.Popen[str]) -> None:
    code = process.wait(timeout=PATIENCE)
    assert code == 0, "".join(process.said)[-3000:]  # type: ignore[attr-defined]


def same(one: Path, other: Path) -> None:
    """Weights, moments and samples, bit for bit."""
    saved = f"checkpoints/step_{STEPS:08d}"
    names = [f"{saved}/{path.name}" for path in (one / saved).glob("*.safetensors")]
    for name in [*names, "model/model.safetensors"]:
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        # sums of the log are averaged when they are saved: rounded once more
        differing = [key for key in a if not torch.equal(a[key], b[key]) and not key.startswith("signals/")]
        assert not differing, differing
    assert torch.equal(runs.load(one).sample(5), runs.load(other).sample(5))
    logs = [runs.load(folder).log() for folder in (one, other)]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    for mine, theirs in zip(*logs):
        assert mine["reconstruction"] == pytest.approx(theirs["reconstruction"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("named, shared", [(True, []), (False, ["--shard"])], ids=["--out", "default name, --shard"])
def test_killed_workers_are_not_missed(named: bool, shared: list[str], tmp_path: Path, launched: Any) -> None:
    """A worker chosen at random is killed at a random step, three times."""
    chosen = random.Random(0)
    finish(launched([*TORCHRUN, "--standalone", *TRAIN, *shared, "--out", str(tmp_path / "whole")]))
    out = ["--out", str(tmp_path / "killed")] if named else []
    folder = tmp_path / "killed" if named else tmp_path / "runs" / "vaegan-digits-seed0"
    torchrun = launched([*TORCHRUN, "--standalone", "--max-restarts=3", *TRAIN, *shared, *out], cwd=tmp_path)
    kills, before = 0, 0
    for share in (0.2, 0.5, 0.8):
        goal = max(before + 1, chosen.randint(int((share - 0.15) * STEPS), int(share * STEPS)))
        if not until(lambda goal=goal: saved(folder) >= goal and len(workers(torchrun.pid)) == 2, torchrun):  # type: ignore[misc]
            break
        before, there = saved(folder), workers(torchrun.pid)
        os.kill(there[chosen.randrange(2)], signal.SIGKILL)
        kills += 1
        until(lambda there=there: not set(there.values()) & set(workers(torchrun.pid).values()), torchrun)  # type: ignore[misc]
    finish(torchrun)
    assert kills >= 2, "it ended before it could be killed"
    assert [path.name for path in folder.parent.iterdir() if path.name != "whole"] == [folder.name], (
        "one run, gone on with"
    )
    same(tmp_path / "whole", folder)


@pytest.mark.slow
def test_two_machines_meet_again(tmp_path: Path, launched: Any) -> None:
    """Two agents, as on two machines: each counts the failures that it saw itself, and the counts may differ."""
    finish(launched([*TORCHRUN, "--standalone", *TRAIN, "--out", str(tmp_path / "whole")]))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=1", "--nnodes=2", "--max-restarts=3",
             "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=two", "--local-addr=localhost"]  # fmt: skip
    folder = tmp_path / "killed"
    agents = [launched([*words, *TRAIN, "--out", str(folder)]) for _ in range(2)]
    for share in (0.3, 0.6):
        if not until(lambda share=share: saved(folder) >= share * STEPS, agents[0]):  # type: ignore[misc]
            break
        ((_, worker),) = workers(agents[1].pid).items()
        os.kill(worker, signal.SIGKILL)
        until(lambda worker=worker: worker not in workers(agents[1].pid).values(), agents[1])  # type: ignore[misc]
    for agent in agents:
        finish(agent)
    same(tmp_path / "whole", folder)


def meet(numbers: dict[int, str], store: dist.Store) -> dict[int, str]:
    """The name that each of several processes, here threads, comes to; `numbers` says what the dead left of them."""
    for number, left in numbers.items():
        store.set(f"call/{number}", left)
    names: dict[int, str] = {}

    def one(number: int) -> None:
        names[number] = distributed._attempt(store, number, 3)

    threads = [threading.Thread(target=one, args=(number,)) for number in (0, 1, 2)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)  # the first has answered the dead by then
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "it hangs"
    return names


def test_processes_of_an_attempt_meet_whatever_the_dead_left() -> None:
    """All come to one name, at each attempt another, although the store still has calls of processes that are dead."""
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=20))
    first = meet({}, store)
    second = meet({1: "dead", 2: "gone"}, store)
    assert len(set(first.values())) == len(set(second.values())) == 1
    assert first[0] != second[0]


def test_what_was_kept_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted process hears what the first attempt said, question by question, and is not asked again."""
    store = dist.HashStore()
    for attempt in range(2):
        monkeypatch.setattr(distributed, "_store", store)
        monkeypatch.setattr(distributed, "_kept", itertools.count())
        answers = [distributed.kept(lambda n=n, attempt=attempt: f"{n} of attempt {attempt}") for n in range(2)]  # type: ignore[misc]
        assert answers == ["0 of attempt 0", "1 of attempt 0"]


def test_who_is_left_alone_is_told_what_to_do() -> None:
    def broken(why: str) -> None:
        def operation(tensor: torch.Tensor) -> None:
            raise RuntimeError(why)

        distributed.together(operation, torch.zeros(1))

    with pytest.raises(AmalganError, match="another of them has left") as told:
        broken("[pair.cc:553] Connection closed by peer [127.0.0.1]:1433")
    assert "resume" in told.value.instead and told.value.exit_code == 1
    with pytest.raises(RuntimeError, match="shapes"):  # a mistake of our own stays one
        broken("shapes do not match")


def test_processes_that_find_different_checkpoints_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is at step 40, this one finds nothing: its machine does not see the folder."""
    monkeypatch.setattr(distributed, "agree", lambda step: 40.0)
    runs._check_alike(Path("runs/x"), 40)
    with pytest.raises(AmalganError, match="where all machines see it"):
        runs._check_alike(Path("runs/x"), 0)
