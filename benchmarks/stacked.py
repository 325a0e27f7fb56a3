"""Stacked MNIST: an image is three digits, one a channel. How many of the 1,000 combinations does a generator make?

    p4   the unrolled GAN's setting as PacGAN ran it (Metz et al. 2017; Lin et al. 2018, appendix): generator 64-32-16-8
         channels with batch norm, z of 256; discriminator a quarter or half as wide; Adam 1e-4 and 2e-4, betas 0.5 and 0.99,
         batch 128; digits stacked anew for every batch; 25,600 samples. Here a fiftieth of their 500,000 steps
    p3   VEEGAN's setting as PacGAN ran it: generator and discriminator of 64-512 channels, 5x5 convolutions, z of 100 in
         [-1, 1], Adam 2e-4, beta1 0.5, batch 64, two steps of the generator a turn, 100,000 steps, 26,000 samples: needs a GPU

    dcgan     the protocol
    packed    its discriminator judges pairs (PacGAN2)
    slopes    relativistic, R1 + R2, no batch norm in the discriminator, averaged weights

Each channel is classified by a network that learned single digits of the training set; a mode is a combination that one
sample shows, and the KL is that of their histogram from the uniform one.

    python -m benchmarks.stacked                    # p4
    python -m benchmarks.stacked p3 --device cuda
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from amalgan.data import Spec
from amalgan.models import LatentModel
from amalgan.models.likelihoods import Gaussian
from amalgan.networks.together import Packed
from amalgan.objectives import Objective, ZeroCentred, gan
from amalgan.results import Row, show, write
from amalgan.training import Plan, Trainer
from benchmarks import jobs
from benchmarks.machine import data_folder

SHAPE, SPEC = (3, 28, 28), Spec("images", (3, 28, 28))
STEPS = {"p4": 10_000, "p3": 100_000}
SAMPLES = {"p4": 25_600, "p3": 26_000}
SEEDS = (0, 1, 2)
WIDTHS, DEEP = {"quarter": (2, 4, 8), "half": (4, 8, 16)}, (64, 128, 256, 512)  # of discriminators in p4, in p3
PROTOCOL = 1


@cache
def digits() -> Any:
    from amalgan import data

    return data.open(str(data_folder() / "mnist"))


@cache
def reader() -> Any:
    """A classifier of single digits."""
    from amalgan.metrics.features import classifier

    return classifier(digits())


class Stacks:
    """A training set without end: every batch is stacked anew from single digits."""

    def __init__(self, seed: int) -> None:
        self.x, self.source = digits().train.x, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return 2**20  # only says how often the trainer shuffles what is not looked at

    def batch(self, index: Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, None]:
        chosen = torch.randint(len(self.x), (len(index), 3), generator=self.source)
        return self.x[chosen].squeeze(2).to(device).float() / 255, None


class Generator(nn.Module):
    """z (B, 256) -> raw (B, 3, 28, 28): transposed convolutions from 4 x 4, batch norm, rectified units."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Linear(256, 64 * 16)
        layers: list[nn.Module] = [nn.BatchNorm2d(64), nn.ReLU()]
        for before, after, crop in ((64, 32, 1), (32, 16, 0), (16, 8, 0)):  # 4 -> 7 -> 14 -> 28
            step = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1 - crop)
            layers += [step, nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.code(z).view(len(z), 64, 4, 4))


class Discriminator(nn.Module):
    """x (B, C, 28, 28) -> logits (B,), features (B, F): convolutions of stride 2, leaky units of slope 0.3.

    Arguments:
        channels: C.
        widths: of its layers.
        normed: batch norm after all but the first.
        side: of the convolutions, odd.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], normed: bool, side: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip((channels, *widths), widths)):
            layers += [nn.Conv2d(before, after, side, stride=2, padding=side // 2)]
            layers += [nn.BatchNorm2d(after)] if normed and i else []
            layers += [nn.LeakyReLU(0.3)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.verdict = nn.Linear(widths[-1] * math.ceil(SHAPE[1] / 2 ** len(widths)) ** 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(2 * x - 1)
        return self.verdict(features).float().squeeze(1), features.float()


class Deep(nn.Module):
    """z (B, 100) -> raw (B, 3, 28, 28): the DCGAN of VEEGAN's setting, 2 -> 4 -> 7 -> 14 -> 28 px."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Linear(100, 512 * 4)
        layers: list[nn.Module] = [nn.BatchNorm2d(512), nn.ReLU()]
        for before, after, more in ((512, 256, 1), (256, 128, 0), (128, 64, 1)):
            step = nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=more)
            layers += [step, nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 5, stride=2, padding=2, output_padding=1))

    def forward(self, z: Tensor) -> Tensor:
        uniform = 2 * torch.special.ndtr(z) - 1
        return self.layers(self.code(uniform).view(len(z), 512, 2, 2))


