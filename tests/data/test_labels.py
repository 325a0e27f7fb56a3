"""What is known of items beside themselves: classes and numbers, from arrays and from tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amalgan.data import open as open_data
from amalgan.errors import UsageError

NAMES = [f"{kind}/{i:02d}.png" for kind in ("left", "right") for i in range(20)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


def table(folder: Path, *rows: str) -> Path:
    path = folder.parent / "labels.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_table_of_one_column_of_words_is_classes_and_beats_folders(folder: Path) -> None:
    rows = [f"{name},{'odd' if i % 2 else 'even'}" for i, name in enumerate(NAMES[:-2])]
    data = open_data(folder, labels=table(folder, "file,parity", *rows), cache=False)
    assert data.spec.classes == ("even", "odd")
    labels = torch.cat([part.c for part in (data.train, data.validation, data.test)])
    assert torch.bincount(labels + 1).tolist() == [2, 19, 19]
    assert any("2 files have no row in labels.csv" in note for note in data.notes)


def test_several_columns_are_numbers_in_units_of_their_own(folder: Path) -> None:
    rows = [f"{name},{20 + i},{'' if i == 3 else i % 2}" for i, name in enumerate(NAMES)]
    data = open_data(folder, labels=table(folder, "file,age,smiling", *rows), cache=False)
    assert data.spec.classes == () and data.spec.details["numbers"] == ["age", "smiling"]
    train = data.train.c
    assert train.dtype == torch.float32
    assert torch.allclose(train.nanmean(0), torch.zeros(2), atol=1e-5)
    age = train[:, 0] * data.spec.details["deviation"][0] + data.spec.details["mean"][0]
    assert torch.allclose(age, age.round(), atol=1e-4) and age.min() >= 20 and age.max() <= 59
    parts = torch.cat([part.c for part in (data.train, data.validation, data.test)])
    assert int(parts.isnan().sum()) == 1


def test_files_are_found_by_the_end_of_their_path(folder: Path) -> None:
    rows = [f"{Path(name).name if name.startswith('left') else name},{i % 3}" for i, name in enumerate(NAMES)]
    assert open_data(folder, labels=table(folder, "file,kind", *rows), cache=False).spec.classes == ("0", "1", "2")


def test_a_changed_table_is_read_again(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    rows = [f"{name},{i % 2}" for i, name in enumerate(NAMES)]
    first = open_data(folder, labels=table(folder, "file,kind", *rows), cache=cache)
    again = open_data(folder, labels=table(folder, "file,kind", *rows), cache=cache)
    rows = [f"{name},{i % 4}" for i, name in enumerate(NAMES)]
    other = open_data(folder, labels=table(folder, "file,kind", *rows), cache=cache)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert len(other.spec.classes) == 4


@pytest.mark.parametrize(
    "rows, found",
    [
        (["file"], "no rows of two or more columns"),
        (["file,kind", "left/00.png,a,b"], "rows of different lengths"),
        (["file,kind", "elsewhere.png,a"], "no row for any of 40 files"),
        (["file,a,b", *(f"{name},x,1" for name in NAMES)], "words among a, b"),
        (["file,a,b", *(f"{name},{i},1" for i, name in enumerate(NAMES))], "one value for all items"),
    ],
)
def test_a_table_that_is_none_says_so(folder: Path, rows: list[str], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        open_data(folder, labels=table(folder, *rows), cache=False)


def test_labels_that_nothing_reads_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_data(folder, labels=folder / "none.csv", cache=False)
    some = table(folder, "file,kind", "left/00.png,a")
    with pytest.raises(UsageError, match="no files of images"):
        open_data(np.zeros((9, 8, 8)), labels=some)


def test_arrays_of_numbers() -> None:
    source = np.random.default_rng(0)
    x, y = source.integers(0, 256, (40, 8, 8), dtype=np.uint8), source.normal(5, 3, (40, 2))
    data = open_data((x, y))
    assert data.spec.details["numbers"] == ["0", "1"]
    assert float(data.train.c.std(0, correction=0).sub(1).abs().max()) < 1e-4
    one = open_data((x, y[:, 0]))
    assert one.train.c.shape[1] == 1


def test_classes_get_other_names() -> None:
    data = open_data("digits", classes="nought,one,two,three,four,five,six,seven,eight,nine")
    assert data.spec.classes[:2] == ("nought", "one")
    with pytest.raises(UsageError, match="2 different names for 10 classes"):
        open_data("digits", classes="a,b")
