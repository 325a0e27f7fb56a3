"""Several processes under torchrun: one averages what the others found, and nothing else changes.

Noise is drawn for the global batch and cut by rank, so that n processes on batch B/n equal one on batch B; gradients of
the player whose turn it is are averaged in one flat buffer. What training keeps of a weight besides the weight itself, its
moments and its average, may be shared out: each process then moves those weights that it owns, and tells the others.
Without torchrun every function here is the identity.

Where a process dies, torchrun ends the others and starts all of them again, as often as --max-restarts says. Its store of
names outlives them, and has what those before agreed on.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from amalgan.errors import AmalganError

LEFT = ("closed by peer", "reset by peer", "Broken pipe", "Timed out", "remote process exited")
PATIENCE = timedelta(minutes=30)  # for each other: some may still be reading data

_store: dist.Store | None = None  # as old as torchrun itself, so that a restarted process finds what was kept
_kept = itertools.count()  # values that this process has asked to be kept


def start() -> None:
    """Join the other processes if torchrun started this one.

    Processes of one attempt meet under a name that only they know: torchrun's store still has the addresses of those
    that died, and whoever believes them calls a closed port: without such a name 2 of 11 trials recovered at once (pytorch
    issue 135712).

    Raises:
        AmalganError: the others did not come in time.
    """
    global _store
    several = int(os.environ.get("WORLD_SIZE", "0")) > 1
    if dist.is_initialized() or not (several or {"WORLD_SIZE", "TORCHELASTIC_RUN_ID"} <= os.environ.keys()):
        return
    number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    own = number == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # srun, say, brings no store
    try:
        held = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=own,
                             timeout=PATIENCE, wait_for_workers=False, multi_tenant=True)  # fmt: skip
        _store = dist.PrefixStore("amalgan", held)
        name = _attempt(_store, number, count)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=dist.PrefixStore(name, _store), rank=number, world_size=count)
    except dist.DistError as error:
        raise AmalganError(
            f"{count} processes to train together",
            f"process {number} did not meet the others ({str(error).splitlines()[0]})",
            "see whether each machine reaches MASTER_ADDR, and whether as many were started as torchrun was told",
        ) from error
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def _attempt(store: dist.Store, number: int, count: int) -> str:
    """A name for this attempt that all of its processes know, and no process of another.

    torchrun's own count of attempts does not serve: each machine counts the failures that it saw itself. Here everyone
    calls with a word of its own, and the first answers every call it sees, until all of this attempt have thanked it;
    calls of the dead stay without thanks.
    """
    own = uuid.uuid4().hex
    if number:
        store.set(f"call/{number}", own)
        name = store.get(f"answer/{own}").decode()
        store.set(f"thanks/{name}/{number}", "")
        return name
    deadline = time.monotonic() + PATIENCE.total_seconds()
    awaited = set(range(1, count))
    while awaited:
        for other in awaited:
            if store.check([f"call/{other}"]):
                store.set(f"answer/{store.get(f'call/{other}').decode()}", own)
        awaited = {other for other in awaited if not store.check([f"thanks/{own}/{other}"])}
        if time.monotonic() > deadline:
            raise dist.DistStoreError(f"no word of {sorted(awaited)}")
        time.sleep(0.01)
    return own


def kept(value: Callable[[], str]) -> str:
    """What the first process answered when this was first asked, in all processes, and in those restarted after a failure.

    To be asked in the same order by all.
    """
    if _store is None:
        return value()
    key = f"kept/{next(_kept)}"
    if is_first() and not _store.check([key]):
        _store.set(key, value())
    return _store.get(key).decode()


def apart() -> None:
    """Do not join the others: each of the processes has work of its own, as have those that it starts."""
    os.environ.pop("WORLD_SIZE", None)


def stop() -> None:
    """Leave the other processes."""
    global _store
    _store = None
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def beside() -> int:
    """How many processes share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world())) if world() > 1 else 1


def device(name: str) -> str:
    """This process's own of the devices that several processes on one machine share."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if world() > 1 and name.startswith("cuda") else name


def is_first() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


def together(operation: Callable[..., object], tensor: Tensor, *more: int) -> None:
    """Do a collective operation on a tensor, and wait until nobody else holds that tensor.

    Gloo's own thread lets go of it some time after it said that it is done, and needs the interpreter for that. Where
    the interpreter was ending by then, the process died with all its work done: 7 of 12 runs on a busy machine
    (pytorch pull request 179291).

    Raises:
        AmalganError: another process has left.
    """
    held = sys.getrefcount(tensor)
    try:
        operation(tensor, *more)
    except RuntimeError as error:
        reason = str(error)
        if not any(sign in reason for sign in LEFT):
            raise
        raise AmalganError(
            f"the work of {world()} processes together",
            "another of them has left; it may have said why",
            "amalgan resume goes on from the last checkpoint; torchrun --max-restarts 3 does so by itself",
        ) from error
    while tensor.device.type == "cpu" and sys.getrefcount(tensor) > held:
        time.sleep(0)


def mean(value: Tensor) -> Tensor:
    """The mean over processes."""
    if world() > 1:
        value = value.clone()
        together(dist.all_reduce, value)
        value /= world()
    return value


def any_of(*claims: bool) -> list[bool]:
    """For each claim, whether any process makes it."""
    return [share > 0 for share in mean(torch.tensor(claims, dtype=torch.float32)).tolist()]


def everyones(value: Tensor) -> Tensor:
    """Each process's tensor (...), all of them: (processes, ...)."""
    whole = value.new_zeros(world(), *value.shape)
    whole[rank()] = value
    if world() > 1:
        together(dist.all_reduce, whole)
    return whole


def wait() -> None:
    """Until all processes are here."""
    everyones(torch.zeros(1))


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


Owners = dict[nn.Parameter, int]  # which process keeps what training needs of a weight besides the weight itself


def owners(parameters: Iterable[nn.Parameter]) -> Owners:
    """Who keeps what: the largest first, each with the process that has least so far; all processes say the same."""
    loads = [0] * world()
    found: Owners = {}
    for parameter in sorted(parameters, key=torch.Tensor.numel, reverse=True):
        found[parameter] = min(range(len(loads)), key=loads.__getitem__)
        loads[found[parameter]] += parameter.numel()
    return found


def average_gradients(parameters: list[nn.Parameter], kept: Owners | None = None) -> None:
    """Replace each gradient by its mean over processes; where weights are shared out, their owners alone get it."""
    if world() == 1:
        return
    moved = [p for p in parameters if p.grad is not None]
    if not kept:
        _averaged(moved, dist.all_reduce)
        return
    for owner in range(world()):
        theirs = [p for p in moved if kept[p] == owner]
        _averaged(theirs, dist.reduce, owner)
        if owner != rank():
            for p in theirs:
                p.grad = None


def _averaged(parameters: list[nn.Parameter], operation: Callable[..., object], *more: int) -> None:
    """Gradients in one flat buffer, through a collective operation, and back, divided."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        _back(_through(gradients, operation, *more).div_(world()), gradients)


def spread(weights: Iterable[tuple[Tensor, int]]) -> None:
    """Give every process each owner's (tensor, owner)."""
    held = list(weights)
    for owner in range(world()):
        theirs = [tensor for tensor, of in held if of == owner]
        if theirs and world() > 1:
            _back(_through(theirs, dist.broadcast, owner), theirs)


def _through(tensors: list[Tensor], operation: Callable[..., object], *more: int) -> Tensor:
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    together(operation, flat, *more)
    return flat


def _back(flat: Tensor, tensors: list[Tensor]) -> None:
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(part.view(tensor.shape))
