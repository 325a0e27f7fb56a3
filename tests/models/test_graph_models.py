"""Graph softmax: it sums to one, walks follow it, its gradient is its slope; trees stay as they are; nothing leaks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from amalgan import objectives as o
from amalgan import recipes
from amalgan.data import Spec, graphs
from amalgan.data.core import Split
from amalgan.errors import UsageError
from amalgan.models.graphs import GraphModel, Trees
from amalgan.networks.graphs import Embedding, graph_of
from amalgan.noise import Noise
from amalgan.objectives.core import Turn
from amalgan.training import Trainer

# two parts (one with a cycle, a triangle and a leaf; one edge alone), and vertex 9 by itself
EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (2, 4), (4, 5), (2, 5), (5, 6), (7, 8)]


def spec(edges: list[tuple[int, int]] = EDGES, vertices: int = 10) -> Spec:
    details = {"vertices": [f"v{i}" for i in range(vertices)], "edges": " ".join(f"{a} {b}" for a, b in edges)}
    return Spec("edges", (2,), (), details)


def model(of: Spec | None = None, scale: float = 1.0, seed: int = 0, width: int = 3) -> GraphModel:
    of = of or spec()
    torch.manual_seed(seed)
    count = len(of.details["vertices"])
    return GraphModel(of, Embedding(count, width, scale), Embedding(count, width, scale))


def every_pair(vertices: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(vertices), torch.arange(vertices))


def by_hand(made: GraphModel, root: int) -> dict[int, float]:
    """G(v | root), in plain Python: walk down the tree, and at each vertex turn back."""
    fathers = made.trees.graph.fathers(np.array([root]))[0].tolist()
    children = {v: [u for u, f in enumerate(fathers) if f == v and u != root] for v in range(len(fathers))}
    g, found = made.generator.vectors.weight.double(), {}

    def chances(w: int) -> dict[int, float]:
        near = children[w] + ([fathers[w]] if w != root else [])
        return dict(zip(near, torch.softmax(g[near] @ g[w], 0).tolist())) if near else {}

    def down(w: int, chance: float) -> None:
        for u, p in chances(w).items():
            if u in children[w]:
                found[u] = chance * p * chances(u)[w]
                down(u, chance * p)

    down(root, 1.0)
    return found


@pytest.mark.parametrize("memory", [2**20, 0], ids=["kept", "block by block"])
def test_graph_softmax_is_the_walk_by_hand_and_sums_to_one(memory: int) -> None:
    made = model()
    made.trees = Trees(graph_of(made.spec), memory)
    pairs = every_pair(10)
    found = made.log_prob(pairs).detach().view(10, 10)
    for root in range(10):
        expected = by_hand(made, root)
        assert {v for v in range(10) if found[root, v] > -math.inf} == expected.keys()
        assert all(math.exp(found[root, v]) == pytest.approx(p, rel=1e-5) for v, p in expected.items())
    assert torch.equal(made.reaches(pairs).view(10, 10), (found > -math.inf) | torch.eye(10, dtype=torch.bool))
    sums = found.exp().sum(1)
    assert torch.allclose(sums[:9], torch.ones(9), atol=1e-6) and sums[9] == 0


@pytest.mark.parametrize("seed", range(8))
def test_graph_softmax_sums_to_one_on_random_graphs(seed: int) -> None:
    source = np.random.default_rng(seed)
    pairs = np.sort(source.integers(0, 25, (20 + 10 * seed, 2)), axis=1)
    edges = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    made = model(spec([tuple(edge) for edge in edges.tolist()], 25), scale=2.0, seed=seed)
    sums = made.log_prob(every_pair(25)).exp().view(25, 25).sum(1)
    linked = torch.from_numpy(made.trees.graph.degree > 0)
    assert (sums - linked.float()).abs().max() < 1e-5


def test_walks_do_not_depend_on_how_many_trees_are_at_hand() -> None:
    kept, grown = model(), model()
    grown.trees = Trees(graph_of(grown.spec), 60)
    assert kept.trees.kept and not grown.trees.kept and grown.trees.at_once == 3
    edges = torch.tensor(EDGES).repeat(5, 1)
    one, other = (made.draw(edges, None, Noise(2)) for made in (kept, grown))
    assert torch.equal(one.fake, other.fake) and torch.equal(one.choices, other.choices)


def test_walks_follow_graph_softmax() -> None:
    """By chi-square, from every root: at most one in a thousand sound tests would fail."""
    made, walks = model(seed=3), 20_000
    for root in (0, 2, 6, 7):
        source = torch.Generator().manual_seed(root)
        ends = made.walk(
            torch.full((walks,), root), lambda step, s=source: torch.rand(walks, generator=s, dtype=torch.float64)
        )
        counts = torch.bincount(ends, minlength=10)
        expected = {v: walks * p for v, p in by_hand(made, root).items()}
        assert counts.sum() == sum(counts[v] for v in expected)
        statistic = sum((counts[v] - n) ** 2 / n for v, n in expected.items())
        assert statistic < {0: 22.5, 2: 22.5, 6: 22.5, 7: 1e-9}[root]  # 99.9 % at 6 degrees; from 7 there is 8 alone


def test_a_root_without_edges_stays_where_it_is() -> None:
    made = model()
    assert made.walk(torch.tensor([9, 7]), lambda step: torch.full((2,), 0.5)).tolist() == [9, 8]
    assert made.log_prob(torch.tensor([[9, 9], [9, 1], [7, 2]])).tolist() == [-math.inf] * 3


def test_the_gradient_of_log_g_is_its_slope() -> None:
    made = model().double()
    weight = made.generator.vectors.weight
    pairs = torch.tensor([[0, 5], [0, 1], [6, 3], [2, 4], [7, 8]])
    scorer = made.generator.forward

    def total(values: Tensor) -> Tensor:
        made.generator.forward = lambda p: ((values[p[:, 0]] * values[p[:, 1]]).sum(1), None)  # type: ignore
        return double_log_prob(made, pairs).sum()

    (slope,) = torch.autograd.grad(total(weight), weight)
    h = 1e-5
    with torch.no_grad():
        for v in range(10):
            for d in range(3):
                ends = []
                for sign in (1, -1):
                    moved = weight.clone()
                    moved[v, d] += sign * h
                    ends.append(total(moved))
                assert slope[v, d] == pytest.approx(float(ends[0] - ends[1]) / (2 * h), abs=1e-6)
    made.generator.forward = scorer  # type: ignore[method-assign]
    single = model()
    (plain,) = torch.autograd.grad(single.log_prob(pairs).sum(), single.generator.vectors.weight)
    assert torch.allclose(plain.double(), slope, atol=1e-5)


def double_log_prob(made: GraphModel, pairs: Tensor) -> Tensor:
    """As `log_prob`, in double precision: a sum over the steps of each path by the definition."""
    found = []
    for root, end in pairs.tolist():
        fathers = made.trees.graph.fathers(np.array([root]))[0].tolist()
        path = [end]
        while path[-1] != root:
            path.append(fathers[path[-1]])
        steps = [(end, fathers[end]), *((above, below) for below, above in zip(path, path[1:]))]
        for at, to in steps:
            near = [u for u in made.trees.graph.neighbours(at).tolist() if fathers[u] == at or fathers[at] == u]
            logits = made.generator(torch.tensor([[at, u] for u in near]))[0]
            found.append(torch.log_softmax(logits, 0)[near.index(to)])
    return torch.stack(found)


def test_reinforce_has_the_gradient_of_the_expected_payment() -> None:
    """With many walks it points where the exact gradient of sum_v G(v|c) log(1 + e^d(c, v)) does, over the roots' ends."""
    made = model(seed=5)
    edges = torch.tensor(EDGES).repeat(4000, 1)
    turn = Turn(made.draw(edges, None, Noise(0)), "generator")
    loss, reward = o.reinforce().losses(turn)
    (estimate,) = torch.autograd.grad(loss.value, made.generator.vectors.weight)
    roots = torch.cat([torch.tensor(EDGES).flatten()])
    pairs = torch.stack([roots.repeat_interleave(10), torch.arange(10).repeat(len(roots))], 1)
    chances = made.log_prob(pairs).exp()
    paid = torch.nn.functional.softplus(made.discriminator(pairs)[0].detach())
    expected = (chances * paid).sum() / len(roots)
    (exact,) = torch.autograd.grad(-expected, made.generator.vectors.weight)
    expected = expected.detach()
    assert torch.cosine_similarity(estimate.flatten(), exact.flatten(), dim=0) > 0.99
    assert float(reward.value) == pytest.approx(float(expected), rel=0.02) and reward.weight == 0


