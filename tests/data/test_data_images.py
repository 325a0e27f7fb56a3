"""Image files: every format and mode against pixels known by construction, and a corpus of bad files."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from amalgan import data
from amalgan.data.images import MAX_PIXELS, Unreadable, choose_size, fit, header, load_image_file, picture, turn
from amalgan.errors import UsageError

RNG = np.random.default_rng(0)


def encoded(im: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    im.save(file, form, **options)
    return file.getvalue()


def colours(h: int = 16, w: int = 16) -> np.ndarray:
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


def smooth(h: int, w: int) -> np.ndarray:
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([255 * y / h, 255 * x / w, 128 + 0 * x], -1).astype(np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(w: int, h: int) -> bytes:
    """A PNG whose header claims w x h grey pixels."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def folder_of(path: Path, n: int = 12, size: int = 16) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(colours(size, size)).save(path / f"{i:03}.png")
    return path


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(form):
    a = colours()
    raw = encoded(Image.fromarray(a), form, **({"lossless": True} if form == "WEBP" else {}))
    assert (picture(raw, 16, 3) == a.transpose(2, 0, 1)).all()


def test_jpeg_is_as_pillow_decodes_it():
    raw = encoded(Image.fromarray(smooth(16, 16)), "JPEG", quality=95)
    assert (picture(raw, 16, 3) == np.asarray(Image.open(io.BytesIO(raw))).transpose(2, 0, 1)).all()


def test_large_jpegs_decoded_small_stay_close_to_the_full_way():
    raw = encoded(Image.fromarray(smooth(512, 700)), "JPEG", quality=95)
    full = fit(Image.open(io.BytesIO(raw)), 32)
    assert np.abs(picture(raw, 32, 3).astype(int) - np.asarray(full).transpose(2, 0, 1)).max() <= 3


def test_gif_gives_its_first_frame():
    frames = [Image.new("L", (16, 16), v) for v in (40, 200)]
    raw = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (picture(raw, 16, 1) == 40).all()


def test_transparency_is_laid_over_white():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0], rgba[:4, :, 3], rgba[4:, :4, 3] = 200, 255, 128
    got = picture(encoded(Image.fromarray(rgba), "PNG"), 8, 3)
    assert (got[:, :4] == np.array([200, 0, 0])[:, None, None]).all()  # opaque
    assert (got[:, 4:, 4:] == 255).all()  # clear
    half = np.array([200 * 128 + 255 * 127, 255 * 127, 255 * 127]) / 255
    assert np.abs(got[:, 4:, :4] - half[:, None, None]).max() <= 1
    la = np.zeros((8, 8, 2), np.uint8)
    la[:, :4] = (100, 255)
    got = picture(encoded(Image.fromarray(la), "PNG"), 8, 1)
    assert (got[0, :, :4] == 100).all() and (got[0, :, 4:] == 255).all()


def test_palette_with_and_without_transparency():
    im = Image.new("P", (8, 8), 0)
    im.putpalette([10, 20, 30, 200, 100, 50])
    im.paste(1, (0, 0, 8, 4))
    plain = picture(encoded(im, "PNG"), 8, 3)
    assert plain[:, 0, 0].tolist() == [200, 100, 50] and plain[:, 7, 7].tolist() == [10, 20, 30]
    clear = picture(encoded(im, "PNG", transparency=0), 8, 3)
    assert clear[:, 0, 0].tolist() == [200, 100, 50] and clear[:, 7, 7].tolist() == [255, 255, 255]


def test_a_transparent_colour_of_an_rgb_or_grey_png():
    a = np.full((8, 8, 3), 7, np.uint8)
    a[0] = (1, 2, 3)
    got = picture(encoded(Image.fromarray(a), "PNG", transparency=(1, 2, 3)), 8, 3)
    assert (got[:, 0] == 255).all() and (got[:, 1:] == 7).all()
    got = picture(encoded(Image.fromarray(a[..., 2]), "PNG", transparency=3), 8, 1)
    assert (got[0, 0] == 255).all() and (got[0, 1:] == 7).all()


