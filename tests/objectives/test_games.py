"""Every game by numbers worked out by hand, and the identity max V = -2 log 2 + 2 JSD."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from amalgan import objectives as o
from amalgan.errors import UsageError
from amalgan.noise import Noise
from amalgan.objectives.adversarial import Game, _mean_of_best
from amalgan.objectives.core import Turn

LOG2, LOG3, LOG4, LOG5 = (math.log(n) for n in (2, 3, 4, 5))


class Judge(nn.Module):
    """logits = input, features = (input, 2 input): verdicts can be read off the data."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.one * x, torch.stack([x, 2 * x], 1)


def turn(player: str, **fields: Any) -> Turn:
    draw = SimpleNamespace(model=SimpleNamespace(discriminator=Judge()), **fields)
    return Turn(draw, player)


def values(objective: o.Objective, player: str, **fields: Any) -> dict[str, float]:
    return {loss.name: loss.value.item() for loss in objective.losses(turn(player, **fields))}


# With r = log 3 and f = -log 4: e^r = 3, e^-r = 1/3, e^f = 1/4, e^-f = 4, e^(f - r) = 1/12, e^(r - f) = 12.
R, F = math.log(3), -math.log(4)
BY_HAND: dict[str, tuple[float, float]] = {  # discriminator, generator
    "minimax": (math.log(4 / 3) + math.log(5 / 4), -math.log(5 / 4)),
    "non-saturating": (math.log(4 / 3) + math.log(5 / 4), math.log(5)),
    "least-squares": (((LOG3 - 1) ** 2 + LOG4**2) / 2, (LOG4 + 1) ** 2 / 2),
    "wasserstein": (-LOG4 - LOG3, LOG4),
    "hinge": (0.0, LOG4),  # r > 1 and f < -1: the discriminator has nothing left to win
    "relativistic": (math.log(13 / 12), math.log(13)),
    "forward-kl": (-LOG3 + 1 / (4 * math.e), -1 / (4 * math.e)),
    "reverse-kl": (1 / 3 - LOG4 - 1, 1 + LOG4),
    "pearson": (-LOG3 + LOG4**2 / 4 - LOG4, LOG4 - LOG4**2 / 4),
    "hellinger": (1 / 3 + 1 / 4 - 2, 1 - 1 / 4),
}


def test_every_game_has_a_number() -> None:
    assert set(BY_HAND) == set(o.GAMES)


@pytest.mark.parametrize("game", BY_HAND)
def test_both_sides_of_a_game_by_hand(game: str) -> None:
    x, fake = torch.tensor([R]), torch.tensor([F])
    discriminator, generator = BY_HAND[game]
    assert values(o.gan(game), "discriminator", x=x, fake=fake) == {
        "discriminator": pytest.approx(discriminator, abs=1e-6)
    }
    assert values(o.gan(game), "generator", x=x, fake=fake) == {"adversarial": pytest.approx(generator, abs=1e-6)}


@pytest.mark.parametrize(
    "game, at_zero",
    [
        ("minimax", (2 * LOG2, -LOG2)),
        ("non-saturating", (2 * LOG2, LOG2)),
        ("least-squares", (0.5, 0.5)),
        ("wasserstein", (0.0, 0.0)),
        ("hinge", (2.0, 0.0)),
        ("relativistic", (LOG2, LOG2)),
        ("forward-kl", (1 / math.e, -1 / math.e)),
        ("reverse-kl", (0.0, 1.0)),
        ("pearson", (0.0, 0.0)),
        ("hellinger", (0.0, 0.0)),
    ],
)
def test_a_discriminator_that_knows_nothing_pays_the_known_price(game: str, at_zero: tuple[float, float]) -> None:
    zeros = torch.zeros(4)
    for player, expected in zip(("discriminator", "generator"), at_zero):
        (value,) = values(o.gan(game), player, x=zeros, fake=zeros).values()
        assert value == pytest.approx(expected, abs=1e-6)