@pytest.mark.parametrize("baseline", ["none", "mean"])
def test_reinforce_by_hand(baseline: str) -> None:
    made = model(seed=2)
    draw = made.draw(torch.tensor(EDGES), None, Noise(1))
    loss, _ = o.reinforce("minimax", baseline).losses(Turn(draw, "generator"))
    paid = torch.log1p(made.discriminator(draw.fake)[0].exp()).detach()
    usual = paid.mean() if baseline == "mean" else 0.0
    assert torch.allclose(loss.value, -(made.log_prob(draw.fake) * (paid - usual)).mean(), atol=1e-6)
    assert loss.moves == ("generator",) and not list(o.reinforce().losses(Turn(draw, "discriminator")))
    loss.value.backward()
    assert made.discriminator.vectors.weight.grad is None


def test_games_that_look_at_real_data_pay_nobody() -> None:
    with pytest.raises(UsageError, match="minimax, non-saturating, least-squares, wasserstein, hinge, forward-kl"):
        o.reinforce("relativistic")
    with pytest.raises(UsageError, match="none, mean"):
        o.reinforce(baseline="median")


def test_a_draw_holds_the_same_edges_from_either_end_and_other_vertices() -> None:
    made, edges = model(), torch.tensor(EDGES).repeat(500, 1)
    draw = made.draw(edges, None, Noise(0))
    assert torch.equal(draw.x.sort(1).values, edges.sort(1).values)
    turned = (draw.x[:, 0] == edges[:, 1]).float().mean()
    assert 0.45 < turned < 0.55
    assert torch.equal(draw.fake[:, 0], draw.x[:, 0]) and (draw.fake[:, 0] != draw.fake[:, 1]).all()
    assert (draw.random[:, 0] != draw.random[:, 1]).all()
    mine = draw.random[draw.random[:, 0] == 2, 1]
    counts = torch.bincount(mine, minlength=10).float()
    assert counts[2] == 0 and ((counts - len(mine) / 9) ** 2 / (len(mine) / 9))[counts > 0].sum() < 26.1  # 8 degrees


