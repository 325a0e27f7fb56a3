"""Lines of text: read, written, judged by likelihood, by n-grams shared with real lines, by variety and by copying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from amalgan.errors import UsageError
from amalgan.modalities.core import Meaning, Modality, Page, Question

if TYPE_CHECKING:
    from torch import Tensor

    from amalgan.data import Data, Spec
    from amalgan.metrics.rows import Row

Units = Literal["auto", "characters", "words"]
ORDERS = (2, 3, 4)
SHOWN = 40  # lines kept for a report, and written while training
JUDGED = 1000  # lines whose self-BLEU is computed, against all the others

METRICS = {
    "nll_oracle": Meaning(
        "nats per token", "lower", "How unlikely the samples are in the language that made the data."
    ),
    "nll_gen": Meaning("nats per token", "lower", "How surprised the model is by held-out lines."),
    **{
        f"bleu_{n}": Meaning(
            "share", "higher", f"Overlap of the samples' {n}-grams and shorter ones with held-out lines."
        )
        for n in ORDERS
    },
    **{
        f"self_bleu_{n}": Meaning(
            "share", "lower", f"Overlap of the samples' {n}-grams with each other: 1 if all are alike."
        )
        for n in ORDERS
    },
    "distinct_1": Meaning("share", "higher", "Share of the samples' tokens that are different ones."),
    "distinct_2": Meaning("share", "higher", "Share of the samples' pairs of tokens that are different ones."),
    "uniqueness": Meaning("share", "higher", "Share of the samples that are different lines."),
    "label_accuracy": Meaning(
        "share", "higher", "Samples in which a classifier of real lines sees the label that was asked for."
    ),
    "memorisation": Meaning(
        "share", "lower", "Share of the samples that are lines of the training set, word for word."
    ),
}


@dataclass(frozen=True)
class Reference:
    """The real side: held-out lines, what is known of their language, anchors, and where lines have labels, (n,), a
    classifier of training lines."""

    split: str
    n: int
    temperature: float
    held_out: Any
    lines: list[list[int]]
    train: list[list[int]]
    references: Any
    floor: dict[str, float] = field(default_factory=dict)
    ceiling: dict[str, float] = field(default_factory=dict)
    labels: Tensor | None = None
    classifier: Any = None


class Text(Modality):
    """Sequences of words or characters; see `amalgan.data.text` and `amalgan.metrics.text`."""

    names = ("text",)
    examples = "lines"
    suffix = ".txt"
    bundled = "oracle"
    source = (
        "a UTF-8 text file with one sequence a line (.txt, .txt.gz); a folder of such, each a label; a table (.csv, .tsv) "
        "with --label; oracle, a language whose probabilities are known"
    )
    metrics = METRICS
    labels: ClassVar[dict[str, str]] = {
        "nll_oracle": "surprise of the oracle",
        "nll_gen": "surprise of the model",
        **{f"bleu_{n}": f"BLEU-{n}" for n in ORDERS},
        **{f"self_bleu_{n}": f"self-BLEU-{n}" for n in ORDERS},
        "distinct_1": "distinct tokens",
        "distinct_2": "distinct pairs",
        "label_accuracy": "of the label that was asked for",
    }
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Likelihood": ("nll_gen", "nll_oracle"),
        "Lines": (*(f"bleu_{n}" for n in ORDERS), "label_accuracy"),
        "Variety and copying": (
            *(f"self_bleu_{n}" for n in ORDERS), "distinct_1", "distinct_2", "uniqueness", "memorisation"
        ),
    }  # fmt: skip
    charts = ("nll_gen", "nll_oracle", "bleu_4", "self_bleu_4")
    in_terminal = (
        "nll_gen",
        "nll_oracle",
        "bleu_2",
        "bleu_4",
        "self_bleu_2",
        "self_bleu_4",
        "distinct_2",
        "memorisation",
        "label_accuracy",
    )
    unranked = frozenset(("memorisation", "uniqueness"))
    rules = (
        "Modelling is judged by the model's surprise at held-out lines. Writing is judged by BLEU-4 and self-BLEU-4 "
        "together: overlap with real lines without variety, or variety without overlap, is easily had. Where the language "
        "is known, writing is judged by its surprise at the samples and the model's at held-out lines: the pair.",
        "The floor is what training lines score in the place of samples, or the language itself; the ceiling what needs "
        "no model: tokens drawn one by one at their frequencies.",
    )

    def open(
        self,
        source: Any,
        *,
        units: Units = "auto",
        length: int | None = None,
        vocabulary: int = 5000,
        label: str | None = None,
        column: str | None = None,
        strict: bool = False,
        limit: int | None = None,
        **options: Any,
    ) -> Data:
        """See `amalgan.data.text.open`.

        Arguments:
            units: what a token is; auto: words where most lines have several, else characters
            length: tokens of a line at most, longer ones are cut into pieces (from the data)
            vocabulary: units kept at most, the most frequent ones
            label: of a table (.csv, .tsv): its column of labels, which a model is told
            column: of a table: its column of text (of two the one beside the labels)
            strict: stop at the first line that is not UTF-8 instead of leaving it out
            limit: use at most so many lines in each part
        """
        from amalgan.data import text

        options |= {"label": label, "column": column, "strict": strict, "limit": limit}
        return text.open(source, units=units, length=length, vocabulary=vocabulary, **options)

    def reopen(self, source: Any, spec: Spec, **flags: Any) -> Data:
        """With the units, the vocabulary, the length and the labels of `spec`."""
        return self.open(source, spec=spec, **flags)

    def sample(
        self, model: Any, n: int, seed: int, *, prompt: str = "", temperature: float = 1.0, label: str | None = None
    ) -> list[str]:
        """n lines.

        Arguments:
            prompt: what every line begins with
            temperature: below 1 better lines and fewer different ones, > 0
            label: of all of them; each: the labels in turn; none: without one (as frequent as in the data)
        """
        from amalgan.data.text import tell

        _checked(temperature)
        prefix = self._prefix(prompt, model.spec) if prompt else None
        if label is not None and not hasattr(model, "asked"):
            raise UsageError(f"lines labelled {label}", "a model that knows no labels", "train it on labelled lines")
        told = {} if label is None else {"c": model.asked(label, n, seed)}
        return tell(model.sample(n, seed, prefix, temperature, **told).cpu(), model.spec)

    def _prefix(self, prompt: str, spec: Spec) -> Tensor:
        import torch

        from amalgan.data.text import UNKNOWN, tokens_of

        (tokens,) = tokens_of([prompt], spec)
        if UNKNOWN in tokens or not tokens:
            raise UsageError(f"lines that begin with {prompt!r}", "units that the vocabulary lacks", "write others")
        if len(tokens) >= spec.shape[0]:
            raise UsageError(f"a prompt of {len(tokens)} tokens", f"lines have {spec.shape[0]}", "write a shorter one")
        return torch.tensor(tokens)

    def save(self, samples: Sequence[str], path: Path, columns: int | None = None, prefix: str = "") -> None:
        """A text file with one sample a line."""
        from amalgan import files

        files.write_bytes(path, "".join(line + "\n" for line in samples).encode())

    def told(self, samples: Sequence[str]) -> list[str]:
        """The lines."""
        return list(samples)

    def preview(self, model: Any, stem: Path) -> None:
        """A few lines from fixed numbers."""
        self.save(self.sample(model, SHOWN, 0), stem.with_suffix(".txt"))

    def questions(self, metrics: Sequence[str]) -> tuple[Question, ...]:
        """Modelling and writing; one question where the language is known."""
        if "nll_oracle" in metrics:
            return (Question("writing", "writes", "write", ("nll_oracle", "nll_gen"), ("self_bleu_4", "uniqueness")),)
        unable = "no likelihood"
        return (
            Question("modelling", "models text", "model text", ("nll_gen",), (), "", unable),
            Question("writing", "writes", "write", ("bleu_4", "self_bleu_4"), ("distinct_2", "memorisation")),
        )

    def reference(self, data: Data, split: str, n: int, *, temperature: float = 1.0) -> Reference:
        """Held-out lines, and what training lines and random tokens score in the place of samples.

        Arguments:
            temperature: at which samples are judged: below 1 better lines and fewer different ones, > 0
        """
        import torch

        from amalgan.metrics import text as judge
        from amalgan.noise import generator

        _checked(temperature)
        held_out, labels = data.held_out(split).batch(torch.arange(len(data.held_out(split))))
        train, c = data.train.batch(torch.arange(len(data.train)))
        ends = data.spec.details["ends"]
        lines, training = plain(held_out, ends), plain(train, ends)
        n = min(n, len(lines), len(training))
        references = judge.References(lines, max(ORDERS))
        found = Reference(split, n, temperature, held_out[:n], lines, training, references)
        counts = torch.bincount(train.flatten(), minlength=len(data.spec.details["symbols"])).float()
        random = torch.multinomial(counts, n * held_out.shape[1], replacement=True, generator=generator("unigrams"))
        trivial = random.view(n, -1)
        floor = scores(plain(train[:n], ends), found) | {"memorisation": 0.0}
        ceiling = scores(plain(trivial, ends), found) | {"memorisation": 1.0, "uniqueness": 0.0}
        log_p = torch.log(counts + 1) - torch.log((counts + 1).sum())
        told = sum(len(line) + ends for line in lines)
        ceiling["nll_gen"] = -float(sum(log_p[line].sum() + ends * log_p[0] for line in lines)) / told
        if data.known is not None:
            floor["nll_oracle"] = float(data.known.nll(held_out).mean()) / held_out.shape[1]
            ceiling["nll_oracle"] = float(data.known.nll(trivial).mean()) / held_out.shape[1]
            floor["nll_gen"] = floor["nll_oracle"]
        found = replace(found, held_out=held_out, floor=floor, ceiling=ceiling)
        if c is None or labels is None:
            return found
        known, classes = labels >= 0, len(data.spec.classes)
        classifier = judge.classifier(train[c >= 0], c[c >= 0], len(data.spec.details["symbols"]), classes)
        floor["label_accuracy"] = judge.accuracy(classifier, held_out[known], labels[known])
        ceiling["label_accuracy"] = float(torch.bincount(labels[known]).max() / known.sum())
        return replace(found, labels=labels, classifier=classifier)

    def evaluate(self, model: Any, data: Data, against: Reference) -> list[Row]:
        """Likelihood of held-out lines; n-grams, variety and copies of n samples."""
        import torch

        from amalgan.metrics import text as judge
        from amalgan.metrics.reconstruction import batches

        ends = data.spec.details["ends"]
        training = model.training
        model.eval()
        with torch.no_grad():
            labelled, held_out = hasattr(model, "asked"), against.held_out
            c = model.labels(against.n) if labelled else None
            tokens = model.sample(against.n, 0, None, against.temperature, **({"c": c} if labelled else {})).cpu()
            parts = batches(model, held_out, against.labels if labelled else None, 500)
            log_p = torch.cat([own.token_log_probs(part).sum(1).cpu() for own, part in parts])
            told = int(model.alive(held_out).sum())
        model.train(training)
        values = {"nll_gen": -float(log_p.sum()) / told, **scores(plain(tokens, ends), against)}
        if c is not None and against.classifier is not None:
            values["label_accuracy"] = judge.accuracy(against.classifier, tokens, c)
        if data.known is not None:
            values["nll_oracle"] = float(data.known.nll(tokens).mean()) / tokens.shape[1]
        note = "" if against.temperature == 1 else f"temperature {against.temperature:g}"
        return [
            self.row(
                name,
                values[name],
                against.floor.get(name),
                against.ceiling.get(name),
                len(held_out) if name == "nll_gen" else against.n,
                "" if name == "nll_gen" else note,
            )
            for name in METRICS
            if name in values
        ]

    def exhibits(self, model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
        """Real lines and samples, as UTF-8."""
        import torch

        from amalgan.data.text import tell

        def stored(lines: list[str]) -> Tensor:
            return torch.tensor(list("\n".join(lines).encode()) or [10], dtype=torch.uint8)

        real = tell(against.held_out[:SHOWN], model.spec)
        return {
            "real": stored(real),
            "samples": stored(self.sample(model, SHOWN, seed, temperature=against.temperature)),
        }

    def sections(self, page: Page) -> list[tuple[str, str, str]]:
        """Real lines, and those of each model, side by side."""
        from html import escape

        from amalgan.drawing import colour_of, figure

        def lines(held: Tensor) -> str:
            shown = bytes(held.tolist()).decode("utf-8", "replace").split("\n")[: max(5, SHOWN >> page.level)]
            return f"<ol class=lines>{''.join(f'<li>{escape(line)}</li>' for line in shown)}</ol>"

        able = {name: kept for name, kept in page.shown.items() if kept}
        if not able:
            return []
        figures = [figure("Real lines", "real", lines(next(iter(able.values()))["real"]))]
        figures += [figure(name, colour_of(page.results, name), lines(kept["samples"])) for name, kept in able.items()]
        lead = (
            f'<p class="lead">Not picked: the first lines of each model of seed {page.seed}, from the same numbers.</p>'
        )
        return [("samples", "Lines", f'{lead}<div class="figures broad">{"".join(figures)}</div>')]


def plain(tokens: Tensor, ends: bool) -> list[list[int]]:
    """Each row up to its end, the end left out."""
    rows: list[list[int]] = tokens.tolist()
    return [row[: row.index(0)] if ends and 0 in row else row for row in rows]


def scores(lines: list[list[int]], against: Reference) -> dict[str, float]:
    """The metrics of lines in the place of samples."""
    from amalgan.metrics import text as judge

    some, among = lines[:JUDGED], judge.References(lines, max(ORDERS))
    return {
        **{f"bleu_{n}": judge.mean_bleu(some, against.references, n) for n in ORDERS},
        **{f"self_bleu_{n}": judge.self_bleu(some, among, n) for n in ORDERS},
        "distinct_1": judge.distinct(lines, 1),
        "distinct_2": judge.distinct(lines, 2),
        "uniqueness": judge.unique(lines),
        "memorisation": judge.share_in(lines, against.train),
    }


def _checked(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise UsageError("sampling", f"--temperature {temperature}", "write --temperature 0.7, or any other above 0")
