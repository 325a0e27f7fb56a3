"""Recipes on residual networks: the self-attention GAN of 2019, and a plain modern GAN beside it.

sagan     hinge + spectral norm in both networks, attention, two step sizes
r3gan     relativistic + R1 + R2, nothing normalised
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from amalgan.errors import UsageError
from amalgan.recipes.images import (
    EMBEDDED,
    Augment,
    Condition,
    penalties,
    pictured,
    plan_of,
    players,
    through,
    told_of,
    total,
)

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.training import Plan

Attention = Literal["paper", "released", "none"]
# Adam's, without momentum, as in both papers. r3gan of 16 channels on CIFAR-10, batch 32, was after 1,200 steps at a Frechet
# distance of 12.3 with (0.5, 0.99), 7.3 with (0, 0.99), 6.2 with these (validation, one seed).
BETAS = (0.0, 0.9)


def sagan(
    spec: Spec,
    *,
    latent: int = 128,
    attention: Attention = "paper",
    attention_at: int = 0,
    augment: Augment = "none",
    condition: Condition = "none",
    hidden: float = 0.1,
    ttur: float = 4.0,
    checkpointed: bool = False,
    width: int = 32,
    lr: float = 1e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """Self-attention GAN (Zhang et al. 2019): residual networks in which every pixel of a map can look at all others.

    The hinge game, spectral normalisation in both networks, and a discriminator whose steps are four times as long. Images of
    16 to 128 px.

    Arguments:
        latent: dimensions of the noise, >= 1.
        attention: paper; released, as in its authors' code, four times cheaper (what is looked at is pooled 2x2) and with
            wider values; or none.
        attention_at: height in px of the maps that look over themselves, in both networks; 0 for the largest of at most 32 px
            and half the image, which are the paper's.
        augment: the discriminator sees images through random changes of place and colour: fixed, half of the time; adaptive,
            as often as its certainty asks for.
        condition: labels tells them to both players: conditional batch norm in the generator, projection in the other.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        ttur: the discriminator's step size over the generator's, > 0.
        checkpointed: activations are computed again in the backward pass: less memory for about a third more time.
        width: channels of the finest layer, >= 1; 64 in the paper.
        lr: Adam's step size of the generator.
        batch: examples per step; 256 in the paper.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.networks import residual
    from amalgan.networks.normalise import spectral

    look = _looking(spec, attention, attention_at)
    told = told_of(spec, condition, "modulation", hidden)
    decoder = residual.Decoder(spec.shape, latent, width, look, "batch", EMBEDDED if told else 0, checkpointed)
    judge = residual.Discriminator(spec.shape, width, look, checkpointed, residual.GAIN)
    model = players(spec, latent, spectral(decoder), spectral(judge), told)
    play = through(o.gan("hinge"), spec, "hinge", 0.0, augment)
    plan = plan_of(model, [(play + o.Gammas() if look else play, 1.0)], lr, batch, ema, ttur=ttur)
    return replace(plan, betas=dict.fromkeys(model.networks, BETAS))


def r3gan(
    spec: Spec,
    *,
    latent: int = 64,
    r1: float = 0.1,
    r2: float = 0.1,
    lazy: int = 8,
    attention: Attention = "none",
    attention_at: int = 0,
    augment: Augment = "none",
    condition: Condition = "none",
    hidden: float = 0.1,
    checkpointed: bool = False,
    width: int = 32,
    lr: float = 5e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """A plain modern GAN after R3GAN (Huang et al. 2024): residual networks in which nothing is normalised.

    They play the relativistic game, with penalties on the discriminator's slope at data and samples. Images of 16 to 128 px.

    Arguments:
        latent: dimensions of the noise, >= 1.
        r1: strength of the slope penalty at the data, >= 0; 0 for none.
        r2: strength of the slope penalty at the samples, >= 0; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        attention: none; or every pixel of a map looks at all others: paper and released as for sagan.
        attention_at: height in px of the maps that look over themselves, in both networks; 0 for the largest of at most 32 px
            and half the image.
        augment: the discriminator sees images through random changes of place and colour: fixed, half of the time; adaptive,
            as often as its certainty asks for.
        condition: labels tells them to both players: scales and shifts in the generator, projection in the other.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        checkpointed: activations are computed again in the backward pass: less memory for about a third more time.
        width: channels of the finest layer, >= 1.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.networks import residual

    look = _looking(spec, attention, attention_at)
    told = told_of(spec, condition, "modulation", hidden)
    decoder = residual.Decoder(spec.shape, latent, width, look, "none", EMBEDDED if told else 0, checkpointed)
    judge = residual.Discriminator(spec.shape, width, look, checkpointed)
    model = players(spec, latent, decoder, judge, told)
    play = total(o.gan("relativistic"), *penalties(r1, r2, 0.0, lazy, ("fake",)))
    play = through(play, spec, "relativistic", 0.0, augment)
    plan = plan_of(model, [(play + o.Gammas() if look else play, 1.0)], lr, batch, ema)
    return replace(plan, betas=dict.fromkeys(model.networks, BETAS))


def _looking(spec: Spec, attention: Attention, at: int) -> Any:
    """Which maps of residual networks look over themselves, and by what.

    Raises:
        UsageError: no images; a height of maps that nothing looks over.
    """
    from amalgan.networks.attention import SelfAttention
    from amalgan.networks.residual import usual

    if not pictured(spec):
        raise UsageError("residual networks", f"data that are {spec.modality}", "give images, or train gan")
    if attention == "none":
        if at:
            raise UsageError(f"attention_at={at} with attention=none", "nothing looks there", "add --attention paper")
        return {}
    return {at or usual(spec.shape): partial(SelfAttention, released=attention == "released")}