def test_hinge_pays_inside_the_margin_and_the_batch_is_averaged() -> None:
    x, fake = torch.tensor([0.5, 3.0]), torch.tensor([-0.25, -2.0])
    # (1 - 0.5) + (1 - 0.25) = 1.25 for the first pair, nothing for the second
    assert values(o.gan("hinge"), "discriminator", x=x, fake=fake)["discriminator"] == pytest.approx(0.625)
    assert values(o.gan("hinge"), "generator", x=x, fake=fake)["adversarial"] == pytest.approx(1.125)


def test_relativistic_pairs_are_pairs() -> None:
    x, fake = torch.tensor([2.0, 0.0]), torch.tensor([2.0, 0.0])
    assert values(o.gan("relativistic"), "generator", x=x, fake=fake)["adversarial"] == pytest.approx(LOG2, abs=1e-6)
    expected = (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-2))) / 2
    value = values(o.gan("relativistic"), "generator", x=x, fake=fake.flip(0))["adversarial"]
    assert value == pytest.approx(expected, abs=1e-6)


def test_several_fakes_are_averaged_over() -> None:
    fields = {"x": torch.tensor([R]), "fake": torch.tensor([F]), "reconstruction": torch.tensor([0.0])}
    both = values(o.gan("non-saturating", ("reconstruction", "fake")), "discriminator", **fields)["discriminator"]
    assert both == pytest.approx(math.log(4 / 3) + (LOG2 + math.log(5 / 4)) / 2, abs=1e-6)
    both = values(o.gan("wasserstein", ("reconstruction", "fake")), "generator", **fields)["adversarial"]
    assert both == pytest.approx(LOG4 / 2, abs=1e-6)


def test_an_unknown_game_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match="relativistic"):
        o.gan("chess")


def test_a_game_may_be_a_pair_of_ones_own() -> None:
    x, fake = torch.tensor([2.0]), torch.tensor([0.5])
    pair: Game = (lambda r, f: f**3 - r, lambda r, f: -(f**3))
    own = o.gan(pair)
    assert values(own, "discriminator", x=x, fake=fake) == {"discriminator": -1.875}
    assert values(own, "generator", x=x, fake=fake) == {"adversarial": -0.125}
    assert values(o.judge(pair), "discriminator", x=x, fake=fake) == {"discriminator": -1.875}


@pytest.mark.parametrize("game", o.GAMES)
def test_the_discriminator_prefers_the_truth_and_the_generator_a_lie(game: str) -> None:
    """Signs: raising r and lowering f never costs the discriminator; raising f never costs the generator."""
    r, f = (torch.linspace(-0.9, 0.9, 5, requires_grad=True) for _ in range(2))
    discriminator, generator = o.GAMES[game]
    by_r, by_f = torch.autograd.grad(discriminator(r, f).sum(), [r, f])
    assert (by_r < 0).all()
    assert (by_f > 0).all() or (game == "least-squares" and torch.allclose(by_f, f))
    (by_f,) = torch.autograd.grad(generator(r, f).sum(), [f])
    assert (by_f < 0).all()


def test_similarity_by_hand() -> None:
    # features (a, 2a): the squared distance is 5 (a - b)^2; here 5 * 4 and 5 * 1, half of the mean is 6.25
    fields = {"x": torch.tensor([1.0, 0.0]), "reconstruction": torch.tensor([3.0, 1.0])}
    assert values(o.Similarity(), "generator", **fields) == {"similarity": pytest.approx(6.25)}
    assert values(o.Similarity(variance=0.5), "generator", **fields) == {"similarity": pytest.approx(12.5)}
    assert values(o.Similarity(), "discriminator", **fields) == {}
    same = {"x": torch.tensor([1.0]), "reconstruction": torch.tensor([1.0])}
    assert values(o.Similarity(), "generator", **same) == {"similarity": 0.0}


# The equilibrium gate: 0.68 +- 0.35, so a cost below 0.33 is a clear win and one above 1.03 a clear loss.
# c_r = s(-r), c_f = s(f). s(1) = 1.313, s(0) = 0.693, s(-2) = 0.127.


