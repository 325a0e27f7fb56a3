"""The self-attention GAN on one page: every pixel of a map may look at all others (Zhang et al. 2019).

    beta_ji = softmax_i (f(x_i) . g(x_j))           how much pixel j looks at pixel i; f, g, h, v are 1x1 convolutions
    y_j = x_j + gamma v(sum_i beta_ji h(x_i))       gamma is learned and starts at 0

    fake = m(z), z ~ N(0, I)            decoder, here called generator
    D(x)                                discriminator: a logit, high for real

    L_D = [1 - D(x)]+ + [1 + D(fake)]+
    L_G = -D(fake)

Convolutions see as far as their kernels; one layer of attention in each network lets a left ear know of the right one. Every
layer of both is divided by its largest singular value (Miyato et al. 2018), the generator has batch normalisation, and the
discriminator's steps are four times as long (Heusel et al. 2017).

The paper's own: this block, hinge, both step sizes, Adam's decay rates (0, 0.9), maps of 32 px at images of 128 px, classes
told by conditional batch normalisation and projection, which `recipes.sagan` has, too. Our own: leaky units instead of
rectified ones, a logistic instead of tanh, averaged weights, half as wide, smaller batches.

    python standalone/sagan.py --data digits --size 16 --steps 500          (or --data a/folder/of/mnist/idx/files)

Plain PyTorch, square images of 16, 20, 24, 28, 32, 40, ... 128 px: 4 to 7, doubled. Only the random numbers come from
amalgan: `generator(seed, name, number)` is a stream for each purpose, so that this page and
`recipes.sagan` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, normalize, relu
from torch.nn.utils import parametrize

from amalgan.noise import generator, key


class Attention(nn.Module):
    """x (B, C, S, S) -> y (B, C, S, S)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 8)
        self.f, self.g, self.h = (nn.Conv2d(channels, narrow, 1, bias=False) for _ in range(3))
        self.v = nn.Conv2d(narrow, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        f, g, h = (layer(x).flatten(2).mT.contiguous() for layer in (self.f, self.g, self.h))  # (B, pixels, C / 8)
        beta = torch.softmax(g @ f.mT, -1)  # (B, pixels that look, pixels looked at), each row sums to 1
        return x + self.gamma * self.v((beta @ h).mT.unflatten(2, x.shape[2:]))


class Unit(nn.Module):
    """W -> W / sigma, its largest singular value |W v|; v, of length 1, follows W by the power method."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("v", torch.randn(weight[0].numel()))
        for _ in range(15):
            self.follow(weight.flatten(1))

    @torch.no_grad()
    def follow(self, matrix: Tensor) -> None:
        self.v.copy_(normalize(matrix.mT @ (matrix @ self.v), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            self.follow(weight.flatten(1))
        v = self.v.clone()  # a mean over training is shorter than 1, hence |v|
        return weight / ((weight.flatten(1) @ v).norm() / v.norm())


def spectral(network: nn.Module) -> nn.Module:
    """The network, each of its layers divided by its largest singular value."""
    for layer in [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]:
        parametrize.register_parametrization(layer, "weight", Unit(layer.weight))
    return network


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
    """h (B, before, S, S) -> (B, after, 2S, 2S): what passes by, and two convolutions of it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(before), nn.BatchNorm2d(after)])
        self.convolutions = nn.ModuleList([convolution(before, after, 3, GAIN), convolution(after, after, 3, GAIN)])
        self.shortcut = shortcut(before, after)

    def forward(self, h: Tensor) -> Tensor:
        branch = leaky_relu(self.norms[0](h), 0.2)
        branch = self.convolutions[0](interpolate(branch, scale_factor=2))
        branch = self.convolutions[1](leaky_relu(self.norms[1](branch), 0.2))
        return interpolate(self.shortcut(h), scale_factor=2) + branch


