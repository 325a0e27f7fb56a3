"""Does attention help? The same networks with as many weights, but for what a layer of attention may look at.

    long-range         two halves that must match (`amalgan.data.halves`): grey, 16 x 64 px
    cifar-attention    CIFAR-10, 32 x 32 px, colour

In a row `attention` layers look at all pixels of their maps, in a row `local` each pixel at itself alone, through the same four
convolutions. Steps, batch, seeds and first weights are the same. Agreement is how far beyond chance the halves of well-formed
images match, of 1 if all do; a generator of one pattern has none.

Step sizes and slope penalties were chosen with seed 100 on validation data, of two or three each with the recipe's own among
them, as those with which it learned most. 5,000 steps are what a CPU does in ten minutes, and few for any GAN. With networks
this narrow sagan learned no more than one pattern of the halves, so r3gan is what attention is given to there.

    python -m benchmarks.attention                      # both tables, seeds 0 to 2; stopped, it goes on where it was
    python -m benchmarks.attention --seeds 100          # to choose settings by: nothing is written but the runs
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from amalgan.networks.attention import SelfAttention
from amalgan.results import Row, show, write
from benchmarks import jobs

DATA = {"long-range": "halves", "cifar-attention": "cifar10/cifar10_jpg_60k.tar.gz"}
STEPS, SEEDS, N = 5000, [0, 1, 2], 5000
PROTOCOL = {"sagan": 2, "r3gan": 3}  # of each recipe, raised whenever training or judging changes
METRICS = {
    "long-range": ("agreement", "formed", "modes", "frechet", "recall", "coverage"),
    "cifar-attention": ("frechet", "kernel", "recall", "coverage"),
}
COMPARED = {"long-range": ("r3gan-attention", "r3gan-local"), "cifar-attention": ("sagan-attention", "sagan-local")}
NARROW = {"width": 16, "batch": 32, "attention": "released"}
SAGAN: dict[str, Any] = NARROW | {"lr": 3e-4}  # the discriminator's is four times as large
R3GAN: dict[str, Any] = NARROW | {"lr": 1e-3, "r1": 0.03, "r2": 0.03}
ROWS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "sagan-attention": ("sagan", SAGAN, True),
    "sagan-local": ("sagan", SAGAN, False),
    "r3gan-attention": ("r3gan", R3GAN, True),
    "r3gan-local": ("r3gan", R3GAN, False),
}


class Local(SelfAttention):
    """y = x + gamma v(s h(x)), s = sigmoid(<f(x), g(x)>): as attention of pixels that look at themselves alone."""

    def forward(self, x: Tensor) -> Tensor:
        s = torch.sigmoid((self.f(x) * self.g(x)).sum(1, keepdim=True))
        return x + self.gamma * self.v(s * self.h(x))


def job(table: str, row: str, seed: int) -> jobs.Job:
    recipe, arguments, far = ROWS[row]
    about = {"protocol": PROTOCOL[recipe], "table": table, "seed": seed, "steps": STEPS}
    return about | {"recipe": recipe, "arguments": arguments, "far": far}


def do(job: jobs.Job) -> dict[str, Any]:
    """Train and judge, on validation data where the seed is one that settings are chosen by."""
    import time

    from amalgan import recipes
    from amalgan.noise import key
    from amalgan.training import Trainer

    source = DATA[job["table"]]
    data, against = jobs.opened(source), jobs.judged(source, "test" if job["seed"] in SEEDS else "validation", N)
    torch.manual_seed(key(job["seed"], "weights"))
    plan = recipes.plan(job["recipe"], data.spec, job["arguments"])
    for module in plan.model.modules():
        if isinstance(module, SelfAttention) and not job["far"]:
            module.__class__ = Local
    trainer = Trainer(plan, data.train, job["steps"], job["seed"])
    start = time.process_time()
    for _ in trainer.run():
        pass
    trainer.check()
    training = time.process_time() - start
    gammas = {name: value for name, value in trainer.signals.read().items() if name.startswith("gamma")}
    with trainer.averaged_model() as model:
        found = jobs.scored(model, data, against, METRICS[job["table"]], N, job["seed"])
    parameters = sum(p.numel() for p in trainer.model.parameters())
    return found | {"gammas": gammas, "parameters": parameters, "training_cpu_seconds": round(training, 1)}


def rows(table: str, row: str, results: list[dict[str, Any]]) -> Iterator[Row]:
    """Of one cell."""
    recipe, arguments, far = ROWS[row]
    settings = " ".join([recipe, *(f"--{name} {value}" for name, value in arguments.items())])
    where = "looks everywhere" if far else "each pixel looks at itself alone"
    note = (
        f"{settings}; {where}; {STEPS:,} steps; {results[0]['parameters']:,} weights; CPU seconds: training of one run"
    )
    return jobs.rows_of(
        table, row, METRICS[table], results, n=N, command=f"python -m benchmarks.attention {table}", note=note
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(DATA))
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="of every table; by default those that it compares")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    wanted = [
        (table, row, seed) for table in asked.tables for seed in asked.seeds for row in asked.rows or COMPARED[table]
    ]
    name = "attention" if set(asked.seeds) <= set(SEEDS) else "attention-explored"
    results = jobs.work(name, [job(*each) for each in wanted], do, asked.processes)
    if asked.seeds == SEEDS:
        done = jobs.by_cell(((table, row) for table, row, _ in wanted), results)
        write("conditional", [made for (table, row), some in done.items() for made in rows(table, row, some)])
        show("conditional")


if __name__ == "__main__":
    main()
