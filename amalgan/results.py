"""Results are data: every published or promised number is a row of `docs/results/NAME.json`, written by a command.

    write("speed", [Row("training", "mlp-vae", "ratio", "times as fast", "higher", value=2.1, low=1.9, high=2.3)])
    read("speed")          the rows
    show("speed")          the same in the terminal
    wrong(text)            figures quoted in a text that are not what their rows say
    filled(text)           the text with figures that are

Beside the rows stands `NAME.md`, rendered from them: tables, intervals, floors, published figures with their sources,
notes, and the pictures `pictures/NAME-*.png` and `.svg`. In prose a figure is quoted as

    at least <!-- result: speed/training/mlp-vae/ratio low -->1.9 times as fast

and is compared with the row to as many digits as are quoted; `low` names a field, without one the value is meant.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from amalgan import files
from amalgan.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FOLDER = Path(__file__).parents[1] / "docs" / "results"
ARROWS = {"lower": "↓", "higher": "↑"}
BOUNDS = ("floor", "ceiling")
NUMBERS = ("value", "low", "high", *BOUNDS, "published", "cpu_seconds")
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """One number and all that is needed to judge it and to get it again.

    Arguments:
        table, row, metric: its name; no two rows share all three.
        unit: of value, interval, floor, ceiling and published.
        better: "lower" or "higher".
        value: what was measured; None for a figure of somebody else's.
        low, high: the interval around it; `note` says which.
        seeds: how many independent runs.
        n: how many examples, samples or rounds each run was judged by.
        floor, ceiling: what perfection and what ignorance would score.
        published, source: somebody else's figure and where it stands.
        command: what writes this row.
        cpu_seconds: of the whole measurement.
        device: what it ran on.
        date: ISO, the day of the measurement; today if left out.
        note: what fell short, and what a reader must know.

    Raises:
        UsageError: an empty name, a number that is none, a value outside its interval, or nothing to report.
    """

    table: str
    row: str
    metric: str
    unit: str
    better: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int | None = None
    n: int | None = None
    floor: float | None = None
    ceiling: float | None = None
    published: float | None = None
    source: str = ""
    command: str = ""
    cpu_seconds: float | None = None
    device: str = ""
    date: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        found = next(self._faults(), None)
        if found is not None:
            raise UsageError(f"a result {'/'.join(map(str, self.key))}", *found)

    @property
    def key(self) -> Key:
        return self.table, self.row, self.metric

    def _faults(self) -> Iterator[tuple[str, str]]:
        for name in ("table", "row", "metric"):
            if not re.fullmatch(r"[\w.+-]+", str(getattr(self, name))):
                yield f"{name}={getattr(self, name)!r}", "name it with letters, digits and . _ + - alone"
        if self.better not in ("lower", "higher"):
            yield f"better={self.better!r}", 'write "lower" or "higher"'
        for name in NUMBERS:
            number = getattr(self, name)
            if number is not None and (
                isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number)
            ):
                yield f"{name}={number!r}", "write a finite number, or None with a note that says why there is none"
                return
        for name in ("seeds", "n"):
            count = getattr(self, name)
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
                yield f"{name}={count!r}", "write a whole number >= 1"
        if self.value is None and self.published is None and not self.note:
            yield "neither value nor published", "give one of them, or a note that says why there is none"
        if self.published is not None and not self.source:
            yield f"published={self.published} of no source", "say where the figure stands"
        if self.value is not None:
            below = self.low is not None and self.low > self.value
            if below or (self.high is not None and self.high < self.value):
                yield f"{self.value} outside {self.low} .. {self.high}", "give the interval of this value"
        if self.date and not re.fullmatch(r"\d{4}-\d\d-\d\d", self.date):
            yield f"date={self.date!r}", "write it as 2031-12-24"


def read(name: str, folder: Path = FOLDER) -> list[Row]:
    """The rows of `NAME.json`.

    Raises:
        UsageError: no such results, or rows that are none.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise UsageError(f"results {name!r}", f"{path} is not there; there are: {known}", f"run make results-{name}")
    known_fields = {field.name for field in fields(Row)}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        unknown = sorted({key for row in held for key in row} - known_fields)
        if unknown:
            raise UsageError(f"results {name!r}", f"unknown fields {', '.join(unknown)}", f"run make results-{name}")
        return [Row(**row) for row in held]
    except (ValueError, TypeError) as error:
        raise UsageError(f"results {name!r}", f"{path}: {error}", f"run make results-{name}") from None


