"""Rows are written, read, merged and checked; every figure quoted in the README and the docs equals its row."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from amalgan.errors import UsageError
from amalgan.results import Row, filled, quoted, read, show, write, wrong

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README.md"), *(ROOT / "docs").rglob("*.md")])


def row(**changes: object) -> Row:
    given: dict[str, object] = {"table": "training", "row": "mlp-vae", "metric": "ratio", "unit": "times"}
    given |= {"better": "higher", "value": 2.125, "low": 1.9, "high": 2.5, "date": "2031-12-24"}
    return Row(**(given | changes))  # type: ignore[arg-type]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    full = row(
        seeds=3, n=12, floor=0.5, ceiling=9.0, published=1.2, source="a paper", command="make x", cpu_seconds=3.5
    )
    rows = [full, row(row="conv-vae", note="fell short", device="one thread")]
    write("speed", rows, tmp_path)
    assert read("speed", tmp_path) == rows
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "a temporary file was left behind"


def test_rows_of_the_same_name_are_replaced_and_others_kept_in_order(tmp_path: Path) -> None:
    write("speed", [row(), row(row="conv-vae")], tmp_path)
    write("speed", [row(row="dcgan"), row(value=2.2)], tmp_path)
    assert [(r.row, r.value) for r in read("speed", tmp_path)] == [
        ("mlp-vae", 2.2),
        ("conv-vae", 2.125),
        ("dcgan", 2.125),
    ]


def test_the_day_is_filled_in(tmp_path: Path) -> None:
    (written,) = write("speed", [row(date="")], tmp_path)
    assert len(written.date) == 10 and read("speed", tmp_path) == [written]


def test_others_figures_need_no_value() -> None:
    assert row(value=None, low=None, high=None, published=89.8, source="a paper").value is None


@pytest.mark.parametrize(
    "changes",
    [
        {"table": ""},
        {"row": "a/b"},
        {"metric": "two words"},
        {"better": "bigger"},
        {"value": float("nan")},
        {"value": "2"},
        {"value": True},
        {"low": 2.2},
        {"high": 2.0},
        {"seeds": 0},
        {"n": 2.5},
        {"value": None, "low": None, "high": None},
        {"published": 1.0},
        {"date": "yesterday"},
    ],
)
def test_rows_that_are_none_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        row(**changes)


@pytest.mark.parametrize("text", ["{", "[{}]", "3", json.dumps([asdict(row()) | {"colour": "red"}])])
def test_damaged_files_are_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "speed.json").write_text(text)
    with pytest.raises(UsageError):
        read("speed", tmp_path)


def test_absent_results_name_those_there_are(tmp_path: Path) -> None:
    write("speed", [row()], tmp_path)
    with pytest.raises(UsageError, match="there are: speed"):
        read("sped", tmp_path)


def test_the_page_holds_values_intervals_bounds_sources_notes_and_pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "speed-curves.png").write_bytes(b"")
    (tmp_path / "pictures" / "images-other.png").write_bytes(b"")
    rows = [
        row(floor=0.25, note="fell short of 3"),
        row(row="paper", value=None, low=None, high=None, published=1.5, source="Somebody 2031"),
        row(table="other", row="a", metric="error", better="lower", value=12345.6, low=None, high=None),
    ]
    write("speed", rows, tmp_path)
    page = (tmp_path / "speed.md").read_text()
    assert "| mlp-vae | 2.125 [1.9, 2.5] |" in page
    assert "| paper | published 1.5 |" in page and "Somebody 2031" in page
    assert "| *floor* | 0.25 |" in page and "fell short of 3" in page
    assert "## other" in page and "12,346" in page and "(lower is better)" in page
    assert "![curves](pictures/speed-curves.png)" in page and "images-other" not in page


def test_show_prints_whole_names_and_bounds_at_any_width(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(metric=f"a_long_name_{i}", floor=0.25, note="fell short") for i in range(5)]
    write("speed", rows, tmp_path)
    for width, tables in ((200, 1), (80, 2), (10, 5)):
        monkeypatch.setenv("COLUMNS", str(width))
        show(folder=tmp_path)
        printed = capsys.readouterr().out
        if width > 10:
            assert printed.count("mlp-vae") == printed.count("floor") == tables and printed.count("0.25 ") == 5
            assert all(f"a_long_name_{i} ↑" in printed for i in range(5)) and "2.125 [1.9, 2.5]" in printed
        squeezed = "".join(printed.split())
        assert squeezed.count("speed:training") == tables and "fellshort" in squeezed


@pytest.mark.parametrize(
    ("figure", "right"),
    [
        ("2.125", True),
        ("2.12", True),
        ("2.13", True),
        ("2.1", True),
        ("2", True),
        ("2.0", False),
        ("2.2", False),
        ("", False),
    ],
)
def test_a_quoted_figure_equals_its_row_to_the_digits_quoted(tmp_path: Path, figure: str, right: bool) -> None:
    write("speed", [row()], tmp_path)
    assert (wrong(f"is **<!-- result: speed/training/mlp-vae/ratio -->{figure}** times", tmp_path) == []) is right


def test_a_quote_may_name_a_field_and_group_thousands(tmp_path: Path) -> None:
    write("speed", [row(low=-1.5, high=12345.0)], tmp_path)
    mark = "<!-- result: speed/training/mlp-vae/ratio"
    text = f"{mark} low -->-1.5 to {mark} high -->12,345."
    assert [(q.field, q.figure) for q in quoted(text)] == [("low", "-1.5"), ("high", "12,345")]
    assert wrong(text, tmp_path) == []


@pytest.mark.parametrize("mark", ["speed/training/mlp-vae/rate", "sped/training/mlp-vae/ratio", "speed/ratio"])
def test_a_quote_of_no_row_is_wrong(tmp_path: Path, mark: str) -> None:
    write("speed", [row()], tmp_path)
    assert len(wrong(f"<!-- result: {mark} -->2.125", tmp_path)) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.9", "2.1"),
        ("1.900", "2.125"),
        ("7", "2"),
        ("-1.50", "2.12"),
        ("", ""),
        ("1,900.0", "2.1"),
        ("1.9e-3", "2.1e+00"),
    ],
)
def test_figures_are_filled_to_the_digits_that_stood_there(tmp_path: Path, old: str, new: str) -> None:
    write("speed", [row(low=1.5)], tmp_path)
    mark = "<!-- result: speed/training/mlp-vae/ratio"
    text = f"is {mark} -->**{old}** times, {mark} low -->9.9, <!-- result: speed/training/other/ratio -->3."
    made = filled(text, tmp_path)
    assert made == text.replace(f"**{old}**", f"**{new}**").replace("9.9", "1.5") and filled(made, tmp_path) == made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_figure_quoted_in_the_docs_equals_its_row(page: Path) -> None:
    assert wrong(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_published_rows_are_whole_and_their_pages_fresh(path: Path) -> None:
    from amalgan.results import render

    rows = read(path.stem)
    assert len({r.key for r in rows}) == len(rows)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == render(path.stem, rows)
