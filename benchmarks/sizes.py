"""What a step takes, in time and memory, by recipe and size of the images: 3 x S x S, batch 64, default widths.

    python -m benchmarks.sizes         -> table `sizes` of docs/results/speed.json; about six CPU-minutes

Each in a process of its own, on one thread: the mean of CPU-seconds over eight steps, and by how much the process grew at
most, above what it held before the model was made. On a CUDA device, if there is one: wall time, and what was allocated.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from amalgan.results import Row, show, write
from benchmarks import jobs

SIDES = (32, 64, 128)
BATCH = 64
STEPS, WARM = 11, 3  # slope penalties act on every eighth step, so on one of those that count
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "gan": ("gan", {}),
    "vaegan": ("vaegan", {}),
    "r3gan": ("r3gan", {}),
    "sagan": ("sagan", {}),
    "sagan-checkpointed": ("sagan", {"checkpointed": True}),
}
METRICS = {"seconds": "seconds a step", "memory": "MB"}


def job(row: str, side: int, device: str) -> jobs.Job:
    recipe, arguments = RECIPES[row]
    return {"row": row, "recipe": recipe, "arguments": arguments, "side": side, "device": device}


def do(job: jobs.Job) -> dict[str, Any]:
    """Measured by a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.sizes", "--one", jobs.key(job)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def measured(job: jobs.Job) -> dict[str, float]:
    """Seconds and megabytes."""
    import torch

    from amalgan import recipes
    from amalgan.data import Spec
    from amalgan.data.core import Split
    from amalgan.training import Trainer

    torch.set_num_threads(1)
    side, cuda = job["side"], job["device"] == "cuda"
    images = Split(torch.randint(0, 256, (4 * BATCH, 3, side, side), dtype=torch.uint8), None)
    before = held()
    plan = recipes.plan(job["recipe"], Spec("images", (3, side, side)), {**job["arguments"], "batch": BATCH})
    trainer = Trainer(plan, images, STEPS, device=job["device"])
    clock = time.perf_counter if cuda else time.process_time
    taken = []
    for _ in range(STEPS):
        start = clock()
        trainer.step()
        if cuda:
            torch.cuda.synchronize()
        taken.append(clock() - start)
    grown = torch.cuda.max_memory_allocated() / 2**20 if cuda else held() - before
    return {"seconds": statistics.mean(taken[WARM:]), "memory": grown}


def held() -> float:
    """The most memory that this process ever held, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2 ** (20 if sys.platform == "darwin" else 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--one", help="a single job, whose result is printed")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(json.loads(asked.one))))
        return
    wanted = [job(row, side, asked.device) for side in SIDES for row in RECIPES]
    found = jobs.work("sizes", wanted, do, processes=1)
    rows = [
        Row("sizes", f"{job['row']}-{job['side']}", metric, unit, "lower", result[metric], seeds=1, n=STEPS - WARM,
            command="python -m benchmarks.sizes", **jobs.provenance([result]))
        for job, result in zip(wanted, found)
        for metric, unit in METRICS.items()
    ]  # fmt: skip
    write("speed", rows)
    show("speed")


if __name__ == "__main__":
    main()
