"""Which remedy keeps a variational autoencoder's code alive? With a decoder that would give it up, and with another.

    MNIST, binarised once as in benchmarks.nll; encoder 784-200-200; code of 20 dimensions, p(z) = N(0, I)
    shallow     decoder 20-200-200-784, pixels independent given z
    deep        decoder 20-200-200-200-200-200-784, to whose logits a masked autoencoder adds what the pixels before
                tell (Germain et al. 2015). That learns faster than what comes through five layers, and the KL is a price
                from the first step on: so the plain bound gives most of the code up (2 of 20 dimensions left)

    plain                  vae()
    warm-up                beta from 0 to 1                                                 (Bowman et al. 2016)
    cyclic                 beta from 0 to 1 in waves, half of each at 1                     (Fu et al. 2019)
    capacity               gamma |KL - C|, C rising                                         (Burgess et al. 2018)
    free-bits              max(lambda, KL_d)                                                (Kingma et al. 2016)
    delta                  posteriors whose KL is at least delta                            (Razavi et al. 2019)
    beta-0.5               half the KL throughout                                           (Higgins et al. 2017)
    importance-weighted    the bound with several samples                                   (Burda et al. 2016)

Networks, step sizes, batches and budgets are the same. Judged by the likelihood under N(0, I), whatever was trained on,
and by the dimensions whose mean depends on x. The table reports seeds
0 to 2 on the test set. Settings are from the validation split with seed 100: for warm-up, capacity, free bits and delta
the better of two values with the deep decoder, while the other rows have the one value that was tried. So the rows are
not tuned alike, and one seed does not tell values apart that differ by a few tenths of a nat.

    python -m benchmarks.schedules                   # stopped, it goes on with the next run
    python -m benchmarks.schedules --explore free-bits-deep seed=101 free_bits=0.1
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear, relu

from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.metrics.intervals import seed_interval
from amalgan.metrics.likelihood import active_units, importance_sampled_nll, latents
from amalgan.models import LatentModel
from amalgan.models.likelihoods import Bernoulli, Likelihood
from amalgan.models.posteriors import DeltaPosterior, GaussianPosterior
from amalgan.networks.points import mlp
from amalgan.objectives import Capacity, Objective, Reconstruction, cyclic, importance_weighted, vae, warm_up
from amalgan.results import Row, show, write
from amalgan.training import Plan, Trainer
from benchmarks.jobs import Job, provenance, work
from benchmarks.nll import SHAPE, TRAIN, MLPEncoder, binarised, pixel_frequencies

SEEDS = range(3)
K, N = 100, 10_000  # importance samples, images
DECODERS: dict[str, dict[str, Any]] = {
    "shallow": {"depth": 2, "units": 0},  # units: of the masked autoencoder
    "deep": {"depth": 5, "units": 256},
}
COMMON = {"latent": 20, "epochs": 6, "lr": 1e-3, "batch": 100}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "warm-up": {"share": 0.9},
    "cyclic": {"cycles": 4},
    "capacity": {"gamma": 1.0, "to": 15.0, "share": 0.5},
    "free-bits": {"free_bits": 0.5},
    "delta": {"delta": 2.0},
    "beta-0.5": {},
    "importance-weighted": {"samples": 5},
}
# with gamma 1 and a C that the KL exceeds anyway, |KL - C| is the KL but for a constant: the shallow decoder's reaches 21
EXCEPTIONS: dict[str, dict[str, Any]] = {"capacity-shallow": {"to": 25.0}}
OBJECTIVES: dict[str, Callable[[Job], Objective]] = {
    "plain": lambda job: vae(),
    "warm-up": lambda job: vae(warm_up(share=job["share"])),
    "cyclic": lambda job: vae(cyclic(cycles=job["cycles"])),
    "capacity": lambda job: Reconstruction() + job["gamma"] * Capacity(warm_up(job["to"], job["share"])),
    "free-bits": lambda job: vae(free_bits=job["free_bits"]),
    "delta": lambda job: vae(),
    "beta-0.5": lambda job: vae(0.5),
    "importance-weighted": lambda job: importance_weighted(job["samples"]),
}


class Autoregressive(Likelihood):
    """log p(x|z) = sum_i log p(x_i | x_<i, z): logits of the decoder, and what the pixels before add to them.

    A masked autoencoder of one hidden layer in raster order (Germain et al. 2015): unit k sees pixels up to its degree
    m_k, and pixel i sees units of a degree below i. What it expects of a pixel without those before has no closed form,
    and is not asked for here: `mean` is that of the decoder's logits alone.

    Arguments:
        units: of the hidden layer.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        pixel, degree = torch.arange(784), torch.linspace(0, 782, units).long()
        self.sees = nn.Linear(784, units)
        self.tells = nn.Linear(units, 784)
        self.before: Tensor
        self.after: Tensor
        self.register_buffer("before", (pixel <= degree[:, None]).float())
        self.register_buffer("after", (pixel[:, None] > degree).float())

    def logits(self, raw: Tensor, x: Tensor) -> Tensor:
        h = relu(linear(x.flatten(1), self.sees.weight * self.before, self.sees.bias))
        return raw + linear(h, self.tells.weight * self.after, self.tells.bias).view_as(raw)

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        logits = self.logits(raw, x).float()
        return -binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def model(job: Job) -> LatentModel:
    d = job["latent"]
    encoder = MLPEncoder(2 * d)
    decoder = nn.Sequential(mlp([d, *[200] * job["depth"], 784]), nn.Unflatten(1, SHAPE))
    likelihood = Autoregressive(job["units"]) if job["units"] else Bernoulli()
    for layer in [*encoder.modules(), *decoder.modules(), *likelihood.modules()]:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    posterior = DeltaPosterior(job["delta"]) if "delta" in job else GaussianPosterior
    return LatentModel(Spec("images", SHAPE), d, likelihood, decoder, encoder, posterior=posterior)


