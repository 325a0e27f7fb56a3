"""The autoencoder on one page: x -> z -> x, and nothing else.

    z = mu(x)                       encoder: a code of d numbers
    p(x|z) = N(m(z), v)             decoder: m(z) in [0, 1], v fixed

    L = -log p(x|z) = sum over pixels of (x - m(z))^2 / (2 v) + log(2 pi v) / 2                    nats per image

The codes follow no known density, so there is nothing to sample: the picture shows images, row by row, over their
reconstructions.

    python standalone/ae.py --data digits --steps 500          (or --data a/folder/of/mnist/idx/files)

Plain PyTorch, square images of 8, 16, 28, 32, 56 or 64 px. Only the random numbers come from amalgan:
`generator(seed, name, number)` is a stream for each purpose, so that this page and
`recipes.ae` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from amalgan.noise import generator, key


def reader(shape: tuple[int, ...], out: int, width: int) -> nn.Sequential:
    """(B, C, S, S) in [-1, 1] -> (B, out): 4x4 convolutions of stride 2, at least two, then a linear layer."""
    layers: list[nn.Module] = []
    channels, px, wider = shape[0], shape[1], width
    while px > min(4, shape[1] // 4):
        layers += [nn.Conv2d(channels, wider, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels, px, wider = wider, px // 2, min(2 * wider, 4 * width)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * px * px, out))


def writer(shape: tuple[int, ...], latent: int, width: int) -> nn.Sequential:
    """z (B, d) -> (B, C, S, S), before the logistic: 3x3 convolutions, each before a doubling of the sides.

    The last one makes the four sub-pixels of every pixel, which start out equal: no checkerboard is sown.
    """
    px, levels = shape[1], 0
    while px > 7:
        px, levels = px // 2, levels + 1
    channels = [width * min(2**level, 4) for level in range(levels, -1, -1)]
    layers: list[nn.Module] = [nn.Linear(latent, channels[0] * px * px), nn.LeakyReLU(0.2)]
    layers += [nn.Unflatten(1, (channels[0], px, px))]
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2)]
    layers[-1] = pixels = nn.Conv2d(channels[-1], 4 * shape[0], 3, padding=1)
    with torch.no_grad():
        pixels.weight.copy_(pixels.weight[::4].repeat_interleave(4, 0))
        pixels.bias.zero_()
    return nn.Sequential(*layers, nn.PixelShuffle(2))


def networks(shape: tuple[int, ...], latent: int = 32, width: int = 32) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised."""
    made = {"decoder": writer(shape, latent, width), "encoder": reader(shape, latent, width)}
    return {name: network.to(memory_format=torch.channels_last) for name, network in made.items()}


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
    batch: int = 64,
    *,
    latent: int = 32,
    width: int = 32,
    variance: float = 0.02,
    lr: float = 4e-4,
    ema: float = 0.999,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on uint8 images (N, C, S, S)."""
    torch.manual_seed(key(seed, "weights"))
    nets = networks(tuple(x_all.shape[1:]), latent, width)
    level = (x_all[:1000].float() / 255).mean((0, 2, 3))  # of each channel, from which the decoder starts
    nets["decoder"][-2].bias.data = torch.logit(level, eps=0.01).repeat_interleave(4)
    encoder, decoder = nets["encoder"], nets["decoder"]
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=lr, betas=(0.5, 0.99), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    average = {name: weight.clone() for name, weight in weights.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index].float() / 255
        m = torch.sigmoid(decoder(encoder(2 * x - 1)))
        constant = x[0].numel() * 0.5 * math.log(2 * math.pi * variance)
        log_p = -((x - m) ** 2 / (2 * variance)).flatten(1).sum(1) - constant

        loss = -log_p.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in weights.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def reconstruct(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """m(mu(x)) for images x (B, C, S, S), by the averaged networks."""
    nets = networks(tuple(x.shape[1:]))
    for name, network in nets.items():
        network.load_state_dict({k: state[f"average.{name}.{k}"] for k in network.state_dict()})
    return torch.sigmoid(nets["decoder"](nets["encoder"](2 * x - 1)))


if __name__ == "__main__":
    from amalgan.data import open, show

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or a folder of MNIST's idx files")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="ae.png")
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.x, asked.steps, asked.seed)
    x = data.test.tensor(32)
    show(torch.cat([row for pair in zip(x.split(8), reconstruct(state, x).split(8)) for row in pair]), columns=8).save(
        asked.out
    )
    print(f"images over their reconstructions: {asked.out}")
