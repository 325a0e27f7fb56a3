"""Residual networks for images of 16 to 128 px a side, grey or colour, with self-attention where it is asked for.

    up      double(h) + conv(unit(norm(conv(double(unit(norm(h)))))))
    down    pool(h) + pool(conv(unit(conv(unit(h)))))                  h through a 1x1 convolution where widths differ

Blocks, nearest-neighbour doubling, average pooling and the sum over the last maps are those of SNGAN and SAGAN (Miyato
et al. 2018; Zhang et al. 2019). Where nothing is normalised the last convolution of each branch starts at zero, so that
a block begins as its shortcut and depth does no harm (Fixup, Zhang, Dauphin and Ma 2019). That start, no normalisation
and leaky units of slope 0.2 are also R3GAN's (Huang et al. 2024, arXiv 2501.05441); its branches are inverted
bottlenecks of grouped convolutions, two a level, and it resamples with filters. Here a branch is two 3x3 convolutions,
one a level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count, pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate, leaky_relu, linear
from torch.utils.checkpoint import checkpoint

from amalgan.errors import UsageError
from amalgan.networks.conditions import modulated
from amalgan.networks.images import SLOPE, Linear32, widths

SMALLEST, LARGEST = 16, 128
Attention = Mapping[int, Callable[[int], nn.Module]]  # heights of maps in px, and what makes a layer for C channels
NOWHERE: Attention = {}
NORMS: dict[str, Callable[[int], nn.Module]] = {"none": nn.Identity, "batch": nn.BatchNorm2d}
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # after a leaky unit this much keeps the variance


def pyramid(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Sides from fine to coarse, halved until the smaller one is 4 to 7: for 28, 28 px -> 28, 14, 7.

    Raises:
        UsageError: a side outside 16..128 px, or one that cannot be halved so often.
    """
    _, *size = shape
    halvings = (min(size) // 4).bit_length() - 1
    if not all(SMALLEST <= side <= LARGEST and side % 2**halvings == 0 for side in size):
        raise UsageError(
            f"residual networks for images of {size[0]}x{size[1]} px",
            f"sides must be 4, 5, 6 or 7, doubled two to five times, and at most {LARGEST} px",
            "write --size 32 (or 16, 20, 24, 28, 40, 48, 56, 64, 96, 128), so that the images are resized",
        )
    return [(size[0] >> level, size[1] >> level) for level in range(halvings + 1)]


def usual(shape: tuple[int, ...]) -> int:
    """Height in px of the maps that look over themselves in the paper: 32 of 128; the largest up to that and half the image."""
    return next(height for height, _ in pyramid(shape)[1:] if height <= 32)


def convolution(before: int, after: int, side: int, gain: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps height and width; its output starts with gain^2 times the mean square of its input."""
    made = nn.Conv2d(before, after, side, padding=side // 2)
    nn.init.normal_(made.weight, 0, gain / math.sqrt(before * side**2))
    nn.init.zeros_(made.bias)  # type: ignore[arg-type]
    return made


def shortcut(before: int, after: int) -> nn.Module:
    """A 1x1 convolution, where the number of channels changes."""
    return nn.Identity() if before == after else convolution(before, after, 1)


def double(h: Tensor) -> Tensor:
    return interpolate(h, scale_factor=2, mode="nearest")


class Norm(nn.Module):
    """h (B, C, H, W), e (B, told) -> norm(h) * (1 + A e) + B e, for each channel: at first what norm(h) is.

    With batch norm this is its conditional form (de Vries et al. 2017). A and B are no linear layer, so that spectral
    normalisation leaves them as they are.

    Arguments:
        channels: C.
        norm: a key of `NORMS`.
        told: numbers in e; 0 for no e.
    """

    def __init__(self, channels: int, norm: str, told: int = 0) -> None:
        super().__init__()
        self.norm = NORMS[norm](channels)
        self.told = nn.Parameter(torch.zeros(2 * channels, told)) if told else None

    def forward(self, h: Tensor, *e: Tensor) -> Tensor:
        h = self.norm(h)
        if self.told is None:
            return h
        (numbers,) = e
        return modulated(h, linear(numbers, self.told))


class Up(nn.Module):
    """h (B, before, H, W), e (B, told) -> (B, after, 2H, 2W)."""

    def __init__(self, before: int, after: int, norm: str, told: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(before, norm, told), Norm(after, norm, told)])
        self.convolutions = nn.ModuleList(
            [convolution(before, after, 3, GAIN), convolution(after, after, 3, 0 if norm == "none" else GAIN)]
        )
        self.shortcut = shortcut(before, after)

    def forward(self, h: Tensor, *e: Tensor) -> Tensor:
        branch = self.convolutions[0](double(leaky_relu(self.norms[0](h, *e), SLOPE)))
        branch = self.convolutions[1](leaky_relu(self.norms[1](branch, *e), SLOPE))
        return double(self.shortcut(h)) + branch


class Down(nn.Module):
    """h (B, before, H, W) -> pooled (B, after, H', W'), by half if nothing is said; `gain` is that of the branch's last
    convolution."""

    def __init__(self, before: int, after: int, gain: float = 0.0, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([convolution(before, before, 3, GAIN), convolution(before, after, 3, gain)])
        self.shortcut = shortcut(before, after)
        self.pool = pool or nn.AvgPool2d(2)

    def forward(self, h: Tensor) -> Tensor:
        branch = h
        for layer in self.convolutions:
            branch = layer(leaky_relu(branch, SLOPE))
        return self.shortcut(self.pool(h)) + self.pool(branch)


def again(block: nn.Module, *inputs: Tensor) -> Tensor:
    """block(*inputs), keeping the inputs alone: the rest is computed again where the backward pass needs it.

    Again from what the block was then: its weights, which an objective may have lent it, and its buffers, which every
    pass moves. Otherwise spectral normalisation would go on to another weight, and batch norm count the batch twice.
    """
    weights = dict(block.named_parameters())
    buffers = {name: buffer.clone() for name, buffer in block.named_buffers()}
    passes = count()

    def run(*inputs: Tensor) -> Tensor:
        state = {name: buffer.clone() for name, buffer in buffers.items()} if next(passes) else {}
        made: Tensor = functional_call(block, {**weights, **state}, inputs)
        return made

    made: Tensor = checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)
    return made


class Levels(nn.Module):
    """Blocks one after the other, and self-attention where maps have a height that is asked for.

    Arguments:
        blocks: each to the next level.
        maps: (C, height) of each level, from the input of the first block to the output of the last.
        attention: heights of maps in px, and what makes a layer that looks over C of them, such as `SelfAttention`.
        checkpointed: blocks are computed again in the backward pass, which takes about a third more time: only their
            inputs are kept until then.

    Raises:
        UsageError: no maps of that height.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], maps: Sequence[tuple[int, int]], attention: Attention, checkpointed: bool
    ) -> None:
        super().__init__()
        self.blocks, self.checkpointed = nn.ModuleList(blocks), checkpointed
        channels = {height: channels for channels, height in maps}
        for at in attention.keys() - channels.keys():
            raise UsageError(
                f"attention at {at} px",
                f"maps of {', '.join(map(str, sorted(channels)))} px",
                f"write --attention-at {min(channels, key=lambda height: abs(height - at))}",
            )
        with torch.random.fork_rng(devices=()):  # all else starts as it would without attention
            self.attention = nn.ModuleDict({str(at): make(channels[at]) for at, make in attention.items()})

    def forward(self, h: Tensor, *e: Tensor) -> Tensor:
        h = self._attend(h)
        for block in self.blocks:
            h = self._attend(self._run(block, h, *e))
        return h

    def _attend(self, h: Tensor) -> Tensor:
        height = str(h.shape[2])
        return self._run(self.attention[height], h) if height in self.attention else h

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        made: Tensor = again(block, *inputs) if self.checkpointed and torch.is_grad_enabled() else block(*inputs)
        return made


