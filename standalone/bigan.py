"""The bidirectional GAN on one page: which of a pair was made of the other? (Donahue et al. 2017; ALI, Dumoulin et al. 2017)

    (x, z),   z ~ q(z|x) = N(mu(x), sigma(x)^2)      a pair that the encoder completes, x from the data
    (m(e), e),   e ~ N(0, I)                         a pair that the decoder completes, here called generator
    D(x, z)                                          discriminator of pairs: a logit, high for the encoder's

    L_D   = s(-D(x, z)) + s(D(m(e), e)) + 1/2 (r1 |grad D(x, z)|^2 + r2 |grad D(m(e), e)|^2),    s(a) = log(1 + e^a)
    L_E,G = s(D(x, z)) + s(-D(m(e), e))

Each of the two networks makes half of a pair, and both want what the discriminator does not. Where it can no longer tell,
the two joint distributions are one, so the encoder inverts the generator though nothing is ever reconstructed.

L_E,G is L_D with the sides exchanged, which has a slope where -L_D has none (both papers). The encoder is a Gaussian, as
in ALI; BiGAN's is a point. Our own are the penalties R1 and R2 on pairs (Mescheder et al. 2018), on every 8th step, 8
times as strong, and networks without batch normalisation.

    python standalone/bigan.py --data digits --steps 500          (or --data a/folder/of/mnist/idx/files)

Plain PyTorch, square images of 8, 16, 28, 32, 56 or 64 px. Only the random numbers come from amalgan:
`generator(seed, name, number)` is a stream for each purpose, so that this page and
`recipes.bigan` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, softplus

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
    decoder, encoder = writer(shape, latent, width), reader(shape, 2 * latent, width)
    image, code = reader(shape, 128, width), nn.Linear(latent, 128)
    layers = {"image": image, "code": code, "both": nn.Linear(256, 128), "verdict": nn.Linear(128, 1)}
    made = {"decoder": decoder, "encoder": encoder, "discriminator": nn.ModuleDict(layers)}
    return {name: network.to(memory_format=torch.channels_last) for name, network in made.items()}


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def judge(discriminator: nn.ModuleDict, pair: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Logits (B,), high for the encoder's, of pairs (B, C * S * S + d): an image in a row, then its code."""
    x, z = pair.split([math.prod(shape), pair.shape[1] - math.prod(shape)], 1)
    said = leaky_relu(discriminator["code"](z), 0.2)
    seen = leaky_relu(discriminator["image"](2 * x.view(-1, *shape) - 1), 0.2)
    return discriminator["verdict"](leaky_relu(discriminator["both"](torch.cat([seen, said], 1)), 0.2)).squeeze(1)


def slope(logits: Tensor, pair: Tensor) -> Tensor:
    """|grad D|^2 by image and code, (B,), differentiable once more."""
    (gradient,) = torch.autograd.grad(logits.sum(), pair, create_graph=True)
    return gradient.square().sum(1)


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 64,
    *,
    latent: int = 32,
    r1: float = 1.0,
    r2: float = 1.0,
    lazy: int = 8,
    width: int = 32,
    lr: float = 4e-4,
    ema: float = 0.999,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on uint8 images (N, C, S, S)."""
    torch.manual_seed(key(seed, "weights"))
    shape = tuple(x_all.shape[1:])
    nets = networks(shape, latent, width)
    level = (x_all[:1000].float() / 255).mean((0, 2, 3))  # of each channel, from which the decoder starts
    nets["decoder"][-2].bias.data = torch.logit(level, eps=0.01).repeat_interleave(4)
    encoder, decoder, discriminator = nets["encoder"], nets["decoder"], nets["discriminator"]
    of_encoder, of_decoder, of_discriminator = (list(n.parameters()) for n in (encoder, decoder, discriminator))
    for_generator = torch.optim.Adam([*of_encoder, *of_decoder], lr=lr, betas=(0.5, 0.99), fused=True)
    for_discriminator = torch.optim.Adam(of_discriminator, lr=lr, betas=(0.5, 0.99), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index].float() / 255
        mu, log_variance = encoder(2 * x - 1).chunk(2, 1)
        log_variance = log_variance.clamp(-14, 8)  # beyond, exp overflows or the noise is below rounding
        z = mu + torch.exp(0.5 * log_variance) * torch.randn(mu.shape, generator=generator(seed, "posterior", step))
        e = torch.randn(batch, latent, generator=generator(seed, "prior", step))
        encoded = torch.cat([x.flatten(1), z], 1)
        generated = torch.cat([torch.sigmoid(decoder(e)).flatten(1), e], 1)

        # the discriminator's turn: pairs are cut from the networks that made them
        both = torch.cat([encoded, generated]).detach().requires_grad_()
        logits = judge(discriminator, both, shape)
        real_logits, fake_logits = logits.split(batch)
        loss = (softplus(-real_logits) + softplus(fake_logits)).mean()
        if step % lazy == 0 and (r1 > 0 or r2 > 0):
            at_real, at_fake = slope(logits, both).split(batch)
            loss = loss + lazy * ((r1 * at_real.mean() + r2 * at_fake.mean()) / 2)
        for_discriminator.zero_grad()
        loss.backward(inputs=of_discriminator)
        for_discriminator.step()

        # the generator's turn: the discriminator is passed through, never moved
        real_logits, fake_logits = judge(discriminator, torch.cat([encoded, generated]), shape).split(batch)
        loss = (softplus(real_logits) + softplus(-fake_logits)).mean()
        for_generator.zero_grad()
        loss.backward(inputs=[*of_encoder, *of_decoder])
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
    latent = decoder[0].in_features
    return torch.sigmoid(decoder(torch.randn(n, latent, generator=generator(seed, "picture"))))


if __name__ == "__main__":
    from amalgan.data import open, show

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or a folder of MNIST's idx files")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="bigan.png")
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.x, asked.steps, asked.seed)
    show(sample(state, data.spec.shape, 64), columns=8).save(asked.out)
    print(f"samples: {asked.out}")
