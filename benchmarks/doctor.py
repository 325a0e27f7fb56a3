"""Does the doctor find what is wrong, and does its remedy help? Faults planted on purpose, and healthy runs beside them.

    ring      eight Gaussians in the plane          digits    8 x 8 grey          mnist    28 x 28 grey

A run has a budget of 9,000, 3,000 or 2,400 steps; of twice that for oscillation, which takes its time. A planted one is
stopped at a third of it, and counts as recognised where the doctor named the fault at any of its looks until then. A healthy
one goes to the end; it is a false alarm of a fault where any of its looks named that. Then the run is done again from the
beginning with the first remedy that is a flag, or, where none is, with what its sentence asks a person to do: cured where
the fault no longer stands at the last look. What is to be healthy is fitted to its data: a code of 2 numbers for points, and
of 16 for images.

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
from unittest.mock import patch

import torch
from torch import nn

from amalgan.metrics.intervals import seed_interval, share
from amalgan.results import Row, show, write
from benchmarks import jobs
from benchmarks.machine import ROOT, data_folder

SETS = {"ring": "ring:8,sigma=0.05", "digits": "digits", "mnist": "mnist"}
STEPS = {"ring": 9000, "digits": 3000, "mnist": 2400}
SEEDS = (0, 1, 2, 3, 4)
PROTOCOL = 5  # raised whenever training, a signal or a check changes

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
        stretch: the budget, in those of its data.
        by_hand: what of all this a person changes, where no flag cures it.
    """

    finds: tuple[str, ...]
    recipe: str
    arguments: dict[str, Any] = field(default_factory=dict)
    sets: tuple[str, ...] = ("ring", "digits", "mnist")
    data: str = ""
    per_set: dict[str, dict[str, Any]] = field(default_factory=dict)
    stretch: int = 1
    by_hand: dict[str, Any] = field(default_factory=dict)


IMAGES = ("digits", "mnist")
LABELS = {"condition": "labels", "decoder_condition": "embedding"}  # as the GAN was told them when these runs were made
FREE = {"r1": 0.0, "r2": 0.0}  # no slope penalty
MENDED = {"data": ""}
FAULTS = {
    # on MNIST these runs collapse, recover and collapse again, so that only some do at a look
    "collapse": Fault(("mode collapse", "missing modes"), "gan", {"game": "wasserstein", **FREE}, ("ring", "digits")),
    "deaf-generator": Fault(("mode collapse", "missing modes"), "deaf", by_hand={"recipe": "gan"}),
    "missing-modes": Fault(("missing modes", "mode collapse"), "gan", {"latent": 1}, IMAGES),
    "strong-discriminator": Fault(
        ("the discriminator wins",), "gan", {"game": "minimax", "critic_steps": 5, **FREE}, IMAGES
    ),
    "weak-discriminator": Fault(("the discriminator is blind",), "gan", {"r1": 1e4, "r2": 1e4}),
    "overfitted-discriminator": Fault(
        ("the discriminator overfits",),
        "gan",
        {"game": "non-saturating", "lr": 1e-3, **FREE},
        IMAGES,
        "thirty",
        by_hand=MENDED,
    ),
    "oscillation": Fault(("oscillation",), "gan", {"game": "wasserstein", "lr": 2e-3, **FREE}, stretch=2),
    "mixing": Fault(
        ("batch norm mixes examples",),
        "batch-normed",
        by_hand={"recipe": "gan"},
        per_set={"ring": {"game": "non-saturating", **FREE}},
    ),
    "shuffled-labels": Fault(("labels that say nothing",), "gan", LABELS, IMAGES, "shuffled-labels", by_hand=MENDED),
    "ignored-labels": Fault(("labels are ignored",), "gan", LABELS | {"hidden": 0.99}, IMAGES),
    "loud-game": Fault(
        ("the game swamps the reconstruction",), "vaegan", {"lam": 1000.0}, per_set={"ring": {"lam": 1e4}}
    ),
    "silent-game": Fault(("the game does nothing",), "vaegan", {"lam": 1e-5}),
    "posterior-collapse": Fault(
        ("posterior collapse",),
        "vae",
        {"variance": 20.0},
        per_set={"digits": {"variance": 2.0}},
    ),
    "prior-hole": Fault(("a hole in the prior",), "vae", {"beta": 1e-4}, IMAGES, by_hand={"arguments": {"beta": 1.0}}),
    "dead-units": Fault(
        ("dead latent units",),
        "vae",
        {"latent": 128, "variance": 0.2},
        IMAGES,
        per_set={"mnist": {"variance": 2.0, "lr": 2e-3}},
    ),
    "blur": Fault(("blur",), "vae", {"latent": 2}, ("mnist",), by_hand={"arguments": {}, "recipe": "vaegan"}),
    "fast-steps": Fault(("the step size is far too large", "exploding gradients"), "vae", {"lr": 0.3}),
    "slow-steps": Fault(("the step size is far too small",), "vae", {"lr": 1e-7}),
    "not-a-number": Fault(("not a number in the data",), "gan", {}, data="holes", by_hand=MENDED),
    "small-batch": Fault(("the batch is too small",), "gan", {"batch": 2}),
    "few-examples": Fault(("few examples",), "gan", {}, data="hundred", by_hand=MENDED),
    "memorisation": Fault(("memorisation",), "vae", {"latent": 2, "lr": 2e-3}, IMAGES, "ten", by_hand=MENDED),
    "overfitting": Fault(("overfitting",), "ae", {}, IMAGES, "thirty", by_hand=MENDED),
    "duplicates": Fault(("duplicates in the data",), "vae", {}, data="repeated", by_hand=MENDED),
    "dark-images": Fault(("wrong range of the data",), "vae", {}, IMAGES, "dark", by_hand=MENDED),
    "centred-images": Fault(("wrong range of the data",), "vae", {}, IMAGES, "centred", by_hand=MENDED),
}
HEALTHY = {
    "vae": Fault((), "vae", {"latent": 16}, per_set={"ring": {"latent": 2}}),
    "gan": Fault((), "gan"),
    # in the plane a label leaves a VAE nothing to encode, and the GAN's peaks wander by their own width: the doctor says so
    "vae-labels": Fault((), "vae", {"latent": 16, "condition": "labels"}, IMAGES),
    "gan-labels": Fault((), "gan", LABELS, IMAGES),
    "vaegan": Fault((), "vaegan", {"latent": 16}, per_set={"ring": {"latent": 2, "lam": 10.0}}),
}


