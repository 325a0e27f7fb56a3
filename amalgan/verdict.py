"""The words that follow from the numbers, by stated rules.

A comparison is a table of rows (recipe, seed, metric, value), where recipes share their seeds. For a metric and two
recipes a, b the seed's own luck cancels in the paired differences d_i = a_i - b_i over their common seeds, and

    a is clearly better than b    the 95 % t-interval of d lies wholly on the better side of zero
    a beats b on several metrics  clearly better in at least one of them, clearly worse in none (dominance)
    a wins                        it beats every other candidate; else there is no clear winner

A winner must beat each of the others, so nothing has to be corrected for having looked at many pairs. With one seed no
difference has an interval, and nobody wins. `rules` says all of it in words, for whoever reads a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from amalgan.metrics.intervals import Interval, difference, seed_interval
from amalgan.modalities import Modality, Question, of

RULES = (
    "A number is the mean over seeds; ± is half of its 95 % t-interval over seeds. Every recipe runs on the same "
    "seeds: the same order of the data, and the same initial weights where networks have the same shape.",
    "One recipe is clearly better than another if the 95 % t-interval of their paired differences, seed by seed, "
    "excludes zero. The intervals of two recipes may overlap and their paired difference still be clear.",
    "“Both” is judged by the metrics of both questions, among the recipes that can do both.",
    "A recipe wins a question if it beats every other one: clearly better in at least one of the question's metrics "
    "and clearly worse in none. Otherwise there is no clear winner. With a single seed there never is one; "
    "a recipe that is the only one able to do a thing needs no seeds for that.",
    "A recipe that failed on any seed does not win: its numbers are those of the survivors. Nor does one whose first "
    "metric is no better than the trivial baseline: it has not learned. (A baseline within a tenth of the floor "
    "decides nothing.)",
)


@dataclass(frozen=True)
class Scores:
    """One metric of one recipe over its seeds.

    Arguments:
        values: seed -> value.
        lower: whether lower is better.
        floor, ceiling: the best and the trivial value, None where there is none.
        prior: what was sampled from, "" where nothing was.
    """

    metric: str
    recipe: str
    values: dict[int, float]
    lower: bool
    floor: float | None = None
    ceiling: float | None = None
    prior: str = ""

    @property
    def interval(self) -> Interval:
        return seed_interval([self.values[seed] for seed in sorted(self.values)])

    @property
    def mean(self) -> float:
        return self.interval.value

    @property
    def learned(self) -> bool:
        """Whether the mean is on the better side of the trivial baseline, if that is apart from the floor."""
        if self.ceiling is None or not self.apart:
            return True
        return self.mean < self.ceiling if self.lower else self.mean > self.ceiling

    @property
    def apart(self) -> bool:
        """Whether the trivial value is worse than the best by more than a tenth: only then does it decide anything."""
        if self.ceiling is None or self.floor is None:
            return self.ceiling is not None
        gap = self.ceiling - self.floor if self.lower else self.floor - self.ceiling
        return gap > 0.1 * max(abs(self.floor), abs(self.ceiling))


@dataclass(frozen=True)
class Pair:
    """Two recipes on one metric: the interval of their paired differences a - b, and who is clearly better."""

    metric: str
    a: str
    b: str
    difference: Interval
    sign: int  # 1: a is clearly better, -1: b is, 0: cannot be told


@dataclass(frozen=True)
class Judgement:
    """The answer to one question.

    Arguments:
        question: "reconstruction", "sampling" or "both".
        winner: the recipe that beats all others, or None.
        answer: a few words: the winner, or that there is none.
        sentence: the answer with its reason.
        details: further sentences: anchors, losers, numbers told but not judged.
    """

    question: str
    winner: str | None
    answer: str
    sentence: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What a comparison comes to: one line, a judgement a question, and cautions."""

    headline: str
    judgements: tuple[Judgement, ...]
    cautions: tuple[str, ...] = ()


Table = dict[str, dict[str, Scores]]  # metric -> recipe -> scores


