"""CIFAR-10: methods of 2015 to 2024 beside each other, the same time for each, with labels and without.

    dcgan     non-saturating; networks of convolutions with batch norm                        Radford et al. 2016
    sngan     hinge, spectral normalisation; residual networks                                Miyato et al. 2018
    sagan     the same with self-attention                                                    Zhang et al. 2019
    r3gan     relativistic, penalties on slopes; residual networks without normalisation      Huang et al. 2024
    vaegan    -ELBO + lam * game; networks of convolutions

A row is a recipe (that of dcgan is in `benchmarks.dcgan`) with its own settings but for those in `ROWS`, by which networks are
narrow enough for a CPU. Metrics on test images, in our features; with Inception's weights the standard distance, too.

    python -m benchmarks.cifar                                                # table cifar, three seeds, 8 minutes a run
    python -m benchmarks.cifar --labels                                       # table cifar-labels
    python -m benchmarks.cifar --device cuda --minutes 30 --width 64          # table cifar-cuda
    python -m benchmarks.cifar --lossless --inception inception.safetensors   # 4,000 training images, exact pixels
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import fmean
from typing import Any

from amalgan.results import Row, show, write
from benchmarks import dcgan, jobs
from benchmarks.attention import R3GAN, SAGAN

DATA = {"cifar": "cifar10/cifar10_jpg_60k.tar.gz", "cifar-lossless": "cifar10/cifar10_png_4k1k.zip"}
SEEDS, N = [0, 1, 2], 5000
METRICS = ("frechet", "kernel", "precision", "recall", "coverage", "label_accuracy", "class_diversity", "tstr")
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "dcgan": ("dcgan", {"width": 32}),
    "sngan": ("sagan", SAGAN | {"attention": "none"}),
    "sagan": ("sagan", SAGAN),
    "r3gan": ("r3gan", R3GAN | {"attention": "none"}),
    "vaegan": ("vaegan", {}),
}


def job(row: str, seed: int, asked: argparse.Namespace) -> jobs.Job:
    recipe, arguments = ROWS[row]
    changed = {"condition": "labels"} if asked.labels else {}
    changed |= {"width": asked.width} if asked.width else {}
    return {
        "data": "cifar-lossless" if asked.lossless else "cifar",
        "recipe": recipe,
        "arguments": arguments | changed,
        "seed": seed,
        "minutes": asked.minutes,
        "device": asked.device,
        "inception": asked.inception,
    }


def do(job: jobs.Job) -> dict[str, Any]:
    """Train and judge."""
    dcgan.register()
    source = DATA[job["data"]]
    data = jobs.opened(source)
    with jobs.trained("cifar", data, job) as run:
        found = jobs.scored(run.model, data, jobs.judged(source, "test", N), METRICS, N, job["seed"])
        if job["inception"]:
            against = jobs.judged(source, "test", N, job["inception"])
            found["inception"] = jobs.scored(run.model, data, against, ["frechet"], N, job["seed"])
        last = run.log()[-1]
    return found | {"steps": last["step"], "training_cpu_seconds": last["cpu_seconds"]}


def flags(asked: argparse.Namespace) -> list[str]:
    """What was asked for beside rows, in words of the command line."""
    said = {name: value for name, value in vars(asked).items() if name not in ("rows", "processes") and value}
    return [f"--{name}" if value is True else f"--{name} {value}" for name, value in said.items()]


def rows(table: str, row: str, results: list[dict[str, Any]], asked: argparse.Namespace) -> Iterator[Row]:
    """Of one cell; in Inception's features in a table of their own."""
    recipe, _ = ROWS[row]
    settings = "; ".join([recipe, *(f"{name}={value}" for name, value in job(row, 0, asked)["arguments"].items())])
    steps = round(fmean(result["steps"] for result in results))
    about = {
        "n": N,
        "command": " ".join(["python -m benchmarks.cifar", *flags(asked)]),
        "note": f"{asked.minutes:g} minutes a run: {steps:,} steps; {settings}; {results[0]['prior']} prior",
    }
    yield from jobs.rows_of(table, row, METRICS, results, **about)
    if asked.inception:
        seen = [result | result["inception"] for result in results]
        yield from jobs.rows_of(f"{table}-inception", row, ["frechet"], seen, **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--labels", action="store_true", help="tell all networks the class")
    parser.add_argument("--lossless", action="store_true", help="the subset without loss; else all images, as JPEG")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, a run")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--width", type=int, default=0, help="channels of every network's finest layer; 0: as in ROWS")
    parser.add_argument("--inception", default="", help="weights of Inception-v3, .safetensors")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    wanted = [(row, seed) for seed in SEEDS for row in asked.rows]
    results = jobs.work("cifar", [job(*each, asked) for each in wanted], do, asked.processes)
    done = jobs.by_cell((row for row, _ in wanted), results)
    said = {"labels": asked.labels, "lossless": asked.lossless, "cuda": asked.device == "cuda"}
    table = "-".join(["cifar", *(name for name, so in said.items() if so)])
    write("conditional", [made for row, some in done.items() for made in rows(table, row, some, asked)])
    show("conditional")


if __name__ == "__main__":
    main()
