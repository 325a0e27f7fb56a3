"""Vertices of a graph: a generator that walks to a vertex's likely neighbours, a discriminator of pairs.

With g the generator's vectors, T_c the breadth-first tree of the root c, and N_c(w) father and children of w there,

    p_c(u | w)  =  exp(g_u . g_w) / sum_{t in N_c(w)} exp(g_t . g_w),   u in N_c(w)
    G(v | c)    =  p_c(v_1 | c) p_c(v_2 | v_1) ... p_c(v | v_m) p_c(v_m | v)          graph softmax (Wang et al. 2018)

with c, v_1, ..., v_m, v the path: a walk goes down the tree and ends at v where it turns back. Over v these sum to 1.
Trees are grown once from the training edges and never change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from amalgan.data import Spec
from amalgan.data.graphs import vectors
from amalgan.models.core import Model
from amalgan.networks.graphs import Embedding, Graph, graph_of, log_softmax_within, netmf, pick_within
from amalgan.noise import Noise, rows

MEMORY = 2**29  # bytes of trees at hand: of all roots, or else of those that are walked from
AT_ONCE = 2048  # walks, at most


class Trees(nn.Module):
    """The breadth-first trees of a graph, all of them in one matrix, or block by block where it would be too large.

    Arguments:
        graph: of the training edges.
        memory: bytes that the matrix, or a block of it, may take; a block holds one tree at least.
    """

    def __init__(self, graph: Graph, memory: int = MEMORY) -> None:
        super().__init__()
        self.graph = graph
        whole = graph.vertices * graph.integers.itemsize  # bytes of one tree
        self.kept = graph.vertices * whole <= memory
        self.at_once = AT_ONCE if self.kept else min(AT_ONCE, max(1, memory // whole))
        self.indptr: Tensor
        self.indices: Tensor
        self.held: Tensor
        for name, held in (("indptr", graph.indptr), ("indices", graph.indices)):
            self.register_buffer(name, torch.from_numpy(held), persistent=False)
        self.register_buffer("held", torch.empty(0), persistent=False)

    def of(self, roots: Tensor) -> tuple[Tensor, Tensor]:
        """Fathers (R, N) of the trees of some roots, and which of them (B,) belongs to each of these roots (B,)."""
        if self.kept:
            if not len(self.held):
                self.held = torch.from_numpy(self.graph.all_fathers).to(roots.device)
            return self.held, roots
        different, which = roots.unique(return_inverse=True)
        return torch.from_numpy(self.graph.fathers(different.cpu().numpy())).to(roots.device), which

    def around(self, fathers: Tensor, which: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """The tree neighbours (K,) of vertices `at` (B,) in the trees `which` (B,), and whose of the B they are, (K,)."""
        counts = self.indptr[at + 1] - self.indptr[at]
        whose = torch.arange(len(at), device=at.device).repeat_interleave(counts)
        first = self.indptr[at] - (counts.cumsum(0) - counts)
        near = self.indices[torch.arange(len(whose), device=at.device) + first[whose]]
        father = fathers[which, at]
        kept = (fathers[which[whose], near] == at[whose]) | (near == father[whose])
        return near[kept], whose[kept]


class EdgeDraw:
    """One play on a batch of edges; each field is computed when first read, and kept.

    Fields: x (B, 2) each edge from one of its ends, c None, fake (B, 2) the same roots with what the generator walks to,
    choices (B, 1) log G of it in nats, with gradient, made (B, 1) true, random (B, 2) the same roots with any other vertices.
    """

    def __init__(self, model: GraphModel, x: Tensor, c: Tensor | None, noise: Noise) -> None:
        self.model, self.c, self.noise = model, c, noise
        turned = noise("end", (len(x), 1)) > 0
        self.x = torch.where(turned, x.flip(1), x)

    def uniform(self, name: str) -> Tensor:
        """(B,) numbers in [0, 1) from the named stream."""
        return torch.special.ndtr(self.noise(name, (len(self.x),)).double())

    @cached_property
    def fake(self) -> Tensor:
        roots = self.x[:, 0]
        return torch.stack([roots, self.model.walk(roots, lambda step: self.uniform(f"walk {step}"))], 1)

    @cached_property
    def choices(self) -> Tensor:
        return self.model.log_prob(self.fake).unsqueeze(1)

    @property
    def made(self) -> Tensor:
        return torch.ones_like(self.fake[:, :1], dtype=torch.bool)

    @cached_property
    def random(self) -> Tensor:
        roots, others = self.x[:, 0], self.model.vertices - 1
        steps = (self.uniform("random") * others).long().clamp(max=others - 1)
        return torch.stack([roots, (roots + 1 + steps) % self.model.vertices], 1)


class GraphModel(Model):
    """Vectors of the vertices of one graph, for a discriminator of pairs and perhaps for a generator that walks.

    Arguments:
        spec: of edges: the vertices' names and the training edges in its details.
        discriminator: says of pairs whether they are edges.
        generator: its vectors steer the walks.
        start: the vectors that both begin with: "netmf", "random" ones, or those of a file, see `data.graphs.vectors`.
    """

    def __init__(
        self, spec: Spec, discriminator: Embedding, generator: Embedding | None = None, start: str = "random"
    ) -> None:
        super().__init__(spec)
        self.generator, self.discriminator, self.start = generator, discriminator, start
        self.trees = Trees(graph_of(spec))
        self.vertices = self.trees.graph.vertices

    def players(self) -> dict[str, nn.Module | None]:
        """Two embeddings."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    @torch.no_grad()
    def begin(self, split: Any) -> None:
        """Both networks start from the same vectors, as published."""
        if self.start == "random":
            return
        width = self.judge.vectors.embedding_dim
        known = netmf(self.trees.graph, width) if self.start == "netmf" else vectors(self.start, self.spec, width)
        for network in filter(None, (self.generator, self.discriminator)):
            network.vectors.weight.copy_(known)

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> EdgeDraw:
        """One play on a batch of edges (B, 2)."""
        return EdgeDraw(self, x, c, noise)

    # The generator

    @torch.no_grad()
    def walk(self, roots: Tensor, uniform: Callable[[int], Tensor]) -> Tensor:
        """Where walks from roots (B,) end, (B,); `uniform(step)` gives numbers (B,). A root without edges stays there."""

        def some(part: Tensor) -> Tensor:
            return self._walk(roots[part], lambda step: uniform(step)[part])

        parts = torch.arange(len(roots), device=roots.device).split(self.trees.at_once)
        return torch.cat([some(part) for part in parts])

    def _walk(self, roots: Tensor, uniform: Callable[[int], Tensor]) -> Tensor:
        assert self.generator is not None
        fathers, which = self.trees.of(roots)
        at, on, step = roots.clone(), (self.trees.indptr[roots + 1] > self.trees.indptr[roots]).nonzero()[:, 0], 0
        while len(on):
            near, whose = self.trees.around(fathers, which[on], at[on])
            scores = self.generator(torch.stack([at[on][whose], near], 1))[0].float()
            to = near[pick_within(scores, whose, uniform(step)[on])]
            back = to == fathers[which[on], at[on]]
            on, to = on[~back], to[~back]
            at[on] = to
            step += 1
        return at

    def log_prob(self, pairs: Tensor) -> Tensor:
        """log G(v | c) in nats of pairs (c, v), (B,); -inf where no walk from c ends at v."""
        return torch.cat([self._log_prob(part) for part in pairs.split(self.trees.at_once)])

    def _log_prob(self, pairs: Tensor) -> Tensor:
        roots, ends = pairs.unbind(1)
        fathers, which = self.trees.of(roots)
        reached = ((fathers[which, ends] >= 0) & (roots != ends)).nonzero()[:, 0]
        # the steps of all walks: the last one, back from the end, then the others from there up to the root
        whose, at = [reached], [ends[reached]]
        to, on, below = [fathers[which[reached], ends[reached]].long()], reached, ends[reached]
        while len(on):
            above = fathers[which[on], below].long()
            for held, more in ((whose, on), (at, above), (to, below)):
                held.append(more)
            left = above != roots[on]
            on, below = on[left], above[left]
        steps = torch.cat(whose)
        logs = self._step_log_prob(fathers, which[steps], torch.cat(at), torch.cat(to))
        total = torch.zeros(len(pairs), device=pairs.device).index_add(0, steps, logs)
        unreached = torch.ones_like(roots, dtype=torch.bool).index_fill(0, reached, False)
        return total.masked_fill(unreached, -math.inf)

    def _step_log_prob(self, fathers: Tensor, which: Tensor, at: Tensor, to: Tensor) -> Tensor:
        """log p_c(to | at), (M,), in the trees `which`."""
        assert self.generator is not None
        near, whose = self.trees.around(fathers, which, at)
        scores = self.generator(torch.stack([at[whose], near], 1))[0].float()
        logs = log_softmax_within(scores, whose, len(at))
        return logs[near == to[whose]]

    def reaches(self, pairs: Tensor) -> Tensor:
        """Whether a path leads from one to the other, (B,) of pairs (B, 2)."""
        part = torch.from_numpy(self.trees.graph.components).to(pairs.device)
        return part[pairs[:, 0]] == part[pairs[:, 1]]

    # Use

    @property
    def judge(self) -> Embedding:
        """The network whose vectors are the result: the generator, as published, where there is one."""
        return self.generator or self.discriminator

    def log_conditional(self, pairs: Tensor) -> Tensor:
        """log p(v | c) in nats of pairs (c, v), (B,): the generator's, or without one what the discriminator implies.

        A discriminator of edges against uniformly drawn pairs is at its best the logarithm of p(v | c) and a constant.
        """
        if self.generator is not None:
            return self.log_prob(pairs)
        roots, which = pairs[:, 0].unique(return_inverse=True)
        found = torch.zeros(len(pairs), device=pairs.device)
        for number, root in enumerate(roots.tolist()):
            mine = which == number
            found[mine] = self._implied(root)[pairs[mine, 1]]
        return found

    def _implied(self, root: int) -> Tensor:
        """log p(v | root) of every vertex, (N,), by the discriminator."""
        vectors = self.discriminator.vectors.weight
        scores = (vectors @ vectors[root]).index_fill(0, torch.tensor([root], device=vectors.device), -math.inf)
        return torch.log_softmax(scores, 0)

    @torch.no_grad()
    def likeliest(self, root: int, n: int, new: bool = True) -> tuple[Tensor, Tensor]:
        """The n likeliest neighbours of a vertex, and their probabilities; `new` leaves out those that it has.

        Fewer where walks reach fewer.
        """
        device = self.judge.vectors.weight.device
        others = torch.arange(self.vertices, device=device)
        others = others[others != root]
        if new:
            others = others[~torch.isin(others, torch.from_numpy(self.trees.graph.neighbours(root)).to(device))]
        logs = self.log_conditional(torch.stack([torch.full_like(others, root), others], 1))
        order = logs.argsort(descending=True, stable=True)[:n]
        order = order[logs[order] > -math.inf]
        return others[order], logs[order].exp()

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n links (n, 2) from vertices that have edges, drawn uniformly; link i is the same whatever n."""
        device = self.judge.vectors.weight.device
        linked = (self.trees.indptr[1:] > self.trees.indptr[:-1]).nonzero()[:, 0]

        def uniform(name: str) -> Tensor:
            return torch.special.ndtr(rows(n, (), seed, name).double()).to(device)

        roots = linked[(uniform("prior") * len(linked)).long().clamp(max=len(linked) - 1)]
        if self.generator is not None:
            return torch.stack([roots, self.walk(roots, lambda step: uniform(f"walk {step}"))], 1)
        ends = []
        for root, number in zip(roots.tolist(), uniform("walk 0")):
            cumulative = self._implied(root).double().exp().cumsum(0)
            ends.append(
                torch.searchsorted(cumulative, number * cumulative[-1], right=True).clamp(max=self.vertices - 1)
            )
        return torch.stack([roots, torch.stack(ends)], 1)
