"""The doctor: every check on histories that have the fault and on such as have not, the probe, the command, the remedy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from amalgan import data as data_room
from amalgan import objectives as o
from amalgan import recipes, runs
from amalgan.cli import run as cli
from amalgan.data import Spec
from amalgan.data.core import Data, Split
from amalgan.doctor import CHECKS, Diagnosis, History, diagnose, examine
from amalgan.doctor.findings import Remedy
from amalgan.doctor.probe import Likeness, Probe, about, beside
from amalgan.errors import UsageError
from amalgan.metrics.coverage import radii
from amalgan.progress import print_diagnosis, sparkline
from amalgan.training import Diverged, Trainer

# Signals of a GAN and of a VAE-GAN at a look, as healthy runs have them
GAN: dict[str, Any] = {
    "verdicts": {"separation": 0.8, "memory": 0.5, "real": 0.1, "fake": 0.0, "spread": 0.1, "within": 0.08},
    "samples": {"coverage": 0.7, "density": 0.8, "diversity": 0.95, "duplicates": 0.0, "missing": 0.02, "copied": 0.0,
                "at": [0.1, 0.2, 0.3, 0.4], "sharpness": 0.9},
    "gradients": {"norms": {"discriminator/discriminator/discriminator": 0.3, "discriminator/slope/discriminator": 1.0,
                            "generator/adversarial/decoder": 0.1}, "cosines": {}},
    "pace": {"decoder": 0.003, "discriminator": 0.004},
    "scale": {"decoder": 1.5, "discriminator": 0.7},
    "data": {"count": 5000.0, "looked_at": 4096.0, "duplicates": 0.0, "low": 0.0, "high": 1.0, "spread": 0.3},
}  # fmt: skip
CODED: dict[str, Any] = {
    **GAN,
    "code": {"kl": [1.0, 2.0, 0.5], "gap": 0.3, "error": 0.010, "error_train": 0.009, "use": 8.0, "sharpness": 0.9},
    "gradients": {
        "norms": {"generator/adversarial/decoder": 1.0, "generator/reconstruction/decoder": 10.0},
        "cosines": {},
    },
}
ARGUMENTS = {"lr": 4e-4, "r1": 1.0, "r2": 1.0, "game": "relativistic", "latent": 64, "batch": 64, "augment": "none"}
HYBRID = {**ARGUMENTS, "beta": 1.0, "lam": 0.125, "variance": 0.02, "free_bits": 0.0, "latent": 3}
LOOKS = 8

# name of the finding: (healthy signals, arguments, what is wrong: group -> signal -> value, or a function of the look)
PLANTED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "mode collapse": (GAN, ARGUMENTS, {"samples": {"diversity": 0.1}}),
    "missing modes": (GAN, ARGUMENTS, {"samples": {"missing": 0.4}}),
    "the discriminator wins": (GAN, ARGUMENTS, {"verdicts": {"separation": 0.99, "real": 6.0, "fake": -6.0}}),
    "the discriminator is blind": (
        GAN, ARGUMENTS,
        {"samples": {"coverage": 0.1}, "gradients": {"norms": {"discriminator/slope/discriminator": 50.0,
                                                               "discriminator/discriminator/discriminator": 0.3}}},
    ),
    "the discriminator overfits": (GAN, ARGUMENTS, {"verdicts": {"memory": 0.9}}),
    "oscillation": (GAN, ARGUMENTS, {"samples": {"at": lambda look: [look % 2, 0.0, 0.0, look % 2]}}),
    "batch norm mixes examples": (GAN, ARGUMENTS, {"verdicts": {"alone": 0.95, "mixed": 0.55}}),
    "labels are ignored": (GAN, ARGUMENTS, {"labels": {"use": 0.5, "kept": 0.12, "real": 0.9, "chance": 0.1}}),
    "labels that say nothing": (GAN, ARGUMENTS, {"labels": {"use": 1.0, "kept": 0.1, "real": 0.11, "chance": 0.1}}),
    "memorisation": (GAN, ARGUMENTS, {"samples": {"copied": 0.6}}),
    "the step size is far too large": (GAN, ARGUMENTS, {"pace": {"decoder": 0.3}}),
    "the step size is far too small": (GAN, ARGUMENTS, {"pace": {"decoder": 1e-6, "discriminator": 1e-6}}),
    "exploding gradients": (
        GAN, ARGUMENTS, {"gradients": {"norms": {"generator/adversarial/decoder": lambda look: 1.0 if look < 5 else 1e4}}}
    ),
    "wrong range of the data": (GAN, ARGUMENTS, {"data": {"low": -1.0, "high": 1.0}}),
    "duplicates in the data": (GAN, ARGUMENTS, {"data": {"duplicates": 0.4}}),
    "not a number in the data": (GAN, ARGUMENTS, {"data": {"broken": 0.01}}),
    "few examples": (GAN, ARGUMENTS, {"data": {"count": 90.0}}),
    "the batch is too small": (GAN, {**ARGUMENTS, "batch": 2}, {}),
    "the game swamps the reconstruction": (
        CODED, HYBRID, {"gradients": {"norms": {"generator/adversarial/decoder": 100.0}}}
    ),
    "the game does nothing": (CODED, HYBRID, {"gradients": {"norms": {"generator/adversarial/decoder": 1e-3}}}),
    "posterior collapse": (CODED, HYBRID, {"code": {"kl": [0.0, 0.0, 0.0], "use": 1.0}}),
    "dead latent units": (CODED, HYBRID, {"code": {"kl": [3.0, 0.0, 0.0]}}),
    "a hole in the prior": (CODED, HYBRID, {"code": {"gap": 20.0}, "samples": {"coverage": 0.2}}),
    "blur": (CODED, HYBRID, {"code": {"sharpness": 0.3}}),
    "overfitting": (CODED, HYBRID, {"code": {"error": 0.05}}),
}  # fmt: skip


def history(signals: dict[str, Any], arguments: dict[str, Any], wrong: dict[str, Any]) -> History:
    lines = []
    for look in range(LOOKS):
        mixed = {group: dict(values) for group, values in signals.items()}
        for group, values in wrong.items():
            for name, value in values.items():
                if isinstance(value, dict):
                    value = {
                        **mixed[group].get(name, {}),
                        **{k: v(look) if callable(v) else v for k, v in value.items()},
                    }
                mixed.setdefault(group, {})[name] = value(look) if callable(value) else value
        lines.append({"step": 150 * (look + 1), "examples": 9600 * (look + 1), "signals": mixed})
    spec = {"modality": "images", "shape": [1, 8, 8], "classes": []}
    return History({"arguments": arguments, "spec": spec, "clip": None}, lines)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named_first(name: str) -> None:
    signals, arguments, wrong = PLANTED[name]
    findings = diagnose(history(signals, arguments, wrong))
    assert [finding.name for finding in findings] == [name]
    finding = findings[0]
    assert 0 < finding.confidence <= 1 and finding.evidence and finding.remedies
    assert all(remedy.flags.keys() <= {*arguments, "clip"} for remedy in finding.remedies)
    json.dumps(finding.to_json())


def test_every_check_is_planted_once() -> None:
    assert len(PLANTED) + 1 >= len(CHECKS)  # `diverged` needs a line of its own; `swamped` finds two things


@pytest.mark.parametrize(("signals", "arguments"), [(GAN, ARGUMENTS), (CODED, HYBRID)])
def test_a_healthy_history_has_no_findings(signals: dict[str, Any], arguments: dict[str, Any]) -> None:
    examined = examine(history(signals, arguments, {}))
    assert examined.findings == () and examined.healthy and examined.looks == LOOKS and examined.remedy is None


@pytest.mark.parametrize(("looks", "said"), [(0, "no look"), (1, "healthy, by 1 look\n"), (7, "healthy, by 7 looks\n")])
def test_only_what_was_looked_at_is_called_healthy(looks: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    examined = Diagnosis((), "", looks)
    print_diagnosis(examined, SimpleNamespace(folder="runs/a"))
    printed = capsys.readouterr().out
    assert said in printed and ("healthy" in printed) == (looks > 0)
    assert examined.to_json()["healthy"] is (True if looks else None)


def test_one_bad_look_is_no_finding() -> None:
    run = history(GAN, ARGUMENTS, {"samples": {"diversity": lambda look: 0.1 if look == LOOKS - 1 else 0.9}})
    assert diagnose(run) == []


def test_a_remedy_that_the_run_has_is_left_out() -> None:
    (finding,) = diagnose(history(GAN, {**ARGUMENTS, "latent": 1}, {"samples": {"missing": 0.4}}))
    assert finding.remedies[0].flags == {"latent": 64}
    assert {"game": "relativistic", "r1": 1.0, "r2": 1.0} not in [remedy.flags for remedy in finding.remedies]


def test_where_examples_are_a_handful_more_of_them_are_the_first_remedy() -> None:
    memory = {"verdicts": {"memory": 0.9}}
    first = {
        count: next(
            finding.remedies[0].flags
            for finding in diagnose(history(GAN, ARGUMENTS, {**memory, "data": {"count": count}}))
            if finding.name == "the discriminator overfits"
        )
        for count in (30, 400)
    }
    assert not first[30] and first[400].keys() == {"r1", "r2"}


def test_remedies_read_as_flags() -> None:
    assert str(Remedy({"free_bits": 0.25}, "why")) == "--free-bits 0.25: why"
    assert str(Remedy({}, "do something")) == "do something"


def improving(values: list[float]) -> str:
    lines = [{"step": step, "signals": {"samples": {"coverage": value}}} for step, value in enumerate(values)]
    return examine(History({"arguments": {}, "spec": {"modality": "points"}}, lines)).progress


def test_progress_beyond_noise_and_its_end() -> None:
    noise = torch.rand(40, generator=torch.Generator().manual_seed(0)).tolist()
    assert improving([step + n for step, n in enumerate(noise)]).startswith("still improving: coverage")
    assert improving([0.5 + 0.1 * n for n in noise]).startswith("no longer improving: coverage")
    assert improving(noise[:5]).startswith("too early")


# The probe


def test_samples_beside_data() -> None:
    source = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 256, 2, generator=source)
    centres, shares = torch.tensor([[2.0, 0.0], [-2.0, 0.0]]), torch.tensor([0.5, 0.5])
    alike = beside(fake, real, radii(real, 5), centres, shares)
    assert alike["coverage"] > 0.9 and alike["diversity"] == pytest.approx(1, abs=0.15) and alike["missing"] == 0
    collapsed = beside(torch.ones(256, 2) + 0.001 * fake, real, radii(real, 5), centres, shares)
    assert collapsed["coverage"] < 0.2 and collapsed["diversity"] < 0.01 and collapsed["duplicates"] > 0.9
    assert collapsed["missing"] == 0.5


def test_data_are_described() -> None:
    x = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    told = about(torch.cat([x, x[:50]]))
    assert told["duplicates"] == pytest.approx(1 / 3) and told["looked_at"] == 150
    assert told["low"] == pytest.approx(0, abs=0.01) and told["high"] == pytest.approx(1, abs=0.01)


def test_likeness_keeps_distances_of_low_rank_data() -> None:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=source) @ torch.randn(3, 20, generator=source)
    seen = Likeness(x, 0)(x)
    assert seen.shape == (200, 3)
    assert torch.allclose(torch.cdist(seen, seen).square().mean(), torch.tensor(2.0), atol=0.02)


@pytest.fixture
def points() -> Data:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(600, 2, generator=source)
    parts = [Split(part, None) for part in x.split([400, 100, 100])]
    return Data("points", Spec("points", (2,)), *parts, [], "none")


@pytest.mark.parametrize(
    "recipe, arguments", [("ae", {}), ("vae", {}), ("gan", {}), ("gan", {"spectral": True}), ("vaegan", {}),
                          ("vaegan", {"balance": 0.3})]
)  # fmt: skip
def test_a_probed_run_ends_in_the_same_weights(recipe: str, arguments: dict[str, Any], points: Data) -> None:
    ends = []
    for probed in (False, True):
        torch.manual_seed(0)
        trainer = Trainer(
            recipes.plan(recipe, points.spec, recipes.check(recipe, {"width": 8, **arguments})), points.train, 6
        )
        probe = Probe(trainer, points)
        for _ in trainer.run():
            if probed:
                found = probe.read()
        ends.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert {"gradients", "pace", "scale"} <= found.keys()
    assert ("verdicts" in found) == ("gan" in recipe) and ("code" in found) == (recipe != "gan")
    json.dumps(found)


@pytest.mark.parametrize(
    "term", [o.Adaptive(o.gan("hinge"), target=-0.9, examples=10_000), o.gan() + o.HistoricalAveraging()]
)
def test_what_terms_remember_is_not_moved_by_a_look(term: o.Objective) -> None:
    x = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    parts = [Split(part, None) for part in x.split([100, 50, 50])]
    data = Data("noise", Spec("images", (1, 8, 8)), *parts, [], "none")
    plan = replace(recipes.plan("gan", data.spec, recipes.check("gan", {"width": 4})), stages=[(term, 1.0)])
    trainer = Trainer(plan, data.train, 6)
    for _ in trainer.run(3):
        pass
    before = {name: buffer.clone() for name, buffer in trainer.model.named_buffers()}
    Probe(trainer, data).read()
    assert before and all(torch.equal(buffer, before[name]) for name, buffer in trainer.model.named_buffers())


def test_what_the_discriminator_owes_to_the_batch(points: Data) -> None:
    torch.manual_seed(0)
    plan = recipes.plan("gan", points.spec, recipes.check("gan", {"width": 8}))
    discriminator = plan.model.discriminator
    linear = next(module for module in discriminator.modules() if isinstance(module, torch.nn.Linear))
    discriminator.register_module("norm", torch.nn.BatchNorm1d(linear.in_features))
    before = discriminator.norm.running_mean.clone()
    forward = discriminator.forward
    discriminator.forward = lambda x: forward(discriminator.norm(x))
    found = Probe(Trainer(plan, points.train, 5), points).read()["verdicts"]
    assert {"alone", "mixed"} <= found.keys()
    assert torch.equal(discriminator.norm.running_mean, before)
    assert discriminator.norm.training


def test_which_classes_a_collapsed_generator_leaves_out() -> None:
    """A generator that knows nothing but threes and eights, by the nearest training example of each sample."""
    digits = data_room.open("digits")
    plan = recipes.plan("gan", digits.spec, recipes.check("gan", {"width": 4, "latent": 2}))
    x, c = digits.test.batch(torch.arange(len(digits.test)))
    few = x[(c == 3) | (c == 8)]
    plan.model.decode = lambda z: few[torch.arange(len(z)) % len(few)]
    ratio = Probe(Trainer(plan, digits.train, 5), digits).read()["samples"]["classes"]
    assert min(ratio[3], ratio[8]) > 3 and sum(value < 0.1 for value in ratio) >= 6
    lines = [
        {"step": step, "signals": {"samples": {"diversity": 0.2, "missing": 0.6, "duplicates": 0.1, "classes": ratio}}}
        for step in range(5)
    ]
    record = {"recipe": "gan", "arguments": dict(ARGUMENTS), "spec": digits.spec.to_json()}
    found = next(f for f in diagnose(History(record, lines)) if f.name == "mode collapse")
    assert "Hardly ever made: 0, 1" in found.sentence and " 3" not in found.sentence.split("made:")[1]


# Runs


def test_a_run_is_diagnosed_while_and_after_it_trains(tmp_path: Path, points: Data) -> None:
    seen: list[runs.Tick] = []
    run = runs.train("vae", points, steps=800, out=tmp_path / "run", width=8, lr=1e-7, watcher=seen.append)
    names = [finding.name for finding in run.diagnose().findings]
    assert "the step size is far too small" in names
    assert "the step size is far too small" in [finding.name for finding in seen[-1].findings]
    told = run.divergence(100)
    assert 0 <= told.value <= 0.7 or told.low < 0


@pytest.mark.slow
def test_a_resumed_log_holds_the_same_signals(tmp_path: Path, points: Data) -> None:
    whole = runs.train("vae", points, steps=400, out=tmp_path / "whole", width=8)

    def stop(tick: runs.Tick) -> None:
        if tick.step >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train("vae", points, steps=400, out=tmp_path / "cut", width=8, watcher=stop, checkpoint_seconds=0.0)
    cut = runs.resume(tmp_path / "cut", data=points)
    looks = [[line.get("signals") for line in run.log()] for run in (whole, cut)]
    for line in looks[1]:  # of the data it tells at the first look of a process
        if line is not None:
            line.pop("data", None)
    for line in looks[0]:
        if line is not None:
            line.pop("data", None)
    assert looks[0] == looks[1]


def test_an_example_that_broke_a_run_is_named(tmp_path: Path, points: Data) -> None:
    points.train.x[7, 0] = float("nan")
    with pytest.raises(Diverged, match="training example 7"):
        runs.train("vae", points, steps=50, out=tmp_path / "run", width=8)
    (finding,) = runs.load(tmp_path / "run", points).diagnose().findings
    assert finding.name == "not a number in the data" and "Training example 7, met at step 4," in finding.sentence


def test_what_broke_first_is_kept(tmp_path: Path, points: Data) -> None:
    points.train.x[7, 0] = 1e30  # a number, but its square is none
    with pytest.raises(Diverged, match="lower --lr"):
        runs.train("vae", points, steps=50, out=tmp_path / "run", width=8)
    names = {finding.name: finding.sentence for finding in runs.load(tmp_path / "run", points).diagnose().findings}
    assert "is not a finite number since step 4" in names["not a number"]


@pytest.mark.slow
def test_the_command_says_it_and_treats_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    train = [
        "train",
        "vae",
        "--data",
        "ring:8",
        "--steps",
        "600",
        "--width",
        "8",
        "--out",
        str(folder),
        "--threads",
        "1",
    ]
    assert cli([*train, "--lr", "1e-7"]) == 0
    capsys.readouterr()
    assert cli(["doctor", str(folder)]) == 3
    said = capsys.readouterr().out
    assert "the step size is far too small" in said and "--lr 0.00" in said
    assert cli(["doctor", str(folder), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is False and told["findings"][0]["remedies"][0]["resumes"]
    assert cli(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "The step size is far too small." in page and "step over length" in page
    capsys.readouterr()
    code = cli(["doctor", str(folder), "--apply", "--json"])
    after = json.loads(capsys.readouterr().out)
    assert "the step size is far too small" not in [finding["name"] for finding in after["after"]["findings"]]
    assert code == (0 if after["healthy"] else 3)
    treated = runs.load(after["treated"])
    assert treated.steps == 1200 and treated.finished and treated.record["arguments"]["lr"] > 1e-5
    assert runs.load(folder).record["arguments"]["lr"] == 1e-7


def test_a_treatment_needs_flags(tmp_path: Path, points: Data) -> None:
    runs.train("vae", points, steps=10, out=tmp_path / "run", width=8)
    with pytest.raises(UsageError, match="by flags"):
        runs.treated(tmp_path / "run", Remedy({}, "more data"), data=points)


def test_sparklines() -> None:
    assert sparkline([0, 1, 2]) == "▁▅█" and sparkline([1, 1]) == "▁▁" and len(sparkline(list(range(100)))) == 40
