"""How well scores tell edges from other pairs, and scores that need no learning.

    accuracy            the higher half is said to be edges: the median rule (Wang et al. 2018)
    auc                 P(a random edge scores higher than a random pair that is none), ties count half
    average_precision   sum over thresholds of (gain in recall) x precision

    common_neighbours(u, v)   |N(u) and N(v)|
    adamic_adar(u, v)         sum over common neighbours w of 1 / log |N(w)|          (Adamic and Adar 2003)
    katz(u, v)                sum_{l <= 4} beta^l (A^l)_uv: walks of up to four steps       (Katz 1953)

Scores are (n,), labels (n,) 1 for an edge, pairs (n, 2).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from amalgan.networks.graphs import Graph


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The share of pairs told right if the highest scores are said to be edges, as many as there are.

    Where the last of them are tied, the expectation over all ways to choose among the tied.
    """
    edges = int(labels.sum())
    if edges in (0, len(labels)):
        return float("nan")
    last = scores.sort(descending=True).values[edges - 1]
    above, tied = scores > last, scores == last
    chosen = labels[above].sum() + (edges - above.sum()) * labels[tied].double().mean()
    # of the pairs that are none, as many are chosen wrongly as edges are missed
    return float(1 - 2 * (edges - chosen) / len(labels))


def auc(scores: Tensor, labels: Tensor) -> float:
    """Area under the curve of hits over false alarms, from mean ranks (Mann and Whitney 1947)."""
    edges = int(labels.sum())
    others = len(labels) - edges
    _, group, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0) - (counts - 1) / 2
    hits = ranks.double()[group][labels == 1].sum() - edges * (edges + 1) / 2
    return float(hits / (edges * others)) if edges and others else float("nan")


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Area under precision over recall, without interpolation; equal scores are one threshold."""
    _, group, counts = scores.unique(return_inverse=True, return_counts=True)
    hits = torch.zeros(len(counts), dtype=torch.float64).index_add(0, group, labels.double())
    hits, counts = hits.flip(0), counts.flip(0)
    precision = hits.cumsum(0) / counts.cumsum(0)
    return float((hits * precision).sum() / labels.sum()) if labels.sum() else float("nan")


def common_neighbours(graph: Graph, pairs: Tensor) -> Tensor:
    """How many neighbours two vertices share."""
    return _shared(graph, pairs, np.ones(graph.vertices))


def adamic_adar(graph: Graph, pairs: Tensor) -> Tensor:
    """The same, where a neighbour that has many counts less."""
    return _shared(graph, pairs, 1 / np.log(np.maximum(graph.degree, 2)))


def _shared(graph: Graph, pairs: Tensor, worth: np.ndarray) -> Tensor:
    rows = [(graph.neighbours(u), graph.neighbours(v)) for u, v in pairs.tolist()]
    return torch.tensor(
        [worth[np.intersect1d(a, b, assume_unique=True)].sum() for a, b in rows], dtype=torch.float64
    )  # fmt: skip


def katz(graph: Graph, pairs: Tensor, beta: float = 0.05, steps: int = 4) -> Tensor:
    """Walks of up to `steps` steps between two vertices, those of l steps counted beta^l times."""
    roots, which = pairs[:, 0].unique(return_inverse=True)
    adjacency, found = graph.sparse(), torch.zeros(len(pairs), dtype=torch.float64)
    for start in range(0, len(roots), graph.block):
        block = roots[start : start + graph.block]
        walks = torch.zeros(graph.vertices, len(block))
        walks[block, torch.arange(len(block))] = 1
        mine = ((which >= start) & (which < start + len(block))).nonzero()[:, 0]
        for step in range(1, steps + 1):
            walks = torch.sparse.mm(adjacency, walks)
            found[mine] += beta**step * walks[pairs[mine, 1], which[mine] - start].double()
    return found


HEURISTICS = {"common neighbours": common_neighbours, "Adamic-Adar": adamic_adar, "Katz": katz}
