"""What does each remedy do for each game? Mixtures in the plane, on the protocols' own settings, one thing changed.

    ring    as `benchmarks.toys`, and as in the unrolled GAN notebook (Metz et al. 2017): Adam, step sizes 1e-3 (generator)
            and 1e-4 (discriminator), beta1 0.5, batch 512, 25,000 steps
    grid    as `benchmarks.toys`, and as PacGAN's code (Lin et al. 2018): Adam, step sizes 1e-4, beta1 0.8, batch 100,
            40,000 steps, a tenth of theirs

Nothing was tuned: strengths are those of the papers, or of the recipes' flags. `plain` is the protocol with another game;
`averaged` and `judged` are other samples of the same runs; `together` is the method of `benchmarks.toys`, which was tuned,
on other seeds.

    python -m benchmarks.remedies
    python -m benchmarks.remedies ring --seeds 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from amalgan.metrics.intervals import seed_interval
from amalgan.metrics.modes import SAMPLES
from amalgan.networks import normalise, together
from amalgan.objectives import (
    GAMES,
    FeatureMatching,
    HistoricalAveraging,
    InstanceNoise,
    Objective,
    OneCentred,
    Unrolled,
    ZeroCentred,
    decay,
    fading,
    gan,
    judge,
    smoothed,
)
from amalgan.results import Row, show, write
from amalgan.training import Plan, Trainer
from benchmarks import toys
from benchmarks.jobs import Job, finished, key, provenance, work

SEEDS = 1
LR = {"ring": (1e-3, 1e-4), "grid": (1e-4, 1e-4)}
BETA1, BATCH = {"ring": 0.5, "grid": 0.8}, {"ring": 512, "grid": 100}
SIGMA = {"ring": 0.2, "grid": 1.0}  # of instance noise at first


@dataclass(frozen=True)
class Remedy:
    """One thing that is changed.

    Arguments:
        told: what, for the table.
        objective: of the name of a game and of a table.
        network: what goes around the discriminator.
        faster: the discriminator's step size in the generator's; 0 for the protocol's.
        turns: of the discriminator.
        pack: points judged at once.
        games: on which it can act.
    """

    told: str
    objective: Callable[[str, str], Objective] = lambda game, table: gan(game)
    network: Callable[[nn.Module], nn.Module] | None = None
    faster: float = 0.0
    turns: int = 1
    pack: int = 1
    games: tuple[str, ...] = field(default=tuple(GAMES))


CLASSIC = ("minimax", "non-saturating")
REMEDIES = {
    "plain": Remedy("the protocol as it is"),
    "slopes": Remedy("R1 + R2 of strength 0.1, on every 4th step", lambda g, t: gan(g) + ZeroCentred(0.1, ("x", "fake"), 4)),
    "noise": Remedy("instance noise that falls to zero half-way", lambda g, t: InstanceNoise(gan(g), fading(SIGMA[t]))),
    "spectral": Remedy("spectral normalisation of the discriminator", network=normalise.spectral),
    "packed": Remedy("pairs are judged (PacGAN2)", pack=2),
    "deviation": Remedy("minibatch standard deviation, groups of 4", network=together.MinibatchDeviation),
    "two-step-sizes": Remedy("the discriminator's steps four times the generator's", faster=4.0),
    "one-centred": Remedy(
        "slope 1 between data and samples, strength 10, on every 4th step",
        lambda g, t: gan(g) + OneCentred(10.0, every=4),
        games=("wasserstein", *CLASSIC),
    ),
    "critic-steps": Remedy("three turns of the discriminator a step", turns=3, games=CLASSIC),
    "top-k": Remedy("only the better half teaches in the end", lambda g, t: gan(g, best=decay(1.0, 0.5)), games=CLASSIC),
    "smoothed": Remedy("one-sided label smoothing, 0.1", lambda g, t: gan(smoothed(g, 0.1)), games=CLASSIC),
    "features": Remedy("the generator matches features", lambda g, t: FeatureMatching() + judge(g), games=CLASSIC[:1]),
    "history": Remedy("historical averaging, 0.1", lambda g, t: gan(g) + HistoricalAveraging(0.1), games=CLASSIC),
    "unrolled": Remedy("five steps of the discriminator foreseen", lambda g, t: Unrolled(gan(g), 5), games=CLASSIC),
}  # fmt: skip
OF_PLAIN = {  # scores of the same run: told, of averaged weights or the generator's own, prior
    "plain": (REMEDIES["plain"].told, "own", "standard"),
    "averaged": ("samples of the weights' moving average, decay 0.999", "averaged", "standard"),
    "judged": ("samples of that average that the discriminator has judged", "averaged", "judged"),
}
ON_GRID = ("plain", "slopes", "noise", "packed")


def wanted(table: str, seeds: int) -> list[Job]:
    """Seed by seed; on the grid, whose runs cost four times as much, the games alone, and minimax with some remedies."""
    cells = [(game, name) for name, remedy in REMEDIES.items() for game in remedy.games]
    if table == "grid":
        cells = [(game, name) for game, name in cells if name == "plain" or (game == "minimax" and name in ON_GRID)]
    return [
        {"table": table, "game": game, "remedy": name, "seed": seed, "steps": toys.STEPS[table]}
        for seed in range(seeds)
        for game, name in cells
    ]


def plan(job: Job) -> Plan:
    """The protocol with one thing changed."""
    remedy, table = REMEDIES[job["remedy"]], job["table"]
    torch.manual_seed(job["seed"])
    make, judges = {
        "ring": (toys.ring_model, toys.ring_discriminator),
        "grid": (toys.grid_model, toys.grid_discriminator),
    }[table]
    packed = together.Packed(lambda shape: judges(shape[0]), (2,), remedy.pack) if remedy.pack > 1 else None
    model = make(packed)
    if remedy.network is not None:
        model.discriminator = remedy.network(model.discriminator)
    generator, discriminator = LR[table]
    return Plan(
        model,
        [(remedy.objective(job["game"], table), 1.0)],
        lr={"decoder": generator, "discriminator": remedy.faster * generator if remedy.faster else discriminator},
        betas=dict.fromkeys(model.networks, (BETA1[table], 0.999)),
        turns={"discriminator": remedy.turns},
        batch=BATCH[table],
        ema=0.999,
    )


def do(job: Job) -> dict[str, Any]:
    """Train, and score PacGAN's way; what ends in no numbers is scored as no mode."""
    mixture = toys.TABLES[job["table"]]
    data, held_out = toys.parts(job)
    trainer = Trainer(plan(job), data, job["steps"], job["seed"])
    for step in trainer.run():
        if step % 1000 == 0 and not all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters()):
            return {"broken": step}
    return {
        "own": toys.score(trainer.model, mixture, held_out, job["seed"]),
        "averaged": toys.averaged_score(trainer, mixture, held_out, job["seed"]),
    }


