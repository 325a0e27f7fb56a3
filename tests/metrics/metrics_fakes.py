"""Small data, stand-ins for models, and real data where it is at hand."""

from __future__ import annotations

import gzip
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from amalgan.data import Data, Spec
from amalgan.data.core import Split
from amalgan.data.known import Mixture
from amalgan.models.priors import StandardNormal


def data_of(name: str, x: Tensor, c: Tensor | None, test: int, validation: int = 0, modality: str = "images") -> Data:
    """Cut x into test (first), validation and train."""
    parts = [slice(test + validation, None), slice(test, test + validation), slice(0, test)]
    splits = [Split(x[p], None if c is None else c[p]) for p in parts]
    classes = () if c is None else tuple(str(i) for i in range(int(c.max()) + 1))
    return Data(name, Spec(modality, tuple(x.shape[1:]), classes), *splits, notes=[], fingerprint=f"{name}-{len(x)}")


def digits(labels: bool = True) -> Data:
    """scikit-learn's 8x8 digits in a fixed shuffled order: 1,197 train, 200 validation, 400 test."""
    bunch = load_digits()
    order = torch.randperm(len(bunch.images), generator=torch.Generator().manual_seed(0))
    x = ((torch.tensor(bunch.images, dtype=torch.float32)[:, None] * 255 / 16).round() / 255)[order]
    c = torch.tensor(bunch.target, dtype=torch.long)[order] if labels else None
    return data_of("digits", x, c, test=400, validation=200)


def idx(folder: str) -> Data:
    """MNIST or Fashion-MNIST as read from the idx files; skips where they are absent."""
    root = Path(os.environ.get("AMALGAN_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / folder
    if not root.is_dir():
        pytest.skip(f"no {folder} at {root}: set AMALGAN_TEST_DATA")

    def read(kind: str) -> tuple[Tensor, Tensor]:
        images = bytearray(gzip.decompress((root / f"{kind}-images-idx3-ubyte.gz").read_bytes())[16:])
        labels = bytearray(gzip.decompress((root / f"{kind}-labels-idx1-ubyte.gz").read_bytes())[8:])
        return torch.frombuffer(images, dtype=torch.uint8).view(-1, 1, 28, 28), torch.frombuffer(
            labels, dtype=torch.uint8
        ).long()

    (x, c), (u, d) = read("train"), read("t10k")
    return replace(data_of(folder, x, c, test=0, validation=5000), test=Split(u, d))


def ring(n: int = 6000, modes: int = 8, sigma: float = 0.01, seed: int = 0) -> Data:
    """The ring of Gaussians, radius 1, angles without the end point."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.randint(modes, (n,), generator=generator)
    means = ring_means(modes)
    x = means[c] + sigma * torch.randn(n, 2, generator=generator)
    return replace(data_of("ring", x, None, test=n // 3, modality="points"), known=Mixture("ring", means, sigma))


def ring_means(modes: int = 8) -> Tensor:
    angle = torch.arange(modes) * 2 * math.pi / modes
    return torch.stack([angle.cos(), angle.sin()], 1)


@dataclass
class Gaussian:
    """q(z|x) = N(mean, diag exp(log_variance))."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, epsilon: Tensor) -> Tensor:
        return self.mean + (self.log_variance / 2).exp() * epsilon

    def log_prob(self, z: Tensor) -> Tensor:
        d2 = (z - self.mean).square() / self.log_variance.exp()
        return -0.5 * (d2 + self.log_variance + math.log(2 * math.pi)).sum(-1)

    def kl(self) -> Tensor:
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


class LinearGaussian(nn.Module):
    """Probabilistic PCA: z ~ N(0, I), x | z ~ N(W z + b, s^2 I), W's columns orthogonal.

    The posterior is then diagonal, and log p(x) is known.

    `shift` and `widen` spoil the posterior, to see importance sampling mend it.
    """

    has_encoder = has_density = True

    def __init__(
        self, shape: tuple[int, ...], latent: int, seed: int = 0, shift: float = 0.0, widen: float = 0.0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        d = math.prod(shape)
        basis, _ = torch.linalg.qr(torch.randn(d, latent, generator=generator, dtype=torch.float64))
        scale = torch.linspace(0.5, 2, latent, dtype=torch.float64)
        self.w = nn.Parameter((basis * scale).float())
        self.b = nn.Parameter(torch.full((d,), 0.5))
        self.s, self.shift, self.widen, self.shape, self.latent = 0.3, shift, widen, shape, latent
        self.encoded = 0

    def posterior(self, x: Tensor) -> Gaussian:
        self.encoded += len(x)
        precision = 1 + self.w.square().sum(0) / self.s**2
        mean = (x.flatten(1) - self.b) @ self.w / self.s**2 / precision
        return Gaussian(mean + self.shift, (self.widen - precision.log()).expand_as(mean))

    def prior(self, which: str) -> StandardNormal:
        return StandardNormal(self.latent)

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.w.T + self.b).view(-1, *self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        d2 = (x - self.decode(z)).flatten(1).square() / self.s**2
        return -0.5 * (d2 + math.log(2 * math.pi * self.s**2)).sum(1)

    def sample(self, n: int, seed: int = 0, prior: str = "standard", c: Tensor | None = None) -> Tensor:
        z = torch.randn(n, self.latent, generator=torch.Generator().manual_seed(seed))
        return self.decode(z).detach()

    def exact_log_prob(self, x: Tensor) -> Tensor:
        w = self.w.detach().double()
        covariance = w @ w.T + self.s**2 * torch.eye(len(w), dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(self.b.detach().double(), covariance)
        return normal.log_prob(x.flatten(1).double())


class Replays(nn.Module):
    """A 'model' without an encoder that hands out given items: planted failures are written with it."""

    has_encoder = has_density = False
    latent = 2

    def __init__(self, items: Tensor) -> None:
        super().__init__()
        self.items = items

    def sample(self, n: int, seed: int = 0, prior: str = "standard", c: Tensor | None = None) -> Tensor:
        return self.items[torch.arange(n) % len(self.items)]
