"""What is wrong with a run, how sure that is, and what to do: read off its log, while it trains or after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from amalgan.doctor import codes, examples, games, steps
from amalgan.doctor.findings import FAILS, HURTS, SEVERITIES, Finding, History, Remedy, Signal
from amalgan.errors import UsageError
from amalgan.metrics.divergence import Divergence

__all__ = ["Diagnosis", "Divergence", "Finding", "History", "Remedy", "Signal", "diagnose", "divergence", "examine"]

# What can go wrong, one function each: a history in, a finding or None out. Thresholds are those that tell planted faults
# from healthy runs (docs/doctor.md has the table); none is a law of nature. A check asks for several looks that agree, and
# forgives the start, where every model is bad.
CHECKS: tuple[Callable[[History], Finding | None], ...] = (
    *(steps.diverged, steps.exploding, steps.fast_steps, steps.slow_steps, steps.small_batch),
    *(games.mode_collapse, games.strong_discriminator, games.blind_discriminator, games.overfitted_discriminator),
    *(games.oscillation, games.batch_norm_mixing, games.ignored_labels),
    *(codes.posterior_collapse, codes.swamped, codes.prior_hole, codes.blur, codes.dead_units),
    *(examples.broken_examples, examples.wrong_range, examples.duplicates, examples.memorisation),
    *(examples.overfitting, examples.few_examples, examples.idle_labels),
)
WINDOW = 5  # looks that are compared with as many before them

# What a run gets better at: group, signal, and whether higher is better
AIMS = (("samples", "coverage", True), ("samples", "density", True), ("code", "error", False))


@dataclass(frozen=True)
class Diagnosis:
    """Everything there is to say of a run.

    Arguments:
        findings: the gravest first, () where nothing is wrong.
        progress: one sentence: whether it still gets better, and what to do if not.
        looks: how many the findings rest on.
    """

    findings: tuple[Finding, ...]
    progress: str
    looks: int

    @property
    def healthy(self) -> bool | None:
        """Nothing fails, nothing hurts; some of it could perhaps be had for less. None where there is nothing to go by."""
        if not self.looks and not self.findings:
            return None
        return not any(finding.severity in (FAILS, HURTS) for finding in self.findings)

    @property
    def remedy(self) -> Remedy | None:
        """The first that is a flag."""
        return next((remedy for finding in self.findings for remedy in finding.remedies if remedy.flags), None)

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        found = [finding.to_json() for finding in self.findings]
        return {"healthy": self.healthy, "progress": self.progress, "looks": self.looks, "findings": found}


def diagnose(run: History) -> list[Finding]:
    """All findings, the gravest and surest first, with the remedies that would change something."""
    now = run.arguments | {"clip": run.record.get("clip")}
    found = [finding.helpful(now) for check in CHECKS if (finding := check(run)) is not None]
    return sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), -finding.confidence))


def examine(run: History) -> Diagnosis:
    """Findings and progress of a history."""
    looks = sum("signals" in line for line in run.lines)
    return Diagnosis(tuple(diagnose(run)), progress(run), looks)


def divergence(model: Any, data: Any, n: int = 2000, seed: int = 0) -> Divergence:
    """Jensen-Shannon divergence between a model's samples and held-out data: see `amalgan.metrics.divergence`.

    Both are seen as the doctor sees them: pictures at 8 x 8, along the training data's main directions.

    Raises:
        UsageError: samples that are not numbers alike, or fewer than 40 held-out examples.
    """
    from amalgan.doctor.probe import Likeness
    from amalgan.metrics.divergence import jensen_shannon

    real = data.validation.tensor(n)
    if not real.is_floating_point():
        raise UsageError("a divergence between samples and data", "examples that are no real numbers", "ask evaluate")
    seen = Likeness(data.train.tensor(n), seed)
    return jensen_shannon(seen(real), seen(model.sample(len(real), seed)), seed)


def progress(run: History) -> str:
    """Whether anything improved beyond its noise over the last looks."""
    asked: list[str] = []
    for group, name, higher in AIMS:
        signal = run.of(group, name)
        if len(signal.looks) < 2 * WINDOW:
            continue
        asked.append(name)
        values = [value if higher else -value for value in signal.values]
        before, now = values[-2 * WINDOW : -WINDOW], values[-WINDOW:]
        if fmean(now) - fmean(before) > 2 * _error(before, now):
            return f"still improving: {name} went from {abs(fmean(before)):.3g} to {abs(fmean(now)):.3g}"
    if not asked:
        return f"too early to say whether it still improves: {2 * WINDOW} looks are needed"
    since = run.of(*next(aim[:2] for aim in AIMS if aim[1] in asked)).looks[-WINDOW][0]
    return f"no longer improving: {', '.join(asked)} stayed within their noise since step {since}; more steps would not help"


def _error(a: Sequence[float], b: Sequence[float]) -> float:
    """Standard error of the difference of two means."""
    return math.sqrt(variance(a) / len(a) + variance(b) / len(b))