class Down(nn.Module):
    """h (B, before, S, S) -> (B, after, S/2, S/2), or as `pool` says."""

    def __init__(self, before: int, after: int, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([convolution(before, before, 3, GAIN), convolution(before, after, 3, GAIN)])
        self.shortcut = shortcut(before, after)
        self.pool = pool or nn.AvgPool2d(2)

    def forward(self, h: Tensor) -> Tensor:
        branch = self.convolutions[0](leaky_relu(h, 0.2))
        branch = self.convolutions[1](leaky_relu(branch, 0.2))
        return self.shortcut(self.pool(h)) + self.pool(branch)


class Blocks(nn.Module):
    """One after the other, and attention where maps have `at` px."""

    def __init__(self, blocks: list[nn.Module], channels: int, at: int) -> None:
        super().__init__()
        self.blocks, self.at = nn.ModuleList(blocks), at
        with torch.random.fork_rng(devices=()):  # all else starts as it would without attention
            self.attention = Attention(channels)

    def forward(self, h: Tensor) -> Tensor:
        h = self.attention(h) if h.shape[2] == self.at else h
        for block in self.blocks:
            h = block(h)
            h = self.attention(h) if h.shape[2] == self.at else h
        return h


class Generator(nn.Module):
    """z (B, d) -> (B, C, S, S), before the logistic."""

    def __init__(self, shape: tuple[int, ...], latent: int, channels: dict[int, int], at: int) -> None:
        super().__init__()
        (px, coarsest), *_, (_, finest) = reversed(channels.items())
        self.coarsest = (coarsest, px, px)
        self.code = nn.Linear(latent, math.prod(self.coarsest))
        ups = [Up(*pair) for pair in itertools.pairwise(reversed(channels.values()))]
        self.blocks = Blocks(ups, channels[at], at)
        self.norm = nn.BatchNorm2d(finest)
        self.pixels = convolution(finest, shape[0], 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.code(z).view(-1, *self.coarsest).contiguous(memory_format=torch.channels_last)
        return self.pixels(leaky_relu(self.norm(self.blocks(h)), 0.2))


class Discriminator(nn.Module):
    """x (B, C, S, S) in [0, 1] -> logits (B,), high for real."""

    def __init__(self, shape: tuple[int, ...], channels: dict[int, int], at: int) -> None:
        super().__init__()
        finest, *_, coarsest = channels.values()
        self.stem = convolution(shape[0], finest, 3)
        self.blocks = Blocks([Down(*pair) for pair in itertools.pairwise(channels.values())], channels[at], at)
        self.last = Down(coarsest, coarsest, nn.Identity())  # sees all of the image, which no block before does
        self.verdict = nn.Linear(coarsest, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = leaky_relu(self.last(self.blocks(self.stem(2 * x - 1))), 0.2)
        return self.verdict(h.sum((2, 3))).squeeze(1)


def networks(shape: tuple[int, ...], latent: int = 128, width: int = 32, attention_at: int = 0) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised."""
    px = [shape[1]]
    while px[-1] >= 8:
        px.append(px[-1] // 2)
    channels = {
        side: width * min(2**level, 4) for level, side in enumerate(px)
    }  # of maps of so many px, from the finest
    at = attention_at or next(side for side in px[1:] if side <= 32)
    made = {"decoder": Generator(shape, latent, channels, at), "discriminator": Discriminator(shape, channels, at)}
    return {name: spectral(network).to(memory_format=torch.channels_last) for name, network in made.items()}


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
    latent: int = 128,
    attention_at: int = 0,
    ttur: float = 4.0,
    width: int = 32,
    lr: float = 1e-4,
    ema: float = 0.999,
) -> dict[str, Tensor]:
    """Weights by name, and averages of the decoder's with what it remembers, after `steps` steps on uint8 images (N, C, S, S)."""
    torch.manual_seed(key(seed, "weights"))
    nets = networks(tuple(x_all.shape[1:]), latent, width, attention_at)
    generative, discriminator = nets["decoder"], nets["discriminator"]
    level = (x_all[:1000].float() / 255).mean((0, 2, 3))  # of each channel, from which the decoder starts
    generative.pixels.bias.data = torch.logit(level, eps=0.01)
    for_generator = torch.optim.Adam(generative.parameters(), lr=lr, betas=(0.0, 0.9), fused=True)
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=ttur * lr, betas=(0.0, 0.9), fused=True)
    weights = {f"{name}.{k}": w.detach() for name, network in nets.items() for k, w in network.named_parameters()}
    averaged = generative.state_dict()  # also means and deviations of the batch norms, and the v of each layer
    average = {name: value.clone() for name, value in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = (x_all[index].float() / 255).contiguous(memory_format=torch.channels_last)
        z = torch.randn(batch, latent, generator=generator(seed, "prior", step))
        fake = torch.sigmoid(generative(z))

        # the discriminator's turn: fakes are cut from the network that made them
        real_logits, fake_logits = discriminator(torch.cat([x, fake.detach()])).split(batch)
        loss = (relu(1 - real_logits) + relu(1 + fake_logits)).mean()
        for_discriminator.zero_grad()
        loss.backward(inputs=list(discriminator.parameters()))
        for_discriminator.step()

        # the generator's turn: the discriminator is passed through, never moved
        loss = -discriminator(fake).mean()
        for_generator.zero_grad()
        loss.backward(inputs=list(generative.parameters()))
        for_generator.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, value in averaged.items():
            average[name] = average[name].lerp(value, 1 - decay) if value.is_floating_point() else value.clone()
    return {**weights, **{f"average.decoder.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], shape: tuple[int, ...], n: int, seed: int = 0) -> Tensor:
    """n images m(z), z ~ N(0, I), from the averaged decoder: (n, C, S, S)."""
    decoder = networks(shape)["decoder"].eval()
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
    parser.add_argument("--out", default="sagan.png")
    asked = parser.parse_args()
    data = open(asked.data, size=asked.size)
    state = train(data.train.x, asked.steps, asked.seed)
    show(sample(state, data.spec.shape, 64), columns=8).save(asked.out)
    print(f"samples: {asked.out}")
    for name in ("decoder", "discriminator"):
        print(f"gamma of the {name}: {state[f'{name}.blocks.attention.gamma']:.3f}")
