"""Images and points: grids, reconstructions in pairs, walks through the code; distances in features, coverage, copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from amalgan.errors import UsageError
from amalgan.modalities.core import Meaning, Modality, Page, Question

if TYPE_CHECKING:
    from torch import Tensor

    from amalgan.data import Data, Spec
    from amalgan.metrics.evaluate import Reference
    from amalgan.metrics.features import Features
    from amalgan.metrics.rows import Row

Prior = Literal["fitted", "standard", "judged"]
Channels = Literal[1, 3]

METRICS = {
    "pixel_mse": Meaning(
        "per pixel", "lower", "Mean squared difference between a held-out image and its reconstruction."
    ),
    "distortion": Meaning(
        "nats", "lower", "Minus log p(x|z): what the decoder misses of a held-out image, given its code."
    ),
    "kl": Meaning(
        "nats", "lower", "What the code of one image costs; a price, not a quality: read it beside the distortion."
    ),
    "elbo": Meaning(
        "nats", "higher", "Minus distortion minus KL: a lower bound on the log probability of held-out data."
    ),
    "nll": Meaning(
        "nats", "lower", "Minus log p(x) of held-out data by importance sampling: how surprised the model is."
    ),
    "active_units": Meaning("dimensions", "higher", "Latent dimensions whose code really changes with the image."),
    "frechet_reconstruction": Meaning(
        "features^2", "lower", "Frechet distance between reconstructions and real images."
    ),
    "frechet": Meaning(
        "features^2", "lower", "Distance between samples and real images as two Gaussian clouds of features."
    ),
    "kernel": Meaning(
        "features^6", "lower", "Distance between the same clouds without the Gaussian assumption, unbiased at any n."
    ),
    "precision": Meaning("share", "higher", "Share of samples that look like some real image: quality."),
    "recall": Meaning("share", "higher", "Share of real images that look like some sample: diversity."),
    "density": Meaning("ratio", "higher", "How deep samples lie among real images; 1 for real data."),
    "coverage": Meaning(
        "share", "higher", "Share of real images with a sample among their nearest neighbours: diversity, robust."
    ),
    "label_accuracy": Meaning(
        "share", "higher", "Share of samples in which a classifier of real data sees the class that was asked for."
    ),
    "class_diversity": Meaning(
        "ratio",
        "higher",
        "Distance between samples of one class, over that between real examples of it; 1 for real data.",
    ),
    "tstr": Meaning(
        "share", "higher", "Accuracy on held-out real data of a classifier that has seen nothing but samples."
    ),
    "modes": Meaning("modes", "higher", "Modes (or classes) that got at least one good sample."),
    "modes_strict": Meaning(
        "modes", "higher", "Modes (or classes) that got at least half of their fair share of the samples."
    ),
    "quality": Meaning("share", "higher", "Share of samples within 3 sigma of a mode of the known density."),
    "formed": Meaning("share", "higher", "Share of samples with two well-formed halves, where such are known."),
    "agreement": Meaning(
        "kappa", "higher", "How far beyond chance the halves of those, far apart, match: structure at long range."
    ),
    "reverse_kl": Meaning(
        "nats", "lower", "How unevenly the good samples spread over modes (or classes), against the real spread."
    ),
    "jsd": Meaning("nats", "lower", "The same unevenness, bounded by log 2."),
    "uniqueness": Meaning("share", "higher", "Share of samples without a near-duplicate among the samples."),
    "memorisation": Meaning(
        "share", "lower", "Share of samples nearer to a training image than 99 % of unseen images are."
    ),
    "memorisation_ratio": Meaning(
        "ratio", "higher", "Median distance to the training set, samples against unseen images."
    ),
    "memorisation_features": Meaning("share", "lower", "As memorisation, with distances between features."),
}


class Labelled(NamedTuple):
    """Samples that were asked for by what they are.

    Fields:
        x: (n, *shape).
        c: (n,) places of classes, -1 for none; or (n, K) numbers, as networks take them.
        spec: of the data.
    """

    x: Tensor
    c: Tensor
    spec: Spec

    @property
    def columns(self) -> int | None:
        """So many belong side by side: one of each class, where they come in turn."""
        k = len(self.spec.classes)
        return k if 1 < k <= 32 and self.c[: 2 * k].tolist() == [i % k for i in range(2 * k)] else None

    def named(self) -> dict[str, Any]:
        """Arrays that tell what each is: y (n,) and the names of classes, or y (n, K) in the data's units and their names."""
        import numpy as np
        import torch

        if self.spec.classes:
            return {"y": self.c.numpy(), "classes": np.array(self.spec.classes)}
        mean, deviation = (torch.tensor(self.spec.details[name]) for name in ("mean", "deviation"))
        return {"y": (self.c * deviation + mean).numpy(), "numbers": np.array(self.spec.details["numbers"])}


