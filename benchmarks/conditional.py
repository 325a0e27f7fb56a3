"""Labels: are samples of the class that was asked for, as various as real ones, and can a classifier learn from them?

    mnist, fashion    conditional VAE, GAN and VAE-GAN with the recipes' settings, and GAN and VAE-GAN without labels beside
                      them; a generator that is told by an embedding; with it a discriminator that classifies, or has the
                      label among its inputs (mnist)

Steps were chosen with seed 100 on validation images, where the GAN on MNIST gained nothing by twice as many, and so was how modulation
starts. That modulation is the default was decided when an earlier table of test images was known, in which it was nearer to the
data; validation images said the same, and also that it costs some recall.

Metrics on the test split; the floor is what real test images score in the same classifier, the ceiling its guess of the most
frequent class. Each run is a line of docs/results/runs/conditional.jsonl.

    python -m benchmarks.conditional                 # every table; stopped, it goes on where it was
    python -m benchmarks.conditional mnist
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from amalgan.results import Row, show, write
from benchmarks import jobs

DATA = {"mnist": "mnist", "fashion": "fashion_mnist"}
STEPS, SEEDS, N = 4000, (0, 1, 2), 5000
PROTOCOL = 1  # raised whenever training or judging changes
METRICS = ("label_accuracy", "class_diversity", "tstr", "recall", "frechet", "coverage")

LABELS = {"condition": "labels"}
EMBEDDED = LABELS | {"decoder_condition": "embedding"}
ROWS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "vae-labels": ("vae", LABELS, ("mnist", "fashion")),
    "gan-labels": ("gan", LABELS, ("mnist", "fashion")),
    "vaegan-labels": ("vaegan", LABELS, ("mnist", "fashion")),
    "gan": ("gan", {}, ("mnist", "fashion")),
    "vaegan": ("vaegan", {}, ("mnist", "fashion")),
    "gan-embedding": ("gan", EMBEDDED, ("mnist", "fashion")),
    "gan-classifier": ("gan", EMBEDDED | {"discriminator_condition": "classifier"}, ("mnist",)),
    "gan-concatenation": ("gan", EMBEDDED | {"discriminator_condition": "concatenation"}, ("mnist",)),
}


def job(table: str, row: str, seed: int) -> jobs.Job:
    recipe, arguments, _ = ROWS[row]
    return {
        "protocol": PROTOCOL,
        "table": table,
        "recipe": recipe,
        "arguments": arguments,
        "seed": seed,
        "steps": STEPS,
    }


def do(job: jobs.Job) -> dict[str, Any]:
    """Train and judge."""
    source = DATA[job["table"]]
    data = jobs.opened(source)
    with jobs.trained("conditional", data, job) as run:
        found = jobs.scored(run.model, data, jobs.judged(source, "test", N), METRICS, N, job["seed"])
        return found | {"training_cpu_seconds": run.log()[-1]["cpu_seconds"]}


def rows(table: str, row: str, results: list[dict[str, Any]]) -> Iterator[Row]:
    """Of one cell."""
    recipe, arguments, _ = ROWS[row]
    settings = "; ".join([recipe, *(f"{name}={value}" for name, value in arguments.items())])
    note = f"{STEPS} steps; {settings}; {results[0]['prior']} prior; CPU seconds: training of one run"
    return jobs.rows_of(
        table, row, METRICS, results, n=N, command=f"python -m benchmarks.conditional {table}", note=note
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(DATA))
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    wanted = [(t, row, seed) for t in asked.tables for seed in SEEDS for row, (*_, on) in ROWS.items() if t in on]
    results = jobs.work("conditional", [job(*each) for each in wanted], do, asked.processes)
    done = jobs.by_cell(((table, row) for table, row, _ in wanted), results)
    write("conditional", [made for (table, row), some in done.items() for made in rows(table, row, some)])
    show("conditional")


if __name__ == "__main__":
    main()
