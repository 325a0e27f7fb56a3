"""Tables to windows: divided before they are cut, scaled by training rows, and what is said of untidy files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from amalgan.data import Data, Split
from amalgan.data import series as s
from amalgan.errors import UsageError


def walk(rows: int = 600, columns: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).cumsum(0)


def table(path: Path, header: str, rows: list[Any]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    return path


def shared_rows(one: Tensor, other: Tensor, window: int) -> int:
    """Rows that are in windows of both, given the first row of each window."""
    rows = [{row for first in firsts.tolist() for row in range(first, first + window)} for firsts in (one, other)]
    return len(rows[0] & rows[1])


def leaks(data: Data) -> int:
    parts: list[Any] = [data.train, data.validation, data.test]
    window = data.spec.shape[0]
    return sum(shared_rows(a.first, b.first, window) for i, a in enumerate(parts) for b in parts[i + 1 :])


@pytest.mark.parametrize("rows, window", [(600, 24), (150, 24), (4000, 10), (61, 10)])
@pytest.mark.parametrize("stride", [1, 5])
def test_no_row_is_in_windows_of_two_parts(rows: int, window: int, stride: int) -> None:
    data = s.open(walk(rows), window=window, stride=stride)
    assert leaks(data) == 0 and min(map(len, (data.train, data.validation, data.test))) > 0
    # and between parts a window's length of rows is left out
    ends = sorted((int(f), part) for part in ("train", "validation", "test") for f in getattr(data, part).first)
    for (first, one), (after, other) in zip(ends, ends[1:]):
        assert one == other or after - (first + window) >= window


def test_the_check_for_leaks_sees_windows_that_were_shuffled_before_the_split() -> None:
    """What many codes do: cut first, shuffle, then divide."""
    rows, window = walk(), 24
    first = torch.randperm(len(rows) - window + 1, generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(rows).float()[first[:, None] + torch.arange(window)]
    cut = (int(0.8 * len(first)), int(0.9 * len(first)))
    parts = [s.Windows(a, None, f) for a, f in zip(x.tensor_split(cut), first.tensor_split(cut))]
    leaking = Data("leaking", s.open(rows).spec, *parts, [], "")
    assert leaks(leaking) > 500


def test_groups_are_on_one_side_each(tmp_path: Path) -> None:
    rows = [(g, t, np.sin(t + g), g % 2) for g in range(30) for t in range(20 + g)]
    rng = np.random.default_rng(0)
    path = table(tmp_path / "groups.csv", "who,when,value,kind", [rows[i] for i in rng.permutation(len(rows))])
    data = s.open(path, group="who", time="when", label="kind", window=10)
    assert leaks(data) == 0 and data.spec.classes == ("0", "1")
    assert data.spec.details["names"] == ["value"]
    starts = np.cumsum([0, *(20 + g for g in sorted(range(30), key=str))])
    sides = [
        set(np.searchsorted(starts, part.first.numpy(), "right")) for part in (data.train, data.validation, data.test)
    ]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    groups = np.array(sorted(range(30), key=str))[np.searchsorted(starts, data.train.first.numpy(), "right") - 1]
    assert (data.train.c.numpy() == groups % 2).all()
    back = s.in_units(data.train.x, data.spec)[0, :, 0]
    t = int(data.train.first[0] - starts[np.searchsorted(starts, int(data.train.first[0]), "right") - 1])
    assert torch.allclose(back, torch.sin(torch.arange(t, t + 10) + float(groups[0])).double(), atol=1e-5)


def test_scales_come_from_training_rows_alone() -> None:
    rows = walk()
    before = s.open(rows)
    held_out = [int(f) + t for part in (before.validation, before.test) for f in part.first for t in range(24)]
    changed = rows.copy()
    changed[held_out] *= 100
    after = s.open(changed)
    assert after.spec == before.spec and after.spec.details == before.spec.details
    assert torch.equal(after.train.x, before.train.x) and not torch.equal(after.test.x, before.test.x)
    assert before.train.x.amin() == 0 and before.train.x.amax() == 1
    back = s.in_units(before.test.x, before.spec)[3]
    first = int(before.test.first[3])
    assert np.allclose(back, rows[first : first + 24], atol=1e-4)


def test_a_long_table_of_one_series_is_divided_over_all_its_ages() -> None:
    for part in (s.open(walk(3000)).test, s.open(walk(3000)).validation):
        thirds = torch.bincount(part.first // 1000, minlength=3)
        assert (thirds > 0).all()


def test_arrays_of_series_are_windows_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((200, 12, 3))
    y = np.array(["b", "a"] * 100)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    named, plain = s.open(tmp_path / "x.npz"), s.open(tmp_path / "x.npy")
    assert named.spec.shape == plain.spec.shape == (12, 3) and named.spec.classes == ("a", "b")
    assert len(named.train) + len(named.validation) + len(named.test) == 200
    i = int(named.train.first[5]) // 12
    assert np.allclose(s.in_units(named.train.x, named.spec)[5], x[i], atol=1e-6)
    assert named.spec.classes[int(named.train.c[5])] == y[i]  # type: ignore[index]
    assert s.open((x, y)).fingerprint == named.fingerprint


def test_the_same_source_and_seed_is_the_same_data_and_another_seed_is_not() -> None:
    one, again, other = s.open(walk()), s.open(walk()), s.open(walk(), seed=1)
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert s.open("sines:N=50").fingerprint != s.open("sines:N=50", seed=1).fingerprint


def test_sines_are_sines() -> None:
    """x_{t+1} + x_{t-1} = 2 cos(w) x_t, one w for each series, 1 to 5 periods."""
    made = s.sines("sines:T=40,D=1,K=4,N=300", 3)
    x = made.values.reshape(300, 40)
    cosine = ((x[:, 2:] + x[:, :-2]) * x[:, 1:-1]).sum(1) / (2 * x[:, 1:-1] ** 2).sum(1)
    assert np.abs(x[:, 2:] + x[:, :-2] - 2 * cosine[:, None] * x[:, 1:-1]).max() < 1e-9
    periods = np.arccos(cosine) * 40 / (2 * np.pi)
    assert periods.min() >= 1 - 1e-9 and periods.max() <= 5 + 1e-9 and 2.7 < periods.mean() < 3.3
    assert np.abs(x).max() <= 0.9
    assert all(label.startswith(f"{int(p)} to") for label, p in zip(made.label[::40], periods))  # type: ignore[index]


NOTED = {
    "a column of words": ("a,b,name\n{a},{b},x", "left out: name"),
    "a constant column": ("a,b,c\n{a},{b},7", "constant in training rows are left out: c"),
    "a column mostly missing": ("a,b,c\n{a},{b},", "more than half missing in training rows are left out: c"),
    "missing values": ("a,b\n{a},{gap}", "missing values"),
    "a few strange cells": ("a,b\n{a},{odd}", "cells of b that are no numbers"),
    "ragged rows": ("a,b\n{a},{b}{tail}", "rows with more or fewer cells"),
}


@pytest.mark.parametrize("what", NOTED)
def test_untidy_tables_are_read_and_said_to_be(what: str, tmp_path: Path) -> None:
    form, note = NOTED[what]
    header, form = form.split("\n")
    lines = []
    for i, (a, b) in enumerate(walk(400).tolist()):
        gap, odd = ("" if i % 50 == 3 else b), ("n.b." if i % 90 == 3 else b)
        lines.append(form.format(a=a, b=b, gap=gap, odd=odd, tail=",9" if i == 7 else ""))
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress("\n".join([header, *lines]).encode()))
    data = s.open(path)
    assert any(note in said for said in data.notes), data.notes
    assert data.spec.details["names"] == ["a", "b"] and torch.isfinite(data.train.x).all()


def test_missing_values_are_filled_from_their_neighbours_in_the_same_part() -> None:
    rows = np.arange(600.0)[:, None].repeat(2, 1)
    whole = s.open(rows)
    holes = rows.copy()
    holes[np.arange(5, 600, 7), 1] = np.nan
    data = s.open(holes)
    inside = torch.isclose(data.train.x, whole.train.x, atol=1e-2)
    assert inside.float().mean() > 0.99
    assert torch.isfinite(data.test.x).all()


def test_semicolons_decimal_commas_and_no_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(f"{a:.3f};{b:.3f}".replace(".", ",") for a, b in walk().tolist()))
    data = s.open(path)
    assert data.spec.details["names"] == ["x1", "x2"]
    assert torch.allclose(data.train.x, s.open(walk()).train.x, atol=1e-2)


def test_rows_are_sorted_by_numbers_or_dates(tmp_path: Path) -> None:
    days = np.datetime64("2020-01-01") + np.arange(300)
    order = np.random.default_rng(0).permutation(300)
    rows = [(days[i], i, np.sin(i)) for i in order]
    by_date = s.open(table(tmp_path / "a.csv", "day,number,y", rows), time="day")
    by_number = s.open(table(tmp_path / "b.csv", "number,y", [row[1:] for row in rows]), time="number")
    assert by_date.spec.details["names"] == ["number", "y"]
    assert torch.equal(by_date.train.x[:, :, 1:], by_number.train.x)
    assert (by_date.train.x[:, :, 0].diff(dim=1) > 0).all()
    assert any("sorted" in note for note in by_date.notes)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "too short": (walk(100), {}, "--window 12"),
    "short series": (np.zeros((2, 5, 1)), {"window": 8}, "windows of 8 rows"),
    "no file": ("/nowhere.csv", {}, "no such file"),
    "a folder": (".", {}, "a folder"),
    "words": (np.array([["a", "b"]]), {}, "numbers x"),
    "all constant": (np.ones((600, 2)), {}, "2 constant"),
    "no such settings": ("sines:Q=3", {}, "sines:T=30"),
    "a window of one": (walk(), {"window": 1}, "2 or more"),
    "a stride of none": (walk(), {"stride": 0}, "1 or more"),
    "an object": (object(), {}, "a object"),
    "four dimensions": (np.zeros((2, 2, 2, 2)), {}, "shape (2, 2, 2, 2)"),
    "no such array": ({"x": walk()}, {"label": "kind"}, "arrays x"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_in_three_parts(what: str) -> None:
    source, flags, told = REFUSED[what]
    with pytest.raises(UsageError) as caught:
        s.open(source, **flags)
    assert told in str(caught.value) and caught.value.instead


def test_mistaken_columns_are_told_with_those_there_are(tmp_path: Path) -> None:
    rows = [(i % 300, a) for i, (a,) in enumerate(walk(600, 1).tolist())]
    path = table(tmp_path / "t.csv", "t,y", rows)
    for flags, told in (
        ({"time": "day"}, "columns t, y"),
        ({"time": "t"}, "--group"),
        ({"group": "t", "window": 2, "label": "no"}, "columns t, y"),
    ):
        with pytest.raises(UsageError) as caught:
            s.open(path, **flags)
        assert told in str(caught.value)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UsageError, match="empty"):
        s.open(tmp_path / "empty.csv")
    with pytest.raises(UsageError, match="ISO dates"):
        s.open(table(tmp_path / "d.csv", "t,y", [("soon", 1.0)] * 5), time="t")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="cannot be read"):
        s.open(tmp_path / "o.npy")


def test_another_table_is_cut_and_scaled_like_the_models_own() -> None:
    own = s.open(walk(), window=12)
    names = own.spec.details["names"]
    other = s.open(walk(900, seed=1) * 3, spec=own.spec)
    assert other.spec == own.spec and other.train.x.shape[1:] == (12, 2) and other.train.x.amax() > 1
    with pytest.raises(UsageError, match=names[1]):
        s.open(walk(600, 1), spec=own.spec)


def test_a_limit_takes_windows_from_everywhere() -> None:
    data = s.open(walk(), limit=10)
    assert len(data.train) == 10 and isinstance(data.train, Split)
    assert int(data.train.first[-1] - data.train.first[0]) > 300


def test_shares_of_goog_overlap_nowhere(real_data: Path) -> None:
    data = s.open(real_data / "stock" / "stock_data.csv")
    assert data.spec.details["names"] == ["Open", "High", "Low", "Close", "Volume"]
    assert any("equal to an earlier one" in note and "Adj_Close" in note for note in data.notes)
    assert data.spec.shape == (24, 5) and leaks(data) == 0 and len(data.test) > 250


def test_a_column_that_repeats_another_is_left_out(tmp_path: Path) -> None:
    """Also where both lack the same value; one that merely resembles another stays."""
    x = np.random.default_rng(0).normal(size=(400, 2)).cumsum(0)
    nearly = x[:, 0].copy()
    nearly[3] += 1e-6
    table = np.column_stack([x[:, 0], x[:, 1], x[:, 0], nearly])
    table[50, [0, 2]] = np.nan
    np.save(tmp_path / "x.npy", table)
    data = s.open(tmp_path / "x.npy", window=10)
    assert data.spec.shape == (10, 3)
    assert [note for note in data.notes if "equal to an earlier one" in note and note.endswith("x3")], data.notes
