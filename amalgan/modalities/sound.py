"""Sound: recordings in each of their forms, played and shown on a page; judged by what is heard, after the way back."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from amalgan.errors import UsageError
from amalgan.modalities.core import Meaning, Modality, Page, Question
from amalgan.modalities.images import METRICS as OF_PICTURES
from amalgan.modalities.images import Images, Labelled, Prior

if TYPE_CHECKING:
    from torch import Tensor

    from amalgan.data import Data, Spec
    from amalgan.data.forms import Form, Name
    from amalgan.data.spectrogram import Spectrogram
    from amalgan.metrics.rows import Row
    from amalgan.metrics.sound import Reference

SplitBy = Literal["take", "speaker"]
Long = Literal["cut", "windows"]
KINDS = ".wav, .npz or .png, or no suffix for a folder of WAVs"
FULL = 32767  # the most that a sample of 16 bits says
LEVELS = ((3, 4), (2, 2), (1, 1), (1, 0), (0, 0))  # clips of each label, voices: what a page plays until it fits

_OWN = {
    "round_trip_accuracy": Meaning(
        "share", "higher", "Label accuracy of real held-out clips, to a spectrogram and back: the most there is."
    ),
    "round_trip_error": Meaning(
        "dB", "lower", "Mean difference between spectrograms of real clips before and after the way to sound and back."
    ),
    "inception_score": Meaning(
        "classes", "higher", "How sure the classifier is of each clip, and how many labels it sees: 1 to their number."
    ),
    "changed_label": Meaning(
        "share", "higher", "Share of real clips that, decoded with another label, are heard as that label."
    ),
    "kept_voice": Meaning("share", "higher", "Share of those in which the speaker is still that of the original."),
    "speaker_leakage": Meaning(
        "share", "lower", "Share of clips that a classifier of training speakers is as sure of as of half of their own."
    ),
}  # fmt: skip
_NAMES = (
    "pixel_mse", "distortion", "kl", "elbo", "nll", "active_units", "frechet_reconstruction", "label_accuracy",
    "round_trip_accuracy", "round_trip_error", "tstr", "class_diversity", "inception_score", "changed_label",
    "kept_voice", "frechet", "kernel", "precision", "recall", "density", "coverage", "modes", "modes_strict",
    "reverse_kl", "uniqueness", "speaker_leakage",
    "memorisation", "memorisation_ratio", "memorisation_features",
)  # fmt: skip


def _of_clips(meaning: Meaning) -> Meaning:
    """The same said of clips."""
    return meaning._replace(meaning=meaning.meaning.replace("image", "clip"))


METRICS = {name: _OWN.get(name) or _of_clips(OF_PICTURES[name]) for name in _NAMES}


class Sounds(NamedTuple):
    """Clips that can be heard, in the form in which they were made.

    Fields:
        x: (n, *shape): spectrograms in [0, 1], or samples in [-1, 1].
        spec: of the data.
        c: (n,) places of labels, -1 for none; or None.
    """

    x: Tensor
    spec: Spec
    c: Tensor | None = None

    @property
    def form(self) -> Form:
        """The way from clips to x, and back."""
        from amalgan.data.forms import form_of

        return form_of(self.spec)

    @property
    def rate(self) -> int:
        """Samples a second."""
        return int(self.spec.details["rate"])

    @property
    def columns(self) -> int | None:
        """So many belong side by side: one of each label, where they come in turn."""
        return None if self.c is None else Labelled(self.x, self.c, self.spec).columns

    @property
    def clips(self) -> Tensor:
        """(n, samples) in [-1, 1]."""
        return self.form.inverse(self.x)

    @property
    def pictures(self) -> Tensor:
        """(n, 1, bands, frames) in [0, 1], to be looked at."""
        return self.form.picture(self.x)

    def label(self, i: int) -> str:
        """Of clip i, "" for none."""
        return "" if self.c is None or self.c[i] < 0 else self.spec.classes[int(self.c[i])]


class Sound(Modality):
    """Recordings in one form; see `amalgan.data.sound`, `amalgan.data.forms` and `amalgan.metrics.sound`.

    Arguments:
        form: what networks see of a clip.
    """

    examples = "clips"
    source = "a folder, zip or tar of WAV, FLAC or OGG files"
    bundled = "recordings/"
    metrics = METRICS
    labels: ClassVar[dict[str, str]] = {
        **Images.labels,
        "pixel_mse": "spectrogram error",
        "round_trip_accuracy": "label accuracy of real clips, there and back",
        "round_trip_error": "error of the way there and back",
    }
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Labels": ("label_accuracy", "round_trip_accuracy", "tstr", "class_diversity", "inception_score"),
        "Another label, the same voice": ("changed_label", "kept_voice"),
        **{
            title: names
            for title, names in Images.groups.items()
            if title in ("Reconstruction and likelihood", "Samples")
        },
        "Repetition and copying": (*Images.groups["Repetition and copying"], "speaker_leakage"),
        "The way to sound": ("round_trip_error",),
    }
    charts = ("label_accuracy", "tstr", "frechet")
    in_terminal = (
        "pixel_mse", "nll", "label_accuracy", "round_trip_accuracy", "tstr", "class_diversity", "inception_score",
        "frechet", "coverage", "uniqueness", "speaker_leakage", "memorisation",
    )  # fmt: skip
    ratios = ("pixel_mse", "frechet")
    unranked = Images.unranked | {"round_trip_accuracy", "round_trip_error", "speaker_leakage"}
    rules = (
        "Reconstruction is judged by the spectrogram error, per value. Sampling is judged, where there are labels, by "
        "the label accuracy and by what samples teach a classifier, else by the Fréchet distance and the coverage.",
        "Samples are judged by what is heard: each is made sound and looked at again, as a recording would be.",
        "The floor is what real clips score in the place of samples, the ceiling what needs no model at all.",
    )

    def __init__(self, form: Name = "sound") -> None:
        self.form, self.names = form, (form,)

    def recognises(self, source: Any) -> bool:
        """By the names of the files."""
        from amalgan.data import sound

        return sound.recognises(source)

    def open(
        self,
        source: Any,
        *,
        label_pattern: str | None = None,
        labels: str | None = None,
        classes: str | None = None,
        rate: int | None = None,
        seconds: float | None = None,
        long: Long = "cut",
        trim: float = 40.0,
        split_by: SplitBy = "take",
        held_out: str | None = None,
        with_speaker: bool = False,
        strict: bool = False,
        limit: int | None = None,
        **options: Any,
    ) -> Data:
        """See `amalgan.data.sound.open`.

        Arguments:
            label_pattern: what file names say, as "{label}_{speaker}_{take}" (folders are labels)
            labels: a CSV of what is known of each file: its name and its label (folders are labels)
            classes: names of the labels, in their order, separated by commas
            rate: samples a second (the commonest, at most 16,000)
            seconds: of a clip (what 95 in 100 recordings fit in, at most 1.28)
            long: what becomes of longer recordings: their end cut off, or windows one after the other
            trim: decibels below the loudest under which both ends of a recording are silence; 0 leaves them
            split_by: what is on one side only, each take or each speaker
            held_out: which of these are for test, as 0-4 or ann,bob (a tenth, drawn)
            with_speaker: labels say who speaks, too, as "7 ann"; either part can be asked for alone
            strict: stop at the first unusable file instead of skipping it
            limit: use at most so many examples in each part
        """
        from amalgan.data import sound

        given: dict[str, Any] = {
            "label_pattern": label_pattern, "labels": labels, "classes": classes, "rate": rate, "seconds": seconds,
            "long": long, "trim": trim, "split_by": split_by, "held_out": held_out,
            "with_speaker": with_speaker, "strict": strict, "limit": limit,
        }  # fmt: skip
        return sound.open(source, form=self.form, **given, **options)

    def reopen(self, source: Any, spec: Spec, **flags: Any) -> Data:
        """With the labels and the transform of `spec`."""
        return self.open(source, spec=spec, **flags)

    def sample(self, model: Any, n: int, seed: int, *, prior: Prior = "fitted", label: str | None = None) -> Sounds:
        """n clips; of a model that was trained with labels, together with theirs.

        Arguments:
            prior: where codes come from; judged: the fitted prior, less what the discriminator tells from data
            label: of all of them; each: the labels in turn; none: as without one (as frequent as in the data)
        """
        if not hasattr(model, "asked"):
            if label is not None:
                found = f"a model of {model.config.get('recipe', 'some recipe')} that was trained without labels"
                raise UsageError(f"clips labelled {label!r}", found, "train with --condition labels")
            return Sounds(model.sample(n, seed, prior).cpu(), model.spec)
        c = model.asked(label, n, seed)
        return Sounds(model.sample(n, seed, prior, c=c).cpu(), model.spec, c)

    def made(self, x: Tensor, spec: Spec) -> Sounds:
        """Spectrograms that can be saved as sound."""
        return Sounds(x.cpu(), spec)

    def save(self, samples: Sounds | Tensor, path: Path, columns: int | None = None, prefix: str = "") -> None:
        """No suffix: a folder of WAVs named by their labels; .wav all in a row; .npz arrays; .png spectrograms."""
        from amalgan import files
        from amalgan.modalities import pictures

        if path.suffix == ".png":
            x, each = (samples.pictures, samples.columns) if isinstance(samples, Sounds) else (samples, None)
            pictures.save(x, path, columns or each)
        elif not isinstance(samples, Sounds) or path.suffix not in ("", ".wav", ".npz"):
            kinds = KINDS if isinstance(samples, Sounds) else ".png"
            raise UsageError(f"clips in {path}", f"the suffix {path.suffix!r}", f"write a name that ends in {kinds}")
        elif path.suffix == ".npz":
            files.write_arrays(path, _arrays(samples))
        elif path.suffix == ".wav":
            files.write_bytes(path, wav(samples.clips.flatten(), samples.rate))
        else:
            for i, clip in enumerate(samples.clips):
                said = samples.label(i).replace("/", "-")
                name = "_".join(part for part in (said, f"{prefix}{i:05d}") if part)
                files.write_bytes(path / f"{name}.wav", wav(clip, samples.rate))

    def preview(self, model: Any, stem: Path) -> None:
        """Spectrograms of samples from fixed codes, of each label in turn."""
        prior: Prior = "standard" if model.fitted is None else "fitted"
        told = hasattr(model, "asked") and bool(model.spec.classes)
        self.save(self.sample(model, 40, 0, prior=prior, label="each" if told else None), stem.with_suffix(".png"))

    def questions(self, metrics: Sequence[str]) -> tuple[Question, ...]:
        """Reconstruction, where a recipe can, and sampling."""
        taught = ("label_accuracy", "tstr") if "label_accuracy" in metrics else ("frechet", "coverage")
        trivial, unable = "The mean spectrogram in place of a reconstruction", "no encoder, so cannot reconstruct"
        sampling = Question("sampling", "samples", "sample", taught, ("uniqueness",))
        if "pixel_mse" not in metrics:
            return (sampling,)
        return Question("reconstruction", "reconstructs", "reconstruct", ("pixel_mse",), (), trivial, unable), sampling

    def reference(self, data: Data, split: str, n: int) -> Reference:
        """Held-out clips, classifiers of labels and speakers, what real clips score before and after the round trip."""
        from amalgan.metrics.sound import reference

        return reference(data, split, n)

    def looked_with(self, against: Reference) -> dict[str, Any]:
        """The classifier of labels, or what learned without them."""
        return Images().looked_with(against.seen)

    def evaluate(self, model: Any, data: Data, against: Reference) -> list[Row]:
        """See `amalgan.metrics.sound.evaluate`."""
        from amalgan.metrics.sound import evaluate

        return evaluate(model, data, against)

    def judging_seconds(self, data: Data) -> float:
        """Two or three small networks learn to hear."""
        return 60.0

    def exhibits(self, model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
        """Spectrograms, as of images, what is needed to hear them, and clips of those that were not made as such."""
        import json

        import torch

        from amalgan.metrics.sound import Through, labels_alone, voices
        from amalgan.modalities import pictures

        found = pictures.exhibits(Through(model, against.form.picture), against.seen, seed)
        found |= {name: (x * 255).round().to(torch.uint8) for name, x in voices(model, against).items()}
        if against.form != against.ears:  # what is heard of these pictures would not be what was made
            found |= played(model, against, seed)
        alone, transform = labels_alone(model.spec), against.ears.to_json()
        held = json.dumps({"labels": model.spec.classes, "alone": alone, "transform": transform}).encode()
        return found | {"told": torch.tensor(list(held), dtype=torch.uint8)}

    def sections(self, page: Page) -> list[tuple[str, str, str]]:
        """What is heard of each label, beside real clips; then spectrograms, as pictures are shown."""
        from amalgan.modalities import pictures

        heard = [
            ("heard", "To be heard", _heard(page)),
            ("voices", "The same voice, another label", _voices(page)),
            ("between", "From one clip to another, to be heard", _between(page)),
        ]
        return heard + [
            (key, title.replace("image", "spectrogram"), html) for key, title, html in pictures.sections(page)
        ]


# Written


def wav(clip: Tensor, rate: int) -> bytes:
    """A file of 16-bit samples of a clip (n,) in [-1, 1]."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(_whole(clip).numpy().astype("<i2").tobytes())
    return held.getvalue()


