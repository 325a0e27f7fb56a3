"""Recurrent VAE, GAN, VAE-GAN and TimeGAN on time series, beside two baselines that have no game: same steps, three seeds.

    sines     RGAN's set: 1 to 5 periods in 30 steps, any amplitude and phase; 10,000 series, divided by series
    stock     GOOG 2004 to 2019 by day, five columns (the adjusted close equals the close): windows of 24 days, divided
              into blocks before they were cut

    python -m benchmarks.series                 # everything that is not yet done; stopped, it goes on
    python -m benchmarks.series sines

The baselines are fitted to training windows alone and judged by the same code: a vector autoregression, and a block
bootstrap that joins pieces of training windows. Settings are the recipes' defaults, chosen on validation parts with
seeds from 100.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from benchmarks import jobs
from benchmarks.machine import data_folder

TABLES = {"sines": "sines", "stock": "stock/stock_data.csv"}
RECIPES = ("rvae", "rgan", "rvaegan", "timegan")
STEPS = 4000
SEEDS = (0, 1, 2)
METRICS = ("discriminative", "tstr", "autocorrelation", "memorisation")
PROTOCOL = 2  # raised whenever the arithmetic of training or judging changes

YOON = "Yoon et al. 2019 (TimeGAN), table 2; another protocol: windows shuffled before the split, another classifier"
AGAIN = "jsyoon0823/TimeGAN, issue 29: its code with 50,000 iterations of each stage; the same protocol as the paper"
SINES = f"{YOON}, and five columns of slower sines"
PUBLISHED = {
    "sines": {
        ("timegan-in-paper", "discriminative"): (0.011, SINES),
        ("timegan-in-paper", "tstr"): (0.093, f"{SINES}; error of the last column"),
    },
    "stock": {
        ("timegan-in-paper", "discriminative"): (0.102, YOON),
        ("timegan-in-paper", "tstr"): (0.038, f"{YOON}; error of the last column"),
        ("timegan-in-issue-29", "discriminative"): (0.126, AGAIN),
        ("timegan-in-issue-29", "tstr"): (0.0367, f"{AGAIN}; error of the last column"),
    },
}


@cache
def opened(table: str) -> tuple[Any, Any]:
    """Data, and the real side of the judgement."""
    from amalgan import modalities

    series = modalities.of("series")
    source = TABLES[table]
    data = series.open(source if source == "sines" else str(data_folder() / source))
    return data, series.reference(data, "test", 5000)


def job(table: str, recipe: str, seed: int) -> jobs.Job:
    return {"protocol": PROTOCOL, "table": table, "recipe": recipe, "seed": seed, "steps": STEPS}


def do(job: jobs.Job) -> dict[str, Any]:
    """Train one run and judge it; or the baselines."""
    from amalgan import modalities

    data, against = opened(job["table"])
    if job["recipe"] == "baselines":
        anchors = {metric: [against.floor[metric], against.ceiling[metric], against.n] for metric in METRICS}
        return {"values": against.baselines, "anchors": anchors}
    with jobs.trained("series", data, job) as run:
        found = {row.metric: row.value for row in modalities.of("series").evaluate(run.model, data, against)}
        return {"values": found, "training_cpu_seconds": run.log()[-1]["cpu_seconds"]}


def table(name: str) -> list[Any]:
    """Run what is missing of a table and make its rows."""
    from amalgan import modalities
    from amalgan.metrics.intervals import seed_interval
    from amalgan.results import Row

    known = modalities.of("series").metrics
    wanted = [job(name, "baselines", 0), *(job(name, recipe, seed) for seed in SEEDS for recipe in RECIPES)]
    baselines, *results = jobs.work("series", wanted, do, processes=1)
    done = {(j["recipe"], j["seed"]): result for j, result in zip(wanted[1:], results)}
    means = {
        (recipe, metric): seed_interval([done[recipe, seed]["values"][metric] for seed in SEEDS])
        for recipe in RECIPES
        for metric in METRICS
    }
    made = []
    for metric in METRICS:
        floor, ceiling, n = baselines["anchors"][metric]
        about = {"n": n, "floor": floor, "ceiling": ceiling, "command": f"python -m benchmarks.series {name}"}
        about |= jobs.provenance([baselines, *results])
        named = (known[metric].unit, known[metric].better)
        simple = {baseline: values[metric] for baseline, values in baselines["values"].items()}
        for recipe in RECIPES:
            between = means[recipe, metric]
            seconds = sum(done[recipe, seed]["training_cpu_seconds"] for seed in SEEDS)
            note = f"{STEPS} steps of 32 windows; the recipe's defaults" + behind(metric, between.value, simple)
            span = {"value": between.value, "low": between.low, "high": between.high}
            made.append(
                Row(name, recipe, metric, *named, **span, seeds=len(SEEDS), cpu_seconds=seconds, note=note, **about)
            )
        for baseline, value in simple.items():
            made.append(Row(name, baseline, metric, *named, value=value, seeds=1, note="fitted, not trained", **about))
    for (row, metric), (value, source) in PUBLISHED[name].items():
        made.append(Row(name, row, metric, known[metric].unit, known[metric].better, published=value, source=source))
    return made


def behind(metric: str, value: float, baselines: dict[str, float]) -> str:
    """In words, which baselines a mean does not beat; of memorisation none is said to."""
    better = [name for name, other in baselines.items() if metric != "memorisation" and value >= other]
    return f"; does not beat {' nor '.join(better)}" if better else ""


if __name__ == "__main__":
    jobs.publish("series", __doc__, TABLES, table)
