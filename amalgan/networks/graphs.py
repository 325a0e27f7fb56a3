"""Vertices of a graph as vectors, and what is known of them without learning.

d(u, v) = e_u . e_v                                   how well two vertices go together
father of v in the tree of root c                     the first of v's neighbours that are one step nearer to c
log max(1, vol / (T) sum_{r <= T} P^r D^-1) = E E'    what DeepWalk factorises (Qiu et al. 2018, equation 12, b = 1)
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from amalgan.data import Spec
from amalgan.data.graphs import edges_of

BLOCK, CELLS = 256, 2**24  # roots, or columns, that are worked on at once, and numbers: 64 MB, whatever the graph


class Embedding(nn.Module):
    """Pairs of vertices (B, 2) -> logits (B,), high for an edge, and features (B, width), whose sum they are.

    Arguments:
        vertices: N.
        width: of a vertex's vector.
        scale: standard deviation of the initial vectors.
    """

    def __init__(self, vertices: int, width: int = 50, scale: float = 0.1) -> None:
        super().__init__()
        self.vectors = nn.Embedding(vertices, width)
        nn.init.normal_(self.vectors.weight, 0, scale)

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.vectors(pairs[:, 0]) * self.vectors(pairs[:, 1])
        return features.sum(1), features

    def cosine(self, pairs: Tensor) -> Tensor:
        """(B,) the logits over the lengths of both vectors; 0 where one has none."""
        lengths = self.vectors.weight.norm(dim=1).clamp(min=1e-12)
        return self(pairs)[0] / lengths[pairs].prod(1)


class Graph:
    """An undirected graph without loops, as rows of neighbours in order: those of v are `indices[indptr[v]:indptr[v+1]]`.

    Arguments:
        vertices: N.
        edges: (E, 2) int64, each edge once.
    """

    def __init__(self, vertices: int, edges: np.ndarray) -> None:
        both = np.concatenate([edges, edges[:, ::-1]])
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        self.vertices, self.edges, self.indices = vertices, edges, both[:, 1].copy()
        self.degree = np.bincount(both[:, 0], minlength=vertices)
        self.indptr = np.concatenate([[0], np.cumsum(self.degree)])

    def __contains__(self, pair: tuple[int, int]) -> bool:
        return bool((self.neighbours(pair[0]) == pair[1]).any())

    def neighbours(self, v: int) -> np.ndarray:
        """The neighbours of a vertex, in order."""
        return self.indices[self.indptr[v] : self.indptr[v + 1]]

    @property
    def integers(self) -> np.dtype:
        """The narrowest that can number the vertices: int16 up to 32,767 of them."""
        return np.dtype(np.int16 if self.vertices <= np.iinfo(np.int16).max else np.int32)

    def sparse(self, values: np.ndarray | None = None) -> Tensor:
        """(N, N) the adjacency matrix, or one with these values (2E,) in the order of `indices`; sparse float32."""
        rows = np.repeat(np.arange(self.vertices), self.degree)
        entries = np.ones(len(rows)) if values is None else values
        return _sparse(
            torch.from_numpy(np.stack([rows, self.indices])), torch.from_numpy(entries).float(), self.vertices
        )

    @property
    def block(self) -> int:
        """How many roots, or columns, are worked on at once."""
        return max(1, min(BLOCK, CELLS // self.vertices))

    def fathers(self, roots: np.ndarray) -> np.ndarray:
        """(R, N) the father of every vertex in the breadth-first trees of R roots; the root's is itself, -1 out of reach.

        All roots of a block go out together, a bit for each: a level is one "or" over the neighbours of every vertex.
        """
        blocks = [self._fathers(roots[i : i + self.block]) for i in range(0, len(roots), self.block)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.vertices), self.integers)

    def distances(self, roots: np.ndarray) -> np.ndarray:
        """(N, R) steps between every vertex and each root; 0 also out of reach."""
        linked = self.degree > 0
        starts, count = self.indptr[:-1][linked], len(roots)
        bits = np.zeros((self.vertices, -(-count // 64) * 8), np.uint8)
        at = np.arange(count)
        bits[roots, at // 8] |= (128 >> (at % 8)).astype(np.uint8)
        border = bits.view(np.uint64)
        seen, level = border.copy(), 0
        planes: list[np.ndarray] = []  # the binary digits of the distances
        while border.any():
            reached = np.zeros_like(border)
            reached[linked] = np.bitwise_or.reduceat(border[self.indices], starts, axis=0)
            border = reached & ~seen
            seen |= border
            level += 1
            planes += [np.zeros_like(border)] * (level.bit_length() > len(planes))
            planes = [plane | border if level >> digit & 1 else plane for digit, plane in enumerate(planes)]
        found = np.zeros((self.vertices, count), self.integers)
        for digit, plane in enumerate(planes):
            found |= np.unpackbits(plane.view(np.uint8), axis=1, count=count).astype(found.dtype) << digit
        return found

    def _fathers(self, roots: np.ndarray) -> np.ndarray:
        distances = self.distances(roots)
        found = np.full(distances.shape, -1, self.integers)
        by_degree = np.argsort(-self.degree, kind="stable")
        for k in range(
            self.degree.max(initial=0) - 1, -1, -1
        ):  # each vertex's last neighbour first, so the first stays
            rows = by_degree[: (self.degree > k).sum()]
            neighbour = self.indices[self.indptr[rows] + k]
            nearer = distances[neighbour] < distances[rows]
            found[rows] = np.where(nearer, neighbour[:, None].astype(found.dtype), found[rows])
        found[roots, np.arange(len(roots))] = roots
        return np.ascontiguousarray(found.T)

    @cached_property
    def components(self) -> np.ndarray:
        """(N,) the smallest vertex that a path leads to, from each."""
        found, linked = np.arange(self.vertices), self.degree > 0
        while True:
            lower = found.copy()
            lower[linked] = np.minimum(
                found[linked], np.minimum.reduceat(found[self.indices], self.indptr[:-1][linked])
            )
            lower = lower[lower]
            if (lower == found).all():
                return found
            found = lower

    @cached_property
    def all_fathers(self) -> np.ndarray:
        """(N, N) the trees of all roots."""
        return self.fathers(np.arange(self.vertices))


def graph_of(spec: Spec) -> Graph:
    """The training graph of a spec; the same object for the same graph, so that its trees are grown once."""
    return _graph(len(spec.details["vertices"]), edges_of(spec).tobytes())


@lru_cache(maxsize=2)
def _graph(vertices: int, edges: bytes) -> Graph:
    return Graph(vertices, np.frombuffer(edges, dtype=np.int64).reshape(-1, 2))


def _sparse(at: Tensor, values: Tensor, size: int) -> Tensor:
    return torch.sparse_coo_tensor(at, values, (size, size), check_invariants=True).coalesce()


@lru_cache(maxsize=4)
def netmf(graph: Graph, width: int = 50, window: int = 10, rounds: int = 20) -> Tensor:
    """(N, width) the vectors that DeepWalk's skip-gram tends to with ever more walks, by NetMF (Qiu et al. 2018).

    With U S V' the largest singular values of the matrix above, U S^(1/2); by subspace iteration from fixed numbers.
    Vertices without edges, or in parts of the graph too small to reach these values, have the vector 0.

    Arguments:
        window: T, of the walks.
        rounds: of the iteration.
    """
    degree = torch.from_numpy(graph.degree).float().clamp(min=1)
    rows = np.repeat(np.arange(graph.vertices), graph.degree)
    step = graph.sparse(1 / np.maximum(graph.degree, 1)[rows])
    kept = []
    for start in range(0, graph.vertices, graph.block):
        columns = torch.arange(start, min(start + graph.block, graph.vertices))
        walks = torch.zeros(graph.vertices, len(columns))
        walks[columns, columns - start] = 1
        total = torch.zeros_like(walks)
        for _ in range(window):
            walks = torch.sparse.mm(step, walks)
            total += walks
        total *= graph.degree.sum() / window / degree[columns]
        at = (total > 1).nonzero()
        kept.append((at + torch.tensor([0, start]), total[at[:, 0], at[:, 1]].log()))
    matrix = _sparse(torch.cat([at for at, _ in kept]).T, torch.cat([values for _, values in kept]), graph.vertices)
    wide = min(graph.vertices, width + 30)
    source = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(graph.vertices, wide, generator=source))[0]
    for _ in range(rounds):
        basis = torch.linalg.qr(torch.sparse.mm(matrix, basis))[0]
    values, vectors = torch.linalg.eigh(basis.T @ torch.sparse.mm(matrix, basis))
    largest = values.abs().argsort(descending=True)[:width]
    found = basis @ vectors[:, largest] * values[largest].abs().sqrt()
    lengths = found.norm(dim=1)
    found[lengths < 1e-3 * lengths.max()] = (
        0  # vertices of parts too small for the largest values: only rounding is left
    )
    return nn.functional.pad(found, (0, width - found.shape[1]))


def log_softmax_within(scores: Tensor, group: Tensor, groups: int) -> Tensor:
    """(K,) the logarithm of the softmax of scores (K,) among those of the same group (K,)."""
    highest = torch.full((groups,), -math.inf, device=scores.device)
    highest = highest.scatter_reduce(0, group, scores.detach(), "amax")
    shifted = scores - highest[group]
    total = torch.zeros(groups, device=scores.device).index_add(0, group, shifted.exp())
    return shifted - total.log()[group]


def pick_within(scores: Tensor, group: Tensor, uniform: Tensor) -> Tensor:
    """(G,) the place of one of each group's scores (K,), groups in order and none empty: drawn by softmax from uniform
    numbers (G,)."""
    weights = log_softmax_within(scores, group, len(uniform)).exp().double()
    ends = torch.bincount(group, minlength=len(uniform)).cumsum(0)
    cumulative = weights.cumsum(0)
    upper = cumulative[ends - 1]
    lower = torch.cat([upper.new_zeros(1), upper[:-1]])
    found = torch.searchsorted(cumulative, lower + uniform * (upper - lower), right=True)
    first = torch.cat([ends.new_zeros(1), ends[:-1]])
    return torch.minimum(torch.maximum(found, first), ends - 1)