def _arrays(samples: Sounds) -> dict[str, Any]:
    import numpy as np

    held: dict[str, Any] = {"x": samples.clips.numpy(), "rate": np.array(samples.rate)}
    if samples.c is None:
        return held
    return held | {"y": samples.c.numpy(), "classes": np.array(samples.spec.classes)}


def played(model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
    """The clips that a page plays, int16 (..., samples), each of a picture: those of NAME are `played NAME`."""
    import torch

    from amalgan.modalities.pictures import LABELS, by_class, interpolations

    real, c, rows = against.real, against.seen.real_c, LEVELS[0][0]
    made = {"real": real[: 3 * rows], "samples": model.sample(3 * rows, seed)}
    made["interpolations"] = interpolations(model, real)[:1]
    if hasattr(model, "asked") and model.spec.classes and c is not None:
        count = min(LABELS, len(model.spec.classes))
        each = model.sample(rows * count, seed, c=torch.arange(count).repeat(rows))
        made["by_label"] = each.view(rows, count, *each.shape[1:])
        made["real_by_label"] = by_class(real, c, count)[:1]
    shape = model.spec.shape
    return {f"played {name}": _whole(against.form.inverse(x.cpu().view(-1, *shape))).view(*x.shape[: -len(shape)], -1)
            for name, x in made.items()}  # fmt: skip


def _whole(clips: Tensor) -> Tensor:
    """int16 samples of clips in [-1, 1]."""
    return (clips.clamp(-1, 1) * FULL).round().short()


# Told on a page


def player(clip: Tensor, rate: int) -> str:
    """An <audio> that carries its own sound."""
    held = base64.b64encode(wav(clip, rate)).decode()
    return f'<audio controls preload="none" src="data:audio/wav;base64,{held}"></audio>'


def _told(kept: dict[str, Tensor]) -> tuple[list[str], list[str], Spectrogram]:
    """The classes, the labels without who speaks, and the transform of a run's exhibits."""
    import json

    from amalgan.data.spectrogram import Spectrogram

    held = json.loads(bytes(kept["told"].tolist()))
    return held["labels"], held["alone"], Spectrogram.from_json(held["transform"])


def _row_of(
    kept: dict[str, Tensor], name: str, row: int | None, transform: Spectrogram, captions: Sequence[str]
) -> str:
    """Spectrograms side by side, each to be played: a row of some that were kept, or all; made sound if no clips were."""
    from amalgan.drawing import embedded, grid

    rows = {
        of: (kept[of] if row is None else kept[of][row])[: len(captions)]
        for of in (name, f"played {name}")
        if of in kept
    }
    x, clips = rows[name], rows.get(f"played {name}")
    heard = transform.inverse(x.float() / 255) if clips is None else clips.float() / FULL
    tiles = [
        f'<div class="clip">{embedded(grid(one[None], 1), f"spectrogram, {caption}")}{player(clip, transform.rate)}'
        f"<span>{escape(caption)}</span></div>"
        for one, clip, caption in zip(x, heard, captions)
    ]
    return f'<div class="clips">{"".join(tiles)}</div>'


def _heard(page: Page) -> str:
    """Of each recipe clips of every label, beneath a real one."""
    from amalgan.drawing import colour_of, figure

    count = LEVELS[min(page.level, len(LEVELS) - 1)][0]
    able = {name: kept for name, kept in page.shown.items() if "told" in kept}
    if not able or not count:
        return ""
    kept = next(iter(able.values()))
    labels, _, transform = _told(kept)
    if "real_by_label" not in kept:
        sets = [("Real clips, held out", "real", kept, "real")]
        sets += [(name, colour_of(page.results, name), kept, "samples") for name, kept in able.items()]
        none = [""] * 3 * count
        drawn = [figure(title, colour, _row_of(of, name, None, transform, none)) for title, colour, of, name in sets]
    else:
        named = [*labels[: kept["real_by_label"].shape[1]]]
        drawn = [figure("Real clips, held out", "real", _row_of(kept, "real_by_label", 0, transform, named))]
        for name, kept in able.items():
            if "by_label" in kept:
                rows = "".join(_row_of(kept, "by_label", row, transform, named) for row in range(count))
                drawn.append(figure(name, colour_of(page.results, name), rows))
    lead = (
        f'<p class="lead">Not picked: the first clips of seed {page.seed}, made sound by the same way back as the real '
        "ones above them. Upright: low tones below, high above; to the right: time. Bright bands that bend are formants; "
        "do those of a label bend as the real one's do?</p>"
    )
    return lead + "".join(drawn)


def _voices(page: Page) -> str:
    """Real clips, and what they become with every label."""
    from amalgan.drawing import colour_of, figure

    count, drawn = LEVELS[min(page.level, len(LEVELS) - 1)][1], []
    for name, kept in page.shown.items():
        if "voices" in kept and count:
            _, labels, transform = _told(kept)
            captions = ["original", *labels[: kept["voices"].shape[1] - 1]]
            rows = "".join(
                _row_of(kept, "voices", row, transform, captions) for row in range(min(count, len(kept["voices"])))
            )
            drawn.append(figure(name, colour_of(page.results, name), rows))
    lead = "First a real clip, then its code decoded with each label in turn. What stays should be the voice."
    return f'<p class="lead">{lead}</p>{"".join(drawn)}' if drawn else ""


def _between(page: Page) -> str:
    """The way from one clip to another."""
    from amalgan.drawing import colour_of, figure

    drawn = []
    for name, kept in page.shown.items():
        if "told" in kept and "interpolations" in kept and page.level < 2:
            *_, transform = _told(kept)
            captions = ["one", *[""] * (kept["interpolations"].shape[1] - 2), "another"]
            row = _row_of(kept, "interpolations", 0, transform, captions)
            drawn.append(figure(name, colour_of(page.results, name), row))
    return "".join(drawn)
