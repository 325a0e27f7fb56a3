"""Text through the same commands as images: train, sample, evaluate, compare, report; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from amalgan import cli, modalities, runs

ANIMALS = ("cat", "dog", "cow", "hen", "owl", "fox", "ant", "bee")
SMALL = ["--width=8", "--batch=16"]


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "captions.txt"
    lines = [f"the {a} sees the {b} in {n} trees" for a in ANIMALS for b in ANIMALS for n in range(5)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def run(captions: Path) -> Path:
    folder = captions.parent / "mle"
    assert cli.run(["train", "mle", "--data", str(captions), "--steps", "150", "--out", str(folder), *SMALL]) == 0
    return folder


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.run(words) == 0
    return capsys.readouterr().out


def test_lines_are_printed_or_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = said(["sample", str(run), "-n", "5", "--prompt", "the cat"], capsys).splitlines()
    assert len(printed) == 5 and all(line.startswith("the cat") for line in printed)
    out = tmp_path / "lines.txt"
    said(["sample", str(run), "-n", "9", "--temperature", "0.5", "--out", str(out)], capsys)
    assert len(out.read_text().splitlines()) == 9
    assert len(list((run / "samples").glob("*.txt"))) > 5
    assert runs.load(run).sample(3) == runs.load(run).sample(8)[:3]


def test_it_has_learned_the_lines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(said(["evaluate", str(run), "--json"], capsys))["rows"]
    found = {row["metric"]: row for row in rows}
    assert found.keys() == modalities.of("text").metrics.keys() - {"nll_oracle", "label_accuracy"}
    for metric in ("nll_gen", "bleu_2", "bleu_4"):
        row = found[metric]
        better = min if row["better"] == "lower" else max
        assert better(row["value"], row["ceiling"]) == row["value"] != row["ceiling"], metric
    cold = json.loads(said(["evaluate", str(run), "--temperature", "0.3", "--json"], capsys))["rows"]
    assert {row["metric"]: row["value"] for row in cold}["distinct_2"] < found["distinct_2"]["value"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mle", "seqgan"])
def test_lines_are_written_for_a_label(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "said.tsv"
    rows = [f"{a}\tthe {a} sees {n} {b}s" for a in ANIMALS[:3] for b in ANIMALS for n in range(8)]
    table.write_text("\n".join(["who\tsaid", *rows]))
    flags = ["--label", "who", "--steps", "150", "--width=16", "--batch=16"]
    out = tmp_path / "run"
    assert cli.run(["train", recipe, "--data", str(table), *flags, "--out", str(out)]) == 0
    for label in ANIMALS[:3]:
        lines = said(["sample", str(out), "-n", "20", "--label", label], capsys).splitlines()
        assert sum(line.startswith(f"the {label} ") for line in lines) > 12, (label, lines)
    each = said(["sample", str(out), "-n", "60", "--label", "each", "--temperature", "0.1"], capsys).splitlines()
    assert [line.split()[1] for line in each[:3]] == sorted(ANIMALS[:3])
    assert len(said(["sample", str(out), "-n", "4", "--label", "none"], capsys).splitlines()) == 4
    rows = {row["metric"]: row for row in json.loads(said(["evaluate", str(out), "--json"], capsys))["rows"]}
    assert rows["label_accuracy"]["value"] > 0.6 and rows["label_accuracy"]["floor"] > 0.95
    assert 0.3 < rows["label_accuracy"]["ceiling"] < 0.5
    assert cli.run(["sample", str(out), "--label", "horse"]) == 2
    assert "cat, cow, dog" in capsys.readouterr().err


def test_other_lines_are_judged_with_the_models_vocabulary(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n".join(f"the {a} sees a zebra in {n} trees" for a in ANIMALS for n in range(5)))
    worse = {row.metric: row.value for row in runs.load(run).evaluate(data=str(other))}
    assert worse["nll_gen"] > {row.metric: row.value for row in runs.load(run).evaluate()}["nll_gen"]


@pytest.mark.slow
def test_compare_says_which_writes_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--data", "oracle:V=30,T=6", "--limit=600", "--recipes", "mle,seqgan", "--seeds=2"]
    told = said([*words, "--steps=60", "--rollouts=2", "--out", str(tmp_path / "c"), *SMALL], capsys)
    assert "nll_oracle" in told and "nll_gen" in told
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Real lines" in page and "lines seen" in page and "Surprise of the oracle" in page
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert [j["question"] for j in results["verdict"]["judgements"]] == ["writing"]


MISTAKES = {
    "images for text": (["train", "mle", "--data", "."], "a folder"),
    "a size for text": (["train", "mle", "--data", "oracle", "--size", "32"], "write --"),
    "recipes of two kinds": (["compare", "--data", "oracle", "--recipes", "mle,gan"], "one kind"),
    "no steps left": (["train", "seqgan", "--data", "oracle", "--pretrain", "0.9", "--judging", "0.1"], "lower"),
    "a prior of lines": (["sample", "RUN", "--prior", "fitted"], "--temperature"),
    "a cold beyond cold": (["sample", "RUN", "--temperature", "0"], "0.7"),
    "a prompt that nobody knows": (["sample", "RUN", "--prompt", "xyzzy"], "others"),
    "a prompt that is too long": (["sample", "RUN", "--prompt", "the cat " * 20], "shorter"),
    "pairs of lines": (["reconstruct", "RUN"], "train vae"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_three_parts_and_exit_code_2(
    mistake: str, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, instead = MISTAKES[mistake]
    assert cli.run([str(run) if word == "RUN" else word for word in words]) == 2
    told = capsys.readouterr().err
    assert "asked:" in told and "found:" in told and instead in told and "Traceback" not in told