def batch_normed(
    spec: Any, *, game: str = "relativistic", r1: float = 1.0, r2: float = 1.0, width: int = 32, lr: float = 4e-4
) -> Any:
    """The GAN, but its discriminator normalises over the batch, and judges each kind in one of its own."""
    from amalgan import recipes

    plan = recipes.plan("gan", spec, recipes.check("gan", {"game": game, "r1": r1, "r2": r2, "width": width, "lr": lr}))
    normed(plan.model.discriminator.trunk)
    return plan


def deaf(spec: Any, *, width: int = 32) -> Any:
    """The GAN, but its generator hears a thousandth of its code, as where somebody forgot to draw it anew."""
    from amalgan import recipes

    plan = recipes.plan("gan", spec, recipes.check("gan", {"width": width}))
    plan.model.decoder = Faint(plan.model.decoder)
    return plan


class Faint(nn.Module):
    """z -> network(z / 1000)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> Any:
        return self.network(z / 1000)


def normed(network: Any) -> None:
    """Batch norm after every layer of a network, as in DCGAN."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.Conv2d):
            setattr(network, name, nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels)))
        elif isinstance(layer, nn.Linear):
            setattr(network, name, nn.Sequential(layer, nn.BatchNorm1d(layer.out_features)))
        else:
            normed(layer)


def holes(x: torch.Tensor) -> torch.Tensor:
    """One value of every two-thousandth example is no number, as after a division by zero in somebody's preparation."""
    x = x.float() / 255 if x.dtype == torch.uint8 else x.clone()
    x.flatten(1)[min(1000, len(x) - 1) :: 2000, 0] = float("nan")
    return x


CHANGES: dict[str, Change] = {
    "hundred": lambda x: x[:100],
    "thirty": lambda x: x[:30],
    "ten": lambda x: x[:10],
    "repeated": lambda x: x[:400].repeat(4, *[1] * (x.dim() - 1)),
    "dark": lambda x: x // 8,
    "holes": holes,
    "centred": lambda x: 2 * (x.float() / 255) - 1,
}


@cache
def opened(name: str) -> Any:
    from amalgan import modalities

    source = str(data_folder() / "mnist") if name == "mnist" else SETS[name]
    return modalities.of("images").open(source)


def changed(data: Any, change: str) -> Any:
    """The same data with every part changed; only the training part is cut, or loses the order of its labels."""
    from amalgan.data.core import Split

    if change == "shuffled-labels":
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        return replace(data, train=Split(data.train.x, data.train.c[order]))

    def of(split: Any, cut: bool) -> Any:
        x = CHANGES[change](split.x) if cut or change in ("dark", "centred") else split.x
        c = None if split.c is None or len(x) != len(split.x) else split.c
        return Split(x, c)

    parts = {name: of(getattr(data, name), name == "train") for name in ("train", "validation", "test")}
    return replace(data, **parts)


