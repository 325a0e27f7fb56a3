"""Many runs: trained here or side by side, each in a process of its own; and how long that still takes.

A process is told a run folder and nothing else: it reads recipe.json, opens the data that is named there, and writes
what `amalgan.train` writes. Its progress is read from log.jsonl. When its parent is gone, it saves and stops.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NoReturn, Protocol

import torch

from amalgan import exhibits, files, modalities, runs
from amalgan.data import Data
from amalgan.doctor.findings import FAILS
from amalgan.errors import AmalganError, UsageError
from amalgan.training import Diverged, memory

GRACE = 0.25  # of its steps are a run's own, whatever a doctor finds: slow beginnings look like collapse
POLL = 0.2  # seconds between two looks at processes


class Progress(Protocol):
    """Who wants to know how far many runs are: share done in [0, 1], seconds left, what is done; lines that stay."""

    def update(self, share: float, seconds_left: float, doing: str = "") -> None: ...

    def note(self, text: str) -> None: ...


class Ill(AmalganError):
    """A run was stopped because a doctor finds that nothing useful will come out of it."""


@dataclass
class Job:
    """One run: trained, judged, or failed. `outcome` is "done" or "failed" once that is known.

    Arguments:
        called: what it is called in tables; by default as its recipe. Runs that are called alike take as long.
        which: of those called alike; by default its seed.
        stops: whether it fails where it need not go on, as in `train_one`.
        claim: a file held for it (`files.claim`), which a process of its own holds on to.
    """

    prepared: runs.Prepared
    called: str = ""
    which: str = ""
    stops: bool = False
    claim: int | None = None
    outcome: str | None = None
    reason: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> str:
        return self.called or str(self.prepared.record["recipe"])

    @property
    def seed(self) -> int:
        return int(self.prepared.record["seed"])

    @property
    def folder(self) -> Path:
        return self.prepared.folder

    @property
    def name(self) -> str:
        return f"{self.recipe}, {self.which or f'seed {self.seed}'}"

    @property
    def left(self) -> bool:
        """Whether there is anything to train."""
        return is_left(self.folder)

    def check(self, out: Path) -> None:
        """A run that is there must be the run that is asked for.

        Raises:
            UsageError: it is another one.
        """
        if not (self.folder / "recipe.json").is_file():
            return
        there, asked = runs.load(self.folder).record, self.prepared.record
        for what in ("recipe", "arguments", "seed", "steps", "precision", "clip"):
            if there[what] != asked[what]:
                raise UsageError(
                    f"{self.name} with {what} {asked[what]}",
                    f"{self.folder} was trained with {what} {there[what]}",
                    f"choose another --out than {out}, or remove that folder",
                )
        if there["data"]["fingerprint"] != asked["data"]["fingerprint"]:
            raise UsageError(
                f"{self.name} on {asked['data']['name']}",
                f"{self.folder} was trained on other data ({there['data']['name']})",
                f"choose another --out than {out}",
            )

    def prepare(self) -> None:
        """Write what another process needs to know to train this run."""
        if not (self.folder / "recipe.json").is_file():
            files.write_json(self.folder / "recipe.json", self.prepared.record)

    def judge(self, against: Any) -> None:
        """Measure the finished run; one that diverged, or whose samples are not finite, has failed."""
        if (self.folder / "failed.json").is_file():
            self.failed(str(files.read_json(self.folder / "failed.json", self.name)["reason"]))
            return
        run = runs.Run(self.folder, self.prepared.data)
        try:
            self.rows = exhibits.judge(run, against)
            self.outcome = "done"
        except UsageError:
            raise
        except AmalganError as error:
            self.failed(error.found)
        last = run.log()[-1]
        cost = self.folder / "cost.json"
        networks = run.model.networks
        self.cost = {
            "steps": last["step"],
            "examples": last["examples"],
            "seconds": last["seconds"],
            "cpu_seconds": last["cpu_seconds"],
            "peak_memory_bytes": files.read_json(cost, self.name)["peak_memory_bytes"] if cost.is_file() else None,
            "parameters": {name: sum(p.numel() for p in parameters) for name, parameters in networks.items()},
        }

    def failed(self, reason: str) -> None:
        """It has no numbers, for this reason."""
        self.outcome, self.reason, self.rows = "failed", reason, []


def job_of(prepared: runs.Prepared, folder: Path, seed: int) -> Job:
    record = prepared.record | {"seed": seed}
    return Job(replace(prepared, folder=folder / "runs" / f"{record['recipe']}-{seed}", record=record))


def is_left(folder: Path) -> bool:
    """Whether a run is still to be trained: neither finished nor failed."""
    return not (folder / "model" / "config.json").is_file() and not (folder / "failed.json").is_file()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def origin(source: Any, data_options: dict[str, Any] | None) -> dict[str, Any]:
    """Where data came from, so that a run in another process can open it again."""
    found = str(Path(source).resolve()) if isinstance(source, str | Path) and Path(source).exists() else source
    return {"source": found if isinstance(found, str) else None, "options": data_options or {}}


def lanes(jobs: int | None, device: str, origin: dict[str, Any], count: int) -> int:
    """Runs side by side. Another process can only open data that a name or path leads to.

    Raises:
        UsageError: fewer than one.
    """
    if jobs is not None and jobs < 1:
        raise UsageError("runs side by side", f"--jobs {jobs}", "write --jobs 1 or more")
    alone = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return 1 if origin["source"] is None else min(jobs or (1 if alone else cores()), count)


# Training


def train_one(folder: Path, data: Any = None, watcher: runs.Watcher | None = None, stops: bool = False) -> None:
    """Train the run of a folder to its end; a failure is kept, and not tried again: it would come out the same.

    Arguments:
        stops: whether it fails where a doctor finds that nothing useful will come out, or its recipe refuses settings
            that go together ill; a search meets many such, and goes on.

    Raises:
        Interrupted: stopped; the run was saved.
    """

    def watch(tick: runs.Tick) -> None:
        grave = next((finding for finding in tick.findings if finding.severity == FAILS), None)
        if stops and grave is not None and tick.step >= GRACE * tick.steps:
            found = f"{grave.name} at step {tick.step} of {tick.steps}: {grave.sentence}"
            raise Ill(f"training {folder}", found, f"amalgan doctor {folder}")
        if watcher is not None:
            watcher(tick)

    run = runs.Run(folder, data)
    measured = memory.reset_peak(run.record["device"])
    try:
        runs.Prepared(run.folder, run.record, run.data).go(watcher=watch)
    except (Diverged, Ill) as error:
        files.write_json(folder / "failed.json", {"reason": error.found})
        return
    except UsageError as error:
        if not stops:
            raise
        files.write_json(folder / "failed.json", {"reason": f"{error.asked}: {error.found}"})
        return
    peak = memory.peak(run.record["device"]) if measured else None
    files.write_json(folder / "cost.json", {"peak_memory_bytes": peak})


def trained(jobs: Iterable[Job], lanes: int, pace: Pace) -> Generator[Job, None, None]:
    """Train what is left of the jobs, each taken when there is room for it; yields every job when it can be judged.

    Raises:
        AmalganError: a process ended without a model, with what it said.
    """
    return one_after_another(jobs, pace) if lanes == 1 else side_by_side(jobs, lanes, pace)


def one_after_another(jobs: Iterable[Job], pace: Pace) -> Generator[Job, None, None]:
    """Train what is left of the jobs in this process; yields every job when it can be judged."""
    for job in jobs:
        if job.left:
            part = f"training {job.name}"
            with pace.doing_it(part):
                job.prepare()
                train_one(job.folder, job.prepared.data, _teller(pace, part), job.stops)
        yield job


def _teller(pace: Pace, part: str) -> runs.Watcher:
    return lambda tick: pace.left(part, tick.seconds_left)


def side_by_side(jobs: Iterable[Job], lanes: int, pace: Pace) -> Generator[Job, None, None]:
    """Train what is left of the jobs in `lanes` processes; yields every job when it can be judged.

    Raises:
        AmalganError: a process ended without a model, with what it said.
    """
    waiting, more = iter(jobs), True
    running: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
    try:
        while more or running:
            while more and len(running) < lanes:
                job = next(waiting, None)
                if job is None:
                    more = False
                    break
                if not job.left:
                    yield job
                    continue
                pace.begin(f"training {job.name}")
                job.prepare()
                running[job.name] = (job, _launch(job))
            ended = [(job, process) for job, process in running.values() if process.poll() is not None]
            for job, _ in ended:
                del running[job.name]
            if running and not ended:
                for job, _ in running.values():
                    _follow(job, pace)
                time.sleep(POLL)
            for job, process in ended:
                _check(job, process)
                pace.end(f"training {job.name}")
                yield job
    finally:
        for _, process in running.values():
            process.send_signal(signal.SIGINT)  # it finishes its step, saves, and can be gone on with
        for _, process in running.values():
            process.wait()


def _launch(job: Job) -> subprocess.Popen[bytes]:
    home = Path(__file__).resolve().parents[1]
    paths = [str(home), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    environment["OMP_NUM_THREADS"] = str(job.prepared.record["threads"])
    code = "import sys; from amalgan.jobs import child; sys.exit(child(*sys.argv[1:]))"
    # a session of its own: Ctrl-C reaches the parent alone, which asks each process once
    with open(job.folder / "stderr.txt", "wb") as said:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(job.folder.resolve()), str(os.getpid()), "stops" * job.stops],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
            pass_fds=() if job.claim is None else (job.claim,),
        )  # fmt: skip


def child(folder: str, parent: str, stops: str = "") -> int:
    """What a process of `side_by_side` does; its exit code."""

    def watch(_: runs.Tick) -> None:
        if os.getppid() != int(parent):
            os.kill(os.getpid(), signal.SIGINT)

    try:
        train_one(Path(folder), watcher=watch, stops=bool(stops))
    except AmalganError as error:
        print(error.found, file=sys.stderr)
        return error.exit_code
    return 0


def _check(job: Job, process: subprocess.Popen[bytes]) -> None:
    if job.stops and process.returncode == -signal.SIGKILL:  # mostly by a kernel that ran out of memory
        files.write_json(job.folder / "failed.json", {"reason": "killed from outside, as where memory runs out"})
    elif process.returncode != 0 or job.left:
        _blame(job, process.returncode)
    (job.folder / "stderr.txt").unlink(missing_ok=True)


def _blame(job: Job, code: int | None) -> NoReturn:
    said = (job.folder / "stderr.txt").read_text(errors="replace").strip()
    raise AmalganError(
        f"training {job.name} in a process of its own",
        said.splitlines()[-1] if said else f"it ended with code {code}",
        f"look into {job.folder / 'stderr.txt'}, or write --jobs 1",
    )


def _follow(job: Job, pace: Pace) -> None:
    """Seconds left of a run in another process, from its log."""
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        with open(job.folder / "log.jsonl", "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            line = json.loads(log.read().splitlines()[-1])
        pace.left(f"training {job.name}", line["seconds"] / line["step"] * (job.prepared.steps - line["step"]))


# How long still


class Pace:
    """How far, and how long still: parts with the seconds they still need, mended by those that are done.

    Arguments:
        progress: told of every change, or None.
        parts: what will be done -> expected seconds.
        lanes: trainings and judgements that go on at the same time.
    """

    def __init__(self, progress: Progress | None, parts: dict[str, float] | None = None, lanes: int = 1) -> None:
        self.progress, self.expected, self.lanes = progress, dict(parts or {}), lanes
        self.doing, self.took = "opening the data", dict[str, list[float]]()
        self.starts: dict[str, float] = {}
        self.began = time.perf_counter()
        self.share = 0.0

    def left(self, part: str, seconds: float) -> None:
        """What a part, begun or to come, still needs."""
        if part in self.expected:
            self.expected[part] = seconds
            self._tell()

    def begin(self, part: str) -> None:
        self.doing = part
        self.starts[part] = time.perf_counter()
        self._tell()

    def end(self, part: str) -> None:
        """A part is done: others of its kind take as long, in the mean; judging one hints at judging the others."""
        seconds, kind = time.perf_counter() - self.starts.pop(part), part.split(",")[0]
        self.expected.pop(part, None)
        self.took.setdefault(kind, []).append(seconds)
        for other in self.expected.keys() - self.starts.keys():
            theirs = other.split(",")[0]
            hint = theirs.startswith("judging") and kind.startswith("judging") and theirs not in self.took
            if (theirs == kind or hint) and self.expected[other] > 0.5:  # less than that: it is done already
                self.expected[other] = fmean(self.took[kind])
        self._tell()

    def drop(self, *parts: str) -> None:
        """Parts that need not be done."""
        for part in parts:
            self.expected.pop(part, None)
        self._tell()

    def note(self, text: str) -> None:
        """A line that stays."""
        if self.progress is not None:
            self.progress.note(text)

    @contextlib.contextmanager
    def doing_it(self, part: str) -> Iterator[None]:
        """A part that begins and ends here."""
        self.begin(part)
        yield
        self.end(part)

    @property
    def seconds_left(self) -> float:
        """Of wall time, over all parts."""
        together = [s for part, s in self.expected.items() if part.startswith(("training", "judging"))]
        alone = sum(self.expected.values()) - sum(together)
        return alone + max(sum(together) / self.lanes, max(together, default=0.0))

    def _tell(self) -> None:
        if self.progress is None:
            return
        left, elapsed = self.seconds_left, time.perf_counter() - self.began
        self.share = 1.0 if not self.expected else max(self.share, min(0.999, elapsed / (elapsed + left + 1e-9)))
        self.progress.update(self.share, left, self.doing)


# A first guess, before anything is timed: relative costs of a step on one thread; measured on 32 x 32 images
COSTS = {"ae": 0.03, "vae": 0.035, "gan": 0.07, "vaegan": 0.115}


def parts(
    names: Sequence[str], seeds: Sequence[int], steps: dict[str, int | None], minutes: float, data: Data, n: int,
    folder: Path,
) -> dict[str, float]:  # fmt: skip
    """What a comparison will do, in order, with expected seconds."""
    pixels = math.prod(data.spec.shape) / 1024
    n = min(n, len(data.test))
    parts = {f"timing {name}": 2.0 for name in names}
    parts["learning to see"] = modalities.of(data.spec.modality).judging_seconds(data)
    for seed in seeds:
        for name in names:
            count = steps[name]
            seconds = minutes * 60 if count is None else count * max(0.002, COSTS.get(name, 0.1) * pixels)
            run = folder / "runs" / f"{name}-{seed}"
            parts[f"training {name}, seed {seed}"] = seconds if is_left(run) else 0.0
            kept = (run / "judged" / "rows.json").is_file()
            parts[f"judging {name}, seed {seed}"] = 0.1 if kept else 2 + 0.005 * n
    return parts | {"writing the report": 2.0}
