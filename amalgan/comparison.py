"""Which recipe suits these data? The same networks, the same budget and the same seeds for each; then a judgement.

    OUT/plan.json        the budget, in steps for every recipe
        runs/vae-0/      one run folder for each recipe and seed, judged
        results.json     a row for every recipe, metric and seed; their summary with intervals; the verdict
        report.html      all of it as one page to look at

Whatever is finished is not done again: the same call goes on where it was stopped, and a call with more seeds or
recipes adds to what is there. A run that diverges stays in the table as failed; the others go on.
"""

from __future__ import annotations

import inspect
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from amalgan import exhibits, files, modalities, recipes, report, runs
from amalgan.data import Data
from amalgan.errors import UsageError
from amalgan.jobs import Job, Pace, Progress, cores, is_left, job_of, origin, parts, trained
from amalgan.jobs import lanes as lanes_of
from amalgan.modalities import Modality
from amalgan.signatures import parameters
from amalgan.verdict import Scores, clearly_best, interval, number, table, told, verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FORMAT = 1
DEFAULT = ("vae", "gan", "vaegan")
ALIKE = ("latent", "width", "batch")  # what makes networks and budgets the same


class Comparison:
    """A comparison's folder, open.

    Arguments:
        folder: as `compare` wrote it.

    Raises:
        AmalganError: no results there, or damaged ones.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = files.read_json(self.folder / "results.json", f"the comparison {folder}")

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"

    def print(self, console: Console | None = None) -> None:
        """The table, the verdict and where the report is, for a terminal."""
        from rich.console import Console

        console = console or Console()
        console.print(printed(self.record))
        found = self.record["verdict"]
        console.print(f"\n{found['headline']}", style="bold", highlight=False, markup=False)
        for text in (*(judgement["sentence"] for judgement in found["judgements"]), *found["cautions"]):
            console.print(f"- {text}", highlight=False, markup=False)
        console.print(f"\nReport: {self.report}", highlight=False, markup=False, soft_wrap=True)


def compare(
    data: Any,
    recipes: Sequence[str] = DEFAULT,
    *,
    seeds: int | Sequence[int] = 3,
    steps: int | None = None,
    examples: int | None = None,
    minutes: float | None = None,
    same: Literal["examples", "seconds"] = "examples",
    out: str | Path = "comparison",
    jobs: int | None = None,
    split: str = "test",
    n: int = 5000,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    clip: float | None = None,
    data_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
    **arguments: Any,
) -> Comparison:
    """Train each recipe on each seed, judge the runs, and write results.json and report.html.

    Where recipes differ in a default that makes their networks or budgets differ (`latent`, `width`, `batch`), the
    first recipe's default holds for all.

    Arguments:
        data: anything `amalgan.data.open` takes, or a Data.
        recipes: two or more names; one alone is held against floors and ceilings only.
        seeds: how many (0, 1, ...), or which; below 2 nothing can be said with an interval.
        steps, examples, minutes: the budget of each run, at most one of them; 10,000 steps by default.
        same: what is the same for all where the budget is in minutes: "examples" seen, so many that the slowest recipe's
            run takes `minutes`; or "seconds", so that each recipe sees as many as it can.
        out: the folder; one that holds a comparison of the same data and budget is completed.
        jobs: runs side by side; by default one for each core; 1 on an accelerator and for data that no path leads to.
        split: "test", or "validation" while settings are chosen.
        n: real and generated items to judge with.
        device, threads, precision, clip: as for `amalgan.train`.
        data_options: passed to the modality's `open`.
        progress: told how far it is.
        arguments: of the recipes, each goes to the recipes that know it; and of the modality's `reference`, such as
            `features` for images.

    Raises:
        UsageError: an argument that no recipe knows, no budget or two, or a folder with another comparison.
        Interrupted: after Ctrl-C; the same call goes on.
    """
    return prepare(
        data, recipes, seeds=seeds, steps=steps, examples=examples, minutes=minutes, same=same, out=out, jobs=jobs,
        split=split, n=n, device=device, threads=threads, precision=precision, clip=clip, data_options=data_options,
        progress=progress, **arguments,
    ).go()  # fmt: skip


@dataclass
class Prepared:
    """A comparison that is ready to start: its runs in order, and what they will be judged against."""

    folder: Path
    data: Data
    jobs: list[Job]
    lanes: int
    plan: dict[str, Any]
    reference: Callable[[], Any]
    again: str
    pace: Pace

    @property
    def runs(self) -> list[runs.Prepared]:
        """What is trained on the first seed: once each recipe."""
        return [job.prepared for job in self.jobs if job.seed == self.jobs[0].seed]

    def go(self) -> Comparison:
        """Train what is left, judge, and write the report."""
        files.write_json(self.folder / "plan.json", self.plan)
        try:
            with self.pace.doing_it("learning to see"):
                against = self.reference()
            for job in trained(self.jobs, self.lanes, self.pace):
                self.pace.left(f"training {job.name}", 0.0)
                with self.pace.doing_it(f"judging {job.name}"):
                    job.judge(against)
        except (KeyboardInterrupt, runs.Interrupted) as stop:
            done = sum(job.outcome is not None for job in self.jobs)
            raise runs.Interrupted(
                f"{len(self.jobs)} runs in {self.folder}",
                f"stopped while {self.pace.doing}; {done} of them {'is' if done == 1 else 'are'} finished and judged",
                f"give the same command again: it goes on where it was stopped, in {self.folder}",
            ) from stop
        with self.pace.doing_it("writing the report"):
            results = collect(self.data, self.jobs, against, self.plan["budget"], self.again, self.folder, self.lanes)
            files.write_json(self.folder / "results.json", results)
            report.write(self.folder)
        return Comparison(self.folder)


def prepare(
    data: Any,
    recipes: Sequence[str],
    *,
    seeds: int | Sequence[int],
    steps: int | None,
    examples: int | None,
    minutes: float | None,
    same: Literal["examples", "seconds"],
    out: str | Path,
    jobs: int | None,
    split: str,
    n: int,
    device: str,
    threads: int | None,
    precision: str,
    clip: float | None,
    data_options: dict[str, Any] | None,
    progress: Progress | None,
    **arguments: Any,
) -> Prepared:
    """Resolve and check everything a comparison needs, and time a few steps of each recipe; nothing is written.

    Arguments as for `compare`.
    """
    names, numbers, folder = _names(recipes), _seeds(seeds), Path(out)
    modality = _modality(names, data)
    judging = {name: arguments.pop(name) for name in parameters(modality.reference) if name in arguments}
    options = {"same": same, "n": n, "split": split, "device": device, "threads": threads, "precision": precision,
               "clip": clip, "jobs": jobs}  # fmt: skip
    defaults = {name: p.default for name, p in inspect.signature(compare).parameters.items()}
    given: dict[str, Any] = {name: value for name, value in judging.items() if isinstance(value, str | Path)}
    given |= {name: value for name, value in options.items() if value != defaults[name]}
    judging = modality.ready(**judging)
    settings = alike(names, arguments)
    budget = _budget(steps, examples, minutes, same)
    opened = data if isinstance(data, Data) else modality.open(data, **(data_options or {}))
    source = origin(data, data_options)
    lanes = lanes_of(jobs, device, source, len(names) * len(numbers))
    if lanes > 1 and threads is None:
        threads = max(1, cores() // lanes)
    expected = parts(
        names, numbers, {name: _steps(budget, settings[name]) for name in names}, minutes or 0, opened, n, folder
    )
    pace = Pace(progress, expected, lanes)
    prepared, plan = _prepare(
        names, settings, opened, source, budget, folder, numbers, pace,
        device=device, threads=threads, precision=precision, clip=clip,
    )  # fmt: skip
    work = [job_of(prepared[name], folder, seed) for seed in numbers for name in names]
    for job in work:
        job.check(folder)
        if job.left and job.prepared.estimate is not None:
            pace.left(f"training {job.name}", job.prepared.estimate)
    return Prepared(
        folder=folder,
        data=opened,
        jobs=work,
        lanes=lanes,
        plan=plan,
        reference=partial(modality.reference, opened, split, n, **judging),
        again=command(data, names, seeds, budget, **(data_options or {}), **arguments, **given, out=out),
        pace=pace,
    )


def single(folder: str | Path, n: int = 5000, data: Any = None) -> dict[str, Any]:
    """Judge one finished run and write its results.json: what `amalgan.report.write` shows of a run."""
    run = runs.load(folder, data)
    if not run.finished:
        raise UsageError(f"a report of {folder}", "the run is not finished", f"amalgan resume {folder}")
    against = modalities.of(run.spec.modality).reference(run.data, "test", n)
    job = Job(runs.Prepared(run.folder, run.record, run.data))
    job.judge(against)
    budget = {"unit": "steps", "amount": run.steps}
    results = collect(run.data, [job], against, budget, train_command(run), run.folder, 1)
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


def _prepare(
    names: Sequence[str],
    settings: dict[str, dict[str, Any]],
    opened: Data,
    source: dict[str, Any],
    budget: dict[str, Any],
    folder: Path,
    seeds: Sequence[int],
    pace: Pace,
    **options: Any,
) -> tuple[dict[str, runs.Prepared], dict[str, Any]]:
    """Each recipe resolved and timed, and what plan.json holds: steps that follow from minutes are kept for going on."""
    path, prepared = folder / "plan.json", {}
    plan = files.read_json(path, f"the comparison {folder}") if path.is_file() else {"budget": budget, "steps": {}}
    if plan["budget"] != budget:
        asked, found = (
            f"{b['amount']} {b['unit']} a run" + (f", the same {b['same']} for all" if "same" in b else "")
            for b in (budget, plan["budget"])
        )
        raise UsageError(asked, f"{folder} holds a comparison at {found}", "choose another --out, or the same budget")
    for name in names:
        with pace.doing_it(f"timing {name}"):
            steps = plan["steps"].get(name) or _steps(budget, settings[name])
            given = {"minutes": budget["amount"]} if steps is None else {"steps": steps}
            left = any(is_left(folder / "runs" / f"{name}-{seed}") for seed in seeds)
            prepared[name] = runs.prepare(name, opened, seed=seeds[0], timed=left, **given, **options, **settings[name])
            prepared[name].record["data"] |= source
    if budget.get("same") == "examples":  # the slowest recipe sets the steps, or those that are there already
        common = min(plan["steps"].values(), default=min(p.steps for p in prepared.values()))
        for p in prepared.values():
            p.record["steps"] = common
    plan["steps"] |= {name: p.steps for name, p in prepared.items()}
    return prepared, plan


# What was asked


def _names(recipe_names: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(recipe_names))
    if not names or len(names) != len(recipe_names):
        raise UsageError("a comparison", f"recipes {', '.join(recipe_names) or 'none'}", "write each recipe once")
    for name in names:
        recipes.parameters(name)
    return names


def _modality(names: Sequence[str], data: Any) -> Modality:
    kinds = {name: recipes.modality(name, data) for name in names}
    if len(set(kinds.values())) > 1:
        found = ", ".join(f"{name} of {kind.names[0]}" for name, kind in kinds.items())
        raise UsageError("a comparison", found, "compare recipes of one kind of data")
    return kinds[names[0]]


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise UsageError("a comparison", f"seeds {seeds}", "write --seeds 3, or different numbers from 0 up")
    return numbers


def _budget(steps: int | None, examples: int | None, minutes: float | None, same: str) -> dict[str, Any]:
    """The budget of each run as unit and amount; for minutes also what they hold the same."""
    asked = {"steps": steps, "examples": examples, "minutes": minutes}
    given = {unit: amount for unit, amount in asked.items() if amount is not None} or {"steps": runs.DEFAULT_STEPS}
    if len(given) > 1:
        raise UsageError("a budget", " and ".join(f"--{unit}" for unit in given), "write one of them")
    ((unit, amount),) = given.items()
    if not (math.isfinite(amount) and amount > 0):
        raise UsageError("a budget", f"--{unit} {amount}", f"write --{unit} greater than 0")
    if same not in ("examples", "seconds"):
        raise UsageError("a budget", f"the same {same}", "write --same examples or --same seconds")
    return {"unit": unit, "amount": amount} | ({"same": same} if unit == "minutes" else {})


def _steps(budget: dict[str, Any], arguments: dict[str, Any]) -> int | None:
    """Steps of a budget in steps or examples; None for minutes, which need timing."""
    if budget["unit"] == "examples":
        return math.ceil(budget["amount"] / arguments["batch"])
    return int(budget["amount"]) if budget["unit"] == "steps" else None


def command(data: Any, names: Sequence[str], seeds: int | Sequence[int], budget: dict[str, Any], **others: Any) -> str:
    """The command line that does it again; what cannot be written on one is left for a person to fill in."""
    source = str(data) if isinstance(data, str | Path) else "DATA"
    count = seeds if isinstance(seeds, int) else len(seeds)
    words = ["amalgan", "compare", "--data", source, "--recipes", ",".join(names), "--seeds", str(count)]
    words += [f"--{budget['unit']}", f"{budget['amount']}"]
    return shlex.join(words + flags(others))


def train_command(run: runs.Run) -> str:
    """The command line that trains such a run again."""
    source = run.record["data"]["source"] or "DATA"
    words = ["amalgan", "train", run.recipe, "--data", source, "--steps", str(run.steps), "--seed", str(run.seed)]
    default = {name: p.default for name, p in recipes.parameters(run.recipe).items()}
    given = {name: value for name, value in run.arguments.items() if value != default[name]}
    given |= {"precision": run.record["precision"]} if run.record["precision"] != "auto" else {}
    return shlex.join(words + flags(run.record["data"]["options"] | given | {"clip": run.record["clip"]}))


def flags(arguments: dict[str, Any]) -> list[str]:
    """Keyword arguments as words of a command line."""
    words = []
    for name, value in arguments.items():
        flag = ("--" if len(name) > 1 else "-") + name.replace("_", "-")
        words += [] if value is None or value is False else [flag] if value is True else [flag, str(value)]
    return words


# The results


def collect(
    data: Data, jobs: Sequence[Job], against: Any, budget: dict[str, Any], again: str, folder: Path, lanes: int
) -> dict[str, Any]:
    """The content of results.json: rows of every run, their summary, the verdict, and what is needed to read them."""
    names = tuple(dict.fromkeys(job.recipe for job in jobs))
    rows = [{"recipe": job.recipe, "seed": job.seed, **row} for job in jobs for row in job.rows]
    failed = {name: [job.seed for job in jobs if job.recipe == name and job.outcome == "failed"] for name in names}
    failed = {name: seeds for name, seeds in failed.items() if seeds}
    record, modality = jobs[0].prepared.record, modalities.of(data.spec.modality)
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
            **modality.looked_with(against),
        },
        "machine": runs.machine(device=record["device"], threads=record["threads"], side_by_side=lanes),
        "command": again,
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
        "summary": summary(rows, failed, modality),
        "failed": failed,
        "verdict": asdict(verdict(rows, names, failed, modality)),
    }


def summary(rows: Sequence[dict[str, Any]], failed: dict[str, list[int]], modality: Modality) -> list[dict[str, Any]]:
    """One entry for each metric, prior and recipe: mean, 95 % interval over seeds, anchors, whether clearly best.

    `low` and `high` are None with one seed. Of each recipe only its own prior competes: the fitted one if it has one.
    """
    entries = []
    competing = table(rows)
    for prior in ("", "fitted", "standard"):
        of_prior = table([row for row in rows if (row["prior"] or "") == prior], prior)
        for metric, scores in of_prior.items():
            best = None if metric in modality.unranked else clearly_best(competing[metric], failed)
            for recipe, s in scores.items():
                competes = competing[metric][recipe].prior == s.prior
                entries.append(_entry(s, best == recipe and competes, rows))
    order = {name: i for i, name in enumerate(modality.metrics)}
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
    for metric in modalities.of(results["data"]["modality"]).in_terminal:
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
