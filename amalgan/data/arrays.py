"""Arrays, .npy and .npz files, idx sets and torch datasets: numbers of any scale and layout to images or points.

    two axes    (N, D) points, kept as float32
    else        (N, H, W), (N, H, W, C) or (N, C, H, W) images

Pixel values are read on the first of these scales that holds all of them: bool; bytes 0..255; 0..65535 (uint16); floats
in [0, 1], [-1, 1] or [0, 255]. Anything else, NaN included, is refused: a guess here would spoil everything after it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import UsageError
from .core import ANY, TEST, TRAIN, VALIDATION, Decoded, Unreadable, digests
from .files import Files
from .idx import PARTS, PATTERN, parse
from .images import choose_size, fit, pixels, small
from .labels import from_arrays
from .packed import DAMAGE
from .survey import Options, shape_notes, survey

KEYS = {"x": ("x", "images", "image", "data"), "y": ("y", "labels", "label", "targets", "target", "c")}
PART_WORDS = {TRAIN: ("train", "training"), VALIDATION: ("val", "valid", "validation"), TEST: ("test",)}
INSTEAD = "give images (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1, 3 or 4, or points (N, D)"
CHUNK = 4096  # rows looked at together, so that a mapped file is never read whole

Scale = Callable[[np.ndarray], np.ndarray]
Group = tuple[np.ndarray, np.ndarray | None, int]  # x, y, part


def plain(value: Any, what: str) -> np.ndarray:
    """The numpy array in an array, tensor or nested list."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
        return value.numpy()
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise UsageError(what, f"not an array: {error}", INSTEAD) from None


