"""What is minimised: terms that add and scale."""

from amalgan.objectives.adversarial import GAMES, Adversarial, Equilibrium, Similarity, gan
from amalgan.objectives.balance import Balanced
from amalgan.objectives.core import Loss, Objective, Scaled, Sum, Turn, Verdict, cyclic, decay, warm_up
from amalgan.objectives.elbo import (
    KL,
    Capacity,
    ImportanceWeighted,
    Reconstruction,
    SampledKL,
    ae,
    importance_weighted,
    vae,
)
from amalgan.objectives.imitation import REWARDS, Imitation, cloning, imitation
from amalgan.objectives.penalties import OneCentred, ZeroCentred
from amalgan.objectives.policy import (
    Judge,
    Likelihood,
    PolicyGradient,
    judge,
    likelihood,
    policy_gradient,
    reinforce,
    reward,
)
from amalgan.objectives.timegan import Moments, Recovery, Rest, Supervision
from amalgan.objectives.views import InstanceNoise

__all__ = [
    "GAMES",
    "KL",
    "REWARDS",
    "Adversarial",
    "Balanced",
    "Capacity",
    "Equilibrium",
    "Imitation",
    "ImportanceWeighted",
    "InstanceNoise",
    "Judge",
    "Likelihood",
    "Loss",
    "Moments",
    "Objective",
    "OneCentred",
    "PolicyGradient",
    "Reconstruction",
    "Recovery",
    "Rest",
    "SampledKL",
    "Scaled",
    "Similarity",
    "Sum",
    "Supervision",
    "Turn",
    "Verdict",
    "ZeroCentred",
    "ae",
    "cloning",
    "cyclic",
    "decay",
    "gan",
    "imitation",
    "importance_weighted",
    "judge",
    "likelihood",
    "policy_gradient",
    "reinforce",
    "reward",
    "vae",
    "warm_up",
]
