"""How fast a model is judged and used, one thread, CPU time; each against the obvious way, in turns, in one process.

metrics/frechet      10,000 x 2,048 features: numpy's covariances and scipy's root of their product, as in pytorch-fid
metrics/prdc         precision, recall, density, coverage of as many: scikit-learn's distances, all at once, as in `prdc`
metrics/nll          importance sampled likelihood, 500 samples an image: pythae's get_nll, its default network and the same weights
metrics/prdc-50k     50,000 x 2,048: our seconds, and the most memory beyond that of the features
sampling             images a second of the default vae and gan at 28 px, and of their decoder in a plain loop
start                seconds of `amalgan --help`, of `amalgan sample RUN` to a PNG, and the memory of that; wall time

python -m benchmarks.judging                 -> tables metrics, sampling, start of docs/results/speed.json
python -m benchmarks.judging nll sampling    some of them
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from amalgan.results import Row, show, write
from benchmarks import jobs
from benchmarks.machine import processor
from benchmarks.speed import mnist, twins

ROUNDS = 3
N, MANY, D = 10_000, 50_000, 2048
IMAGES, SAMPLES = 40, 500
GOALS = {"prdc": 3.0, "frechet": 3.0}
PROTOCOL = 2  # raised whenever what is measured changes


def taken(act: Callable[[], Any]) -> tuple[float, Any]:
    """CPU-seconds, and what came of it."""
    start = time.process_time()
    found = act()
    return time.process_time() - start, found


def features(n: int) -> torch.Tensor:
    """Rows like those of a network: positive, correlated, many of them near zero."""
    source = torch.Generator().manual_seed(n)
    return (torch.randn(n, 64, generator=source) @ torch.randn(64, D, generator=source)).relu_()


def duel(ours: Callable[[], Any], theirs: Callable[[], Any], agree: Callable[[Any, Any], None]) -> dict[str, Any]:
    """Seconds of both sides by turns, after they have agreed."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        (mine, a), (other, b) = taken(ours), taken(theirs)
        agree(a, b)
        seconds["ours"].append(mine)
        seconds["theirs"].append(other)
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["theirs"])]
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)} | {
        side: statistics.median(values) for side, values in seconds.items()
    }


def frechet() -> dict[str, Any]:
    import numpy as np
    import scipy.linalg

    from amalgan.metrics.distance import frechet as ours

    a, b = features(N), features(N + 1)[:N] * 0.9

    def theirs() -> float:
        (m, c), (n, d) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a.numpy(), b.numpy()))
        root = scipy.linalg.sqrtm(c @ d)
        return float(((m - n) ** 2).sum() + np.trace(c + d - 2 * root.real))

    def agree(x: float, y: float) -> None:
        assert abs(x - y) < 1e-3 * abs(x), (x, y)

    return duel(lambda: ours(a, b), theirs, agree)


def prdc() -> dict[str, Any]:
    import numpy as np
    import sklearn.metrics

    from amalgan.metrics.coverage import coverage

    real, fake, k = features(N), features(N + 1)[:N] * 0.95, 5

    def theirs() -> tuple[float, ...]:
        def reach(x: Any) -> Any:
            return np.partition(sklearn.metrics.pairwise_distances(x), k, axis=1)[:, k]

        x, y = real.double().numpy(), fake.double().numpy()
        of_real, of_fake, apart = reach(x), reach(y), sklearn.metrics.pairwise_distances(x, y)
        inside = apart < of_real[:, None]
        return (
            inside.any(0).mean(), (apart < of_fake).any(1).mean(), inside.sum(0).mean() / k,
            (apart.min(1) < of_real).mean(),
        )  # fmt: skip

    def agree(x: Any, y: Any) -> None:
        assert all(abs(mine - other) < 1e-3 for mine, other in zip(x[:4], y)), (x, y)

    return duel(lambda: coverage(real, fake, k), theirs, agree)


def prdc_50k() -> dict[str, Any]:
    from amalgan.metrics.coverage import coverage
    from amalgan.training import memory

    real, fake = features(MANY), features(MANY + 1)[:MANY] * 0.95
    memory.reset_peak("cpu")
    before = memory.peak("cpu") or 0
    seconds, _ = taken(lambda: coverage(real, fake))
    return {"seconds": seconds, "memory": ((memory.peak("cpu") or 0) - before) / 1e6}


