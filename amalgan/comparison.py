"""Which recipe suits these data? The same networks, the same budget and the same seeds for each; then a judgement.

    OUT/plan.json        the budget, in steps for every recipe
        runs/vae-0/      one run folder for each recipe and seed, judged
        results.json     a row for every recipe, metric and seed; their summary with intervals; the verdict
        report.html      all of it as one page to look at

Whatever is finished is not done again: the same call goes on where it was stopped, and a call with more seeds or
recipes adds to what is there. A run that diverges stays in the table as failed; the others go on.
"""

from __future__ import annotations

import contextlib
import math
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from amalgan import __version__, exhibits, files, recipes, report, runs
from amalgan.data import Data
from amalgan.data import open as open_data
from amalgan.errors import AmalganError, UsageError
from amalgan.metrics.evaluate import METRICS, Reference, reference
from amalgan.metrics.features import Features
from amalgan.training.trainer import Diverged
from amalgan.verdict import UNRANKED, Scores, clearly_best, interval, number, table, told, verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FORMAT = 1
DEFAULT = ("vae", "gan", "vaegan")
ALIKE = (
    "latent",
    "width",
    "batch",
)  # what makes networks and budgets the same; the first recipe's default holds for all
IN_TERMINAL = (
    "pixel_mse",
    "nll",
    "frechet",
    "kernel",
    "precision",
    "recall",
    "coverage",
    "modes",
    "quality",
    "memorisation",
)


@dataclass(frozen=True)
class Progress:
    """How far a comparison is: share done in [0, 1], seconds left (an estimate that mends itself), what it is doing."""

    done: float
    seconds_left: float
    doing: str


Watcher = Callable[[Progress], None]


