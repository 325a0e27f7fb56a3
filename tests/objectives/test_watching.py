"""Terms that train nothing say what is there, under one name for each layer."""

from __future__ import annotations

import pytest
import torch

from amalgan import objectives as o
from amalgan import recipes
from amalgan.data import Spec
from amalgan.networks.attention import SelfAttention
from amalgan.noise import Noise
from amalgan.objectives.core import Turn


@pytest.mark.parametrize("condition", ["none", "labels"])
def test_each_layers_gamma_is_logged_and_trains_nothing(condition: str) -> None:
    spec = Spec("images", (1, 16, 16), ("a", "b"))
    small = {"width": 4, "latent": 3, "attention_at": 16, "condition": condition}
    model = recipes.plan("sagan", spec, small).model
    layers = [part for part in model.modules() if isinstance(part, SelfAttention)]
    for layer, gamma in zip(layers, (0.25, -0.5)):
        layer.gamma.data.fill_(gamma)
    draw = model.draw(torch.rand(2, 1, 16, 16), torch.tensor([0, 1]), Noise(0))
    found = list(o.Gammas().losses(Turn(draw, "generator")))
    values = {loss.name: float(loss.value) for loss in found}
    assert values == {"gamma decoder 16": 0.25, "gamma discriminator 16": -0.5}
    assert all(loss.weight == 0 and not loss.value.requires_grad for loss in found)
    assert list(o.Gammas().losses(Turn(draw, "discriminator"))) == []


def test_without_attention_there_is_no_gamma() -> None:
    model = recipes.plan("vaegan", Spec("images", (1, 8, 8)), {"width": 4}).model
    assert list(o.Gammas().losses(Turn(model.draw(torch.rand(2, 1, 8, 8), None, Noise(0)), "generator"))) == []
