"""How much memory there is, how much something takes at most, and how much of a batch fits in."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from amalgan.errors import UsageError
from amalgan.training import distributed
from amalgan.training.trainer import Trainer

FILLED = 0.8  # of what is free: looks, pictures and files being read want some, too
FEWEST = 8  # examples in a part that is tried: groups and batch statistics need a few
LAZIEST = 720_720  # a step that is a multiple of 1 to 16 is one on which every lazy penalty acts


def reset_peak(device: torch.device | str) -> bool:
    """Start to measure the peak anew; False where the machine does not let us."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    with contextlib.suppress(
        OSError, AttributeError
    ):  # what was freed is given back, or it would hide what is taken next
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def peak(device: torch.device | str) -> int | None:
    """Bytes held at most since then: of the accelerator where there is one, else by this process."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _kib("/proc/self/status", "VmHWM")


def free(device: torch.device | str) -> int | None:
    """Bytes that could still be had, None where the machine does not say: a container's limit counts."""
    if torch.device(device).type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    there = _kib("/proc/meminfo", "MemAvailable")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        there = min(limit - used, there) if there is not None else limit - used
    return there


def _kib(path: str, name: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def fewest_parts(make: Callable[[int], Trainer], batch: int, device: torch.device | str) -> int:
    """How many parts a batch must be cut into so that one fits into memory: the fewest.

    Ever larger parts are tried, each a step of every stage on a trainer that is thrown away, as long as the next is
    expected to fit: what a step takes beyond weights, gradients, moments and averages grows with the part at most.

    Arguments:
        make: a trainer of batches of so many examples; called once for each size that is tried.
        batch: of all processes together, which all call this.
        device: where that trainer lives.

    Raises:
        UsageError: the machine does not say how much memory is free.
    """
    there, processes = free(device), distributed.world()
    if there is None or not reset_peak(device):
        raise UsageError("--accumulate auto", "a machine that does not say how much memory is free", "write a number")
    there = int(FILLED * there / (1 if torch.device(device).type == "cuda" else distributed.beside()))
    share = batch // processes
    sizes = [size for size in range(1, share + 1) if share % size == 0 and size >= min(FEWEST, share)]
    before = peak(device) or 0
    for size, larger in pairwise(sizes):
        kept = _step(make(size * processes))
        took = max(0, (peak(device) or 0) - before - kept)
        gc.collect()
        (too_much,) = distributed.any_of(kept + took * larger / size > there)
        if too_much:
            return share // size
    return share // sizes[-1]


def _step(trainer: Trainer) -> int:
    """A step of each stage; the bytes that stay while the size of a batch changes."""
    begun = 0.0
    for _, share in trainer.plan.stages:
        trainer.step_count = math.ceil(begun * trainer.steps / LAZIEST) * LAZIEST
        trainer.step()
        begun += share
    weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    return weights * (5 if trainer.average else 4)  # themselves, gradients, two moments, an average
