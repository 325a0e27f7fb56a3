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
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

from amalgan.results import Row, show, write
from benchmarks import jobs
from benchmarks.machine import ROOT, data_folder

STEPS, SEEDS = 4000, [0, 1, 2]
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "gan": ("gan", {}),
    "vaegan": ("vaegan", {}),
    "gan-augmented": ("gan", {"augment": "adaptive"}),
}
METRICS = ("memorisation", "memorisation_features", "memorisation_ratio", "uniqueness", "recall", "coverage", "frechet")


@cache
def opened() -> Any:
    from amalgan import data

    return data.open(str(data_folder() / "olivetti" / "olivetti_faces_png.zip"))


@cache
def judged(split: str) -> Any:
    from amalgan.metrics.evaluate import reference

    return reference(opened(), split, 5000)


def job(row: str, seed: int) -> jobs.Job:
    recipe, arguments = ROWS[row]
    return {"row": row, "recipe": recipe, "arguments": arguments, "seed": seed, "steps": STEPS}


def do(job: jobs.Job) -> dict[str, Any]:
    """Train, judge, ask the doctor."""
    from amalgan.noise import key

    folder = ROOT / "runs" / "faces" / f"{key(jobs.key(job)):x}"
    run = jobs.trained(folder, opened(), job)
    against = judged("test" if job["seed"] in SEEDS else "validation")
    found = jobs.scored(run.model, opened(), against, METRICS, against.n, job["seed"]) | {
        "n": against.n,
        "findings": [finding.name for finding in run.diagnose().findings],
        "training_cpu_seconds": run.log()[-1]["cpu_seconds"],
    }
    shutil.rmtree(folder)
    return found


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
