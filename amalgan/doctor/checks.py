"""What can go wrong, one function each: a history in, a finding or None out.

Thresholds are those that tell planted faults from healthy runs (docs/doctor.md has the table); none is a law of nature.
A check asks for several looks that agree, and forgives the start, where every model is bad.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, median

from amalgan.doctor.findings import COSTS, FAILS, HURTS, LAST, Finding, History, Remedy, agreement, last

Check = Callable[[History], Finding | None]


# Games


def mode_collapse(run: History) -> Finding | None:
    """All samples are alike, or whole parts of the data never come."""
    diversity, missing = run.of("samples", "diversity"), run.of("samples", "missing")
    if run.of("code", "use") or not (near := last(diversity)):  # samples of a code are a matter of its prior
        return None
    evidence = {"diversity": near[-1], "missing": missing[-1][1], "duplicates": run.of("samples", "duplicates")[-1][1]}
    if max(near) < 0.35:
        return Finding(
            "mode collapse", FAILS, f"Samples are all alike: they differ by {near[-1]:.0%} of what examples do.",
            evidence, agreement(diversity, below=0.35), _against_collapse(run), tuple(diversity), "diversity",
        )  # fmt: skip
    gone = last(missing)
    # what is still coming back is no collapse
    if min(gone) > 0.2 and gone[-1] > 0.8 * gone[0]:
        return Finding(
            "missing modes", HURTS, f"{gone[-1]:.0%} of the data lie where no sample ever falls.",
            evidence, agreement(missing, above=0.2), _against_collapse(run), tuple(missing), "missing share",
        )  # fmt: skip
    return None


def strong_discriminator(run: History) -> Finding | None:
    """The discriminator wins every time, by so much that its slope teaches nothing."""
    separation, gap = run.of("verdicts", "separation"), _gap(run)
    if not (near := last(separation)) or not (far := last(gap)):
        return None
    if min(near) < 0.95 or min(far) < 4 or fast_steps(run):
        return None
    return Finding(
        "the discriminator wins", FAILS,
        f"It tells {near[-1]:.0%} of samples from data, by {far[-1]:.1f} nats: next to no gradient is left for the generator.",
        {"separation": near[-1], "gap_nats": far[-1]},
        agreement(gap, above=4),
        (
            Remedy(_stronger(run), "a steeper slope is dearer, so verdicts stay gentle", resumes=True),
            Remedy({"game": "relativistic"}, "this game does not saturate as fast"),
        ),
        tuple(gap), "D(data) - D(sample), nats",
    )  # fmt: skip


def blind_discriminator(run: History) -> Finding | None:
    """The discriminator cannot tell, though anyone could: mostly because a penalty silences it."""
    separation, within = run.of("verdicts", "separation"), run.of("verdicts", "within")
    near, found, apart = last(separation), last(run.of("samples", "coverage")), last(within)
    norms = run.norms("discriminator", "discriminator")
    slope = [
        (step, a / max(b, 1e-12)) for (step, a), (_, b) in zip(norms.get("slope", []), norms.get("discriminator", []))
    ]
    loud = last(slope)
    if not near or not found or max(found) > 0.5:
        return None
    silenced = bool(loud) and min(loud) > 30
    if not silenced and (max(near) > 0.6 or max(apart) > 1):  # wide verdicts that are wrong are no blindness
        return None
    why = (
        f"its penalty pulls {loud[-1]:.0f} times as hard as its game"
        if silenced
        else f"it is right {near[-1]:.0%} of times"
    )
    return Finding(
        "the discriminator is blind", FAILS,
        f"It hardly tells data from samples ({why}), though samples reach {found[-1]:.0%} of the data.",
        {"separation": near[-1], "coverage": found[-1]} | ({"penalty_over_game": loud[-1]} if loud else {}),
        agreement(slope, above=30) if silenced else agreement(separation, below=0.6),
        (
            Remedy(_softer(run, loud[-1] / 4 if silenced else 10.0), "a cheaper slope lets it speak up", resumes=True),
            Remedy({"critic_steps": 2}, "it gets two turns for each of the generator's"),
        ),
        tuple(slope if silenced else separation),
        "gradient of the penalty over that of the game" if silenced else "P(D(data) > D(sample))",
    )  # fmt: skip


def overfitted_discriminator(run: History) -> Finding | None:
    """The discriminator knows its examples by heart."""
    memory = run.of("verdicts", "memory")
    near = last(memory)
    if not near or min(near) < 0.65:
        return None
    return Finding(
        "the discriminator overfits", HURTS,
        f"It likes {near[-1]:.0%} of training examples better than held-out ones: it tells them by heart, not by kind.",
        {"memory": near[-1]}, agreement(memory, above=0.65),
        (
            Remedy(_more(run, "r1", 10.0), "a gentler slope at the data cannot single examples out", resumes=True),
            Remedy({}, "give it more data, or stop where the samples are best"),
        ),
        tuple(memory), "P(D(train) > D(held out))",
    )  # fmt: skip


def oscillation(run: History) -> Finding | None:
    """Players chase each other: a sample lies here now, there then."""
    places = run.vectors("samples", "at")
    moved = [(step, _rms(now, before)) for (_, before), (step, now) in zip(places, places[1:])]
    near = last(moved, 5)
    # what moves less and less is still on its way
    if not near or min(near) < 0.18 or fmean(near[-2:]) < 0.5 * fmean(near[:2]):
        return None
    return Finding(
        "oscillation", HURTS,
        f"From look to look a sample moves by {near[-1]:.0%} of the data's width, and no less than before.",
        {"moved": near[-1]}, agreement(moved, above=0.18),
        (
            Remedy(_stronger(run), "penalties on the slope damp the chase"),
            Remedy(_less(run, "lr", 0.3), "smaller steps overshoot less"),
        ),
        tuple(moved), "way of a sample between looks",
    )  # fmt: skip


# Steps


def fast_steps(run: History) -> Finding | None:
    """A step moves a network by a good part of its own length, or has blown it up."""
    for group, limit, sentence, shows in (
        ("pace", 0.1, "A step moves the {name} by {value:.0%} of its length", "step over length, {name}"),
        ("scale", 8.0, "A matrix of the {name} makes what passes {value:.0f} times as large", "scale of the {name}"),
    ):
        for name, signal in _by_network(run, group).items():
            near = last(signal)
            if (
                not near or min(near) < limit or (group, name) == ("scale", "discriminator")
            ):  # what games do to one, they do
                continue
            lr = float(run.arguments["lr"])
            return Finding(
                "the step size is far too large", FAILS,
                f"{sentence.format(name=name, value=near[-1])}: nothing can be learned that way.", {group: near[-1]},
                agreement(signal, above=limit),
                (Remedy({"lr": _round(min(lr / 10, 1e-3))}, "a thousandth is usual, and less is safe"),),
                tuple(signal), shows.format(name=name),
            )  # fmt: skip
    return None


def slow_steps(run: History) -> Finding | None:
    """No step was ever large enough to matter."""
    paces = {name: pace for name, pace in _by_network(run, "pace").items() if last(pace)}
    if not paces:
        return None
    name, pace = max(paces.items(), key=lambda item: max(v for _, v in item[1]))
    largest = max(v for _, v in pace)
    if not 0 < largest < 1e-4:
        return None
    return Finding(
        "the step size is far too small", FAILS,
        f"No step moved a network by more than {largest:.1g} of its length: the run stands still.",
        {"pace": largest}, 1.0,
        (Remedy({"lr": _round(float(run.arguments["lr"]) * 0.005 / largest)}, "half a percent a step is usual", resumes=True),),
        tuple(pace), f"step over length, {name}",
    )  # fmt: skip


# Hybrids


def swamped(run: History) -> Finding | None:
    """One of reconstruction and game is so much louder that the other does nothing."""
    norms = run.norms("generator", "decoder")
    if "adversarial" not in norms or "reconstruction" not in norms or not run.arguments.get("lam"):
        return None
    ratio = [(step, a / max(r, 1e-12)) for (step, a), (_, r) in zip(norms["adversarial"], norms["reconstruction"])]
    near, lam = last(ratio), float(run.arguments["lam"])
    if not near:
        return None
    if min(near) > 5:
        return Finding(
            "the game swamps the reconstruction", HURTS,
            f"Its gradient is {near[-1]:.1f} times the reconstruction's.", {"ratio": near[-1]},
            agreement(ratio, above=5), (Remedy({"lam": _round(lam / median(near))}, "brings both to one size"),),
            tuple(ratio), "gradient of the game over that of the reconstruction",
        )  # fmt: skip
    if max(near) < 0.005:
        return Finding(
            "the game does nothing", COSTS,
            f"Its gradient is {near[-1]:.2%} of the reconstruction's: a VAE at twice the price.", {"ratio": near[-1]},
            agreement(ratio, below=0.005), (Remedy({"lam": _round(0.1 * lam / median(near))}, "a tenth is felt", resumes=True),),
            tuple(ratio), "gradient of the game over that of the reconstruction",
        )  # fmt: skip
    return None


# Codes


def posterior_collapse(run: History) -> Finding | None:
    """The code says nothing, and the decoder does not listen."""
    if not _collapsed_code(run):
        return None
    kl, use = _sums(run), run.of("code", "use")
    flags, beta = [], float(run.arguments.get("beta", 0))
    if beta > 0:
        flags.append(Remedy({"beta": 1.0 if beta > 1 else _round(beta / 10)}, "a code that costs less says more"))
    if "free_bits" in run.arguments:
        flags.append(Remedy({"free_bits": 0.25}, "the first quarter nat of each dimension is free"))
    if "variance" in run.arguments:
        flags.insert(
            1 if beta > 1 else 0, Remedy(_less(run, "variance", 0.1), "pixels count for ten times as many nats")
        )
    return Finding(
        "posterior collapse", FAILS,
        f"The code tells {kl[-1][1]:.2f} nats of an example, and decoding another's gives the same.",
        {"kl": kl[-1][1], "use": use[-1][1]}, agreement(use, below=1.1), tuple(flags), tuple(kl), "KL, nats",
    )  # fmt: skip


def dead_units(run: History) -> Finding | None:
    """Most dimensions of the code carry nothing."""
    vectors = run.vectors("code", "kl")
    if _collapsed_code(run) or len(vectors) < LOOKS:
        return None
    shares = [(step, sum(v < 0.01 for v in kl) / len(kl)) for step, kl in vectors]
    near = last(shares)
    if min(near) < 0.5:
        return None
    alive = max(1, round((1 - near[-1]) * len(vectors[-1][1])))
    return Finding(
        "dead latent units", COSTS, f"{near[-1]:.0%} of the code's dimensions carry less than a hundredth of a nat.",
        {"dead_share": near[-1]}, agreement(shares, above=0.5),
        (Remedy({"latent": alive}, "as many as are alive: the same model, smaller"),),
        tuple(shares), "share of dead dimensions",
    )  # fmt: skip


def prior_hole(run: History) -> Finding | None:
    """Reconstructions are good, samples from N(0, I) are not: no code ever lies where they come from."""
    gap, use, coverage = run.of("code", "gap"), run.of("code", "use"), run.of("samples", "coverage")
    near, listened, found = last(gap), last(use), last(coverage)
    if not near or not listened or not found or min(near) < 3 or min(listened) < 3 or max(found) > 0.6:
        return None
    return Finding(
        "a hole in the prior", COSTS,
        f"Codes lie {near[-1]:.1f} nats from N(0, I): samples from there reach {found[-1]:.0%} of the data.",
        {"gap_nats": near[-1], "coverage": found[-1], "use": listened[-1]}, agreement(gap, above=3),
        (Remedy({}, "sample from the prior that is fitted after training, as sample does by default"),),
        tuple(gap), "nats between codes and N(0, I)",
    )  # fmt: skip


def blur(run: History) -> Finding | None:
    """What is decoded lacks the detail that data have, though it no longer improves."""
    sharpness, error = run.of("code", "sharpness"), run.of("code", "error")
    near, errors = last(sharpness), last(error, 5)
    if _collapsed_code(run) or not near or not errors or max(near) > 0.6 or errors[-1] < 0.9 * errors[0]:
        return None
    remedies = [Remedy({"latent": 2 * int(run.arguments["latent"])}, "a longer code can say more")]
    if "lam" not in run.arguments:
        remedies.insert(0, Remedy({}, "train vaegan on the same data: its game asks for detail"))
    return Finding(
        "blur", HURTS, f"Reconstructions have {near[-1]:.0%} of the detail of data, and no longer improve.",
        {"sharpness": near[-1], "error": errors[-1]}, agreement(sharpness, below=0.6), tuple(remedies),
        tuple(sharpness), "detail over that of data",
    )  # fmt: skip


# Data


def few_examples(run: History) -> Finding | None:
    """Too few examples to tell a kind from its examples."""
    count = _of_data(run, "count")
    if count is None or count >= 500:
        return None
    return Finding(
        "few examples", COSTS, f"{count:.0f} training examples: what is learned may be those examples, and no more.",
        {"examples": count}, 1.0, (Remedy({}, "give it more data; look at the nearest neighbours in the report"),),
    )  # fmt: skip


def duplicates(run: History) -> Finding | None:
    """The same example comes again and again."""
    share = _of_data(run, "duplicates")
    if share is None or share < 0.05:
        return None
    looked = _of_data(run, "looked_at") or 0.0
    return Finding(
        "duplicates in the data", HURTS, f"{share:.0%} of {looked:.0f} examples looked at have been there before.",
        {"share": share}, 1.0, (Remedy({}, "remove them: what comes often is learned by heart first"),),
    )  # fmt: skip


def broken_examples(run: History) -> Finding | None:
    """Values that are no numbers."""
    share = _of_data(run, "broken")
    if not share:
        return None
    return Finding(
        "not a number in the data", FAILS, f"{share:.2%} of examples hold values that are no finite numbers.",
        {"share": share}, 1.0, (Remedy({}, "remove those examples, or mend what made them"),),
    )  # fmt: skip


def wrong_range(run: History) -> Finding | None:
    """Values lie where networks do not expect them."""
    low, high, spread = (_of_data(run, name) for name in ("low", "high", "spread"))
    if low is None or high is None or spread is None:
        return None
    if run.record["spec"]["modality"] == "images":
        wrong = low < -0.01 or high > 1.01 or high - low < 0.35
        asked = "images lie in [0, 1] and use most of it"
    else:
        wrong = not 0.02 < spread < 50
        asked = "values are of the order of 1"
    if not wrong:
        return None
    return Finding(
        "wrong range of the data", HURTS, f"Values lie between {low:.3g} and {high:.3g}; networks expect that {asked}.",
        {"low": low, "high": high, "spread": spread}, 1.0,
        (Remedy({}, "scale the data before they come in: (x - low) / (high - low)"),),
    )  # fmt: skip


def small_batch(run: History) -> Finding | None:
    """Every step follows a handful of examples."""
    batch = int(run.arguments.get("batch", 64))
    if batch >= 8 or batch >= (_of_data(run, "count") or batch + 1):
        return None
    return Finding(
        "the batch is too small", HURTS, f"{batch} examples a step: the gradient is mostly noise.", {"batch": batch},
        1.0, (Remedy({"batch": 64}, "steps that many examples agree on", resumes=True),),
    )  # fmt: skip


# Generalising


def memorisation(run: History) -> Finding | None:
    """Samples are training examples."""
    copied = run.of("samples", "copied")
    near = last(copied)
    if not near or min(near) < 0.2:
        return None
    return Finding(
        "memorisation", HURTS,
        f"{near[-1]:.0%} more samples than held-out examples lie right beside a training example: they are copies.",
        {"copied": near[-1]}, agreement(copied, above=0.2),
        (Remedy({}, "give it more data, or stop earlier: the report shows the nearest neighbours"),),
        tuple(copied), "copies",
    )  # fmt: skip


def overfitted_code(run: History) -> Finding | None:
    """Training examples are decoded much better than others."""
    error, own = run.of("code", "error"), run.of("code", "error_train")
    ratio = [(step, a / max(b, 1e-12)) for (step, a), (_, b) in zip(error, own)]
    near, errors = last(ratio), last(error)
    rises = len(error) > LAST and errors[-1] > 1.02 * min(v for _, v in error)
    if not near or min(near) < (1.5 if rises else 3):
        return None
    return Finding(
        "overfitting", HURTS,
        f"Held-out examples come back with {near[-1]:.1f} times the error of training ones{', and it rises' * rises}.",
        {"ratio": near[-1], "error": errors[-1]}, agreement(ratio, above=1.5),
        (
            Remedy({}, f"stop at step {min(error, key=lambda look: look[1])[0]}, where held-out examples came back best"),
            Remedy(_more(run, "beta", 4.0), "a code that costs more cannot name examples"),
        ),
        tuple(ratio), "error on held-out over training examples",
    )  # fmt: skip


# Numbers that break


def diverged(run: History) -> Finding | None:
    """Something is no longer a number."""
    for line in run.lines:
        if "diverged" in line:
            trouble = line["diverged"]
            return Finding(
                "not a number", FAILS,
                f"{trouble['what']} is not a finite number since step {trouble['step']}.",
                {"step": float(trouble["step"])}, 1.0,
                (
                    Remedy(_less(run, "lr", 0.1), "steps a tenth as long"),
                    Remedy({"clip": 1.0}, "no gradient is longer than 1"),
                ),
            )  # fmt: skip
    return None


def exploding(run: History) -> Finding | None:
    """A gradient grows and grows."""
    for player in ("generator", "discriminator"):
        for network in _networks(run):
            for term, norms in run.norms(player, network).items():
                near = last(norms)
                usual = median(v for _, v in norms[: len(norms) // 2]) if len(norms) >= 2 * LAST else 0.0
                if near and usual > 0 and min(near) > 100 * usual:
                    return Finding(
                        "exploding gradients", FAILS,
                        f"The gradient of {term} by the {network} is {near[-1] / usual:.0f} times what it was.",
                        {"norm": near[-1], "before": usual}, agreement(norms, above=100 * usual),
                        (Remedy({"clip": 1.0}, "no gradient is longer than 1"), Remedy(_less(run, "lr", 0.3), "shorter steps")),
                        tuple(norms), f"gradient of {term} by the {network}",
                    )  # fmt: skip
    return None


def batch_norm_mixing(run: History) -> Finding | None:
    """The discriminator knows data from samples by the statistics of the batch that they come in."""
    alone, mixed = run.of("verdicts", "alone"), run.of("verdicts", "mixed")
    gap = [(step, a - b) for (step, a), (_, b) in zip(alone, mixed)]
    near = last(gap)
    if not near or min(near) < 0.2:
        return None
    return Finding(
        "batch norm mixes examples", HURTS,
        f"Judged in batches of their own, samples are told from data {near[-1]:.0%} more often than in one: by the batch.",
        {"alone": alone[-1][1], "mixed": mixed[-1][1]}, agreement(gap, above=0.2),
        (Remedy({}, "a discriminator without batch norm: spectral or no normalisation"),),
        tuple(gap), "separation owed to the batch",
    )  # fmt: skip


def ignored_labels(run: History) -> Finding | None:
    """The label changes nothing."""
    use = run.of("labels", "use")
    near = last(use)
    if not near or max(near) > 0.02:
        return None
    return Finding(
        "labels are ignored", FAILS, f"Another label changes a sample by {near[-1]:.1%} of what other noise does.",
        {"use": near[-1]}, agreement(use, below=0.02),
        (Remedy({}, "tell the discriminator the labels, too, and see that they are not shuffled"),),
        tuple(use), "change by the label over change by the noise",
    )  # fmt: skip


LOOKS = 3  # before anything is said of a code

CHECKS: Sequence[Check] = (
    diverged, exploding, fast_steps, slow_steps, posterior_collapse, mode_collapse, strong_discriminator,
    blind_discriminator, overfitted_discriminator, oscillation, batch_norm_mixing, ignored_labels, memorisation,
    overfitted_code, broken_examples, wrong_range, duplicates, small_batch, few_examples, swamped, prior_hole, blur, dead_units,
)  # fmt: skip


def diagnose(run: History) -> list[Finding]:
    """All findings, the gravest and surest first."""
    order = (FAILS, HURTS, COSTS)
    found = [_helpful(finding, run) for check in CHECKS if (finding := check(run)) is not None]
    return sorted(found, key=lambda finding: (order.index(finding.severity), -finding.confidence))


# Small helpers


def _helpful(finding: Finding, run: History) -> Finding:
    """Without remedies that the run has already."""
    now = run.arguments | {"clip": run.record.get("clip")}
    kept = tuple(r for r in finding.remedies if not r.flags or any(now.get(name) != v for name, v in r.flags.items()))
    return replace(finding, remedies=kept)


def _gap(run: History) -> list[tuple[int, float]]:
    return [(step, a - b) for (step, a), (_, b) in zip(run.of("verdicts", "real"), run.of("verdicts", "fake"))]


def _by_network(run: History, group: str) -> dict[str, list[tuple[int, float]]]:
    names = dict.fromkeys(name for line in run.lines for name in line.get("signals", {}).get(group, {}))
    return {name: run.of(group, name) for name in names}


def _of_data(run: History, name: str) -> float | None:
    looks = run.of("data", name)
    return looks[-1][1] if looks else None


def _networks(run: History) -> list[str]:
    norms = (line.get("signals", {}).get("gradients", {}).get("norms", {}) for line in run.lines)
    return list(dict.fromkeys(name.split("/")[2] for found in norms for name in found))


def _sums(run: History) -> list[tuple[int, float]]:
    return [(step, sum(kl)) for step, kl in run.vectors("code", "kl")]


def _collapsed_code(run: History) -> bool:
    kl, use = last(_sums(run)), last(run.of("code", "use"))
    return bool(kl) and bool(use) and max(kl) < 0.5 and max(use) < 1.1


def _against_collapse(run: History) -> tuple[Remedy, ...]:
    game = {"game": "relativistic", **_more(run, "r1", 1.0, 1.0), **_more(run, "r2", 1.0, 1.0)}
    remedies = [
        Remedy(game, "a game that judges samples against data, with slope penalties: it leaves no mode uncovered"),
        Remedy(_less(run, "lr", 0.3), "the generator cannot jump to one answer"),
    ]
    if int(run.arguments.get("latent", 64)) < 8:
        remedies.insert(0, Remedy({"latent": 64}, "a short code bends too little to reach everything"))
    return tuple(remedies)


def _more(run: History, name: str, factor: float, least: float = 0.0) -> dict[str, float]:
    """An argument times a factor, where the recipe has it."""
    if name not in run.arguments:
        return {}
    return {name: _round(max(float(run.arguments[name]) * factor, least) or factor)}


def _stronger(run: History) -> dict[str, float]:
    """Ten times the slope penalties; at least 1."""
    return {**_more(run, "r1", 10.0, 1.0), **_more(run, "r2", 10.0, 1.0)}


def _rms(a: Sequence[float], b: Sequence[float]) -> float:
    return math.sqrt(fmean((p - q) ** 2 for p, q in zip(a, b)))


def _softer(run: History, factor: float) -> dict[str, float]:
    """Every slope penalty of a run that many times weaker."""
    names = [name for name in ("r1", "r2", "gradient_penalty") if float(run.arguments.get(name, 0)) > 0]
    return {name: _round(float(run.arguments[name]) / factor) for name in names}


def _less(run: History, name: str, factor: float) -> dict[str, float]:
    return _more(run, name, factor)


def _round(value: float) -> float:
    """Two digits are enough for a flag."""
    return float(f"{value:.2g}")
