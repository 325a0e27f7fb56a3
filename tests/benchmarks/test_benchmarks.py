"""The benchmarks run, in small, and what they compare is comparable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, speed

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_gpu_benchmark_runs_dry_and_covers_every_recipe_and_size() -> None:
    rows = gpu.measure("cpu", dry=True)
    assert {row.row for row in rows} == {f"{name}-{size}" for name in gpu.NAMES for size in gpu.SIZES}
    assert all(row.value is not None and row.value > 0 for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_the_gpu_benchmark_says_so() -> None:
    done = run("-m", "benchmarks.gpu", "--check")
    assert done.returncode == 1 and "no CUDA device" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", gpu.NAMES)
def test_on_a_device_the_first_step_loses_what_it_loses_on_the_cpu(name: str) -> None:
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    losses = []
    for device in ("cpu", "cuda"):
        trainer = gpu.trainer(name, images, "fp32", device, 8, 64)
        trainer.step()
        losses.append(trainer.signals.read())
    assert losses[0].keys() == losses[1].keys()
    # noise differs between devices, so only averages over the batch agree
    for term, value in losses[0].items():
        assert losses[1][term] == pytest.approx(value, rel=0.2, abs=0.2), term


def test_a_bias_added_afterwards_is_the_transposed_convolutions() -> None:
    theirs, ours = torch.nn.ConvTranspose2d(8, 3, 4, 2, 1), speed.Up(8, 3, 4, 2, 1)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 8, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(*(torch.autograd.grad(up(x).sum(), up.bias)[0] for up in (ours, theirs)))


def test_our_side_of_the_dcgan_is_the_textbook_step_for_step() -> None:
    """In fp32 both sides lose the same, so that the speed compared is that of one and the same training."""
    images = speed.noise_images(128, 32)
    torch.manual_seed(0)
    plain = speed.Textbook(*speed.dcgan(), images)
    torch.manual_seed(0)
    generator, discriminator = speed.dcgan()
    spec = speed.Spec("images", (1, 32, 32), ())
    model = speed.LatentModel(spec, speed.NOISE, speed.Gaussian(), generator, discriminator=discriminator)
    ours = speed.trainer(model, speed.gan("non-saturating"), images, 16, 2e-4, (0.5, 0.999), "fp32")
    for _ in range(2):
        for_generator, for_discriminator = plain.step(ours.order(plain.done))
        terms = speed.go(ours, 1)
        assert terms["adversarial"] == pytest.approx(float(for_generator), rel=1e-3)
        assert terms["discriminator"] == pytest.approx(float(for_discriminator), rel=1e-3)


def test_intervals_hold_the_median() -> None:
    middle, low, high = speed.interval([2.0, 1.0, 3.0, 2.5, 1.5])
    assert 1.0 <= low <= middle == 2.0 <= high <= 3.0


@pytest.mark.skipif(not speed.RIVALS.is_dir(), reason="no rivals here: make .rivals/.installed")
@pytest.mark.slow
def test_speed_benchmark_runs_dry() -> None:
    done = run("-m", "benchmarks.speed", "--dry")
    assert done.returncode == 0, done.stderr
    assert all(f"{name}: " in done.stdout for name in speed.CASES)
