"""Nearest neighbours by brute force, tile by tile, in bounded memory.

    d^2(x, y) = |x|^2 + |y|^2 - 2 x.y        after moving the origin to the middle of the references

The right side loses what the two norms share: a squared distance below `rounding * (|x|^2 + |y|^2)` is noise and is set
to zero, so that copies are at distance 0. Tiles are at most 1,024 x 8,192: 64 MiB in float64, whatever the number of
items. Of one set the tiles on one side of the diagonal are enough: d(x, y) = d(y, x).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from amalgan.errors import UsageError

ROWS, COLUMNS = 1024, 8192
SQUARE = 2048  # side of a tile of one set with itself
MANY = 10**11  # products (items x items x values) from which on float32 is exact enough, and twice as fast
ROUNDING = {torch.float64: 1e-13, torch.float32: 3e-6}


class Items(Protocol):
    """What can be walked through block by block: a data split."""

    def __len__(self) -> int: ...
    def batch(self, index: Tensor) -> tuple[Tensor, Tensor | None]: ...


def blocks(items: Tensor | Items, size: int, first: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Start index and rows `(block, D)` of a tensor `(N, ...)` or a data split from `first` on, never held as floats in
    full."""
    for start in range(first, len(items), size):
        stop = min(start + size, len(items))
        part = items[start:stop] if isinstance(items, Tensor) else items.batch(torch.arange(start, stop))[0]
        yield start, part.flatten(1)


def squared_distances(x: Tensor, y: Tensor, room: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances `(n, m)` of rows `(n, D)` to rows `(m, D)`, noise below rounding set to zero; in `room`
    for n m numbers, if given, since to be handed fresh memory for every tile cost a tenth of the time."""
    of_x, of_y = (torch.linalg.vector_norm(rows, dim=1).square() for rows in (x, y))
    d2 = x.new_empty(len(x), len(y)) if room is None else room[: len(x) * len(y)].view(len(x), len(y))
    torch.add(of_x[:, None], of_y, out=d2).addmm_(x, y.T, alpha=-2)
    noise = ROUNDING[x.dtype]
    if float(d2.min()) < noise * float(
        of_x.max() + of_y.max()
    ):  # rarely, and half as dear as to compare all with theirs
        d2.masked_fill_(d2 < noise * (of_x[:, None] + of_y), 0)
    return d2


def tiles(
    x: Tensor | Items, y: Tensor | Items, dtype: torch.dtype = torch.float64
) -> Iterator[tuple[int, int, Tensor]]:
    """All squared distances of x's rows to y's as tiles (row start, column start, `(rows, columns)`); each is overwritten by
    the next."""
    origin, room = None, torch.empty(min(ROWS, len(x)) * min(COLUMNS, len(y)), dtype=dtype)
    for j, right in blocks(y, COLUMNS):
        right = right.to("cpu", dtype)
        origin = right.mean(0) if origin is None else origin
        right = right - origin
        for i, left in blocks(x, ROWS):
            yield i, j, squared_distances(left.to("cpu", dtype) - origin, right, room)


def precision(rows: int, columns: int, values: int) -> torch.dtype:
    """In which so many items of so many values are compared: float64 unless that would take minutes."""
    return torch.float64 if rows * columns * values < MANY else torch.float32


def nearest(
    x: Tensor | Items,
    y: Tensor | Items | None = None,
    k: int = 1,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Distances and indices `(N, k)` of the k nearest rows of y to each row of x, nearest first.

    Arguments:
        x: `(N, ...)`, rows after flattening.
        y: `(M, ...)`; None searches x itself and leaves out each item's distance to itself.
        dtype: of the search. float32 is about twice as fast and orders neighbours to about 1e-3 of a typical image's
            norm.

    Raises:
        UsageError: fewer than k neighbours are there.
    """
    candidates = len(x) - 1 if y is None else len(y)
    if candidates < k or len(x) == 0:
        raise UsageError(
            f"the {k} nearest neighbours of {len(x)} items",
            f"{candidates} candidates",
            "use more samples or a smaller k",
        )
    best = torch.full((len(x), k), torch.inf, dtype=dtype)
    index = torch.full((len(x), k), -1)

    def seen(d2: Tensor, row: int, column: int) -> None:
        """Squared distances `(rows, columns)` of x from `row` on to y from `column` on."""
        values, columns = d2.topk(min(k, d2.shape[1]), largest=False)
        rows = slice(row, row + len(d2))
        merged, order = torch.cat([best[rows], values], 1).topk(k, largest=False)
        best[rows], index[rows] = merged, torch.cat([index[rows], columns + column], 1).gather(1, order)

    if y is not None:
        for i, j, d2 in tiles(x, y, dtype):
            seen(d2, i, j)
        return best.sqrt(), index
    for i, j, d2 in _half(x, dtype):
        if i == j:
            d2.fill_diagonal_(torch.inf)
        else:
            seen(d2.T.contiguous(), j, i)
        seen(d2, i, j)
    return best.sqrt(), index


def _half(x: Tensor | Items, dtype: torch.dtype) -> Iterator[tuple[int, int, Tensor]]:
    """The tiles of x with itself on one side of the diagonal, and on it: (row start, column start, squared distances), each
    overwritten by the next."""
    origin, room = None, torch.empty(min(SQUARE, len(x)) ** 2, dtype=dtype)
    for i, left in blocks(x, SQUARE):
        left = left.to("cpu", dtype)
        origin = left.mean(0) if origin is None else origin
        left = left - origin
        for j, right in blocks(x, SQUARE, i):
            yield i, j, squared_distances(left, left if i == j else right.to("cpu", dtype) - origin, room)
