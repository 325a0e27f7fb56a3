from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from metrics_fakes import LinearGaussian, Replays, digits, ring
from torch import Tensor
from torch.nn import functional as F

from amalgan.data import Data
from amalgan.data import open as open_data
from amalgan.data.halves import strangers
from amalgan.errors import AmalganError, UsageError
from amalgan.metrics import features
from amalgan.metrics.evaluate import METRICS, Reference, Row, evaluate, reference, shuffled

STEPS = 80


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("AMALGAN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def data() -> Data:
    return digits()


@pytest.fixture(scope="module")
def against(data: Data, cache: Path) -> Reference:
    return reference(data, features=features.classifier(data, steps=STEPS))


def rows_of(model: object, data: Data, against: Reference | None, **options: object) -> dict[str, Row]:
    rows = evaluate(model, data, against=against, **options)
    named = {(row.metric, row.prior): row for row in rows}
    assert len(named) == len(rows), "a row for each metric and prior"
    return {row.metric: row for row in rows}


def test_floors_and_ceilings(data: Data, against: Reference) -> None:
    floor, ceiling = against.floor, against.ceiling
    for name in ("frechet", "kernel", "precision", "recall", "coverage", "reverse_kl", "uniqueness", "pixel_mse"):
        lower = METRICS[name].better == "lower"
        assert floor[name] < ceiling[name] if lower else floor[name] > ceiling[name], name
    assert floor["recall"] > 0.8 and ceiling["recall"] < 0.3 and ceiling["frechet"] > 5 * floor["frechet"]
    assert floor["modes"] == 10 and floor["pixel_mse"] == 0
    assert ceiling["pixel_mse"] == pytest.approx(float(data.train.x.var(0).mean()), rel=0.1)


def test_a_good_model_lies_at_the_floor(data: Data, against: Reference) -> None:
    found = rows_of(Replays(data.validation.x.repeat(2, 1, 1, 1)), data, against)
    assert found["frechet"].value < 3 * found["frechet"].floor
    assert found["precision"].value > 0.9 and found["modes"].value == 10 and found["memorisation"].value < 0.06


def test_planted_failures_are_seen(data: Data, against: Reference) -> None:
    collapsed = rows_of(Replays(data.validation.x[:3]), data, against)
    assert collapsed["precision"].value > 0.6 and collapsed["recall"].value < 0.05
    assert collapsed["uniqueness"].value == 0 and "0.8% exactly distinct" in collapsed["uniqueness"].note
    assert collapsed["modes"].value <= 3 and collapsed["reverse_kl"].value > 1
    copied = rows_of(Replays(data.train.x[:400]), data, against)
    assert copied["memorisation"].value == 1 and copied["memorisation_ratio"].value == 0
    assert copied["memorisation_features"].value > 0.95 and "100.0% exact copies" in copied["memorisation"].note
    assert copied["frechet"].value < 2 * copied["frechet"].floor, "by quality alone copying looks perfect"
    blurred = rows_of(Replays(F.avg_pool2d(data.train.x[:400], 3, 1, 1)), data, against)
    assert blurred["frechet"].value > 5 * blurred["frechet"].floor and blurred["uniqueness"].value > 0.5
    trivial = rows_of(Replays(shuffled(data.train.x[:400])), data, against)
    assert trivial["recall"].value < 0.3 and trivial["frechet"].value > 0.5 * trivial["frechet"].ceiling


def test_a_model_with_an_encoder_has_all_rows(data: Data, against: Reference) -> None:
    model = LinearGaussian((1, 8, 8), 4)
    model.fitted = object()  # says that a prior was fitted
    model.train()
    rows = evaluate(model, data, against=against, k_importance=10, n_importance=20)
    assert model.training, "the model is left as it was"
    for prior in ("fitted", "standard"):
        assert {r.metric for r in rows if r.prior == prior} >= {"nll", "frechet", "precision", "recall", "memorisation"}
    found = {r.metric: r for r in rows}
    of_labels = {"label_accuracy", "class_diversity", "tstr"}  # of models that are told labels
    assert set(found) == set(METRICS) - {"quality", "jsd", "formed", "agreement"} - of_labels
    assert found["elbo"].value == pytest.approx(-found["distortion"].value - found["kl"].value)
    assert found["nll"].n == 20 and "k = 10" in found["nll"].note
    assert found["pixel_mse"].value > 0 and found["active_units"].value <= 4
    for row in rows:
        assert (row.unit, row.better) == METRICS[row.metric][:2] and math.isfinite(row.value)
        assert row.n == (20 if row.metric == "nll" else 400)
        looked = row.metric not in {"pixel_mse", "distortion", "kl", "elbo", "nll", "active_units", "uniqueness"}
        looked &= row.metric not in {"memorisation", "memorisation_ratio"}
        assert row.features == (against.eyes.fingerprint if looked else "")


def test_without_a_fitted_prior_only_the_standard_one_is_judged(data: Data, against: Reference) -> None:
    rows = evaluate(LinearGaussian((1, 8, 8), 4), data, against=against, k_importance=2, n_importance=5)
    assert {row.prior for row in rows} == {"", "standard"}
    assert {row.prior for row in evaluate(Replays(data.test.x), data, against=against, priors=["fitted"])} == {
        "standard"
    }


def test_the_reference_is_the_same_every_time_and_independent_of_the_order(data: Data, against: Reference) -> None:
    again = reference(data, features=against.eyes)
    assert again.floor == against.floor and torch.equal(again.real, against.real)
    assert evaluate(Replays(data.train.x), data, against=again) == evaluate(
        Replays(data.train.x), data, against=against
    )
    small = reference(data, n=100, features=against.eyes)
    assert small.n == 100 and len(small.real) == 100 and small.floor["frechet"] > against.floor["frechet"]
    held = reference(data, split="validation", features=against.eyes)
    assert held.n == 200 and torch.isin(held.real.flatten(1).sum(1), data.validation.x.flatten(1).sum(1)).all()


def test_points() -> None:
    data = ring(9000)
    against = reference(data, n=2600)
    good = rows_of(Replays(data.train.x[3000:6000]), data, against)
    assert (good["modes"].value, good["modes"].floor) == (8, 8) and good["quality"].value > 0.97
    assert good["quality"].ceiling < 0.5 and good["reverse_kl"].value < 0.01
    assert "2500 samples" in good["modes"].note and good["modes"].features == "" and good["frechet"].features != ""
    collapsed = rows_of(Replays(data.known.means[:1] + 0.001), data, against)
    assert collapsed["modes"].value == 1 and collapsed["reverse_kl"].value == pytest.approx(math.log(8))


@pytest.mark.slow
def test_halves() -> None:
    """Real images match; halves of different ones, and a collapse onto one image, do no better than chance."""
    data = open_data("halves", limit=500)
    against = reference(data, features=features.classifier(data, steps=STEPS))
    x = data.validation.tensor()
    good = rows_of(Replays(x), data, against)
    assert (good["formed"].value, good["formed"].floor, good["formed"].ceiling) == (1, 1, 0)
    assert (good["agreement"].value, good["agreement"].floor) == (1, 1)
    # a share of 1/16 at n = 500 over 15/16: standard deviation 0.0115; four of them, one false alarm in 16,000
    assert good["agreement"].ceiling == pytest.approx(0, abs=0.0462)
    strange = rows_of(Replays(torch.cat([strangers(x)[:250], torch.rand(250, *x.shape[1:])])), data, against)
    assert strange["formed"].value == 0.5 and strange["agreement"].value == pytest.approx(0, abs=0.0654)
    assert strange["agreement"].note == "of 250 with two halves" and strange["agreement"].features == ""
    collapsed = rows_of(Replays(x[:1]), data, against)
    assert (collapsed["formed"].value, collapsed["agreement"].value) == (1, 0)
    assert good["modes"].value == 16 and good["modes"].features == against.eyes.fingerprint
    assert "quality" not in good and "jsd" not in good


def test_few_images_are_said_to_be_few(data: Data, against: Reference) -> None:
    found = rows_of(Replays(data.train.x), data, reference(data, n=50, features=against.eyes))
    assert "much too high" in found["frechet"].note and found["frechet"].n == 50


def test_mistakes(data: Data, against: Reference) -> None:
    broken = data.train.x[:400].clone()
    broken[3, 0, 0, 0] = math.nan
    with pytest.raises(AmalganError, match="in 1 of them"):
        evaluate(Replays(broken), data, against=against)
    with pytest.raises(UsageError, match="validation while settings"):
        reference(data, split="train")
    with pytest.raises(UsageError, match="at least 6"):
        reference(data, n=5)


def test_shuffled_keeps_the_values_of_each_image() -> None:
    x: Tensor = torch.rand(5, 3, 4, 4)
    y = shuffled(x)
    assert torch.equal(y.flatten(2).sort(2).values, x.flatten(2).sort(2).values) and not torch.equal(x, y)
    assert torch.equal(y.sum(1).flatten(1).sort(1).values, y.sum(1).flatten(1).sort(1).values)
    points = torch.rand(50, 2)
    assert torch.equal(shuffled(points).sort(0).values, points.sort(0).values)


def test_every_metric_has_a_plain_meaning() -> None:
    for unit, better, meaning in METRICS.values():
        assert unit and better in ("lower", "higher") and meaning.endswith(".")
