"""Time series as windows of real numbers, (T, D) each: rows of a table, cut after the table was divided.

    rows -> groups in order of time -> parts -> windows        in this order, so that no row is in windows of two parts

Three or more groups (series of their own) are divided by group. One or two long series are divided into contiguous
blocks, of every ten of them one for test and one for validation, and between blocks of different parts a window's length
of rows is left out. Columns are scaled to [0, 1] by what training rows hold; the scales are part of the `Spec`, so that
samples come back in the data's units.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from ..noise import generator
from .core import ANY, TEST, TRAIN, VALIDATION, Data, Spec, Split, sides
from .packed import arrays, table

WINDOW = 24  # rows of a window of a long series, unless asked for more
WHOLE = 128  # series of one length up to this are windows as they are
MOST = 200_000  # windows of a part; beyond it the default stride grows
SINES = {"T": 30, "D": 1, "K": 0, "N": 10_000}
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-", "inf", "-inf"))
SOURCES = "a table of numbers, .csv (.gz), .npy or .npz; an array (rows, columns) or (series, steps, columns); sines"


class Windows(Split):
    """Windows (N, T, D) of one part.

    Arguments:
        x: float32 (N, T, D), training rows within [0, 1].
        c: (N,) labels, -1 = unknown, or None.
        first: (N,) the row at which each begins, in the table sorted by group and time.
    """

    def __init__(self, x: Tensor, c: Tensor | None, first: Tensor) -> None:
        super().__init__(x, c)
        self.first = first


@dataclass
class Table:
    """Rows as they were read.

    Arguments:
        names: of the columns of values.
        values: (R, D) float64, NaN where missing.
        time, group, label: (R,) each, or None; times as numbers, labels as text, "" where missing.
        notes: in words, what was left out.
    """

    names: list[str]
    values: np.ndarray
    time: np.ndarray | None
    group: np.ndarray | None
    label: np.ndarray | None
    notes: list[str]


@dataclass(frozen=True)
class Piece:
    """Rows start..stop of the sorted table: one part, one group, one label."""

    start: int
    stop: int
    side: int

    def __len__(self) -> int:
        return self.stop - self.start


def open(
    source: Any,
    *,
    time: str | None = None,
    group: str | None = None,
    label: str | None = None,
    window: int | None = None,
    stride: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    spec: Spec | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Windows in three parts with no row in common.

    Arguments:
        source: a .csv file (also gzipped; commas, semicolons or tabs), a .npy or .npz file (x, perhaps y for labels), an
            array (rows, columns) or (series, steps, columns), (x, y), or "sines" (also "sines:T=30,D=1,K=4").
        time: the column that rows are sorted by: numbers or ISO dates; by default they are in order.
        group: the column that tells series apart; by default there is one.
        label: the column of labels; a window never has two.
        window: rows of a window, >= 2; by default the length of series that are all alike and short, else 24.
        stride: rows from one window to the next, >= 1; by default 1.
        limit: at most so many windows in each part, evenly spaced.
        seed: another seed divides differently, and draws other sines.
        spec: of a trained model, whose columns, scales, labels and window are taken over.
        progress: called with rows read and rows in all.

    Raises:
        UsageError: nothing there, nothing readable, no such column, or too few rows.
    """
    if isinstance(source, Data):
        return source
    for name, value, least in (("window", window, 2), ("stride", stride, 1), ("limit", limit, 1)):
        if value is not None and value < least:
            raise UsageError(f"--{name} {value}", "too few", f"write {least} or more, or leave it out")
    if isinstance(source, str) and source.partition(":")[0] == "sines":
        name, table = source, sines(source, seed)
    else:
        name, table = _read(source, time, group, label)
    if progress is not None:
        progress(len(table.values), len(table.values))
    return divided(name, table, window, stride, limit, seed, spec)


