"""The laws of the algebra, over every term, game and recipe.

    1  vae() + 0 * gan() trains encoder and decoder bit-identically to vae(), while the critic learns
    2  the gradient of a sum is the sum of the gradients, and a weight scales the generator's side alone
    3  a term that does not move a network gives it no gradient: exact zeros
    8  every option of every recipe changes something

Laws 4 (standalone pages), 6 (processes) and 7 (known values) are tested in test_standalone.py, training/, objectives/.
Gradients are taken by the trainer's own routing: its `_move` is replaced by one that keeps them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from amalgan import objectives as o
from amalgan import recipes, signatures
from amalgan.data import Spec, graphs
from amalgan.data.core import Split
from amalgan.noise import Noise
from amalgan.objectives.core import Loss, Objective, Turn
from amalgan.training import Plan, Trainer

IMAGES = Spec("images", (1, 8, 8), ("a", "b"))
LARGER = Spec("images", (1, 16, 16), ("a", "b"))  # the least that residual networks take
RESIDUAL = ("r3gan", "sagan")
POINTS = Spec("points", (2,), ("a", "b"))
TEXT = Spec("text", (6,), (), {"units": "words", "symbols": ["", "?", *"abcdef"], "ends": True})
LABELLED_TEXT = replace(TEXT, classes=("a", "b"))
KARATE = graphs.open("karate")
MASS = {"environment": "point-mass", "horizon": 6, "choices": 0, "low": [-1, -1], "high": [1, 1], "expert": None}
CONTROL = Spec("control", (6,), (), {**MASS, "mean": [0.0] * 4, "deviation": [1.0] * 4})
SERIES = Spec("series", (5, 2), ("a", "b"), {"changes": [0.4, 0.3]})
WAVES, SPECTRA = Spec("waves", (1, 300), ("a", "b")), Spec("spectra", (1, 16, 16), ("a", "b"))
SPECS = {"images": IMAGES, "points": POINTS}
SMALL: dict[str, Any] = {"latent": 3, "width": 4, "batch": 6}
ROOMY: dict[str, Any] = {**SMALL, "width": 16}  # for points: of 4 rectified units all may be dead
TINY: dict[str, Any] = {"width": 4, "batch": 6}
ARGUMENTS = {"images": SMALL, "points": ROOMY, "text": TINY, "series": SMALL, "edges": TINY, "control": TINY}
ARGUMENTS |= {"waves": SMALL, "spectra": SMALL}
# every recipe with every kind of data that it takes
KINDS = (*SPECS.values(), TEXT, LABELLED_TEXT, SERIES, KARATE.spec, CONTROL, WAVES, SPECTRA)
PAIRS = [(r, s) for r in recipes.RECIPES if r not in RESIDUAL for s in KINDS if s.modality in recipes.modality(r).names]
PAIRS += [(r, LARGER) for r in RESIDUAL]
Gradients = dict[str, list[Tensor]]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data(spec: Spec, count: int = 20) -> Split:
    source = torch.Generator().manual_seed(7)
    if spec.modality == "edges":
        return KARATE.train
    c = torch.arange(count) % len(spec.classes) if spec.classes else None
    if spec.modality == "text":
        return Split(torch.randint(0, len(spec.details["symbols"]), (count, *spec.shape), generator=source), c)
    if spec.modality == "series":
        return Split(torch.rand(count, *spec.shape, generator=source), c)
    if spec.modality == "waves":
        return Split(torch.randint(-9000, 9000, (count, *spec.shape), generator=source, dtype=torch.int16), c)
    if spec.modality in ("points", "control"):
        return Split(torch.randn(count, *spec.shape, generator=source), c)
    return Split(torch.randint(0, 256, (count, *spec.shape), generator=source, dtype=torch.uint8), c)


def trainer(recipe: str, spec: Spec, steps: int = 4, precision: str = "fp32", **arguments: Any) -> Trainer:
    torch.manual_seed(11)
    plan = recipes.plan(recipe, spec, {**ARGUMENTS[spec.modality], **arguments})
    return Trainer(replace(plan, precision=precision), data(spec), steps, seed=5)


def trained(recipe: str, spec: Spec, steps: int = 4, precision: str = "fp32", **arguments: Any) -> Trainer:
    made = trainer(recipe, spec, steps, precision, **arguments)
    for _ in made.run():
        pass
    return made


def weights(of: Trainer, network: str) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in of.networks[network]]


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(torch.equal(a, b) for a, b in zip(some, others))


def gradients(of: Trainer, objective: Objective, player: str, step: int = 0, progress: float = 0.0) -> Gradients:
    """What the trainer would hand to each network's optimiser on this turn; absent: that optimiser does not step."""
    model = of.model
    x, _ = of.split.batch(torch.arange(6))
    found: Gradients = {}

    def keep(name: str) -> None:
        found[name] = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in of.networks[name]]

    of._move = keep  # type: ignore[method-assign]
    for parameter in model.parameters():
        parameter.grad = None
    of._turn(objective, [Turn(model.draw(x, None, Noise(5, step)), player, step, progress)])
    for name, parameters in of.networks.items():
        if name not in found:
            assert all(p.grad is None for p in parameters), f"{name} got a gradient although nothing moves it"
        for parameter in parameters:
            parameter.grad = None
    return found


