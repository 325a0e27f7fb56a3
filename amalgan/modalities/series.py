"""Time series: cut into windows, drawn as lines, judged by who can tell them from real ones and by what can be learned
from them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from amalgan.errors import UsageError
from amalgan.modalities.core import Meaning, Modality, Page, Question
from amalgan.modalities.images import Prior

if TYPE_CHECKING:
    from torch import Tensor

    from amalgan.data import Data, Spec
    from amalgan.metrics.rows import Row

LEARN = 1000  # samples, beside those that are judged, from which the judges learn
SHOWN = 24  # windows in a picture
OVERLAID, COLUMNS = 8, 6  # windows in one chart of a report, and columns that have a chart

METRICS = {
    "reconstruction_mae": Meaning(
        "share of range", "lower", "Mean absolute difference between a held-out window and its reconstruction."
    ),
    "discriminative": Meaning(
        "share", "lower", "How much better than by tossing a coin a classifier tells samples from held-out windows."
    ),
    "tstr": Meaning(
        "share of range",
        "lower",
        "Error of a predictor of the next row that learned from samples, on held-out windows.",
    ),
    "label_accuracy": Meaning(
        "share", "higher", "Samples in which a classifier of real windows sees the label that was asked for."
    ),
    "tstr_accuracy": Meaning(
        "share", "higher", "Held-out windows whose label a classifier knows that learned from samples."
    ),
    "autocorrelation": Meaning(
        "correlation", "lower", "Difference of the autocorrelations of samples and held-out windows, mean over lags."
    ),
    "correlation": Meaning("correlation", "lower", "Difference of the correlations between columns, mean over pairs."),
    "memorisation": Meaning(
        "share", "lower", "Share of samples nearer to a training window than 99 % of held-out windows are."
    ),
}


@dataclass(frozen=True)
class Samples:
    """Windows of a model.

    Arguments:
        scaled: (n, T, D) in [0, 1].
        spec: of the data, with its units.
        c: (n,) labels, or None.
    """

    scaled: Tensor
    spec: Spec
    c: Tensor | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Samples) and self.scaled.equal(other.scaled) and self.labels == other.labels

    def __len__(self) -> int:
        return len(self.scaled)

    @property
    def x(self) -> Tensor:
        """(n, T, D) in the data's units, float64."""
        from amalgan.data.series import in_units

        return in_units(self.scaled, self.spec)

    @property
    def labels(self) -> list[str] | None:
        """The name of each window's label."""
        return None if self.c is None else ["" if c < 0 else self.spec.classes[c] for c in self.c.tolist()]


@dataclass(frozen=True)
class Reference:
    """The real side: held-out windows, training windows in random order, anchors, what baselines score, and a classifier
    of training windows, where they have labels."""

    split: str
    n: int
    held_out: Tensor
    labels: Tensor | None
    train: Tensor
    distances: Tensor
    floor: dict[str, float] = field(default_factory=dict)
    ceiling: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    classifier: Any = None

    def told(self, metric: str) -> str:
        """What the baselines score, in words."""
        return ", ".join(f"{name} {held[metric]:.3g}" for name, held in self.baselines.items() if metric in held)


