"""Defaults learn: every recipe and form, on the bundled digits, clearly better than no model at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import amalgan
from amalgan.metrics.reconstruction import pixel_error

CODED: dict[str, tuple[str, dict[str, Any]]] = {
    "ae": ("ae", {}),
    "vae": ("vae", {}),
    "joint": ("vaegan", {}),
    "learned": ("vaegan", {"form": "learned"}),
    "two-stage": ("vaegan", {"form": "two-stage"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CODED)
def test_reconstructions_are_far_better_than_the_mean_image(name: str, tmp_path: Path) -> None:
    recipe, arguments = CODED[name]
    run = amalgan.train(recipe, "digits", steps=600, out=tmp_path / "run", **arguments)
    x, train = run.data.test.tensor(), run.data.train.tensor()
    trivial = pixel_error(x, train.mean(0, keepdim=True).expand_as(x))
    assert pixel_error(x, run.reconstruct(x)) < 0.6 * trivial
    assert run.encode(x).std(0).max() > 0.5, "the code says nothing of the image"


@pytest.mark.slow
def test_samples_of_a_gan_are_digits_of_many_kinds(tmp_path: Path) -> None:
    run = amalgan.train("gan", "digits", steps=1500, out=tmp_path / "run")
    rows = {row.metric: row for row in run.evaluate(n=178)}
    assert rows["modes"].value >= 8
    frechet = rows["frechet"]
    assert frechet.floor is not None and frechet.ceiling is not None
    assert frechet.value < (frechet.floor + frechet.ceiling) / 2
    assert torch.isfinite(run.sample(64)).all()