def flat(found: Gradients, network: str, like: Trainer) -> Tensor:
    """One vector; zeros where the network is not moved."""
    return torch.cat([g.flatten() for g in found.get(network, [torch.zeros_like(p) for p in like.networks[network]])])


# The family: every term there is, for both players. `moves` is what the table in the docs promises.

ENCODER, DECODER, BOTH, CRITIC = {"encoder"}, {"decoder"}, {"encoder", "decoder"}, {"discriminator"}
FAKES = ("reconstruction", "fake")
TURNS = ("discriminator", "generator")  # in this order: a gate decides on the first who plays on the second
TERMS: dict[
    str, tuple[Objective, set[str], set[str]]
] = {  # term, moved on the generator's turn, on the discriminator's
    "reconstruction": (o.Reconstruction(), BOTH, set()),
    "reconstruction-decoder": (o.Reconstruction(("decoder",)), DECODER, set()),
    "kl": (o.KL(), ENCODER, set()),  # of the networks it may move, the decoder is out of its reach
    "kl-free-bits": (o.KL(free_bits=1e-3, moves=("encoder",)), ENCODER, set()),
    "kl-weights": (o.KL(weights=(1.0, 0.5, 2.0), moves=("encoder",)), ENCODER, set()),
    "capacity": (o.Capacity(30.0), ENCODER, set()),
    "sampled-kl": (o.SampledKL(), ENCODER, set()),
    "balanced": (o.Balanced(o.gan("hinge", FAKES, ("encoder", "decoder"))), BOTH, CRITIC),
    "similarity": (o.Similarity(), BOTH, set()),
    "similarity-decoder": (o.Similarity(("decoder",)), DECODER, set()),
    "similarity-encoder": (o.Similarity(("encoder",)), ENCODER, set()),
    "r1": (o.ZeroCentred(3.0), set(), CRITIC),
    "r1-r2": (o.ZeroCentred(2.0, ("x", *FAKES)), set(), CRITIC),
    "gradient-penalty": (o.OneCentred(10.0), set(), CRITIC),
    "matching": (o.FeatureMatching(FAKES, ("encoder", "decoder")), BOTH, set()),
    "matching-decoder": (o.FeatureMatching(), DECODER, set()),
    "smoothed": (o.gan(o.smoothed("minimax", 0.2)), DECODER, CRITIC),
    "best": (o.gan("hinge", best=0.5), DECODER, CRITIC),
    "unrolled": (o.Unrolled(o.gan("non-saturating") + o.ZeroCentred(0.1), k=2, lr=0.01), DECODER, CRITIC),
    "equilibrium": (o.Equilibrium(o.gan("minimax")), DECODER, CRITIC),
    **{game: (o.gan(game), DECODER, CRITIC) for game in o.GAMES},
    **{f"{game}-on-both": (o.gan(game, FAKES, ("encoder", "decoder")), BOTH, CRITIC) for game in o.GAMES},
}


@pytest.fixture(scope="module", params=SPECS)
def stage(request: pytest.FixtureRequest) -> Trainer:
    """A vaegan's networks a few steps into training, so that neither player's gradient is nearly zero."""
    return trained("vaegan", SPECS[request.param], lr=1e-2)


