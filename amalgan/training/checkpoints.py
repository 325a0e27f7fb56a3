"""Checkpoints: safetensors and JSON, whole or absent, the last two kept.

    checkpoints/step_00001200/state.safetensors     every tensor, named group/name
                              state-1.safetensors   what the second process alone keeps, where it is shared out, ...
                              state.json            step, format, digests of the tensors' files

A checkpoint is a folder that is renamed into place when all of it is on the disk. Reading checks the digest and falls
back to the one before.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from amalgan import files
from amalgan.errors import AmalganError
from amalgan.training import distributed

FORMAT = 2  # 1 where one file has it all
KEPT = 2

Groups = dict[str, dict[str, Tensor]]


def write(folder: Path, groups: Groups, step: int, extra: dict[str, Any] | None = None, shared: bool = False) -> Path:
    """Write the checkpoint of a step, then drop all but the last two.

    Where it is `shared` out, every process writes the tensors that it keeps, and all do so together. A tensor is whole in
    one of the files, so that any number of processes can go on from them.

    Raises:
        AmalganError: the disk is full or refuses; older checkpoints are intact.
    """
    final = folder / f"step_{step:08d}"
    temporary = folder / f"{files.TEMPORARY}{final.name}"
    first = not shared or distributed.is_first()
    content = save(
        {
            f"{group}/{name}": tensor.contiguous()
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }
    )
    own = torch.tensor(list(hashlib.sha256(content).digest()), dtype=torch.uint8)
    with files.explained(final):
        try:
            if first:
                folder.mkdir(parents=True, exist_ok=True)
                files.sweep(folder)
                temporary.mkdir()
            if shared:
                distributed.wait()
            files.write_bytes(temporary / _file(distributed.rank() if shared else 0), content)
            digests = [bytes(row).hex() for row in (distributed.everyones(own) if shared else own[None]).tolist()]
            if not first:
                return final
            record = {"format": FORMAT if len(digests) > 1 else 1, "step": step, "digests": digests}
            files.write_json(temporary / "state.json", record | {"digest": digests[0]} | (extra or {}))
            if final.exists():
                shutil.rmtree(final)
            os.replace(temporary, final)
            files.sync(folder)
        finally:
            if first:
                shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob("step_*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _file(number: int) -> str:
    return f"state-{number}.safetensors" if number else "state.safetensors"


def _everything(group: str, name: str) -> bool:
    return True


def latest(folder: Path, wanted: Callable[[str, str], bool] = _everything) -> tuple[Groups, dict[str, Any], list[str]]:
    """The newest whole checkpoint: its tensors, its record, and what was wrong with newer ones.

    Arguments:
        wanted: of a group and a name, whether to keep that tensor.

    Raises:
        AmalganError: there is none, or none is whole, or it was written by a newer version.
    """
    damaged: list[str] = []
    for path in sorted(folder.glob("step_*"), reverse=True):
        try:
            record = files.read_json(path / "state.json", f"the checkpoint {path}")
            if record.get("format", 0) > FORMAT:
                raise Newer(
                    f"going on from {path}",
                    f"checkpoint format {record['format']}, this version reads {FORMAT}",
                    "update amalgan",
                )
            groups: Groups = {}
            for number, digest in enumerate(record.get("digests") or [record.get("digest")]):
                _read(path / _file(number), digest, wanted, groups)
        except Newer:
            raise
        except (AmalganError, OSError, SafetensorError) as error:
            damaged.append(f"{path.name}: {getattr(error, 'found', error)}")
            continue
        return groups, record, damaged
    raise AmalganError(
        f"a checkpoint in {folder}",
        "; ".join(damaged) if damaged else "none",
        "train again, or copy the run folder from where it was whole",
    )


class Newer(AmalganError):
    """A checkpoint of a later version."""


def _read(path: Path, digest: str, wanted: Callable[[str, str], bool], into: Groups) -> None:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise AmalganError(f"reading {path}", "its content does not match its digest", "restore it from a copy")
    for name, tensor in load(content).items():
        group, _, key = name.partition("/")
        if wanted(group, key):
            into.setdefault(group, {})[key] = tensor
