"""Networks that are told a condition c beside what they take: the class of an image, or numbers that describe it.

    Labels, Numbers      c -> e(c), (B, E): a learned vector for each class; an affine map of numbers
    Factors              c -> e(c), the sum of a learned vector for each of the things that a class says: digit and speaker
    Joined               network([x, e(c)]): more numbers of a code, more channels of an image     (Mirza and Osindero 2014)
    Modulated            network(x, e(c)): the network scales and shifts its channels by e(c)             (Perez et al. 2018)
    Projected            D(x) + <e(c), features>                                         (Miyato and Koyama 2018, equation 5)
    Classifying          D(x), and a guess of c from its features                                       (Odena et al. 2017)

A class that is -1, a number that is NaN, and c = None are unknown, and unknown is one more thing that e(c) can say. So one
network makes and judges with and without conditions, if it has seen some hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from amalgan.data import Spec


class Labels(nn.Module):
    """c (B,) int64 in 0 .. classes - 1, or -1, or None for `count` unknown ones -> (B, size)."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(classes + 1, size)  # the last one is for what is unknown

    def forward(self, c: Tensor | None, count: int) -> Tensor:
        unknown = self.vectors.num_embeddings - 1
        if c is None:
            return self.vectors.weight[unknown].expand(count, -1)
        return self.vectors(torch.where(c < 0, unknown, c))


class Factors(nn.Module):
    """c (B,) as `Labels` takes it -> (B, size), the sum of one vector for each factor of the class.

    Arguments:
        factors: of each class, words in the same order: [["7", "ann"], ["7", "bob"], ...].
    """

    def __init__(self, factors: Sequence[Sequence[str]], size: int) -> None:
        super().__init__()
        columns = [sorted(set(column)) for column in zip(*factors)]
        places = [[known.index(word) for known, word in zip(columns, of)] for of in factors]
        self.places: Tensor
        self.register_buffer("places", torch.tensor([*places, [len(known) for known in columns]]), persistent=False)
        self.vectors = nn.ModuleList(nn.Embedding(len(known) + 1, size) for known in columns)

    def forward(self, c: Tensor | None, count: int) -> Tensor:
        if c is None:
            c = self.places.new_full((count,), -1)
        said = self.places[c]  # -1 is the last row: nothing is known
        return torch.stack([of(column) for of, column in zip(self.vectors, said.unbind(1))]).sum(0)