# Law 1


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("game", o.GAMES)
@pytest.mark.parametrize("form", ["joint", "two-stage"])
def test_a_game_of_weight_zero_leaves_the_vae_bit_identical(spec: Spec, game: str, form: str) -> None:
    plain = trained("vae", spec, steps=3)
    arguments: dict[str, Any] = {"form": form, "lam": 0.0, "game": game}
    watched = trained("vaegan", spec, steps=3, **arguments)
    for network in ("encoder", "decoder"):
        assert same(weights(plain, network), weights(watched, network))
    start = trainer("vaegan", spec, **arguments)
    assert not same(weights(start, "discriminator"), weights(watched, "discriminator")), "the critic must learn"
    assert {k: v for k, v in plain.average.items()}.keys() == watched.average.keys()
    assert all(torch.equal(value, watched.average[name]) for name, value in plain.average.items())
    means, means_watched = plain.signals.read(), watched.signals.read()
    assert means == {name: means_watched[name] for name in means}
    assert "adversarial" in means_watched  # weight 0 means watch: the term is computed and logged
    assert watched.signals.weights["adversarial"] == 0.0


def test_until_a_game_counts_only_the_critic_learns_from_it() -> None:
    """A weight that rises late: up to there the VAE is bit-identical to one without, and then no longer."""
    torch.manual_seed(11)
    model = recipes.plan("vaegan", IMAGES, SMALL)
    late = o.vae() + o.warm_up(10.0, share=0.25, begin=0.5) * o.gan(
        "hinge", ("reconstruction",), ("encoder", "decoder")
    )
    ramped = Trainer(replace(model, stages=[(late, 1.0)], precision="fp32"), data(IMAGES), 8, seed=5)
    plain, start = trainer("vae", IMAGES, 8), weights(ramped, "discriminator")
    for until, alike in ((5, True), (8, False)):
        for made in (plain, ramped):
            for _ in made.run(until=until):
                pass
        assert all(same(weights(plain, n), weights(ramped, n)) == alike for n in ("encoder", "decoder"))
        assert not same(weights(ramped, "discriminator"), start)


@pytest.mark.parametrize(
    "extra",
    [{"gradient_penalty": 10.0}, {"r1": 0.0, "r2": 0.5}, {"lazy": 1}, {"sees": "samples"}, {"sees": "both"}],
)
def test_penalties_and_bf16_do_not_touch_the_vae_either(extra: dict[str, Any]) -> None:
    plain = trained("vae", IMAGES, steps=3, precision="bf16")
    watched = trained("vaegan", IMAGES, steps=3, precision="bf16", lam=0.0, **extra)
    for network in ("encoder", "decoder"):
        assert same(weights(plain, network), weights(watched, network))


@pytest.mark.parametrize("game", o.GAMES)
def test_a_game_of_weight_zero_leaves_the_recurrent_vae_bit_identical(game: str) -> None:
    plain, watched = trained("rvae", SERIES), trained("rvaegan", SERIES, lam=0.0, game=game)
    assert all(same(weights(plain, network), weights(watched, network)) for network in ("encoder", "decoder"))
    start, mixed = trainer("rvaegan", SERIES, game=game), trained("rvaegan", SERIES, game=game)
    assert not same(weights(start, "discriminator"), weights(watched, "discriminator")), "the critic must learn"
    assert not same(weights(plain, "decoder"), weights(mixed, "decoder"))


def test_one_tenth_is_not_zero() -> None:
    """The comparison of law 1 can fail."""
    plain, mixed = trained("vae", IMAGES, steps=2), trained("vaegan", IMAGES, steps=2, lam=0.1)
    assert not same(weights(plain, "decoder"), weights(mixed, "decoder"))


def test_a_watched_term_moves_nothing_even_when_it_is_not_a_number() -> None:
    """Weight 0 is not a product with 0: no NaN comes through, and no optimiser steps on zeros."""

    class Wild(Objective):
        def losses(self, turn: Turn) -> Iterator[Loss]:
            yield Loss("wild", turn.draw.raw.sum() * torch.nan, ("encoder", "decoder"))

    made = trainer("vaegan", IMAGES)
    made.plan = replace(
        made.plan, stages=[(0 * (o.KL(moves=("encoder",)) + Wild()) + o.Reconstruction(("decoder",)), 1)]
    )
    before = weights(made, "encoder")
    made._turn(made.stage(0)[0], [Turn(made._draw(0), "generator")])
    assert same(before, weights(made, "encoder")) and not made.optimisers["encoder"].state
    assert all(torch.isfinite(weight).all() for weight in weights(made, "decoder"))
    assert made.optimisers["decoder"].state


# A turn of several rounds


