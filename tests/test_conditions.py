"""Conditions: networks that are told labels or numbers, models that hide some, samples by label, and how they are judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from amalgan import data, recipes, runs
from amalgan import objectives as o
from amalgan.cli import run as command
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.errors import UsageError
from amalgan.metrics import features
from amalgan.metrics.conditional import conditional, taught
from amalgan.models.labelled import LabelledModel
from amalgan.models.priors import MixtureByClass
from amalgan.networks import points
from amalgan.networks.conditions import Classifying, Joined, Labels, Modulated, Numbers, Projected
from amalgan.networks.images import Decoder, Discriminator
from amalgan.noise import Noise
from amalgan.objectives.core import Turn

IMAGES = Spec("images", (1, 8, 8), ("cat", "Dog", "two words"))
NUMBERS = Spec("images", (1, 8, 8), (), {"numbers": ["age", "smiling"], "mean": [30.0, 0.5], "deviation": [10.0, 0.5]})
ASKED = [{}, {"discriminator_condition": "classifier"}, {"discriminator_condition": "concatenation"}]
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("ae", {}), ("vae", {}), ("vae", {"decoder_condition": "modulation"}),
    *(("gan", asked) for asked in ASKED), *(("vaegan", asked) for asked in ASKED),
    ("gan", {"decoder_condition": "embedding"}),
    ("vaegan", {"decoder_condition": "modulation", "deviation": True, "spectral": True}),
    ("aae", {}), ("bigan", {}), ("infogan", {}),
    ("sagan", {}), ("r3gan", {}), ("wavegan", {"critic_steps": 1}), ("specgan", {"critic_steps": 1}),
]  # fmt: skip


def model(recipe: str, spec: Spec, **arguments: Any) -> LabelledModel:
    torch.manual_seed(0)
    given = {"latent": 3, "width": 4, "condition": "labels", **arguments}
    made = recipes.plan(recipe, spec, recipes.check(recipe, given)).model
    assert isinstance(made, LabelledModel)
    return made


# Networks


def test_what_is_unknown_has_an_embedding_of_its_own() -> None:
    e = Labels(3, 5)
    known, unknown = e(torch.tensor([0, 1, 2]), 3), e(torch.tensor([-1, -1]), 2)
    assert torch.equal(unknown, e(None, 2)) and not any(torch.equal(unknown[0], row) for row in known)
    n = Numbers(2, 5)
    nothing = n(torch.full((2, 2), torch.nan), 2)
    assert torch.equal(nothing, n(None, 2)) and not torch.equal(
        nothing, n(torch.zeros(2, 2), 2)
    )  # 0 is no word for unknown
    half = torch.tensor([[1.0, torch.nan]])
    assert n(half, 1).isfinite().all() and not torch.equal(n(half, 1), n(torch.tensor([[1.0, 0.0]]), 1))


def test_a_joined_network_sees_the_embedding_beside_its_input() -> None:
    e = Labels(2, 3)
    for x in (torch.randn(4, 5), torch.rand(4, 1, 6, 7)):
        c = torch.tensor([0, 1, 1, -1])
        seen = Joined(nn.Identity(), e)(x, c)
        assert isinstance(seen, Tensor) and seen.shape == (4, x.shape[1] + 3, *x.shape[2:])
        beside = seen[:, x.shape[1] :].reshape(4, 3, -1)
        assert torch.equal(beside, e(c, 4)[:, :, None].expand_as(beside))


def test_a_projected_discriminator_starts_as_the_plain_one_and_is_the_formula() -> None:
    plain, x, c = Discriminator((1, 8, 8), 4), torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 1, -1])
    asked = Projected(plain, Labels(3, plain.verdict.in_features))
    logits, features = plain(x)
    assert torch.equal(asked(x, c)[0], logits)
    nn.init.normal_(asked.embedding.vectors.weight)
    expected = logits + torch.einsum("bf,bf->b", asked.embedding(c, 5), features)
    assert torch.allclose(asked(x, c)[0], expected, atol=1e-6)


@pytest.mark.parametrize("decoder, shape", [(Decoder, (1, 24, 24)), (points.Decoder, (2,))], ids=["images", "points"])
def test_a_modulated_decoder_tells_classes_apart_from_the_start_at_one_level(
    decoder: Any, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    told = Modulated(decoder(shape, 3, 4, told=6), Labels(2, 6))
    z = torch.randn(4, 3)

    def made(label: int) -> Tensor:
        x = told(z, torch.full((4,), label))
        assert isinstance(x, Tensor)
        return x

    assert not torch.equal(made(0), made(1))
    first, *others = told.network.modulations
    assert others and not any(part.affine.weight.any() for part in others)
    nn.init.zeros_(first.affine.weight)
    assert torch.equal(made(0), made(1)) and torch.equal(made(0), told.network(z)), "as one that is told nothing"
    for part in others:
        nn.init.normal_(part.affine.weight)
    assert not torch.equal(made(0), made(1))


# Models


@pytest.mark.parametrize("spec", [IMAGES, NUMBERS], ids=["classes", "numbers"])
@pytest.mark.parametrize("recipe, arguments", KINDS)
def test_conditions_reach_every_recipe(recipe: str, arguments: dict[str, Any], spec: Spec) -> None:
    """One step trains every network; then another label is another image."""
    given = {"latent": 3, "width": 4, "batch": 8, "condition": "labels", "lr": 1e-2, **arguments}
    torch.manual_seed(0)
    (kind,) = recipes.takes(recipe)[0].names[:1]
    shape = {"waves": (1, 300), "spectra": (1, 16, 16)}.get(
        kind, (1, 16, 16) if recipe in ("sagan", "r3gan") else spec.shape
    )
    spec = replace(spec, modality=kind, shape=shape)
    plan = recipes.plan(recipe, spec, given)
    from amalgan.training import Trainer

    x = torch.rand(40, *spec.shape)
    c = torch.arange(40) % 3 if spec.classes else torch.randn(40, 2)
    trainer = Trainer(plan, Split(x, c), 12)
    before = {name: [p.clone() for p in some] for name, some in trainer.networks.items()}
    for _ in trainer.run():
        pass
    trainer.check()
    for name, some in trainer.networks.items():
        assert not all(torch.equal(a, b) for a, b in zip(before[name], some)), name
    made = plan.model.eval()
    one, other = (made.sample(4, 1, c=c[i].expand(4, *c.shape[1:])) for i in (0, 1))
    assert not torch.allclose(one, other, atol=1e-4)


def test_some_labels_are_hidden_in_training_alone() -> None:
    made = model("gan", IMAGES, hidden=0.3)
    c = torch.arange(3000) % 3
    draw = made.train().draw(torch.rand(3000, 1, 8, 8), c, Noise(1, 2))
    assert 0.27 < float((draw.c < 0).float().mean()) < 0.33
    assert torch.equal(draw.c[draw.c >= 0], c[draw.c >= 0])
    assert torch.equal(made.eval().draw(torch.rand(3000, 1, 8, 8), c, Noise(1, 2)).c, c)
    numbers = model("vae", NUMBERS, hidden=0.3).train().draw(torch.rand(300, 1, 8, 8), torch.randn(300, 2), Noise(1, 2))
    assert (
        0.2 < float(numbers.c.isnan().all(1).float().mean()) < 0.4
        and not numbers.c.isnan().any(1)[~numbers.c.isnan().all(1)].any()
    )


def test_labels_are_as_frequent_as_in_the_training_set_and_depend_on_their_number_alone() -> None:
    made = model("gan", IMAGES)
    c = torch.tensor([0] * 60 + [1] * 30 + [2] * 10 + [-1] * 50)
    made.begin(Split(torch.rand(150, 1, 8, 8), c))
    labels = made.labels(5000, 3)
    assert torch.allclose(labels.bincount() / 5000, torch.tensor([0.6, 0.3, 0.1]), atol=0.03)
    assert torch.equal(made.labels(70, 3), labels[:70])
    assert torch.allclose(made.eval().sample(9, 3), made.sample(30, 3)[:9], atol=1e-6)


def test_a_label_in_a_persons_words() -> None:
    made = model("gan", IMAGES)
    assert made.asked("two words", 2).tolist() == [2, 2] and made.asked("dog", 1).tolist() == [1]
    assert made.asked("each", 4).tolist() == [0, 1, 2, 0] and made.asked("none", 2).tolist() == [-1, -1]
    with pytest.raises(UsageError, match="write one of cat, Dog, two words"):
        made.asked("shoe", 1)
    numbers = model("gan", NUMBERS)
    assert torch.allclose(numbers.asked("age = 40, smiling=1", 2), torch.tensor([[1.0, 1.0]] * 2))
    for wrong in ("smiling", "height=3", "age=old"):
        with pytest.raises(UsageError, match="known are age, smiling"):
            numbers.asked(wrong, 1)


def test_numbers_nobody_named_are_lent_by_the_nearest_training_examples() -> None:
    made = model("gan", NUMBERS)
    ages, smiles = torch.linspace(-2, 2, 500), torch.linspace(-1, 1, 500)  # who is older smiles more
    made.begin(
        Split(torch.rand(501, 1, 8, 8), torch.cat([torch.stack([ages, smiles], 1), torch.full((1, 2), torch.nan)]))
    )
    young, old = made.asked("age=15", 200), made.asked("age=45", 200)
    assert (young[:, 0] == -1.5).all() and (old[:, 0] == 1.5).all()
    assert young[:, 1].max() < -0.5 < 0.5 < old[:, 1].min() and young[:, 1].unique().numel() > 20
    assert torch.equal(made.asked("age=15", 7), young[:7]) and not made.asked("smiling=1, age=15", 200).isnan().any()


def test_data_without_labels_and_packs_are_refused() -> None:
    for recipe in ("ae", "vae", "gan", "vaegan", "aae", "bigan", "infogan", "sagan", "r3gan"):
        with pytest.raises(UsageError, match="data without labels"):
            recipes.plan(recipe, Spec("images", (1, 16, 16)), {"condition": "labels"})
    with pytest.raises(UsageError, match="leave --pack out"):
        recipes.plan("gan", IMAGES, {"condition": "labels", "pack": 2})


def test_a_fitted_prior_knows_which_codes_are_of_which_class() -> None:
    """Codes that tell the class must not be drawn for another one."""
    source = torch.Generator().manual_seed(0)
    c = torch.arange(900) % 3
    z = torch.stack([10.0 * (c - 1), torch.zeros(900)], 1) + 0.1 * torch.randn(900, 2, generator=source)
    c[::9] = -1
    prior = MixtureByClass.of(z, c, 0, 12)
    asked = torch.tensor([0, 1, 2, -1]).repeat(100)
    drawn = prior.sample(400, 1, c=asked)
    for label in range(3):
        assert (drawn[asked == label, 0] - 10 * (label - 1)).abs().max() < 2
    assert drawn[asked == -1, 0].std() > 5
    assert torch.allclose(prior.sample(400, 1, c=asked)[7:9], prior.sample(2, 1, 7, asked[7:9]))
    assert torch.allclose(prior.weights.sum(), torch.tensor(1.0)) and prior.log_prob(z).mean() > -3
    made = model("vae", IMAGES)
    examples = [(torch.rand(60, 1, 8, 8), torch.arange(60) % 3)]
    made.fit_prior(examples, components=6)
    again = model("vae", IMAGES)
    again.grow(made.grown())
    again.load_state_dict(made.state_dict())
    assert torch.equal(made.eval().sample(9, 2), again.eval().sample(9, 2))


# Terms


def test_a_classifiers_cost_is_a_cross_entropy_and_unknown_labels_cost_nothing() -> None:
    made = model("gan", IMAGES, discriminator_condition="classifier", hidden=0.0)
    judge = made.discriminator
    assert isinstance(judge, Classifying)
    nn.init.zeros_(judge.guess.weight)
    judge.guess.bias.data = torch.tensor([0.0, 1.0, 2.0])
    c = torch.tensor([0, 2, -1, 1])
    draw = made.draw(torch.rand(4, 1, 8, 8), c, Noise(1))
    log_p = judge.guess.bias.detach().log_softmax(0)
    cost = -(log_p[0] + log_p[2] + log_p[1]) / 4
    for player, times in (("discriminator", 2), ("generator", 1)):
        (loss,) = o.Classification().losses(Turn(draw, player))
        assert torch.allclose(loss.value, times * cost) and loss.moves == (
            ("discriminator",) if times == 2 else ("decoder",)
        )


def test_of_numbers_it_is_half_the_squared_error() -> None:
    made = model("gan", NUMBERS, discriminator_condition="classifier", hidden=0.0)
    nn.init.zeros_(made.discriminator.guess.weight)
    nn.init.zeros_(made.discriminator.guess.bias)
    draw = made.draw(torch.rand(2, 1, 8, 8), torch.tensor([[2.0, torch.nan], [0.0, 1.0]]), Noise(1))
    (loss,) = o.Classification().losses(Turn(draw, "generator"))
    assert float(loss.value.detach()) == pytest.approx((4 + 1) / 4)


# Judging


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.open("digits")


@pytest.mark.slow
def test_label_scores_of_real_shuffled_and_repeated_images(digits: data.Data) -> None:
    eyes = features.classifier(digits, steps=300)
    x, c = digits.test.batch(torch.arange(len(digits.test)))
    seen = eyes(x)
    real = conditional(eyes, seen, c, seen, c)
    assert real.label_accuracy > 0.95 and real.class_diversity == pytest.approx(1)
    wrong = conditional(eyes, seen, (c + 1) % 10, seen, c)
    assert wrong.label_accuracy < 0.05
    one = torch.stack([seen[c == label][0] for label in range(10)])[
        c
    ]  # the same example of each class, again and again
    assert conditional(eyes, one, c, seen, c).class_diversity == pytest.approx(0, abs=1e-6)
    assert conditional(eyes, one, c, seen, c).label_accuracy > 0.8


@pytest.mark.slow
def test_real_images_teach_and_shuffled_labels_do_not(digits: data.Data) -> None:
    x, c = digits.train.batch(torch.arange(800))
    real, real_c = digits.test.batch(torch.arange(len(digits.test)))
    assert taught(x, c, real, real_c, 10) > 0.9
    assert taught(x, c[torch.randperm(800, generator=torch.Generator().manual_seed(0))], real, real_c, 10) < 0.35


# Runs and the command line


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    folder = tmp_path_factory.mktemp("labelled") / "run"
    return runs.train(
        "gan",
        data.open("digits"),
        steps=500,
        out=folder,
        width=8,
        latent=8,
        lr=2e-3,
        ema=0.99,
        condition="labels",
        threads=1,
    )


def test_a_run_makes_what_it_is_asked_for(run: runs.Run, tmp_path: Path) -> None:
    made = run.sample(20, label="each")
    assert made.x.shape == (20, 1, 8, 8) and made.c.tolist() == list(range(10)) * 2 and made.columns == 10
    assert torch.equal(run.sample(5, label="3").x, runs.load(run.folder).sample(5, label="3").x)
    run.modality.save(made, tmp_path / "folder")
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == sorted(map(str, range(10)))
    run.modality.save(made, tmp_path / "made.npz")
    held = np.load(tmp_path / "made.npz")
    assert held["y"].tolist() == made.c.tolist() and held["classes"].tolist() == list(map(str, range(10)))


@pytest.mark.slow
def test_its_rows_say_how_well_it_keeps_to_labels(run: runs.Run) -> None:
    rows = {row.metric: row for row in run.evaluate(n=100)}
    for name in ("label_accuracy", "class_diversity", "tstr"):
        assert 0 <= rows[name].value <= 2 and rows[name].floor > rows[name].ceiling
    assert rows["label_accuracy"].value > 0.3, "labels are ignored"


def test_the_command_line(run: runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["sample", str(run.folder), "-n", "4", "--label", "7", "--out", str(tmp_path / "sevens.png")]) == 0
    assert command(["sample", str(run.folder), "--label", "shoe"]) == 2
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in capsys.readouterr().err
    assert (
        command(["train", "vae", "--data", "ring", "--condition", "labels", "--steps", "1", "--dry-run", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["arguments"]["condition"] == "labels"


def test_a_model_without_labels_says_how_to_get_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.train("gan", data.open("digits"), steps=2, out=tmp_path / "run", width=4, latent=2, threads=1)
    assert command(["sample", str(tmp_path / "run"), "--label", "7"]) == 2
    assert "--condition labels" in capsys.readouterr().err
