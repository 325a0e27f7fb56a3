"""The rules of the verdict, on numbers made up so that each rule decides."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgan import modalities
from amalgan.metrics.intervals import Interval
from amalgan.verdict import clearly_best, compare, number, rules, spread, table, told, verdict

BETTER = {"pixel_mse": "lower", "nll": "lower", "frechet": "lower", "coverage": "higher", "quality": "higher"}
ANCHORS = {
    "pixel_mse": (0.0, 0.1),
    "nll": (None, None),
    "frechet": (2.0, 50.0),
    "coverage": (0.97, 0.0),
    "quality": (0.98, 0.3),
}


def rows(recipe: str, prior: str = "fitted", **values: list[float]) -> list[dict[str, Any]]:
    """Made-up rows of one recipe: a list of values over seeds 0, 1, ... for each metric."""
    return [
        {"recipe": recipe, "seed": seed, "metric": metric, "value": value, "better": BETTER[metric],
         "floor": ANCHORS[metric][0], "ceiling": ANCHORS[metric][1], "prior": "" if metric == "pixel_mse" else prior}
        for metric, seen in values.items()
        for seed, value in enumerate(seen)
    ]  # fmt: skip


def answers(found: Any) -> dict[str, str | None]:
    return {j.question: j.winner for j in found.judgements}


VAE = rows("vae", pixel_mse=[0.010, 0.011, 0.012], frechet=[20.0, 21, 22], coverage=[0.50, 0.51, 0.52])
GAN = rows("gan", prior="standard", frechet=[10.0, 11, 12], coverage=[0.60, 0.61, 0.62])


def test_paired_differences_cancel_the_luck_of_the_seed() -> None:
    # by hand: differences -1, -2, -3, mean -2, s = 1, t(2) = 4.303, half width 4.303 / sqrt(3) = 2.484: zero is inside
    a, b = (rows(name, frechet=seen) for name, seen in (("a", [9.0, 28, 57]), ("b", [10.0, 30, 60])))
    scores = table(a + b)["frechet"]
    pair = compare(scores["a"], scores["b"])
    assert pair.difference.value == pytest.approx(-2.0)
    assert pair.difference.half_width == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert pair.sign == 0
    # differences -2, -2.1, -1.9 though the values themselves spread over 50: clear
    clear = table(rows("a", frechet=[8.0, 27.9, 58.1]) + b)["frechet"]
    assert compare(clear["a"], clear["b"]).sign == 1
    assert compare(clear["b"], clear["a"]).sign == -1


def test_higher_is_better_turns_the_sign() -> None:
    scores = table(rows("a", coverage=[0.9, 0.91, 0.92]) + rows("b", coverage=[0.5, 0.51, 0.52]))["coverage"]
    assert compare(scores["a"], scores["b"]).sign == 1


def test_it_depends() -> None:
    found = verdict(VAE + GAN, ["vae", "gan"])
    assert answers(found) == {"reconstruction": "vae", "sampling": "gan", "both": "vae"}
    assert found.headline == "gan to sample, vae to reconstruct and sample."
    both = found.judgements[2]
    assert "The price: gan, which cannot reconstruct, samples clearly better." in both.details
    assert "gan has no encoder, so cannot reconstruct." in found.judgements[0].details


def test_dominance_needs_one_clear_lead_and_no_clear_loss() -> None:
    equal = rows("vaegan", pixel_mse=[0.0102, 0.0108, 0.0120], frechet=[8.0, 9, 10], coverage=[0.70, 0.71, 0.72])
    found = verdict(VAE + GAN + equal, ["vae", "gan", "vaegan"])
    assert answers(found) == {"reconstruction": None, "sampling": "vaegan", "both": "vaegan"}
    assert found.headline == "vaegan wins: it samples best, and no other reconstructs clearly better."
    assert "It samples clearly better than gan, too." in found.judgements[2].details
    worse = rows("vaegan", pixel_mse=[0.020, 0.021, 0.022], frechet=[8.0, 9, 10], coverage=[0.70, 0.71, 0.72])
    found = verdict(VAE + GAN + worse, ["vae", "gan", "vaegan"])
    assert answers(found) == {"reconstruction": "vae", "sampling": "vaegan", "both": None}
    assert found.headline == "It depends: vae to reconstruct, vaegan to sample."
    assert "vae has the clearly better pixel error" in found.judgements[2].sentence


def test_the_headline_names_who_is_level_and_who_is_behind() -> None:
    level = rows("b", pixel_mse=[0.009, 0.012, 0.0121], frechet=[19.0, 23, 21], coverage=[0.52, 0.49, 0.53])
    poor = rows("gan", prior="standard", frechet=[40.0, 41, 42], coverage=[0.10, 0.11, 0.12])
    found = verdict(VAE + level + poor, ["vae", "b", "gan"])
    assert found.headline == "No clear winner between vae and b; gan samples worse."


def test_a_trade_between_the_metrics_of_one_question_has_no_winner() -> None:
    near = rows("a", frechet=[5.0, 6, 7], coverage=[0.50, 0.51, 0.52])
    wide = rows("b", frechet=[9.0, 10, 11], coverage=[0.80, 0.81, 0.82])
    judgement = verdict(near + wide, ["a", "b"]).judgements[1]
    assert judgement.winner is None
    assert "a has the best Fréchet distance" in judgement.sentence
    assert "b has the best coverage" in judgement.sentence


def test_zero_within_the_paired_interval_is_no_clear_winner() -> None:
    other = rows("b", pixel_mse=[0.009, 0.012, 0.0121], frechet=[19.0, 23, 21], coverage=[0.52, 0.49, 0.53])
    found = verdict(VAE + other, ["vae", "b"])
    assert answers(found) == {"reconstruction": None, "sampling": None, "both": None}
    assert found.headline == "No clear winner."
    assert "includes zero" in found.judgements[0].sentence


def test_one_seed_allows_no_interval_and_no_winner() -> None:
    one = [row for row in VAE if row["seed"] == 0] + rows("b", pixel_mse=[0.001], frechet=[1.0], coverage=[0.9])
    found = verdict(one, ["vae", "b"])
    assert answers(found) == {"reconstruction": None, "sampling": None, "both": None}
    assert "With one seed no interval is possible" in found.judgements[0].sentence
    assert "b has the best pixel error, 0.001 (against 0.01 of vae)" in found.judgements[0].sentence
    assert found.cautions[0].startswith("One seed")


def test_floors_and_ceilings_are_told() -> None:
    found = verdict(VAE + GAN, ["vae", "gan"])
    assert "would give a pixel error of 0.1." in found.judgements[0].details[0]
    sampling = " ".join(found.judgements[1].details)
    assert "Fréchet distance of 2 (the floor)" in sampling  # 21 / 2 and 11 / 2
    assert "vae at 10 times and gan at 5.5 times the floor" in sampling


def test_worse_than_the_trivial_baseline_has_not_learned_and_does_not_win() -> None:
    bad = rows("vae", pixel_mse=[0.11, 0.12, 0.13], frechet=[60.0, 61, 62], coverage=[0.10, 0.11, 0.12])
    worse = rows("b", pixel_mse=[0.21, 0.22, 0.23], frechet=[80.0, 81, 82], coverage=[0.0, 0.01, 0.02])
    found = verdict(bad + worse, ["vae", "b"])
    assert found.headline == "None of them has learned."
    assert found.judgements[0].answer == "none has learned"
    assert "no better than the trivial baseline" in " ".join(found.judgements[1].details)
    mixed = verdict(VAE + worse, ["vae", "b"])
    assert answers(mixed)["reconstruction"] == "vae"
    assert any(d.startswith("b is no better than the trivial baseline") for d in mixed.judgements[0].details)


def test_a_baseline_as_good_as_real_data_decides_nothing() -> None:
    close = [row | {"floor": 2.0, "ceiling": 2.1} for row in VAE if row["metric"] == "frechet"]
    assert table(close)["frechet"]["vae"].learned
    apart = [row | {"floor": 2.0, "ceiling": 4.0} for row in VAE if row["metric"] == "frechet"]
    assert not table(apart)["frechet"]["vae"].learned


def test_failures_are_told_and_do_not_win() -> None:
    best = rows("gan", prior="standard", frechet=[1.0, 1.1], coverage=[0.90, 0.91])
    found = verdict(VAE + best, ["vae", "gan"], {"gan": [2]})
    assert answers(found)["sampling"] is None
    assert "gan failed on some seeds and cannot win" in found.judgements[1].sentence
    assert "gan failed on some seeds (seed 2)" in found.cautions[0]
    gone = verdict(VAE, ["vae", "gan"], {"gan": [0, 1, 2]})
    assert answers(gone)["sampling"] == "vae"
    assert "gan failed on every seed (seed 0, 1 and 2)." in gone.cautions


def test_known_densities_are_judged_by_coverage_and_quality() -> None:
    # the Fréchet distance of two coordinates prefers a, which misses the modes
    a = rows("a", frechet=[2.1, 2.2, 2.3], coverage=[0.30, 0.31, 0.32], quality=[0.40, 0.41, 0.42])
    b = rows("b", frechet=[9.1, 9.2, 9.3], coverage=[0.80, 0.81, 0.82], quality=[0.95, 0.94, 0.96])
    assert answers(verdict(a + b, ["a", "b"]))["sampling"] == "b"


def test_the_fitted_prior_counts_and_the_standard_one_does_not() -> None:
    both = VAE + rows("vae", prior="standard", frechet=[300.0, 310, 320], coverage=[0.1, 0.1, 0.1])
    assert table(both)["frechet"]["vae"].mean == 21.0
    assert table(reversed(both))["frechet"]["vae"].mean == 21.0
    assert table(both, "standard")["frechet"]["vae"].mean == 310.0


def test_values_that_are_no_numbers_are_left_out() -> None:
    assert table([row | {"value": None} for row in VAE]) == {}


def test_a_single_run_is_held_against_floor_and_ceiling() -> None:
    one = [row for row in VAE if row["seed"] == 0]
    assert verdict(one, ["vae"]).headline == "vae has learned."
    assert verdict([], ["vae"], {"vae": [0]}).headline == "vae failed: there is nothing to judge."


def test_clearly_best_is_clearly_better_than_every_other() -> None:
    scores = table(VAE + GAN)["frechet"]
    assert clearly_best(scores) == "gan"
    assert clearly_best(scores, failed=["gan"]) is None
    assert clearly_best({"gan": scores["gan"]}) is None


def test_rules_name_every_metric_that_decides() -> None:
    text = " ".join(rules(modalities.of("images")))
    for word in ("pixel error", "negative log-likelihood", "Fréchet distance", "coverage", "quality", "single seed"):
        assert word in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123456, "0.0123"), (1234.5, "1,230"), (-0.5, "−0.5"), (10.0, "10"), (0.0, "0"), (None, "–"),
     (math.nan, "–"), (3.3e-9, "3.30e−09"), (99999.0, "100,000")],
)  # fmt: skip
def test_numbers_in_words(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [(0.0123456, 0.00042, "0.01235 ± 0.00042"), (411.0, 97.3, "411 ± 97"), (0.0004, 0.02, "0.000 ± 0.020"),
     (-0.0001, 0.02, "0.000 ± 0.020"), (1234.5, 0.3, "1,234.5 ± 0.3"), (0.5, 0.0, "0.5 ± 0")],
)  # fmt: skip
def test_intervals_in_words(value: float, half: float, text: str) -> None:
    assert told(Interval(value, value - half, value + half, 3)) == text


def test_one_seed_is_told_without_interval() -> None:
    assert spread(Interval(0.5, -math.inf, math.inf, 1)) == ("0.5", "")


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e9))
def test_any_interval_can_be_told(value: float, half: float) -> None:
    assert "±" in told(Interval(value, value - half, value + half, 3)) or not math.isfinite(half)


@given(st.lists(st.floats(0.001, 0.09), min_size=2, max_size=5), st.floats(1e-4, 0.005))
def test_a_constant_lead_on_every_seed_is_clear_whatever_the_spread(values: list[float], lead: float) -> None:
    ahead = rows("a", pixel_mse=[v - lead for v in values]) + rows("b", pixel_mse=values)
    assert verdict(ahead, ["a", "b"]).judgements[0].winner == "a"