def test_sixteen_bits_one_bit_float_and_cmyk():
    ramp = np.array([[0, 257, 32896, 65535]], np.uint16).repeat(4, 0)
    for form in ("PNG", "TIFF"):
        assert (picture(encoded(Image.fromarray(ramp), form), 4, 1)[0, 0] == [0, 1, 128, 255]).all()
    wide = Image.fromarray(ramp.astype(np.int32))
    assert (picture(encoded(wide, "TIFF"), 4, 1)[0, 0] == [0, 1, 128, 255]).all()
    unit = Image.fromarray((ramp / 65535).astype(np.float32))
    assert (picture(encoded(unit, "TIFF"), 4, 1)[0, 0] == [0, 1, 128, 255]).all()
    bit = Image.fromarray(np.eye(8, dtype=np.uint8) * 255).convert("1")
    for form in ("PNG", "TIFF", "BMP"):
        assert (picture(encoded(bit, form), 8, 1)[0] == np.eye(8) * 255).all()
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red ink
    for form, tolerance in (("TIFF", 0), ("JPEG", 2)):
        got = picture(encoded(cmyk, form), 8, 3)
        assert np.abs(got - np.array([255, 0, 0])[:, None, None]).max() <= tolerance, form


def test_float_pixels_that_are_no_numbers_are_refused():
    with pytest.raises(Unreadable, match="outside"):
        picture(encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), 8, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_as_pillow_understands_it(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    im = Image.fromarray(colours(12, 20))
    for form in ("PNG", "JPEG", "WEBP", "TIFF"):
        options = {"lossless": True} if form == "WEBP" else {}
        raw = encoded(im, form, exif=exif, **options)
        upright = fit(ImageOps.exif_transpose(Image.open(io.BytesIO(raw))), 12)
        assert (picture(raw, 12, 3) == np.asarray(upright).transpose(2, 0, 1)).all(), form
    assert turn(im, 99) is im  # nonsense in the tag is not an orientation


def test_fit_takes_the_central_square():
    a = np.zeros((8, 24), np.uint8)
    a[:, 8:16] = 255
    assert (np.asarray(fit(Image.fromarray(a), 8)) == 255).all()
    assert (np.asarray(fit(Image.fromarray(a.T.copy()), 8)) == 255).all()


def test_resizing_is_antialiased():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(np.asarray(fit(Image.fromarray(checks), 8)).astype(int) - 127).max() <= 8


def test_a_strip_of_a_million_pixels_costs_no_memory():
    raw = encoded(Image.new("L", (1_000_000, 1), 77), "PNG")
    assert (picture(raw, 64, 1) == 77).all()


@pytest.mark.parametrize(
    "sides, size",
    [([28] * 5, 28), ([8], 8), ([64, 64], 64), ([30, 30], 30), ([100, 100], 64), ([5, 5], 8), ([30, 34, 35], 32)],
)
def test_choice_of_size(sides, size):
    assert choose_size(sides) == size


def test_uniform_28_px_files_stay_28(tmp_path):
    assert data.open(folder_of(tmp_path / "x", size=28)).spec.shape == (3, 28, 28)


def test_sizes_mixed_are_resized_and_told(tmp_path):
    for i, (w, h) in enumerate([(30, 40), (50, 34), (36, 36), (35, 99)]):
        Image.fromarray(colours(h, w)).save(tmp_path / f"{i}.png")
    d = data.open(tmp_path)
    assert d.spec.shape == (3, 32, 32)  # the median of 30, 34, 36, 35 is 34.5
    assert "4 of 4 resized" in d.notes[0] and "3 of 4 cropped" in d.notes[0]
    assert data.open(tmp_path, size=10).spec.shape == (3, 10, 10)


def test_grey_content_gives_one_channel_and_can_be_overruled(tmp_path):
    grey = [RNG.integers(0, 256, (16, 16), dtype=np.uint8) for _ in range(6)]
    for i, a in enumerate(grey):
        im = Image.fromarray(a)
        (im if i % 2 else im.convert("RGB")).save(tmp_path / f"{i}.png")
    d = data.open(tmp_path)
    assert d.spec.shape == (1, 16, 16)
    mine = {x.numpy().tobytes() for s in (d.train, d.validation, d.test) for x in s.x}
    assert mine == {a.tobytes() for a in grey}
    assert data.open(tmp_path, channels=3).spec.shape == (3, 16, 16)
    Image.fromarray(colours()).save(tmp_path / "colour.png")
    assert data.open(tmp_path).spec.shape == (3, 16, 16)
    assert data.open(tmp_path, channels=1).spec.shape == (1, 16, 16)


BAD = {
    "empty.png": (b"", "empty file"),
    "text.png": (b"these are not pixels", "not a PNG"),
    "notes.txt": (b"hello", "not a PNG"),
    "truncated.png": (encoded(Image.fromarray(colours(64, 64)), "PNG")[:2000], "damaged image"),
    "truncated.jpg": (encoded(Image.fromarray(colours(64, 64)), "JPEG")[:1500], "damaged image"),
    "header.jpg": (b"\xff\xd8\xff\xe0", "damaged"),
    "bomb.png": (png_of_size(50_000, 50_000), "refused before decoding"),
    "zero.png": (png_of_size(0, 5), "damaged|pixels"),
    "flipped.png": (None, "damaged"),
    "truncated.webp": (encoded(Image.fromarray(colours(64, 64)), "WEBP")[:300], "damaged"),
    "truncated.gif": (encoded(Image.fromarray(colours(64, 64)), "GIF")[:900], "damaged"),
    "truncated.bmp": (encoded(Image.fromarray(colours(64, 64)), "BMP")[:900], "damaged"),
    "truncated.tif": (encoded(Image.fromarray(colours(64, 64)), "TIFF")[:900], "damaged"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG"),
}
_flipped = bytearray(encoded(Image.fromarray(colours(64, 64)), "PNG"))
_flipped[3000] ^= 255
BAD["flipped.png"] = (bytes(_flipped), "damaged")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_reason(name):
    raw, reason = BAD[name]
    with pytest.raises(Unreadable, match=reason):
        picture(raw, 16, 3)


def test_bad_files_are_named_counted_and_skipped_and_change_nothing_else(tmp_path):
    good = folder_of(tmp_path / "good")
    clean = data.open(good)
    for name, (raw, _) in BAD.items():
        (good / name).write_bytes(raw)
    (good / "grüße 猫.png").write_bytes(b"nichts")
    os.symlink(good / "nowhere.png", good / "link.png")
    seen = []
    d = data.open(good, progress=lambda done, total: seen.append((done, total)))
    assert d.fingerprint == clean.fingerprint and torch.equal(d.train.x, clean.train.x)
    reasons = dict(d.skipped)
    assert set(reasons) == {*BAD, "grüße 猫.png", "link.png"} and reasons["link.png"] == "broken link"
    assert any(f"skipped {len(BAD) + 2} items" in note for note in d.notes)
    assert seen[-1] == (12 + len(BAD) + 1, 12 + len(BAD) + 1)
    for _ in range(2):  # decoded and from the copy
        with pytest.raises(UsageError, match="strict"):
            data.open(good, strict=True)
    assert data.open(good).skipped == d.skipped  # from the copy


@pytest.mark.parametrize("name", ["truncated.png", "notes.txt"])
def test_strict_stops_at_any_of_them(tmp_path, name):
    good = folder_of(tmp_path / "good")
    (good / name).write_bytes(BAD[name][0])
    with pytest.raises(UsageError, match=name):
        data.open(good, strict=True)


def test_nothing_is_decoded_beyond_the_cap():
    side = int(MAX_PIXELS**0.5)
    header(png_of_size(side, side))
    with pytest.raises(Unreadable, match="refused"):
        header(png_of_size(side + 1, side + 1))


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]),
    st.integers(0, 10**6),
    st.integers(0, 255),
    st.booleans(),
)
def test_damage_anywhere_is_either_harmless_or_named(form, at, value, cut):
    raw = bytearray(encoded(Image.fromarray(smooth(20, 24)), form))
    at %= len(raw)
    raw = raw[:at] if cut else raw[:at] + bytes([value]) + raw[at + 1 :]
    try:
        got = picture(bytes(raw), 8, 3)
        assert got.shape == (3, 8, 8) and got.dtype == np.uint8
    except Unreadable as reason:
        assert str(reason)


