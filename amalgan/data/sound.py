"""Recordings as clips of one length, in one of three forms: a folder or an archive of WAV, FLAC or OGG files.

    file -> samples -> one channel -> one rate -> silence at both ends trimmed -> clips of one length -> `Spectrogram`, or
    what else networks are to see of them (`amalgan.data.forms`)

A recording is of one take, and a take (or a speaker) is on one side, of training, validation and test, however many
clips it gives. What a file holds is said by its name, by a pattern such as {label}_{speaker}_{take}, by a table, or by its
folder. WAV files with whole numbers are read by the standard library; for all others `soundfile` is needed.
"""

from __future__ import annotations

import difflib
import io
import math
import os
import re
import tarfile
import wave
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from .core import ANY, FULL, TEST, Data, Decoded, Spec, Split, Streamed, Unreadable, digests, divide
from .files import Files, open_files, some
from .forms import Form, Name, Spectra, Wave, ears_of, form_of
from .labels import Known, from_table, of_classes, renamed
from .spectrogram import PEAK, QUIET, Spectrogram
from .survey import Progress, refuse, told, tree

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff")
SOURCES = "a folder, .zip or .tar(.gz) of WAV, FLAC or OGG files"
SIDE = 64  # bands and frames: what the networks of pictures take
DECIBELS = 60.0  # between the loudest and what is no longer heard
SLOWEST, HIGHEST = 1_000, 400_000  # samples a second that a recording may have
FASTEST = 16_000  # samples a second, unless asked for more
LONGEST = 1.28  # seconds of a clip, unless asked for more: frames 20 ms apart
SHARE = 0.95  # of the recordings that fit into a clip as they are
PROBED = 1_000  # recordings that rate and length are chosen by
LOUDNESS = 0.008  # seconds over which loudness is taken
EDGE = 40.0  # decibels below the loudest, softer than which the ends of a recording are silence
MARGIN = 0.016  # seconds of them that stay
SILENT = 1e-3  # of full scale: a recording that never gets there is silence
LOUDEST, FLAT, CLIPPED = 0.999, 4, 0.01  # of full scale; samples in a row there; the share of such that is too much
BLOCK = 256  # clips transformed at once
FITTED = 10_000  # clips of the training part that the units of spectra are taken from
TOLD = {"waves": "samples a clip", "spectra": "spectrograms, each row in units of its own"}
SplitBy = Literal["take", "speaker"]
Long = Literal["cut", "windows"]


class Clips(Split):
    """Clips of one part, in some form, with the speaker of each.

    Arguments:
        x: as networks see them: uint8 spectrograms (N, 1, bands, frames), or int16 samples (N, 1, samples).
        c: (N,) labels, -1 = unknown, or None.
        speaker: (N,) places in the speakers of the spec's details, -1 = unknown, or None.
        seen: uint8 (N, 1, bands, frames), the mel spectrograms that they are judged by.
    """

    def __init__(self, x: Tensor | Streamed, c: Tensor | None, speaker: Tensor | None, seen: Tensor) -> None:
        super().__init__(x, c)
        self.speaker, self.seen = speaker, seen


@dataclass
class Named:
    """What the names of files say: (N,) each, None where nothing is said.

    Arguments:
        labels, speakers: words.
        takes: which files are one take, as text: the file itself, unless its name says more.
        numbers: the {take} of its name.
    """

    labels: list[str | None]
    speakers: list[str | None]
    takes: list[str]
    numbers: list[str | None]


