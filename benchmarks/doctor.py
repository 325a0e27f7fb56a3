"""Does the doctor find what is wrong, and does its remedy help? Faults planted on purpose, and healthy runs beside them.

    ring      eight Gaussians in the plane          digits    8 x 8 grey          mnist    28 x 28 grey

A run has a budget of 9,000, 3,000 or 2,400 steps. A planted one is stopped at a third of it, and counts as recognised where
the doctor named the fault at any of its looks until then. A healthy one goes to the end; it is a false alarm of a fault
where any of its looks named that. Where the first remedy is a flag, the run is done again with it from the beginning: cured
where the fault no longer stands at the last look.

    python -m benchmarks.doctor                     # the table, seeds 0 to 4
    python -m benchmarks.doctor --seeds 100 101     # those that thresholds were chosen on: says what is missed, no table
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch

from amalgan.metrics.intervals import seed_interval, share
from amalgan.results import Row, show, write
from benchmarks import jobs
from benchmarks.machine import ROOT, data_folder, processor

SETS = {"ring": "ring:8,sigma=0.05", "digits": "digits", "mnist": "mnist"}
STEPS = {"ring": 9000, "digits": 3000, "mnist": 2400}
SEEDS = (0, 1, 2, 3, 4)
PROTOCOL = 1  # raised whenever training, a signal or a check changes

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Fault:
    """One thing done wrong.

    Arguments:
        finds: what the doctor should call it, one of them.
        recipe, arguments: what is trained, and how.
        sets: on which data.
        data: what is done to them first.
        per_set: arguments of one set alone.
    """

    finds: tuple[str, ...]
    recipe: str
    arguments: dict[str, Any] = field(default_factory=dict)
    sets: tuple[str, ...] = ("ring", "digits", "mnist")
    data: str = ""
    per_set: dict[str, dict[str, Any]] = field(default_factory=dict)


IMAGES = ("digits", "mnist")
FREE = {"r1": 0.0, "r2": 0.0}  # no slope penalty
FAULTS = {
    "collapse": Fault(("mode collapse", "missing modes"), "gan", {"game": "wasserstein", **FREE}),
    "missing-modes": Fault(("missing modes", "mode collapse"), "gan", {"latent": 1}, IMAGES),
    "strong-discriminator": Fault(
        ("the discriminator wins",), "gan", {"game": "minimax", "critic_steps": 5, **FREE}, IMAGES
    ),
    "weak-discriminator": Fault(("the discriminator is blind",), "gan", {"r1": 1e4, "r2": 1e4}),
    "overfitted-discriminator": Fault(
        ("the discriminator overfits",), "gan", {"game": "non-saturating", "lr": 1e-3, **FREE}, IMAGES, "thirty"
    ),
    "oscillation": Fault(("oscillation",), "gan", {"game": "wasserstein", "lr": 2e-3, **FREE}),
    "loud-game": Fault(
        ("the game swamps the reconstruction",), "vaegan", {"lam": 1000.0}, per_set={"ring": {"lam": 1e4}}
    ),
    "silent-game": Fault(("the game does nothing",), "vaegan", {"lam": 1e-5}),
    "posterior-collapse": Fault(
        ("posterior collapse",),
        "vae",
        {"variance": 2.0},
        per_set={"ring": {"variance": 20.0}, "mnist": {"variance": 20.0}},
    ),
    "prior-hole": Fault(("a hole in the prior",), "vae", {"beta": 1e-4}, IMAGES),
    "dead-units": Fault(
        ("dead latent units",), "vae", {"latent": 128, "variance": 0.2}, IMAGES, per_set={"mnist": {"variance": 1.0}}
    ),
    "blur": Fault(("blur",), "vae", {"latent": 2}, ("mnist",)),
    "fast-steps": Fault(("the step size is far too large", "exploding gradients"), "vae", {"lr": 0.3}),
    "slow-steps": Fault(("the step size is far too small",), "vae", {"lr": 1e-7}),
    "not-a-number": Fault(("not a number",), "gan", {}, data="broken"),
    "small-batch": Fault(("the batch is too small",), "gan", {"batch": 2}),
    "few-examples": Fault(("few examples",), "gan", {}, data="hundred"),
    "memorisation": Fault(("memorisation",), "vae", {"latent": 2, "lr": 2e-3}, IMAGES, "ten"),
    "overfitting": Fault(("overfitting",), "ae", {}, IMAGES, "thirty"),
    "duplicates": Fault(("duplicates in the data",), "vae", {}, data="repeated"),
    "dark-images": Fault(("wrong range of the data",), "vae", {}, IMAGES, "dark"),
    "centred-images": Fault(("wrong range of the data",), "vae", {}, IMAGES, "centred"),
}


def broken(x: torch.Tensor) -> torch.Tensor:
    """One value of the thousandth example is no number, as after a division by zero in somebody's preparation."""
    x = x.float() / 255 if x.dtype == torch.uint8 else x.clone()
    x[min(1000, len(x) - 1)].view(-1)[0] = float("nan")
    return x


