"""A folder or an archive as a list of names and a way to read each: nothing is ever extracted where a name says.

Zip and tar members are read in memory. A compressed tar cannot be read out of order, so it is unpacked once, in a
stream, to an anonymous temporary file that vanishes with the process, and its members are slices of that. A folder of
nothing but tars holds the members of all of them: shards.

What is kept of a file is its name and three numbers, some 100 bytes, since there may be millions.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import stat as modes
import tarfile
import tempfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import AmalganError, UsageError
from .core import Unreadable
from .images import MAX_BYTES

QUIET = {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"}  # what file managers leave behind
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz")
UNPACKERS: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\0", lzma.open),
)
RATIO, LOOSE = 50, 2**30  # an archive of images that unpacks to more than LOOSE + RATIO times its size is a bomb


@dataclass(frozen=True)
class Files:
    """Files by name, in the order of their names.

    Arguments:
        names: relative, with forward slashes, printable; sizes: in bytes, as declared.
        read: the bytes of file i; safe to call from several threads; raises Unreadable.
        skipped: (name, reason) of entries that are no files.
    """

    names: list[str]
    sizes: Sequence[int]
    read: Callable[[int], bytes]
    skipped: list[tuple[str, str]]


def printable(name: str) -> str:
    """The name with whatever cannot be printed escaped; itself, if all can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
    return name


