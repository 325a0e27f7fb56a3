"""Which settings of a recipe suit these data? Trials on the validation split, then the best against the defaults.

    OUT/study.db        the study: what is searched, what judges, settings and numbers of every trial (Optuna, SQLite)
        trials/000/     a run folder for each trial, judged; 000 has the defaults
        again/          the defaults and the chosen settings on fresh seeds: a comparison with a report of its own
        results.json    all trials, the chosen one, what mattered, and whether it exceeds the noise

Trials share one seed, so that they differ by their settings alone, and are drawn by a tree-structured Parzen estimator
(Bergstra et al. 2011) that learns from those before: l(x) a density of good settings x, g(x) of the others, the next is
where l / g is largest. Where there are two questions to a model, the settings have to answer both: a trial is *beaten*
by one that is better by every number, and of those that are not, the one is chosen whose places, summed over the
numbers, are the least.

The test split is never read. The best of many trials is flattered by its seed; that is why it is trained again.
Whatever is finished is not done again, and as many processes as like may work on one folder: each claims its trials.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amalgan import comparison, exhibits, files, noise, recipes, runs
from amalgan.data import Data
from amalgan.doctor.findings import COSTS
from amalgan.errors import AmalganError, UsageError
from amalgan.jobs import Job, Pace, Progress, cores, is_left, origin, trained
from amalgan.jobs import lanes as lanes_of
from amalgan.modalities import Modality
from amalgan.search import Space, space
from amalgan.signatures import parameters
from amalgan.verdict import Evidence, beats, listed, number, table

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial
    from rich.console import Console
    from rich.table import Table

FORMAT = 1
STARTING = 8  # trials at random, before there is anything to learn from
TELLING = 20  # trials that must be done before it is said which argument mattered
PATIENCE = 60.0  # seconds that a process waits for another one to let go of the study
SPLIT = "validation"
NAME = "amalgan"  # of the study in its file


# The study


class Tuning:
    """What tuning came to.

    Arguments:
        folder: as `tune` wrote it.
        record: the content of its results.json, where that is at hand.

    Raises:
        AmalganError: no results there, or damaged ones.
    """

    def __init__(self, folder: str | Path, record: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = record or files.read_json(self.folder / "results.json", f"the tuning {folder}")

    @property
    def settings(self) -> dict[str, Any]:
        """The chosen ones; {} where no trial came to an end."""
        return dict(self.record["settings"])

    def print(self, console: Console | None = None) -> None:
        """Trials, then the defaults against the chosen settings, then what follows, for a terminal."""
        from rich.console import Console

        console = console or Console()
        console.print(printed(self.record))
        if self.record["again"] is not None:
            console.print()
            console.print(comparison.printed(comparison.Comparison(self.folder / "again").record))
        say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
        say(f"\n{self.record['headline']}", style="bold")
        for sentence in self.record["sentences"]:
            say(f"- {sentence}")
        commands = self.record["commands"]
        if commands:
            say(f"\nTo train with the best settings:  {commands['train']}")
            say(f"To judge them on the test split, which was not read so far, once:  {commands['evaluate']}")
        if self.record["again"] is not None:
            say(f"\nReport: {self.folder / 'again' / 'report.html'}")


def tune(
    recipe: str,
    data: Any,
    *,
    trials: int = 40,
    search: str = "",
    question: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    seeds: int = 3,
    out: str | Path = "tuning",
    jobs: int | None = None,
    n: int = 5000,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    clip: float | None = None,
    data_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
    **arguments: Any,
) -> Tuning:
    """Search settings of a recipe, judged on validation data, and hold the best against the defaults on fresh seeds.

    Arguments:
        recipe: a name in `amalgan.recipes.RECIPES`.
        data: anything the recipe's modality can open, or a Data.
        trials: how many settings are tried, in all: a larger number in the same folder adds to them.
        search: what is searched, as for `space`; by default what `recipes.SEARCH` names.
        question: of the modality, or "both"; by default all that the recipe can answer.
        steps, minutes: the budget of each trial, at most one of them; 10,000 steps by default.
        seed: of all trials, and of what is drawn.
        seeds: fresh ones on which defaults and best are trained again, >= 0; 3 give intervals.
        out: the folder; one that holds the same study is gone on with, by as many processes as like.
        jobs: runs side by side; by default one for each core; 1 on an accelerator and for data that no path leads to.
        n: real and generated items to judge with.
        device, threads, precision, clip: as for `amalgan.train`.
        data_options: passed to the modality's `open`.
        progress: told how far it is.
        arguments: of the recipe, which are not searched; and of the modality's `reference`.

    Raises:
        UsageError: an argument is off, optuna is not installed, or the folder holds another study.
        Interrupted: after Ctrl-C; the same call goes on.
    """
    return prepare(
        recipe, data, trials=trials, search=search, question=question, steps=steps, minutes=minutes, seed=seed,
        seeds=seeds, out=out, jobs=jobs, n=n, device=device, threads=threads, precision=precision, clip=clip,
        data_options=data_options, progress=progress, **arguments,
    ).go()  # fmt: skip


@dataclass
class Prepared:
    """A study that is ready to start, or to be gone on with."""

    folder: Path
    first: runs.Prepared  # a run with the defaults, timed
    modality: Modality
    space: Space
    plan: dict[str, Any]  # what makes it this study and no other
    trials: int
    seeds: int
    lanes: int
    reference: Callable[[], Any]
    command: str
    pace: Pace
    claims: dict[int, int] = field(default_factory=dict)  # trial -> descriptor

    @property
    def recipe(self) -> str:
        return str(self.first.record["recipe"])

    def go(self) -> Tuning:
        """Do the trials that are left, then the defaults and the best of them on fresh seeds."""
        try:
            with self.pace.doing_it("learning to see"):
                against = self.reference()
            study = self._study(against)
            with contextlib.closing(trained(self._jobs(study), self.lanes, self.pace)) as done:
                for job in done:
                    self.pace.left(f"training {job.name}", 0.0)
                    with self.pace.doing_it(f"judging {job.name}"):
                        job.judge(against)
                    self._tell(study, job)
        except (KeyboardInterrupt, runs.Interrupted) as stop:
            judged = len(list(self.folder.glob("trials/*/judged/rows.json")))
            raise runs.Interrupted(
                f"{self.trials} trials in {self.folder}",
                f"stopped while {self.pace.doing}; {judged} {'is' if judged == 1 else 'are'} finished and judged",
                f"give the same command again: it goes on where it was stopped, in {self.folder}",
            ) from stop
        finally:
            for number in list(self.claims):
                self._let_go(number)
        found = [self._found(trial, against) for trial in study.get_trials(deepcopy=False)[: self.trials]]
        left = any(trial["outcome"] == "at work" for trial in found)
        chosen, again = choose(found, self.plan["metrics"]), None
        if chosen is not None and chosen["number"] and self.seeds and not left:
            again = self._again(chosen, against)
            left = again is None
        record = self._record(study, against, found, chosen, again, left)
        if not left:
            files.write_json(self.folder / "results.json", record)
        self.pace.drop(*self.pace.expected)
        return Tuning(self.folder, record)

    # Optuna's side

    def _study(self, against: Any) -> Study:
        """The study in the folder; where there is none it is made, whole or not at all, by the fastest process."""
        path = self.folder / "study.db"
        if not path.is_file():
            with self.pace.doing_it("judging an untrained model"):
                metrics = self._metrics(against)
            with files.placed(path) as temporary:
                storage, default = _storage(temporary), self.first.record["arguments"]
                ways = ["minimize" if metric["better"] == "lower" else "maximize" for metric in metrics]
                study = optuna_or_advice().create_study(storage=storage, study_name=NAME, directions=ways)
                study.set_user_attr("plan", self.plan | {"metrics": metrics})
                study.enqueue_trial({name: default[name] for name, held in self.space.items() if default[name] in held})
                storage.remove_session()
                storage.engine.dispose()
        study = _opened(path)
        held = study.user_attrs["plan"]
        _same(self.plan, held, self.folder)
        self.plan = held
        self.first.record["steps"] = held["steps"]  # where several began at once, the fastest has timed
        return study

    def _metrics(self, against: Any) -> list[dict[str, str]]:
        """What judges: the first metric of each question. Which there are, an untrained model tells already."""
        rows = self.modality.evaluate(self.first.plan.model.eval(), self.first.data, against)
        found, asked = {row.metric for row in rows}, self.plan["question"]
        questions = self.modality.questions(tuple(found))
        able = [question for question in questions if question.metrics[0] in found]
        wanted = able if asked in (None, "both") else [question for question in able if question.name == asked]
        if not wanted or (asked == "both" and len(wanted) < 2):
            unable = next((q.unable for q in questions if q not in able and asked in (q.name, "both")), "")
            raise UsageError(
                f"--for {asked}",
                f"{self.recipe} has {unable}" if unable else f"no such question to {self.recipe} on these data",
                f"write --for {' or '.join(question.name for question in able)}",
            )
        judging = [self.modality.row(question.metrics[0], 0.0, None, None, 0) for question in wanted]
        names = [{"question": question.name, "metric": question.metrics[0]} for question in wanted]
        return [name | {"better": row.better, "unit": row.unit} for name, row in zip(names, judging)]

    def _jobs(self, study: Study) -> Iterator[Job]:
        """Trials to do, one whenever there is room: what others left behind, then new ones until there are enough."""
        while (trial := self._claimed(study)) is not None:
            yield self._job(study, trial)

    def _claimed(self, study: Study) -> Trial | None:
        from optuna.trial import Trial, TrialState

        for there in study.get_trials(deepcopy=False)[: self.trials]:
            if there.state.is_finished():  # by this process or by another
                name = f"{self.recipe}, trial {there.number}"
                self.pace.drop(f"training {name}", f"judging {name}")
            if there.state == TrialState.RUNNING and self._claim(there.number):
                # since we looked, whoever held it may have come to its end
                if study.get_trials(deepcopy=False)[there.number].state == TrialState.RUNNING:
                    return Trial(study, there._trial_id)
                self._let_go(there.number)
        while True:
            states = [trial.state for trial in study.get_trials(deepcopy=False)]
            if len(states) >= self.trials and TrialState.WAITING not in states:
                return None
            trial = study.ask()
            if trial.number >= self.trials:  # several asked at once; it waits until more are wanted
                return None
            if self._claim(trial.number):
                return trial

    def _claim(self, number: int) -> bool:
        held = files.claim(self.folder / "trials" / f"{number:03d}" / "claimed")
        if held is not None:
            self.claims[number] = held
        return held is not None

    def _let_go(self, number: int) -> None:
        os.close(self.claims.pop(number))

    def _job(self, study: Study, trial: Trial) -> Job:
        """A trial as a run. Trial 0 has the defaults, and is the measure of all others: no doctor stops it."""
        study.sampler = _sampler(noise.key(self.plan["seed"], "tune", trial.number))
        default = self.first.record["arguments"]
        drawn = {
            name: held.draw(trial, name) for name, held in self.space.items() if trial.number or default[name] in held
        }
        settings = recipes.check(self.recipe, default | drawn) if trial.number else default
        prepared = replace(
            self.first,
            folder=self.folder / "trials" / f"{trial.number:03d}",
            record=self.first.record | {"arguments": settings},
        )
        job = Job(prepared, which=f"trial {trial.number}", stops=trial.number > 0, claim=self.claims[trial.number])
        job.check(self.folder)
        return job

    def _tell(self, study: Study, job: Job) -> None:
        """What a trial came to: for the study, and for a person."""
        from optuna.trial import TrialState

        this, values = int(job.folder.name), self._values(job.rows)
        if values is None:
            told = job.reason or "not a number among those that judge"
            if not (job.folder / "failed.json").is_file():
                files.write_json(job.folder / "failed.json", {"reason": told})
            study.tell(this, state=TrialState.PRUNED)  # unlike a failure, it is learned from
        else:
            told = ", ".join(f"{name} {number(value)}" for name, value in values.items())
            study.tell(this, list(values.values()))
        self._let_go(this)
        settings = ", ".join(f"{name} {_short(job.prepared.record['arguments'][name])}" for name in self.space)
        self.pace.note(f"trial {this}{'' if this else ', the defaults'}: {told} ({settings})")

    def _values(self, rows: Sequence[dict[str, Any]]) -> dict[str, float] | None:
        """Metric -> value, from the model's own prior; None where one of them is missing or not a number."""
        found = table([{"recipe": self.recipe, "seed": 0, **row} for row in rows])
        names = [metric["metric"] for metric in self.plan["metrics"]]
        return {name: found[name][self.recipe].values[0] for name in names} if all(n in found for n in names) else None

    # What came out

    def _found(self, trial: Any, against: Any) -> dict[str, Any]:
        """A trial as a row of the results, from its run folder."""
        from optuna.trial import TrialState

        folder = self.folder / "trials" / f"{trial.number:03d}"
        row: dict[str, Any] = {"number": trial.number, "settings": {}, "outcome": "at work", "reason": "", "values": {},
                               "doctor": [], "steps": 0, "seconds": 0.0, "folder": f"trials/{folder.name}"}  # fmt: skip
        if not trial.state.is_finished():
            return row
        run = runs.Run(folder, self.first.data)
        failed, log = folder / "failed.json", run.log()
        reason = files.read_json(failed, f"trial {trial.number}")["reason"] if failed.is_file() else ""
        # judged again if what is kept was measured on anything else since, as by a report on the test split
        values = self._values(exhibits.judge(run, against) if trial.state == TrialState.COMPLETE else [])
        ill = [finding.name for finding in run.diagnose().findings if finding.severity != COSTS]
        last = log[-1] if log else {"step": 0, "seconds": 0.0}
        return row | {
            "settings": {name: run.arguments[name] for name in self.space},
            "outcome": "failed" if values is None else "done",
            "reason": reason,
            "values": values or {},
            "doctor": ill,
            "steps": last["step"],
            "seconds": last["seconds"],
        }

    def _again(self, chosen: dict[str, Any], against: Any) -> dict[str, Any] | None:
        """The defaults and the chosen settings on fresh seeds, as a comparison; None where another process does it."""
        folder, default = self.folder / "again", self.first.record["arguments"]
        held = files.claim(folder / "claimed")
        if held is None:
            return None
        jobs = []
        for seed in range(self.plan["seed"] + 1, self.plan["seed"] + 1 + self.seeds):
            for called, trial, settings in (("defaults", 0, {}), ("tuned", chosen["number"], chosen["settings"])):
                record = self.first.record | {"seed": seed, "arguments": default | settings}
                prepared = replace(self.first, folder=folder / "runs" / f"{trial:03d}-{seed}", record=record)
                jobs.append(Job(prepared, called=called, claim=held))
                jobs[-1].check(folder)
        plan = {"budget": {"unit": "steps", "amount": self.plan["steps"]}, "steps": {}}
        lanes, data = min(self.lanes, len(jobs)), self.first.data
        last = comparison.Prepared(folder, data, jobs, lanes, plan, lambda: against, self.command, self.pace)
        try:
            return last.go().record
        finally:
            os.close(held)

    def _record(
        self,
        study: Study,
        against: Any,
        found: list[dict[str, Any]],
        chosen: dict[str, Any] | None,
        again: dict[str, Any] | None,
        left: bool,
    ) -> dict[str, Any]:
        data, plan = self.first.data, self.plan
        mattered = {} if left else importance(study, plan["metrics"])
        headline, sentences = self._said(chosen, again, left)
        for metric, shares in mattered.items():
            most = [f"{name} {share:.0%}" for name, share in list(shares.items())[:3]]
            sentences.append(f"What told trials with the best {metric} from the rest: {listed(most)}.")
        return {
            "format": FORMAT,
            "recipe": self.recipe,
            "data": {"name": data.name, "fingerprint": data.fingerprint, "modality": data.spec.modality},
            "question": plan["metrics"][0]["question"] if len(plan["metrics"]) == 1 else "both",
            "metrics": plan["metrics"],
            "search": plan["search"],
            "fixed": plan["fixed"],
            "steps": plan["steps"],
            "seed": plan["seed"],
            "judged": {"split": against.split, "n": against.n, **self.modality.looked_with(against)},
            "trials": found,
            "chosen": None if chosen is None else chosen["number"],
            "settings": {} if chosen is None else chosen["settings"],
            "importance": mattered,
            "again": None if again is None else {key: again[key] for key in ("seeds", "summary", "failed", "verdict")},
            "headline": headline,
            "sentences": sentences,
            "commands": {} if left else self._commands(chosen, again),
            "machine": runs.machine(device=self.first.record["device"]),
            "command": self.command,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip

    def _said(self, chosen: dict[str, Any] | None, again: dict[str, Any] | None, left: bool) -> tuple[str, list[str]]:
        """What it comes to in one line, and its reasons."""
        if left:
            when = "when they are done; trials that were stopped it goes on with"
            return "Other processes are at work on the rest.", [f"The same command shows the result {when}."]
        if chosen is None:
            advice = "The reasons stand with the trials; smaller steps may help, such as --lr at a tenth."
            return f"No trial of {self.recipe} came to an end.", [advice]
        if not chosen["number"]:
            return "Of all that was tried, the defaults did best.", []
        if again is None:
            return f"Trial {chosen['number']} did best; on one seed alone, that may be luck.", []
        asked = [metric["question"] for metric in self.plan["metrics"]]
        evidence = Evidence(table(again["rows"]), ("defaults", "tuned"), again["failed"], self.modality)
        judged = [metric for q in evidence.questions if q.name in asked for metric in q.metrics]
        on = f"{len(again['seeds'])} fresh seed{'s'[: len(again['seeds']) > 1]}"
        lost = {name: len(again["failed"].get(name, [])) for name in evidence.recipes}
        if lost["tuned"] != lost["defaults"]:
            headline = f"On {on} the chosen settings failed {lost['tuned']} times, the defaults {lost['defaults']}."
        elif beats(evidence, "tuned", "defaults", judged):
            headline = f"Tuning helped: on {on} the chosen settings beat the defaults beyond the noise."
        elif beats(evidence, "defaults", "tuned", judged):
            headline = f"Tuning misled: on {on} the defaults beat the chosen settings. Keep the defaults."
        elif len(again["seeds"]) < 2:
            headline = f"{on[0].upper() + on[1:]} cannot tell merit from luck: give the same command with --seeds 3."
        else:
            headline = f"No clear difference: on {on} it does not exceed the noise. Keep the defaults."
        answers = [j["sentence"] for j in again["verdict"]["judgements"] if j["question"] in asked]
        return headline, [*answers, *again["verdict"]["cautions"]]

    def _commands(self, chosen: dict[str, Any] | None, again: dict[str, Any] | None) -> dict[str, str]:
        """How to train with the chosen settings, and how to ask the test split about them."""
        if chosen is None:
            return {}
        trial = runs.Run(self.folder / chosen["folder"], self.first.data)
        judged = trial.folder
        if again is not None:
            judged = self.folder / "again" / "runs" / f"{chosen['number']:03d}-{again['seeds'][0]}"
        return {
            "train": comparison.train_command(trial),
            "evaluate": f"amalgan evaluate {shlex.quote(str(judged))}",
        }


def prepare(
    recipe: str,
    data: Any,
    *,
    trials: int,
    search: str,
    question: str | None,
    steps: int | None,
    minutes: float | None,
    seed: int,
    seeds: int,
    out: str | Path,
    jobs: int | None,
    n: int,
    device: str,
    threads: int | None,
    precision: str,
    clip: float | None,
    data_options: dict[str, Any] | None,
    progress: Progress | None,
    **arguments: Any,
) -> Prepared:
    """Resolve and check everything a study needs, and time a few steps; nothing is written.

    Arguments as for `tune`.
    """
    optuna_or_advice()
    folder, modality = Path(out), recipes.modality(recipe, data)
    if trials < 1:
        raise UsageError("a study", f"--trials {trials}", "write --trials 1 or more; 40 are a sensible number")
    if seeds < 0 or seed < 0:
        raise UsageError("a study", f"--seed {seed} --seeds {seeds}", "write numbers from 0 up")
    if question not in (None, "both", *modality.asked):
        raise UsageError(f"--for {question}", f"{modality.examples} are not asked that",
                         f"write --for {', '.join(modality.asked)}, or both")  # fmt: skip
    judging = {name: arguments.pop(name) for name in parameters(modality.reference) if name in arguments}
    written = {name: value for name, value in judging.items() if isinstance(value, str | Path | int | float)}
    judging = modality.ready(**judging)
    default = recipes.check(recipe, arguments)
    space(recipe, search, arguments)  # mistakes first
    opened = data if isinstance(data, Data) else modality.open(data, **(data_options or {}))
    found = space(recipe, search, arguments, opened.spec)
    source = origin(data, data_options)
    lanes = lanes_of(jobs, device, source, max(trials, 2 * seeds))
    if lanes > 1 and threads is None:
        threads = max(1, cores() // lanes)
    budget = {"minutes": minutes} if minutes is not None else {"steps": steps or runs.DEFAULT_STEPS}
    plan = {
        "format": FORMAT,
        "recipe": recipe,
        "data": opened.fingerprint,
        "search": {name: str(held) for name, held in found.items()},
        "fixed": {name: default[name] for name in arguments},
        "question": question,
        "budget": budget,
        "seed": seed,
        "precision": precision,
        "clip": clip,
        "judging": {"n": n, **{name: str(value) for name, value in written.items()}},
    }
    held = _opened(folder / "study.db").user_attrs["plan"] if (folder / "study.db").is_file() else None
    if held is not None:
        _same(plan, held, folder)
        steps, minutes = held["steps"], None
    if progress is not None:
        progress.update(0.0, 2.0, f"timing {recipe}")
    first = runs.prepare(recipe, opened, steps=steps, minutes=minutes, seed=seed, device=device, threads=threads,
                         precision=precision, clip=clip, **default)  # fmt: skip
    first.record["data"] |= source
    options = {"trials": trials, "search": search, "for": question, **budget, "seed": seed, "seeds": seeds, "n": n,
               **written, "jobs": jobs, "device": device, "threads": threads, "precision": precision,
               "clip": clip}  # fmt: skip
    unsaid = {"seed": 0, "seeds": 3, "n": 5000, "device": "auto", "precision": "auto", "search": ""}
    said = {name: value for name, value in options.items() if unsaid.get(name) != value}
    words = ["amalgan", "tune", recipe, "--data", str(data) if isinstance(data, str | Path) else "DATA"]
    words += comparison.flags({**(data_options or {}), **said, "out": out, **arguments})
    return Prepared(
        folder=folder,
        first=first,
        modality=modality,
        space=found,
        plan=json.loads(json.dumps(plan | {"steps": first.steps})),
        trials=trials,
        seeds=seeds,
        lanes=lanes,
        reference=partial(modality.reference, opened, SPLIT, n, **judging),
        command=shlex.join(words),
        pace=Pace(progress, _parts(recipe, trials, seed, seeds, first, modality, n, folder), lanes),
    )


def _parts(
    recipe: str, trials: int, seed: int, seeds: int, first: runs.Prepared, modality: Modality, n: int, folder: Path
) -> dict[str, float]:
    """What there is to do, in order, with expected seconds."""
    training, judging = first.estimate or 0.005 * first.steps, 2 + 0.005 * min(n, len(first.data.validation))
    trial = {f"{recipe}, trial {i}": folder / "trials" / f"{i:03d}" for i in range(trials)}
    last = [f"{name}, seed {seed + 1 + i}" for i in range(seeds) for name in ("defaults", "tuned")]
    parts = {"learning to see": modality.judging_seconds(first.data)}
    for name in (*trial, *last):
        there = name in trial and not is_left(trial[name])
        parts |= {f"training {name}": 0.0 if there else training, f"judging {name}": 0.1 if there else judging}
    return parts | {"writing the report": 2.0}


def _same(asked: dict[str, Any], held: dict[str, Any], folder: Path) -> None:
    """A study that is there must be the study that is asked for.

    Raises:
        UsageError: it is another one.
    """
    for what, value in asked.items():
        if what != "steps" and json.loads(json.dumps(value)) != held.get(what):
            raise UsageError(
                f"a study with {what} {_told(value)}",
                f"{folder} holds one with {what} {_told(held.get(what))}",
                "choose another --out, or write the flags that it began with",
            )


def _told(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) or "none" if isinstance(value, dict) else str(value)


# Which is best


def choose(found: Sequence[dict[str, Any]], metrics: Sequence[dict[str, str]]) -> dict[str, Any] | None:
    """The trial with the least sum of places over all metrics, the earlier of two alike; None where none is done.

    A trial that is better than another by every metric has a smaller sum: what is chosen is never beaten.
    """
    done = [trial for trial in found if trial["outcome"] == "done"]
    for trial in done:
        trial["place"] = sum(_place(trial, done, metric) for metric in metrics)
    return min(done, key=lambda trial: (trial["place"], trial["number"]), default=None)


def _place(trial: dict[str, Any], done: Sequence[dict[str, Any]], metric: dict[str, str]) -> int:
    """1 for the best by a metric, 2 for the next."""
    return 1 + sum(_better(other, trial, metric) for other in done)


def _better(a: dict[str, Any], b: dict[str, Any], metric: dict[str, str]) -> bool:
    x, y = a["values"][metric["metric"]], b["values"][metric["metric"]]
    return bool(x < y if metric["better"] == "lower" else x > y)


def beaten(trial: dict[str, Any], found: Sequence[dict[str, Any]], metrics: Sequence[dict[str, str]]) -> bool:
    """Whether some other trial is better by every metric."""
    done = [other for other in found if other["outcome"] == "done"]
    return any(all(_better(other, trial, metric) for metric in metrics) for other in done)


def importance(study: Study, metrics: Sequence[dict[str, str]]) -> dict[str, dict[str, float]]:
    """Metric -> argument -> its share in what tells good trials from the rest (PED-ANOVA; Watanabe et al. 2023).

    {} for fewer than `TELLING` trials, or where optuna has nothing to say.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < TELLING:
        return {}
    found = {}
    for i, metric in enumerate(metrics):
        with warnings.catch_warnings(), contextlib.suppress(ValueError, RuntimeError):
            warnings.simplefilter("ignore")
            evaluator, loss = PedAnovaImportanceEvaluator(), partial(_loss, i, metric["better"] == "lower")
            found[metric["metric"]] = get_param_importances(study, evaluator=evaluator, target=loss)
    return found


def _loss(i: int, lower: bool, trial: Any) -> float:
    return float(trial.values[i]) if lower else -float(trial.values[i])


# Optuna


def optuna_or_advice() -> Any:
    """The module, quiet.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError("amalgan tune", "optuna is not installed", "pip install 'amalgan[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _storage(path: Path) -> Any:
    """A file of SQLite's. What Optuna keeps there are numbers and JSON; nothing is pickled."""
    from optuna.storages import RDBStorage

    return RDBStorage(f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": PATIENCE}})


def _opened(path: Path) -> Study:
    optuna = optuna_or_advice()
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return optuna.load_study(storage=_storage(path), study_name=NAME, sampler=_sampler(0))
    except (SQLAlchemyError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise AmalganError(f"the study {path}", f"it is damaged, or no study of tune's ({reason})",
                           "restore it from a copy, or choose another --out") from error  # fmt: skip


def _sampler(seed: int) -> Any:
    """One a trial: what a trial is given depends on its number and on the trials before, not on which process asks."""
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options that one version calls experimental and another old
        return TPESampler(seed=seed % 2**32, n_startup_trials=STARTING, multivariate=False, constant_liar=True)


# In the terminal


def _short(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def printed(record: dict[str, Any]) -> Table:
    """The trials as a table for the terminal: the chosen first, failed ones last with the reason."""
    from rich.table import Table

    metrics, settings = record["metrics"], list(record["search"])
    made = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    made.add_column("trial", no_wrap=True)
    for name in settings:
        made.add_column(name, justify="right", no_wrap=True)
    for metric in metrics:
        made.add_column(
            f"{metric['metric']} {'↓' if metric['better'] == 'lower' else '↑'}", justify="right", no_wrap=True
        )
    ill = any(trial["doctor"] or trial["outcome"] != "done" for trial in record["trials"])
    if ill:
        made.add_column("doctor")
    order = sorted(record["trials"], key=lambda trial: (trial.get("place", float("inf")), trial["number"]))
    for trial in order:
        done, chosen = trial["outcome"] == "done", trial["number"] == record["chosen"]
        level = done and not beaten(trial, record["trials"], metrics)
        name = "defaults" if trial["number"] == 0 else str(trial["number"])
        values = [number(trial["values"].get(metric["metric"])) for metric in metrics]
        doctor = ", ".join(trial["doctor"]) or ("" if done else trial["reason"] or trial["outcome"])
        if not done and trial["doctor"]:
            doctor = f"stopped at step {trial['steps']:,}: {doctor}"
        cells = [_short(trial["settings"].get(setting, "")) for setting in settings]
        style = "bold" if chosen else "" if done else "dim"
        name += " *" if chosen else " +" if level else ""
        made.add_row(name, *cells, *values, *[doctor] * ill, style=style)
    two = "; + no other is better by both numbers" if len(metrics) > 1 else ""
    made.caption = f"{record['steps']:,} steps each, judged on {record['judged']['split']} items; * chosen{two}{'' if ill else '; no doctor found anything'}"
    return made
