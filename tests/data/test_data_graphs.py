"""Edge lists in, parts without an edge in common out; what is no edge is named; nothing held out stands in the spec."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amalgan.data import Data, graphs
from amalgan.data.edge_lists import KARATE
from amalgan.data.graphs import draw_non_edges, edges_of
from amalgan.errors import UsageError

RING = [(f"v{i}", f"v{(i + step) % 60}") for i in range(60) for step in (1, 7)]


def named(data: Data, part: str, label: int = 1) -> set[frozenset[str]]:
    """The pairs of a part as sets of names."""
    split, names = getattr(data, part), data.spec.details["vertices"]
    kept = split.x if split.c is None else split.x[split.c == label]
    return {frozenset((names[a], names[b])) for a, b in kept.tolist()}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_karate_is_the_graph_of_zachary() -> None:
    networkx = pytest.importorskip("networkx")
    data = graphs.open("karate")
    mine = named(data, "train") | named(data, "validation") | named(data, "test")
    club = networkx.karate_club_graph()
    assert mine == {frozenset((str(a + 1), str(b + 1))) for a, b in club.edges}
    assert len(mine) == 78 and data.spec.details["vertices"] == [str(i) for i in range(1, 35)]
    assert len(KARATE.splitlines()) == len({a for a, b in ((min(e), max(e)) for e in club.edges)})


def test_parts_share_no_edge_and_the_spec_holds_the_training_edges_alone() -> None:
    data = graphs.open(RING)
    parts = [named(data, part) for part in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 120 and all(parts)
    held = {frozenset(data.spec.details["vertices"][v] for v in edge) for edge in edges_of(data.spec).tolist()}
    assert held == parts[0]
    assert data.train.c is None and data.train.x.dtype == torch.int64 and data.spec.shape == (2,)


@pytest.mark.parametrize("how", ["uniform", "sharing"])
def test_other_pairs_are_no_edges_of_any_part(how: Any) -> None:
    data = graphs.open(RING, non_edges=how)
    every = named(data, "train") | named(data, "validation") | named(data, "test")
    for part in ("validation", "test"):
        split = getattr(data, part)
        edges, others = split.x[split.c == 1], split.x[split.c == 0]
        assert len(edges) == len(others) and not named(data, part, 0) & every
        assert (others[:, 0] != others[:, 1]).all()
        assert torch.equal(edges[:, 0], others[:, 0]) == (how == "sharing")
        if how == "uniform":
            assert len(named(data, part, 0)) == len(others)


def test_uniform_pairs_are_uniform() -> None:
    """On 5 vertices with 4 edges there are 6 other pairs: each is drawn as often, by chi-square."""
    edges = np.array([[0, 1], [0, 2], [3, 4], [1, 4]])
    counts: dict[tuple[int, int], int] = {}
    for seed in range(600):
        for pair in draw_non_edges(edges[:2], edges, 5, "uniform", seed).tolist():
            counts[min(pair), max(pair)] = counts.get((min(pair), max(pair)), 0) + 1
    assert len(counts) == 6
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 20.5  # 99.9 % of chi-square with 5 degrees


def test_the_side_of_an_edge_depends_on_its_names_alone() -> None:
    shuffled = [(b, a) for a, b in RING]
    random.Random(0).shuffle(shuffled)
    plain, other = graphs.open(RING), graphs.open(shuffled)
    assert plain.fingerprint == other.fingerprint and named(plain, "test") == named(other, "test")
    grown = graphs.open([*RING, *((f"w{i}", f"v{i}") for i in range(60))])
    assert named(plain, "test") <= named(grown, "test") and named(plain, "train") <= named(grown, "train")
    assert graphs.open(RING, seed=1).fingerprint != plain.fingerprint


def test_whole_trains_on_the_validation_edges_and_leaves_none() -> None:
    plain, whole = graphs.open(RING), graphs.open(RING, whole=True)
    assert named(whole, "train") == named(plain, "train") | named(plain, "validation")
    assert len(whole.validation) == 0 and named(whole, "test") == named(plain, "test")
    assert whole.fingerprint != plain.fingerprint


TEXTS = {
    "tabs": ("edges.tsv", "a b\tc\nc\td e\nd e\tz\n"),
    "blanks": ("edges.txt", "# a comment\na_b c\nc  d_e\n\nd_e z\n"),
    "commas": ("edges.csv", 'source,target,weight\n"a,b",c,3\nc,d,4\nd,z,5\n'),
    "konect": ("out.graph", "% sym unweighted\n1 2 1 1082008561\n2 3 1 1082008562\n3 4 1 0\n"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_edge_lists_of_every_kind(kind: str, tmp_path: Path) -> None:
    name, text = TEXTS[kind]
    plain = graphs.open(write(tmp_path / name, text))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    packed = graphs.open(tmp_path / f"{name}.gz")
    assert plain.fingerprint == packed.fingerprint
    vertices = {"tabs": ["a b", "c", "d e", "z"], "blanks": ["a_b", "c", "d_e", "z"], "commas": ["a,b", "c", "d", "z"]}
    assert plain.spec.details["vertices"] == vertices.get(kind, ["1", "2", "3", "4"])
    assert len(plain.train) == 1


def saved(path: Path, kind: str) -> Any:
    """The ring of 60 vertices as somebody else keeps it."""
    networkx, sparse = pytest.importorskip("networkx"), pytest.importorskip("scipy.sparse")
    graph = networkx.Graph([(int(a[1:]), int(b[1:])) for a, b in RING])
    graph.add_node(99)
    pairs = np.array(list(graph.edges))
    if kind == "networkx":
        return graph
    if kind == "GraphML":
        networkx.write_graphml(graph, path / "ring.graphml")
        return path / "ring.graphml"
    if kind == "GraphML, gzipped":
        (path / "ring.graphml.gz").write_bytes(gzip.compress("\n".join(networkx.generate_graphml(graph)).encode()))
        return path / "ring.graphml.gz"
    if kind in ("csr", "csc", "coo"):
        matrix = networkx.to_scipy_sparse_array(graph, nodelist=range(60), format=kind, dtype=float)
        sparse.save_npz(path / "ring.npz", matrix)
        return path / "ring.npz"
    if kind == "pairs":
        np.save(path / "ring.npy", pairs)
        return path / "ring.npy"
    if kind == "names":
        np.savez(path / "ring.npz", edges=pairs.astype(str), weights=np.ones(len(pairs)))
    else:
        np.savez(path / "ring.npz", edge_index=pairs.T)
    return path / "ring.npz"


@pytest.mark.parametrize(
    "kind", ["networkx", "GraphML", "GraphML, gzipped", "csr", "csc", "coo", "pairs", "names", "edge_index"]
)
def test_graphs_as_others_keep_them(kind: str, tmp_path: Path) -> None:
    data = graphs.open(saved(tmp_path, kind))
    found = named(data, "train") | named(data, "validation") | named(data, "test")
    assert found == {frozenset((a[1:], b[1:])) for a, b in RING}
    assert ("1 vertices without an edge left out" in data.notes) == (kind[:7] in ("networkx"[:7], "GraphML"))


def test_stored_zeros_of_a_sparse_matrix_are_no_edges(tmp_path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    kept = ([1.0, 0.0, 2.0, 3.0, 4.0], ([0, 0, 1, 2, 3], [1, 2, 2, 3, 4]))
    sparse.save_npz(tmp_path / "a.npz", sparse.coo_array(kept, shape=(5, 5)))
    data = graphs.open(tmp_path / "a.npz")
    parts = [named(data, part) for part in ("train", "validation", "test")]
    assert set.union(*parts) == {frozenset(pair) for pair in ("01", "12", "23", "34")}


@pytest.mark.parametrize(
    "arrays, found",
    [
        ({"x": np.zeros((3, 3))}, "float64"),
        ({"a": np.zeros((3, 2), int), "b": np.zeros((3, 2), int)}, "a, b"),
        ({"indptr": np.array([0, 2, 1]), "indices": np.array([1, 2])}, "indptr"),
        ({"row": np.array([0, 1]), "col": np.array([1])}, "row, col"),
    ],
)
def test_arrays_that_hold_no_graph(arrays: dict[str, np.ndarray], found: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=found):
        graphs.open(tmp_path / "a.npz")


def test_entities_of_graphml_do_not_explode(tmp_path: Path) -> None:
    lots = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE g [<!ENTITY a0 "aaaaaaaaaa">{lots}]><graphml><graph><node id="a"/>&a11;</graph></graphml>'
    with pytest.raises(UsageError, match="XML"):
        graphs.open(write(tmp_path / "bomb.graphml", bomb))


def test_numbers_are_ordered_as_numbers() -> None:
    data = graphs.open([(str(i), str(i + 1)) for i in range(1, 30)])
    assert data.spec.details["vertices"] == [str(i) for i in range(1, 31)]


def test_loops_repetitions_and_lines_that_are_no_edges_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [f"{a} {b}" for a, b in RING] + ["v1 v0", "v5 v5", "v9", "lonely lonely"]
    path = tmp_path / "edges.txt"
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe v1\n")
    data, clean = graphs.open(path), graphs.open(RING)
    assert named(data, "test") == named(clean, "test") and named(data, "train") == named(clean, "train")
    said = "; ".join(data.notes)
    assert "2 loops" in said and "1 repetitions" in said and "2 lines" in said and "no training edge" in said
    assert [where for where, _ in data.skipped] == ["line 123 of edges.txt", "line 125 of edges.txt"]
    assert "lonely" in data.spec.details["vertices"]
    with pytest.raises(UsageError, match="line 123"):
        graphs.open(path, strict=True)


REFUSED: dict[str, tuple[Any, str]] = {
    "one edge": ([("a", "b")], "at least 3"),
    "no edge": ([], "two names"),
    "loops alone": ([("a", "a"), ("b", "b")], "different names"),
    "no pairs": ([1, 2, 3], "edge list"),
    "a complete graph": ([(str(a), str(b)) for a in range(5) for b in range(a)], "fewer pairs"),
    "nothing there": ("/no/such/file.txt", "karate"),
    "a word": (3.5, "edge list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_graph_is_refused_in_three_parts(case: str) -> None:
    source, instead = REFUSED[case]
    with pytest.raises(UsageError, match=instead):
        graphs.open(source)


def test_damaged_and_empty_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"a b\n" * 1000)[:20])
    for path in (tmp_path / "cut.txt.gz", write(tmp_path / "empty.txt", ""), write(tmp_path / "words.txt", "a\nb\n")):
        with pytest.raises(UsageError):
            graphs.open(path)
    with pytest.raises(UsageError, match="_train"):
        graphs.open(tmp_path)
    with pytest.raises(UsageError, match="uniform or sharing"):
        graphs.open(RING, non_edges="near")  # type: ignore[arg-type]


def official(folder: Path) -> Path:
    write(folder / "ring_train.txt", "".join(f"{a} {b}\n" for a, b in RING[:100]))
    write(folder / "ring_test.txt", "".join(f"{a} {b}\n" for a, b in [*RING[100:], RING[0]]))
    write(folder / "ring_test_neg.txt", "v0 v30\nv1 v31\nv2 v3\nv4 v4\nv5 v40\n")
    return folder


def test_a_division_of_somebody_elses_is_kept(tmp_path: Path) -> None:
    data = graphs.open(official(tmp_path))
    test = {frozenset(pair) for pair in [*RING[100:], RING[0]]}
    assert named(data, "test") == test
    assert named(data, "train") | named(data, "validation") == {frozenset(pair) for pair in RING[:100]} - test
    assert named(data, "test", 0) == {frozenset(p) for p in [("v0", "v30"), ("v1", "v31"), ("v5", "v40")]}
    said = "; ".join(data.notes)
    assert (
        "its own test set" in said and "3 pairs that are no edges come with" in said and "2 pairs that are said" in said
    )
    assert "1 items left the earlier part" in said
    whole = graphs.open(tmp_path, whole=True)
    assert named(whole, "train") == {frozenset(pair) for pair in RING[:100]} - test


def test_other_edges_are_judged_where_the_model_has_not_seen_them(tmp_path: Path) -> None:
    data = graphs.open(RING)
    again = graphs.open(RING, spec=data.spec)
    assert again.spec is data.spec and named(again, "train") == named(data, "train")
    assert named(again, "test") == named(data, "test") | named(data, "validation")
    new = graphs.open([("v0", "v30"), ("v1", "nobody"), RING[0]], spec=data.spec)
    assert named(new, "test") <= {frozenset(("v0", "v30")), frozenset(RING[0])} and len(new.test) in (2, 4)
    assert not named(new, "test") & named(data, "train")
    for others in ([("x", "y")], [tuple(sorted(edge)) for edge in named(data, "train")]):
        with pytest.raises(UsageError, match="other edges"):
            graphs.open(others, spec=data.spec)


def test_ca_grqc_is_recognised(real_data: Path) -> None:
    data = graphs.open(real_data / "ca_grqc")
    assert len(data.spec.details["vertices"]) == 5242
    assert len(data.train) + int(data.validation.c.sum()) == 13_036 and len(data.test) == 1447 + 1449
    assert int(data.test.c.sum()) == 1447  # two of the 1,449 are loops
    whole = graphs.open(real_data / "ca_grqc", whole=True)
    assert len(whole.train) == 13_036
