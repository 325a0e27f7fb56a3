"""Networks of WaveGAN and SpecGAN: the paper's shapes, totals worked out by hand, and maps that are moved in time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from amalgan.errors import UsageError
from amalgan.networks import waves

PAPER = {"waves": (1, 16384), "spectra": (1, 128, 128)}
CHANNELS = [1024, 512, 256, 128, 64, 1]


def total(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("kind", PAPER)
def test_networks_of_the_paper(kind: str) -> None:
    """In the paper's appendix: a kernel holds 25 weights in one dimension and in two."""
    shape = PAPER[kind]
    decoder, judge = waves.Decoder(shape, 100, 64), waves.Discriminator(shape, 64)
    assert decoder.sides[0] == ((16,) if kind == "waves" else (4, 4)) and len(decoder.sides) == 6
    assert [layer.weight.shape[:2] for layer in decoder.convolutions] == list(zip(CHANNELS, CHANNELS[1:]))
    assert [layer.weight.shape[:2] for layer in judge.convolutions] == list(zip(CHANNELS[-2::-1], CHANNELS[::-1]))
    kernels = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 1)
    assert total(decoder) == 100 * 16384 + 16384 + kernels + (512 + 256 + 128 + 64 + 1) == 19_065_345
    assert total(judge) == kernels + (64 + 128 + 256 + 512 + 1024) + 16384 == 17_427_968
    assert len(waves.shuffles(judge)) == (4 if kind == "waves" else 0)  # after every convolution but the last
    with torch.no_grad():
        assert decoder(torch.zeros(1, 100)).shape == (1, *shape)


def test_shorter_clips_take_fewer_layers() -> None:
    sides = {4096: [4096, 1024, 256, 64, 16], 8192: [8192, 2048, 512, 128, 32], 4800: [4800, 1200, 300, 75, 19]}
    for samples, wanted in sides.items():
        assert [side for (side,) in waves.pyramid((1, samples))] == wanted
    assert waves.pyramid((1, 64, 64)) == [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]
    assert waves.widths(8, 4) == [8, 16, 32, 64]
    for samples in (100, 1_000_000):
        with pytest.raises(UsageError, match="--seconds"):
            waves.pyramid((1, samples))


def test_noise_is_uniform_and_what_is_made_stays_in_range() -> None:
    """2 Phi(z) - 1: the middle of N(0, 1) is 0, its far ends are -1 and 1."""
    decoder = waves.Decoder((1, 300), 3, 4)
    seen: list[Tensor] = []
    decoder.code.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for layer in decoder.convolutions:
            layer.weight *= 100
        made = decoder(torch.tensor([[0.0, 9.0, -9.0], [0.6744898, 0.0, 0.0]]))
    assert seen[0].tolist() == [pytest.approx([0, 1, -1]), pytest.approx([0.5, 0, 0])]
    assert made.abs().max() <= 1 and made.min() < -0.5
    picture = waves.Decoder((1, 16, 16), 3, 4)(torch.randn(4, 3))
    assert picture.min() > 0 and picture.max() < 1


def test_a_map_is_moved_and_mirrored_by_hand() -> None:
    x = torch.arange(1.0, 6).expand(5, 2, 5)  # 1 2 3 4 5 in two channels of five examples
    by = torch.tensor([0, 1, 2, -1, -2])
    wanted = [[1, 2, 3, 4, 5], [2, 1, 2, 3, 4], [3, 2, 1, 2, 3], [2, 3, 4, 5, 4], [3, 4, 5, 4, 3]]
    made = waves.moved(x, by)
    assert made[:, 0].tolist() == wanted and torch.equal(made[:, 0], made[:, 1])


@settings(max_examples=50, deadline=None)
@given(st.integers(9, 40), st.integers(-8, 8))
def test_moving_is_what_the_authors_code_does(length: int, by: int) -> None:
    """wavegan.py, phaseshuffle: pad by reflection at one end, cut off at the other."""
    x = torch.randn(2, 3, length)
    padded = pad(x, (max(by, 0), max(-by, 0)), mode="reflect")
    theirs = padded[:, :, max(-by, 0) :][:, :, :length]
    assert torch.equal(waves.moved(x, torch.tensor([by, by])), theirs)


def test_maps_are_moved_while_it_lasts() -> None:
    torch.manual_seed(0)
    judge, x = waves.Discriminator((1, 1024), 4), torch.randn(3, 1, 1024)
    still, none, some = judge(x)[0], [torch.zeros(3, dtype=torch.long)] * 2, torch.tensor([0, 1, -2])
    with waves.shuffled(judge, none):
        assert torch.equal(judge(x)[0], still)
    for layer in range(2):  # each layer's own
        shifts = [some if i == layer else none[0] for i in range(2)]
        with waves.shuffled(judge, shifts):
            moved = judge(x)[0]
        assert (moved != still).tolist() == [False, True, True]
    with pytest.raises(RuntimeError, match="elsewhere"), waves.shuffled(judge, [some, some]):
        raise RuntimeError("elsewhere")
    assert torch.equal(judge(x)[0], still)
    with pytest.raises(ValueError), waves.shuffled(judge, [some]):
        pass


def test_a_penalty_can_differentiate_through_moved_maps() -> None:
    judge, x = waves.Discriminator((1, 300), 4), torch.randn(3, 1, 300, requires_grad=True)
    with waves.shuffled(judge, [torch.tensor([2, -1, 0])]):
        logits, _ = judge(x)
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert all(layer.weight.grad.abs().max() > 0 for layer in judge.convolutions)
