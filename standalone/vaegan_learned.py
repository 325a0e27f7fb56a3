"""The VAE-GAN with a learned similarity, on one page (Larsen et al. 2016).

    q(z|x) = N(mu(x), sigma(x)^2)       encoder            p(z) = N(0, I)
    m(z) in [0, 1]                      decoder
    D(x), D_l(x)                        discriminator: a logit, high for real, and the features before it

Pixels are compared by what the discriminator sees in them: with x~ = m(z), z ~ q(z|x), and x_p = m(z_p), z_p ~ p(z),

    S     = |D_l(x) - D_l(x~)|^2 / (2 v)                           similarity, Gaussian of variance v on features
    L_GAN = mean over x~ and x_p of s(D(x) - D(fake)),    s(a) = log(1 + e^a)

    network          minimises                          and never feels
    encoder          beta KL + S                        the game
    decoder          gamma S + L_GAN                    the KL
    discriminator    mean s(D(fake) - D(x)) + slopes    the similarity, or its features would shrink to nothing

The game is relativistic; the penalties on slopes, 1/2 sum of r |grad D|^2, act on every 8th step, 8 times as strong.

    python standalone/vaegan_learned.py --data digits --steps 500          (or --data a/folder/of/mnist/idx/files)

Plain PyTorch, square images of 8, 16, 28, 32, 56 or 64 px. Only the random numbers come from amalgan:
`generator(seed, name, number)` is a stream for each purpose, so that this page and
`recipes.vaegan(form="learned", sees="both")` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
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


def networks(shape: tuple[int, ...], latent: int = 32, width: int = 32) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised."""
    made = {
        "decoder": writer(shape, latent, width),
        "encoder": reader(shape, 2 * latent, width),
        "discriminator": reader(shape, 1, width),
    }
    return {name: network.to(memory_format=torch.channels_last) for name, network in made.items()}


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def judge(discriminator: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits D(x), (B,), high for real, and the features D_l(x), (B, F), that the last layer reads."""
    features = discriminator[:-1](2 * x - 1)
    return discriminator[-1](features).squeeze(1), features


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
    latent: int = 32,
    beta: float = 1.0,
    gamma: float = 0.1,
    variance: float = 0.02,
    r1: float = 1.0,
    r2: float = 1.0,
    lazy: int = 8,
    width: int = 32,
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
    for_vae = torch.optim.Adam([*of_encoder, *of_decoder], lr=lr, betas=(0.5, 0.99), fused=True)
    for_discriminator = torch.optim.Adam(of_discriminator, lr=lr, betas=(0.5, 0.99), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index].float() / 255
        mu, log_variance = encoder(2 * x - 1).chunk(2, 1)
        log_variance = log_variance.clamp(-14, 8)  # beyond, exp overflows or the noise is below rounding
        z = mu + torch.exp(0.5 * log_variance) * torch.randn(mu.shape, generator=generator(seed, "posterior", step))
        kl = 0.5 * (mu**2 + torch.exp(log_variance) - 1 - log_variance)
        reconstruction = torch.sigmoid(decoder(z))
        fake = torch.sigmoid(decoder(torch.randn(batch, latent, generator=generator(seed, "prior", step))))

        # the discriminator's turn: fakes are cut from the networks that made them
        judged = torch.cat([x, reconstruction.detach(), fake.detach()]).requires_grad_()
        logits, _ = judge(discriminator, judged)
        real_logits, reconstruction_logits, fake_logits = logits.split(batch)
        loss = softplus(reconstruction_logits - real_logits).mean() + softplus(fake_logits - real_logits).mean()
        loss = loss / 2
        if step % lazy == 0 and (r1 > 0 or r2 > 0):
            at_real, at_fakes = slope(logits, judged).split([batch, 2 * batch])
            loss = loss + lazy * ((r1 * at_real.mean() + r2 * at_fakes.mean()) / 2)
        for_discriminator.zero_grad()
        loss.backward(inputs=of_discriminator)
        for_discriminator.step()

        # the generator's turn: the discriminator is passed through, never moved
        with torch.no_grad():
            real_logits, real_features = judge(discriminator, x)
        reconstruction_logits, features = judge(discriminator, reconstruction)
        fake_logits, _ = judge(discriminator, fake)
        similarity = ((real_features - features) ** 2).sum(1).mean() / (2 * variance)
        game = softplus(real_logits - reconstruction_logits).mean() + softplus(real_logits - fake_logits).mean()
        for_vae.zero_grad()
        (beta * kl.mean(0).sum() + similarity).backward(inputs=of_encoder, retain_graph=True)
        (gamma * similarity + game / 2).backward(inputs=of_decoder)
        for_vae.step()

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
    parser.add_argument("--out", default="vaegan_learned.png")
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.x, asked.steps, asked.seed)
    show(sample(state, data.spec.shape, 64), columns=8).save(asked.out)
    print(f"samples: {asked.out}")