def open(
    source: Any,
    *,
    form: Name = "sound",
    label_pattern: str | None = None,
    labels: str | Path | None = None,
    classes: str | None = None,
    rate: int | None = None,
    seconds: float | None = None,
    long: Long = "cut",
    trim: float = EDGE,
    split_by: SplitBy = "take",
    held_out: str | None = None,
    with_speaker: bool = False,
    strict: bool = False,
    limit: int | None = None,
    seed: int = 0,
    spec: Spec | None = None,
    progress: Progress | None = None,
) -> Data:
    """Clips in three parts with no take (or no speaker) in common.

    Arguments:
        source: a folder, zip or tar of recordings.
        form: what networks are to see of each clip: sound, a mel spectrogram; waves, samples; spectra, a spectrogram of
            all rows, each in units of its own.
        label_pattern: what file names say, without their suffix: "{label}_{speaker}_{take}", "{speaker}/{label}_{take}".
        labels: a CSV whose first column names the files and whose second is the label. Else folders are labels.
        classes: other names of the labels, in their order, separated by commas.
        rate: samples a second; by default the commonest, at most 16,000.
        seconds: of a clip; by default what 95 % of the recordings fit in once trimmed, at most 1.28.
        long: what becomes of longer recordings: cut, or windows one after the other.
        trim: decibels below the loudest under which both ends are silence and are cut away; 0 leaves them.
        split_by: what is on one side only: each take, or each speaker.
        held_out: which of these are the test set, as "0-4" or "ann,bob"; by default a tenth, drawn.
        with_speaker: a label says who speaks, too, "7 ann"; the spec's details hold the `factors` of each, ["7", "ann"].
        strict: stop at the first file that cannot be used instead of leaving it out.
        limit: at most so many clips in each part.
        seed: another seed divides differently.
        spec: of data that a model was trained on: the same labels, the same transform.
        progress: called with (files done, files in all).
    Raises:
        UsageError: nothing there, nothing readable, a pattern that fits no name, too few takes; data of another form.
    """
    _checked(rate, seconds, limit, trim, long, split_by, form)
    if isinstance(source, Data):
        if source.spec.modality != form:
            found = f"data that were opened as {source.spec.modality}"
            raise UsageError(f"recordings as {form}", found, f'open them with form="{form}"')
        return source
    path = Path(source).expanduser() if isinstance(source, (str, os.PathLike)) else None
    if path is None or not path.exists():
        raise UsageError("recordings", f"{_missing(path) if path else type(source).__name__}", f"give {SOURCES}")
    details = {} if spec is None else spec.details
    pattern = label_pattern or (None if labels else details.get("label_pattern"))
    if labels is not None and label_pattern is not None:
        raise UsageError("labels of recordings", "both a table and a pattern of names", "give one of the two")
    files = open_files(path)
    files = some(files, [i for i, name in enumerate(files.names) if name.lower().endswith(SUFFIXES)])
    if not files.names:
        raise UsageError(f"recordings from {path.name!r}", "no file of sound in it", f"give {SOURCES}")
    skipped, notes = list(files.skipped), list[str]()
    if pattern is not None:
        fits = fitting(pattern)
        matched = [fits(name) for name in files.names]
        if not any(matched):
            found = f"{files.names[0]!r} and {len(files.names) - 1:,} more, none of which fits"
            raise UsageError(f"names like {pattern!r}", found, "write the pattern of their names, less the suffix")
        skipped += [(name, f"not named like {pattern}") for name, match in zip(files.names, matched) if not match]
        files = some(files, [i for i, match in enumerate(matched) if match])
    if strict:
        refuse(skipped)

    transform = chosen(files, rate, seconds, trim, notes) if spec is None else ears_of(spec)
    x, samples, of, failed, done = clips(files, transform, long, trim, strict, progress, form != "sound")
    skipped += failed
    if not len(x):
        raise UsageError(f"recordings from {path.name!r}", f"none that can be used: {told(skipped)}", _advice(skipped))
    notes += done
    named = _named([files.names[i] for i in of], pattern)
    part, known = _known(named, files, of, path, labels, pattern, notes)
    factors: list[list[str]] = []
    if with_speaker or "factors" in details:
        known, factors = _with_speaker(known, named, notes)
    if classes is not None:
        known = known._replace(classes=renamed(known.classes, classes))
    speakers = tuple(sorted({name for name in named.speakers if name is not None}))
    part = _held_out(held_out, split_by, named, part)
    digest = digests(x.numpy())
    if split_by == "speaker" and not speakers:
        raise UsageError(
            "parts by speaker", "names that tell no speaker", 'add --label-pattern "{label}_{speaker}_{take}"'
        )
    group = together(named.speakers if split_by == "speaker" else named.takes, digest)
    place, fitted = {name: i for i, name in enumerate(speakers)}, spec
    speaker = torch.tensor([-1 if name is None else place[name] for name in named.speakers])
    if spec is None:
        details = transform.to_json() | ({"speakers": list(speakers)} if speakers else {})
        details |= {"label_pattern": pattern} if pattern else {}
        details |= {"factors": factors} if factors else {}
        spec = Spec("sound", transform.shape, known.classes, details)
    else:
        spec = _judged(spec)
        known = known.among(spec.classes)
    if skipped:
        notes.append("skipped " + told(skipped))
    notes.append(f"divided by {split_by}: none is on two sides")
    decoded = Decoded(x, digest, known.c, spec.classes, part, notes, skipped, group=group)
    places: list[Tensor] = []  # of the clips of each part, which are asked for in their order

    def split(x: Tensor | Streamed, c: Tensor | None, at: np.ndarray) -> Clips:
        places.append(torch.from_numpy(at))
        assert isinstance(x, Tensor)
        return Clips(x, c, speaker[places[-1]] if speakers else None, x)

    decoded.split = split
    data = divide(decoded, path.name or str(path.resolve()), seed, limit, spec)
    if form == "sound":
        return data
    return _as_form(data, form, [samples[at] for at in places], None if fitted is None else form_of(fitted))


