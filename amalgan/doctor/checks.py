"""What can go wrong, one function each: a history in, a finding or None out.

Thresholds are those that tell planted faults from healthy runs (docs/doctor.md has the table); none is a law of nature.
A check asks for several looks that agree, and forgives the start, where every model is bad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

from amalgan.doctor.findings import COSTS, FAILS, HURTS, Finding, History, Remedy, agreement, last

Check = Callable[[History], Finding | None]


# Games


def mode_collapse(run: History) -> Finding | None:
    """All samples are alike, or whole parts of the data never come."""
    diversity, missing = run.of("samples", "diversity"), run.of("samples", "missing")
    if run.of("code", "use") or not (near := last(diversity)):  # samples of a code are a matter of its prior
        return None
    evidence = {"diversity": near[-1], "missing": missing[-1][1], "duplicates": run.of("samples", "duplicates")[-1][1]}
    if max(near) < 0.3:
        return Finding(
            "mode collapse", FAILS, f"Samples are all alike: they differ by {near[-1]:.0%} of what examples do.",
            evidence, agreement(diversity, lambda v: v < 0.3), _against_collapse(run), tuple(diversity), "diversity",
        )  # fmt: skip
    gone = last(missing)
    # what is still coming back is no collapse
    if min(gone) > 0.2 and gone[-1] > 0.8 * gone[0]:
        return Finding(
            "missing modes", HURTS, f"{gone[-1]:.0%} of the data lie where no sample ever falls.",
            evidence, agreement(missing, lambda v: v > 0.2), _against_collapse(run), tuple(missing), "missing share",
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
        agreement(gap, lambda v: v > 4),
        (
            Remedy(_more(run, "r1", 10.0) | _more(run, "r2", 10.0), "a steeper slope is dearer, so verdicts stay gentle"),
            Remedy({"game": "relativistic"}, "this game does not saturate as fast"),
        ),
        tuple(gap), "D(data) - D(sample), nats",
    )  # fmt: skip


def blind_discriminator(run: History) -> Finding | None:
    """The discriminator cannot tell, though anyone could."""
    separation, coverage = run.of("verdicts", "separation"), run.of("samples", "coverage")
    near, found, spread = last(separation), last(coverage), last(run.of("verdicts", "spread"))
    if not near or not found or max(near) > 0.6 or max(found) > 0.5:
        return None
    return Finding(
        "the discriminator is blind", FAILS,
        f"It tells data from samples no better than a coin ({near[-1]:.2f}), though samples reach {found[-1]:.0%} of the data.",
        {"separation": near[-1], "coverage": found[-1], "spread": spread[-1]},
        agreement(separation, lambda v: v <= 0.6),
        (
            Remedy(_more(run, "r1", 0.1) | _more(run, "r2", 0.1), "a cheaper slope lets it speak up"),
            Remedy({"critic_steps": 2}, "it gets two turns for each of the generator's"),
        ),
        tuple(separation), "P(D(data) > D(sample))",
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
        {"memory": near[-1]}, agreement(memory, lambda v: v > 0.65),
        (
            Remedy(_more(run, "r1", 10.0), "a gentler slope at the data cannot single examples out"),
            Remedy({}, "give it more data, or stop where the samples are best"),
        ),
        tuple(memory), "P(D(train) > D(held out))",
    )  # fmt: skip


def oscillation(run: History) -> Finding | None:
    """Players chase each other: samples lie here now, there then."""
    coverage = run.of("samples", "coverage")
    values = last(coverage, 6)
    if not values:
        return None
    swings = [abs(b - a) for a, b in zip(values, values[1:])]
    turns = sum((b - a) * (c - b) < 0 for a, b, c in zip(values, values[1:], values[2:]))
    if fmean(swings) < 0.2 or turns < 3:
        return None
    return Finding(
        "oscillation", HURTS, f"Coverage swings by {fmean(swings):.0%} from look to look and settles nowhere.",
        {"swing": fmean(swings), "turns": float(turns)}, turns / (len(values) - 2),
        (
            Remedy(_less(run, "lr", 0.3), "smaller steps overshoot less"),
            Remedy(_more(run, "r1", 10.0) | _more(run, "r2", 10.0), "penalties on the slope damp the chase"),
        ),
        tuple(coverage), "coverage",
    )  # fmt: skip


# Steps


def fast_steps(run: History) -> Finding | None:
    """A step moves a network by a good part of its own length."""
    for name, pace in _paces(run).items():
        near = last(pace)
        if near and min(near) > 0.1:
            return Finding(
                "the step size is far too large", FAILS,
                f"A step moves the {name} by {near[-1]:.0%} of its length: nothing can be learned that way.",
                {"pace": near[-1]}, agreement(pace, lambda v: v > 0.1),
                (Remedy({"lr": _round(float(run.arguments["lr"]) * 0.005 / near[-1])}, "half a percent a step is usual"),),
                tuple(pace), f"step over length, {name}",
            )  # fmt: skip
    return None


def slow_steps(run: History) -> Finding | None:
    """No step was ever large enough to matter."""
    paces = {name: pace for name, pace in _paces(run).items() if last(pace)}
    if not paces:
        return None
    name, pace = max(paces.items(), key=lambda item: max(v for _, v in item[1]))
    largest = max(v for _, v in pace)
    if largest > 1e-4:
        return None
    return Finding(
        "the step size is far too small", FAILS,
        f"No step moved a network by more than {largest:.1g} of its length: the run stands still.",
        {"pace": largest}, 1.0,
        (Remedy({"lr": _round(float(run.arguments["lr"]) * 0.005 / largest)}, "half a percent a step is usual"),),
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
            agreement(ratio, lambda v: v > 5), (Remedy({"lam": _round(lam / median(near))}, "brings both to one size"),),
            tuple(ratio), "gradient of the game over that of the reconstruction",
        )  # fmt: skip
    if max(near) < 0.005:
        return Finding(
            "the game does nothing", COSTS,
            f"Its gradient is {near[-1]:.2%} of the reconstruction's: a VAE at twice the price.", {"ratio": near[-1]},
            agreement(ratio, lambda v: v < 0.005), (Remedy({"lam": _round(0.1 * lam / median(near))}, "a tenth is felt"),),
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
        {"kl": kl[-1][1], "use": use[-1][1]}, agreement(use, lambda v: v < 1.1), tuple(flags), tuple(kl), "KL, nats",
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
        {"dead_share": near[-1]}, agreement(shares, lambda v: v >= 0.5),
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
        {"gap_nats": near[-1], "coverage": found[-1], "use": listened[-1]}, agreement(gap, lambda v: v > 3),
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
        {"sharpness": near[-1], "error": errors[-1]}, agreement(sharpness, lambda v: v < 0.6), tuple(remedies),
        tuple(sharpness), "detail over that of data",
    )  # fmt: skip


LOOKS = 3  # before anything is said of a code

CHECKS: Sequence[Check] = (
    fast_steps, slow_steps, posterior_collapse, mode_collapse, strong_discriminator, blind_discriminator, overfitted_discriminator, oscillation,
    swamped, prior_hole, blur, dead_units,
)  # fmt: skip


def diagnose(run: History) -> list[Finding]:
    """All findings, the gravest and surest first."""
    order = (FAILS, HURTS, COSTS)
    found = [finding for check in CHECKS if (finding := check(run)) is not None]
    return sorted(found, key=lambda finding: (order.index(finding.severity), -finding.confidence))


# Small helpers


def _gap(run: History) -> list[tuple[int, float]]:
    return [(step, a - b) for (step, a), (_, b) in zip(run.of("verdicts", "real"), run.of("verdicts", "fake"))]


def _paces(run: History) -> dict[str, list[tuple[int, float]]]:
    names = dict.fromkeys(name for line in run.lines for name in line.get("signals", {}).get("pace", {}))
    return {name: run.of("pace", name) for name in names}


def _sums(run: History) -> list[tuple[int, float]]:
    return [(step, sum(kl)) for step, kl in run.vectors("code", "kl")]


def _collapsed_code(run: History) -> bool:
    kl, use = last(_sums(run)), last(run.of("code", "use"))
    return bool(kl) and bool(use) and max(kl) < 0.5 and max(use) < 1.1


def _against_collapse(run: History) -> tuple[Remedy, ...]:
    return (
        Remedy({"game": "relativistic", **_more(run, "r1", 1.0, 1.0), **_more(run, "r2", 1.0, 1.0)},
               "a game that judges samples against data, with slope penalties: it leaves no mode uncovered"),
        Remedy(_less(run, "lr", 0.3), "the generator cannot jump to one answer"),
    )  # fmt: skip


def _more(run: History, name: str, factor: float, least: float = 0.0) -> dict[str, float]:
    """An argument times a factor, where the recipe has it."""
    if name not in run.arguments:
        return {}
    return {name: _round(max(float(run.arguments[name]) * factor, least) or factor)}


def _less(run: History, name: str, factor: float) -> dict[str, float]:
    return _more(run, name, factor)


def _round(value: float) -> float:
    """Two digits are enough for a flag."""
    return float(f"{value:.2g}")
