"""Judging lines of text: n-gram overlap with real lines, variety, copying.

    BLEU-n        geometric mean over k <= n of the share of a line's k-grams that some reference line has, clipped to how
                  often it has them, times a penalty for lines shorter than the nearest reference (Papineni et al. 2002);
                  a share of 0 counts as 0.1 k-grams (Chen and Cherry 2014, method 1), the mean is over lines
    self-BLEU-n   the same with the other samples as references: 1 if all are alike (Zhu et al. 2018)

References are all lines of the other side at once, as in Texygen. Tokens are compared, so nothing depends on how a
sentence is split into words. With the same settings (no tokenisation, floor 0.1) sacrebleu's sentence BLEU is the same.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from amalgan.networks.sequences import Reader
from amalgan.noise import generator, key

Line = Sequence[int]
STEPS, BATCH, LR = 600, 128, 2e-3  # of the classifier of lines
FLOOR = 0.1  # k-grams that a share of none counts as


def grams(line: Line, k: int) -> Counter[tuple[int, ...]]:
    """How often each k-gram stands in a line."""
    return Counter(zip(*(line[i:] for i in range(k))))


class References:
    """Lines to be compared with: of each k-gram the two lines that have it most often, and how often.

    Two, so that a line can be held against all the others without itself.

    Arguments:
        lines: the references.
        order: the longest k-grams.
    """

    def __init__(self, lines: Sequence[Line], order: int) -> None:
        self.lines, self.order = lines, order
        self.most: list[dict[tuple[int, ...], tuple[int, int, int]]] = [{} for _ in range(order)]  # count, whose, next
        for number, line in enumerate(lines):
            for k, most in enumerate(self.most, 1):
                for gram, count in grams(line, k).items():
                    best, whose, second = most.get(gram, (0, -1, 0))
                    if count > best:
                        most[gram] = count, number, best
                    elif count > second:
                        most[gram] = best, whose, count
        self.lengths = Counter(len(line) for line in lines)

    def count(self, k: int, gram: tuple[int, ...], without: int = -1) -> int:
        """How often the reference line that has a k-gram most often has it; line `without` is none of them."""
        best, whose, second = self.most[k - 1].get(gram, (0, -1, 0))
        return second if whose == without else best

    def nearest_length(self, length: int, without: int = -1) -> int:
        """The length of the reference nearest in length, the shorter of two."""
        counts = self.lengths
        if without >= 0:
            counts = counts - Counter([len(self.lines[without])])
        known = sorted(counts)
        at = bisect_left(known, length)
        return min(known[max(0, at - 1) : at + 1], key=lambda other: (abs(other - length), other))


def bleu(line: Line, references: References, order: int, without: int = -1) -> float:
    """BLEU-`order` of one line in [0, 1]; `without` leaves that reference out."""
    if not line:
        return 0.0
    total = 0.0
    for k in range(1, order + 1):
        own = grams(line, k)
        count = max(0, len(line) - k + 1)
        if count == 0:
            return 0.0
        hits = sum(min(n, references.count(k, gram, without)) for gram, n in own.items())
        total += math.log((hits or FLOOR) / count)
    nearest = references.nearest_length(len(line), without)
    penalty = min(0.0, 1 - nearest / len(line))
    return math.exp(total / order + penalty)


def mean_bleu(lines: Sequence[Line], references: References, order: int) -> float:
    """The mean BLEU-`order` of lines against references."""
    return math.fsum(bleu(line, references, order) for line in lines) / len(lines)


def self_bleu(lines: Sequence[Line], among: References, order: int) -> float:
    """The mean BLEU-`order` of lines that `among` begins with, each against all the others there."""
    return math.fsum(bleu(line, among, order, i) for i, line in enumerate(lines)) / len(lines)


def distinct(lines: Iterable[Line], k: int) -> float:
    """The share of k-grams that are different ones, over all lines (Li et al. 2016)."""
    counts: Counter[tuple[int, ...]] = Counter()
    for line in lines:
        counts.update(grams(line, k))
    return len(counts) / counts.total() if counts else 0.0


def share_in(lines: Sequence[Line], known: Iterable[Line]) -> float:
    """The share of lines that are, token for token, among the known ones."""
    held = {tuple(line) for line in known}
    return sum(tuple(line) in held for line in lines) / len(lines)


def unique(lines: Sequence[Line]) -> float:
    """The share of lines that are different ones."""
    return len({tuple(line) for line in lines}) / len(lines)


# What a line is labelled


def classifier(tokens: Tensor, c: Tensor, vocabulary: int, classes: int) -> nn.Module:
    """A network that says the label of a line, tokens (B, T) -> logits (B, K): it has learned lines (N, T), labels (N,)."""
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(key("classifier of lines"))
        reader = Reader(vocabulary, tokens.shape[1], dropped=0.0)
        network = nn.Sequential(Features(reader), nn.Dropout(), nn.Linear(reader.verdict.in_features, classes))
        optimiser = torch.optim.Adam(network.parameters(), lr=LR, fused=True)
        for step in range(STEPS):
            optimiser.param_groups[0]["lr"] = LR * (1 - step / STEPS)
            at = torch.randint(len(tokens), (BATCH,), generator=generator("classifier of lines", step))
            optimiser.zero_grad()
            cross_entropy(network(tokens[at]), c[at]).backward()
            optimiser.step()
    return network.eval().requires_grad_(False)


class Features(nn.Module):
    """What a reader sees in tokens (B, T): (B, F)."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.reader(tokens)[1]
        return features


def accuracy(classifier: nn.Module, tokens: Tensor, c: Tensor) -> float:
    """The share of lines (N, T) of which a classifier says the label c (N,)."""
    guesses = torch.cat([classifier(part).argmax(1) for part in tokens.split(500)])
    return float((guesses == c).double().mean())
