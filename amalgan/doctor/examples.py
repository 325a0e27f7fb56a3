"""What can go wrong with the data, and with what is learned by heart of them."""

from __future__ import annotations

from statistics import fmean

from amalgan.doctor.findings import COSTS, FAILS, HURTS, LOOKS, Finding, History, Remedy, times


def few_examples(run: History) -> Finding | None:
    """Too few examples to tell a kind from its examples."""
    count = run.of("data", "count")
    if not count or count.now >= 500:
        return None
    return Finding(
        "few examples",
        COSTS,
        f"{count.now:.0f} training examples: what is learned may be those examples, and no more.",
        {"examples": count.now},
        (Remedy({}, "give it more data; look at the nearest neighbours in the report"),),
    )


def duplicates(run: History) -> Finding | None:
    """The same example comes again and again."""
    share = run.of("data", "duplicates")
    if not share or share.now < 0.05:
        return None
    return Finding(
        "duplicates in the data",
        HURTS,
        f"{share.now:.0%} of {run.of('data', 'looked_at').now:.0f} examples looked at have been there before.",
        {"share": share.now},
        (Remedy({}, "remove them: what comes often is learned by heart first"),),
    )


def broken_examples(run: History) -> Finding | None:
    """Values that are no numbers."""
    share = run.of("data", "broken")
    met = next((line["diverged"] for line in run.lines if line.get("diverged", {}).get("examples")), None)
    if met is not None:
        told, evidence = (
            f"Training example {met['examples'][0]}, met at step {met['step']}, holds",
            {"step": met["step"]},
        )
    elif share and share.now > 0:
        told, evidence = f"{share.now:.2%} of examples hold", {"share": share.now}
    else:
        return None
    return Finding(
        "not a number in the data",
        FAILS,
        f"{told} values that are no finite numbers.",
        evidence,
        (Remedy({}, "remove those examples, or mend what made them"),),
    )


def wrong_range(run: History) -> Finding | None:
    """Values lie where networks do not expect them."""
    low, high, spread = (run.of("data", name) for name in ("low", "high", "spread"))
    if not spread:
        return None
    if run.record["spec"]["modality"] == "images":
        wrong = low.now < -0.01 or high.now > 1.01 or high.now - low.now < 0.35
        asked = "images lie in [0, 1] and use most of it"
    else:
        wrong = not 0.02 < spread.now < 50
        asked = "values are of the order of 1"
    if not wrong:
        return None
    return Finding(
        "wrong range of the data",
        HURTS,
        f"Values lie between {low.now:.3g} and {high.now:.3g}; networks expect that {asked}.",
        {"low": low.now, "high": high.now, "spread": spread.now},
        (Remedy({}, "scale the data before they come in: (x - low) / (high - low)"),),
    )


def idle_labels(run: History) -> Finding | None:
    """Labels that say nothing of the examples: mostly another order than theirs."""
    right = run.of("labels", "real", "held-out examples whose nearest training example has their label")
    chance = run.of("labels", "chance")
    if not right or not chance or chance.now > 0.9 or right.now > chance.now + 0.05:
        return None
    return Finding(
        "labels that say nothing",
        FAILS,
        f"Of held-out examples {right.now:.0%} have the label of the nearest training example; by chance {chance.now:.0%} would.",
        {"right": right.now, "chance": chance.now},
        (Remedy({}, "see that labels stand in the order of the examples"),),
    )


def memorisation(run: History) -> Finding | None:
    """Samples are training examples."""
    copied = run.of("samples", "copied", "share of samples that are copies")
    if not copied.stays(above=0.2):
        return None
    return Finding(
        "memorisation",
        HURTS,
        f"{copied.now:.0%} more samples than held-out examples lie right beside a training example: they are copies.",
        {"copied": copied.now},
        (Remedy({}, "give it more data, or stop earlier: the report shows the nearest neighbours"),),
        copied.share(above=0.2),
        copied,
    )


def overfitting(run: History) -> Finding | None:
    """Training examples are decoded much better than others."""
    error = run.of("code", "error")
    ratio = error.over(run.of("code", "error_train"), "error on held-out over training examples")
    lately = [fmean(error.values[end - LOOKS : end]) for end in range(LOOKS, len(error.values) + 1)]
    rises = bool(lately) and lately[-1] > 1.1 * min(lately)  # single looks differ by a tenth
    limit = 1.5 if rises else 3.0
    if not ratio.stays(above=limit):
        return None
    best = min(error.looks, key=lambda look: look[1])[0]
    return Finding(
        "overfitting",
        HURTS,
        f"Held-out examples come back with {ratio.now:.1f} times the error of training ones{', and it rises' * rises}.",
        {"ratio": ratio.now, "error": error.now},
        (
            Remedy(times(run, 4.0, "beta"), "a code that costs more cannot name examples"),
            Remedy({}, f"stop at step {best}, where held-out examples came back best, or give it more data"),
        ),
        ratio.share(above=limit),
        ratio,
    )
