"""The eyes of the judge: networks that turn images into features, in which distances mean something.

    classifier(data)        a small network trained on the data's own labels; features `(B, 64)` before the logits
    self_supervised(data)   the same network, without labels: it tells apart 4 turns x 4 distortions of each image
    from_file(path)         Inception-v3 with the user's weights: features `(B, 2048)`, as published tables use
    coordinates(data)       points are their own features

Only the training split is learned from; the accuracy on held-out data is recorded. A trained network is kept in
`$AMALGAN_CACHE` (or `~/.cache/amalgan`) under the data's fingerprint and the seed, and its own fingerprint - a hash of
its weights -
belongs beside every number computed with it: numbers with different fingerprints cannot be compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from amalgan import files
from amalgan.data.core import Split
from amalgan.errors import AmalganError, UsageError
from amalgan.metrics.inception import Inception

FEATURES, STEPS, BATCH, RATE = 64, 600, 128, 3e-3
RECIPE = 2  # counts changes of the network or its training: an older cached network is then trained anew
TURNS, DISTORTIONS = 4, 4


class Features:
    """A frozen network with a name and a fingerprint.

    Arguments:
        name: for people.
        network: `(B, *shape)` to features `(B, dimension)`, in evaluation mode.
        head: features to logits `(B, classes)`, where the network is a classifier of the data's labels.
        accuracy: of the task it was trained for, on held-out data; None where it was not trained.
        batch: items in one pass.
        quick: whether the whole training set may be looked at in passing.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        head: nn.Module | None = None,
        accuracy: float | None = None,
        batch: int = 500,
        quick: bool = True,
    ) -> None:
        self.name, self.network, self.head = name, network.eval().requires_grad_(False), head
        self.accuracy, self.batch, self.quick = accuracy, batch, quick
        self.fingerprint = fingerprint(network.state_dict())

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Features `(N, dimension)` of x `(N, *shape)`, on the CPU, in batches."""
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        return torch.cat([self.network(part.to(device)).float().cpu() for part in x.split(self.batch)])

    def classes(self, features: Tensor) -> Tensor:
        """The most likely class `(N,)` of each row of features `(N, dimension)`.

        Raises:
            UsageError: the network was not trained on labels.
        """
        if self.head is None:
            raise UsageError(
                "classes of images", f"{self.name}, which knows no classes", "use features.classifier(data)"
            )
        with torch.no_grad():
            return self.head(features).argmax(1)


class SmallNetwork(nn.Module):
    """Three convolutions (24, 48, 96 channels), pooled to 4 x 4, then one linear map to 64 features.

    Features are normalised (zero mean and unit variance over the training data), so that distances have one scale for
    all data sets: the kernel's (x.y / d + 1)^3 would otherwise be all but x.y^3.

    Measured on one thread, MNIST, batch 128: 30 ms a step; with 3x3 convolutions and maximum pools in place of strides
    68 ms, and no more accurate.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, *size = shape
        strides = (
            2 if min(size) >= 24 else 1,
            2,
            2 if min(size) >= 48 else 1,
        )  # 8 x 8 and 28 x 28 reach 4 x 4 and 7 x 7
        layers: list[nn.Module] = []
        for i, o, stride in zip((channels, 24, 48), (24, 48, 96), strides):
            convolution = nn.Conv2d(i, o, 4 if stride == 2 else 3, stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(o), nn.ReLU()]
        self.body = nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(96 * 16, FEATURES),
            nn.BatchNorm1d(FEATURES, affine=False),
        )
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise UsageError(
                "features of images",
                f"images {tuple(x.shape[1:])} for a network trained on {self.shape}",
                "evaluate a model on the data set it was trained on, at the same size",
            )
        return self.body((x - 0.5) * 2)


