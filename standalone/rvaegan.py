"""The recurrent VAE-GAN on one page: L = L_VAE + lambda L_GAN, with LSTMs, and a verdict at every step.

    q(z|x) = N(mu(x), sigma(x)^2)       encoder: an LSTM, mu and sigma from its last state       p(z) = N(0, I)
    p(x|z) = N(m(z), v)                 decoder: an LSTM that reads z at every step; m(z) in [0, 1], v fixed
    D_t(x)                              discriminator: an LSTM over rows and changes, a logit at every step, high for real

    L_VAE = -log p(x|z) + beta KL(q(z|x) || p(z)),    z ~ q(z|x)                                    nats per window
    L_GAN = mean_t s(D_t(x) - D_t(m)),    s(a) = log(1 + e^a),    m = m(z) the reconstruction
    L_D   = mean_t s(D_t(m) - D_t(x)) + 1/2 (r1 |grad_x mean_t D_t(x)|^2 + r2 |grad_m mean_t D_t(m)|^2)

The game is relativistic; the penalties act on every 8th step, 8 times as strong, and count slopes in typical changes of
x from step to step. lambda is per value of a window and
weighs the generator's side only: the discriminator always plays in full.

    python standalone/rvaegan.py --data sines --steps 1000          (or --data table.csv)

Plain PyTorch. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream for each purpose,
so that this page and `recipes.rvaegan` draw the same ones and end, weight for weight, with the same networks.
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


def networks(shape: tuple[int, int], latent: int = 16, width: int = 48, changes: bool = True) -> dict[str, Steps]:
    """The networks by name, in the order in which they are initialised."""
    return {
        "decoder": Steps(latent, shape[1], width),
        "encoder": Steps(shape[1], 2 * latent, width),
        "discriminator": Steps((1 + changes) * shape[1], 1, width),
    }


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
    latent: int = 16,
    beta: float = 1.0,
    lam: float = 0.1,
    r1: float = 2e-3,
    r2: float = 2e-3,
    lazy: int = 8,
    changes: bool = True,
    width: int = 48,
    variance: float = 0.001,
    lr: float = 3e-3,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on windows (N, T, D) in [0, 1]."""
    torch.manual_seed(key(seed, "weights"))
    shape = (x_all.shape[1], x_all.shape[2])
    typical = x_all.diff(dim=1).std((0, 1))
    unit = sum(change**2 for change in typical.tolist()) / shape[1]  # of slopes: how fast the series move
    r1, r2 = r1 * unit, r2 * unit
    nets = networks(shape, latent, width, changes)
    encoder, decoder, discriminator = nets["encoder"], nets["decoder"], nets["discriminator"]
    for_vae = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=lr, betas=(0.0, 0.999), fused=True)
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.0, 0.999), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index]
        for optimiser in (for_vae, for_discriminator):
            optimiser.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * (step / steps)))  # falls to zero
        mu, log_variance = code(encoder, x)
        z = mu + torch.exp(0.5 * log_variance) * torch.randn(mu.shape, generator=generator(seed, "posterior", step))
        raw = decode(decoder, z, shape[0])
        constant = x[0].numel() * 0.5 * math.log(2 * math.pi * variance)
        log_p = -((x - torch.sigmoid(raw)) ** 2 / (2 * variance)).flatten(1).sum(1) - constant
        kl = 0.5 * (mu**2 + torch.exp(log_variance) - 1 - log_variance)
        reconstruction = torch.sigmoid(raw)

        # the discriminator's turn: reconstructions are cut from the networks that made them
        both = torch.cat([x, reconstruction.detach()]).requires_grad_()
        logits = judge(discriminator, both, typical if changes else None)
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
            real_logits = judge(discriminator, x, typical if changes else None)
        game = softplus(real_logits - judge(discriminator, reconstruction, typical if changes else None)).mean()
        loss = -log_p.mean() + beta * kl.mean(0).sum() + lam * x[0].numel() * game
        for_vae.zero_grad()
        loss.backward(inputs=[*encoder.parameters(), *decoder.parameters()])
        for network in (encoder, decoder):
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for_vae.step()

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
    parser.add_argument("--out", default="rvaegan.csv")
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
