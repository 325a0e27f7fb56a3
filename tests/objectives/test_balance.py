"""The balance: the weight by hand, shares of real gradients, smoothing, going on exactly, and refusals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amalgan import objectives as o
from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.errors import UsageError
from amalgan.noise import Noise
from amalgan.objectives.core import Loss, Objective, Turn
from amalgan.training import Plan, Trainer

POINTS, IMAGES = Spec("points", (2,)), Spec("images", (1, 8, 8))
X = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))


class Pull(Objective):
    """A term whose gradient at the decoder is what it says: (a, b) at two parameters, None where it does not reach."""

    def __init__(self, a: float | None, b: float | None = None, moves: tuple[str, ...] = ("decoder",)) -> None:
        self.a, self.b, self.moves = a, b, moves

    def losses(self, turn: Turn) -> Iterator[Loss]:
        p, q = turn.draw.model.networks["decoder"]
        terms = [strength * parameter for strength, parameter in ((self.a, p), (self.b, q)) if strength is not None]
        yield Loss("pull", sum(terms[1:], terms[0]) if terms else torch.tensor(1.0), self.moves, weight=1.0)


class Two(nn.Module):
    """A decoder of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.p, self.q = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(0.7))
        self.networks = {"decoder": [self.p, self.q], "encoder": []}


def turn(model: nn.Module, step: int = 0, player: str = "generator", **more: Any) -> Turn:
    draw: Any = SimpleNamespace(model=model)
    return Turn(draw, player, step, **more)


def weight(term: Objective, at: Turn) -> float:
    (loss,) = term.losses(at)
    return loss.weight


def test_the_weight_is_the_share_of_the_ratio_of_lengths() -> None:
    """|(3, 4)| = 5 against |(0.5, 0)| = 0.5: ten times as long."""
    term = o.Balanced(Pull(0.5, 0.0), 0.3, Pull(3.0, 4.0), smooth=0)
    assert weight(term, turn(Two())) == pytest.approx(0.3 * 10, rel=1e-5)
    # a weight within counts as part of the pull: what comes out is the same pull
    doubled = o.Balanced(2 * Pull(0.5, 0.0), 0.3, Pull(3.0, 4.0), smooth=0)
    assert weight(doubled, turn(Two())) == pytest.approx(0.3 * 10, rel=1e-5)


def test_only_parameters_that_both_reach_are_compared() -> None:
    assert weight(o.Balanced(Pull(0.5), 1.0, Pull(3.0, 4.0)), turn(Two())) == pytest.approx(6.0, rel=1e-5)


def test_the_logarithm_is_averaged_the_latest_counting_most_and_only_now_and_then() -> None:
    model, by = Two(), Pull(1.0)
    pull = Pull(1 / 8)
    term = o.Balanced(pull, 1.0, by, every=4, smooth=0.9)
    assert weight(term, turn(model, 3)) == pytest.approx(8.0, rel=1e-5)  # nothing measured yet: at any step
    pull.a = 1 / 2
    assert weight(term, turn(model, 5)) == pytest.approx(8.0, rel=1e-5)  # between measurements
    expected = (0.09 * math.log(8) + 0.1 * math.log(2)) / 0.19
    assert weight(term, turn(model, 8)) == pytest.approx(math.exp(expected), rel=1e-5)
    # a pull that vanishes counts as the cap, and moves the logarithm by its share alone
    pull.a = 1e-9
    expected = (0.081 * math.log(8) + 0.09 * math.log(2) + 0.1 * math.log(1e6)) / 0.271
    assert weight(term, turn(model, 12)) == pytest.approx(math.exp(expected), rel=1e-4)


def test_the_cap() -> None:
    assert weight(o.Balanced(Pull(1e-6), 0.5, Pull(1.0), cap=100.0), turn(Two())) == pytest.approx(50, rel=1e-5)
    assert weight(o.Balanced(Pull(0.0), 0.5, Pull(1.0), cap=100.0), turn(Two())) == pytest.approx(50, rel=1e-5)
    assert weight(o.Balanced(Pull(1.0), 1.0, Pull(0.0), cap=100.0), turn(Two())) == pytest.approx(0.01, rel=1e-5)


