"""First-order LINE on one page (Tang et al. 2015): vectors of vertices that tell edges from pairs drawn uniformly.

    d(u, v) = e_u . e_v              D(u, v) = sigmoid(d)
    L = s(-d(u, v)) + s(d(u, w)),    u-v an edge, w any other vertex,    s(a) = log(1 + e^a)

At its best d(u, v) is log p(v | u) and a constant: its softmax over all v says who else may be linked to u.

    python standalone/line.py --data edges.txt --steps 2000

Plain PyTorch. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream for each purpose,
so that this page and `recipes.line` draw the same ones and end, weight for weight, with the same vectors. The recipe's
other start, vectors that DeepWalk tends to, is left out here.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from amalgan.noise import generator, key


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
) -> dict[str, Tensor]:
    """Weights by name, after `steps` steps on edges (E, 2)."""
    torch.manual_seed(key(seed, "weights"))
    vertices = int(x_all.max()) + 1
    vectors = nn.Embedding(vertices, width)
    nn.init.normal_(vectors.weight, 0, 0.1)
    optimiser = torch.optim.Adam(vectors.parameters(), lr=lr, betas=(0.9, 0.999), fused=True)
    order = batches(len(x_all), batch, seed)
    for step in range(steps):
        x = x_all[next(order)]
        turned = torch.randn(batch, 1, generator=generator(seed, "end", step)) > 0
        u, v = torch.where(turned, x.flip(1), x).unbind(1)
        number = torch.special.ndtr(torch.randn(batch, generator=generator(seed, "random", step)).double())
        w = (u + 1 + (number * (vertices - 1)).long().clamp(max=vertices - 2)) % vertices
        real, fake = ((vectors(u) * vectors(other)).sum(1) for other in (v, w))
        optimiser.zero_grad()
        (softplus(-real) + softplus(fake)).mean().backward()
        optimiser.step()
    return {"discriminator.vectors.weight": vectors.weight.detach()}


if __name__ == "__main__":
    from amalgan.data.graphs import open, tell

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="karate", help="an edge list, two names a line")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = open(asked.data)
    weight = train(data.train.x, asked.steps, asked.seed, min(256, len(data.train)))["discriminator.vectors.weight"]
    scores = (weight @ weight.T).triu(1)
    for u, v in data.train.x.tolist():
        scores[min(u, v), max(u, v)] = 0
    likeliest = scores.flatten().argsort(descending=True)[:20]
    print("\n".join(tell([divmod(at, len(weight)) for at in likeliest.tolist()], data.spec)))
