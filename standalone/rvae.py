"""The recurrent variational autoencoder on one page: one code for a window, told to every step of its decoder.

    q(z|x) = N(mu(x), sigma(x)^2)       encoder: an LSTM, mu and sigma from its last state       p(z) = N(0, I)
    p(x|z) = N(m(z), v)                 decoder: an LSTM that reads z at every step; m(z) in [0, 1], v fixed

    L = -log p(x|z) + beta KL(q(z|x) || p(z)),    z ~ q(z|x)                                       nats per window

(Fabius and van Amersfoort 2015.)

    python standalone/rvae.py --data sines --steps 1000          (or --data table.csv)

Plain PyTorch. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream for each purpose,
so that this page and `recipes.rvae` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from amalgan.noise import generator, key


class Steps(nn.Module):
    """x (B, T, inputs) -> numbers at every step (B, T, outputs), and the states they are read from (B, T, width)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(inputs, width, batch_first=True), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden, _ = self.lstm(x)
        return self.out(hidden), hidden


def networks(shape: tuple[int, int], latent: int = 16, width: int = 48) -> dict[str, Steps]:
    """The networks by name, in the order in which they are initialised."""
    return {"decoder": Steps(latent, shape[1], width), "encoder": Steps(shape[1], 2 * latent, width)}


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def decode(decoder: Steps, z: Tensor, steps: int) -> Tensor:
    """Windows (B, T, D) before the logistic: the code z (B, d) is told to every step."""
    return decoder(z[:, None].expand(-1, steps, -1))[0]


def code(encoder: Steps, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance (B, d) of q(z|x), from the last state."""
    mu, log_variance = encoder.out(encoder.lstm(2 * x - 1)[0][:, -1]).chunk(2, 1)
    return mu, log_variance.clamp(-14, 8)  # beyond, exp overflows or the noise is below rounding


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 32,
    *,
    latent: int = 16,
    beta: float = 1.0,
    width: int = 48,
    variance: float = 0.001,
    lr: float = 3e-3,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on windows (N, T, D) in [0, 1]."""
    torch.manual_seed(key(seed, "weights"))
    shape = (x_all.shape[1], x_all.shape[2])
    nets = networks(shape, latent, width)
    encoder, decoder = nets["encoder"], nets["decoder"]
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=lr, betas=(0.0, 0.999), fused=True)
    averaged = weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    average = {name: weight.clone() for name, weight in weights.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index]
        optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (step / steps)))  # falls to zero
        mu, log_variance = code(encoder, x)
        z = mu + torch.exp(0.5 * log_variance) * torch.randn(mu.shape, generator=generator(seed, "posterior", step))
        raw = decode(decoder, z, shape[0])
        constant = x[0].numel() * 0.5 * math.log(2 * math.pi * variance)
        log_p = -((x - torch.sigmoid(raw)) ** 2 / (2 * variance)).flatten(1).sum(1) - constant
        kl = 0.5 * (mu**2 + torch.exp(log_variance) - 1 - log_variance)
        loss = -log_p.mean() + beta * kl.mean(0).sum()
        optimiser.zero_grad()
        loss.backward()
        for network in (encoder, decoder):
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in averaged.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], shape: tuple[int, int], n: int, seed: int = 0) -> Tensor:
    """n windows (n, T, D), z ~ N(0, I), from the averaged decoder."""
    decoder = networks(shape)["decoder"]
    decoder.load_state_dict({k: state[f"average.decoder.{k}"] for k in decoder.state_dict()})
    z = torch.randn(n, decoder.lstm.input_size, generator=generator(seed, "picture"))
    return torch.sigmoid(decode(decoder, z, shape[0]))


if __name__ == "__main__":
    from amalgan.data.series import in_units, open

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sines", help="sines, or a table of numbers: .csv, .npy, .npz")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="rvae.csv")
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