def test_processes_go_by_the_gradient_of_the_whole_batch() -> None:
    """Ours pulls with 1, that of the other half with -0.5: the whole with 0.25."""

    def mean(gradients: Tensor) -> Tensor:
        others = gradients.clone()
        others[1] *= -0.5
        return (gradients + others) / 2

    assert weight(o.Balanced(Pull(1.0), 1.0, Pull(1.0)), turn(Two(), mean=mean)) == pytest.approx(4.0, rel=1e-5)


def test_the_discriminator_plays_at_full_strength_and_nothing_is_measured_on_its_turn() -> None:
    model = Two()
    assert weight(o.Balanced(Pull(0.5), 0.3, Pull(3.0)), turn(model, player="discriminator")) == 1.0
    assert not hasattr(model, "balance")


class Rounds(Objective):
    """Two gradient steps a turn."""

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        for strength in (0.5, 0.1):
            yield list(Pull(strength).losses(turn))


def test_rounds_are_all_weighted_by_what_the_first_shows() -> None:
    rounds = list(o.Balanced(Rounds(), 1.0, Pull(1.0), smooth=0).rounds(turn(Two())))
    assert [[loss.weight for loss in losses] for losses in rounds] == [[pytest.approx(2.0)], [pytest.approx(2.0)]]


@pytest.mark.parametrize(
    "inner, by", [(Pull(1.0, moves=("encoder",)), Pull(1.0)), (Pull(1.0), Pull(None, 1.0)), (Pull(1.0), 0 * Pull(1.0))]
)
def test_terms_that_do_not_meet_are_refused(inner: Objective, by: Objective) -> None:
    with pytest.raises(UsageError, match="write at="):
        weight(o.Balanced(inner, 1.0, by), turn(Two()))


def test_what_is_only_watched_is_not_measured() -> None:
    model = Two()
    assert weight(o.Balanced(0 * Pull(1.0), 1.0, Pull(1.0)), turn(model)) == 0.0 and not hasattr(model, "balance")


@pytest.mark.parametrize("wrong", [{"share": -1.0}, {"every": 0}, {"smooth": 1.0}, {"cap": 0.5}, {"share": math.nan}])
def test_numbers_outside_their_ranges_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        o.Balanced(o.gan(), **wrong)


def test_two_that_differ_need_two_names() -> None:
    """They would count each other's measurements; the same one twice, in two stages, goes on where it was."""
    spec = Spec("images", (1, 8, 8))
    model = recipes.plan("vaegan", spec, {"width": 4}).model
    first, game = o.Balanced(o.gan("hinge"), 0.1), o.gan("hinge")
    (o.vae() + first).remember(model)
    (o.vae() + o.Balanced(o.gan("hinge"), 0.1)).remember(model)
    with pytest.raises(UsageError, match="name"):
        (o.vae() + o.Balanced(game, 0.3)).remember(model)
    (o.vae() + o.Balanced(game, 0.3, name="second")).remember(model)
    assert {"balance", "second"} <= model.state_dict().keys()


def test_it_prints_as_it_is_written() -> None:
    objective = o.vae() + o.Balanced(o.gan("hinge"), share=0.3)
    written = "Reconstruction() + KL() + Balanced(inner=Adversarial(game='hinge'), share=0.3)"
    assert repr(objective) == written and repr(eval(written, vars(o))) == written


# On real networks


def plan(objective: Objective, spec: Spec = POINTS, **changes: Any) -> Plan:
    torch.manual_seed(1)
    small = {"latent": 2, "width": 16 if spec is POINTS else 4, "batch": 8}
    made = recipes.plan("vaegan", spec, {**small, **changes})
    return replace(made, stages=[(objective, 1.0)], precision="fp32")


def trainer(of: Plan, steps: int = 10) -> Trainer:
    x = X if of.model.spec is POINTS else torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Trainer(of, Split(x, None), steps, seed=2)


