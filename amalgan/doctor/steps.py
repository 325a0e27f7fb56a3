"""What can go wrong with steps: too long, too short, on too few examples, to where there are no numbers."""

from __future__ import annotations

from amalgan.doctor.findings import FAILS, HURTS, LOOKS, Finding, History, Remedy, Signal, rounded, times

HUGE = 1e8  # of a gradient, in nats per unit of weight
USUAL = 0.005  # of a network's length is what a step of Adam moves it by, in healthy runs


def diverged(run: History) -> Finding | None:
    """Something is no longer a number."""
    trouble = next((line["diverged"] for line in run.lines if "diverged" in line), None)
    if trouble is None or trouble.get("examples"):  # what the data are to blame for is told with the data
        return None
    return Finding(
        "not a number",
        FAILS,
        f"{trouble['what']} is not a finite number since step {trouble['step']}.",
        {"step": float(trouble["step"])},
        (
            Remedy(times(run, 0.1, "lr"), "steps a tenth as long"),
            Remedy({"clip": 1.0}, "no gradient is longer than 1"),
        ),
    )


def exploding(run: History) -> Finding | None:
    """A gradient grows and grows."""
    for (_, term, network), norms in run.gradients().items():
        if len(norms.looks) < 2 * LOOKS:
            continue
        usual = max(norms.values[: len(norms.looks) // 2])  # what comes back from nothing does not explode
        limit = min(100 * usual, HUGE) if usual > 0 else HUGE
        if norms.stays(above=limit) and norms.now >= norms.values[-LOOKS]:
            return Finding(
                "exploding gradients",
                FAILS,
                f"The gradient of {term} by the {network} is {norms.now:.2g}, and was {usual:.2g}.",
                {"norm": norms.now, "before": usual},
                (
                    Remedy({"clip": 1.0}, "no gradient is longer than 1"),
                    Remedy(times(run, 0.1, "lr"), "steps a tenth as long"),
                ),
                norms.share(above=limit),
                norms,
            )
    return None


def fast_steps(run: History) -> Finding | None:
    """A step moves a network by a good part of its own length, or steps have blown it up."""
    for name, pace in run.by_network("pace", "step over length").items():
        if pace.stays(above=0.1):
            return _too_fast(run, f"A step moves the {name} by {pace.now:.0%} of its length", pace, 0.1)
    for name, scale in run.by_network("scale", "scale of the largest matrix").items():
        if scale.stays(above=8) and name != "discriminator":  # what a game without penalty does to one, it does
            return _too_fast(run, f"A matrix of the {name} makes what passes {scale.now:.0f} times as large", scale, 8)
    return None


def _too_fast(run: History, what: str, signal: Signal, limit: float) -> Finding:
    lr = float(run.arguments["lr"])
    return Finding(
        "the step size is far too large",
        FAILS,
        f"{what}: nothing can be learned that way.",
        {"lr": lr, signal.shows.partition(",")[0].replace(" ", "_"): signal.now},
        (Remedy({"lr": rounded(min(lr / 10, 4e-4))}, "what recipes have as default suits most data"),),
        signal.share(above=limit),
        signal,
    )


def slow_steps(run: History) -> Finding | None:
    """No step was ever large enough to matter."""
    paces = [pace for pace in run.by_network("pace", "step over length").values() if len(pace.looks) >= LOOKS]
    if not paces:
        return None
    pace = max(paces, key=lambda signal: max(signal.values))
    largest = max(pace.values)
    if not 0 < largest < 1e-4:
        return None
    lr = float(run.arguments["lr"])
    return Finding(
        "the step size is far too small",
        FAILS,
        f"No step moved a network by more than {largest:.1g} of its length: the run stands still.",
        {"lr": lr, "step_over_length": largest},
        (Remedy({"lr": rounded(lr * USUAL / largest)}, "half a percent a step is usual", resumes=True),),
        1.0,
        pace,
    )


def small_batch(run: History) -> Finding | None:
    """Every step follows a handful of examples."""
    batch, count = int(run.arguments.get("batch", 64)), run.of("data", "count")
    if batch >= 8 or (count and batch >= count.now):
        return None
    return Finding(
        "the batch is too small",
        HURTS,
        f"{batch} examples a step: the gradient is mostly noise.",
        {"batch": batch},
        (Remedy({"batch": 64}, "steps that many examples agree on", resumes=True),),
    )