HEALTHY = {recipe: Fault((), recipe) for recipe in ("vae", "gan", "vaegan")}
CHANGES: dict[str, Change] = {
    "hundred": lambda x: x[:100],
    "thirty": lambda x: x[:30],
    "ten": lambda x: x[:10],
    "repeated": lambda x: x[:400].repeat(4, *[1] * (x.dim() - 1)),
    "dark": lambda x: x // 8,
    "broken": broken,
    "centred": lambda x: 2 * (x.float() / 255) - 1,
}


@cache
def opened(name: str) -> Any:
    from amalgan import modalities

    source = str(data_folder() / "mnist") if name == "mnist" else SETS[name]
    return modalities.of("images").open(source)


def changed(data: Any, change: str) -> Any:
    """The same data with every part changed; only the training part is cut."""
    from amalgan.data.core import Split

    def of(split: Any, cut: bool) -> Any:
        x = CHANGES[change](split.x) if cut or change in ("dark", "centred") else split.x
        c = None if split.c is None or len(x) != len(split.x) else split.c
        return Split(x, c)

    parts = {name: of(getattr(data, name), name == "train") for name in ("train", "validation", "test")}
    return replace(data, **parts)


def job(case: str, name: str, seed: int, flags: dict[str, Any] | None = None) -> jobs.Job:
    fault = (FAULTS | HEALTHY)[case]
    arguments = {**fault.arguments, **fault.per_set.get(name, {}), **(flags or {})}
    if name == "mnist":
        arguments = {"width": 16, **arguments}
    return {"protocol": PROTOCOL, "case": case, "set": name, "seed": seed, "steps": STEPS[name], "arguments": arguments}


class Enough(Exception):
    """A third of the budget is spent."""


def do(job: jobs.Job) -> dict[str, Any]:
    """Train, and ask the doctor at every look."""
    from amalgan import runs
    from amalgan.doctor import History, diagnose
    from amalgan.noise import key
    from amalgan.training import Diverged

    fault = (FAULTS | HEALTHY)[job["case"]]
    data = opened(job["set"])
    data = changed(data, fault.data) if fault.data else data
    end = job["steps"] // 3 if fault.finds else job["steps"]

    def enough(tick: Any) -> None:
        if tick.step >= end:
            raise Enough

    folder = ROOT / "runs" / "doctor" / f"{key(jobs.key(job)):x}"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = dict(job["arguments"])
    clip = arguments.pop("clip", None)
    with contextlib.suppress(Enough, Diverged):
        runs.train(fault.recipe, data, steps=job["steps"], seed=job["seed"], out=folder, threads=1,
                   watcher=enough, clip=clip, **arguments)  # fmt: skip
    run = runs.load(folder, data)
    lines = [line for line in run.log() if line.keys() & {"signals", "diverged"} and line["step"] <= end]
    found: dict[str, list[Any]] = {}  # name: step of the first look that named it, severity, flags of its first remedy
    for count in range(1, len(lines) + 1):
        for finding in diagnose(History(run.record, lines[:count])):
            flags = finding.remedies[0].flags if finding.remedies else {}
            found.setdefault(finding.name, [lines[count - 1]["step"], finding.severity, flags])
    at_last = History(run.record, lines)
    stands = [finding.name for finding in diagnose(at_last)]
    (folder / "job.json").write_text(jobs.key(job))
    return {"found": found, "stands": stands, "coverage": at_last.of("samples", "coverage").values[-1:]}


def cases(seeds: tuple[int, ...], sets: tuple[str, ...], names: tuple[str, ...]) -> list[jobs.Job]:
    return [
        job(case, name, seed)
        for name in sets
        for case, fault in (FAULTS | HEALTHY).items()
        if name in fault.sets and (not names or case in names)
        for seed in seeds
    ]


