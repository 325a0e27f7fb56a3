"""Recipes of time series: the recurrent VAE, GAN and VAE-GAN, sums of the same terms as of images, and TimeGAN."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from amalgan.errors import UsageError
from amalgan.recipes.images import Game, LikelihoodName, likelihood_named, penalties, plan_of, total

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.objectives import Objective
    from amalgan.training import Plan


def rvae(
    spec: Spec,
    *,
    latent: int = 16,
    beta: float = 1.0,
    free_bits: float = 0.0,
    width: int = 48,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.001,
    lr: float = 3e-3,
    batch: int = 32,
    ema: float = 0.99,
) -> Plan:
    """Recurrent VAE: one code for a window, told to every step of its decoder (Fabius and van Amersfoort 2015).

    Of labelled data it is conditional (Sohn et al. 2015): encoder and decoder are told the label at every step.

    Arguments:
        latent: dimensions of the code, >= 1.
        beta: weight of the KL, >= 0; 1 is the evidence lower bound.
        free_bits: nats per latent dimension that cost nothing, >= 0.
        width: units of each LSTM, >= 1.
        likelihood: how the decoder's output is read.
        variance: of one value, for the gaussian likelihood (squared shares of a column's range); the scale for laplace.
        lr: Adam's step size at the start; it falls to zero.
        batch: windows per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o

    model = _model(spec, latent, width, likelihood=likelihood, variance=variance, encoder=True)
    return _plan(model, [(o.vae(beta, free_bits), 1.0)], lr, batch, ema)


def rgan(
    spec: Spec,
    *,
    latent: int = 4,
    common: int = 8,
    game: Game = "relativistic",
    r1: float = 2e-3,
    r2: float = 2e-3,
    gradient_penalty: float = 0.0,
    lazy: int = 8,
    critic_steps: int = 1,
    changes: bool = True,
    width: int = 48,
    lr: float = 1.5e-3,
    batch: int = 32,
    ema: float = 0.99,
) -> Plan:
    """Recurrent GAN: noise at every step, a verdict at every step, losses averaged over steps (Esteban et al. 2017).

    Of labelled data it is RCGAN: the label, too, reaches generator and discriminator at every step.

    Arguments:
        latent: numbers of noise that one step alone is told, >= 1.
        common: numbers of noise that every step is told, >= 0; 0 as in the paper.
        game: what the two players minimise.
        r1: strength of the slope penalty at the data, per squared typical change from row to row, >= 0; 0 for none.
        r2: the same at the samples, >= 0; 0 for none.
        gradient_penalty: strength of the one-centred penalty between data and samples (10 for WGAN-GP); 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        critic_steps: turns of the discriminator per step, >= 1.
        changes: the generator makes changes from row to row, and the discriminator reads them; rows alone in the paper.
        width: units of each LSTM, >= 1.
        lr: Adam's step size at the start; it falls to zero.
        batch: windows per step.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o

    unit = _unit(spec)
    model = _model(spec, common, width, fresh=latent, discriminator=True, changes=changes)
    terms = total(o.gan(game), *penalties(r1 * unit, r2 * unit, gradient_penalty, lazy, ("fake",)))
    return _plan(model, [(terms, 1.0)], lr, batch, ema, critic_steps)


def rvaegan(
    spec: Spec,
    *,
    latent: int = 16,
    beta: float = 1.0,
    lam: float = 0.1,
    game: Game = "relativistic",
    r1: float = 2e-3,
    r2: float = 2e-3,
    gradient_penalty: float = 0.0,
    lazy: int = 8,
    critic_steps: int = 1,
    changes: bool = True,
    width: int = 48,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.001,
    lr: float = 3e-3,
    batch: int = 32,
    ema: float = 0.99,
) -> Plan:
    """Recurrent VAE-GAN: rvae(beta) + lam * rgan(game), the game played on reconstructions.

    Of labelled data all three networks are told the label at every step.

    Arguments:
        latent: dimensions of the code, >= 1.
        beta: weight of the KL, >= 0.
        lam: weight of the game, per value of a window; >= 0, and 0 only watches.
        game: what the two players minimise.
        r1: strength of the slope penalty at the data, per squared typical change from row to row, >= 0; 0 for none.
        r2: the same at the reconstructions, >= 0; 0 for none.
        gradient_penalty: strength of the one-centred penalty between data and reconstructions; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        critic_steps: turns of the discriminator per step, >= 1.
        changes: the discriminator reads, beside each row, how it differs from the one before; not so in the paper.
        width: units of each LSTM, >= 1.
        likelihood: how the decoder's output is read.
        variance: of one value, for the gaussian likelihood (squared shares of a column's range); the scale for laplace.
        lr: Adam's step size at the start; it falls to zero.
        batch: windows per step.
        ema: decay of the moving average of encoder and decoder, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o

    model = _model(
        spec, latent, width, likelihood=likelihood, variance=variance, encoder=True, discriminator=True, changes=changes
    )
    fakes, unit = ("reconstruction",), _unit(spec)
    played = total(
        o.gan(game, fakes, ("encoder", "decoder")), *penalties(r1 * unit, r2 * unit, gradient_penalty, lazy, fakes)
    )
    mixed = o.vae(beta) + lam * math.prod(spec.shape) * played
    return _plan(model, [(mixed, 1.0)], lr, batch, ema, critic_steps)


def timegan(
    spec: Spec,
    *,
    latent: int = 12,
    layers: int = 1,
    embedding: float = 0.25,
    supervision: float = 0.15,
    supervised: float = 100.0,
    moments: float = 100.0,
    rest: float = 0.15,
    generator_steps: int = 1,
    width: int = 32,
    lr: float = 3e-3,
    batch: int = 32,
    ema: float = 0.99,
) -> Plan:
    """TimeGAN: codes at every step, a supervisor that tells the next one, then a game between codes (Yoon et al. 2019).

    Arguments:
        latent: numbers of a step's code, and of its noise, >= 1.
        layers: of each LSTM, one less of the supervisor's, >= 1; 3 in the paper.
        embedding: share of the steps that train embedder and recovery alone, in (0, 1).
        supervision: share of the steps that train the supervisor alone, in (0, 1).
        supervised: weight of the supervision beside the game, >= 0.
        moments: weight of the moments beside the game, >= 0.
        rest: the discriminator sits out turns on which it loses less, in nats, >= 0.
        generator_steps: turns of the other networks per step, >= 1; 2 in the paper.
        width: units of each LSTM, >= 1.
        lr: Adam's step size at the start; it falls to zero.
        batch: windows per step.
        ema: decay of the moving average of all networks but the discriminator, in [0, 1); 0 for none.
    """
    from dataclasses import replace

    from amalgan import objectives as o
    from amalgan.models.timegan import TimeModel

    if embedding + supervision >= 1:
        found = "no steps left for the game"
        raise UsageError(f"embedding={embedding} and supervision={supervision}", found, "lower one of them")
    model, fakes, players = (
        TimeModel(spec, latent, width, layers),
        ("fake", "unsupervised"),
        ("generator", "supervisor"),
    )
    # the paper adds up both fakes, here they count as one, their mean: so 2
    game = o.Rest(2.0 * o.gan("non-saturating", fakes, players), rest)
    codes = 10.0 * o.Recovery() + 0.1 * o.Supervision(("embedder",), rooted=False)
    joint = game + supervised * o.Supervision() + moments * o.Moments() + codes
    left = 1 - embedding - supervision
    stages = [(10.0 * o.Recovery(), embedding), (o.Supervision(), supervision), (joint, left)]
    return replace(_plan(model, stages, lr, batch, ema), turns={"generator": generator_steps})


def _plan(
    model: Any, stages: list[tuple[Objective, float]], lr: float, batch: int, ema: float, critic_steps: int = 1
) -> Plan:
    """As for images, but for what recurrent networks need: step sizes that fall, clipped gradients, no momentum.

    On sines: at a constant step size the VAE lost again and again what it had learned; with falling ones and beta2 of 0.99
    the GAN's discriminator went blind on one seed of two, and with beta2 of 0.999 and clipped gradients on none of three.
    """
    from dataclasses import replace

    from amalgan import objectives as o

    plan = plan_of(model, stages, lr, batch, ema, critic_steps)
    names = model.networks
    return replace(plan, lr=dict.fromkeys(names, o.decay(lr)), betas=dict.fromkeys(names, (0.0, 0.999)), clip=1.0)


def _unit(spec: Spec) -> float:
    """The squared typical change from row to row, mean over columns: slopes by values count in it, so that a strength
    means the same for series that move fast and slowly."""
    changes: list[float] = spec.details["changes"]
    return sum(change**2 for change in changes) / len(changes)


def _model(
    spec: Spec,
    common: int,
    width: int,
    fresh: int = 0,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.001,
    encoder: bool = False,
    discriminator: bool = False,
    changes: bool = False,
) -> Any:
    """A model whose code is `common` numbers for a window and `fresh` ones for each of its steps; told labels, if there are.

    With `changes` its discriminator reads them, and noise of a step's own, where there is such, makes them.
    """
    from amalgan.models import LatentModel
    from amalgan.models.labelled import LabelledModel
    from amalgan.models.posteriors import GaussianPosterior
    from amalgan.networks import series

    reads, classes = likelihood_named(likelihood, variance, squash=True), len(spec.classes)
    typical = spec.details["changes"] if changes else None
    decoder = (
        series.Walk(spec.shape, common, width, fresh, typical, classes)
        if typical is not None and fresh
        else series.Decoder(spec.shape, common, width, fresh, reads.factor, classes)
    )
    return (LabelledModel if classes else LatentModel)(
        spec,
        common + spec.shape[0] * fresh,
        reads,
        decoder=decoder,
        encoder=series.Encoder(spec.shape, GaussianPosterior.factor * common, width, classes) if encoder else None,
        discriminator=series.Discriminator(spec.shape, width, classes, changes=typical) if discriminator else None,
    )
