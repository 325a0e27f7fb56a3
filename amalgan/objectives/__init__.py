"""What is minimised: terms that add and scale."""

from amalgan.objectives.adversarial import GAMES, Adversarial, Equilibrium, Inference, Similarity, gan, smoothed
from amalgan.objectives.balance import Balanced
from amalgan.objectives.conditional import Classification, MutualInformation
from amalgan.objectives.core import Loss, Objective, Scaled, Sum, Turn, Verdict, cyclic, decay, fading, warm_up
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
from amalgan.objectives.matching import FeatureMatching, HistoricalAveraging, Unrolled
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
from amalgan.objectives.views import Adaptive, Augmented, InstanceNoise, PhaseShuffled
from amalgan.objectives.watching import Gammas

__all__ = [
    "GAMES",
    "KL",
    "REWARDS",
    "Adaptive",
    "Adversarial",
    "Augmented",
    "Balanced",
    "Capacity",
    "Classification",
    "Equilibrium",
    "FeatureMatching",
    "Gammas",
    "HistoricalAveraging",
    "Imitation",
    "ImportanceWeighted",
    "Inference",
    "InstanceNoise",
    "Judge",
    "Likelihood",
    "Loss",
    "Moments",
    "MutualInformation",
    "Objective",
    "OneCentred",
    "PhaseShuffled",
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
    "Unrolled",
    "Verdict",
    "ZeroCentred",
    "ae",
    "cloning",
    "cyclic",
    "decay",
    "fading",
    "gan",
    "imitation",
    "importance_weighted",
    "judge",
    "likelihood",
    "policy_gradient",
    "reinforce",
    "reward",
    "smoothed",
    "vae",
    "warm_up",
]