def test_unicode_names_nested_classes_and_hidden_files(tmp_path):
    for label in ("猫", "dog"):
        folder_of(tmp_path / "photos" / label / "2024")
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "photos" / "dog" / "Thumbs.db").write_bytes(b"x")
    d = data.open(tmp_path)
    assert d.spec.classes == ("dog", "猫") and d.skipped == []
    assert sum((s.c == 1).sum().item() for s in (d.train, d.validation, d.test)) == 12


def test_folders_train_val_test_are_the_parts(tmp_path):
    for part, n in (("train", 20), ("validation", 5), ("test", 7)):
        for label in ("a", "b"):
            folder_of(tmp_path / "set" / part / label, n)
    (tmp_path / "README.txt").write_text("hello")
    d = data.open(tmp_path)
    assert [len(s) for s in (d.train, d.validation, d.test)] == [40, 10, 14]
    assert d.spec.classes == ("a", "b") and [name for name, _ in d.skipped] == ["README.txt"]


def test_folders_shared_below_the_parts_say_nothing(tmp_path):
    for part in ("train", "test"):
        for label in ("a", "b"):
            folder_of(tmp_path / part / "images" / label, 6)
    d = data.open(tmp_path)
    assert d.spec.classes == ("a", "b") and len(d.test) == 12


