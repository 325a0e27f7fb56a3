"""Run folders: exact resumption (law 5), interruption, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import amalgan
from amalgan import files, recipes, runs
from amalgan.errors import AmalganError, UsageError
from amalgan.training import Diverged, checkpoints

SMALL: dict[str, Any] = {"width": 4, "latent": 4, "batch": 8}
STEPS = 24
VARIANTS = {
    "ae": ("ae", {}),
    "vae": ("vae", {}),
    "gan": ("gan", {"critic_steps": 2}),
    "vaegan": ("vaegan", {}),
    "learned": ("vaegan", {"form": "learned", "gate": True, "game": "minimax"}),
    "two-stage": ("vaegan", {"form": "two-stage", "game": "least-squares"}),
    "sagan": ("sagan", {"augment": "adaptive", "checkpointed": True}),
    "mle": ("mle", {}),
    "cloning": ("cloning", {}),
    "gail": ("gail", {"episodes": 2, "epochs": 1, "parts": 2, "cloned": 0.3, "critic_steps": 2}),
    "seqgan": ("seqgan", {"pretrain": 0.3, "judging": 0.2, "rollouts": 2, "critic_steps": 2, "follow": 0.5}),
    "line": ("line", {}),
    "graphgan": ("graphgan", {"negatives": "mixed"}),
    "rvaegan": ("rvaegan", {}),
    "rgan": ("rgan", {"critic_steps": 2}),
    "timegan": ("timegan", {"embedding": 0.2, "supervision": 0.2}),
}
QUICK = ("vae", "gan", "learned", "two-stage", "mle", "graphgan")  # of the others the law is in the slow suite
SOURCES = {"sagan": "halves", "text": "oracle:V=20,T=5", "series": "sines:T=6,D=2,K=2,N=60"}


def stop_at(step: int) -> Any:
    """A watcher that presses Ctrl-C once that step is done."""

    def watch(tick: runs.Tick) -> None:
        if tick.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return watch


def plain_log(folder: Path) -> list[dict[str, Any]]:
    lines = runs.load(folder).log()
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]


def equal(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_dear_last_stage_takes_most_of_the_time() -> None:
    paces = ((0.8, 1.0), (0.2, 16.0))
    assert [runs.expected(paces, 100, step) for step in (0, 40, 80, 90, 100)] == [0, 40, 80, 240, 400]


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in VARIANTS]
)
@pytest.mark.parametrize("stop", [7, 17])
def test_law_5_stopping_and_going_on_equals_not_stopping_bit_for_bit(tmp_path: Path, variant: str, stop: int) -> None:
    recipe, arguments = VARIANTS[variant]
    settings = {k: v for k, v in {**SMALL, **arguments}.items() if k in recipes.parameters(recipe)}
    kind = recipes.modality(recipe)
    data = SOURCES.get(recipe) or SOURCES.get(kind.names[0], kind.bundled)
    whole = amalgan.train(recipe, data, steps=STEPS, out=tmp_path / "whole", **settings)
    with pytest.raises(runs.Interrupted) as stopped:
        amalgan.train(recipe, data, steps=STEPS, out=tmp_path / "parts", watcher=stop_at(stop), **settings)
    assert stopped.value.exit_code == 130 and "amalgan resume" in stopped.value.instead
    assert runs.load(tmp_path / "parts").log()[-1]["step"] == stop
    resumed = amalgan.resume(tmp_path / "parts")
    for part in ("model/model.safetensors", f"checkpoints/step_{STEPS:08d}/state.safetensors"):
        assert equal(whole.folder / part, resumed.folder / part), part
    assert plain_log(whole.folder) == plain_log(resumed.folder)
    some, others = whole.sample(5), resumed.sample(5)
    assert torch.equal(some, others) if isinstance(some, torch.Tensor) else some == others
    for picture in sorted((whole.folder / "samples").iterdir()):
        assert picture.read_bytes() == (resumed.folder / "samples" / picture.name).read_bytes()


def test_extending_a_finished_run_keeps_its_steps(tmp_path: Path) -> None:
    amalgan.train("vae", "digits", steps=5, out=tmp_path / "run", **SMALL)
    with pytest.raises(UsageError, match="--steps"):
        amalgan.resume(tmp_path / "run")
    longer = amalgan.resume(tmp_path / "run", steps=12)
    assert [line["step"] for line in longer.log()] == list(range(1, 13))
    with pytest.raises(UsageError, match="--steps"):
        runs.resume(tmp_path / "run", steps=3)


@pytest.mark.slow
def test_killed_processes_lose_only_the_steps_since_the_last_checkpoint(tmp_path: Path) -> None:
    whole = amalgan.train("vaegan", "digits", steps=300, out=tmp_path / "whole", **SMALL)
    words = [sys.executable, "-m", "amalgan", "train", "vaegan", "--data", "digits", "--steps", "300",
             "--checkpoint-seconds", "0.02", "--out", str(tmp_path / "killed"),
             *(f"--{k}={v}" for k, v in SMALL.items())]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for kill in range(4):
        deadline = time.monotonic() + 60
        seen = len(list((tmp_path / "killed").glob("checkpoints/step_*/state.json")))
        while process.poll() is None and time.monotonic() < deadline:
            log = tmp_path / "killed" / "log.jsonl"
            if seen and log.exists() and log.stat().st_size > 2000 * (kill + 1):
                break
            seen = len(list((tmp_path / "killed").glob("checkpoints/step_*/state.json")))
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "killed" / "model" / "config.json").exists():
            break
        process = subprocess.Popen([sys.executable, "-m", "amalgan", "resume", str(tmp_path / "killed"),
                                    "--checkpoint-seconds", "0.02"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = runs.load(tmp_path / "killed")
    if not resumed.finished:
        resumed = amalgan.resume(tmp_path / "killed")
    assert equal(whole.folder / "model/model.safetensors", resumed.folder / "model/model.safetensors")
    assert plain_log(whole.folder) == plain_log(resumed.folder)
    assert not list((tmp_path / "killed" / "checkpoints").glob(".writing-*"))


def test_ctrl_c_on_the_command_line_saves_and_exits_with_130(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "amalgan", "train", "vae", "--data", "digits", "--steps", "1000000",
             "--out", str(tmp_path / "run"), *(f"--{k}={v}" for k, v in SMALL.items())]  # fmt: skip
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "log.jsonl").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        if (tmp_path / "run" / "recipe.json").exists():
            time.sleep(0.5)
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"amalgan resume {tmp_path / 'run'}" in said and "Traceback" not in said
    assert list((tmp_path / "run" / "checkpoints").glob("step_*/state.safetensors"))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    groups = {"model": {"w": torch.arange(6.0).view(2, 3)}}
    for step in (1, 2, 3):
        checkpoints.write(tmp_path, {"model": {"w": groups["model"]["w"] + step}}, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000002", "step_00000003"]
    newest = tmp_path / "step_00000003" / "state.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    found, record, damaged = checkpoints.latest(tmp_path)
    assert record["step"] == 2 and torch.equal(found["model"]["w"], groups["model"]["w"] + 2)
    assert len(damaged) == 1 and "step_00000003" in damaged[0]
    (tmp_path / "step_00000002" / "state.json").write_text("{")
    with pytest.raises(AmalganError, match="step_00000002"):
        checkpoints.latest(tmp_path)


def test_orphans_of_killed_writers_are_swept(tmp_path: Path) -> None:
    orphan = tmp_path / ".writing-1-step_00000001"
    orphan.mkdir()
    (orphan / "state.safetensors").write_bytes(b"half")
    checkpoints.write(tmp_path, {"model": {"w": torch.zeros(1)}}, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000002"]


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """A file-size limit stands in for the full disk: the write fails half-way, with the reason in three parts."""
    script = f"""
