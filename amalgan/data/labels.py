"""What is known of each item beside itself: its class, or numbers that describe it; from arrays or from a table.

A table is a CSV with a header. Its first column names files, each as its path below the opened folder or as much of the end
of it as no other file shares; one further column of words or whole numbers is the class, several are numbers. An empty
field is unknown.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ..errors import UsageError

UNKNOWN = ("", "-1", "nan", "none")


class Known(NamedTuple):
    """Labels of N items, in their order.

    Fields:
        c: (N,) int64 places in `classes`, -1 where unknown; or (N, K) float32, NaN where unknown; or None for nothing.
        classes: their names.
        numbers: names of the K numbers.
    """

    c: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    def among(self, classes: tuple[str, ...]) -> Known:
        """The same labels as places in other classes, by name; unknown where they have no such."""
        if self.c is None or not classes:
            return Known(None, classes)
        places = [classes.index(name) if name in classes else -1 for name in self.classes]
        return Known(np.array([*places, -1])[self.c], classes)


def of_classes(labels: Sequence[str | None], notes: list[str]) -> Known:
    """Classes in the order of their names, whole numbers by value; nothing where they could not be learned."""
    names = {label for label in labels if label is not None}
    whole = all(name.lstrip("-").isdecimal() for name in names)
    classes = tuple(sorted(names, key=(lambda name: (int(name), name)) if whole else None))
    if len(classes) < 2:
        return Known()
    if 2 * len(classes) > len(labels):
        notes.append(f"no labels: {len(classes):,} classes for {len(labels):,} items")
        return Known()
    number = {label: i for i, label in enumerate(classes)}
    c = np.array([-1 if label is None else number[label] for label in labels], np.int64)
    if (c < 0).any():
        notes.append(f"{int((c < 0).sum()):,} items have no label")
    return Known(c, classes)


def of_numbers(values: np.ndarray, names: Sequence[str], notes: list[str], what: str) -> Known:
    """Numbers (N, K), NaN where unknown.

    Raises:
        UsageError: infinite values, or a column that is the same for all.
    """
    values = values.astype(np.float64)
    for name, column in zip(names, values.T):
        found = column[~np.isnan(column)]
        if np.isinf(found).any() or len(np.unique(found)) < 2:
            why = "infinite values" if np.isinf(found).any() else "one value for all items"
            raise UsageError(f"{name!r} of {what}", why, "leave that column out")
    unknown = int(np.isnan(values).any(1).sum())
    if unknown:
        notes.append(f"{unknown:,} items lack some of {', '.join(names)}")
    return Known(values.astype(np.float32), (), tuple(names))


def from_arrays(ys: Sequence[tuple[np.ndarray | None, int]], what: str, notes: list[str]) -> Known:
    """Of (y, number of items) of each part: integers, whole floats or words are classes, -1 and None unknown; y of K columns,
    and other floats, are numbers.

    Raises:
        UsageError: other types, or another count than the items'.
    """
    if all(y is None for y, _ in ys):
        return Known()
    given = [y for y, _ in ys if y is not None]
    columns = max(int(np.prod(y.shape[1:])) for y in given)
    if columns > 1 or any(y.dtype.kind == "f" and not _whole(y) for y in given):
        blank = np.full((1, columns), np.nan)
        try:
            parts = [blank.repeat(n, 0) if y is None else y.astype(np.float64).reshape(n, columns) for y, n in ys]
        except ValueError:
            found = f"shapes {', '.join(str(y.shape) for y in given)} of type {given[0].dtype}"
            raise UsageError(
                f"labels of {what}", found, "give one label, or one row of numbers, for each item"
            ) from None
        return of_numbers(np.concatenate(parts), [str(k) for k in range(columns)], notes, what)
    words: list[str | None] = []
    for y, n in ys:
        flat = np.full(n, -1) if y is None else y.reshape(-1)
        if len(flat) != n:
            found = f"{len(flat):,} values for {n:,} items"
            raise UsageError(f"labels of {what}", found, "give one label for each: (N,)")
        flat = flat.astype(np.int64) if flat.dtype.kind == "f" else flat
        if flat.dtype.kind not in "biuUS":
            raise UsageError(f"labels of {what}", f"values of type {flat.dtype}", "give whole numbers or words")
        if flat.dtype.kind in "US":
            words += [None if v in ("", "-1") else str(v) for v in flat.astype(str)]
        else:
            words += [None if v < 0 else str(v) for v in flat.astype(np.int64).tolist()]
    return of_classes(words, notes)


def _whole(y: np.ndarray) -> bool:
    return bool((y == np.rint(y)).all())


def from_table(path: Path, names: Sequence[str], notes: list[str]) -> Known:
    """Of the files called `names`, from a table.

    Raises:
        UsageError: no such table, none that can be read, or one that names no file.
    """
    asked = f"labels from {str(path)!r}"
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found = getattr(error, "strerror", None) or "no table of text"
        raise UsageError(asked, str(found), "give a CSV file with a header: file,label") from None
    rows = [row for row in rows if row]
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        found = "rows of different lengths" if len({len(row) for row in rows}) > 1 else "no rows of two or more columns"
        raise UsageError(asked, found, "give a header and a row for each file: file,label or file,age,smiling")
    columns, said = rows[0][1:], {PurePosixPath(row[0].strip()): row[1:] for row in rows[1:]}
    found_rows = [_row_of(PurePosixPath(name), said) for name in names]
    missing = sum(row is None for row in found_rows)
    if missing == len(names):
        raise UsageError(
            asked, f"no row for any of {len(names):,} files, such as {names[0]}", "name the files as they are"
        )
    table = [[field.strip() for field in row] if row else [""] * len(columns) for row in found_rows]
    if missing:
        notes.append(f"{missing:,} files have no row in {path.name}")
    numbers = _as_numbers(table)
    if len(columns) == 1 and (numbers is None or _whole(numbers[~np.isnan(numbers)])):
        return of_classes([None if row[0].lower() in UNKNOWN else row[0] for row in table], notes)
    if numbers is None:
        instead = "give one column of words (the class), or columns of numbers"
        raise UsageError(asked, f"words among {', '.join(columns)}", instead)
    return of_numbers(numbers, columns, notes, str(path))


def _row_of(name: PurePosixPath, said: dict[PurePosixPath, list[str]]) -> list[str] | None:
    """By the whole path, or by less and less of its beginning."""
    parts = name.parts
    return next((row for k in range(len(parts)) if (row := said.get(PurePosixPath(*parts[k:])))), None)


def _as_numbers(table: list[list[str]]) -> np.ndarray | None:
    """(N, K) float64, NaN where nothing is said; None where there are words."""
    try:
        return np.array(
            [[np.nan if field.lower() in ("", "nan", "none") else float(field) for field in row] for row in table]
        )
    except ValueError:
        return None


def renamed(classes: tuple[str, ...], names: str) -> tuple[str, ...]:
    """The same classes under other names, in their order, separated by commas.

    Raises:
        UsageError: another number of names, or one name twice.
    """
    given = tuple(name.strip() for name in names.split(","))
    if len(given) != len(classes) or len(set(given)) < len(given):
        found = f"{len(set(given))} different names for {len(classes)} classes ({', '.join(classes[:12])})"
        raise UsageError("names of the classes", found, "write one for each, in this order, separated by commas")
    return given
