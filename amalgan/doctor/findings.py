"""A finding, its remedies, and the history that it is found in: signals, look by look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

FAILS, HURTS, COSTS = "fails", "hurts", "costs"  # nothing useful comes out; it could be better; it could be cheaper
SEVERITIES = (FAILS, HURTS, COSTS)
LOOKS = 3  # that must agree before anything is said
ASKED = 5  # of which a confidence is a share
TINY = 1e-12


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
class Signal:
    """A number at every look that had it.

    Arguments:
        looks: (step, value), the oldest first.
        shows: what the number is, for the axis of a plot.
    """

    looks: tuple[tuple[int, float], ...] = ()
    shows: str = ""

    def __bool__(self) -> bool:
        return bool(self.looks)

    @property
    def values(self) -> list[float]:
        """Without their steps."""
        return [value for _, value in self.looks]

    @property
    def now(self) -> float:
        """The newest."""
        return self.looks[-1][1]

    def stays(self, above: float = -math.inf, below: float = math.inf, looks: int = LOOKS) -> bool:
        """Whether there were so many looks, and the newest of them all lie between two limits."""
        newest = self.values[-looks:]
        return len(newest) == looks and all(above <= value <= below for value in newest)

    def share(self, above: float = -math.inf, below: float = math.inf) -> float:
        """Of the newest looks, those that lie between two limits: how sure a finding is."""
        newest = self.values[-ASKED:]
        return sum(above <= value <= below for value in newest) / len(newest) if newest else 0.0

    def over(self, other: Signal, shows: str = "") -> Signal:
        """self / other, look by look."""
        return Signal(tuple((step, a / max(b, TINY)) for (step, a), b in zip(self.looks, other.values)), shows)

    def less(self, other: Signal, shows: str = "") -> Signal:
        """self - other, look by look."""
        return Signal(tuple((step, a - b) for (step, a), b in zip(self.looks, other.values)), shows)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run, or with its data.

    Arguments:
        name: what the field calls it.
        severity: one of SEVERITIES.
        sentence: what it is, plainly.
        evidence: the numbers that it rests on, by name.
        remedies: the best first.
        confidence: in (0, 1]: share of the newest looks that agree.
        trace: the number that shows it best, for a small plot.
    """

    name: str
    severity: str
    sentence: str
    evidence: dict[str, float]
    remedies: tuple[Remedy, ...]
    confidence: float = 1.0
    trace: Signal = Signal()

    def to_json(self) -> dict[str, Any]:
        """As plain dicts and lists."""
        return asdict(self)

    def helpful(self, arguments: dict[str, Any]) -> Finding:
        """With the remedies that change something of those arguments, or that are no flags."""

        def changes(flags: dict[str, Any]) -> bool:
            return flags.keys() <= arguments.keys() and any(arguments[name] != v for name, v in flags.items())

        return replace(self, remedies=tuple(r for r in self.remedies if not r.flags or changes(r.flags)))


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

    def of(self, group: str, name: str, shows: str = "") -> Signal:
        """A signal of the probe's, where it is a finite number."""
        return Signal(tuple((step, float(v)) for step, v in self._looks(group, name) if _is_number(v)), shows or name)

    def vectors(self, group: str, name: str) -> list[tuple[int, list[float]]]:
        """(step, values) of a signal that is a list of numbers."""
        return [(step, value) for step, value in self._looks(group, name) if isinstance(value, list)]

    def by_network(self, group: str, shows: str) -> dict[str, Signal]:
        """The signals of a group that has one a network."""
        names = dict.fromkeys(name for line in self.lines for name in line.get("signals", {}).get(group, {}))
        return {name: self.of(group, name, f"{shows}, {name}") for name in names}

    def gradients(self) -> dict[tuple[str, str, str], Signal]:
        """Norms by (player, term, network); an infinite one is a large number."""
        found: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
        for step, norms in self._looks("gradients", "norms"):
            for name, value in (norms or {}).items():
                player, term, network = name.split("/")
                found.setdefault((player, term, network), []).append((step, min(float(value), 1e30)))
        return {key: Signal(tuple(looks), f"gradient of {key[1]} by the {key[2]}") for key, looks in found.items()}

    def _looks(self, group: str, name: str) -> list[tuple[int, Any]]:
        return [(int(line["step"]), line.get("signals", {}).get(group, {}).get(name)) for line in self.lines]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# Flags that change what a run has


def times(run: History, factor: float, *names: str, least: float = 0.0) -> dict[str, float]:
    """Arguments times a factor, those that the recipe has; two digits are enough for a flag."""
    held = {name: float(run.arguments[name]) for name in names if name in run.arguments}
    return {name: rounded(max(value * factor, least)) for name, value in held.items()}


def rounded(value: float) -> float:
    """To two digits."""
    return float(f"{value:.2g}")
