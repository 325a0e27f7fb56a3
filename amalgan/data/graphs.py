"""The vertices of a graph, as a list of edges: an example is an edge.

    x   (E, 2)    training edges, each once, by the numbers of their vertices
    x   (2H, 2)   of validation and test: held-out edges (c = 1), then as many pairs that are none in any part (c = 0)

Edges are divided, not vertices. Names and training edges are part of the data's `Spec`, so a model knows its graph, and
nothing that is made from the graph (trees, walks, baselines) can touch a held-out edge. A graph has no directions, no
loops and no edge twice.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from ..noise import key
from .core import TEST, VALIDATION, Data, Decoded, Spec, Split, divide
from .edge_lists import Listed, read
from .packed import arrays, unpacked

if TYPE_CHECKING:
    from ..modalities.graphs import NonEdges

FEW = 100  # held-out edges, below which chance decides


def open(
    source: Any,
    *,
    non_edges: NonEdges = "uniform",
    whole: bool = False,
    strict: bool = False,
    seed: int = 0,
    spec: Spec | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Edges in three parts with no edge in common, and pairs that are none to hold them against.

    Arguments:
        source: a file with an edge a line, two names apart by a tab, a comma or blanks, whatever follows; GraphML; pairs
            of whole numbers, or a sparse matrix as scipy saves it, in .npz; a folder that holds such files as *_train.txt,
            *_test.txt and perhaps *_val.txt, *_test_neg.txt, *_val_neg.txt, which are then taken as they are; pairs of
            names; a networkx graph; or "karate".
        non_edges: with what held-out edges are compared: "uniform" pairs, or pairs "sharing" the first vertex with one.
        whole: train on the validation edges too, once the settings are chosen.
        strict: stop at the first line that is no edge instead of leaving it out.
        seed: another seed divides differently, and draws other pairs.
        spec: of a trained model: all edges that it was not trained on are held out.
        progress: called with edges done and edges in all.

    Raises:
        UsageError: nothing there, nothing readable, too few edges, or too few pairs that are none.
    """
    if isinstance(source, Data):
        return source
    if non_edges not in ("uniform", "sharing"):
        raise UsageError("pairs that are no edges", repr(non_edges), "write uniform or sharing")
    name, listed = read(source)
    if strict and listed.skipped:
        where, why = listed.skipped[0]
        raise UsageError(f"a graph from {name}: {where}", why, "mend it, or leave --strict out")
    if progress is not None:
        progress(len(listed.pairs), len(listed.pairs))
    if spec is not None:
        return _of_others(name, listed, non_edges, seed, spec)
    every = chain(listed.pairs, *listed.non_edges.values())
    names = sorted(set(chain.from_iterable(every)), key=_order)
    x, part, notes = _edges(listed, {name: i for i, name in enumerate(names)})
    first = f"{len(names):,} vertices, {len(np.unique(x, axis=0)):,} edges"
    decoded = Decoded(
        torch.from_numpy(x), _digests(x, names), None, (), part, [first, *listed.notes, *notes], listed.skipped
    )
    data = divide(decoded, name, seed, None, Spec("edges", (2,), (), {"vertices": names}))
    train, validation, test = (split.x for split in (data.train, data.validation, data.test))
    assert isinstance(train, Tensor) and isinstance(validation, Tensor) and isinstance(test, Tensor)
    if whole:
        train, validation = torch.cat([train, validation]), validation[:0]
        data.notes.append("validation edges are trained on")
    details = {"vertices": names, "edges": " ".join(map(str, train.flatten().tolist()))}
    held = {VALIDATION: validation, TEST: test}
    splits = {p: _held_out(edges, listed, p, names, x, non_edges, seed, data.notes) for p, edges in held.items()}
    if 0 < len(test) < FEW:
        data.notes.append(f"{len(test):,} test edges are few: what is judged on them says little")
    isolated = len(names) - len(train.unique())
    if isolated:
        data.notes.append(f"{isolated:,} vertices have no training edge")
    return replace(
        data,
        spec=replace(data.spec, details=details),
        train=Split(train, None),
        validation=splits[VALIDATION],
        test=splits[TEST],
        fingerprint=_fingerprint(data.fingerprint, splits, whole),
    )