@pytest.mark.parametrize(
    "r, f, discriminator_plays, generator_plays",
    [
        (0.0, 0.0, True, True),  # 0.693, 0.693: balanced
        (2.0, 0.0, False, True),  # 0.127, 0.693: the discriminator wins clearly, it rests
        (-1.0, 0.0, True, False),  # 1.313, 0.693: it loses clearly, the generator rests
        (2.0, 1.0, True, True),  # 0.127, 1.313: both would rest, so both play
        (0.0, -2.0, False, True),  # the same on the other side
        (0.0, 1.0, True, False),
    ],
)
def test_the_gate(r: float, f: float, discriminator_plays: bool, generator_plays: bool) -> None:
    objective = o.Equilibrium(o.gan("minimax"))
    fields = {"x": torch.full((3,), r), "fake": torch.full((3,), f)}
    assert bool(values(objective, "discriminator", **fields)) == discriminator_plays
    assert bool(values(objective, "generator", **fields)) == generator_plays
    # and anew at the next turn: a rest is not for ever
    balanced = {"x": torch.zeros(3), "fake": torch.zeros(3)}
    assert values(objective, "discriminator", **balanced) and values(objective, "generator", **balanced)


def test_the_gate_decides_by_the_mean_over_processes() -> None:
    """Here alone it would rest; together with a losing half it must play, as the other process will."""
    fields = {"x": torch.full((3,), 2.0), "fake": torch.full((3,), 0.0)}
    objective = o.Equilibrium(o.gan("minimax"))
    together = turn("discriminator", **fields)
    together.mean = lambda value: (value + 0.9) / 2
    assert list(objective.losses(together))
    assert not list(objective.losses(turn("discriminator", **fields)))


# The optimal discriminator (Goodfellow et al. 2014, proposition 1 and theorem 1):
# D* = log p/q, and min over D of E_p s(-D) + E_q s(D) = 2 log 2 - 2 JSD(p, q), the negative of their max V.


GRID = torch.linspace(-14, 16, 60_001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])
P, Q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.5, 2.0)


def expectation(density: torch.distributions.Normal, function: Tensor) -> float:
    return float((density.log_prob(GRID).exp() * function).sum() * STEP)


def divergence() -> float:
    """JSD(P, Q) = KL(P | M)/2 + KL(Q | M)/2, by quadrature, without any discriminator in sight."""
    log_p, log_q = P.log_prob(GRID), Q.log_prob(GRID)
    log_m = torch.logaddexp(log_p, log_q) - LOG2
    return 0.5 * expectation(P, log_p - log_m) + 0.5 * expectation(Q, log_q - log_m)


def test_the_divergence_is_the_known_one() -> None:
    assert 0.0 < divergence() < LOG2
    # two unit Gaussians far apart share nothing: log 2
    far = torch.distributions.Normal(100.0, 1.0)
    log_p = P.log_prob(GRID)
    log_m = torch.logaddexp(log_p, far.log_prob(GRID)) - LOG2
    assert expectation(P, log_p - log_m) == pytest.approx(LOG2, abs=1e-9)


@pytest.mark.parametrize("game", ["minimax", "non-saturating"])
def test_value_of_the_optimal_discriminator(game: str) -> None:
    best = P.log_prob(GRID) - Q.log_prob(GRID)
    play = o.GAMES[game][0]
    huge = torch.tensor(-1e9, dtype=torch.float64)
    # the loss is a sum of a part in r and a part in f; each is integrated under its own density
    loss = expectation(P, play(best, huge)) + expectation(Q, play(-huge, best))
    assert -loss == pytest.approx(-2 * LOG2 + 2 * divergence(), abs=1e-8)
    for other in (best + 0.1, 0.9 * best, best * 0):
        worse = expectation(P, play(other, huge)) + expectation(Q, play(-huge, other))
        assert -worse < -loss


