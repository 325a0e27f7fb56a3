"""Data: files, archives, arrays and toy densities to tensors, and tensors back to something a person can look at.

data = open("digits")                      # or a folder, zip, tar, idx folder, .npy, .npz, arrays, a torch Dataset
x, c = data.train.batch(torch.arange(64))  # (64, C, H, W) in [0, 1], (64,)
show(x).save("some.png")
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache as cached
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from ..files import cache_folder
from . import cache as copies
from .arrays import from_dataset, from_groups, from_idx, from_mapping, from_npy, from_npz, idx_names, plain
from .core import ANY, TEST, TRAIN, VALIDATION, Data, Decoded, Load, Spec, Split, Streamed, digests, divide
from .files import open_files, stamp
from .halves import HEIGHT, WIDTH, Halves
from .images import load_image_file
from .known import Mixture, mixture
from .labels import renamed
from .show import show
from .store import Store, loader
from .survey import Options, Progress, checked_size, image_files, image_loader, refuse, told, with_sidecars

__all__ = ["Data", "Mixture", "Spec", "Split", "load_image_file", "open", "show"]

POINTS = {TRAIN: 100_000, VALIDATION: 10_000, TEST: 10_000}  # training points as published
BUNDLED = ("digits", "halves", "ring", "grid")  # words that name data; "ring:8,sigma=0.02" has settings, too
HALVES = {TRAIN: 50_000, VALIDATION: 5_000, TEST: 5_000}  # more would be dear to look at when a model is judged
SOURCES = f"a folder, .zip, .tar(.gz) of images or idx files, a .npy or .npz file, or one of {', '.join(BUNDLED)}"


def open(
    source: Any,
    *,
    size: int | None = None,
    channels: int | None = None,
    strict: bool = False,
    seed: int = 0,
    limit: int | None = None,
    in_memory_bytes: int | None = None,
    cache: str | Path | Literal[False] | None = None,
    progress: Progress | None = None,
    labels: str | Path | None = None,
    classes: str | None = None,
) -> Data:
    """Data in three parts with no content in common, from whatever holds it.

    Arguments:
        source: "digits" (1,797 handwritten digits, 8 x 8); "halves" (16 x 64, what is left must match what is right);
            "ring" or "grid" (points with a known density; also "ring:8,sigma=0.02", "grid:5"); a folder, zip or tar of
            images or of idx files; a folder of tars (shards); a .npy or .npz file; an array or tensor, (x, y), a dict of arrays; a map-style
            dataset or list of x or (x, c). Folders train, val, test are parts; the next folder names the class.
        size: images become size x size px; by default their own size if all share one within 8..64, else their median
            in steps of 8.
        channels: 1 or 3; by default 1 if every image is grey.
        strict: stop at the first item that cannot be read instead of leaving it out.
        seed: another seed divides differently (and draws other toy points); the same seed always gives the same parts.
        limit: at most so many items in each part.
        in_memory_bytes: pixels beyond it are kept in a file in the cache, and read batch by batch; a quarter of the memory
            by default.
        cache: folder for decoded copies of files, by default $AMALGAN_CACHE or ~/.cache/amalgan; False keeps none.
        progress: called with (images done, images in all) while decoding.
        labels: of files of images: a CSV whose first column names them; a further one is the class, several are numbers
            that describe an image (see `amalgan.data.labels`). By default folders are classes.
        classes: other names of the classes, in their order, separated by commas.
    Raises:
        UsageError: nothing there, nothing readable, too few different items, or values that are no data.
    """
    if isinstance(source, Data):
        return source
    checked_size(size)
    if channels not in (None, 1, 3):
        raise UsageError(f"channels={channels!r}", "neither 1 (grey) nor 3 (colour)", "leave it out, or write 1 or 3")
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit}", "fewer than one item a part", "leave it out, or write for example 1000")
    table = None if labels is None else Path(labels).expanduser()
    if table is not None and not table.is_file():
        raise UsageError(f"labels from {str(table)!r}", "no such file", "give a CSV file with a header: file,label")
    word = source.partition(":")[0] if isinstance(source, str) else ""
    files = isinstance(source, (str, os.PathLike)) and not str(source).endswith((".npy", ".npz"))
    if table is not None and (not files or word in BUNDLED):
        instead = "give labels beside the arrays: (x, y)"
        raise UsageError("labels from a table", "data that are no files of images", instead)
    room = memory() if in_memory_bytes is None else in_memory_bytes
    options = Options(size, channels, strict, room, progress, table)
    if word in ("ring", "grid"):
        return toy(source, mixture(source), POINTS, seed, limit)
    if isinstance(source, str) and source == "halves":
        if size not in (None, HEIGHT) or channels == 3:
            found = f"size={size}, channels={channels}: they are grey, {HEIGHT} x {WIDTH} px"
            raise UsageError("the data 'halves'", found, "leave out size and channels")
        return toy(source, Halves(), HALVES, seed, limit)
    if isinstance(source, str) and source == "digits":
        name, decoded = source, digits(options)
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        name, decoded = path.name or str(path.resolve()), from_path(path, options, cache)
    elif isinstance(source, Mapping):
        name, decoded = "arrays", from_mapping("arrays", source, options)
    elif isinstance(source, tuple) and len(source) == 2:
        x, y = (plain(a, what) for a, what in zip(source, ("x", "y")))
        name, decoded = "arrays", from_groups("arrays", [(x, y, ANY)], options)
    elif isinstance(source, (np.ndarray, Tensor)):
        name, decoded = "array", from_groups("array", [(plain(source, "x"), None, ANY)], options)
    elif hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        name = type(source).__name__
        decoded = from_dataset(name, source, options)
    else:
        raise UsageError(
            "data", f"a {type(source).__name__}", f"give {SOURCES}, an array, (x, y), or a dataset with len()"
        )
    if strict:
        refuse(decoded.skipped)
    if decoded.skipped:
        decoded.notes.append("skipped " + told(decoded.skipped))
    if classes is not None:
        decoded.classes = renamed(decoded.classes, classes)
    return divide(decoded, name, seed, limit)


def memory() -> int:
    """A quarter of the machine's memory, in bytes, to the GiB."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = 8 * 2**30
    return max(1, round(total / 4 / 2**30)) * 2**30