@dataclass(frozen=True)
class Evidence:
    """What a judge looks at: the table of scores, all recipes asked for, those that failed with the seeds, and what
    the modality says of its metrics."""

    table: Table
    recipes: tuple[str, ...]
    failed: dict[str, list[int]]
    modality: Modality

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.modality.questions(tuple(self.table))

    def of(self, metric: str) -> dict[str, Scores]:
        return self.table.get(metric, {})

    def name(self, metric: str) -> str:
        """A metric's name for people."""
        return self.modality.labels.get(metric, metric.replace("_", " "))


def table(rows: Iterable[dict[str, Any]], prior: str = "fitted") -> Table:
    """Rows of a comparison as metric -> recipe -> scores.

    Where a recipe has rows of several priors, those of `prior` count; rows whose value is None (not a number) do not.
    """
    found: Table = {}
    for row in rows:
        if row["value"] is None:
            continue
        metric, recipe, which = row["metric"], row["recipe"], row.get("prior") or ""
        held = found.setdefault(metric, {}).get(recipe)
        if held is None or (which == prior and held.prior != prior):
            held = Scores(metric, recipe, {}, row["better"] == "lower", row.get("floor"), row.get("ceiling"), which)
            found[metric][recipe] = held
        if which == held.prior:
            held.values[row["seed"]] = row["value"]
    return found


def compare(a: Scores, b: Scores) -> Pair:
    """The paired comparison of two recipes over the seeds that both have."""
    seeds = sorted(a.values.keys() & b.values.keys())
    if not seeds:
        return Pair(a.metric, a.recipe, b.recipe, Interval(math.nan, -math.inf, math.inf, 0), 0)
    d = difference([a.values[s] for s in seeds], [b.values[s] for s in seeds])
    sign = -1 if d.low > 0 else 1 if d.high < 0 else 0
    return Pair(a.metric, a.recipe, b.recipe, d, sign if a.lower else -sign)


def beats(evidence: Evidence, a: str, b: str, metrics: Sequence[str]) -> bool:
    """Whether a is clearly better than b in at least one of the metrics that both have, and clearly worse in none."""
    signs = [pair.sign for pair in pairs(evidence, a, b, metrics)]
    return max(signs, default=0) > 0 and min(signs, default=0) >= 0


def pairs(evidence: Evidence, a: str, b: str, metrics: Sequence[str]) -> list[Pair]:
    """The comparisons of a with b in the metrics that both have."""
    shared = [evidence.of(m) for m in metrics if a in evidence.of(m) and b in evidence.of(m)]
    return [compare(scores[a], scores[b]) for scores in shared]


def verdict(
    rows: Iterable[dict[str, Any]],
    recipes: Sequence[str],
    failed: dict[str, list[int]] | None = None,
    modality: Modality | None = None,
) -> Verdict:
    """All questions answered, for a comparison or a single run.

    Arguments:
        rows: dicts with recipe, seed, metric, value, better ("lower" or "higher"), floor, ceiling, prior.
        recipes: as asked for, finished or not.
        failed: recipe -> the seeds on which it failed.
        modality: whose questions are asked; images by default.
    """
    evidence = Evidence(table(rows), tuple(recipes), failed or {}, modality or of("images"))
    if len(evidence.recipes) == 1:
        return _of_one(evidence)
    judgements = [_judge(evidence, question) for question in evidence.questions]
    if len(judgements) == 1:
        return Verdict(_headline_of_one(evidence, judgements[0]), tuple(judgements), _cautions(evidence))
    first, second, both = *judgements, _both(evidence)
    return Verdict(_headline(evidence, first, second, both), (first, second, both), _cautions(evidence))


def rules(modality: Modality) -> tuple[str, ...]:
    """All rules in words, those of the modality where they belong."""
    return (*RULES[:2], *modality.rules[:1], *RULES[2:], *modality.rules[1:])


def clearly_best(scores: dict[str, Scores], failed: Iterable[str] = ()) -> str | None:
    """The recipe that is clearly better than every other in one metric, if any; a failed one never is."""
    for a in scores:
        if (
            a not in failed
            and len(scores) > 1
            and all(compare(scores[a], scores[b]).sign > 0 for b in scores if b != a)
        ):
            return a
    return None