class Numbers(nn.Module):
    """c (B, K) of the order of 1, NaN where unknown, or None for `count` unknown rows -> (B, size)."""

    def __init__(self, numbers: int, size: int) -> None:
        super().__init__()
        self.map = nn.Linear(2 * numbers, size)

    def forward(self, c: Tensor | None, count: int) -> Tensor:
        if c is None:
            c = self.map.weight.new_full((count, self.map.in_features // 2), torch.nan)
        return self.map(torch.cat([c.nan_to_num(0.0), c.isfinite().to(c)], 1))


def embedding(spec: Spec, size: int) -> nn.Module:
    """e(c) for the conditions of some data, (B, size)."""
    if "factors" in spec.details:
        return Factors(spec.details["factors"], size)
    return Labels(len(spec.classes), size) if spec.classes else Numbers(len(spec.details["numbers"]), size)


class Told(nn.Module):
    """A network that takes c beside x. Abstract; `amalgan.models.labelled` tells those, and only those."""

    told = True

    def __init__(self, network: nn.Module, embedding: nn.Module) -> None:
        super().__init__()
        self.network, self.embedding = network, embedding

    @property
    def start_at(self) -> Callable[[Tensor], None] | None:
        """As the network has it: what a decoder says before it has learned anything."""
        start: Callable[[Tensor], None] | None = getattr(self.network, "start_at", None)
        return start


class Given(nn.Module):
    """A network that is told the conditions c (B, ...) of a batch; of k B rows each B in turn carry them, as several
    fakes and several codes of an example do."""

    def __init__(self, network: nn.Module, c: Tensor) -> None:
        super().__init__()
        self.network, self.c = network, c

    @property
    def guess(self) -> nn.Module:
        """What a discriminator reads off its features, where it does: see `Classifying`."""
        return self.network.guess  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Any:
        return self.network(x, self.c.repeat(len(x) // len(self.c), *[1] * (self.c.dim() - 1)))


class Joined(Told):
    """x (B, D), or (B, C, H, W) -> what a network makes of it with e(c) beside it, as numbers or as constant channels.

    Arguments:
        network: takes so many numbers or channels more.
        embedding: e.
    """

    def forward(self, x: Tensor, c: Tensor | None = None) -> object:
        said = self.embedding(c, len(x)).to(x)
        said = said.view(*said.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
        return self.network(torch.cat([x, said], 1))


class Modulated(Told):
    """x -> network(x, e(c)).

    Arguments:
        network: of x and a vector (B, E).
        embedding: e.
    """

    def forward(self, x: Tensor, c: Tensor | None = None) -> object:
        return self.network(x, self.embedding(c, len(x)))


class Projected(Told):
    """x -> logits D(x) + <e(c), features>, (B,), and features (B, F). It starts as D: e starts at 0.

    Arguments:
        network: D, a discriminator with one verdict an example.
        embedding: e, into F dimensions.
    """

    def __init__(self, network: nn.Module, embedding: nn.Module) -> None:
        super().__init__(network, embedding)
        for parameter in embedding.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits, features = self.network(x)
        return logits + (self.embedding(c, len(x)) * features).sum(1), features


class Classifying(nn.Module):
    """x -> logits (B,), features (B, F) of a discriminator; `guess(features)` says c: (B, K) logits, or numbers.

    Arguments:
        network: the discriminator, which may be told conditions of its own.
        features: F.
        outputs: K.
    """

    def __init__(self, network: nn.Module, features: int, outputs: int) -> None:
        super().__init__()
        self.network, self.guess = network, nn.Linear(features, outputs)

    @property
    def told(self) -> bool:
        """Whether the discriminator takes a condition, too."""
        return is_told(self.network)

    def forward(self, x: Tensor, *told: Tensor) -> tuple[Tensor, Tensor]:
        judged: tuple[Tensor, Tensor] = self.network(x, *told)
        return judged


class Modulation(nn.Module):
    """h (B, C, ...), e (B, E) -> h times a scale and plus a shift for each channel, affine in e.

    Arguments:
        channels: C.
        told: E.
        std: of the weights at the start; with 0 it starts as h.
    """

    def __init__(self, channels: int, told: int, std: float = 0.0) -> None:
        super().__init__()
        self.affine = nn.Linear(told, 2 * channels)
        nn.init.normal_(self.affine.weight, 0, std)
        nn.init.zeros_(self.affine.bias)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        return modulated(h, self.affine(e))


def modulations(channels: Sequence[int], told: int) -> nn.ModuleList:
    """One for each level of a network, coarsest first; none where it is told nothing.

    The first starts at random, so that conditions differ from the first step: a GAN on MNIST had a label accuracy of .96 after
    1,000 steps, and of .77 where all started as h (validation, one seed). The others start as h: deep networks start no wilder.
    """
    return nn.ModuleList(Modulation(c, told, 0.0 if level else 0.4) for level, c in enumerate(channels) if told)


def modulated(h: Tensor, numbers: Tensor) -> Tensor:
    """h (B, C, ...) * (1 + scale) + shift, channel by channel: numbers (B, 2 C) are scales, then shifts."""
    scale, shift = numbers.view(len(h), -1, *[1] * (h.dim() - 2)).chunk(2, 1)
    return h * (1 + scale) + shift


def is_told(network: nn.Module) -> bool:
    """Whether a network takes a condition beside its input."""
    return bool(getattr(network, "told", False))