def named(fault: Fault, found: Any) -> list[str]:
    """What of it is the fault's."""
    return [name for name in found if name in fault.finds]


def treatments(planted: list[jobs.Job], results: list[dict[str, Any]]) -> Iterator[tuple[str, jobs.Job]]:
    """Every recognised run once more, with the first remedy that is a flag, and what that was to cure."""
    for job_, result in zip(planted, results):
        for name in named(FAULTS[job_["case"]], result["found"])[:1]:
            flags = result["found"][name][2]
            if flags:
                yield name, job(job_["case"], job_["set"], job_["seed"], flags)


def table(planted: list[jobs.Job], results: list[dict[str, Any]], healthy: list[dict[str, Any]],
          treated: list[tuple[str, jobs.Job]], after: list[dict[str, Any]]) -> Iterator[Row]:  # fmt: skip
    """A row a fault: sensitivity, false alarms, and of those treated the cured, with coverage before and after."""
    about = {"command": "python -m benchmarks.doctor", "device": f"{processor()}, 1 thread a run"}
    for case, fault in FAULTS.items():
        mine = [r for j, r in zip(planted, results) if j["case"] == case]
        if not mine:
            continue
        hits = [r for r in mine if named(fault, r["found"])]
        alarms = [r for r in healthy if named(fault, r["found"])]
        cures = [(name not in r["stands"], r) for (name, j), r in zip(treated, after) if j["case"] == case]
        flags = sorted({spelled(r["found"][named(fault, r["found"])[0]][2]) for r in hits})
        note = f"called {' or '.join(fault.finds)}; on {', '.join(fault.sets)}; first remedy: {'; '.join(flags) or 'a person'}"
        counts = {"sensitivity": ("higher", len(hits), len(mine)), "false_alarm": ("lower", len(alarms), len(healthy))}
        if cures:
            counts["cured"] = ("higher", sum(cured for cured, _ in cures), len(cures))
        for metric, (better, some, of) in counts.items():
            found = share(some, of)
            seconds = sum(r["cpu_seconds"] for r in mine)
            yield Row("doctor", case, metric, "share of runs", better, found.value, found.low, found.high,
                      seeds=of, cpu_seconds=seconds, note=note, **about)  # fmt: skip
        for metric, these in (("coverage_before", hits), ("coverage_after", [r for _, r in cures])):
            values = [r["coverage"][0] for r in these if r["coverage"]]
            if cures and len(values) > 1:
                found = seed_interval(values)
                yield Row("doctor", case, metric, "share", "higher", found.value, found.low, found.high,
                          seeds=len(values), note=note, **about)  # fmt: skip
    false = sum(any(severity != "costs" for _, severity, _ in r["found"].values()) for r in healthy)
    found = share(false, len(healthy))
    yield Row("doctor", "healthy", "false_alarm", "share of runs", "lower", found.value, found.low, found.high,
              seeds=len(healthy), note="any finding that fails or hurts, at any look", **about)  # fmt: skip


def spelled(flags: dict[str, Any]) -> str:
    """Names alone: values differ from run to run."""
    return " ".join(f"--{name.replace('_', '-')}" for name in flags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    whole = asked.seeds == list(SEEDS) and asked.sets == list(SETS) and not asked.cases
    name = "doctor" if set(asked.seeds) <= set(SEEDS) else "doctor-explored"
    wanted = cases(tuple(asked.seeds), tuple(asked.sets), tuple(asked.cases))
    done = jobs.work(name, wanted, do, asked.processes)
    planted = [(j, r) for j, r in zip(wanted, done) if j["case"] in FAULTS]
    healthy = [r for j, r in zip(wanted, done) if j["case"] in HEALTHY]
    runs, results = [j for j, _ in planted], [r for _, r in planted]
    for job_, result in planted:
        if not named(FAULTS[job_["case"]], result["found"]):
            jobs.say(f"missed: {job_['case']} on {job_['set']}, seed {job_['seed']}; said {list(result['found'])}")
    for result in healthy:
        alarms = {name: step for name, (step, severity, _) in result["found"].items() if severity != "costs"}
        if alarms:
            jobs.say(f"false alarm: {alarms}")
    if whole:
        treated = list(treatments(runs, results))
        after = jobs.work(name, [j for _, j in treated], do, asked.processes)
        write("stability", table(runs, results, healthy, treated, after))
        show("stability")


if __name__ == "__main__":
    main()
