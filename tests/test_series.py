"""Time series through the same commands as images: train, sample, evaluate, compare, report; and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amalgan import cli, modalities, recipes, runs
from amalgan.data import Spec
from amalgan.models.labelled import LabelledModel
from amalgan.noise import Noise

SMALL = ["--width=8", "--batch=16"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges that hardly learn: their words are asked for here, not their worth."""
    monkeypatch.setattr("amalgan.metrics.series.STEPS", 25)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of machines, warm and cold, measured twelve times each day."""
    path = tmp_path_factory.mktemp("series") / "measured.csv"
    rng = np.random.default_rng(0)
    lines = ["machine,hour,kind,heat,load"]
    for machine in range(60):
        level, phase = 20.0 + 30 * (machine % 2), rng.random() * 6
        for hour in range(12):
            heat = level + 5 * np.sin(hour / 2 + phase) + rng.normal()
            lines.append(
                f"{machine},{hour},{'warm' if machine % 2 else 'cold'},{heat:.3f},{1000 * np.cos(hour / 3):.1f}"
            )
    path.write_text("\n".join(lines))
    return path


FLAGS = ["--group=machine", "--time=hour", "--label=kind"]


@pytest.fixture(scope="module")
def run(measured: Path) -> Path:
    folder = measured.parent / "rgan"
    words = ["train", "rgan", "--data", str(measured), "--steps", "60", "--out", str(folder), *FLAGS, *SMALL]
    assert cli.run(words) == 0
    return folder


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.run(words) == 0
    return capsys.readouterr().out


def test_samples_come_back_in_the_datas_units(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(["sample", str(run), "-n", "5", "--out", str(tmp_path / "s.csv")], capsys)
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert list(rows[0]) == ["window", "step", "heat", "load", "label"] and len(rows) == 5 * 12
    spec = runs.load(run).spec
    for name, low, high in zip(spec.details["names"], spec.details["low"], spec.details["high"]):
        values = [float(row[name]) for row in rows]
        assert low <= min(values) < max(values) <= high
    said(["sample", str(run), "-n", "5", "--out", str(tmp_path / "s.npz")], capsys)
    with np.load(tmp_path / "s.npz", allow_pickle=False) as held:
        assert held["x"].shape == (5, 12, 2) and held["names"].tolist() == ["heat", "load"]
        assert held["y"].tolist() == [row["label"] for row in rows[::12]]
        assert float(rows[13]["heat"]) == pytest.approx(held["x"][1, 1, 0], rel=1e-6)
    said(["sample", str(run), "-n", "5", "--label", "warm", "--out", str(tmp_path / "w.csv")], capsys)
    assert {row["label"] for row in csv.DictReader((tmp_path / "w.csv").open())} == {"warm"}
    said(["sample", str(run), "-n", "9", "--out", str(tmp_path / "s.png")], capsys)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG") and any((run / "samples").glob("*.png"))
    assert runs.load(run).sample(3).x.allclose(runs.load(run).sample(8).x[:3])


def test_a_label_reaches_the_game_of_its_own_example() -> None:
    """The draw's networks are told the labels; several fakes of a batch carry the same labels in turn."""
    torch.manual_seed(0)
    spec = Spec("series", (5, 2), ("a", "b"), {"changes": [0.4, 0.3]})
    model = recipes.plan("rgan", spec, {"width": 8, "latent": 2}).model
    assert isinstance(model, LabelledModel)
    x, c = torch.rand(4, 5, 2), torch.tensor([0, 1, 1, 0])
    draw = model.draw(x, c, Noise(0))
    assert torch.equal(
        draw.model.discriminator(torch.cat([x, x]))[0], model.discriminator(torch.cat([x, x]), c.repeat(2))[0]
    )
    z = draw.noise("prior", (4, model.latent))
    assert torch.equal(draw.fake, torch.sigmoid(model.decoder(z, c)))
    assert not torch.allclose(draw.fake, torch.sigmoid(model.decoder(z, 1 - c)), atol=1e-4)
    assert [*draw.model.parameters()] == [*model.parameters()]
    plain = recipes.plan("rgan", Spec("series", (5, 2), (), spec.details), {}).model
    assert not isinstance(plain, LabelledModel)


@pytest.mark.parametrize("recipe", ["rvae", "rvaegan"])
def test_recurrent_vaes_are_told_labels(recipe: str) -> None:
    torch.manual_seed(0)
    spec = Spec("series", (5, 2), ("a", "b"), {"changes": [0.4, 0.3]})
    model = recipes.plan(recipe, spec, {"width": 8, "latent": 2}).model
    assert isinstance(model, LabelledModel)
    x, c = torch.rand(4, 5, 2), torch.tensor([0, 1, 1, 0])
    assert torch.equal(model.draw(x, c, Noise(0)).posterior.mean, model.encoder(x, c).chunk(2, 1)[0])
    z = torch.randn(4, 2)
    assert torch.equal(model.given(c).decode(z), torch.sigmoid(model.decoder(z, c)))
    for network in (model.encoder, model.decoder):
        told, other = (network(x if network is model.encoder else z, of) for of in (c, 1 - c))
        assert not torch.allclose(told, other, atol=1e-4)


