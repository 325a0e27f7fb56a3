"""Everything that can be said of one model on one data set, as rows.

Real and generated sets have the same size n, recorded in each row. Beside each value stand two anchors, got by the same
code:

    floor     the real data themselves: n training items in the place of the samples, against n held-out items; for
              reconstructions 0. The best that can be expected at this n.
    ceiling   what needs no model: each image with its pixels shuffled (each coordinate of points shuffled over the
              points), and the mean image as reconstruction. Whatever is not clearly better than this has learned
              nothing.

"Floor" and "ceiling" name the best and the trivial value also where higher is better. Three rows differ: for uniqueness
the trivial value is 0, one image repeated; for memorisation the best is that of unseen data and the worst that of the
training items themselves; for agreement the trivial value is that of halves of different images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from amalgan.data.halves import Halves, strangers
from amalgan.data.known import Mixture
from amalgan.errors import AmalganError, UsageError
from amalgan.metrics import features as feature_networks
from amalgan.metrics.conditional import conditional, taught
from amalgan.metrics.coverage import coverage, radii
from amalgan.metrics.distance import Moments, frechet, kernel, moments
from amalgan.metrics.features import Features
from amalgan.metrics.likelihood import active_units, importance_sampled_nlls, latents
from amalgan.metrics.memorisation import distances_to, memorisation, near_duplicate_threshold, uniqueness
from amalgan.metrics.modes import SAMPLES, class_modes, mixture_modes
from amalgan.metrics.reconstruction import mean_item, pixel_error, reconstruct
from amalgan.metrics.rows import Row
from amalgan.modalities.images import METRICS
from amalgan.noise import generator

NEIGHBOURS = 5  # k of precision, recall, density and coverage
QUANTILE = (
    0.01  # of real nearest-neighbour distances: below it, two images count as near-duplicates, a sample as a copy
)
SEARCHED = 1000  # samples whose nearest training image is searched for: seconds, and 10 items below the quantile
TAUGHT = 5000  # samples that a classifier learns from, fewer where there are fewer training items
SLOW = 5000  # training items that a slow feature network looks at


@dataclass(frozen=True)
class Reference:
    """The real side of the comparison: computed once, good for every model on this data, split, n and features."""

    split: str
    n: int
    eyes: Features
    train: Any
    known: Any
    classes: int
    real: Tensor
    real_c: Tensor | None
    real_features: Tensor
    real_moments: Moments
    real_radii: Tensor
    train_features: Tensor
    duplicate: float
    held_out_distances: Tensor
    held_out_feature_distances: Tensor
    floor: dict[str, float] = field(default_factory=dict)
    ceiling: dict[str, float] = field(default_factory=dict)


def reference(data: Any, split: str = "test", n: int = 5000, features: Features | None = None) -> Reference:
    """Real features, radii and distances, floors and ceilings at sample size n (less where the data are fewer).

    Arguments:
        split: "test", or "validation" while settings are chosen.
        features: the feature network; by default what `features.choose` finds for the data, trained with seed 0.

    Raises:
        UsageError: unknown split, or too few items in it.
    """
    held_out, train = data.held_out(split), data.train
    n = min(n, len(held_out), len(train))
    if n <= NEIGHBOURS:
        raise UsageError(
            f"an evaluation on the {split} split",
            f"{n} items to compare with ({len(held_out)} held out, {len(train)} for training)",
            f"give at least {NEIGHBOURS + 1} items in each, better a thousand",
        )
    eyes = features or feature_networks.choose(data)
    (real, real_c), (learned, _) = picked(held_out, n, split), picked(train, n, "train")
    seen = torch.arange(len(train)) if eyes.quick else _order(len(train), "train")[:SLOW]
    real_features, train_features = eyes(real), torch.cat([eyes(train.batch(i)[0]) for i in seen.split(1000)])
    known, classes = getattr(data, "known", None), len(data.spec.classes)
    ours = Reference(
        split=split,
        n=n,
        eyes=eyes,
        train=train,
        known=known,
        classes=classes,
        real=real,
        real_c=real_c,
        real_features=real_features,
        real_moments=moments(real_features),
        real_radii=radii(real_features, NEIGHBOURS),
        train_features=train_features,
        duplicate=near_duplicate_threshold(real, QUANTILE),
        held_out_distances=distances_to(real[:SEARCHED], train)[0],
        held_out_feature_distances=distances_to(real_features[:SEARCHED], train_features)[0],
    )
    floor = {name: value for name, (value, _) in sample_scores(learned, ours).items()}
    ceiling = {name: value for name, (value, _) in sample_scores(shuffled(learned), ours).items()}
    if real_c is not None and eyes.head is not None:
        right = conditional(eyes, real_features, real_c, real_features, real_c).label_accuracy
        guess = float(real_c[real_c >= 0].bincount().max() / (real_c >= 0).sum())  # always the most frequent class
        floor |= {"label_accuracy": right, "class_diversity": 1.0, "tstr": right}
        ceiling |= {"label_accuracy": guess, "class_diversity": 0.0, "tstr": guess}
    floor |= {"pixel_mse": 0.0, "frechet_reconstruction": 0.0}
    floor |= {"memorisation": QUANTILE, "memorisation_ratio": 1.0, "memorisation_features": QUANTILE}
    mean = mean_item(train).expand_as(real)
    ceiling |= {"pixel_mse": pixel_error(real, mean), "frechet_reconstruction": frechet(ours.real_moments, eyes(mean))}
    ceiling |= {"memorisation": 1.0, "memorisation_ratio": 0.0, "memorisation_features": 1.0}
    ceiling |= {"uniqueness": 0.0, "active_units": 0.0}
    if isinstance(known, Halves):
        ceiling["agreement"] = known.agreement(strangers(learned)).kappa
    return replace(ours, floor=floor, ceiling=ceiling)


def evaluate(
    model: Any,
    data: Any,
    *,
    split: str = "test",
    n: int = 5000,
    seed: int = 0,
    features: Features | None = None,
    k_importance: int = 100,
    n_importance: int = 200,
    priors: Sequence[str] = ("fitted", "standard"),
    against: Reference | None = None,
) -> list[Row]:
    """All metrics that apply to this model and these data.

    Arguments:
        model: of the contract: `sample`, `has_encoder`, `has_density`, and with an encoder `posterior`, `reconstruct`,
            `log_likelihood`, `prior`.
        data: with splits train, validation and test; nothing is ever fitted to the split that is judged on.
        n: real and generated items (fewer where the data are fewer; recorded).
        seed: of the samples and of the importance samples.
        k_importance, n_importance: samples an image and images of the negative log-likelihood, its dearest part.
        priors: to sample from; "fitted" is left out where none was fitted, "judged" where no discriminator can.
        against: `reference(data, split, n, features)` where several models are judged: it is most of the work.

    Raises:
        AmalganError: the model's samples are NaN.
    """
    against = against or reference(data, split, n, features)
    training = model.training
    model.eval()
    try:
        rows = _reconstruction_rows(model, against) if model.has_encoder else []
        needs = {"fitted": "fitted", "judged": "calibration"}
        available = [p for p in priors if p not in needs or getattr(model, needs[p], None) is not None] or ["standard"]
        if model.has_density:
            densities = [prior for prior in available if prior != "judged"]
            rows += _likelihood_rows(model, against, seed, k_importance, n_importance, densities)
        for prior in available:
            samples = as_saved(model.sample(against.n, seed=seed, prior=prior).cpu().float())
            asked = model.labels(against.n, seed) if hasattr(model, "labels") else None
            scores = sample_scores(samples, against, asked) | memorisation_scores(samples, against)
            if "label_accuracy" in scores and prior == available[0]:
                scores["tstr"] = taught_score(model, prior, against, seed)
            rows += [_row(name, *score, against, prior=prior) for name, score in scores.items()]
    finally:
        model.train(training)
    return rows


def sample_scores(samples: Tensor, against: Reference, c: Tensor | None = None) -> dict[str, tuple[float, str]]:
    """Value and note of each metric of samples `(n, *shape)` alone, or with the classes c `(n,)` that were asked for;
    floors and ceilings come from here too."""
    eyes = against.eyes
    seen = eyes(samples)
    n, d = seen.shape
    distance, p = (
        kernel(against.real_features, seen),
        coverage(against.real_features, seen, NEIGHBOURS, against.real_radii),
    )
    scores: dict[str, tuple[float, str]] = {
        "frechet": (frechet(against.real_moments, seen), f"n = {n} <= {d} features: much too high" if n <= d else ""),
        "kernel": (distance.value, f"standard error {distance.standard_error:.2g}"),
    }
    for name in ("precision", "recall", "density", "coverage"):
        scores[name] = (getattr(p, name), f"k = {NEIGHBOURS}")
    if isinstance(against.known, Mixture):
        m = mixture_modes(samples[:SAMPLES], against.known.means.cpu(), against.known.sigma)
        note = f"of {len(against.known.means)}, {min(n, SAMPLES)} samples"
        scores |= {"modes": (m.modes, note), "modes_strict": (m.modes_strict, note), "quality": (m.quality, "")}
        scores |= {"reverse_kl": (m.reverse_kl, ""), "jsd": (m.jsd, "")}
    elif eyes.head is not None:
        found = class_modes(eyes.classes(seen), eyes.classes(against.real_features), against.classes)
        note = f"of {against.classes} classes as {eyes.name} sees them"
        scores |= {
            "modes": (found.modes, note),
            "modes_strict": (found.modes_strict, note),
            "reverse_kl": (found.kl, note),
        }
    if isinstance(against.known, Halves):
        a = against.known.agreement(samples)
        scores |= {"formed": (a.formed, ""), "agreement": (a.kappa, f"of {round(a.formed * n)} with two halves")}
    if c is not None and against.real_c is not None and eyes.head is not None:
        scores |= label_scores(seen, c, against)
    u = uniqueness(samples, against.duplicate)
    scores["uniqueness"] = (u.unique, f"{u.distinct:.1%} exactly distinct")
    return scores


def label_scores(seen: Tensor, c: Tensor, against: Reference) -> dict[str, tuple[float, str]]:
    """Value and note of what can be said of features (n, d) of images that were to be of classes c (n,)."""
    assert against.real_c is not None
    found = conditional(against.eyes, seen, c, against.real_features, against.real_c)
    note = f"{len(against.real_c.unique())} classes as {against.eyes.name} sees them"
    return {"label_accuracy": (found.label_accuracy, note), "class_diversity": (found.class_diversity, note)}


def taught_score(model: Any, prior: str, against: Reference, seed: int) -> tuple[float, str]:
    """Value and note of what a model's samples teach: at least as many as there are to test on."""
    assert against.real_c is not None
    count = max(against.n, min(TAUGHT, len(against.train)))
    samples, c = as_saved(model.sample(count, seed=seed, prior=prior).cpu().float()), model.labels(count, seed)
    accuracy = taught(samples, c, against.real, against.real_c, against.classes, seed)
    return accuracy, f"{count} samples, tested on {int((against.real_c >= 0).sum())} real ones"


