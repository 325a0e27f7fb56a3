"""Spectral normalisation: the largest singular value is one, and what it remembers is saved."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from amalgan.errors import UsageError
from amalgan.networks import images, points, series
from amalgan.networks.normalise import spectral


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layers_have_the_norm_one(precision: str) -> None:
    torch.manual_seed(0)
    made = spectral(images.Discriminator((3, 16, 16), 8))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for _ in range(100):
            made(torch.rand(2, 3, 16, 16))
    layers = [*made.trunk.convolutions, made.verdict]
    made.eval()
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=2e-3)


def test_a_network_of_points_lengthens_nothing() -> None:
    torch.manual_seed(0)
    made = spectral(points.Discriminator((5,), 16))
    with torch.no_grad():
        for p in made.parameters():
            p *= 30  # whatever the weights
        for _ in range(300):
            made(torch.randn(2, 5))
    made.eval()
    x, y = torch.randn(2, 500, 5)
    assert ((made(x)[0] - made(y)[0]).abs() <= 1.001 * (x - y).norm(dim=1)).all()


def test_the_weight_by_hand() -> None:
    """diag(3, 4) / 4, and the slope by the first entry: 1/4, no more, since 4 alone is what is divided by."""
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.diag(torch.tensor([3.0, 4.0]))
    made = spectral(nn.Sequential(layer))
    for _ in range(60):
        made(torch.zeros(1, 2))
    assert torch.allclose(layer.weight, torch.diag(torch.tensor([0.75, 1.0])), atol=1e-5)
    original = dict(made.named_parameters())["0.parametrizations.weight.original"]
    (slope,) = torch.autograd.grad(layer.weight[0, 0], original)
    assert slope[0, 0].item() == pytest.approx(0.25, abs=1e-5) and slope[1, 1].item() == pytest.approx(
        -3 / 16, abs=1e-5
    )


def test_what_it_remembers_is_saved_and_goes_on() -> None:
    torch.manual_seed(0)
    one, x = spectral(points.Discriminator((2,), 8)), torch.randn(4, 2)
    for _ in range(3):
        one(x)
    saved = load(save(one.state_dict()))
    torch.manual_seed(9)
    other = spectral(points.Discriminator((2,), 8))
    other.load_state_dict(saved)
    for _ in range(3):
        assert torch.equal(one(x)[0], other(x)[0])
    one.eval()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    assert torch.equal(one(x)[0], one(x)[0])
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())


def test_a_mean_over_training_lengthens_no_more_than_its_own_weight() -> None:
    """What is remembered turns as weights do, so its mean is shorter than one; that must not show."""
    torch.manual_seed(0)
    made = spectral(nn.Sequential(nn.Linear(6, 6, bias=False)))
    states = []
    for matrix in (torch.diag(torch.tensor([3.0, 1, 1, 1, 1, 1])), torch.diag(torch.tensor([1.0, 1, 1, 1, 1, 3]))):
        made[0].parametrizations.weight.original.data.copy_(matrix)  # type: ignore[union-attr]
        for _ in range(60):
            made(torch.zeros(1, 6))
        states.append({name: value.clone() for name, value in made.state_dict().items()})
    made.load_state_dict({name: (value + states[1][name]) / 2 for name, value in states[0].items()})
    made.eval()
    assert torch.allclose(made[0].weight, torch.diag(torch.tensor([2.0, 1, 1, 1, 1, 2]) / 2), atol=1e-5)


def test_a_layer_that_starts_at_zero_starts_as_others_do() -> None:
    """Zero has no direction: its singular value is zero, and zero over zero no number."""
    torch.manual_seed(0)
    zero, other = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)
    nn.init.zeros_(zero.weight)
    before = other.weight.detach().clone()
    made = spectral(nn.Sequential(zero, other))
    for _ in range(100):
        made(torch.randn(2, 3, 5, 5))
    assert torch.linalg.matrix_norm(zero.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=2e-3)
    assert torch.equal(dict(made.named_parameters())["1.parametrizations.weight.original"], before)


def test_networks_that_cannot_be_normalised_are_refused() -> None:
    with pytest.raises(UsageError, match="recurrent"):
        spectral(series.Discriminator((5, 2), 4))
    with pytest.raises(UsageError, match="without linear"):
        spectral(nn.Tanh())
