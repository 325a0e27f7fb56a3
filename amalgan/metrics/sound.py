"""Is what is heard what was asked for?

Clips are judged as recordings would be: whatever form a model makes, it is made sound and looked at again as a mel
spectrogram, so that what the way back to sound loses counts against the model, and models of waves and of spectrograms can be
held against each other. Two ceilings stand beside: real held-out clips, and the same there and back.

    label_accuracy, tstr, frechet, memorisation, ...   as of pictures, of spectrograms of what is heard
    round_trip_accuracy, round_trip_error     of real held-out clips, from what networks see of them to sound and back
    inception_score     exp of the mean KL between p(label | clip) and its mean  (Salimans et al. 2016; Donahue et al. 2019)
    changed_label       share of held-out clips that, encoded, and decoded with another label, are heard as that label
    kept_voice          share of those in which the speaker that is heard is that of the original
    speaker_leakage     share of samples that a classifier of the training speakers is as sure of as of half of the
                        held-out clips: 0.5 is somebody's voice, 0 nobody's in particular
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from amalgan.data.core import Split
from amalgan.data.forms import Form, ears_of, form_of
from amalgan.data.sound import seen as as_seen
from amalgan.data.spectrogram import AT_ONCE, Spectrogram
from amalgan.errors import UsageError
from amalgan.metrics import evaluate as of_pictures
from amalgan.metrics.conditional import conditional
from amalgan.metrics.features import Features, classifier
from amalgan.metrics.rows import Row

ROWS = 4  # voices that are kept to be shown
IMPORTANCE: dict[str, Any] = {
    "k_importance": 20,
    "n_importance": 100,
}  # a likelihood of spectrograms is told, not judged by


@dataclass(frozen=True)
class Reference:
    """The real side of a judgement.

    Arguments:
        seen: the real side as of pictures, with floors and ceilings of all metrics.
        form: between clips and what models of these data make.
        ears: between clips and the spectrograms that they are judged by.
        real: the held-out clips (n, *shape) as such models see them.
        round_trip: value of each metric of it.
        speakers: a classifier of the training speakers, None where none are known.
        surely: how sure it is, at the median, of held-out clips.
    """

    seen: of_pictures.Reference
    form: Form
    ears: Spectrogram
    real: Tensor
    round_trip: dict[str, float]
    speakers: Features | None = None
    surely: float = 1.0

    @property
    def split(self) -> str:
        """As of pictures."""
        return self.seen.split

    @property
    def n(self) -> int:
        """As of pictures."""
        return self.seen.n

    @property
    def labelled(self) -> bool:
        """Whether there is a classifier of labels."""
        return self.seen.real_c is not None and self.seen.eyes.head is not None


class Through:
    """A model whose samples, and what it decodes, are looked at through something; samples are kept; all else is the model's.

    Arguments:
        look: x (N, *shape) -> spectrograms (N, 1, bands, frames).
    """

    def __init__(self, model: Any, look: Callable[[Tensor], Tensor]) -> None:
        self._model, self._look = model, look
        self._made: dict[tuple[int, int, str], Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def sample(self, n: int, seed: int = 0, prior: str = "fitted", **kwargs: Any) -> Tensor:
        """As the model's; what was asked for before has been looked at before."""
        asked = n, seed, prior
        if kwargs:
            return self._look(self._model.sample(n, seed, prior, **kwargs).float().cpu())
        if asked not in self._made:
            self._made[asked] = self._look(self._model.sample(n, seed, prior).float().cpu())
        return self._made[asked]

    def decode(self, z: Tensor) -> Tensor:
        """As the model's."""
        return self._look(self._model.decode(z).float().cpu())


def heard(x: Tensor, form: Form, ears: Spectrogram) -> Tensor:
    """Spectrograms, as they are kept, of the clips that x (N, *shape) become."""
    parts = x.float().cpu().split(AT_ONCE)
    return of_pictures.as_saved(torch.cat([ears.forward(form.inverse(part)) for part in parts]))


