"""Recipes beside the VAE-GAN: games about codes, about pairs, and with a word about the code in every sample.

aae       reconstruction + lam * game of codes             adversarial autoencoder, WAE-GAN
bigan     a game of pairs                                  BiGAN, ALI
infogan   game + information
cvaegan   vaegan with labels + classification + features
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from amalgan.recipes.images import Condition, Game, LikelihoodName, Told, model_of, penalties, plan_of, told_of, total

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.training import Plan


PairGame = Literal["non-saturating", "least-squares", "hinge", "relativistic"]  # minimax would be non-saturating again
SEEN = 128  # numbers that a discriminator of pairs reads off an image


def aae(
    spec: Spec,
    *,
    latent: int = 8,
    lam: float = 10.0,
    game: Game = "non-saturating",
    r1: float = 1.0,
    lazy: int = 8,
    noisy: bool = False,
    condition: Condition = "none",
    hidden: float = 0.1,
    width: int = 32,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.02,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """Adversarial autoencoder: a game between codes and N(0, I) in the place of the KL (Makhzani et al. 2016).

    With a code that is a point it is the WAE-GAN of Tolstikhin et al. 2018.

    Arguments:
        latent: dimensions of the code, >= 1.
        lam: weight of the game beside the reconstruction in nats, per dimension of the code, >= 0.
        game: what encoder and discriminator of codes minimise.
        r1: strength of the slope penalty at draws from N(0, I), >= 0; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        noisy: the code of an image is a Gaussian instead of a point.
        condition: labels tells them to encoder and decoder, so that examples can be asked for by label.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        likelihood: how the decoder's output is read.
        variance: of one pixel, for the gaussian likelihood (squared pixels of [0, 1]); the scale for laplace.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.models.posteriors import GaussianPosterior, PointPosterior
    from amalgan.networks import points

    judge = lambda: points.Discriminator((latent,), 128)  # noqa: E731
    posterior = GaussianPosterior if noisy else PointPosterior
    told = told_of(spec, condition, "embedding", hidden)
    model = model_of(spec, latent, width, likelihood, variance, True, judge, posterior, told)
    model.sides = ("code", "z")
    slopes = penalties(r1, 0.0, 0.0, lazy, (), "code")
    play = total(o.gan(game, ("z",), ("encoder",), real="code"), *slopes)
    return plan_of(model, [(o.Reconstruction() + lam * latent * play, 1.0)], lr, batch, ema)