class Twice(Objective):
    """A term that owns its turn: two gradient steps, the second on what the first one left."""

    def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
        for _ in range(2 if turn.player == "generator" else 0):
            codes = turn.draw.model.encode(turn.draw.x)
            yield [Loss("codes", codes.square().sum(1).mean(), ("encoder",))]


def test_a_turn_of_two_rounds_is_two_turns_of_one() -> None:
    class Once(Twice):
        def rounds(self, turn: Turn) -> Iterator[list[Loss]]:
            yield from itertools.islice(super().rounds(turn), 1)

    of_two, of_one = trainer("vae", POINTS), trainer("vae", POINTS)
    of_two._turn(Twice(), [Turn(of_two._draw(0), "generator")])
    for _ in range(2):
        of_one._turn(Once(), [Turn(of_one._draw(0), "generator")])
    assert of_two.optimisers["encoder"].state_dict()["state"][0]["step"] == 2
    assert same(weights(of_two, "encoder"), weights(of_one, "encoder"))


def test_a_sum_asks_terms_of_one_round_in_the_first_alone() -> None:
    made = trainer("vae", POINTS)
    turn = Turn(made._draw(0), "generator")
    rounds = [[(loss.name, loss.weight) for loss in losses] for losses in (o.KL() + 0.5 * Twice()).rounds(turn)]
    assert rounds == [[("kl", 1.0), ("codes", 0.5)], [("codes", 0.5)]]


# Law 2


@pytest.fixture(scope="module")
def alone(stage: Trainer) -> dict[tuple[str, str], Gradients]:
    """Each term's gradients on each player's turn, taken once."""
    return {(name, player): gradients(stage, TERMS[name][0], player) for name in TERMS for player in TURNS}


@pytest.mark.parametrize("first", TERMS)
def test_the_gradient_of_a_sum_is_the_sum_of_the_gradients(
    stage: Trainer, alone: dict[tuple[str, str], Gradients], first: str
) -> None:
    names = list(TERMS)
    for second, player in itertools.product(names[names.index(first) :], TURNS):
        a, b = alone[first, player], alone[second, player]
        both = gradients(stage, TERMS[first][0] + TERMS[second][0], player)
        assert both.keys() == a.keys() | b.keys()
        for network in both:
            one, other = flat(a, network, stage), flat(b, network, stage)
            error = (flat(both, network, stage) - one - other).norm()
            assert error <= 2e-5 * (one.norm() + other.norm()), f"{second} on the {player}'s turn"


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("weight", [0.25, 3.0, 100.0])
def test_a_weight_scales_the_generators_side_and_leaves_the_discriminators(
    stage: Trainer, name: str, weight: float
) -> None:
    term = TERMS[name][0]
    plain, scaled = (gradients(stage, objective, "discriminator") for objective in (term, weight * term))
    assert plain.keys() == scaled.keys()
    assert all(same(plain[network], scaled[network]) for network in plain)
    plain, scaled = (gradients(stage, objective, "generator") for objective in (term, term * weight))
    assert plain.keys() == scaled.keys()
    for network in plain:
        expected = weight * flat(plain, network, stage)
        assert (flat(scaled, network, stage) - expected).norm() <= 2e-5 * expected.norm()


def test_weights_multiply_through_sums_and_schedules(stage: Trainer) -> None:
    inner = o.Reconstruction() + 2.0 * o.KL()
    objective = 3.0 * ((lambda progress: 1 - progress) * inner)
    x, _ = stage.split.batch(torch.arange(6))
    turn = Turn(stage.model.draw(x, None, Noise(0)), "generator", 0, 0.75)
    assert {loss.name: loss.weight for loss in objective.losses(turn)} == {"reconstruction": 0.75, "kl": 1.5}


# Law 3


@pytest.mark.parametrize("name", TERMS)
def test_a_term_moves_what_it_says_and_nothing_else(stage: Trainer, name: str) -> None:
    term, on_generator, on_discriminator = TERMS[name]
    for player, moved in zip(TURNS, (on_discriminator, on_generator)):
        found = gradients(stage, term, player)  # asserts exact absence for networks without a turn
        for network in stage.networks:
            size = flat(found, network, stage).abs().max()
            assert (size > 0) == (network in moved), f"{network} on the {player}'s turn: {size}"