def seen(data: Data) -> Data:
    """The same clips as mel spectrograms, which all forms are judged by: the same data whatever the form."""
    if data.spec.modality == "sound":
        return data
    shown = _with(data, [part.seen for part in _parts(data)])
    return replace(shown, spec=_judged(data.spec), fingerprint=data.fingerprint.removesuffix(f" {data.spec.modality}"))


def _parts(data: Data) -> list[Any]:
    """The three parts, all `Clips`."""
    return [data.train, data.validation, data.test]


def _with(data: Data, x: Sequence[Tensor]) -> Data:
    """The same data with other x of each part."""
    parts = [Clips(of, part.c, part.speaker, part.seen) for of, part in zip(x, _parts(data))]
    return replace(data, train=parts[0], validation=parts[1], test=parts[2])


def _judged(spec: Spec) -> Spec:
    """The spec of the same clips as mel spectrograms."""
    details = {name: value for name, value in spec.details.items() if name != "spectra"}
    return replace(spec, modality="sound", shape=ears_of(spec).shape, details=details)


def _as_form(data: Data, form: Name, samples: list[Tensor], fitted: Form | None) -> Data:
    """The same data, divided alike, as networks are to see it.

    Arguments:
        data: as mel spectrograms.
        samples: int16 (N, samples) of each part.
        fitted: the form as it was fitted to the data of a model, or None to fit it to the training part.
    """
    ears, details, way = ears_of(data.spec), data.spec.details, fitted
    if way is None:
        way = Wave(ears) if form == "waves" else Spectra.fitted(ears, _floats(samples[0][:FITTED]))
    if isinstance(way, Spectra):
        details = details | {"spectra": way.to_json()}
    x = [of[:, None] if form == "waves" else _pictures(way, of) for of in samples]
    spec = replace(data.spec, modality=form, shape=way.shape, details=details)
    notes = [*data.notes, f"networks see {' x '.join(f'{side:,}' for side in way.shape[1:])} {TOLD[form]}"]
    return replace(_with(data, x), spec=spec, fingerprint=f"{data.fingerprint} {form}", notes=notes)


def _floats(samples: Tensor) -> Tensor:
    """Clips in [-1, 1] of int16 ones."""
    return samples.float() / FULL[torch.int16]


def _pictures(way: Form, samples: Tensor) -> Tensor:
    """uint8 (N, 1, bands, frames) of int16 clips (N, samples)."""
    made = [(way.forward(_floats(some)) * 255).round().to(torch.uint8) for some in samples.split(BLOCK)]
    return torch.cat(made) if made else torch.empty(0, *way.shape, dtype=torch.uint8)


def recognises(source: Any) -> bool:
    """Whether most of the first files of a folder or archive have names of sound; nothing but names is read."""
    if not isinstance(source, (str, os.PathLike)) or not Path(source).expanduser().exists():
        return False
    names = _some_names(Path(source).expanduser(), 200)
    return 2 * sum(name.lower().endswith(SUFFIXES) for name in names) > len(names)


