"""Several processes under torchrun: one averages what the others found, and nothing else changes.

Noise is drawn for the global batch and cut by rank, so that n processes on batch B/n equal one on batch B; gradients of
the player whose turn it is are averaged in one flat buffer. Without torchrun every function here is the identity.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def start() -> None:
    """Join the other processes if torchrun started this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def apart() -> None:
    """Do not join the others: each of the processes has work of its own, as have those that it starts."""
    os.environ.pop("WORLD_SIZE", None)


def stop() -> None:
    """Leave the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


def together(operation: Callable[..., object], tensor: Tensor, *more: int) -> None:
    """Do a collective operation on a tensor, and wait until nobody else holds that tensor.

    Gloo's own thread lets go of it some time after it said that it is done, and needs the interpreter for that. Where
    the interpreter was ending by then, the process died with all its work done: 7 of 12 runs on a busy machine
    (pytorch pull request 179291).
    """
    held = sys.getrefcount(tensor)
    operation(tensor, *more)
    while tensor.device.type == "cpu" and sys.getrefcount(tensor) > held:
        time.sleep(0)


def mean(value: Tensor) -> Tensor:
    """The mean over processes."""
    if world() > 1:
        value = value.clone()
        together(dist.all_reduce, value)
        value /= world()
    return value


def agree(value: float) -> float:
    """The first process's number, in all of them."""
    if world() == 1:
        return value
    carrier = torch.tensor([value], dtype=torch.float64)
    together(dist.broadcast, carrier, 0)
    return float(carrier)


def broadcast(model: nn.Module) -> None:
    """Give every process the first one's weights."""
    if world() > 1:
        for tensor in model.state_dict().values():
            together(dist.broadcast, tensor, 0)


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace each gradient by its mean over processes."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    together(dist.all_reduce, flat)
    flat /= world()
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view(gradient.shape))