def digits(options: Options) -> Decoded:
    """The embedded digits; digits.md says where they are from."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as held:
        x = np.rint(held["x"] * (255 / 16)).astype(np.uint8)
        return from_groups("digits", [(x, held["y"], ANY)], options)


def toy(name: str, known: Mixture | Halves, parts: dict[int, int], seed: int, limit: int | None) -> Data:
    """Items drawn from a known density, so many for each part, each from a seed of its own."""
    drawn = [known.draw(min(n, limit or n), 3 * seed + part) for part, n in parts.items()]
    x = np.concatenate([x.numpy() for x, _ in drawn])
    decoded = Decoded(
        torch.from_numpy(x),
        digests(x),
        np.concatenate([c.numpy() for _, c in drawn]),
        known.classes,
        np.repeat(np.array(list(parts), np.int8), [len(c) for _, c in drawn]),
        [known.note],
    )
    return replace(divide(decoded, name), known=known)


def from_path(path: Path, options: Options, cache: str | Path | Literal[False] | None) -> Decoded:
    """A file or folder, from its decoded copy if there is a good one."""
    try:
        if path.exists():
            read = {".npy": from_npy, ".npz": from_npz}.get(path.suffix.lower())
            return read(path, options) if read else from_files(path, options, cache)
        close = difflib.get_close_matches(path.name, os.listdir(path.parent) if path.parent.is_dir() else [], 1)
    except OSError as error:
        found = error.strerror or str(error)
        raise UsageError(f"data from {str(path)!r}", found, "check the path, and that you may read it") from None
    found = "no such file or folder" + (f" (but there is {str(path.parent / close[0])!r})" if close else "")
    raise UsageError(f"data from {str(path)!r}", found, f"give {SOURCES}")


def streamed(path: Path, pixels: Path, held: dict[str, Tensor], digest: np.ndarray, channels: int) -> Streamed:
    """Images that were surveyed before: rows of the file of pixels, where there is one, else of the files at `path`."""
    shape, at, workers = tuple(held["shape"].tolist()), held["at"].numpy(), int(held["workers"])
    # millions of names: only if needed
    opened = cached(lambda: image_loader(with_sidecars(open_files(path))[0], channels, shape[1]))
    count = int(held["count"])
    store = Store.of(pixels, count, (channels, *shape[1:]))
    load: Load = lambda places: opened()(places)  # noqa: E731
    if store is not None:
        contents = np.zeros(count, np.uint64)
        contents[at] = digest
        load = loader(store, contents, load)
    return Streamed(load, at, shape, ThreadPoolExecutor(workers), workers, store)


def from_files(path: Path, options: Options, cache: str | Path | Literal[False] | None) -> Decoded:
    """Image or idx files, decoded once and kept for the next time."""
    folder = None if cache is False else Path(cache) if cache else cache_folder()
    table = () if options.labels is None else (str(options.labels), stamp(options.labels))
    name = copies.key(stamp(path), options.size, options.channels, options.memory, *table)
    decoded, extra, note = copies.load(folder, name) if folder else (None, None, "")
    if decoded is not None and extra is not None:
        if "x" not in extra and folder:  # too many for the memory: from their own file, or the files are read again
            decoded.x = streamed(path, copies.pixels(folder, name), extra, decoded.digest, options.channels or 3)
        return decoded
    files = open_files(path)
    idx = idx_names(files)
    if idx and options.labels is not None:
        raise UsageError("labels from a table", "idx files, which have labels of their own", "leave --labels out")
    if idx:
        decoded = from_idx(path.name, files, options)
        at = np.arange(len(decoded.digest))
    else:
        decoded, at = image_files(path.name, files, replace(options, folder=folder or None))
    if folder and not (idx and isinstance(decoded.x, Streamed)):
        failure = copies.save(folder, name, decoded, at)
        decoded.notes += [failure] * bool(failure)
    decoded.notes += [note] * bool(note)
    return decoded
