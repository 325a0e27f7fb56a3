"""Readings of scores and scores without learning: by hand, against other libraries, and on the published division."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from amalgan.data import graphs
from amalgan.metrics import graphs as judge
from amalgan.networks.graphs import Embedding, Graph, graph_of, netmf

# 0 and 1 share 2 and 3; 4 hangs on 3; 5 is alone
SMALL = Graph(6, np.array([[0, 2], [0, 3], [1, 2], [1, 3], [3, 4]]))
PAIRS = torch.tensor([[0, 1], [0, 4], [2, 4], [0, 2], [5, 1]])


def test_common_neighbours_and_adamic_adar_by_hand() -> None:
    assert judge.common_neighbours(SMALL, PAIRS).tolist() == [2, 1, 0, 0, 0]
    two, three = 1 / np.log(2), 1 / np.log(3)
    assert judge.adamic_adar(SMALL, PAIRS).tolist() == pytest.approx([two + three, three, 0, 0, 0])


def test_adamic_adar_is_that_of_networkx() -> None:
    networkx = pytest.importorskip("networkx")
    graph = graph_of(graphs.open("karate").spec)
    pairs = torch.combinations(torch.arange(34))
    other = networkx.Graph(graph.edges.tolist())
    other.add_nodes_from(range(34))
    expected = [p for _, _, p in networkx.adamic_adar_index(other, [tuple(p) for p in pairs.tolist()])]
    assert judge.adamic_adar(graph, pairs).tolist() == pytest.approx(expected)


def test_katz_by_hand_and_by_powers_of_the_matrix() -> None:
    beta = 0.1
    # 0-2: one step; three steps: 0-2-0-2, 0-3-0-2, 0-2-1-2, 0-3-1-2; never two or four
    assert float(judge.katz(SMALL, PAIRS, beta)[3]) == pytest.approx(beta + 4 * beta**3)
    a = np.zeros((6, 6))
    a[SMALL.edges[:, 0], SMALL.edges[:, 1]] = a[SMALL.edges[:, 1], SMALL.edges[:, 0]] = 1
    expected = sum(beta**power * np.linalg.matrix_power(a, power) for power in range(1, 5))
    assert judge.katz(SMALL, PAIRS, beta).tolist() == pytest.approx([expected[u, v] for u, v in PAIRS.tolist()])


def test_accuracy_by_the_median_rule() -> None:
    labels = torch.tensor([1, 1, 1, 0, 0, 0])
    assert judge.accuracy(torch.tensor([6.0, 5, 4, 3, 2, 1]), labels) == 1
    assert judge.accuracy(torch.tensor([1.0, 2, 3, 4, 5, 6]), labels) == 0
    assert judge.accuracy(torch.tensor([6.0, 5, 2, 3, 4, 1]), labels) == pytest.approx(4 / 6)
    assert judge.accuracy(torch.zeros(6), labels) == 0.5
    # 3 is above; of the tied 1, 1, 0, 0 two are chosen: one edge of two is expected
    assert judge.accuracy(torch.tensor([3.0, 1, 1, 1, 1, 0]), labels) == pytest.approx(4 / 6)
    assert judge.accuracy(torch.tensor([3.0, 1, 2]), torch.tensor([1, 0, 0])) == 1  # fewer edges than other pairs


@pytest.mark.parametrize("seed", range(5))
def test_areas_are_those_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    source = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.ones(40), torch.zeros(60)]).long()
    scores = (torch.randn(100, generator=source) + labels).mul(2).round()  # with many ties
    assert judge.auc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert judge.average_precision(scores, labels) == pytest.approx(metrics.average_precision_score(labels, scores))


def test_without_either_kind_nothing_is_told() -> None:
    for reading in (judge.accuracy, judge.auc):
        assert np.isnan(reading(torch.rand(3), torch.ones(3).long()))
    assert np.isnan(judge.average_precision(torch.rand(3), torch.zeros(3).long()))


@pytest.mark.slow
def test_scores_without_learning_on_the_division_of_graphgan(real_data: Path) -> None:
    """As measured with other libraries on CA-GrQc, all 13,036 training edges: accuracy and ROC AUC."""
    data = graphs.open(real_data / "ca_grqc", whole=True)
    graph, pairs, labels = graph_of(data.spec), data.test.x, data.test.c
    vectors = Embedding(graph.vertices)
    vectors.vectors.weight.data = netmf(graph)
    with torch.no_grad():
        product, cosine = vectors(pairs)[0], vectors.cosine(pairs)
    found = {name: score(graph, pairs) for name, score in judge.HEURISTICS.items()}
    known = {"common neighbours": (0.862, 0.917), "Adamic-Adar": (0.859, 0.918), "Katz": (0.876, 0.924)}
    for name, scores, expected in [
        *((name, found[name], known[name]) for name in known),
        ("netmf product", product, (0.794, 0.885)),
        ("netmf cosine", cosine, (0.835, 0.907)),
    ]:
        assert judge.accuracy(scores, labels) == pytest.approx(expected[0], abs=0.004), name
        assert judge.auc(scores, labels) == pytest.approx(expected[1], abs=0.004), name
