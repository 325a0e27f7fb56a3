"""Recordings: what is read, made of one kind, divided and refused; and the way to a spectrogram and back."""

from __future__ import annotations

import io
import math
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgan.data import sound
from amalgan.data.core import FULL, Unreadable
from amalgan.data.forms import Spectra, Wave, ears_of, form_of, square
from amalgan.data.spectrogram import PEAK, Spectrogram
from amalgan.errors import UsageError

RATE = 8000
SPEECH = Spectrogram(RATE, 75, 256, 64, 64, 60.0)


def tone(hertz: float, seconds: float = 0.3, rate: int = RATE, loud: float = 0.5, phase: float = 0.0) -> np.ndarray:
    """A tone with a second one above it, both fading."""
    t = np.arange(round(seconds * rate)) / rate
    shape = np.sin(np.pi * np.minimum(1, t / seconds)) ** 0.5
    return loud * shape * (np.sin(2 * np.pi * hertz * t + phase) + 0.3 * np.sin(4 * np.pi * hertz * t)) / 1.3


def wav(a: np.ndarray, rate: int = RATE, width: int = 2) -> bytes:
    """The bytes of a WAV of samples (n,) or (n, channels) in [-1, 1]."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1 if a.ndim == 1 else a.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        whole = np.round(a * (2 ** (8 * width - 1) - 1)).astype(np.int64)
        if width == 1:
            raw = (whole + 128).astype(np.uint8).tobytes()
        else:
            raw = whole.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
        file.writeframes(raw)
    return held.getvalue()


def recordings(folder: Path, takes: int = 6) -> Path:
    """Low and high tones of ann and bob."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for label, hertz in (("low", 300), ("high", 1200)):
        for speaker, bend in (("ann", 1.0), ("bob", 1.3)):
            for take in range(takes):
                a = tone(hertz * bend * (1 + 0.05 * rng.random()), 0.2 + 0.1 * rng.random(), phase=rng.random())
                (folder / f"{label}_{speaker}_{take}.wav").write_bytes(wav(a))
    return folder


PATTERN = "{label}_{speaker}_{take}"


# There and back


def test_the_transform_of_overlapping_frames_is_undone_exactly() -> None:
    clips = torch.randn(3, SPEECH.samples)
    assert torch.allclose(SPEECH.overlapped(SPEECH.transformed(clips)), clips, atol=1e-4)
    clips.requires_grad_()
    SPEECH.transformed(clips).abs().sum().backward()
    assert torch.isfinite(clips.grad).all()  # type: ignore[arg-type]


def test_a_picture_comes_back_from_its_sound() -> None:
    """The ceiling of everything else: within a decibel, for tones; and to the same peak whatever the loudness was."""
    clips = torch.from_numpy(np.stack([tone(h, 0.6) for h in (200, 440, 1000)])).float()
    x = SPEECH.forward(clips)
    assert x.shape == (3, *SPEECH.shape) and x.min() >= 0 and x.amax((1, 2, 3)).tolist() == [1, 1, 1]
    again = SPEECH.inverse(x)
    assert again.shape == clips.shape and again.abs().amax(1).allclose(torch.tensor(PEAK))
    assert float((SPEECH.forward(again) - x).abs().mean()) * SPEECH.decibels < 1
    assert torch.allclose(SPEECH.forward(0.01 * clips), x, atol=1e-3)


def test_a_clip_comes_back_the_same_in_any_company() -> None:
    x = SPEECH.forward(torch.randn(5, SPEECH.samples))
    assert torch.allclose(SPEECH.inverse(x, 4)[3], SPEECH.inverse(x[3:4], 4)[0], atol=1e-5)


def test_silence_is_black_and_stays_silent() -> None:
    x = SPEECH.forward(torch.zeros(2, SPEECH.samples))
    assert not x.any() and not SPEECH.inverse(x, 2).any()