class Images(Modality):
    """Images of 8 to 128 px, and points; see `amalgan.data`, `amalgan.metrics.evaluate` and `pictures` beside this file."""

    names = ("images", "points")
    examples = "images"
    suffix = ".png"
    bundled = "digits"
    source = (
        "digits (bundled), halves, ring, grid; a folder, zip or tar of images (class folders become labels); a folder "
        "of idx files as MNIST's; a .npy or .npz file"
    )
    metrics = METRICS
    labels: ClassVar[dict[str, str]] = {
        "pixel_mse": "pixel error",
        "nll": "negative log-likelihood",
        "frechet": "Fréchet distance",
        "frechet_reconstruction": "Fréchet distance of reconstructions",
        "kernel": "kernel distance",
        "kl": "KL",
        "elbo": "ELBO",
        "modes_strict": "modes, strictly",
        "reverse_kl": "reverse KL",
        "label_accuracy": "label accuracy",
        "class_diversity": "diversity within a class",
        "tstr": "accuracy of a classifier taught by samples",
        "jsd": "Jensen-Shannon divergence",
        "memorisation_features": "memorisation in features",
    }
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Reconstruction and likelihood": (
            "pixel_mse", "frechet_reconstruction", "nll", "elbo", "distortion", "kl", "active_units"
        ),
        "Samples": (
            "frechet", "kernel", "precision", "recall", "density", "coverage", "modes", "modes_strict", "quality",
            "formed", "agreement", "reverse_kl", "jsd",
        ),
        "Labels": ("label_accuracy", "class_diversity", "tstr"),
        "Repetition and copying": ("uniqueness", "memorisation", "memorisation_features", "memorisation_ratio"),
    }  # fmt: skip
    charts = ("pixel_mse", "frechet", "coverage")
    in_terminal = (
        "pixel_mse", "nll", "frechet", "kernel", "precision", "recall", "coverage", "label_accuracy", "tstr", "modes", "quality",
        "formed", "agreement", "memorisation",
    )  # fmt: skip
    ratios = ("pixel_mse", "frechet")
    unranked = frozenset(
        ("kl", "active_units", "uniqueness", "memorisation", "memorisation_features", "memorisation_ratio")
    )
    rules = (
        "Reconstruction is judged by the pixel error, and by the negative log-likelihood where both recipes have one. "
        "Sampling is judged by the Fréchet distance and the coverage; precision and recall are told beside them. Where "
        "the density of the data is known, sampling is judged by the coverage and the quality instead.",
        "Models with an encoder are judged by samples from the prior that was fitted to their codes after training; "
        "samples from N(0, I) are told beside them.",
        "The floor is what real data score in the place of the model's output, the ceiling what needs no model at all: "
        "the mean image for reconstructions, images with shuffled pixels (points with shuffled coordinates) for samples.",
    )

    def open(
        self,
        source: Any,
        *,
        size: int | None = None,
        channels: Channels | None = None,
        strict: bool = False,
        limit: int | None = None,
        labels: str | None = None,
        classes: str | None = None,
        **options: Any,
    ) -> Data:
        """Whatever `amalgan.data.open` takes.

        Arguments:
            size: side that images are resized to, 8 to 128 px (from the data, at most 64)
            channels: grey or colour (from the data)
            strict: stop at the first unreadable file instead of skipping it
            limit: use at most so many examples in each part
            labels: a CSV of what is known of each file: its name, and its class or several numbers (folders are classes)
            classes: names of the classes, in their order, separated by commas
        """
        from amalgan import data

        named: dict[str, Any] = {"size": size, "channels": channels, "strict": strict, "limit": limit}
        return data.open(source, **named, labels=labels, classes=classes, **options)

    def reopen(self, source: Any, spec: Spec, **flags: Any) -> Data:
        """At the size and the channels of `spec`."""
        fitting: dict[str, Any] = (
            {"size": spec.shape[1], "channels": spec.shape[0]} if spec.modality == "images" else {}
        )
        return self.open(source, **fitting, **flags)

    def sample(
        self, model: Any, n: int, seed: int, *, prior: Prior = "fitted", label: str | None = None
    ) -> Tensor | Labelled:
        """(n, *shape); of a model that was trained with labels, together with theirs.

        Arguments:
            prior: where codes come from; judged: the fitted prior, less what the discriminator tells from data
            label: of all of them, or name=value of what describes them; each: the labels in turn; none: as without one
                (as frequent as in the data)
        """
        if not hasattr(model, "asked"):
            if label is not None:
                found = f"a model of {model.config.get('recipe', 'some recipe')} that was trained without labels"
                raise UsageError(f"examples labelled {label!r}", found, "train with --condition labels")
            made: Tensor = model.sample(n, seed, prior)
            return made
        c = model.asked(label, n, seed)
        return Labelled(model.sample(n, seed, prior, c=c), c, model.spec)

    def save(self, samples: Tensor | Labelled, path: Path, columns: int | None = None, prefix: str = "") -> None:
        """.png a grid, .npz an array x, anything else a folder of pictures; of a class in a folder of its name."""
        from amalgan.modalities import pictures

        if not isinstance(samples, Labelled):
            pictures.save(samples, path, columns, prefix)
        else:
            pictures.save(samples.x, path, columns or samples.columns, prefix, samples.named())

    def preview(self, model: Any, stem: Path) -> None:
        """Samples from fixed codes; of a model that knows classes, of each in turn."""
        prior: Prior = "standard" if model.fitted is None else "fitted"
        count = 64 if model.spec.modality == "images" else 2000
        told = hasattr(model, "asked") and bool(model.spec.classes)
        made = self.sample(model, count, 0, prior=prior, label="each" if told else None)
        self.save(made, stem.with_suffix(".png"))

    def questions(self, metrics: Sequence[str]) -> tuple[Question, ...]:
        """Reconstruction and sampling; where the density is known, two coordinates hide modes from a Fréchet distance."""
        sampling = ("coverage", "quality") if "quality" in metrics else ("frechet", "coverage")
        trivial, unable = (
            "The mean of the training data in place of a reconstruction",
            "no encoder, so cannot reconstruct",
        )
        return (
            Question("reconstruction", "reconstructs", "reconstruct", ("pixel_mse", "nll"), (), trivial, unable),
            Question("sampling", "samples", "sample", sampling, ("precision", "recall")),
        )

    def reference(self, data: Data, split: str, n: int, *, features: str | Features | None = None) -> Reference:
        """See `amalgan.metrics.evaluate.reference`.

        Arguments:
            features: judge with Inception-v3 weights from this .safetensors file, instead of a small network that
                learns on the data
        """
        from amalgan.metrics.evaluate import reference

        return reference(data, split, n, **self.ready(features=features))

    def ready(self, **flags: Any) -> dict[str, Any]:
        """The feature network read from its file."""
        from amalgan.metrics.features import from_file

        features = flags.get("features")
        return {"features": from_file(Path(features)) if isinstance(features, str | Path) else features}

    def looked_with(self, against: Reference) -> dict[str, Any]:
        """The feature network."""
        eyes = against.eyes
        accuracy = eyes.accuracy if eyes.accuracy is not None and math.isfinite(eyes.accuracy) else None
        return {"features": eyes.name, "features_fingerprint": eyes.fingerprint, "features_accuracy": accuracy}

    def evaluate(self, model: Any, data: Data, against: Reference) -> list[Row]:
        """See `amalgan.metrics.evaluate.evaluate`."""
        from amalgan.metrics.evaluate import evaluate

        return evaluate(model, data, against=against)

    def judging_seconds(self, data: Data) -> float:
        """A small network learns to see, faster on smaller images."""
        return 5 + 20 * min(1.0, math.prod(data.spec.shape) / 1024) if data.spec.modality == "images" else 1.0

    def exhibits(self, model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
        """Samples, pairs, walks and nearest training images."""
        from amalgan.modalities import pictures

        return pictures.exhibits(model, against, seed)

    def sections(self, page: Page) -> list[tuple[str, str, str]]:
        """Samples, reconstructions, interpolations, nearest training images."""
        from amalgan.modalities import pictures

        return pictures.sections(page)
