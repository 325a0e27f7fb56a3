"""Forms of a clip that networks can learn: what they see of it, and the way back to what is heard.

    sound     a `Spectrogram` on the mel scale, 64 x 64, which every clip of every form is judged by
    waves     the samples themselves, x = clip, in [-1, 1]
    spectra   a spectrogram of all rows of S, each row in its own units, for SpecGAN (Donahue et al. 2019):

        x = 1/2 + clip(y - mean, +-3 deviation) / (6 deviation)          y = `Spectrogram.forward`, in [0, 1]

Mean and deviation of a row are those of the training part. A form is a function of a `Spec` (`form_of`): its details hold the
numbers of the mel spectrogram whatever the form, so that all forms are of the same clips and are judged by the same ears.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from .spectrogram import Spectrogram

if TYPE_CHECKING:
    from .core import Spec

Name = Literal["sound", "waves", "spectra"]
OVERLAP = 1.6  # hops that a frame of a spectrum is long, at least
REACH = 3.0  # deviations from the mean that a spectrum can say, as in the paper
LEAST = 1e-3  # deviation of a row in which nothing happens


class Form(Protocol):
    """What networks see of clips (N, samples) in [-1, 1]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""

    def forward(self, clips: Tensor) -> Tensor:
        """x (N, *shape) of clips (N, samples)."""

    def inverse(self, x: Tensor) -> Tensor:
        """Clips (N, samples) of x (N, *shape)."""

    def picture(self, x: Tensor) -> Tensor:
        """Mel spectrograms (N, 1, bands, frames) of x (N, *shape), to be looked at."""


@dataclass(frozen=True)
class Wave:
    """The samples themselves.

    Arguments:
        ears: the spectrogram that clips are looked at by.
    """

    ears: Spectrogram

    @property
    def shape(self) -> tuple[int, ...]:
        """One channel of samples."""
        return 1, self.ears.samples

    def forward(self, clips: Tensor) -> Tensor:
        """x (N, 1, samples) of clips (N, samples)."""
        return clips[:, None]

    def inverse(self, x: Tensor) -> Tensor:
        """Clips (N, samples) of x (N, 1, samples): the same."""
        return x[:, 0]

    def picture(self, x: Tensor) -> Tensor:
        """Mel spectrograms of waves."""
        return self.ears.forward(self.inverse(x))


@dataclass(frozen=True)
class Spectra:
    """Spectrograms whose rows are in units of their own.

    Arguments:
        ears: the spectrogram that clips are looked at by.
        own: the one that networks see, scale "bins".
        mean, deviation: of each row of it over the training part, from the highest.
    """

    ears: Spectrogram
    own: Spectrogram
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fitted(cls, ears: Spectrogram, clips: Tensor) -> Spectra:
        """For clips as `ears` hears them; rows in the units of clips (N, samples)."""
        own = square(ears)
        rows = own.forward(_of(clips, own)).squeeze(1)
        deviation = rows.std((0, 2)).clamp(min=LEAST)
        return cls(ears, own, tuple(rows.mean((0, 2)).tolist()), tuple(deviation.tolist()))

    @classmethod
    def from_json(cls, ears: Spectrogram, held: dict[str, Any]) -> Spectra:
        """Back from `to_json`."""
        return cls(ears, Spectrogram.from_json(held), tuple(held["mean"]), tuple(held["deviation"]))

    def to_json(self) -> dict[str, Any]:
        """As plain numbers, without the ears."""
        return asdict(self.own) | {"mean": list(self.mean), "deviation": list(self.deviation)}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a picture."""
        return self.own.shape

    def _units(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = (torch.tensor(of).to(like)[:, None] for of in (self.mean, self.deviation))
        return mean, 2 * REACH * deviation

    def forward(self, clips: Tensor) -> Tensor:
        """x (N, 1, bands, frames) in [0, 1] of clips (N, samples)."""
        mean, unit = self._units(clips)
        return (0.5 + (self.own.forward(_of(clips, self.own)) - mean) / unit).clamp(0, 1)

    def inverse(self, x: Tensor) -> Tensor:
        """Clips (N, samples) of x (N, 1, bands, frames)."""
        mean, unit = self._units(x)
        return self.own.inverse((mean + (x - 0.5) * unit).clamp(0, 1))[:, : self.ears.samples]

    def picture(self, x: Tensor) -> Tensor:
        """Mel spectrograms of what is heard."""
        return self.ears.forward(self.inverse(x))


def square(ears: Spectrogram) -> Spectrogram:
    """The spectrogram of as many rows as frames, a power of two, whose frames overlap: for clips of 16,384 samples the paper's,
    128 x 128, of frames of 256 samples, one every 128."""
    side = 2 ** math.ceil(math.log2(math.sqrt(OVERLAP * ears.samples / 2)))
    return Spectrogram(ears.rate, -(-ears.samples // side), 2 * side, side, side, ears.decibels, "bins")


def _of(clips: Tensor, transform: Spectrogram) -> Tensor:
    """Clips (N, samples), a few samples of silence longer where the transform's hops do not divide them."""
    return pad(clips, (0, transform.samples - clips.shape[1]))


def ears_of(spec: Spec) -> Spectrogram:
    """The mel spectrogram that clips of some data are judged by, whatever their form."""
    return Spectrogram.from_json(spec.details)


def form_of(spec: Spec) -> Form:
    """What networks see of the clips of some data."""
    ears = ears_of(spec)
    if spec.modality == "waves":
        return Wave(ears)
    return Spectra.from_json(ears, spec.details["spectra"]) if spec.modality == "spectra" else ears
