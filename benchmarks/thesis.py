"""When does the VAE-GAN have the strengths of both? Same networks, same images seen, three seeds.

    python -m benchmarks.thesis                    every table; stopped, it goes on where it was
    python -m benchmarks.thesis mnist-short        one of them
    python -m benchmarks.thesis --explore DATA ROW STEPS [argument=value ...]
                                                   one run on the validation split, seed 100: never reported

Each run is a line of docs/results/runs/thesis.jsonl; the tables thesis-DATA-BUDGET of docs/results/images.json are
made from those lines. LAMBDA was chosen on validation splits (frontier pictures beside the tables).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import jobs
from benchmarks.machine import ROOT, data_folder

DATA = {"mnist": "mnist", "fashion": "fashion_mnist", "cifar": "cifar10/cifar10_jpg_60k.tar.gz"}
STEPS = {"short": 2000, "long": 7000}
TABLES = ("mnist-short", "fashion-short", "mnist-long", "fashion-long", "cifar-long")
SEEDS = (0, 1, 2)
METRICS = ("pixel_mse", "frechet", "precision", "recall", "coverage")

PICTURES = ROOT / "docs" / "results" / "pictures"  # of the long runs with the first seed

PROTOCOL = 3  # raised whenever the arithmetic of training or judging changes, so that old runs are not mistaken for new

# The weight of the VAE-GAN's game per value of x, for each data set: of those tried (0.125, the recipe's default, to 0.4) the
# largest whose pixel error on the validation split is within 1 % of the VAE's at both sizes; short budget, seed 100
# (docs/results/runs/explored.jsonl). MNIST z8 +1.2 % at 0.4, +0.4 % at 0.25; CIFAR z64 +5 % at 0.33
LAMBDA = {"mnist": 0.25, "fashion": 0.4, "cifar": 0.125}

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae-z8": ("vae", {"latent": 8}),
    "vaegan-z8": ("vaegan", {"latent": 8, "sees": "reconstructions"}),
    "vae-z64": ("vae", {"latent": 64}),
    "vaegan-z64": ("vaegan", {"latent": 64, "sees": "reconstructions"}),
    "gan": ("gan", {"latent": 64}),
}
BY_DEFAULT = {f"{row}-default": row for row in ("vaegan-z8", "vaegan-z64")}  # rows of the short tables besides


def do(job: dict[str, Any]) -> dict[str, Any]:
    """Train one run and judge it; one that was stopped goes on from its last checkpoint."""
    import time

    from amalgan.data import show
    from amalgan.metrics.evaluate import evaluate

    source, n = DATA[job["data"]], job["n"]
    data = jobs.opened(source)
    began = time.process_time()
    with jobs.trained("thesis", data, job) as run:
        training = run.log()[-1]["cpu_seconds"]
        against = jobs.judged(source, job["split"], n)
        asked = {"split": job["split"], "n": n, "seed": job["seed"], "k_importance": 50, "n_importance": 50}
        rows = evaluate(run.model, data, against=against, **asked)
        if job["split"] == "test" and job["seed"] == SEEDS[0] and job["steps"] == STEPS["long"]:
            PICTURES.mkdir(parents=True, exist_ok=True)
            name = job["recipe"] + (f"-z{job['arguments']['latent']}" if job["recipe"] != "gan" else "")
            show(run.sample(40), columns=20).save(PICTURES / f"images-{job['data']}-{name}.png")
    numbers = {f"{row.metric}{'/' + row.prior if row.prior else ''}": row.value for row in rows}
    bounds = {row.metric: [row.floor, row.ceiling] for row in rows}
    return {
        "numbers": numbers,
        "bounds": bounds,
        "features": next(r.features for r in rows if r.features),
        "n": rows[0].n,
        "training_cpu_seconds": training,
        "total_cpu_seconds": time.process_time() - began,
    }


def job(
    data: str, steps: int, row: str, seed: int, split: str = "test", lam: float | None = None, **more: Any
) -> dict[str, Any]:
    """The full description of one run; `lam` by default as chosen for the data."""
    recipe, arguments = ROWS[row]
    if recipe == "vaegan":
        more["lam"] = LAMBDA[data] if lam is None else lam
    return {
        "protocol": PROTOCOL,
        "data": data,
        "steps": steps,
        "recipe": recipe,
        "arguments": {**arguments, **more},
        "seed": seed,
        "split": split,
        "n": 5000,
    }


def table(name: str) -> list[Any]:
    """Run what is missing of a table and make its rows."""
    from amalgan import recipes
    from amalgan.metrics.intervals import seed_interval
    from amalgan.results import Row

    data, budget = name.split("-")
    wanted = {(row, seed): job(data, STEPS[budget], row, seed) for seed in SEEDS for row in ROWS}
    if budget == "short":
        default = recipes.parameters("vaegan")["lam"].default
        wanted |= {
            (name, seed): job(data, STEPS[budget], row, seed, lam=default)
            for seed in SEEDS
            for name, row in BY_DEFAULT.items()
        }
    results = dict(zip(wanted, jobs.work("thesis", list(wanted.values()), do)))
    rows: list[Any] = []
    for row in dict.fromkeys(row for row, _ in wanted):
        mine = [results[row, seed] for seed in SEEDS]
        prior = "standard" if row == "gan" else "fitted"
        for metric in METRICS:
            key = metric if metric == "pixel_mse" else f"{metric}/{prior}"
            values = [result["numbers"][key] for result in mine if key in result["numbers"]]
            if not values:
                continue
            between = seed_interval(values)
            floor, ceiling = mine[0]["bounds"][metric]
            settings = ", ".join(f"{k}={v}" for k, v in wanted[row, SEEDS[0]]["arguments"].items())
            rows.append(
                Row(
                    f"thesis-{name}",
                    row,
                    metric,
                    UNITS[metric],
                    "lower" if metric in ("pixel_mse", "frechet") else "higher",
                    value=between.value,
                    low=between.low,
                    high=between.high,
                    seeds=len(values),
                    n=mine[0]["n"],
                    floor=floor,
                    ceiling=ceiling,
                    command=f"python -m benchmarks.thesis {name}",
                    cpu_seconds=sum(r["training_cpu_seconds"] for r in mine),
                    **jobs.provenance(mine),
                    note=f"{STEPS[budget]} steps of 64 images; {settings}; {prior} prior",
                )
            )
    return rows + [row for z in (8, 64) for row in differences(name, z, results)]


def differences(name: str, z: int, results: dict[tuple[str, int], Any]) -> Iterator[Any]:
    """What the VAE-GAN changes against each parent, seed by seed, and whether it has the strengths of both.

    Errors and distances are positive and skewed (one seed of a GAN may be twice as bad as another), so they are compared
    by ratios: the interval is that of the mean difference of their logarithms.
    """
    from amalgan.metrics.intervals import difference
    from amalgan.results import Row

    def against(parent: str, metric: str) -> tuple[float, float, float]:
        def values(row: str) -> list[float]:
            key = metric if metric == "pixel_mse" else f"{metric}/{'standard' if row == 'gan' else 'fitted'}"
            found = [results[row, seed]["numbers"][key] for seed in SEEDS]
            return found if metric == "coverage" else [math.log(value) for value in found]

        value, low, high, _ = difference(values(f"vaegan-z{z}"), values(parent))
        return (value, low, high) if metric == "coverage" else (math.exp(value), math.exp(low), math.exp(high))

    vae = f"vae-z{z}"
    found = {
        "pixel_mse-to-vae": against(vae, "pixel_mse"),
        "frechet-to-vae": against(vae, "frechet"),
        "frechet-to-gan": against("gan", "frechet"),
        "coverage-to-vae": against(vae, "coverage"),
        "coverage-to-gan": against("gan", "coverage"),
    }
    low, high = ({name: bounds[i] for name, bounds in found.items()} for i in (1, 2))
    both = (
        low["pixel_mse-to-vae"] <= 1
        and max(high["frechet-to-vae"], high["frechet-to-gan"]) < 1
        and min(high["coverage-to-vae"], high["coverage-to-gan"]) >= 0
    )
    note = (
        "the VAE-GAN's value over its parent's on the same seed, for coverage minus its parent's; strengths of both: "
        "pixel error not above the VAE's, distance below both, coverage not below either, beyond the interval over seeds"
    )
    common: dict[str, Any] = {"seeds": len(SEEDS), "command": "python -m benchmarks.thesis", "note": note}
    for metric, bounds in found.items():
        unit, better = ("difference", "higher") if "coverage" in metric else ("ratio", "lower")
        yield Row("thesis-differences", f"{name}-z{z}", metric, unit, better, *bounds, **common)
    yield Row("thesis-differences", f"{name}-z{z}", "strengths-of-both", "1 = yes", "higher", float(both), **common)


UNITS = {
    "pixel_mse": "squared pixels",
    "frechet": "squared features",
    "precision": "share",
    "recall": "share",
    "coverage": "share",
}


def explore(data: str, words: list[str]) -> None:
    """Runs on the validation split with seed 100: `--explore mnist vaegan-z8 2000 lam=30 sees=reconstructions`."""
    row, steps, *rest = words
    more = {
        k: (float(v) if v.replace(".", "").replace("e-", "").isdigit() else v) for k, v in (w.split("=") for w in rest)
    }
    (result,) = jobs.work("explored", [job(data, int(steps), row, 100, split="validation", **more)], do, processes=1)
    shown = (
        "pixel_mse",
        "frechet/fitted",
        "frechet/standard",
        "coverage/fitted",
        "coverage/standard",
        "recall/fitted",
        "precision/fitted",
        "kl",
        "frechet_reconstruction",
    )
    print(
        data,
        row,
        steps,
        more,
        {k: float(f"{result['numbers'][k]:.4g}") for k in shown if k in result["numbers"]},
        f"{result['training_cpu_seconds']:.0f} CPU s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--explore", nargs="+", metavar="WORD", help="DATA ROW STEPS [argument=value ...]")
    a = parser.parse_args()
    if not data_folder().is_dir():
        sys.exit(f"the data sets are not in {data_folder()}; set AMALGAN_TEST_DATA")
    if a.explore:
        explore(a.explore[0], a.explore[1:])
        return
    from amalgan import results

    for name in a.tables or TABLES:
        results.write("images", table(name))
        results.show("images")


if __name__ == "__main__":
    main()
