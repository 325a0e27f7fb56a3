"""What a person sees of a model of a graph: likeliest links drawn around a vertex, and what needs no learning beside it."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amalgan.drawing import colour_of, tree
from amalgan.verdict import listed, number

NEAR = 12  # neighbours, or held-out edges, that are drawn


def chosen(model: Any, held_out: Tensor, count: int) -> list[int]:
    """The vertices with most held-out edges, among those with as many training edges as a picture holds."""
    degree = torch.from_numpy(model.trees.graph.degree)
    hidden = torch.bincount(held_out.flatten(), minlength=model.vertices)
    hidden[(degree < 3) | (degree > NEAR)] = 0
    order = hidden.argsort(descending=True, stable=True)[:count]
    return [int(v) for v in order if hidden[v] > 0]


def around(model: Any, root: int, held_out: Tensor, count: int) -> dict[str, Any]:
    """The part of a root's tree that holds some neighbours, the likeliest new links and the held-out edges.

    By places in `names`, the root's first: `father`, `edges` between them that the tree does not hold, `likeliest`,
    `held_out`.
    """
    graph, names = model.trees.graph, model.spec.details["vertices"]
    hidden = sorted({b if a == root else a for a, b in held_out.tolist() if root in (a, b)})[:NEAR]
    likeliest = model.likeliest(root, count)[0].tolist()
    (fathers,) = graph.fathers(np.array([root])).tolist()
    place = {root: 0}
    for vertex in (*graph.neighbours(root)[:NEAR].tolist(), *likeliest, *hidden):
        path = []
        while fathers[vertex] >= 0 and vertex not in place:
            path.append(vertex)
            vertex = fathers[vertex]
        place |= {v: len(place) + i for i, v in enumerate(reversed(path))}
    pairs = [(v, u) for v in place for u in graph.neighbours(v).tolist() if u > v and u in place]
    return {
        "name": names[root],
        "names": [names[v] for v in place],
        "father": [place[fathers[v]] for v in place],
        "edges": [[place[v], place[u]] for v, u in pairs if fathers[v] != u and fathers[u] != v],
        "likeliest": [place[v] for v in likeliest if v in place],
        "held_out": [place[v] for v in hidden if v in place],
    }


def picture(one: dict[str, Any], colour: str) -> str:
    """One neighbourhood as SVG."""
    said = ", ".join(one["names"][i] for i in one["likeliest"])
    return tree(
        one["names"], one["father"], one["edges"], one["likeliest"], one["held_out"], colour,
        f"{one['name']} and its likeliest new links: {said}",
    )  # fmt: skip


def beside(results: dict[str, Any], heuristics: dict[str, dict[str, float]], labels: dict[str, str]) -> str:
    """A table of the recipes and of scores that need no learning, and in words who beats whom."""
    values = {
        name: {e["metric"]: e["value"] for e in results["summary"] if e["recipe"] == name}
        for name in results["recipes"]
    }
    heads = "".join(f'<th scope="col">{labels[metric]} ↑</th>' for metric in heuristics)
    rows, said = [], []
    for name, own in values.items():
        cells = "".join(f"<td>{number(own.get(metric))}</td>" for metric in heuristics)
        rows.append(
            f'<tr><th scope="row"><span class="chip {colour_of(results, name)}"></span>{escape(name)}</th>{cells}</tr>'
        )
        best = {metric: max(found, key=found.__getitem__) for metric, found in heuristics.items()}
        told = {
            verdict: [f"{labels[m]} ({number(own[m])} against {number(heuristics[m][b])} of {b})" for m, b in best.items() if m in own and (own[m] > heuristics[m][b]) == wins]
            for verdict, wins in (("beats the best of them in", True), ("does not beat the best of them in", False))
        }  # fmt: skip
        said += [
            f"<p><b>{escape(name)}</b> {verdict} {escape(listed(what))}.</p>" for verdict, what in told.items() if what
        ]
    for name in next(iter(heuristics.values())):
        cells = "".join(f'<td class="soft">{number(found[name])}</td>' for found in heuristics.values())
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        '<p class="lead">Scores that are counted on the training edges, without learning anything, beside the means of '
        f"the recipes.</p>{''.join(said)}"
        f'<div class="wide"><table><thead><tr><th scope="col">Score</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
