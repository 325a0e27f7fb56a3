"""One image file: from bytes to a small square of uint8 pixels.

    header -> size check -> decode -> 8 bits, grey or RGB, transparency over white -> centre square -> EXIF orientation

Shorter-side resize and centre crop are one antialiased resampling of the central square, with s = min(w, h) the box
((w - s) / 2, (h - s) / 2, (w + s) / 2, (h + s) / 2), so that a 1 x 10^7 pixel strip costs no more than any other
picture. It commutes with the eight EXIF orientations, which are therefore applied to the small square.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torch import Tensor

from ..errors import UsageError
from .core import Unreadable

# The largest phone cameras stay below it (8160 x 6144), and 150 MB of RGB do no harm. Pillow warns at 89 million only.
MAX_PIXELS = 3 * 2**24
MAX_BYTES = 2**28
SMALLEST, LARGEST = 8, 64  # px that are chosen unasked: at 128 a step takes four times as long
LIMIT = 1024  # px beyond which `size` is a mistake

# Chosen by content, never by name, and handed to the format's own reader: no other of Pillow's 40 is within reach.
FORMATS = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    (b"BM", BmpImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
)
NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def header(raw: bytes) -> Image.Image:
    """The image with its header read and nothing decoded.

    Raises:
        Unreadable: empty, not an image, damaged header, or more than MAX_PIXELS.
    """
    if not raw:
        raise Unreadable("empty file")
    webp = raw[:4] == b"RIFF" and raw[8:12] == b"WEBP"
    readers = [WebPImageFile] if webp else [reader for magic, reader in FORMATS if raw.startswith(magic)]
    if not readers:
        raise Unreadable(f"not a {NAMES} image")
    try:
        im = readers[0](io.BytesIO(raw))
    except Exception as error:  # a damaged header can upset a reader in any way
        raise Unreadable(f"damaged header ({error})") from None
    w, h = im.size
    if w * h > MAX_PIXELS:
        raise Unreadable(f"{w} x {h} pixels, more than {MAX_PIXELS / 1e6:.0f} million: refused before decoding")
    if w < 1 or h < 1:
        raise Unreadable(f"{w} x {h} pixels")
    return im


def eight_bits(a: np.ndarray) -> np.ndarray:
    """uint8 of grey values: integers on the scale 0..65535, floats on 0..1, 0..255 or 0..65535."""
    if a.dtype == np.uint16:
        return ((a.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(a.min()), float(a.max())
    if not (low >= 0 and high <= 65535):  # also NaN
        raise Unreadable(f"pixel values from {low:g} to {high:g}, outside 0..65535")
    if a.dtype.kind == "f" and high <= 1:
        return np.rint(a * 255).astype(np.uint8)
    if a.dtype.kind == "f" and high <= 255:
        return np.rint(a).astype(np.uint8)
    return np.rint(a / 257).astype(np.uint8)


def flatten(im: Image.Image) -> Image.Image:
    """Mode L or RGB in 8 bits, whatever transparent laid over white."""
    if im.mode.startswith("I") or im.mode == "F":
        return Image.fromarray(
            eight_bits(np.asarray(im).astype(np.uint16) if im.mode.startswith("I;16") else np.asarray(im))
        )
    if im.mode in ("L", "RGB") and "transparency" not in im.info:
        return im
    if im.mode == "1" and "transparency" not in im.info:
        return im.convert("L")
    if im.mode in ("L", "1", "LA", "La"):
        clear = im.convert("LA").convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", im.size, (255, 255, 255, 255)), clear).getchannel(0)
    if im.mode in ("RGBA", "RGBa", "PA", "P", "RGB"):
        if im.mode == "P" and "transparency" not in im.info and getattr(im.palette, "mode", "RGB") == "RGB":
            return im.convert("RGB")
        clear = im.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", im.size, (255, 255, 255, 255)), clear).convert("RGB")
    return im.convert("RGB")  # CMYK, YCbCr, HSV; LAB has no conversion and ends as unreadable


def fit(im: Image.Image, size: int) -> Image.Image:
    """The central square of im, resampled (bicubic, antialiased) to size x size px."""
    w, h = im.size
    if w == h == size:
        return im
    s = min(w, h)
    box = ((w - s) / 2, (h - s) / 2, (w + s) / 2, (h + s) / 2)
    return im.resize((size, size), Image.Resampling.BICUBIC, box=box)


def turn(im: Image.Image, orientation: int) -> Image.Image:
    """im as EXIF says it should be seen."""
    return im.transpose(TURNS[orientation]) if orientation in TURNS else im


def orientation_of(im: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or none that can be read."""
    if isinstance(im, (BmpImageFile, GifImageFile, TiffImageFile)):
        return 1  # Pillow turns a TIFF upright itself
    if isinstance(im, JpegImageFile) and "exif" not in im.info and "xmp" not in im.info:
        return 1  # most files: spares 30 us of parsing
    try:
        return int(im.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken tag is no reason to lose the picture
        return 1


def several(im: Image.Image) -> bool:
    """Whether there are more frames; damage behind the first does not matter."""
    try:
        return bool(getattr(im, "is_animated", False))
    except Exception:
        return False


def peculiarities(im: Image.Image) -> list[str]:
    """What will be done to this image besides cropping and resizing, in words."""
    done = {
        "transparency laid over white": im.mode in ("RGBA", "LA", "PA") or "transparency" in im.info,
        "16-bit or float values scaled to 8 bits": im.mode.startswith("I") or im.mode == "F",
        "CMYK converted to RGB": im.mode == "CMYK",
        "turned upright as EXIF says": orientation_of(im) in TURNS,
        "the first of several frames used": several(im),
    }
    return [what for what, so in done.items() if so]


def small(im: Image.Image, size: int) -> Image.Image:
    """Any Pillow image as size x size in mode L or RGB: first frame, flattened, cropped, resized, turned upright."""
    if isinstance(im, JpegImageFile) and min(im.size) >= 4 * size:
        im.draft(None, (2 * size, 2 * size))  # decodes at 1/2, 1/4 or 1/8, never below twice the size wanted
    orientation = orientation_of(im)
    return turn(fit(flatten(im), size), orientation)


def checked(raw: bytes) -> None:
    """Refuse a PNG with a chunk cut short or off its checksum: Pillow itself takes wrong pixels for good ones."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(raw):
            raise Unreadable("damaged image (cut short)")
        if zlib.crc32(raw[at + 4 : end]) != int.from_bytes(raw[end : end + 4], "big"):
            raise Unreadable(f"damaged image (checksum of chunk {kind.decode('latin-1')!r})")
        at = end + 4


def picture(raw: bytes, size: int, channels: int) -> np.ndarray:
    """uint8 (channels, size, size) from the bytes of a file.

    Raises:
        Unreadable: with the reason.
    """
    im = header(raw)
    if isinstance(im, PngImageFile):
        checked(raw)
    try:
        return pixels(small(im, size), channels)
    except Unreadable:
        raise
    except Exception as error:  # decoders report damage in every type there is
        raise Unreadable(f"damaged image ({error or type(error).__name__})") from None


def pixels(im: Image.Image, channels: int) -> np.ndarray:
    """uint8 (channels, H, W) of an image in mode L or RGB; colour to grey by the luma of ITU-R 601."""
    a = np.asarray(im.convert("L") if channels == 1 else im)
    return a[None].repeat(channels, 0) if a.ndim == 2 else a.transpose(2, 0, 1)


def choose_size(shorter: Sequence[int]) -> int:
    """Side in px for images with these shorter sides: theirs where all agree within 8..64, else the median to 8 px."""
    sides = set(shorter)
    if len(sides) == 1 and SMALLEST <= min(sides) <= LARGEST:
        return min(sides)
    return int(np.clip(8 * round(float(np.median(list(shorter))) / 8), SMALLEST, LARGEST))


def load_image_file(path: str | Path, shape: tuple[int, ...]) -> Tensor:
    """One image file as the networks take it, float32 (C, H, W) in [0, 1], prepared as `open` prepares a folder.

    Raises:
        UsageError: the file cannot be read.
    """
    c, h, _ = shape
    try:
        raw = Path(path).read_bytes()
        return torch.from_numpy(picture(raw, h, c).copy()).float() / 255
    except (OSError, Unreadable) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"the image {str(path)!r}", str(reason), f"give a readable {NAMES} file") from None
