"""Are samples of what they were asked to be, and as various as real examples of it?

    label_accuracy     share of samples in which a classifier of real data sees the class that was asked for
    class_diversity    distance between samples of one class over that between real examples of it, mean over classes
    tstr               accuracy on real, held-out data of a classifier that has seen nothing but samples
                       (train on synthetic, test on real: Esteban et al. 2017)

The classifier is the one whose features samples are compared in: it has learned on the training split, and its own
accuracy on held-out data stands beside. A model that makes one good example of each class has a label accuracy of 1, a
diversity of 0, and teaches nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from amalgan.metrics import features

SMALLEST = 5  # examples of a class, below which nothing is said of their variety
PAIRS = 400  # examples of a class that are compared with each other


class Conditional(NamedTuple):
    """Of samples with their classes: see the page."""

    label_accuracy: float
    class_diversity: float


def conditional(eyes: Any, seen: Tensor, c: Tensor, real: Tensor, real_c: Tensor) -> Conditional:
    """How well samples with features `seen` (n, d) keep to their classes c (n,), beside real features and classes.

    Examples of unknown class (-1) are passed over; the diversity is NaN where no class has enough of both.
    """
    known = c >= 0
    right = float((eyes.classes(seen[known]) == c[known]).float().mean())
    ratios = []
    for label in real_c[real_c >= 0].unique().tolist():
        ours, theirs = seen[c == label][:PAIRS], real[real_c == label][:PAIRS]
        if min(len(ours), len(theirs)) >= SMALLEST:
            ratios.append(float(torch.pdist(ours).mean() / torch.pdist(theirs).mean().clamp(min=1e-12)))
    return Conditional(right, sum(ratios) / len(ratios) if ratios else float("nan"))


def taught(samples: Tensor, c: Tensor, real: Tensor, real_c: Tensor, classes: int, seed: int = 0) -> float:
    """Accuracy on real (m, C, H, W) of known classes of a network that has seen samples (n, C, H, W) with classes c alone."""
    network = features.pupil(samples, c, classes, seed)
    known = real_c >= 0
    with torch.no_grad():
        guesses = torch.cat([network(part).argmax(1) for part in real[known].split(500)])
    return float((guesses == real_c[known]).float().mean())
