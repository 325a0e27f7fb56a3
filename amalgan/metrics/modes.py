"""Which modes of the data does a model hit, and how evenly?

Known mixtures (PacGAN's protocol, Lin et al. 2018): draw 2,500 samples; a sample is of high quality if it lies within 3
sigma of its nearest mean; a mode counts if it got at least one such sample. One stray sample is a weak rule, so the
strict count asks for half the mode's fair share, 1 / (2K) of all samples. With p the histogram of the good samples over
K modes and u uniform

    reverse KL = sum p log(p / u)        (log K when everything sits on one mode)
    JSD        = (KL(p || (p+u)/2) + KL(u || (p+u)/2)) / 2,  at most log 2

Labelled data: the same over the classes that a classifier sees, against the histogram it sees on real images.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from amalgan.errors import UsageError

SAMPLES = 2500  # of the protocol


class MixtureModes(NamedTuple):
    """Modes hit (by one sample; by half the fair share), share of good samples, reverse KL and JSD, counts `(K,)`."""

    modes: int
    modes_strict: int
    quality: float
    reverse_kl: float
    jsd: float
    counts: Tensor


class ClassModes(NamedTuple):
    """Classes hit (by one sample; by half of the real share), KL of their histogram to the real one, counts `(K,)`."""

    modes: int
    modes_strict: int
    kl: float
    counts: Tensor


def kl(p: Tensor, q: Tensor) -> float:
    """KL(p || q) = sum p log(p / q) in nats of two histograms (normalised here); infinite where only p has mass."""
    p, q = p.double() / p.sum(), q.double() / q.sum()
    return max(0.0, float(torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum()))


def jsd(p: Tensor, q: Tensor) -> float:
    """Jensen-Shannon divergence in nats of two histograms (normalised here)."""
    p, q = p.double() / p.sum(), q.double() / q.sum()
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def mixture_modes(samples: Tensor, means: Tensor, sigma: float, reach: float = 3.0) -> MixtureModes:
    """Score samples `(n, D)` against a mixture of equal round Gaussians at `means` `(K, D)` of deviation `sigma`.

    Without a single good sample the histogram is empty: reverse KL and JSD are then given their worst values, log K and
    log 2.
    """
    if samples.ndim != 2 or means.ndim != 2 or samples.shape[1] != means.shape[1] or len(samples) == 0:
        raise UsageError(
            "mode counts of a known mixture",
            f"samples {tuple(samples.shape)} and means {tuple(means.shape)}",
            "pass points (n, D) and means (K, D)",
        )
    d, mode = torch.cdist(samples.double(), means.double(), compute_mode="donot_use_mm_for_euclid_dist").min(1)
    good = d < reach * sigma
    k = len(means)
    counts = torch.bincount(mode[good], minlength=k)
    uniform = torch.ones(k)
    empty = not bool(good.any())
    return MixtureModes(
        modes=int((counts > 0).sum()),
        modes_strict=int((counts >= len(samples) / (2 * k)).sum()),
        quality=float(good.double().mean()),
        reverse_kl=math.log(k) if empty else kl(counts, uniform),
        jsd=math.log(2) if empty else jsd(counts, uniform),
        counts=counts,
    )


def class_modes(fake: Tensor, real: Tensor, classes: int) -> ClassModes:
    """Compare the classes `(n,)` that a classifier sees in samples with those `(m,)` that it sees in real images.

    Arguments:
        fake, real: class numbers 0 .. classes - 1, both by the same classifier, so that its own errors are on both
            sides.
    """
    counts, wanted = torch.bincount(fake, minlength=classes), torch.bincount(real, minlength=classes)
    present = wanted > 0
    return ClassModes(
        modes=int((counts[present] > 0).sum()),
        modes_strict=int((counts[present] / len(fake) >= wanted[present] / (2 * len(real))).sum()),
        kl=kl(counts, wanted),
        counts=counts,
    )
