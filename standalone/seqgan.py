"""SeqGAN on one page (Yu et al. 2017): a writer of tokens is paid for each by what a reader makes of its completions.

    writer  p(x_t | x_<t)       an LSTM and a linear layer          reader  D(x)      convolutions, maximum, highway

    1  likelihood               L = -log p(x)
    2  the reader alone         L_D = s(-d(x)) + s(d(fake)),  D = sigmoid(d),  s(a) = log(1 + e^a)
    3  both, in turns           L = -sum_t log p(y_t | y_<t) (Q_t - b_t),  y ~ p
                                Q_t = 1/N sum_n D(y_1..y_t, completion n),  Q_T = D(y),  b_t the batch's mean

No gradient passes through a token: log p(y_t) is pushed up by what it earned more than others did at its place.

    python standalone/seqgan.py --data captions.txt --steps 2000

Plain PyTorch. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream for each purpose,
so that this page and `recipes.seqgan` draw the same ones and end, weight for weight, with the same networks.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from amalgan.noise import generator, key

Pair = tuple[Tensor, Tensor]


class Writer(nn.Module):
    """p(token | tokens before): an LSTM in one matrix product a step, all weights N(0, 0.1^2)."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocabulary, width)
        self.gates = nn.Linear(2 * width, 4 * width)  # input, forget, output, candidate
        self.logits = nn.Linear(width, vocabulary)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.1)

    def read(self, tokens: Tensor, state: Pair) -> Pair:
        h, c = state
        i, f, o, g = self.gates(torch.cat([self.embedding(tokens), h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def states(self, tokens: Tensor) -> list[Pair]:
        """The states from which tokens (B, T) are drawn, one by one: the first has read the start, token 0, alone."""
        zeros = tokens.new_zeros(len(tokens), self.width, dtype=torch.float32)
        found = [self.read(torch.zeros_like(tokens[:, 0]), (zeros, zeros))]
        for column in tokens.unbind(1)[:-1]:
            found.append(self.read(column, found[-1]))
        return found


class Reader(nn.Module):
    """tokens (B, T) -> d (B,), high for real."""

    def __init__(self, vocabulary: int, length: int, maps: int = 64) -> None:
        super().__init__()
        widths = [width for width in (1, 2, 3, 4, 5) if width <= length]
        features = maps * len(widths)
        self.embedding = nn.Embedding(vocabulary, 64)
        self.convolutions = nn.ModuleList(nn.Conv1d(64, maps, width) for width in widths)
        self.gate, self.change = nn.Linear(features, features), nn.Linear(features, features)
        self.verdict = nn.Linear(features, 1)
        nn.init.uniform_(self.embedding.weight, -1, 1)
        for name, parameter in self.convolutions.named_parameters():
            nn.init.trunc_normal_(parameter, 0, 0.1) if name.endswith("weight") else nn.init.constant_(parameter, 0.1)

    def features(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(1, 2)
        x = torch.cat([relu(convolution(x)).amax(2) for convolution in self.convolutions], 1)
        t = torch.sigmoid(self.gate(x))
        return t * relu(self.change(x)) + (1 - t) * x

    def forward(self, tokens: Tensor) -> Tensor:
        return self.verdict(self.features(tokens)).squeeze(1)


def uniform(shape: tuple[int, ...], *stream: object) -> Tensor:
    """Numbers in [0, 1) from a named stream."""
    return torch.special.ndtr(torch.randn(shape, generator=generator(*stream)))


def pick(logits: Tensor, u: Tensor) -> Tensor:
    """A token for each row: the inverse of the cumulative distribution at u (B,)."""
    cumulative = torch.softmax(logits, 1).cumsum(1)
    return (
        torch.searchsorted(cumulative, u[:, None] * cumulative[:, -1:], right=True)
        .squeeze(1)
        .clamp(max=logits.shape[1] - 1)
    )


def alive(tokens: Tensor) -> Tensor:
    """Which tokens count: up to the first end, itself included."""
    ends = tokens == 0
    return (ends.cumsum(1) - ends.long()) == 0


def log_probs(writer: Writer, tokens: Tensor) -> Tensor:
    """log p(x_t | x_<t), (B, T), 0 after the end."""
    logits = writer.logits(torch.stack([h for h, _ in writer.states(tokens)], 1))
    chosen = torch.log_softmax(logits, 2).gather(2, tokens.unsqueeze(2)).squeeze(2)
    return torch.where(alive(tokens), chosen, chosen.new_zeros(()))


@torch.no_grad()
def go_on(writer: Writer, tokens: Tensor, state: Pair, u: Tensor) -> Tensor:
    """Prefixes (B, P) with the state after them, completed to (B, T) by the numbers u (B, T)."""
    columns, over = list(tokens.unbind(1)), (tokens == 0).any(1)
    for t in range(len(columns), u.shape[1]):
        columns.append(torch.where(over, 0, pick(writer.logits(state[0]), u[:, t])))
        over |= columns[-1] == 0
        state = writer.read(columns[-1], state)
    return torch.stack(columns, 1)


def write(writer: Writer, u: Tensor) -> Tensor:
    """Lines (B, T) from numbers u (B, T)."""
    zeros = torch.zeros(len(u), writer.width)
    start = torch.zeros(len(u), dtype=torch.int64)
    return go_on(writer, start[:, None][:, :0], writer.read(start, (zeros, zeros)), u)


@torch.no_grad()
def payments(writer: Writer, reader: Reader, lines: Tensor, u: Tensor, rollouts: int) -> Tensor:
    """Q (B, T): the mean judgement of completions of every prefix, and of the whole line."""
    length, states, paid = lines.shape[1], writer.states(lines), []
    for t in range(1, length):
        state = tuple(part.repeat(rollouts, 1) for part in states[t])
        done = go_on(writer, lines[:, :t].repeat(rollouts, 1), state, u[t - 1])
        paid.append(torch.sigmoid(reader(done)).view(rollouts, -1).mean(0))
    return torch.stack([*paid, torch.sigmoid(reader(lines))], 1)


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
    width: int = 32,
    dropout: float = 0.25,
    rollouts: int = 16,
    pretrain: float = 0.8,
    judging: float = 0.1,
    critic_steps: int = 5,
    lr: float = 1e-2,
    policy_lr: float = 1e-3,
    critic_lr: float = 1e-4,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on tokens (N, T)."""
    torch.manual_seed(key(seed, "weights"))
    vocabulary, length = int(x_all.max()) + 1, x_all.shape[1]
    writer, reader = Writer(vocabulary, width), Reader(vocabulary, length)
    for_writer = torch.optim.Adam(writer.parameters(), lr=lr, betas=(0.9, 0.999), fused=True)
    for_reader = torch.optim.Adam(reader.parameters(), lr=critic_lr, betas=(0.9, 0.999), fused=True)
    weights = {f"generator.{name}": weight for name, weight in writer.state_dict().items()}
    judged = {f"discriminator.{name}": weight for name, weight in reader.state_dict().items()}
    average = {name: weight.clone() for name, weight in weights.items()}

    def move(loss: Tensor, network: nn.Module, optimiser: torch.optim.Adam) -> None:
        optimiser.zero_grad()
        loss.backward(inputs=list(network.parameters()))
        nn.utils.clip_grad_norm_(network.parameters(), 5.0 * length)
        optimiser.step()

    order = batches(len(x_all), batch, seed)
    for step in range(steps):
        stage = 1 if step < pretrain * steps - 1e-6 else 2 if step < (pretrain + judging) * steps - 1e-6 else 3
        for turn in range(critic_steps):
            number = step * critic_steps + turn
            x = x_all[next(order)]
            if stage > 1:
                fake = write(writer, uniform((batch, length), seed, "fake", number))
                features = reader.features(torch.cat([x, fake]))
                kept = uniform(tuple(features.shape), seed, "dropout", number) >= dropout
                real, made = reader.verdict(features * kept / (1 - dropout)).squeeze(1).split(batch)
                move((softplus(-real) + softplus(made)).mean(), reader, for_reader)
        if stage == 1:
            move(-log_probs(writer, x).sum(1).mean(), writer, for_writer)
        if stage == 3:
            for_writer.param_groups[0]["lr"] = policy_lr
            u = uniform((batch, length - 1, rollouts, length), seed, "rollouts", number)
            paid = payments(writer, reader, fake, u.permute(1, 2, 0, 3).flatten(1, 2), rollouts)
            counts = alive(fake)
            usual = (paid * counts).sum(0) / counts.float().sum(0).clamp(min=1e-8)
            move(-(log_probs(writer, fake) * (paid - usual)).sum(1).mean(), writer, for_writer)
        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in weights.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **judged, **{f"average.{name}": value for name, value in average.items()}}


if __name__ == "__main__":
    from amalgan.data.text import open, tell

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a text file, one line a sequence")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.tensor(), asked.steps, asked.seed)
    writer = Writer(*state["generator.embedding.weight"].shape)
    writer.load_state_dict({k: state[f"average.generator.{k}"] for k in writer.state_dict()})
    print("\n".join(tell(write(writer, uniform((20, data.spec.shape[0]), 0, "lines")), data.spec)))
