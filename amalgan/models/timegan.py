"""A GAN between codes of time series (Yoon et al. 2019): a code at every step, and a game that is played on codes.

    h   = embedder(x)                   x~ = recovery(h)                              x, x~ (B, T, D);  h (B, T, H)
    h'  = supervisor(h)                 h'_t tells h_{t+1}
    e^  = generator(z)                  h^ = supervisor(e^)         x^ = recovery(h^)                    z (B, T, Z)

The discriminator takes h for real, e^ and h^ for fakes.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from amalgan.data import Spec
from amalgan.models.core import Model
from amalgan.networks.series import Discriminator, Steps
from amalgan.noise import Noise, rows

BATCH = 256  # series that are sampled at once


class TimeDraw:
    """One play on a batch; each field is computed when first read, and kept.

    Fields: data (B, T, D), x (B, T, H) its codes, which the discriminator takes for real, c (B,) or None, recovered
    (B, T, D), ahead (B, T, H) the supervisor's word on the next code, unsupervised and fake (B, T, H), sample (B, T, D).
    """

    def __init__(self, model: TimeModel, data: Tensor, c: Tensor | None, noise: Noise) -> None:
        self.model, self.data, self.c, self.noise = model, data, c, noise

    @cached_property
    def x(self) -> Tensor:
        return self.model.embedder(self.data)

    @cached_property
    def recovered(self) -> Tensor:
        return self.model.recovery(self.x)

    @cached_property
    def ahead(self) -> Tensor:
        return self.model.supervisor(self.x)

    @cached_property
    def unsupervised(self) -> Tensor:
        return self.model.generator(self.noise("prior", (len(self.data), *self.model.noise_shape)))

    @cached_property
    def fake(self) -> Tensor:
        return self.model.supervisor(self.unsupervised)

    @cached_property
    def sample(self) -> Tensor:
        return self.model.recovery(self.fake)


class TimeModel(Model):
    """Embedder, recovery, generator, supervisor and discriminator.

    Arguments:
        spec: of series, shape (T, D).
        latent: H, numbers of a step's code, and of its noise.
        width: units of each LSTM.
        layers: of each LSTM; the supervisor has one less, and at least one.
    """

    def __init__(self, spec: Spec, latent: int, width: int, layers: int = 1) -> None:
        super().__init__(spec)
        (steps, columns), self.has_encoder = spec.shape, True
        self.noise_shape, self.latent = (steps, latent), steps * latent
        self.recovery = Steps(latent, columns, width, layers)
        self.embedder = Steps(columns, latent, width, layers)
        self.generator = Steps(latent, latent, width, layers)
        self.supervisor = Steps(latent, latent, width, max(1, layers - 1))
        self.discriminator = Discriminator((steps, latent), width, layers=layers)

    def players(self) -> dict[str, nn.Module | None]:
        """The five networks."""
        named = ("recovery", "embedder", "generator", "supervisor", "discriminator")
        return {name: getattr(self, name) for name in named}

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> TimeDraw:
        """One play on a batch x (B, T, D)."""
        return TimeDraw(self, x, c, noise)

    def encode(self, x: Tensor) -> Tensor:
        """The codes of all steps in one, (B, T * H)."""
        codes: Tensor = self.embedder(x)
        return codes.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """Windows (B, T, D) of codes (B, T * H)."""
        made: Tensor = self.recovery(z.view(len(z), *self.noise_shape))
        return made

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, T, D) through the codes and back."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n windows (n, T, D); sample i is the same whatever n."""
        z = rows(n, self.noise_shape, seed, "prior").to(next(self.parameters()).device)
        return torch.cat([self.recovery(self.supervisor(self.generator(part))) for part in z.split(BATCH)])
