"""An objective prints as the sum that it is, in words that make it again."""

from __future__ import annotations

import pytest

from amalgan import objectives as o


@pytest.mark.parametrize(
    "objective, written",
    [
        (o.vae(), "Reconstruction() + KL()"),
        (o.vae(4, free_bits=0.5), "Reconstruction() + 4 * KL(free_bits=0.5)"),
        (o.vae(o.warm_up()), "Reconstruction() + warm_up * KL()"),
        (o.vae() + 98 * o.gan("hinge"), "Reconstruction() + KL() + 98 * Adversarial(game='hinge')"),
        (0.5 * (o.ae() + o.gan()), "0.5 * (Reconstruction() + Adversarial())"),
        (o.ZeroCentred(0.1 + 0.2, ("x", "fake"), 8), "ZeroCentred(gamma=0.3, on=('x', 'fake'), every=8)"),
        (o.Equilibrium(o.gan(), margin=0.2), "Equilibrium(inner=Adversarial(), margin=0.2)"),
        (o.Unrolled(o.gan("hinge", best=0.5)), "Unrolled(inner=Adversarial(game='hinge', best=0.5))"),
        (o.Augmented(o.gan(), operations=("flip",)), "Augmented(inner=Adversarial(), operations=('flip',))"),
    ],
)
def test_written_by_hand(objective: o.Objective, written: str) -> None:
    assert repr(objective) == written
    if "warm_up" not in written:
        assert repr(eval(written, vars(o))) == written


class Own(o.Objective):
    """A term of a user's, whose attribute has a name of its own."""

    def __init__(self, strength: float, *others: float, power: int = 2) -> None:
        self.gamma, self.power = strength, power


def test_a_term_of_ones_own() -> None:
    assert repr(Own(3.0)) == "Own()" and repr(2 * Own(3.0, power=1)) == "2 * Own(power=1)"


def test_a_game_of_ones_own_by_the_names_of_what_made_it() -> None:
    assert repr(o.gan(o.smoothed("minimax"))) == "Adversarial(game=(smoothed, <lambda>))"
