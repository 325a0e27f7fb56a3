"""Statically binarised MNIST: how many nats does a variational autoencoder with one layer of latents need for a digit?

    x = 1 with probability pixel / 255, drawn once with seed 0 for all 70,000 images; the last 10,000 of the official
    training set are the validation split. NLL by importance sampling, 5,000 samples for each of the 10,000 test images

    vae-mlp     784-200-200-50-200-200-784: the sizes of Burda et al. 2016 with one stochastic layer, rectified units
                (p(z) fitted as below; under N(0, I) in the row nll_standard)
    best        convolutions, and a mixture fitted to the aggregate posterior of the training images as p(z)

Networks run in bf16 where the processor has it, in training and in judging alike: what is judged is the density of the
rounded network, which is a density like any other; log p, q and their sums are fp32 and fp64. Settings and lengths
were chosen on the validation split with seed 100.

    python -m benchmarks.nll                    # stopped, it goes on with the next model
    python -m benchmarks.nll --explore best epochs=5 k=100 n=1000
"""

from __future__ import annotations

import argparse
import json
import time
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, relu

from amalgan import networks
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.data.idx import parse
from amalgan.metrics.intervals import seed_interval
from amalgan.metrics.likelihood import active_units, importance_sampled_nlls, latents
from amalgan.models import LatentModel
from amalgan.models.likelihoods import Bernoulli
from amalgan.networks.images import Linear32
from amalgan.objectives import decay, importance_weighted, vae, warm_up
from amalgan.results import Row, show, write
from amalgan.training import Plan, Trainer
from benchmarks.jobs import Job, provenance, say, work
from benchmarks.machine import data_folder

SHAPE = (1, 28, 28)
BINARISATION_SEED = 0
TRAIN = 50_000  # of the official 60,000; the rest is the validation split
K = 5_000

# Chosen on the validation split with seed 100. warm_up: share of the steps over which the KL's weight rises to 1;
# importance: samples of the importance weighted bound, 0 for the evidence lower bound; components: of the fitted prior
COMMON = {"lr": 2e-3, "batch": 100, "warm_up": 0.1, "components": 100}
SETTINGS: dict[str, dict[str, Any]] = {
    "vae-mlp": {"latent": 50, "epochs": 120, "importance": 0, **COMMON},
    "best": {"latent": 32, "epochs": 80, "importance": 5, **COMMON},
}
PRIOR = {"vae-mlp": "fitted", "best": "fitted"}  # of the row's metric `nll`, as in every recipe; N(0, I) beside it
SEEDS = {"vae-mlp": (0, 1, 2), "best": (0,)}


@cache
def binarised() -> dict[str, Tensor]:
    """train (50,000, 1, 28, 28), validation (10,000, ...) and test (10,000, ...), uint8 of 0 and 255."""
    parts = [
        torch.from_numpy(parse((data_folder() / "mnist" / f"{part}-images-idx3-ubyte.gz").read_bytes()).copy())
        for part in ("train", "t10k")
    ]
    grey = torch.cat(parts).unsqueeze(1)
    chance = torch.rand(grey.shape, generator=torch.Generator().manual_seed(BINARISATION_SEED))
    x = (chance < grey / 255).to(torch.uint8) * 255
    return {"train": x[:TRAIN], "validation": x[TRAIN:60_000], "test": x[60_000:]}


