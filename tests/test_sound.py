"""Sound through the same commands as images: say the label, get the sound; judged by what is heard; mistakes."""

from __future__ import annotations

import base64
import json
import math
import os
import signal
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import amalgan
from amalgan import cli, modalities, recipes, runs
from amalgan.data import Spec, sound
from amalgan.data.spectrogram import Spectrogram
from amalgan.errors import UsageError
from amalgan.metrics import features
from amalgan.metrics import sound as judge
from amalgan.modalities.sound import wav
from amalgan.networks.conditions import embedding
from amalgan.report import POLICY
from tests.data.test_data_sound import PATTERN, recordings

SMALL = ["--width=4", "--latent=4", "--batch=16", "--steps=12"]


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Any:
    """Judges that hardly learn: their words are asked for here, not their worth."""
    learned = features._train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_train", lambda *words: learned(*words[:-1], 25))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recordings(tmp_path_factory.mktemp("sound") / "recordings", takes=20)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    out = folder.parent / "vaegan"
    words = ["train", "vaegan", "--data", str(folder), "--label-pattern", PATTERN, "--condition", "labels"]
    assert cli.run([*words, "--out", str(out), *SMALL]) == 0
    return out


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.run(words) == 0
    return capsys.readouterr().out


def test_say_the_label_get_the_sound(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(["sample", str(run), "--label", "low", "-n", "3", "--out", str(tmp_path / "low")], capsys)
    written = sorted((tmp_path / "low").iterdir())
    assert [path.name for path in written] == [f"low_0-{i:05d}.wav" for i in range(3)]
    spec = runs.load(run).spec
    transform = Spectrogram.from_json(spec.details)
    with wave.open(str(written[0])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, transform.samples)
    samples, _ = sound.read(written[1].read_bytes())
    said(["sample", str(run), "--label", "low", "-n", "2", "--out", str(tmp_path / "two.npz")], capsys)
    with np.load(tmp_path / "two.npz", allow_pickle=False) as held:
        assert held["x"].shape == (2, transform.samples) and held["rate"] == 8000
        assert held["classes"][held["y"]].tolist() == ["low", "low"]
        assert np.abs(held["x"][1] - samples[:, 0]).max() < 1e-3
    said(["sample", str(run), "--label", "each", "-n", "4", "--out", str(tmp_path / "one.wav")], capsys)
    assert len(sound.read((tmp_path / "one.wav").read_bytes())[0]) == 4 * transform.samples
    said(["sample", str(run), "-n", "4", "--out", str(tmp_path / "s.png")], capsys)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG") and any((run / "samples").glob("*.png"))


def test_clips_there_and_back_and_between(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = Spectrogram.from_json(runs.load(run).spec.details).samples
    said(["reconstruct", str(run), "-n", "2", "--out", str(tmp_path / "pairs.wav")], capsys)
    assert len(sound.read((tmp_path / "pairs.wav").read_bytes())[0]) == 4 * samples
    said(["interpolate", str(run), "-n", "1", "--steps", "3", "--out", str(tmp_path / "walk")], capsys)
    assert len(list((tmp_path / "walk").glob("*.wav"))) == 3
    said(["embed", str(run), "--out", str(tmp_path / "codes.npz")], capsys)


@pytest.mark.slow
def test_it_is_judged_by_what_is_heard(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {r["metric"]: r for r in json.loads(said(["evaluate", str(run), "--json"], capsys))["rows"]}
    assert rows.keys() == modalities.of("sound").metrics.keys()
    for metric in ("label_accuracy", "tstr", "round_trip_accuracy", "changed_label", "kept_voice", "inception_score"):
        assert rows[metric]["floor"] >= rows[metric]["ceiling"], metric
    assert rows["round_trip_error"]["value"] < 1.5 and rows["round_trip_error"]["unit"] == "dB"
    assert rows["kept_voice"]["features"] != rows["changed_label"]["features"]  # who and what are asked of two networks


@pytest.mark.slow
def test_the_page_plays_what_was_made(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(["report", str(run)], capsys)
    page = (run / "report.html").read_text()
    assert "media-src data:" in POLICY and "To be heard" in page and "another label" in page
    # a real clip of each label and three of the model's; voices of two speakers with two labels; nine stops
    assert page.count("<audio") == 2 * (1 + 3) + 2 * 3 + 9 and page.count("data:audio/wav;base64,UklGR") == 23


def test_an_inception_score_counts_the_classes_that_are_surely_seen() -> None:
    """exp of the mutual information between clip and class: K for K sure classes, 1 where nothing is told."""
    eyes = features.Features("itself", torch.nn.Identity(), torch.nn.Identity())
    assert judge.inception_score(eyes, 50 * torch.eye(4).repeat(5, 1)) == pytest.approx(4, rel=1e-4)
    assert judge.inception_score(eyes, torch.zeros(8, 4)) == pytest.approx(1)
    half = torch.tensor([[math.log(0.9), math.log(0.1)], [math.log(0.1), math.log(0.9)]])
    wanted = math.exp(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))
    assert judge.inception_score(eyes, half) == pytest.approx(wanted, rel=1e-5)


def test_what_is_heard_of_a_spectrogram_is_that_of_its_sound() -> None:
    transform = Spectrogram(8000, 75, 256, 64, 64, 60.0)
    impossible = torch.rand(2, 1, 64, 64)  # no sound looks like this
    again = judge.heard(impossible, transform, transform)
    assert float((again - impossible).abs().mean()) > 0.05
    assert torch.equal(again, (again * 255).round() / 255)
    assert judge.heard(again, transform, transform).shape == again.shape


def test_another_label_changes_the_decoder_alone() -> None:
    torch.manual_seed(0)
    spec = Spec("sound", (1, 64, 64), ("a", "b"), Spectrogram(8000, 75, 256, 64, 64, 60.0).to_json())
    model = recipes.plan("vae", spec, {"width": 4, "latent": 3, "condition": "labels"}).model.eval()
    x, c = torch.rand(3, 1, 64, 64), torch.tensor([0, 1, 1])
    same = judge.relabelled(model, x, c, c)
    assert torch.allclose(same, model.given(c).reconstruct(x), atol=1e-6)
    assert not torch.allclose(judge.relabelled(model, x, c, 1 - c), same, atol=1e-5)


# Other forms: waves, and spectra with rows in units of their own

STRIDES = ["--width=2", "--latent=4", "--batch=8", "--critic-steps=1", "--condition=labels", "--lr=1e-3", "--steps=6"]


@pytest.fixture(scope="module")
def wavegan(folder: Path) -> Path:
    out = folder.parent / "wavegan"
    words = ["train", "wavegan", "--data", str(folder), "--label-pattern", PATTERN, "--held-out", "0-3"]
    assert cli.run([*words, "--out", str(out), *STRIDES]) == 0
    return out


def test_a_recipe_says_what_it_sees_of_recordings(
    folder: Path, wavegan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for recipe, form in (("wavegan", "waves"), ("specgan", "spectra")):
        assert [kind.names for kind in recipes.takes(recipe)] == [(form,)]
        assert recipes.modality(recipe, folder).names == recipes.modality(recipe).names == (form,)
        with pytest.raises(UsageError, match=f'form="{form}"'):
            recipes.plan(recipe, sound.open(folder, label_pattern=PATTERN).spec, {})
    run = runs.load(wavegan)
    assert run.spec.modality == "waves" and run.spec.shape == (
        1,
        run.data.train.seen.shape[3] * run.spec.details["hop"],
    )


def test_waves_are_written_as_they_were_made(wavegan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exact up to 16 bits: no way back loses anything."""
    said(["sample", str(wavegan), "--label", "low", "-n", "3", "--out", str(tmp_path / "low")], capsys)
    samples = runs.load(wavegan).sample(3, label="low")
    written = sorted((tmp_path / "low").iterdir())
    assert [path.name for path in written] == [f"low_0-{i:05d}.wav" for i in range(3)]
    for path, x in zip(written, samples.x):
        held, rate = sound.read(path.read_bytes())
        assert rate == 8000 and np.abs(held[:, 0] * 32768 / 32767 - x[0].numpy()).max() <= 0.51 / 32767
    assert torch.equal(samples.clips, samples.x[:, 0]) and samples.pictures.shape == (3, 1, 64, 64)
    for suffix in (".png", ".npz", ".wav"):
        said(["sample", str(wavegan), "-n", "4", "--out", str(tmp_path / f"s{suffix}")], capsys)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG") and any((wavegan / "samples").glob("*.png"))
    said(["interpolate", str(wavegan), "-n", "1", "--steps", "3", "--out", str(tmp_path / "walk")], capsys)
    assert len(list((tmp_path / "walk").glob("*.wav"))) == 3


@pytest.mark.slow
def test_waves_and_spectrograms_are_judged_alike(
    run: Path, wavegan: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same real clips, the same ears, the same floors and ceilings; waves lose nothing on the way to sound."""
    given = runs.load(run)
    data = sound.open(folder, label_pattern=PATTERN, held_out="0-3")
    of_pictures = {
        row.metric: row for row in given.modality.evaluate(given.model, data, judge.reference(data, "test", 16))
    }
    of_waves = {row["metric"]: row for row in json.loads(said(["evaluate", str(wavegan), "--json"], capsys))["rows"]}
    assert of_waves.keys() < of_pictures.keys() and "pixel_mse" not in of_waves
    for metric, row in of_waves.items():
        if metric not in ("round_trip_error", "round_trip_accuracy", "inception_score"):  # which take the way to sound
            assert (row["features"], row["n"]) == (of_pictures[metric].features, of_pictures[metric].n), metric
            assert (row["floor"], row["ceiling"]) == (of_pictures[metric].floor, of_pictures[metric].ceiling), metric
    assert of_waves["round_trip_error"]["value"] < 0.1 < of_pictures["round_trip_error"].value
    assert of_waves["round_trip_accuracy"]["value"] == of_waves["round_trip_accuracy"]["floor"]


@pytest.mark.slow
def test_the_page_plays_the_waves_themselves(wavegan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(["report", str(wavegan)], capsys)
    page = (wavegan / "report.html").read_text()
    assert "To be heard" in page and page.count("<audio") == 2 * (1 + 3) + 9
    samples = runs.load(wavegan)
    first = samples.model.sample(6, 0, c=torch.arange(2).repeat(3))[0, 0]
    assert base64.b64encode(wav(first, 8000)).decode() in page


def test_stopping_and_going_on_moves_the_same_maps(folder: Path, tmp_path: Path) -> None:
    """Law 5, with shifts that are drawn anew at every pass."""

    def stop(tick: runs.Tick) -> None:
        if tick.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    data = sound.open(folder, form="waves", label_pattern=PATTERN)
    settings = {"width": 2, "latent": 4, "batch": 8, "critic_steps": 2, "condition": "labels"}
    whole = amalgan.train("wavegan", data, steps=4, out=tmp_path / "whole", **settings)
    with pytest.raises(runs.Interrupted):
        amalgan.train("wavegan", data, steps=4, out=tmp_path / "parts", watcher=stop, **settings)
    resumed = runs.resume(tmp_path / "parts", data=data)
    held = [load_file(one.folder / "model" / "model.safetensors") for one in (whole, resumed)]
    assert held[0].keys() == held[1].keys() and all(torch.equal(held[0][name], held[1][name]) for name in held[0])
    assert torch.equal(whole.sample(3).x, resumed.sample(3).x)


@pytest.mark.slow
def test_specgan_through_the_same_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "specgan"
    said(["train", "specgan", "--data", str(folder), "--label-pattern", PATTERN, "--out", str(out), *STRIDES], capsys)
    said(["sample", str(out), "--label", "high", "-n", "2", "--out", str(tmp_path / "high")], capsys)
    run = runs.load(out)
    assert len(sound.read(next((tmp_path / "high").iterdir()).read_bytes())[0]) == run.spec.details["hop"] * 64
    rows = {row["metric"]: row for row in json.loads(said(["evaluate", str(out), "--json"], capsys))["rows"]}
    assert 0.1 < rows["round_trip_error"]["value"] < 5
    said(["report", str(out)], capsys)
    assert (out / "report.html").read_text().count("<audio") == 2 * (1 + 3) + 9


@pytest.mark.slow
def test_a_label_may_say_who_speaks(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two conditions: the digit, and the voice; a network is told the sum of a vector for each."""
    words = [
        "train",
        "vae",
        "--data",
        str(folder),
        "--label-pattern",
        PATTERN,
        "--condition",
        "labels",
        "--with-speaker",
    ]
    said([*words, "--out", str(tmp_path / "run"), *SMALL], capsys)
    run = runs.load(tmp_path / "run")
    assert run.spec.classes == ("high ann", "high bob", "low ann", "low bob")
    for label, wanted in (("low bob", {3}), ("high", {0, 1}), ("bob", {1, 3}), ("each", {0, 1, 2, 3})):
        assert set(run.sample(40, label=label).c.tolist()) == wanted
    e = embedding(run.spec, 5)
    vectors = e(torch.arange(4), 4)
    assert torch.allclose(vectors[0] - vectors[1], vectors[2] - vectors[3], atol=1e-6)
    assert torch.equal(e(None, 2)[0], e(torch.tensor([-1]), 1)[0]) and not torch.allclose(e(None, 1), vectors[:1])
    assert judge._other(3, 0, run.spec.details["factors"], 4) == 1  # another label of the same voice
    rows = {r["metric"]: r for r in json.loads(said(["evaluate", str(tmp_path / "run"), "--json"], capsys))["rows"]}
    assert 0 <= rows["changed_label"]["value"] <= 1 and 0 <= rows["kept_voice"]["value"] <= 1
    said(["report", str(tmp_path / "run")], capsys)
    assert (tmp_path / "run" / "report.html").read_text().count("<audio") == 4 * (1 + 3) + 2 * 3 + 9


@pytest.mark.slow
def test_recipes_of_pictures_take_either_and_tell_by_the_data(folder: Path, tmp_path: Path) -> None:
    assert [kind.names[0] for kind in recipes.takes("vaegan")] == ["images", "sound"]
    assert recipes.modality("vaegan", folder).names == ("sound",)
    assert recipes.modality("vaegan", "digits").names[0] == "images"
    assert recipes.modality("vaegan", sound.open(folder, label_pattern=PATTERN)).names == ("sound",)
    for recipe in recipes.KINDS["sound"]:
        name = recipe.__name__
        labels = {"condition": "labels"} if "condition" in recipes.parameters(name) else {}
        words = [f"--{key}={value}" for key, value in labels.items()]
        out = tmp_path / name
        assert cli.run(["train", name, "--data", str(folder), "--label-pattern", PATTERN, *words, "--width=4",
                        "--latent=4", "--batch=8", "--steps=2", "--out", str(out)]) == 0  # fmt: skip
        assert runs.load(out).sample(2).clips.isfinite().all()


@pytest.mark.slow
def test_compare_says_which_suits_the_recordings(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "compare",
        "--data",
        str(folder),
        "--label-pattern",
        PATTERN,
        "--recipes",
        "vae,gan",
        "--seeds=1",
        "--jobs=1",
    ]
    told = said([*words, "--condition=labels", "--out", str(tmp_path / "c"), *SMALL], capsys)
    assert "label_accuracy" in told.replace("…", "_accuracy") or "label" in told
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert results["data"]["modality"] == "sound"
    assert (tmp_path / "c" / "report.html").read_text().count("<audio") > 10


MISTAKES = {
    "a size for sound": (["train", "vae", "--data", "FOLDER", "--size", "32"], "--label-pattern"),
    "a rate for pictures": (["train", "vae", "--data", "digits", "--rate", "8000"], "--rate for images"),
    "recipes of two kinds": (["compare", "--data", "FOLDER", "--recipes", "rvae,vae"], "one kind"),
    "a label that is none": (["sample", "RUN", "--label", "middle"], "high, low"),
    "a suffix": (["sample", "RUN", "--out", "x.mp3"], ".wav, .npz or .png"),
    "a way that is none": (["train", "vae", "--data", "FOLDER", "--steps", "1", "--split-by", "mood"], "take"),
    "no speakers": (["train", "vae", "--data", "FOLDER", "--steps=1", "--with-speaker"], "no labels"),
    "no labels": (["train", "vae", "--data", "FOLDER", "--condition", "labels"], "data without labels"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_three_parts_and_exit_code_2(
    mistake: str, run: Path, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words, told = MISTAKES[mistake]
    places = {"RUN": str(run), "FOLDER": str(folder)}
    assert cli.run([places.get(word, word) for word in words]) == 2
    told_ = capsys.readouterr().err
    assert "asked:" in told_ and "found:" in told_ and told in told_ and "Traceback" not in told_
