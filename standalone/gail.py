"""Generative adversarial imitation on one page (Ho and Ermon 2016): a policy is paid by a judge of what it sees and does.

    policy  p(a | s)         judge  D(s, a), a logit, high for demonstrated          value  V(s)

    1  cloning               L = -log p(a | s)                      of demonstrated pairs
    2  in turns
       the policy plays      T steps of every episode, s_0 a_0 s_1 a_1 .. s_T
       the judge             L_D = s(-D(demonstrated)) + s(D(played)) + strength (|grad D| - 1)^2,  s(x) = log(1 + e^x)
       payment               r_t = (1 - gamma) s(D(s_t, a_t)), so that values are means of payments
       advantage             A_t = sum_l (gamma lambda)^l (r_{t+l} + gamma V(s_{t+l+1}) - V(s_{t+l}))
       the policy            L = -min(rho A, clip(rho, 1 - e, 1 + e) A) - entropy,  rho = p(a|s) / p_before(a|s)
       the value             L_V = (V(s_t) - (A_t + V_before(s_t)))^2 / 2

An episode stops because time is up, so what would come after it counts as V(s_T).

    python standalone/gail.py --steps 400

The world is a mass in the plane, to be brought to (2, 2). Plain PyTorch. Only the random numbers come from amalgan:
`generator(seed, name, number)` is a stream for each purpose, so that this page and `recipes.gail` draw the same ones and
end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from amalgan.noise import generator, key

SEEN, DONE, T = 4, 2, 40  # place and speed; two forces in [-1, 1]; steps of an episode


def perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs)
    )


class Policy(nn.Module):
    """A Gaussian around a mean, s (..., 4) -> (..., 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.free_deviation = perceptron(SEEN, width, DONE), nn.Parameter(torch.zeros(DONE))
        with torch.no_grad():
            self.body[-1].weight.mul_(0.01)

    def deviation(self) -> Tensor:
        return 0.05 + 0.95 * torch.sigmoid(self.free_deviation)

    def log_prob(self, s: Tensor, a: Tensor) -> Tensor:
        off = (a - self.body(s)) / self.deviation()
        return -(off**2 / 2 + self.deviation().log() + math.log(2 * math.pi) / 2).sum(-1)

    def entropy(self) -> Tensor:
        return (self.deviation().log() + math.log(2 * math.pi * math.e) / 2).sum()


def starts(seed: int, number: int, episodes: int) -> Tensor:
    """Places (n, 2) in [-1, 1]^2, float64, each from a seed of its own."""
    seeds = [key(seed, "episode", number, i) for i in range(episodes)]
    return 2 * torch.stack([torch.rand(2, generator=generator(s, "start"), dtype=torch.float64) for s in seeds]) - 1


@torch.no_grad()
def play(policy: Policy, place: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Observations (n, T + 1, 4) and actions (n, T, 2) from places and numbers (n, T, 2); a push beyond 1 is one of 1."""
    speed = torch.zeros_like(place)
    seen, done = [torch.cat([place, speed], 1).float()], []
    for t in range(T):
        done.append(policy.body(seen[t]) + policy.deviation() * normal[:, t])
        speed = 0.9 * speed + 0.2 * done[t].double().clamp(-1, 1)
        place = place + 0.2 * speed
        seen.append(torch.cat([place, speed], 1).float())
    return torch.stack(seen, 1), torch.stack(done, 1)


def gae(paid: Tensor, values: Tensor, discount: float, trace: float) -> Tensor:
    """Advantages (n, T) of payments (n, T) and values (n, T + 1)."""
    found, held = [], torch.zeros(len(paid))
    for t in range(T - 1, -1, -1):
        held = paid[:, t] + discount * values[:, t + 1] - values[:, t] + discount * trace * held
        found.append(held)
    return torch.stack(found[::-1], 1)


def uniform(shape: tuple[int, ...], *stream: object) -> Tensor:
    """Numbers in [0, 1) from a named stream."""
    return torch.special.ndtr(torch.randn(shape, generator=generator(*stream)))


def tent(progress: float) -> float:
    """Up to 1 over the first fifth, then down to 0: judge and value learn first, and at the end the game comes to rest."""
    return min(progress / 0.2, (1 - progress) / 0.8)


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
    cloned: float = 0.5,
    episodes: int = 8,
    epochs: int = 2,
    parts: int = 4,
    reach: float = 0.2,
    discount: float = 0.99,
    trace: float = 0.95,
    entropy: float = 1e-3,
    gradient_penalty: float = 0.1,
    critic_steps: int = 1,
    lr: float = 1e-3,
    policy_lr: float = 3e-4,
    value_lr: float = 1e-3,
    critic_lr: float = 3e-3,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on pairs (N, 4 + 2)."""
    torch.manual_seed(key(seed, "weights"))
    policy, judge, value = Policy(width), perceptron(SEEN + DONE, width, 1), perceptron(SEEN, width, 1)
    rates = {policy: lr, judge: critic_lr, value: value_lr}
    optimisers = {n: torch.optim.Adam(n.parameters(), lr=rates[n], betas=(0.9, 0.999), fused=True) for n in rates}
    judged = {f"discriminator.{name}": weight for name, weight in judge.state_dict().items()}
    weights = {f"generator.{name}": weight for name, weight in policy.state_dict().items()}
    weights |= {f"value.{name}": weight for name, weight in value.state_dict().items()}
    average = {name: weight.clone() for name, weight in weights.items()}

    def move(loss: Tensor, network: nn.Module) -> None:
        optimisers[network].zero_grad()
        loss.backward(inputs=list(network.parameters()))
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimisers[network].step()

    order = batches(len(x_all), batch, seed)
    for step in range(steps):
        cloning = step < cloned * steps - 1e-6
        for turn in range(critic_steps):
            number, x = step * critic_steps + turn, x_all[next(order)]
            if cloning:
                continue
            normal = torch.randn(episodes, T, DONE, generator=generator(seed, "actions", number))
            seen, done = play(policy, starts(seed, number, episodes), normal)
            pairs = torch.cat([seen[:, :-1], done.clamp(-1, 1)], 2)
            place = (uniform((batch,), seed, "place", number) * T).long().clamp(max=T - 1)
            fake = pairs[torch.arange(batch) * episodes // batch, place]
            real, made = judge(torch.cat([x, fake])).squeeze(1).split(batch)
            loss = (softplus(-real) + softplus(made)).mean()
            if gradient_penalty:
                share = uniform((batch,), seed, "between fake", number)[:, None]
                between = (share * x + (1 - share) * fake).requires_grad_()
                (slope,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
                loss = loss + gradient_penalty * ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()
            move(loss, judge)
        if cloning:
            move(-policy.log_prob(x[:, :SEEN], x[:, SEEN:]).mean(), policy)
        else:
            optimisers[policy].param_groups[0]["lr"] = policy_lr * tent((step / steps - cloned) / (1 - cloned))
            with torch.no_grad():
                paid = (1 - discount) * softplus(judge(pairs.flatten(0, 1))).view(episodes, T)
                expected, before = value(seen).squeeze(-1), policy.log_prob(seen[:, :-1], done)
                advantage = gae(paid, expected, discount, trace)
                target = advantage + expected[:, :-1]
                advantage = advantage - advantage.mean()
                advantage = advantage / (advantage.square().mean().sqrt() + 1e-8)
            for epoch in range(epochs):
                moments = torch.randn(episodes, T, generator=generator(seed, f"moments {epoch}", number)).argsort(1)
                for at in moments.tensor_split(min(parts, T), 1):
                    who = torch.arange(episodes)[:, None]
                    s, a, worth = seen[who, at], done[who, at], advantage[who, at]
                    ratio = torch.exp(policy.log_prob(s, a) - before[who, at])
                    won = torch.minimum(ratio * worth, ratio.clamp(1 - reach, 1 + reach) * worth)
                    for_value = (value(s).squeeze(-1) - target[who, at]).square().mean() / 2
                    move(-won.mean() - entropy * policy.entropy(), policy)
                    move(for_value, value)
        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in weights.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **judged, **{f"average.{name}": value for name, value in average.items()}}


if __name__ == "__main__":
    from amalgan.data.control import open

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = open("point-mass")
    mean, deviation = (
        torch.tensor([*data.spec.details[name], *fixed]) for name, fixed in (("mean", (0, 0)), ("deviation", (1, 1)))
    )
    state = train((data.train.tensor() * deviation + mean).float(), asked.steps, asked.seed)
    policy = Policy(len(state["generator.body.0.bias"]))
    policy.load_state_dict({k: state[f"average.generator.{k}"] for k in policy.state_dict()})
    seen, _ = play(policy, starts(asked.seed, -1, 10), torch.zeros(10, T, DONE))
    for number, earned in enumerate((-(seen[:, 1:, :2] - 2).norm(dim=2).sum(1)).tolist()):
        print(f"episode {number} earned {earned:.2f}, the demonstrator {data.spec.details['expert']:.2f} on average")