def classifier(data: Any, seed: int = 0, steps: int = STEPS) -> Features:
    """A classifier of the data's own labels, trained on the training split; for points, their coordinates, untrained.

    Raises:
        UsageError: the training split has fewer than two known classes.
    """
    if data.spec.modality == "points":
        return coordinates(data)
    c = data.train.c if data.spec.classes else None  # numbers that describe an example are no classes
    known = torch.empty(0, dtype=torch.long) if c is None else (c >= 0).nonzero()[:, 0]
    if c is None or len(c[known].unique()) < 2:
        raise UsageError(
            "a classifier of the data's labels",
            f"{0 if c is None else len(c[known].unique())} known classes in the training split",
            "use features.self_supervised(data), or give Inception weights with features.from_file(path)",
        )

    return _trained("classifier", data, len(data.spec.classes), _labels, known, seed, steps)


def pupil(x: Tensor, c: Tensor, classes: int, seed: int = 0, steps: int = STEPS) -> nn.Module:
    """The same classifier, of images x (n, C, H, W) with known classes c (n,): (B, C, H, W) -> logits (B, classes)."""
    model = _network(tuple(x.shape[1:]), classes, seed)
    _train(model, Split(x, c), _labels, torch.arange(len(x)), seed, steps)
    return model


def _labels(x: Tensor, c: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The task of a classifier."""
    assert c is not None
    return x, c


def self_supervised(data: Any, seed: int = 0, steps: int = STEPS) -> Features:
    """A network that learned, without labels, to tell which of 4 turns and 4 distortions an image went through.

    Turns (Gidaris et al. 2018) need the content of the image; the distortions - none, blur, noise, quarters exchanged -
    need its sharpness, texture and layout, which is what samples get wrong. Images that are not square are turned by 0
    and 180 degrees only.
    """
    if data.spec.modality == "points":
        return coordinates(data)

    def task(x: Tensor, c: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        step = 1 if x.shape[2] == x.shape[3] else 2
        turn = torch.randint(TURNS // step, (len(x),), generator=generator) * step
        distortion = torch.randint(DISTORTIONS, (len(x),), generator=generator)
        noise = torch.randn(x.shape, generator=generator)
        x = x.clone()
        for t in range(step, TURNS, step):
            x[turn == t] = x[turn == t].rot90(t, (2, 3))
        blur, noisy, exchanged = (distortion == i for i in (1, 2, 3))
        x[blur] = F.avg_pool2d(x[blur], 3, 1, 1, count_include_pad=False)
        x[noisy] = (x[noisy] + 0.1 * noise[noisy]).clamp(0, 1)
        x[exchanged] = x[exchanged].roll((x.shape[2] // 2, x.shape[3] // 2), (2, 3))
        return x, turn * DISTORTIONS + distortion

    every = torch.arange(len(data.train))
    found = _trained("self-supervised", data, TURNS * DISTORTIONS, task, every, seed, steps)
    return Features(found.name, found.network, None, found.accuracy)  # its classes are turns, not the data's


def coordinates(data: Any) -> Features:
    """Points (or any vectors) as their own features."""
    return Features("coordinates", nn.Flatten())


def choose(data: Any, seed: int = 0) -> Features:
    """What to judge this data set with: coordinates of points, a classifier where there are labels, else
    self-supervised features."""
    c = data.train.c if data.spec.classes else None
    labelled = c is not None and len(c[c >= 0].unique()) > 1
    return classifier(data, seed) if labelled else self_supervised(data, seed)


def from_file(path: str | Path) -> Features:
    """Inception-v3 features `(B, 2048)` with weights from a .safetensors file.

    Names are those of the known torch port of the FID weights.

    Raises:
        UsageError: no such file, not safetensors, or names or shapes that do not fit.
    """
    path = Path(path)
    asked = f"Inception-v3 weights from {path}"
    convert = (
        "convert the known weights once, where torch is at hand: "
        "safetensors.torch.save_file(torch.load('pt_inception-2015-12-05-6726825d.pth', weights_only=True), "
        "'inception.safetensors')"
    )
    if not path.is_file():
        raise UsageError(asked, "no such file", "give the path of a .safetensors file, or leave the option out")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(asked, f"not a readable safetensors file ({error})", convert) from error
    network = Inception()
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    missing = [name for name in wanted if name not in weights]
    if missing:
        raise UsageError(
            asked, f"{len(missing)} of {len(wanted)} tensors are missing, the first is {missing[0]}", convert
        )
    for name, value in wanted.items():
        if weights[name].shape != value.shape:
            raise UsageError(
                asked, f"{name} has shape {tuple(weights[name].shape)}, the network needs {tuple(value.shape)}", convert
            )
    network.load_state_dict({name: weights[name].float() for name in wanted}, strict=False)
    return Features("inception-v3", network, batch=32, quick=False)


def fingerprint(weights: dict[str, Tensor]) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of all names, shapes and bytes of a state dict."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where trained feature networks are kept: `$AMALGAN_CACHE`, else `~/.cache/amalgan`."""
    return files.cache_folder() / "features"


Task = Callable[[Tensor, Tensor | None, torch.Generator], tuple[Tensor, Tensor]]


def _trained(kind: str, data: Any, classes: int, task: Task, usable: Tensor, seed: int, steps: int) -> Features:
    """The network from the cache, or trained on the `usable` items of the training split and then cached."""
    key = json.dumps([RECIPE, kind, data.fingerprint, list(data.spec.shape), classes, seed, steps])
    path = cache_folder() / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    model = _network(data.spec.shape, classes, seed)
    accuracy = _read(path, key, model)
    if accuracy is None:
        _train(model, data.train, task, usable, seed, steps)
        accuracy = _accuracy(model, data.validation if len(data.validation) else data.test, task, seed)
        _write(path, key, model, accuracy)
    return Features(f"{kind} of {data.name}", model[0], model[1], accuracy)


def _network(shape: tuple[int, ...], classes: int, seed: int) -> nn.Sequential:
    """Untrained: images -> features -> logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(SmallNetwork(shape), nn.Sequential(nn.ReLU(), nn.Linear(FEATURES, classes)))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _train(model: nn.Module, train: Any, task: Task, usable: Tensor, seed: int, steps: int) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over several threads round otherwise: the fingerprint would depend on them
    try:
        _steps(model, train, task, usable, seed, steps)
    finally:
        torch.set_num_threads(threads)


def _steps(model: nn.Module, train: Any, task: Task, usable: Tensor, seed: int, steps: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, 5 * step / steps + 0.05, 1.25 - 1.25 * step / steps)
    )
    model.train()
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.cat([order, usable[torch.randperm(len(usable), generator=generator)]])
        index, order = order[:BATCH], order[BATCH:]
        x, c = train.batch(index)
        x, target = task(x, c, generator)
        loss = F.cross_entropy(model(x), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    if not torch.isfinite(loss):
        raise AmalganError("a feature network", "its training diverged (NaN)", "try another seed, and look at the data")


@torch.no_grad()
def _accuracy(model: nn.Module, split: Any, task: Task, seed: int, limit: int = 10_000) -> float:
    """Share of the first `limit` labelled items of a split that the model gets right; nan where there are none."""
    generator = torch.Generator().manual_seed(seed)
    right = total = 0
    for index in torch.arange(min(len(split), limit)).split(500):
        x, c = split.batch(index)
        x, target = task(x, c, generator)
        known = target >= 0
        right += int((model(x).argmax(1) == target)[known].sum())
        total += int(known.sum())
    return right / total if total else math.nan


def _read(path: Path, key: str, model: nn.Module) -> float | None:
    """Fill the model from the cache and return its accuracy; None where nothing usable is there."""
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {})["amalgan"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if notes["key"] != key or notes["fingerprint"] != fingerprint(weights):
            return None
        accuracy = float(notes["accuracy"])
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError, TypeError):
        return None  # absent or damaged: it is trained again and written over
    model.eval()
    return accuracy


def _write(path: Path, key: str, model: nn.Module, accuracy: float) -> None:
    """Keep the model, whole or not at all. A cache that cannot be written is not an error."""
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    notes = json.dumps({"key": key, "fingerprint": fingerprint(weights), "accuracy": accuracy})
    with contextlib.suppress(OSError, AmalganError):
        files.write_bytes(path, save(weights, {"amalgan": notes}))  # one entry: several are stored in random order
