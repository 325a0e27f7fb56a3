"""What tune searches: for arguments of a recipe, ranges or values, by default around the recipe's own defaults.

lam=0.01:10:log     between two numbers, evenly by the logarithm; without :log evenly
latent=8|16|32      values one by one: numbers or words
lr                  its usual range: `recipes.SEARCH` has a factor for each name that a search may be worth
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from amalgan import recipes
from amalgan.errors import UsageError
from amalgan.signatures import choices, kind

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, inclusive; drawn evenly, or evenly by their logarithm; to three digits."""

    low: float
    high: float
    log: bool
    whole: bool = False

    def __contains__(self, value: Any) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}{':log' * self.log}"

    def draw(self, trial: Trial, name: str) -> Any:
        """What a trial gets; the same whenever it is asked."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        value = float(f"{trial.suggest_float(name, self.low, self.high, log=self.log):.3g}")
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Words:
    """Values one by one: numbers or words."""

    values: tuple[Any, ...]

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return "|".join(map(str, self.values))

    def draw(self, trial: Trial, name: str) -> Any:
        """What a trial gets; the same whenever it is asked."""
        return trial.suggest_categorical(name, self.values)


Space = dict[str, Range | Words]


def usual(recipe: str, name: str) -> Range | None:
    """What `recipes.SEARCH` says of an argument: a factor around its default; None if nothing, or the default is 0."""
    default, factor = recipes.parameters(recipe)[name].default, recipes.SEARCH.get(name)
    if factor is None or not default:
        return None
    low, high = recipes.RANGES[name]
    whole = recipes.parameters(recipe)[name].annotation == "int"
    bounds = max(default / factor, low), min(default * factor, high)
    low, high = (round(bound) if whole else float(f"{bound:.3g}") for bound in bounds)
    return Range(low, high, log=True, whole=whole)


def space(recipe: str, text: str = "", fixed: dict[str, Any] | None = None, spec: Any = None) -> Space:
    """What is searched: `text`, or else all that `recipes.SEARCH` names and this recipe has.

    Arguments:
        text: "lam=0.01:10:log,beta=0.1:4,latent=8|16|32"; a name alone for its usual range.
        fixed: arguments that keep the value given.
        spec: of the data; given, arguments that the recipe refuses to have changed beside the fixed ones are left out.

    Raises:
        UsageError: no such argument, no such range, values that the recipe refuses, or nothing left to search.
    """
    fixed = fixed or {}
    if text:
        found = dict(_parsed(recipe, part.strip(), fixed) for part in text.split(",") if part.strip())
    else:
        around = {name: usual(recipe, name) for name in recipes.parameters(recipe) if name not in fixed}
        ranges = {name: held for name, held in around.items() if held is not None}
        if spec is not None and not _accepted(recipe, spec, fixed, ranges):
            ranges = {name: held for name, held in ranges.items() if _accepted(recipe, spec, fixed, {name: held})}
        found = dict(ranges)
    if not found:
        raise UsageError(f"tuning {recipe}", "nothing to search", "write --search NAME=LOW:HIGH, or fix less")
    return found


def _accepted(recipe: str, spec: Any, fixed: dict[str, Any], ranges: dict[str, Range]) -> bool:
    """Whether a recipe takes other values of these arguments: some belong to one form of it alone."""
    try:
        recipes.plan(recipe, spec, fixed | {name: held.low for name, held in ranges.items()})
    except UsageError:
        return False
    return True


def _parsed(recipe: str, part: str, fixed: dict[str, Any]) -> tuple[str, Range | Words]:
    """One entry of --search."""
    name, _, values = (word.strip() for word in part.partition("="))
    name, asked = name.replace("-", "_"), f"--search {part}"
    known = recipes.parameters(recipe)
    if name not in known:
        raise UsageError(asked, f"{recipe} has no argument {name!r}", f"write one of {', '.join(known)}")
    if name in fixed:
        raise UsageError(asked, f"it is fixed at {fixed[name]}", f"leave out --{name.replace('_', '-')}")
    if not values:
        around = usual(recipe, name)
        if around is None:
            raise UsageError(asked, "no usual range of it is known", f"write {name}=LOW:HIGH, or {name}=A|B|C")
        return name, around
    read = partial(_value, recipe, name, asked)
    if "|" in values or ":" not in values:
        one_by_one = Words(tuple(dict.fromkeys(read(value.strip()) for value in values.split("|"))))
        if len(one_by_one.values) < 2:
            raise UsageError(
                asked, "one value alone", f"write {name}=A|B, or fix it: --{name.replace('_', '-')} {values}"
            )
        return name, one_by_one
    low, high, *scale = values.split(":")
    if scale not in ([], ["log"], ["linear"]):
        raise UsageError(asked, f"the scale {':'.join(scale)!r}", f"write {name}=LOW:HIGH:log, or without a scale")
    bounds, log = (read(low), read(high)), scale == ["log"]
    if not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds):
        raise UsageError(asked, "words have no range", f"write {name}=A|B|C")
    if not bounds[0] < bounds[1]:
        raise UsageError(asked, f"from {low} to {high}", f"write the lower one first: {name}={high}:{low}")
    if log and bounds[0] <= 0:
        raise UsageError(asked, f"a logarithm of {low}", f"write a lower bound above 0, or {name}={low}:{high}")
    return name, Range(*bounds, log, isinstance(bounds[0], int))


def _value(recipe: str, name: str, asked: str, text: str) -> Any:
    """What a word of --search says, checked as the recipe would."""
    function, parameter = recipes.RECIPES[recipe], recipes.parameters(recipe)[name]
    words, wanted = choices(function, parameter), kind(function, parameter)
    if words:
        value: Any = next((word for word in words if str(word) == text), text)
    elif wanted == "bool":
        value = {"true": True, "false": False}.get(text.lower(), text)
    elif wanted in ("int", "float"):
        try:
            value = float(text)
        except ValueError:
            raise UsageError(asked, f"{text!r} is no number", f"write {name}=LOW:HIGH, or {name}=A|B|C") from None
    else:
        value = text
    return recipes.check(recipe, {name: value})[name]
