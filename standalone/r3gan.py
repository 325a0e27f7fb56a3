"""A plain modern GAN on one page: residual networks, nothing normalised, a game of pairs, slopes kept gentle (Huang et al. 2024).

    fake = m(z), z ~ N(0, I)            decoder, here called generator
    D(x)                                discriminator: a logit, high for real

    L_D = s(D(fake) - D(x)) + 1/2 (r1 |grad_x D(x)|^2 + r2 |grad D(fake)|^2),    s(a) = log(1 + e^a)
    L_G = s(D(x) - D(fake))

The game is relativistic (Jolicoeur-Martineau 2019): each real image is paired with a fake, and only the difference counts.
With R1 and R2 (Mescheder et al. 2018) it needs none of the tricks of its day: R3GAN's argument. Every block starts as its
shortcut, since its last convolution starts at zero (Zhang, Dauphin and Ma 2019); that takes the place of normalisation.

R3GAN's own: game, penalties, leaky units, no normalisation, that start. Its blocks are inverted bottlenecks of grouped
convolutions, two a level, and it resamples with filters; here a block is two 3x3 convolutions, one a level, doubled by
repetition and halved by means. Our own is that penalties act on every 8th step, 8 times as strong (Karras et al. 2020).

    python standalone/r3gan.py --data digits --size 16 --steps 500          (or --data a/folder/of/mnist/idx/files)

Plain PyTorch, square images of 16, 20, 24, 28, 32, 40, ... 128 px: 4 to 7, doubled. Only the random numbers come from
amalgan: `generator(seed, name, number)` is a stream for each purpose, so that this page and
`recipes.r3gan` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, softplus

from amalgan.noise import generator, key


def convolution(before: int, after: int, side: int, gain: float = 1.0) -> nn.Conv2d:
    """Its output starts with gain^2 times the mean square of its input."""
    made = nn.Conv2d(before, after, side, padding=side // 2)
    nn.init.normal_(made.weight, 0, gain / math.sqrt(before * side**2))
    nn.init.zeros_(made.bias)
    return made


def shortcut(before: int, after: int) -> nn.Module:
    return nn.Identity() if before == after else convolution(before, after, 1)


GAIN = math.sqrt(2 / (1 + 0.2**2))  # after a leaky unit this much keeps the variance


class Up(nn.Module):
    """h (B, before, S, S) -> (B, after, 2S, 2S): what passes by, and two convolutions of it, which start as zero."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([convolution(before, after, 3, GAIN), convolution(after, after, 3, 0)])
        self.shortcut = shortcut(before, after)

    def forward(self, h: Tensor) -> Tensor:
        branch = self.convolutions[0](interpolate(leaky_relu(h, 0.2), scale_factor=2))
        branch = self.convolutions[1](leaky_relu(branch, 0.2))
        return interpolate(self.shortcut(h), scale_factor=2) + branch


