"""CVAE-GAN on one page: a VAE that is told labels, and judged, classified and matched (Bao et al. 2017).

    q(z|x, c) = N(mu(x, c), sigma(x, c)^2)   encoder         p(z) = N(0, I)
    p(x|z, c) = N(m(z, c), v)                decoder         x~ = m(z, c),  z ~ q(z|x, c);   x_p = m(z_p, c),  z_p ~ p(z)
    D(x), C(c|x), f(x)                       discriminator: a logit, high for real, a guess of c, and the features of both

Means over the fakes x~ and x_p, s(a) = log(1 + e^a), H(x) = -log C(c|x):

    L_D = s(-D(x)) + s(D(fake)) + 1/2 (r1 |grad_x D(x)|^2 + r2 |grad D(fake)|^2) + H(x) + H(fake)
    L   = -log p(x|z, c) + beta KL(q(z|x, c) || p(z)) + lam values (s(-D(fake)) + H(fake) + matching |E f(x) - E f(fake)|^2)

Encoder and decoder minimise L, with `lam` per value of x, since the ELBO is a sum over values. A label is told as a learned
vector, beside the code, or as constant channels beside the image (Mirza and Osindero 2014). A tenth of the labels is hidden:
unknown is one more label, which costs the classifier nothing.

Bao et al. have the decoder match features in place of the game and the cross entropy, which here it does besides; their
means are those of each class for the classifier, here of the batch; their reconstructions match the features of their x,
too. Their classifier is a network of its own, taught by data alone; here it is part of the discriminator, and taught by
fakes as well (Odena et al. 2017). Penalties on slopes act on every 8th step, 8 times as strong. The picture has a column
for each class.

    python standalone/cvaegan.py --data digits --steps 500          (or --data a/folder/of/mnist/idx/files)

Plain PyTorch, square images of 8, 16, 28, 32, 56 or 64 px. Only the random numbers come from amalgan:
`generator(seed, name, number)` is a stream for each purpose, so that this page and
`recipes.cvaegan` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

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


def networks(shape: tuple[int, ...], classes: int, latent: int = 32, width: int = 32) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised. The last label is the unknown one."""
    decoder, of_decoder = writer(shape, latent + 32, width), nn.Embedding(classes + 1, 32)
    encoder, of_encoder = reader((shape[0] + 8, *shape[1:]), 2 * latent, width), nn.Embedding(classes + 1, 8)
    verdict = reader(shape, 1, width)
    made = {
        "decoder": nn.ModuleDict({"image": decoder, "label": of_decoder}),
        "encoder": nn.ModuleDict({"code": encoder, "label": of_encoder}),
        "discriminator": nn.ModuleDict({"verdict": verdict, "guess": nn.Linear(verdict[-1].in_features, classes)}),
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


def told(label: nn.Embedding, c: Tensor) -> Tensor:
    """A vector for each label c (B,), -1 for unknown."""
    return label(torch.where(c < 0, label.num_embeddings - 1, c))


def encode(encoder: nn.ModuleDict, x: Tensor, c: Tensor) -> Tensor:
    """mu, then log sigma^2, (B, 2 d)."""
    planes = told(encoder["label"], c)[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return encoder["code"](2 * torch.cat([x, planes], 1) - 1)


def decode(decoder: nn.ModuleDict, z: Tensor, c: Tensor) -> Tensor:
    """(B, C, S, S), before the logistic."""
    return decoder["image"](torch.cat([z, told(decoder["label"], c)], 1))


def judge(discriminator: nn.ModuleDict, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits D(x), (B,), high for real, and the features f(x), (B, F), from which they and guesses are read."""
    features = discriminator["verdict"][:-1](2 * x - 1)
    return discriminator["verdict"][-1](features).squeeze(1), features


def misread(discriminator: nn.ModuleDict, features: Tensor, c: Tensor) -> Tensor:
    """H: -log C(c|x), the mean over the batch, where what is unknown counts as nothing."""
    return cross_entropy(discriminator["guess"](features), c, ignore_index=-1, reduction="sum") / len(c)


def slope(logits: Tensor, x: Tensor) -> Tensor:
    """|grad_x D(x)|^2, (B,), differentiable once more."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def train(
    x_all: Tensor,
    c_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 64,
    *,
    latent: int = 32,
    beta: float = 1.0,
    lam: float = 0.125,
    matching: float = 0.1,
    r1: float = 1.0,
    r2: float = 1.0,
    lazy: int = 8,
    hidden: float = 0.1,
    width: int = 32,
    variance: float = 0.02,
    lr: float = 4e-4,
    ema: float = 0.999,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on uint8 images (N, C, S, S) with labels (N,), -1 unknown."""
    torch.manual_seed(key(seed, "weights"))
    nets = networks(tuple(x_all.shape[1:]), int(c_all.max()) + 1, latent, width)
    level = (x_all[:1000].float() / 255).mean((0, 2, 3))  # of each channel, from which the decoder starts
    nets["decoder"]["image"][-2].bias.data = torch.logit(level, eps=0.01).repeat_interleave(4)
    encoder, decoder, discriminator = nets["encoder"], nets["decoder"], nets["discriminator"]
    of_encoder, of_decoder, of_discriminator = (list(n.parameters()) for n in (encoder, decoder, discriminator))
    for_vae = torch.optim.Adam([*of_encoder, *of_decoder], lr=lr, betas=(0.5, 0.99), fused=True)
    for_discriminator = torch.optim.Adam(of_discriminator, lr=lr, betas=(0.5, 0.99), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}

    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        x = x_all[index].float() / 255
        uniform = torch.special.ndtr(torch.randn(batch, generator=generator(seed, "hidden", step)))
        c = torch.where(uniform < hidden, -1, c_all[index])
        mu, log_variance = encode(encoder, x, c).chunk(2, 1)
        log_variance = log_variance.clamp(-14, 8)  # beyond, exp overflows or the noise is below rounding
        z = mu + torch.exp(0.5 * log_variance) * torch.randn(mu.shape, generator=generator(seed, "posterior", step))
        raw = decode(decoder, z, c)
        constant = x[0].numel() * 0.5 * math.log(2 * math.pi * variance)
        log_p = -((x - torch.sigmoid(raw)) ** 2 / (2 * variance)).flatten(1).sum(1) - constant
        kl = 0.5 * (mu**2 + torch.exp(log_variance) - 1 - log_variance)
        reconstruction = torch.sigmoid(raw)
        z_p = torch.randn(batch, latent, generator=generator(seed, "prior", step))
        fake = torch.sigmoid(decode(decoder, z_p, c))

        # the discriminator's turn: fakes are cut from the networks that made them
        judged = torch.cat([x, reconstruction.detach(), fake.detach()]).requires_grad_()
        logits, features = judge(discriminator, judged)
        real_logits, *fakes_logits = logits.split(batch)
        loss = softplus(-real_logits).mean() + sum(softplus(f).mean() for f in fakes_logits) / 2
        if step % lazy == 0 and (r1 > 0 or r2 > 0):
            at_real, at_fakes = slope(logits, judged).split([batch, 2 * batch])
            loss = loss + lazy * ((r1 * at_real.mean() + r2 * at_fakes.mean()) / 2)
        of_real, *of_fakes = (misread(discriminator, f, c) for f in features.split(batch))
        loss = loss + of_real + sum(of_fakes) / 2
        for_discriminator.zero_grad()
        loss.backward(inputs=of_discriminator)
        for_discriminator.step()

        # the generator's turn: the discriminator is passed through, never moved
        with torch.no_grad():
            _, real_features = judge(discriminator, x)
        logits, features = judge(discriminator, torch.cat([reconstruction, fake]))
        game = sum(softplus(-f).mean() for f in logits.split(batch)) / 2
        misreading = sum(misread(discriminator, f, c) for f in features.split(batch)) / 2
        apart = sum((f.mean(0) - real_features.mean(0)).square().sum() for f in features.split(batch)) / 2
        weight = lam * x[0].numel()
        loss = -log_p.mean() + beta * kl.mean(0).sum() + weight * (game + misreading + matching * apart)
        for_vae.zero_grad()
        loss.backward(inputs=[*of_encoder, *of_decoder])
        for_vae.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in averaged.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], shape: tuple[int, ...], c: Tensor, seed: int = 0) -> Tensor:
    """An image m(z, c), z ~ N(0, I), from the averaged decoder for each label c (n,): (n, C, S, S)."""
    decoder = networks(shape, len(state["decoder.label.weight"]) - 1)["decoder"]
    decoder.load_state_dict({k: state[f"average.decoder.{k}"] for k in decoder.state_dict()})
    latent = decoder["image"][0].in_features - 32
    return torch.sigmoid(decode(decoder, torch.randn(len(c), latent, generator=generator(seed, "picture")), c))


if __name__ == "__main__":
    from amalgan.data import open, show

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or a folder of MNIST's idx files")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="cvaegan.png")
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.x, data.train.c, asked.steps, asked.seed)
    classes = len(data.spec.classes)
    show(sample(state, data.spec.shape, torch.arange(classes).repeat(8)), columns=classes).save(asked.out)
    print(f"samples: {asked.out}")
