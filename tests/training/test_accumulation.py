"""A batch in parts: the step is that of the whole batch, and less is held at a time; or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from law_six import RUNS, plan, split, train
from test_law_six import equal

import amalgan
from amalgan import objectives as o
from amalgan.errors import UsageError
from amalgan.training import Trainer
from benchmarks.processes import kept_in_parts

# what decides by the whole batch, or takes several gradient steps in a turn
REFUSED = ("free-bits", "seqgan", "graphgan", "gail", "gate", "timegan", "adaptive", "matching", "unrolled", "best",
           "capacity", "balanced")  # fmt: skip
# what is kept from one pass to the next is kept from part to part: spectral normalisation's vectors, past weights
REMEMBERS = ("spectral", "history")
QUICK = ("vae", "gan", "joint", "packed", "deviation")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK))
        for name in RUNS
        if name not in REFUSED + REMEMBERS
    ],
)
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_equal_the_whole(name: str, parts: int) -> None:
    if (name, parts) == ("deviation", 4):
        pytest.skip("it looks at four examples together, and a part has two")
    equal(train(name, parts=parts), train(name), name)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("free-bits", "gate"))) for name in REFUSED]
)
def test_what_needs_the_whole_batch_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--accumulate 2 with .*\n.*(whole batch|several gradient steps)"):
        train(name, parts=2)


def test_a_turn_of_several_steps_is_refused() -> None:
    class Twice(o.Objective):
        def rounds(self, turn: Any) -> Iterator[list[o.Loss]]:
            for _ in range(2):
                yield [o.Loss("codes", turn.draw.model.encoder(turn.draw.x).square().mean(), ("encoder",))]

    of = replace(plan("vae"), stages=[(Twice(), 1.0)])
    Trainer(of, split("vae"), 1).step()
    with pytest.raises(UsageError, match="several gradient steps"):
        Trainer(of, split("vae"), 1, parts=2).step()


def test_the_batch_must_divide() -> None:
    with pytest.raises(UsageError, match="a batch of 8 in 3 parts over 1 process\n.*\n.*--batch 6"):
        Trainer(plan("vae"), [], 1, parts=3)
    with pytest.raises(UsageError, match="--accumulate 1 or more"):
        Trainer(plan("vae"), [], 1, parts=0)


def test_parts_are_the_draw_cut_up() -> None:
    """The same examples with the same noise, in the same order."""
    whole, cut = (Trainer(plan("vae"), split("vae"), 1, parts=parts) for parts in (1, 4))
    draw, parts = whole._draw(3), [cut._draw(3, part) for part in range(4)]
    assert torch.equal(torch.cat([part.x for part in parts]), draw.x)
    assert torch.equal(torch.cat([part.code for part in parts]), draw.code)


def test_a_run_remembers_its_parts(tmp_path: Path) -> None:
    given: dict[str, Any] = {"steps": 4, "width": 4, "latent": 4, "batch": 8, "precision": "fp32"}
    whole = amalgan.train("vae", "digits", out=tmp_path / "whole", **given)
    parts = amalgan.train("vae", "digits", out=tmp_path / "parts", accumulate=4, **given)
    assert parts.record["accumulate"] == 4 and amalgan.resume(tmp_path / "parts", steps=6).record["accumulate"] == 4
    for a, b in zip(whole.log(), parts.log()):
        assert a["reconstruction"] == pytest.approx(b["reconstruction"], rel=1e-4)


# Memory


@pytest.mark.parametrize("recipe", ["vae", "gan", "vaegan"])
def test_parts_take_less_memory(recipe: str) -> None:
    """What is kept for backward passes falls with the parts, weights excepted, which are kept, too."""
    whole, parts = (kept_in_parts(recipe, parts, batch=16, width=8, latent=4) for parts in (1, 4))
    assert 0.2 * whole < parts < 0.4 * whole
