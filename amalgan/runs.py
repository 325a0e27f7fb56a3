"""The run folder: what was asked, what happened, what came out.

    RUN/recipe.json    recipe, arguments, data, seed, steps, versions: enough to do it again
        log.jsonl      a line a tick: step, every term under its own name (unweighted), weights, seconds
        checkpoints/   the last two states, exact: going on equals not having stopped, bit for bit
        samples/       pictures from fixed codes while it trained
        model/         the finished model: config.json, model.safetensors, README.md

Everything that reads a run (the command line, reports, comparisons) reads this and nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import platform
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amalgan import __version__, files, modalities, noise, recipes
from amalgan.data import Data, Spec
from amalgan.doctor import Diagnosis, Divergence, Finding, History, Remedy, diagnose, divergence, examine
from amalgan.doctor.probe import Probe
from amalgan.errors import AmalganError, UsageError
from amalgan.metrics.rows import Row
from amalgan.modalities import Modality
from amalgan.models.latent import LatentModel
from amalgan.models.pretrained import from_pretrained, save_pretrained
from amalgan.training import Diverged, Plan, Trainer, checkpoints, distributed, memory

FORMAT = 1
# What recipe.json cannot do without, and what its `data` cannot
FIELDS: dict[str, type] = {"format": int, "recipe": str, "arguments": dict, "data": dict, "spec": dict, "seed": int}
FIELDS |= {"steps": int, "device": str, "threads": int, "precision": str}
OF_DATA = ("source", "options", "name", "fingerprint")
DEFAULT_STEPS = 10_000
TICKS, PICTURES = 200, 10  # log lines and pictures in a run
LOOKS = 150  # steps at least between two looks of the doctor's: one costs as much as three or four of them
THREADS = torch.get_num_threads()  # what the environment allows (OMP_NUM_THREADS), before anyone changed it


@dataclass(frozen=True)
class Tick:
    """What a watcher of a run gets to see: progress, the terms since the last tick, seconds left, and what is wrong."""

    step: int
    steps: int
    terms: dict[str, float]
    seconds_left: float
    findings: tuple[Finding, ...] = ()


Watcher = Callable[[Tick], None]
Pace = tuple[float, float]  # share of the steps that a stage takes, seconds per step in it


class Interrupted(AmalganError):
    """The user stopped a run; it was saved."""

    exit_code = 130


class Run:
    """A run folder, open.

    Arguments:
        folder: as `amalgan.train` wrote it.
        data: the data, if the run was trained on arrays that no path leads to.

    Raises:
        UsageError: no run there.
        AmalganError: a damaged run, or one of a newer version.
    """

    def __init__(self, folder: str | Path, data: Any = None) -> None:
        self.folder = Path(folder)
        if not (self.folder / "recipe.json").is_file():
            raise UsageError(f"the run {self.folder}", "no recipe.json there", "give the folder that --out named")
        record = files.read_json(self.folder / "recipe.json", f"the run {self.folder}")
        self.record: dict[str, Any] = record if isinstance(record, dict) else {}
        lacking = _lacking(self.record)
        if lacking != "format" and self.record["format"] > FORMAT:
            found = f"a run of amalgan {self.record.get('version')}; this is {__version__}"
            raise AmalganError(f"the run {self.folder}", found, "update amalgan")
        try:
            if lacking:
                raise KeyError(lacking)
            self.spec = Spec.from_json(self.record["spec"])
        except (KeyError, TypeError) as error:
            raise AmalganError(
                f"the run {self.folder}", f"recipe.json is damaged: no {error}", "restore it from a copy"
            ) from None
        self.recipe: str = self.record["recipe"]
        self.arguments: dict[str, Any] = self.record["arguments"]
        self.seed: int = self.record["seed"]
        self.steps: int = self.record["steps"]
        self._given = data

    @cached_property
    def data(self) -> Data:
        """The data it was trained on, opened again."""
        options = self.record["data"]["options"]
        if isinstance(self._given, Data):
            data = self._given
        elif self._given is not None:
            data = self.modality.open(self._given, **options)
        elif self.record["data"]["source"] is None:
            raise UsageError(
                f"the data of {self.folder}", "it was trained on arrays", "pass them: amalgan.load(folder, data=...)"
            )
        else:
            data = self.modality.open(self.record["data"]["source"], **options)
        if data.fingerprint != self.record["data"]["fingerprint"]:
            raise AmalganError(
                f"the data of {self.folder}", f"{data.name} has changed since the run began", "train a new run on it"
            )
        return data

    @cached_property
    def model(self) -> LatentModel:
        """The model with its averaged weights and fitted prior, or, before the end, that of the last checkpoint."""
        if (self.folder / "model" / "config.json").is_file():
            return from_pretrained(self.folder / "model")
        groups, _, _ = checkpoints.latest(self.folder / "checkpoints")
        model: LatentModel = recipes.plan(self.recipe, self.spec, self.arguments).model
        model.load_state_dict(groups["model"] | groups.get("average", {}))
        return model.eval()

    @property
    def modality(self) -> Modality:
        """What kind of data it knows."""
        return modalities.of(self.spec.modality)

    @property
    def finished(self) -> bool:
        """Whether its model has been written and no larger budget was given since."""
        log = self.log()
        return (self.folder / "model" / "config.json").is_file() and bool(log) and log[-1]["step"] >= self.steps

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl."""
        return files.read_lines(self.folder / "log.jsonl", "step")

    def fitting(self, data: Any = None) -> Data:
        """The run's own data, or other data made to fit its model."""
        if data is None:
            return self.data
        return data if isinstance(data, Data) else self.modality.reopen(data, self.spec)

    def sample(self, n: int, seed: int = 0, **flags: Any) -> Any:
        """n samples (n, *shape); sample i is the same for any n. Of images: prior="fitted", "standard" or "judged".

        Of a model that was trained with labels, label="7" asks for one, and what comes has fields x and c.
        """
        return self.modality.sample(self.model, n, seed, **flags)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """x (B, *shape) through the code and back."""
        return self.model.reconstruct(self._checked(x))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The code (B, d) of x (B, *shape)."""
        return self.model.encode(self._checked(x))

    def neighbours(self, name: str, n: int = 10, **flags: Any) -> Any:
        """The n that are nearest to a named one: the likeliest new links of a vertex."""
        return self.modality.neighbours(self.model, name, n, **flags)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The image (B, *shape) of a code (B, d)."""
        if z.dim() != 2 or z.shape[1] != self.model.latent:
            raise UsageError("decoding", f"z of shape {tuple(z.shape)}", f"give z of shape (B, {self.model.latent})")
        return self.model.decode(z)

    def evaluate(self, split: str = "test", data: Any = None, n: int = 5000, **flags: Any) -> list[Row]:
        """The run's numbers on a split, with floors and ceilings.

        Arguments:
            split: test, or validation while settings are chosen.
            data: other than that it was trained on.
            n: real and generated examples, fewer where the data are fewer.
            flags: of the modality's `reference`, such as `features` for images.
        """
        judged = self.fitting(data)
        if judged.spec.shape != self.spec.shape:
            raise UsageError(
                f"judging {self.folder}",
                f"data of shape {judged.spec.shape}, the model makes {self.spec.shape}",
                "give data of the same kind and size",
            )
        return self.modality.evaluate(self.model, judged, self.modality.reference(judged, split, n, **flags))

    def diagnose(self) -> Diagnosis:
        """What is wrong with the run so far, how sure that is, and what to do; read off its log."""
        return examine(History(self.record, self.log()))

    def divergence(self, n: int = 2000, seed: int = 0) -> Divergence:
        """Jensen-Shannon divergence between n samples and as many held-out examples, as far as a discriminator sees it.

        Raises:
            UsageError: samples that are no numbers to compare, or fewer than 40 held-out examples.
        """
        return divergence(self.model, self.data, n, seed)

    def _checked(self, x: Tensor) -> Tensor:
        if not hasattr(self.model, "encode"):
            raise UsageError(f"a code from {self.folder}", f"{self.recipe} has none", "train ae, vae or vaegan instead")
        if tuple(x.shape[1:]) != self.spec.shape:
            raise UsageError(
                "encoding",
                f"x of shape {tuple(x.shape)}",
                f"give x of shape (B, {', '.join(map(str, self.spec.shape))})",
            )
        return x.float()


