"""Clips of sound as pictures of what is heard, (1, bands, frames) in [0, 1], and back.

    S      = windowed Fourier transform of a clip, fft samples a frame, hop samples from one to the next
    M      = F |S|                                bands: triangles, evenly spaced on the mel scale or in Hz; or S's own rows
    x      = 1 + 20 log10(M / max M) / decibels   cut off below at 0: what is softer is not heard

Back again, |S| is the non-negative solution of F |S| = M (Lee and Seung 2001), and its phase is found by going from
clips to transforms and back, each time with |S| put in place (Griffin and Lim 1984, with the momentum of Perraudin et
al. 2013). The loudness of a clip is lost on the way: every clip comes back with the same peak.

Rows run from the highest band to the lowest, so that a picture of x stands upright.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import fold, pad

from ..noise import generator

PEAK = 0.7  # of a clip that comes back, of full scale
SOLVING = 32  # steps towards |S|
MOMENTUM = 0.99
AT_ONCE = 200  # pictures that are made sound together: some 100 MB
QUIET = 1e-9  # below any recording's least step
Scale = Literal["mel", "linear", "bins"]


@dataclass(frozen=True)
class Spectrogram:
    """The transform, by its numbers.

    Arguments:
        rate: samples a second.
        hop: samples from one frame to the next.
        fft: samples of a frame, even, >= hop.
        bands, frames: of a picture.
        decibels: between the loudest that there is in a clip and what is no longer heard.
        scale: on which bands are evenly spaced; bins are the rows of S, all but that of rate / 2, of bands = fft / 2.
    """

    rate: int
    hop: int
    fft: int
    bands: int
    frames: int
    decibels: float
    scale: Scale = "mel"

    @property
    def samples(self) -> int:
        """Of a clip."""
        return self.hop * self.frames

    @property
    def seconds(self) -> float:
        """Of a clip."""
        return self.samples / self.rate

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a picture."""
        return 1, self.bands, self.frames

    def to_json(self) -> dict[str, Any]:
        """As plain numbers, for the details of a `Spec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, held: dict[str, Any]) -> Spectrogram:
        """Back from `to_json`; what else is held is passed over."""
        return cls(**{name: held[name] for name in cls.__dataclass_fields__})

    @cached_property
    def window(self) -> Tensor:
        """(fft,)"""
        return torch.hann_window(self.fft)

    @cached_property
    def filters(self) -> Tensor:
        """F (bands, fft / 2 + 1), from the highest band to the lowest, each of sum 1."""
        if self.scale == "bins":
            return torch.eye(self.fft // 2 + 1)[:-1].flip(0)
        to, back = (_mel, _hertz) if self.scale == "mel" else (float, float)
        edges = torch.tensor([back(to(self.rate / 2) * i / (self.bands + 1)) for i in range(self.bands + 2)])
        # a band is at least as wide as what the window can tell apart
        width = self.rate / self.fft
        low = torch.minimum(edges[:-2], edges[1:-1] - width)[:, None]
        high = torch.maximum(edges[2:], edges[1:-1] + width)[:, None]
        middle, at = edges[1:-1, None], torch.linspace(0, self.rate / 2, self.fft // 2 + 1)
        rows = torch.minimum((at - low) / (middle - low), (high - at) / (high - middle)).clamp(min=0)
        return (rows / rows.sum(1, keepdim=True)).flip(0)

    def forward(self, clips: Tensor) -> Tensor:
        """Pictures (N, 1, bands, frames) in [0, 1] of clips (N, samples); silence is 0 everywhere."""
        m = self.filters @ self.transformed(clips).abs()
        loudest = m.amax((1, 2), keepdim=True).clamp(min=QUIET)
        return (1 + 20 * torch.log10((m / loudest).clamp(min=QUIET)) / self.decibels).clamp(0, 1)[:, None]

    def inverse(self, x: Tensor, iterations: int = 32) -> Tensor:
        """Clips (N, samples) of pictures (N, 1, bands, frames); each depends on its own picture alone."""
        return torch.cat([self._sounding(part, iterations) for part in x.split(AT_ONCE)])

    def _sounding(self, x: Tensor, iterations: int) -> Tensor:
        magnitude = self.magnitude(x)
        turns = torch.rand(magnitude.shape[1:], generator=generator("phase"))
        phase = torch.polar(torch.ones_like(turns), 2 * math.pi * turns).expand(magnitude.shape).to(x.device)
        before = torch.zeros_like(phase)
        for _ in range(iterations):
            again = self.transformed(self.overlapped(magnitude * phase))
            phase, before = again - MOMENTUM / (1 + MOMENTUM) * before, again
            phase = phase / phase.abs().clamp(min=1e-12)
        clips = self.overlapped(magnitude * phase)
        return PEAK * clips / clips.abs().amax(1, keepdim=True).clamp(min=QUIET)

    def picture(self, x: Tensor) -> Tensor:
        """Pictures (N, 1, bands, frames) of what networks make: these."""
        return x

    def magnitude(self, x: Tensor) -> Tensor:
        """|S| (N, fft / 2 + 1, frames) whose picture is x (N, 1, bands, frames), but for the loudness."""
        x = x[:, 0].float()
        m = 10 ** ((x - 1) * self.decibels / 20) * (x > 0)
        f = self.filters.to(x.device)
        s = (f / f.sum(0).clamp(min=1e-6)).T @ m
        towards, mixed = f.T @ m, f.T @ f
        for _ in range(SOLVING):
            s = s * towards / (mixed @ s).clamp(min=1e-12)
        return s

    def transformed(self, clips: Tensor) -> Tensor:
        """S (N, fft / 2 + 1, frames) of clips (N, samples); the middle of frame t is that of its hop."""
        around = (self.fft - self.hop) // 2
        frames = pad(clips, (around, self.fft - self.hop - around)).unfold(1, self.fft, self.hop)
        return torch.fft.rfft(frames * self.window.to(clips.device)).transpose(1, 2)

    def overlapped(self, s: Tensor) -> Tensor:
        """Clips (N, samples) whose transform is nearest to S (N, fft / 2 + 1, frames): the inverse where S is one's."""
        window = self.window.to(s.device)[:, None]
        frames = torch.fft.irfft(s, self.fft, 1) * window
        total, shape = self.samples + self.fft - self.hop, dict(kernel_size=(1, self.fft), stride=(1, self.hop))
        summed = fold(frames, (1, total), **shape)
        weight = fold((window**2).expand(1, -1, self.frames), (1, total), **shape)
        around = (self.fft - self.hop) // 2
        return (summed / weight.clamp(min=1e-3))[:, 0, 0, around : around + self.samples]


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)  # O'Shaughnessy 1987


def _hertz(mel: float) -> float:
    return 700 * (10 ** (mel / 2595) - 1)
