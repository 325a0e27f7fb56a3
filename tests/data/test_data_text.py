"""Text to tokens and back; everything a text file may hold that no text should."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgan.data import Data, text
from amalgan.errors import UsageError

LINES = [f"the {animal} sees {number} birds" for animal in ("cat", "dog", "cow", "hen") for number in range(40)]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_words_and_back(tmp_path: Path) -> None:
    data = text.open(written(tmp_path / "a.txt", "\n".join(LINES).encode()))
    assert data.spec.details["units"] == "words" and data.spec.shape == (6,)
    back = [line for part in (data.train, data.validation, data.test) for line in text.tell(part.tensor(), data.spec)]
    assert sorted(back) == sorted(LINES)
    assert not set(text.tell(data.train.tensor(), data.spec)) & set(text.tell(data.test.tensor(), data.spec))
    assert text.open(tmp_path / "a.txt").fingerprint == data.fingerprint
    packed = written(tmp_path / "a.txt.gz", gzip.compress("\n".join(LINES).encode()))
    assert text.open(packed).fingerprint == data.fingerprint


def test_chinese_is_characters(tmp_path: Path) -> None:
    lines = [f"我有{i}只猫和一只狗,它们都很好。" for i in range(50)]
    data = text.open(written(tmp_path / "a.txt", ("\ufeff" + "\r\n".join(lines)).encode()))
    assert data.spec.details["units"] == "characters"
    assert set(text.tell(data.test.tensor(), data.spec)) <= set(lines)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20).filter(lambda s: s.strip() == s and len(s.splitlines()) == 1),
                min_size=12, max_size=30, unique=True))  # fmt: skip
def test_any_unicode_comes_back(lines: list[str]) -> None:
    data = text.open(lines, units="characters", vocabulary=100_000)
    back = [line for part in (data.train, data.validation, data.test) for line in text.tell(part.tensor(), data.spec)]
    assert sorted(back) == sorted(lines)


def test_rare_units_are_unknown_and_said(tmp_path: Path) -> None:
    data = text.open([*LINES, *LINES, "a zebra at night here"], vocabulary=8)
    assert len(data.spec.details["symbols"]) == 8
    assert any("unknown" in note for note in data.notes)
    assert text.SHOWN_UNKNOWN in " ".join(text.tell(data.train.tensor(), data.spec))


def test_long_lines_are_cut_and_said() -> None:
    novel = " ".join(f"word{i % 50}" for i in range(5000))
    data = text.open([novel], length=20)
    assert data.spec.shape == (20,) and any("cut into pieces" in note for note in data.notes)
    assert sum(len(part) for part in (data.train, data.validation, data.test)) == 250


def test_other_text_takes_over_a_models_vocabulary() -> None:
    data = text.open(LINES)
    other = text.open(["the cat sees 7 zebras", *LINES[:30]], spec=data.spec)
    assert other.spec == data.spec
    assert any(text.SHOWN_UNKNOWN in line for part in (other.train, other.validation, other.test)
               for line in text.tell(part.tensor(), other.spec))  # fmt: skip


def test_an_oracles_sequences_have_its_entropy() -> None:
    data = text.open("oracle:V=30,T=6", limit=500)
    assert data.train.tensor().shape == (500, 6) and not data.spec.details["ends"]
    other = text.open("oracle:V=30,T=6", limit=500).known
    assert torch.equal(other.nll(data.test.tensor()), data.known.nll(data.test.tensor()))
    uniform = torch.randint(30, (500, 6), generator=torch.Generator().manual_seed(0))
    assert data.known.nll(data.test.tensor()).mean() < data.known.nll(uniform).mean() - 3
    assert torch.equal(data.known.sample(7, 3), data.known.sample(1200, 3)[:7])


OFFICIAL = "seqgan_oracle/seqgan_oracle_lstm.npz"


@pytest.mark.slow
def test_the_papers_oracle_scores_its_own_samples_as_published(real_data: Path) -> None:
    """5.74 nats a token (Yu et al. 2017); 5,000 sequences, five standard errors are 0.03."""
    data = text.open(real_data / OFFICIAL)
    assert float(data.known.nll(data.test.tensor()).mean()) / 20 == pytest.approx(5.74, abs=0.03)
    uniform = torch.randint(5000, (1000, 20), generator=torch.Generator().manual_seed(0))
    assert float(data.known.nll(uniform).mean()) / 20 == pytest.approx(11.43, abs=0.1)


MISTAKES = {
    "nothing there": ("no.txt", None, "no such file"),
    "a folder": (".", None, "a folder"),
    "an empty file": ("a.txt", b"", "an empty file"),
    "blank lines": ("a.txt", b"\n \n\t\n", "empty lines"),
    "one line": ("a.txt", b"only this\n", "1 distinct item"),
    "another encoding": ("a.txt", "\xe4\xf6\xfc\n".encode("latin1") * 5, "not UTF-8"),
    "a damaged archive": ("a.txt.gz", b"\x1f\x8b\x08 not really", "cannot be read"),
    "no oracle": ("a.npz", b"PK not an archive", "cannot be read"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake: str, tmp_path: Path) -> None:
    name, content, found = MISTAKES[mistake]
    if content is not None:
        written(tmp_path / name, content)
    with pytest.raises(UsageError, match=found):
        text.open(tmp_path / name)


@pytest.mark.parametrize(
    "options", [{"length": 1}, {"vocabulary": 2}, {"limit": 0}], ids=["length", "vocabulary", "limit"]
)
def test_settings_out_of_range_are_told(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        text.open(LINES, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["oracle:V=x", "oracle:Z=3", "oracle:V=1", 7, [1, 2]])
def test_sources_that_are_none(source: object) -> None:
    with pytest.raises(UsageError):
        text.open(source)


def test_an_oracle_without_its_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", embedding=np.zeros((3, 2)))
    with pytest.raises(UsageError, match="no Uc"):
        text.open(tmp_path / "a.npz")


def test_a_line_that_is_not_utf8_is_named_and_skipped_or_stops(tmp_path: Path) -> None:
    content = "\n".join(LINES[:50]).encode() + b"\nbad \xff byte\n"
    path = written(tmp_path / "a.txt", content)
    data = text.open(path)
    assert data.skipped == [("line 51", "byte 0xff at 5 is not UTF-8")]
    with pytest.raises(UsageError, match="line 51"):
        text.open(path, strict=True)


def labelled(folder: Path) -> Path:
    """Lines of two kinds, a file each."""
    folder.mkdir()
    (folder / "cats.txt").write_text("\n".join(f"a cat purrs {n} times" for n in range(60)))
    (folder / "dogs.txt").write_text("\n".join(f"a dog barks {n} times" for n in range(40)))
    return folder


def told(data: Data) -> set[tuple[str, str]]:
    """The animal of each line, and its label."""
    found = set()
    for part in (data.train, data.validation, data.test):
        x, c = part.batch(torch.arange(len(part)))
        assert c is not None
        found |= {
            (line.split()[1], "" if label < 0 else data.spec.classes[label])
            for line, label in zip(text.tell(x, data.spec), c.tolist())
        }
    return found


def test_files_of_a_folder_are_labels(tmp_path: Path) -> None:
    data = text.open(labelled(tmp_path / "animals"))
    assert data.spec.classes == ("cats", "dogs") and told(data) == {("cat", "cats"), ("dog", "dogs")}
    assert len(data.train) + len(data.validation) + len(data.test) == 100


@pytest.mark.parametrize("mark, name", [(",", "t.csv"), ("\t", "t.tsv"), (";", "t.csv"), (",", "t.csv.gz")])
def test_a_column_of_a_table_is_the_label(mark: str, name: str, tmp_path: Path) -> None:
    rows = [mark.join(("kind", "said"))]
    rows += [mark.join((kind, f'"a {kind}{mark} it says {n}"')) for n in range(50) for kind in ("cat", "dog")]
    rows += [mark.join(("", '"a cow says nothing"')), "too" + mark + "many" + mark + "cells"]
    raw = "\n".join(rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    data = text.open(tmp_path / name, label="kind", units="words")
    assert data.spec.classes == ("cat", "dog")
    assert told(data) == {(f"cat{mark}".strip(), "cat"), (f"dog{mark}".strip(), "dog"), ("cow", "")}
    assert any("1 row" in note for note in data.notes)


def test_a_pair_of_lines_is_no_line_with_a_label() -> None:
    with pytest.raises(UsageError, match="2 distinct items"):
        text.open(("a cat", "a dog"))


def test_labels_are_those_of_the_model(tmp_path: Path) -> None:
    """Other lines are opened with a model's labels, by name; unlabelled lines of a model with labels are unknown."""
    spec = text.open(labelled(tmp_path / "animals")).spec
    lines = [f"a dog barks {n} times" for n in range(30)] + [f"a hen clucks {n} times" for n in range(30)]
    again = text.open((lines, ["dogs"] * 30 + ["hens"] * 30), spec=spec)
    assert again.spec == spec and {said for _, said in told(again)} == {"dogs", ""}
    assert text.open(lines, spec=spec).train.c is None


@pytest.mark.parametrize(
    "flags, said",
    [
        ({"label": "mood"}, "no such column"),
        ({"label": "kind"}, "--column"),
        ({"label": "kind", "column": "body"}, "no such column"),
    ],
)
def test_a_table_says_what_it_lacks(flags: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("kind,title,text\n" + "\n".join(f"a,b,{n}" for n in range(20)))
    with pytest.raises(UsageError, match=said):
        text.open(tmp_path / "t.csv", **flags)
    (tmp_path / "t.txt").write_text("\n".join(map(str, range(20))))
    with pytest.raises(UsageError, match="no table"):
        text.open(tmp_path / "t.txt", **flags)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"without \.txt"):
        text.open(tmp_path / "empty")
