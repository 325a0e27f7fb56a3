"""A finding, and the history that it is found in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

FAILS, HURTS, COSTS = "fails", "hurts", "costs"  # nothing useful comes out; it could be better; it could be cheaper
SEVERITIES = (FAILS, HURTS, COSTS)
LAST = 3  # looks that must agree


@dataclass(frozen=True)
class Remedy:
    """What to do: flags of `train`, and one sentence why they help.

    Arguments:
        flags: keyword argument -> value; {} where only a person can help.
        sentence: what they do.
        resumes: whether the run can go on with them, or must start again.
    """

    flags: dict[str, Any]
    sentence: str
    resumes: bool = False

    def __str__(self) -> str:
        flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.flags.items())
        return f"{flags + ': ' if flags else ''}{self.sentence}"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run, or with its data.

    Arguments:
        name: what the field calls it.
        severity: one of SEVERITIES.
        sentence: what it is, plainly.
        evidence: the numbers that it rests on, by name.
        confidence: in (0, 1]: share of the looks that agree, of those that were asked.
        remedies: the best first.
        trace: (step, value) of the number that shows it best, for a small plot.
        shows: what the trace is of.
    """

    name: str
    severity: str
    sentence: str
    evidence: dict[str, float]
    confidence: float
    remedies: tuple[Remedy, ...] = ()
    trace: tuple[tuple[int, float], ...] = ()
    shows: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        return asdict(self)


@dataclass
class History:
    """What is known of a run: its record and its log.

    Arguments:
        record: the content of recipe.json.
        lines: of log.jsonl.
    """

    record: dict[str, Any]
    lines: Sequence[dict[str, Any]]

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the recipe."""
        return dict(self.record["arguments"])

    @property
    def steps(self) -> int:
        """Done so far."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    def of(self, group: str, name: str) -> list[tuple[int, float]]:
        """(step, value) of a signal at every look that has it."""
        found = []
        for line in self.lines:
            value = line.get("signals", {}).get(group, {}).get(name)
            if isinstance(value, int | float) and math.isfinite(value):
                found.append((int(line["step"]), float(value)))
        return found

    def vectors(self, group: str, name: str) -> list[tuple[int, list[float]]]:
        """The same of a signal that is a list of numbers."""
        looks = [(int(line["step"]), line.get("signals", {}).get(group, {}).get(name)) for line in self.lines]
        return [(step, value) for step, value in looks if isinstance(value, list)]

    def norms(self, player: str, network: str) -> dict[str, list[tuple[int, float]]]:
        """Gradient norms of every term that a player's turn lays on a network."""
        found: dict[str, list[tuple[int, float]]] = {}
        for line in self.lines:
            for name, value in line.get("signals", {}).get("gradients", {}).get("norms", {}).items():
                who, term, where = name.split("/")
                if (who, where) == (player, network):
                    found.setdefault(term, []).append((int(line["step"]), float(value)))
        return found

    def terms(self, name: str) -> list[tuple[int, float]]:
        """A term's mean between ticks."""
        return [
            (int(line["step"]), float(line[name])) for line in self.lines if isinstance(line.get(name), int | float)
        ]


def last(signal: Sequence[tuple[int, float]], count: int = LAST) -> list[float]:
    """The newest values, [] where there are not so many yet."""
    values = [value for _, value in signal]
    return values[-count:] if len(values) >= count else []


def agreement(
    signal: Sequence[tuple[int, float]], above: float = -math.inf, below: float = math.inf, among: int = 5
) -> float:
    """Share of the newest looks that lie between two limits."""
    values = [value for _, value in signal][-among:]
    return sum(above <= value <= below for value in values) / len(values) if values else 0.0
