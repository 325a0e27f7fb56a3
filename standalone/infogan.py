"""InfoGAN on one page: the first numbers of the noise must be readable off the image (Chen et al. 2016).

    fake = m(z), z ~ N(0, I)            decoder, here called generator; c, the first `codes` numbers of z
    D(x)                                discriminator: a logit, high for real
    g(x)                                a guess of c, from the features of x that D(x) is read from, too

    I   = |g(fake) - c|^2 / 2                                             nats, but for a constant
    L_D = s(D(fake) - D(x)) + 1/2 (r1 |grad_x D(x)|^2 + r2 |grad D(fake)|^2) + I,    s(a) = log(1 + e^a)
    L_G = s(D(x) - D(fake)) + information I

With q(c|x) = N(g(x), 1), -I is log q(c|fake), and its mean is a lower bound on the mutual information of c and fakes, less
the entropy of c. So a network that raises it makes c show: in something that is easily read, such as slant or weight.

Chen et al. have codes that are uniform or classes, and learn the width of q, too; here codes are Gaussian, and q is of unit
width. For them I weighs as much for the discriminator as for the generator; here it weighs 1 there, where it only teaches
to read. The game is relativistic (Jolicoeur-Martineau 2019), the penalties act on every 8th step, 8 times as strong. In
the picture a row shares its noise but for the first code, which goes from -2 to 2.

    python standalone/infogan.py --data digits --steps 500          (or --data a/folder/of/mnist/idx/files)

Plain PyTorch, square images of 8, 16, 28, 32, 56 or 64 px. Only the random numbers come from amalgan:
`generator(seed, name, number)` is a stream for each purpose, so that this page and
`recipes.infogan` draw the same ones and end, weight for weight, with the same networks.
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


def networks(shape: tuple[int, ...], latent: int = 64, codes: int = 2, width: int = 32) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised."""
    decoder, verdict = writer(shape, latent, width), reader(shape, 1, width)
    guess = nn.Linear(verdict[-1].in_features, codes)
    made = {"decoder": decoder, "discriminator": nn.ModuleDict({"verdict": verdict, "guess": guess})}
    return {name: network.to(memory_format=torch.channels_last) for name, network in made.items()}


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def judge(discriminator: nn.ModuleDict, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits D(x), (B,), high for real, and the features (B, F) from which they and guesses are read."""
    features = discriminator["verdict"][:-1](2 * x - 1)
    return discriminator["verdict"][-1](features).squeeze(1), features


def slope(logits: Tensor, x: Tensor) -> Tensor:
    """|grad_x D(x)|^2, (B,), differentiable once more."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def unread(guess: Tensor, z: Tensor) -> Tensor:
    """What a guess (B, codes) does not tell of the first numbers of z: I, the mean over the batch."""
    return (guess - z[:, : guess.shape[1]]).square().sum(1).mean() / 2


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 64,
    *,
    latent: int = 64,
    codes: int = 2,
    information: float = 0.1,
    r1: float = 1.0,
    r2: float = 1.0,
    lazy: int = 8,
    width: int = 32,
    lr: float = 4e-4,
    ema: float = 0.999,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on uint8 images (N, C, S, S)."""
    torch.manual_seed(key(seed, "weights"))
    nets = networks(tuple(x_all.shape[1:]), latent, codes, width)
    level = (x_all[:1000].float() / 255).mean((0, 2, 3))  # of each channel, from which the decoder starts
    nets["decoder"][-2].bias.data = torch.logit(level, eps=0.01).repeat_interleave(4)
    generative, discriminator = nets["decoder"], nets["discriminator"]
    for_generator = torch.optim.Adam(generative.parameters(), lr=lr, betas=(0.5, 0.99), fused=True)
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.5, 0.99), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index].float() / 255
        z = torch.randn(batch, latent, generator=generator(seed, "prior", step))
        fake = torch.sigmoid(generative(z))

        # the discriminator's turn: fakes are cut from the network that made them
        both = torch.cat([x, fake.detach()]).requires_grad_()
        logits, features = judge(discriminator, both)
        real_logits, fake_logits = logits.split(batch)
        loss = softplus(fake_logits - real_logits).mean()
        if step % lazy == 0 and (r1 > 0 or r2 > 0):
            at_real, at_fake = slope(logits, both).split(batch)
            loss = loss + lazy * ((r1 * at_real.mean() + r2 * at_fake.mean()) / 2)
        loss = loss + unread(discriminator["guess"](features[batch:]), z)
        for_discriminator.zero_grad()
        loss.backward(inputs=list(discriminator.parameters()))
        for_discriminator.step()

        # the generator's turn: the discriminator is passed through, never moved
        with torch.no_grad():
            real_logits, _ = judge(discriminator, x)
        fake_logits, features = judge(discriminator, fake)
        loss = softplus(real_logits - fake_logits).mean() + information * unread(discriminator["guess"](features), z)
        for_generator.zero_grad()
        loss.backward(inputs=list(generative.parameters()))
        for_generator.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in averaged.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], shape: tuple[int, ...], n: int, seed: int = 0, columns: int = 8) -> Tensor:
    """n images m(z) from the averaged decoder, (n, C, S, S): rows of one z each, but for its first code."""
    decoder = networks(shape)["decoder"]
    decoder.load_state_dict({k: state[f"average.decoder.{k}"] for k in decoder.state_dict()})
    z = torch.randn(n // columns, decoder[0].in_features, generator=generator(seed, "picture"))
    z = z.repeat_interleave(columns, 0)
    z[:, 0] = torch.linspace(-2, 2, columns).repeat(n // columns)
    return torch.sigmoid(decoder(z))


if __name__ == "__main__":
    from amalgan.data import open, show

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or a folder of MNIST's idx files")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="infogan.png")
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.x, asked.steps, asked.seed)
    show(sample(state, data.spec.shape, 64), columns=8).save(asked.out)
    print(f"samples: {asked.out}")
