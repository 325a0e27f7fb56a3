"""Recipes of images, points and sound: the autoencoder, the VAE, the GAN, and the VAE-GAN in three forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from amalgan import signatures
from amalgan.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from amalgan.data import Spec
    from amalgan.models import LatentModel
    from amalgan.models.likelihoods import Likelihood
    from amalgan.objectives import Objective
    from amalgan.training import Plan

LikelihoodName = Literal[
    "gaussian", "gaussian-learned", "gaussian-pixel", "laplace", "bernoulli", "continuous-bernoulli"
]
Game = Literal[
    "minimax",
    "non-saturating",
    "least-squares",
    "wasserstein",
    "hinge",
    "relativistic",
    "forward-kl",
    "reverse-kl",
    "pearson",
    "hellinger",
]
EMBEDDED, PLANES = 32, 8  # numbers that a condition becomes: beside a code, and beside the channels of an image
Form = Literal["joint", "learned", "two-stage"]
Sees = Literal["reconstructions", "samples", "both"]
Augment = Literal["none", "fixed", "adaptive"]
Condition = Literal["none", "labels"]
Telling = Literal["embedding", "modulation"]
Asking = Literal["projection", "classifier", "concatenation"]


def ae(
    spec: Spec,
    *,
    latent: int = 32,
    condition: Condition = "none",
    decoder_condition: Telling = "embedding",
    hidden: float = 0.1,
    width: int = 32,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.02,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """Autoencoder: a code that can be decoded again (reconstruction alone).

    Arguments:
        latent: dimensions of the code, >= 1.
        condition: labels tells them to encoder and decoder, so that examples can be asked for by label.
        decoder_condition: how the decoder is told: as numbers beside the code, or by scaling every level.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        likelihood: how the decoder's output is read; what is minimised is its negative logarithm.
        variance: of one pixel, for the gaussian likelihood (squared pixels of [0, 1]); the scale for laplace.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan.models.posteriors import PointPosterior
    from amalgan.objectives import ae as objective

    told = told_of(spec, condition, decoder_condition, hidden)
    model = model_of(spec, latent, width, likelihood, variance, encoder=True, posterior=PointPosterior, told=told)
    return plan_of(model, [(objective(), 1.0)], lr, batch, ema)


