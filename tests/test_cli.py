"""The command line as a user types it: verbs, exit codes, three-part errors, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from amalgan import cli, progress, recipes, runs, signatures

SMALL = ["--width=4", "--batch=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small run of a model with an encoder, and of one without."""
    folder = tmp_path_factory.mktemp("runs")
    for recipe in ("vaegan", "gan"):
        words = [
            "train",
            recipe,
            "--data",
            "digits",
            "--steps",
            "6",
            "--out",
            str(folder / recipe),
            "--latent=4",
            *SMALL,
        ]
        assert cli.run(words) == 0
    return {name: folder / name for name in ("vaegan", "gan")}


def amalgan(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "amalgan", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_a_recipe_is_told_in_one_line(recipe: str) -> None:
    line = signatures.summary(recipes.RECIPES[recipe]).splitlines()[0]
    assert line.endswith((".", "?")) and line.count("(") == line.count(")")


def test_help_needs_no_torch_and_is_quick() -> None:
    start = time.process_time()
    code = (
        "import sys; sys.argv = ['amalgan', 'train', 'vaegan', '--help']\n"
        "try:\n    from amalgan.__main__ import main; main()\n"
        "except SystemExit as left: assert not left.code\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--lam FLOAT" in done.stdout and "nats" in done.stdout
    assert time.process_time() - start < 5


def test_version_and_bare_command() -> None:
    assert amalgan("--version").stdout.startswith("amalgan 0")
    bare = amalgan()
    assert bare.returncode == 0 and "examples:" in bare.stdout


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_every_argument_of_a_recipe_is_a_flag_with_its_meaning(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", recipe, "--help"]) == 0
    text = capsys.readouterr().out
    for name in recipes.parameters(recipe):
        assert f"--{name.replace('_', '-')}" in text


@pytest.mark.parametrize(
    "verb",
    [
        "resume",
        "sample",
        "reconstruct",
        "embed",
        "neighbours",
        "interpolate",
        "evaluate",
        "compare",
        "tune",
        "report",
        "results",
        "runs",
    ],
)
def test_every_verb_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, "--help"]) == 0
    assert f"amalgan {verb}" in capsys.readouterr().out.split("example:")[1]


MISTAKES: dict[str, tuple[list[str], str]] = {
    "unknown recipe": (["train", "vaegna", "--data", "digits"], "vaegan"),
    "unknown flag": (["train", "vae", "--data", "digits", "--lattent", "8"], "--latent"),
    "unknown verb": (["trian"], "train"),
    "unknown game": (["train", "gan", "--data", "digits", "--game", "chess"], "hinge"),
    "out of range": (["train", "vae", "--data", "digits", "--latent", "0"], "between 1 and 4096"),
    "not a number": (["train", "vae", "--data", "digits", "--beta", "much"], "--help"),
    "no data": (["train", "vae"], "--help"),
    "missing path": (["train", "vae", "--data", "/no/such/folder"], "digits"),
    "two budgets": (["train", "vae", "--data", "digits", "--steps", "3", "--minutes", "1"], "one of them"),
    "no steps": (["train", "vae", "--data", "digits", "--steps", "0"], "1 or more"),
    "a device that is not there": (["train", "vae", "--data", "digits", "--device", "tpu"], "cuda"),
    "too many threads": (["train", "vae", "--data", "digits", "--threads", "99999"], "write 1 to"),
    "a precision": (["train", "vae", "--data", "digits", "--precision", "fp8"], "bf16"),
    "a likelihood for points": (
        ["train", "vae", "--data", "ring", "--steps", "1", "--likelihood", "bernoulli"],
        "gaussian",
    ),
    "residual networks for points": (["train", "sagan", "--data", "ring", "--steps", "1"], "train gan"),
    "residual networks for points without attention": (["train", "r3gan", "--data", "grid"], "give images"),
    "images that residual networks do not take": (["train", "r3gan", "--data", "digits"], "--size 32"),
    "images of another size": (["train", "sagan", "--data", "digits", "--size", "30"], "doubled two to five times"),
    "attention at no map": (
        ["train", "sagan", "--data", "digits", "--size", "28", "--attention-at", "16"],
        "--attention-at 14",
    ),
    "attention at a height, and none": (
        ["train", "r3gan", "--data", "digits", "--size", "16", "--attention-at", "8"],
        "--attention paper",
    ),
    "features from a file that is not there": (
        ["compare", "--data", "digits", "--features", "/no/such.safetensors"],
        "safetensors",
    ),
    "a comparison with a flag of no recipe": (["compare", "--data", "digits", "--zzz", "3"], "--help"),
    "no run": (["sample", "/no/such/run"], "--out"),
    "no folder of runs": (["runs", "/no/such/folder"], "holds runs"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_three_parts_and_exit_code_2(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, advice = MISTAKES[mistake]
    assert cli.run(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    lines = [line.split(":")[0].strip() for line in said.err.splitlines() if ":" in line]
    assert {"asked", "found", "instead"} <= set(lines)
    assert advice in said.err
    assert not list(tmp_path.iterdir()), "a mistake left something behind"


def test_debug_shows_the_traceback() -> None:
    done = amalgan("train", "vae", "--data", "/no/such/folder", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.parametrize("count, expected", [(0, 2), (1, 2)])
def test_empty_folder_and_one_image(
    tmp_path: Path, count: int, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    for i in range(count):
        Image.new("L", (16, 16), 10 * i).save(tmp_path / "images" / f"{i}.png")
    assert cli.run(["train", "vae", "--data", str(tmp_path / "images"), "--out", str(tmp_path / "run")]) == expected
    assert "instead" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_images_of_one_class_train(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    (tmp_path / "images" / "cats").mkdir(parents=True)
    for i in range(20):
        Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(tmp_path / f"images/cats/{i}.png")
    (tmp_path / "images" / "cats" / "broken.png").write_bytes(b"\x89PNG nothing more")
    words = ["train", "vae", "--data", str(tmp_path / "images"), "--steps", "2", "--out", str(tmp_path / "run"), *SMALL]
    assert cli.run(words) == 0
    assert cli.run([*words[:-2], "--strict", "--out", str(tmp_path / "strict")]) != 0


def test_a_comparisons_dry_run_writes_nothing_and_shows_every_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison"
    words = ["compare", "--data", "digits", "--recipes", "vae,gan", "--seeds", "2", "--steps", "6", *SMALL]
    assert cli.run([*words, "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "vae on digits, seed 0" in said and "gan on digits, seed 0" in said and "4 runs" in said
    assert cli.run([*words, "--out", str(out), "--dry-run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [r["recipe"] for r in shown["recipes"]] == ["vae", "gan"] and shown["estimate_seconds"] > 0
    assert [r["steps"] for r in shown["recipes"]] == [6, 6]
    assert not out.exists()


def test_dry_run_writes_nothing_and_shows_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        "vae",
        "--data",
        "digits",
        "--minutes",
        "0.1",
        "--out",
        str(tmp_path / "run"),
        "--dry-run",
        "--json",
        *SMALL,
    ]
    assert cli.run(words) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["arguments"]["width"] == 4 and shown["arguments"]["beta"] == 1.0
    assert shown["steps"] > 1 and 0 < shown["estimate_seconds"] < 60
    assert shown["objective"] == [{"share": 1.0, "objective": "Reconstruction() + KL()"}]
    assert shown["weights"].keys() == {"encoder", "decoder"}
    words.remove("--json")
    assert cli.run(words) == 0
    told = capsys.readouterr()
    assert "width 4, " in told.out and "objective  Reconstruction() + KL()" in told.out and "minutes" in told.err
    assert not (tmp_path / "run").exists()


def test_sample_as_grid_array_and_folder(trained: dict[str, Path], tmp_path: Path) -> None:
    for recipe in trained:
        run = str(trained[recipe])
        assert cli.run(["sample", run, "-n", "9", "--out", str(tmp_path / "grid.png")]) == 0
        assert min(Image.open(tmp_path / "grid.png").size) > 24
        assert cli.run(["sample", run, "-n", "70", "--seed", "3", "--out", str(tmp_path / "x.npz")]) == 0
        x = np.load(tmp_path / "x.npz")["x"]
        assert x.shape == (70, 1, 8, 8) and x.min() >= 0 and x.max() <= 1
        assert cli.run(["sample", run, "-n", "5", "--seed", "3", "--out", str(tmp_path / "fewer.npz")]) == 0
        assert np.array_equal(np.load(tmp_path / "fewer.npz")["x"], x[:5]), "sample i does not depend on n"
        assert cli.run(["sample", run, "-n", "3", "--out", str(tmp_path / recipe)]) == 0
        assert len(list((tmp_path / recipe).glob("*.png"))) == 3
        assert cli.run(["sample", str(run), "-n", "3", "--seed", "1", "--out", str(tmp_path / recipe)]) == 0
        assert len(list((tmp_path / recipe).glob("*.png"))) == 6, "another seed's samples were lost"


def test_more_samples_than_the_memory_holds_are_refused(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["sample", "-n", "99999999999"], ["interpolate", "-n", "10", "--steps", "9999999999"]):
        assert cli.run([words[0], str(trained["vaegan"]), *words[1:], "--out", str(tmp_path / "x.npz")]) == 2
        assert "GB of memory" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_sample_from_a_pretrained_folder(trained: dict[str, Path], tmp_path: Path) -> None:
    assert cli.run(["sample", str(trained["gan"] / "model"), "-n", "2", "--out", str(tmp_path / "x.png")]) == 0


def test_embed(trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embed", str(trained["vaegan"]), "--split", "validation", "--out"]
    assert cli.run([*words, str(tmp_path / "z.npz")]) == cli.run([*words, str(tmp_path / "z.csv")]) == 0
    part = runs.load(trained["vaegan"]).data.validation
    with np.load(tmp_path / "z.npz") as held:
        assert np.array_equal(held["z"], runs.load(trained["vaegan"]).encode(part.tensor()).numpy())
        assert held["c"].tolist() == part.c.tolist()
    assert (tmp_path / "z.csv").read_text().startswith("z_0,z_1,z_2,z_3,c\n")
    assert cli.run(["embed", str(trained["gan"])]) == 2
    assert "no encoder" in capsys.readouterr().err
    assert cli.run(["neighbours", str(trained["gan"]), "3"]) == 2
    assert "images have no names" in capsys.readouterr().err


def test_reconstruct_and_interpolate(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["reconstruct", str(trained["vaegan"]), "-n", "4", "--out", str(tmp_path / "pairs.png")]) == 0
    for recipe in trained:
        assert (
            cli.run(
                ["interpolate", str(trained[recipe]), "-n", "2", "--steps", "3", "--out", str(tmp_path / "walk.png")]
            )
            == 0
        )
    capsys.readouterr()
    assert cli.run(["reconstruct", str(trained["gan"]), "--out", str(tmp_path / "no.png")]) == 2
    assert "encoder" in capsys.readouterr().err and not (tmp_path / "no.png").exists()


@pytest.mark.slow
def test_evaluate_prints_floors_and_ceilings(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", str(trained["vaegan"]), "-n", "100", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    by_name = {(row["metric"], row["prior"]): row for row in rows}
    assert by_name["pixel_mse", ""]["ceiling"] > 0
    assert by_name["frechet", "fitted"]["floor"] < by_name["frechet", "fitted"]["ceiling"]
    assert ("frechet", "standard") in by_name
    assert cli.run(["evaluate", str(trained["gan"]), "-n", "100"]) == 0
    text = capsys.readouterr().out
    assert "frechet" in text and "ceiling" in text and "pixel_mse" not in text


def test_tables_never_cut_names_and_say_notes_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "of 10 classes as the classifier of digits sees them"
    names = [f"{'memorisation' * 2} {arrow}" for arrow in "↑↓"]
    rows = [{"metric": name, "value": "0.01", "unit": "features^2", "note": note} for name in names] * 2
    for width, once in ((120, False), (60, True), (30, True)):
        monkeypatch.setenv("COLUMNS", str(width))
        progress.print_table("a run", rows)
        told = capsys.readouterr().out
        assert all(told.count(name) == 2 + once for name in names)
        assert "".join(told.split()).count("".join(note.split())) == (1 if once else 4)
        assert max(map(len, told.splitlines())) <= width


def test_runs_lists_runs(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["runs", str(trained["gan"].parent), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {row["recipe"] for row in listed} == {"vaegan", "gan"} and all(row["finished"] for row in listed)


def test_tensorboard_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra 'track'")
    words = [
        "train",
        "vae",
        "--data",
        "digits",
        "--steps",
        "3",
        "--out",
        str(tmp_path / "run"),
        "--tensorboard",
        *SMALL,
    ]
    assert cli.run(words) == 0
    assert list((tmp_path / "run" / "tensorboard").iterdir())