def test_a_tone_is_bright_where_its_band_is() -> None:
    """1000 Hz are 1000 mel (999.99); rows begin at the top, at half the rate."""
    clip = torch.from_numpy(np.sin(2 * np.pi * 1000 * np.arange(SPEECH.samples) / RATE)).float()
    row = SPEECH.forward(clip[None])[0, 0, :, 32].argmax()
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    assert abs((64 - int(row)) - 1000 / top * 65) <= 1
    linear = Spectrogram(RATE, 75, 256, 64, 64, 60.0, "linear")
    assert abs((64 - int(linear.forward(clip[None])[0, 0, :, 32].argmax())) - 65 * 1000 / 4000) <= 1


def test_filters_lose_no_frequency() -> None:
    for scale in ("mel", "linear"):
        f = Spectrogram(16000, 250, 1024, 64, 64, 60.0, scale).filters  # type: ignore[arg-type]
        assert f.sum(1).allclose(torch.ones(64)) and (f >= 0).all() and (f[:, 3:-1].sum(0) > 0).all()


def test_numbers_of_the_transform_survive_json() -> None:
    assert Spectrogram.from_json(SPEECH.to_json() | {"speakers": []}) == SPEECH
    assert sound.transform(8000, 0.6) == SPEECH and sound.transform(16000, 1.0).seconds == pytest.approx(1.0)


# One recording


@pytest.mark.parametrize("width, step", [(1, 1 / 100), (2, 1e-4), (3, 1e-6), (4, 1e-6)])
def test_wav_of_whole_numbers_needs_nothing_else(width: int, step: float) -> None:
    a = np.stack([tone(300), tone(500)], 1)
    samples, rate = sound.read(wav(a, 11025, width))
    assert rate == 11025 and samples.dtype == np.float32 and np.abs(samples - a).max() < step


def damaged() -> dict[str, tuple[bytes, str]]:
    good, floats = wav(tone(300)), bytearray(wav(tone(300)))
    floats[20] = 3  # the format's number: floats
    return {
        "empty": (b"", "empty file"),
        "no sound": (b"hello, world", "not a WAV"),
        "cut short": (good[:-1000], "cut short: 1,900 of 2,400 samples"),
        "in its header": (good[:30], "damaged WAV"),
        "floats": (bytes(floats), "amalgan[sound]"),
        "flac": (b"fLaC" + bytes(50), "FLAC"),
        "ogg": (b"OggS" + bytes(50), "OGG"),
        "nothing": (wav(np.zeros(0)), "no samples"),
        "silence": (wav(np.zeros(800)), "silence"),
        "clipped": (wav(np.sign(tone(300))), "clipped"),
    }


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.integers(0, 47), st.integers(0, 255), max_size=6), st.integers(0, 900))
def test_damage_is_read_or_named_and_nothing_else(changed: dict[int, int], left: int) -> None:
    raw = bytearray(wav(tone(300, 0.05)))
    for at, value in changed.items():
        raw[at] = value
    try:
        samples, rate = sound.read(bytes(raw[: left or None]))
        a = sound.trimmed(sound.resampled(sound.usable(samples), rate, RATE), RATE, 40)
    except Unreadable as reason:
        assert str(reason)
    else:
        assert np.isfinite(a).all() and len(a)


@pytest.mark.parametrize("kind", damaged())
def test_what_cannot_be_used_says_why(kind: str) -> None:
    raw, reason = damaged()[kind]
    with pytest.raises(Unreadable) as said:
        sound.usable(sound.read(raw)[0])
    assert reason in str(said.value)


def test_another_rate_keeps_what_both_can_hold() -> None:
    a, b = (np.sin(2 * np.pi * 440 * np.arange(rate) / rate) for rate in (22050, 8000))
    for rate, to, given_, wanted in ((22050, 8000, a, b), (8000, 22050, b, a)):
        again = sound.resampled(given_, rate, to)
        assert len(again) == len(wanted) and np.abs(again - wanted)[200:-200].max() < 0.02
    high = np.sin(2 * np.pi * 6000 * np.arange(22050) / 22050)
    assert np.abs(sound.resampled(high, 22050, 8000)[200:-200]).max() < 0.02


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([8000, 11025, 16000, 44100]), st.sampled_from([8000, 16000, 22050]))
def test_another_rate_lasts_as_long(n: int, rate: int, to: int) -> None:
    assert len(sound.resampled(np.ones(n), rate, to)) == math.ceil(n * to / rate)