def plan(job: jobs.Job) -> Plan:
    """Networks, step sizes and batch of the protocol; the method's game."""
    torch.manual_seed(job["seed"])
    deep, normed = job["table"] == "p3", job["method"] != "slopes"

    def judge(shape: tuple[int, ...]) -> nn.Module:
        widths, side = (DEEP, 5) if deep else (WIDTHS[job["size"]], 3)
        return Discriminator(shape[0], widths, normed, side)

    decoder, latent = (Deep(), 100) if deep else (Generator(), 256)
    discriminator = Packed(judge, SHAPE, 2) if job["method"] == "packed" else judge(SHAPE)
    model = LatentModel(SPEC, latent, Gaussian(), decoder, discriminator=discriminator)
    terms: Objective = gan("non-saturating")
    if job["method"] == "slopes":
        terms = gan("relativistic") + ZeroCentred(1.0, ("x", "fake"), 8)
    lr = {"decoder": 2e-4, "discriminator": 2e-4} if deep else {"decoder": 1e-4, "discriminator": 2e-4}
    return Plan(
        model,
        [(terms, 1.0)],
        lr,
        betas=dict.fromkeys(model.networks, (0.5, 0.999 if deep else 0.99)),
        turns={"generator": 2} if deep else {},
        batch=64 if deep else 128,
        ema=0.999 if job["method"] == "slopes" else 0.0,
    )


@torch.no_grad()
def score(model: Any, count: int, seed: int) -> dict[str, float]:
    """Combinations that samples show, and the KL of their histogram from the uniform one, nats."""
    model.eval()
    codes = []
    for part in torch.arange(count).split(1600):
        x = model.sample(len(part), seed, start=int(part[0])).cpu()
        read = reader().classes(reader()(x.flatten(0, 1)[:, None])).view(-1, 3)
        codes.append(read @ torch.tensor([100, 10, 1]))
    share = torch.cat(codes).bincount(minlength=1000).double() / count
    seen = share[share > 0]
    return {"modes": float(len(seen)), "kl": float((seen * (seen * 1000).log()).sum())}


def do(job: jobs.Job) -> dict[str, Any]:
    """Train, count."""
    trainer = Trainer(plan(job), Stacks(job["seed"]), job["steps"], job["seed"], device=job["device"])
    for _ in trainer.run():
        pass
    trainer.check()
    if not trainer.average:
        return score(trainer.model, SAMPLES[job["table"]], job["seed"])
    with trainer.averaged_model() as model:
        return score(model, SAMPLES[job["table"]], job["seed"])


# Lin et al. 2018, Table 2 (VEEGAN's setting, 10 trials) and Table 3 (the unrolled GAN's, 50 trials, 500,000 steps)
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "p3": {"dcgan": (78.9, 4.50), "pacgan2": (1000, 0.06), "pacgan4": (1000, 0.07)},
    "p4-quarter": {
        "dcgan": (78.5, 5.21),
        "unrolled10": (327.2, 4.66),
        "pacgan2": (484.5, 2.61),
        "pacgan4": (667.4, 1.81),
    },
    "p4-half": {
        "dcgan": (487.7, 2.24),
        "unrolled10": (817.4, 1.43),
        "pacgan2": (840.7, 1.00),
        "pacgan3": (866.6, 0.90),
    },
}
METRICS = {"modes": ("of 1,000", "higher"), "kl": ("nats", "lower")}


def rows(where: str, method: str, results: list[dict[str, Any]], job: jobs.Job) -> Iterator[Row]:
    """The mean over seeds with its t-interval."""
    for metric, (unit, better) in METRICS.items():
        yield Row(
            f"stacked-mnist-{where}", method, metric, unit, better,
            **jobs.over_seeds([result[metric] for result in results], results),
            n=SAMPLES[job["table"]], floor={"modes": 1000, "kl": 0.0}[metric], ceiling={"modes": 1, "kl": math.log(1000)}[metric],
            command="python -m benchmarks.stacked", cpu_seconds=sum(result["cpu_seconds"] for result in results),
            note=f"{job['steps']:,} steps, {job['steps'] / {'p4': 500_000, 'p3': 100_000}[job['table']]:.0%} of the protocol's",
        )  # fmt: skip


def published(where: str) -> Iterator[Row]:
    """Other people's rows."""
    for method, values in PUBLISHED[where].items():
        for (metric, (unit, better)), value in zip(METRICS.items(), values):
            source = f"Lin et al. 2018, arXiv 1712.04086, Table {2 if where == 'p3' else 3}"
            yield Row(
                f"stacked-mnist-{where}",
                f"{method}-in-pacgan-paper",
                metric,
                unit,
                better,
                published=value,
                source=source,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", default="p4", choices=list(STEPS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help=f"of each row ({len(SEEDS)})")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    reader()  # once, before processes would each train it
    wanted = [
        {"protocol": PROTOCOL, "table": asked.table, "size": size, "method": method, "seed": seed,
         "steps": STEPS[asked.table], "device": asked.device}
        for seed in range(asked.seeds)
        for size in (WIDTHS if asked.table == "p4" else ("",))
        for method in ("dcgan", "packed", "slopes")
    ]  # fmt: skip
    results = jobs.work("stacked", wanted, do, asked.processes if asked.device == "cpu" else 1)
    where = [f"{job['table']}-{job['size']}".strip("-") for job in wanted]
    cells = jobs.by_cell(zip(where, (job["method"] for job in wanted)), results)
    made = [row for (place, method), some in cells.items() for row in rows(place, method, some, wanted[0])]
    write("stability", [*made, *(row for place in dict.fromkeys(where) for row in published(place))])
    show("stability")


if __name__ == "__main__":
    main()