def edges_of(spec: Spec) -> np.ndarray:
    """(E, 2) int64 training edges of a spec."""
    return np.array(spec.details["edges"].split(), dtype=np.int64).reshape(-1, 2)


def vectors(path: str | Path, spec: Spec, width: int) -> Tensor:
    """(N, width) float32 vectors of the vertices of a spec, from what `embed` wrote (.npz or .csv) or from word2vec's text.

    Raises:
        UsageError: no such file, nothing in it that fits, or a vertex that has edges and no vector.
    """
    path, names = Path(path).expanduser(), spec.details["vertices"]
    asked = f"vectors from {path}"
    instead = "write netmf, random, or a file with a vector of --width numbers for each vertex, as embed writes"
    if not path.is_file():
        raise UsageError(asked, "no such file", instead)
    try:
        if path.suffix == ".npz":
            held = arrays(path, asked, instead, ("vertex", "z"))
            found = dict(zip(held["vertex"].tolist(), held["z"].astype(np.float32)))
        else:
            lines = unpacked(path, asked).decode().splitlines()
            rows = csv.reader(lines) if path.suffix == ".csv" else map(str.split, lines)
            found = {
                row[0]: np.array(row[1:], np.float32) for row in list(rows)[path.suffix == ".csv" :] if len(row) > 2
            }
    except (ValueError, KeyError) as error:
        raise UsageError(asked, f"no vectors: {error}", instead) from None
    made = np.zeros((len(names), width), np.float32)
    for i in np.unique(edges_of(spec)):
        if names[i] not in found or found[names[i]].shape != (width,):
            size = len(found[names[i]]) if names[i] in found else "no"
            raise UsageError(asked, f"{size} numbers for the vertex {names[i]}, not {width}", instead)
        made[i] = found[names[i]]
    if not np.isfinite(made).all():
        raise UsageError(asked, "numbers that are not finite", instead)
    return torch.from_numpy(made)