def tidy(name: str) -> str | None:
    """A member's name as plain relative parts, or None for what file managers leave behind."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts or any(part.startswith(".") or part.lower() in QUIET for part in parts):
        return None
    return printable("/".join(parts))


@dataclass
class Found:
    """Files under a folder, in the order of their names.

    Arguments:
        names: as the system has them, relative, with forward slashes.
        sizes, times: of each, in bytes and nanoseconds.
        skipped: (name, reason) of entries that are no files.
    """

    names: list[str]
    sizes: array[int]
    times: array[int]
    skipped: list[tuple[str, str]]


def walk(root: Path) -> Found:
    """Every regular file under root, no folder entered twice."""
    names, sizes, times = list[str](), array("q"), array("q")
    skipped: list[tuple[str, str]] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                skipped.append((printable(prefix), "a link to a folder already read"))
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            skipped.append((printable(prefix), error.strerror or str(error)))
            continue
        links: list[tuple[Path, str]] = []
        for entry in listed:
            if entry.name.startswith(".") or entry.name.lower() in QUIET:
                continue
            name = prefix + entry.name
            try:
                status = entry.stat()
            except OSError as error:
                skipped.append((printable(name), "broken link" if entry.is_symlink() else error.strerror or str(error)))
                continue
            if modes.S_ISDIR(status.st_mode):
                (links if entry.is_symlink() else waiting).append((Path(entry.path), name + "/"))
            elif modes.S_ISREG(status.st_mode):
                names.append(name)
                sizes.append(status.st_size)
                times.append(status.st_mtime_ns)
            else:
                skipped.append((printable(name), "not a regular file"))
        waiting[:0] = links  # real folders first: a link is what is left out when both lead to one place
    order = sorted(range(len(names)), key=names.__getitem__)
    return Found(
        [names[i] for i in order],
        array("q", (sizes[i] for i in order)),
        array("q", (times[i] for i in order)),
        skipped,
    )


def some(files: Files, at: Sequence[int]) -> Files:
    """Those files alone."""
    names, sizes = [files.names[i] for i in at], [files.sizes[i] for i in at]
    return Files(names, sizes, lambda i: files.read(at[i]), files.skipped)


def folder_files(root: Path) -> Files:
    """The files under a folder, or, if they all are tars, the members of those."""
    found = walk(root)
    if found.names and all(name.lower().endswith(TARS) for name in found.names):
        return shards(root, found)

    def read(i: int) -> bytes:
        if found.sizes[i] > MAX_BYTES:
            raise Unreadable(too_large(found.sizes[i]))
        try:
            return (root / found.names[i]).read_bytes()
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from None

    return Files([printable(name) for name in found.names], found.sizes, read, found.skipped)


def shards(root: Path, found: Found) -> Files:
    """The members of all tars of a folder, by their names there, whichever shard they are in."""
    parts = [tar_files(root / name) for name in found.names]
    names = [name for part in parts for name in part.names]
    of, at = array("l"), array("q")
    for number, part in enumerate(parts):
        of.extend([number] * len(part.names))
        at.extend(range(len(part.names)))
    order = array("q", sorted(range(len(names)), key=names.__getitem__))  # of equal names the earlier shard first

    def read(i: int) -> bytes:
        return parts[of[order[i]]].read(at[order[i]])

    skipped = [(f"{name} in {shard}", why) for shard, part in zip(found.names, parts) for name, why in part.skipped]
    sizes = array("q", (parts[of[k]].sizes[at[k]] for k in order))
    sorted_names = [names[k] for k in order]
    for part in parts:
        part.names.clear()  # they are told once
    return Files(sorted_names, sizes, read, found.skipped + skipped)


def too_large(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB, more than {MAX_BYTES // 2**20} MiB: not read"


def zip_files(path: Path) -> Files:
    """The members of a zip.

    Raises:
        UsageError: damaged beyond its list of members.
    """
    try:
        archive = zipfile.ZipFile(path)
        members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UsageError(f"the archive {str(path)!r}", f"damaged: {error}", "download or pack it again") from None
    named = [(tidy(member.filename), member) for member in members if not member.is_dir()]
    kept = sorted(((name, member) for name, member in named if name), key=lambda item: item[0])

    def read(i: int) -> bytes:
        member = kept[i][1]
        if member.file_size > MAX_BYTES:
            raise Unreadable(too_large(member.file_size))
        try:
            return archive.read(member)  # never more than the declared size
        except RuntimeError as error:
            raise Unreadable(str(error).split(",")[0]) from None  # encrypted
        except (zipfile.BadZipFile, OSError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
            raise Unreadable(f"damaged in the archive ({error})") from None

    return Files([name for name, _ in kept], [member.file_size for _, member in kept], read, [])


def tar_files(path: Path) -> Files:
    """The members of a tar, plain or compressed with gzip, bzip2 or xz; of one cut short, those before the cut.

    Raises:
        UsageError: not a tar, or a bomb. AmalganError: no room to unpack it.
    """
    skipped: list[tuple[str, str]] = []
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        unpacker = next((make for magic, make in UNPACKERS if start.startswith(magic)), None)
        if unpacker is None:
            content: IO[bytes] = path.open("rb")
        else:
            content, reason = unpack(unpacker(file), path)
            if reason:
                skipped.append((path.name, reason))
    try:
        length = os.fstat(content.fileno()).st_size
        archive = tarfile.open(fileobj=content, mode="r:")  # noqa: SIM115 - its members are read as long as the data lives
    except (tarfile.TarError, ValueError, OSError) as error:
        raise UsageError(
            f"the archive {str(path)!r}", f"not a tar: {error}", "give a folder, .zip, .tar or .tar.gz of images"
        ) from None
    names, offsets, sizes = list[str](), array("q"), array("q")
    try:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            name = tidy(member.name)
            if name is None or member.isdir():
                continue
            if not member.isreg() or member.issparse():
                skipped.append((name, "a link or a special file inside an archive"))
            else:
                names.append(name)
                offsets.append(member.offset_data)
                sizes.append(member.size)
        # a damaged header looks like the end
        if os.pread(content.fileno(), tarfile.BLOCKSIZE, archive.offset).strip(b"\0"):
            raise tarfile.ReadError("damaged header")
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        skipped.append((path.name, f"archive damaged after {len(names):,} members ({error})"))
    order = sorted(range(len(names)), key=names.__getitem__)
    offsets, sizes = (array("q", (numbers[i] for i in order)) for numbers in (offsets, sizes))

    def read(i: int) -> bytes:
        if sizes[i] > MAX_BYTES:
            raise Unreadable(too_large(sizes[i]))
        if offsets[i] + sizes[i] > length:
            raise Unreadable("cut short at the end of the archive")
        return os.pread(content.fileno(), sizes[i], offsets[i])  # not mapped: that would count as memory of ours

    return Files([names[i] for i in order], sizes, read, skipped)


def unpack(stream: Any, path: Path) -> tuple[IO[bytes], str]:
    """The unpacked stream in an anonymous temporary file, and why it ends early if it does."""
    cap = LOOSE + RATIO * path.stat().st_size
    reason, size = "", 0
    content = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the data
    try:
        while piece := stream.read1(2**17):  # unlike read, it hands out all there is before an error
            size += len(piece)
            if size > cap:
                raise UsageError(
                    f"the archive {str(path)!r}",
                    f"it unpacks to more than {cap / 2**30:.1f} GiB, far more than images would",
                    "check where it came from; unpack it yourself if you trust it",
                )
            content.write(piece)
        content.flush()
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        reason = f"archive cut short or damaged ({error}); what comes before is used"
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile) or error.errno is None:
            reason = f"archive damaged ({error}); what comes before is used"
        else:
            raise AmalganError(
                f"to unpack {str(path)!r} into {tempfile.gettempdir()}",
                f"{error.strerror} after {size / 2**20:,.0f} MiB",
                "make room there, set TMPDIR to a larger disk, or unpack it yourself and give the folder",
            ) from None
    content.flush()
    content.seek(0)
    return content, reason


def open_files(path: Path) -> Files:
    """The files of a folder, zip or tar.

    Raises:
        UsageError: one file that is no archive.
    """
    if path.is_dir():
        return folder_files(path)
    with path.open("rb") as file:
        start = file.read(512)
    if start[:2] == b"PK":
        return zip_files(path)
    if (
        start[257:262] == b"ustar"
        or any(start.startswith(magic) for magic, _ in UNPACKERS)
        or ".tar" in path.name.lower()
    ):
        return tar_files(path)
    found = "an empty file" if not start else "one file that is no archive"
    raise UsageError(
        f"data from {str(path)!r}", found, f"give the folder it is in ({path.parent}), or a .zip, .tar or .tar.gz"
    )


def stamp(path: Path) -> str:
    """What changes when the content does: names, sizes and times of a folder's files, or of the archive itself."""
    if path.is_dir():
        found = walk(path)
        content = hashlib.blake2b(repr((str(path.resolve()), found.skipped)).encode(), digest_size=16)
        for name, size, time in zip(found.names, found.sizes, found.times):
            content.update(f"{name}\0{size}\0{time}\0".encode("utf-8", "surrogateescape"))
        return content.hexdigest()
    status = path.stat()
    return repr((str(path.resolve()), status.st_size, status.st_mtime_ns))
