"""Checkpoints: safetensors and JSON, whole or absent, the last two kept.

    checkpoints/step_00001200/state.safetensors     every tensor, named group/name
                              state.json            step, format, digest of the tensors' file

A checkpoint is a folder that is renamed into place when all of it is on the disk. Reading checks the digest and falls
back to the one before.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from amalgan import files
from amalgan.errors import AmalganError

FORMAT = 1
KEPT = 2

Groups = dict[str, dict[str, Tensor]]


def write(folder: Path, groups: Groups, step: int, extra: dict[str, Any] | None = None) -> Path:
    """Write the checkpoint of a step, then drop all but the last two.

    Raises:
        AmalganError: the disk is full or refuses; older checkpoints are intact.
    """
    final = folder / f"step_{step:08d}"
    temporary = folder / f"{files.TEMPORARY}{os.getpid()}-{final.name}"
    content = save(
        {
            f"{group}/{name}": tensor.contiguous()
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }
    )
    with files.explained(final):
        folder.mkdir(parents=True, exist_ok=True)
        files.sweep(folder)
        try:
            temporary.mkdir()
            files.write_bytes(temporary / "state.safetensors", content)
            digest = hashlib.sha256(content).hexdigest()
            files.write_json(
                temporary / "state.json", {"format": FORMAT, "step": step, "digest": digest, **(extra or {})}
            )
            if final.exists():
                shutil.rmtree(final)
            os.replace(temporary, final)
            files.sync(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob("step_*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest(folder: Path) -> tuple[Groups, dict[str, Any], list[str]]:
    """The newest whole checkpoint: its tensors, its record, and what was wrong with newer ones.

    Raises:
        AmalganError: there is none, or none is whole, or it was written by a newer version.
    """
    damaged: list[str] = []
    for path in sorted(folder.glob("step_*"), reverse=True):
        try:
            record = files.read_json(path / "state.json", f"the checkpoint {path}")
            content = (path / "state.safetensors").read_bytes()
        except (AmalganError, OSError) as error:
            damaged.append(f"{path.name}: {getattr(error, 'found', error)}")
            continue
        if record.get("format", 0) > FORMAT:
            raise AmalganError(
                f"going on from {path}",
                f"checkpoint format {record['format']}, this version reads {FORMAT}",
                "update amalgan",
            )
        if hashlib.sha256(content).hexdigest() != record.get("digest"):
            damaged.append(f"{path.name}: its content does not match its digest")
            continue
        try:
            tensors = load(content)
        except SafetensorError as error:
            damaged.append(f"{path.name}: {error}")
            continue
        groups: Groups = {}
        for name, tensor in tensors.items():
            group, _, key = name.partition("/")
            groups.setdefault(group, {})[key] = tensor
        return groups, record, damaged
    raise AmalganError(
        f"a checkpoint in {folder}",
        "; ".join(damaged) if damaged else "none",
        "train again, or copy the run folder from where it was whole",
    )
