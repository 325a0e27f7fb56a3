"""Behaviour cloning on one page: do what was done where the like was seen (the baseline of all imitation).

    policy  p(a | s) = N(a; mean(s), deviation^2)          two hidden layers; one deviation for each value of an action
    L       = -log p(a | s)                                of demonstrated pairs (s, a)

    python standalone/cloning.py --steps 2000

The world is a mass in the plane, to be brought to (2, 2). Plain PyTorch. Only the random numbers come from amalgan:
`generator(seed, name, number)` is a stream for each purpose, so that this page and `recipes.cloning` draw the same ones
and end, weight for weight, with the same network.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from amalgan.noise import generator, key

SEEN = 4  # place and speed; what is done are two forces in [-1, 1]


class Policy(nn.Module):
    """s (B, 4) -> the mean of a (B, 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(SEEN, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
        )
        self.free_deviation = nn.Parameter(torch.zeros(2))
        with torch.no_grad():
            self.body[-1].weight.mul_(0.01)

    def deviation(self) -> Tensor:
        return 0.05 + 0.95 * torch.sigmoid(self.free_deviation)

    def log_prob(self, s: Tensor, a: Tensor) -> Tensor:
        """In nats, (B,)."""
        off = (a - self.body(s)) / self.deviation()
        return -(off**2 / 2 + self.deviation().log() + math.log(2 * math.pi) / 2).sum(-1)


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
    width: int = 64,
    lr: float = 1e-3,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on pairs (N, 4 + 2)."""
    torch.manual_seed(key(seed, "weights"))
    policy = Policy(width)
    optimiser = torch.optim.Adam(policy.parameters(), lr=lr, betas=(0.9, 0.999), fused=True)
    weights = {f"generator.{name}": weight for name, weight in policy.state_dict().items()}
    average = {name: weight.clone() for name, weight in weights.items()}
    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        s, a = x_all[index].split([SEEN, 2], 1)
        loss = -policy.log_prob(s, a).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in weights.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def act(state: dict[str, Tensor], n: int, mean: Tensor, deviation: Tensor, horizon: int = 40) -> Tensor:
    """What n episodes of the averaged policy earn, (n,): minus the distance from (2, 2), step by step."""
    policy = Policy(len(state["generator.body.0.bias"]))
    policy.load_state_dict({k: state[f"average.generator.{k}"] for k in policy.state_dict()})
    place, earned = 2 * torch.rand(n, 2, generator=generator(0, "starts")) - 1, torch.zeros(n)
    speed = torch.zeros_like(place)
    for _ in range(horizon):
        force = policy.body((torch.cat([place, speed], 1) - mean) / deviation).clamp(-1, 1)
        speed = 0.9 * speed + 0.2 * force
        place = place + 0.2 * speed
        earned -= (place - 2).norm(dim=1)
    return earned


if __name__ == "__main__":
    from amalgan.data.control import open

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = open("point-mass")
    state = train(data.train.tensor(), asked.steps, asked.seed)
    units = (torch.tensor(data.spec.details[name]) for name in ("mean", "deviation"))
    for number, earned in enumerate(act(state, 10, *units).tolist()):
        print(f"episode {number} earned {earned:.2f}, the demonstrator {data.spec.details['expert']:.2f} on average")