def test_a_class_called_train_is_a_class(tmp_path):
    for label in ("train", "bus"):
        folder_of(tmp_path / label)
    assert data.open(tmp_path).spec.classes == ("bus", "train")


def test_one_folder_of_images_has_no_labels(tmp_path):
    d = data.open(folder_of(tmp_path / "a" / "b").parent)
    assert d.spec.classes == () and d.train.c is None


def test_a_loop_of_links_ends(tmp_path):
    folder_of(tmp_path / "a")
    os.symlink(tmp_path, tmp_path / "a" / "up")
    d = data.open(tmp_path)
    assert len(d.train) + len(d.validation) + len(d.test) == 12
    assert d.skipped == [("a/up/", "a link to a folder already read")]


@pytest.mark.parametrize(
    "make, found",
    [
        (lambda p: p / "nowhere", "no such file or folder"),
        (lambda p: p / ("x" * 300), "too long"),
        (lambda p: p, "no files in it"),
        (lambda p: (p / "a.txt").write_text("x") and p, r"none that can be read: 1 item \(a.txt: not a PNG"),
        (lambda p: Image.new("L", (9, 9)).save(p / "a.png") or p, "1 distinct item"),
        (lambda p: Image.new("L", (9, 9)).save(p / "a.png") or p / "a.png", "one file that is no archive"),
        (lambda p: (p / "b.zip").write_bytes(b"") or p / "b.zip", "an empty file"),
        (lambda p: (p / "b.zip").write_bytes(b"PK\3\4rubbish") and p / "b.zip", "damaged"),
        (lambda p: (p / "b.tar.gz").write_bytes(b"\x1f\x8brubbish....") and p / "b.tar.gz", "not a tar"),
    ],
)
def test_sources_that_are_none_say_so(tmp_path, make, found):
    with pytest.raises(UsageError, match=found) as error:
        data.open(make(tmp_path))
    assert error.value.instead


def test_a_misspelt_path_is_corrected(tmp_path):
    folder_of(tmp_path / "photos")
    with pytest.raises(UsageError, match=r"but there is .*photos"):
        data.open(tmp_path / "fotos")


def test_one_image_file_as_the_networks_take_it(tmp_path):
    a = colours()
    Image.fromarray(a).save(tmp_path / "a.png")
    x = load_image_file(tmp_path / "a.png", (3, 16, 16))
    assert torch.equal(x, torch.from_numpy(a).permute(2, 0, 1).float() / 255)
    assert load_image_file(tmp_path / "a.png", (1, 8, 8)).shape == (1, 8, 8)
    for bad in ("missing.png", "b.png"):
        (tmp_path / "b.png").write_bytes(b"no")
        with pytest.raises(UsageError, match=bad):
            load_image_file(tmp_path / bad, (3, 16, 16))
