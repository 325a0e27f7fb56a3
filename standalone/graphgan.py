"""GraphGAN on one page (Wang et al. 2018): a generator walks from a vertex to a likely neighbour, a discriminator of
pairs says whether they are linked.

    T_c             the breadth-first tree of the root c; father of v: the first of its neighbours that are nearer to c
    p_c(u | w)      softmax of g_u . g_w over father and children u of w in T_c
    G(v | c)        = p_c(v_1 | c) ... p_c(v | v_m) p_c(v_m | v): walk down, and end at v where the walk turns back
    D(c, v)         = sigmoid(d),  d = e_c . e_v

    L_D = s(-d(c, v)) + s(d(c, y)),              c-v an edge, y ~ G(. | c),  s(a) = log(1 + e^a)
    L_G = -log G(y | c) (Q - b),                 Q = -log(1 - D(c, y)) = s(d), b the batch's mean

No gradient passes through a walk: log G(y | c) is pushed up by what y earned more than others did.

    python standalone/graphgan.py --data edges.txt --steps 200

Plain PyTorch, a walk at a time. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream
for each purpose, so that this page and `recipes.graphgan` draw the same ones and end, weight for weight, with the same
vectors. The recipe's other start, vectors that DeepWalk tends to, is left out here.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from amalgan.noise import generator, key


def embedding(vertices: int, width: int) -> nn.Embedding:
    """A vector for each vertex, N(0, 0.1^2)."""
    made = nn.Embedding(vertices, width)
    nn.init.normal_(made.weight, 0, 0.1)
    return made


def neighbours(edges: Tensor, vertices: int) -> list[list[int]]:
    """Of each vertex, in order."""
    near: list[list[int]] = [[] for _ in range(vertices)]
    for u, v in edges.tolist():
        near[u].append(v)
        near[v].append(u)
    return [sorted(some) for some in near]


def tree(root: int, near: list[list[int]]) -> dict[int, int]:
    """vertex -> father, of all that can be reached from the root."""
    distance, border = {root: 0}, [root]
    while border:
        further = {u for v in border for u in near[v] if u not in distance}
        distance |= dict.fromkeys(further, distance[border[0]] + 1)
        border = sorted(further)
    return {v: min(u for u in near[v] if distance[u] < distance[v]) for v in distance if v != root}


def walk(root: int, near: list[list[int]], father: dict[int, int], g: Tensor, numbers: Iterator[float]) -> tuple[int, Tensor]:  # fmt: skip
    """Where a walk ends, and log G of that, with gradient."""
    at, log_prob = root, g.new_zeros(())
    while True:
        around = [u for u in near[at] if father.get(u) == at or father.get(at) == u]
        logs = torch.log_softmax(g[around] @ g[at], 0)
        cumulative = logs.detach().exp().double().cumsum(0)
        place = int(torch.searchsorted(cumulative, next(numbers) * cumulative[-1], right=True))
        place = min(place, len(around) - 1)
        log_prob = log_prob + logs[place]
        if around[place] == father.get(at):
            return at, log_prob
        at = around[place]


def uniform(count: int, *stream: object) -> Tensor:
    """Numbers in [0, 1) from a named stream."""
    return torch.special.ndtr(torch.randn(count, generator=generator(*stream)).double())


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 256,
    *,
    width: int = 50,
    lr: float = 1e-3,
    critic_lr: float = 1e-3,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on edges (E, 2)."""
    torch.manual_seed(key(seed, "weights"))
    vertices = int(x_all.max()) + 1
    judge, writer = embedding(vertices, width), embedding(vertices, width)
    for_judge = torch.optim.Adam(judge.parameters(), lr=critic_lr, betas=(0.9, 0.999), fused=True)
    for_writer = torch.optim.Adam(writer.parameters(), lr=lr, betas=(0.9, 0.999), fused=True)
    average = writer.weight.detach().clone()
    near, trees = neighbours(x_all, vertices), {}

    def logits(roots: Tensor, others: Tensor) -> Tensor:
        return (judge(roots) * judge(others)).sum(1)

    order = batches(len(x_all), batch, seed)
    for step in range(steps):
        x = x_all[next(order)]
        turned = torch.randn(batch, 1, generator=generator(seed, "end", step)) > 0
        roots, real = torch.where(turned, x.flip(1), x).unbind(1)
        walked = []
        for i, root in enumerate(roots.tolist()):
            trees.setdefault(root, tree(root, near))
            numbers = (float(uniform(batch, seed, f"walk {t}", step)[i]) for t in itertools.count())
            walked.append(walk(root, near, trees[root], writer.weight, numbers))
        ends, log_prob = torch.tensor([end for end, _ in walked]), torch.stack([log for _, log in walked])

        for_judge.zero_grad()
        (softplus(-logits(roots, real)) + softplus(logits(roots, ends))).mean().backward()
        for_judge.step()

        paid = softplus(logits(roots, ends)).detach()
        for_writer.zero_grad()
        (-(log_prob * (paid - paid.mean())).mean()).backward()
        for_writer.step()
        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        average.lerp_(writer.weight.detach(), 1 - decay)
    return {
        "generator.vectors.weight": writer.weight.detach(),
        "discriminator.vectors.weight": judge.weight.detach(),
        "average.generator.vectors.weight": average,
    }


if __name__ == "__main__":
    from amalgan.data.graphs import open, tell

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="karate", help="an edge list, two names a line")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = open(asked.data)
    edges = data.train.x
    g = train(edges, asked.steps, asked.seed, min(64, len(edges)))["average.generator.vectors.weight"]
    near = neighbours(edges, len(g))
    links = []
    for i, root in enumerate(edges[:20, 0].tolist()):
        numbers = (float(uniform(20, asked.seed, "link", t)[i]) for t in itertools.count())
        links.append((root, walk(root, near, tree(root, near), g, numbers)[0]))
    print("\n".join(tell(links, data.spec)))
