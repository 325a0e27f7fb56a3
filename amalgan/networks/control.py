"""What acts, what it expects to be paid, and what judges it: small networks of two hidden layers (Ho and Ermon 2016).

Policy      observation -> log-probabilities of choices, or the mean of a Gaussian whose deviation is one learned number
            for each value of an action, in units in which all that can be done is [-1, 1]
Value       observation -> expected payment from here on
Judge       observation and action -> logit, high for a demonstration, and the features that it rests on
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

LEAST = 0.05  # deviation of an action, so that a policy never stops trying


def perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """(B, inputs) -> (B, outputs), two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs)
    )


class Policy(nn.Module):
    """p(action | observation). Abstract: of choices, or of numbers.

    An action is a row (A,) as data has it: a 1 at the place of a choice, or numbers in [-1, 1].
    """

    def forward(self, observations: Tensor) -> Tensor:
        """(..., O) -> (..., A): what `choose` and `log_prob` go on from."""
        raise NotImplementedError

    def choose(self, made: Tensor, normal: Tensor) -> Tensor:
        """Actions (..., A) from `forward` and N(0, 1) numbers of the same shape; numbers may lie outside [-1, 1]."""
        raise NotImplementedError

    def best(self, made: Tensor) -> Tensor:
        """The likeliest actions (..., A)."""
        raise NotImplementedError

    def log_prob(self, made: Tensor, actions: Tensor) -> Tensor:
        """log p of actions (..., A), in nats: (...)."""
        raise NotImplementedError

    def entropy(self, made: Tensor) -> Tensor:
        """In nats, (...)."""
        raise NotImplementedError


class Choices(Policy):
    """One of K things."""

    def __init__(self, observed: int, choices: int, width: int) -> None:
        super().__init__()
        self.body = perceptron(observed, width, choices)
        with torch.no_grad():
            self.body[-1].weight.mul_(0.01)  # type: ignore[operator]  # at first all are about as likely

    def forward(self, observations: Tensor) -> Tensor:
        return log_softmax(self.body(observations), -1)

    def choose(self, made: Tensor, normal: Tensor) -> Tensor:
        # the largest of log p plus independent Gumbel noise is drawn from p
        gumbel = -torch.log(-torch.special.log_ndtr(normal))
        return self.best(made + gumbel)

    def best(self, made: Tensor) -> Tensor:
        return one_hot(made.argmax(-1), made.shape[-1]).to(made.dtype)

    def log_prob(self, made: Tensor, actions: Tensor) -> Tensor:
        return (made * actions).sum(-1)

    def entropy(self, made: Tensor) -> Tensor:
        return -(made.exp() * made).sum(-1)


class Numbers(Policy):
    """A Gaussian around a mean."""

    def __init__(self, observed: int, size: int, width: int) -> None:
        super().__init__()
        self.body = perceptron(observed, width, size)
        self.free_deviation = nn.Parameter(torch.zeros(size))
        with torch.no_grad():
            self.body[-1].weight.mul_(0.01)  # type: ignore[operator]

    def forward(self, observations: Tensor) -> Tensor:
        return self.body(observations)

    @property
    def deviation(self) -> Tensor:
        """(A,), between LEAST and 1."""
        return LEAST + (1 - LEAST) * torch.sigmoid(self.free_deviation)

    def choose(self, made: Tensor, normal: Tensor) -> Tensor:
        return made + self.deviation * normal

    def best(self, made: Tensor) -> Tensor:
        return made

    def log_prob(self, made: Tensor, actions: Tensor) -> Tensor:
        off = (actions - made) / self.deviation
        return -(off**2 / 2 + self.deviation.log() + math.log(2 * math.pi) / 2).sum(-1)

    def entropy(self, made: Tensor) -> Tensor:
        own = self.deviation.log() + math.log(2 * math.pi * math.e) / 2
        return own.sum().expand(made.shape[:-1])


class Value(nn.Module):
    """(..., O) -> (...), in units of payment."""

    def __init__(self, observed: int, width: int) -> None:
        super().__init__()
        self.body = perceptron(observed, width, 1)

    def forward(self, observations: Tensor) -> Tensor:
        return self.body(observations).squeeze(-1)


class Judge(nn.Module):
    """Rows (B, O + A) -> logits (B,) and features (B, F)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        *layers, last = perceptron(inputs, width, 1)
        self.trunk, self.verdict = nn.Sequential(*layers), last

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(rows)
        return self.verdict(features).squeeze(-1), features
