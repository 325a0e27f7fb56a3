"""Networks for images of 8 to 128 px a side, grey or colour.

Convolutions at the coarser of the two sides of every doubling, and none over many channels at full size: most of a
small network's time goes there. No normalisation layers: nothing depends on the rest of the batch.
Codes enter and leave through fp32 linear layers, since bf16 would round a posterior's mean by more than its width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pad, pixel_shuffle

from amalgan.errors import UsageError
from amalgan.networks.conditions import modulations

SMALLEST, LARGEST = 8, 128
SLOPE = 0.2  # of the leaky units, as in DCGAN


def pyramid(shape: tuple[int, ...], coarsest: int) -> list[tuple[int, int]]:
    """Sides from fine to coarse, halved until at most `coarsest` (or one is 1): for 7, 28 px -> 28, 14, 7.

    Raises:
        UsageError: a side outside 8..128 px.
    """
    _, height, width = shape
    if not all(SMALLEST <= side <= LARGEST for side in (height, width)):
        raise UsageError(
            f"networks for images of {height}x{width} px",
            f"sides must be {SMALLEST} to {LARGEST} px",
            "write --size 32 (any multiple of 4 from 8 to 128), so that the images are resized",
        )
    sides = [(height, width)]
    while max(sides[-1]) > coarsest and min(sides[-1]) > 1:
        sides.append((sides[-1][0] // 2, sides[-1][1] // 2))
    return sides


def widths(width: int, levels: int) -> list[int]:
    """Channels from fine to coarse: doubled at each level, at most four times the first."""
    return [width * min(2**level, 4) for level in range(levels)]


class Linear32(nn.Linear):
    """A linear layer that stays in fp32 under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class Trunk(nn.Module):
    """(B, C, H, W) in [0, 1] -> (B, F): at least two 4x4 convolutions of stride 2, down to 4 px a side, leaky units.

    Arguments:
        shape: (C, H, W).
        width: channels of the finest level.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        sides = pyramid(shape, coarsest=min(4, max(shape[1:]) // 4))  # two or more levels
        channels = [shape[0], *widths(width, len(sides) - 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in zip(channels, channels[1:])
        )
        self.size = channels[-1] * sides[-1][0] * sides[-1][1]

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x - 1
        *finer, coarsest = self.convolutions
        for convolution in finer:
            h = leaky_relu(convolution(h), SLOPE)
        # the last units act on the flat tensor: else, going back, a flat gradient meets a channels_last input, and
        # the elementwise step takes 2 ms instead of 0.1
        return leaky_relu(coarsest(h).flatten(1), SLOPE)


class Encoder(nn.Module):
    """x (B, C, H, W) -> raw code (B, out): what a posterior reads.

    Arguments:
        shape: (C, H, W), sides 8 to 128 px.
        out: numbers per example, twice the latent size for a Gaussian posterior.
        width: channels of the finest level.
    """

    def __init__(self, shape: tuple[int, ...], out: int, width: int = 32) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width)
        self.code = Linear32(self.trunk.size, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.code(self.trunk(x))


class Decoder(nn.Module):
    """z (B, d) -> raw image (B, C_out, H, W): what a likelihood reads. Also the generator of a GAN.

    3x3 convolutions before each doubling, where they are four times cheaper than after it; the last one makes the four
    sub-pixels of every pixel (Shi et al. 2016), which start out equal so that no checkerboard is sown (Aitken et al.
    2017).

    Arguments:
        shape: (C_out, H, W), C_out = the likelihood's factor times the image's channels.
        latent: d.
        width: channels of the finest level.
        told: numbers of a second input (B, told) that modulates every level; 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int = 32, told: int = 0) -> None:
        super().__init__()
        self.sides = pyramid(shape, coarsest=7)
        channels = widths(width, len(self.sides))[::-1]
        self.coarsest = (channels[0], *self.sides[-1])
        self.code = Linear32(latent, channels[0] * self.sides[-1][0] * self.sides[-1][1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in zip(channels, channels[1:])
        )
        self.pixels = nn.Conv2d(channels[-1], 4 * shape[0], 3, padding=1)
        with torch.no_grad():
            self.pixels.weight.copy_(self.pixels.weight[::4].repeat_interleave(4, 0))
            nn.init.zeros_(self.pixels.bias)  # type: ignore[arg-type]
        self.modulations = modulations(channels[1:], told)

    @torch.no_grad()
    def start_at(self, raw: Tensor) -> None:
        """Say `raw` (C_out,) of every pixel, but for what the code adds."""
        self.pixels.bias.copy_(raw.repeat_interleave(4))  # type: ignore[union-attr]

    def forward(self, z: Tensor, e: Tensor | None = None) -> Tensor:
        h = leaky_relu(self.code(z), SLOPE).view(len(z), *self.coarsest)
        h = h.contiguous(memory_format=torch.channels_last)
        for level, convolution in enumerate(self.convolutions):
            if level:
                h = interpolate(h, size=self.sides[-1 - level], mode="nearest")
            h = convolution(h)
            h = leaky_relu(h if e is None else self.modulations[level](h, e), SLOPE)
        height, width = self.sides[0]
        return _fit(pixel_shuffle(self.pixels(h), 2), height, width)


def _fit(x: Tensor, height: int, width: int) -> Tensor:
    """Odd sides are half a pixel short after doubling: repeat the last row or column."""
    return (
        pad(x, (0, width - x.shape[3], 0, height - x.shape[2]), mode="replicate")
        if x.shape[2:] != (height, width)
        else x
    )


class Discriminator(nn.Module):
    """x (B, C, H, W) -> logits (B,), high for real, and features (B, F), the trunk's last layer.

    Arguments:
        shape: (C, H, W), sides 8 to 128 px.
        width: channels of the finest level.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 32) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width)
        self.verdict = Linear32(self.trunk.size, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)
        return self.verdict(features).squeeze(1), features.float()
