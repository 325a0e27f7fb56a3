"""Pixels too many for the memory, in a file of their own: decoded once, then read by row.

The file is nothing but the rows, one after the other. What is read is compared with the hash that each content had when
it was decoded; a row that differs is decoded again from where it came from, so that a damaged file costs time alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .core import Load, digests

SHARE = 0.5  # of the room on the disk that may be taken


class Store:
    """Rows of uint8 in a file.

    Arguments:
        path: of the file; `at` its descriptor.
        count: of rows.
        shape: (C, H, W) of a row.
    """

    def __init__(self, path: Path, at: int, count: int, shape: tuple[int, ...]) -> None:
        self.path, self.count, self.shape = path, count, shape
        self._at, self._bytes = at, int(np.prod(shape))
        weakref.finalize(self, os.close, at)

    @classmethod
    def fresh(cls, folder: Path, count: int, shape: tuple[int, ...]) -> Store | None:
        """An empty one for so many rows under a temporary name, or None where there is no room or no permission."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if count * int(np.prod(shape)) > SHARE * shutil.disk_usage(folder).free:
                return None
            at, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
        except OSError:
            return None
        return cls(Path(name), at, count, shape)

    @classmethod
    def of(cls, path: Path, count: int, shape: tuple[int, ...]) -> Store | None:
        """The one at `path`, or None if there is none of so many rows."""
        with contextlib.suppress(OSError):
            if path.stat().st_size == count * int(np.prod(shape)):
                return cls(path, os.open(path, os.O_RDONLY), count, shape)
        return None

    def write(self, first: int, rows: np.ndarray) -> None:
        """Rows (n, *shape) from place `first` on; from several threads.

        Raises:
            OSError: the disk is full.
        """
        content, start = memoryview(rows.tobytes()), first * self._bytes
        while content:
            written = os.pwrite(self._at, content, start)
            content, start = content[written:], start + written

    def keep(self, path: Path) -> None:
        """Give it its name, once it is whole on the disk."""
        os.fsync(self._at)
        os.replace(self.path, path)
        self.path = path

    def drop(self) -> None:
        """Remove the file's name; what is there can still be read."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def rows(self, at: Sequence[int]) -> np.ndarray:
        """Rows (n, *shape) at these places, zeros where the file ends early."""
        found = np.zeros((len(at), self._bytes), np.uint8)
        if hasattr(
            os, "posix_fadvise"
        ):  # all are asked for before the first is waited for: 4 times as many from a disk
            for place in at:
                os.posix_fadvise(self._at, place * self._bytes, self._bytes, os.POSIX_FADV_WILLNEED)
        for row, place in zip(found, at):
            os.preadv(self._at, [row.data], place * self._bytes)
        return found.reshape(len(at), *self.shape)


def loader(store: Store, digest: np.ndarray, source: Load) -> Load:
    """Rows of a store, or of the source where they are not what they were.

    Arguments:
        digest: uint64, of the content at each place.
    """

    def load(at: Sequence[int]) -> tuple[np.ndarray, list[tuple[int, str]]]:
        rows = store.rows(at)
        wrong: list[int] = np.flatnonzero(digests(rows) != digest[np.asarray(at)]).tolist()
        if not wrong:
            return rows, []
        again, failed = source([at[row] for row in wrong])
        rows[wrong] = again
        return rows, [(wrong[row], reason) for row, reason in failed]

    return load
