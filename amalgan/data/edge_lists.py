"""From whatever holds a graph to pairs of names: edge lists, GraphML, arrays, sparse matrices, graph objects, folders."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from ..errors import UsageError
from .core import ANY, TEST, TRAIN, VALIDATION
from .packed import arrays, unpacked

Pair = tuple[str, str]
SOURCES = (
    "an edge list (.txt, .tsv, .csv), GraphML (.graphml), each also .gz; .npz or .npy with pairs or a sparse matrix; a folder "
    "with *_train.txt, *_test.txt and *_test_neg.txt; pairs; a networkx graph; karate"
)
PARTS = {TRAIN: "train", VALIDATION: "val", TEST: "test"}
HEADS = {"source", "target", "from", "to", "src", "dst", "node1", "node2", "id1", "id2", "fromnodeid", "tonodeid"}

# Zachary (1977), An information flow model for conflict and fission in small groups, Journal of Anthropological
# Research 33: the 34 members of a karate club and who met whom outside it. Each line: a member, and those after him.
KARATE = """1: 2 3 4 5 6 7 8 9 11 12 13 14 18 20 22 32
2: 3 4 8 14 18 20 22 31
3: 4 8 9 10 14 28 29 33
4: 8 13 14
5: 7 11
6: 7 11 17
7: 17
9: 31 33 34
10: 34
14: 34
15: 33 34
16: 33 34
19: 33 34
20: 34
21: 33 34
23: 33 34
24: 26 28 30 33 34
25: 26 28 32
26: 32
27: 30 34
28: 34
29: 32 34
30: 33 34
31: 33 34
32: 33 34
33: 34"""


class Listed(NamedTuple):
    """What files say: pairs of names and the part that each belongs to, pairs that are no edges, what was left out."""

    pairs: list[Pair]
    part: list[int]
    non_edges: dict[int, list[Pair]]
    skipped: list[tuple[str, str]]
    notes: list[str]

    @classmethod
    def of(cls, pairs: Iterable[Pair], notes: Iterable[str] = (), skipped: Iterable[tuple[str, str]] = ()) -> Listed:
        """Pairs that nobody has divided yet."""
        pairs = list(pairs)
        return cls(pairs, [ANY] * len(pairs), {}, list(skipped), list(notes))


def read(source: Any) -> tuple[str, Listed]:
    """What a source is called, and what it says.

    Raises:
        UsageError: nothing there, or nothing that names two vertices.
    """
    if isinstance(source, str) and source == "karate":
        lines = (line.split(": ") for line in KARATE.split("\n"))
        pairs = [(one, other) for one, others in lines for other in others.split()]
        return "karate", Listed.of(pairs, ["Zachary's karate club (1977)"])
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if not path.exists():
            raise UsageError(f"a graph from {path}", "no such file or folder", f"give {SOURCES}")
        return path.name or str(path.resolve()), _folder(path) if path.is_dir() else _file(path)
    if callable(getattr(source, "edges", None)) and callable(getattr(source, "nodes", None)):  # networkx's graphs
        pairs = [(str(one), str(other)) for one, other in source.edges()]
        return "graph", _whole(Listed.of(pairs, _alone(map(str, source.nodes()), pairs)), "an object")
    try:
        rows = (row.tolist() if hasattr(row, "tolist") else row for row in source)
        return "edges", _whole(Listed.of([(str(one), str(other)) for one, other in rows]), "pairs")
    except (TypeError, ValueError):
        raise UsageError("a graph", f"a {type(source).__name__} that holds no pairs", f"give {SOURCES}") from None


def _folder(folder: Path) -> Listed:
    """A division that somebody else made: *_train, *_test and their like; *_test_neg holds pairs that are no edges."""
    found = {path.name.removesuffix(".gz").rsplit(".", 1)[0]: path for path in sorted(folder.iterdir())}
    listed, non_edges = Listed([], [], {}, [], []), {}
    for part, word in PARTS.items():
        own = [path for stem, path in found.items() if stem.endswith(f"_{word}") or stem == word]
        none = [path for stem, path in found.items() if stem.endswith(f"{word}_neg")]
        if len(own) > 1 or (part != VALIDATION and not own):
            told = ", ".join(path.name for path in own) or f"no *_{word}.txt"
            raise UsageError(f"a graph from the folder {folder}", told, f"give {SOURCES}")
        for path in own:
            read = _file(path)
            listed = Listed(
                listed.pairs + read.pairs, listed.part + [part] * len(read.pairs), {},
                listed.skipped + read.skipped, listed.notes + read.notes,
            )  # fmt: skip
        for path in none[:1]:
            non_edges[part] = _file(path).pairs
    return listed._replace(non_edges=non_edges)


def _file(path: Path) -> Listed:
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind == ".graphml":
        return _graphml(path)
    return _of_arrays(path) if kind in (".npz", ".npy") else _lines(path)


def _graphml(path: Path) -> Listed:
    """Vertices by their ids, edges whatever their direction; keys and weights say nothing here."""
    asked = f"a graph from {path}"
    try:
        tree = ElementTree.fromstring(unpacked(path, asked))  # expat bounds what entities may grow to
    except ElementTree.ParseError as error:
        raise UsageError(asked, f"it is not XML: {error}", "give a whole GraphML file") from None
    found = [(edge.get("source", ""), edge.get("target", "")) for edge in tree.iter() if _tag(edge) == "edge"]
    pairs = [(one, other) for one, other in found if one and other]
    notes = _alone((node.get("id", "") for node in tree.iter() if _tag(node) == "node"), pairs)
    if len(pairs) < len(found):
        notes.append(f"{len(found) - len(pairs):,} edges without two ends left out")
    return _whole(Listed.of(pairs, notes), str(path))


def _alone(vertices: Iterable[str], pairs: Iterable[Pair]) -> list[str]:
    """A note on vertices that no pair names, if there are any."""
    alone = set(vertices) - {vertex for pair in pairs for vertex in pair}
    return [f"{len(alone):,} vertices without an edge left out"] if alone else []


def _tag(element: ElementTree.Element) -> str:
    """Without the namespace."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _of_arrays(path: Path) -> Listed:
    """Pairs (E, 2) or, as edge_index, (2, E); or a sparse matrix as scipy saves it, whose entries other than 0 are edges."""
    asked = f"a graph from {path}"
    held = arrays(path, asked, f"give {SOURCES}")
    try:
        if {"indptr", "indices"} <= held.keys():
            x = np.column_stack(
                [np.repeat(np.arange(len(held["indptr"]) - 1), np.diff(held["indptr"])), held["indices"]]
            )
        elif {"row", "col"} <= held.keys():
            x = np.column_stack([held["row"], held["col"]])
        elif "edge_index" in held:
            x = held["edge_index"].T
        else:
            (x,) = (held[name] for name in held if name == "edges" or len(held) == 1)
        if "data" in held and x is not held["data"]:
            x = x[held["data"] != 0]
        if x.ndim != 2 or x.shape[1] != 2 or x.dtype.kind not in "iuU":
            raise ValueError(f"{x.dtype} of shape {x.shape}, not (edges, 2) of whole numbers or names")
    except (ValueError, IndexError, TypeError) as error:
        found = f"arrays {', '.join(held) or 'none'}: {error}"
        instead = "give edges (E, 2), edge_index (2, E), or what scipy.sparse.save_npz wrote as csr, csc or coo"
        raise UsageError(asked, found, instead) from None
    return _whole(Listed.of((str(one), str(other)) for one, other in x.tolist()), str(path))