def rows(table: str, cell: str, told: str, runs: list[dict[str, Any]]) -> Iterator[Row]:
    """Modes, quality and reverse KL of a cell's scored runs; one without numbers counts as no mode and no good sample."""
    floors = toys.ideal(table)
    broken = sum(run["score"] is None for run in runs)
    note = told + (f"; {broken} of {len(runs)} ended in values that are no numbers" if broken else "")
    for metric, (unit, better) in toys.METRICS.items():
        values = [0.0 if run["score"] is None else run["score"][metric] for run in runs]
        if broken and metric == "reverse_kl":  # of no histogram
            continue
        found = seed_interval(values)
        several = len(values) > 1
        yield Row(
            f"{table}-remedies", cell, metric, unit, better, found.value,
            found.low if several else None, found.high if several else None,
            seeds=len(runs), n=SAMPLES, floor=floors[metric], command="python -m benchmarks.remedies",
            cpu_seconds=sum(run["cpu_seconds"] for run in runs), note=note,
            **provenance(runs),
        )  # fmt: skip


def scored(result: dict[str, Any], weights: str, prior: str) -> dict[str, Any]:
    """One of a run's scores, None where it ended in no numbers."""
    return {**result, "score": None if "broken" in result else result[weights][prior]}


def cells(
    table: str, jobs: list[Job], results: list[dict[str, Any]]
) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Name, what was done, and scored runs."""
    by_cell: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for job, result in zip(jobs, results):
        by_cell.setdefault((job["game"], job["remedy"]), []).append(result)
    for (game, name), runs in by_cell.items():
        of = OF_PLAIN if name == "plain" else {name: (REMEDIES[name].told, "own", "standard")}
        for called, (told, weights, prior) in of.items():
            yield f"{game}+{called}", told, [scored(run, weights, prior) for run in runs]
    done = finished("toys")
    for game in toys.SIX:
        tuned = [done[key(j)] for seed in range(5) if key(j := toys.job(table, game, seed, toys.STEPS[table])) in done]
        if tuned:
            told = "`benchmarks.toys`: R1 + R2 and noise that fall, falling step sizes, averaged weights, judged; tuned"
            yield f"{game}+together", told, [{**run, "score": run["judged"]} for run in tuned]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(toys.TABLES), help="ring, grid (both)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each cell ({SEEDS})")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    for table in asked.tables:
        jobs = wanted(table, asked.seeds)
        results = work("remedies", jobs, do, asked.processes)
        made = [row for cell in cells(table, jobs, results) for row in rows(table, *cell)]
        write("stability", [*made, *toys.published(table, f"{table}-remedies")])
    show("stability")


if __name__ == "__main__":
    main()