def memorisation_scores(samples: Tensor, against: Reference) -> dict[str, tuple[float, str]]:
    """Value and note of the metrics of memorisation of samples `(n, *shape)`, in pixels and in features."""
    samples = samples[:SEARCHED]
    some, seen = len(samples), against.eyes(samples)
    m1 = memorisation(samples, against.train, against.real, QUANTILE, against.held_out_distances)
    m2 = memorisation(seen, against.train_features, against.real_features, QUANTILE, against.held_out_feature_distances)
    return {
        "memorisation": (m1.share, f"{some} samples, pixels, {m1.copies:.1%} exact copies"),
        "memorisation_ratio": (m1.ratio, f"{some} samples, pixels"),
        "memorisation_features": (m2.share, f"{some} samples against {len(against.train_features)} training items"),
    }


def shuffled(x: Tensor) -> Tensor:
    """The trivial model: images `(n, C, H, W)` with their pixels in random order; points `(n, D)` column by column."""
    source = generator("shuffled")
    if x.ndim == 2:
        return torch.stack([column[torch.randperm(len(x), generator=source)] for column in x.unbind(1)], 1)
    flat = x.flatten(2)
    order = torch.rand(len(x), 1, flat.shape[2], generator=source).argsort(2)
    return flat.gather(2, order.expand_as(flat)).view_as(x)


