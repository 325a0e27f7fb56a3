"""Vertices of a graph: read as edges, judged by telling held-out edges from other pairs, and by what has leaked."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from amalgan.errors import UsageError
from amalgan.modalities.core import Meaning, Modality, Page, Question

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from amalgan.data import Data, Spec
    from amalgan.data.core import Split
    from amalgan.metrics.rows import Row

NonEdges = Literal["uniform", "sharing"]
PREVIEWED = 40  # links written while training
DRAWN, LIKELIEST = 4, 5  # vertices of a report, and how many likeliest links of each
WALKS, AT_ONCE = 20_000, 2_000  # by which leakage is told, in so large batches
VISITS = 200_000_000  # vertices of trees that a judgement may grow: on large graphs it looks from fewer roots
COLUMNS = ("vertex", "neighbour", "probability", "known")

METRICS = {
    "accuracy": Meaning(
        "share", "higher", "Held-out edges and other pairs told right, the higher scores being called edges."
    ),
    "auc": Meaning("share", "higher", "How often a held-out edge scores higher than another pair."),
    "average_precision": Meaning("share", "higher", "Precision over all thresholds, weighted by the gain in recall."),
    "accuracy_product": Meaning("share", "higher", "Accuracy by the product of two vectors, as published, not the cosine."),
    "auc_product": Meaning("share", "higher", "ROC AUC by the product."),
    "accuracy_discriminator": Meaning("share", "higher", "Accuracy of the discriminator's vectors."),
    "auc_discriminator": Meaning("share", "higher", "ROC AUC of the discriminator's vectors."),
    "nll": Meaning("nats per edge", "lower", "How unlikely the model finds it to go from one end to the other."),
    "leakage": Meaning(
        "share", "lower", "Of the generator's walks, those that end at a held-out edge: where walks are the negatives, "
        "the discriminator is taught that it is none.",
    ),
    "leakage_new": Meaning("share", "lower", "The same among the walks that do not end at a training edge."),
}  # fmt: skip
Link = tuple[str, str, str, str]  # COLUMNS
Found = tuple[str, float, float | None, float, int, str]  # metric, value, floor, ceiling, n, note
LINKING = ("accuracy", "auc", "average_precision")


@dataclass(frozen=True)
class Reference:
    """The real side: held-out edges (c = 1) with other pairs (c = 0), and what needs no learning.

    Arguments:
        pairs, labels: (n, 2) and (n,) that are judged.
        held_out: (H, 2) edges that are kept from training: all, or where settings are chosen those of validation.
        heuristics: metric -> name -> value of scores that need no learning.
    """

    split: str
    n: int
    pairs: Any
    labels: Any
    held_out: Any
    heuristics: dict[str, dict[str, float]]


class Edges(Modality):
    """Edges of one graph; see `amalgan.data.graphs` and `amalgan.metrics.graphs`."""

    names = ("edges",)
    examples = "edges"
    suffix = ".tsv"
    bundled = "karate"
    also_judged = ("--test-edges",)
    source = (
        "an edge list (.txt, .tsv, .csv): two names a line; GraphML; pairs or a sparse matrix in .npz; a folder with "
        "*_train.txt, *_test.txt and *_test_neg.txt; karate, a club of 34 members"
    )
    metrics = METRICS
    labels: ClassVar[dict[str, str]] = {
        "accuracy": "link accuracy",
        "auc": "ROC AUC",
        "average_precision": "average precision",
        "accuracy_product": "link accuracy by product",
        "auc_product": "ROC AUC by product",
        "accuracy_discriminator": "link accuracy of the discriminator",
        "auc_discriminator": "ROC AUC of the discriminator",
        "nll": "surprise at held-out edges",
        "leakage": "walks to held-out edges",
        "leakage_new": "new walks to held-out edges",
    }
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Held-out edges": LINKING,
        "By other scores": ("accuracy_product", "auc_product", "accuracy_discriminator", "auc_discriminator", "nll"),
        "Leakage": ("leakage", "leakage_new"),
    }
    charts = ("accuracy", "auc", "accuracy_product", "leakage_new")
    in_terminal = ("accuracy", "auc", "average_precision", "accuracy_product", "accuracy_discriminator", "leakage_new")
    unranked = frozenset(("leakage", "leakage_new"))
    rules = (
        "Linking is judged by three readings of the cosine of two vertices' vectors: link accuracy, ROC AUC and average "
        "precision.",
        "The ceiling is the best of common neighbours, Adamic-Adar and Katz on the training edges, which need no "
        "learning; the floor is to know every edge. Of leakage, the ceiling is what walks by the graph alone reach, and "
        "the floor what uniformly drawn pairs hit.",
    )

    def open(
        self, source: Any, *, non_edges: NonEdges = "uniform", whole: bool = False, strict: bool = False, **options: Any
    ) -> Data:
        """See `amalgan.data.graphs.open`.

        Arguments:
            non_edges: pairs that held-out edges are told from, unless they come with them: drawn uniformly, or each
                sharing a vertex with one
            whole: train on the validation edges too, once the settings are chosen
            strict: stop at the first line that is no edge instead of leaving it out
        """
        from amalgan.data import graphs

        return graphs.open(source, non_edges=non_edges, whole=whole, strict=strict, **options)

    def reopen(self, source: Any, spec: Spec, **flags: Any) -> Data:
        """All edges between known vertices that the model was not trained on, as its test set."""
        return self.open(source, spec=spec, **flags)

    def sample(self, model: Any, n: int, seed: int) -> list[Link]:
        """n links as (vertex, neighbour, probability of the second given the first, known or new)."""
        import torch

        pairs = model.sample(n, seed)
        with torch.no_grad():
            return links(model, pairs, model.log_conditional(pairs).exp())

    def neighbours(self, model: Any, name: str, n: int, *, known: bool = False) -> list[Link]:
        """The n likeliest links of a vertex, the likeliest first; only new ones unless `known`."""
        import torch

        names, graph = model.spec.details["vertices"], model.trees.graph
        if name not in names:
            close = difflib.get_close_matches(name, names, 3)
            instead = f"did you mean {' or '.join(close)}" if close else "write a name that stands in the edges"
            raise UsageError(f"neighbours of {name!r}", "no such vertex", instead)
        root = names.index(name)
        others, chances = model.likeliest(root, n, new=not known)
        if not len(others):
            found = "no edge to walk along" if not graph.degree[root] else "no walk leads to a vertex it does not know"
            raise UsageError(f"neighbours of {name!r}", found, "name another vertex, or write --known")
        return links(model, torch.stack([torch.full_like(others, root), others], 1), chances)

    def embed(self, model: Any, split: Split) -> dict[str, np.ndarray]:
        """The vectors (N, d) of all vertices, and their names."""
        import numpy as np

        vectors = model.judge.vectors.weight.detach().cpu().numpy()
        return {"vertex": np.array(model.spec.details["vertices"]), "z": vectors}

    def save(self, samples: Sequence[Sequence[str]], path: Path, columns: int | None = None, prefix: str = "") -> None:
        """A table with a link a line, of tabs, or of commas where the name ends in .csv."""
        from amalgan import files

        held = io.StringIO()
        writer = csv.writer(held, delimiter="," if path.suffix == ".csv" else "\t", lineterminator="\n")
        writer.writerows([COLUMNS, *samples])
        files.write_bytes(path, held.getvalue().encode())

    def told(self, samples: Sequence[Sequence[str]]) -> list[str]:
        """The table."""
        return ["\t".join(row) for row in (COLUMNS, *samples)]

    def preview(self, model: Any, stem: Path) -> None:
        """A few links from fixed numbers."""
        self.save(self.sample(model, PREVIEWED, 0), stem.with_suffix(".tsv"))

    def questions(self, metrics: Sequence[str]) -> tuple[Question, ...]:
        """One: linking."""
        trivial = "The best of common neighbours, Adamic-Adar and Katz, without any learning,"
        told = ("accuracy_product", "accuracy_discriminator", "leakage_new")
        return (Question("linking", "links vertices", "link vertices", LINKING, told, trivial),)

    def reference(self, data: Data, split: str, n: int) -> Reference:
        """Held-out edges and other pairs, n of each at most, and what scores that need no learning make of them."""
        import torch

        from amalgan.metrics import graphs as judge
        from amalgan.networks.graphs import graph_of

        held = data.held_out(split)
        if not len(held):
            raise UsageError(
                f"judging on the {split} edges", "there are none", "leave --whole out, or write --split test"
            )
        x, c = held.batch(torch.arange(len(held)))
        edges, others = (x[c == label][:n] for label in (1, 0))
        pairs = torch.cat([edges, others])
        labels = torch.cat([torch.ones(len(edges)), torch.zeros(len(others))]).long()
        graph = graph_of(data.spec)
        made = {name: scores(score(graph, pairs), labels) for name, score in judge.HEURISTICS.items()}
        heuristics = {metric: {name: found[metric] for name, found in made.items()} for metric in LINKING}
        # settings that are chosen on validation edges know nothing of test edges
        parts = (data.validation, data.test) if split == "test" else (held,)
        kept = [part.batch(torch.arange(len(part))) for part in parts]
        held_out = torch.cat([x[c == 1] for x, c in kept])
        return Reference(split, len(edges), pairs, labels, held_out, heuristics)

    def evaluate(self, model: Any, data: Data, against: Reference) -> list[Row]:
        """Link prediction by each network's scores, surprise at held-out edges, and leakage."""
        import torch

        if data.spec.details["vertices"] != model.spec.details["vertices"]:
            raise UsageError(
                "judging a model of a graph", "edges of another graph", "give --data with its own vertices"
            )
        with torch.no_grad():
            values = scores(model.judge.cosine(against.pairs), against.labels)
            values |= {f"{k}_product": v for k, v in scores(model.judge(against.pairs)[0], against.labels).items()}
            if model.generator is not None:
                other = scores(model.discriminator.cosine(against.pairs), against.labels)
                values |= {f"{k}_discriminator": v for k, v in other.items()}
        rows: list[Found] = []
        for name in METRICS:
            if name in values:
                metric = next(metric for metric in LINKING if name.startswith(metric))
                others = against.heuristics[metric]
                note = ", ".join(f"{which} {value:.3f}" for which, value in others.items()) if name == metric else ""
                rows.append((name, values[name], 1.0, max(others.values()), against.n, note))
        rows += self._surprise(model, against)
        rows += self._leakage(model, data, against)
        return [self.row(*found) for found in rows]

    def _surprise(self, model: Any, against: Reference) -> list[Found]:
        import math

        import torch

        from amalgan.noise import generator

        edges = against.pairs[against.labels == 1]
        both = torch.cat([edges, edges.flip(1)])
        both = both[torch.randperm(len(both), generator=generator("surprise"))[: roots(model)]]
        both = both[model.reaches(both)]
        if not len(both):
            return []
        with torch.no_grad():
            logs = torch.cat([model.log_conditional(part) for part in both.split(AT_ONCE)])
        note = f"from {len(both):,} ends of edges within reach of a walk"
        return [("nll", -float(logs.double().mean()), None, math.log(model.vertices - 1), len(both), note)]

    def _leakage(self, model: Any, data: Data, against: Reference) -> list[Found]:
        from amalgan.models.graphs import GraphModel
        from amalgan.networks.graphs import Embedding

        if model.generator is None:
            return []
        vertices = model.vertices
        unlearned = GraphModel(model.spec, Embedding(vertices, 1), Embedding(vertices, 1, scale=0.0))
        (all_, new), (walked, strange) = (leakage(m, data.train, against.held_out) for m in (model, unlearned))
        chance = len(against.held_out) / (vertices * (vertices - 1) / 2)
        return [
            ("leakage", all_, chance, walked, roots(model), "walks as in training"),
            ("leakage_new", new, chance, strange, roots(model), "walks as in training"),
        ]

    def judging_seconds(self, data: Data) -> float:
        """Walks of up to four steps from every held-out edge."""
        return 2.0

    def exhibits(self, model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
        """What is drawn around a few vertices, and what needs no learning, as JSON in UTF-8."""
        import torch

        from amalgan.modalities.neighbourhoods import around, chosen

        drawn = [around(model, root, against.held_out, LIKELIEST) for root in chosen(model, against.held_out, DRAWN)]
        content = {"around": drawn, "heuristics": against.heuristics}
        return {"graph": torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)}

    def sections(self, page: Page) -> list[tuple[str, str, str]]:
        """What needs no learning beside each recipe, in words and as a table, and the drawn neighbourhoods."""
        from amalgan.drawing import colour_of, figure
        from amalgan.modalities.neighbourhoods import beside, picture

        able = {name: json.loads(bytes(kept["graph"].tolist())) for name, kept in page.shown.items() if kept}
        if not able:
            return []
        found = [
            (
                "baselines",
                "Without learning",
                beside(page.results, next(iter(able.values()))["heuristics"], self.labels),
            )
        ]
        shown = max(1, DRAWN >> page.level)
        figures = [
            figure(name, colour_of(page.results, name), picture(one, colour_of(page.results, name)), one["name"])
            for number in range(shown)
            for name, kept in able.items()
            for one in kept["around"][number : number + 1]
        ]
        lead = (
            '<p class="lead">Breadth-first trees of the training edges around vertices that have held-out '
            f"edges. Coloured: the {LIKELIEST} likeliest new links of each model of seed {page.seed}; a dashed ring marks "
            "a held-out edge, so a filled dot in a ring is a link that was found.</p>"
        )
        return [*found, ("samples", "Neighbourhoods", f'{lead}<div class="figures broad">{"".join(figures)}</div>')]


