"""Residual networks: how they begin, what they are told, where they look, and that computing again changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from test_networks import awake
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate

from amalgan.errors import UsageError
from amalgan.networks import attention
from amalgan.networks.attention import SelfAttention
from amalgan.networks.normalise import spectral
from amalgan.networks.residual import Attention, Decoder, Discriminator, Down, Encoder, Norm, Up, pyramid, usual
from amalgan.networks.together import looks_around

SHAPE = (3, 16, 16)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def look(at: int) -> Attention:
    return {at: SelfAttention}


def test_attention_is_by_default_where_the_paper_has_it() -> None:
    assert [usual((3, side, side)) for side in (128, 64, 48, 32, 28, 16)] == [32, 32, 24, 16, 14, 8]
    assert usual((1, 16, 64)) == 8


def test_pyramids_by_hand() -> None:
    assert pyramid((1, 28, 28)) == [(28, 28), (14, 14), (7, 7)]
    assert pyramid((1, 16, 64)) == [(16, 64), (8, 32), (4, 16)]
    assert pyramid((1, 32, 28)) == [(32, 28), (16, 14), (8, 7)]
    assert [len(pyramid((1, side, side))) for side in (16, 32, 64, 128)] == [3, 4, 5, 6]


@pytest.mark.parametrize("height, width", [(0, 16), (8, 8), (12, 32), (30, 30), (36, 36), (144, 144), (16, 132)])
def test_other_sizes_are_refused_with_the_flag_to_write(height: int, width: int) -> None:
    with pytest.raises(UsageError, match="--size 32"):
        Encoder((1, height, width), 4)


def test_what_is_not_there_is_refused_with_the_flag_to_write() -> None:
    for make in (lambda at: Discriminator((1, 28, 28), 4, look(at)), lambda at: Decoder((1, 28, 28), 3, 4, look(at))):
        with pytest.raises(UsageError, match=r"(?s)maps of 7, 14, 28 px.*--attention-at 14"):
            make(16)
    with pytest.raises(UsageError, match="write none or batch"):
        Decoder(SHAPE, 3, norm="layer")


def test_channels_double_up_to_four_times() -> None:
    decoder, discriminator = Decoder((1, 64, 64), 3, 8), Discriminator((1, 64, 64), 8)
    assert [b.convolutions[1].weight.shape[0] for b in discriminator.trunk.levels.blocks] == [16, 32, 32, 32]
    assert [b.convolutions[1].weight.shape[0] for b in decoder.levels.blocks] == [32, 32, 16, 8]
    assert discriminator(torch.rand(2, 1, 64, 64))[1].shape == (2, 32)


def test_without_normalisation_a_block_begins_as_its_shortcut() -> None:
    h = torch.randn(2, 6, 4, 4)
    up, down = Up(6, 6, "none", 0), Down(6, 6)
    assert torch.equal(up(h), interpolate(h, scale_factor=2))
    assert torch.allclose(down(h), h.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5)), atol=1e-6)
    assert not torch.equal(awake(up)(h), interpolate(h, scale_factor=2))
    assert not torch.equal(Up(6, 6, "batch", 0)(h), interpolate(h, scale_factor=2))


@pytest.mark.parametrize("side", [16, 64, pytest.param(128, marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_depth_neither_drowns_nor_blows_up_what_passes(side: int, norm: str) -> None:
    raw = Decoder((3, side, side), 32, 16, norm=norm)(torch.randn(64, 32))
    x = interpolate(torch.rand(64, 3, 4, 4), size=side)  # what pooling would not average away
    logits, _ = Discriminator((3, side, side), 16)(x)
    assert 0.2 < raw.std() < 2 and 0.2 < logits.std() < 3


def test_a_decoder_starts_at_a_level() -> None:
    made = Decoder((2, 16, 16), 4, 6)
    before = made(z := torch.randn(3, 4))
    made.start_at(torch.tensor([-2.0, 1.0]))
    assert torch.allclose(made(z) - before, torch.tensor([-2.0, 1.0])[:, None, None], atol=1e-5)


def test_what_is_told_moves_and_scales_each_channel() -> None:
    """norm(h) (1 + A e) + B e, for both norms; nothing at first."""
    h, e = torch.randn(5, 3, 4, 4), torch.randn(5, 2)
    for norm in ("none", "batch"):
        made = Norm(3, norm, 2)
        plain = (
            h
            if norm == "none"
            else (h - h.mean((0, 2, 3), True)) / (h.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt()
        )
        assert torch.allclose(made(h, e), plain, atol=1e-5)
        assert made.told is not None
        with torch.no_grad():
            made.told.copy_(torch.arange(12.0).view(6, 2))
        a, b = made.told.detach().view(2, 3, 2)
        for i in range(5):
            for c in range(3):
                by_hand = plain[i, c] * (1 + a[c] @ e[i]) + b[c] @ e[i]
                assert torch.allclose(made(h, e)[i, c], by_hand, atol=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_every_block_is_told(norm: str) -> None:
    made = awake(Decoder((1, 32, 32), 4, 4, norm=norm, told=2)).eval()
    z, e = torch.randn(1, 4), torch.randn(2, 2)
    norms = [module for module in made.modules() if isinstance(module, Norm)]
    assert len(norms) == 6 and not torch.allclose(made(z, e[:1]), made(z, e[1:]), atol=1e-3)
    for module in norms:
        alone = deepcopy(made)
        for name, other in alone.named_modules():
            if isinstance(other, Norm) and made.get_submodule(name) is not module:
                nn.init.zeros_(other.told)  # type: ignore[arg-type]
        assert not torch.equal(alone(z, e[:1]), alone(z, e[1:]))


def test_only_batch_norm_looks_around() -> None:
    z = torch.randn(4, 3)
    for norm, around in (("none", False), ("batch", True)):
        made = awake(Decoder(SHAPE, 3, 4, norm=norm))
        assert looks_around(made) == around
        assert torch.allclose(made(z)[:1], made(z[:1]), atol=1e-4) != around
        made.eval()
        assert torch.allclose(made(z)[:1], made(z[:1]), atol=1e-4)


@pytest.mark.parametrize(
    "make", [lambda at: Decoder((1, 32, 32), 5, 4, at), lambda at: Discriminator((1, 32, 32), 4, at)]
)
def test_networks_with_and_without_attention_begin_as_the_same_function(
    make: Callable[[Attention], nn.Module],
) -> None:
    """The same weights from one seed, and those of attention beside them."""
    made = []
    for at in ({}, look(8), look(16), look(32)):
        torch.manual_seed(3)
        made.append(make(at).state_dict())
    plain, *looking = made
    for found in looking:
        assert all(torch.equal(found[name], value) for name, value in plain.items())
        assert {name.split(".")[-2] for name in found.keys() - plain.keys()} > {"f", "g", "h", "v"}
    widths = [next(v.shape[1] for k, v in found.items() if k.endswith("f.weight")) for found in looking]
    assert widths == [16, 8, 4]  # of maps of 8, 16 and 32 px


def test_attention_lets_far_corners_meet() -> None:
    """A change in one corner reaches the opposite one at the finest level, which convolutions of one block cannot."""
    for at, reached in (({}, False), (look(16), True)):
        trunk = awake(Discriminator((1, 16, 16), 8, at)).trunk
        x = torch.rand(1, 1, 16, 16)
        other = x.clone()
        other[..., 12:, 12:] = 1 - other[..., 12:, 12:]
        one, two = (trunk.levels._attend(trunk.stem(image)) for image in (x, other))
        assert bool((one - two)[..., :8, :8].any()) == reached


@pytest.mark.parametrize("side", [16, 20, 24, 28, 32])
def test_the_last_block_sees_all_of_the_image(side: int) -> None:
    """Without it, corners of an image that is halved to 7 px never meet before they are summed."""
    trunk = awake(Discriminator((1, side, side), 8)).trunk
    x = torch.rand(1, 1, side, side, requires_grad=True)
    made = trunk(x)
    (slope,) = torch.autograd.grad(made[0, :, made.shape[2] // 2, made.shape[3] // 2].sum(), x)
    assert slope[0, 0, 0, 0] != 0 and slope[0, 0, -1, -1] != 0


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_bf16_stays_near_fp32_and_codes_stay_fp32(norm: str) -> None:
    x, z = torch.rand(4, *SHAPE), torch.randn(4, 5)
    decoder, encoder, discriminator = (
        awake(made)
        for made in (
            Decoder(SHAPE, 5, 8, look(8), norm),
            Encoder(SHAPE, 6, 8, look(8)),
            Discriminator(SHAPE, 8, look(8)),
        )
    )
    exact = [decoder(z), encoder(x), *discriminator(x)]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = [decoder(z), encoder(x), *discriminator(x)]
    for a, b in zip(exact, rounded):
        assert (a - b.float()).norm() < 0.03 * a.norm()
    assert all(made.dtype == torch.float32 for made in rounded[1:])


def test_spectral_normalisation_reaches_every_layer_and_leaves_what_is_told() -> None:
    x, z, e = torch.rand(4, *SHAPE), torch.randn(4, 5), torch.randn(4, 2)
    for made, inputs, layers in (
        (
            Discriminator(SHAPE, 8, look(8)),
            (x,),
            1 + 3 * 2 + 2 + 4 + 1,
        ),  # stem, branches, shortcuts, attention, verdict
        (Decoder(SHAPE, 5, 8, look(8), "batch", 2), (z, e), 1 + 2 * 2 + 2 + 4 + 1),
    ):
        norms = [module.told.clone() for module in made.modules() if isinstance(module, Norm)]  # type: ignore[union-attr]
        spectral(made)
        with torch.no_grad():
            for _ in range(100):
                made(*inputs)
        made.eval()
        of = [m.weight.detach() for m in made.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        assert len(of) == layers
        assert all(torch.linalg.matrix_norm(w.flatten(1), 2).item() == pytest.approx(1, abs=5e-3) for w in of)
        assert all(torch.equal(n, m.told) for n, m in zip(norms, [m for m in made.modules() if isinstance(m, Norm)]))


# Computing again


def decoder(checkpointed: bool) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Decoder(SHAPE, 5, 4, look(8), "batch", 2, checkpointed), (torch.randn(4, 5), torch.randn(4, 2))


def encoder(checkpointed: bool) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Encoder(SHAPE, 6, 4, look(8), checkpointed), (torch.rand(4, *SHAPE),)


def discriminator(checkpointed: bool) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Discriminator(SHAPE, 4, look(8), checkpointed), (torch.rand(4, *SHAPE),)


def normalised(checkpointed: bool) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return spectral(Discriminator(SHAPE, 4, look(8), checkpointed)), (torch.rand(4, *SHAPE),)


def test_computed_again_where_attention_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of it may be asked for once: slopes, and slopes of slopes."""
    monkeypatch.setattr(attention, "WRITTEN_OUT", 0)

    def penalty(network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
        of = [p for p in network.parameters() if p.dim() > 1]
        plain = torch.autograd.grad(value(network(*inputs)), of)
        (slope,) = torch.autograd.grad(value(network(*inputs)), inputs, create_graph=True)
        found = torch.autograd.grad(slope.square().sum(), of, allow_unused=True)
        return [*plain, slope, *(f for f in found if f is not None)]

    assert equal(both(discriminator, penalty))


MADE = pytest.mark.parametrize("make", [decoder, encoder, discriminator, normalised])


def both(
    make: Callable[..., tuple[nn.Module, tuple[Tensor, ...]]], what: Callable[..., list[Tensor]]
) -> list[list[Tensor]]:
    """What two passes and their slopes give, kept and computed again, with all that the network remembers after them."""
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        network, inputs = make(checkpointed)
        torch.manual_seed(1)
        made = what(awake(network), [t.requires_grad_() for t in inputs])
        found.append([*made, *network.buffers()])
    return found


def value(made: object) -> Tensor:
    y = made[0] if isinstance(made, tuple) else made
    assert isinstance(y, Tensor)
    return (y * torch.linspace(-1, 2, y.numel()).view(y.shape)).sum()


def equal(found: list[list[Tensor]]) -> bool:
    return len(found[0]) == len(found[1]) and all(torch.equal(a, b) for a, b in zip(*found))


@MADE
@pytest.mark.parametrize("bf16", [False, True])
def test_computed_again_slopes_are_bit_identical(make: Callable[..., object], bf16: bool) -> None:
    """Two passes before the first goes back, as real and fake take them: buffers have moved on since."""

    def slopes(network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            first, second = value(network(*inputs)), value(network(*[t * 0.5 for t in inputs]))
        return [first, second, *torch.autograd.grad(first + second, [*inputs, *network.parameters()])]

    assert equal(both(make, slopes))


@MADE
def test_computed_again_slopes_of_slopes_are_bit_identical(make: Callable[..., object]) -> None:
    def penalty(network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
        (slope,) = torch.autograd.grad(value(network(*inputs)), inputs[:1], create_graph=True)
        of = [p for p in network.parameters() if p.dim() > 1]
        found = torch.autograd.grad(slope.square().sum(), of, allow_unused=True)
        assert sum(f is not None and bool(f.any()) for f in found) > 0.8 * len(of)
        return [slope, *(f for f in found if f is not None)]

    assert equal(both(make, penalty))


@MADE
def test_computed_again_with_lent_weights(make: Callable[..., object]) -> None:
    """As unrolling lends them: they are the network's own again before the slopes are taken."""

    def lent(network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
        weights = {name: p * 1.5 for name, p in network.named_parameters()}
        made = value(functional_call(network, weights, tuple(inputs)))
        return [made, *torch.autograd.grad(made, [*inputs, *network.parameters()])]

    assert equal(both(make, lent))


@MADE
def test_computed_again_less_is_kept(make: Callable[..., object]) -> None:
    def kept(network: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            network(*inputs)
        return [torch.tensor(sum(sizes))]

    plain, again = (found[0] for found in both(make, kept))
    assert again < 0.5 * plain


def test_nothing_is_computed_again_where_nothing_goes_back() -> None:
    network, inputs = discriminator(True)
    with torch.no_grad():
        assert not network(*inputs)[0].requires_grad