def write(name: str, rows: Iterable[Row], folder: Path = FOLDER) -> list[Row]:
    """Add rows to `NAME.json`, replacing those of the same name, and render `NAME.md`; returns all rows.

    Both files are replaced whole, so that a reader never meets half of one.
    """
    merged = {row.key: row for row in read(name, folder)} if (folder / f"{name}.json").is_file() else {}
    for row in rows:
        merged[row.key] = row if row.date else replace(row, date=date.today().isoformat())
    # one row a line: a change of one number is a change of one line
    lines = ",\n".join(
        json.dumps({k: v for k, v in asdict(row).items() if v not in (None, "")}) for row in merged.values()
    )
    files.write_bytes(folder / f"{name}.json", f"[\n{lines}\n]\n".encode())
    files.write_bytes(folder / f"{name}.md", render(name, list(merged.values()), folder).encode())
    return list(merged.values())


# To be read by people


def figure(number: float | None) -> str:
    """A number in four significant digits, "" for none."""
    return "" if number is None else f"{number:,.4g}" if abs(number) < 1e4 else f"{number:,.0f}"


def tables(rows: list[Row]) -> dict[str, tuple[list[str], list[str], dict[tuple[str, str], Row]]]:
    """For each table its rows and metrics in order of appearance, and what stands at (row, metric)."""
    made: dict[str, tuple[list[str], list[str], dict[tuple[str, str], Row]]] = {}
    for row in rows:
        names, metrics, cells = made.setdefault(row.table, ([], [], {}))
        names += [row.row] * (row.row not in names)
        metrics += [row.metric] * (row.metric not in metrics)
        cells[row.row, row.metric] = row
    return made


def cell(row: Row | None) -> str:
    """Value, interval, and somebody else's figure."""
    if row is None:
        return ""
    value = figure(row.value) if row.value is not None else "" if row.published is not None else "-"
    interval = f" [{figure(row.low)}, {figure(row.high)}]" if row.low is not None or row.high is not None else ""
    published = f"published {figure(row.published)}" if row.published is not None else ""
    return "; ".join(part for part in (value + interval, published) if part)


def head(metric: str, cells: dict[tuple[str, str], Row]) -> str:
    """A metric, its unit and which way is better."""
    first = next(row for (_, m), row in cells.items() if m == metric)
    unit = f", {first.unit}" if first.unit else ""
    return f"{metric}{unit} ({first.better} is better)"


def texts_of(
    names: Iterable[str], metrics: Iterable[str], cells: dict[tuple[str, str], Row]
) -> Iterator[tuple[str, list[str]]]:
    """Each row's name and what it says of each metric; after them, where there are such, the bounds that they share."""
    metrics = list(metrics)
    for row in names:
        yield row, [cell(cells.get((row, metric))) for metric in metrics]
    for bound in BOUNDS:
        shared = [
            sorted({getattr(r, bound) for (_, m), r in cells.items() if m == metric} - {None}) for metric in metrics
        ]
        if any(shared):
            yield bound, [" to ".join(dict.fromkeys(map(figure, s[:1] + s[-1:]))) for s in shared]


def render(name: str, rows: list[Row], folder: Path = FOLDER) -> str:
    """The page for people: a table a table, then what is needed to judge it, then the pictures."""
    lines = [f"# Results: {name}", "", f"Written by `amalgan.results` from `{name}.json`; do not edit."]
    for table, (names, metrics, cells) in tables(rows).items():
        lines += ["", f"## {table}", ""]
        lines += [
            "| | " + " | ".join(head(metric, cells) for metric in metrics) + " |",
            "|---" * (len(metrics) + 1) + "|",
        ]
        for row, texts in texts_of(names, metrics, cells):
            lines.append(f"| {f'*{row}*' if row in BOUNDS else row} | " + " | ".join(texts) + " |")
        lines += ["", *_remarks(list(cells.values()))]
    pictures = sorted(path for kind in ("png", "svg") for path in (folder / "pictures").glob(f"{name}-*.{kind}"))
    for picture in pictures:
        lines += ["", f"![{picture.stem.removeprefix(name + '-')}](pictures/{picture.name})"]
    return "\n".join(lines).rstrip() + "\n"


def _remarks(cells: list[Row]) -> Iterator[str]:
    """What is needed to judge a table; each thing is said once, of all the cells that it holds for."""
    holds: dict[str, list[int]] = {}
    for index, row in enumerate(cells):
        for part in _remark(row):
            holds.setdefault(part, []).append(index)
    said: dict[tuple[int, ...], list[str]] = {}
    for part, indices in holds.items():
        said.setdefault(tuple(indices), []).append(part)
    for group, parts in sorted(said.items(), key=lambda item: -len(item[0])):
        of_all = len(group) == len(cells)
        yield f"- {'' if of_all else _who([cells[index] for index in group], cells) + ': '}{'; '.join(parts)}"


def _who(group: list[Row], cells: list[Row]) -> str:
    """The rows of a group of cells, metrics named where it is not the whole row."""
    named = []
    for name in dict.fromkeys(row.row for row in group):
        mine, all_of_it = ([row.metric for row in some if row.row == name] for some in (group, cells))
        named.append(name if len(mine) == len(all_of_it) else f"{name} ({', '.join(mine)})")
    return ", ".join(named)