def test_silence_around_is_trimmed_and_within_is_not() -> None:
    quiet, a = np.zeros(RATE), tone(300)
    around = np.concatenate([quiet, a, quiet[:800], a, quiet])
    kept = sound.trimmed(around, RATE, 40)
    assert 2 * len(a) + 800 - 100 < len(kept) < 2 * len(a) + 800 + 500
    assert len(sound.trimmed(around, RATE, 0)) == len(around)


# Names


def test_patterns_of_names() -> None:
    said = sound.fitting("{speaker}/{label}_{take}")
    assert said("a/b/ann/turn_on_3.wav") == {"speaker": "ann", "label": "turn_on", "take": "3"}
    assert said("turn_on_3.wav") is None
    assert sound.fitting("{label}-{}")("x/7-noise-4.flac") == {"label": "7-noise"}


@settings(max_examples=50, deadline=None)
@given(*[st.from_regex(r"[A-Za-z0-9]{1,6}", fullmatch=True)] * 3)
def test_a_name_by_a_pattern_is_read_by_it(label: str, speaker: str, take: str) -> None:
    wanted = {"label": label, "speaker": speaker, "take": take}
    assert sound.fitting(PATTERN)("folder/" + PATTERN.format(**wanted) + ".wav") == wanted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 8)), min_size=1, max_size=20))
def test_what_shares_a_take_or_a_content_goes_together(items: list[tuple[str, int]]) -> None:
    keys, digest = [key for key, _ in items], np.array([content for _, content in items], np.uint64)
    group = sound.together(keys, digest)
    for i, (key, content) in enumerate(items):
        for j, (other, another) in enumerate(items):
            if key == other or content == another:
                assert group[i] == group[j]
    alone = sound.together([None] * len(items), digest)
    assert (alone == digest).all()


# A folder


def test_a_folder_becomes_clips_with_labels_and_speakers(tmp_path: Path) -> None:
    data = sound.open(recordings(tmp_path / "r"), label_pattern=PATTERN)
    assert data.spec.modality == "sound" and data.spec.shape == (1, 64, 64) and data.spec.classes == ("high", "low")
    assert data.spec.details["speakers"] == ["ann", "bob"] and data.spec.details["rate"] == RATE
    x, c = data.train.batch(torch.arange(3))
    assert x.shape == (3, 1, 64, 64) and x.dtype == torch.float32 and c is not None and set(c.tolist()) <= {0, 1}
    assert isinstance(data.train, sound.Clips) and data.train.speaker is not None
    for split in (
        data.train,
        data.validation,
        data.test,
    ):  # the picture says the label: high tones are bright higher up
        x, c = split.batch(torch.arange(len(split)))
        loudest = x[:, 0].mean(2).argmax(1)
        assert ((loudest < 40) == (c == 0)).all()
    assert sum("padded with silence" in note for note in data.notes) == 1


def test_the_same_from_an_archive_and_from_folders(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "r")
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"r/{path.name}")
            sorted_ = tmp_path / "by" / path.name.partition("_")[0] / path.name
            sorted_.parent.mkdir(parents=True, exist_ok=True)
            sorted_.write_bytes(path.read_bytes())
    one, other = (sound.open(tmp_path / name, label_pattern=PATTERN) for name in ("r", "r.zip"))
    assert one.fingerprint == other.fingerprint
    plain = sound.open(tmp_path / "by")
    assert plain.spec.classes == one.spec.classes and "speakers" not in plain.spec.details
    assert torch.equal(plain.train.tensor().sort(0)[0], one.train.tensor().sort(0)[0])
    for name in ("r", "r.zip", "by"):
        assert sound.recognises(tmp_path / name)
    assert not sound.recognises("digits") and not sound.recognises(torch.zeros(3))
    (tmp_path / "other").mkdir()
    assert not sound.recognises(tmp_path / "other")


def test_labels_from_a_table(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "r", takes=3)
    rows = [f"{path.name},{'one' if 'low' in path.name else 'two'}" for path in sorted(folder.iterdir())]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *rows]))
    assert sound.open(folder, labels=tmp_path / "t.csv").spec.classes == ("one", "two")
    assert sound.open(folder, labels=tmp_path / "t.csv", classes="a,b").spec.classes == ("a", "b")


