"""Graphs through the same commands: train, sample, evaluate, compare, report; and what is refused."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amalgan import cli, modalities, runs
from amalgan.data import graphs
from amalgan.data.graphs import draw_non_edges
from amalgan.modalities.graphs import leakage
from amalgan.modalities.neighbourhoods import around

SMALL = ["--width=8", "--batch=32"]
CLUBS = [(f"{name}{a}", f"{name}{b}") for name in ("ann", "bob", "cy") for a in range(12) for b in range(a)]
EDGES = [*CLUBS, ("ann0", "bob0"), ("bob1", "cy1"), ("zoe", "ann1"), ("zoe", "ann2"), ("yan", "yan")]


@pytest.fixture(scope="module")
def friends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clubs in which everybody knows everybody, hardly linked; zoe who knows two; yan who is alone."""
    path = tmp_path_factory.mktemp("graphs") / "friends.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in EDGES))
    return path


@pytest.fixture(scope="module")
def trained(friends: Path) -> dict[str, Path]:
    for recipe in ("line", "graphgan"):
        words = ["train", recipe, "--data", str(friends), "--steps", "60", "--out", str(friends.parent / recipe)]
        assert cli.run([*words, "--lr=0.01", *SMALL]) == 0
    return {name: friends.parent / name for name in ("line", "graphgan")}


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.run(words) == 0
    return capsys.readouterr().out


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