def test_a_window_is_rebuilt_with_its_own_label(measured: Path) -> None:
    """Judged reconstructions are those of a model that was told the labels."""
    series = modalities.of("series")
    held = series.open(measured, time="hour", group="machine", label="kind")
    against = series.reference(held, "validation", 50)

    class Oracle(torch.nn.Module):
        """Knows a window's label by what it was told alone."""

        spec, has_encoder, told = held.spec, True, None

        def given(self, c: torch.Tensor) -> Oracle:
            view = Oracle()
            view.told = c
            return view

        def labels(self, n: int, seed: int = 0) -> torch.Tensor:
            return torch.arange(n) % 2

        def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
            assert self.told is not None
            return x + (self.told.view(-1, 1, 1) - against.labels.view(-1, 1, 1))

        def sample(self, n: int, seed: int = 0) -> torch.Tensor:
            means = torch.stack(
                [against.train[against.classifier(against.train).argmax(1) == k].mean(0) for k in (0, 1)]
            )
            return means[self.labels(n)] + 0.01 * torch.randn(n, *held.spec.shape)

    rows = {row.metric: row for row in series.evaluate(Oracle(), held, against)}
    assert rows["reconstruction_mae"].value == 0
    assert rows["label_accuracy"].value == 1 and rows["label_accuracy"].floor == 1  # levels differ by machine
    assert rows["tstr_accuracy"].value == 1 and 0.4 < rows["tstr_accuracy"].ceiling < 0.7


def test_codes_of_every_step_are_one_code() -> None:
    """TimeGAN's codes (B, T, H) as others have theirs, (B, d), there and back."""
    model = recipes.plan("timegan", Spec("series", (5, 2), (), {}), {"latent": 3}).model
    x = torch.rand(4, 5, 2)
    z = model.encode(x)
    assert z.shape == (4, model.latent) == (4, 15)
    assert torch.equal(model.decode(z), model.reconstruct(x)) and model.reconstruct(x).shape == x.shape
    assert torch.allclose(model.sample(3, 1), model.sample(7, 1)[:3]) and model.sample(3).shape == (3, 5, 2)


def test_it_is_judged_with_floors_ceilings_and_baselines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["metric"]: row for row in json.loads(said(["evaluate", str(run), "--json"], capsys))["rows"]}
    assert rows.keys() == modalities.of("series").metrics.keys() - {"reconstruction_mae"}
    for metric, row in rows.items():
        assert row["floor"] is not None and row["ceiling"] is not None, metric
        worse = max if row["better"] == "lower" else min
        assert worse(row["floor"], row["ceiling"]) == row["ceiling"], metric
    assert "var" in rows["discriminative"]["note"] and "bootstrap" in rows["tstr"]["note"]


@pytest.mark.slow
def test_compare_says_which_samples_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "compare",
        "--data",
        "sines:T=12,N=300",
        "--recipes",
        "rvae,rgan,rvaegan,timegan",
        "--seeds=2",
        "--steps=40",
    ]
    told = said([*words, "--out", str(tmp_path / "c"), *SMALL], capsys)
    assert "discriminative" in told and "tstr" in told
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Real windows, held out" in page and "Reconstructions" in page and "windows seen" in page
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert [j["question"] for j in results["verdict"]["judgements"]] == ["reconstruction", "sampling", "both"]
    folder = tmp_path / "c" / "runs" / "rvae-0"
    said(["reconstruct", str(folder), "-n", "4", "--out", str(tmp_path / "pairs.png")], capsys)
    said(["interpolate", str(folder), "-n", "2", "--out", str(tmp_path / "walk.png")], capsys)


MISTAKES = {
    "pictures for series": (["train", "rgan", "--data", "."], "a folder"),
    "a size for series": (["train", "rgan", "--data", "sines", "--size", "32"], "--size"),
    "recipes of two kinds": (["compare", "--data", "sines", "--recipes", "rvae,vae"], "one kind"),
    "no steps left": (
        ["train", "timegan", "--data", "sines:N=50", "--embedding", "0.9", "--supervision", "0.1"],
        "lower",
    ),
    "a label that is none": (["sample", "RUN", "--label", "hot"], "cold, warm"),
    "a suffix": (["sample", "RUN", "--out", "x.wav"], ".csv, .npy, .npz or .png"),
    "a code of a GAN": (["reconstruct", "RUN"], "a model without encoder"),
    "a prompt of windows": (["sample", "RUN", "--prompt", "x"], "--label"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_three_parts_and_exit_code_2(
    mistake: str, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, told = MISTAKES[mistake]
    assert cli.run([str(run) if word == "RUN" else word for word in words]) == 2
    said_ = capsys.readouterr().err
    assert "asked:" in said_ and "found:" in said_ and told in said_ and "Traceback" not in said_
