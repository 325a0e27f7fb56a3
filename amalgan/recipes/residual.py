"""Recipes on residual networks: the self-attention GAN of 2019, and a plain modern GAN beside it.

    sagan     hinge, spectral norm everywhere, conditional batch norm, attention, two step sizes
    r3gan     relativistic + R1 + R2, no normalisation
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from amalgan.recipes.images import EMBEDDED, Condition, Told, penalties, plan_of, told_of, total

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.training import Plan


def sagan(
    spec: Spec,
    *,
    latent: int = 128,
    attention: int = 16,
    condition: Condition = "none",
    hidden: float = 0.0,
    ttur: float = 4.0,
    checkpointed: bool = False,
    width: int = 32,
    lr: float = 1e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """Self-attention GAN (Zhang et al. 2019): residual networks with spectral normalisation, in which every pixel of a map can
    look at every other; the hinge game, and the discriminator's steps four times as long as the generator's.

    The attention block is that of the authors' released code; see `amalgan.networks.attention` for the paper's.

    Arguments:
        latent: dimensions of the noise, >= 1.
        attention: height in px of the maps that look over themselves, in both networks; 0 for none.
        condition: labels tells them to both players: conditional batch norm in the generator, projection in the other.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        ttur: the discriminator's step size over the generator's, > 0; 4 in the paper.
        checkpointed: activations are computed again in the backward pass: a third more time, a fifth of the memory.
        width: channels of the finest layer, >= 1; 64 in the paper.
        lr: Adam's step size of the generator.
        batch: examples per step; 256 in the paper.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.networks.normalise import spectral

    told = told_of(spec, condition, "modulation", hidden)
    model = _model(spec, latent, width, attention, "batch", checkpointed, told)
    spectral(model.decoder)
    spectral(model.discriminator.network if told else model.discriminator)
    plan = plan_of(model, [(o.gan("hinge") + o.Gammas(), 1.0)], lr, batch, ema, ttur=ttur)
    return replace(plan, betas=dict.fromkeys(model.networks, (0.0, 0.9)))


def r3gan(
    spec: Spec,
    *,
    latent: int = 64,
    attention: int = 0,
    r1: float = 1.0,
    r2: float = 1.0,
    lazy: int = 8,
    condition: Condition = "none",
    hidden: float = 0.1,
    checkpointed: bool = False,
    width: int = 32,
    lr: float = 2e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """A plain modern GAN: residual networks without normalisation, the relativistic game, R1 and R2 (after Huang et al. 2024).

    Arguments:
        latent: dimensions of the noise, >= 1.
        attention: height in px of the maps that look over themselves, in both networks; 0 for none.
        r1: strength of the slope penalty at the data, >= 0; 0 for none.
        r2: strength of the slope penalty at the samples, >= 0; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        condition: labels tells them to both players: scales and shifts in the generator, projection in the other.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        checkpointed: activations are computed again in the backward pass: a third more time, a fifth of the memory.
        width: channels of the finest layer, >= 1.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o

    told = told_of(spec, condition, "modulation", hidden)
    model = _model(spec, latent, width, attention, "none", checkpointed, told)
    terms = total(o.gan("relativistic"), *penalties(r1, r2, 0.0, lazy, ("fake",)))
    return plan_of(model, [(terms + o.Gammas() if attention else terms, 1.0)], lr, batch, ema)


def _model(
    spec: Spec, latent: int, width: int, attention: int, norm: str, checkpointed: bool, told: Told | None
) -> Any:
    from amalgan.models import LatentModel
    from amalgan.models.labelled import LabelledModel
    from amalgan.models.likelihoods import Gaussian
    from amalgan.networks import residual
    from amalgan.networks.conditions import Modulated, Projected

    at, numbers = attention or None, EMBEDDED if told else 0
    decoder = residual.Decoder(spec.shape, latent, width, at, norm, numbers, checkpointed)
    judge = residual.Discriminator(spec.shape, width, at, checkpointed)
    if told is None:
        return LatentModel(spec, latent, Gaussian(), decoder, discriminator=judge)
    asked = Projected(judge, told.embedding(judge.verdict.in_features))
    named = Modulated(decoder, told.embedding(EMBEDDED))
    return LabelledModel(spec, latent, Gaussian(), named, discriminator=asked, hidden=told.hidden)
