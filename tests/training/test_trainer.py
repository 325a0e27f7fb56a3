"""The trainer: order, turns, stages, schedules, averages, Adam, divergence, and going on where it stopped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from amalgan import objectives as o
from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.objectives.core import Loss, Objective, Turn
from amalgan.training import Diverged, Plan, Trainer
from amalgan.training.trainer import SMALLEST, Order

POINTS = Spec("points", (2,))
X = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))


def plan(recipe: str = "vaegan", **arguments: Any) -> Plan:
    torch.manual_seed(1)
    return recipes.plan(recipe, POINTS, {"latent": 2, "width": 16, "batch": 8, **arguments})


def trainer(of: Plan | None = None, steps: int = 10, **arguments: Any) -> Trainer:
    return Trainer(of or plan(), Split(X, None), steps, seed=2, **arguments)


def test_numbers_that_are_not_normal_are_zero_in_a_step_and_nowhere_else() -> None:
    class Seen(Split):
        def batch(self, *arguments: Any) -> Any:
            halves.append(SMALLEST / 2)
            return super().batch(*arguments)

    halves: list[float] = []
    made = Trainer(plan("vae"), Seen(X, None), 10)
    made.step()
    made.step()
    assert halves == [0.0, 0.0]
    assert SMALLEST / 2 > 0


# Order


@given(st.integers(1, 60), st.integers(1, 150), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_example_once_an_epoch(count: int, batch: int, seed: int) -> None:
    order = Order(count, batch, seed)
    epochs = 3
    draws = [order(draw) for draw in range(math.ceil(epochs * count / batch))]
    assert all(len(draw) == batch for draw in draws)
    shown = torch.cat(draws)[: epochs * count].view(epochs, count)
    assert all(torch.equal(epoch.sort().values, torch.arange(count)) for epoch in shown)


def test_order_is_a_function_of_seed_and_draw() -> None:
    order = Order(50, 8, 0)
    forward = [order(draw) for draw in range(30)]
    anew = Order(50, 8, 0)
    assert all(torch.equal(anew(draw), forward[draw]) for draw in (29, 3, 17, 0))
    assert not torch.equal(Order(50, 8, 1)(0), forward[0])
    whole = torch.cat(forward)
    assert not torch.equal(whole[:50], whole[50:100])  # epochs are permutations of their own


# Turns


class Recorder(Objective):
    """Asks for a tiny, finite thing and writes down whose turn it was on which data."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, int, float]] = []
        self.seen: list[Tensor] = []

    def losses(self, turn: Turn) -> Iterator[Loss]:
        self.turns.append((turn.player, turn.step, turn.progress))
        self.seen.append(turn.draw.x)
        yield Loss("tiny", 1e-3 * turn.draw.model.decoder(turn.draw.x).square().mean(), ("decoder",))


def test_the_discriminator_moves_first_on_the_same_draw() -> None:
    recorder = Recorder()
    made = trainer(replace(plan(), stages=[(recorder, 1.0)]))
    made.step()
    assert [player for player, _, _ in recorder.turns] == ["discriminator", "generator"]
    assert recorder.seen[0] is recorder.seen[1]


@pytest.mark.parametrize("critic_steps", [1, 2, 5])
def test_critic_steps_take_fresh_draws_and_share_the_last(critic_steps: int) -> None:
    recorder = Recorder()
    made = trainer(replace(plan(critic_steps=critic_steps), stages=[(recorder, 1.0)]))
    for _ in range(2):
        made.step()
    a_step = ["discriminator"] * critic_steps + ["generator"]
    assert [player for player, _, _ in recorder.turns] == 2 * a_step
    draws = recorder.seen[:critic_steps]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(draws))
    assert recorder.seen[critic_steps] is draws[-1]
    order = Order(50, 8, 2)  # 2 k draws, one after the other, none twice and none left out
    shown = [x for (player, _, _), x in zip(recorder.turns, recorder.seen) if player == "discriminator"]
    assert all(torch.equal(x, X[order(number)]) for number, x in enumerate(shown))


# Stages and schedules