def as_saved(samples: Tensor) -> Tensor:
    """Images `(n, C, H, W)` as they would be saved, in steps of 1/255 like the real ones; points as they are.

    Raises:
        AmalganError: NaN or infinity among the samples.
    """
    broken = int((~torch.isfinite(samples.flatten(1))).any(1).sum())
    if broken:
        raise AmalganError(
            f"an evaluation of {len(samples)} samples",
            f"NaN or infinity in {broken} of them",
            "training diverged: evaluate an earlier checkpoint, or train with a smaller learning rate",
        )
    return samples if samples.ndim == 2 else (samples.clamp(0, 1) * 255).round() / 255


def _reconstruction_rows(model: Any, against: Reference) -> list[Row]:
    again = reconstruct(model, against.real, _told(model, against))
    distance = frechet(against.real_moments, against.eyes(as_saved(again)))
    return [
        _row("pixel_mse", pixel_error(against.real, again), "", against),
        _row("frechet_reconstruction", distance, "", against),
    ]


def _likelihood_rows(model: Any, against: Reference, seed: int, k: int, n: int, priors: Sequence[str]) -> list[Row]:
    c = _told(model, against)
    found = latents(model, against.real, seed, c)
    active = active_units(found.mean)
    rows = [
        _row("distortion", float(found.distortion.mean()), "", against),
        _row("kl", float(found.kl.sum(1).mean()), f"of {model.latent} dimensions", against, prior="standard"),
        _row("elbo", float(found.elbo.mean()), "", against, prior="standard"),
        _row("active_units", active, f"of {model.latent}", against),
    ]
    some = against.real[:n]
    nlls = importance_sampled_nlls(
        model, some, [model.prior(p) for p in priors], k, seed, c=None if c is None else c[:n]
    )
    for prior, nll in zip(priors, nlls):
        error = float(nll.std()) / len(nll) ** 0.5
        rows.append(_row("nll", float(nll.mean()), f"k = {k}, standard error {error:.2g}", against, len(some), prior))
    return rows


