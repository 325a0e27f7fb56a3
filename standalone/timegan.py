"""TimeGAN on one page: a game between codes of time series (Yoon et al. 2019).

    h  = e(x), x~ = r(h)                embedder and recovery: a code at every step, and back
    h' = s(h)                           supervisor: h'_t tells h_{t+1}
    e^ = g(z), h^ = s(e^), x^ = r(h^)   generator: z ~ N(0, I) at every step
    D_t                                 discriminator: a logit at every step of codes, high for h, low for h^ and e^

    1  10 R,    R = sqrt E (x - x~)^2                                                          moves e and r
    2  S,       S = sqrt E (h_{t+1} - h'_t)^2                                                  moves s
    3  2 G + 100 M     G = mean over both fakes of mean_t s(-D_t),    s(a) = log(1 + e^a)      moves g and s
       100 S           M = E |std(x^) - std(x)| + E |mean(x^) - mean(x)| over the batch        moves s
       10 R            0.1 S^2 beside it, which moves e                                        moves e and r
       L_D             mean_t s(-D_t(h)) + mean over both fakes of mean_t s(D_t), unless it is below 0.15

Stages 1, 2 and 3 take shares of the steps; each network has one turn a step (the paper's code has two of g, s, e and r).

    python standalone/timegan.py --data sines --steps 1000          (or --data table.csv)

Plain PyTorch. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream for each purpose,
so that this page and `recipes.timegan` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from amalgan.noise import generator, key


class Steps(nn.Module):
    """x (B, T, inputs) -> numbers at every step (B, T, outputs)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(inputs, width, batch_first=True), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0])


def networks(shape: tuple[int, int], latent: int = 12, width: int = 32) -> dict[str, Steps]:
    """The networks by name, in the order in which they are initialised."""
    return {
        "recovery": Steps(latent, shape[1], width),
        "embedder": Steps(shape[1], latent, width),
        "generator": Steps(latent, latent, width),
        "supervisor": Steps(latent, latent, width),
        "discriminator": Steps(latent, 1, width),
    }


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def judge(discriminator: Steps, codes: Tensor) -> Tensor:
    """Logits (B, T) of codes (B, T, H), high for real."""
    return discriminator(2 * codes - 1).squeeze(2)


def spread(x: Tensor) -> Tensor:
    """Standard deviation (T, D) over the batch, its mean held fast: by it the derivative is zero anyway."""
    return ((x - x.mean(0).detach()).square().mean(0) + 1e-6).sqrt()


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 32,
    *,
    latent: int = 12,
    embedding: float = 0.25,
    supervision: float = 0.15,
    supervised: float = 100.0,
    moments: float = 100.0,
    rest: float = 0.15,
    generator_steps: int = 1,
    width: int = 32,
    lr: float = 3e-3,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on windows (N, T, D) in [0, 1]."""
    torch.manual_seed(key(seed, "weights"))
    nets = networks((x_all.shape[1], x_all.shape[2]), latent, width)
    r, e, g, s, d = nets.values()
    adam = {
        name: torch.optim.Adam(net.parameters(), lr=lr, betas=(0.0, 0.999), fused=True) for name, net in nets.items()
    }
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    def descend(loss: Tensor, *names: str) -> None:
        """Add the gradient of a loss by exactly these networks."""
        loss.backward(inputs=[p for name in names for p in nets[name].parameters()], retain_graph=True)

    def move(*names: str) -> None:
        for name in names:
            nn.utils.clip_grad_norm_(nets[name].parameters(), 1.0)
            adam[name].step()
            adam[name].zero_grad()

    drawn = batches(len(x_all), batch, seed)
    for step in range(steps):
        for optimiser in adam.values():
            optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (step / steps)))  # falls to zero
        stage = 1 if step < embedding * steps else 2 if step < (embedding + supervision) * steps else 3
        for number in range(generator_steps):
            x = x_all[next(drawn)]
            h = torch.sigmoid(e(x))
            if stage == 3:
                z = torch.randn(*h.shape, generator=generator(seed, "prior", step * generator_steps + number))
                made = torch.sigmoid(g(z))
                told = torch.sigmoid(s(made))
            if stage == 3 and number == generator_steps - 1:  # the discriminator's turn
                real, *fakes = judge(d, torch.cat([h, told, made]).detach()).split(batch)
                loss = sum((softplus(-real) + softplus(fake)).mean() for fake in fakes) / 2
                if loss >= rest:
                    descend(loss, "discriminator")
                    move("discriminator")
            if stage == 3:
                verdicts = judge(d, torch.cat([told, made])).split(batch)
                loss = 2 * (sum(softplus(-verdict).mean() for verdict in verdicts) / 2)
                again = torch.sigmoid(r(told))
                apart = (again.mean(0) - x.mean(0)).abs().mean() + (spread(again) - spread(x)).abs().mean()
                descend(loss + moments * apart, "generator", "supervisor")
            if stage != 1:
                ahead = torch.sigmoid(s(h))
                error = (h[:, 1:] - ahead[:, :-1]).square().mean()
                descend((supervised if stage == 3 else 1) * error.sqrt(), "supervisor")
            if stage != 2:
                descend(10 * (torch.sigmoid(r(h)) - x).square().mean().sqrt(), "embedder", "recovery")
            if stage == 3:
                descend(0.1 * error, "embedder")
            move(
                *(("embedder", "recovery"), ("supervisor",), ("generator", "supervisor", "embedder", "recovery"))[
                    stage - 1
                ]
            )

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in averaged.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], shape: tuple[int, int], n: int, seed: int = 0) -> Tensor:
    """n windows (n, T, D) from the averaged networks."""
    nets = networks(shape)
    for name in ("recovery", "generator", "supervisor"):
        nets[name].load_state_dict({k: state[f"average.{name}.{k}"] for k in nets[name].state_dict()})
    made = torch.randn(n, shape[0], nets["generator"].lstm.input_size, generator=generator(seed, "picture"))
    for name in ("generator", "supervisor", "recovery"):
        made = torch.sigmoid(nets[name](made))
    return made


if __name__ == "__main__":
    from amalgan.data.series import in_units, open

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sines", help="sines, or a table of numbers: .csv, .npy, .npz")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="timegan.csv")
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.tensor(), asked.steps, asked.seed)
    made = in_units(sample(state, data.spec.shape, 24), data.spec)
    with Path(asked.out).open("w") as file:
        print("window", "step", *data.spec.details["names"], sep=",", file=file)
        for i, window in enumerate(made.tolist()):
            for t, row in enumerate(window):
                print(i, t, *row, sep=",", file=file)
    print(f"samples: {asked.out}")