def test_stages_last_as_long_as_they_say() -> None:
    a, b, c = Recorder(), Recorder(), Recorder()
    made = trainer(replace(plan(), stages=[(a, 0.2), (b, 0.5), (c, 0.3)]), steps=10)
    for _ in made.run():
        pass
    counts = [len(r.turns) // 2 for r in (a, b, c)]
    assert counts == [2, 5, 3]
    progress = [p for player, _, p in b.turns if player == "generator"]
    assert progress == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


def test_a_stage_may_come_twice() -> None:
    a, b = Recorder(), Recorder()
    made = trainer(replace(plan(), stages=[(a, 0.25), (b, 0.5), (a, 0.25)]), steps=8)
    for _ in made.run():
        pass
    assert [step for player, step, _ in a.turns if player == "generator"] == [0, 1, 6, 7]
    assert [step for player, step, _ in b.turns if player == "generator"] == [2, 3, 4, 5]
    assert all(0 <= p < 1 for _, _, p in a.turns + b.turns)


@given(st.integers(1, 60), st.lists(st.integers(1, 9), min_size=1, max_size=4))
@settings(deadline=None)
def test_every_step_has_a_stage_and_stages_never_go_back(steps: int, parts: list[int]) -> None:
    made = object.__new__(Trainer)
    terms: list[Objective] = [Recorder() for _ in parts]
    made.plan = Plan(None, [(term, part / sum(parts)) for term, part in zip(terms, parts)], {}, {})
    made.steps = steps
    found = [made.stage(step) for step in range(steps)]
    places = [terms.index(objective) for objective, _ in found]
    assert places == sorted(places)
    assert all(-1e-9 <= progress <= 1 for _, progress in found)
    for place, part in enumerate(parts):
        assert abs(places.count(place) - steps * part / sum(parts)) < 1 + 1e-6


def test_learning_rates_may_be_schedules() -> None:
    made = trainer(replace(plan("vae"), lr={"encoder": 1e-3, "decoder": o.decay(1e-2)}), steps=4)
    seen = []
    for _ in made.run():
        seen.append([made.optimisers[name].param_groups[0]["lr"] for name in ("encoder", "decoder")])
    assert [lr for lr, _ in seen] == [1e-3] * 4
    assert [lr for _, lr in seen] == pytest.approx([1e-2 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)])


def test_a_weight_may_be_a_schedule() -> None:
    base = plan()
    made = trainer(replace(base, stages=[(o.vae(o.warm_up(4.0, share=0.5)), 1.0)]), steps=8)
    seen = []
    for _ in made.run():
        seen.append(made.signals.weights["kl"])
    assert seen == pytest.approx([0, 1, 2, 3, 4, 4, 4, 4])


# Steps


def test_a_step_is_adams() -> None:
    """Against the recurrence written out, in float64: m, v, their corrections, and the step."""
    made = trainer(plan("ae", lr=0.01))
    parameter = made.networks["decoder"][0]
    m = v = torch.zeros_like(parameter, dtype=torch.float64)
    expected = parameter.detach().double().clone()
    for t in range(1, 4):
        draw = made._draw(t - 1)
        (loss,) = o.ae().losses(Turn(draw, "generator"))
        (slope,) = torch.autograd.grad(loss.value, parameter)
        m, v = 0.5 * m + 0.5 * slope.double(), 0.99 * v + 0.01 * slope.double() ** 2
        expected -= 0.01 * (m / (1 - 0.5**t)) / ((v / (1 - 0.99**t)).sqrt() + 1e-8)
        made.step()
        assert torch.allclose(parameter.double(), expected, atol=1e-6)


def test_a_step_on_images_is_adams_whatever_the_memory_format() -> None:
    """The fused optimiser walks memory; weights, gradients and moments of convolutions must lie alike."""
    spec, x = Spec("images", (3, 8, 8)), torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)

    def ends(fused: bool) -> list[Tensor]:
        torch.manual_seed(1)
        of = recipes.plan("vaegan", spec, {"latent": 2, "width": 5, "batch": 8})
        made = Trainer(replace(of, precision="fp32"), Split(x, None), 3, seed=2)
        if not fused:
            made.optimisers = {
                name: torch.optim.Adam(parameters, lr=1.0, betas=of.betas[name], fused=False, foreach=False)
                for name, parameters in made.networks.items()
            }
        for _ in made.run():
            pass
        return [p.detach() for parameters in made.networks.values() for p in parameters]

    assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(ends(True), ends(False)))


def test_clipping_bounds_each_networks_gradient() -> None:
    norms: list[float] = []
    made = trainer(plan("vae", variance=1e-4), clip=0.5)
    for optimiser in made.optimisers.values():
        optimiser.register_step_pre_hook(
            lambda opt, *_: norms.append(
                float(torch.cat([p.grad.flatten() for group in opt.param_groups for p in group["params"]]).norm())
            )
        )
    made.step()
    assert len(norms) == 2 and all(norm == pytest.approx(0.5, rel=1e-3) for norm in norms)


# Averages


