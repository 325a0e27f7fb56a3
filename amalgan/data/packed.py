"""Single files from anyone: what is gzipped unpacked, and arrays; a damaged one is refused in three parts."""

from __future__ import annotations

import csv
import gzip
import io
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..errors import UsageError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # that some editors put before UTF-8
# what numpy and the unpackers under it raise over files with wrong bytes
DAMAGE = (
    ValueError, OSError, EOFError, SyntaxError, KeyError, TypeError, AttributeError, NotImplementedError, MemoryError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def unpacked(path: Path, asked: str) -> bytes:
    """The content of a text file, unpacked if its name ends in .gz, without a byte order mark.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except DAMAGE as error:
        raise UsageError(asked, f"it cannot be read: {error}", "give a whole file") from None
    return content.removeprefix(BYTE_ORDER_MARK)


def table(path: Path, asked: str, instead: str) -> tuple[list[list[str]], str]:
    """The rows of a text table but for empty ones, and what parts its cells: tabs, semicolons or commas.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        text = unpacked(path, asked).decode()
        first = text.partition("\n")[0]
        delimiter = next((mark for mark in "\t;" if mark in first), ",")
        return [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row], delimiter
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(asked, f"it cannot be read: {error}", instead) from None


def arrays(path: Path, asked: str, instead: str, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, those that are wanted; that of an .npy file under the name x. Nothing is unpickled.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            return {"x": held}
        with held:
            return {name: held[name] for name in held.files if wanted is None or name in wanted}
    except DAMAGE as error:
        raise UsageError(asked, f"it cannot be read: {error}", instead) from None