import resource, signal, torch
from pathlib import Path
from amalgan.training import checkpoints
from amalgan.errors import AmalganError
import errno, amalgan.files as files
folder = Path({str(tmp_path)!r})
checkpoints.write(folder, {{"model": {{"w": torch.zeros(100)}}}}, 1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.write(folder, {{"model": {{"w": torch.zeros(1_000_000)}}}}, 2)
except OSError as error:
    assert error.errno == errno.EFBIG
    print("refused")
groups, record, _ = checkpoints.latest(folder)
assert record["step"] == 1
print(sorted(p.name for p in folder.iterdir()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["refused", "['step_00000001']"], done.stderr


def test_no_space_left_says_what_to_do(tmp_path: Path) -> None:
    import errno

    from amalgan import files

    with pytest.raises(AmalganError, match="no space left") as caught, files.explained(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 1 and "intact" in caught.value.instead


def test_nan_stops_with_term_and_step_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from amalgan.objectives import elbo

    original = elbo.KL.losses

    def poisoned(self: elbo.KL, turn: Any) -> Any:
        for loss in original(self, turn):
            yield loss if turn.step != 9 else type(loss)(loss.name, loss.value * float("nan"), loss.moves)

    monkeypatch.setattr(elbo.KL, "losses", poisoned)
    with pytest.raises(Diverged, match="term 'kl'.*step 9.*encoder"):
        amalgan.train("vae", "digits", steps=30, out=tmp_path / "run", checkpoint_seconds=0.0, **SMALL)
    groups, record, _ = checkpoints.latest(tmp_path / "run" / "checkpoints")
    assert record["step"] <= 9
    assert all(bool(torch.isfinite(t).all()) for t in groups["model"].values())


def test_too_little_memory_suggests_a_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, number: int) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("amalgan.training.Trainer._draw", full)
    with pytest.raises(AmalganError, match="--batch 4") as caught:
        amalgan.train("vae", "digits", steps=3, out=tmp_path / "run", **SMALL)
    assert caught.value.exit_code == 1


def test_streamed_data_trains_to_the_same_weights_as_data_in_memory(tmp_path: Path) -> None:
    from PIL import Image

    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(40):
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
    held = amalgan.train("vae", tmp_path / "images", steps=12, out=tmp_path / "held", **SMALL)
    streamed = amalgan.train("vae", tmp_path / "images", steps=12, out=tmp_path / "streamed",
                             data_options={"in_memory_bytes": 100, "cache": False}, **SMALL)  # fmt: skip
    stored = amalgan.train("vae", tmp_path / "images", steps=12, out=tmp_path / "stored",
                           data_options={"in_memory_bytes": 100, "cache": tmp_path / "cache"}, **SMALL)  # fmt: skip
    assert list((tmp_path / "cache").glob("*.pixels"))
    for run in (streamed, stored):
        assert type(run.data.train.x).__name__ == "Streamed" and run.log()[-1]["waited"] > 0
        assert equal(held.folder / "model/model.safetensors", run.folder / "model/model.safetensors")
    assert "waited" not in held.log()[-1]


@pytest.mark.parametrize("name", ["taken", ""])
def test_a_file_is_not_written_over_a_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    with pytest.raises(AmalganError, match="choose another name|choose a name"):
        files.write_bytes(Path(name), b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    run = amalgan.train("vae", "digits", steps=2, out=tmp_path / "run", **SMALL)
    record = json.loads((run.folder / "recipe.json").read_text())
    (run.folder / "recipe.json").write_text(json.dumps({**record, "format": 99, "version": "9.0"}))
    with pytest.raises(AmalganError, match="9.0"):
        amalgan.load(run.folder)
    harmed = [
        json.dumps({name: value for name, value in record.items() if name != left_out}) for left_out in runs.FIELDS
    ]
    harmed += [json.dumps(record | {"steps": "many"}), json.dumps(record | {"data": {}}), "[1]", "{"]
    for text in [*harmed, json.dumps(record | {"spec": {**record["spec"], "shape": 8}})]:
        (run.folder / "recipe.json").write_text(text)
        with pytest.raises(AmalganError, match="damaged"):
            amalgan.load(run.folder)
    with pytest.raises(UsageError, match="recipe.json"):
        amalgan.load(tmp_path)


def test_a_line_of_the_log_that_is_half_written_is_left_out(tmp_path: Path) -> None:
    """By who was killed meanwhile; or whoever asks the doctor while it trains, at the wrong moment."""
    run = amalgan.train("vae", "digits", steps=8, out=tmp_path / "run", **SMALL)
    lines = run.log()
    with open(run.folder / "log.jsonl", "a") as log:
        log.write('{"step": 9, "secon')
    assert run.log() == lines and run.finished and run.diagnose().findings == ()
    again = amalgan.resume(run.folder, steps=12).log()
    assert again[: len(lines)] == lines and again[-1]["step"] == 12


def test_a_new_run_never_overwrites_another(tmp_path: Path) -> None:
    amalgan.train("vae", "digits", steps=2, out=tmp_path / "run", **SMALL)
    with pytest.raises(UsageError, match="resume"):
        amalgan.train("vae", "digits", steps=2, out=tmp_path / "run", **SMALL)


def test_runs_on_arrays_remember_their_data_by_its_fingerprint(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (60, 12, 12), dtype=np.uint8)
    amalgan.train("vae", x, steps=3, out=tmp_path / "run", **SMALL)
    with pytest.raises(UsageError, match="data="):
        _ = amalgan.load(tmp_path / "run").data
    assert amalgan.load(tmp_path / "run", data=x).data.spec.shape == (1, 12, 12)
    with pytest.raises(AmalganError, match="changed"):
        _ = amalgan.load(tmp_path / "run", data=255 - x).data


def test_shapes_are_checked_with_the_shape_to_give(tmp_path: Path) -> None:
    run = amalgan.train("vae", "digits", steps=2, out=tmp_path / "run", **SMALL)
    x = run.data.test.tensor(3)
    assert run.reconstruct(x).shape == x.shape and run.encode(x).shape == (3, 4)
    assert torch.equal(run.decode(run.encode(x)), run.reconstruct(x))
    with pytest.raises(UsageError, match=r"\(B, 1, 8, 8\)"):
        run.encode(torch.zeros(3, 1, 28, 28))
    with pytest.raises(UsageError, match=r"\(B, 4\)"):
        run.decode(torch.zeros(3, 7))


def test_pretrained_folders_give_the_same_model(tmp_path: Path) -> None:
    from amalgan.models.pretrained import save_pretrained

    run = amalgan.train("vaegan", "digits", steps=4, out=tmp_path / "run", **SMALL)
    save_pretrained(run.model, tmp_path / "copy")
    again = amalgan.from_pretrained(tmp_path / "copy")
    for prior in ("fitted", "standard"):
        assert torch.equal(again.sample(6, seed=3, prior=prior), run.sample(6, seed=3, prior=prior))
    assert again.state_dict().keys() == run.model.state_dict().keys()
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    for harm in ({"arguments": None}, {"spec": {**config["spec"], "shape": []}}, {"grown": 7}):
        (tmp_path / "copy" / "config.json").write_text(json.dumps(config | harm))
        with pytest.raises(AmalganError, match="damaged"):
            amalgan.from_pretrained(tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(AmalganError, match="damaged"):
        amalgan.from_pretrained(tmp_path / "copy")
    with pytest.raises(UsageError, match="config.json"):
        amalgan.from_pretrained(tmp_path)


@pytest.mark.slow
def test_two_processes_equal_one_at_the_same_global_batch(tmp_path: Path) -> None:
    common = ["-m", "amalgan", "train", "vaegan", "--data", "digits", "--steps", "12", "--precision", "fp32",
              *(f"--{k}={v}" for k, v in SMALL.items())]  # fmt: skip
    one = [sys.executable, *common, "--out", str(tmp_path / "one")]
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *common,
           "--out", str(tmp_path / "two")]  # fmt: skip
    for words in (one, two):
        done = subprocess.run(words, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    a, b = runs.load(tmp_path / "one"), runs.load(tmp_path / "two")
    # weights as a whole, not one by one: where a gradient is nearly zero, Adam makes whole steps of mere rounding
    states = [load_file(run.folder / "checkpoints/step_00000012/state.safetensors") for run in (a, b)]
    ours, theirs = (torch.cat([t.flatten() for n, t in sorted(s.items()) if n.startswith("model/")]) for s in states)
    assert (ours - theirs).norm() < 2e-3 * ours.norm()
    for mine, theirs in zip(plain_log(a.folder), plain_log(b.folder), strict=True):
        assert mine.keys() == theirs.keys()
        assert mine["reconstruction"] == pytest.approx(theirs["reconstruction"], rel=1e-3)