def _remark(row: Row) -> Iterator[str]:
    if row.seeds:
        yield f"{row.seeds} seed{'s' if row.seeds > 1 else ''}"
    if row.n:
        yield f"n = {row.n:,}"
    if row.cpu_seconds is not None:
        yield f"{figure(row.cpu_seconds)} CPU-seconds"
    yield from filter(None, (row.device, row.date, row.command and f"`{row.command}`"))
    if row.source:
        yield f"published: {row.source}"
    yield from filter(None, row.note.split("; "))


def show(*names: str, folder: Path = FOLDER) -> None:
    """Print results as tables in the terminal; all there are if none is named.

    Raises:
        UsageError: no such results.
    """
    from rich.console import Console

    console = Console()
    for name in names or sorted(path.stem for path in folder.glob("*.json")):
        for title, (rows, metrics, cells) in tables(read(name, folder)).items():
            for table in _fitting(console, f"{name}: {title}", rows, metrics, cells):
                console.print(table)
            console.print("\n".join(_remarks(list(cells.values()))), markup=False, highlight=False)


def _fitting(
    console: Console, title: str, rows: list[str], metrics: list[str], cells: dict[tuple[str, str], Row]
) -> Iterator[Table]:
    """One table, or where a terminal is too narrow for it several, each of as many metrics as fit, and of one at least."""
    from rich.table import Table

    while metrics:
        for count in range(len(metrics), 0, -1):
            table = Table(title=title, title_justify="left")
            table.add_column("", no_wrap=True)
            for metric in metrics[:count]:
                first = next(cells[row, metric] for row in rows if (row, metric) in cells)
                table.add_column(f"{metric} {ARROWS[first.better]}\n{first.unit}")
            for row, texts in texts_of(rows, metrics[:count], cells):
                table.add_row(row, *texts, end_section=row == rows[-1])
            if fits(console, table):
                break
        yield table
        metrics = metrics[count:]


def fits(console: Console, table: Table) -> bool:
    """Whether a table is no wider than the terminal with nothing in it folded."""
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update_width(10_000), table).maximum <= console.width


# Figures quoted in prose

MARK = re.compile(
    r"<!-- result: (?P<name>\S+?)/(?P<key>\S+)(?: (?P<field>\w+))? -->"
    r"[\s*`]*(?P<figure>[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)?"
)


@dataclass(frozen=True)
class Quote:
    """A figure in prose and the row it claims to be: `NAME/table/row/metric`, and a field other than value."""

    name: str
    key: tuple[str, ...]
    field: str
    figure: str

    def agrees(self, row: Row) -> bool:
        """Whether the figure is the row's, rounded to the digits quoted."""
        number = getattr(row, self.field, None)
        if isinstance(number, bool) or not isinstance(number, int | float) or not self.figure:
            return False
        quoted = Decimal(self.figure.replace(",", ""))
        unit = Decimal((0, (1,), int(quoted.as_tuple().exponent)))
        exact = Decimal(repr(number))
        # halves may have been rounded either way
        return abs(exact.quantize(unit, ROUND_HALF_EVEN) - quoted) == 0 or abs(exact - quoted) * 2 == unit


def quoted(text: str) -> list[Quote]:
    """The marked figures of a text."""
    return [
        Quote(m["name"], tuple(m["key"].split("/")), m["field"] or "value", m["figure"] or "")
        for m in MARK.finditer(text)
    ]


def filled(text: str, folder: Path = FOLDER) -> str:
    """The text with its marked figures as their rows say, to as many digits as stood there; what has no row stays."""
    rows = {name: {row.key: row for row in read(name, folder)} for name in {quote.name for quote in quoted(text)}}

    def figure(found: re.Match[str]) -> str:
        row = rows[found["name"]].get(tuple(found["key"].split("/")))
        number, old = getattr(row, found["field"] or "value", None), found["figure"]
        if old is None or isinstance(number, bool) or not isinstance(number, int | float):
            return found[0]
        digits, power, _ = old.partition("e")
        new = f"{number:{',' * (',' in old)}.{len(digits.partition('.')[2])}{power or 'f'}}"
        return found[0].removesuffix(old) + new

    return MARK.sub(figure, text)


def wrong(text: str, folder: Path = FOLDER) -> list[str]:
    """What is wrong with the marked figures of a text, a sentence each; [] if they all equal their rows."""
    found = []
    for quote in quoted(text):
        where = f"{quote.name}/{'/'.join(quote.key)} {quote.field}"
        try:
            row = next((r for r in read(quote.name, folder) if r.key == quote.key), None)
        except UsageError as error:
            found.append(f"{where}: {error.found}")
            continue
        if row is None:
            found.append(f"{where}: no such row")
        elif not quote.agrees(row):
            found.append(
                f"{where}: quoted as {quote.figure or 'nothing'}, the row says {getattr(row, quote.field, None)}"
            )
    return found
