"""The one pass over a source's images: read, hash, and keep what fits; and the files it may come from.

Every source of images is a `load(positions) -> (rows, failures)`. One pass over it in blocks finds the contents'
hashes, which images are grey, and which cannot be read. If the pixels fit in memory they are kept there; if not, in a file
(`store`); and where there is no room for that either, the same `load` is called again for each batch. All ways give the
same values.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from ..errors import UsageError
from .core import ANY, TEST, TRAIN, VALIDATION, Decoded, Load, Streamed, Unreadable, digests, grey_rows
from .files import Files, some
from .images import LIMIT, NAMES, choose_size, header, peculiarities, picture
from .labels import from_table, of_classes
from .store import Store, loader

Progress = Callable[[int, int], None]
PARALLEL = 128 * 128  # pixels; smaller images are faster in one thread (60,000 of 32 x 32: 4 s, in two 12 s)
BLOCK = 32  # images a task; small enough for a lively progress bar over photographs
PROBED = 1000  # headers read to choose a size
SIDECARS = (".cls", ".json", ".txt")  # beside an image of their name: its class, and what is not read
THREADS = min(8, os.cpu_count() or 1)
SPLITS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}


@dataclass(frozen=True)
class Options:
    """How to open: the arguments of `open` that every source reads."""

    size: int | None
    channels: int | None
    strict: bool
    memory: int
    progress: Progress | None
    labels: Path | None = None
    folder: Path | None = None  # where pixels may be kept


def survey(
    name: str,
    count: int,
    load: Load,
    shape: tuple[int, int, int],
    options: Options,
    name_of: Callable[[int], str],
    threads: int = THREADS,
    step: int = BLOCK,
) -> tuple[Decoded, np.ndarray]:
    """Everything that can be read, and its positions (N,) in the source.

    Arguments:
        count: images in the source; load: their rows uint8 (n, *shape).
        shape: (C, H, W) that load gives; of three channels one is kept if all are grey, unless options ask for 3.
        name_of: what to call item i when it is skipped.
        threads: that load at once; step: images a task.
    Raises:
        UsageError: nothing can be read, or, if strict, one item cannot.
    """
    fits = count * int(np.prod(shape)) <= options.memory
    store = None if fits or options.folder is None else Store.fresh(options.folder, count, shape)
    full: list[int] = []  # where the disk was
    x = np.zeros((count, *shape), np.uint8) if fits else None
    digest, grey = np.zeros(count, np.uint64), np.zeros(count, bool)
    blocks = [range(start, min(start + step, count)) for start in range(0, count, step)]

    def block(at: range) -> list[tuple[int, str]]:
        rows, failed = load(at)
        digest[at.start : at.stop], grey[at.start : at.stop] = digests(rows), grey_rows(rows)
        if x is not None:
            x[at.start : at.stop] = rows
        if store is not None and not full:
            try:
                store.write(at.start, rows)
            except OSError:
                full.append(at.start)
        return [(at.start + row, reason) for row, reason in failed]

    failures: dict[int, str] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="amalgan-data")
    try:
        for done, failed in zip(blocks, pool.map(block, blocks)):
            failures.update(failed)
            if failed and options.strict:
                refuse([(name_of(i), reason) for i, reason in failed])
            if options.progress is not None:
                options.progress(done.stop, count)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        if store is not None:
            store.drop()
        raise
    if store is not None and full:
        store.drop()
        store = None
    kept = np.ones(count, bool)
    kept[list(failures)] = False
    skipped = [(name_of(i), reason) for i, reason in sorted(failures.items())]
    at = np.flatnonzero(kept)
    if len(at) == 0:
        raise UsageError(
            f"images from {name!r}", f"none that can be read: {told(skipped)}", f"give at least 3 {NAMES} images"
        )
    if options.channels is None and shape[0] == 3 and grey[at].all():
        shape = (1, *shape[1:])
    if x is None:
        streamed = Streamed(load if store is None else loader(store, digest, load), at, shape, pool, threads, store)
        return Decoded(streamed, digest[at], None, (), np.full(len(at), ANY, np.int8), [], skipped), at
    pool.shutdown()
    rows = x[:, : shape[0]] if len(at) == count else x[at, : shape[0]]
    tensor = torch.from_numpy(np.ascontiguousarray(rows))
    return Decoded(tensor, digest[at], None, (), np.full(len(at), ANY, np.int8), [], skipped), at


def told(skipped: Sequence[tuple[str, str]]) -> str:
    """The skipped in one line: how many, and the first three with their reasons."""
    first = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    return f"{len(skipped):,} item{'' if len(skipped) == 1 else 's'} ({first}{'; ...' if len(skipped) > 3 else ''})"


def refuse(skipped: Sequence[tuple[str, str]]) -> None:
    """Stop because of what would be skipped, if anything."""
    if skipped:
        raise UsageError(
            "every item to be readable (strict)", told(skipped), "mend or remove what is named, or leave strict out"
        )


def checked_size(size: int | None) -> None:
    if size is not None and not (isinstance(size, int) and 1 <= size <= LIMIT):
        raise UsageError(
            f"size={size!r}", f"not a whole number of pixels from 1 to {LIMIT}", "write for example size=32"
        )


def shape_notes(sizes: Sequence[tuple[int, int]], size: int) -> list[str]:
    """What resizing to size x size does to images of these (width, height), in words."""
    resized = sum(min(wh) != size for wh in sizes)
    cropped = sum(w != h for w, h in sizes)
    if not resized and not cropped:
        return []
    (w, h), n = Counter(sizes).most_common(1)[0]
    was = f"all were {w} x {h}" if n == len(sizes) else f"{w} x {h} is the commonest of {len(set(sizes))} sizes"
    of = f"of {len(sizes):,}"
    return [
        f"brought to {size} x {size} px ({was}): {resized:,} {of} resized (antialiased), "
        f"{cropped:,} {of} cropped to their central square"
    ]


def image_loader(files: Files, channels: int, size: int) -> Load:
    """Rows uint8 (n, channels, size, size) of image files."""

    def load(at: Sequence[int]) -> tuple[np.ndarray, list[tuple[int, str]]]:
        rows = np.zeros((len(at), channels, size, size), np.uint8)
        failed = []
        for row, i in enumerate(at):
            try:
                rows[row] = picture(files.read(i), size, channels)
            except Unreadable as reason:
                failed.append((row, str(reason)))
        return rows, failed

    return load


def image_files(name: str, files: Files, options: Options) -> tuple[Decoded, np.ndarray]:
    """A tree of image files, and the positions (N,) of the readable ones.

    The folder below the parts (train, test, val) and below any folders all files share names the class, unless a file
    NAME.cls beside NAME.png says it, as in WebDataset's shards.
    """
    files, beside = with_sidecars(files)
    if not files.names:
        raise UsageError(
            f"images from {name!r}",
            "no files in it",
            f"put {NAMES} files there, in one folder a class if you have classes",
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # what matters of it becomes a reason to skip
        probed: list[tuple[int, int]] = []
        special: Counter[str] = Counter()
        every = max(1, len(files.names) // PROBED)
        for i in range(0, len(files.names), every):
            try:
                im = header(files.read(i))
            except Unreadable:
                continue
            probed.append(im.size)
            special.update(peculiarities(im))
        size = options.size or (choose_size([min(wh) for wh in probed]) if probed else 8)
        channels = options.channels or 3

        load = image_loader(files, channels, size)
        if options.strict:
            refuse(files.skipped)
        threads = THREADS if np.mean([w * h for w, h in probed or [(0, 0)]]) >= PARALLEL else 1
        decoded, at = survey(
            name, len(files.names), load, (channels, size, size), options, files.names.__getitem__, threads
        )
    decoded.skipped = files.skipped + decoded.skipped
    decoded.notes = shape_notes(probed, size) + [f"{what}: {n:,} of {len(probed):,}" for what, n in special.items()]
    if every > 1 and decoded.notes:
        decoded.notes.append(f"these counts come from every {every}th file")
    decoded.part, labels = tree([files.names[i] for i in at])
    if beside is not None:
        labels = [beside(i) for i in at]
    names = [files.names[i] for i in at]
    known = (
        of_classes(labels, decoded.notes)
        if options.labels is None
        else from_table(options.labels, names, decoded.notes)
    )
    decoded.c, decoded.classes, decoded.numbers = known
    return decoded, at


def with_sidecars(files: Files) -> tuple[Files, Callable[[int], str | None] | None]:
    """The files without those that say something of an image of their name; and the class that one says, if any does.

    The second image of a name, from another shard, goes with the second .cls of it.
    """
    named = [name.lower().endswith(SIDECARS) for name in files.names]
    if not any(named):
        return files, None
    stems = {_stem(name) for name, so in zip(files.names, named) if not so}
    beside = [so and _stem(name) in stems for name, so in zip(files.names, named)]
    if not any(beside):
        return files, None
    images = [i for i, so in enumerate(beside) if not so]
    saying = [i for i, so in enumerate(beside) if so and files.names[i].lower().endswith(SIDECARS[0])]
    class_of = dict(zip(_numbered(files, saying), saying))
    keys = _numbered(files, images) if saying else []

    def said(i: int) -> str | None:
        at = class_of.get(keys[i])
        if at is None:
            return None
        try:
            return files.read(at).decode().strip() or None
        except (Unreadable, UnicodeDecodeError):
            return None

    return some(files, images), said if saying else None


def _stem(name: str) -> str:
    """A name without its suffix."""
    return name.rpartition(".")[0]


def _numbered(files: Files, at: Sequence[int]) -> list[str]:
    """Names without suffix, each with how many of that name came before."""
    times = Counter[str]()
    found = []
    for i in at:
        stem = _stem(files.names[i])
        found.append(f"{stem}\n{times[stem]}")
        times[stem] += 1
    return found


def tree(names: Sequence[str]) -> tuple[np.ndarray, list[str | None]]:
    """The part and the class that each file's folders say.

    Folders that all files share say nothing. If every folder on top is one of train, test, val (or a longer
    spelling) and train is one of them, these are the parts; the next folder is the class, None where there is none.
    """
    folders = unshared([PurePosixPath(name).parts[:-1] for name in names])
    top = {p[0].lower() if p else "" for p in folders}
    part = np.full(len(names), ANY, np.int8)
    if top <= SPLITS.keys() and {SPLITS[t] for t in top} > {TRAIN}:
        part[:] = [SPLITS[p[0].lower()] for p in folders]
        folders = unshared([p[1:] for p in folders])
    return part, [p[0] if p else None for p in folders]


def unshared(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The folders without those on top that all share."""
    depth = 0
    while all(len(p) > depth for p in folders) and len({p[depth] for p in folders}) == 1:
        depth += 1
    return [p[depth:] for p in folders]
