"""How alike two sets of windows are, and what one is worth in place of the other.

discriminative      |accuracy - 1/2| of a classifier of held-out windows and generated ones        (Yoon et al. 2019)
tstr                mean absolute error, on held-out windows, of a predictor of the next row that learned from
                    generated ones: train on synthetic, test on real              (Esteban et al. 2017; Yoon et al. 2019)
autocorrelation     mean absolute difference of autocorrelations, over columns and lags up to half a window
memorisation        see `amalgan.metrics.memorisation`

Classifier and predictor are small LSTMs, trained for a few hundred steps on windows that they are not measured on. The
predictor learns the change from the last row, so that it begins as the trivial predictor.

Baselines, fitted to training windows and judged by the same code: a vector autoregression, and a matched-block
bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from amalgan.noise import generator, key, rows, uniform_rows

WIDTH, STEPS, BATCH, RATE = 24, 400, 64, 1e-2  # of the networks that judge
TIMES = 2  # classifiers of other first weights, of which the one counts that learned its examples best
ORDERS = 8  # of the vector autoregression at most
NEIGHBOURS = 10  # rows among which the next block of the bootstrap is drawn


class Judge(nn.Module):
    """x (B, T, D) -> states (B, T, WIDTH) of an LSTM that reads rows, and changes from row to row in their own unit.

    Changes are told beside rows, because within a window of a series that moves slowly they are small.
    """

    def __init__(self, x: Tensor, out: int) -> None:
        super().__init__()
        self.scale = x.diff(dim=1).std((0, 1)).clamp(min=1e-6)
        self.steps_lstm, self.verdict = nn.LSTM(2 * x.shape[2], WIDTH, batch_first=True), nn.Linear(WIDTH, out)

    def states(self, x: Tensor) -> Tensor:
        changes = x.diff(dim=1, prepend=x[:, :1]) / self.scale
        return self.steps_lstm(torch.cat([2 * x - 1, changes], 2))[0]


class Classifier(Judge):
    """x (B, T, D) -> logits (B, K), from the mean state."""

    def forward(self, x: Tensor) -> Tensor:
        return self.verdict(self.states(x).mean(1))


class Predictor(Judge):
    """x (B, T, D) -> the rows that follow (B, T, D): the last row and a learned change, which begins as none."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x, x.shape[2])
        nn.init.zeros_(self.verdict.weight)
        nn.init.zeros_(self.verdict.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.verdict(self.states(x))


Loss = Callable[[nn.Module, Tensor], Tensor]  # of a network, on examples by their indices


def _learned(make: Callable[[], nn.Module], loss: Loss, count: int, times: int = 1) -> Any:
    """A network after STEPS steps of Adam on `count` examples; of `times` the one whose loss is the least on them."""
    found = []
    for number in range(times):
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(key("judge", number))
            network = make()
            optimiser = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
            for step in range(STEPS):
                optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
                index = torch.randint(count, (BATCH,), generator=generator("judge", number, step))
                optimiser.zero_grad()
                loss(network, index).backward()
                optimiser.step()
        network.requires_grad_(False)
        found.append((float(loss(network, torch.arange(count))), number, network))
    return min(found)[2]


def learned(x: Tensor, c: Tensor, classes: int) -> Any:
    """A classifier of windows that has learned x (N, T, D) with labels c (N,)."""

    def loss(classifier: nn.Module, at: Tensor) -> Tensor:
        return cross_entropy(classifier(x[at]), c[at])

    return _learned(partial(Classifier, x, classes), loss, len(x), TIMES)


def accuracy(classifier: Any, x: Tensor, c: int | Tensor) -> float:
    """The share of windows x (M, T, D) of which a classifier says the label c, or c (M,)."""
    return float((classifier(x).argmax(1) == c).double().mean())


def accuracies(x: Tensor, c: Tensor, others: Sequence[tuple[Tensor, int | Tensor]], classes: int) -> list[float]:
    """Accuracy on each of other sets (M, T, D), with a label or labels (M,), after learning x (N, T, D) with c (N,)."""
    classifier = learned(x, c, classes)
    return [accuracy(classifier, other, labels) for other, labels in others]


def discriminative(train: Tensor, held_out: Tensor, learned: Tensor, judged: Tensor) -> float:
    """|accuracy - 1/2| of telling real windows from generated ones.

    The classifier learns from training windows and as many generated ones, `learned`, and is measured on held-out
    windows and on other generated ones, `judged`, each counting half.
    """
    count = min(len(train), len(learned))
    x, c = torch.cat([train[:count], learned[:count]]), torch.arange(2).repeat_interleave(count)
    return abs(sum(accuracies(x, c, [(held_out, 0), (judged, 1)], 2)) / 2 - 0.5)


def predicted(x: Tensor, real: Tensor) -> float:
    """Mean absolute error, on real (M, T, D), of the next row as a predictor tells it that learned from x (N, T, D)."""

    def loss(predictor: nn.Module, at: Tensor) -> Tensor:
        return ((predictor(x[at, :-1]) - x[at, 1:]) / predictor.scale).abs().mean()

    predictor = _learned(partial(Predictor, x), loss, len(x))
    return float((predictor(real[:, :-1]) - real[:, 1:]).abs().mean())


def last_row(real: Tensor) -> float:
    """The same error where the next row is said to be the last one: the trivial predictor."""
    return float(real.diff(dim=1).abs().mean())


def autocorrelation(x: Tensor) -> Tensor:
    """Of windows (N, T, D) at lags 1 to T // 2, (lags, D): covariance of rows so far apart, by the variance.

    Each window's own mean is taken off first: what moves slowly would else hide all that moves within a window.
    """
    centred = x.double() - x.double().mean(1, keepdim=True)
    variance = centred.square().mean((0, 1)).clamp(min=1e-12)
    lags = range(1, max(2, x.shape[1] // 2 + 1))
    return torch.stack([(centred[:, k:] * centred[:, :-k]).mean((0, 1)) / variance for k in lags])


def autocorrelation_difference(x: Tensor, y: Tensor) -> float:
    """Mean absolute difference of the autocorrelations of x (N, T, D) and y (M, T, D)."""
    return float((autocorrelation(x) - autocorrelation(y)).abs().mean())


def correlation_difference(x: Tensor, y: Tensor) -> float:
    """Mean absolute difference, over pairs of columns, of the correlations of rows of x (N, T, D) and y (M, T, D).

    Each window's own mean is taken off first, as for autocorrelations.
    """
    centred = (z.double() - z.double().mean(1, keepdim=True) for z in (x, y))
    some, others = (torch.corrcoef(z.flatten(0, 1).T).nan_to_num(0) for z in centred)
    upper = torch.triu_indices(len(some), len(some), 1)
    return float((some - others).abs()[upper[0], upper[1]].mean())


# Baselines


class VectorAutoregression:
    """x_t = a + A_1 x_{t-1} + ... + A_p x_{t-p} + e,   e ~ N(0, S): least squares on windows (N, T, D).

    The order p is chosen by the Bayesian information criterion; samples begin as a training window does, drawn.

    Arguments:
        x: (N, T, D).
        independent: windows that share no row, where x overlap: what the criterion counts. N by default.
    """

    def __init__(self, x: Tensor, independent: int | None = None) -> None:
        _, steps, columns = x.shape
        self.start, share = x.double(), (independent or len(x)) / len(x)
        best = None
        for order in range(1, min(ORDERS, steps - 1) + 1):
            past = self._past(self.start, order)
            following = self.start[:, order:].reshape(-1, columns)
            solved = torch.linalg.lstsq(past, following).solution
            errors = following - past @ solved
            covariance = errors.T @ errors / len(errors)
            count = share * len(errors) / (steps - order)  # per row of a window, so that orders are compared alike
            eye = torch.eye(columns, dtype=torch.float64)
            fit = count * (steps - 1) * torch.logdet(covariance + 1e-12 * eye)
            criterion = float(fit + solved.numel() * torch.tensor(count * (steps - 1)).log())
            if best is None or criterion < best[0]:
                best = criterion, order, solved, covariance
        assert best is not None
        _, self.order, self.solved, self.covariance = best

    @staticmethod
    def _past(x: Tensor, order: int) -> Tensor:
        """A one and the `order` rows before each, the last one first: (N * (T - order), 1 + order * D)."""
        steps = x.shape[1]
        lagged = [x[:, order - k - 1 : steps - k - 1] for k in range(order)]
        return torch.cat([torch.ones_like(x[:, order:, :1]), *lagged], 2).flatten(0, 1)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """(n, T, D)."""
        _, steps, columns = self.start.shape
        jitter = 1e-12 * torch.eye(columns, dtype=torch.float64)
        root = torch.linalg.cholesky(self.covariance + jitter)
        uniform = uniform_rows(n, (), seed, "starts")
        made = self.start[(uniform * len(self.start)).long().clamp(max=len(self.start) - 1), : self.order]
        noise = rows(n, (steps, columns), seed, "errors").double() @ root.T
        for t in range(self.order, steps):
            past = torch.cat([torch.ones_like(made[:, 0, :1]), *made[:, -self.order :].flip(1).unbind(1)], 1)
            made = torch.cat([made, (past @ self.solved + noise[:, t])[:, None]], 1)
        return made.float()


class BlockBootstrap:
    """Blocks of a third of a window, each one that followed a row like the last one: windows (N, T, D) mixed anew.

    The next block is drawn among those that in training windows came after the rows nearest to the last one
    (Carlstein et al. 1998, the matched-block bootstrap).
    """

    def __init__(self, x: Tensor) -> None:
        self.x, self.block = x, max(1, x.shape[1] // 3)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """(n, T, D)."""
        count, steps, columns = self.x.shape
        needed = -(-steps // self.block)
        uniform = uniform_rows(n, (needed,), seed, "blocks")
        at = (uniform[:, 0] * count).long().clamp(max=count - 1)
        made = self.x[at, : self.block]
        ends = self.x[:, : steps - self.block]  # rows that a whole block follows
        scale = self.x.std((0, 1)).clamp(min=1e-6)
        flat = (ends / scale).reshape(-1, columns)
        k = min(NEIGHBOURS, len(flat))
        for number in range(1, needed):
            near = [torch.cdist(part / scale, flat).topk(k, largest=False)[1] for part in made[:, -1].split(64)]
            which = (uniform[:, number] * k).long().clamp(max=k - 1)
            chosen = torch.cat(near)[torch.arange(n), which]
            window, row = chosen // ends.shape[1], chosen % ends.shape[1]
            made = torch.cat([made, self.x[window[:, None], row[:, None] + 1 + torch.arange(self.block)]], 1)
        return made[:, :steps]


def shuffled(x: Tensor) -> Tensor:
    """The trivial model: the values of each window (N, T, D) in random order, column by column."""
    return x.gather(1, torch.rand(x.shape, generator=generator("shuffled")).argsort(1))


def baselines(x: Tensor, independent: int | None = None) -> dict[str, Any]:
    """By name, fitted to training windows (N, T, D)."""
    return {"var": VectorAutoregression(x, independent), "bootstrap": BlockBootstrap(x)}