def nll() -> dict[str, Any]:
    from amalgan.metrics.likelihood import importance_sampled_nll

    images = mnist(IMAGES, 28)
    rival, model = twins("mlp-vae", images)
    x = images.float() / 255
    model.eval()
    rival.eval()

    def theirs() -> float:
        with torch.no_grad():
            return float(rival.get_nll(x, n_samples=SAMPLES, batch_size=100))

    def agree(mine: torch.Tensor, other: float) -> None:
        assert abs(float(mine.mean()) + other) < 2, (
            float(mine.mean()),
            other,
        )  # theirs is log p(x); both are estimates

    found = duel(lambda: importance_sampled_nll(model, x, SAMPLES), theirs, agree)
    return found | {f"{side} ms": 1000 * found[side] / IMAGES for side in ("ours", "theirs")}


def sampling() -> dict[str, Any]:
    from amalgan import recipes
    from amalgan.data import Spec

    found = {}
    for recipe in ("vae", "gan"):
        model = recipes.plan(recipe, Spec("images", (1, 28, 28)), {}).model.eval()
        count = 4096

        @torch.no_grad()
        def plain(model: Any = model, count: int = count) -> Any:
            z = torch.randn(count, model.latent)
            return torch.cat([model.decode(part) for part in z.split(256)])

        timed = duel(lambda m=model, n=count: m.sample(n, 0, "standard"), plain, lambda a, b: None)  # type: ignore[misc]
        found[recipe] = {"images": count / timed["ours"], "ratio": timed["ratio"]}
    return found


def start() -> dict[str, Any]:
    """Wall time, the median of five."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = {
            "help": ["--help"],
            "train-help": ["train", "vaegan", "--help"],
            "first-sample": ["sample", str(folder / "run"), "-n", "64", "--out", str(folder / "some.png")],
        }
        run(["train", "vae", "--data", "digits", "--steps", "10", "--out", str(folder / "run")])
        found: dict[str, Any] = {}
        for called, words in commands.items():
            times = []
            for _ in range(5):
                before = time.perf_counter()
                run(words)
                times.append(time.perf_counter() - before)
            found[called] = statistics.median(times)
        code = f"from amalgan import cli; cli.run({commands['first-sample']!r}); from benchmarks.sizes import held; print(held())"
        found["memory"] = float(run([], code).split()[-1])
        return found


def run(words: list[str], code: str = "") -> str:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "amalgan", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "frechet": frechet, "prdc": prdc, "prdc-50k": prdc_50k, "nll": nll, "sampling": sampling, "start": start,
}  # fmt: skip


def do(job: jobs.Job) -> dict[str, Any]:
    return CASES[job["case"]]()


def rows(case: str, found: dict[str, Any]) -> Iterator[Row]:
    """What a case found."""
    about = {"command": "python -m benchmarks.judging", "date": found["date"], "cpu_seconds": found["cpu_seconds"],
             "device": f"{processor()}, 1 thread, torch {torch.__version__}"}  # fmt: skip
    if "ratio" in found:
        goal = GOALS.get(case, 0.0)
        note = f"{found['theirs']:.2f} against {found['ours']:.2f} CPU-s; bounds: least and most of {ROUNDS} rounds"
        note += f"; short of the goal of {goal}" if found["ratio"] < goal else ""
        bounds = {"low": found["low"], "high": found["high"], "floor": 1.0}
        yield Row(
            "metrics", case, "ratio", "their CPU time / ours", "higher", found["ratio"], **bounds, note=note, **about
        )
        if "ours ms" in found:
            unit = f"CPU-ms an image of {SAMPLES} samples"
            yield Row(
                "metrics",
                case,
                "milliseconds",
                unit,
                "lower",
                found["ours ms"],
                note=f"theirs {found['theirs ms']:.1f}",
                **about,
            )
    elif case == "prdc-50k":
        yield Row(
            "metrics", case, "seconds", "CPU-s", "lower", found["seconds"], note=f"{MANY:,} x {D:,}, twice", **about
        )
        note = "at most, beside the features"
        yield Row("metrics", case, "memory", "MB", "lower", found["memory"], note=note, **about)
    elif case == "sampling":
        for recipe in ("vae", "gan"):
            yield Row("sampling", recipe, "images", "images a CPU-second", "higher", found[recipe]["images"], **about)
            unit, note = "a plain loop's CPU time / ours", "1: that sample 17 is sample 17 of any number costs nothing"
            yield Row("sampling", recipe, "ratio", unit, "higher", found[recipe]["ratio"], note=note, **about)
    else:
        for called in ("help", "train-help", "first-sample"):
            yield Row(
                "start", called, "seconds", "s", "lower", found[called], note="wall time, median of five", **about
            )
        yield Row("start", "first-sample", "memory", "MB", "lower", found["memory"], **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=", ".join(CASES))
    asked = parser.parse_args()
    for case in asked.cases:
        (found,) = jobs.work("judging", [{"case": case, "protocol": PROTOCOL}], do, processes=1)
        write("speed", list(rows(case, found)))
    show("speed")


if __name__ == "__main__":
    main()