@pytest.mark.parametrize("recipe", ["line", "graphgan"])
def test_links_are_printed_or_written(
    recipe: str, trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained[recipe]
    links = table(said(["sample", str(folder), "-n", "30"], capsys))
    assert len(links) == 30 and {link["known"] for link in links} <= {"known", "new"}
    trained_on = {frozenset(edge) for edge in named(folder)}
    assert all((frozenset((x["vertex"], x["neighbour"])) in trained_on) == (x["known"] == "known") for x in links)
    out = tmp_path / "links.csv"
    said(["sample", str(folder), "-n", "30", "--out", str(out)], capsys)
    assert [list(row.values()) for row in csv.DictReader(out.open())] == [list(link.values()) for link in links]
    assert runs.load(folder).sample(3) == runs.load(folder).sample(8)[:3]
    assert len(list((folder / "samples").glob("*.tsv"))) > 5


@pytest.mark.parametrize("recipe", ["line", "graphgan"])
def test_the_likeliest_neighbours_of_a_vertex(
    recipe: str, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    new = table(said(["neighbours", str(trained[recipe]), "zoe", "-n", "4"], capsys))
    assert {row["vertex"] for row in new} == {"zoe"} and {row["known"] for row in new} == {"new"}
    chances = [float(row["probability"]) for row in new]
    assert chances == sorted(chances, reverse=True) and all(0 < p < 1 for p in chances)
    every = table(said(["neighbours", str(trained[recipe]), "zoe", "-n", "99", "--known"], capsys))
    assert {"known", "new"} == {row["known"] for row in every}
    assert sum(float(row["probability"]) for row in every) == pytest.approx(1, abs=2e-3)


def test_vectors_of_the_vertices(trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(["embed", str(trained["line"]), "--out", str(tmp_path / "a.npz")], capsys)
    said(["embed", str(trained["line"]), "--out", str(tmp_path / "a.csv")], capsys)
    run = runs.load(trained["line"])
    with np.load(tmp_path / "a.npz") as held:
        assert held["vertex"].tolist() == run.spec.details["vertices"]
        assert np.array_equal(held["z"], run.model.judge.vectors.weight.detach().numpy())
        rows = list(csv.DictReader((tmp_path / "a.csv").open()))
        assert [row["vertex"] for row in rows] == held["vertex"].tolist()
        assert [float(row["z_1"]) for row in rows] == pytest.approx(held["z"][:, 1])


@pytest.mark.parametrize("name", ["a.npz", "a.csv", "a.emb"])
def test_training_starts_from_vectors_of_a_file(
    name: str, trained: dict[str, Path], friends: Path, tmp_path: Path
) -> None:
    run = runs.load(trained["line"])
    vectors, names = run.model.judge.vectors.weight.detach(), run.spec.details["vertices"]
    if name == "a.emb":
        lines = [f"{vertex} {' '.join(f'{v:.9g}' for v in row)}" for vertex, row in zip(names, vectors.tolist())]
        (tmp_path / name).write_text("\n".join([f"{len(names)} {vectors.shape[1]}", *lines]))
    else:
        assert cli.run(["embed", str(trained["line"]), "--out", str(tmp_path / name)]) == 0
    words = ["train", "graphgan", "--data", str(friends), "--steps=1", "--lr=1e-8", "--ema=0", "--critic-lr=1e-8"]
    words += ["--start", str(tmp_path / name), "--out", str(tmp_path / "run"), f"--width={vectors.shape[1]}"]
    assert cli.run(words) == 0
    (tmp_path / name).unlink()  # a run that has begun does not need them again
    assert cli.run(["resume", str(tmp_path / "run"), "--steps=2"]) == 0
    linked = torch.tensor(sorted({v for edge in run.data.train.x.tolist() for v in edge}))
    begun = runs.load(tmp_path / "run").model
    for network in (begun.generator, begun.discriminator):
        assert torch.allclose(network.vectors.weight.detach()[linked], vectors[linked], atol=1e-6)


def test_a_run_is_judged_on_other_edges(
    trained: dict[str, Path], friends: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All edges of the file that the model was not trained on: those that it held out itself."""
    rows = json.loads(said(["evaluate", str(trained["line"]), "--test-edges", str(friends), "--json"], capsys))["rows"]
    data = runs.load(trained["line"]).data
    held_out = sum(int((part.c == 1).sum()) for part in (data.validation, data.test))
    assert next(row["n"] for row in rows if row["metric"] == "auc") == held_out


def named(folder: Path) -> list[tuple[str, str]]:
    data = runs.load(folder).data
    return [tuple(data.spec.details["vertices"][v] for v in edge) for edge in data.train.x.tolist()]  # type: ignore


def test_it_has_learned_the_clubs_and_says_what_needs_no_learning(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for recipe, folder in trained.items():
        rows = {row["metric"]: row for row in json.loads(said(["evaluate", str(folder), "--json"], capsys))["rows"]}
        alone = {"accuracy_discriminator", "auc_discriminator", "leakage", "leakage_new"}
        assert rows.keys() == modalities.of("edges").metrics.keys() - (alone if recipe == "line" else set())
        assert rows["auc"]["value"] > 0.9 and rows["auc"]["floor"] == 1 and rows["auc"]["ceiling"] > 0.9
        assert all(name in rows["auc"]["note"] for name in ("common neighbours", "Adamic-Adar", "Katz"))
        assert rows["nll"]["value"] < rows["nll"]["ceiling"]
    assert 0 < rows["leakage"]["value"] < rows["leakage_new"]["value"] < 1 and rows["leakage"]["floor"] < 0.1
    other = json.loads(said(["evaluate", str(folder), "--split", "validation", "--json"], capsys))["rows"]
    assert {row["metric"]: row["value"] for row in other}["auc"] != rows["auc"]["value"]


def test_where_settings_are_chosen_nothing_is_known_of_test_edges(trained: dict[str, Path]) -> None:
    data, edges = runs.load(trained["line"]).data, modalities.of("edges")
    chosen, judged = (edges.reference(data, split, 5000).held_out for split in ("validation", "test"))
    own = [part.x[part.c == 1] for part in (data.validation, data.test)]
    assert torch.equal(chosen, own[0]) and torch.equal(judged, torch.cat(own))


def test_leakage_counts_walks_to_held_out_edges() -> None:
    """A stand-in that walks where it is told: of 4 walks in a round 2 end at a held-out edge, 1 at a training edge."""

    class Told:
        vertices = 10

        def draw(self, x: torch.Tensor, c: None, noise: Any) -> Any:
            ends = torch.tensor([[1, 2], [3, 1], [1, 4], [5, 6]])
            return type("Draw", (), {"fake": ends[torch.arange(len(x)) % 4]})

    train = graphs.Split(torch.tensor([[1, 4], [2, 3], [7, 8], [8, 9]]), None)
    every, new = leakage(Told(), train, torch.tensor([[2, 1], [1, 3], [0, 9]]))
    assert every == pytest.approx(2 / 4) and new == pytest.approx(2 / 3)


def test_other_edges_and_their_own_division(trained: dict[str, Path], friends: Path) -> None:
    run = runs.load(trained["line"])
    rows = {row.metric: row for row in run.evaluate(data=str(friends))}
    both = int(run.data.test.c.sum() + run.data.validation.c.sum())
    assert rows["auc"].n == both
    strange = [("ann3", "bob4"), ("bob5", "cy6"), ("cy0", "ann5")]  # links across clubs, which nobody could have told
    worse = {row.metric: row for row in run.evaluate(data=graphs.open(strange, spec=run.spec))}
    assert worse["auc"].value < rows["auc"].value and worse["auc"].n == 3
    with pytest.raises(modalities.graphs.UsageError, match="own vertices"):
        run.evaluate(data=graphs.open("karate"))


def test_a_neighbourhood_is_a_tree_with_its_likeliest_and_held_out_links(trained: dict[str, Path]) -> None:
    run = runs.load(trained["graphgan"])
    names, hidden = run.spec.details["vertices"], run.data.test.x[run.data.test.c == 1]
    root = int(hidden[0, 0])
    one = around(run.model, root, hidden, 3)
    assert one["name"] == one["names"][0] == names[root] and one["father"][0] == 0
    assert all(father < place for place, father in enumerate(one["father"]) if place)
    trained_on = {frozenset(edge) for edge in named(trained["graphgan"])}
    tree = [(place, father) for place, father in enumerate(one["father"]) if place]
    for a, b in [*tree, *one["edges"]]:
        assert frozenset((one["names"][a], one["names"][b])) in trained_on
    told = {names[int(b if a == root else a)] for a, b in hidden.tolist() if root in (a, b)}
    assert {one["names"][i] for i in one["held_out"]} == told
    assert [one["names"][i] for i in one["likeliest"]] == [row[1] for row in run.neighbours(names[root], 3)]


def test_compare_says_in_words_who_beats_what_needs_no_learning(
    friends: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--data", str(friends), "--recipes", "line,graphgan", "--seeds=2", "--steps=20", "--jobs=1"]
    told = said([*words, "--out", str(tmp_path / "c"), *SMALL], capsys)
    assert "accuracy" in told and "leakage_new" in told and "For linking" in told
    page = (tmp_path / "c" / "report.html").read_text()
    for text in ("Without learning", "Adamic-Adar", "the best of them in", "Neighbourhoods", "edges seen", "<circle"):
        assert text in page
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert [j["question"] for j in results["verdict"]["judgements"]] == ["linking"]


MISTAKES = {
    "no such file": (["train", "graphgan", "--data", "/no/such.txt"], "karate"),
    "a folder": (["train", "line", "--data", "."], "_train.txt"),
    "images": (["train", "graphgan", "--data", "digits"], "karate"),
    "a flag of text": (["train", "line", "--data", "karate", "--units", "words"], "write --"),
    "a vertex that is not there": (["neighbours", "RUN", "zoey"], "did you mean zoe"),
    "a vertex without a way": (["neighbours", "RUN", "yan"], "another vertex"),
    "codes as a picture": (["embed", "RUN", "--out", "a.png"], ".npz or .csv"),
    "vectors of nowhere": (["train", "line", "--data", "karate", "--start", "no.npz"], "as embed writes"),
    "vectors of others": (["train", "line", "--data", "karate", "--start", "FRIENDS"], "as embed writes"),
    "a prompt": (["sample", "RUN", "--prompt", "a"], "leave it out"),
    "a code": (["reconstruct", "RUN"], "train vae"),
    "recipes of two kinds": (["compare", "--data", "karate", "--recipes", "line,mle"], "one kind"),
    "non-edges of no kind": (["train", "line", "--data", "karate", "--non-edges", "near"], "uniform or sharing"),
    "judging on what was trained on": (["evaluate", "WHOLE", "--split", "validation"], "--whole"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_three_parts_and_exit_code_2(
    mistake: str, trained: dict[str, Path], friends: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words, instead = MISTAKES[mistake]
    if "WHOLE" in words:
        assert cli.run(["train", "line", "--data", "karate", "--whole", "--steps", "2", "--out", "whole"]) == 0
    known = {"RUN": str(trained["graphgan"]), "WHOLE": "whole", "FRIENDS": str(friends)}
    assert cli.run([known.get(word, word) for word in words]) == 2
    told = capsys.readouterr().err
    assert "asked:" in told and "found:" in told and instead in told and "Traceback" not in told


def test_pairs_that_share_a_vertex_with_everybody_share_anothers() -> None:
    hub = torch.tensor([[0, v] for v in range(1, 8)]).numpy()
    found = draw_non_edges(hub, hub, 8, "sharing", 0)
    assert len(found) == 7 and (found > 0).all() and (found[:, 0] != found[:, 1]).all()


MILLION = """
import resource, sys
import numpy as np
import amalgan
edges = np.random.default_rng(0).integers(0, 200_000, (1_000_000, 2))
run = amalgan.train("graphgan", data=edges, steps=2, start="random", out=sys.argv[1])
run.neighbours("7", 3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in kilobytes on Linux alone")
def test_a_million_edges_in_two_gigabytes(tmp_path: Path) -> None:
    words = [sys.executable, "-c", MILLION, str(tmp_path / "run")]
    told = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) < 2_000_000