def reference(data: Any, split: str, n: int) -> Reference:
    """What real clips score, before and after the round trip.

    Raises:
        UsageError: unknown split, or too few clips in it.
    """
    shown, form, ears = as_seen(data), form_of(data.spec), ears_of(data.spec)
    seen = of_pictures.reference(shown, split, n)
    real, _ = of_pictures.picked(data.held_out(split), seen.n, split)
    again = heard(real, form, ears)
    trip = {"round_trip_error": float((again - seen.real).abs().mean()) * ears.decibels}
    floor, ceiling = {"round_trip_error": 0.0}, {"round_trip_error": ears.decibels}
    found = Reference(seen, form, ears, real, trip)
    if found.labelled:
        assert seen.real_c is not None
        features = seen.eyes(again)
        trip["round_trip_accuracy"] = conditional(
            seen.eyes, features, seen.real_c, seen.real_features, seen.real_c
        ).label_accuracy
        floor |= dict.fromkeys(("round_trip_accuracy", "changed_label"), seen.floor["label_accuracy"])
        ceiling |= dict.fromkeys(("round_trip_accuracy", "changed_label"), seen.ceiling["label_accuracy"])
        floor["inception_score"], ceiling["inception_score"] = inception_score(seen.eyes, features), 1.0
    speaker = getattr(data.train, "speaker", None)
    if speaker is not None and len(speaker[speaker >= 0].unique()) > 1:
        eyes = classifier(_of_speakers(shown))
        sure, who = _speakers(eyes, seen.real)
        found = replace(found, speakers=eyes, surely=float(sure.median()))
        same = float((_speakers(eyes, again)[1] == who).float().mean())
        floor |= {"speaker_leakage": 0.0, "kept_voice": same}
        ceiling |= {"speaker_leakage": 1.0, "kept_voice": float(who.bincount().max() / len(who))}
    return replace(found, seen=replace(seen, floor=seen.floor | floor, ceiling=seen.ceiling | ceiling))


def _of_speakers(data: Any) -> Any:
    """The same clips, labelled by who speaks."""
    spec = replace(data.spec, classes=tuple(data.spec.details["speakers"]))
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    parts = {name: Split(part.x, part.speaker) for name, part in parts.items()}
    return replace(data, spec=spec, fingerprint=f"{data.fingerprint} speakers", **parts)


@torch.no_grad()
def _speakers(eyes: Features, x: Tensor) -> tuple[Tensor, Tensor]:
    """How sure a classifier is of x (N, 1, bands, frames), (N,), and of whom (N,)."""
    assert eyes.head is not None
    sure, who = eyes.head(eyes(x)).softmax(1).max(1)
    return sure, who


@torch.no_grad()
def inception_score(eyes: Features, features: Tensor) -> float:
    """exp of the mean of KL(p(y|x) || p(y)), from features (N, d): 1 to the number of classes."""
    assert eyes.head is not None
    log_p = eyes.head(features).log_softmax(1)
    log_mean = log_p.logsumexp(0) - torch.tensor(float(len(log_p))).log()
    return float((log_p.exp() * (log_p - log_mean)).sum(1).mean().exp())


def evaluate(model: Any, data: Any, against: Reference, seed: int = 0) -> list[Row]:
    """All metrics that apply, of what is heard."""
    seen, loud = against.seen, Through(model, partial(heard, form=against.form, ears=against.ears))
    rows = of_pictures.evaluate(loud, data, n=seen.n, seed=seed, against=seen, **IMPORTANCE)
    prior = "fitted" if getattr(model, "fitted", None) is not None else "standard"
    found = {name: (value, "", "") for name, value in against.round_trip.items()}
    samples = loud.sample(seen.n, seed=seed, prior=prior)
    if against.labelled:
        found["inception_score"] = inception_score(seen.eyes, seen.eyes(samples)), prior, ""
    if against.speakers is not None:
        sure, _ = _speakers(against.speakers, samples)
        note = f"{len(data.spec.details['speakers'])} speakers"
        found["speaker_leakage"] = float((sure >= against.surely).float().mean()), prior, note
    if against.labelled and model.has_encoder and hasattr(model, "asked"):
        found |= {name: (value, "", "") for name, value in _changed(model, against).items()}
    return rows + [_row(name, *said, against) for name, said in found.items()]