def compare(
    data: Any,
    recipes: Sequence[str] = DEFAULT,
    *,
    seeds: int | Sequence[int] = 3,
    steps: int | None = None,
    images: int | None = None,
    minutes: float | None = None,
    out: str | Path = "comparison",
    split: str = "test",
    n: int = 5000,
    features: Features | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    clip: float | None = None,
    data_options: dict[str, Any] | None = None,
    watcher: Watcher | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Train each recipe on each seed, judge the runs, and write results.json and report.html.

    The budget is the same for every recipe: `steps`, or `images` seen, or `minutes` of training for each run. Where
    recipes differ in a default that makes their networks differ (`latent`, `width`, `batch`), the first recipe's
    default holds for all.

    Arguments:
        data: anything `amalgan.data.open` takes, or a Data.
        recipes: two or more names; one is allowed, and is then held against floors and ceilings only.
        seeds: how many (0, 1, ...), or which; below 2 nothing can be said with an interval.
        steps, images, minutes: at most one of them; 10,000 steps by default.
        out: the folder; one that holds a comparison of the same data and budget is completed.
        split: "test", or "validation" while settings are chosen.
        n: real and generated items to judge with.
        features: the feature network to judge with; by default what `metrics.features.choose` finds for the data.
        device, threads, precision, clip: as for `amalgan.train`.
        data_options: passed to `amalgan.data.open`.
        watcher: called with a Progress now and then.
        arguments: of the recipes; each goes to the recipes that know it.

    Returns:
        The content of results.json.

    Raises:
        UsageError: an argument that no recipe knows, no budget or two, or a folder with another comparison.
        Interrupted: after Ctrl-C; the same call goes on.
    """
    names, numbers, folder = _names(recipes), _seeds(seeds), Path(out)
    settings = alike(names, arguments)
    budget = _budget(steps, images, minutes, settings)
    opened = data if isinstance(data, Data) else open_data(data, **(data_options or {}))
    pace = Pace(watcher, _parts(names, numbers, budget, settings, opened, n, folder))
    prepared = _prepare(
        names, settings, opened, _origin(data, data_options), budget, folder, numbers, pace,
        device=device, threads=threads, precision=precision, clip=clip,
    )  # fmt: skip
    jobs = [_job(prepared[name], folder, seed) for seed in numbers for name in names]
    for job in jobs:
        job.check(folder)
        if job.left and job.prepared.estimate is not None:
            pace.expect(f"training {job.name}", job.prepared.estimate)
    try:
        pace.begin("learning to see")
        against = reference(opened, split, n, features)
        for job in jobs:
            job.train(pace)
            job.judge(pace, against)
    except (KeyboardInterrupt, runs.Interrupted) as stop:
        done = sum(job.outcome is not None for job in jobs)
        raise runs.Interrupted(
            f"{len(jobs)} runs in {folder}",
            f"stopped while {pace.doing}; {done} runs are finished and judged",
            f"give the same command again: it goes on where it was stopped, in {folder}",
        ) from stop
    pace.begin("writing the report")
    defaults = {"n": 5000, "split": "test", "device": "auto", "precision": "auto"}
    options = {"n": n, "split": split, "device": device, "threads": threads, "precision": precision, "clip": clip}
    changed = {name: value for name, value in options.items() if value != defaults.get(name)}
    again = command(data, names, seeds, budget, **(data_options or {}), **arguments, **changed, out=out)
    results = collect(opened, jobs, against, budget, again, folder)
    files.write_json(folder / "results.json", results)
    report.write(folder)
    pace.end()
    return results


def single(folder: str | Path, n: int = 5000, data: Any = None) -> dict[str, Any]:
    """Judge one finished run and write its results.json: what `amalgan.report.write` shows of a run."""
    run = runs.load(folder, data)
    if not run.finished:
        raise UsageError(f"a report of {folder}", "the run is not finished", f"amalgan resume {folder}")
    against = reference(run.data, "test", n)
    job = Job(runs.Prepared(run.folder, run.record, run.data))
    job.judge(Pace(None), against)
    budget = {"unit": "steps", "amount": run.steps}
    results = collect(run.data, [job], against, budget, _train_command(run), run.folder)
    files.write_json(run.folder / "results.json", results)
    return results


def alike(names: Sequence[str], arguments: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The arguments of each recipe: those given that it knows, and for `ALIKE` the first recipe's value.

    Raises:
        UsageError: an argument that no recipe knows, or a value out of range.
    """
    known = {name: recipes.parameters(name) for name in names}
    for argument in arguments:
        if not any(argument in parameters for parameters in known.values()):
            every = dict.fromkeys(a for parameters in known.values() for a in parameters)
            raise UsageError(
                f"{argument} for {', '.join(names)}", "no recipe knows it", f"write one of {', '.join(every)}"
            )
    shared = {a: known[names[0]][a].default for a in ALIKE if a in known[names[0]]} | arguments
    return {name: recipes.check(name, {a: v for a, v in shared.items() if a in known[name]}) for name in names}


# One run of the comparison


@dataclass
class Job:
    """One recipe on one seed: trained, judged, or failed. `outcome` is "done" or "failed" once that is known."""

    prepared: runs.Prepared
    outcome: str | None = None
    reason: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> str:
        return str(self.prepared.record["recipe"])

    @property
    def seed(self) -> int:
        return int(self.prepared.record["seed"])

    @property
    def folder(self) -> Path:
        return self.prepared.folder

    @property
    def name(self) -> str:
        return f"{self.recipe}, seed {self.seed}"

    @property
    def left(self) -> bool:
        """Whether there is anything to train."""
        return _left(self.folder)

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

    def train(self, pace: Pace) -> None:
        """Train what is left to train; a divergence is kept, and is not tried again: it would come out the same."""
        if (self.folder / "failed.json").is_file():
            self._failed(str(files.read_json(self.folder / "failed.json", self.name)["reason"]))
        if not self.left:
            return
        pace.begin(f"training {self.name}")
        memory = _reset_memory(self.prepared.record["device"])
        try:
            self.prepared.go(watcher=pace.tick)
        except Diverged as error:
            files.write_json(self.folder / "failed.json", {"reason": error.found})
            self._failed(error.found)
            return
        peak = _peak_memory(self.prepared.record["device"]) if memory else None
        files.write_json(self.folder / "cost.json", {"peak_memory_bytes": peak})

    def judge(self, pace: Pace, against: Reference) -> None:
        """Measure the finished run; one whose samples are not finite has failed."""
        if self.outcome == "failed":
            return
        pace.begin(f"judging {self.name}")
        run = runs.Run(self.folder, self.prepared.data)
        try:
            self.rows = exhibits.judge(run, against)
            self.outcome = "done"
        except UsageError:
            raise
        except AmalganError as error:
            self._failed(error.found)
        last = run.log()[-1]
        cost = self.folder / "cost.json"
        networks = run.model.networks
        self.cost = {
            "steps": last["step"],
            "images": last["images"],
            "seconds": last["seconds"],
            "cpu_seconds": last["cpu_seconds"],
            "peak_memory_bytes": files.read_json(cost, self.name)["peak_memory_bytes"] if cost.is_file() else None,
            "parameters": {name: sum(p.numel() for p in parameters) for name, parameters in networks.items()},
        }

    def _failed(self, reason: str) -> None:
        self.outcome, self.reason, self.rows = "failed", reason, []


def _job(prepared: runs.Prepared, folder: Path, seed: int) -> Job:
    record = prepared.record | {"seed": seed}
    return Job(replace(prepared, folder=folder / "runs" / f"{record['recipe']}-{seed}", record=record))


def _prepare(
    names: Sequence[str],
    settings: dict[str, dict[str, Any]],
    opened: Data,
    origin: dict[str, Any],
    budget: dict[str, Any],
    folder: Path,
    seeds: Sequence[int],
    pace: Pace,
    **options: Any,
) -> dict[str, runs.Prepared]:
    """Each recipe resolved and timed. Steps that follow from minutes are kept in plan.json: going on keeps them."""
    path, prepared = folder / "plan.json", {}
    plan = files.read_json(path, f"the comparison {folder}") if path.is_file() else {"budget": budget, "steps": {}}
    if plan["budget"] != budget:
        raise UsageError(
            f"{budget['amount']:g} {budget['unit']} a run",
            f"{folder} holds a comparison at {plan['budget']['amount']:g} {plan['budget']['unit']}",
            "choose another --out, or the same budget",
        )
    for name in names:
        pace.begin(f"timing {name}")
        steps = plan["steps"].get(name) or _steps(budget, settings[name])
        given = {"minutes": budget["amount"]} if steps is None else {"steps": steps}
        left = any(_left(folder / "runs" / f"{name}-{seed}") for seed in seeds)
        prepared[name] = runs.prepare(name, opened, seed=seeds[0], timed=left, **given, **options, **settings[name])
        prepared[name].record["data"] |= origin
    plan["steps"] |= {name: p.steps for name, p in prepared.items()}
    files.write_json(path, plan)
    return prepared


def _left(folder: Path) -> bool:
    """Whether a run is still to be trained: neither finished nor failed."""
    return not (folder / "model" / "config.json").is_file() and not (folder / "failed.json").is_file()


# What was asked


def _names(recipe_names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(recipe_names))
    if not names or len(names) != len(recipe_names):
        raise UsageError("a comparison", f"recipes {', '.join(recipe_names) or 'none'}", "write each recipe once")
    for name in names:
        recipes.parameters(name)
    return names


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise UsageError("a comparison", f"seeds {seeds}", "write --seeds 3, or different numbers from 0 up")
    return numbers


def _budget(
    steps: int | None, images: int | None, minutes: float | None, settings: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The budget as unit and amount; whatever its unit, `_steps` makes steps of it."""
    given = {unit: amount for unit, amount in (("steps", steps), ("images", images), ("minutes", minutes)) if amount}
    if len(given) > 1:
        raise UsageError("a budget", " and ".join(f"--{unit}" for unit in given), "write one of them")
    for unit, amount in (("steps", steps), ("images", images), ("minutes", minutes)):
        if amount is not None and not (math.isfinite(amount) and amount > 0):
            raise UsageError("a budget", f"--{unit} {amount}", f"write --{unit} greater than 0")
    batches = {name: arguments.get("batch") for name, arguments in settings.items()}
    assert len(set(batches.values())) == 1, f"one batch size for all recipes, else steps are not images: {batches}"
    unit, amount = next(iter(given.items()), ("steps", runs.DEFAULT_STEPS))
    return {"unit": unit, "amount": amount}


def _steps(budget: dict[str, Any], arguments: dict[str, Any]) -> int | None:
    """Steps of a budget in steps or images; None for minutes, which need timing."""
    if budget["unit"] == "images":
        return math.ceil(budget["amount"] / arguments["batch"])
    return int(budget["amount"]) if budget["unit"] == "steps" else None


def _origin(source: Any, data_options: dict[str, Any] | None) -> dict[str, Any]:
    """Where the data came from, so that a run of the comparison can open it again."""
    found = str(Path(source).resolve()) if isinstance(source, str | Path) and Path(source).exists() else source
    return {"source": found if isinstance(found, str) else None, "options": data_options or {}}


def command(data: Any, names: Sequence[str], seeds: int | Sequence[int], budget: dict[str, Any], **others: Any) -> str:
    """The command line that does it again; what cannot be written on one is left for a person to fill in."""
    source = str(data) if isinstance(data, str | Path) else "DATA"
    count = seeds if isinstance(seeds, int) else len(seeds)
    words = ["amalgan", "compare", "--data", source, "--recipes", ",".join(names), "--seeds", str(count)]
    words += [f"--{budget['unit']}", f"{budget['amount']}"]
    return shlex.join(words + _flags(others))


def _train_command(run: runs.Run) -> str:
    source = run.record["data"]["source"] or "DATA"
    words = ["amalgan", "train", run.recipe, "--data", source, "--steps", str(run.steps), "--seed", str(run.seed)]
    default = {name: p.default for name, p in recipes.parameters(run.recipe).items()}
    given = {name: value for name, value in run.arguments.items() if value != default[name]}
    return shlex.join(words + _flags(run.record["data"]["options"] | given))


def _flags(arguments: dict[str, Any]) -> list[str]:
    words = []
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        words += [] if value is None or value is False else [flag] if value is True else [flag, str(value)]
    return words


# How long still


class Pace:
    """How far, and how long still: parts in order with expected seconds, mended by those that are done.

    Arguments:
        watcher: told at every step, or None.
        parts: what will be done -> expected seconds, in order.
    """

    def __init__(self, watcher: Watcher | None, parts: dict[str, float] | None = None) -> None:
        self.watcher, self.expected = watcher, dict(parts or {})
        self.doing, self.known = "opening the data", set[str]()
        self.began = self.since = time.perf_counter()
        self.share = 0.0

    def expect(self, doing: str, seconds: float) -> None:
        """A better estimate of a part that is still to come."""
        if doing in self.expected:
            self.expected[doing] = seconds

    def begin(self, doing: str) -> None:
        """The next part begins: the one before is done, and any between them had nothing to do."""
        now = time.perf_counter()
        self._learn(self.doing, now - self.since)
        for name in list(self.expected)[: list(self.expected).index(doing) if doing in self.expected else 0]:
            del self.expected[name]
        self.doing, self.since = doing, now
        self._tell(self.expected.get(doing, 0.0))

    def tick(self, tick: runs.Tick) -> None:
        """A training run's own word on how long it still takes."""
        self._tell(tick.seconds_left)

    def end(self) -> None:
        self.expected.clear()
        self._tell(0.0)

    def _learn(self, doing: str, seconds: float) -> None:
        """The same recipe on another seed takes as long; judging one recipe hints at judging the others."""
        kind = doing.split(",")[0]
        for other in self.expected:
            theirs = other.split(",")[0]
            if theirs == kind or (
                theirs.startswith("judging") and kind.startswith("judging") and theirs not in self.known
            ):
                self.expected[other] = min(seconds, self.expected[other]) if self.expected[other] < 0.5 else seconds
        self.known.add(kind)

    def _tell(self, left_here: float) -> None:
        if self.watcher is None:
            return
        later = sum(seconds for name, seconds in self.expected.items() if name != self.doing)
        left, elapsed = left_here + later, time.perf_counter() - self.began
        self.share = 1.0 if not self.expected else max(self.share, min(0.999, elapsed / (elapsed + left + 1e-9)))
        self.watcher(Progress(self.share, left, self.doing))


# A first guess, before anything is timed: relative costs of a step on one thread; measured on 32 x 32 images
COSTS = {"ae": 0.03, "vae": 0.035, "gan": 0.07, "vaegan": 0.115}


def _parts(
    names: Sequence[str], seeds: Sequence[int], budget: dict[str, Any], settings: dict[str, dict[str, Any]],
    data: Data, n: int, folder: Path,
) -> dict[str, float]:  # fmt: skip
    """What a comparison will do, in order, with expected seconds."""
    pixels = math.prod(data.spec.shape) / 1024
    n = min(n, len(data.test))
    parts = {f"timing {name}": 2.0 if budget["unit"] == "minutes" else 1.0 for name in names}
    parts["learning to see"] = 5 + 20 * min(1.0, pixels) if data.spec.modality == "images" else 1.0
    for seed in seeds:
        for name in names:
            steps = _steps(budget, settings[name])
            seconds = budget["amount"] * 60 if steps is None else steps * max(0.002, COSTS.get(name, 0.1) * pixels)
            run = folder / "runs" / f"{name}-{seed}"
            parts[f"training {name}, seed {seed}"] = seconds if _left(run) else 0.0
            kept = (run / "judged" / "rows.json").is_file()
            parts[f"judging {name}, seed {seed}"] = 0.1 if kept else 2 + 0.005 * n
    return parts | {"writing the report": 2.0}


def _reset_memory(device: str) -> bool:
    """Start to measure the peak of the memory anew; False where the machine does not let us."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return True
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def _peak_memory(device: str) -> int | None:
    """Bytes: of the accelerator where there is one, else of this process."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


# The results


def collect(
    data: Data, jobs: Sequence[Job], against: Reference, budget: dict[str, Any], command: str, folder: Path
) -> dict[str, Any]:
    """The content of results.json: rows of every run, their summary, the verdict, and what is needed to read them."""
    names = tuple(dict.fromkeys(job.recipe for job in jobs))
    rows = [{"recipe": job.recipe, "seed": job.seed, **row} for job in jobs for row in job.rows]
    failed = {name: [job.seed for job in jobs if job.recipe == name and job.outcome == "failed"] for name in names}
    failed = {name: seeds for name, seeds in failed.items() if seeds}
    record = jobs[0].prepared.record
    return {
        "format": FORMAT,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "modality": data.spec.modality,
            "shape": list(data.spec.shape),
            "classes": list(data.spec.classes),
            "sizes": {part: len(getattr(data, part)) for part in ("train", "validation", "test")},
            "notes": list(data.notes),
            "skipped": [list(pair) for pair in data.skipped],
        },
        "recipes": {job.recipe: job.prepared.record["arguments"] for job in jobs},
        "seeds": list(dict.fromkeys(job.seed for job in jobs)),
        "budget": budget,
        "judged": {
            "split": against.split,
            "n": against.n,
            "features": against.eyes.name,
            "features_fingerprint": against.eyes.fingerprint,
            "features_accuracy": exhibits.plain(against.eyes.accuracy),
        },
        "machine": {
            "amalgan": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "device": record["device"],
            "threads": record["threads"],
        },
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": [
            {
                "recipe": job.recipe,
                "seed": job.seed,
                "outcome": job.outcome,
                "reason": job.reason,
                "folder": job.folder.relative_to(folder).as_posix(),
                **job.cost,
            }
            for job in jobs
        ],
        "rows": rows,
        "summary": summary(rows, failed),
        "failed": failed,
        "verdict": asdict(verdict(rows, names, failed)),
    }


