"""What every modality says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from amalgan.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from amalgan.data import Data, Spec
    from amalgan.data.core import Split
    from amalgan.metrics.rows import Row

AT_ONCE = 500  # examples that are encoded together


class Meaning(NamedTuple):
    """Of a metric: unit, whether lower or higher is better, and one plain sentence."""

    unit: str
    better: str
    meaning: str


@dataclass(frozen=True)
class Question:
    """What somebody wants of a model, and the metrics that tell who does it best.

    Arguments:
        name: as in "For sampling: ...".
        does: "samples"; do: "sample".
        metrics: that answer it; the first tells whether anything was learned.
        told: metrics that are told beside them.
        trivial: what the first metric's ceiling is, as in "X would give a pixel error of 0.07", or "".
        unable: why a recipe may have none of these metrics, as in "has no encoder, so cannot reconstruct".
    """

    name: str
    does: str
    do: str
    metrics: tuple[str, ...]
    told: tuple[str, ...] = ()
    trivial: str = ""
    unable: str = ""


class Modality:
    """One kind of data. Abstract; methods that raise NotImplementedError must be given.

    Class attributes:
        names: those of `Spec.modality` that this speaks for.
        examples: what several examples are called.
        suffix: of the file that `save` writes if nobody says.
        source: what --data may be, for a --help.
        also: other spellings of --data, where a field has a word of its own.
        also_judged: the same of the --data that a run is judged on.
        bundled: data that is always there, for an example.
        metrics: what each means, in the order of a report.
        labels: metrics with a name for people, where it is not the metric's own.
        groups: of metrics in a report, title -> names.
        charts: metrics drawn in a report.
        in_terminal: metrics of a comparison's table in a terminal.
        ratios: metrics of which a percentage makes sense: zero is perfect.
        unranked: prices and checks: nobody is best at them.
        rules: sentences that the rules of a verdict need besides.
    """

    names: tuple[str, ...] = ()
    examples = "examples"
    suffix = ""
    source = ""
    also: tuple[str, ...] = ()
    also_judged: tuple[str, ...] = ()
    bundled = ""
    metrics: ClassVar[dict[str, Meaning]] = {}
    labels: ClassVar[dict[str, str]] = {}
    groups: ClassVar[dict[str, tuple[str, ...]]] = {}
    charts: tuple[str, ...] = ()
    in_terminal: tuple[str, ...] = ()
    ratios: tuple[str, ...] = ()
    unranked: frozenset[str] = frozenset()
    rules: tuple[str, ...] = ()

    def recognises(self, source: Any) -> bool:
        """Whether a source is plainly of this kind, where recipes take several kinds; a glance, nothing is decoded."""
        return False

    def open(self, source: Any, **flags: Any) -> Data:
        """Files to data; the keyword arguments are flags of the command line."""
        raise NotImplementedError

    def reopen(self, source: Any, spec: Spec, **flags: Any) -> Data:
        """Other data, made to fit a model that was trained on data of this spec."""
        return self.open(source, **flags)

    def sample(self, model: Any, n: int, seed: int) -> Any:
        """n samples, for `save`; further keyword arguments are flags of the command line."""
        return model.sample(n, seed)

    def made(self, x: Tensor, spec: Spec) -> Any:
        """What a model of data of this spec made, (n, *shape), for `save`."""
        return x

    def save(self, samples: Any, path: Path, columns: int | None = None, prefix: str = "") -> None:
        """Write samples where and as the path says.

        Arguments:
            columns: so many of them belong side by side.
            prefix: with which the names begin where each becomes a file.
        """
        raise NotImplementedError

    def embed(self, model: Any, split: Split) -> dict[str, np.ndarray]:
        """Where examples lie for the model: arrays with a row for each, z (N, d) and, where there are labels, c (N,).

        Raises:
            UsageError: the model has no encoder.
        """
        import torch

        if not model.has_encoder:
            instead = "give a run of a recipe with an encoder, as vae and vaegan have"
            raise UsageError("codes of examples", f"{model.config['recipe']} has no encoder", instead)
        z, labels = [], []
        with torch.no_grad():
            for index in torch.arange(len(split)).split(AT_ONCE):
                x, c = split.batch(index, next(model.parameters()).device)
                z.append(model.encode(x).cpu())
                labels.append(index[:0] if c is None else c.cpu())
        found = {"z": torch.cat(z).numpy()}
        return found | {"c": torch.cat(labels).numpy()} if any(map(len, labels)) else found

    def neighbours(self, model: Any, name: str, n: int, *, known: bool = False) -> Any:
        """The n that are nearest to a named one, for `save` and `told`.

        Arguments:
            known: also those that the training data links to it
        """
        raise UsageError(f"neighbours of {name!r}", f"{self.examples} have no names", "give a run on a graph")

    def told(self, samples: Any) -> list[str] | None:
        """Samples as lines to print, where they are such."""
        return None

    def preview(self, model: Any, stem: Path) -> None:
        """Write what a person wants to see of a model while it trains, at `stem` with a suffix."""
        raise NotImplementedError

    def questions(self, metrics: Sequence[str]) -> tuple[Question, ...]:
        """One or two, given the metrics that there are."""
        raise NotImplementedError

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of all questions that may be asked of some model: with every metric there is, or with none."""
        every = (*self.questions(tuple(self.metrics)), *self.questions(()))
        return tuple(dict.fromkeys(question.name for question in every))

    def reference(self, data: Data, split: str, n: int) -> Any:
        """The real side of a judgement; has `split` and `n`. Further keyword arguments are flags of the command line."""
        raise NotImplementedError

    def ready(self, **flags: Any) -> dict[str, Any]:
        """The flags of `reference`, checked before anything is trained, and what they name made ready."""
        return flags

    def looked_with(self, against: Any) -> dict[str, Any]:
        """Name, fingerprint and accuracy of a network that a reference looks with; numbers of another do not compare."""
        return {"features": "", "features_fingerprint": "", "features_accuracy": None}

    def evaluate(self, model: Any, data: Data, against: Any) -> list[Row]:
        """What can be said of a model against a reference."""
        raise NotImplementedError

    def row(self, name: str, value: float, floor: float | None, ceiling: float | None, n: int, note: str = "") -> Row:
        """A row of one of this modality's metrics."""
        from amalgan.metrics.rows import Row

        meaning = self.metrics[name]
        return Row(name, value, meaning.unit, meaning.better, floor, ceiling, n, note=note)

    def judging_seconds(self, data: Data) -> float:
        """A first guess of what `reference` takes."""
        return 1.0

    def exhibits(self, model: Any, against: Any, seed: int = 0) -> dict[str, Tensor]:
        """What is kept of a judged model for `sections`."""
        return {}

    def sections(self, page: Page) -> list[tuple[str, str, str]]:
        """Key, title and HTML of what a person wants to see in a report."""
        return []


@dataclass(frozen=True)
class Page:
    """What the sections of a report are made from.

    Arguments:
        results: the content of results.json.
        shown: recipe -> exhibits of the run that is shown.
        seed: of the runs that are shown.
        level: 0 shows all, higher ones less and less, until the page is small enough.
    """

    results: dict[str, Any]
    shown: dict[str, dict[str, Tensor]]
    seed: int
    level: int
