"""Trees, vectors and softmax within groups, each against a plain way to the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_networks import check

from amalgan.networks.graphs import Embedding, Graph, log_softmax_within, netmf, pick_within


def random_graph(seed: int, vertices: int = 12, edges: int = 14) -> Graph:
    source = np.random.default_rng(seed)
    pairs = np.sort(source.integers(0, vertices, (3 * edges, 2)), axis=1)
    pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    return Graph(vertices, source.permutation(pairs)[:edges])


def test_a_pair_sees_no_other_and_its_logit_is_the_sum_of_its_features() -> None:
    torch.manual_seed(0)
    network, pairs = Embedding(7, 5), torch.tensor([[0, 1], [5, 2], [6, 6]])
    check(network, pairs, [(), (5,)])
    logits, features = network(pairs)
    a, b = network.vectors.weight[pairs[:, 0]], network.vectors.weight[pairs[:, 1]]
    assert torch.allclose(logits, (a * b).sum(1)) and torch.equal(features.sum(1), logits)
    assert torch.allclose(network.cosine(pairs), torch.cosine_similarity(a, b), atol=1e-6)
    network.vectors.weight.data[6] = 0
    assert network.cosine(pairs)[2] == 0


@pytest.mark.parametrize("seed", range(6))
def test_trees_are_breadth_first_and_a_father_is_the_first_that_is_nearer(seed: int) -> None:
    networkx = pytest.importorskip("networkx")
    graph = random_graph(seed, 30, 25 + 5 * seed)  # some of them in several parts, with isolated vertices
    other = networkx.Graph(graph.edges.tolist())
    other.add_nodes_from(range(30))
    for part in networkx.connected_components(other):
        assert set(graph.components[list(part)].tolist()) == {min(part)}
    fathers = graph.all_fathers
    assert fathers.dtype == np.int16 and fathers.shape == (30, 30)
    for root in range(30):
        far = networkx.single_source_shortest_path_length(other, root)
        for v in range(30):
            nearer = [u for u in graph.neighbours(v).tolist() if v in far and far[u] < far[v]]
            assert fathers[root, v] == (root if v == root else min(nearer) if v in far else -1)
        distances = graph.distances(np.array([root]))[:, 0]
        assert {v: int(distances[v]) for v in far} == far


def test_a_long_path_and_more_roots_than_a_block() -> None:
    count = 700
    graph = Graph(count, np.stack([np.arange(count - 1), np.arange(1, count)], 1))
    fathers = graph.all_fathers
    at, root = np.arange(count), np.arange(count)[:, None]
    assert (fathers == np.where(at < root, at + 1, np.where(at > root, at - 1, at))).all()


def test_integers_are_as_narrow_as_they_can_be() -> None:
    none = np.empty((0, 2), np.int64)
    assert [Graph(n, none).integers for n in (5, 32_767, 32_768)] == [np.int16, np.int16, np.int32]
    count = 40_000  # a binary tree, so that a father is known: beyond 16 bits
    graph = Graph(count, np.stack([np.arange(1, count), (np.arange(1, count) - 1) // 2], 1))
    (fathers,) = graph.fathers(np.array([0]))
    assert fathers.dtype == np.int32 and (fathers[1:] == (np.arange(1, count) - 1) // 2).all() and fathers[0] == 0


def test_a_graph_without_edges() -> None:
    graph = Graph(3, np.empty((0, 2), np.int64))
    assert graph.all_fathers.tolist() == [[0, -1, -1], [-1, 1, -1], [-1, -1, 2]]
    assert (0, 1) not in graph and torch.equal(netmf(graph, 2), torch.zeros(3, 2))


def test_netmf_factorises_the_matrix_of_deepwalk() -> None:
    """Against the dense equation 12 of Qiu et al. and numpy's singular values, up to signs: by the product E E'."""
    graph, window, width = random_graph(1, 40, 90), 4, 6
    a = np.zeros((40, 40))
    a[graph.edges[:, 0], graph.edges[:, 1]] = a[graph.edges[:, 1], graph.edges[:, 0]] = 1
    degree = a.sum(1)
    p = a / np.maximum(degree, 1)[:, None]
    total = sum(np.linalg.matrix_power(p, r) for r in range(1, window + 1))
    m = np.log(np.maximum(1, a.sum() / window * total / np.maximum(degree, 1)[None]))
    u, s, _ = np.linalg.svd(m)
    expected = (u[:, :width] * s[:width]) @ u[:, :width].T
    found = netmf(graph, width, window, 200).numpy()
    assert np.abs(found @ found.T - expected).max() < 1e-3
    assert not found[degree == 0].any() and netmf(graph, width, window, 200) is netmf(graph, width, window, 200)


def test_more_dimensions_than_vertices_stay_empty() -> None:
    found = netmf(random_graph(2, 8, 12), 20)
    assert found.shape == (8, 20) and not found[:, 8:].any() and torch.isfinite(found).all()


def test_softmax_within_groups_is_softmax_of_each() -> None:
    torch.manual_seed(0)
    scores, group = torch.randn(9, requires_grad=True), torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    found = log_softmax_within(100 * scores, group, 3)
    expected = torch.cat([torch.log_softmax(100 * scores[group == g], 0) for g in range(3)])
    assert torch.allclose(found, expected, atol=1e-4)
    (ours,) = torch.autograd.grad(found[1] + found[5], scores, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected[1] + expected[5], scores)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_picks_follow_the_softmax_of_their_group() -> None:
    scores, group = torch.tensor([0.0, 1.0, 2.0, 5.0, -1.0, -1.0]), torch.tensor([0, 0, 0, 1, 2, 2])
    uniform = (torch.arange(1000).double() + 0.5) / 1000
    picked = torch.stack([pick_within(scores, group, u.expand(3)) for u in uniform])
    shares = [torch.bincount(column, minlength=6)[group == g] / 1000 for g, column in enumerate(picked.T)]
    for g, share in enumerate(shares):
        assert torch.allclose(share, torch.softmax(scores[group == g], 0), atol=2e-3)
    for edge in (0.0, 1 - 1e-16):
        ends = pick_within(scores, group, torch.full((3,), edge, dtype=torch.float64))
        assert torch.equal(group[ends], torch.arange(3))