def bigan(
    spec: Spec,
    *,
    latent: int = 32,
    game: PairGame = "non-saturating",
    r1: float = 1.0,
    r2: float = 1.0,
    lazy: int = 8,
    condition: Condition = "none",
    hidden: float = 0.1,
    width: int = 32,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """Bidirectional GAN: is it a real image with its code, or a code with its image (Donahue et al. 2017)?

    Also called ALI (Dumoulin et al. 2017). The encoder inverts the generator, though nothing is reconstructed in training.

    Arguments:
        latent: dimensions of the code, >= 1.
        game: what the players minimise; encoder and generator the discriminator's side, with the pairs exchanged.
        r1: strength of the slope penalty at pairs of data, >= 0; 0 for none.
        r2: strength of the slope penalty at pairs of samples, >= 0; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        condition: labels tells them to all networks, so that examples can be asked for by label.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of encoder and generator, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.networks.pairs import Pairs
    from amalgan.recipes.images import projected, room_of

    told = told_of(spec, condition, "embedding", hidden)

    def judge() -> Any:
        return projected(Pairs(room_of(spec).Encoder(spec.shape, SEEN, width), SEEN, spec.shape, latent), told)

    model = model_of(spec, latent, width, encoder=True, discriminator=judge, told=told)
    model.sides = ("pair", "made_pair")
    terms = total(o.Inference(game), *penalties(r1, r2, 0.0, lazy, ("made_pair",), "pair"))
    return plan_of(model, [(terms, 1.0)], lr, batch, ema)


def infogan(
    spec: Spec,
    *,
    latent: int = 64,
    codes: int = 2,
    information: float = 0.1,
    game: Game = "relativistic",
    r1: float = 1.0,
    r2: float = 1.0,
    lazy: int = 8,
    condition: Condition = "none",
    hidden: float = 0.1,
    width: int = 32,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """InfoGAN: the first numbers of the noise must be readable off the sample (Chen et al. 2016).

    Arguments:
        latent: dimensions of the noise, >= 1.
        codes: how many of them must be readable, >= 1, at most all.
        information: weight of that, >= 0; on digits 0.1 makes them readable at no price, 1 costs samples.
        game: what the two players minimise.
        r1: strength of the slope penalty at the data, >= 0; 0 for none.
        r2: strength of the slope penalty at the samples, >= 0; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        condition: labels tells them to both players, so that codes are for what a label does not say.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the generator's moving average, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.errors import UsageError
    from amalgan.networks.conditions import Classifying
    from amalgan.recipes.images import projected, room_of

    if codes > latent:
        raise UsageError(f"codes={codes}", f"latent={latent}, fewer than that", f"write --latent {codes} or more")

    told = told_of(spec, condition, "embedding", hidden)

    def judge() -> Any:
        network = room_of(spec).Discriminator(spec.shape, width)
        return Classifying(projected(network, told), network.verdict.in_features, codes)

    model = model_of(spec, latent, width, discriminator=judge, told=told)
    slopes = penalties(r1, r2, 0.0, lazy, ("fake",))
    terms = total(o.gan(game), *slopes) + information * o.MutualInformation()
    return plan_of(model, [(terms, 1.0)], lr, batch, ema)


def cvaegan(
    spec: Spec,
    *,
    latent: int = 32,
    beta: float = 1.0,
    lam: float = 0.125,
    matching: float = 0.1,
    game: Game = "non-saturating",
    r1: float = 1.0,
    r2: float = 1.0,
    lazy: int = 8,
    hidden: float = 0.1,
    width: int = 32,
    likelihood: LikelihoodName = "gaussian",
    variance: float = 0.02,
    lr: float = 4e-4,
    batch: int = 64,
    ema: float = 0.999,
) -> Plan:
    """CVAE-GAN: a VAE with labels, whose decoder is judged, classified, and matches features (after Bao et al. 2017).

    Features are the discriminator's. Their classifier is a network of its own, taught by data alone; here it shares the
    discriminator's and learns from fakes, too.
    They match means of features in the place of game and classification, those of the classifier by class, and those of each
    reconstruction to its image; here means are of the batch, beside the other two.

    Arguments:
        latent: dimensions of the code, >= 1.
        beta: weight of the KL, >= 0.
        lam: weight of game, classification and features, per value of x, >= 0.
        matching: weight of the matched features in that sum, >= 0.
        game: what the two players minimise.
        r1: strength of the slope penalty at the data, >= 0; 0 for none.
        r2: strength of the slope penalty at the fakes, >= 0; 0 for none.
        lazy: penalties act on every so-manieth step, that many times as strong, >= 1.
        hidden: share of the labels that are hidden in training, so that it works without one, too, in [0, 1).
        width: channels of the finest layer (units of a layer for points), >= 1.
        likelihood: how the decoder's output is read.
        variance: of one pixel, for the gaussian likelihood (squared pixels of [0, 1]); the scale for laplace.
        lr: Adam's step size.
        batch: examples per step.
        ema: decay of the moving average of encoder and decoder, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.recipes.images import discriminator_of

    told: Told | None = told_of(spec, "labels", "embedding", hidden, "classifier")
    judge = discriminator_of(spec, width, batch, told=told)
    model = model_of(spec, latent, width, likelihood, variance, True, judge, told=told)
    fakes, moves = ("reconstruction", "fake"), ("encoder", "decoder")
    play = total(o.gan(game, fakes, moves), *penalties(r1, r2, 0.0, lazy, fakes), o.Classification(fakes, moves))
    terms = o.vae(beta) + lam * math.prod(spec.shape) * (play + matching * o.FeatureMatching(fakes, moves))
    return plan_of(model, [(terms, 1.0)], lr, batch, ema)
