"""Imitation: advantages and the clipped loss by hand, forms of payment, and what an external score does to a writer."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from amalgan import objectives as o
from amalgan import recipes
from amalgan.data import Spec
from amalgan.data import control as data
from amalgan.data.core import Split
from amalgan.models.sequences import SequenceModel
from amalgan.networks.sequences import Writer
from amalgan.noise import Noise
from amalgan.objectives.core import Turn
from amalgan.objectives.imitation import REWARDS, clipped, gae
from amalgan.training import Plan, Trainer

T = 5
DETAILS = {**data.open("point-mass", demonstrations=3).spec.details, "horizon": T}
SPEC = Spec("control", (6,), (), DETAILS)


@pytest.mark.parametrize("discount, trace", [(0.99, 0.95), (0.9, 1.0), (0.5, 0.0)])
def test_advantages_are_the_sums_of_the_equation(discount: float, trace: float) -> None:
    source = torch.Generator().manual_seed(0)
    paid, values = torch.randn(3, 6, generator=source), torch.randn(3, 7, generator=source)
    found = gae(paid, values, discount, trace)
    for n in range(3):
        for t in range(6):
            by_hand = sum(
                (discount * trace) ** l * float(paid[n, t + l] + discount * values[n, t + l + 1] - values[n, t + l])
                for l in range(6 - t)
            )
            assert float(found[n, t]) == pytest.approx(by_hand, abs=1e-5)
    # with trace 1: what was paid, and at the time limit the last value, less what was expected
    whole = sum(discount**l * paid[:, l] for l in range(6)) + discount**6 * values[:, 6] - values[:, 0]
    assert torch.allclose(gae(paid, values, discount, 1.0)[:, 0], whole, atol=1e-5)


@pytest.mark.parametrize(
    "ratio, advantage, loss",
    [(1.0, 2.0, -2.0), (1.5, 2.0, -2.4), (0.5, 2.0, -1.0), (1.5, -2.0, 3.0), (0.5, -2.0, 1.6), (1.1, -1.0, 1.1)],
)
def test_the_clipped_loss_by_hand(ratio: float, advantage: float, loss: float) -> None:
    assert float(clipped(torch.tensor(ratio), torch.tensor(advantage), 0.2)) == pytest.approx(loss)


LOGITS = [-3.0, -0.5, 0.0, 2.0]
FORMS: dict[str, Callable[[float], float]] = {  # of D = sigmoid(logit), the probability of a demonstration
    "softplus": lambda D: -math.log(1 - D),
    "negative": lambda D: math.log(D),
    "logit": lambda D: math.log(D) - math.log(1 - D),
    "constant": lambda D: 1.0,
}


@pytest.mark.parametrize("form", REWARDS)
def test_payments_are_their_formulas(form: str) -> None:
    expected = [FORMS[form](1 / (1 + math.exp(-logit))) for logit in LOGITS]
    assert REWARDS[form](torch.tensor(LOGITS)).tolist() == pytest.approx(expected, abs=1e-5)


def made(**arguments: float) -> Trainer:
    torch.manual_seed(3)
    small = {"width": 5, "batch": 8, "episodes": 4, "cloned": 0.0, **arguments}
    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    return Trainer(recipes.plan("gail", SPEC, small), Split(rows, None), 4, seed=2)


def test_at_ratio_one_the_gradient_is_the_policy_gradient() -> None:
    """The first step of the first pass: the policy that played is the one that learns."""
    trainer = made()
    model, draw = trainer.model, trainer._draw(0)
    policy, *_ = next(o.imitation(discount=0.9, trace=0.8, parts=1, entropy=0.0).rounds(Turn(draw, "generator")))
    ours = torch.autograd.grad(policy.value, trainer.networks["generator"])

    play = draw.play
    with torch.no_grad():
        logits = model.discriminator(play.pairs.flatten(0, 1))[0].view(4, T)
        values = model.value(play.observations)
        worth = gae(0.1 * torch.nn.functional.softplus(logits), values, 0.9, 0.8)
        worth = (worth - worth.mean()) / worth.std(correction=0)
    log_p = model.generator.log_prob(model.generator(play.observations[:, :-1]), play.actions)
    theirs = torch.autograd.grad(-(worth * log_p).mean(), trainer.networks["generator"])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(ours, theirs))
    assert max(float(g.abs().max()) for g in theirs) > 1e-3


def test_rounds_are_passes_over_parts_that_miss_nothing() -> None:
    trainer = made()
    draw, term = trainer._draw(0), o.imitation(epochs=3, parts=2)
    rounds = list(term.rounds(Turn(draw, "generator")))
    assert len(rounds) == 6 and not list(term.rounds(Turn(draw, "discriminator")))
    assert [loss.name for loss in rounds[0]] == ["policy", "entropy", "value", "reward", "return"]
    assert [loss.name for loss in rounds[1]] == ["policy", "entropy", "value"]
    assert {loss.name: loss.moves for loss in rounds[0]}["value"] == ("value",)
    parts = list(term._moments(draw))  # type: ignore[attr-defined]
    for first, second in zip(parts[::2], parts[1::2]):
        assert torch.equal(torch.cat([first, second], 1).sort(1).values, torch.arange(T).expand(4, T))
    assert not torch.equal(parts[0], parts[2])


def test_watched_imitation_moves_nothing() -> None:
    """Law 1: cloning() + 0 * imitation() trains the policy bit for bit as cloning() does."""

    def weights(objective: o.Objective) -> list[Tensor]:
        trainer = made()
        trainer.plan = Plan(**{**vars(trainer.plan), "stages": [(objective, 1.0)]})
        for _ in trainer.run():
            pass
        return [p.detach().clone() for name in ("generator", "value") for p in trainer.networks[name]]

    plain, watched, played = (
        weights(x) for x in (o.cloning(), o.cloning() + 0 * o.imitation(), o.cloning() + o.imitation())
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, watched))
    assert not any(torch.equal(a, b) for a, b in zip(plain, played))


def test_where_nothing_can_be_done_nothing_is_learned_about_doing() -> None:
    trainer = made()
    draw = trainer._draw(0)
    draw.play = type(draw.play)(**{**vars(draw.play), "alive": torch.zeros(4, T, dtype=torch.bool)})
    losses = next(o.imitation(parts=1).rounds(Turn(draw, "generator")))
    found = {loss.name: float(loss.value.detach()) for loss in losses}
    assert found["policy"] == found["entropy"] == 0 < found["value"]
    assert not draw.play.pairs[:, :, 4:].any(), "what is done there is nothing"


# The same idea for a writer: an external score


WORDS = Spec("text", (3,), (), {"units": "words", "symbols": [*"abc"], "ends": False})


def writer() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(WORDS, Writer(3, 4, scale=1.0))


def share_of_b(tokens: Tensor) -> Tensor:
    return (tokens == 1).float().mean(1)


@pytest.mark.parametrize("baseline", ["none", "mean"])
def test_the_gradient_of_a_score_is_that_of_its_expectation(baseline: str) -> None:
    """Against sum_x p(x) f(x) over all 27 lines."""
    model = writer()
    known = torch.cartesian_prod(*[torch.arange(3)] * 3)
    parameters = model.networks["generator"]
    exact = torch.autograd.grad(-(model.token_log_probs(known).sum(1).exp() * share_of_b(known)).sum(), parameters)
    total = [torch.zeros_like(g) for g in exact]
    for step in range(30):
        draw = model.draw(torch.zeros(2000, 3, dtype=torch.long), None, Noise(0, step))
        steer, score = o.reward(share_of_b, baseline).losses(Turn(draw, "generator"))
        assert score.weight == 0 and float(score.value) == pytest.approx(float(share_of_b(draw.fake).mean()))
        for sum_, g in zip(total, torch.autograd.grad(steer.value, parameters)):
            sum_ += g / 30
    ours, theirs = (torch.cat([g.flatten() for g in side]) for side in (total, exact))
    assert float(torch.cosine_similarity(ours, theirs, 0)) > 0.99
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1.0, abs=0.1)


def test_a_writer_learns_what_it_is_paid_for() -> None:
    lines = torch.randint(0, 3, (200, 3), generator=torch.Generator().manual_seed(0))
    found = {}
    for weight in (0.0, 3.0):
        model = writer()
        plan = Plan(model, [(o.likelihood() + weight * o.reward(share_of_b), 1.0)], {"generator": 0.03},
                    {"generator": (0.9, 0.999)}, batch=64, ema=0)  # fmt: skip
        for _ in Trainer(plan, Split(lines, None), 120, seed=1).run():
            pass
        found[weight] = float(share_of_b(model.sample(1000)).mean())
    assert found[0.0] == pytest.approx(1 / 3, abs=0.06) and found[3.0] > 0.6


def test_words_that_nobody_knows_are_refused() -> None:
    from amalgan.errors import UsageError

    with pytest.raises(UsageError, match="softplus"):
        o.imitation("generous")