def test_value_of_the_optimal_discriminator_on_samples() -> None:
    """Through `Adversarial` itself: 200,000 pairs, within 4 standard errors (false alarm 1 in 16,000)."""

    class Optimal(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return P.log_prob(x) - Q.log_prob(x), x[:, None]

    source = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, generator=source)
    fake = 1.5 + 2 * torch.randn(200_000, generator=source)
    draw = SimpleNamespace(model=SimpleNamespace(discriminator=Optimal()), x=x, fake=fake)
    (loss,) = o.gan("minimax").losses(Turn(draw, "discriminator"))
    per_example = softplus(Q.log_prob(x) - P.log_prob(x)) + softplus(P.log_prob(fake) - Q.log_prob(fake))
    error = float(per_example.std()) / math.sqrt(len(x))
    assert abs(-loss.value.item() - (-2 * LOG2 + 2 * divergence())) < 4 * error


def test_a_trained_discriminator_approaches_the_value_from_below() -> None:
    """A small network, judged by quadrature: never above the supremum, and within 0.01 nats of it."""
    torch.manual_seed(0)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 1))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.net(x[:, None]).squeeze(1), x[:, None]

    judge = Small()
    optimiser = torch.optim.Adam(judge.parameters(), lr=1e-2)
    source = torch.Generator().manual_seed(1)
    supremum, values_seen = -2 * LOG2 + 2 * divergence(), []
    grid = GRID[::20].float()
    for step in range(401):
        if step % 200 == 0:
            with torch.no_grad():
                logit = judge(grid)[0].double()
            p, q = (d.log_prob(grid.double()).exp() * STEP * 20 for d in (P, Q))
            values_seen.append(-float((p * softplus(-logit)).sum() + (q * softplus(logit)).sum()))
        x, fake = torch.randn(512, generator=source), 1.5 + 2 * torch.randn(512, generator=source)
        draw = SimpleNamespace(model=SimpleNamespace(discriminator=judge), x=x, fake=fake)
        (loss,) = o.gan("minimax").losses(Turn(draw, "discriminator"))
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
    assert all(value <= supremum + 1e-6 for value in values_seen)
    assert values_seen[0] < values_seen[1] and supremum - values_seen[-1] < 0.01


# The games that are f-divergences (Nowozin et al. 2016): on two distributions over six points, all in closed form.

ON_SIX = torch.tensor([0.3, 0.05, 0.25, 0.1, 0.2, 0.1], dtype=torch.float64)
OTHER = torch.tensor([0.05, 0.3, 0.2, 0.25, 0.1, 0.1], dtype=torch.float64)
RATIO = ON_SIX / OTHER
DIVERGENCES: dict[str, tuple[Tensor, Tensor]] = {  # the best verdict, the divergence
    "forward-kl": (1 + RATIO.log(), (ON_SIX * RATIO.log()).sum()),
    "reverse-kl": (RATIO.log(), -(OTHER * RATIO.log()).sum()),
    "pearson": (2 * (RATIO - 1), ((ON_SIX - OTHER) ** 2 / OTHER).sum()),
    "hellinger": (RATIO.log() / 2, ((ON_SIX.sqrt() - OTHER.sqrt()) ** 2).sum()),
}


def expected(game: Game, verdict: Tensor) -> tuple[Tensor, Tensor]:
    """What both sides pay when the verdicts on the six points are these: real ones drawn from p, fakes from q."""
    r, f = verdict[:, None].expand(-1, 6), verdict[None].expand(6, -1)
    weights = ON_SIX[:, None] * OTHER[None]
    return tuple((weights * side(r, f)).sum() for side in game)  # type: ignore[return-value]


@pytest.mark.parametrize("game", DIVERGENCES)
def test_the_best_discriminator_attains_the_divergence(game: str) -> None:
    """Nobody pays it less than minus the divergence; there its slope is zero and it is convex."""
    best, divergence = DIVERGENCES[game]
    best = best.clone().requires_grad_()
    paid, _ = expected(o.GAMES[game], best)
    assert paid.item() == pytest.approx(-divergence.item(), abs=1e-12)
    assert torch.autograd.grad(paid, best)[0].abs().max() < 1e-12
    source = torch.Generator().manual_seed(0)
    for size in (0.01, 0.3, 2.0):
        other = best.detach() + size * torch.randn(6, generator=source, dtype=torch.float64)
        assert expected(o.GAMES[game], other)[0] > paid