class Trunk(nn.Module):
    """x (B, C, H, W) in [0, 1] -> maps (B, channels, height, width) of 4 to 7 px on the shorter side.

    Arguments: see `Discriminator`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        attention: Attention,
        checkpointed: bool,
        gain: float = 0.0,
    ) -> None:
        super().__init__()
        sides = pyramid(shape)
        channels = widths(width, len(sides))
        self.shape = (channels[-1], *sides[-1])
        self.stem = convolution(shape[0], width, 3)
        maps = [(c, height) for c, (height, _) in zip(channels, sides)]
        self.levels = Levels([Down(*pair, gain) for pair in pairwise(channels)], maps, attention, checkpointed)
        self.last = Down(
            channels[-1], channels[-1], gain, nn.Identity()
        )  # sees all of the image, which no block before does

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.last(self.levels(self.stem(2 * x - 1))), SLOPE)


class Encoder(nn.Module):
    """x (B, C, H, W) -> raw code (B, out): what a posterior reads.

    Arguments:
        out: numbers per example, twice the latent size for a Gaussian posterior.
        shape, width, attention, checkpointed: see `Discriminator`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        out: int,
        width: int = 32,
        attention: Attention = NOWHERE,
        checkpointed: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, attention, checkpointed)
        self.code = Linear32(math.prod(self.trunk.shape), out)

    def forward(self, x: Tensor) -> Tensor:
        return self.code(self.trunk(x).flatten(1))