def test_whatever_is_odd_is_said(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "r")
    (folder / "low_ann_90.wav").write_bytes(wav(np.stack([tone(310), tone(320)], 1)))
    (folder / "low_ann_91.wav").write_bytes(wav(tone(330, rate=16000), 16000))
    (folder / "low_ann_92.wav").write_bytes(wav(tone(340, 1.5)))
    (folder / "low_ann_93.wav").write_bytes(wav(tone(300))[:-100])
    (folder / "low_ann_94.wav").write_bytes(wav(np.zeros(800)))
    (folder / "other.wav").write_bytes(wav(tone(300)))
    data = sound.open(folder, label_pattern=PATTERN, seconds=0.3)
    said = "\n".join(data.notes)
    assert "resampled: 1 of 16,000 Hz" in said and "1 longer ones cut" in said and "1 of several channels" in said
    assert {name: reason.split(":")[0] for name, reason in data.skipped} == {
        "low_ann_93.wav": "cut short", "low_ann_94.wav": "silence", "other.wav": f"not named like {PATTERN}",
    }  # fmt: skip
    with pytest.raises(UsageError, match="strict"):
        sound.open(folder, label_pattern=PATTERN, strict=True)
    assert sum(map(len, (data.train, data.validation, data.test))) == 24 + 3


def test_no_take_is_on_two_sides_even_in_windows(tmp_path: Path) -> None:
    folder, rng = tmp_path / "long", np.random.default_rng(1)
    folder.mkdir()
    for take in range(30):
        hertz = 200 + 40 * take  # tells which take a window is of
        (folder / f"x_{take}.wav").write_bytes(wav(tone(hertz, 2.0, phase=rng.random())))
    data = sound.open(folder, label_pattern="{speaker}_{take}", seconds=0.4, long="windows")
    assert "windows one after the other" in "\n".join(data.notes) and len(data.train) >= 100
    sides = [set(split.tensor()[:, 0].mean(2).argmax(1).tolist()) for split in (data.train, data.validation, data.test)]
    assert all(len(split) % 5 == 0 for split in (data.train, data.validation, data.test))  # five windows a take
    assert sides[1] and sides[2]


def test_parts_by_speaker_and_by_what_is_named(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "r", takes=6)
    data = sound.open(folder, label_pattern=PATTERN, held_out="0-1")
    assert len(data.test) == 8 and data.fingerprint != sound.open(folder, label_pattern=PATTERN).fingerprint
    for label in ("low", "high"):
        for take in range(6):
            (folder / f"{label}_cat_{take}.wav").write_bytes(wav(tone(700 + 20 * take + 300 * (label == "high"))))
    data = sound.open(folder, label_pattern=PATTERN, split_by="speaker", held_out="bob")
    who = [set(split.speaker.tolist()) for split in (data.train, data.validation, data.test)]  # type: ignore[attr-defined]
    assert who[2] == {1} and len(who[0] | who[1]) == 2 and not who[0] & who[1]
    # a recording that is there under two names stays on one side: that of test
    (folder / "low_ann_7.wav").write_bytes((folder / "low_ann_0.wav").read_bytes())
    data = sound.open(folder, label_pattern=PATTERN, held_out="0")
    assert any("test wins" in note for note in data.notes)


def test_other_data_are_made_to_fit_a_model(tmp_path: Path) -> None:
    spec = sound.open(recordings(tmp_path / "r"), label_pattern=PATTERN).spec
    more = recordings(tmp_path / "more")
    (more / "middle_ann_0.wav").write_bytes(wav(tone(700)))
    fits = sound.open(more, spec=spec)
    assert fits.spec == spec and fits.spec.details == spec.details
    every = torch.cat([split.c for split in (fits.train, fits.validation, fits.test)])  # type: ignore[misc]
    assert (every == -1).sum() == 1 and set(every.tolist()) == {-1, 0, 1}


# Forms


FORMS = ("waves", "spectra")