# Numbers in words


def number(value: float | None, digits: int = 3) -> str:
    """A number at so many significant digits, without exponent where it can be read: 0.0123, 3.4, 1,230."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    if places > 7:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    text = _fixed(value, places)
    return text.rstrip("0").rstrip(".") if "." in text else text


def spread(interval: Interval) -> tuple[str, str]:
    """Value and half width of an interval at matching decimals: ("0.0123", "0.0004"); no half width for one seed."""
    half = interval.half_width
    if not math.isfinite(half) or half == 0 or not math.isfinite(interval.value):
        return number(interval.value), "" if not math.isfinite(half) else "0"
    # two digits of the half width, but no more than four of the value: seeds do not support more
    places = 1 - math.floor(math.log10(half))
    if interval.value != 0:
        places = min(places, 3 - math.floor(math.log10(abs(interval.value))))
    places = max(places, -math.floor(math.log10(half)))
    if places > 7:
        return number(interval.value), f"{half:.1e}"
    return _fixed(interval.value, places), _fixed(half, places)


def _fixed(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:,.{max(0, places)}f}".replace("-", "−")  # + 0.0: no minus before a zero


def told(interval: Interval) -> str:
    """An interval as a reader wants it: 0.0123 ± 0.0004, or the value alone for one seed."""
    value, half = spread(interval)
    return f"{value} ± {half}" if half else value


def interval(entry: dict[str, Any]) -> Interval:
    """The interval of an entry of a summary, whose open bounds are None."""
    low, high = entry["low"], entry["high"]
    return Interval(
        entry["value"], -math.inf if low is None else low, math.inf if high is None else high, entry["seeds"]
    )


def times(ratio: float) -> str:
    """A ratio in words: 12 times, 1.3 times."""
    return f"{ratio:,.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times"


def listed(words: Sequence[str], last: str = "and") -> str:
    """vae, gan and vaegan."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


# Answering one question


def _judge(evidence: Evidence, question: Question) -> Judgement:
    metrics, name = question.metrics, question.name
    first = evidence.of(metrics[0])
    able = [r for r in evidence.recipes if r in first]
    lead = f"For {name}"
    if not able:
        return Judgement(name, None, "nothing to judge", f"{lead}: no recipe has a {evidence.name(metrics[0])}.")
    details = tuple(_anchors(evidence, question, first) + _others(evidence, question, able))
    eligible = [r for r in able if first[r].learned and not evidence.failed.get(r)]
    if not any(first[r].learned for r in able):
        sentence = f"{lead}: none. Not one recipe is better than the trivial baseline: none has learned."
        return Judgement(name, None, "none has learned", sentence, details)
    if len(able) == 1:
        return _only(evidence, name, able[0], bool(eligible), first[able[0]], details)
    for a in eligible:
        if all(beats(evidence, a, b, metrics) for b in able if b != a):
            return Judgement(name, a, a, f"{lead}: {a}. {_reasons(evidence, a, able, metrics)}", details)
    sentence = f"{lead}: no clear winner. {_why_not(evidence, able, metrics)}"
    return Judgement(name, None, "no clear winner", sentence, details)


def _only(
    evidence: Evidence, question: str, recipe: str, sound: bool, scores: Scores, details: tuple[str, ...]
) -> Judgement:
    text = f"its {evidence.name(scores.metric)} is {told(scores.interval)}"
    if sound:
        return Judgement(question, recipe, recipe, f"For {question}: {recipe}, the only one that can; {text}.", details)
    sentence = (
        f"For {question}: no clear winner. {recipe} is the only one that can, but it failed on some seeds; {text}."
    )
    return Judgement(question, None, "no clear winner", sentence, details)