def links(model: Any, pairs: Tensor, chances: Tensor) -> list[Link]:
    """Pairs (n, 2) with their chances (n,) in words."""
    names, graph = model.spec.details["vertices"], model.trees.graph
    return [
        (names[one], names[other], f"{chance:.4g}", "known" if (one, other) in graph else "new")
        for (one, other), chance in zip(pairs.tolist(), chances.tolist())
    ]


def scores(found: Tensor, labels: Tensor) -> dict[str, float]:
    """The three readings of scores (n,)."""
    from amalgan.metrics import graphs as judge

    return {
        "accuracy": judge.accuracy(found, labels),
        "auc": judge.auc(found, labels),
        "average_precision": judge.average_precision(found, labels),
    }


def roots(model: Any) -> int:
    """From how many vertices a judgement walks."""
    return max(500, min(WALKS, VISITS // int(model.vertices)))


def leakage(model: Any, train: Any, held_out: Tensor) -> tuple[float, float]:
    """The share of walks from training edges that end at a held-out edge: of all walks, and of those at no training edge."""
    import torch

    from amalgan.noise import Noise

    index = torch.arange(roots(model)) % len(train)
    walked = torch.cat(
        [model.draw(train.batch(part)[0], None, Noise(0, number)).fake for number, part in enumerate(index.split(AT_ONCE))]
    )  # fmt: skip
    keys = [pairs.amin(1) * model.vertices + pairs.amax(1) for pairs in (walked, held_out, train.tensor())]
    leaked, new = torch.isin(keys[0], keys[1]), ~torch.isin(keys[0], keys[2])
    return float(leaked.double().mean()), float(leaked.sum() / new.sum().clamp(min=1))