def sines(text: str = "sines", seed: int = 0) -> Table:
    """The set of RGAN: T steps of a sin(2 pi f t / T + p), 1 <= f <= 5, 0.1 <= a <= 0.9, any p, in each of D columns.

    With K labels the label tells the band of the first column's frequency. (Esteban et al. 2017, section 4.1)
    """
    settings = dict(SINES)
    for word in filter(None, text.partition(":")[2].split(",")):
        name, _, value = word.partition("=")
        if name not in settings or not value.isdigit() or (name != "K" and int(value) < (3 if name == "T" else 1)):
            raise UsageError(text, f"{word!r}", f"write for example sines:T=30,D=2,K=4 ({', '.join(settings)})")
        settings[name] = int(value)
    steps, columns, bands, count = settings.values()
    u = torch.rand(3, count, 1, columns, generator=generator(seed, "sines"), dtype=torch.float64)
    frequency, amplitude, phase = 1 + 4 * u[0], 0.1 + 0.8 * u[1], 2 * math.pi * u[2]
    t = torch.arange(steps, dtype=torch.float64)[None, :, None]
    x = amplitude * torch.sin(2 * math.pi * frequency * t / steps + phase)
    label = None
    if bands:
        band = ((frequency[:, 0, 0] - 1) / 4 * bands).long().clamp(max=bands - 1).numpy()
        edges = 1 + 4 * np.arange(bands + 1) / bands
        names = np.array([f"{low:g} to {high:g} periods" for low, high in zip(edges, edges[1:])])
        label = np.repeat(names[band], steps)
    names_ = ["x"] if columns == 1 else [f"x{d + 1}" for d in range(columns)]
    group = np.repeat(np.arange(count), steps)
    notes = [f"{count:,} series of 1 to 5 periods, drawn from seed {seed}"]
    return Table(names_, x.view(-1, columns).numpy(), None, group, label, notes)


def in_units(x: Tensor, spec: Spec) -> Tensor:
    """Windows (n, T, D) of [0, 1] in the data's units, float64."""
    low, high = (torch.tensor(spec.details[name], dtype=torch.float64) for name in ("low", "high"))
    return low + (high - low) * x.cpu().double()


# Reading


def _read(source: Any, time: str | None, group: str | None, label: str | None) -> tuple[str, Table]:
    special = {"time": time, "group": group, "label": label}
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        asked = f"time series from {path}"
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            raise UsageError(asked, found, f"give {SOURCES}")
        if path.suffix in (".npy", ".npz"):
            return path.name, _of_arrays(arrays(path, asked, f"give {SOURCES}"), special, asked)
        return path.name, _of_csv(path, special)
    if isinstance(source, tuple) and len(source) == 2:
        source = {"x": source[0], "y": source[1]}
    elif isinstance(source, np.ndarray | Tensor):
        source = {"x": source}
    if isinstance(source, Mapping):
        return "arrays", _of_arrays({name: np.asarray(a) for name, a in source.items()}, special, "time series")
    raise UsageError("time series", f"a {type(source).__name__}", f"give {SOURCES}")