def _both(evidence: Evidence) -> Judgement:
    """Two questions together, by dominance, among the recipes that do both."""
    one, other = evidence.questions
    metrics = (*one.metrics, *other.metrics)
    able = [r for r in evidence.recipes if r in evidence.of(one.metrics[0]) and r in evidence.of(other.metrics[0])]
    lead = "If you need both"
    if not able:
        return Judgement("both", None, "none can", f"{lead}: no recipe here both {one.does} and {other.does}.")
    learned = [r for r in able if evidence.of(one.metrics[0])[r].learned and evidence.of(other.metrics[0])[r].learned]
    eligible = [r for r in learned if not evidence.failed.get(r)]
    winner = next((a for a in eligible if all(beats(evidence, a, b, metrics) for b in able if b != a)), None)
    if winner is None:
        if len(able) == 1:
            sentence = f"{lead}: no clear winner. {able[0]} is the only one that can, but it did not do both soundly."
        else:
            sentence = f"{lead}: no clear winner. {_standoff(evidence, able, metrics)}"
        return Judgement("both", None, "no clear winner", sentence)
    reason = _reasons(evidence, winner, able, metrics, brief=True) if len(able) > 1 else "It is the only one that can."
    rivals = [r for r in evidence.recipes if r not in able and r in evidence.of(other.metrics[0])]
    details = []
    for rival in rivals:
        if beats(evidence, rival, winner, other.metrics):
            details.append(f"The price: {rival}, which cannot {one.do}, {other.does} clearly better.")
        elif beats(evidence, winner, rival, other.metrics):
            details.append(f"It {other.does} clearly better than {rival}, too.")
        else:
            details.append(f"How it {other.does} and how {rival} does cannot be clearly ranked.")
    return Judgement("both", winner, winner, f"{lead}: {winner}. {reason}", tuple(details))


def _reasons(evidence: Evidence, winner: str, able: Sequence[str], metrics: Sequence[str], brief: bool = False) -> str:
    """Against whom, in what, by how much."""
    parts = []
    for other in able:
        if other == winner:
            continue
        found = pairs(evidence, winner, other, metrics)
        clear = [evidence.name(p.metric) + ("" if brief else f" {_numbers(evidence, p)}") for p in found if p.sign > 0]
        level = [evidence.name(p.metric) for p in found if p.sign == 0]
        same = f"; {listed(level)} cannot be told apart" if level else ""
        parts.append(f"Against {other}: clearly better {listed(clear)}{same}.")
    return " ".join(parts)


def _numbers(evidence: Evidence, pair: Pair) -> str:
    a, b = evidence.of(pair.metric)[pair.a], evidence.of(pair.metric)[pair.b]
    share = f"{abs(a.mean / b.mean - 1):.0%} lower, " if pair.metric in evidence.modality.ratios else ""
    return f"({share}{told(a.interval)} against {told(b.interval)}, paired difference {told(pair.difference)})"


def _why_not(evidence: Evidence, able: Sequence[str], metrics: Sequence[str]) -> str:
    """Why nobody wins: one seed, luck, or a trade."""
    fewest = min(len(evidence.of(m)[r].values) for m in metrics for r in able if r in evidence.of(m))
    parts = []
    for metric in metrics:
        scores = {r: evidence.of(metric)[r] for r in able if r in evidence.of(metric)}
        if len(scores) < 2:
            continue
        order = sorted(scores, key=lambda r: scores[r].mean if scores[r].lower else -scores[r].mean)
        best, rest = order[0], order[1:]
        behind = [r for r in rest if compare(scores[best], scores[r]).sign > 0]
        level = [r for r in rest if r not in behind]
        leads = f"{best} has the best {evidence.name(metric)}, {told(scores[best].interval)}"
        if fewest < 2:
            parts.append(f"{leads} (against {listed([f'{told(scores[r].interval)} of {r}' for r in rest])})")
        elif not level:
            parts.append(f"{leads}, clearly ahead of {listed(behind)}")
        else:
            luck = ", ".join(f"{r} {told(compare(scores[best], scores[r]).difference)}" for r in level)
            clear = f"; {listed(behind)} {'is' if len(behind) == 1 else 'are'} clearly behind" if behind else ""
            parts.append(f"{leads}, but the paired difference to {luck} includes zero{clear}")
    reasons = "; ".join(parts) + "."
    if fewest < 2:
        return f"With one seed no interval is possible, and the order may be luck: run at least 3. {reasons}"
    broken = [r for r in able if evidence.failed.get(r)]
    firsts = [evidence.of(q.metrics[0]) for q in evidence.questions if q.metrics[0] in metrics]
    untaught = [r for r in able if any(r in scores and not scores[r].learned for scores in firsts)]
    barred = [f"{listed(broken)} failed on some seeds and cannot win"] if broken else []
    barred += [f"{listed(untaught)} {'has' if len(untaught) == 1 else 'have'} not learned and cannot win"] * bool(
        untaught
    )
    return reasons + (f" {'; '.join(barred)}." if barred else "")