def _lines(path: Path) -> Listed:
    """An edge a line; comments begin with # or %; what is no edge is left out with the reason."""
    pairs: list[Pair] = []
    skipped: list[tuple[str, str]] = []
    more, first = 0, True
    commas = path.name.removesuffix(".gz").lower().endswith(".csv")
    for number, raw in enumerate(unpacked(path, f"a graph from {path}").splitlines(), 1):
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            skipped.append((f"line {number} of {path.name}", f"byte 0x{raw[error.start]:02x} is not UTF-8"))
            continue
        if not line or line[0] in "#%":
            continue
        words = [word.strip() for word in _words(line, commas)]
        head = first and len(words) >= 2 and all(word.lower() in HEADS for word in words[:2])
        first = False
        if head:
            continue
        if len(words) < 2 or not words[0] or not words[1]:
            skipped.append((f"line {number} of {path.name}", f"{line[:40]!r} does not name two vertices"))
            continue
        pairs.append((words[0], words[1]))
        more += len(words) > 2
    notes = [f"{more:,} lines of {path.name} say more than two names, which is left out"] if more else []
    if skipped:
        notes.append(f"{len(skipped):,} lines of {path.name} are no edges and left out, the first is {skipped[0][0]}")
    return _whole(Listed.of(pairs, notes, skipped), str(path))


def _words(line: str, commas: bool) -> list[str]:
    if "\t" in line and not commas:
        return line.split("\t")
    return next(csv.reader([line])) if commas or "," in line else line.split()


def _whole(listed: Listed, name: str) -> Listed:
    if not listed.pairs:
        found = f"{len(listed.skipped)} lines that are no edges" if listed.skipped else "no edges"
        raise UsageError(f"a graph from {name}", found, "give a file with two names a line")
    return listed
