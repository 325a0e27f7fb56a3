"""Adversarial remedies on a small GAN of images: what tests of going on and of several processes train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from amalgan import objectives as o
from amalgan.models import LatentModel
from amalgan.networks import images
from amalgan.networks.normalise import spectral
from amalgan.networks.together import MinibatchDeviation, Packed
from amalgan.training import Plan

# Games here are not the hinge unless something else holds the weights: while all verdicts lie within its margins it
# leaves biases without a gradient, and Adam turns rounding into steps there.


def with_term(objective: o.Objective) -> Callable[[Plan], Plan]:
    """The plan with another objective."""
    return lambda plan: replace(plan, stages=[(objective, 1.0)])


def with_discriminator(make: Callable[[LatentModel], object]) -> Callable[[Plan], Plan]:
    """The plan with another discriminator."""

    def changed(plan: Plan) -> Plan:
        plan.model.discriminator = make(plan.model)
        return plan

    return changed


REMEDIES: dict[str, Callable[[Plan], Plan]] = {
    "adaptive": with_term(o.Adaptive(o.gan("non-saturating") + o.ZeroCentred(), target=0.1, examples=64)),
    "augmented": with_term(o.Augmented(o.gan("non-saturating"), o.decay(1.0, 0.2))),
    "history": with_term(o.gan("hinge") + o.HistoricalAveraging(0.3) + o.HistoricalAveraging(0.3, "discriminator")),
    "matching": with_term(o.FeatureMatching() + o.judge(o.smoothed())),
    "unrolled": with_term(o.Unrolled(o.gan("non-saturating") + o.ZeroCentred(0.1), k=2, lr=0.1)),
    "best": with_term(o.gan("non-saturating", best=o.decay(1.0, 0.3)) + o.OneCentred(one_sided=True)),
    "spectral": with_discriminator(lambda model: spectral(model.discriminator)),
    "deviation": with_discriminator(lambda model: MinibatchDeviation(model.discriminator)),
    "packed": with_discriminator(lambda model: Packed(lambda s: images.Discriminator(s, 4), model.spec.shape, 2)),
}