def length(model: Any, losses: list[Loss]) -> float:
    parameters = model.networks["decoder"]
    demand = sum(loss.weight * loss.value for loss in losses)
    slopes = torch.autograd.grad(demand, parameters, retain_graph=True, allow_unused=True)
    return float(torch.cat([slope.flatten() for slope in slopes if slope is not None]).norm())


@pytest.mark.parametrize("spec", [POINTS, IMAGES])
@pytest.mark.parametrize("game", o.GAMES)
@pytest.mark.parametrize("on", [("fake",), ("reconstruction",), ("reconstruction", "fake")])
def test_the_game_pulls_the_decoder_with_its_share(spec: Spec, game: str, on: tuple[str, ...]) -> None:
    term = o.Balanced(o.gan(game, on, ("encoder", "decoder")), 0.3, smooth=0)
    model = plan(o.vae() + term, spec).model
    x = torch.rand(8, *spec.shape, generator=torch.Generator().manual_seed(3))
    at = Turn(model.draw(x, None, Noise(0)), "generator")
    game_losses = list(term.losses(at))
    share = length(model, game_losses) / length(model, list(o.Reconstruction().losses(at)))
    assert share == pytest.approx(0.3, rel=1e-3)


def test_through_noise_and_gates_it_measures_as_well() -> None:
    term = o.InstanceNoise(o.Equilibrium(o.vae() + o.Balanced(o.gan("minimax"), 0.3)), 0.1)
    made = trainer(plan(term))
    for _ in made.run():
        pass
    assert made.signals.weights["adversarial"] > 0 and made.model.balance[1] > 0


def run(objective: Objective, steps: int = 6) -> Trainer:
    made = trainer(plan(objective), steps)
    for _ in made.run():
        pass
    return made


def same(one: Trainer, other: Trainer, *networks: str) -> bool:
    return all(
        torch.equal(a, b) for name in networks for a, b in zip(one.networks[name], other.networks[name], strict=True)
    )


def test_watched_it_leaves_the_vae_bit_identical() -> None:
    """Law 1: measuring touches no gradient."""
    plain = run(o.vae())
    for watched in (run(o.vae() + 0 * o.Balanced(o.gan())), run(o.vae() + o.Balanced(o.gan(), 0.0))):
        assert same(plain, watched, "encoder", "decoder") and not same(plain, watched, "discriminator")
        assert watched.signals.weights["adversarial"] == 0.0


@pytest.mark.parametrize("stop", [1, 5])
def test_going_on_is_bit_identical_to_not_stopping(stop: int) -> None:
    """Law 5: stopped at a measurement and between two, in a plan of two stages of which the second is balanced."""

    def made() -> Trainer:
        term = o.Balanced(o.gan(), 0.3, every=3)
        return trainer(replace(plan(o.vae()), stages=[(o.vae() + term, 0.4), (o.vae() + 0.5 * term, 0.6)]))

    whole, first, second = made(), made(), made()
    for _ in whole.run():
        pass
    for _ in first.run(until=stop):
        pass
    saved = {name: {k: v.clone() for k, v in group.items()} for name, group in first.state().items()}
    assert saved["model"]["balance"][1] > 0
    second.load_state(saved, stop)
    for _ in second.run():
        pass
    ours, theirs = second.state(), whole.state()
    assert all(torch.equal(value, ours[name][k]) for name, group in theirs.items() for k, value in group.items())


def test_the_balance_holds_while_training() -> None:
    """After 200 steps the smoothed weight keeps the game's pull within a factor of 2 of its share, in the mean."""
    made = trainer(plan(o.vae() + o.Balanced(o.gan("non-saturating", ("reconstruction",)), 0.3, every=4)), 400)
    shares = []
    for step in made.run():
        if step > 200 and step % 10 == 0:
            at = Turn(made.model.draw(X[:32], None, Noise(9, step)), "generator")
            game = list(o.gan("non-saturating", ("reconstruction",)).losses(at))
            weighted = made.signals.weights["adversarial"] * length(made.model, game)
            shares.append(weighted / length(made.model, list(o.Reconstruction().losses(at))))
    assert 0.15 < math.exp(sum(map(math.log, shares)) / len(shares)) < 0.6
