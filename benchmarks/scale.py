"""A million images that do not fit, and a tenth of them: opened, opened again, read, and trained on, in bounded memory.

    open     shards of PNGs, 3 x 32 x 32, 10,000 a tar: read once, divided, pixels kept in a file; 256 MB are allowed for pixels
    again    the same, when that file is there
    read     batches of 256 in random order from that file, images a second, and times as many as by decoding PNGs anew
    train    the default VAE on them, 200 steps: and the share of the time that it waited for images

Of a tenth (rows OPEN-tenth and so on) the file is small enough for a system to keep what it has just written.

Memory is the most that a process ever held, torch and all, in MB; each row is measured by a process of its own, on one thread.

    python -m benchmarks.scale                   -> table `scale` of docs/results/speed.json; about fifteen CPU-minutes
    python -m benchmarks.scale --images 20000    to try it: nothing is written
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amalgan.results import Row, show, write
from benchmarks import jobs
from benchmarks.machine import ROOT
from benchmarks.sizes import held

IMAGES, SHARD, SIDE = {"": 1_000_000, "-tenth": 100_000}, 10_000, 32
ALLOWED, BATCH, STEPS = 2**28, 256, 200
MEASURES = ("open", "again", "read", "train")
METRICS = {  # of what a measure finds: unit, better
    "seconds": ("s", "lower"),
    "memory": ("MB", "lower"),
    "images": ("images a second", "higher"),
    "ratio": ("times as many", "higher"),
    "waiting": ("share of the time", "lower"),
}


def pack(folder: Path, images: int) -> None:
    """Shards of smooth, different pictures, each with its class beside it."""
    import numpy as np
    from PIL import Image

    for first in range(0, images, SHARD):
        count = min(SHARD, images - first)
        coarse = np.random.default_rng(first).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        with tarfile.open(folder / f"shard-{first // SHARD:05d}.tar", "w") as archive:
            for i, pixels in enumerate(coarse):
                content = io.BytesIO()
                Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(
                    content, "PNG", compress_level=1
                )
                for suffix, raw in (("cls", str(i % 10).encode()), ("png", content.getvalue())):
                    member = tarfile.TarInfo(f"{first + i:08d}.{suffix}")
                    member.size = len(raw)
                    archive.addfile(member, io.BytesIO(raw))


def measured(measure: str, folder: Path) -> dict[str, float]:
    """By a process that does nothing else."""
    import torch

    from amalgan import data, runs

    torch.set_num_threads(1)
    options: dict[str, Any] = {"in_memory_bytes": ALLOWED, "cache": folder / "cache"}
    start = time.perf_counter()
    opened = data.open(folder / "shards", **options)
    seconds = time.perf_counter() - start
    if measure in ("open", "again"):
        return {"seconds": seconds, "memory": held()}
    if measure == "read":
        anew = data.open(folder / "shards", **options).train
        anew.x.load = decoder(folder)  # type: ignore[union-attr]
        ours, theirs = rate(opened.train, 200), rate(anew, 20)
        return {"images": ours, "ratio": ours / theirs, "memory": held()}
    run = runs.train("vae", opened, steps=STEPS, out=folder / "run", threads=1)
    last = run.log()[-1]
    return {"memory": held(), "waiting": last.get("waited", 0.0) / last["seconds"]}


def decoder(folder: Path) -> Any:
    """As everybody does it: a PNG is decoded whenever it is needed."""
    from amalgan.data.files import open_files
    from amalgan.data.survey import image_loader, with_sidecars

    files, _ = with_sidecars(open_files(folder / "shards"))
    return image_loader(files, 3, SIDE)


def rate(split: Any, batches: int) -> float:
    """Images a second, each batch asked for when the one before has come."""
    import torch

    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    for index in order[: batches * BATCH].split(BATCH):
        split.batch(index)
    return min(len(order), batches * BATCH) / (time.perf_counter() - start)


def rows(called: str, found: dict[str, Any]) -> Iterator[Row]:
    """Of all measures of so many images."""
    for measure in MEASURES:
        for metric, value in found[measure].items():
            unit, better = METRICS[metric]
            yield Row(
                "scale", measure + called, metric, unit, better, value, n=IMAGES[called],
                command="python -m benchmarks.scale",
                **jobs.provenance([found]),
                note=f"{IMAGES[called]:,} PNGs of 3 x {SIDE} x {SIDE} in tars of {SHARD:,}",
            )  # fmt: skip


def do(job: jobs.Job) -> dict[str, Any]:
    """Pack, measure, forget."""
    (ROOT / "runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "runs") as name:
        (Path(name) / "shards").mkdir()
        pack(Path(name) / "shards", job["images"])
        return {measure: apart(measure, name) for measure in MEASURES}


def apart(measure: str, folder: str) -> dict[str, float]:
    """A measure, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--one", measure, folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="another number")
    parser.add_argument(
        "--one", nargs=2, metavar=("MEASURE", "FOLDER"), help="a single measure, whose result is printed"
    )
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.one[0], Path(asked.one[1]))))
        return
    if asked.images:
        jobs.work("scale-tried", [{"images": asked.images}], do, processes=1)
        return
    wanted = [{"images": images} for images in IMAGES.values()]
    found = zip(IMAGES, jobs.work("scale", wanted, do, processes=1))
    write("speed", [row for called, one in found for row in rows(called, one)])
    show("speed")


if __name__ == "__main__":
    main()
