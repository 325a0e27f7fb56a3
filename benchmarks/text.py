"""SeqGAN against maximum likelihood, the baseline that it starts from: same writer, same steps, three seeds.

    oracle        the paper's language (5,000 symbols, 20 tokens); nll_oracle and nll_gen, always as a pair
    oracle-mini   a language of 500 symbols, drawn from a seed
    coco          10,000 image captions, judged on the file's own held-out part
    oracle-cost   the likelihood after six epochs, and the price of one step of SeqGAN's generator at the paper's size

    python -m benchmarks.text                   # everything that is not yet done; stopped, it goes on
    python -m benchmarks.text oracle-mini

Beside SeqGAN stands maximum likelihood sampled at lower temperatures: whoever wants better and fewer different lines has
them for nothing. Writers see the same number of steps; a discriminator costs extra.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from benchmarks import jobs
from benchmarks.machine import data_folder

TABLES = {
    "oracle": "seqgan_oracle/seqgan_oracle_lstm.npz",
    "oracle-cost": "seqgan_oracle/seqgan_oracle_lstm.npz",
    "oracle-mini": "oracle:V=500,T=20",
    "coco": "image_coco/image_coco.txt",
}
STEPS = {"oracle": 1500, "oracle-mini": 1500, "coco": 2500}
SEEDS = (0, 1, 2)
SIX_EPOCHS = 938  # steps of 64 among 10,000 lines
STEPS["oracle-cost"] = SIX_EPOCHS
TEMPERATURES = (1.0, 0.9, 0.8)
METRICS = {
    "oracle": ("nll_oracle", "nll_gen", "uniqueness"),
    "oracle-mini": ("nll_oracle", "nll_gen", "uniqueness"),
    "coco": ("nll_gen", "bleu_2", "bleu_4", "self_bleu_2", "self_bleu_4", "distinct_2", "memorisation"),
}
PROTOCOL = 1  # raised whenever the arithmetic of training or judging changes

YU = "LantaoYu/SeqGAN README: the log of a run with this oracle (likelihood after 115 epochs, SeqGAN after 150 rounds)"
TEXYGEN = "Zhu et al. 2018, geek-ai/Texygen docs/evaluation.md: 10,000 training lines, another split"
PUBLISHED = {
    "oracle": {("mle-in-repository", "nll_oracle"): (9.07, YU), ("seqgan-in-repository", "nll_oracle"): (8.683, YU)},
    "coco": {
        ("mle-in-texygen", "bleu_2"): (0.731, TEXYGEN),
        ("mle-in-texygen", "bleu_4"): (0.305, TEXYGEN),
        ("mle-in-texygen", "self_bleu_2"): (0.916, TEXYGEN),
        ("mle-in-texygen", "self_bleu_4"): (0.583, TEXYGEN),
        ("seqgan-in-texygen", "bleu_2"): (0.745, TEXYGEN),
        ("seqgan-in-texygen", "bleu_4"): (0.294, TEXYGEN),
        ("seqgan-in-texygen", "self_bleu_2"): (0.950, TEXYGEN),
        ("seqgan-in-texygen", "self_bleu_4"): (0.670, TEXYGEN),
    },
}


@cache
def opened(table: str) -> Any:
    from amalgan import modalities

    source = TABLES[table]
    return modalities.of("text").open(source if source.startswith("oracle:") else str(data_folder() / source))


def job(table: str, recipe: str, seed: int) -> jobs.Job:
    return {"protocol": PROTOCOL, "table": table, "recipe": recipe, "seed": seed, "steps": STEPS[table]}


def do(job: jobs.Job) -> dict[str, Any]:
    """Train one run and judge it at every temperature."""
    from amalgan import modalities

    data, text = opened(job["table"]), modalities.of("text")
    found = {}
    with jobs.trained("text", data, job) as run:
        for temperature in TEMPERATURES if job["recipe"] == "mle" else (1.0,):
            against = text.reference(data, "test", 5000, temperature=temperature)
            rows = text.evaluate(run.model, data, against)
            found[f"{temperature:g}"] = {row.metric: [row.value, row.floor, row.ceiling, row.n] for row in rows}
        return {"at": found, "training_cpu_seconds": run.log()[-1]["cpu_seconds"]}


def generator_step(repeats: int = 5) -> tuple[list[float], list[float]]:
    """CPU-seconds of sampling and of scoring in one step: 64 lines of 20 tokens, 16 completions of each prefix, one thread."""
    import torch

    from amalgan import runs
    from amalgan.noise import Noise

    torch.set_num_threads(1)
    data = opened("oracle-cost")
    plan = runs.prepare("seqgan", data, rollouts=16, batch=64, timed=False).plan
    model, judging = plan.model, [0.0]
    judge = model.judge

    def timed(tokens: Any) -> Any:
        begun = time.process_time()
        found = judge(tokens)
        judging[0] += time.process_time() - begun
        return found

    model.judge = timed
    sampling, scoring = [], []
    for step in range(repeats + 1):
        judging[0], begun = 0.0, time.process_time()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=plan.precision == "bf16"):
            model.draw(data.train.tensor(64), None, Noise(0, step)).action_values(16)
        if step:  # the first one also pays for what is set up once
            sampling.append(time.process_time() - begun - judging[0])
            scoring.append(judging[0])
    return sampling, scoring


def cost() -> list[Any]:
    """The rows of oracle-cost."""
    from statistics import median

    from amalgan.metrics.intervals import seed_interval
    from amalgan.results import Row

    wanted = [job("oracle-cost", "mle", seed) for seed in SEEDS]
    results = jobs.work("text", wanted, do)
    common = {"command": "python -m benchmarks.text oracle-cost", **jobs.provenance(results)}
    found = {metric: [r["at"]["1"][metric] for r in results] for metric in ("nll_oracle", "nll_gen")}
    made = []
    for metric, held in found.items():
        between, (_, floor, ceiling, n) = seed_interval([value for value, *_ in held]), held[0]
        made.append(Row("oracle-cost", "mle-6-epochs", metric, "nats per token", "lower", *between[:3],
                        seeds=len(SEEDS), n=n, floor=floor, ceiling=ceiling, **common))  # fmt: skip
    seconds = seed_interval([r["training_cpu_seconds"] for r in results])
    made.append(Row("oracle-cost", "mle-6-epochs", "training", "CPU-seconds", "lower", *seconds[:3],
                    seeds=len(SEEDS), **common))  # fmt: skip
    for metric, times in zip(("sampling", "scoring"), generator_step()):
        note = "64 lines of 20 tokens, 5,000 symbols, 16 completions of each prefix; the median of five steps"
        made.append(Row("oracle-cost", "seqgan-step", metric, "CPU-seconds", "lower", median(times), low=min(times),
                        high=max(times), n=len(times), note=note, **common))  # fmt: skip
    return made


def against(one: Any, base: Any, better: str) -> str:
    """A row's interval against that of likelihood alone, in words."""
    above, below = one.low > base.high, one.high < base.low
    if not above and not below:
        return "no different from mle beyond the seeds"
    return "better than mle" if above == (better == "higher") else "worse than mle"


