"""One process of law 6: trains recipes on its share of the batch; the first process saves what came out.

    torchrun --standalone --nproc-per-node=2 law_six.py FOLDER NAME...

A name with "+shard" behind trains with moments and averages shared out. Every process starts from other weights, so that the first one's must reach them all.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from remedies import REMEDIES
from safetensors.torch import save_file

from amalgan import objectives as o
from amalgan import recipes
from amalgan.data import Spec, graphs
from amalgan.data.core import Split
from amalgan.objectives import Objective
from amalgan.training import Plan, Trainer, distributed

STEPS = 10
KARATE = graphs.open("karate")
MASS = {"environment": "point-mass", "horizon": 8, "choices": 0, "low": [-1, -1], "high": [1, 1], "expert": None}
SPECS = {
    "images": Spec("images", (3, 8, 8)),
    "text": Spec("text", (5,), (), {"units": "words", "symbols": [*"abcdefg"], "ends": True}),
    "series": Spec("series", (5, 2), ("a", "b"), {"changes": [0.4, 0.3]}),
    "waves": Spec("waves", (1, 300)),
    "edges": KARATE.spec,
    "control": Spec("control", (6,), (), {**MASS, "mean": [0.0] * 4, "deviation": [1.0] * 4}),
}

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "free-bits": ("vae", {"free_bits": 0.02, "lr": 1e-2}),
    "gan": ("gan", {"game": "non-saturating", "critic_steps": 2, "gradient_penalty": 1.0}),
    "joint": ("vaegan", {}),
    "mle": ("mle", {}),
    "seqgan": ("seqgan", {"pretrain": 0.3, "judging": 0.3, "rollouts": 2, "critic_steps": 2, "dropout": 0.0}),
    "line": ("line", {}),
    "graphgan": ("graphgan", {"negatives": "mixed", "start": "random", "lr": 1e-2}),
    "gail": ("gail", {"cloned": 0.3, "episodes": 4, "critic_steps": 2}),
    "gate": ("vaegan", {"form": "learned", "game": "minimax", "gate": True, "lr": 1e-2}),
    "wavegan": ("wavegan", {"critic_steps": 2, "lr": 1e-2}),
    "rgan": ("rgan", {"game": "non-saturating", "gradient_penalty": 1.0, "r1": 0.0}),
    "timegan": ("timegan", {"embedding": 0.3, "supervision": 0.2, "rest": 0.5}),
    **{name: ("gan", {"game": "non-saturating", "lr": 1e-2}) for name in REMEDIES},
    "capacity": ("vae", {"lr": 1e-2}),
    "balanced": ("vaegan", {"game": "non-saturating", "r1": 0.0, "r2": 0.0}),
}
# terms that no recipe has: the recipe's networks, and these to train them by
TERMS: dict[str, Objective] = {
    "capacity": o.Reconstruction() + 5 * o.Capacity(o.warm_up(0.1, share=0.5)),
    "balanced": o.vae() + o.Balanced(o.gan("non-saturating", ("reconstruction", "fake")), share=0.3, every=3),
}


def plan(name: str) -> Plan:
    torch.manual_seed(1 + distributed.rank())
    recipe, arguments = RUNS[name]
    known = recipes.parameters(recipe)
    small = {name: value for name, value in {"latent": 3, "width": 4, "batch": 8}.items() if name in known}
    made = recipes.plan(recipe, SPECS[kind(name)], {**small, **arguments})
    made = replace(made, precision="fp32", stages=[(TERMS[name], 1.0)] if name in TERMS else made.stages)
    return REMEDIES.get(name, replace)(made)


def kind(name: str) -> str:
    return recipes.modality(RUNS[name][0]).names[0]


def split(name: str) -> Split:
    """30 examples of the kind of data that a run takes."""
    source = torch.Generator().manual_seed(0)
    shape = (30, *SPECS[kind(name)].shape)
    if kind(name) == "text":
        return Split(torch.randint(0, 7, shape, generator=source), None)
    if kind(name) == "series":
        return Split(torch.rand(shape, generator=source), torch.arange(30) % 2)
    if kind(name) == "waves":
        return Split(torch.randint(-9000, 9000, shape, generator=source, dtype=torch.int16), None)
    if kind(name) == "control":
        return Split(torch.randn(shape, generator=source), None)
    if kind(name) == "edges":
        return KARATE.train
    return Split(torch.randint(0, 256, shape, generator=source, dtype=torch.uint8), None)


def train(name: str, **options: Any) -> dict[str, torch.Tensor]:
    trainer = Trainer(plan(name), split(name), STEPS, seed=4, **options)
    for _ in trainer.run():
        pass
    trainer.check()
    means = {f"mean.{name}": torch.tensor(value) for name, value in trainer.signals.read().items()}
    own = trainer.model.state_dict()
    made = {name: value.detach().clone() for name, value in own.items()} | means
    with trainer.averaged_model():
        made |= {f"average.{name}": own[name] for name in trainer._own if trainer.plan.ema}
        floats = {name: value for name, value in made.items() if value.is_floating_point()}
        return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in floats.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.start()
    try:
        for asked in sys.argv[2:]:
            name, _, shared = asked.partition("+")
            made = train(name, shard=bool(shared))
            for key, value in made.items():
                assert torch.allclose(distributed.mean(value), value, rtol=1e-6), f"{key} differs between processes"
            if distributed.is_first():
                save_file(made, Path(sys.argv[1]) / f"{asked}.safetensors")
    finally:
        distributed.stop()
