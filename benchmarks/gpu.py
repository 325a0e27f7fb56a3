"""Training speed on a CUDA device: images/s of each recipe at 32 and 64 px, plain fp32 and as the recipe asks for.

python -m benchmarks.gpu            -> table `gpu` of docs/results/speed.json and .md; under five minutes
python -m benchmarks.gpu --check    only says whether there is a device
python -m benchmarks.gpu --dry      tiny networks and few steps, on the CPU where there is no device; writes nothing

images_per_second    at the recipe's own precision
speedup              against the same trainer in fp32 with TensorFloat-32 off
share_of_ceiling     of the floating-point operations per second that one large bf16 product reaches on this device
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.results import Row, write
from amalgan.training import Trainer

COMMAND = "make gpu"
SIZES = (32, 64)
NAMES = ("vae", "gan", "vaegan")


def seconds(act: Callable[[], object], device: str, times: int) -> float:
    """Wall time of `act`, the device's queue included; the median of three."""

    def once() -> float:
        before = time.perf_counter()
        for _ in range(times):
            act()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - before) / times

    once()  # the first round chooses kernels
    return statistics.median(once() for _ in range(3))


def ceiling(device: str, side: int) -> float:
    """Floating-point operations per second of a bf16 product of two side x side matrices."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / seconds(lambda: a @ a, device, 5)


def trainer(name: str, images: Tensor, precision: str | None, device: str, width: int, batch: int) -> Trainer:
    """A recipe's trainer, at its own precision or another."""
    torch.manual_seed(0)
    plan = recipes.plan(name, Spec("images", tuple(images.shape[1:]), ()), {"width": width, "batch": batch})
    return Trainer(replace(plan, precision=precision or plan.precision), Split(images, None), 10**6, device=device)


def measure(device: str, dry: bool) -> list[Row]:
    """All recipes at all sizes."""
    batch, width, steps, side = (8, 4, 2, 128) if dry else (256, 64, 20, 8192)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    best = ceiling(device, side)
    what = torch.cuda.get_device_name() if device == "cuda" else "CPU, dry run"
    print(f"{what}: {best / 1e12:.3g} TFLOP/s in a bf16 product")
    rows = []
    for size in SIZES:
        images = torch.randint(0, 256, (4 * batch, 3, size, size), dtype=torch.uint8)
        for name in NAMES:
            plain = seconds(trainer(name, images, "fp32", device, width, batch).step, device, steps)
            ours = trainer(name, images, None, device, width, batch)
            with FlopCounterMode(display=False) as counted:  # over 8 steps, since penalties act on every eighth
                for _ in range(8):
                    ours.step()
            flops = counted.get_total_flops() / 8
            took = seconds(ours.step, device, steps)
            for metric, unit, value, floor, top in (
                ("images_per_second", "images/s", batch / took, None, None),
                ("speedup", "times plain fp32", plain / took, 1.0, None),
                ("share_of_ceiling", "of a bf16 product", flops / took / best, 0.0, 1.0),
            ):
                made = Row("gpu", f"{name}-{size}", metric, unit, "higher", float(f"{value:.4g}"))
                note = f"batch {batch}, width {width}"
                rows.append(
                    replace(made, n=3 * steps, floor=floor, ceiling=top, command=COMMAND, device=what, note=note)
                )
            print(f"{name}-{size}: " + ", ".join(f"{row.metric} {row.value:g}" for row in rows[-3:]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 0 with a CUDA device, 1 without")
    parser.add_argument("--dry", action="store_true", help="tiny, on any device; write nothing")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.dry:
        print("skipped: no CUDA device here")
        sys.exit(1 if arguments.check else 0)
    if not arguments.check:
        rows = measure(device, arguments.dry)
        if not arguments.dry:
            write("speed", rows)


if __name__ == "__main__":
    main()