@pytest.mark.parametrize("game", [*DIVERGENCES, "minimax"])
def test_the_generator_minimises_what_the_discriminator_maximises(game: str) -> None:
    """What either pays sums to a part that samples have no say in: their slopes by f are opposite."""
    r, f = torch.tensor(0.3), torch.linspace(-1.5, 1.5, 7, requires_grad=True)
    slopes = [torch.autograd.grad(side(r, f).sum(), f)[0] for side in o.GAMES[game]]
    assert torch.allclose(slopes[0], -slopes[1])


def test_pearson_by_hand_on_two_points() -> None:
    """p = (3/4, 1/4), q = (1/2, 1/2): (1/4)^2 / (1/2) twice is 1/4."""
    verdict = torch.tensor([1.0, -1.0])  # 2 (p / q - 1)
    discriminator = o.GAMES["pearson"][0]
    zero = torch.tensor(0.0)
    paid = sum(
        p * discriminator(v, zero) + q * discriminator(zero, v) for p, q, v in zip((0.75, 0.25), (0.5, 0.5), verdict)
    )
    assert float(paid) == pytest.approx(-0.25)


# One-sided label smoothing (Salimans et al. 2016)


@pytest.mark.parametrize("game", ["minimax", "non-saturating"])
def test_smoothed_labels_by_hand(game: str) -> None:
    """0.9 s(-r) + 0.1 s(r) + s(f); the generator's side is untouched."""
    x, fake = torch.tensor([R]), torch.tensor([F])
    smooth = o.gan(o.smoothed(game, 0.1))
    by_hand = 0.9 * math.log(4 / 3) + 0.1 * math.log(4) + math.log(5 / 4)
    assert values(smooth, "discriminator", x=x, fake=fake)["discriminator"] == pytest.approx(by_hand, abs=1e-6)
    assert values(smooth, "generator", x=x, fake=fake) == values(o.gan(game), "generator", x=x, fake=fake)
    nothing = o.gan(o.smoothed(game, 0.0))
    assert values(nothing, "discriminator", x=x, fake=fake) == values(o.gan(game), "discriminator", x=x, fake=fake)


def test_the_best_discriminator_of_smoothed_labels() -> None:
    """log (1 - a) p / (q + a p): where nothing is made it is sure to (1 - a) / a and no more."""
    share = 0.1
    best = ((1 - share) * ON_SIX / (OTHER + share * ON_SIX)).log().requires_grad_()
    paid, _ = expected(o.smoothed("non-saturating", share), best)
    assert torch.autograd.grad(paid, best)[0].abs().max() < 1e-12


@pytest.mark.parametrize(
    "game, share", [("hinge", 0.1), ("relativistic", 0.1), ("chess", 0.1), ("minimax", 0.5), ("minimax", -0.1)]
)
def test_other_games_have_no_labels_to_smooth(game: str, share: float) -> None:
    with pytest.raises(UsageError, match="smoothed labels"):
        o.smoothed(game, share)


# Top-k (Sinha et al. 2020)


def test_only_the_best_fakes_teach_the_generator() -> None:
    fields = {"x": torch.zeros(4), "fake": torch.tensor([0.5, -3.0, 2.0, 1.0], requires_grad=True), "noise": Noise(0)}
    objective = o.gan("wasserstein", best=0.5)
    (loss,) = objective.losses(turn("generator", **fields))
    assert loss.value.item() == pytest.approx(-1.5)
    (slope,) = torch.autograd.grad(loss.value, fields["fake"])
    assert slope.tolist() == [0, 0, -0.5, -0.5]
    assert values(objective, "discriminator", **fields) == values(o.gan("wasserstein"), "discriminator", **fields)
    assert values(o.gan("wasserstein", best=0.01), "generator", **fields) == {"adversarial": -2.0}  # one at the least


