"""Data as every other room sees it: a Spec, three Splits, and what was done to get there.

A source is decoded into one `Decoded` collection, and `divide` gives each content its side. With digest h of the
pixels (or of the point) and a seeded uniform number u(h) in [0, 1):

    no official parts      u < 0.1 test,   0.1 <= u < 0.2 validation,   else train
    official test only     u < 0.1 of train becomes validation;   official validation only: likewise test

The side depends on the content alone, so it survives renaming, repacking and growing the source; equal contents
always share a side, and where the source itself put one content on two sides the later of train, validation, test
keeps it. Only a set of fewer than 100 contents is divided by the rank of u instead, so that every side gets its share.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import AmalganError, UsageError

ANY, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
HELD_OUT = 0.1
SMALL = 100  # contents; below it the share of each side is exact instead of fixed by each content alone
FULL = {torch.uint8: 255, torch.int16: 32767}  # whole numbers that mean 1: of images, of samples of sound
READ_AHEAD = 8  # batches that may wait decoded; beyond it the oldest is dropped


class Unreadable(Exception):
    """One item cannot be read; the text is the reason a person gets to see."""


@dataclass(frozen=True)
class Spec:
    """What networks need to know of the data, and nothing else.

    Arguments:
        modality: the name of one of `amalgan.modalities`.
        shape: of one example: (C, H, W) of an image, (D,) of a point.
        classes: class names in label order; () without labels.
        details: what else a modality's networks must know, as JSON has it.
    """

    modality: str
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """As plain lists and dicts."""
        return {"modality": self.modality, "shape": list(self.shape), "classes": list(self.classes)} | (
            {"details": self.details} if self.details else {}
        )

    @classmethod
    def from_json(cls, held: dict[str, Any]) -> Spec:
        """Back from `to_json`; raises KeyError or TypeError for anything else."""
        shape = tuple(held["shape"])
        if not shape or not all(isinstance(side, int) and side > 0 for side in shape):
            raise TypeError(f"shape {held['shape']!r}")
        return cls(held["modality"], shape, tuple(held["classes"]), dict(held.get("details", {})))


# Rows of a block of images, and (row in the block, reason) of those that could not be read.
Load = Callable[[Sequence[int]], tuple[np.ndarray, list[tuple[int, str]]]]


class Streamed:
    """Images too large to hold: uint8 rows (C, H, W) read when asked for, by a pool of threads.

    Arguments:
        load: gives the rows at positions of the source, as in the first pass.
        at: (N,) positions of these N images in the source.
        pool: threads that read; one thread where the source is not safe for more.
        store: the file that holds the pixels, None if they are decoded each time.
    """

    def __init__(
        self,
        load: Load,
        at: np.ndarray,
        shape: tuple[int, ...],
        pool: ThreadPoolExecutor,
        workers: int,
        store: Any = None,
    ) -> None:
        self.load, self.at, self.shape, self.pool, self.workers, self.store = load, at, shape, pool, workers, store
        self.waited = 0.0  # seconds that whoever asked had to wait
        self._ahead: OrderedDict[bytes, list[Future[np.ndarray]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.at)

    def select(self, index: np.ndarray) -> Streamed:
        """The images at `index` (n,) as a stream of their own."""
        return Streamed(self.load, self.at[index], self.shape, self.pool, self.workers, self.store)

    def _read(self, at: np.ndarray) -> np.ndarray:
        rows, failed = self.load(at.tolist())
        if failed:
            row, reason = failed[0]
            raise AmalganError(
                f"item {at[row]} of the data, which could be read when the data was opened",
                reason,
                "put the file back as it was, or open the data again",
            )
        return rows[:, : self.shape[0]]

    def _submit(self, index: np.ndarray) -> list[Future[np.ndarray]]:
        pieces = np.array_split(self.at[index], min(len(index), self.workers))
        return [self.pool.submit(self._read, piece) for piece in pieces]

    def prefetch(self, index: np.ndarray) -> None:
        """Start to decode `index` (n,); a later `rows` of the same index finds it done."""
        if len(index) == 0:
            return
        self._ahead[index.tobytes()] = self._submit(index)
        while len(self._ahead) > READ_AHEAD:
            for future in self._ahead.popitem(last=False)[1]:
                future.cancel()

    def rows(self, index: np.ndarray) -> Tensor:
        """uint8 (n, C, H, W) at `index` (n,)."""
        if len(index) == 0:
            return torch.empty((0, *self.shape), dtype=torch.uint8)
        start = time.perf_counter()
        futures = self._ahead.pop(index.tobytes(), None) or self._submit(index)
        rows = np.concatenate([future.result() for future in futures])
        self.waited += time.perf_counter() - start
        return torch.from_numpy(rows)


class Split:
    """One part of the data: N items and their labels.

    Arguments:
        x: uint8 (N, C, H, W), int16 (N, 1, samples), float32 (N, D), or a stream of uint8 images.
        c: (N,) int64 labels, -1 = unknown; (N, K) float32 numbers, NaN = unknown; or None.
    """

    def __init__(self, x: Tensor | Streamed, c: Tensor | None) -> None:
        self.x, self.c = x, c
        self._copies: dict[str, tuple[Tensor, Tensor | None]] = {}

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Split({len(self):,} items, {'streamed' if isinstance(self.x, Streamed) else 'in memory'})"

    def _resident(self, x: Tensor, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """x and c where they are wanted: copied there once, if they leave room for the work."""
        if device.type == "cpu":
            return x, self.c
        key = str(device)
        if key not in self._copies:
            if device.type == "cuda" and x.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
                return x, self.c
            self._copies[key] = x.to(device), None if self.c is None else self.c.to(device)
        return self._copies[key]

    def batch(self, index: Tensor, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor | None]:
        """Items as the networks take them: x float32 (B, *shape), images in [0, 1], sound in [-1, 1]; c (B,) or None.

        Arguments:
            index: (B,) int64 positions in this split, on any device.
            device: where x and c are wanted.
        """
        device = torch.device(device)
        if isinstance(self.x, Streamed):
            at = index.cpu()
            x, c = self.x.rows(at.numpy()), None if self.c is None else self.c[at]
        else:
            held, labels = self._resident(self.x, device)
            at = index.to(held.device)
            x, c = held.index_select(0, at), None if labels is None else labels[at]
        x = x.to(device, non_blocking=True)
        return x.float().div_(FULL[x.dtype]) if x.dtype in FULL else x, None if c is None else c.to(device)

    def prefetch(self, index: Tensor) -> None:
        """Let a streamed split read (B,) items ahead; nothing to do for data in memory."""
        if isinstance(self.x, Streamed):
            self.x.prefetch(index.cpu().numpy())

    @property
    def waited(self) -> float:
        """Seconds so far that whoever asked had to wait for images that are read as they are needed."""
        return self.x.waited if isinstance(self.x, Streamed) else 0.0

    def tensor(self, limit: int | None = None) -> Tensor:
        """The first `limit` items (all by default) as one float tensor (n, *shape)."""
        return self.batch(torch.arange(len(self) if limit is None else min(limit, len(self))))[0]


@dataclass(frozen=True, eq=False)
class Data:
    """A named set of items in three parts.

    Arguments:
        name: what the source is called.
        spec: modality, shape and classes.
        notes: in words, what was resized, cropped, skipped and counted.
        fingerprint: hash of the contents, labels and parts; equal data, equal fingerprint, wherever it is stored.
        skipped: (name, reason) of every file left out.
        known: the true density, for problems that have one: a `Mixture`, `Halves`, an `Oracle`.
    """

    name: str
    spec: Spec
    train: Split
    validation: Split
    test: Split
    notes: list[str]
    fingerprint: str
    skipped: list[tuple[str, str]] = field(default_factory=list)
    known: Any = None

    def held_out(self, split: str) -> Split:
        """The part that a model may be judged on.

        Raises:
            UsageError: another name than test or validation.
        """
        if split not in ("test", "validation"):
            raise UsageError("an evaluation", f"split={split!r}", "write test, or validation while settings are chosen")
        part: Split = getattr(self, split)
        return part


@dataclass
class Decoded:
    """Everything a source holds, before it is divided.

    Arguments:
        x: uint8 (N, C, H, W), float32 (N, D) or a stream.
        digest: (N,) uint64 hashes of the contents.
        c: (N,) int64 labels, (N, K) float32 numbers, or None; classes, numbers: their names.
        part: (N,) int8, the part the source itself assigns: ANY, TRAIN, VALIDATION or TEST.
        notes, skipped: as in `Data`.
        group: (N,) uint64, the same for items that must be on one side; by default the digest.
        split: makes a `Split` of rows, labels and the positions of both.
    """

    x: Tensor | Streamed
    digest: np.ndarray
    c: np.ndarray | None
    classes: tuple[str, ...]
    part: np.ndarray
    notes: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    numbers: tuple[str, ...] = ()
    group: np.ndarray | None = None
    split: Callable[[Tensor | Streamed, Tensor | None, np.ndarray], Split] = lambda x, c, at: Split(x, c)


def grey_rows(x: np.ndarray) -> np.ndarray:
    """Which of the images uint8 (N, C, H, W) have equal channels: (N,) bool."""
    if x.shape[1] == 1:
        return np.ones(len(x), bool)
    flat = x.reshape(len(x), x.shape[1], -1)
    return (flat[:, :1] == flat[:, 1:]).all((1, 2))


def digests(x: np.ndarray) -> np.ndarray:
    """(N,) uint64 hashes of the items of x; a grey image has one hash, stored with one channel or with three."""
    rows = np.ascontiguousarray(x)
    if x.ndim == 4:
        grey = grey_rows(x)
        hashed = (hashlib.blake2b(row[:1] if g else row, digest_size=8) for row, g in zip(rows, grey))
    else:
        hashed = (hashlib.blake2b(row, digest_size=8) for row in rows + 0.0)  # + 0.0: -0.0 is 0.0
    return np.frombuffer(b"".join(h.digest() for h in hashed), dtype="<u8").astype(np.uint64)


def uniform(digest: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each digest and seed: splitmix64 (Steele, Lea and Flood 2014) of their sum."""
    z = digest + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sides(digest: np.ndarray, part: np.ndarray, seed: int = 0) -> np.ndarray:
    """The side of every item: (N,) TRAIN, VALIDATION, TEST, or ANY for a duplicate that has to leave.

    Arguments:
        digest: (N,) uint64 contents; part: (N,) official parts.
        seed: another seed, another division.
    Raises:
        UsageError: fewer distinct contents than the three sides need.
    """
    content, group = np.unique(digest, return_inverse=True)
    u = uniform(content, seed)
    official = np.full(len(content), ANY)
    np.maximum.at(official, group, part)
    free = official <= TRAIN
    side = np.where(free, TRAIN, official)
    wanted = [s for s in (TEST, VALIDATION) if not (official == s).any()]  # none, or all of it in a later part
    for k, s in enumerate(wanted):
        side[free & (u >= k * HELD_OUT) & (u < (k + 1) * HELD_OUT)] = s
    if free.sum() < SMALL or not all((side == s).any() for s in (TRAIN, *wanted)):  # chance would be unfair
        rank = np.argsort(np.where(free, u, 2.0), kind="stable")[: free.sum()]
        share = max(1, int(len(rank) * HELD_OUT))
        side[rank] = TRAIN
        for k, s in enumerate(wanted):
            side[rank[k * share : (k + 1) * share]] = s
    missing = [name for s, name in enumerate(("training", "validation", "test")) if not (side == s).any()]
    if missing:
        raise UsageError(
            "data for training, validation and test",
            f"{len(content)} distinct item{'' if len(content) == 1 else 's'} among {len(digest)}"
            f"; nothing is left for {' and '.join(missing)}",
            "give at least 3 different items (a few hundred is a sensible minimum), none of them in two parts",
        )
    return np.where(free[group] | (part == official[group]), side[group], ANY)


