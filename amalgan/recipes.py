"""Named models: one function each, whose signature is its configuration.

A recipe takes the data's `Spec` and keyword arguments, and returns a `Plan`: networks chosen from the spec, the sum of
terms to minimise, and step sizes. The keyword arguments are the flags of the command line and the JSON of a run folder.

    ae        reconstruction
    vae       reconstruction + beta KL
    gan       a game
    vaegan    vae(beta) + lam * gan(game)            in three forms: joint, learned similarity, two-stage
    mle       likelihood                             of sequences of tokens
    seqgan    likelihood, then policy gradient       against a discriminator of whole sequences
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from amalgan import modalities, signatures
from amalgan.errors import UsageError

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.modalities import Modality
    from amalgan.models.likelihoods import Likelihood
    from amalgan.objectives import Objective
    from amalgan.objectives.core import Schedule
    from amalgan.training import Plan

LikelihoodName = Literal[
    "gaussian", "gaussian-learned", "gaussian-pixel", "laplace", "bernoulli", "continuous-bernoulli"
]
Game = Literal["minimax", "non-saturating", "least-squares", "wasserstein", "hinge", "relativistic"]
Form = Literal["joint", "learned", "two-stage"]
Sees = Literal["reconstructions", "samples", "both"]
Baseline = Literal["none", "mean"]
ReaderSize = Literal["small", "paper"]


def ae(
    spec: Spec,
    *,
    latent: int = 32,
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
        width: channels of the finest layer (units of a layer for points), >= 1.
        likelihood: how the decoder's output is read; what is minimised is its negative logarithm.
        variance: of one pixel, for the gaussian likelihood (squared pixels of [0, 1]); the scale for laplace.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan.models.posteriors import PointPosterior
    from amalgan.objectives import ae as objective

    model = _model(spec, latent, width, likelihood, variance, encoder=True, posterior=PointPosterior)
    return _plan(model, [(objective(), 1.0)], lr, batch, ema)


def vae(
    spec: Spec,
    *,
    latent: int = 32,
    beta: float = 1.0,
    free_bits: float = 0.0,
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
        free_bits: nats per latent dimension that cost nothing, >= 0.
        width: channels of the finest layer (units of a layer for points), >= 1.
        likelihood: how the decoder's output is read.
        variance: of one pixel, for the gaussian likelihood (squared pixels of [0, 1]); the scale for laplace.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan.objectives import vae as objective

    model = _model(spec, latent, width, likelihood, variance, encoder=True)
    return _plan(model, [(objective(beta, free_bits), 1.0)], lr, batch, ema)


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
    width: int = 32,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """Generative adversarial network: one of six games (Goodfellow et al. 2014 and successors).

    Arguments:
        latent: dimensions of the noise, >= 1.
        game: what the two players minimise.
        r1: strength of the slope penalty at the data, >= 0; 0 for none.
        r2: strength of the slope penalty at the samples, >= 0; 0 for none.
        gradient_penalty: strength of the one-centred penalty between data and samples (10 for WGAN-GP); 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        critic_steps: turns of the discriminator per step, >= 1.
        width: channels of the finest layer (units of a layer for points), >= 1.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    from amalgan.objectives import gan as objective

    model = _model(spec, latent, width, discriminator=True)
    terms = _sum(objective(game), *_penalties(r1, r2, gradient_penalty, lazy, ("fake",)))
    return _plan(model, [(terms, 1.0)], lr, batch, ema, critic_steps)