def train(job: Job) -> LatentModel:
    torch.manual_seed(job["seed"])
    made = model(job)
    plan = Plan(
        made,
        [(OBJECTIVES[job["method"]](job), 1.0)],
        lr=dict.fromkeys(made.networks, job["lr"]),
        betas=dict.fromkeys(made.networks, (0.9, 0.999)),
        batch=job["batch"],
        precision="bf16",
    )
    trainer = Trainer(plan, Split(binarised()["train"], None), job["epochs"] * TRAIN // job["batch"], job["seed"])
    for _ in trainer.run():
        pass
    trainer.check()
    made.load_state_dict(trainer.average)
    return made.eval()


def do(job: Job) -> dict[str, Any]:
    """Train and judge."""
    start = time.process_time()
    made = train(job)
    x = binarised()[job["split"]][: job["n"]].float() / 255
    trained = time.process_time() - start
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        nll = importance_sampled_nll(made, x, job["k"], job["seed"])
        seen = latents(made, x, job["seed"])
    return {
        "nll": float(nll.mean()),
        "active_units": active_units(seen.mean),
        "elbo": float(seen.elbo.mean()),
        "kl": float(seen.kl.sum(1).mean()),
        "training_cpu_seconds": round(trained, 1),
    }


def job(row: str, seed: int, split: str = "test", k: int = K, n: int = N, **more: Any) -> Job:
    method, _, decoder = row.rpartition("-")
    settings = {**COMMON, **DECODERS[decoder], **SETTINGS[method], **EXCEPTIONS.get(row, {})}
    return {"row": row, "method": method, "seed": seed, "split": split, "k": k, "n": n, **settings, **more}


METRICS = {"nll": ("nats", "lower"), "active_units": ("dimensions", "higher")}
ROWS = [f"{method}-{decoder}" for decoder in DECODERS for method in SETTINGS]


def rows(row: str, jobs: list[Job], results: list[dict[str, Any]], ceiling: float) -> Iterator[Row]:
    """One row a metric, the mean over seeds with its t-interval."""
    first = jobs[0]
    own = "".join(f", {name.replace('_', ' ')} {first[name]:g}" for name in SETTINGS[first["method"]])
    note = (
        f"{'a masked autoencoder beside ' if first['units'] else ''}a decoder of {first['depth']} hidden layers; "
        f"{first['epochs']} epochs{own}; test set, {first['k']} importance samples, "
        "p(z) = N(0, I), binarised once; settings from the validation split, seed 100, of two values for warm-up, capacity, "
        "free bits and delta, of one for the others; ceiling: independent pixels"
    )
    for metric, (unit, better) in METRICS.items():
        found = seed_interval([result[metric] for result in results])
        yield Row(
            "kl-schedules",
            row,
            metric,
            unit,
            better,
            found.value,
            low=found.low if len(jobs) > 1 else None,
            high=found.high if len(jobs) > 1 else None,
            seeds=len(jobs),
            n=first["n"],
            ceiling=ceiling if metric == "nll" else None,
            command="python -m benchmarks.schedules",
            cpu_seconds=sum(result["cpu_seconds"] for result in results),
            **provenance(results),
            note=note,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--explore", nargs="+", metavar="WORD", help="ROW [setting=value ...], on the validation split")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    if asked.explore:
        row, *words = asked.explore
        more = {name: json.loads(value) for name, value in (word.split("=") for word in words)}
        work("schedules-explored", [job(row, **({"seed": 100, "split": "validation", "n": 2000} | more))], do, 1)
        return
    # every row gets its first seed before any gets its second
    jobs = [job(row, seed) for seed in range(asked.seeds) for row in ROWS]
    results = work("schedules", jobs, do, asked.processes)
    ceiling = pixel_frequencies()
    for row in ROWS:
        mine = [(j, r) for j, r in zip(jobs, results) if j["row"] == row]
        write("stability", rows(row, [j for j, _ in mine], [r for _, r in mine], ceiling))
    show("stability")


if __name__ == "__main__":
    main()
