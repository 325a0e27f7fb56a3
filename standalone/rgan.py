"""The recurrent GAN on one page: noise at every step, a verdict at every step (Esteban et al. 2017, RGAN).

    fake = m(z), z ~ N(0, I)            decoder: an LSTM; a step reads numbers of its own, and some that all steps read;
                                        a row is a start, a sum of changes, and what is its own
    D_t(x)                              discriminator: an LSTM over rows and changes, a logit at every step, high for real

    L_D = mean_t s(D_t(fake) - D_t(x)) + 1/2 (r1 |grad_x mean_t D_t(x)|^2 + r2 |grad mean_t D_t(fake)|^2)
    L_G = mean_t s(D_t(x) - D_t(fake)),    s(a) = log(1 + e^a)

The game is relativistic (Jolicoeur-Martineau 2019); the paper's is s(-D_t(x)) + s(D_t(fake)) against s(-D_t(fake)). The
penalties act on every 8th step, 8 times as strong, and count slopes in typical changes of x from step to step. With
labels, c joins what m and D read at every step: RCGAN.

    python standalone/rgan.py --data sines --steps 1000          (or --data table.csv)

Plain PyTorch. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream for each purpose,
so that this page and `recipes.rgan` draw the same ones and end, weight for weight, with the same networks.
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
    """x (B, T, inputs) -> numbers at every step (B, T, outputs), and the states they are read from (B, T, width)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(inputs, width, batch_first=True), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden, _ = self.lstm(x)
        return self.out(hidden), hidden


class Walk(Steps):
    """x (B, T, inputs) -> rows (B, T, outputs) that walk: a start, a sum of changes, and what is a row's own."""

    def __init__(self, inputs: int, outputs: int, width: int, typical: Tensor) -> None:
        super().__init__(inputs, outputs, width)
        self.start, self.own = nn.Linear(width, outputs), nn.Linear(width, outputs)
        self.register_buffer("unit", 4 * typical, persistent=False)  # the logistic is at most a quarter as steep
        self.unit: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden, _ = self.lstm(x)
        return self.start(hidden[:, :1]) + self.unit * (self.out(hidden).cumsum(1) + self.own(hidden)), hidden


def networks(
    shape: tuple[int, int], latent: int = 4, common: int = 8, width: int = 48, typical: Tensor | None = None
) -> dict[str, Steps]:
    """The networks by name, in the order in which they are initialised; they deal in changes if told typical ones."""
    says, hears = (common + latent, shape[1], width), ((1 if typical is None else 2) * shape[1], 1, width)
    decoder = Steps(*says) if typical is None else Walk(*says, typical)
    return {"decoder": decoder, "discriminator": Steps(*hears)}


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def decode(decoder: Steps, z: Tensor, steps: int, common: int) -> Tensor:
    """Windows (B, T, D) in [0, 1]: `common` numbers of z are told to every step, the others to one each."""
    every, own = z[:, None, :common].expand(-1, steps, -1), z[:, common:].reshape(len(z), steps, -1)
    return torch.sigmoid(decoder(torch.cat([every, own], 2))[0])


def judge(discriminator: nn.Module, x: Tensor, typical: Tensor | None) -> Tensor:
    """Logits (B, T) of windows x (B, T, D), high for real: a verdict at every step on the steps so far.

    It reads rows and, if it is told how large they typically are (D,), changes from row to row.
    """
    told = [2 * x - 1] + ([] if typical is None else [x.diff(dim=1, prepend=x[:, :1]) / typical])
    return discriminator(torch.cat(told, 2))[0].squeeze(2)


def slope(logits: Tensor, x: Tensor) -> Tensor:
    """|grad_x D(x)|^2, (B,), of the mean verdict of a window, differentiable once more."""
    (gradient,) = torch.autograd.grad(logits.sum() / logits.shape[1], x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 32,
    *,
    latent: int = 4,
    common: int = 8,
    r1: float = 2e-3,
    r2: float = 2e-3,
    lazy: int = 8,
    changes: bool = True,
    width: int = 48,
    lr: float = 1.5e-3,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on windows (N, T, D) in [0, 1]."""
    torch.manual_seed(key(seed, "weights"))
    shape = (x_all.shape[1], x_all.shape[2])
    typical = x_all.diff(dim=1).std((0, 1))
    unit = sum(change**2 for change in typical.tolist()) / shape[1]  # of slopes: how fast the series move
    r1, r2 = r1 * unit, r2 * unit
    told = typical if changes else None
    nets = networks(shape, latent, common, width, told)
    decoder, discriminator = nets["decoder"], nets["discriminator"]
    for_generator = torch.optim.Adam(decoder.parameters(), lr=lr, betas=(0.0, 0.999), fused=True)
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.0, 0.999), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index]
        for optimiser in (for_generator, for_discriminator):
            optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (step / steps)))  # falls to zero
        z = torch.randn(batch, common + shape[0] * latent, generator=generator(seed, "prior", step))
        fake = decode(decoder, z, shape[0], common)

        # the discriminator's turn: fakes are cut from the network that made them
        both = torch.cat([x, fake.detach()]).requires_grad_()
        logits = judge(discriminator, both, told)
        real_logits, fake_logits = logits.split(batch)
        loss = softplus(fake_logits - real_logits).mean()
        if step % lazy == 0 and (r1 > 0 or r2 > 0):
            at_real, at_fake = slope(logits, both).split(batch)
            loss = loss + lazy * ((r1 * at_real.mean() + r2 * at_fake.mean()) / 2)
        for_discriminator.zero_grad()
        loss.backward(inputs=list(discriminator.parameters()))
        nn.utils.clip_grad_norm_(discriminator.parameters(), 1.0)
        for_discriminator.step()

        # the generator's turn: the discriminator is passed through, never moved
        with torch.no_grad():
            real_logits = judge(discriminator, x, told)
        loss = softplus(real_logits - judge(discriminator, fake, told)).mean()
        for_generator.zero_grad()
        loss.backward(inputs=list(decoder.parameters()))
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        for_generator.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in averaged.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], x_all: Tensor, n: int, seed: int = 0, common: int = 8) -> Tensor:
    """n windows (n, T, D), z ~ N(0, I), from the averaged decoder; x_all, the training windows, tell typical changes."""
    shape = (x_all.shape[1], x_all.shape[2])
    decoder = networks(shape, typical=x_all.diff(dim=1).std((0, 1)))["decoder"]
    decoder.load_state_dict({k: state[f"average.decoder.{k}"] for k in decoder.state_dict()})
    count = common + shape[0] * (decoder.lstm.input_size - common)
    return decode(decoder, torch.randn(n, count, generator=generator(seed, "picture")), shape[0], common)


if __name__ == "__main__":
    from amalgan.data.series import in_units, open

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sines", help="sines, or a table of numbers: .csv, .npy, .npz")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="rgan.csv")
    asked = parser.parse_args()
    data = open(asked.data)
    windows = data.train.tensor()
    made = in_units(sample(train(windows, asked.steps, asked.seed), windows, 24), data.spec)
    with Path(asked.out).open("w") as file:
        print("window", "step", *data.spec.details["names"], sep=",", file=file)
        for i, window in enumerate(made.tolist()):
            for t, row in enumerate(window):
                print(i, t, *row, sep=",", file=file)
    print(f"samples: {asked.out}")