def _lacking(record: dict[str, Any]) -> str | None:
    """The first thing that a record cannot do without and has not; "format" before all others."""
    lacking = [name for name, kind in FIELDS.items() if not isinstance(record.get(name), kind)]
    return next(iter(lacking or [name for name in OF_DATA if name not in record["data"]]), None)


def load(folder: str | Path, data: Any = None) -> Run:
    """Open a run folder."""
    return Run(folder, data)


def runs(folder: str | Path) -> list[Run]:
    """Every run under a folder, by name."""
    return [Run(path.parent) for path in sorted(Path(folder).glob("**/recipe.json"))]


def train(
    recipe: str,
    data: Any,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    clip: float | None = None,
    accumulate: int | str = 1,
    shard: bool = False,
    checkpoint_seconds: float = 60.0,
    tensorboard: bool = False,
    watcher: Watcher | None = None,
    data_options: dict[str, Any] | None = None,
    **arguments: Any,
) -> Run:
    """Train a recipe on data and leave a run folder.

    Arguments:
        recipe: a name in `amalgan.recipes.RECIPES`.
        data: what the modality of the recipe can open, or a Data.
        steps: the budget; or
        minutes: the budget in wall time, turned into steps by timing a few before it starts.
        seed: of everything random.
        out: the run folder; by default runs/RECIPE-DATA-SEED, numbered if taken.
        device: auto, cpu, cuda or cuda:N.
        threads: of the processor; by default all cores, one for points and tiny images.
        precision: auto (bf16 where networks and machine profit), bf16 or fp32.
        clip: largest norm of a network's gradient.
        accumulate: parts of the batch, of which one is in memory at a time; "auto" for the fewest of which one fits.
        shard: of several processes each keeps moments and averages of its share of the weights alone.
        checkpoint_seconds: between checkpoints.
        tensorboard: also write TensorBoard's event files (needs `pip install amalgan[track]`).
        watcher: called with a Tick now and then.
        data_options: passed to the modality's `open`.
        arguments: of the recipe.

    Raises:
        UsageError: an argument is off, or the folder holds another run.
        Diverged: a loss is no longer finite; the last checkpoint is intact.
        Interrupted: after Ctrl-C; the run was saved.
    """
    prepared = prepare(recipe, data, steps=steps, minutes=minutes, seed=seed, out=out, device=device, threads=threads,
                       precision=precision, clip=clip, accumulate=accumulate, shard=shard, data_options=data_options,
                       **arguments)  # fmt: skip
    return prepared.go(checkpoint_seconds, tensorboard, watcher)