def test_the_moving_average_by_hand() -> None:
    made = trainer(plan("vae", ema=0.3))
    name, parameter = next((n, p) for n, p in made.model.named_parameters() if n.startswith("decoder"))
    expected = parameter.detach().clone()
    for step in range(5):
        made.step()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
        assert torch.allclose(made.average[name], expected, atol=1e-6)


def test_the_average_is_of_all_but_the_discriminator() -> None:
    made = trainer()
    assert made.average.keys() == {n for n in made.model.state_dict() if not n.startswith("discriminator")}
    assert trainer(plan(ema=0.0)).average == {}


def test_the_averaged_model_is_lent_and_given_back() -> None:
    made = trainer()
    for _ in range(3):
        made.step()
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    with made.averaged_model() as model:
        held = model.state_dict()
        assert all(torch.equal(held[name], value) for name, value in made.average.items())
        assert any(not torch.equal(held[name], before[name]) for name in made.average)
        assert not model.training  # where a network looks around in training, each example is made alone here
    assert made.model.training
    assert all(torch.equal(value, before[name]) for name, value in made.model.state_dict().items())
    kept = trainer()
    for _ in range(4):
        kept.step()
    made.step()  # training goes on as if nothing had been lent
    assert all(torch.equal(a, kept.model.state_dict()[n]) for n, a in made.model.state_dict().items())


# Signals and divergence


class Broken(Objective):
    """Not a number from a given step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player == "generator":
            value = turn.draw.model.decoder(turn.draw.x).square().mean()
            yield Loss("broken", value * (math.nan if turn.step >= self.step else 1.0), ("decoder",))


def test_divergence_names_term_network_and_step() -> None:
    made = trainer(replace(plan(), stages=[(o.vae() + Broken(3), 1.0)]))
    for _ in range(3):
        made.step()
    made.check()
    for _ in range(2):
        made.step()
    with pytest.raises(Diverged) as caught:
        made.check()
    message = str(caught.value)
    assert "'broken'" in message and "step 3" in message and "decoder" in message
    assert "discriminator" not in message and caught.value.exit_code == 1


def test_a_poisoned_weight_is_found_without_a_poisoned_term() -> None:
    made = trainer()
    made.step()
    with torch.no_grad():
        made.networks["encoder"][0][0, 0] = math.inf
    with pytest.raises(Diverged, match="weights of encoder"):
        made.check()


def test_signals_are_means_since_the_last_reading_unweighted() -> None:
    made = trainer(replace(plan("vae"), stages=[(0.0 * o.KL() + 7.0 * o.Reconstruction(), 1.0)]))
    by_hand: dict[str, list[float]] = {"kl": [], "reconstruction": []}
    for _ in range(3):
        draw = made._draw(made.step_count)
        by_hand["kl"].append(draw.posterior.kl().sum(1).mean().item())
        by_hand["reconstruction"].append(-draw.log_likelihood.mean().item())
        made.step()
    means = made.signals.read()
    assert means == {name: pytest.approx(sum(values) / 3, rel=1e-5) for name, values in by_hand.items()}
    assert made.signals.weights == {"kl": 0.0, "reconstruction": 7.0}
    made.step()
    assert made.signals.read()["kl"] != means["kl"]


# Going on


@pytest.mark.parametrize("form", ["joint", "learned", "two-stage"])
@pytest.mark.parametrize("stop", [1, 7])
def test_going_on_is_bit_identical_to_not_stopping(form: str, stop: int) -> None:
    """Law 5 on the trainer's state: stopped mid-epoch, between penalties, within a stage."""
    game = "minimax" if form == "learned" else "relativistic"
    arguments: dict[str, Any] = {"form": form, "critic_steps": 2, "gate": form == "learned", "game": game}
    whole = trainer(plan(**arguments))
    for _ in whole.run():
        pass
    first = trainer(plan(**arguments))
    for _ in first.run(until=stop):
        pass
    saved = {name: {k: v.clone() for k, v in group.items()} for name, group in first.state().items()}
    torch.manual_seed(99)
    second = Trainer(recipes.plan("vaegan", POINTS, {"latent": 2, "width": 16, "batch": 8, **arguments}),
                     Split(X, None), 10, seed=2)  # fmt: skip
    second.load_state(saved, stop)
    for _ in second.run():
        pass
    ours, theirs = second.state(), whole.state()
    assert ours.keys() == theirs.keys()
    for name, group in theirs.items():
        assert group.keys() == ours[name].keys()
        assert all(torch.equal(value, ours[name][k]) for k, value in group.items()), name
    assert second.signals.read() == whole.signals.read()
