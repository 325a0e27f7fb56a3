"""What is minimised: terms that add and scale."""

from amalgan.objectives.adversarial import GAMES, Adversarial, Equilibrium, Similarity, gan
from amalgan.objectives.core import Loss, Objective, Scaled, Sum, Turn, Verdict, cyclic, decay, warm_up
from amalgan.objectives.elbo import KL, ImportanceWeighted, Reconstruction, ae, importance_weighted, vae
from amalgan.objectives.penalties import OneCentred, ZeroCentred, gradient_penalty, r1, r1_r2

__all__ = [
    "GAMES",
    "KL",
    "Adversarial",
    "Equilibrium",
    "ImportanceWeighted",
    "Loss",
    "Objective",
    "OneCentred",
    "Reconstruction",
    "Scaled",
    "Similarity",
    "Sum",
    "Turn",
    "Verdict",
    "ZeroCentred",
    "ae",
    "cyclic",
    "decay",
    "gan",
    "gradient_penalty",
    "importance_weighted",
    "r1",
    "r1_r2",
    "vae",
    "warm_up",
]
