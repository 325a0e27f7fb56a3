"""Is what is heard what was asked for?

Clips are judged as recordings would be: a spectrogram is made sound and looked at again, so that what the way back to sound
loses counts against the model. Two ceilings stand beside: real held-out clips, and the same after that way there and back.

    label_accuracy, tstr, frechet, memorisation, ...   as of pictures, of spectrograms of what is heard
    round_trip_accuracy, round_trip_error              of real held-out clips, through spectrogram and sound
    inception_score     exp of the mean KL between p(label | clip) and its mean        (Salimans et al. 2016; Donahue et al. 2019)
    speaker_leakage     share of samples that a classifier of the training speakers is as sure of as of half of their own
                        held-out clips: 0.5 is somebody's voice, 0 nobody's in particular
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from amalgan.data.core import Split
from amalgan.data.spectrogram import Spectrogram
from amalgan.metrics import evaluate as of_pictures
from amalgan.metrics.conditional import conditional
from amalgan.metrics.features import Features, classifier
from amalgan.metrics.rows import Row

AT_ONCE = 200  # clips that are made sound together


@dataclass(frozen=True)
class Reference:
    """The real side of a judgement.

    Arguments:
        seen: the real side as of pictures; floors and ceilings are its.
        transform: between clips and spectrograms.
        again: spectrograms of the real clips after the way to sound and back.
        round_trip: metrics of them.
        speakers: a classifier of the training speakers, None where none are known.
        surely: how sure it is, at the median, of held-out clips.
    """

    seen: of_pictures.Reference
    transform: Spectrogram
    again: Tensor
    round_trip: dict[str, float]
    speakers: Features | None = None
    surely: float = 1.0

    @property
    def split(self) -> str:
        return self.seen.split

    @property
    def n(self) -> int:
        return self.seen.n


class Heard:
    """A model whose samples were made sound and looked at again; all else is the model's."""

    def __init__(self, model: Any, transform: Spectrogram) -> None:
        self._model, self._transform = model, transform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """As the model's."""
        return heard(self._model.sample(*args, **kwargs).float().cpu(), self._transform)


def heard(x: Tensor, transform: Spectrogram) -> Tensor:
    """Spectrograms of the clips that spectrograms x (N, 1, bands, frames) become."""
    return torch.cat([transform.forward(transform.inverse(part)) for part in x.split(AT_ONCE)])


def reference(data: Any, split: str, n: int) -> Reference:
    """What real clips score, before and after the round trip.

    Raises:
        UsageError: unknown split, or too few clips in it.
    """
    transform = Spectrogram.from_json(data.spec.details)
    seen = of_pictures.reference(data, split, n)
    again = heard(seen.real, transform)
    trip = {"round_trip_error": float((again - seen.real).abs().mean()) * transform.decibels}
    floor, ceiling = {"round_trip_error": 0.0}, {"round_trip_error": transform.decibels}
    if seen.real_c is not None and seen.eyes.head is not None:
        features = seen.eyes(of_pictures.as_saved(again))
        right = conditional(seen.eyes, features, seen.real_c, seen.real_features, seen.real_c)
        trip["round_trip_accuracy"] = right.label_accuracy
        trip["round_trip_score"] = inception_score(seen.eyes, features)
        floor |= {name: seen.floor["label_accuracy"] for name in ("round_trip_accuracy",)}
        ceiling |= {name: seen.ceiling["label_accuracy"] for name in ("round_trip_accuracy",)}
        floor["inception_score"], ceiling["inception_score"] = inception_score(seen.eyes, seen.real_features), 1.0
    speakers, surely = None, 1.0
    speaker = getattr(data.train, "speaker", None)
    if speaker is not None and len(speaker[speaker >= 0].unique()) > 1:
        speakers = classifier(_of_speakers(data))
        surely = float(_sureness(speakers, seen.real).median())
        floor["speaker_leakage"] = 0.0
        ceiling["speaker_leakage"] = 1.0
    seen = replace(seen, floor=seen.floor | floor, ceiling=seen.ceiling | ceiling)
    return Reference(seen, transform, again, trip, speakers, surely)


def _of_speakers(data: Any) -> Any:
    """The same clips, labelled by who speaks."""
    spec = replace(data.spec, classes=tuple(data.spec.details["speakers"]))
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    parts = {name: Split(part.x, part.speaker) for name, part in parts.items()}
    return replace(data, spec=spec, fingerprint=f"{data.fingerprint} speakers", **parts)


@torch.no_grad()
def _sureness(eyes: Features, x: Tensor) -> Tensor:
    """The largest probability (N,) of any class for x (N, 1, bands, frames)."""
    assert eyes.head is not None
    return eyes.head(eyes(x)).softmax(1).amax(1)


@torch.no_grad()
def inception_score(eyes: Features, features: Tensor) -> float:
    """exp of the mean of KL(p(y|x) || p(y)), from features (N, d): 1 to the number of classes."""
    assert eyes.head is not None
    log_p = eyes.head(features).log_softmax(1)
    p = log_p.exp()
    return float((p * (log_p - p.mean(0).log())).sum(1).mean().exp())


def evaluate(model: Any, data: Any, against: Reference) -> list[Row]:
    """All metrics that apply, of what is heard."""
    seen = against.seen
    model = Heard(model, against.transform)
    rows = of_pictures.evaluate(model, data, n=seen.n, against=seen, k_importance=20, n_importance=100)
    prior = "fitted" if getattr(model, "fitted", None) is not None else "standard"
    samples = of_pictures.as_saved(model.sample(seen.n, seed=0, prior=prior))
    found: dict[str, float] = {name: value for name, value in against.round_trip.items() if name != "round_trip_score"}
    if seen.real_c is not None and seen.eyes.head is not None:
        found["inception_score"] = inception_score(seen.eyes, seen.eyes(samples))
    if against.speakers is not None:
        sure = _sureness(against.speakers, samples)
        found["speaker_leakage"] = float((sure >= against.surely).float().mean())
    note = {"inception_score": f"real clips there and back: {against.round_trip.get('round_trip_score', 0):.3g}"}
    from amalgan.modalities.sound import METRICS

    for name, value in found.items():
        unit, better, _ = METRICS[name]
        floor, ceiling = seen.floor.get(name), seen.ceiling.get(name)
        sampled = prior if name in ("inception_score", "speaker_leakage") else ""
        rows.append(Row(name, value, unit, better, floor, ceiling, seen.n, sampled, note.get(name, ""), seen.eyes.fingerprint))
    return rows


@torch.no_grad()
def voices(model: Any, against: Reference) -> dict[str, Tensor]:
    return {}
