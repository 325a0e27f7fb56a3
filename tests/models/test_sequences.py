"""Sequences: probabilities that sum to 1, samplers by chi-square, payments and policy gradient against enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from amalgan import objectives as o
from amalgan.data import Spec
from amalgan.models.labelled import LabelledSequences
from amalgan.models.sequences import SequenceModel, pick
from amalgan.networks.conditions import Labels, Projected
from amalgan.networks.sequences import Reader, Writer
from amalgan.noise import Noise
from amalgan.objectives.core import Turn

V, T = 4, 3


def model(ends: bool, seed: int = 0, judged: bool = True) -> SequenceModel:
    torch.manual_seed(seed)
    spec = Spec("text", (T,), (), {"units": "words", "symbols": [*"abcd"], "ends": ends})
    reader = Reader(V, T, (1, 2, 3), (8, 8, 8), 6, dropped=0.0) if judged else None
    return SequenceModel(spec, Writer(V, 5, scale=1.0), reader)


def every(ends: bool) -> Tensor:
    """Every sequence that can be written, (n, T)."""
    found = torch.tensor(list(itertools.product(range(V), repeat=T)))
    if not ends:
        return found
    over = (found == 0).cumsum(1) - (found == 0).long() > 0
    return found[((found == 0) | ~over).all(1)]


@pytest.mark.parametrize("ends", [True, False])
def test_probabilities_of_all_sequences_sum_to_one(ends: bool) -> None:
    p = model(ends).token_log_probs(every(ends)).sum(1).exp().detach()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-5)
    assert len(p) == (4**3 if not ends else 1 + 3 + 9 + 27)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_have_the_models_probabilities(ends: bool, temperature: float) -> None:
    """Chi-square of 40,000 samples; 60 more than the degrees of freedom is a false alarm in a million runs."""
    made, known = model(ends), every(ends)
    with torch.no_grad():
        logits = made.generator(known) / temperature
    chosen = torch.log_softmax(logits, 2).gather(2, known.unsqueeze(2)).squeeze(2)
    p = (chosen * made.alive(known)).sum(1).exp().double().detach()
    drawn = made.sample(40_000, seed=3, temperature=temperature)
    base = torch.tensor([V**2, V, 1])
    index = {int(code): i for i, code in enumerate((known * base).sum(1))}
    counts = torch.bincount(torch.tensor([index[int(code)] for code in (drawn * base).sum(1)]), minlength=len(p))
    expected = 40_000 * p
    big = expected > 5
    square = ((counts[big] - expected[big]) ** 2 / expected[big]).sum()
    assert float(square) < int(big.sum()) + 60


def test_a_sample_is_the_same_for_any_n_and_goes_on_from_its_prefix() -> None:
    made = model(True)
    assert torch.equal(made.sample(300)[:7], made.sample(7))
    assert (made.sample(50, prefix=torch.tensor([2, 1]))[:, :2] == torch.tensor([2, 1])).all()
    assert not made.sample(50, prefix=torch.tensor([2, 0]))[:, 2].any()  # ended: nothing follows


def test_picking_is_the_inverse_of_the_cumulative_distribution() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.0, 0.7]])).expand(6, -1)
    chosen = pick(logits, torch.tensor([0.0, 0.0999, 0.11, 0.29, 0.31, 1.0]))
    assert chosen.tolist() == [0, 0, 1, 1, 3, 3]


def payments_by_enumeration(made: SequenceModel, tokens: Tensor, ends: bool) -> Tensor:
    """Q (B, T): sum over all completions of their probability times the judgement."""
    known = every(ends)
    log_p, judged = made.token_log_probs(known), made.judge(known)
    q = torch.zeros(tokens.shape)
    for b, t in itertools.product(range(len(tokens)), range(T)):
        same = (known[:, : t + 1] == tokens[b, : t + 1]).all(1)
        p = log_p[same, t + 1 :].sum(1).exp()
        q[b, t] = (p * judged[same]).sum() / p.sum()
    return q


@pytest.mark.parametrize("ends", [True, False])
def test_payments_are_what_enumeration_says(ends: bool) -> None:
    """5 standard errors of 4,000 completions of judgements in [0, 1]."""
    made = model(ends)
    tokens, rollouts = every(ends)[::5], 4000
    uniform = torch.rand(len(tokens), T - 1, rollouts, T, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = made.action_values(tokens, uniform), payments_by_enumeration(made, tokens, ends)
    assert (found - expected).abs().max() < 5 * 0.5 / rollouts**0.5
    assert torch.allclose(found[:, -1], expected[:, -1], atol=1e-6)  # the whole line is judged itself
    assert (found.std(1) > 1e-4).any(), "what a token is worth depends on its place"


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["none", "mean"])
def test_the_policy_gradient_is_that_of_the_expected_judgement(baseline: str) -> None:
    """Against the exact gradient of sum_x p(x) D(x), by enumeration."""
    made = model(True)
    with torch.no_grad():
        made.discriminator.verdict.weight *= (
            10  # judgements that differ, or the noise is larger than what is looked for
        )
    known = every(True)
    exact = torch.autograd.grad(
        -(made.token_log_probs(known).sum(1).exp() * made.judge(known)).sum(), made.networks["generator"]
    )
    objective, total = o.policy_gradient(rollouts=4, baseline=baseline), [torch.zeros_like(g) for g in exact]
    for step in range(100):
        draw = made.draw(torch.zeros(1000, T, dtype=torch.long), None, Noise(0, step))
        policy, reward = objective.losses(Turn(draw, "generator"))
        assert policy.moves == ("generator",) and reward.weight == 0
        for sum_, g in zip(total, torch.autograd.grad(policy.value, made.networks["generator"])):
            sum_ += g / 100
    ours, theirs = (torch.cat([g.flatten() for g in side]) for side in (total, exact))
    assert float(torch.cosine_similarity(ours, theirs, 0)) > 0.99
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1.0, abs=0.1)


def test_the_policy_that_completes_follows_at_its_own_pace() -> None:
    made = model(True)
    start = [p.clone() for p in made.generator.parameters()]
    uniform = torch.rand(4, T - 1, 2, T)
    made.action_values(every(True)[:4], uniform, follow=0.8)  # begins as the writer is
    assert all(torch.equal(a, b) for a, b in zip(made.rollout.parameters(), start))
    with torch.no_grad():
        for p in made.generator.parameters():
            p.add_(1.0)
    made.action_values(every(True)[:4], uniform, follow=0.8)
    assert all(torch.allclose(a, b + 0.2, atol=1e-6) for a, b in zip(made.rollout.parameters(), start))
    made.action_values(every(True)[:4], uniform, follow=0.0)
    assert all(torch.allclose(a, b) for a, b in zip(made.rollout.parameters(), made.generator.parameters()))


def test_terms_move_what_they_say() -> None:
    made = model(True)
    draw = made.draw(every(True)[:6], None, Noise(0, 0))
    asked = {
        (type(objective).__name__, player): [loss.moves for loss in objective.losses(Turn(draw, player))]
        for objective in (o.likelihood(), o.judge(), o.policy_gradient(2))
        for player in ("generator", "discriminator")
    }
    assert asked == {
        ("Likelihood", "generator"): [("generator",)],
        ("Likelihood", "discriminator"): [],
        ("Judge", "generator"): [],
        ("Judge", "discriminator"): [("discriminator",)],
        ("PolicyGradient", "generator"): [("generator",), ("generator",)],
        ("PolicyGradient", "discriminator"): [],
    }
    assert float(next(iter(o.likelihood().losses(Turn(draw, "generator")))).value.detach()) == pytest.approx(
        -float(draw.log_likelihood.mean().detach())
    )


def test_what_stands_after_the_end_counts_nothing() -> None:
    made = model(True)
    some = torch.tensor([[2, 0, 0], [0, 0, 0], [1, 2, 3]])
    log_p = made.token_log_probs(some)
    assert (log_p == 0).tolist() == [[False, False, True], [False, True, True], [False, False, False]]


def labelled(ends: bool = True) -> LabelledSequences:
    torch.manual_seed(0)
    spec = Spec("text", (T,), ("a", "b"), {"units": "words", "symbols": [*"abcd"], "ends": ends})
    reader = Projected(Reader(V, T, (1, 2, 3), (8, 8, 8), 6, dropped=0.0), Labels(2, 24))
    torch.nn.init.normal_(reader.embedding.vectors.weight)
    return LabelledSequences(spec, Writer(V, 5, scale=1.0, classes=2), reader, hidden=0.5)


def test_each_label_has_a_distribution_of_its_own() -> None:
    """Sums to one for each label and for none; samples have it, in whatever order labels are asked for."""
    made, known = labelled(), every(True)
    p = {}
    for label in (0, 1, -1):
        with torch.no_grad():
            p[label] = made.given(torch.full((len(known),), label)).token_log_probs(known).sum(1).exp().double()
        assert float(p[label].sum()) == pytest.approx(1, abs=1e-5)
    assert (p[0] - p[1]).abs().sum() > 0.1 and (p[0] - p[-1]).abs().sum() > 0.1
    with torch.no_grad():
        assert torch.equal(p[-1], made.token_log_probs(known).sum(1).exp().double())  # told nothing: unknown
    c = torch.arange(30_000) % 3 - 1
    drawn = made.sample(len(c), seed=3, c=c)
    base = torch.tensor([V**2, V, 1])
    index = {int(code): i for i, code in enumerate((known * base).sum(1))}
    for label in (0, 1, -1):
        codes = (drawn[c == label] * base).sum(1).tolist()
        counts = torch.bincount(torch.tensor([index[code] for code in codes]), minlength=len(known))
        expected = 10_000 * p[label]
        big = expected > 5
        assert float(((counts[big] - expected[big]) ** 2 / expected[big]).sum()) < int(big.sum()) + 60
    assert torch.equal(made.sample(3, 1), made.sample(300, 1)[:3])


def test_what_a_token_was_worth_is_told_with_its_own_label() -> None:
    """Payments, against an exact expectation over completions of the sequence's own label."""
    made, rollouts = labelled(ends=False), 4000
    tokens, c = torch.tensor([[1, 2, 3], [1, 2, 3], [2, 0, 1]]), torch.tensor([0, 1, 1])
    view = made.given(c)
    paid = view.action_values(tokens, torch.rand(3, T - 1, rollouts, T, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        for row, (line, label) in enumerate(zip(tokens, c.tolist())):
            own = made.given(torch.tensor([label]))
            ends = torch.stack([torch.cat([line[:2], torch.tensor([v])]) for v in range(V)])
            p = own.token_log_probs(ends)[:, 2].exp()
            assert float(paid[row, 1]) == pytest.approx(float((p * own.judge(ends)).sum()), abs=0.02)
            assert float(paid[row, 2]) == pytest.approx(float(own.judge(line[None])), abs=1e-6)
    assert abs(float(paid[0, 2] - paid[1, 2])) > 1e-3  # the same line, worth something else by its label
    many = view.judge(tokens.repeat(2000, 1)).view(2000, 3)  # more than are judged at once, in batches of three
    assert torch.allclose(many, many[:1].expand_as(many), atol=1e-6)


def test_some_labels_are_hidden_in_training() -> None:
    made = labelled()
    x, c = torch.ones(400, T, dtype=torch.int64), torch.arange(400) % 2
    told = made.train().draw(x, c, Noise(0)).c
    assert 0.4 < float((told < 0).float().mean()) < 0.6 and torch.equal(told[told >= 0], c[told >= 0])
    assert torch.equal(made.eval().draw(x, c, Noise(0)).c, c)
    assert (made.draw(x, None, Noise(0)).c == -1).all()
