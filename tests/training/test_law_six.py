"""Law 6: n processes on batch B/n each equal one process on batch B, to float tolerance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from law_six import train
from safetensors.torch import load_file

from amalgan.errors import UsageError
from amalgan.training import Trainer, distributed

SCRIPT = Path(__file__).with_name("law_six.py")
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "vae-free-bits": ("vae", {"free_bits": 0.02, "lr": 1e-2}),
    "gan": ("gan", {"critic_steps": 2, "gradient_penalty": 1.0}),
    "vaegan": ("vaegan", {}),
    "vaegan-gate": ("vaegan", {"form": "learned", "gate": True, "lr": 1e-2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_equal_one(name: str, tmp_path: Path) -> None:
    recipe, arguments = RUNS[name]
    out = tmp_path / "state.safetensors"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = os.pathsep.join([str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*torchrun, str(SCRIPT), str(out), recipe, json.dumps(arguments)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two, one = load_file(out), train(recipe, arguments)
    assert two.keys() == one.keys()
    for key, value in one.items():
        # Adam divides by the root of squares that start at nothing, so rounding comes out larger than it went in
        assert torch.allclose(two[key], value, rtol=1e-3, atol=2e-4), (key, (two[key] - value).abs().max())
    start = {k: v for k, v in _untrained(recipe, arguments).items()}
    moved = max(float((one[key] - value).abs().max()) for key, value in start.items())
    assert moved > 3e-3, "the tolerance must be far below what training does"


def _untrained(recipe: str, arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
    from law_six import SPEC

    from amalgan import recipes

    torch.manual_seed(1)
    plan = recipes.plan(recipe, SPEC, {"latent": 3, "width": 4, "batch": 8, **arguments})
    return plan.model.state_dict()


def test_without_other_processes_everything_is_the_identity() -> None:
    value = torch.tensor([1.0, 2.0])
    assert distributed.world() == 1 and distributed.rank() == 0 and distributed.is_first()
    assert distributed.mean(value) is value and distributed.agree(0.1) == 0.1


def test_a_batch_must_divide(monkeypatch: pytest.MonkeyPatch) -> None:
    from test_trainer import X, Split, plan

    monkeypatch.setattr(distributed, "world", lambda: 3)
    with pytest.raises(UsageError, match="--batch 6"):
        Trainer(plan(), Split(X, None), 1)