class Down(nn.Module):
    """h (B, before, S, S) -> (B, after, S/2, S/2), or as `pool` says."""

    def __init__(self, before: int, after: int, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([convolution(before, before, 3, GAIN), convolution(before, after, 3, 0)])
        self.shortcut = shortcut(before, after)
        self.pool = pool or nn.AvgPool2d(2)

    def forward(self, h: Tensor) -> Tensor:
        branch = self.convolutions[0](leaky_relu(h, 0.2))
        branch = self.convolutions[1](leaky_relu(branch, 0.2))
        return self.shortcut(self.pool(h)) + self.pool(branch)


class Generator(nn.Module):
    """z (B, d) -> (B, C, S, S), before the logistic; `channels` of maps, and their px, from the finest."""

    def __init__(self, shape: tuple[int, ...], latent: int, channels: list[int], px: list[int]) -> None:
        super().__init__()
        self.coarsest = (channels[-1], px[-1], px[-1])
        self.code = nn.Linear(latent, math.prod(self.coarsest))
        self.blocks = nn.Sequential(*(Up(*pair) for pair in itertools.pairwise(channels[::-1])))
        self.pixels = convolution(channels[0], shape[0], 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.code(z).view(-1, *self.coarsest).contiguous(memory_format=torch.channels_last)
        return self.pixels(leaky_relu(self.blocks(h), 0.2))


class Discriminator(nn.Module):
    """x (B, C, S, S) in [0, 1] -> logits (B,), high for real."""

    def __init__(self, shape: tuple[int, ...], channels: list[int]) -> None:
        super().__init__()
        self.stem = convolution(shape[0], channels[0], 3)
        self.blocks = nn.Sequential(*(Down(*pair) for pair in itertools.pairwise(channels)))
        self.last = Down(channels[-1], channels[-1], nn.Identity())  # sees all of the image, which no block before does
        self.verdict = nn.Linear(channels[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        h = leaky_relu(self.last(self.blocks(self.stem(2 * x - 1))), 0.2)
        return self.verdict(h.sum((2, 3))).squeeze(1)


def networks(shape: tuple[int, ...], latent: int = 64, width: int = 32) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised."""
    px = [shape[1]]
    while px[-1] >= 8:
        px.append(px[-1] // 2)
    channels = [width * min(2**level, 4) for level in range(len(px))]
    made = {"decoder": Generator(shape, latent, channels, px), "discriminator": Discriminator(shape, channels)}
    return {name: network.to(memory_format=torch.channels_last) for name, network in made.items()}


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def slope(logits: Tensor, x: Tensor) -> Tensor:
    """|grad_x D(x)|^2, (B,), differentiable once more."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 64,
    *,
    latent: int = 64,
    r1: float = 0.1,
    r2: float = 0.1,
    lazy: int = 8,
    width: int = 32,
    lr: float = 5e-4,
    ema: float = 0.999,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on uint8 images (N, C, S, S)."""
    torch.manual_seed(key(seed, "weights"))
    nets = networks(tuple(x_all.shape[1:]), latent, width)
    level = (x_all[:1000].float() / 255).mean((0, 2, 3))  # of each channel, from which the decoder starts
    nets["decoder"].pixels.bias.data = torch.logit(level, eps=0.01)
    generative, discriminator = nets["decoder"], nets["discriminator"]
    for_generator = torch.optim.Adam(generative.parameters(), lr=lr, betas=(0.0, 0.9), fused=True)
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.0, 0.9), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = (x_all[index].float() / 255).contiguous(memory_format=torch.channels_last)
        z = torch.randn(batch, latent, generator=generator(seed, "prior", step))
        fake = torch.sigmoid(generative(z))

        # the discriminator's turn: fakes are cut from the network that made them
        both = torch.cat([x, fake.detach()]).requires_grad_()
        logits = discriminator(both)
        real_logits, fake_logits = logits.split(batch)
        loss = softplus(fake_logits - real_logits).mean()
        if step % lazy == 0 and (r1 > 0 or r2 > 0):
            at_real, at_fake = slope(logits, both).split(batch)
            loss = loss + lazy * ((r1 * at_real.mean() + r2 * at_fake.mean()) / 2)
        for_discriminator.zero_grad()
        loss.backward(inputs=list(discriminator.parameters()))
        for_discriminator.step()

        # the generator's turn: the discriminator is passed through, never moved
        with torch.no_grad():
            real_logits = discriminator(x)
        loss = softplus(real_logits - discriminator(fake)).mean()
        for_generator.zero_grad()
        loss.backward(inputs=list(generative.parameters()))
        for_generator.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in averaged.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], shape: tuple[int, ...], n: int, seed: int = 0) -> Tensor:
    """n images m(z), z ~ N(0, I), from the averaged decoder: (n, C, S, S)."""
    decoder = networks(shape)["decoder"]
    decoder.load_state_dict({k: state[f"average.decoder.{k}"] for k in decoder.state_dict()})
    latent = decoder.code.in_features
    return torch.sigmoid(decoder(torch.randn(n, latent, generator=generator(seed, "picture"))))


if __name__ == "__main__":
    from amalgan.data import open, show

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or a folder of MNIST's idx files")
    parser.add_argument("--size", type=int, default=16, help="px of a side, to which images are resized")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="r3gan.png")
    asked = parser.parse_args()
    data = open(asked.data, size=asked.size)
    state = train(data.train.x, asked.steps, asked.seed)
    show(sample(state, data.spec.shape, 64), columns=8).save(asked.out)
    print(f"samples: {asked.out}")