def resume(
    folder: str | Path,
    *,
    steps: int | None = None,
    data: Any = None,
    checkpoint_seconds: float = 60.0,
    tensorboard: bool = False,
    watcher: Watcher | None = None,
) -> Run:
    """Go on with a run exactly where its last checkpoint is; `steps` extends the budget.

    Raises:
        UsageError: the run is finished and no larger budget is given.
        AmalganError: no whole checkpoint.
    """
    distributed.start()
    run = Run(folder, data)

    def asked() -> str:
        if run.finished and (steps is None or steps <= run.steps):
            raise UsageError(
                f"resuming {folder}", f"it has finished its {run.steps} steps", f"write --steps {2 * run.steps}"
            )
        if steps is not None and steps < run.steps:
            raise UsageError(
                f"resuming {folder} to {steps} steps", f"its budget is {run.steps}", "write a larger --steps"
            )
        return str(steps or run.steps)

    run.record["steps"] = run.steps = int(distributed.kept(asked))  # asked once: who was restarted may find it done
    return Prepared(run.folder, run.record, run.data).go(checkpoint_seconds, tensorboard, watcher)


def treated(folder: str | Path, remedy: Remedy, out: str | Path | None = None, data: Any = None) -> Prepared:
    """A run like that of a folder, with a remedy's flags; ready to go.

    Where the weights are worth keeping (`remedy.resumes`) it goes on from the last checkpoint, for as many steps as are
    left, or once more as many where none are; otherwise it begins anew. The run itself stays as it is.

    Arguments:
        out: the new run's folder; by default the run's with "-treated" behind, numbered if taken.
        data: a Data, where the run's own can no longer be opened.

    Raises:
        UsageError: a remedy without flags.
        AmalganError: no whole checkpoint to go on from.
    """
    run = Run(folder, data)
    if not remedy.flags:
        raise UsageError(f"to treat {folder} by flags", f"{remedy.sentence}", "do that, and train anew")
    source, flags = run.record["data"]["source"], dict(remedy.flags)
    clip = flags.pop("clip", run.record["clip"])
    prepared = prepare(
        run.recipe,
        source if data is None and source is not None else run.data,
        data_options=run.record["data"]["options"] if data is None and source is not None else None,
        steps=run.steps,
        seed=run.record["seed"],
        out=out if out is not None else _free(run.folder.with_name(run.folder.name + "-treated")),
        device=run.record["device"],
        threads=run.record["threads"],
        precision=run.record["precision"],
        clip=clip,
        accumulate=run.record.get("accumulate", 1),
        shard=run.record.get("shard", False),
        timed=False,
        **{**run.record["arguments"], **flags},
    )
    if remedy.resumes:
        _, saved, _ = checkpoints.latest(run.folder / "checkpoints")
        if saved["step"] >= run.steps:
            prepared.record["steps"] = run.steps + int(saved["step"])
        shutil.copytree(run.folder / "checkpoints", prepared.folder / "checkpoints")
        shutil.copy(run.folder / "log.jsonl", prepared.folder / "log.jsonl")
        files.write_json(prepared.folder / "recipe.json", prepared.record)
    return prepared


