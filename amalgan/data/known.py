"""Problems with known answers: mixtures of Gaussians in the plane.

    p(x) = 1/K sum_k N(x; mu_k, sigma^2 I)

The numbers are those of PacGAN (Lin, Khetan, Fanti and Oh 2018, https://arxiv.org/abs/1712.04086): a ring of 8
means on radius 1 with sigma 0.01, a grid of 25 means {-4, -2, 0, 2, 4}^2 with sigma 0.05. The ring's angles leave
the endpoint out, so that 8 means are 8 places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError


@dataclass(frozen=True, eq=False)
class Mixture:
    """K equally likely round Gaussians, p(x) = 1/K sum_k N(x; means_k, sigma^2 I).

    Arguments:
        name: what it is called.
        means: (K, D).
        sigma: standard deviation of each coordinate within a mode.
    """

    name: str
    means: Tensor
    sigma: float

    @property
    def classes(self) -> tuple[str, ...]:
        """The modes by number."""
        return tuple(str(k) for k in range(len(self.means)))

    @property
    def note(self) -> str:
        """In words."""
        return f"{len(self.means)} round Gaussians, sigma {self.sigma:g}; labels are the modes; the density is known"

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) in nats: (N,) for x (N, D)."""
        modes, d = self.means.shape
        square = (x[:, None] - self.means.to(x)).square().sum(-1)
        constant = math.log(modes) + d / 2 * math.log(2 * math.pi * self.sigma**2)
        return (-square / (2 * self.sigma**2)).logsumexp(1) - constant

    def draw(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """n points (n, D) and their modes (n,); point i is the same whatever n is."""
        which, noise = (np.random.default_rng([seed, stream]) for stream in (0, 1))
        c = torch.from_numpy(which.integers(len(self.means), size=n))
        epsilon = torch.from_numpy(noise.standard_normal((n, self.means.shape[1])))
        return (self.means[c].double() + self.sigma * epsilon).float(), c

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n points (n, D); point i is the same whatever n is."""
        return self.draw(n, seed)[0]


def ring(modes: int = 8, radius: float = 1.0, sigma: float = 0.01) -> Mixture:
    """`modes` means at angles 2 pi k / modes on a circle."""
    angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    return Mixture("ring", (radius * torch.stack([angle.cos(), angle.sin()], 1)).float(), sigma)


def grid(side: int = 5, spacing: float = 2.0, sigma: float = 0.05) -> Mixture:
    """side x side means, `spacing` apart, centred on zero."""
    line = spacing * (torch.arange(side, dtype=torch.float32) - (side - 1) / 2)
    return Mixture("grid", torch.cartesian_prod(line, line), sigma)


def mixture(text: str) -> Mixture:
    """The mixture that `ring`, `ring:8`, `grid:5,sigma=0.1` and the like describe.

    Raises:
        UsageError: unknown option or a value out of range.
    """
    kind, _, rest = text.partition(":")
    make, count, scale = {"ring": (ring, "modes", "radius"), "grid": (grid, "side", "spacing")}[kind]
    options: dict[str, float] = {}
    for item in filter(None, rest.split(",")):
        key, _, value = item.rpartition("=")
        key = key.strip() or count
        try:
            options[key] = int(value) if key == count else float(value)
        except ValueError:
            options[key] = math.nan
        ranges = {
            count: 1 <= options[key] <= 1024,
            scale: 0 < options[key] < math.inf,
            "sigma": 0 < options[key] < math.inf,
        }
        if not ranges.get(key, False):
            raise UsageError(
                f"the toy data {text!r}",
                f"{item!r} is not one of {count} (1 to 1024), {scale} (> 0) and sigma (> 0)",
                f"write for example {kind}:{8 if kind == 'ring' else 5},{scale}=1,sigma=0.02",
            )
    return make(**options)