def _standoff(evidence: Evidence, able: Sequence[str], metrics: Sequence[str]) -> str:
    """In which metrics which of two is clearly better; the numbers stand with the questions before."""
    parts = []
    for i, a in enumerate(able):
        for b in able[i + 1 :]:
            found = pairs(evidence, a, b, metrics)
            ours, theirs = ([evidence.name(p.metric) for p in found if p.sign == sign] for sign in (1, -1))
            said = [f"{a} has the clearly better {listed(ours)}"] * bool(ours)
            said += [
                f"{b} the clearly better {listed(theirs)}" if ours else f"{b} has the clearly better {listed(theirs)}"
            ] * bool(theirs)
            parts.append(f"{', '.join(said)}." if said else f"{a} and {b} cannot be told apart in anything.")
    return " ".join(parts)


def _anchors(evidence: Evidence, question: Question, scores: dict[str, Scores]) -> list[str]:
    """Sentences about floor and ceiling, and about those that have not learned."""
    some = next(iter(scores.values()))
    ceiling, floor, name = some.ceiling, some.floor, evidence.name(some.metric)
    lines = []
    if question.trivial and ceiling is not None:
        lines.append(f"{question.trivial} would give a {name} of {number(ceiling)}.")
    elif floor:
        trivial = f"; the trivial baseline gives {number(ceiling)}" if ceiling is not None and some.apart else ""
        where = listed([f"{r} at {times(s.mean / floor)}" for r, s in scores.items()])
        ratios = f", which puts {where} the floor" if some.lower else ""
        lines.append(f"Real data reach a {name} of {number(floor)} (the floor){ratios}{trivial}.")
    low = [r for r, s in scores.items() if not s.learned]
    if low:
        values = listed([told(scores[r].interval) for r in low])
        verb, end = ("is", "it has") if len(low) == 1 else ("are", "they have")
        lines.append(
            f"{listed(low)} {verb} no better than the trivial baseline ({name} {values}; baseline {number(ceiling)}): "
            f"{end} not learned."
        )
    return lines


def _others(evidence: Evidence, question: Question, able: Sequence[str]) -> list[str]:
    """What is told beside the judged metrics, and who is out of the question."""
    lines, shares = [], []
    for recipe in able:
        told_of = [
            f"{evidence.name(metric)} {evidence.of(metric)[recipe].mean:.2f}"
            for metric in question.told
            if recipe in evidence.of(metric)
        ]
        shares += [f"{recipe} has {listed(told_of)}"] if told_of else []
    lines += ["; ".join(shares) + "."] if shares else []
    finished = {r for scores in evidence.table.values() for r in scores}
    without = [r for r in evidence.recipes if r not in able and r in finished]
    if without and question.unable:
        lines.append(f"{listed(without)} {'has' if len(without) == 1 else 'have'} {question.unable}.")
    return lines


