"""What training in several processes sends, and what each of them holds: 3 x 32 x 32 images, batch 64, default widths.

python -m benchmarks.processes         -> docs/results/processes.json and .md; about four CPU-minutes, two processes

communication    what one process hands to collective operations in a step, counted where all of them pass; with
                 --shard what a gradient and a weight take on their way to and from the one process that moves it
memory           most that is kept for backward passes at a time, of a batch in 4 parts over that of a whole one;
                 moments and averages that the fullest of 4 processes keeps with --shard, over those that all keep
overlap          seconds a step with gradients averaged after the backward pass, over those with buckets of 1 MB
                 averaged while it goes on (hooks, as DistributedDataParallel does): rounds taken in turns
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.results import Row, show, write
from amalgan.training import Trainer, distributed
from benchmarks.machine import processor

COMMAND = "make results-processes"
NAMES = ("vae", "gan", "vaegan")
SIDE, BATCH = 32, 64
LAZY = 8  # slope penalties act on every eighth step
ROUNDS, STEPS, BUCKET = 15, 3, 2**20
# one backward pass a network, so that a bucket is done when its gradients are there
OVERLAPPED: dict[str, dict[str, Any]] = {"vae": {}, "gan": {"r1": 0.0, "r2": 0.0}}


def trainer(name: str, batch: int = BATCH, **options: Any) -> Trainer:
    given = {key: options.pop(key) for key in list(options) if key in recipes.parameters(name)}
    torch.manual_seed(1)
    x = torch.randint(0, 256, (2 * batch, 3, SIDE, SIDE), dtype=torch.uint8)
    plan = recipes.plan(name, Spec("images", (3, SIDE, SIDE)), {"batch": batch, **given})
    return Trainer(replace(plan, precision="fp32"), Split(x, None), 10_000, seed=2, **options)


# Communication


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Bytes handed to each collective operation."""
    found: Counter[str] = Counter()
    plain = distributed.together

    def counting(operation: Callable[..., object], tensor: Tensor, *more: int) -> None:
        found[operation.__name__] += tensor.nbytes
        plain(operation, tensor, *more)

    distributed.together = counting
    try:
        yield found
    finally:
        distributed.together = plain


