"""The idx format of MNIST: two zero bytes, a type, a number of axes, big-endian axis lengths, then the values.

Reference: LeCun, Cortes and Burges, *The MNIST database*, "file formats" at the end of the page.
"""

from __future__ import annotations

import re
import zlib

import numpy as np

from .core import ANY, TEST, TRAIN, VALIDATION, Unreadable

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
RATIO, LOOSE = 200, 2**24  # a small file may pack as well as it likes
PATTERN = re.compile(
    r"^(?P<set>.*?)(?P<part>train|t10k|test|validation|valid|val)?[-_. ]?"
    r"(?P<what>images?|labels?)[-_. ]?idx\d[-_. ]?ubyte(?P<gz>\.gz)?$",
    re.IGNORECASE,
)
PARTS = {
    "train": TRAIN,
    "t10k": TEST,
    "test": TEST,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "": ANY,
}


def parse(raw: bytes) -> np.ndarray:
    """The array in an idx file (gzipped or not).

    Raises:
        Unreadable: not idx, cut short, or more bytes than the header promises.
    """
    if raw[:2] == b"\x1f\x8b":
        raw = gunzip(raw)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in TYPES or not 1 <= raw[3] <= 8:
        raise Unreadable("no idx header")
    kind, axes = np.dtype(TYPES[raw[2]]), raw[3]
    start = 4 + 4 * axes
    if len(raw) < start:
        raise Unreadable("cut short inside its header")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", axes, 4))
    promised = kind.itemsize
    for n in shape:
        promised *= n
    if promised != len(raw) - start:
        raise Unreadable(
            f"the header promises {promised:,} bytes of shape {shape}, the file holds {len(raw) - start:,}"
        )
    return np.frombuffer(raw, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="), copy=False)


def gunzip(raw: bytes) -> bytes:
    """The unpacked bytes, refusing a bomb: images pack about 5 to 1, and 1000 to 1 is the format's limit."""
    engine = zlib.decompressobj(wbits=31)
    try:
        unpacked = engine.decompress(raw, LOOSE + RATIO * len(raw))
    except zlib.error as error:
        raise Unreadable(f"damaged gzip data ({error})") from None
    if engine.unconsumed_tail:
        raise Unreadable(f"unpacks to more than {RATIO} times its size: refused")
    if not engine.eof:
        raise Unreadable("gzip data cut short")
    return unpacked