def test_the_share_of_the_best_may_be_a_schedule() -> None:
    fields: Any = {"x": torch.zeros(4), "fake": torch.tensor([0.5, -3.0, 2.0, 1.0]), "noise": Noise(0)}
    draw: Any = SimpleNamespace(model=SimpleNamespace(discriminator=Judge()), **fields)
    objective = o.gan("wasserstein", best=o.decay(1.0, 0.5))
    for progress, by_hand in ((0.0, -0.125), (1.0, -1.5)):
        (loss,) = objective.losses(Turn(draw, "generator", progress=progress))
        assert loss.value.item() == pytest.approx(by_hand)


def test_pairs_go_with_their_fake_and_verdicts_at_every_step_are_averaged() -> None:
    fields = {"x": torch.tensor([1.0, 0.0]), "fake": torch.tensor([0.0, 3.0]), "noise": Noise(0)}
    value = values(o.gan("relativistic", best=0.5), "generator", **fields)["adversarial"]
    assert value == pytest.approx(math.log(1 + math.exp(-3)), abs=1e-6)
    at_steps = torch.tensor([[5.0, -5.0], [1.0, 2.0]])
    game = _mean_of_best(-at_steps, at_steps, 0.5, turn("generator", **fields))
    assert float(game) == pytest.approx(-1.5)


def test_two_processes_agree_on_the_best() -> None:
    """Each holds half of the batch, the best lie in one; the mean over both is what one process would find."""
    fake = torch.tensor([3.0, 2.0, -1.0, 0.0])
    halves = [fake[:2], fake[2:]]

    def value(part: Tensor, rank: int, world: int, whole: Any) -> float:
        at = turn("generator", x=torch.zeros(len(part)), fake=part, noise=Noise(0, 0, rank, world))
        at.mean = whole
        (loss,) = o.gan("non-saturating", best=0.5).losses(at)
        return loss.value.item()

    one = value(fake, 0, 1, torch.Tensor.detach)
    held = torch.stack(halves)
    shares = torch.stack([(half >= 2).float().mean() for half in halves])

    def mean(of: Tensor) -> Tensor:
        return held / 2 if of.dim() else shares.mean()  # first the verdicts of all, then how many were chosen

    assert sum(value(half, rank, 2, mean) for rank, half in enumerate(halves)) / 2 == pytest.approx(one)


@pytest.mark.parametrize("best", [0.0, -1.0, 1.5])
def test_the_best_are_a_share(best: float) -> None:
    with pytest.raises(UsageError, match="share in"):
        o.gan(best=best)


# Verdicts


def test_verdicts_are_judged_once_and_samples_are_cut() -> None:
    fake = torch.tensor([1.0], requires_grad=True) * 2
    on_discriminator = turn("discriminator", x=torch.tensor([0.0]), fake=fake)
    real, judged = on_discriminator.verdicts("x", "fake")
    assert judged.input.is_leaf and judged.input.requires_grad and not judged.input.grad_fn
    assert on_discriminator.verdicts("fake")[0] is judged
    on_generator = turn("generator", x=torch.tensor([0.0]), fake=fake)
    real, judged = on_generator.verdicts("x", "fake")
    assert not real.logits.requires_grad and judged.logits.requires_grad and judged.input is fake


@pytest.mark.parametrize("normalised", [False, True])
def test_real_and_fake_are_judged_together_only_without_batch_statistics(normalised: bool) -> None:
    sizes: list[int] = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(1) if normalised else nn.Identity()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            sizes.append(len(x))
            return self.norm(x[:, None]).squeeze(1), x[:, None]

    draw = SimpleNamespace(model=SimpleNamespace(discriminator=Counting()), x=torch.randn(4), fake=torch.randn(4))
    Turn(draw, "discriminator").verdicts("x", "fake")
    assert sizes == ([4, 4] if normalised else [8])