def test_all_forms_are_of_the_same_clips_divided_alike(tmp_path: Path) -> None:
    folder = recordings(tmp_path / "r")
    plain = sound.open(folder, label_pattern=PATTERN)
    assert sound.seen(plain) is plain
    for form in FORMS:
        data = sound.open(folder, form=form, label_pattern=PATTERN)  # type: ignore[arg-type]
        assert data.spec.modality == form and data.fingerprint not in (plain.fingerprint, "")
        again = sound.seen(data)
        assert again.fingerprint == plain.fingerprint and again.spec == plain.spec
        for part in ("train", "validation", "test"):
            one, other = getattr(plain, part), getattr(again, part)
            assert all(torch.equal(getattr(one, of), getattr(other, of)) for of in ("x", "c", "speaker"))
            x, c = getattr(data, part).batch(torch.arange(len(one)))
            assert x.shape == (len(one), *data.spec.shape) and torch.equal(c, one.c)
            # what is seen of a clip is what its own form is heard as
            heard = form_of(data.spec).picture(x)
            assert float((heard - one.tensor()).abs().mean()) * plain.spec.details["decibels"] < 2
        fits = sound.open(folder, form=form, spec=data.spec)  # type: ignore[arg-type]
        assert fits.fingerprint == data.fingerprint and fits.spec == data.spec
        assert torch.equal(fits.test.x, data.test.x)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f'form="{form}"'):
            sound.open(plain, form=form)  # type: ignore[arg-type]


def test_waves_are_the_samples_of_the_recording(tmp_path: Path) -> None:
    """Silence trimmed and padded, each clip as loud as the next; and exact up to 16 bits."""
    folder = recordings(tmp_path / "r", takes=3)
    data = sound.open(folder, form="waves", label_pattern=PATTERN)
    way = form_of(data.spec)
    assert (
        isinstance(way, Wave)
        and data.spec.shape == (1, ears_of(data.spec).samples)
        and data.train.x.dtype == torch.int16
    )
    held = [sound.read(path.read_bytes())[0][:, 0] for path in folder.iterdir()]
    for x in torch.cat([data.train.tensor(), data.test.tensor()]):
        assert float(x.abs().max()) == pytest.approx(PEAK, abs=1e-4)
        clip = x[0].numpy()
        ours = sound.trimmed(clip[: np.flatnonzero(clip)[-1] + 1], RATE, 0)
        kept = [sound.trimmed(a, RATE, 40) for a in held]
        scaled = [np.pad(a * PEAK / np.abs(a).max(), (0, len(clip) - len(a)))[: len(ours)] for a in kept]
        assert min(np.abs(ours - a).max() for a in scaled) < 2 / FULL[torch.int16]
    clips = torch.rand(3, way.ears.samples) - 0.5
    assert torch.equal(way.inverse(way.forward(clips)), clips)


def test_rows_of_spectra_are_in_units_of_their_own() -> None:
    """Mean 1/2 and deviation 1/6 in every row; and back to what the spectrogram was, but for what lies beyond 3 deviations."""
    ears = Spectrogram(RATE, 32, 128, 64, 64, 60.0)
    clips = torch.randn(200, ears.samples, generator=torch.Generator().manual_seed(0))
    way = Spectra.fitted(ears, clips)
    x = way.forward(clips)
    assert x.shape[1:] == way.shape == (1, 64, 64) and x.min() >= 0 and x.max() <= 1
    rows = x[:, 0].transpose(0, 1).flatten(1)
    assert (rows.mean(1) - 0.5).abs().max() < 0.02 and (rows.std(1) - 1 / 6).abs().max() < 0.03
    mean, deviation = (torch.tensor(of)[:, None] for of in (way.mean, way.deviation))
    own = way.own.forward(clips)
    near = ((own - mean) / deviation).abs() < 3
    assert torch.allclose((mean + 6 * deviation * (x - 0.5))[near], own[near], atol=1e-5) and near.float().mean() > 0.95
    assert torch.equal(Spectra.from_json(ears, way.to_json()).forward(clips), x)


def test_a_tone_comes_back_from_its_spectrum() -> None:
    ears = Spectrogram(RATE, 75, 256, 64, 64, 60.0)
    clips = torch.from_numpy(np.stack([tone(h, 0.6) for h in np.linspace(200, 1500, 40)])).float()
    way = Spectra.fitted(ears, clips)
    again = way.inverse(way.forward(clips))
    assert again.shape == clips.shape
    for one, other in zip(clips, again):
        peaks = [torch.fft.rfft(a).abs().argmax() for a in (one, other)]
        assert abs(int(peaks[0]) - int(peaks[1])) <= 37  # a row is 62.5 Hz: 37.5 of the 2,400 frequencies of a clip