def _some_names(path: Path, most: int) -> list[str]:
    found: list[str] = []
    try:
        if path.is_dir():
            for _, _, names in os.walk(path):
                found += [name for name in names if not name.startswith(".")]
                if len(found) >= most:
                    break
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found = [name for name in archive.namelist() if not name.endswith("/")]
        elif ".tar" in path.name.lower() or path.suffix.lower() in (".tgz", ".tbz", ".txz"):
            with tarfile.open(path) as archive:
                for member in archive:
                    found += [member.name] * member.isfile()
                    if len(found) >= most:
                        break
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, ValueError):
        pass  # whoever opens it will say what is wrong
    return found[:most]


def _missing(path: Path) -> str:
    near = os.listdir(path.parent) if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, near, 1)
    return f"no {str(path)!r}" + (f" (but there is {str(path.parent / close[0])!r})" if close else "")


def _checked(
    rate: int | None, seconds: float | None, limit: int | None, trim: float, long: str, split_by: str, form: str
) -> None:
    for name, word, kinds in (("long", long, Long), ("split_by", split_by, SplitBy), ("form", form, Name)):
        words = get_args(kinds)
        if word not in words:
            raise UsageError(f"{name}={word!r}", "no such word", f"write {' or '.join(words)}")
    if rate is not None and not SLOWEST <= rate <= HIGHEST:
        raise UsageError(f"rate={rate}", f"not {SLOWEST:,} to {HIGHEST:,} samples a second", "write for example 16000")
    if seconds is not None and not 0.05 <= seconds <= 60:
        raise UsageError(f"seconds={seconds}", "not 0.05 to 60", "write for example 1.0")
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit}", "fewer than one clip a part", "leave it out, or write for example 1000")
    if not 0 <= trim <= 200:
        raise UsageError(f"trim={trim}", "not 0 to 200 decibels", "write 40, or 0 to leave recordings as they are")


def _advice(skipped: Sequence[tuple[str, str]]) -> str:
    lacking = any("amalgan[sound]" in reason for _, reason in skipped)
    return "pip install 'amalgan[sound]', which brings soundfile" if lacking else f"give {SOURCES}, at least 3 takes"


# One recording


def read(raw: bytes) -> tuple[np.ndarray, int]:
    """Samples float32 (n, channels) in [-1, 1] and the rate of the bytes of a file.

    Raises:
        Unreadable: with the reason.
    """
    if not raw:
        raise Unreadable("empty file")
    if raw[:4] == b"RIFF" and raw[8:12] == b"WAVE":
        try:
            return _pcm(raw)
        except (wave.Error, EOFError, RuntimeError) as error:  # the last where a chunk claims more than there is
            if "unknown format" not in str(error):
                raise Unreadable(f"damaged WAV ({str(error) or 'it ends in its header'})") from None
            kind = "a WAV of other than whole numbers"
    elif raw[:4] in (b"fLaC", b"OggS", b"FORM"):
        kind = {b"fLaC": "FLAC", b"OggS": "OGG", b"FORM": "AIFF"}[raw[:4]]
    else:
        raise Unreadable("not a WAV, FLAC or OGG file")
    try:
        import soundfile
    except ImportError:
        raise Unreadable(f"{kind}, which soundfile reads: pip install 'amalgan[sound]'") from None
    try:
        samples, rate = soundfile.read(io.BytesIO(raw), dtype="float32", always_2d=True)
    except Exception as error:  # decoders report damage in every type there is
        raise Unreadable(f"damaged {kind} ({error})") from None
    return samples, int(rate)


