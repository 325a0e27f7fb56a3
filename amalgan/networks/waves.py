"""Networks of WaveGAN and SpecGAN (Donahue, McAuley and Puckette 2019, and its appendix): one pair, in one dimension or two.

    Decoder        z -> u = 2 Phi(z) - 1, uniform in [-1, 1] -> dense -> transposed convolutions, rectified units -> tanh
    Discriminator  convolutions, leaky units, phase shuffle in one dimension -> dense -> a logit

WaveGAN is DCGAN flattened: convolutions of 5 x 5 and stride 2 become those of length 25 and stride 4, so that both have as many
weights and both go from 16 places to 16,384 in five steps; with `width` 64 that has 1024, 512, 256, 128 and 64 channels, as in
the paper. Smaller examples take fewer steps and fewer channels. Nothing is normalised.

Phase shuffle moves each map of the discriminator by k samples of its own, what is missing at the end being mirrored there:

    y_i = x_r(i - k),    r(j) = |j| at the beginning, 2 (L - 1) - j at the end;    k = -n .. n

Transposed convolutions leave their stride in samples as a pitch, always at the same phase; a discriminator that may learn that
phase has won and learned nothing of sound. `shuffled` gives the shifts of a pass; without it nothing is moved.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad, relu

from amalgan.errors import UsageError
from amalgan.networks.conditions import modulations
from amalgan.networks.images import SLOPE, Linear32

PLACES = 32  # of the coarsest map, at most: the paper's 16, up to twice that where lengths are no power of four
SMALLEST, LARGEST = 256, 262_144  # places of an example
# dimensions -> stride, side of a kernel, the two convolutions
KINDS: dict[int, tuple[int, int, Any, Any]] = {
    1: (4, 25, nn.Conv1d, nn.ConvTranspose1d),
    2: (2, 5, nn.Conv2d, nn.ConvTranspose2d),
}


def pyramid(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Sides of the maps from fine to coarse, each a fourth of the places before, rounded up: (1, 16384) -> 16384, 4096, ..., 16.

    Raises:
        UsageError: an example that is too short or too long.
    """
    stride, sides = KINDS[len(shape) - 1][0], [shape[1:]]
    if not SMALLEST <= math.prod(shape[1:]) <= LARGEST:
        found = f"{math.prod(shape[1:]):,} values, not {SMALLEST:,} to {LARGEST:,}"
        raise UsageError(f"convolutions over clips of {' x '.join(map(str, shape[1:]))}", found, "write --seconds 1")
    while math.prod(sides[-1]) > PLACES:
        sides.append(tuple(-(-side // stride) for side in sides[-1]))
    return sides


def widths(width: int, levels: int) -> list[int]:
    """Channels from fine to coarse, doubled at each level."""
    return [width * 2**level for level in range(levels)]


def started(layer: Any) -> Any:
    """A layer with the initial weights of the authors' code: Glorot and Bengio's (2010), evenly; no biases."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Decoder(nn.Module):
    """z (B, d), N(0, 1) -> x (B, C, samples) in [-1, 1], or (B, C, H, W) in [0, 1].

    Arguments:
        shape: of x, without B.
        latent: d, 100 in the paper.
        width: channels of the finest hidden map, 64 in the paper.
        told: numbers of a second input (B, told) that modulates every hidden map; 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, told: int = 0) -> None:
        super().__init__()
        self.sides = pyramid(shape)[::-1]
        stride, side, _, transposed = KINDS[len(shape) - 1]
        channels = widths(width, len(self.sides) - 1)[::-1]
        self.code = started(Linear32(latent, channels[0] * math.prod(self.sides[0])))
        edge = (side - stride + 1) // 2
        around: dict[str, int] = {"stride": stride, "padding": edge, "output_padding": stride + 2 * edge - side}
        pairs = zip(channels, [*channels[1:], shape[0]])
        self.convolutions = nn.ModuleList(started(transposed(a, b, side, **around)) for a, b in pairs)
        self.modulations = modulations(channels, told)

    def forward(self, z: Tensor, e: Tensor | None = None) -> Tensor:
        h = self.code(2 * torch.special.ndtr(z) - 1).view(len(z), -1, *self.sides[0])
        for level, convolution in enumerate(self.convolutions):
            h = convolution(relu(h if e is None else self.modulations[level](h, e)))
            h = h[(..., *map(slice, self.sides[level + 1]))]  # four times as many places may be a few too many
        x = torch.tanh(h.float())
        return x if x.dim() == 3 else (1 + x) / 2


class PhaseShuffle(nn.Module):
    """x (B, C, L) -> the same, example b moved by `shifts[b]` samples; as it is where there are none."""

    shifts: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.shifts is None else moved(x, self.shifts)


def moved(x: Tensor, shifts: Tensor) -> Tensor:
    """x (B, C, L) later by shifts (B,) samples, |shift| < L, earlier where they are negative; mirrored at the ends."""
    last = x.shape[2] - 1
    place = (torch.arange(last + 1, device=x.device) - shifts[:, None]).abs()
    place = last - (last - place).abs()
    return x.gather(2, place[:, None].expand_as(x))


@contextlib.contextmanager
def shuffled(network: nn.Module, shifts: Sequence[Tensor]) -> Iterator[None]:
    """While the context lasts, maps of a network are moved by shifts (B,), one tensor for each of its `shuffles`."""
    layers = shuffles(network)
    for layer, by in zip(layers, shifts, strict=True):
        layer.shifts = by
    try:
        yield
    finally:
        for layer in layers:
            layer.shifts = None


def shuffles(network: nn.Module) -> list[PhaseShuffle]:
    """The places of a network where maps can be moved, in the order in which they are passed."""
    return [layer for layer in network.modules() if isinstance(layer, PhaseShuffle)]


class Discriminator(nn.Module):
    """x (B, C, samples) in [-1, 1], or (B, C, H, W) in [0, 1] -> logits (B,), high for real, and features (B, F), the last map.

    After every convolution of waves but the last, maps can be shuffled.

    Arguments:
        shape: of x, without B.
        width: channels of the finest map, 64 in the paper.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        sides = pyramid(shape)
        self.stride, side, convolution, _ = KINDS[len(shape) - 1]
        channels = [shape[0], *widths(width, len(sides) - 1)]
        edge = (side - self.stride + 1) // 2
        self.convolutions = nn.ModuleList(
            started(convolution(a, b, side, self.stride, edge)) for a, b in zip(channels, channels[1:])
        )
        shuffles = len(channels) - 2 if len(shape) == 2 else 0
        self.after = nn.ModuleList(PhaseShuffle() if i < shuffles else nn.Identity() for i in range(len(channels) - 1))
        # without a bias, which a difference of verdicts does not feel: Adam would make steps of its rounding
        self.verdict = started(Linear32(channels[-1] * math.prod(sides[-1]), 1, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x if x.dim() == 3 else 2 * x - 1
        for convolution, after in zip(self.convolutions, self.after):
            h = after(leaky_relu(convolution(self._whole(h)), SLOPE))
        features = h.flatten(1)
        return self.verdict(features).squeeze(1), features.float()

    def _whole(self, h: Tensor) -> Tensor:
        """Zeros after sides that the stride does not divide, so that nothing at their end goes unseen."""
        short = [-side % self.stride for side in h.shape[2:]]
        return pad(h, [by for side in reversed(short) for by in (0, side)]) if any(short) else h