def vae(
    spec: Spec,
    *,
    latent: int = 32,
    beta: float = 1.0,
    warm_up: float = 0.0,
    free_bits: float = 0.0,
    delta: float = 0.0,
    condition: Condition = "none",
    decoder_condition: Telling = "embedding",
    hidden: float = 0.1,
    width: int = 32,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.02,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """Variational autoencoder: reconstruction + beta * KL (Kingma and Welling 2014; Higgins et al. 2017).

    Arguments:
        latent: dimensions of the code, >= 1.
        beta: weight of the KL, >= 0; 1 is the evidence lower bound.
        warm_up: share of the steps over which beta rises from 0, in [0, 1]; 0 for none.
        free_bits: nats per latent dimension that cost nothing, >= 0.
        delta: nats below which the code's KL cannot fall, >= 0 (a delta-VAE's posterior); 0 for none.
        condition: labels tells them to encoder and decoder, so that examples can be asked for by label.
        decoder_condition: how the decoder is told: as numbers beside the code, or by scaling every level.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        likelihood: how the decoder's output is read.
        variance: of one pixel, for the gaussian likelihood (squared pixels of [0, 1]); the scale for laplace.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan.objectives import vae as objective

    told = told_of(spec, condition, decoder_condition, hidden)
    model = model_of(spec, latent, width, likelihood, variance, encoder=True, posterior=_posterior(delta), told=told)
    return plan_of(model, [(objective(_rising(beta, warm_up), free_bits), 1.0)], lr, batch, ema)


def gan(
    spec: Spec,
    *,
    latent: int = 64,
    game: Game = "relativistic",
    r1: float = 1.0,
    r2: float = 1.0,
    gradient_penalty: float = 0.0,
    lazy: int = 8,
    critic_steps: int = 1,
    ttur: float = 1.0,
    noise: float = 0.0,
    augment: Augment = "none",
    pack: int = 1,
    deviation: bool = False,
    spectral: bool = False,
    condition: Condition = "none",
    decoder_condition: Telling = "modulation",
    discriminator_condition: Asking = "projection",
    hidden: float = 0.1,
    width: int = 32,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """Generative adversarial network: one of ten games (Goodfellow et al. 2014 and successors).

    Arguments:
        latent: dimensions of the noise, >= 1.
        game: what the two players minimise.
        r1: strength of the slope penalty at the data, >= 0; 0 for none.
        r2: strength of the slope penalty at the samples, >= 0; 0 for none.
        gradient_penalty: strength of the one-centred penalty between data and samples (10 for WGAN-GP); 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        critic_steps: turns of the discriminator per step, >= 1.
        ttur: the discriminator's step size over that of the other networks, > 0 (Heusel et al. 2017).
        noise: the discriminator sees data and samples through noise of this standard deviation, in units of the data,
            that falls to zero half-way; 0 for none.
        augment: the discriminator sees images through random changes of place and colour: fixed, half of the time;
            adaptive, as often as its certainty asks for: with few examples.
        pack: so many examples are judged at once, >= 1; a divisor of the batch.
        deviation: the discriminator is told how much a group of four varies.
        spectral: the discriminator's layers are divided by their largest singular value.
        condition: labels tells them to both players, so that examples can be asked for by label.
        decoder_condition: how the generator is told: by scaling every level, or as numbers beside the noise.
        discriminator_condition: how the discriminator asks for the label: by projection, by classifying real and fake
            alike, or with the label among its inputs.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    from amalgan.objectives import gan as objective

    told = told_of(spec, condition, decoder_condition, hidden, discriminator_condition)
    judge = discriminator_of(spec, width, batch, pack, deviation, spectral, told)
    model = model_of(spec, latent, width, discriminator=judge, told=told)
    slopes = penalties(r1, r2, gradient_penalty, lazy, ("fake",))
    terms = total(objective(game), *slopes, *_guesses(told, ("fake",), ("decoder",)))
    terms = through(terms, spec, game, noise, augment)
    return plan_of(model, [(terms, 1.0)], lr, batch, ema, critic_steps, ttur)


def vaegan(
    spec: Spec,
    *,
    form: Form = "joint",
    latent: int = 32,
    beta: float = 1.0,
    warm_up: float = 0.0,
    delta: float = 0.0,
    lam: float = 0.125,
    balance: float = 0.0,
    ramp: float = 0.0,
    gamma: float = 0.1,
    game: Game = "relativistic",
    sees: Sees = "reconstructions",
    r1: float = 1.0,
    r2: float = 1.0,
    gradient_penalty: float = 0.0,
    lazy: int = 8,
    critic_steps: int = 1,
    ttur: float = 1.0,
    noise: float = 0.0,
    augment: Augment = "none",
    pack: int = 1,
    deviation: bool = False,
    spectral: bool = False,
    gate: bool = False,
    share: float = 0.5,
    condition: Condition = "none",
    decoder_condition: Telling = "embedding",
    discriminator_condition: Asking = "projection",
    hidden: float = 0.1,
    width: int = 32,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.02,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """VAE-GAN: vae(beta) + lam * gan(game), in the three forms of the literature.

    joint      the sum as it stands; moves encoder and decoder
    learned    KL + similarity of the discriminator's features for the encoder, gamma * similarity + game for the
               decoder (Larsen et al. 2016)
    two-stage  first the VAE alone; then its decoder is the generator of the mixed loss

    Arguments:
        form: joint, learned or two-stage.
        latent: dimensions of the code, >= 1.
        beta: weight of the KL, >= 0.
        warm_up: share of the steps over which beta rises from 0, in [0, 1]; 0 for none.
        delta: nats below which the code's KL cannot fall, >= 0 (a delta-VAE's posterior); 0 for none.
        lam: joint and two-stage forms: weight of the game, per value of x (98 in all for 28 x 28 grey pixels), so
            that it means the same at any size: the ELBO is a sum over values, in nats; >= 0, and 0 only watches.
        balance: joint and two-stage forms: in place of lam, the game's gradient by the decoder as a share of the
            reconstruction's, >= 0; 0 leaves lam.
        ramp: joint and two-stage forms: the game has no weight for this share of the stage, and rises over as long
            again, in [0, 0.5]; the discriminator learns meanwhile.
        gamma: learned form: weight of the similarity in the decoder's loss, >= 0.
        game: what the two players minimise.
        sees: what the discriminator judges beside the data: reconstructions, which is best and cheapest where samples
            come from the fitted prior; samples from N(0, I); or both, as the papers have it.
        r1: strength of the slope penalty at the data, >= 0; 0 for none.
        r2: strength of the slope penalty at the samples, >= 0; 0 for none.
        gradient_penalty: strength of the one-centred penalty between data and samples; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        critic_steps: turns of the discriminator per step, >= 1.
        ttur: the discriminator's step size over that of the other networks, > 0 (Heusel et al. 2017).
        noise: the discriminator sees data and samples through noise of this standard deviation, in units of the data,
            that falls to zero half-way; 0 for none.
        augment: the discriminator sees images through random changes of place and colour: fixed, half of the time;
            adaptive, as often as its certainty asks for: with few examples.
        pack: so many examples are judged at once, >= 1; a divisor of the batch.
        deviation: the discriminator is told how much a group of four varies.
        spectral: the discriminator's layers are divided by their largest singular value.
        gate: learned form, any game but the relativistic: whoever wins clearly sits out (equilibrium 0.68 +- 0.35).
        share: two-stage form: share of the steps that the first stage takes, in (0, 1).
        condition: labels tells them to all networks, so that examples can be asked for by label.
        decoder_condition: how the decoder is told: as numbers beside the code, or by scaling every level.
        discriminator_condition: how the discriminator asks for the label: by projection, by classifying real and fake
            alike, or with the label among its inputs.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        likelihood: how the decoder's output is read.
        variance: of one pixel, for the gaussian likelihood (squared pixels of [0, 1]); the scale for laplace; in the
            learned form, of one feature.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of encoder and decoder, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o

    _only(("learned",), form, gamma=gamma, gate=gate)
    _only(("two-stage",), form, share=share)
    _only(("joint", "two-stage"), form, lam=lam, balance=balance, ramp=ramp)
    if gate and game == "relativistic":
        raise UsageError("gate with game=relativistic", "its verdicts drift together", "add --game non-saturating")
    told = told_of(spec, condition, decoder_condition, hidden, discriminator_condition)
    judge = discriminator_of(spec, width, batch, pack, deviation, spectral, told)
    model = model_of(spec, latent, width, likelihood, variance, True, judge, _posterior(delta), told)
    risen = _rising(beta, warm_up)
    fakes = {"both": ("reconstruction", "fake"), "reconstructions": ("reconstruction",), "samples": ("fake",)}[sees]
    slopes = penalties(r1, r2, gradient_penalty, lazy, fakes)
    encoder, decoder = ("encoder",), ("decoder",)
    moved = decoder if form == "learned" else encoder + decoder
    play = total(o.gan(game, fakes, moved), *slopes, *_guesses(told, fakes, moved))
    play = through(play, spec, game, noise, augment, fakes)
    stages: list[tuple[Objective, float]]
    if form == "learned":
        for_decoder = gamma * o.Similarity(decoder, variance) + play
        for_encoder = risen * o.KL(moves=encoder) + o.Similarity(encoder, variance)
        stages = [(for_encoder + (o.Equilibrium(for_decoder) if gate else for_decoder), 1.0)]
    else:
        weight = balance or lam * math.prod(spec.shape)
        late = o.warm_up(weight, share=ramp, begin=ramp) if ramp else weight
        mixed = o.vae(beta if form == "two-stage" else risen) + late * (o.Balanced(play) if balance else play)
        stages = [(o.vae(risen), share), (mixed, 1 - share)] if form == "two-stage" else [(mixed, 1.0)]
    return plan_of(model, stages, lr, batch, ema, critic_steps, ttur)


# What they share, with the recipes of other kinds of data too


def _only(wanted: tuple[Form, ...], form: Form, **arguments: Any) -> None:
    """Refuse arguments of some forms of the VAE-GAN in another, where they would do nothing."""
    for name, value in arguments.items():
        if form not in wanted and value != signatures.parameters(vaegan)[name].default:
            found = f"only form={' or '.join(wanted)} reads it"
            raise UsageError(f"{name}={value} with form={form}", found, f"add --form {wanted[0]}")


@dataclass(frozen=True)
class Told:
    """How networks are told the conditions of some data."""

    spec: Spec
    decoder: Telling
    hidden: float
    discriminator: Asking

    def embedding(self, size: int) -> Any:
        """e(c), (B, size)."""
        from amalgan.networks.conditions import embedding

        return embedding(self.spec, size)

    @property
    def outputs(self) -> int:
        """How many numbers a guess of the condition is."""
        return len(self.spec.classes) or len(self.spec.details["numbers"])


def told_of(
    spec: Spec, condition: Condition, decoder: Telling, hidden: float, discriminator: Asking = "projection"
) -> Told | None:
    """How networks are told labels, None where they are not.

    Raises:
        UsageError: data without labels.
    """
    if condition == "none":
        return None
    if not spec.classes and "numbers" not in spec.details:
        instead = "put the images of each class in a folder of its name, or leave --condition out"
        raise UsageError("condition=labels", "data without labels", instead)
    return Told(spec, decoder, hidden, discriminator)


def _guesses(told: Told | None, fakes: tuple[str, ...], moves: tuple[str, ...]) -> list[Objective]:
    """The term of an auxiliary classifier, where there is one."""
    from amalgan.objectives import Classification

    return [Classification(fakes, moves)] if told and told.discriminator == "classifier" else []


def model_of(
    spec: Spec,
    latent: int,
    width: int,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.02,
    encoder: bool = False,
    discriminator: Callable[[], Any] | None = None,
    posterior: Any = None,
    told: Told | None = None,
) -> Any:
    """The room's networks, told conditions or not, as one model."""
    from amalgan.models import LatentModel
    from amalgan.models.labelled import LabelledModel
    from amalgan.models.posteriors import GaussianPosterior
    from amalgan.networks.conditions import Joined, Modulated

    room, posterior = room_of(spec), posterior or GaussianPosterior
    reads = likelihood_named(likelihood, variance, squash=pictured(spec))
    raw_shape = (spec.shape[0] * reads.factor, *spec.shape[1:])
    out = posterior.factor * latent
    if told is None:
        return LatentModel(
            spec,
            latent,
            reads,
            decoder=room.Decoder(raw_shape, latent, width),
            encoder=room.Encoder(spec.shape, out, width) if encoder else None,
            discriminator=discriminator() if discriminator else None,
            posterior=posterior,
        )
    decoder: nn.Module
    if told.decoder == "modulation":
        decoder = Modulated(room.Decoder(raw_shape, latent, width, told=EMBEDDED), told.embedding(EMBEDDED))
    else:
        decoder = Joined(room.Decoder(raw_shape, latent + EMBEDDED, width), told.embedding(EMBEDDED))
    return LabelledModel(
        spec,
        latent,
        reads,
        decoder=decoder,
        encoder=Joined(room.Encoder(_beside(spec), out, width), told.embedding(PLANES)) if encoder else None,
        discriminator=discriminator() if discriminator else None,
        posterior=posterior,
        hidden=told.hidden,
    )


def players(
    spec: Spec, latent: int, decoder: nn.Module, judge: Any, told: Told | None, squash: bool = True
) -> LatentModel:
    """A generator and a discriminator with its `verdict`, told conditions by modulation and projection or not, as one model.

    Arguments:
        squash: whether a logistic squashes what the generator says.
    """
    from amalgan.models import LatentModel
    from amalgan.models.labelled import LabelledModel
    from amalgan.models.likelihoods import Gaussian
    from amalgan.networks.conditions import Modulated

    reads = Gaussian(squash=squash)
    if told is None:
        return LatentModel(spec, latent, reads, decoder, discriminator=judge)
    named = Modulated(decoder, told.embedding(EMBEDDED))
    return LabelledModel(spec, latent, reads, named, discriminator=projected(judge, told), hidden=told.hidden)


def projected(judge: Any, told: Told | None) -> Any:
    """A discriminator with its `verdict`, asking for the label by projection where there is one."""
    from amalgan.networks.conditions import Projected

    return Projected(judge, told.embedding(judge.verdict.in_features)) if told else judge


def _beside(spec: Spec) -> tuple[int, ...]:
    """The shape of an example with its condition beside it."""
    return (spec.shape[0] + PLANES, *spec.shape[1:])


def _rising(beta: float, share: float) -> Any:
    """A weight, or the schedule along which it comes up."""
    from amalgan.objectives import warm_up

    return warm_up(beta, share) if share > 0 else beta


def _posterior(delta: float) -> Any:
    from amalgan.models.posteriors import DeltaPosterior, GaussianPosterior

    return DeltaPosterior(delta) if delta > 0 else GaussianPosterior


def room_of(spec: Spec) -> Any:
    """The networks for some data."""
    from amalgan import networks

    return networks.images if pictured(spec) else networks.points


def pictured(spec: Spec) -> bool:
    """Whether examples are pictures (C, H, W) of [0, 1], as spectrograms are, too."""
    return spec.modality in ("images", "sound")


def discriminator_of(
    spec: Spec,
    width: int,
    batch: int,
    pack: int = 1,
    deviation: bool = False,
    spectral: bool = False,
    told: Told | None = None,
) -> Callable[[], Any]:
    """Makes the room's discriminator, within what was asked for; called after the other networks are made."""
    from amalgan.networks import normalise, together
    from amalgan.networks.conditions import Classifying, Joined, Projected

    asks = told.discriminator if told else ""
    if pack > 1 and asks:
        raise UsageError(
            f"packs of {pack} examples", "a discriminator that asks for the label of each", "leave --pack out"
        )
    if batch % pack:
        raise UsageError(
            f"packs of {pack} examples", f"a batch of {batch}", f"write --batch {batch // pack * pack or pack}"
        )

    def make() -> Any:
        judge, shape = room_of(spec).Discriminator, _beside(spec) if asks == "concatenation" else spec.shape
        network: Any = judge(shape, width)
        if pack > 1:
            network = together.Packed(lambda shape: judge(shape, width), shape, pack)
        features = deviation + (network.verdict.in_features if told else 0)
        network = normalise.spectral(network) if spectral else network
        if told and asks == "concatenation":
            network = Joined(network, told.embedding(PLANES))
        network = together.MinibatchDeviation(network) if deviation else network
        if told and asks == "projection":
            network = Projected(network, told.embedding(features))
        if told and asks == "classifier":
            network = Classifying(network, features, told.outputs)
        return network

    return make


def through(
    game: Objective, spec: Spec, name: Game, noise: float, augment: Augment, fakes: tuple[str, ...] = ("fake",)
) -> Objective:
    """A game whose discriminator looks through augmentation and noise, where they are wanted."""
    from amalgan import objectives as o

    if augment != "none" and not pictured(spec):
        raise UsageError(f"augment={augment}", f"data that are {spec.modality}", "leave it out, or add --noise 0.1")
    if augment != "none":
        beside = fakes if name == "relativistic" else ()
        game = o.Adaptive(game, beside=beside) if augment == "adaptive" else o.Augmented(game, 0.5)
    return o.InstanceNoise(game, o.fading(noise)) if noise > 0 else game


def likelihood_named(name: LikelihoodName, variance: float, squash: bool) -> Likelihood:
    """The likelihood of that name."""
    from amalgan.models import likelihoods as l

    if not squash and "bernoulli" in name:
        raise UsageError(f"a {name} likelihood", "data that are points, not images", "write --likelihood gaussian")
    make: dict[str, Callable[[], Likelihood]] = {
        "gaussian": lambda: l.Gaussian(variance, squash),
        "gaussian-learned": lambda: l.GaussianLearned(squash),
        "gaussian-pixel": lambda: l.GaussianPixel(squash),
        "laplace": lambda: l.Laplace(variance, squash),
        "bernoulli": lambda: l.Bernoulli(squash),
        "continuous-bernoulli": lambda: l.ContinuousBernoulli(squash),
    }
    return make[name]()


def penalties(
    r1: float, r2: float, one_centred: float, lazy: int, fakes: tuple[str, ...], real: str = "x"
) -> list[Objective]:
    """Slope penalties on the discriminator, those that are wanted."""
    from amalgan.objectives import OneCentred, ZeroCentred

    terms: list[Objective] = []
    if r1 == r2 and r1 > 0:
        terms.append(ZeroCentred(r1, (real, *fakes), lazy, real))
    else:
        terms += [ZeroCentred(r1, (real,), lazy, real)] if r1 > 0 else []
        terms += [ZeroCentred(r2, fakes, lazy, real)] if r2 > 0 else []
    return terms + ([OneCentred(one_centred, fakes, lazy)] if one_centred > 0 else [])


def total(first: Objective, *others: Objective) -> Objective:
    """first + others[0] + ..."""
    for other in others:
        first = first + other
    return first


def plan_of(
    model: Any,
    stages: list[tuple[Objective, float]],
    lr: float,
    batch: int,
    ema: float,
    critic_steps: int = 1,
    ttur: float = 1.0,
) -> Plan:
    """One step size for all networks but the discriminator, momentum as games want it."""
    from amalgan.training import Plan

    return Plan(
        model,
        stages,
        lr={name: lr * (ttur if name == "discriminator" else 1.0) for name in model.networks},
        # games want little momentum; and with 0.9 the first steps of a VAE on dark images overshoot into the flat end
        # of the logistic, from which 3 of 4 tried runs never returned
        betas=dict.fromkeys(model.networks, (0.5, 0.99)),
        turns={"discriminator": critic_steps},
        batch=batch,
        ema=ema,
        precision="bf16" if pictured(model.spec) else "fp32",
    )