def table(name: str) -> list[Any]:
    """Run what is missing of a table and make its rows."""
    if name == "oracle-cost":
        return cost()
    from amalgan import modalities
    from amalgan.metrics.intervals import seed_interval
    from amalgan.results import Row

    known = modalities.of("text").metrics
    wanted = {(recipe, seed): job(name, recipe, seed) for seed in SEEDS for recipe in ("mle", "seqgan")}
    results = dict(zip(wanted, jobs.work("text", list(wanted.values()), do)))
    rows = [("mle", "mle", "1"), ("seqgan", "seqgan", "1")]
    rows += [(f"mle-temperature-{t:g}", "mle", f"{t:g}") for t in TEMPERATURES if t != 1]
    made = []
    for row, recipe, temperature in rows:
        mine = [results[recipe, seed] for seed in SEEDS]
        for metric in METRICS[name]:
            held = [result["at"][temperature][metric] for result in mine]
            between, (_, floor, ceiling, n) = seed_interval([value for value, *_ in held]), held[0]
            base = seed_interval([results["mle", seed]["at"]["1"][metric][0] for seed in SEEDS])
            told = f"; {against(between, base, known[metric].better)}" if row != "mle" else ""
            made.append(
                Row(
                    *(name, row, metric, known[metric].unit, known[metric].better),
                    value=between.value,
                    low=between.low,
                    high=between.high,
                    seeds=len(SEEDS),
                    n=n,
                    floor=floor,
                    ceiling=ceiling,
                    command=f"python -m benchmarks.text {name}",
                    cpu_seconds=sum(result["training_cpu_seconds"] for result in mine),
                    **jobs.provenance(mine),
                    note=f"{STEPS[name]} steps of 64 lines; the recipe's defaults{told}",
                )
            )
    for (row, metric), (value, source) in PUBLISHED.get(name, {}).items():
        made.append(Row(name, row, metric, known[metric].unit, known[metric].better, published=value, source=source))
    return made


if __name__ == "__main__":
    jobs.publish("text", __doc__, TABLES, table)