class Discriminator(nn.Module):
    """x (B, C, H, W) -> logits (B,), high for real, and features (B, F): the last maps, each summed over its pixels.

    Arguments:
        shape: (C, H, W), sides 16 to 128 px, see `pyramid`.
        width: channels of the finest level; doubled at each, up to four times.
        attention: which maps look over themselves, and by what, see `Levels`; none by default.
        checkpointed: less memory for more time, see `Levels`.
        gain: with which the last convolution of each block starts; 0, so that it begins as its shortcut. Where layers are
            divided by their largest singular value it must be another.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 32,
        attention: Attention = NOWHERE,
        checkpointed: bool = False,
        gain: float = 0.0,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, attention, checkpointed, gain)
        self.verdict = Linear32(self.trunk.shape[0], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x).float().sum((2, 3))
        return self.verdict(features).squeeze(1), features


class Decoder(nn.Module):
    """z (B, d), e (B, told) -> raw image (B, C_out, H, W): what a likelihood reads. Also the generator of a GAN.

    Arguments:
        shape: (C_out, H, W), C_out = the likelihood's factor times the image's channels; sides as for `Discriminator`.
        latent: d.
        norm: none; or batch, with which an example depends on the others of its batch in training.
        told: numbers in e, by which every block but the last layer is told of a label; 0 for no e.
        width, attention, checkpointed: see `Discriminator`.

    Raises:
        UsageError: another norm.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent: int,
        width: int = 32,
        attention: Attention = NOWHERE,
        norm: str = "none",
        told: int = 0,
        checkpointed: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UsageError("a residual decoder", f"norm={norm!r}", f"write {' or '.join(NORMS)}")
        sides = pyramid(shape)[::-1]
        channels = widths(width, len(sides))[::-1]
        self.coarsest = (channels[0], *sides[0])
        self.code = Linear32(latent, math.prod(self.coarsest))
        maps = [(c, height) for c, (height, _) in zip(channels, sides)]
        self.levels = Levels([Up(*pair, norm, told) for pair in pairwise(channels)], maps, attention, checkpointed)
        self.norm = NORMS[norm](width)
        self.pixels = convolution(width, shape[0], 3)

    @torch.no_grad()
    def start_at(self, raw: Tensor) -> None:
        """Say `raw` (C_out,) of every pixel, but for what the code adds."""
        self.pixels.bias.copy_(raw)  # type: ignore[union-attr]

    def forward(self, z: Tensor, *e: Tensor) -> Tensor:
        h = self.code(z).view(len(z), *self.coarsest).contiguous(memory_format=torch.channels_last)
        return self.pixels(leaky_relu(self.norm(self.levels(h, *e)), SLOPE))