def test_spectra_of_the_paper() -> None:
    """16,384 samples: 128 x 128, from frames of 256 samples every 128; half as long and slow, of half the side."""
    assert square(sound.transform(16000, 1.024)) == Spectrogram(16000, 128, 256, 128, 128, 60.0, "bins")
    assert square(sound.transform(8000, 0.6)) == Spectrogram(8000, 75, 128, 64, 64, 60.0, "bins")
    odd = square(Spectrogram(8000, 151, 512, 64, 64, 60.0))  # 128 frames of 75.5 hops would be as long as the clip
    assert odd.frames == 128 and 0 <= odd.samples - 151 * 64 < 128
    bins = odd.filters
    assert bins.shape == (128, 129) and torch.equal(bins.flip(0) @ torch.arange(129.0), torch.arange(128.0))


MISTAKES = {
    "another form": (dict(form="midi"), "sound or waves or spectra"),
    "no folder": (dict(source="nowhere"), "no 'nowhere'"),
    "nothing of sound": (dict(source="EMPTY"), "no file of sound"),
    "a pattern that fits nothing": (dict(label_pattern="{label}+{take}"), "none of which fits"),
    "a pattern without fields": (dict(label_pattern="label"), "no field in braces"),
    "a field that is none": (dict(label_pattern="{digit}_{take}"), "the fields digit, take"),
    "two sources of labels": (dict(label_pattern=PATTERN, labels="x.csv"), "both"),
    "a rate": (dict(rate=3), "1,000 to 400,000"),
    "seconds": (dict(seconds=1000.0), "0.05 to 60"),
    "a word": (dict(long="loop"), "cut or windows"),
    "a limit": (dict(limit=0), "fewer than one"),
    "a threshold": (dict(trim=-3.0), "decibels"),
    "speakers unknown": (dict(split_by="speaker"), "tell no speaker"),
    "held out nobody": (dict(label_pattern=PATTERN, split_by="speaker", held_out="eve"), "among ann, bob"),
    "held out without names": (dict(held_out="0-4"), "tell no take"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_three_parts(mistake: str, tmp_path: Path) -> None:
    options, told = MISTAKES[mistake]
    (tmp_path / "empty").mkdir()
    where = {"source": recordings(tmp_path / "r", takes=2)} | options
    where["source"] = tmp_path / "empty" if where["source"] == "EMPTY" else where["source"]
    with pytest.raises(UsageError) as said:
        sound.open(**where)  # type: ignore[arg-type]
    assert told in str(said.value) and "instead:" in str(said.value)


def test_files_that_nothing_here_reads_ask_for_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    for i in range(3):
        (tmp_path / f"{i}.flac").write_bytes(b"fLaC" + bytes(64))
    with pytest.raises(UsageError, match="amalgan\\[sound\\]"):
        sound.open(tmp_path)


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_other_kinds_of_files_are_read_where_soundfile_is_there(kind: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    held = io.BytesIO()
    soundfile.write(held, tone(300), RATE, format=kind)
    samples, rate = sound.read(held.getvalue())
    assert rate == RATE and np.abs(samples[:2000, 0] - tone(300)[:2000]).max() < (0.01 if kind == "FLAC" else 0.1)


def test_spoken_digits_come_back_within_a_decibel(real_data: Path) -> None:
    path = real_data / "fsdd" / "recordings.zip"
    if not path.exists():
        pytest.skip(f"no spoken digits at {path}; set AMALGAN_TEST_DATA")
    data = sound.open(path, label_pattern=PATTERN, held_out="0-4")
    assert len(data.test) == 300 and data.test.c is not None and data.test.c.bincount().tolist() == [30] * 10
    assert len(data.train) + len(data.validation) == 2700 and not data.skipped
    transform, x = Spectrogram.from_json(data.spec.details), data.validation.tensor(64)
    assert float((transform.forward(transform.inverse(x)) - x).abs().mean()) * transform.decibels < 0.7