@pytest.mark.parametrize("name", TERMS)
def test_a_step_with_one_term_leaves_the_other_networks_bit_identical(name: str) -> None:
    """The same on the weights after the optimisers: zero momentum, zero steps."""
    term, on_generator, on_discriminator = TERMS[name]
    made = trainer("vaegan", POINTS)
    made.plan = replace(made.plan, stages=[(term, 1.0)])
    before = {network: weights(made, network) for network in made.networks}
    made.step()
    for network in made.networks.keys() - on_generator - on_discriminator:
        assert same(before[network], weights(made, network))
        moments = [moment for state in made.optimisers[network].state.values() for moment in (state["exp_avg"],)]
        assert all(not moment.any() for moment in moments)
    for network in on_generator | on_discriminator:
        assert not same(before[network], weights(made, network))


PLAYED = ("generator", "supervisor")
OF_TIMEGAN: dict[str, tuple[Objective, set[str], set[str]]] = {
    "recovery": (o.Recovery(), {"embedder", "recovery"}, set()),
    "supervision": (o.Supervision(), {"supervisor"}, set()),
    "predictability": (o.Supervision(("embedder",), rooted=False), {"embedder"}, set()),
    "moments": (o.Moments(), set(PLAYED), set()),
    "game": (o.Rest(o.gan("non-saturating", ("fake", "unsupervised"), PLAYED)), set(PLAYED), CRITIC),
    "resting": (o.Rest(o.gan("non-saturating", moves=PLAYED), below=9.0), set(PLAYED), set()),
}


@pytest.mark.parametrize("name", OF_TIMEGAN)
def test_a_term_of_timegan_moves_what_it_says_and_nothing_else(name: str) -> None:
    term, on_generator, on_discriminator = OF_TIMEGAN[name]
    made = trainer("timegan", SERIES)
    for player, moved in zip(TURNS, (on_discriminator, on_generator)):
        found = gradients(made, term, player)
        for network in made.networks:
            assert (flat(found, network, made).abs().max() > 0) == (network in moved), (network, player)


