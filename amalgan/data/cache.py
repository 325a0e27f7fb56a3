"""Decoded data kept between openings: safetensors, written whole or not at all, never trusted blindly.

Pixels too many for the memory have a file of their own beside it (`store`).

The key hashes what was read (names, sizes, times) and how (options, versions). A copy carries a checksum of its
tensors; one that is damaged or half there is as good as none. Nothing here ever fails an opening.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import PIL
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .core import Decoded, Streamed

VERSION = 3  # raise it when the same files decode to other pixels
KEEP = 8 * 2**30  # bytes of copies; the longest unused leave first
STALE = 24 * 3600  # seconds after which nobody is writing a half-written file any more


def key(*parts: object) -> str:
    """A file name for decoding these parts with this version of everything."""
    return hashlib.blake2b(repr((VERSION, PIL.__version__, parts)).encode(), digest_size=16).hexdigest()


def checksum(tensors: dict[str, Tensor]) -> str:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].contiguous().view(torch.uint8).numpy().reshape(-1).data, total)
    return f"{total:08x}"


def load(folder: Path, name: str) -> tuple[Decoded, dict[str, Tensor], str] | tuple[None, None, str]:
    """The copy called `name` and its tensors, or None and, if one was there but is unusable, why."""
    path = folder / f"{name}.safetensors"
    try:
        if not path.exists():
            return None, None, ""
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a dict
        if checksum(tensors) != facts["checksum"]:
            raise ValueError("checksum")
        decoded = Decoded(
            x=tensors.get("x", torch.empty(0)),
            digest=tensors["digest"].numpy().view(np.uint64),
            c=tensors["c"].numpy() if "c" in tensors else None,
            classes=tuple(facts["classes"]),
            part=tensors["part"].numpy(),
            notes=facts["notes"],
            skipped=[(name, reason) for name, reason in facts["skipped"]],
            numbers=tuple(facts["numbers"]),
        )
        n = len(tensors["at"])
        if {len(decoded.digest), len(decoded.part), n} != {n} or ("x" in tensors and len(decoded.x) != n):
            raise ValueError("lengths")
        for used in (path, pixels(folder, name)):
            with contextlib.suppress(OSError):
                os.utime(used)
        return decoded, tensors, ""
    except Exception as error:  # a damaged file can fail in every way; all of them mean: decode again
        with contextlib.suppress(OSError):
            path.unlink()
        return None, None, f"a damaged copy of the decoded data was discarded ({type(error).__name__})"


def save(folder: Path, name: str, decoded: Decoded, at: np.ndarray) -> str:
    """Keep a copy; says why in words if that cannot be done, and "" otherwise.

    Arguments:
        at: (N,) positions in the source, for data that is streamed.
    """
    tensors = {
        "digest": torch.from_numpy(decoded.digest.view(np.int64).copy()),
        "part": torch.from_numpy(decoded.part),
        "at": torch.from_numpy(at.astype(np.int64)),
        "shape": torch.tensor(decoded.x.shape if isinstance(decoded.x, Streamed) else decoded.x.shape[1:]),
    }
    if isinstance(decoded.x, Tensor):
        tensors["x"] = decoded.x.contiguous()
    else:
        count = 0 if decoded.x.store is None else decoded.x.store.count
        tensors |= {"workers": torch.tensor([decoded.x.workers]), "count": torch.tensor([count])}
    if decoded.c is not None:
        tensors["c"] = torch.from_numpy(decoded.c)
    named = {"classes": decoded.classes, "numbers": decoded.numbers}
    facts = named | {"notes": decoded.notes, "skipped": decoded.skipped}
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
        os.close(handle)
        save_file(tensors, temporary, metadata={"facts": json.dumps(facts | {"checksum": checksum(tensors)})})
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if isinstance(decoded.x, Streamed) and decoded.x.store is not None:
            decoded.x.store.keep(pixels(folder, name))
        os.replace(temporary, folder / f"{name}.safetensors")
        sweep(folder, name)
        return ""
    except Exception as error:  # read-only, full, a file in the way: the data itself is fine
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(decoded.x, Streamed) and decoded.x.store is not None:
            decoded.x.store.drop()
        return f"the decoded data could not be kept in {folder} ({getattr(error, 'strerror', None) or error})"


def pixels(folder: Path, name: str) -> Path:
    """Where the pixels of the copy called `name` are, if they are too many for the memory."""
    return folder / f"{name}.pixels"


def sweep(folder: Path, name: str) -> None:
    """Let the longest unused copies but `name` go until KEEP bytes hold the rest, and what killed processes left."""
    copies = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has swept it away
            status = path.stat()
            if path.suffix == ".part" and time.time() - status.st_mtime > STALE:
                path.unlink(missing_ok=True)
            elif path.suffix in (".safetensors", ".pixels") and path.stem != name:
                copies.append((status.st_mtime, status.st_size, path))
    total = 0
    for _, size, path in sorted(copies, reverse=True):
        total += size
        if total > KEEP:
            path.unlink(missing_ok=True)
            if path.suffix == ".pixels":  # without them the rest would have images decoded at every reading
                path.with_suffix(".safetensors").unlink(missing_ok=True)
