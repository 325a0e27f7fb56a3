"""Arrays, .npy, .npz, idx files and datasets: layouts, scales, labels, and what is refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from amalgan import data
from amalgan.data.core import Unreadable
from amalgan.data.idx import TYPES, parse
from amalgan.errors import UsageError

RNG = np.random.default_rng(2)
GREY = RNG.integers(0, 256, (40, 12, 12), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (40, 3, 12, 12), dtype=np.uint8)


def rows(d: data.Data) -> set[bytes]:
    return {x.numpy().tobytes() for s in (d.train, d.validation, d.test) for x in s.x}


def expected(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


@pytest.mark.parametrize(
    "array, channels",
    [
        (GREY, 1),
        (GREY[:, None], 1),
        (GREY[..., None], 1),
        (torch.from_numpy(GREY), 1),
        (GREY.astype(np.int64), 1),
        (GREY.astype(np.float32), 1),
        (GREY.astype(np.float64) / 255, 1),
        (torch.from_numpy(GREY).float() / 127.5 - 1, 1),
        (GREY.astype(np.uint16) * 257, 1),
        (GREY[:, None].repeat(3, 1), 1),
        (COLOUR, 3),
        (COLOUR.transpose(0, 2, 3, 1), 3),
        (torch.from_numpy(COLOUR).to(torch.float16) / 255, 3),
        (np.concatenate([COLOUR.transpose(0, 2, 3, 1), np.full((40, 12, 12, 1), 255, np.uint8)], -1), 3),
    ],
)
def test_every_layout_and_scale_gives_the_same_pixels(array, channels):
    d = data.open(array)
    assert d.spec == data.Spec("images", (channels, 12, 12))
    assert rows(d) == expected(GREY if channels == 1 else COLOUR)


def test_bools_and_zeros_and_ones_are_black_and_white():
    bits = GREY > 127
    for array in (bits, bits.astype(np.int64), bits.astype(np.uint8), bits.astype(np.float32)):
        assert rows(data.open(array)) == expected(bits * np.uint8(255))


def test_alpha_of_arrays_is_laid_over_white():
    x = np.zeros((10, 8, 8, 4), np.uint8)
    x[..., 3] = np.arange(10)[:, None, None] * 28
    assert rows(data.open(x)) == expected((255 - np.arange(10, dtype=np.uint8) * 28)[:, None, None, None].repeat(64, 1))


def test_large_and_oblong_arrays_are_brought_to_size():
    d = data.open(RNG.integers(0, 256, (10, 90, 120, 3), dtype=np.uint8))
    assert d.spec.shape == (3, 64, 64) and "10 of 10 cropped" in d.notes[0]
    assert data.open(GREY, size=20, channels=3).spec.shape == (3, 20, 20)


def test_dark_images_are_remarked_on():
    assert any("largest value is 16" in note for note in data.open(GREY.astype(np.float32) // 16 + 1).notes)


def test_points_stay_float32():
    x = RNG.normal(size=(50, 3)) * 100
    d = data.open((x, RNG.integers(0, 2, 50)))
    assert d.spec == data.Spec("points", (3,), ("0", "1")) and d.train.x.dtype == torch.float32
    assert rows(d) == expected(x.astype(np.float32))
    assert torch.equal(d.train.batch(torch.tensor([1]))[0][0], d.train.x[1])


@pytest.mark.parametrize(
    "labels, classes",
    [
        (np.arange(40) % 11, tuple(map(str, range(11)))),
        (np.arange(40) % 2 * 5.0 + 2, ("2", "7")),
        (np.array(["wolf", "ape"] * 20), ("ape", "wolf")),
        ((np.arange(40) % 3)[:, None], ("0", "1", "2")),
        (np.arange(40) % 2 == 0, ("0", "1")),
        (np.arange(40) % 3 - 1, ("0", "1")),
        (np.zeros(40, int), ()),
        (np.arange(40), ()),
    ],
)
def test_labels_of_every_kind(labels, classes):
    d = data.open((GREY, labels))
    assert d.spec.classes == classes
    if classes:
        flat = [str(int(v)) if not isinstance(v, str) else v for v in np.asarray(labels).reshape(-1).tolist()]
        of = {row.tobytes(): label for row, label in zip(GREY, flat)}
        for s in (d.train, d.validation, d.test):
            for x, c in zip(s.x, s.c.tolist()):
                label = of[x.numpy().tobytes()]
                assert (classes[c] == label) if c >= 0 else label == "-1"
    else:
        assert d.train.c is None


@pytest.mark.parametrize(
    "bad, found",
    [
        (np.zeros(5), "shape \\(5,\\)"),
        (np.zeros((0, 8, 8)), "shape \\(0, 8, 8\\)"),
        (np.zeros((5, 8, 8, 7)), "items of shape"),
        (np.zeros((5, 2, 8, 8, 3)), "items of shape"),
        (np.full((5, 8, 8), np.nan), "320 values NaN"),
        (np.full((5, 2), np.inf), "10 values NaN or infinite"),
        (np.full((5, 8, 8), -7), "int64 values from -7"),
        (np.full((5, 8, 8), 1e6), "float64 values from 1e\\+06"),
        (np.full((5, 8, 8), "a"), "values of type <U1"),
        ((GREY, np.zeros(3)), "40 items but 3 labels"),
        ((GREY, np.full(40, 1j)), "values of type complex128"),
        ((GREY, np.full((40, 2), "a")), r"shapes \(40, 2\) of type <U1"),
        ((GREY, np.zeros((40, 2), int)), "one value for all items"),
        ({"a": GREY, "b": GREY}, "names a, b"),
        ({"x_train": GREY, "x_test": GREY[:, :5]}, "different shapes"),
        ([], "no items"),
        ([GREY[0], Image.new("L", (8, 8))], "images and arrays mixed"),
        ([np.zeros(2), np.zeros(3), np.zeros(2)], "different shapes"),
        (np.full((5, 2), 1e300), "beyond the range of float32"),
    ],
)
def test_arrays_that_are_no_data_say_so(bad, found):
    with pytest.raises(UsageError, match=found) as error:
        data.open(bad)
    assert error.value.instead


@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("X", "target"), ("data", "label")])
def test_npz_by_its_usual_names(tmp_path, keys):
    np.savez(tmp_path / "a.npz", **{keys[0]: GREY, keys[1]: np.arange(40) % 4})
    d = data.open(tmp_path / "a.npz")
    assert rows(d) == expected(GREY) and d.spec.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize("form", ["{part}_images {part}_labels", "x_{part} y_{part}"])
def test_npz_with_parts(tmp_path, form):
    cut = {"train": slice(0, 25), "val": slice(25, 32), "test": slice(32, 40)}
    labels = np.arange(40)[:, None] % 2
    arrays = {}
    for part, where in cut.items():
        x, y = form.format(part=part).split()
        arrays |= {x: GREY[where], y: labels[where]}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    d = data.open(tmp_path / "a.npz")
    for split, where in zip((d.train, d.validation, d.test), cut.values()):
        assert {x.numpy().tobytes() for x in split.x} == expected(GREY[where])


def test_npy_and_a_lone_array_in_npz(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    for names in ({}, {"faces": GREY}):
        np.savez(tmp_path / "a.npz", *([] if names else [GREY]), **names)
        assert data.open(tmp_path / "a.npy").fingerprint == data.open(tmp_path / "a.npz").fingerprint
    np.savez(tmp_path / "b.npz", x=GREY, names=np.array([{}], object))  # what is not needed is not read
    assert data.open(tmp_path / "b.npz").fingerprint == data.open(tmp_path / "a.npz").fingerprint


def test_npy_larger_than_memory_is_mapped_and_the_same(tmp_path):
    np.save(tmp_path / "a.npy", COLOUR.transpose(0, 2, 3, 1).astype(np.float32) / 255)
    held, streamed = data.open(tmp_path / "a.npy"), data.open(tmp_path / "a.npy", in_memory_bytes=100)
    assert "streamed" in repr(streamed.train) and held.fingerprint == streamed.fingerprint
    assert torch.equal(held.train.tensor(), streamed.train.tensor())


def test_damaged_and_pickled_numpy_files_are_refused(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "object.npz", x=np.array([{"a": 1}], object))
    np.save(tmp_path / "cut.npy", GREY)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:500])
    for name in ("text.npy", "text.npz", "empty.npy", "empty.npz"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"these are not numbers")
    np.savez(tmp_path / "big.npz", x=np.zeros((10, 50, 50), np.uint8))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UsageError) as error:
            data.open(path, in_memory_bytes=1000)
        assert ("unpickling" in error.value.found) == ("object" in path.name), path
    with pytest.raises(UsageError, match="more than memory allows"):
        data.open(tmp_path / "big.npz", in_memory_bytes=1000)


class Items(torch.utils.data.Dataset):
    def __init__(self, items: list) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int):
        if isinstance(self.items[i], Exception):
            raise self.items[i]
        return self.items[i]


@pytest.mark.parametrize("memory", [None, 100])
@pytest.mark.parametrize(
    "make",
    [
        lambda a: Image.fromarray(a),
        lambda a: a,
        lambda a: torch.from_numpy(a)[None],
        lambda a: torch.from_numpy(a)[None] / 255,
        lambda a: torch.from_numpy(a)[None] / 127.5 - 1,
    ],
)
def test_datasets_of_pictures_arrays_and_tensors(make, memory):
    d = data.open(Items([(make(a), i % 4) for i, a in enumerate(GREY)]), in_memory_bytes=memory)
    assert d.spec == data.Spec("images", (1, 12, 12), ("0", "1", "2", "3")) and d.name == "Items"
    got = {(x * 255).round().byte().numpy().tobytes() for s in (d.train, d.validation, d.test) for x in s.tensor()}
    assert got == expected(GREY)


def test_datasets_without_labels_and_of_points():
    assert data.open(Items([Image.fromarray(a) for a in GREY])).train.c is None
    d = data.open(Items([(torch.tensor([i, 2.0 * i]), str(i % 2)) for i in range(20)]))
    assert d.spec == data.Spec("points", (2,), ("0", "1"))


def test_items_that_fail_are_named_and_skipped():
    good = [torch.from_numpy(a)[None] / 255 for a in GREY]
    d = data.open(Items([*good, good[0] * 300, good[0].double() * float("nan"), good[0][0, 0]]))
    assert dict(d.skipped).keys() == {"item 40", "item 41", "item 42"} and rows(d) == expected(GREY)
    many = [Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(200)]
    many[101] = OSError("disk on fire")  # not among the evenly spaced items looked at first
    d = data.open(Items(many))
    assert d.skipped == [("item 101", "disk on fire")]


def idx(a: np.ndarray) -> bytes:
    code = {np.dtype(v).newbyteorder("="): k for k, v in TYPES.items()}[a.dtype.newbyteorder("=")]
    return struct.pack(f">BBBB{a.ndim}I", 0, 0, code, a.ndim, *a.shape) + a.astype(TYPES[code]).tobytes()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_idx_reads_what_was_written(dtype, shape, packed, seed):
    a = (np.random.default_rng(seed).normal(size=shape) * 50).astype(dtype)
    raw = idx(a)
    got = parse(gzip.compress(raw) if packed else raw)
    assert got.dtype == a.dtype and got.shape == a.shape and (got == a).all()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.booleans())
def test_idx_of_rubbish_is_refused_or_whole(raw, packed):
    for start in (b"", b"\0\0\x08\x01", b"\0\0\x08\x03"):
        try:
            assert parse(gzip.compress(start + raw) if packed else start + raw).nbytes <= len(start + raw)
        except Unreadable as reason:
            assert str(reason)


def test_idx_cut_long_bombed_or_damaged():
    raw = idx(GREY)
    for bad, why in [
        (raw[:-1], "promises"),
        (raw + b"x", "promises"),
        (raw[:6], "inside its header"),
        (gzip.compress(raw)[:-20], "cut short"),
        (gzip.compress(b"\0\0\x08\x01\xff\xff\xff\xff" + bytes(2**25)), "refused"),
        (b"\x1f\x8brubbish", "gzip"),
        (b"", "no idx header"),
    ]:
        with pytest.raises(Unreadable, match=why):
            parse(bad)


def mnist_like(path: Path, packed: bool) -> Path:
    path.mkdir()
    for part, where in (("train", slice(0, 30)), ("t10k", slice(30, 40))):
        for what, a in (("images-idx3", GREY[where]), ("labels-idx1", (np.arange(40) % 5).astype(np.uint8)[where])):
            raw = idx(a)
            (path / f"{part}-{what}-ubyte{'.gz' * packed}").write_bytes(gzip.compress(raw) if packed else raw)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_idx_files(tmp_path, packed):
    folder = mnist_like(tmp_path / "set", packed)
    d = data.open(folder)
    assert d.spec == data.Spec("images", (1, 12, 12), tuple("01234")) and len(d.test) == 10
    assert {x.numpy().tobytes() for x in d.test.x} == expected(GREY[30:])
    assert data.open(folder).fingerprint == d.fingerprint  # from the copy
    assert data.open(folder, in_memory_bytes=10).fingerprint == d.fingerprint
    (folder / "preview.png").write_bytes(b"x")
    assert any("left alone: 1" in note for note in data.open(folder).notes)


def test_idx_in_a_zip_and_with_both_spellings(tmp_path):
    import shutil

    folder = mnist_like(tmp_path / "set", True)
    plain = data.open(folder)
    assert data.open(shutil.make_archive(str(tmp_path / "set"), "zip", folder)).fingerprint == plain.fingerprint
    raw = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    (folder / "train-images-idx3-ubyte").write_bytes(raw)
    assert data.open(folder).fingerprint == plain.fingerprint


def test_idx_folders_with_something_missing(tmp_path):
    folder = mnist_like(tmp_path / "set", False)
    (folder / "train-labels-idx1-ubyte").unlink()
    d = data.open(folder)
    assert (d.train.c == -1).all() and (d.test.c >= 0).all()
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(UsageError, match="labels without images"):
        data.open(folder)
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(UsageError, match="t10k-images"):
        data.open(folder)
    with pytest.raises(UsageError, match="one file"):
        data.open(folder / "t10k-images-idx3-ubyte")
    other = tmp_path / "other-train-images-idx3-ubyte"
    other.write_bytes(idx(GREY))
    with pytest.raises(UsageError, match="2 sets"):
        shutil_both = tmp_path / "both"
        mnist_like(shutil_both, False)
        other.rename(shutil_both / other.name)
        data.open(shutil_both)
