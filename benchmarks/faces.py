"""Four hundred faces: do the defaults collapse, or learn the examples by heart?

    faces    recipes as they come, on 327 training images of 40 people, grey, 64 px, 4,000 steps: 780 times each

Whether samples are near copies of training images is measured beside held-out images, which are of the same people and cannot
be copies; 34 of them, so shares are coarse. What the doctor says of each run stands in its notes. The nearest training
images are pictures in the run's report: `amalgan compare --data olivetti_faces_png.zip --recipes vae,gan,vaegan --steps 4000`.

    python -m benchmarks.faces                 # three seeds; stopped, it goes on where it was
    python -m benchmarks.faces --seeds 100     # to choose settings by, on validation images: nothing is written but the runs
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any

from amalgan.results import Row, show, write
from benchmarks import jobs

DATA, STEPS, SEEDS = "olivetti/olivetti_faces_png.zip", 4000, [0, 1, 2]
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "gan": ("gan", {}),
    "vaegan": ("vaegan", {}),
    "gan-augmented": ("gan", {"augment": "adaptive"}),
}
METRICS = ("memorisation", "memorisation_features", "memorisation_ratio", "uniqueness", "recall", "coverage", "frechet")


def job(row: str, seed: int) -> jobs.Job:
    recipe, arguments = ROWS[row]
    return {"row": row, "recipe": recipe, "arguments": arguments, "seed": seed, "steps": STEPS}


def do(job: jobs.Job) -> dict[str, Any]:
    """Train, judge, ask the doctor."""
    data = jobs.opened(DATA)
    against = jobs.judged(DATA, "test" if job["seed"] in SEEDS else "validation", 5000)
    with jobs.trained("faces", data, job) as run:
        return jobs.scored(run.model, data, against, METRICS, against.n, job["seed"]) | {
            "n": against.n,
            "findings": [finding.name for finding in run.diagnose().findings],
            "training_cpu_seconds": run.log()[-1]["cpu_seconds"],
        }


def rows(row: str, results: list[dict[str, Any]]) -> Iterator[Row]:
    """Of one cell, and what the doctor said."""
    said = Counter(name for result in results for name in result["findings"])
    findings = ", ".join(f"{name} ({times} of {len(results)})" for name, times in said.items()) or "nothing"
    note = f"{STEPS:,} steps; the doctor says: {findings}; CPU seconds: training of one run"
    return jobs.rows_of(
        "faces", row, METRICS, results, n=results[0]["n"], command="python -m benchmarks.faces", note=note
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    wanted = [(row, seed) for seed in asked.seeds for row in asked.rows]
    name = "faces" if set(asked.seeds) <= set(SEEDS) else "faces-explored"
    results = jobs.work(name, [job(*each) for each in wanted], do, asked.processes)
    if asked.seeds == SEEDS:
        done = jobs.by_cell((row for row, _ in wanted), results)
        write("conditional", [made for row, some in done.items() for made in rows(row, some)])
        show("conditional")


if __name__ == "__main__":
    main()
