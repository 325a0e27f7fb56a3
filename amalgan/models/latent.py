"""Models with a latent code: encoder, decoder and discriminator in any combination, one draw, one way to sample.

    posterior      q(z|x), from the encoder                     z ~ q(z|x)
    reconstruction E[x|z], from the decoder at z                fake = E[x|z_p], z_p ~ N(0, I)

An autoencoder has no discriminator, a GAN no encoder, a VAE-GAN has all three; none of them knows a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from amalgan.data import Spec
from amalgan.errors import UsageError
from amalgan.models.core import Model
from amalgan.models.likelihoods import Likelihood
from amalgan.models.posteriors import Family, GaussianPosterior, PointPosterior, Posterior
from amalgan.models.priors import Judged, Mixture, StandardNormal, calibrated
from amalgan.networks.attention import watching
from amalgan.networks.together import judges_alone
from amalgan.noise import Noise, generator, key

PRIOR_EXAMPLES = 60_000  # of the training set that the prior is fitted to
LEVEL_EXAMPLES = 1_000  # of the training set, whose mean level the decoder starts from
VERDICTS = 5_000  # of the validation set, and as many samples, that the discriminator's verdicts are calibrated on


class LatentDraw:
    """One play of a latent model on a batch; each field is computed when first read, and kept.

    Fields: x (B, *shape), c (B,) or None, posterior, z (B, d), raw (the decoder's output at z), reconstruction,
    log_likelihood (B,) nats, code (B, d) from N(0, I), fake, what is made of it; pair and made_pair (B, D + d), an
    example and its code side by side.
    """

    def __init__(self, model: LatentModel, x: Tensor, c: Tensor | None, noise: Noise) -> None:
        self.model, self.x, self.c, self.noise = model, x, c, noise

    @cached_property
    def posterior(self) -> Posterior:
        return self.model.posterior(self.x)

    @cached_property
    def z(self) -> Tensor:
        return self.posterior.sample(self.noise("posterior", (len(self.x), self.model.latent)))

    @cached_property
    def raw(self) -> Tensor:
        return self.model.decoder(self.z)

    @cached_property
    def reconstruction(self) -> Tensor:
        return self.model.likelihood.mean(self.raw)

    @cached_property
    def log_likelihood(self) -> Tensor:
        return self.model.likelihood.log_prob(self.raw, self.x)

    @cached_property
    def code(self) -> Tensor:
        return self.noise("prior", (len(self.x), self.model.latent))

    @cached_property
    def fake(self) -> Tensor:
        return self.model.decode(self.code)

    @cached_property
    def pair(self) -> Tensor:
        return torch.cat([self.x.flatten(1), self.z], 1)

    @cached_property
    def made_pair(self) -> Tensor:
        return torch.cat([self.fake.flatten(1), self.code], 1)


class LatentModel(Model):
    """Networks that play together through a latent code z of d dimensions.

    Arguments:
        spec: what the data looks like.
        latent: d.
        likelihood: how the decoder's output is read.
        decoder: z (B, d) -> raw (B, factor * C, ...).
        encoder: x -> raw code (B, posterior.factor * d), or None.
        discriminator: x -> logits (B,), features (B, F), or None.
        posterior: how the encoder's output is read: GaussianPosterior, PointPosterior for a plain autoencoder, or
            another family; the parameters of one that is a network belong to the encoder.
    """

    sides = ("x", "fake")  # fields of the draw that the discriminator is to tell apart: the real one, and a fake

    def __init__(
        self,
        spec: Spec,
        latent: int,
        likelihood: Likelihood,
        decoder: nn.Module,
        encoder: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        posterior: Family = GaussianPosterior,
    ) -> None:
        super().__init__(spec)
        self.latent, self.family = latent, posterior
        self.likelihood, self.decoder = likelihood, decoder
        self.encoder, self.discriminator = encoder, discriminator
        self.standard = StandardNormal(latent)
        self.fitted: Mixture | None = None
        self.calibration: Tensor | None  # (2,): slope and offset of log p_data / p_model over the verdict
        self.register_buffer("calibration", None)
        self.has_encoder = encoder is not None
        # whether log p(x) is defined: an encoder with a posterior of positive width
        self.has_density = self.has_encoder and posterior is not PointPosterior

    def players(self) -> dict[str, nn.Module | None]:
        """Encoder, decoder, discriminator; what a posterior learns is the encoder's, what a likelihood learns the decoder's."""
        decoder, encoder = nn.ModuleList([self.decoder, self.likelihood]), self.encoder
        if encoder is not None and isinstance(self.family, nn.Module):
            encoder = nn.ModuleList([encoder, self.family])
        return {"encoder": encoder, "decoder": decoder, "discriminator": self.discriminator}

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> LatentDraw:
        """One play on a batch x (B, *shape)."""
        return LatentDraw(self, x, c, noise)

    def given(self, c: Tensor) -> LatentModel:
        """The model that has been told the conditions c (B, ...) of a batch: this one, which takes none."""
        return self

    def posterior(self, x: Tensor) -> Posterior:
        """q(z|x) for x (B, *shape).

        Raises:
            UsageError: the model has no encoder.
        """
        if self.encoder is None:
            raise UsageError("the code of an image", "a model without encoder", "train ae, vae or vaegan instead")
        return self.family(self.encoder(x))

    def encode(self, x: Tensor) -> Tensor:
        """The mean of q(z|x), (B, d)."""
        return self.posterior(x).mean

    def decode(self, z: Tensor) -> Tensor:
        """E[x|z], (B, *shape), for z (B, d)."""
        return self.likelihood.mean(self.decoder(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """E[x|z] at the posterior's mean, (B, *shape)."""
        return self.decode(self.encode(x))

    def interpolate(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """Images (steps, *shape) on the way between codes (d,) and (d,), their lengths interpolated too.

        A straight line between two Gaussian codes passes nearer to the origin than any code of its kind would lie.
        """
        share = torch.linspace(0, 1, steps, device=start.device)[:, None]
        line = (1 - share) * start + share * end
        length = (1 - share) * start.norm() + share * end.norm()
        return self.decode(line * length / line.norm(dim=1, keepdim=True).clamp(min=1e-8))

    @torch.no_grad()
    def attention(self, z: Tensor, pixels: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """Where self-attention looks from P pixels (row, column) of the images E[x|z], z (B, d), as they are made and judged.

        Names of layers -> maps (B, P, H', W'), of which each sums to 1; {} where no network has such layers. What has been
        told labels (`given`) is asked alike.
        """
        height, width = self.spec.shape[-2:]
        with watching(self, [((row + 0.5) / height, (column + 0.5) / width) for row, column in pixels]) as maps:
            x = self.decode(z)
            if self.discriminator is not None and self.sides[0] == "x" and judges_alone(self.discriminator):
                self.discriminator(x)
        return maps

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) in nats, constants included, (B,)."""
        return self.likelihood.log_prob(self.decoder(z), x)

    def prior(self, which: str = "fitted") -> StandardNormal | Mixture | Judged:
        """The prior to sample from.

        "fitted" falls back to N(0, I) where none was fitted (a GAN has no other); "judged" is that, less what the
        discriminator tells from data.

        Raises:
            UsageError: another word, or no discriminator that could judge.
        """
        if which not in ("fitted", "standard", "judged"):
            raise UsageError("a prior", f"prior={which!r}", "write fitted, standard or judged")
        if which == "judged":
            return Judged(self.fitted or self.standard, self.log_ratio)
        return self.fitted if which == "fitted" and self.fitted is not None else self.standard

    @torch.no_grad()
    def log_ratio(self, z: Tensor, batch: int = 256) -> Tensor:
        """What the discriminator takes log p_data / p_model to be at the samples of codes z (n, d): (n,).

        Raises:
            UsageError: no discriminator, or one that was never calibrated.
        """
        if self.calibration is None or self.discriminator is None:
            found = "a model without one that judges samples alone, or one that has not finished its training"
            raise UsageError("samples that a discriminator has judged", found, "write --prior fitted or standard")
        slope, offset = self.calibration
        device = self.calibration.device
        return torch.cat([slope * self._verdict(self.decode(part.to(device))) + offset for part in z.split(batch)])

    def _verdict(self, x: Tensor) -> Tensor:
        """(B,) for x (B, *shape); of a discriminator that judges every step, the mean."""
        assert self.discriminator is not None
        return self.discriminator(x)[0].float().reshape(len(x), -1).mean(1)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, prior: str = "fitted", start: int = 0, batch: int = 256) -> Tensor:
        """n samples E[x|z], z from the prior: (n, *shape). Sample i is the same whatever n and the batch size."""
        device = next(self.decoder.parameters()).device
        z = self.prior(prior).sample(n, seed, start).to(device)
        return torch.cat([self.decode(part) for part in z.split(batch)])

    @torch.no_grad()
    def begin(self, split: Any) -> None:
        """A decoder of images starts from the mean level of each channel of the data.

        From middle grey the first thing a game teaches about digits is to be black, everywhere, to where the logistic is
        flat: samples of most runs on MNIST were black for 450 to 900 steps, and of none since.
        """
        start_at = getattr(self.decoder, "start_at", None)
        if start_at is not None:
            level = split.batch(torch.arange(min(LEVEL_EXAMPLES, len(split))))[0].mean((0, 2, 3))
            start_at(self.likelihood.raw(level))

    @torch.no_grad()
    def finish(self, data: Any, seed: int = 0) -> None:
        """What is done once, after training: the prior is fitted to the codes of the training split, the
        discriminator's verdicts are calibrated on the validation split."""
        if self.encoder is not None:
            device = next(self.parameters()).device
            examples = torch.arange(min(PRIOR_EXAMPLES, len(data.train)))
            self.fit_prior((data.train.batch(index, device) for index in examples.split(500)), seed)
        if self.discriminator is not None and self.sides[0] == "x" and judges_alone(self.discriminator):
            self.calibrate(data.validation, seed)

    def grown(self) -> dict[str, Any]:
        """What `finish` added that the recipe's arguments do not say, for `grow`."""
        prior = {} if self.fitted is None else {"prior_components": len(self.fitted.weights)}
        return prior if self.calibration is None else prior | {"calibrated": True}

    def grow(self, grown: dict[str, Any]) -> None:
        """Make room for what a finished model holds, before its weights are loaded."""
        if "prior_components" in grown:
            self.fitted = self._mixture(grown["prior_components"])
        if "calibrated" in grown:
            self.calibration = torch.zeros(2)

    @torch.no_grad()
    def fit_prior(
        self, batches: Iterable[tuple[Tensor, Tensor | None]], seed: int = 0, components: int = 100
    ) -> Mixture | None:
        """Fit a mixture to the aggregate posterior of batches x, c of data; None for a model without encoder.

        Fewer components are used for small data: at least 20 examples each.
        """
        if self.encoder is None:
            return None
        source = generator(key(seed, "aggregate posterior"))
        codes, known = [], []
        for x, c in batches:
            posterior = (self if c is None else self.given(c)).posterior(x)
            epsilon = torch.randn(posterior.mean.shape, generator=source).to(x)
            codes.append(posterior.sample(epsilon).cpu())
            known += [] if c is None else [c.cpu()]
        self.fitted = self._mixture_of(torch.cat(codes), torch.cat(known) if known else None, seed, components)
        return self.fitted.to(next(self.parameters()).device)

    def _mixture(self, components: int) -> Mixture:
        """Room for a fitted one."""
        return Mixture(components, self.latent)

    def _mixture_of(self, z: Tensor, c: Tensor | None, seed: int, components: int) -> Mixture:
        """Fitted to codes z (N, d) of examples with conditions c (N, ...)."""
        return Mixture(max(1, min(components, len(z) // 20)), self.latent).fit(z, seed)

    @torch.no_grad()
    def calibrate(self, split: Any, seed: int = 0) -> None:
        """Learn how far the discriminator's verdicts are to be believed, from data it was not trained on.

        Raises:
            UsageError: its verdict on an example depends on what else it is shown.
        """
        if not judges_alone(self.discriminator):
            raise UsageError("calibrated verdicts", "a discriminator that judges examples together", "leave them out")
        device = next(self.parameters()).device
        index = torch.arange(min(VERDICTS, len(split)))
        real = [self._verdict(split.batch(part, device)[0]) for part in index.split(256)]
        fake = self.sample(len(index), key(seed, "calibration")).split(256)
        self.calibration = calibrated(torch.cat(real), torch.cat([self._verdict(x) for x in fake])).to(device)
