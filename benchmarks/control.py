"""Imitation against cloning, five seeds, ten demonstrations: does the game add anything to copying?

    pendulum      Pendulum-v1, 200 steps; the demonstrator is an agent of the `imitation` project, no perfect one
    cartpole      CartPole-v1 at a fixed horizon of 500 steps
    *-sparse      few demonstrations of which every 20th step alone is kept, as in Ho and Ermon (2016): 10 pairs each of
                  Pendulum-v1

    python -m benchmarks.control                    # everything that is not yet done; stopped, it goes on
    python -m benchmarks.control pendulum

Beside them stand chance, the demonstrator, and the control: the same learner as long, without cloning, with a reward of 1
for every step. Settings were chosen on seeds from 100 up, which appear nowhere here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from benchmarks import jobs
from benchmarks.machine import data_folder

# table -> file, world, demonstrations, every so-manieth step
TABLES: dict[str, tuple[str, str, int, int]] = {
    "pendulum": ("pendulum_expert.npz", "Pendulum-v1", 10, 1),
    "cartpole": ("cartpole_expert.npz", "CartPole-v1", 10, 1),
    "pendulum-sparse": ("pendulum_expert.npz", "Pendulum-v1", 4, 20),
}
STEPS = {"pendulum": 400, "cartpole": 200, "pendulum-sparse": 400}
SEEDS = (0, 1, 2, 3, 4)
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "cloning": ("cloning", {}),
    "gail": ("gail", {}),
    "constant-reward": ("gail", {"reward": "constant", "cloned": 0.0}),
}
# the control learns nothing from demonstrations, so where there are fewer of them it is the same
ROWS = {"pendulum": tuple(RECIPES), "cartpole": tuple(RECIPES), "pendulum-sparse": ("cloning", "gail")}
METRICS = ("normalised_score", "return")
PROTOCOL = 1  # raised whenever the arithmetic of training or judging changes


@cache
def opened(table: str) -> Any:
    from amalgan import modalities

    file, world, demonstrations, every = TABLES[table]
    source = data_folder() / "expert_rollouts" / file
    return modalities.of("control").open(source, env=world, demonstrations=demonstrations, every=every)


@cache
def against(table: str) -> Any:
    from amalgan import modalities

    return modalities.of("control").reference(opened(table), "test", 50)


def job(table: str, row: str, seed: int) -> jobs.Job:
    share = 0.5 if row == "constant-reward" else 1.0  # gail clones in the first half, and plays in the second
    return {"protocol": PROTOCOL, "table": table, "row": row, "seed": seed, "steps": round(STEPS[table] * share)}


def do(job: jobs.Job) -> dict[str, Any]:
    """Train one run and judge it."""
    from amalgan import modalities

    data, (recipe, arguments) = opened(job["table"]), RECIPES[job["row"]]
    with jobs.trained("control", data, job | {"recipe": recipe, "arguments": arguments}) as run:
        rows = modalities.of("control").evaluate(run.model, data, against(job["table"]))
        seconds = run.log()[-1]["cpu_seconds"]
    return {
        "at": {row.metric: [row.value, row.floor, row.ceiling, row.n] for row in rows},
        "training_cpu_seconds": seconds,
    }


def table(name: str) -> list[Any]:
    """Run what is missing of a table and make its rows."""
    from amalgan import modalities
    from amalgan.metrics.intervals import seed_interval
    from amalgan.results import Row

    known = modalities.of("control").metrics
    wanted = {(row, seed): job(name, row, seed) for seed in SEEDS for row in ROWS[name]}
    results = dict(zip(wanted, jobs.work("control", list(wanted.values()), do, processes=1)))
    _, world, demonstrations, every = TABLES[name]
    shown = f"{demonstrations} demonstrations of {world}" + (f", every {every}th step" if every > 1 else "")
    made = []
    for row in ROWS[name]:
        mine = [results[row, seed] for seed in SEEDS]
        for metric in METRICS:
            between = seed_interval([result["at"][metric][0] for result in mine])
            made.append(
                Row(
                    *(name, row, metric, known[metric].unit, known[metric].better),
                    value=between.value,
                    low=between.low,
                    high=between.high,
                    seeds=len(SEEDS),
                    n=mine[0]["at"][metric][3],
                    command=f"python -m benchmarks.control {name}",
                    cpu_seconds=sum(result["training_cpu_seconds"] for result in mine),
                    **jobs.provenance(mine),
                    note="; ".join([shown, f"{job(name, row, 0)['steps']} steps", *remarks(row, results)]),
                )
            )
    for row, anchor in (("random", 2), ("expert", 1)):
        for metric in METRICS:
            _, floor, ceiling, n = results["cloning", 0]["at"][metric]
            value = (None, floor, ceiling)[anchor]
            what = "every action as likely" if row == "random" else "the demonstrations' own rewards"
            made.append(Row(name, row, metric, known[metric].unit, known[metric].better, value=value, n=n, note=what))
    return made


def remarks(row: str, results: dict[tuple[str, int], dict[str, Any]]) -> Iterator[str]:
    """What else is to be said of a row: its settings, and of gail whether it is better than cloning, seed by seed."""
    from amalgan.metrics.intervals import difference

    _, settings = RECIPES[row]
    yield ", ".join(f"{name} {value}" for name, value in settings.items()) or "the recipe's defaults"
    if row == "gail":
        ours, theirs = (
            [results[who, seed]["at"]["normalised_score"][0] for seed in SEEDS] for who in ("gail", "cloning")
        )
        d = difference(ours, theirs)
        how = "clearly better than" if d.low > 0 else "clearly worse than" if d.high < 0 else "no better than"
        yield f"{how} cloning: paired difference of scores {d.value:.3f} [{d.low:.3f}, {d.high:.3f}]"


if __name__ == "__main__":
    jobs.publish("control", __doc__, TABLES, table)
