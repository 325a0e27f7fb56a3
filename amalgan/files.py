"""Writing so that nothing is lost, reading so that nothing is trusted.

A file is written under a temporary name, flushed to the disk and renamed, so that its name always stands for a whole
file: the old one or the new one. Temporary names left by a killed process are swept by the next.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from amalgan.errors import AmalganError

TEMPORARY = ".writing-"


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to do.

    Raises:
        AmalganError: no space left, no permission, not a folder, or one.
    """
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: (
                "no space left on the disk",
                "free some space, then go on; what was written before is intact",
            ),
            errno.EDQUOT: (
                "the disk quota is used up",
                "free some space, then go on; what was written before is intact",
            ),
            errno.EACCES: ("no permission to write there", "choose another folder with --out"),
            errno.EROFS: ("the disk is read-only", "choose another folder with --out"),
            errno.ENOTDIR: ("a file stands where a folder is needed", "choose another folder with --out"),
            errno.EEXIST: ("a file stands where a folder is needed", "choose another folder with --out"),
            errno.EISDIR: ("a folder stands where a file is needed", "choose another name with --out"),
        }
        if error.errno not in reasons:
            raise
        found, instead = reasons[error.errno]
        raise AmalganError(f"writing {path}", found, instead) from error


def cache_folder() -> Path:
    """Where decoded data and trained feature networks are kept: $AMALGAN_CACHE, or ~/.cache/amalgan."""
    return Path(os.environ.get("AMALGAN_CACHE") or Path.home() / ".cache" / "amalgan")


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing.

    Raises:
        AmalganError: the disk is full or refuses.
    """
    with _named(path, os.replace) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def placed(path: Path) -> Iterator[Path]:
    """A temporary name to write, which becomes `path` unless some other process was faster: then theirs stays.

    Raises:
        AmalganError: the disk is full or refuses.
    """

    def unless_there(temporary: Path, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)

    with _named(path, unless_there) as temporary:
        yield temporary


@contextlib.contextmanager
def _named(path: Path, name: Callable[[Path, Path], object]) -> Iterator[Path]:
    """A temporary name to write; once flushed to the disk, `name(temporary, path)` gives it its own."""
    if not path.name:
        raise AmalganError(f"writing {str(path)!r}", "the name of a folder", "choose a name with --out")
    temporary = path.with_name(f"{TEMPORARY}{os.uname().nodename}-{os.getpid()}-{path.name}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            sync(temporary)
            name(temporary, path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def claim(path: Path) -> int | None:
    """Hold a file for as long as this process lives, and those that it hands the descriptor to; `os.close` lets go.

    Nothing has to be tidied up after a kill: the system lets go, on other machines' file systems, too, where their
    locks work.

    Returns:
        A descriptor, or None where another process holds the file.

    Raises:
        AmalganError: the disk is full or refuses.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Arrays by name: one file for numpy, or where the name ends in .csv a table, a row for each of their rows.

    Raises:
        AmalganError: the disk is full or refuses.
    """
    import numpy as np

    if path.suffix != ".csv":
        held = io.BytesIO()
        np.savez_compressed(held, **arrays)
        return write_bytes(path, held.getvalue())
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        rows = np.asarray(array).reshape(len(array), -1)
        columns |= {name if array.ndim == 1 else f"{name}_{i}": rows[:, i].tolist() for i in range(rows.shape[1])}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))
    write_bytes(path, text.getvalue().encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n").encode())


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Raises:
        AmalganError: it is absent or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AmalganError(what, f"no file {path}", "check the path") from None
    except (OSError, ValueError) as error:
        raise AmalganError(what, f"{path} is damaged ({error})", "restore it from a copy, or train again") from None


def read_lines(path: Path, having: str) -> list[dict[str, Any]]:
    """JSON objects that have a name, one a line; a line half written, by a writer who was killed or is at it, is left out."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict) and having in line]


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in this folder."""
    for left in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