def _row(name: str, value: float, prior: str, note: str, against: Reference) -> Row:
    from amalgan.modalities.sound import METRICS

    unit, better, _ = METRICS[name]
    seen, of_voices = against.seen, against.speakers if name in ("kept_voice", "speaker_leakage") else None
    eyes = "" if name == "round_trip_error" else (of_voices or seen.eyes).fingerprint
    return Row(name, value, unit, better, seen.floor.get(name), seen.ceiling.get(name), seen.n, prior, note, eyes)


def _changed(model: Any, against: Reference) -> dict[str, float]:
    """What becomes of held-out clips that are decoded with another label, each other one in turn; where labels say who
    speaks, with another one of the same speaker."""
    seen, factors = against.seen, model.spec.details.get("factors")
    assert seen.real_c is not None
    known = seen.real_c >= 0
    x, c = seen.real[known], seen.real_c[known]
    other = torch.tensor([_other(of, i, factors, seen.classes) for i, of in enumerate(c.tolist())])
    changed = heard(relabelled(model, x, c, other), against.form, against.ears)
    alone = labels_alone(model.spec)
    said = torch.tensor([alone.index(of[0]) for of in factors] if factors else range(seen.classes))
    found = {"changed_label": float((said[seen.eyes.classes(seen.eyes(changed))] == said[other]).float().mean())}
    if against.speakers is not None:
        (_, before), (_, after) = (_speakers(against.speakers, clips) for clips in (x, changed))
        found["kept_voice"] = float((before == after).float().mean())
    return found


def labels_alone(spec: Any) -> list[str]:
    """The labels without who speaks, in their order."""
    factors = spec.details.get("factors")
    return list(dict.fromkeys(of[0] for of in factors)) if factors else list(spec.classes)


def _other(c: int, turn: int, factors: list[list[str]] | None, classes: int) -> int:
    """Another class than c, one after the other as turns go by; of the same speaker where classes have one."""
    others = [k for k in range(classes) if factors is None or factors[k][1:] == factors[c][1:]]
    return others[(others.index(c) + 1 + turn % max(1, len(others) - 1)) % len(others)]


@torch.no_grad()
def relabelled(model: Any, x: Tensor, c: Tensor, other: Tensor) -> Tensor:
    """Examples x (n, *shape) with labels c (n,), encoded as what they are and decoded as others (n,).

    Raises:
        UsageError: a model without encoder, or without labels.
    """
    if not model.has_encoder or not hasattr(model, "asked"):
        found = f"{model.config.get('recipe', 'a model')} without {'labels' if model.has_encoder else 'an encoder'}"
        raise UsageError("an example with another label", found, "train vae or vaegan with --condition labels")
    made = []
    for some, of, to in zip(x.split(AT_ONCE), c.split(AT_ONCE), other.split(AT_ONCE)):
        device = next(model.parameters()).device
        z = model.given(of.to(device)).encode(some.to(device))
        made.append(model.given(to.to(device)).decode(z).float().cpu())
    return torch.cat(made)


def voices(model: Any, against: Reference) -> dict[str, Tensor]:
    """`voices` (rows, 1 + labels, 1, bands, frames): real clips of different speakers, then each with every label."""
    seen, most = against.seen, 10
    if not (against.labelled and model.has_encoder and hasattr(model, "asked")):
        return {}
    assert seen.real_c is not None
    who = torch.arange(len(seen.real)) if against.speakers is None else _speakers(against.speakers, seen.real)[1]
    first: dict[int, int] = {}
    for i in (seen.real_c >= 0).nonzero()[:, 0].tolist():
        first.setdefault(int(who[i]), i)
    some = torch.tensor(list(first.values())[:ROWS])
    x, c, factors = seen.real[some], seen.real_c[some], model.spec.details.get("factors")
    # the same labels in every row; of the row's own speaker where labels say who speaks
    labels = labels_alone(model.spec)[:most]
    place = {tuple(of): k for k, of in enumerate(factors or [[name] for name in model.spec.classes])}
    to = [[place.get((label, *(factors[k][1:] if factors else ())), k) for label in labels] for k in c.tolist()]
    times = len(labels)
    made = relabelled(model, x.repeat_interleave(times, 0), c.repeat_interleave(times), torch.tensor(to).flatten())
    return {"voices": torch.cat([x[:, None], made.view(len(x), times, *x.shape[1:])], 1)}
