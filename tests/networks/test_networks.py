"""Networks of every size: shapes, gradients to every parameter, no example seen by another."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from amalgan.errors import UsageError
from amalgan.networks import images, points, residual, series, waves
from amalgan.networks.attention import SelfAttention

SIDES = st.integers(8, 64)
CORNERS = [
    (8, 8),
    (9, 9),
    (15, 17),
    (28, 28),
    (31, 33),
    (32, 32),
    (63, 63),
    (64, 64),
    (8, 64),
    (64, 9),
    (13, 40),
    (128, 128),
]
RESIDUAL = [(16, 16), (20, 20), (28, 28), (32, 32), (56, 56), (64, 64), (128, 128), (16, 64), (96, 20)]


def outputs(made: object) -> list[Tensor]:
    return list(made) if isinstance(made, tuple) else [made]  # type: ignore[list-item]


def check(network: nn.Module, x: Tensor, shapes: list[tuple[int, ...]]) -> None:
    """Right shapes, fp32, a gradient to every parameter, and f(x)[i] = f(x[i : i + 1])."""
    made = outputs(network(x))
    assert [tuple(y.shape[1:]) for y in made] == shapes and all(len(y) == len(x) for y in made)
    assert all(y.dtype == torch.float32 and torch.isfinite(y).all() for y in made)
    slopes = torch.autograd.grad(sum((y * torch.linspace(1, 2, y.numel()).view(y.shape)).sum() for y in made),
                                 list(network.parameters()))  # fmt: skip
    for (name, _), slope in zip(network.named_parameters(), slopes):
        assert slope.abs().max() > 0, f"no gradient reaches {name}"
    for i in range(len(x)):
        for whole, alone in zip(made, outputs(network(x[i : i + 1]))):
            assert torch.allclose(whole[i : i + 1], alone, atol=1e-5, rtol=1e-4), f"example {i} sees the others"


def check_images(channels: int, height: int, width: int, latent: int, wide: int) -> None:
    torch.manual_seed(0)
    shape = (channels, height, width)
    x, z = torch.rand(3, *shape), torch.randn(3, latent)
    check(images.Encoder(shape, 2 * latent, wide), x, [(2 * latent,)])
    check(images.Decoder(shape, latent, wide), z, [shape])
    discriminator = images.Discriminator(shape, wide)
    check(discriminator, x, [(), (discriminator.trunk.size,)])


@pytest.mark.parametrize("height, width", CORNERS)
def test_images_of_notable_sizes(height: int, width: int) -> None:
    check_images(3, height, width, 5, 6)


@given(st.sampled_from([1, 2, 3]), SIDES, SIDES, st.integers(1, 8), st.integers(4, 9))
@settings(max_examples=25, deadline=None)
def test_images_of_any_size(channels: int, height: int, width: int, latent: int, wide: int) -> None:
    check_images(channels, height, width, latent, wide)


def awake(network: nn.Module) -> nn.Module:
    """The network with what starts at zero, and hides what is behind it, a step further."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return network