def job(case: str, name: str, seed: int, flags: dict[str, Any] | None = None, by_hand: bool = False) -> jobs.Job:
    fault = (FAULTS | HEALTHY)[case]
    fault = replace(fault, **fault.by_hand) if by_hand else fault
    arguments = {**fault.arguments, **fault.per_set.get(name, {}), **(flags or {})}
    if name == "mnist":
        arguments = {"width": 16, **arguments}
    what = {"case": case, "set": name, "seed": seed, "recipe": fault.recipe, "data": fault.data, "arguments": arguments}
    return {"protocol": PROTOCOL, "steps": fault.stretch * STEPS[name], **what}


class Enough(Exception):
    """A third of the budget is spent."""


def do(job: jobs.Job) -> dict[str, Any]:
    """Train, and ask the doctor at every look."""
    from amalgan import recipes

    planted = {"batch-normed": batch_normed, "deaf": deaf}
    takers = {"images": (*recipes.KINDS["images"], *planted.values())}
    with patch.dict(recipes.RECIPES, planted), patch.dict(recipes.KINDS, takers):
        return looks(job)


def looks(job: jobs.Job) -> dict[str, Any]:
    """What the doctor said when."""
    from amalgan import runs
    from amalgan.doctor import History, diagnose
    from amalgan.noise import key
    from amalgan.training import Diverged

    fault = (FAULTS | HEALTHY)[job["case"]]
    data = opened(job["set"])
    data = changed(data, job["data"]) if job["data"] else data
    end = job["steps"] // 3 if fault.finds else job["steps"]

    def enough(tick: Any) -> None:
        if tick.step >= end:
            raise Enough

    folder = ROOT / "runs" / "doctor" / f"{key(jobs.key(job)):x}"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = dict(job["arguments"])
    clip = arguments.pop("clip", None)
    with contextlib.suppress(Enough, Diverged):
        runs.train(job["recipe"], data, steps=job["steps"], seed=job["seed"], out=folder, threads=1,
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
    """Every recognised run once more, with its remedy, and what that was to cure."""
    for old, result in zip(planted, results):
        fault = FAULTS[old["case"]]
        for name in named(fault, result["found"])[:1]:
            flags = {} if fault.by_hand else result["found"][name][2]
            yield name, job(old["case"], old["set"], old["seed"], flags, by_hand=bool(fault.by_hand))


def table(planted: list[jobs.Job], results: list[dict[str, Any]], healthy: list[dict[str, Any]],
          treated: list[tuple[str, jobs.Job]], after: list[dict[str, Any]]) -> Iterator[Row]:  # fmt: skip
    """A row a fault: sensitivity, false alarms, and of those treated the cured, with coverage before and after."""
    about = {"command": "python -m benchmarks.doctor", **jobs.provenance([*results, *healthy, *after])}
    for case, fault in FAULTS.items():
        mine = [r for j, r in zip(planted, results) if j["case"] == case]
        if not mine:
            continue
        hits = [r for r in mine if named(fault, r["found"])]
        alarms = [r for r in healthy if named(fault, r["found"])]
        cures = [(name not in r["stands"], r) for (name, j), r in zip(treated, after) if j["case"] == case]
        flags = {spelled(j["arguments"], j["case"]) for _, j in treated if j["case"] == case}
        remedy = f"by hand, {spelled_hand(fault)}" if fault.by_hand else "; ".join(sorted(flags))
        note = f"called {' or '.join(fault.finds)}; on {', '.join(fault.sets)}; remedy: {remedy}"
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


def spelled(arguments: dict[str, Any], case: str) -> str:
    """The flags of a treated run that are not the planted ones; names alone, since values differ from run to run."""
    planted = {**FAULTS[case].arguments, "width": 16}
    changed = [name for name, value in arguments.items() if planted.get(name) != value]
    return " ".join(f"--{name.replace('_', '-')}" for name in changed)


def spelled_hand(fault: Fault) -> str:
    """What a person did."""
    words = {"data": "the data mended", "recipe": f"{fault.by_hand.get('recipe')} in its place"}
    changed = [words[name] for name in fault.by_hand if name in words]
    return ", ".join([*changed, *(f"--{name} {value:g}" for name, value in fault.by_hand.get("arguments", {}).items())])


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