def scale_of(dtype: np.dtype, low: float, high: float, what: str) -> tuple[Scale, str]:
    """How values of this dtype between low and high become bytes, and that in words if it is worth saying.

    Raises:
        UsageError: no scale holds them.
    """
    if dtype.kind == "b" or (dtype.kind in "iu" and low >= 0 and high == 1):
        return (lambda a: a.astype(np.uint8) * np.uint8(255)), "values 0 and 1 became black and white"
    if dtype == np.uint8:
        return (lambda a: a), ""
    if dtype.kind in "iu" and low >= 0 and high <= 255:
        return (lambda a: a.astype(np.uint8)), ""
    if dtype == np.uint16:
        return (lambda a: ((a.astype(np.uint32) + 128) // 257).astype(np.uint8)), "16-bit values were scaled to 8 bits"
    if dtype.kind == "f" and low >= -1e-3 and high <= 1.001:
        return (lambda a: byte(a, 255, 0)), "floats in [0, 1] were rounded to 8 bits"
    if dtype.kind == "f" and low >= -1.001 and high <= 1.001:
        return (lambda a: byte(a, 127.5, 127.5)), "floats in [-1, 1] were moved to [0, 1] and rounded to 8 bits"
    if dtype.kind == "f" and low >= 0 and high <= 255:
        return (lambda a: byte(a, 1, 0)), "floats were read on the scale 0..255 and rounded to 8 bits"
    raise UsageError(
        what,
        f"{dtype} values from {low:g} to {high:g}",
        "scale images to floats in [0, 1] or bytes 0..255",
    )


def byte(a: np.ndarray, factor: float, offset: float) -> np.ndarray:
    return np.rint(np.clip(a.astype(np.float32) * factor + offset, 0, 255)).astype(np.uint8)


def extent(xs: Sequence[np.ndarray], what: str) -> tuple[float, float]:
    """Smallest and largest value.

    Raises:
        UsageError: not numbers, or not all finite.
    """
    low, high = np.inf, -np.inf
    for x in xs:
        if x.dtype.kind not in "biuf":
            raise UsageError(what, f"values of type {x.dtype}", "give numbers: bytes, or floats in [0, 1]")
        for start in range(0, len(x), CHUNK):
            piece = x[start : start + CHUNK]
            low, high = min(low, float(piece.min())), max(high, float(piece.max()))
            if not (np.isfinite(low) and np.isfinite(high)):  # min and max pass NaN on
                bad = int((~np.isfinite(piece)).sum())
                found = f"{bad:,} values NaN or infinite in items {start:,} to {start + len(piece) - 1:,}"
                raise UsageError(what, found, "remove or fill them first")
    return low, high


def layout(shape: tuple[int, ...], what: str) -> tuple[str, int, int, int]:
    """Layout (HW, CHW or HWC), channels, height and width of one item.

    Raises:
        UsageError: not an image.
    """
    if len(shape) == 2 and min(shape) > 0:
        return "HW", 1, *shape
    if len(shape) == 3 and min(shape) > 0:
        if shape[0] in (1, 3, 4) and not (shape[2] in (1, 3, 4) and shape[0] == 4):
            return "CHW", *shape
        if shape[2] in (1, 3, 4):
            return "HWC", shape[2], shape[0], shape[1]
    raise UsageError(what, f"items of shape {tuple(shape)}", INSTEAD)


def upright(a: np.ndarray, how: str) -> np.ndarray:
    """uint8 (n, C, H, W), C 1 or 3, of rows in the given layout; transparency over white."""
    a = a[:, None] if how == "HW" else a.transpose(0, 3, 1, 2) if how == "HWC" else a
    if a.shape[1] == 4:
        alpha = a[:, 3:].astype(np.float32) / 255
        a = np.rint(a[:, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return a


def resized(a: np.ndarray, size: int, channels: int) -> np.ndarray:
    """uint8 (n, channels, size, size) of uint8 (n, C, H, W)."""
    if a.shape[2:] == (size, size) and a.shape[1] == channels:
        return a
    if a.shape[2:] == (size, size) and a.shape[1] == 1:
        return a.repeat(channels, 1)
    rows = (row[0] if len(row) == 1 else np.ascontiguousarray(row.transpose(1, 2, 0)) for row in a)
    return np.stack([pixels(fit(Image.fromarray(row), size), channels) for row in rows])


def from_groups(name: str, groups: Sequence[Group], options: Options) -> Decoded:
    """Arrays with their labels and official parts.

    Raises:
        UsageError: shapes, types or values that are no images and no points.
    """
    what = f"data from {name!r}"
    for x, y, _ in groups:
        if x.ndim < 2 or len(x) == 0:
            raise UsageError(what, f"an array of shape {x.shape}", INSTEAD)
        if y is not None and len(y) != len(x):
            raise UsageError(what, f"{len(x):,} items but {len(y):,} labels", "give one label for each item")
    xs = [x for x, _, _ in groups]
    if len({x.shape[1:] for x in xs}) > 1:
        found = f"parts of different shapes {', '.join(str(x.shape) for x in xs)}"
        raise UsageError(what, found, "give the items of all parts one shape")
    low, high = extent(xs, what)
    part = np.concatenate([np.full(len(x), part, np.int8) for x, _, part in groups])
    if xs[0].ndim == 2:
        if max(-low, high) > float(np.finfo(np.float32).max):
            raise UsageError(what, f"values up to {max(-low, high):g}, beyond the range of float32", "scale them")
        points = np.concatenate([x.astype(np.float32) for x in xs])
        decoded = Decoded(torch.from_numpy(points), digests(points), None, (), part)
        at = np.arange(len(points))
    else:
        how, c, h, w = layout(xs[0].shape[1:], what)
        scale, said = scale_of(np.result_type(*xs), low, high, what)
        size = options.size or choose_size([min(h, w)])
        channels = options.channels or (1 if c == 1 else 3)
        ends = np.cumsum([len(x) for x in xs])

        def load(at: Sequence[int]) -> tuple[np.ndarray, list[tuple[int, str]]]:
            index = np.asarray(at)
            group = np.searchsorted(ends, index, side="right")
            rows = np.empty((len(index), channels, size, size), np.uint8)
            for g in np.unique(group):
                mine = group == g
                chosen = np.asarray(xs[g][index[mine] - (ends[g] - len(xs[g]))])
                rows[mine] = resized(upright(scale(chosen), how), size, channels)
            return rows, []

        decoded, at = survey(name, int(ends[-1]), load, (channels, size, size), options, "item {}".format, 1, 1024)
        decoded.part = part
        dark = f"the largest value is {high:g} on the scale 0..255; if that is not meant, divide by it first"
        decoded.notes = [said] * bool(said) + [dark] * (1.001 < high < 64) + shape_notes([(w, h)] * len(at), size)
    decoded.c, decoded.classes, decoded.numbers = from_arrays([(y, len(x)) for x, y, _ in groups], what, decoded.notes)
    return decoded


def from_mapping(name: str, arrays: Mapping[str, Any], options: Options) -> Decoded:
    """Arrays under names: x (or images, data) and y (or labels, ...), alone or as x_train, test_images and the like.

    Raises:
        UsageError: none of these names.
    """
    given = {str(key).lower().replace("-", "_"): key for key in arrays}
    groups: list[Group] = []
    for part, words in [(ANY, ("",)), *PART_WORDS.items()]:
        found: dict[str, np.ndarray] = {}
        for letter, stems in KEYS.items():
            for key in [k for word in words for stem in stems for k in (f"{word}_{stem}", f"{stem}_{word}")]:
                key = key.strip("_")
                if key in given and letter not in found:
                    found[letter] = plain(arrays[given[key]], f"array {given[key]!r} of {name!r}")
        if "x" in found:
            groups.append((found["x"], found.get("y"), part))
    if not groups and len(given) == 1:
        groups = [(plain(next(iter(arrays.values())), f"data from {name!r}"), None, ANY)]
    if not groups:
        raise UsageError(
            f"arrays from {name!r}",
            f"names {', '.join(sorted(map(str, arrays))) or 'none'}",
            "name them x and y (or images and labels), or x_train, y_train, x_test, y_test",
        )
    if len(groups) > 1 and groups[0][2] == ANY:  # x beside x_test: x is what to train on
        groups[0] = (*groups[0][:2], TRAIN)
    return from_groups(name, groups, options)


def from_npy(path: Path, options: Options) -> Decoded:
    """A .npy file, mapped: one larger than memory is read as it is needed."""
    try:
        return from_groups(path.name, [(np.load(path, mmap_mode="r", allow_pickle=False), None, ANY)], options)
    except DAMAGE as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> UsageError:
    with path.open("rb") as file:
        numpy_s = file.read(6).startswith((b"\x93NUMPY", b"PK"))  # it takes any other file for a pickle
    objects = numpy_s and any(word in str(error) for word in ("allow_pickle", "Object arrays", "Python objects"))
    found = "objects, which only unpickling could read" if objects else f"damaged or not a numpy file ({error})"
    return UsageError(f"arrays from {str(path)!r}", found, "save plain numbers with numpy.save or numpy.savez")


def from_npz(path: Path, options: Options) -> Decoded:
    """A .npz file; what its arrays would take is checked before they are read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            total = sum(member.file_size for member in arrays.zip.infolist())
            if total > 2 * options.memory:
                raise UsageError(
                    f"arrays from {str(path)!r}",
                    f"{total / 2**30:.1f} GiB unpacked, more than memory allows",
                    "save the images alone as .npy, which is read as it is needed, or raise in_memory_bytes",
                )
            return from_mapping(path.name, arrays, options)  # reads only what it needs
    except DAMAGE as error:
        raise damaged(path, error) from None


def idx_names(files: Files) -> dict[str, int]:
    """The idx files among these: name without .gz, and position; the unpacked one where both are there."""
    found: dict[str, int] = {}
    for i, name in sorted(enumerate(files.names), key=lambda item: -len(item[1])):
        if PATTERN.match(name.rsplit("/", 1)[-1]):
            found[name.removesuffix(".gz")] = i
    return found


def from_idx(name: str, files: Files, options: Options) -> Decoded:
    """An MNIST-style set of idx files.

    Raises:
        UsageError: several sets, a damaged file, or labels without images.
    """
    found: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for path, i in sorted(idx_names(files).items()):
        folder, _, base = path.rpartition("/")
        match = PATTERN.match(base)
        assert match is not None
        kind = match["what"].lower().rstrip("s")
        which = (f"{folder}/{match['set']}", PARTS[(match["part"] or "").lower()])
        try:
            found.setdefault(which, {})[kind] = parse(files.read(i))
        except Unreadable as reason:
            raise UsageError(f"the idx file {path!r} of {name!r}", str(reason), "download it again") from None
    sets = sorted({which for which, _ in found})
    if len(sets) > 1:
        found_sets = f"{len(sets)} sets: {', '.join(s.strip('/') or '(unnamed)' for s in sets)}"
        raise UsageError(f"idx files from {name!r}", found_sets, "give a folder with one of them")
    missing = [files for files in found.values() if "image" not in files]
    if missing:
        raise UsageError(
            f"idx files from {name!r}", "labels without images", "put the images-idx3-ubyte files beside them"
        )
    by_part = sorted(found.items(), key=lambda item: item[0][1])
    groups = [(arrays["image"], arrays.get("label"), part) for (_, part), arrays in by_part]
    decoded = from_groups(name, groups, options)
    others = len(files.names) - len(idx_names(files))
    if others:
        decoded.notes.append(f"other files beside the idx files, left alone: {others:,}")
    return decoded


def one_image(item: Any, scale: Scale | None, size: int, channels: int) -> np.ndarray:
    """uint8 (channels, size, size) of one dataset item: a Pillow image, array or tensor."""
    if isinstance(item, Image.Image):
        return pixels(small(item, size), channels)
    a = plain(item, "an item")
    how, *_ = layout(a.shape, "an item")
    assert scale is not None
    return resized(upright(scale(a[None]), how), size, channels)[0]


def pair(item: Any) -> tuple[Any, Any]:
    """(x, c) of a dataset item, c None where it has none."""
    if isinstance(item, (tuple, list)) and len(item) in (1, 2):
        return item[0], item[1] if len(item) == 2 else None
    return item, None


def from_dataset(name: str, dataset: Any, options: Options) -> Decoded:
    """Any map-style dataset (`len` and indexing) of x or (x, c); x a Pillow image, array or tensor.

    Raises:
        UsageError: empty, or items that are no images and no points.
    """
    what = f"data from {name}"
    n = len(dataset)
    probe = sorted({int(i) for i in np.linspace(0, n - 1, min(n, 64))})
    firsts, reason = [], "no items"
    for i in probe:
        try:
            x = pair(dataset[i])[0]
            firsts.append(x if isinstance(x, Image.Image) else measured(plain(x, what), what))
        except UsageError as error:
            reason = error.found
        except Exception as error:  # the dataset is the user's; the pass below names each item that fails
            reason = str(error) or type(error).__name__
    if not firsts:
        raise UsageError(what, reason, "give at least 3 items: Pillow images, arrays or tensors")
    pictures = [isinstance(x, Image.Image) for x in firsts]
    arrays = [x for x in firsts if not isinstance(x, Image.Image)]
    usual, _ = Counter((a.ndim, a.dtype) for a in arrays).most_common(1)[0] if arrays else (None, 0)
    arrays = [a for a in arrays if (a.ndim, a.dtype) == usual]
    if any(pictures) and arrays:
        raise UsageError(what, "images and arrays mixed", "give items of one kind")
    if arrays and arrays[0].ndim == 1:
        items = [pair(dataset[i]) for i in range(n)]
        x, c = stacked([x for x, _ in items], what), gathered([c for _, c in items], what)
        return from_groups(name, [(x, c, ANY)], options)
    scale, said, sizes = None, "", [x.size for x in firsts if isinstance(x, Image.Image)]
    if arrays:
        span = extent([a.reshape(1, -1) for a in arrays], what)
        scale, said = scale_of(arrays[0].dtype, *span, what)
        sizes = [layout(a.shape, what)[:0:-1][:2] for a in arrays]
    size = options.size or choose_size([min(wh) for wh in sizes])
    channels = options.channels or 3
    labels: list[Any] = [None] * n

    def load(at: Sequence[int]) -> tuple[np.ndarray, list[tuple[int, str]]]:
        rows = np.zeros((len(at), channels, size, size), np.uint8)
        failed = []
        for row, i in enumerate(at):
            try:
                x, labels[i] = pair(dataset[int(i)])
                if scale is not None:
                    mine = plain(x, what)
                    on_scale(mine, arrays[0].dtype, span, said, what)
                rows[row] = one_image(x, scale, size, channels)
            except UsageError as error:
                failed.append((row, error.found))
            except Exception as error:  # the dataset is the user's: whatever it raises is this item's reason
                failed.append((row, str(error) or type(error).__name__))
        return rows, failed

    decoded, at = survey(name, n, load, (channels, size, size), options, "item {}".format, threads=1)
    decoded.notes = [said] * bool(said) + shape_notes(sizes, size)
    known = from_arrays([(gathered([labels[i] for i in at], what), len(at))], what, decoded.notes)
    decoded.c, decoded.classes, decoded.numbers = known
    return decoded


def measured(a: np.ndarray, what: str) -> np.ndarray:
    """The array, if it is an image or a point by itself."""
    span = extent([a.reshape(1, -1)], what)
    if a.ndim != 1:
        layout(a.shape, what)
        scale_of(a.dtype, *span, what)
    return a


def on_scale(a: np.ndarray, dtype: np.dtype, span: tuple[float, float], said: str, what: str) -> None:
    """Refuse an item that would have changed the scale which the first items chose."""
    low, high = extent([a.reshape(1, -1)], what)
    if a.dtype != dtype:
        raise Unreadable(f"{a.dtype} values, where other items are {dtype}")
    if scale_of(dtype, min(low, span[0]), max(high, span[1]), what)[1] != said:
        raise Unreadable(f"values from {low:g} to {high:g}, off the scale of other items")


def stacked(xs: Sequence[Any], what: str) -> np.ndarray:
    arrays = [plain(x, what) for x in xs]
    if len({a.shape for a in arrays}) > 1:
        found = f"items of different shapes {sorted({a.shape for a in arrays})[:3]}"
        raise UsageError(what, found, "give items of one shape")
    return np.stack(arrays)


def gathered(cs: Sequence[Any], what: str) -> np.ndarray | None:
    """Labels of dataset items as one array, None where no item has one."""
    if all(c is None for c in cs):
        return None
    single = (Tensor, np.generic, np.ndarray)
    values = [-1 if c is None else c.item() if isinstance(c, single) and math.prod(c.shape) == 1 else c for c in cs]
    return plain(values, f"labels of {what}")
