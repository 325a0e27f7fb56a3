"""Maximum likelihood of sequences of tokens, on one page: the baseline that every text GAN has to beat.

    log p(x) = sum_t log p(x_t | x_1..x_{t-1}),     an LSTM and a linear layer; token 0 ends a line and begins the next
    L        = -log p(x)                            nats per line

    python standalone/mle.py --data captions.txt --steps 2000

Plain PyTorch. Only the random numbers come from amalgan: `generator(seed, name, number)` is a stream for each purpose,
so that this page and `recipes.mle` draw the same ones and end, weight for weight, with the same network.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from amalgan.noise import generator, key


class Writer(nn.Module):
    """p(token | tokens before): an LSTM in one matrix product a step, all weights N(0, 0.1^2) (Yu et al. 2017)."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocabulary, width)
        self.gates = nn.Linear(2 * width, 4 * width)  # input, forget, output, candidate
        self.logits = nn.Linear(width, vocabulary)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.1)

    def read(self, tokens: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, o, g = self.gates(torch.cat([self.embedding(tokens), h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> logits (B, T, V) of each token given those before it."""
        h = c = tokens.new_zeros(len(tokens), self.width, dtype=torch.float32)
        hidden = []
        for token in [torch.zeros_like(tokens[:, 0]), *tokens.unbind(1)[:-1]]:
            h, c = self.read(token, h, c)
            hidden.append(h)
        return self.logits(torch.stack(hidden, 1))


def log_prob(writer: Writer, tokens: Tensor) -> Tensor:
    """log p(x) in nats, (B,): what stands after the first end does not count."""
    chosen = torch.log_softmax(writer(tokens), 2).gather(2, tokens.unsqueeze(2)).squeeze(2)
    ends = tokens == 0
    alive = (ends.cumsum(1) - ends.long()) == 0
    return torch.where(alive, chosen, chosen.new_zeros(())).sum(1)


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
    lr: float = 1e-2,
    ema: float = 0.99,
) -> dict[str, Tensor]:
    """Weights and averaged weights by name, after `steps` steps on tokens (N, T)."""
    torch.manual_seed(key(seed, "weights"))
    writer = Writer(int(x_all.max()) + 1, width)
    optimiser = torch.optim.Adam(writer.parameters(), lr=lr, betas=(0.9, 0.999), fused=True)
    weights = {f"generator.{name}": weight for name, weight in writer.state_dict().items()}
    average = {name: weight.clone() for name, weight in weights.items()}
    for step, index in zip(range(steps), batches(len(x_all), batch, seed)):
        loss = -log_prob(writer, x_all[index]).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(writer.parameters(), 5.0 * x_all.shape[1])
        optimiser.step()
        decay = min(ema, (1 + step) / (10 + step))  # young averages forget faster
        for name, weight in weights.items():
            average[name].lerp_(weight, 1 - decay)
    return {**weights, **{f"average.{name}": value for name, value in average.items()}}


@torch.no_grad()
def sample(state: dict[str, Tensor], length: int, n: int, seed: int = 0) -> Tensor:
    """n lines (n, T) from the averaged writer."""
    vocabulary, width = state["generator.embedding.weight"].shape
    writer = Writer(vocabulary, width)
    writer.load_state_dict({k: state[f"average.generator.{k}"] for k in writer.state_dict()})
    source, lines = generator(seed, "lines"), torch.zeros(n, length + 1, dtype=torch.int64)
    h = c = torch.zeros(n, width)
    over = torch.zeros(n, dtype=torch.bool)
    for t in range(length):
        h, c = writer.read(lines[:, t], h, c)
        token = torch.multinomial(torch.softmax(writer.logits(h), 1), 1, generator=source).squeeze(1)
        lines[:, t + 1] = torch.where(over, 0, token)
        over |= token == 0
    return lines[:, 1:]


if __name__ == "__main__":
    from amalgan.data.text import open, tell

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a text file, one line a sequence")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = open(asked.data)
    state = train(data.train.tensor(), asked.steps, asked.seed)
    print("\n".join(tell(sample(state, data.spec.shape[0], 20), data.spec)))
