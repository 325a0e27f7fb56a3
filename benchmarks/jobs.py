"""Long work in small pieces, two at a time: each finished piece is one line of a file, so stopping loses only the rest.

A job is a dict of plain values that says everything about the piece; its result is a dict of plain values too. The
file holds `{"job": ..., "result": ...}` lines; a job whose line is there is not done again, and a job that changed is
a new one.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from amalgan.files import read_lines
from amalgan.metrics.intervals import seed_interval
from amalgan.results import Row
from benchmarks.machine import ROOT, data_folder, processor

Job = dict[str, Any]
RUNS = ROOT / "docs" / "results" / "runs"
TIMED = 48  # steps, a multiple of how often lazy penalties act


def key(job: Job) -> str:
    """The same text for the same job."""
    return json.dumps(job, sort_keys=True)


def finished(name: str) -> dict[str, dict[str, Any]]:
    """The results so far by the key of their job; a line cut short by a power failure is passed over."""
    return {key(line["job"]): line["result"] for line in read_lines(RUNS / f"{name}.jsonl", "job")}


def work(name: str, jobs: list[Job], do: Callable[[Job], dict[str, Any]], processes: int = 2) -> list[dict[str, Any]]:
    """The results of all jobs, in order: those on file, and the others done now, first things first.

    Arguments:
        name: of the file under docs/results/runs.
        do: a function of a module's top level, since other processes must find it.
        processes: side by side, of one thread each.
    """
    results = finished(name)
    left = [job for job in jobs if key(job) not in results]
    if left:
        RUNS.mkdir(parents=True, exist_ok=True)
        say(f"{name}: {len(left)} of {len(jobs)} pieces to do, {processes} at a time")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(processes, len(left)), context, initializer=settle) as pool:
            futures = {pool.submit(timed, do, job): job for job in left}
            try:
                for future in as_completed(futures):
                    job, result = futures[future], future.result()
                    append(RUNS / f"{name}.jsonl", {"job": job, "result": result})
                    results[key(job)] = result
                    say(f"{key(job)} {json.dumps(result)}")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [results[key(job)] for job in jobs]


def append(path: Path, record: dict[str, Any]) -> None:
    """A line more, in the file of that name as it is by now: it may have been replaced since the last one."""
    with path.open("a+") as file:
        if file.tell() and not path.read_text().endswith("\n"):
            file.write("\n")  # after a line cut short
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def settle() -> None:
    """What a process does first: one thread, and no outliving the one that started it: another may take up its work."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGTERM)


def timed(do: Callable[[Job], dict[str, Any]], job: Job) -> dict[str, Any]:
    """The result with the CPU seconds that it took, the machine and the day."""
    start = time.process_time()
    result = do(job)
    seconds = round(time.process_time() - start, 1)
    device = torch.cuda.get_device_name() if job.get("device") == "cuda" else f"{processor()}, 1 thread"
    return {**result, "cpu_seconds": seconds, "device": device, "date": time.strftime("%Y-%m-%d")}


