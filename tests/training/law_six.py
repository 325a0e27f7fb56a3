"""One process of law 6: trains a recipe on its share of the batch; the first process saves what came out.

    torchrun --standalone --nproc-per-node=2 law_six.py OUT RECIPE '{"argument": value}'

Every process starts from other weights, so that the first one's must reach them all.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import torch
from safetensors.torch import save_file

from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.training import Trainer, distributed

SPEC, STEPS = Spec("images", (3, 8, 8)), 10


def train(recipe: str, arguments: dict[str, object]) -> dict[str, torch.Tensor]:
    torch.manual_seed(1 + distributed.rank())
    plan = recipes.plan(recipe, SPEC, {"latent": 3, "width": 4, "batch": 8, **arguments})
    x = torch.randint(0, 256, (30, *SPEC.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    trainer = Trainer(replace(plan, precision="fp32"), Split(x, None), STEPS, seed=4)
    for _ in trainer.run():
        pass
    trainer.check()
    means = {f"mean.{name}": torch.tensor(value) for name, value in trainer.signals.read().items()}
    average = {f"average.{name}": value for name, value in trainer.average.items()}
    made = {**trainer.model.state_dict(), **average, **means}
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in made.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.start()
    try:
        made = train(sys.argv[2], json.loads(sys.argv[3]))
        sizes = [torch.zeros(1) for _ in range(distributed.world())]
        torch.distributed.all_gather(sizes, sum(value.double().square().sum() for value in made.values()).float()[None])
        assert all(torch.equal(size, sizes[0]) for size in sizes), "the processes ended with different weights"
        if distributed.is_first():
            save_file(made, sys.argv[1])
    finally:
        distributed.stop()
