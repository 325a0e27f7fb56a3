"""A language whose every probability is known: sequences from an LSTM of random weights (Yu et al. 2017, section 4).

    log p(x) = sum_t log softmax(Wo h_t + bo)[x_t],     h from the tokens before, token 0 before the first

All weights are N(0, 1). The paper's own oracle (5,000 symbols, 20 tokens, width 32) is read from an .npz file with the
names of its release; any other is drawn from a seed. Row-vector convention: x W + h U + b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from ..noise import generator

GATES = ("i", "f", "og", "c")  # input, forget, output gate, candidate, as the release names them
NAMES = ("embedding", *(f"{kind}{gate}" for gate in GATES for kind in "WUb"), "Wo", "bo")
BLOCK = 1000  # sequences drawn at a time


@dataclass(frozen=True, eq=False)
class Oracle:
    """The language.

    Arguments:
        name: what it is called.
        weights: by the names of the release.
        length: tokens of every sequence; none ends early.
    """

    name: str
    weights: dict[str, Tensor]
    length: int = 20

    @property
    def vocabulary(self) -> int:
        return len(self.weights["bo"])

    def _step(self, tokens: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden state after one more token each, and log-probabilities (B, V) of the next."""
        w, x = self.weights, self.weights["embedding"][tokens]
        i, f, o, g = (x @ w[f"W{gate}"] + h @ w[f"U{gate}"] + w[f"b{gate}"] for gate in GATES)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c, torch.log_softmax(h @ w["Wo"] + w["bo"], 1)

    def _start(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        zeros = torch.zeros(batch, self.weights["Wi"].shape[1])
        return self._step(torch.zeros(batch, dtype=torch.long), zeros, zeros)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n sequences (n, T), drawn in blocks: sequence i is the same whatever n."""
        blocks = []
        for number in range(-(-n // BLOCK)):
            source = generator(seed, "oracle", number)
            h, c, log_p = self._start(BLOCK)
            columns: list[Tensor] = []
            for _ in range(self.length):
                cumulative = log_p.double().exp().cumsum(1)
                u = torch.rand(BLOCK, 1, generator=source, dtype=torch.float64) * cumulative[:, -1:]
                columns.append(torch.searchsorted(cumulative, u, right=True).squeeze(1).clamp(max=self.vocabulary - 1))
                h, c, log_p = self._step(columns[-1], h, c)
            blocks.append(torch.stack(columns, 1))
        return torch.cat(blocks)[:n]

    @torch.no_grad()
    def nll(self, tokens: Tensor) -> Tensor:
        """-log p(x), nats, (n,), for tokens (n, T)."""
        found = []
        for part in tokens.split(BLOCK):
            h, c, log_p = self._start(len(part))
            total = torch.zeros(len(part))
            for column in part.unbind(1):
                total -= log_p.gather(1, column[:, None]).squeeze(1)
                h, c, log_p = self._step(column, h, c)
            found.append(total)
        return torch.cat(found)


def oracle(vocabulary: int = 500, length: int = 20, width: int = 32, seed: int = 0) -> Oracle:
    """A language of its own: all weights N(0, 1) from the seed."""
    if vocabulary < 2 or length < 2 or width < 1:
        raise UsageError(
            "an oracle", f"V={vocabulary}, T={length}, width {width}", "write for example oracle:V=500,T=20"
        )
    shapes = {"embedding": (vocabulary, width), "Wo": (width, vocabulary), "bo": (vocabulary,)}
    shapes |= {f"{kind}{gate}": (width,) if kind == "b" else (width, width) for gate in GATES for kind in "WUb"}
    weights = {name: torch.randn(shapes[name], generator=generator(seed, "oracle weights", name)) for name in NAMES}
    return Oracle(f"oracle of {vocabulary} symbols", weights, length)


def from_arrays(name: str, arrays: dict[str, np.ndarray]) -> Oracle:
    """The oracle of a release; 20 tokens long, as published."""
    missing = sorted(set(NAMES) - set(arrays))
    if missing:
        raise UsageError(f"an oracle from {name}", f"no {', '.join(missing)} in it", f"give arrays {', '.join(NAMES)}")
    return Oracle(name, {key: torch.from_numpy(np.asarray(arrays[key], dtype=np.float32)) for key in NAMES})