@pytest.mark.parametrize("attention", [(), (-3,), (-3, -1)], ids=["nowhere", "fine", "fine and coarse"])
@pytest.mark.parametrize("height, width", RESIDUAL)
def test_residual_networks_of_notable_sizes(height: int, width: int, attention: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    shape = (1 if height == width else 3, height, width)
    sides = residual.pyramid(shape)
    at = {sides[level][0]: SelfAttention for level in attention}
    x, z = torch.rand(3, *shape), torch.randn(3, 5)
    check(awake(residual.Encoder(shape, 10, 3, at)), x, [(10,)])
    check(awake(residual.Decoder(shape, 5, 3, at)), z, [shape])
    check(awake(residual.Discriminator(shape, 3, at)), x, [(), (12,)])


@pytest.mark.parametrize("shape", [(1, 256), (1, 300), (1, 1100), (1, 4099), (1, 16, 16), (1, 64, 64), (1, 20, 37)])
def test_networks_of_long_strides_of_notable_sizes(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, z = torch.rand(3, *shape), torch.randn(3, 5)
    check(waves.Decoder(shape, 5, 4), z, [shape])
    judge = waves.Discriminator(shape, 4)
    check(judge, x, [(), (judge.verdict.in_features,)])


@given(st.integers(1, 20), st.integers(1, 8), st.integers(32, 40))
@settings(max_examples=15, deadline=None)
def test_points_of_any_dimension(dimensions: int, latent: int, wide: int) -> None:
    torch.manual_seed(0)
    x, z = torch.randn(3, dimensions), torch.randn(3, latent)
    check(points.Encoder((dimensions,), 2 * latent, wide), x, [(2 * latent,)])
    check(points.Decoder((dimensions,), latent, wide), z, [(dimensions,)])
    check(points.Discriminator((dimensions,), wide), x, [(), (wide,)])


@given(st.integers(2, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 2), st.booleans())
@settings(max_examples=15, deadline=None)
def test_series_of_any_shape(steps: int, columns: int, whole: int, fresh: int, factor: int, told: bool) -> None:
    torch.manual_seed(0)
    shape, changes = (steps, columns), [0.1] * columns if told else None
    x, z = torch.rand(3, *shape), torch.randn(3, whole + steps * fresh)
    check(series.Encoder(shape, 2 * whole, 7), x, [(2 * whole,)])
    check(series.Decoder(shape, whole, 7, fresh, factor), z, [(factor * steps, columns)])
    check(series.Discriminator(shape, 7, changes=changes), x, [(steps,), (steps * 7,)])
    check(series.Steps(columns, 5, 7, layers=2), x, [(steps, 5)])


def test_a_label_reaches_every_step() -> None:
    """Another label, another row and another verdict at every step, also the last; no label, -1, is none of them."""
    torch.manual_seed(0)
    z, x = torch.randn(1, 2 + 6 * 1).expand(3, -1), torch.rand(1, 6, 2).expand(3, -1, -1)
    c = torch.tensor([0, 1, -1])
    for made in (series.Decoder((6, 2), 2, 8, 1, classes=2)(z, c), series.Discriminator((6, 2), 8, 2)(x, c)[0]):
        for one, other in itertools.combinations(made, 2):
            assert ((one - other).abs().view(6, -1).amax(1) > 0).all()
    told = series.joined(x, c, 2)[:, :, 2:]
    assert told.tolist() == [[[1, 0]] * 6, [[0, 1]] * 6, [[0, 0]] * 6]


def test_a_verdict_knows_the_steps_so_far_and_no_later_one() -> None:
    torch.manual_seed(0)
    judge, x = series.Discriminator((6, 2), 8, changes=[0.1, 0.1]), torch.rand(1, 6, 2)
    other = x.clone()
    other[0, 4] += 0.1
    before, after = judge(x)[0][0], judge(other)[0][0]
    assert torch.equal(before[:4], after[:4]) and (before[4:] != after[4:]).all()


@given(SIDES, SIDES, st.sampled_from([4, 7]))
def test_a_pyramid_halves_and_ends(height: int, width: int, coarsest: int) -> None:
    sides = images.pyramid((1, height, width), coarsest)
    assert sides[0] == (height, width) and len(sides) >= 2
    assert all((a // 2, b // 2) == after for (a, b), after in itertools.pairwise(sides))
    assert min(sides[-1]) >= 1 and (max(sides[-1]) <= coarsest or min(sides[-1]) == 1)


def test_pyramid_and_widths_by_hand() -> None:
    assert images.pyramid((1, 28, 28), 7) == [(28, 28), (14, 14), (7, 7)]
    assert images.pyramid((1, 8, 64), 4) == [(8, 64), (4, 32), (2, 16), (1, 8)]
    assert images.widths(8, 4) == [8, 16, 32, 32]


@pytest.mark.parametrize("height, width", [(7, 28), (28, 129), (1, 1), (256, 256)])
def test_other_sizes_are_refused_with_the_flag_to_write(height: int, width: int) -> None:
    with pytest.raises(UsageError, match="--size"):
        images.Encoder((1, height, width), 4)


def test_a_decoder_starts_without_checkerboard() -> None:
    """The four sub-pixels of every pixel start out equal."""
    y = images.Decoder((3, 16, 16), 4, 5)(torch.randn(2, 4))
    assert torch.equal(y[:, :, ::2, ::2], y[:, :, 1::2, ::2]) and torch.equal(y[:, :, ::2, ::2], y[:, :, 1::2, 1::2])


@pytest.mark.parametrize("side", [9, 15])
def test_an_odd_side_repeats_its_last_row(side: int) -> None:
    y = images.Decoder((1, side, side), 4, 5)(torch.randn(2, 4))
    assert torch.equal(y[:, :, -1], y[:, :, -2]) and torch.equal(y[..., -1], y[..., -2])


def test_codes_stay_fp32_under_autocast() -> None:
    shape = (1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        code = images.Encoder(shape, 6)(torch.rand(2, *shape))
        logits, features = images.Discriminator(shape)(torch.rand(2, *shape))
    assert code.dtype == logits.dtype == features.dtype == torch.float32


def test_an_mlp_ends_without_a_unit() -> None:
    net = points.mlp([2, 5, 3])
    assert [type(layer) for layer in net] == [nn.Linear, nn.ReLU, nn.Linear]
