"""Recipes that make sound by convolutions of long strides, WaveGAN and SpecGAN: the same game on the same networks, flattened.

wavegan     Wasserstein game + gradient penalty, of samples, the discriminator's maps moved in time
specgan     Wasserstein game + gradient penalty, of spectrograms
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from amalgan.errors import UsageError
from amalgan.recipes.images import EMBEDDED, Condition, penalties, plan_of, players, told_of, total

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.objectives import Objective
    from amalgan.training import Plan


def wavegan(
    spec: Spec,
    *,
    latent: int = 100,
    shuffle: int = 2,
    gradient_penalty: float = 10.0,
    critic_steps: int = 5,
    condition: Condition = "none",
    hidden: float = 0.1,
    width: int = 16,
    lr: float = 1e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """WaveGAN (Donahue et al. 2019): sound, sample by sample; slow on a CPU, meant for a GPU.

    Transposed convolutions of length 25 and stride 4 play the Wasserstein game, with a gradient penalty, against a discriminator
    whose maps are moved in time. Clips of 256 to 262,144 samples; 16,384 in the paper: --rate 16000 --seconds 1.024.

    Arguments:
        latent: dimensions of the noise, >= 1.
        shuffle: samples by which maps of the discriminator are moved, either way, >= 0; 0 for none.
        gradient_penalty: strength of the one-centred penalty between data and samples, >= 0; 0 for none.
        critic_steps: turns of the discriminator per step, >= 1.
        condition: labels tells them to both players: scales and shifts in the generator, projection in the other.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer, >= 1; 64 in the paper.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the generator's moving average, in [0, 1); 0 for none, as in the paper.
    """
    from amalgan.objectives import PhaseShuffled

    game = _game(gradient_penalty)
    game = PhaseShuffled(game, shuffle) if shuffle else game
    return _plan(spec, "waves", game, latent, condition, hidden, width, lr, batch, ema, critic_steps)


def specgan(
    spec: Spec,
    *,
    latent: int = 100,
    gradient_penalty: float = 10.0,
    critic_steps: int = 5,
    condition: Condition = "none",
    hidden: float = 0.1,
    width: int = 16,
    lr: float = 1e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """SpecGAN (Donahue et al. 2019): WaveGAN's twin on spectrograms; slow on a CPU, meant for a GPU.

    Convolutions are 5 x 5 and of stride 2; every row of frequencies is standardised, and cut off at 3 deviations. Spectrograms of 16 to 512 rows and as many frames; 128 in the paper: --rate 16000 --seconds 1.024.

    Arguments:
        latent: dimensions of the noise, >= 1.
        gradient_penalty: strength of the one-centred penalty between data and samples, >= 0; 0 for none.
        critic_steps: turns of the discriminator per step, >= 1.
        condition: labels tells them to both players: scales and shifts in the generator, projection in the other.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer, >= 1; 64 in the paper.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the generator's moving average, in [0, 1); 0 for none, as in the paper.
    """
    game = _game(gradient_penalty)
    return _plan(spec, "spectra", game, latent, condition, hidden, width, lr, batch, ema, critic_steps)


def _game(gradient_penalty: float) -> Objective:
    """Wasserstein, with its penalty."""
    from amalgan import objectives as o

    return total(o.gan("wasserstein"), *penalties(0.0, 0.0, gradient_penalty, 1, ("fake",)))


def _plan(
    spec: Spec,
    form: str,
    game: Objective,
    latent: int,
    condition: Condition,
    hidden: float,
    width: int,
    lr: float,
    batch: int,
    ema: float,
    critic_steps: int,
) -> Plan:
    """The pair of networks and Adam as in the paper.

    Raises:
        UsageError: recordings that were opened in another form.
    """
    from amalgan.networks import waves

    if spec.modality != form:
        found, instead = f"data that are {spec.modality}", f'open recordings with form="{form}", or give their folder'
        raise UsageError(f"networks of {form}", found, instead)
    told = told_of(spec, condition, "modulation", hidden)
    decoder = waves.Decoder(spec.shape, latent, width, EMBEDDED if told else 0)
    model = players(spec, latent, decoder, waves.Discriminator(spec.shape, width), told, squash=False)
    plan = plan_of(model, [(game, 1.0)], lr, batch, ema, critic_steps)
    return replace(plan, betas=dict.fromkeys(model.networks, (0.5, 0.9)))