def by_cell(cells: Iterable[Any], results: Iterable[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    """The results of each cell of a table, in order."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for cell, result in zip(cells, results):
        found.setdefault(cell, []).append(result)
    return found


def provenance(results: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Where results were made, and when the last of them, as rows say it."""
    results = list(results)
    machines = {result["device"] for result in results if "device" in result}
    return {"device": "; ".join(sorted(machines)), "date": max(result["date"] for result in results)}


def over_seeds(values: list[float], results: list[dict[str, Any]]) -> dict[str, Any]:
    """What a row says of one number of several runs: their mean with its t-interval, on what, when, and if they say what
    training took, the mean of that."""
    found = seed_interval(values)
    bounds = {"low": found.low, "high": found.high} if len(values) > 1 else {}
    took = [result["training_cpu_seconds"] for result in results if "training_cpu_seconds" in result]
    seconds = {"cpu_seconds": fmean(took)} if took else {}
    return {"value": found.value, **bounds, "seeds": len(values), **provenance(results), **seconds}


@cache
def opened(source: str) -> Any:
    """Images of the folder of real data, or else a data set of the library's own, opened once a process."""
    from amalgan import data

    real = data_folder() / source
    return data.open(str(real) if real.exists() else source)


@cache
def judged(source: str, split: str, n: int, inception: str = "") -> Any:
    """The real side of the judgement, computed once a process; in Inception's features where its weights are given."""
    from amalgan.metrics.evaluate import reference
    from amalgan.metrics.features import from_file

    return reference(opened(source), split, n, features=from_file(inception) if inception else None)


@contextmanager
def trained(benchmark: str, data: Any, job: Job) -> Iterator[Any]:
    """The finished run of a job's recipe, arguments, steps and seed; its folder is removed when all went well afterwards.

    One that was stopped goes on from its checkpoint. A job's minutes are of a processor's time, on another device of the clock's.
    """
    from amalgan import runs
    from amalgan.noise import key as number

    folder = ROOT / "runs" / benchmark / f"{number(key(job)):x}"
    if (folder / "recipe.json").exists():
        run = runs.load(folder, data)
        run = run if run.finished else runs.resume(folder, data=data)
    else:
        named = {name: job[name] for name in ("steps", "minutes", "device", "seed") if name in job}
        if "minutes" in named and named.get("device", "cpu") == "cpu":
            named["steps"] = steps_in(named.pop("minutes"), job, data)
        run = runs.train(job["recipe"], data, out=folder, threads=1, **named, **job.get("arguments", {}))
    yield run
    shutil.rmtree(folder)


def steps_in(minutes: float, job: Job, data: Any) -> int:
    """How many steps of a job's recipe a processor does in its time, whatever else it does between them."""
    from amalgan import recipes
    from amalgan.training import Trainer

    trainer = Trainer(recipes.plan(job["recipe"], data.spec, job.get("arguments", {})), data.train, 1000, job["seed"])
    for _ in range(2):
        trainer.step()
    start = time.process_time()
    for _ in range(TIMED):
        trainer.step()
    return max(1, round(minutes * 60 * TIMED / (time.process_time() - start)))


def scored(model: Any, data: Any, against: Any, metrics: Iterable[str], n: int, seed: int) -> dict[str, Any]:
    """A model's numbers, of samples from its fitted prior where it has one, and between which bounds those of `metrics` lie."""
    from amalgan.metrics.evaluate import evaluate

    rows = evaluate(model, data, n=n, seed=seed, against=against, k_importance=2, n_importance=2)
    prior = "fitted" if model.fitted is not None else "standard"
    numbers = {row.metric: row.value for row in rows if row.prior in ("", prior)}
    bounds = {name: [against.floor.get(name), against.ceiling.get(name)] for name in metrics}
    return {"numbers": numbers, "bounds": bounds, "prior": prior}


def rows_of(table: str, row: str, metrics: Iterable[str], results: list[dict[str, Any]], **about: Any) -> Iterator[Row]:
    """Of what `scored` found in several runs, for each metric that they have, the mean over seeds with its t-interval."""
    from amalgan.modalities.images import METRICS as KNOWN

    for metric in metrics:
        values = [result["numbers"][metric] for result in results if metric in result["numbers"]]
        if values:
            floor, ceiling = results[0]["bounds"][metric]
            numbers = {**over_seeds(values, results), "floor": floor, "ceiling": ceiling}
            yield Row(table, row, metric, KNOWN[metric].unit, KNOWN[metric].better, **numbers | about)


def publish(file: str, doc: str | None, tables: Iterable[str], table: Callable[[str], list[Any]]) -> None:
    """A benchmark's command line: the named tables, or all of them, made, written to docs/results/FILE.json and shown."""
    from amalgan import results

    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(tables))
    for name in parser.parse_args().tables or tables:
        results.write(file, table(name))
        results.show(file)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