def _cautions(evidence: Evidence) -> tuple[str, ...]:
    lines = []
    counts = {len(s.values) for scores in evidence.table.values() for s in scores.values()}
    if counts and max(counts) == 1:
        order = ", and any order may be luck. Run at least 3 seeds" if len(evidence.recipes) > 1 else ""
        lines.append(f"One seed: no interval is possible{order}.")
    for recipe, seeds in evidence.failed.items():
        if seeds:
            every = "every seed" if recipe not in {r for s in evidence.table.values() for r in s} else "some seeds"
            which = listed([str(seed) for seed in sorted(seeds)])
            lines.append(
                f"{recipe} failed on {every} (seed {which})"
                + ("." if every == "every seed" else "; its numbers are those of the seeds that survived.")
            )
    memorised = evidence.of("memorisation")
    for recipe, s in memorised.items():
        if s.floor is not None and s.mean > max(0.1, 10 * s.floor):
            lines.append(
                f"{recipe} may be copying: {s.mean:.0%} of its samples are nearer to a training example than "
                f"{1 - s.floor:.0%} of unseen ones are (blur lowers these distances, too: look at the pairs below)."
            )
    return tuple(lines)


def _behind(evidence: Evidence, question: Question) -> dict[str, bool]:
    """Recipe -> whether another one beats it in a question, for those that can do it."""
    able = [r for r in evidence.recipes if r in evidence.of(question.metrics[0])]
    return {r: any(beats(evidence, other, r, question.metrics) for other in able if other != r) for r in able}


def _headline(evidence: Evidence, first: Judgement, second: Judgement, both: Judgement) -> str:
    one, other = evidence.questions
    r, s, b = first.winner, second.winner, both.winner
    if b and b == s and b == r:
        return f"{b} wins: it {one.does} best and {other.does} best."
    if b and b == s:
        return f"{b} wins: it {other.does} best, and no other {one.does} clearly better."
    if b and b == r and not s:
        return f"{b} wins: it {one.does} best, and no other that {one.does} {other.does} clearly better."
    if b and s:
        return f"{s} to {other.do}, {b} to {one.do} and {other.do}."
    if b:
        return f"{b} does both best; for {other.name} alone there is no clear winner."
    if r and s:
        return f"It depends: {r} to {one.do}, {s} to {other.do}."
    if s:
        return f"{s} to {other.do}; for {one.name} there is no clear winner."
    if r:
        return f"{r} to {one.do}; for {other.name} there is no clear winner."
    if {first.answer, second.answer} <= {"none has learned", "nothing to judge"}:
        return "None of them has learned."
    return _nobody(evidence, other)


def _headline_of_one(evidence: Evidence, found: Judgement) -> str:
    """Where a modality asks one question only."""
    (question,) = evidence.questions
    if found.winner:
        return f"{found.winner} wins: it {question.does} best."
    if found.answer in ("none has learned", "nothing to judge"):
        return "None of them has learned."
    return _nobody(evidence, question)


def _nobody(evidence: Evidence, question: Question) -> str:
    behind = _behind(evidence, question)
    level, beaten = ([r for r, is_beaten in behind.items() if is_beaten == which] for which in (False, True))
    if beaten and len(level) > 1:
        verb = question.does if len(beaten) == 1 else question.do
        return f"No clear winner between {listed(level)}; {listed(beaten)} {verb} worse."
    return "No clear winner."


def _of_one(evidence: Evidence) -> Verdict:
    """A single recipe: nobody to beat, but floors and ceilings to be held against."""
    recipe, judgements = evidence.recipes[0], []
    for question in evidence.questions:
        metrics, first = question.metrics, evidence.of(question.metrics[0])
        if recipe not in first:
            continue
        scores = first[recipe]
        numbers = [
            f"{evidence.name(m)} {told(evidence.of(m)[recipe].interval)}" for m in metrics if recipe in evidence.of(m)
        ]
        answer = "learned" if scores.learned else "has not learned"
        sentence = f"For {question.name}: {listed(numbers)}."
        details = _anchors(evidence, question, first) + _others(evidence, question, [recipe])
        judgements.append(Judgement(question.name, None, answer, sentence, tuple(details)))
    if not judgements:
        headline = f"{recipe} failed: there is nothing to judge."
    elif all(j.answer == "learned" for j in judgements):
        headline = f"{recipe} has learned."
    else:
        headline = f"{recipe} has not learned: a trivial baseline does as well."
    return Verdict(headline, tuple(judgements), _cautions(evidence))