def test_trees_never_change_and_no_held_out_edge_is_in_them() -> None:
    data = graphs.open("karate")
    torch.manual_seed(0)
    plan = recipes.plan("graphgan", data.spec, {"width": 4, "batch": 16, "negatives": "mixed"})
    graph = plan.model.trees.graph
    before = graph.all_fathers.copy()
    trainer = Trainer(plan, data.train, 30)
    for _ in trainer.run():
        pass
    held = plan.model.trees.held.numpy()
    assert (held == before).all() and (held == graph.fathers(np.arange(34))).all()
    hidden = torch.cat([split.x[split.c == 1] for split in (data.validation, data.test)]).tolist()
    positives = {tuple(sorted(edge)) for edge in data.train.x.tolist()}
    assert positives == {tuple(sorted(edge)) for edge in graph.edges.tolist()}
    for a, b in hidden:
        assert (min(a, b), max(a, b)) not in positives and (a, b) not in graph
        assert (held[:, a] != b).all() and (held[:, b] != a).all(), "nobody's father by a held-out edge"


def test_both_networks_begin_with_the_vectors_of_deepwalk() -> None:
    from amalgan.networks.graphs import netmf

    data = graphs.open("karate")
    plan = recipes.plan("graphgan", data.spec, {"width": 4, "batch": 16})
    Trainer(plan, data.train, 1)._begin()
    expected = netmf(plan.model.trees.graph, 4)
    assert torch.equal(plan.model.generator.vectors.weight, expected) and expected.abs().max() > 0.1
    assert torch.equal(plan.model.discriminator.vectors.weight, expected)


def test_links_of_a_seed_are_the_same_for_any_number_and_follow_the_model() -> None:
    for made in (model(), GraphModel(spec(), model().discriminator)):
        links = made.sample(300, 4)
        assert torch.equal(made.sample(7, 4), links[:7]) and not torch.equal(made.sample(300, 5), links)
        assert (links[:, 0] != links[:, 1]).all() and 9 not in links[:, 0]
        many = made.sample(8000, 0)
        mine = torch.bincount(many[many[:, 0] == 2, 1], minlength=10)
        chances = made.log_conditional(torch.stack([torch.full((10,), 2), torch.arange(10)], 1)).exp().detach()
        assert chances.sum() == pytest.approx(1, abs=1e-5) and chances[2] == 0
        expected = chances * mine.sum()
        kept = expected > 0
        assert (((mine - expected) ** 2 / expected)[kept]).sum() < 27.9 and not mine[~kept].any()  # 9 degrees


def test_likeliest_neighbours_are_the_most_probable_new_ones() -> None:
    made = model(seed=1)
    found, chances = made.likeliest(2, 3)
    expected = {v: p for v, p in by_hand(made, 2).items() if (2, v) not in made.trees.graph}
    best = sorted(expected, key=expected.__getitem__, reverse=True)[:3]
    assert found.tolist() == best and chances.tolist() == pytest.approx([expected[v] for v in best], rel=1e-5)
    known, _ = made.likeliest(2, 20, new=False)
    assert set(known.tolist()) == by_hand(made, 2).keys()
    assert made.likeliest(9, 3)[0].tolist() == [] and made.likeliest(7, 3)[0].tolist() == []


def test_line_learns_the_two_cliques() -> None:
    cliques = [(a + s, b + s) for s in (0, 8) for a in range(8) for b in range(a)]
    of = spec([*cliques, (0, 8)], 16)
    torch.manual_seed(0)
    plan = recipes.plan("line", of, {"width": 4, "batch": 16, "lr": 0.05, "start": "random"})
    trainer = Trainer(plan, Split(torch.tensor([*cliques, (0, 8)]), None), 200)
    for _ in trainer.run():
        pass
    scores = plan.model.discriminator(every_pair(16))[0].view(16, 16)
    assert scores[:8, :8].mean() > 1 > 0 > scores[1:8, 9:].mean()