@dataclass
class Prepared:
    """A run that is ready to start: its folder, its record, its data; where timed, seconds per step of each stage."""

    folder: Path
    record: dict[str, Any]
    data: Data
    paces: tuple[Pace, ...] = ()

    @property
    def steps(self) -> int:
        return int(self.record["steps"])

    @property
    def seconds_per_step(self) -> float:
        """The mean over the stages; 0 where nothing was timed."""
        return sum(share * seconds for share, seconds in self.paces)

    @property
    def estimate(self) -> float | None:
        """Seconds it will take, None where too short to be worth timing."""
        return self.seconds_per_step * self.steps or None

    @property
    def plan(self) -> Plan:
        """What will be trained, and for what: networks, objectives, step sizes."""
        return _plan(self.record, self.data)

    def go(self, checkpoint_seconds: float = 60.0, tensorboard: bool = False, watcher: Watcher | None = None) -> Run:
        """Train to the end of the budget, from the last checkpoint if there is one."""
        torch.set_num_threads(int(self.record["threads"]))
        trainer = _trainer(self.record, self.data, self.steps)
        first = distributed.is_first()
        if first:
            with files.explained(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            files.sweep(self.folder)
            files.write_json(self.folder / "recipe.json", self.record)
        if any((self.folder / "checkpoints").glob("step_*")):
            groups, saved, _ = checkpoints.latest(self.folder / "checkpoints", trainer.wants)
            trainer.load_state(groups, saved["step"])
        _check_alike(self.folder, trainer.step_count)
        with _memory_explained(self.record), Keeper(self, trainer, tensorboard if first else False, first) as keeper:
            keeper.loop(checkpoint_seconds, watcher)
        return Run(self.folder, self.data)


def prepare(
    recipe: str,
    data: Any,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    clip: float | None = None,
    accumulate: int | str = 1,
    shard: bool = False,
    data_options: dict[str, Any] | None = None,
    timed: bool = True,
    reading: Callable[[int, int], None] | None = None,
    **arguments: Any,
) -> Prepared:
    """Resolve everything a run needs, check it, and time a few steps; nothing is written.

    Arguments as for `train`, and
        timed: whether to estimate the time; needed for a budget in minutes.
        reading: called with files read and files in all while the data is opened.
    """
    distributed.start()
    checked = recipes.check(recipe, arguments)
    _check_budget(steps, minutes)
    options = data_options or {}
    opened = data if isinstance(data, Data) else recipes.modality(recipe, data).open(data, **options, progress=reading)
    folder = Path(distributed.kept(lambda: str(_folder(out, recipe, opened, seed))))
    (begun_before,) = distributed.any_of(distributed.is_first() and (folder / "recipe.json").exists())
    if begun_before:
        begun = Run(folder, opened)  # by an earlier attempt of this job, which a failure ended
        return Prepared(folder, begun.record, begun.data)
    spec = opened.spec
    record = {
        "format": FORMAT,
        "version": __version__,
        "recipe": recipe,
        "arguments": checked,
        "data": {
            "source": str(Path(data).resolve()) if _is_path(data) else data if isinstance(data, str) else None,
            "options": options,
            "name": opened.name,
            "fingerprint": opened.fingerprint,
            "notes": opened.notes,
            "sizes": [len(opened.train), len(opened.validation), len(opened.test)],
        },
        "spec": spec.to_json(),
        "seed": seed,
        "steps": steps or DEFAULT_STEPS,
        "device": _device(device),
        "threads": _threads(threads, spec),
        "precision": precision,
        "clip": clip,
        "accumulate": 1,
        "shard": shard,
        "machine": machine(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    record["accumulate"] = _parts(accumulate, record, opened)
    prepared = Prepared(folder, record, opened)
    if timed and (minutes is not None or prepared.steps > 100):
        torch.set_num_threads(_threads(threads, spec))
        with _memory_explained(record):
            prepared.paces = tuple(_paces(record, opened))
        if minutes is not None:
            record["steps"] = max(1, round(minutes * 60 / prepared.seconds_per_step))
    return prepared


def machine(**more: Any) -> dict[str, Any]:
    """What results were made with and on, for those who would make them again."""
    versions = {"amalgan": __version__, "torch": torch.__version__, "numpy": np.__version__}
    return {**versions, "python": platform.python_version(), "system": platform.platform(), **more}


class Keeper:
    """Keeps the books of a run while it trains: log, checkpoints, pictures, and the user's wish to stop."""

    def __init__(self, prepared: Prepared, trainer: Trainer, tensorboard: bool, first: bool) -> None:
        self.folder, self.record, self.data = prepared.folder, prepared.record, prepared.data
        self.trainer, self.first = trainer, first
        self.modality = modalities.of(prepared.data.spec.modality)
        self.stop = False
        self.began, self.began_cpu, self.start_step = time.perf_counter(), time.process_time(), trainer.step_count
        self.paces = prepared.paces or tuple((share, 1.0) for _, share in trainer.plan.stages)
        self.board = _board(self.folder) if tensorboard else None
        self.probe = Probe(trainer, prepared.data) if first else None
        self.looks: list[dict[str, Any]] = []
        self.findings: tuple[Finding, ...] = ()
        self._truncate_log()

    def __enter__(self) -> Keeper:
        self._before = {}
        for name in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread: then nobody presses Ctrl-C here
                self._before[name] = signal.signal(name, self._ask_to_stop)
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)
        if self.board is not None:
            self.board.close()

    def _ask_to_stop(self, number: int, _: Any) -> None:
        if self.stop:  # asked twice: now
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.stop = True

    def loop(self, checkpoint_seconds: float, watcher: Watcher | None) -> None:
        """Train, log, save; at the end fit the prior and write the model."""
        trainer, steps = self.trainer, self.trainer.steps
        tick, picture = max(1, steps // TICKS), max(1, steps // PICTURES)
        look = tick * math.ceil(LOOKS / tick)
        saved = shown = time.perf_counter()
        for step in trainer.run():
            last = step == steps
            if step % tick == 0 or last:
                self._check()
                terms = self._log(step, step % look == 0 or last)
                if watcher is not None:
                    watcher(Tick(step, steps, terms, self._left(step), self.findings))
                shown = time.perf_counter()
            elif watcher is not None and time.perf_counter() - shown > 0.5:
                watcher(Tick(step, steps, {}, self._left(step)))
                shown = time.perf_counter()
            if step % picture == 0 or last:
                self._picture(step)
            # agreed on, since to save is a work of all; no two clocks are alike
            stop, due = distributed.any_of(self.stop, self.first and time.perf_counter() - saved > checkpoint_seconds)
            if last or stop or due:
                self._check()
                self._save(step)
                saved = time.perf_counter()
            if stop and not last:
                raise Interrupted(
                    f"{steps} steps", f"stopped after {step}; saved in {self.folder}", f"amalgan resume {self.folder}"
                )
        self._finish()

    def _check(self) -> None:
        """Raise if something is no longer finite, and leave a word of it in the log."""
        try:
            self.trainer.check()
        except Diverged as error:
            trouble = {"what": error.what, "step": error.step, "examples": list(error.examples)}
            self._append(self._clock() | {"diverged": trouble})
            raise

    def _left(self, step: int) -> float:
        """By what the steps so far took against what was expected of them: a stage may be many times another's price."""
        start, now, end = (
            expected(self.paces, self.trainer.steps, s) for s in (self.start_step, step, self.trainer.steps)
        )
        return (time.perf_counter() - self.began) / (now - start) * (end - now)

    def _log(self, step: int, looks: bool) -> dict[str, float]:
        weights = dict(self.trainer.signals.weights)
        terms = self.trainer.signals.read()
        line = {**self._clock(), **terms, "weights": weights}
        if looks and self.probe is not None:
            line["signals"] = self.probe.read()
            self.looks.append(line)
            self.findings = tuple(diagnose(History(self.record, self.looks)))
        self._append(line)
        if self.board is not None:
            for name, value in terms.items():
                self.board.add_scalar(f"loss/{name}", value, step)
        return terms

    def _clock(self) -> dict[str, Any]:
        """Where the run is; and of data that are read as they are needed, the seconds spent waiting for them."""
        waited = getattr(self.trainer.split, "waited", 0.0)
        return ({"waited": round(waited, 3)} if waited else {}) | {
            "step": self.trainer.step_count,
            "examples": self.trainer.step_count * self.trainer.plan.batch,
            "seconds": round(time.perf_counter() - self.began + self._earlier["seconds"], 3),
            "cpu_seconds": round(time.process_time() - self.began_cpu + self._earlier["cpu_seconds"], 3),
        }

    def _append(self, line: dict[str, Any]) -> None:
        if self.first:
            with files.explained(self.folder / "log.jsonl"), open(self.folder / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")

    def _truncate_log(self) -> None:
        """Drop lines beyond the checkpoint: those steps are done again, and come out the same."""
        path, self._earlier = self.folder / "log.jsonl", {"seconds": 0.0, "cpu_seconds": 0.0}
        if not path.is_file():
            return
        kept = [line for line in files.read_lines(path, "step") if line["step"] <= self.trainer.step_count]
        self.looks = [line for line in kept if "signals" in line]
        if kept:
            self._earlier = {key: kept[-1][key] for key in self._earlier}
        if self.first:
            files.write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def _save(self, step: int) -> None:
        state, shared = self.trainer.state(), bool(self.trainer.owners)
        if self.first or shared:
            checkpoints.write(self.folder / "checkpoints", state, step, shared=shared)

    @torch.no_grad()
    def _picture(self, step: int) -> None:
        with self.trainer.averaged_model() as model:
            if self.first:
                self.modality.preview(model, self.folder / "samples" / f"step_{step:08d}")

    def _finish(self) -> None:
        trainer = self.trainer
        with trainer.averaged_model() as model:
            if not self.first:
                return
            model.finish(self.data, trainer.seed)
            card = _card(self.record, self.folder)
            save_pretrained(model, self.folder / "model", card)
            self.modality.preview(model, self.folder / "samples" / "final")


# Small decisions


def expected(paces: Sequence[Pace], steps: int, step: int) -> float:
    """Seconds of the first `step` of `steps` steps, at the paces of the stages."""
    seconds, begin = 0.0, 0.0
    for share, pace in paces:
        seconds += pace * min(max(0.0, step - begin), share * steps)
        begin += share * steps
    return seconds


def _plan(record: dict[str, Any], data: Data) -> Plan:
    with torch.random.fork_rng():
        torch.manual_seed(noise.key(record["seed"], "weights"))
        plan = recipes.plan(record["recipe"], Spec.from_json(record["spec"]), record["arguments"])
    precision = _precision(record["precision"], plan, record["device"])
    return replace(plan, precision=precision, batch=min(plan.batch, len(data.train)))


def _trainer(record: dict[str, Any], data: Data, steps: int) -> Trainer:
    device = distributed.device(record["device"])
    return Trainer(_plan(record, data), data.train, steps, record["seed"], device, record["clip"],
                   record.get("accumulate", 1), record.get("shard", False))  # fmt: skip


def _check_alike(folder: Path, step: int) -> None:
    """All processes go on from the same step, or they would wait for each other for ever."""
    (apart,) = distributed.any_of(step != distributed.agree(step))
    if apart:
        raise AmalganError(
            f"going on with {folder} in {distributed.world()} processes",
            f"not all of them find the same checkpoint; process {distributed.rank()} that of step {step}",
            "put the run where all machines see it, by --out",
        )


def _paces(record: dict[str, Any], data: Data) -> Iterator[Pace]:
    """Share of the run and seconds per step of each stage: the mean of a few, on a trainer that is thrown away."""
    trainer = _trainer(record, data, max(record["steps"], 1000))
    progress = 0.0
    for _, share in trainer.plan.stages:
        trainer.step_count = math.ceil(progress * trainer.steps)
        yield share, _mean_step(trainer, 2.0 * share)
        progress += share


def _mean_step(trainer: Trainer, patience: float) -> float:
    """The mean, not the median, since lazy penalties make every so-manieth step a long one; after a warm-up."""
    times: list[float] = []
    while len(times) < 20 and (len(times) <= 4 or sum(times) <= patience):
        start = time.perf_counter()
        trainer.step()
        times.append(distributed.agree(time.perf_counter() - start))  # all processes must take as many steps
    return sum(times[2:]) / len(times[2:])


def _parts(wanted: int | str, record: dict[str, Any], data: Data) -> int:
    """Of a batch: so many, or for "auto" the fewest of which one fits."""
    if isinstance(wanted, int):
        return wanted
    if wanted != "auto":
        raise UsageError("--accumulate", repr(wanted), "write a number of parts >= 1, or auto")

    def make(batch: int) -> Trainer:
        plan = replace(_plan(record, data), batch=batch)
        steps = 1000 * memory.LAZIEST  # so that every stage has a step on which penalties act
        return Trainer(plan, data.train, steps, record["seed"], distributed.device(record["device"]), record["clip"])

    torch.set_num_threads(int(record["threads"]))
    with _memory_explained(record):
        return memory.fewest_parts(make, _plan(record, data).batch, distributed.device(record["device"]))


def _check_budget(steps: int | None, minutes: float | None) -> None:
    if steps is not None and minutes is not None:
        raise UsageError("a budget", "both --steps and --minutes", "write one of them")
    if steps is not None and steps < 1:
        raise UsageError("a budget", f"--steps {steps}", "write --steps 1 or more")
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise UsageError("a budget", f"--minutes {minutes}", "write --minutes greater than 0")


def _is_path(data: Any) -> bool:
    return isinstance(data, str | Path) and Path(data).exists()


def _folder(out: str | Path | None, recipe: str, data: Data, seed: int) -> Path:
    if out is not None:
        if (Path(out) / "recipe.json").exists():
            raise UsageError(f"a new run in {out}", "a run is there already", f"amalgan resume {out}, or another --out")
        return Path(out)
    name = re.sub(r"[^\w.-]+", "-", Path(data.name).name).strip("-") or "data"
    return _free(Path("runs") / f"{recipe}-{name}-seed{seed}")


def _free(path: Path) -> Path:
    """The path, numbered if taken."""
    numbered = (path if i == 1 else path.with_name(f"{path.name}-{i}") for i in itertools.count(1))
    return next(path for path in numbered if not path.exists())


def _device(device: str) -> str:
    if device == "auto":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError("a device", repr(device), "write auto, cpu, cuda or cuda:N")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {device}", "this torch sees no CUDA device", "write --device cpu")
    return device


def _threads(threads: int | None, spec: Spec) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is not None:
        if not 1 <= threads <= 4 * cores:
            raise UsageError(f"--threads {threads}", f"this machine has {cores} cores", f"write 1 to {cores}")
        return threads
    # Small layers lose more to waiting for each other than they win: on points and 8 px digits one thread is fastest.
    # A rule, not a timing: the number of threads changes rounding, and the same command should give the same numbers.
    small = math.prod(spec.shape) <= 512
    return 1 if small else max(1, min(THREADS, cores // distributed.beside()))


def _precision(wanted: str, plan: Plan, device: str) -> str:
    if wanted not in ("auto", "bf16", "fp32"):
        raise UsageError("a precision", repr(wanted), "write auto, bf16 or fp32")
    if wanted != "auto":
        return wanted
    able = torch.cuda.is_bf16_supported() if device.startswith("cuda") else _cpu_has_bf16()
    return plan.precision if able else "fp32"


def _cpu_has_bf16() -> bool:
    """Whether bf16 convolutions run in hardware; emulated ones are slower than fp32."""
    return "amx_bf16" in _cpu_flags() or "avx512_bf16" in _cpu_flags()


def _cpu_flags() -> set[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.split())
    return set()


@contextlib.contextmanager
def _memory_explained(record: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not short:
            raise
        batch = record["arguments"].get("batch", 64)
        raise AmalganError(
            f"training {record['recipe']} with batches of {batch}",
            "the memory does not suffice",
            f"write --accumulate {2 * record.get('accumulate', 1)}, --batch {max(2, batch // 2)}, or a smaller --width",
        ) from error


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("--tensorboard", "tensorboard is not installed", "pip install 'amalgan[track]'") from None
    return SummaryWriter(str(folder / "tensorboard"))


def _card(record: dict[str, Any], folder: Path) -> str:
    arguments = "\n".join(f"| {name} | {value} |" for name, value in record["arguments"].items())
    train, validation, test = record["data"]["sizes"]
    shape = "x".join(map(str, record["spec"]["shape"]))
    return f"""---
library_name: amalgan
tags: [{record["recipe"]}, generative]
---
# {record["recipe"]} on {record["data"]["name"]}

Trained for {record["steps"]} steps with seed {record["seed"]} on {train} {record["spec"]["modality"]} of shape {shape}
({validation} held out for validation, {test} for tests). Data fingerprint `{record["data"]["fingerprint"]}`.

    import amalgan
    run = amalgan.load("{folder}")
    x = run.sample(64)

## Settings

| argument | value |
|---|---|
{arguments}

## Limits

It knows only what its training data showed. Judge it before use: `amalgan evaluate {folder}` prints quality and
diversity with floors and ceilings, and how close samples come to training examples.
"""