def vaegan(
    spec: Spec,
    *,
    form: Form = "joint",
    latent: int = 32,
    beta: float = 1.0,
    lam: float = 0.125,
    gamma: float = 0.1,
    game: Game = "relativistic",
    sees: Sees = "reconstructions",
    r1: float = 1.0,
    r2: float = 1.0,
    gradient_penalty: float = 0.0,
    lazy: int = 8,
    critic_steps: int = 1,
    gate: bool = False,
    share: float = 0.5,
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
        lam: weight of the game in the joint and two-stage sums, per value of x (98 in all for 28 x 28 grey pixels), so
            that it means the same at any size: the ELBO is a sum over values, in nats; >= 0, and 0 only watches.
        gamma: learned form: weight of the similarity in the decoder's loss, >= 0.
        game: what the two players minimise.
        sees: what the discriminator judges beside the data: reconstructions, which is best and cheapest where samples
            come from the fitted prior; samples from N(0, I); or both, as the papers have it.
        r1: strength of the slope penalty at the data, >= 0; 0 for none.
        r2: strength of the slope penalty at the samples, >= 0; 0 for none.
        gradient_penalty: strength of the one-centred penalty between data and samples; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        critic_steps: turns of the discriminator per step, >= 1.
        gate: learned form, any game but the relativistic: whoever wins clearly sits out (equilibrium 0.68 +- 0.35).
        share: two-stage form: share of the steps that the first stage takes, in (0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        likelihood: how the decoder's output is read.
        variance: of one pixel, for the gaussian likelihood (squared pixels of [0, 1]); the scale for laplace; in the
            learned form, of one feature.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of encoder and decoder, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o

    _only("learned", form, gamma=gamma, gate=gate)
    _only("two-stage", form, share=share)
    if gate and game == "relativistic":
        raise UsageError("gate with game=relativistic", "its verdicts drift together", "add --game non-saturating")
    model = _model(spec, latent, width, likelihood, variance, encoder=True, discriminator=True)
    fakes = {"both": ("reconstruction", "fake"), "reconstructions": ("reconstruction",), "samples": ("fake",)}[sees]
    penalties = _penalties(r1, r2, gradient_penalty, lazy, fakes)
    stages: list[tuple[Objective, float]]
    if form == "learned":
        encoder, decoder = ("encoder",), ("decoder",)
        for_decoder = gamma * o.Similarity(decoder, variance) + _sum(o.gan(game, fakes, decoder), *penalties)
        for_encoder = beta * o.KL(moves=encoder) + o.Similarity(encoder, variance)
        stages = [(for_encoder + (o.Equilibrium(for_decoder) if gate else for_decoder), 1.0)]
    else:
        mixed = o.vae(beta) + lam * math.prod(spec.shape) * _sum(o.gan(game, fakes, ("encoder", "decoder")), *penalties)
        stages = [(o.vae(beta), share), (mixed, 1 - share)] if form == "two-stage" else [(mixed, 1.0)]
    return _plan(model, stages, lr, batch, ema, critic_steps)


def mle(
    spec: Spec,
    *,
    width: int = 32,
    lr: float = 1e-2,
    batch: int = 64,
    ema: float = 0.99,
) -> Plan:
    """Maximum likelihood: a recurrent network that says how likely each next token is (the baseline of every text GAN).

    Arguments:
        width: of embedding and state, >= 1.
        lr: Adam's step size.
        batch: lines per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.models.sequences import SequenceModel
    from amalgan.networks.sequences import Writer

    model = SequenceModel(spec, Writer(len(spec.details["symbols"]), width))
    return _sequence_plan(model, [(o.likelihood(), 1.0)], {"generator": lr}, batch, ema)


def seqgan(
    spec: Spec,
    *,
    width: int = 32,
    reader: ReaderSize = "small",
    dropout: float = 0.25,
    rollouts: int = 16,
    baseline: Baseline = "mean",
    follow: float = 0.0,
    likelihood: float = 0.0,
    pretrain: float = 0.8,
    judging: float = 0.1,
    critic_steps: int = 5,
    lr: float = 1e-2,
    policy_lr: float = 1e-3,
    critic_lr: float = 1e-4,
    batch: int = 64,
    ema: float = 0.99,
) -> Plan:
    """SeqGAN: likelihood, then the policy gradient of what a discriminator pays for each token (Yu et al. 2017).

    Arguments:
        width: of the writer's embedding and state, >= 1.
        reader: the discriminator's convolutions: small, or the paper's 1,720 maps, a hundred times the work.
        dropout: share of the reader's features that is dropped in training, in [0, 1).
        rollouts: completions of every prefix, from which a token's payment is the mean (N in the paper), >= 1.
        baseline: none as in the paper, or mean, which takes off the mean payment at the same position.
        follow: share of its own weights that the policy that completes keeps at each step: 0.8 in the paper's text, 0
            in what its released code does, in [0, 1).
        likelihood: weight of the likelihood beside the policy gradient, >= 0.
        pretrain: share of the steps that train by likelihood alone, in (0, 1).
        judging: share of the steps that train the discriminator alone, in (0, 1).
        critic_steps: turns of the discriminator per step, each on fresh samples, >= 1.
        lr: Adam's step size in the likelihood's stage.
        policy_lr: Adam's step size of the writer after it.
        critic_lr: Adam's step size of the discriminator.
        batch: lines per step.
        ema: decay of the moving average of the writer, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.models.sequences import SequenceModel
    from amalgan.networks.sequences import PAPER, Reader, Writer

    if pretrain + judging >= 1:
        raise UsageError(
            f"pretrain={pretrain} and judging={judging}", "no steps left for the policy gradient", "lower one of them"
        )
    vocabulary, length = len(spec.details["symbols"]), spec.shape[0]
    writer = Writer(vocabulary, width)
    judge = Reader(vocabulary, length, dropped=dropout, **(PAPER if reader == "paper" else {}))
    policy = o.policy_gradient(rollouts, baseline, follow)
    if likelihood > 0:
        policy = policy + likelihood * o.likelihood()
    stages = [(o.likelihood(), pretrain), (o.judge(), judging), (policy + o.judge(), 1 - pretrain - judging)]
    rates: dict[str, float | Schedule] = {
        "generator": lambda progress: lr if progress < pretrain else policy_lr,
        "discriminator": critic_lr,
    }
    return _sequence_plan(SequenceModel(spec, writer, judge), stages, rates, batch, ema, critic_steps)


RECIPES: dict[str, Callable[..., Plan]] = {
    "ae": ae, "vae": vae, "gan": gan, "vaegan": vaegan, "mle": mle, "seqgan": seqgan
}  # fmt: skip
TAKES = {"mle": "text", "seqgan": "text"}  # the modality of each recipe, where it is not images and points

RANGES: dict[str, tuple[float, float]] = {  # inclusive, units in the recipes' docstrings
    "latent": (1, 4096),
    "width": (1, 4096),
    "beta": (0, 1e6),
    "free_bits": (0, 1e3),
    "lam": (0, 1e9),
    "gamma": (0, 1e9),
    "variance": (1e-8, 1e3),
    "r1": (0, 1e6),
    "r2": (0, 1e6),
    "gradient_penalty": (0, 1e6),
    "lazy": (1, 1000),
    "critic_steps": (1, 100),
    "share": (0.01, 0.99),
    "dropout": (0, 0.99),
    "rollouts": (1, 1000),
    "follow": (0, 0.999),
    "likelihood": (0, 1e6),
    "pretrain": (0.01, 0.98),
    "judging": (0.01, 0.98),
    "policy_lr": (1e-8, 10),
    "critic_lr": (1e-8, 10),
    "lr": (1e-8, 10),
    "batch": (2, 1_000_000),
    "ema": (0, 0.999999),
}


def plan(recipe: str, spec: Spec, arguments: dict[str, Any]) -> Plan:
    """The plan of a named recipe, its arguments checked.

    Raises:
        UsageError: no such recipe, no such argument, or a value outside its range.
    """
    checked = check(recipe, arguments)
    made = RECIPES[recipe](spec, **checked)
    made.model.config = {"recipe": recipe, "arguments": checked}
    return made


def modality(recipe: str) -> Modality:
    """The kind of data that a recipe takes.

    Raises:
        UsageError: no such recipe.
    """
    parameters(recipe)
    return modalities.of(TAKES.get(recipe, "images"))


def parameters(recipe: str) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a recipe, in order.

    Raises:
        UsageError: no such recipe.
    """
    if recipe not in RECIPES:
        raise UsageError("a recipe", repr(recipe), f"write one of {', '.join(RECIPES)}")
    return signatures.parameters(RECIPES[recipe])


def check(recipe: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """All keyword arguments of a recipe: the given ones, checked, and the defaults.

    Raises:
        UsageError: no such argument, wrong type, or outside its range.
    """
    known = parameters(recipe)
    for name, value in arguments.items():
        if name not in known:
            raise UsageError(f"{name}={value!r} for {recipe}", "no such argument", f"write one of {', '.join(known)}")
        annotation = str(known[name].annotation)
        words = signatures.choices(RECIPES[recipe], known[name])
        if words:
            if value not in words:
                raise UsageError(f"{name} for {recipe}", repr(value), f"write one of {', '.join(words)}")
            continue
        number = isinstance(value, int | float) and (annotation == "bool") == isinstance(value, bool)
        if not number or (annotation == "int" and not float(value).is_integer()):
            raise UsageError(f"{name} for {recipe}", repr(value), f"write a value of type {annotation}")
        low, high = RANGES.get(name, (float("-inf"), float("inf")))
        if not low <= value <= high:
            raise UsageError(f"{name} for {recipe}", f"{value}", f"write {name} between {low:g} and {high:g}")
    given = {name: int(v) if known[name].annotation == "int" else v for name, v in arguments.items()}
    return {name: given.get(name, p.default) for name, p in known.items()}


# What the recipes share


def _only(wanted: Form, form: Form, **arguments: Any) -> None:
    """Refuse arguments of one form of the VAE-GAN in another, where they would do nothing."""
    for name, value in arguments.items():
        if form != wanted and value != parameters("vaegan")[name].default:
            raise UsageError(f"{name}={value} with form={form}", f"only form={wanted} reads it", f"add --form {wanted}")


def _model(
    spec: Spec,
    latent: int,
    width: int,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.02,
    encoder: bool = False,
    discriminator: bool = False,
    posterior: Any = None,
) -> Any:
    from amalgan import networks
    from amalgan.models import LatentModel
    from amalgan.models.posteriors import GaussianPosterior

    room: Any = {"images": networks.images, "points": networks.points}[spec.modality]
    posterior = posterior or GaussianPosterior
    reads = _likelihood(likelihood, variance, squash=spec.modality == "images")
    raw_shape = (spec.shape[0] * reads.factor, *spec.shape[1:])
    return LatentModel(
        spec,
        latent,
        reads,
        decoder=room.Decoder(raw_shape, latent, width),
        encoder=room.Encoder(spec.shape, posterior.factor * latent, width) if encoder else None,
        discriminator=room.Discriminator(spec.shape, width) if discriminator else None,
        posterior=posterior,
    )


def _likelihood(name: LikelihoodName, variance: float, squash: bool) -> Likelihood:
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


def _penalties(r1: float, r2: float, one_centred: float, lazy: int, fakes: tuple[str, ...]) -> list[Objective]:
    from amalgan.objectives import OneCentred, ZeroCentred

    terms: list[Objective] = []
    if r1 == r2 and r1 > 0:
        terms.append(ZeroCentred(r1, ("x", *fakes), lazy))
    else:
        terms += [ZeroCentred(r1, ("x",), lazy)] if r1 > 0 else []
        terms += [ZeroCentred(r2, fakes, lazy)] if r2 > 0 else []
    return terms + ([OneCentred(one_centred, fakes, lazy)] if one_centred > 0 else [])


def _sequence_plan(
    model: Any,
    stages: list[tuple[Objective, float]],
    lr: dict[str, float | Schedule],
    batch: int,
    ema: float,
    critic_steps: int = 1,
) -> Plan:
    from amalgan.training import Plan

    return Plan(
        model=model,
        stages=stages,
        lr=lr,
        betas=dict.fromkeys(model.networks, (0.9, 0.999)),
        turns={"discriminator": critic_steps},
        batch=batch,
        ema=ema,
        clip=5.0 * model.length,  # 5 nats per token, as published: the loss is a sum over tokens
        precision="bf16",  # of the reader's convolutions; whatever a probability hangs on is fp32
    )


def _sum(first: Objective, *others: Objective) -> Objective:
    for other in others:
        first = first + other
    return first


def _plan(
    model: Any, stages: list[tuple[Objective, float]], lr: float, batch: int, ema: float, critic_steps: int = 1
) -> Plan:
    from amalgan.training import Plan

    return Plan(
        model,
        stages,
        lr=dict.fromkeys(model.networks, lr),
        # games want little momentum; and with 0.9 the first steps of a VAE on dark images overshoot into the flat end
        # of the logistic, from which 3 of 4 tried runs never returned
        betas=dict.fromkeys(model.networks, (0.5, 0.99)),
        turns={"discriminator": critic_steps},
        batch=batch,
        ema=ema,
        precision="bf16" if model.spec.modality == "images" else "fp32",
    )
