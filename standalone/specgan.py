"""SpecGAN on one page: WaveGAN's twin on spectrograms (Donahue, McAuley and Puckette 2019).

    x       log |S|, a row for each frequency, in units of its own: mean 0, deviation 1, cut off at 3, brought to [0, 1]
    fake    = m(2 Phi(z) - 1), z ~ N(0, I)     decoder, here called generator: noise uniform in [-1, 1], transposed
                                               convolutions of 5 x 5 and stride 2, from 4 x 4 places to all of x
    D(x)                                       discriminator: the same backwards, a logit, high for real

    L_D = D(fake) - D(x) + 10 (|grad D(x^)| - 1)^2,     x^ on the line between x and fake        Gulrajani et al. 2017
    L_G = -D(fake)                                      after five turns of the discriminator

It is `wavegan.py` with every convolution of length 25 and stride 4 folded into one of 5 x 5 and stride 2, so that both networks
have as many weights as theirs; phases are found afterwards (Griffin and Lim 1984), so that there are none to shuffle.

The paper's own: all of the above, Adam's step size 1e-4 and decay rates (0.5, 0.9), batches of 64, the initial weights; at 128 x
128 and width 64 its networks. Our own: spectrograms in [0, 1], by which slopes are taken, not in [-1, 1]; a width of 16,
averaged weights.

    python standalone/specgan.py --data recordings/ --steps 500          (a folder, zip or tar of WAVs)

Plain PyTorch, sides that are powers of two, of 16 and more. Only the random numbers come from amalgan: `generator(seed, name,
number)` is a stream for each purpose, so that this page and `recipes.specgan` draw the same ones and end, weight for weight,
with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import wave
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from amalgan.noise import generator, key


def widths(side: int, width: int) -> list[int]:
    """Channels from fine to coarse, doubled whenever a side is halved, down to 4."""
    return [width * 2**level for level in range(side.bit_length() - 3)]


def started(layer: nn.Module) -> nn.Module:
    """A layer with the initial weights of the authors' code."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Generator(nn.Module):
    """z (B, d) -> (B, 1, S, S) in [0, 1]."""

    def __init__(self, side: int, latent: int, width: int) -> None:
        super().__init__()
        channels = widths(side, width)[::-1]
        self.code = started(nn.Linear(latent, channels[0] * 4 * 4))
        pairs = itertools.pairwise([*channels, 1])
        self.ups = nn.ModuleList(started(nn.ConvTranspose2d(a, b, 5, 2, padding=2, output_padding=1)) for a, b in pairs)

    def forward(self, z: Tensor) -> Tensor:
        h = self.code(2 * torch.special.ndtr(z) - 1).view(len(z), -1, 4, 4)
        for up in self.ups:
            h = up(relu(h))
        return (1 + torch.tanh(h)) / 2


class Discriminator(nn.Module):
    """x (B, 1, S, S) in [0, 1] -> logits (B,), high for real."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        channels = [1, *widths(side, width)]
        self.downs = nn.ModuleList(started(nn.Conv2d(a, b, 5, 2, padding=2)) for a, b in itertools.pairwise(channels))
        self.verdict = started(nn.Linear(channels[-1] * 4 * 4, 1, bias=False))  # differences feel no bias

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x - 1
        for down in self.downs:
            h = leaky_relu(down(h), 0.2)
        return self.verdict(h.flatten(1)).squeeze(1)


def networks(side: int, latent: int = 100, width: int = 16) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised."""
    made = {"decoder": Generator(side, latent, width), "discriminator": Discriminator(side, width)}
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
    latent: int = 100,
    gradient_penalty: float = 10.0,
    critic_steps: int = 5,
    width: int = 16,
    lr: float = 1e-4,
    ema: float = 0.999,
) -> dict[str, Tensor]:
    """Weights by name, and averages of the decoder's, after `steps` steps on uint8 spectrograms (N, 1, S, S)."""
    torch.manual_seed(key(seed, "weights"))
    nets = networks(x_all.shape[2], latent, width)
    decoder, discriminator = nets["decoder"], nets["discriminator"]
    for_generator = torch.optim.Adam(decoder.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}
    order = batches(len(x_all), batch, seed)

    for step in range(steps):
        # the discriminator's turns, each on a draw of its own: fakes are cut from the network that made them
        for draw in range(critic_steps * step, critic_steps * (step + 1)):
            x = (x_all[next(order)].float() / 255).contiguous(memory_format=torch.channels_last)
            fake = decoder(torch.randn(batch, latent, generator=generator(seed, "prior", draw)))
            real_logits, fake_logits = discriminator(torch.cat([x, fake.detach()])).split(batch)
            loss = (fake_logits - real_logits).mean()
            if gradient_penalty > 0:
                share = torch.special.ndtr(torch.randn(batch, generator=generator(seed, "between fake", draw)))
                share = share.view(-1, 1, 1, 1)
                between = (share * x + (1 - share) * fake.detach()).requires_grad_()
                (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
                length = (slope.square().flatten(1).sum(1) + 1e-12).sqrt()
                loss = loss + gradient_penalty * (length - 1).square().mean()
            for_discriminator.zero_grad()
            loss.backward(inputs=list(discriminator.parameters()))
            for_discriminator.step()

        # the generator's turn, on the last draw: the discriminator is passed through, never moved
        loss = -discriminator(fake).mean()
        for_generator.zero_grad()
        loss.backward(inputs=list(decoder.parameters()))
        for_generator.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in averaged.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], side: int, n: int, seed: int = 0) -> Tensor:
    """n spectrograms (n, 1, S, S) in [0, 1], z ~ N(0, I), from the averaged decoder."""
    latent = state["average.decoder.code.weight"].shape[1]
    decoder = networks(side, latent)["decoder"]
    decoder.load_state_dict({k: state[f"average.decoder.{k}"] for k in decoder.state_dict()})
    return decoder(torch.randn(n, latent, generator=generator(seed, "picture")))


if __name__ == "__main__":
    from amalgan.data.sound import form_of, open

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder, zip or tar of WAVs")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="specgan.wav")
    asked = parser.parse_args()
    data = open(asked.data, form="spectra")
    state = train(data.train.x, asked.steps, asked.seed)
    made = form_of(data.spec).inverse(sample(state, data.spec.shape[1], 10))
    with wave.open(asked.out, "wb") as file:
        file.setparams((1, 2, data.spec.details["rate"], 0, "NONE", ""))
        file.writeframes((32767 * made.flatten()).round().short().numpy().astype("<i2").tobytes())
    print(f"samples, one after the other: {asked.out}")