def sent(made: Trainer, steps: int = LAZY) -> Counter[str]:
    """Bytes a step, in the mean over so many, by operation; the first step, which gives all the same weights, left out."""
    made.step()
    with counted() as found:
        for _ in range(steps):
            made.step()
    return Counter({name: total // steps for name, total in found.items()})


# Memory


@contextmanager
def most_kept() -> Iterator[list[int]]:
    """The most bytes that graphs kept for backward passes at a time, as [bytes]; what is kept twice counts once."""
    held: Counter[int] = Counter()
    sizes: dict[int, int] = {}
    peak = [0]

    def forget(place: int) -> None:
        held[place] -= 1
        if not held[place]:
            del sizes[place]

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # of its own output a node would keep itself alive
            storage = tensor.untyped_storage()
            place = storage.data_ptr()
            held[place] += 1
            sizes[place] = storage.nbytes()
            peak[0] = max(peak[0], sum(sizes.values()))
            weakref.finalize(self, forget, place)

    with saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield peak


def kept_in_parts(name: str, parts: int, batch: int = BATCH, **arguments: Any) -> int:
    made = trainer(name, batch, parts=parts, **arguments)
    with most_kept() as peak:
        made.step()
    return peak[0]


# Overlap


class Buckets:
    """Gradients on their way while the backward pass goes on, in buckets from the last layer to the first."""

    def __init__(self, networks: dict[str, list[nn.Parameter]]) -> None:
        self.sent: dict[nn.Parameter, tuple[Any, Tensor, list[nn.Parameter]]] = {}
        for parameters in networks.values():
            bucket: list[nn.Parameter] = []
            for parameter in reversed(parameters):
                bucket.append(parameter)
                if 4 * sum(p.numel() for p in bucket) >= BUCKET or parameter is parameters[0]:
                    self._watch(bucket)
                    bucket = []

    def _watch(self, bucket: list[nn.Parameter]) -> None:
        there: set[nn.Parameter] = set()

        def come(parameter: nn.Parameter) -> None:
            there.add(parameter)
            if len(there) == len(bucket):
                there.clear()
                flat = torch.cat([p.grad.flatten() for p in bucket if p.grad is not None])
                self.sent[bucket[0]] = dist.all_reduce(flat, async_op=True), flat, bucket

        for parameter in bucket:
            parameter.register_post_accumulate_grad_hook(come)

    def average(self, parameters: list[nn.Parameter], _: Any = None) -> None:
        """In place of `distributed.average_gradients`."""
        for first in [parameter for parameter in parameters if parameter in self.sent]:
            work, flat, bucket = self.sent.pop(first)
            work.wait()
            distributed._back(flat / distributed.world(), [p.grad for p in bucket if p.grad is not None])


def overlap(name: str) -> list[float]:
    """Of each round, seconds after the backward pass over seconds with buckets."""
    after, within = (trainer(name, 32, width=64, **OVERLAPPED[name]) for _ in range(2))
    plain, buckets = distributed.average_gradients, Buckets(within.networks)

    def timed(made: Trainer, average: Callable[..., None]) -> float:
        distributed.average_gradients = average
        distributed.wait()
        start = time.perf_counter()
        for _ in range(STEPS):
            made.step()
        distributed.wait()
        return time.perf_counter() - start

    ratios = [timed(after, plain) / timed(within, buckets.average) for _ in range(ROUNDS)]
    distributed.average_gradients = plain
    for one, other in zip(after.model.parameters(), within.model.parameters()):
        assert torch.allclose(one, other, atol=1e-4), "they do not train alike"
    return ratios[2:]


# All of it


def work(out: Path) -> None:
    """One of several processes."""
    torch.set_num_threads(1)
    distributed.start()
    found = {
        "sent": {name: [sum(sent(trainer(name, shard=shard)).values()) for shard in (False, True)] for name in NAMES},
        "overlap": {name: overlap(name) for name in OVERLAPPED},
    }
    if distributed.is_first():
        out.write_text(json.dumps(found))
    distributed.stop()


def shares(name: str, processes: int) -> float:
    """Weights whose moments and average the fullest process keeps, over all."""
    plain, distributed.world = distributed.world, lambda: processes
    try:
        parameters = list(trainer(name).model.parameters())
        owners = distributed.owners(parameters)
        loads = [sum(p.numel() for p in parameters if owners[p] == process) for process in range(processes)]
        return max(loads) / sum(loads)
    finally:
        distributed.world = plain


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        subprocess.run([*launch, "-m", "benchmarks.processes", "--out", str(out)], check=True, timeout=1200)
        found = json.loads(out.read_text())
    common: dict[str, Any] = {"command": COMMAND, "device": f"{processor()}, 1 thread a process, gloo"}
    rows = []
    for name in NAMES:
        for row, total in zip((name, f"{name}-shared"), found["sent"][name]):
            rows.append(Row("communication", row, "sent", "MB a step", "lower", round(total / 1e6, 3), n=LAZY,
                            note="to collective operations, by each of 2 processes", **common))  # fmt: skip
        made = trainer(name)
        weights = sum(p.numel() for p in made.model.parameters())
        rows.append(Row("communication", name, "weights", "millions", "lower", round(weights / 1e6, 3), **common))
        kept = kept_in_parts(name, 4) / kept_in_parts(name, 1)
        rows.append(Row("memory", name, "kept_in_4_parts", "of the whole batch's", "lower", round(kept, 3),
                        floor=0.25, ceiling=1.0, **common))  # fmt: skip
        rows.append(Row("memory", name, "shared_by_4", "of what each keeps without", "lower",
                        round(shares(name, 4), 3), floor=0.25, ceiling=1.0, **common))  # fmt: skip
    for name, ratios in found["overlap"].items():
        low, middle, high = sorted(ratios)[1], statistics.median(ratios), sorted(ratios)[-2]
        rows.append(Row("overlap", name, "ratio", "seconds after / seconds within", "higher", round(middle, 3),
                        round(low, 3), round(high, 3), n=len(ratios), floor=1.0,
                        note=f"interval: all rounds but the lowest and the highest; {STEPS} steps a round, width 64, batch 32;"
                        " on a machine that had other work", **common))  # fmt: skip
    write("processes", rows)
    show("processes")


if __name__ == "__main__":
    if "--out" in sys.argv:
        work(Path(sys.argv[sys.argv.index("--out") + 1]))
    else:
        main()