def _of_others(name: str, listed: Listed, how: NonEdges, seed: int, spec: Spec) -> Data:
    """Edges to judge a trained model by: those that it has not seen, between vertices that it knows."""
    names, trained = spec.details["vertices"], edges_of(spec)
    number = {name: i for i, name in enumerate(names)}
    known = [i for i, pair in enumerate(listed.pairs) if pair[0] in number and pair[1] in number]
    listed = listed._replace(pairs=[listed.pairs[i] for i in known], part=[listed.part[i] for i in known])
    x, part, notes = _edges(listed, number) if known else (trained, np.zeros(len(trained)), [])
    every = np.concatenate([trained, x])
    new = np.unique(x[(part == TEST) | (part != TEST).all()], axis=0)
    new = new[~np.isin(_keys(new, len(names)), _keys(trained, len(names)))]
    if not len(new):
        found = "not one that it was not trained on, between vertices that it knows"
        raise UsageError(f"edges from {name} to judge a model by", found, "give other edges of the same vertices")
    notes = [f"{len(new):,} edges that the model was not trained on", *notes]
    test = _held_out(torch.from_numpy(new), listed, TEST, names, every, how, seed, notes)
    nothing = Split(torch.empty(0, 2, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    fingerprint = _fingerprint("", {TEST: test}, True)
    return Data(
        name, spec, Split(torch.from_numpy(trained), None), nothing, test, notes, fingerprint, listed.skipped
    )  # fmt: skip


def _fingerprint(divided: str, splits: dict[int, Split], whole: bool) -> str:
    digest = hashlib.blake2b(f"{divided} {whole}".encode(), digest_size=16)
    for split in splits.values():
        digest.update(split.tensor().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


# From names to numbers


def _order(name: str) -> tuple[bool, int, str]:
    """Numbers by size, then words."""
    return (False, int(name), name) if name.isascii() and name.isdigit() else (True, 0, name)


def _edges(listed: Listed, number: dict[str, int]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(E, 2) edges, the smaller number first, their parts, and notes; without loops and repetitions within a part."""
    x = np.array([(number[one], number[other]) for one, other in listed.pairs], dtype=np.int64).reshape(-1, 2)
    part, loops = np.array(listed.part, dtype=np.int8), x[:, 0] == x[:, 1]
    x, part = np.sort(x[~loops], axis=1), part[~loops]
    _, kept = np.unique(np.column_stack([x, part]), axis=0, return_index=True)
    kept.sort()
    notes = [f"{loops.sum():,} loops left out"] if loops.any() else []
    if len(kept) < len(x):
        notes.append(f"{len(x) - len(kept):,} repetitions of an edge left out (a graph has no directions)")
    if not len(kept):
        raise UsageError("a graph", f"no edges, {loops.sum():,} loops", "give a file with two different names a line")
    return x[kept], part[kept], notes


def _digests(x: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(E,) hashes of the two names of each edge, whatever their order and their numbers."""
    pairs = (sorted((names[one], names[other])) for one, other in x.tolist())
    digests = (hashlib.blake2b("\x1f".join(pair).encode(), digest_size=8).digest() for pair in pairs)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _keys(x: np.ndarray, vertices: int) -> np.ndarray:
    """One number for each pair, whatever its order."""
    return x.min(1) * vertices + x.max(1)


# Pairs that are no edges


def _held_out(
    edges: Tensor, listed: Listed, part: int, names: list[str], every: np.ndarray, how: NonEdges, seed: int, notes: list[str]
) -> Split:  # fmt: skip
    """Edges of a part (c = 1) and pairs that are none (c = 0): those that came with them, or as many drawn."""
    word = {VALIDATION: "validation", TEST: "test"}[part]
    if part in listed.non_edges:
        number = {name: i for i, name in enumerate(names)}
        known = [pair for pair in listed.non_edges[part] if pair[0] in number and pair[1] in number]
        given = np.array([(number[a], number[b]) for a, b in known], dtype=np.int64).reshape(-1, 2)
        wrong = np.isin(_keys(given, len(names)), _keys(every, len(names))) | (given[:, 0] == given[:, 1])
        none = given[~wrong]
        notes.append(f"{len(none):,} pairs that are no edges come with the {word} edges")
        if wrong.any():
            notes.append(f"{wrong.sum():,} pairs that are said to be no edges are some, and left out")
    else:
        none = draw_non_edges(edges.numpy(), every, len(names), how, key(seed, "non-edges", part))
        drawn = "drawn uniformly" if how == "uniform" else "each sharing a vertex with one of them"
        if len(edges):
            notes.append(f"held against the {word} edges: {len(none):,} pairs that are no edges, {drawn}")
    c = torch.cat([torch.ones(len(edges), dtype=torch.int64), torch.zeros(len(none), dtype=torch.int64)])
    return Split(torch.cat([edges, torch.from_numpy(none)]), c)


def draw_non_edges(edges: np.ndarray, every: np.ndarray, vertices: int, how: NonEdges, seed: int) -> np.ndarray:
    """As many pairs as edges (H, 2) that are no edge of `every` (E, 2).

    Uniform ones are different from each other. One that shares the first vertex of an edge which is linked to all
    others shares another's instead.

    Raises:
        UsageError: there are not so many.
    """
    known = np.unique(_keys(every, vertices))
    if vertices * (vertices - 1) // 2 - len(known) < len(edges):
        found = f"{len(known):,} of {vertices * (vertices - 1) // 2:,} pairs of vertices are edges"
        raise UsageError(f"{len(edges):,} pairs that are no edges", found, "give a graph in which fewer pairs are")
    source = np.random.default_rng(seed)
    degree = np.bincount(np.concatenate([known // vertices, known % vertices]), minlength=vertices)
    free = np.flatnonzero(degree < vertices - 1)  # vertices that are not linked to all others
    made, missing = np.zeros_like(edges), np.ones(len(edges), bool)
    while missing.any():
        count = int(missing.sum())
        first = source.choice(free, count)
        if how == "sharing":
            shared = edges[missing, 0]
            first = np.where(degree[shared] < vertices - 1, shared, first)
        made[missing] = np.column_stack([first, source.choice(free, count)])
        keys = _keys(made, vertices)
        missing = (made[:, 0] == made[:, 1]) | np.isin(keys, known)
        if how == "uniform":
            repeated = np.ones(len(made), bool)
            repeated[np.unique(keys, return_index=True)[1]] = False
            missing |= repeated
    return made


def tell(pairs: Iterable[Sequence[int]], spec: Spec) -> list[str]:
    """Pairs of numbers as lines of two names."""
    names = spec.details["vertices"]
    return [f"{names[one]}\t{names[other]}" for one, other in pairs]
