"""Sequences of tokens: a recurrent network that writes them, a convolutional one that judges them.

Writer        embedding, and a label's -> LSTM -> logits of the next token   (Yu et al. 2017, appendix; Hochreiter 1997)
Reader        embedding -> convolutions of several widths, maximum over time -> highway -> logit
                                                                     (Zhang and LeCun 2015; Srivastava et al. 2015)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as plain_dropout
from torch.nn.functional import relu

from amalgan.networks.conditions import Labels
from amalgan.networks.images import Linear32
from amalgan.noise import Noise

START = 0  # the token before the first; the end of a line, where lines have ends, so that nothing is wasted
State = tuple[Tensor, ...]  # h and c, (B, H) each; and where sequences have labels, what is said of them, (B, H)


class Writer(nn.Module):
    """p(token | tokens before): an LSTM in one matrix product a step.

    Arguments:
        vocabulary: V.
        width: of embedding and state.
        scale: standard deviation of all initial weights and biases, 0.1 in the paper.
        classes: labels that it can be told, 0 for none: a vector for each joins every token's.
    """

    def __init__(self, vocabulary: int, width: int = 32, scale: float = 0.1, classes: int = 0) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Embedding(vocabulary, width)
        self.gates = Linear32(2 * width, 4 * width)  # input, forget, output, candidate
        self.logits = Linear32(width, vocabulary)
        self.labels = Labels(classes, width) if classes else None
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, scale)

    def start(self, batch: int, label: Tensor | None = None) -> State:
        """The state before anything was read; of sequences with labels (B,), where it is told such."""
        zeros = self.logits.weight.new_zeros(batch, self.width)
        return (zeros, zeros) if self.labels is None else (zeros, zeros, self.labels(label, batch))

    def read(self, tokens: Tensor, state: State) -> State:
        """The state after one more token each, (B,)."""
        h, c, *told = state
        x = self.embedding(tokens)
        i, f, o, g = self.gates(torch.cat([x + told[0] if told else x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c, *told

    def states(self, tokens: Tensor, label: Tensor | None = None) -> list[State]:
        """The states from which tokens (B, T) are drawn, one by one: the first has read the start alone."""
        state = self.read(torch.full_like(tokens[:, 0], START), self.start(len(tokens), label))
        states = [state]
        for column in tokens.unbind(1)[:-1]:
            state = self.read(column, state)
            states.append(state)
        return states

    def forward(self, tokens: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, T), perhaps with labels (B,) -> logits (B, T, V) of each token given those before it."""
        return self.logits(torch.stack([h for h, *_ in self.states(tokens, label)], 1))


class Highway(nn.Module):
    """t * relu(W x) + (1 - t) * x with t = sigmoid(W_t x) (Srivastava et al. 2015)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.change = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        t = torch.sigmoid(self.gate(x))
        return t * relu(self.change(x)) + (1 - t) * x


class Dropout(nn.Module):
    """Dropout whose masks come from the draw's named noise, so that a run can be resumed exactly."""

    noise: Noise | None = None  # of the draw; without one, torch's own randomness

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        if self.noise is None:
            return plain_dropout(x, self.share)
        kept = self.noise.uniform("dropout", tuple(x.shape)) >= self.share
        return x * kept / (1 - self.share)


class Reader(nn.Module):
    """tokens (B, T) -> logits (B,), high for real, and features (B, F).

    Arguments:
        vocabulary: V.
        length: T; convolutions wider than that are left out.
        widths: of the convolutions, in tokens.
        maps: of each; the paper has 12 widths from 1 to 20 with 1,720 maps in all.
        embedding: width of a token's embedding.
        dropped: share of the features that is dropped in training.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        widths: Sequence[int] = (1, 2, 3, 4, 5),
        maps: Sequence[int] = (64, 64, 64, 64, 64),
        embedding: int = 64,
        dropped: float = 0.25,
    ) -> None:
        super().__init__()
        used = [(width, count) for width, count in zip(widths, maps, strict=True) if width <= length]
        features = sum(count for _, count in used)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding, count, width) for width, count in used)
        self.highway, self.dropout, self.verdict = Highway(features), Dropout(dropped), Linear32(features, 1)
        nn.init.uniform_(self.embedding.weight, -1, 1)
        for name, parameter in self.convolutions.named_parameters():
            nn.init.trunc_normal_(parameter, 0, 0.1) if name.endswith("weight") else nn.init.constant_(parameter, 0.1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embedding(tokens).transpose(1, 2)
        features = torch.cat([relu(convolution(x)).amax(2) for convolution in self.convolutions], 1)
        features = self.highway(features)
        return self.verdict(self.dropout(features)).squeeze(1), features


# The discriminator of the paper's released code, and one that is a hundredth of the work
PAPER: dict[str, Any] = {
    "widths": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20),
    "maps": (100, 200, 200, 200, 200, 100, 100, 100, 100, 100, 160, 160),
}