def by_hand(of: Trainer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """KL, similarity, generator's game (relativistic, both fakes) and z of the learned form, in plain torch."""
    model = of.model
    x, _ = of.split.batch(torch.arange(6))
    noise = Noise(5, 0)
    mu, log_variance = model.encoder(x).chunk(2, 1)
    z = mu + torch.exp(log_variance / 2) * noise("posterior", (6, 3))
    kl = 0.5 * (mu**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
    reconstruction, fake = model.decode(z), model.decode(noise("prior", (6, 3)))
    (real, real_features), (r, features), (f, _) = (model.discriminator(i) for i in (x, reconstruction, fake))
    similarity = 0.5 * (real_features - features).square().sum(1).mean()
    return kl, similarity, (softplus(real - r).mean() + softplus(real - f).mean()) / 2, z


@pytest.mark.parametrize("beta, gamma", [(1.0, 0.01), (0.3, 2.0)])
def test_routing_of_the_learned_form_is_larsens_table(stage: Trainer, beta: float, gamma: float) -> None:
    """encoder         beta KL + similarity            not the game
    decoder         gamma similarity + game         not the KL
    discriminator   the game                        not the similarity
    """
    spec = stage.model.spec
    ((objective, _),) = recipes.vaegan(
        spec, form="learned", sees="both", beta=beta, gamma=gamma, variance=1.0, r1=0, r2=0, **SMALL
    ).stages
    found = gradients(stage, objective, "generator")
    assert found.keys() == {"encoder", "decoder"}

    kl, similarity, game, _ = by_hand(stage)
    for network, demand in (("encoder", beta * kl + similarity), ("decoder", gamma * similarity + game)):
        expected = torch.autograd.grad(demand, stage.networks[network], retain_graph=True, materialize_grads=True)
        vector = torch.cat([g.flatten() for g in expected])
        assert (flat(found, network, stage) - vector).norm() <= 1e-5 * vector.norm()

    # term by term: the decoder's is gamma a + b; without the game the encoder's is the same, to the last bit
    a = gradients(stage, o.Similarity(("decoder",)), "generator")
    b = gradients(stage, o.gan(on=FAKES), "generator")
    assert a.keys() == b.keys() == {"decoder"}
    expected = gamma * flat(a, "decoder", stage) + flat(b, "decoder", stage)
    assert (flat(found, "decoder", stage) - expected).norm() <= 1e-5 * expected.norm()
    of_encoder = gradients(stage, beta * o.KL(moves=("encoder",)) + o.Similarity(("encoder",)), "generator")
    assert of_encoder.keys() == {"encoder"} and same(of_encoder["encoder"], found["encoder"])

    judged = gradients(stage, objective, "discriminator")
    game_alone = gradients(stage, o.gan(on=FAKES), "discriminator")
    assert judged.keys() == game_alone.keys() == CRITIC
    assert same(judged["discriminator"], game_alone["discriminator"])


@pytest.mark.parametrize("form", ["joint", "two-stage"])
def test_lambda_is_no_hidden_learning_rate_of_the_discriminator(stage: Trainer, form: str) -> None:
    steps = [
        gradients(stage, recipes.vaegan(stage.model.spec, form=form, lam=lam, **SMALL).stages[-1][0], "discriminator")
        for lam in (0.0, 1.0, 1e4)
    ]
    assert all(step.keys() == CRITIC and same(step["discriminator"], steps[0]["discriminator"]) for step in steps)


@pytest.mark.parametrize("recipe, spec", PAIRS, ids=[f"{recipe}-{spec.modality}" for recipe, spec in PAIRS])
def test_every_network_of_a_recipe_learns(recipe: str, spec: Spec) -> None:
    forms: list[dict[str, Any]] = [{}]
    if recipe == "vaegan":
        forms = [{"form": form} for form in get_args(recipes.Form)]
    for form in forms:
        start, end = trainer(recipe, spec, **form), trained(recipe, spec, 6, **form)  # steps in every stage
        for network in end.networks:
            assert not any(torch.equal(a, b) for a, b in zip(weights(start, network), weights(end, network)))
        assert all(torch.isfinite(torch.tensor(mean)) for mean in end.signals.read().values())


# Law 8: what an option must be set to, and beside what, to show. A recipe's new option fails until it has a case here.

LEARNED, TWO_STAGE = {"form": "learned"}, {"form": "two-stage"}
COMMON: dict[str, tuple[Any, dict[str, Any]]] = {
    "latent": (4, {}),
    "width": (5, {}),
    "lr": (1e-3, {}),
    "batch": (7, {}),
    "ema": (0.05, {}),
}
CODED: dict[str, tuple[Any, dict[str, Any]]] = {**COMMON, "likelihood": ("laplace", {}), "variance": (0.3, {})}
LABELS = {"condition": "labels"}
TOLD: dict[str, tuple[Any, dict[str, Any]]] = {
    "condition": ("labels", {}),
    "decoder_condition": ("modulation", LABELS),
    "hidden": (0.9, LABELS),
}
GAME: dict[str, tuple[Any, dict[str, Any]]] = {
    "game": ("hinge", {}),
    "r1": (0.1, {}),
    "r2": (0.1, {}),
    "gradient_penalty": (1.0, {}),
    "lazy": (1, {}),
    "critic_steps": (2, {}),
}
SHIELDED: dict[str, tuple[Any, dict[str, Any]]] = {
    **GAME,
    "ttur": (2.0, {}),
    "noise": (0.1, {}),
    "augment": ("fixed", {}),
    "pack": (2, {}),
    "deviation": (True, {}),
    "spectral": (True, {}),
    "discriminator_condition": ("concatenation", LABELS),
}
STRIDES = {name: {**GAME, **TOLD}[name] for name in ("gradient_penalty", "critic_steps", "condition", "hidden")}
CONDITIONAL = {name: TOLD[name] for name in ("condition", "hidden")}
CASES: dict[str, dict[str, tuple[Any, dict[str, Any]]]] = {
    "ae": {**CODED, **TOLD},
    "vae": {**CODED, **TOLD, "beta": (4.0, {}), "warm_up": (1.0, {}), "free_bits": (2.0, {}), "delta": (3.0, {})},
    "gan": {**COMMON, **TOLD, **SHIELDED, "decoder_condition": ("embedding", LABELS)},
    "vaegan": {
        **CODED,
        **TOLD,
        **SHIELDED,
        "form": ("learned", {}),
        "beta": (4.0, {}),
        "warm_up": (1.0, {}),
        "delta": (3.0, {}),
        "lam": (1.0, {}),
        "balance": (0.3, {}),
        "ramp": (0.4, {}),
        "gamma": (10.0, LEARNED),
        "sees": ("both", {}),
        "gate": (
            True,
            {**LEARNED, "game": "non-saturating", "lr": 0.1},
        ),  # at this rate someone wins clearly by the second step
        "share": (0.9, TWO_STAGE),
    },
    "aae": {
        **CODED,
        **CONDITIONAL,
        "lam": (1.0, {}),
        "game": ("hinge", {}),
        "r1": (0.1, {}),
        "lazy": (1, {}),
        "noisy": (True, {}),
    },
    "bigan": {**COMMON, **CONDITIONAL, **{name: GAME[name] for name in ("game", "r1", "r2", "lazy")}},
    "infogan": {
        **COMMON,
        **CONDITIONAL,
        **{name: GAME[name] for name in ("game", "r1", "r2", "lazy")},
        "codes": (1, {}),
        "information": (1.0, {}),
    },
    "cvaegan": {
        **CODED,
        **{name: GAME[name] for name in ("game", "r1", "r2", "lazy")},
        "beta": (4.0, {}),
        "lam": (1.0, {}),
        "matching": (3.0, {}),
        "hidden": (0.9, {}),
    },
    "r3gan": {
        **COMMON,
        "r1": (1.0, {}),
        "r2": (1.0, {}),
        "lazy": GAME["lazy"],
        **CONDITIONAL,
        "attention": ("paper", {}),
        "attention_at": (16, {"attention": "paper"}),
        "augment": ("fixed", {}),
        "checkpointed": (True, {}),
    },
    "sagan": {
        **COMMON,
        **CONDITIONAL,
        "attention": ("none", {}),
        "attention_at": (16, {}),
        "augment": ("fixed", {}),
        "ttur": (2.0, {}),
        "checkpointed": (True, {}),
    },
    "wavegan": {**COMMON, **STRIDES, "shuffle": (5, {})},
    "specgan": {**COMMON, **STRIDES},
    "cloning": {**{name: COMMON[name] for name in ("width", "batch", "ema")}, "lr": (1e-2, {})},
    "gail": {
        **{name: COMMON[name] for name in ("width", "batch", "ema")},
        "lr": (1e-2, {}),
        "reward": ("logit", {}),
        "cloned": (0.2, {}),
        "episodes": (3, {}),
        "epochs": (3, {}),
        "parts": (2, {}),
        "reach": (1e-3, {"policy_lr": 0.1}),
        "discount": (0.5, {}),
        "trace": (0.5, {}),
        "entropy": (0.1, {}),
        "gradient_penalty": (1.0, {}),
        "critic_steps": (2, {}),
        "policy_lr": (1e-2, {}),
        "value_lr": (1e-2, {}),
        "critic_lr": (1e-2, {}),
    },
    "mle": {name: COMMON[name] for name in ("width", "lr", "batch", "ema")},
    "seqgan": {
        **{name: COMMON[name] for name in ("width", "lr", "batch", "ema")},
        "reader": ("paper", {}),
        "dropout": (0.5, {}),
        "rollouts": (3, {}),
        "baseline": ("none", {}),
        "follow": (0.5, {"pretrain": 0.3}),
        "likelihood": (1.0, {}),
        "pretrain": (0.3, {}),
        "judging": (0.3, {"pretrain": 0.3}),
        "critic_steps": (2, {}),
        "policy_lr": (1e-2, {}),
        "critic_lr": (1e-2, {}),
    },
    "line": {**{name: COMMON[name] for name in ("width", "batch")}, "start": ("random", {}), "lr": (1e-2, {})},
    "graphgan": {
        **{name: COMMON[name] for name in ("width", "batch", "ema")},
        "start": ("random", {}),
        "negatives": ("mixed", {}),
        "baseline": ("none", {}),
        "lr": (1e-2, {}),
        "critic_lr": (1e-2, {}),
    },
    "rvae": {**CODED, "beta": (4.0, {}), "free_bits": (2.0, {})},
    "rgan": {**COMMON, **GAME, "common": (2, {}), "changes": (False, {})},
    "rvaegan": {**CODED, **GAME, "beta": (4.0, {}), "lam": (1.0, {}), "changes": (False, {})},
    "timegan": {
        **COMMON,
        "layers": (2, {}),
        "embedding": (0.5, {}),
        "supervision": (0.4, {}),
        "supervised": (1.0, {}),
        "moments": (1.0, {}),
        "rest": (9.0, {}),
        "generator_steps": (2, {}),
    },
}


SPARING = "checkpointed"  # the one option that must change nothing; tests/networks has what it spares
STAGED = ("seqgan", "timegan", "gail")  # stages of which some do nothing to a network


def test_every_option_has_a_case() -> None:
    assert {recipe: set(cases) for recipe, cases in CASES.items()} == {
        recipe: set(recipes.parameters(recipe)) for recipe in recipes.RECIPES
    }


OPTIONS = [
    (recipe, spec, option)
    for recipe, spec in PAIRS
    for option in CASES[recipe]
    if not (option == "augment" and spec.modality == "points")  # points are not augmented, and say so
]


QUICK = ("ae", "vae", "gan", "vaegan")  # of the others the laws of options are in the slow suite


def later(recipe: str) -> list[Any]:
    """The marks of a case of that recipe."""
    return [] if recipe in QUICK else [pytest.mark.slow]


@pytest.mark.parametrize(
    "recipe, spec, option",
    [pytest.param(*case, id=f"{case[1].modality}-{case[0]}-{case[2]}", marks=later(case[0])) for case in OPTIONS],
)
def test_every_option_changes_what_is_learned(recipe: str, option: str, spec: Spec) -> None:
    value, beside = CASES[recipe][option]
    default = {**SMALL, **beside}.get(option, recipes.parameters(recipe)[option].default)
    assert value != default
    steps = 10 if recipe in STAGED else 2  # some in every stage
    before, after = (trained(recipe, spec, steps, **{**beside, **set_to}) for set_to in ({}, {option: value}))
    if option == "ema":  # the one option that moves no weight
        some, others = list(before.average.values()), list(after.average.values())
    else:
        some, others = ([w for network in t.networks for w in weights(t, network)] for t in (before, after))
    assert same(some, others) == (option == SPARING)


WORDS = [
    (recipe, option, word)
    for recipe in recipes.RECIPES
    for option, parameter in recipes.parameters(recipe).items()
    for word in signatures.choices(recipes.RECIPES[recipe], parameter)
]


@pytest.mark.parametrize(
    "recipe, option", [pytest.param(*case, marks=later(case[0])) for case in sorted({word[:2] for word in WORDS})]
)
def test_every_word_is_a_thing_of_its_own(recipe: str, option: str) -> None:
    """Each of an option's words trains, and ends elsewhere than any other word of that option.

    At a rate at which logits leave [-1, 1] within these steps: inside, hinge and wasserstein are one game.
    """
    asked = dict.fromkeys(("decoder_condition", "discriminator_condition"), LABELS)
    beside = {"game": {"r1": 0, "r2": 0}, "augment": {"game": "hinge"}, **asked}.get(option, {})
    # states of an LSTM are small, and so are its first verdicts; its step sizes fall besides
    steps = 30 if recipe in ("rgan", "rvaegan", "cvaegan") else 10 if recipe in STAGED else 4
    ends: dict[str, list[Tensor]] = {}
    # adaptive augmentation begins with none, and takes thousands of examples to grow: tests/training has it
    for word in (w for r, o_, w in WORDS if (r, o_) == (recipe, option) and w != "adaptive"):
        spec = next(spec for name, spec in PAIRS if name == recipe)
        known = {name: value for name, value in beside.items() if name in recipes.parameters(recipe)}
        made = trained(recipe, spec, steps, lr=0.1, **{**known, option: word})
        made.check()
        ends[word] = [w for network in made.networks for w in weights(made, network)]
    for one, other in itertools.combinations(ends, 2):
        assert not same(ends[one], ends[other]), f"{one} and {other}"


def test_every_number_has_a_range_and_every_range_a_number() -> None:
    numbers = {
        name
        for recipe in recipes.RECIPES
        for name, parameter in recipes.parameters(recipe).items()
        if parameter.annotation in ("int", "float")
    }
    assert numbers == set(recipes.RANGES)


def test_games_on_the_shelf_are_those_in_the_signature() -> None:
    assert get_args(recipes.Game) == tuple(o.GAMES)


def test_a_plan_names_every_network_it_moves() -> None:
    for recipe, spec in PAIRS:
        plan: Plan = recipes.plan(recipe, spec, ARGUMENTS[spec.modality])
        assert plan.lr.keys() == plan.betas.keys() == plan.model.networks.keys()
        assert sum(share for _, share in plan.stages) == pytest.approx(1.0)
    two_stage = recipes.plan("vaegan", IMAGES, {**SMALL, "form": "two-stage", "share": 0.3})
    assert [share for _, share in two_stage.stages] == pytest.approx([0.3, 0.7])