def _told(model: Any, against: Reference) -> Tensor | None:
    """The labels of the real items, for a model that takes them."""
    return against.real_c if hasattr(model, "labels") else None


IN_FEATURES = {"frechet_reconstruction", "frechet", "kernel", "precision", "recall", "density", "coverage"}
IN_FEATURES |= {"memorisation_features", "label_accuracy", "class_diversity"}
OF_CLASSES = {"modes", "modes_strict", "reverse_kl"}  # need the network, unless the modes are known


def _row(name: str, value: float, note: str, against: Reference, n: int | None = None, prior: str = "") -> Row:
    unit, better, _ = METRICS[name]
    looked = name in IN_FEATURES or (name in OF_CLASSES and not isinstance(against.known, Mixture))
    eyes = against.eyes.fingerprint if looked else ""
    floor, ceiling = against.floor.get(name), against.ceiling.get(name)
    return Row(name, float(value), unit, better, floor, ceiling, n or against.n, prior, note, eyes)


def _order(n: int, name: str) -> Tensor:
    """A fixed shuffle: the first items of a folder are of its first class."""
    return torch.randperm(n, generator=generator("reference", name))


def picked(split: Any, n: int, name: str) -> tuple[Tensor, Tensor | None]:
    """n items of a split `(n, *shape)` and their labels, the same ones every time."""
    x, c = zip(*(split.batch(index) for index in _order(len(split), name)[:n].split(1000)))
    return torch.cat(x), None if c[0] is None else torch.cat(c)