def _of_arrays(arrays: Mapping[str, np.ndarray], special: Mapping[str, str | None], asked: str) -> Table:
    """x (R,), (R, D) or (N, T, D) with labels y of rows or of series; other arrays by the names that flags give."""
    x = arrays.get("x", next(iter(arrays.values())) if len(arrays) == 1 else None)
    if x is None or x.ndim not in (1, 2, 3) or x.size == 0 or x.dtype.kind not in "fiub":
        found = "no array x" if x is None else f"x of shape {x.shape} and type {x.dtype}"
        raise UsageError(asked, found, "give numbers x (rows, columns) or (series, steps, columns), perhaps labels y")
    series, steps = (len(x), x.shape[1]) if x.ndim == 3 else (1, len(x))
    values = x.reshape(series * steps, -1).astype(np.float64)

    def column(what: str, default: str | None = None) -> np.ndarray | None:
        name = special[what] or default
        if name is None or (name not in arrays and special[what] is None):
            return None
        if name not in arrays or arrays[name].ndim != 1 or len(arrays[name]) not in (series, len(values)):
            found = f"arrays {', '.join(arrays)}" if name not in arrays else f"{name} of shape {arrays[name].shape}"
            raise UsageError(f"--{what} {name}", found, f"give one value for each row of x ({len(values):,})")
        held = arrays[name]
        return held if len(held) == len(values) else np.repeat(held, steps)

    group, label = column("group"), column("label", "y")
    if group is None and x.ndim == 3:
        group = np.repeat(np.arange(series), steps)
    names = ["x"] if values.shape[1] == 1 else [f"x{d + 1}" for d in range(values.shape[1])]
    infinite = int(np.isinf(values).sum())
    values[np.isinf(values)] = np.nan
    time = column("time")
    return Table(
        names,
        values,
        None if time is None else _times([str(t) for t in time.tolist()], special["time"] or ""),
        group,
        None if label is None else np.array([str(v) for v in label.tolist()]),
        [f"{infinite:,} infinite values count as missing"] if infinite else [],
    )


def _of_csv(path: Path, special: Mapping[str, str | None]) -> Table:
    names, rows, notes = _cells(path)
    for what, name in special.items():
        if name is not None and name not in names:
            raise UsageError(f"--{what} {name}", f"columns {', '.join(names)}", "write one of them")
    columns = dict(zip(names, zip(*rows)))
    taken = {what: columns.pop(name) for what, name in special.items() if name is not None}
    values, kept, words = [], [], []
    for name, cells in columns.items():
        numbers, strange = _numbers(cells)
        if strange > 0.5 * sum(cell.lower() not in MISSING for cell in cells):
            words.append(name)
            continue
        if strange:
            notes.append(f"{strange:,} cells of {name} that are no numbers count as missing")
        kept.append(name)
        values.append(numbers)
    if words:
        hint = (
            "" if special["time"] and special["group"] else "; --time, --group and --label give such columns a meaning"
        )
        notes.append(f"columns that are no numbers are left out: {', '.join(words)}{hint}")
    if not kept:
        raise UsageError(f"time series from {path}", "no column of numbers", "give a table with at least one")
    return Table(
        kept,
        np.stack(values, 1),
        _times(taken["time"], special["time"] or "") if "time" in taken else None,
        np.array(taken["group"]) if "group" in taken else None,
        np.array([c if c.lower() not in MISSING else "" for c in taken["label"]]) if "label" in taken else None,
        notes,
    )


