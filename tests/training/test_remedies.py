"""Law 5 for what remembers: stopping and going on is bit-identical to not stopping, through a checkpoint on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from remedies import REMEDIES

from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.training import Trainer, checkpoints

IMAGES = Spec("images", (3, 8, 8))
DATA = Split(torch.randint(0, 256, (30, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8), None)


def trainer(name: str, seed: int = 1) -> Trainer:
    torch.manual_seed(seed)
    arguments = {
        "latent": 3,
        "width": 4,
        "batch": 8,
        "lr": 1e-2,
        "game": "non-saturating",
        "lazy": 2,
        "critic_steps": 2,
    }
    plan = REMEDIES[name](recipes.plan("gan", IMAGES, arguments))
    return Trainer(replace(plan, precision="fp32"), DATA, 8, seed=2)


@pytest.mark.parametrize("name", REMEDIES)
def test_going_on_is_bit_identical_to_not_stopping(name: str, tmp_path: Path) -> None:
    whole, first = trainer(name), trainer(name)
    start = {key: value.clone() for key, value in whole.model.state_dict().items()}
    for _ in whole.run():
        pass
    for _ in first.run(until=5):
        pass
    checkpoints.write(tmp_path, first.state(), 5)
    groups, record, _ = checkpoints.latest(tmp_path)
    second = trainer(name, seed=99)
    second.load_state(groups, record["step"])
    for _ in second.run():
        pass
    second.check()
    ours, theirs = second.state(), whole.state()
    assert ours.keys() == theirs.keys()
    for group, tensors in theirs.items():
        assert tensors.keys() == ours[group].keys()
        assert all(torch.equal(value, ours[group][key]) for key, value in tensors.items()), group
    moved = [key for key, value in whole.model.state_dict().items() if not torch.equal(value, start[key])]
    learnt = {key for key, _ in whole.model.named_parameters()}
    assert learnt <= set(moved), "every weight learns"
    remembers = {"adaptive": "augmentation", "history": "history_decoder_0", "spectral": "weight.0.v"}.get(name)
    assert remembers is None or any(remembers in key for key in moved)