def summary(rows: Sequence[dict[str, Any]], failed: dict[str, list[int]]) -> list[dict[str, Any]]:
    """One entry for each metric, prior and recipe: mean, 95 % interval over seeds, anchors, whether clearly best.

    `low` and `high` are None with one seed. Of each recipe only its own prior competes: the fitted one if it has one.
    """
    entries = []
    competing = table(rows)
    for prior in ("", "fitted", "standard"):
        of_prior = table([row for row in rows if (row["prior"] or "") == prior], prior)
        for metric, scores in of_prior.items():
            best = None if metric in UNRANKED else clearly_best(competing[metric], failed)
            for recipe, s in scores.items():
                competes = competing[metric][recipe].prior == s.prior
                entries.append(_entry(s, best == recipe and competes, rows))
    order = {name: i for i, name in enumerate(METRICS)}
    return sorted(entries, key=lambda entry: order.get(entry["metric"], len(order)))


def _entry(s: Scores, best: bool, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    interval = s.interval
    some = next(r for r in rows if (r["recipe"], r["metric"], r["prior"] or "") == (s.recipe, s.metric, s.prior))
    return {
        "metric": s.metric,
        "prior": s.prior,
        "recipe": s.recipe,
        "value": interval.value,
        "low": exhibits.plain(interval.low),
        "high": exhibits.plain(interval.high),
        "seeds": interval.n,
        "values": [s.values[seed] for seed in sorted(s.values)],
        "clearly_best": best,
        "floor": s.floor,
        "ceiling": s.ceiling,
        **{key: some[key] for key in ("unit", "better", "n", "note", "features")},
    }


# In the terminal


def printed(results: dict[str, Any]) -> Table:
    """The comparison as a table for the terminal: mean ± half interval over seeds, floor, ceiling, * clearly best."""
    from rich.table import Table
    from rich.text import Text

    names, entries = list(results["recipes"]), results["summary"]
    made = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for title in ("", "floor", *names, "ceiling"):
        made.add_column(title, justify="left" if not title else "right", no_wrap=not title)
    for metric in IN_TERMINAL:
        of_metric = [e for e in entries if e["metric"] == metric]
        priors = list(dict.fromkeys(e["prior"] for e in of_metric))
        own = {e["recipe"]: _own(of_metric, e["recipe"]) for e in of_metric}
        cells = [_cell(own.get(name)) if name in own else _absent(results, name) for name in names]
        if of_metric:
            anchors = [number(of_metric[0][anchor]) for anchor in ("floor", "ceiling")]
            arrow = "↓" if of_metric[0]["better"] == "lower" else "↑"
            made.add_row(f"{metric} {arrow}", anchors[0], *cells, anchors[1])
        if "fitted" in priors and "standard" in priors:
            standard = {e["recipe"]: e for e in of_metric if e["prior"] == "standard"}
            cells = [_cell(standard[m]) if m in standard and own[m]["prior"] == "fitted" else Text("") for m in names]
            made.add_row("  from N(0, I)", "", *cells, "", style="dim")
    costs = [[r["seconds"] for r in results["runs"] if r["recipe"] == name and "seconds" in r] for name in names]
    made.add_row("seconds a run", "", *(number(sum(c) / len(c)) if c else "–" for c in costs), "")
    made.caption = _caption(results)
    return made


def _own(entries: list[dict[str, Any]], recipe: str) -> dict[str, Any]:
    mine = [e for e in entries if e["recipe"] == recipe]
    return next((e for e in mine if e["prior"] == "fitted"), mine[0])


def _cell(entry: dict[str, Any] | None) -> Any:
    from rich.text import Text

    if entry is None:
        return Text("–", style="dim")
    return Text(
        told(interval(entry)) + (" *" if entry["clearly_best"] else ""), style="bold" if entry["clearly_best"] else ""
    )


def _absent(results: dict[str, Any], name: str) -> Any:
    from rich.text import Text

    every = len(results["failed"].get(name, [])) == len(results["seeds"])
    return Text("failed", style="red") if every else Text("–", style="dim")


def _caption(results: dict[str, Any]) -> str:
    count = len(results["seeds"])
    means = (
        "one seed: no intervals"
        if count == 1
        else f"mean ± half of the 95 % interval over {count} seeds; * clearly best"
    )
    fails = "".join(
        f"\n{r['recipe']} failed on seed {r['seed']}: {r['reason']}"
        for r in results["runs"]
        if r["outcome"] == "failed"
    )
    return f"floor: real data; ceiling: no model at all; {means}{fails}"


@contextlib.contextmanager
def bar(console: Console | None = None) -> Iterator[Watcher]:
    """A bar over the whole comparison for the terminal, as a watcher: share done, time left, and what it is doing."""
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Left(ProgressColumn):
        """Seconds left, counted down between two reports."""

        def render(self, task: Task) -> Text:
            since = time.perf_counter() - task.fields["told"]
            left = max(0, round(task.fields["left"] - since))
            return Text(f"{left // 60}:{left % 60:02d} left" if left < 3600 else f"{left / 3600:.1f} h left")

    columns = (BarColumn(28), TextColumn("{task.percentage:>3.0f} %"), Left(), TimeElapsedColumn())
    with Bar(*columns, TextColumn("{task.description}", markup=False), console=console) as drawn:
        task = drawn.add_task("starting", total=1.0, left=0.0, told=time.perf_counter())

        def watch(progress: Progress) -> None:
            told = time.perf_counter()
            drawn.update(
                task, completed=progress.done, description=progress.doing, left=progress.seconds_left, told=told
            )

        yield watch
