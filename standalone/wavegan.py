"""WaveGAN on one page: sound made sample by sample (Donahue, McAuley and Puckette 2019).

    fake = m(2 Phi(z) - 1), z ~ N(0, I)     decoder, here called generator: noise uniform in [-1, 1], transposed convolutions of
                                            length 25 and stride 4, from 16 places (up to 32) to all samples, in [-1, 1]
    D(x)                                    discriminator: the same backwards, a logit, high for real

    L_D = D(fake) - D(x) + 10 (|grad D(x^)| - 1)^2,     x^ on the line between x and fake        Gulrajani et al. 2017
    L_G = -D(fake)                                      after five turns of the discriminator

    y_i = x_r(i - k),   k = -2 .. 2,   r(j) = |j|, 2 (L - 1) - j       phase shuffle: maps of D are moved, mirrored at their ends

Transposed convolutions leave a pitch behind, always at the same phase; a discriminator that may learn that phase wins and
teaches nothing. So each of its maps but the last is moved by some samples, other ones for every example and pass.

The paper's own: all of the above, Adam's step size 1e-4 and decay rates (0.5, 0.9), batches of 64, the initial weights; at 16,384
samples and width 64 its networks. Our own: a width of 16, averaged weights, shifts for each example (their code: for a batch).

    python standalone/wavegan.py --data recordings/ --steps 500          (a folder, zip or tar of WAVs)

Plain PyTorch. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream for each purpose, so that
this page and `recipes.wavegan` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
import wave
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad, relu

from amalgan.noise import generator, key


def lengths(samples: int) -> list[int]:
    """Of the maps from fine to coarse, each a fourth of the one before, down to at most 32: 16384, 4096, 1024, 256, 64, 16."""
    made = [samples]
    while made[-1] > 32:
        made.append(-(-made[-1] // 4))
    return made


def started(layer: nn.Module) -> nn.Module:
    """A layer with the initial weights of the authors' code."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Generator(nn.Module):
    """z (B, d) -> (B, 1, samples) in [-1, 1]."""

    def __init__(self, samples: int, latent: int, width: int) -> None:
        super().__init__()
        self.lengths = lengths(samples)[::-1]
        channels = [width * 2**level for level in range(len(self.lengths) - 1)][::-1]
        self.code = started(nn.Linear(latent, channels[0] * self.lengths[0]))
        pairs = itertools.pairwise([*channels, 1])
        self.ups = nn.ModuleList(
            started(nn.ConvTranspose1d(a, b, 25, 4, padding=11, output_padding=1)) for a, b in pairs
        )

    def forward(self, z: Tensor) -> Tensor:
        h = self.code(2 * torch.special.ndtr(z) - 1).view(len(z), -1, self.lengths[0])
        for up, length in zip(self.ups, self.lengths[1:]):
            h = up(relu(h))[:, :, :length]  # four times as many may be a few too many
        return torch.tanh(h)


class Discriminator(nn.Module):
    """x (B, 1, samples), one shift (B,) for each layer but the last -> logits (B,), high for real."""

    def __init__(self, samples: int, width: int) -> None:
        super().__init__()
        coarsest = lengths(samples)[-1]
        channels = [1, *(width * 2**level for level in range(len(lengths(samples)) - 1))]
        self.downs = nn.ModuleList(started(nn.Conv1d(a, b, 25, 4, padding=11)) for a, b in itertools.pairwise(channels))
        self.verdict = started(nn.Linear(channels[-1] * coarsest, 1, bias=False))  # differences feel no bias

    def forward(self, x: Tensor, shifts: list[Tensor]) -> Tensor:
        for down, by in itertools.zip_longest(self.downs, shifts):
            x = leaky_relu(down(pad(x, (0, -x.shape[2] % 4))), 0.2)
            x = x if by is None else shifted(x, by)
        return self.verdict(x.flatten(1)).squeeze(1)


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """x (B, C, L), each example later by so many samples, by (B,), mirrored at the ends."""
    last = x.shape[2] - 1
    place = (torch.arange(last + 1) - by[:, None]).abs()
    place = last - (last - place).abs()
    return x.gather(2, place[:, None].expand_as(x))


def networks(samples: int, latent: int = 100, width: int = 16) -> dict[str, nn.Module]:
    """The networks by name, in the order in which they are initialised."""
    return {"decoder": Generator(samples, latent, width), "discriminator": Discriminator(samples, width)}


def batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Indices (B,), epoch after epoch, each a permutation of its own; a batch may hold the end of one and the next."""
    left = torch.empty(0, dtype=torch.int64)
    for epoch in itertools.count():
        left = torch.cat([left, torch.randperm(count, generator=generator(seed, "order", epoch))])
        while len(left) >= batch:
            yield left[:batch]
            left = left[batch:]


def uniform(*stream: object, count: int) -> Tensor:
    """(count,) in [0, 1]."""
    return torch.special.ndtr(torch.randn(count, generator=generator(*stream)))


def train(
    x_all: Tensor,
    steps: int,
    seed: int = 0,
    batch: int = 64,
    *,
    latent: int = 100,
    shuffle: int = 2,
    gradient_penalty: float = 10.0,
    critic_steps: int = 5,
    width: int = 16,
    lr: float = 1e-4,
    ema: float = 0.999,
) -> dict[str, Tensor]:
    """Weights by name, and averages of the decoder's, after `steps` steps on clips of 16 bits (N, 1, samples)."""
    torch.manual_seed(key(seed, "weights"))
    nets = networks(x_all.shape[2], latent, width)
    decoder, discriminator = nets["decoder"], nets["discriminator"]
    for_generator = torch.optim.Adam(decoder.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)
    weights = {f"{name}.{k}": w for name, network in nets.items() for k, w in network.state_dict().items()}
    averaged = {name: weight for name, weight in weights.items() if not name.startswith("discriminator")}
    average = {name: weight.clone() for name, weight in averaged.items()}
    order = batches(len(x_all), batch, seed)

    def shifts(draw: int, turn: str, fields: int) -> list[Tensor]:
        """For each layer but the last (fields * B,) shifts, evenly from -shuffle to shuffle."""
        made = []
        for layer in range(len(lengths(x_all.shape[2])) - 2 if shuffle else 0):
            dice = [uniform(seed, f"phase {turn} {of} {layer}", draw, count=batch) for of in range(fields)]
            made.append(((2 * shuffle + 1) * torch.cat(dice)).floor().clamp(max=2 * shuffle).long() - shuffle)
        return made

    for step in range(steps):
        # the discriminator's turns, each on a draw of its own: fakes are cut from the network that made them
        for draw in range(critic_steps * step, critic_steps * (step + 1)):
            x = x_all[next(order)].float() / 32767
            fake = decoder(torch.randn(batch, latent, generator=generator(seed, "prior", draw)))
            both = torch.cat([x, fake.detach()])
            real_logits, fake_logits = discriminator(both, shifts(draw, "discriminator 0", 2)).split(batch)
            loss = (fake_logits - real_logits).mean()
            if gradient_penalty > 0:
                share = uniform(seed, "between fake", draw, count=batch).view(-1, 1, 1)
                between = (share * x + (1 - share) * fake.detach()).requires_grad_()
                logits = discriminator(between, shifts(draw, "discriminator 1", 1))
                (slope,) = torch.autograd.grad(logits.sum(), between, create_graph=True)
                length = (slope.square().flatten(1).sum(1) + 1e-12).sqrt()
                loss = loss + gradient_penalty * (length - 1).square().mean()
            for_discriminator.zero_grad()
            loss.backward(inputs=list(discriminator.parameters()))
            for_discriminator.step()

        # the generator's turn, on the last draw: the discriminator is passed through, never moved
        loss = -discriminator(fake, shifts(draw, "generator 0", 1)).mean()
        for_generator.zero_grad()
        loss.backward(inputs=list(decoder.parameters()))
        for_generator.step()

        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in averaged.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], samples: int, n: int, seed: int = 0) -> Tensor:
    """n clips (n, samples) in [-1, 1], z ~ N(0, I), from the averaged decoder."""
    latent = state["average.decoder.code.weight"].shape[1]
    decoder = networks(samples, latent)["decoder"]
    decoder.load_state_dict({k: state[f"average.decoder.{k}"] for k in decoder.state_dict()})
    return decoder(torch.randn(n, latent, generator=generator(seed, "picture")))[:, 0]


if __name__ == "__main__":
    from amalgan.data.sound import open

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder, zip or tar of WAVs")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="wavegan.wav")
    asked = parser.parse_args()
    data = open(asked.data, form="waves")
    state = train(data.train.x, asked.steps, asked.seed)
    made = sample(state, data.spec.shape[1], 10)
    with wave.open(asked.out, "wb") as file:
        file.setparams((1, 2, data.spec.details["rate"], 0, "NONE", ""))
        file.writeframes((32767 * made.flatten()).round().short().numpy().astype("<i2").tobytes())
    print(f"samples, one after the other: {asked.out}")
