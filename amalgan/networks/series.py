"""Recurrent networks for time series, (B, T, D): something is said, and something heard, at every step.

Decoder        noise, code and label at every step -> LSTM -> a row          (Esteban et al. 2017, RGAN and RCGAN)
Walk           the same, but a row is the one before, a change, and what is its own
Encoder        LSTM -> its last state -> a code                             (Fabius and van Amersfoort 2015)
Discriminator  LSTM -> a verdict at every step                              (Esteban et al. 2017)
Steps          LSTM -> numbers in (0, 1) at every step                      (the parts of TimeGAN, Yoon et al. 2019)

LSTMs, because a processor takes a half to a third of the time over them that it takes over GRUs of the same width.
A label, where series have one, joins the input of every step as a row of zeros with a one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


def joined(x: Tensor, c: Tensor | None, classes: int) -> Tensor:
    """Steps (B, T, F) with the label c (B,) at each: (B, T, F + classes); nothing but zeros where it is unknown, -1 or None."""
    if not classes:
        return x
    c = torch.full((len(x),), -1, device=x.device) if c is None else c
    told = one_hot(c.clamp(min=0), classes) * (c >= 0)[:, None]
    return torch.cat([x, told.to(x)[:, None].expand(-1, x.shape[1], -1)], 2)


class Decoder(nn.Module):
    """z (B, common + T * fresh) -> raw (B, factor * T, D): what a likelihood reads. Also the generator of a GAN.

    Arguments:
        shape: (T, D).
        common: numbers of the code that every step is told.
        width: units of the LSTM.
        fresh: numbers that one step alone is told.
        factor: of the likelihood: raw values for each value.
        classes: K labels, 0 for none.
    """

    def __init__(
        self, shape: tuple[int, ...], common: int, width: int, fresh: int = 0, factor: int = 1, classes: int = 0
    ) -> None:
        super().__init__()
        self.steps, self.common, self.fresh, self.factor, self.classes = shape[0], common, fresh, factor, classes
        self.told = bool(classes)
        self.steps_lstm = nn.LSTM(common + fresh + classes, width, batch_first=True)
        self.row = nn.Linear(width, factor * shape[1])

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        common, fresh = z.split([self.common, self.steps * self.fresh], 1)
        said = [common[:, None].expand(-1, self.steps, -1), fresh.view(len(z), self.steps, self.fresh)]
        hidden, _ = self.steps_lstm(joined(torch.cat(said, 2), c, self.classes))
        return torch.cat(self.rows(hidden).chunk(self.factor, 2), 1)

    def rows(self, hidden: Tensor) -> Tensor:
        """States (B, T, width) -> raw rows (B, T, factor * D)."""
        return self.row(hidden)


class Walk(Decoder):
    """A decoder whose rows are where the window starts, a sum of changes, and what is a row's own.

    Windows of a series that moves slowly differ far more from one another than their rows do: where every row is made
    anew, the noise on its level drowns its change (prices of a stock: a discriminator won every game, and error of what
    was learned from such windows was forty times as large).

    Arguments:
        changes: (D,) typical changes of a column from row to row; the other arguments as for `Decoder`.
    """

    def __init__(
        self, shape: tuple[int, ...], common: int, width: int, fresh: int, changes: Sequence[float], classes: int = 0
    ) -> None:
        super().__init__(shape, common, width, fresh, classes=classes)
        self.start, self.own = nn.Linear(width, shape[1]), nn.Linear(width, shape[1])
        # what follows is a logistic, and that is at most a quarter as steep as its input
        self.register_buffer("unit", 4 * torch.tensor(changes), persistent=False)
        self.unit: Tensor

    def rows(self, hidden: Tensor) -> Tensor:
        """States (B, T, width) -> raw rows (B, T, D)."""
        return self.start(hidden[:, :1]) + self.unit * (self.row(hidden).cumsum(1) + self.own(hidden))


class Encoder(nn.Module):
    """x (B, T, D) in [0, 1] -> raw code (B, out): what a posterior reads.

    Arguments:
        shape: (T, D).
        out: numbers per example, twice the latent size for a Gaussian posterior.
        width: units of the LSTM.
        classes: K labels, 0 for none.
    """

    def __init__(self, shape: tuple[int, ...], out: int, width: int, classes: int = 0) -> None:
        super().__init__()
        self.classes, self.told = classes, bool(classes)
        self.steps_lstm = nn.LSTM(shape[1] + classes, width, batch_first=True)
        self.code = nn.Linear(width, out)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        hidden, _ = self.steps_lstm(joined(2 * x - 1, c, self.classes))
        return self.code(hidden[:, -1])


class Discriminator(nn.Module):
    """x (B, T, D) in [0, 1] -> logits (B, T), each of the steps so far, and features (B, T * width), the states.

    Games average over steps as they do over examples; a penalty's slope is that of the mean verdict.

    With `changes` it reads, beside each row, how it differs from the one before, each column in its own unit: within a
    window of a series that moves slowly the rows hardly differ, and what tells real ones is the way they change.

    Arguments:
        shape: (T, D).
        width: units of the LSTM.
        classes: K labels, 0 for none.
        layers: of the LSTM.
        changes: (D,) typical changes from row to row, or None to read rows alone.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int,
        classes: int = 0,
        layers: int = 1,
        changes: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.told, read = classes, bool(classes), shape[1] * (1 if changes is None else 2)
        self.changes: Tensor | None
        self.register_buffer("changes", None if changes is None else torch.tensor(changes), persistent=False)
        self.steps_lstm = nn.LSTM(read + classes, width, layers, batch_first=True)
        self.verdict = nn.Linear(width, 1)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        said = 2 * x - 1
        if self.changes is not None:
            said = torch.cat([said, x.diff(dim=1, prepend=x[:, :1]) / self.changes], 2)
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's LSTM has no second derivative, which penalties need
            hidden, _ = self.steps_lstm(joined(said, c, self.classes))
        return self.verdict(hidden).squeeze(2), hidden.flatten(1)


class Steps(nn.Module):
    """x (B, T, inputs) in [0, 1], or noise -> (B, T, outputs) in (0, 1)."""

    def __init__(self, inputs: int, outputs: int, width: int, layers: int = 1) -> None:
        super().__init__()
        self.steps_lstm = nn.LSTM(inputs, width, layers, batch_first=True)
        self.row = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.row(self.steps_lstm(x)[0]))
