"""The adversarial autoencoder on one page (Makhzani et al. 2016): a game between codes takes the place of the KL.

    z = mu(x)                           encoder: a code that is a point
    p(x|z) = N(m(z), v)                 decoder: m(z) in [0, 1], v fixed
    D(z)                                discriminator of codes: a logit, high for draws e ~ N(0, I)

    L_D       = s(-D(e)) + s(D(z)) + 1/2 r1 |grad_e D(e)|^2,    s(a) = log(1 + e^a)
    L_encoder = -log p(x|z) + lam d s(-D(z))                    d, the dimensions of the code
    L_decoder = -log p(x|z)

A KL asks every q(z|x) to resemble the prior, and so to forget x. The game asks it of all codes together. With a code that
is a point this is the WAE-GAN (Tolstikhin et al. 2018), which bounds a distance of optimal transport between data and
samples. Makhzani et al. take a step for the reconstruction, then one for the game; here, as for the WAE-GAN, both are one.
Our own are R1 (Mescheder et al. 2018), on every 8th step, 8 times as strong, and a weight per dimension, as a KL has it.

    python standalone/aae.py --data digits --steps 500          (or --data a/folder/of/mnist/idx/files)

Plain PyTorch, square images of 8, 16, 28, 32, 56 or 64 px. Only the random numbers come from amalgan:
`generator(seed, name, number)` is a stream for each purpose, so that this page and
`recipes.aae` draw the same ones and end, weight for weight, with the same networks.
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


def networks(shape: tuple[int, ...], latent: int = 8, width: int = 32) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised."""
    decoder, encoder = writer(shape, latent, width), reader(shape, latent, width)
    judge = [nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128), nn.LeakyReLU(0.2)]
    made = {"decoder": decoder, "encoder": encoder, "discriminator": nn.Sequential(*judge, nn.Linear(128, 1))}
    return {name: network.to(memory_format=torch.channels_last) for name, network in made.items()}


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def slope(logits: Tensor, z: Tensor) -> Tensor:
    """|grad_z D(z)|^2, (B,), differentiable once more."""
    (gradient,) = torch.autograd.grad(logits.sum(), z, create_graph=True)
    return gradient.square().sum(1)


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 64,
    *,
    latent: int = 8,
    lam: float = 10.0,
    r1: float = 1.0,
    lazy: int = 8,
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
    encoder, decoder, discriminator = nets["encoder"], nets["decoder"], nets["discriminator"]
    of_encoder, of_decoder, of_discriminator = (list(n.parameters()) for n in (encoder, decoder, discriminator))
    for_ae = torch.optim.Adam([*of_encoder, *of_decoder], lr=lr, betas=(0.5, 0.99), fused=True)
    for_discriminator = torch.optim.Adam(of_discriminator, lr=lr, betas=(0.5, 0.99), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index].float() / 255
        z = encoder(2 * x - 1)
        m = torch.sigmoid(decoder(z))
        constant = x[0].numel() * 0.5 * math.log(2 * math.pi * variance)
        log_p = -((x - m) ** 2 / (2 * variance)).flatten(1).sum(1) - constant

        # the discriminator's turn: codes are cut from the encoder that made them
        drawn = torch.randn(batch, latent, generator=generator(seed, "prior", step)).requires_grad_()
        drawn_logits, code_logits = discriminator(torch.cat([drawn, z.detach()])).squeeze(1).split(batch)
        loss = (softplus(-drawn_logits) + softplus(code_logits)).mean()
        if step % lazy == 0 and r1 > 0:
            loss = loss + lazy * r1 * slope(drawn_logits, drawn).mean() / 2
        for_discriminator.zero_grad()
        loss.backward(inputs=of_discriminator)
        for_discriminator.step()

        # the generator's turn: the discriminator is passed through, never moved
        game = softplus(-discriminator(z).squeeze(1)).mean()
        for_ae.zero_grad()
        (-log_p.mean()).backward(inputs=[*of_encoder, *of_decoder], retain_graph=True)
        (lam * latent * game).backward(inputs=of_encoder)
        for_ae.step()

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
    parser.add_argument("--out", default="aae.png")
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.x, asked.steps, asked.seed)
    show(sample(state, data.spec.shape, 64), columns=8).save(asked.out)
    print(f"samples: {asked.out}")