class Series(Modality):
    """Windows of rows of real numbers; see `amalgan.data.series` and `amalgan.metrics.series`."""

    names = ("series",)
    examples = "windows"
    suffix = ".csv"
    bundled = "sines"
    source = "a table of numbers, one row a time: .csv (.gz), .npy, .npz; sines (bundled, also sines:T=30,D=2,K=4)"
    metrics = METRICS
    labels: ClassVar[dict[str, str]] = {
        "reconstruction_mae": "reconstruction error",
        "discriminative": "discriminative score",
        "tstr": "error of a predictor trained on samples",
        "label_accuracy": "of the label that was asked for",
        "tstr_accuracy": "accuracy of a classifier trained on samples",
        "autocorrelation": "difference of autocorrelations",
        "correlation": "difference of correlations",
    }
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Reconstruction": ("reconstruction_mae",),
        "Samples": ("discriminative", "tstr", "label_accuracy", "tstr_accuracy", "autocorrelation", "correlation"),
        "Copying": ("memorisation",),
    }
    charts = ("reconstruction_mae", "discriminative", "tstr", "autocorrelation")
    in_terminal = tuple(METRICS)
    ratios = ("reconstruction_mae", "discriminative", "tstr")
    unranked = frozenset(("memorisation",))
    rules = (
        "Reconstruction is judged by the mean absolute error. Sampling is judged by the discriminative score and by the "
        "error of a predictor that learned from samples; differences of correlations are told beside them.",
        "The floor is what training windows score in the place of samples; the ceiling what needs no model: the mean "
        "window for reconstructions, training windows with their values in random order for samples, and for the predictor "
        "that nothing changes. Two baselines are told beside the scores: a vector autoregression and a block bootstrap.",
    )

    def open(
        self,
        source: Any,
        *,
        time: str | None = None,
        group: str | None = None,
        label: str | None = None,
        window: int | None = None,
        stride: int | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> Data:
        """See `amalgan.data.series.open`.

        Arguments:
            time: the column that rows are sorted by, numbers or ISO dates (they are in order)
            group: the column that tells series apart (there is one)
            label: the column of labels, which a GAN is conditioned on
            window: rows of a window (24, or whole series where they are alike and short)
            stride: rows from one window to the next (1)
            limit: use at most so many examples in each part
        """
        from amalgan.data import series

        named: dict[str, Any] = {
            "time": time,
            "group": group,
            "label": label,
            "window": window,
            "stride": stride,
            "limit": limit,
        }
        return series.open(source, **named, **options)

    def reopen(self, source: Any, spec: Spec, **flags: Any) -> Data:
        """With the columns, the scales and the window of `spec`."""
        return self.open(source, spec=spec, **flags)

    def sample(self, model: Any, n: int, seed: int, *, prior: Prior = "fitted", label: str | None = None) -> Samples:
        """n windows.

        Arguments:
            prior: where codes come from; judged: the fitted prior, less what the discriminator tells from data
            label: of all of them; each: the labels in turn; none: as without one (as frequent as in the data)
        """
        if not hasattr(model, "asked"):
            if label is not None:
                raise UsageError(
                    f"windows labelled {label}",
                    "a model that knows no labels",
                    "train rvae, rgan or rvaegan with --label",
                )
            return Samples(_drawn(model, n, seed, prior).cpu(), model.spec)
        c = model.asked(label, n, seed)
        return Samples(model.sample(n, seed, prior, c=c).cpu(), model.spec, c)

    def save(self, samples: Samples | Tensor, path: Path, columns: int | None = None, prefix: str = "") -> None:
        """.csv a row a step, .npy and .npz arrays, all in the data's units; .png a picture of lines."""
        from amalgan import files

        if path.suffix == ".png":
            x = samples.scaled if isinstance(samples, Samples) else samples.cpu()
            held = io.BytesIO()
            picture(x, columns or 6).save(held, "PNG")
            files.write_bytes(path, held.getvalue())
        elif not isinstance(samples, Samples) or path.suffix not in (".csv", ".npy", ".npz"):
            kinds = ".csv, .npy, .npz or .png" if isinstance(samples, Samples) else ".png"
            raise UsageError(f"windows in {path}", f"the suffix {path.suffix!r}", f"write a name that ends in {kinds}")
        elif path.suffix == ".npz":
            files.write_arrays(path, _arrays(samples))
        else:
            files.write_bytes(path, _csv(samples) if path.suffix == ".csv" else _array(samples.x))

    def preview(self, model: Any, stem: Path) -> None:
        """A few windows from fixed numbers."""
        self.save(self.sample(model, SHOWN, 0), stem.with_suffix(".png"))

    def questions(self, metrics: Sequence[str]) -> tuple[Question, ...]:
        """Reconstruction, where a recipe can, and sampling."""
        sampling = Question(
            "sampling", "samples", "sample", ("discriminative", "tstr"), ("autocorrelation", "memorisation")
        )
        if "reconstruction_mae" not in metrics:
            return (sampling,)
        trivial, unable = "The mean window in place of a reconstruction", "no encoder, so cannot reconstruct"
        measured = ("reconstruction_mae",)
        return Question("reconstruction", "reconstructs", "reconstruct", measured, (), trivial, unable), sampling

    def reference(self, data: Data, split: str, n: int) -> Reference:
        """Held-out windows; what training windows, shuffled windows and the baselines score in the place of samples."""
        import torch

        from amalgan.metrics import series as judge
        from amalgan.metrics.memorisation import distances_to
        from amalgan.noise import generator

        part = data.held_out(split)
        n = min(n, len(part), len(data.train))
        chosen = torch.randperm(len(part), generator=generator("reference", split))[:n]
        held_out, labels = part.batch(chosen)
        order = torch.randperm(len(data.train), generator=generator("reference", "train"))
        train, c = data.train.batch(order)
        distances = distances_to(held_out, data.train)[0]
        rest = len(train) // 2
        # the half that plays the samples is not among the real ones that the classifier learns from
        plain = Reference(split, n, held_out, labels, train[rest:], distances)
        playing = train[:rest], None if c is None else c[:rest]
        floor = scores(*playing, plain, data) | {"memorisation": 0.01, "reconstruction_mae": 0.0}
        ceiling = scores(judge.shuffled(train[:rest]), None, plain, data) | {"memorisation": 1.0}
        ceiling["tstr"] = judge.last_row(held_out)
        ceiling["reconstruction_mae"] = float((held_out - train.mean(0)).abs().mean())
        found = Reference(split, n, held_out, labels, train, distances, floor, ceiling)
        if labels is not None and c is not None:
            classifier, known = judge.learned(train[c >= 0], c[c >= 0], len(data.spec.classes)), labels >= 0
            found = replace(found, classifier=classifier)
            floor["label_accuracy"] = judge.accuracy(classifier, held_out[known], labels[known])
            often = float(torch.bincount(labels[known]).max() / known.sum())
            ceiling |= {"label_accuracy": often, "tstr_accuracy": often}
        independent = len(torch.unique(data.train.first // held_out.shape[1])) if hasattr(data.train, "first") else None
        for name, baseline in judge.baselines(train, independent).items():
            found.baselines[name] = scores(baseline.sample(n + LEARN), None, found, data)
        return found

    def evaluate(self, model: Any, data: Data, against: Reference) -> list[Row]:
        """Reconstructions of held-out windows; n samples, from the fitted prior where there is one."""
        import torch

        from amalgan.metrics.reconstruction import reconstruct

        training, count = model.training, against.n + LEARN
        model.eval()
        values: dict[str, float] = {}
        with torch.no_grad():
            if model.has_encoder:
                again = reconstruct(model, against.held_out, _told(model, against.labels))
                values["reconstruction_mae"] = float((again - against.held_out).abs().mean())
            c = model.labels(count, 0) if hasattr(model, "labels") else None
            values |= scores(_drawn(model, count, 0, "fitted").cpu(), c, against, data)
        model.train(training)
        return [
            self.row(name, value, against.floor.get(name), against.ceiling.get(name), against.n, against.told(name))
            for name, value in values.items()
        ]

    def judging_seconds(self, data: Data) -> float:
        """Four classifiers and predictors learn."""
        return 0.7 * data.spec.shape[0]

    def exhibits(self, model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
        """Real windows, samples and reconstructions in [0, 1], with the scales and the names of the columns."""
        import torch

        from amalgan.metrics.reconstruction import reconstruct

        details = model.spec.details
        made = self.sample(model, SHOWN, seed)
        found = {"real": against.held_out[:SHOWN], "samples": made.scaled}
        if model.has_encoder:
            labels = None if against.labels is None else against.labels[:SHOWN]
            found["reconstructions"] = reconstruct(model, found["real"], _told(model, labels))
        found |= {bound: torch.tensor(details[bound]) for bound in ("low", "high")}
        found = {name: x.detach().float().cpu().clone() for name, x in found.items()}
        return found | {"names": torch.tensor(list("\n".join(details["names"]).encode()), dtype=torch.uint8)}

    def sections(self, page: Page) -> list[tuple[str, str, str]]:
        """Windows side by side, overlaid by column, and reconstructions over their originals."""
        from amalgan.drawing import colour_of

        able = {name: kept for name, kept in page.shown.items() if kept}
        if not able:
            return []
        count = max(4, SHOWN // 2 >> page.level)
        told = [
            ("samples", "Windows", _side_by_side(page, able, count)),
            ("columns", "By column", _overlaid(page, able)),
        ]
        paired = {name: kept for name, kept in able.items() if "reconstructions" in kept}
        if paired:
            lead = '<p class="lead">Held-out windows, thin, and above them what comes back through the code.</p>'
            figures = "".join(
                _panels(
                    name, colour_of(page.results, name), [("real", kept["real"]), ("", kept["reconstructions"])], count
                )
                for name, kept in paired.items()
            )
            told.append(("reconstructions", "Reconstructions", f'{lead}<div class="figures broad">{figures}</div>'))
        return told


def _drawn(model: Any, n: int, seed: int, prior: str) -> Tensor:
    """(n, T, D) in [0, 1], from the prior where the model has one."""
    made: Tensor = model.sample(n, seed, prior) if hasattr(model, "prior") else model.sample(n, seed)
    return made


def _told(model: Any, c: Tensor | None) -> Tensor | None:
    """The labels, where a model is told such."""
    return c if hasattr(model, "given") else None


def scores(x: Tensor, c: Tensor | None, against: Reference, data: Data) -> dict[str, float]:
    """The metrics of windows x (N, T, D), with labels c (N,), in the place of samples; the last ones are judged."""
    import torch

    from amalgan.errors import AmalganError
    from amalgan.metrics import series as judge
    from amalgan.metrics.memorisation import memorisation

    if not torch.isfinite(x).all():
        raise AmalganError(
            f"an evaluation of {len(x)} windows", "NaN or infinity among them", "lower --lr, train again"
        )
    real, some = against.held_out, min(against.n, len(x) // 2)
    learned, judged = x[: len(x) - some], x[len(x) - some :]
    found = {
        "discriminative": judge.discriminative(against.train, real, learned, judged),
        "tstr": judge.predicted(x, real),
    }
    if c is not None and against.labels is not None:
        known, labelled = against.labels >= 0, c >= 0
        of_real = [(real[known], against.labels[known])]
        if against.classifier is not None:
            found["label_accuracy"] = judge.accuracy(against.classifier, x[labelled], c[labelled])
        (found["tstr_accuracy"],) = judge.accuracies(x[labelled], c[labelled], of_real, len(data.spec.classes))
    found["autocorrelation"] = judge.autocorrelation_difference(judged, real)
    if x.shape[2] > 1:
        found["correlation"] = judge.correlation_difference(judged, real)
    found["memorisation"] = memorisation(judged, data.train, real, held_out_distances=against.distances).share
    return found


# Written


def _csv(samples: Samples) -> bytes:
    import csv

    held, labels = io.StringIO(), samples.labels
    writer = csv.writer(held, lineterminator="\n")
    names = samples.spec.details["names"]
    writer.writerow(["window", "step", *names, *(["label"] if labels else [])])
    for i, rows in enumerate(samples.x.tolist()):
        for t, row in enumerate(rows):
            writer.writerow([i, t, *(f"{value:.8g}" for value in row), *([labels[i]] if labels else [])])
    return held.getvalue().encode()


def _arrays(samples: Samples) -> dict[str, Any]:
    import numpy as np

    held: dict[str, Any] = {"x": samples.x.numpy(), "names": np.array(samples.spec.details["names"])}
    return held if samples.labels is None else held | {"y": np.array(samples.labels)}


def _array(x: Tensor) -> bytes:
    import numpy as np

    held = io.BytesIO()
    np.save(held, x.numpy(), allow_pickle=False)
    return held.getvalue()


def picture(x: Tensor, columns: int) -> Any:
    """Windows (n, T, D) of [0, 1] as a PIL image, a frame each."""
    from amalgan.drawing import lines

    return lines([[window.T.tolist()] for window in x], columns)


# Told on a page


def _panels(name: str, colour: str, sets: list[tuple[str, Tensor]], count: int) -> str:
    """A figure of so many windows; sets of them, each in its class ("": the figure's own), lie over each other."""
    from amalgan.drawing import figure, panels

    drawn = [
        [(own or colour, column, not own) for own, x in sets for column in x[i].T.tolist()]
        for i in range(min(count, len(sets[0][1])))
    ]
    return figure(name, colour, panels(drawn, 3, f"{len(drawn)} windows of {name}"))


def _side_by_side(page: Page, able: dict[str, dict[str, Tensor]], count: int) -> str:
    from amalgan.drawing import colour_of

    kept = next(iter(able.values()))
    figures = _panels("Real windows, held out", "real", [("", kept["real"])], count)
    figures += "".join(
        _panels(name, colour_of(page.results, name), [("", kept["samples"])], count) for name, kept in able.items()
    )
    columns = len(kept["low"])
    about = (
        f" All {columns} columns lie in one frame, each from its least to its largest training value."
        if columns > 1
        else ""
    )
    lead = f'<p class="lead">Not picked: the first windows of each model of seed {page.seed}.{about}</p>'
    return f'{lead}<div class="figures broad">{figures}</div>'


def _overlaid(page: Page, able: dict[str, dict[str, Tensor]]) -> str:
    from amalgan.drawing import colour_of, curves, figure

    figures = []
    for name, kept in able.items():
        low, high = kept["low"], kept["high"]
        names = bytes(kept["names"].tolist()).decode("utf-8", "replace").split("\n")
        real, made = (low + (high - low) * kept[which][:OVERLAID] for which in ("real", "samples"))
        colour = colour_of(page.results, name)
        for d, column in list(enumerate(names))[: max(1, COLUMNS >> page.level)]:
            sets = (("real", real, False), (colour, made, True))
            drawn = [(own, list(enumerate(window[:, d].tolist())), thick) for own, x, thick in sets for window in x]
            chart = curves(drawn, real.shape[1] - 1, f"{column}: real windows and those of {name}", "steps")
            figures.append(figure(column, colour, chart, name))
    lead = (
        f'<p class="lead">In the data\'s units: {OVERLAID} held-out windows, thin, and {OVERLAID} samples, thick.</p>'
    )
    return f'{lead}<div class="charts">{"".join(figures)}</div>'