def _in_units(splits: list[Split], names: tuple[str, ...]) -> dict[str, Any]:
    """Numbers that describe items, brought to mean 0 and deviation 1 of the training part; in words how, for a Spec."""
    if not names:
        return {}
    train = splits[0].c
    assert train is not None
    mean = train.nanmean(0)
    deviation = (train - mean).square().nanmean(0).sqrt().clamp(min=1e-6)
    for split in splits:
        if split.c is not None:
            split.c = (split.c - mean) / deviation
    return {"numbers": list(names), "mean": mean.tolist(), "deviation": deviation.tolist()}


def divide(decoded: Decoded, name: str, seed: int = 0, limit: int | None = None, spec: Spec | None = None) -> Data:
    """Data in three parts that share no content, an official test set untouched, each in an order drawn from contents.

    Arguments:
        limit: at most so many items in each part, the first of its order.
        spec: of the items; by default images or points, by their shape.
    """
    x, c = decoded.x, decoded.c
    side = sides(decoded.digest if decoded.group is None else decoded.group, decoded.part, seed)
    notes = list(decoded.notes)
    left = int((side == ANY).sum())
    if left:
        notes.append(f"{left:,} items left the earlier part because the same content is in a later one (test wins)")
    repeated = sum(
        int(n) - len(np.unique(decoded.digest[side == s])) for s, n in enumerate(np.bincount(side[side >= 0]))
    )
    if repeated:
        notes.append(f"{repeated:,} items repeat another one of the same part; they stay")
    order = uniform(decoded.digest, seed + 1)  # not the source's: its first thousand may all be of one class
    digest = hashlib.blake2b(digest_size=16)
    splits = []
    for s in (TRAIN, VALIDATION, TEST):
        at = np.flatnonzero(side == s)
        at = at[np.argsort(order[at], kind="stable")[:limit]]
        labels = None if c is None else c[at]
        rows = x.select(at) if isinstance(x, Streamed) else x[torch.from_numpy(at)]
        splits.append(decoded.split(rows, None if labels is None else torch.from_numpy(labels), at))
        digest.update(decoded.digest[at].astype("<u8").tobytes() + b"|")
        digest.update(b"" if labels is None else labels.astype("<f4" if decoded.numbers else "<i8").tobytes())
    if limit is not None:
        notes.append(f"limited to {limit:,} items a part, chosen by content")
    shape = tuple(x.shape) if isinstance(x, Streamed) else tuple(x.shape[1:])
    modality = "images" if len(shape) == 3 else "points"
    spec = spec or Spec(modality, shape, decoded.classes, _in_units(splits, decoded.numbers))
    digest.update(repr(spec).encode())
    train, validation, test = splits
    notes.append(
        f"{len(train):,} for training, {len(validation):,} for validation, {len(test):,} for test"
        + (" (its own test set)" if (decoded.part == TEST).any() else "")
    )
    return Data(name, spec, train, validation, test, notes, digest.hexdigest(), decoded.skipped)
