"""Named streams of randomness.

Every random number of a run is a pure function of (seed, name of the stream, step): adding a term never shifts another
term's noise, resuming needs no generator state, and n processes draw the rows that one process would have drawn.
"""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor

BLOCK = 64  # rows of `rows` are drawn in whole blocks, so that row 17 does not depend on how many rows are asked for


def key(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same on every machine and in every process."""
    return int.from_bytes(blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()) >> 1


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh torch generator for the stream named by `parts`."""
    return torch.Generator(device).manual_seed(key(*parts))


def rows(n: int, shape: tuple[int, ...], *parts: object, start: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """Rows `start` to `start + n` of an endless table of N(0, 1) numbers: (n, *shape), row i the same for any n."""
    first, last = start // BLOCK, (start + n - 1) // BLOCK
    blocks = [
        torch.randn(BLOCK, *shape, generator=generator(*parts, block, device=device), device=device)
        for block in range(first, last + 1)
    ]
    return torch.cat(blocks)[start - first * BLOCK :][:n]


def uniform_rows(n: int, shape: tuple[int, ...], *parts: object) -> Tensor:
    """The first n rows of an endless table of numbers in [0, 1]: (n, *shape), row i the same for any n."""
    return torch.special.ndtr(rows(n, shape, *parts))


class Noise:
    """The random numbers of one draw: `noise(name, shape)` is N(0, 1), drawn for the global batch, cut to our share.

    Arguments:
        seed: the run's seed.
        step: the number of the draw within the run.
        rank, world: which of how many processes asks; `shape[0]` is the local batch.
    """

    def __init__(
        self, seed: int, step: int = 0, rank: int = 0, world: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        self.seed, self.step, self.rank, self.world, self.device = seed, step, rank, world, device

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        local, *rest = shape
        source = generator(self.seed, name, self.step, device=self.device)
        whole = torch.randn(local * self.world, *rest, generator=source, device=self.device)
        return whole[self.rank * local :][:local]

    def uniform(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Numbers in [0, 1] from the stream, in place of N(0, 1) ones."""
        return torch.special.ndtr(self(name, shape))