def _pcm(raw: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(raw)) as file:
        channels, width, rate, count = file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()
        held = file.readframes(count)
    if len(held) < count * channels * width:
        raise Unreadable(f"cut short: {len(held) // (channels * width):,} of {count:,} samples")
    if not SLOWEST <= rate <= HIGHEST or width > 4:
        raise Unreadable(f"damaged WAV ({rate:,} samples a second, of {width} bytes)")
    if width == 1:
        samples = (np.frombuffer(held, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:
        wide = np.zeros((len(held) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(held, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    else:
        samples = np.frombuffer(held, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)
    return samples.reshape(-1, channels), rate


def usable(samples: np.ndarray) -> np.ndarray:
    """One channel (n,), the mean of all (n, channels).

    Raises:
        Unreadable: no samples, silence, clipping, or numbers that are none.
    """
    if not len(samples):
        raise Unreadable("no samples")
    mono = samples.mean(1)
    if not np.isfinite(mono).all():
        raise Unreadable("NaN or infinity among its samples")
    peak = float(np.abs(mono).max())
    if peak < SILENT:
        raise Unreadable("silence")
    share = _flat(np.abs(samples).max(1) >= LOUDEST)
    if share > CLIPPED:
        raise Unreadable(f"clipped: {share:.0%} of it at full scale")
    return mono


def _flat(full: np.ndarray) -> float:
    """The share of samples that lie in runs of FLAT or more."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], full.astype(np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    return float(lengths[lengths >= FLAT].sum() / len(full))


def resampled(a: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Samples (n,) at another rate (m,), what is above half of it cut off: exact for what is below both halves."""
    if rate == to:
        return a
    common = math.gcd(rate, to)
    up, down = to // common, rate // common
    quiet = max(64, down)  # at the end, so that it does not run into the beginning
    blocks = -(-(len(a) + quiet) // down)
    spectrum = np.fft.rfft(np.pad(a, (0, blocks * down - len(a))))
    kept = min(blocks * down, blocks * up) // 2 + 1
    again = np.fft.irfft(spectrum[:kept], blocks * up) * (up / down)
    return again[: -(-len(a) * up // down)].astype(np.float32)


def trimmed(a: np.ndarray, rate: int, decibels: float) -> np.ndarray:
    """Samples (n,) without what is softer, at both ends, than so many decibels below the loudest; 0 leaves them."""
    some = max(1, round(rate * LOUDNESS))
    count = len(a) // some
    if decibels == 0 or count < 2:
        return a
    power = (a[: count * some].reshape(count, some) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-decibels / 10))
    margin = round(MARGIN * rate)
    return a[max(0, loud[0] * some - margin) : (loud[-1] + 1) * some + margin]


# All of them


def chosen(files: Files, rate: int | None, seconds: float | None, trim: float, notes: list[str]) -> Spectrogram:
    """The transform that suits the recordings."""
    rates: Counter[int] = Counter()
    lengths = []
    for i in range(0, len(files.names), max(1, len(files.names) // PROBED)):
        try:
            samples, own = read(files.read(i))
            lengths.append(len(trimmed(usable(samples), own, trim)) / own)
            rates[own] += 1
        except Unreadable:
            continue
    rate = rate or (min(FASTEST, rates.most_common(1)[0][0]) if rates else FASTEST)
    wanted = seconds or (min(LONGEST, float(np.quantile(lengths, SHARE))) if lengths else 1.0)
    return transform(rate, wanted)


def transform(rate: int, seconds: float) -> Spectrogram:
    """Of clips of at least so many seconds, SIDE frames: a frame as long as three to six hops, a power of two."""
    hop = max(1, math.ceil(rate * seconds / SIDE - 1e-6))
    return Spectrogram(rate, hop, 2 ** math.ceil(math.log2(max(32, 3 * hop))), SIDE, SIDE, DECIBELS)


def clips(
    files: Files,
    transform: Spectrogram,
    long: Long,
    trim: float,
    strict: bool,
    progress: Progress | None,
    kept: bool = False,
) -> tuple[Tensor, Tensor, list[int], list[tuple[str, str]], list[str]]:
    """Spectrograms uint8 (N, 1, bands, frames); if they are `kept`, samples int16 (N, samples), each clip as loud as the next;
    the file (N,) of each, what was skipped, what was done, in words."""
    made: list[Tensor] = []
    samples_made: list[Tensor] = [torch.empty(0, transform.samples, dtype=torch.int16)]
    waiting: list[np.ndarray] = []
    of: list[int] = []
    skipped: list[tuple[str, str]] = []
    rates: Counter[int] = Counter()
    stereo = cut = padded = 0
    heard = 0.0

    def turn() -> None:
        if waiting:
            waited = torch.from_numpy(np.stack(waiting))
            made.append((transform.forward(waited) * 255).round().to(torch.uint8))
            if kept:
                loud = PEAK * waited / waited.abs().amax(1, keepdim=True).clamp(min=QUIET)
                samples_made.append((loud * FULL[torch.int16]).round().short())
            waiting.clear()

    for i, name in enumerate(files.names):
        try:
            samples, own = read(files.read(i))
            a = trimmed(resampled(usable(samples), own, transform.rate), transform.rate, trim)
        except Unreadable as reason:
            skipped.append((name, str(reason)))
            if strict:
                refuse(skipped)
            continue
        rates[own] += 1
        stereo += samples.shape[1] > 1
        cut += len(a) > transform.samples
        padded += len(a) < transform.samples
        heard += len(samples) / own
        pieces = windows(a, transform.samples) if long == "windows" else [a[: transform.samples]]
        waiting += [np.pad(piece, (0, transform.samples - len(piece))) for piece in pieces]
        of += [i] * len(pieces)
        if len(waiting) >= BLOCK:
            turn()
        if progress is not None and (i % 100 == 99 or i + 1 == len(files.names)):
            progress(i + 1, len(files.names))
    turn()
    x = torch.cat(made) if made else torch.empty(0, *transform.shape, dtype=torch.uint8)
    count = sum(rates.values())
    from_rates = ", ".join(f"{n:,} of {r:,} Hz" for r, n in rates.most_common(4) if r != transform.rate)
    cutting = "cut into windows one after the other" if long == "windows" else "cut"
    said = {
        f"{count:,} recordings of {heard:,.0f} s in all; clips of {transform.seconds:.3g} s at {transform.rate:,} Hz, "
        f"{transform.bands} mel bands by {transform.frames} frames of {1000 * transform.hop / transform.rate:.3g} ms, "
        f"{transform.decibels:.0f} dB deep; each as loud as the next": True,
        f"resampled: {from_rates}": from_rates,
        f"silence at both ends trimmed (softer than {trim:g} dB below the loudest)": trim,
        f"{padded:,} shorter ones padded with silence": padded,
        f"{cut:,} longer ones {cutting}": cut,
        f"{stereo:,} of several channels, whose mean is used": stereo,
    }
    return x, torch.cat(samples_made), of, skipped, [text for text, so in said.items() if so and count]


def windows(a: np.ndarray, samples: int) -> list[np.ndarray]:
    """Pieces of so many samples one after the other; the last may be shorter, and stays if it is half as long."""
    pieces = [a[start : start + samples] for start in range(0, len(a), samples)]
    loud = [pieces[0], *(piece for piece in pieces[1:] if 2 * len(piece) >= samples and np.abs(piece).max() > SILENT)]
    return loud


# What is known of them


FIELD = re.compile(r"\{(\w*)\}")
FIELDS = ("label", "speaker", "take")


def fitting(pattern: str) -> Callable[[str], dict[str, str] | None]:
    """Tells what a file's name says by a pattern, or None if it does not fit.

    A pattern with k slashes is held against the last k folders and the name, less its suffix. {} is anything.

    Raises:
        UsageError: no field, an unknown one, or one twice.
    """
    fields = FIELD.findall(pattern)
    named = [name for name in fields if name]
    if not named or not set(named) <= set(FIELDS) or len(set(named)) < len(named):
        found = f"the fields {', '.join(named)}" if named else "no field in braces"
        raise UsageError(
            f"names like {pattern!r}", found, 'write for example "{label}_{speaker}_{take}", each at most once'
        )
    parts = FIELD.split(pattern)
    text = "".join(re.escape(p) if i % 2 == 0 else f"(?P<{p}>[^/]+)" if p else "[^/]*" for i, p in enumerate(parts))
    whole, depth = re.compile(text), pattern.count("/") + 1

    def fits(name: str) -> dict[str, str] | None:
        path = PurePosixPath(name)
        match = whole.fullmatch("/".join([*path.parts[:-1], path.stem][-depth:]))
        return match.groupdict() if match else None

    return fits


def _named(names: Sequence[str], pattern: str | None) -> Named:
    """What names say by a pattern that fits them all."""
    if pattern is None:
        nothing: list[str | None] = [None] * len(names)
        return Named(nothing, list(nothing), list(names), list(nothing))
    fits = fitting(pattern)
    said = [fits(name) or {} for name in names]
    # a take is known by all that a name says of it: take 3 of one speaker is not take 3 of another
    takes = [repr(sorted(one.items())) if "take" in one else name for one, name in zip(said, names)]
    label, speaker, take = ([one.get(field) for one in said] for field in FIELDS)
    return Named(label, speaker, takes, take)


def _known(
    named: Named,
    files: Files,
    of: Sequence[int],
    path: Path,
    table: str | Path | None,
    pattern: str | None,
    notes: list[str],
) -> tuple[np.ndarray, Known]:
    """The part that folders say, and the labels."""
    names = [files.names[i] for i in of]
    part, folders = tree(names)
    if table is not None:
        known = from_table(Path(table).expanduser(), names, notes)
        if known.numbers:
            raise UsageError(
                f"labels from {str(table)!r}", f"numbers: {', '.join(known.numbers)}", "give one column: file,label"
            )
        return part, known
    return part, of_classes(named.labels if pattern else folders, notes)


def _with_speaker(known: Known, named: Named, notes: list[str]) -> tuple[Known, list[list[str]]]:
    """Labels that say who speaks, too, and the two things that each says."""
    if known.c is None or not any(named.speakers):
        found = "no labels" if known.c is None else "no speakers"
        raise UsageError("labels with speakers", found, 'add --label-pattern "{label}_{speaker}_{take}"')
    pairs = [
        None if c < 0 or speaker is None else (known.classes[c], speaker) for c, speaker in zip(known.c, named.speakers)
    ]
    order = {name: i for i, name in enumerate(known.classes)}
    factors = sorted({pair for pair in pairs if pair is not None}, key=lambda pair: (order[pair[0]], pair[1]))
    place = {pair: i for i, pair in enumerate(factors)}
    notes.append(f"labels say who speaks, too: {len(factors):,} pairs of label and speaker")
    c = np.array([-1 if pair is None else place[pair] for pair in pairs], np.int64)
    return Known(c, tuple(" ".join(pair) for pair in factors)), [list(pair) for pair in factors]


def _held_out(words: str | None, split_by: SplitBy, named: Named, part: np.ndarray) -> np.ndarray:
    """The parts (N,) with the named takes or speakers for test."""
    if words is None:
        return part
    said = named.speakers if split_by == "speaker" else named.numbers
    wanted: set[str] = set()
    for word in (word.strip() for word in words.split(",")):
        ends = re.fullmatch(r"(\d+)-(\d+)", word)
        wanted |= {str(k) for k in range(int(ends[1]), int(ends[2]) + 1)} if ends else {word}
    there = np.array([name in wanted for name in said])
    if not there.any():
        known = sorted({name for name in said if name is not None})
        found = f"none of that name among {', '.join(known[:10])}" if known else f"names that tell no {split_by}"
        instead = (
            f"write some of them, as --held-out {known[0]}"
            if known
            else 'add --label-pattern "{label}_{speaker}_{take}"'
        )
        raise UsageError(f"{split_by}s {words} for test", found, instead)
    return np.where(there, TEST, np.where(part == TEST, ANY, part)).astype(np.int8)


def together(keys: Sequence[str | None], digest: np.ndarray) -> np.ndarray:
    """(N,) uint64: the same for items that must be on one side, of one key or of one content.

    Each begins as its content and takes the least of all that share its key or its content, until nothing changes. So
    it depends on contents alone. What has no key stands for itself.
    """
    names = [f"{i}" if name is None else f"of {name}" for i, name in enumerate(keys)]
    by_key, by_content = (np.unique(of, return_inverse=True)[1] for of in (np.array(names), digest))
    group, before = digest.copy(), None
    while before is None or (group != before).any():
        before = group
        for of in (by_key, by_content):
            least = np.full(of.max() + 1, np.iinfo(np.uint64).max, np.uint64)
            np.minimum.at(least, of, group)
            group = least[of]
    return group