def _cells(path: Path) -> tuple[list[str], list[list[str]], list[str]]:
    """Column names, rows of as many cells, and notes."""
    asked = f"time series from {path}"
    read, delimiter = table(path, asked, f"give {SOURCES}")
    rows = [[cell.strip() for cell in row] for row in read]
    if delimiter == ";":  # where semicolons part, commas are decimal
        rows = [[cell.replace(",", ".") for cell in row] for row in rows]
    if not rows:
        raise UsageError(asked, "an empty file", f"give {SOURCES}")
    _, strange = _numbers(rows[0])
    names = [cell or f"x{i + 1}" for i, cell in enumerate(rows.pop(0))] if strange else []
    names = names or [f"x{i + 1}" for i in range(len(rows[0]))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(asked, f"two columns called {twice!r}", "rename one of them")
    whole = [row for row in rows if len(row) == len(names)]
    if not whole:
        raise UsageError(asked, "no rows", "give a table with at least a few hundred")
    left = len(rows) - len(whole)
    return names, whole, [f"{left:,} rows with more or fewer cells than columns left out"] if left else []


def _numbers(cells: Sequence[str]) -> tuple[np.ndarray, int]:
    """Numbers, NaN where there is none, and how many cells are neither number nor missing."""
    found, strange = np.full(len(cells), np.nan), 0
    for i, cell in enumerate(cells):
        if cell.lower() not in MISSING:
            try:
                found[i] = float(cell)
            except ValueError:
                strange += 1
    return found, strange


def _times(cells: Sequence[str], name: str) -> np.ndarray:
    """Numbers, or seconds of ISO dates."""
    numbers, strange = _numbers(cells)
    if not strange and not np.isnan(numbers).any():
        return numbers
    found = []
    for number, cell in enumerate(cells, 1):
        try:
            found.append(datetime.fromisoformat(cell).timestamp())
        except ValueError:
            raise UsageError(
                f"--time {name}", f"{cell!r} in row {number}", "give numbers or ISO dates (2024-12-31), none missing"
            ) from None
    return np.array(found)


# Dividing


def divided(
    name: str,
    table: Table,
    window: int | None = None,
    stride: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    spec: Spec | None = None,
) -> Data:
    """Parts first, windows after: see the top of this file. Arguments as for `open`."""
    table, bounds = _in_order(table)
    notes = table.notes
    if spec is not None:
        missing = [column for column in spec.details["names"] if column not in table.names]
        if missing:
            found = f"columns {', '.join(table.names)}"
            raise UsageError(
                f"series like those of a model of {', '.join(spec.details['names'])}", found, "name them so"
            )
        window = spec.shape[0]
    window = window or _window(bounds)
    pieces = [p for p in _pieces(table, bounds, window, seed, notes) if len(p) >= window]
    _complete(pieces, len(bounds), len(table.values), window)
    kept = spec.details["names"] if spec is not None else _columns(table, pieces, notes)
    values = table.values[:, [table.names.index(column) for column in kept]]
    pieces = _filled(values, pieces, notes)
    _complete(pieces, len(bounds), len(table.values), window)
    if spec is None:
        rows = np.concatenate([values[p.start : p.stop] for p in pieces if p.side == TRAIN])
        details = {"names": kept, "low": rows.min(0).tolist(), "high": rows.max(0).tolist()}
        steps = np.concatenate([np.diff(values[p.start : p.stop], axis=0) for p in pieces if p.side == TRAIN])
        details["changes"] = (np.maximum(steps.std(0), 1e-9) / (rows.max(0) - rows.min(0))).tolist()
        labels = () if table.label is None else tuple(sorted(set(table.label.tolist()) - {""}, key=_natural))
        spec = Spec("series", (window, len(kept)), labels, details)
    low, high = (np.array(spec.details[bound]) for bound in ("low", "high"))
    scaled = torch.from_numpy(((values - low) / (high - low)).astype(np.float32))
    stride = stride or _stride(pieces, window, notes)
    splits = [_windows(scaled, table.label, [p for p in pieces if p.side == s], spec, stride, limit) for s in SIDES]
    train, validation, test = splits
    if limit is not None:
        notes.append(f"limited to {limit:,} windows a part, evenly spaced")
    notes.insert(
        0, f"{len(table.values):,} rows of {', '.join(kept)}; windows of {window} rows, {stride} from one to the next"
    )
    notes.append(f"{len(train):,} for training, {len(validation):,} for validation, {len(test):,} for test")
    digest = hashlib.blake2b(repr(spec).encode() + repr(spec.details).encode(), digest_size=16)
    for split in splits:
        digest.update(split.tensor().numpy().tobytes() + b"|")
        digest.update(b"" if split.c is None else split.c.numpy().tobytes())
    return Data(name, spec, train, validation, test, notes, digest.hexdigest())


SIDES = (TRAIN, VALIDATION, TEST)


def _in_order(table: Table) -> tuple[Table, list[tuple[int, int]]]:
    """The table sorted by group and time, and the rows of each group."""
    count = len(table.values)
    codes = np.zeros(count, np.int64) if table.group is None else np.unique(table.group, return_inverse=True)[1]
    times = np.arange(count, dtype=np.float64) if table.time is None else table.time
    order = np.lexsort((times, codes))
    codes, times = codes[order], times[order]
    edges = np.flatnonzero(np.diff(codes, prepend=-1, append=codes.max() + 1))
    bounds = [(int(a), int(b)) for a, b in zip(edges, edges[1:])]
    notes = list(table.notes)
    if table.time is not None:
        inside = np.diff(codes) == 0
        twice = int((inside & (np.diff(times) == 0)).sum())
        if twice:
            raise UsageError(
                "rows in order of time",
                f"{twice:,} rows at the time of another one of their series",
                "name the column that tells series apart in --group, or remove rows that stand twice",
            )
        if (np.diff(order) < 0).any() and table.group is None:
            notes.append("rows were not in order of time, and were sorted")
        steps = np.diff(times)[inside]
        if len(steps) and steps.max() > 1.5 * np.median(steps):
            notes.append("steps of time are not all equal; rows count as equally far apart")
    label = None if table.label is None else table.label[order]
    return Table(table.names, table.values[order], times, table.group, label, notes), bounds


def _window(bounds: list[tuple[int, int]]) -> int:
    lengths = {stop - start for start, stop in bounds}
    if len(bounds) >= 3:
        return max(2, min(lengths) if len(lengths) == 1 and max(lengths) <= WHOLE else min(WINDOW, *lengths))
    return WINDOW


def _pieces(table: Table, bounds: list[tuple[int, int]], window: int, seed: int, notes: list[str]) -> list[Piece]:
    """Rows of one part, one group and one label."""
    if len(bounds) >= 3:
        short = sum(stop - start < window for start, stop in bounds)
        if short:
            notes.append(f"{short:,} series of fewer than {window} rows left out")
        long = [(start, stop) for start, stop in bounds if stop - start >= window]
        digests = [hashlib.blake2b(table.values[a:b].tobytes(), digest_size=8).digest() for a, b in long]
        if len(set(digests)) < 3:
            _complete([], len(bounds), len(table.values), window)
        at = sides(np.frombuffer(b"".join(digests), "<u8").astype(np.uint64), np.full(len(long), ANY, np.int8), seed)
        notes.append(f"{len(long):,} series, divided by series")
        parts = [Piece(a, b, int(side)) for (a, b), side in zip(long, at)]
    else:
        parts = [p for number, (a, b) in enumerate(bounds) for p in blocks(a, b, window, seed, number)]
        count = sum(p.side != TRAIN for p in parts)
        notes.append(
            f"divided into blocks of rows, {count} of them for test and validation, {window} rows left out between parts"
        )
    if table.label is None:
        return parts
    return [piece for part in parts for piece in _of_one_label(part, table.label)]


def _of_one_label(part: Piece, label: np.ndarray) -> list[Piece]:
    runs, start = [], part.start
    for _, rows in groupby(label[part.start : part.stop].tolist()):
        stop = start + len(list(rows))
        runs.append(Piece(start, stop, part.side))
        start = stop
    return runs


def blocks(start: int, stop: int, window: int, seed: int = 0, number: int = 0) -> list[Piece]:
    """Rows start..stop of one series in contiguous blocks of two to four windows, neighbours of one part joined.

    Of every ten blocks one, drawn, is for test and one for validation, so that both see every age of the series.
    Between parts a window of rows is left out, of the training set where it is one of the two.
    """
    size = min(max((stop - start) // 10, 2 * window), 4 * window)
    count = (stop - start) // size
    side = [TRAIN] * count
    for first in range(0, count, 10):
        some = min(10, count - first)
        if some >= 5 or first == 0:
            drawn = torch.randperm(some, generator=generator(seed, "blocks", number, first)).tolist()
            for s, at in zip((TEST, VALIDATION), drawn):
                side[first + at] = s
    edges = [start + i * size for i in range(count)] + [stop]
    joined: list[Piece] = []
    for s, run in groupby(range(count), key=lambda i: side[i]):
        which = list(run)
        joined.append(Piece(edges[which[0]], edges[which[-1] + 1], s))
    return [
        Piece(
            piece.start + window * (before is not None and piece.side < before.side),
            piece.stop - window * (after is not None and piece.side < after.side),
            piece.side,
        )
        for before, piece, after in zip([None, *joined], joined, [*joined[1:], None])
    ]


def _complete(pieces: list[Piece], groups: int, rows: int, window: int) -> None:
    if {p.side for p in pieces} != set(SIDES):
        found = f"{rows:,} rows" + (f" in {groups:,} series" if groups > 1 else "")
        shorter = max(2, rows // (8 * groups if groups >= 3 else 8))
        advice = f"write --window {shorter}" if shorter < window else "give a longer series, a few hundred rows or more"
        raise UsageError(f"windows of {window} rows for training, validation and test", found, advice)


def _columns(table: Table, pieces: list[Piece], notes: list[str]) -> list[str]:
    """Columns that training rows say something of: not mostly missing, not constant, not another one again."""
    rows = np.concatenate([table.values[p.start : p.stop] for p in pieces if p.side == TRAIN])
    empty: list[str] = []
    constant: list[str] = []
    again: list[str] = []
    kept: dict[str, np.ndarray] = {}
    for name, column in zip(table.names, rows.T):
        held = column[~np.isnan(column)]
        if 2 * len(held) < len(column):
            empty.append(name)
        elif held.min() == held.max():
            constant.append(name)
        elif any(np.array_equal(column, other, equal_nan=True) for other in kept.values()):
            again.append(name)  # a model would have to learn to say the same number twice
        else:
            kept[name] = column
    for names, why in ((empty, "more than half missing"), (constant, "constant"), (again, "equal to an earlier one")):
        if names:
            notes.append(f"columns that are {why} in training rows are left out: {', '.join(names)}")
    if not kept:
        found = f"{len(empty)} columns mostly missing, {len(constant)} constant"
        raise UsageError("columns to learn from", found, "give a column that changes")
    return list(kept)


def _filled(values: np.ndarray, pieces: list[Piece], notes: list[str]) -> list[Piece]:
    """Missing values in place of which stands the line between their neighbours; pieces without neighbours leave."""
    missing, whole = 0, []
    for piece in pieces:
        rows = values[piece.start : piece.stop]
        gone = np.isnan(rows)
        if gone.all(0).any():
            continue
        for column, absent in zip(rows.T, gone.T):
            at = np.flatnonzero(~absent)
            column[:] = np.interp(np.arange(len(column)), at, column[at])
        missing += int(gone.sum())
        whole.append(piece)
    if missing:
        share = missing / max(1, sum(len(p) for p in whole) * values.shape[1])
        notes.append(f"{missing:,} missing values ({share:.1%}) filled in from the rows before and after, part by part")
    if len(whole) < len(pieces):
        notes.append(f"{len(pieces) - len(whole):,} stretches without any value in some column left out")
    return whole


def _stride(pieces: list[Piece], window: int, notes: list[str]) -> int:
    count = sum(len(p) - window + 1 for p in pieces)
    stride = math.ceil(count / MOST)
    if stride > 1:
        notes.append(f"{count:,} windows would be too many: --stride is {stride}")
    return stride


def _windows(
    scaled: Tensor, label: np.ndarray | None, pieces: list[Piece], spec: Spec, stride: int, limit: int | None
) -> Windows:
    window = spec.shape[0]
    first = torch.cat([torch.arange(p.start, p.stop - window + 1, stride) for p in pieces])
    if limit is not None and limit < len(first):
        first = first[torch.linspace(0, len(first) - 1, limit).long()]
    x = scaled[first[:, None] + torch.arange(window)]
    if not spec.classes:
        return Windows(x, None, first)
    known = {name: i for i, name in enumerate(spec.classes)}
    c = [-1] * len(first) if label is None else [known.get(label[i], -1) for i in first.tolist()]
    return Windows(x, torch.tensor(c, dtype=torch.int64), first)


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers by size, before words by letter."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text