class MLPEncoder(nn.Module):
    """x (B, 1, 28, 28) -> raw code (B, out)."""

    def __init__(self, out: int, units: int = 200) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(784, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU())
        self.code = Linear32(units, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.code(self.trunk(x))


class MLPDecoder(nn.Module):
    """z (B, d) -> logits (B, 1, 28, 28)."""

    def __init__(self, latent: int, units: int = 200) -> None:
        super().__init__()
        self.code = Linear32(latent, units)
        self.trunk = nn.Sequential(
            nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 784), nn.Unflatten(1, SHAPE)
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.trunk(self.code(z))


class PatchDecoder(nn.Module):
    """z (B, d) -> logits (B, 1, 28, 28): 7 x 7 places of a code, convolved, each unfolded into 4 x 4 pixels.

    A decoder runs 5,000 times per test image and an encoder once: no convolution here sees more than 49 places.
    """

    def __init__(self, latent: int, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.code = Linear32(latent, 256)
        self.places = nn.Linear(256, 49 * width)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.pixels = nn.Conv2d(width, 16, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = relu(self.places(relu(self.code(z))))
        h = h.view(-1, 7, 7, self.width).permute(0, 3, 1, 2)  # channels last as it stands
        h = h + relu(self.inner(h))
        return pixel_shuffle(self.pixels(h), 4)


def model(job: Job) -> LatentModel:
    d = job["latent"]
    if job["row"] == "vae-mlp":
        encoder, decoder = MLPEncoder(2 * d), MLPDecoder(d)
    else:
        encoder, decoder = networks.images.Encoder(SHAPE, 2 * d, 32), PatchDecoder(d)
    for layer in [*encoder.modules(), *decoder.modules()]:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)  # torch's own start is 10 nats behind after 6 epochs
            nn.init.zeros_(layer.bias)
    return LatentModel(Spec("images", SHAPE), d, Bernoulli(), decoder, encoder)


def train(job: Job) -> LatentModel:
    torch.manual_seed(job["seed"])
    objective = importance_weighted(job["importance"]) if job["importance"] else vae(warm_up(share=job["warm_up"]))
    made = model(job)
    plan = Plan(
        made,
        [(objective, 1.0)],
        lr=dict.fromkeys(made.networks, decay(job["lr"])),
        betas=dict.fromkeys(made.networks, (0.9, 0.999)),
        batch=job["batch"],
        ema=0.999,
        precision="bf16",
    )
    steps = job["epochs"] * TRAIN // job["batch"]
    trainer = Trainer(plan, Split(binarised()["train"], None), steps, job["seed"])
    for step in trainer.run():
        if step % max(1, steps // 10) == 0:
            say(f"{job['row']} seed {job['seed']}: step {step:,} of {steps:,}, {trainer.signals.read()}")
            trainer.check()
    made.load_state_dict(trainer.average)
    return made.eval()


def do(job: Job) -> dict[str, Any]:
    """Train, fit the prior, judge; nats under N(0, I) and under the fitted prior."""
    start = time.process_time()
    made = train(job)
    trained = time.process_time() - start
    x = binarised()["train"].float() / 255
    held_out = binarised()[job["split"]][: job["n"]].float() / 255
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        fitted = made.fit_prior([(part, None) for part in x.split(500)], job["seed"], job["components"])
        assert fitted is not None
        nll = importance_sampled_nlls(made, held_out, [made.standard, fitted], job["k"], job["seed"])
        seen = latents(made, held_out, job["seed"])
    return {
        "nll_standard": float(nll[0].mean()),
        "nll_fitted": float(nll[1].mean()),
        "elbo": float(seen.elbo.mean()),
        "kl": float(seen.kl.sum(1).mean()),
        "active": active_units(seen.mean),
        "training_cpu_seconds": round(trained),
    }


def job(row: str, seed: int, split: str = "test", k: int = K, n: int = 10_000, **more: Any) -> Job:
    return {"row": row, "seed": seed, "split": split, "k": k, "n": n, **SETTINGS[row], **more}


def pixel_frequencies() -> float:
    """Test nats of independent pixels at their frequencies in the training set: what ignorance scores."""
    p = (binarised()["train"].float().sum(0) / 255 + 1) / (TRAIN + 2)
    x = binarised()["test"].float() / 255
    return float(-(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1).mean())


PUBLISHED = {
    "vae-pythae": (89.78, "pythae 0.1.2, reproducibility table (200 samples); 89.9 in the paper it reproduces"),
    "iwae50-pythae": (
        86.82,
        "pythae 0.1.2, reproducibility table (5,000 samples); Burda et al. 2016, importance weighting",
    ),
    "vamp-pythae": (
        85.79,
        "pythae 0.1.2, reproducibility table (5,000 samples); Tomczak and Welling 2018, 85.57 there",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--explore", nargs="+", metavar="WORD", help="ROW [setting=value ...], on the validation split")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    if asked.explore:
        row, *words = asked.explore
        more = {name: json.loads(value) for name, value in (word.split("=") for word in words)}
        jobs = [job(row, **({"seed": 100, "split": "validation", "k": 100, "n": 1000} | more))]
        print(jobs, work("nll-explored", jobs, do, 1))
        return
    jobs = [job(row, seed) for row, seeds in SEEDS.items() for seed in seeds]
    results = work("nll", jobs, do, asked.processes)
    ceiling = pixel_frequencies()
    rows = [
        Row("nll", row, "nll", "nats", "lower", published=p, source=source) for row, (p, source) in PUBLISHED.items()
    ]
    for row, seeds in SEEDS.items():
        mine = [result for job, result in zip(jobs, results) if job["row"] == row]
        settings = ", ".join(f"{name} {value:g}" for name, value in SETTINGS[row].items())
        for metric, prior in {"nll": PRIOR[row], "nll_standard": "standard", "nll_fitted": "fitted"}.items():
            between, several = seed_interval([result[f"nll_{prior}"] for result in mine]), len(seeds) > 1
            rows.append(
                Row(
                    "nll",
                    row,
                    metric,
                    "nats",
                    "lower",
                    between.value,
                    low=between.low if several else None,
                    high=between.high if several else None,
                    seeds=len(seeds),
                    n=10_000,
                    ceiling=ceiling,
                    command="python -m benchmarks.nll",
                    cpu_seconds=sum(result["cpu_seconds"] for result in mine),
                    **provenance(mine),
                    note=f"test set, {K:,} importance samples, binarised once with seed {BINARISATION_SEED}; prior: "
                    f"{'N(0, I)' if prior == 'standard' else 'mixture fitted to the training codes'}; {settings}",
                )
            )
    write("images", rows)
    show("images")


if __name__ == "__main__":
    main()
