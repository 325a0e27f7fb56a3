"""What a person sees while something runs: one bar with the time left, and tables at the end.

On a terminal a live bar; elsewhere a line every tenth of the way. Everything goes to standard error, so that standard
output holds results alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from amalgan.results import ARROWS, fits
from amalgan.training import distributed


class Progress:
    """A bar over one piece of work, from 0 to 1.

    Arguments:
        title: what is being done.
    """

    def __init__(self, title: str) -> None:
        self.console = Console(stderr=True, quiet=not distributed.is_first())
        self.live = self.console.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        self.bar = Bar(*columns, console=self.console, transient=True, disable=not self.live)
        self.task = self.bar.add_task(title, total=1.0, left="starting")
        self.title, self._tenth, self._said = title, -1, 0.0
        self._found: set[str] = set()

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, doing: str) -> None:
        """What is happening now, where no time is known yet."""
        self.bar.update(self.task, description=doing)

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def reading(self, done: int, total: int) -> None:
        """Progress of reading files."""
        self.bar.update(self.task, completed=done / max(1, total), left=f"{done}/{total}")

    def tick(self, tick: Any) -> None:
        """Progress of a training run; what a doctor finds is said once, when it is found."""
        for finding in tick.findings:
            if finding.name not in self._found:
                self._found.add(finding.name)
                self.note(f"step {tick.step}: {finding.name}. {finding.sentence} (amalgan doctor says more)")
        terms = "  ".join(f"{name} {value:.4g}" for name, value in tick.terms.items())
        self.update(tick.step / tick.steps, tick.seconds_left, terms and f"{self.title}  {terms}")

    def update(self, share: float, seconds_left: float, doing: str = "") -> None:
        """Share of the work that is done, in [0, 1], and the seconds that are left."""
        self.bar.update(
            self.task, completed=share, left=f"{_clock(seconds_left)} left", description=doing or self.title
        )
        tenth = int(share * 10)
        if not self.live and tenth > self._tenth and (doing or share >= 1) and time.monotonic() - self._said > 1:
            self._tenth, self._said = tenth, time.monotonic()
            self.note(f"{share:4.0%}  {_clock(seconds_left)} left  {doing or self.title}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def print_table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows with the same keys, on standard output. Where notes make it too wide they stand below, each once."""
    console = Console()
    bare = [{name: value for name, value in row.items() if name != "note"} for row in rows]
    for shown, padding in ((rows, 2), (bare, 2), (bare, 1)):
        table = _table(title, shown, padding)
        if fits(console, table):
            break
    console.print(table)
    notes: dict[str, dict[str, None]] = {}
    for row in rows if shown is bare else ():
        notes.setdefault(row.get("note", ""), {})[next(iter(row.values()))] = None
    for note, names in notes.items():
        if note:
            console.print(f"{', '.join(names)}: {note}", markup=False, highlight=False)


def _table(title: str, rows: Sequence[dict[str, Any]], padding: int) -> Table:
    """Names are never cut."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, padding, 0, 0))
    for at, name in enumerate(rows[0] if rows else ()):
        justify: Literal["left", "right"] = "right" if isinstance(rows[0][name], int | float) else "left"
        table.add_column(name, justify=justify, no_wrap=at == 0, overflow="fold")
    for row in rows:
        table.add_row(*(number(value) if isinstance(value, float) else str(value) for value in row.values()))
    return table


def print_rows(title: str, rows: Sequence[Any]) -> None:
    """Metric rows with floor and ceiling."""
    print_table(title, [
        {"metric": f"{row.metric} {ARROWS[row.better]}", "value": number(row.value), "floor": number(row.floor),
         "ceiling": number(row.ceiling), "unit": row.unit, "n": str(row.n or ""), "prior": row.prior or "",
         "note": row.note}
        for row in rows
    ])  # fmt: skip


def number(value: float | None) -> str:
    """Four significant digits; a dash for none."""
    return "-" if value is None else f"{value:.4g}"


def print_diagnosis(diagnosis: Any, run: Any) -> None:
    """Findings with their evidence, a small plot and the remedies; and whether the run still gets better."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if diagnosis.healthy is None:
        console.print(f"{run.folder}: nothing to go by yet, no look was taken")
    elif diagnosis.healthy:
        console.print(f"{run.folder}: healthy, by {diagnosis.looks} look{'s'[: diagnosis.looks != 1]}")
    for finding in diagnosis.findings:
        style = {"fails": "bold red", "hurts": "bold yellow"}.get(finding.severity, "bold")
        console.print(f"[{style}]{finding.name}[/] ({finding.severity}, {finding.confidence:.0%} of the looks agree)")
        console.print(f"  {finding.sentence}", markup=False)
        console.print(
            "  " + ", ".join(f"{name} {number(value)}" for name, value in finding.evidence.items()), markup=False
        )
        if finding.trace:
            values = finding.trace.values
            about = f"{finding.trace.shows}, {number(values[0])} to {number(values[-1])}"
            console.print(f"  {sparkline(values)}  {about}", markup=False)
        for remedy in finding.remedies:
            console.print(f"  instead: {remedy}", markup=False)
    console.print(diagnosis.progress, markup=False)


def sparkline(values: list[float], width: int = 40) -> str:
    """Bars of eight heights, between the least and the largest value; means of neighbours where there are too many."""
    groups = [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
    means = [sum(group) / len(group) for group in groups if group] if len(values) > width else values
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (v - low) / (high - low)) if high > low else 0] for v in means)
