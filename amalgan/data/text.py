"""Text as sequences of tokens: a line is a sequence.

    units     characters, whatever the alphabet, or words between spaces
    token 0   the end of a line; after it only ends follow
    token 1   a unit that the vocabulary does not hold, shown as U+FFFD

The vocabulary and the length are part of the data's `Spec`, so a model knows how to write its tokens out again. Lines have
labels where their file, or a column of their table, says one.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from . import oracle as oracles
from .core import ANY, Data, Decoded, Spec, Split, divide
from .labels import Known, of_classes
from .packed import arrays, table, unpacked

if TYPE_CHECKING:
    from ..modalities.text import Units

END, UNKNOWN = 0, 1
SHOWN_UNKNOWN = "\ufffd"
LONGEST = {"words": 64, "characters": 128}  # tokens of a line, unless asked for more
ORACLE = {"train": 10_000, "validation": 2_000, "test": 5_000}  # sequences, the training set as published
SUFFIXES = (".txt", ".txt.gz")  # of the files of a folder, each a label
SOURCES = (
    "a text file with one sequence a line, .txt or .txt.gz; a folder of such, each a label; a table, .csv or .tsv, with "
    "--label; a list of strings; oracle"
)


def open(
    source: Any,
    *,
    units: Units = "auto",
    length: int | None = None,
    vocabulary: int = 5000,
    label: str | None = None,
    column: str | None = None,
    strict: bool = False,
    limit: int | None = None,
    seed: int = 0,
    spec: Spec | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Lines in three parts with no line in common.

    Arguments:
        source: a UTF-8 text file (also gzipped), a folder of such, whose names are labels, a table with a header, .csv
            or .tsv (also gzipped), a list of strings, (strings, labels), "oracle" (a language whose probabilities are
            known; also "oracle:V=500,T=20"), or an .npz file with an oracle's weights.
        units: what a token is; auto: words where most lines have several, else characters.
        length: tokens of a line at most; longer lines are cut into pieces of that length. By default what 99.5 % of the
            lines need, up to 64 words or 128 characters.
        vocabulary: units kept at most, the most frequent ones.
        label: of a table: its column of labels.
        column: of a table: its column of text; by default the one beside the labels, if there are two.
        strict: stop at the first line that is not UTF-8 instead of leaving it out.
        limit: at most so many lines in each part.
        seed: another seed divides differently.
        spec: of a trained model, whose units, vocabulary, length and labels are taken over.
        progress: called with lines done and lines in all.

    Raises:
        UsageError: nothing there, nothing readable, or too few different lines.
    """
    if isinstance(source, Data):
        return source
    if length is not None and length < 2:
        raise UsageError(f"length={length}", "shorter than two tokens", "write 2 or more")
    if vocabulary < 4:
        raise UsageError(f"vocabulary={vocabulary}", "too few units", "write 4 or more, such as 5000")
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit}", "fewer than one line a part", "leave it out, or write for example 1000")
    if isinstance(source, str) and source.partition(":")[0] == "oracle":
        return known(_oracle(source), seed, limit)
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if path.suffix == ".npz" and path.is_file():
            return known(_oracle_of(path), seed, limit)
        name, read = path.name, _read(path, strict, label, column)
    elif isinstance(source, Sequence) and all(isinstance(line, str) for line in source):
        name, read = "lines", Lines(list(source))
    elif isinstance(source, tuple) and len(source) == 2 and len(source[0]) == len(source[1]):
        name, read = "lines", Lines(list(source[0]), [None if of is None else str(of) for of in source[1]])
    else:
        raise UsageError("text", f"a {type(source).__name__}", f"give {SOURCES}")
    return _divided(name, read, units, length, vocabulary, limit, seed, spec, progress)


@dataclass
class Lines:
    """Lines as they were read.

    Arguments:
        lines: their text.
        labels: of each, None where unknown; or None where nothing is said of any.
        skipped: (where, reason) of those left out.
        notes: in words, what was left out.
    """

    lines: list[str]
    labels: list[str | None] | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def tell(tokens: Tensor, spec: Spec) -> list[str]:
    """Lines of text from tokens (n, T)."""
    symbols, joint = spec.details["symbols"], " " if spec.details["units"] == "words" else ""
    lines = []
    for row in tokens.tolist():
        end = row.index(END) if spec.details["ends"] and END in row else len(row)
        lines.append(joint.join(symbols[token] for token in row[:end]))
    return lines


def tokens_of(lines: Sequence[str], spec: Spec) -> list[list[int]]:
    """The tokens of each line, without its end; units that the vocabulary lacks become token 1."""
    index = {symbol: i for i, symbol in enumerate(spec.details["symbols"])}
    split = split_words if spec.details["units"] == "words" else list
    return [[index.get(unit, UNKNOWN) for unit in split(line)] for line in lines]


def split_words(line: str) -> list[str]:
    """What stands between spaces."""
    return line.split()


def known(oracle: oracles.Oracle, seed: int, limit: int | None = None) -> Data:
    """Sequences of an oracle: no two parts come from the same draw."""
    symbols = [str(i) for i in range(oracle.vocabulary)]
    spec = Spec("text", (oracle.length,), (), {"units": "words", "symbols": symbols, "ends": False})
    counts = {part: n if limit is None else min(n, limit) for part, n in ORACLE.items()}
    drawn = oracle.sample(sum(counts.values()), seed).split(list(counts.values()))
    digest = hashlib.blake2b(repr((oracle.name, seed, counts)).encode(), digest_size=16)
    digest.update(oracle.weights["Wo"].numpy().tobytes())
    note = f"{oracle.vocabulary:,} symbols, {oracle.length} of them in a sequence; " + ", ".join(
        f"{n:,} for {part}" for part, n in counts.items()
    )
    train, validation, test = (Split(x, None) for x in drawn)
    return Data(oracle.name, spec, train, validation, test, [note], digest.hexdigest(), known=oracle)


def _oracle(text: str) -> oracles.Oracle:
    """oracle, oracle:V=500,T=20,seed=1."""
    settings = {"V": 500, "T": 20, "width": 32, "seed": 0}
    for word in filter(None, text.partition(":")[2].split(",")):
        name, _, value = word.partition("=")
        if name not in settings or not value.isdigit():
            raise UsageError(text, f"{word!r}", f"write for example oracle:V=500,T=20 ({', '.join(settings)})")
        settings[name] = int(value)
    return oracles.oracle(settings["V"], settings["T"], settings["width"], settings["seed"])


def _oracle_of(path: Path) -> oracles.Oracle:
    held = arrays(path, f"text from {path}", f"give {SOURCES}")
    try:
        return oracles.from_arrays(path.name, held)
    except (ValueError, KeyError) as error:
        raise UsageError(f"text from {path}", f"not an oracle's weights: {error}", f"give {SOURCES}") from None


def _read(path: Path, strict: bool, label: str | None, column: str | None) -> Lines:
    """Of a file, a folder of files, or a table."""
    asked = f"text from {path}"
    if not path.exists():
        raise UsageError(asked, "no such file", f"give {SOURCES}")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES))
        if not files:
            raise UsageError(asked, "a folder without .txt files", f"give {SOURCES}")
        if label or column:
            raise UsageError(asked, "a folder, whose files are labels", "leave out --label and --column")
        parts = [(file.name.partition(".")[0], _lines(file, strict)) for file in files]
        found = Lines(
            [line for _, part in parts for line in part.lines], [name for name, part in parts for _ in part.lines]
        )
        for name, part in parts:
            found.skipped += [(f"{where} of {name}", why) for where, why in part.skipped]
            found.notes += [f"{name}: {note}" for note in part.notes]
        return found
    if path.name.removesuffix(".gz").lower().endswith((".csv", ".tsv")) and (label or column):
        return _table(path, label, column)
    if label or column:
        raise UsageError(asked, "no table", "leave out --label and --column, or give a .csv or .tsv with a header")
    return _lines(path, strict)


def _table(path: Path, label: str | None, column: str | None) -> Lines:
    """Of a table with a header, commas, semicolons or tabs between its columns."""
    asked = f"text from {path}"
    rows, _ = table(path, asked, f"give {SOURCES}")
    names = [name.strip() for name in rows[0]] if rows else []
    for flag, name in (("--label", label), ("--column", column)):
        if name is not None and name not in names:
            raise UsageError(f"{flag} {name}", "no such column", f"write one of {', '.join(names)}")
    others = [name for name in names if name != label]
    if column is None and len(others) != 1:
        raise UsageError(asked, f"the columns {', '.join(others)}", "say which is the text with --column")
    at, of = names.index(column or others[0]), None if label is None else names.index(label)
    whole = [row for row in rows[1:] if len(row) == len(names)]
    kept = [(" ".join(row[at].split()), None if of is None else row[of].strip() or None) for row in whole]
    kept = [(line, said) for line, said in kept if line]
    if not kept:
        raise UsageError(asked, "no row with text", "give a table with a header and a line in each row")
    left = len(rows) - 1 - len(kept)
    notes = [f"{left:,} rows without text, or with more or fewer cells than columns, left out"] if left else []
    return Lines([line for line, _ in kept], None if of is None else [said for _, said in kept], [], notes)


def _lines(path: Path, strict: bool) -> Lines:
    """Of a file with one sequence a line."""
    lines, skipped, empty = [], [], 0
    raw = unpacked(path, f"text from {path}").splitlines()
    for number, line in enumerate(raw, 1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            reason = f"byte 0x{line[error.start]:02x} at {error.start + 1} is not UTF-8"
            if strict:
                raise UsageError(f"line {number} of {path}", reason, "mend it, or leave --strict out") from None
            skipped.append((f"line {number}", reason))
            continue
        if text:
            lines.append(text)
        else:
            empty += 1
    if not lines:
        found = "an empty file" if not raw else f"{len(skipped)} lines that are not UTF-8" if skipped else "empty lines"
        instead = "convert it: iconv -f LATIN1 -t UTF-8" if skipped else "give a file with one sequence a line"
        raise UsageError(f"text from {path}", found, instead)
    notes = [f"{empty:,} empty lines left out"] if empty else []
    if skipped:
        notes.append(f"{len(skipped):,} lines that are not UTF-8 left out, the first is {skipped[0][0]}")
    return Lines(lines, None, skipped, notes)


def choose_units(lines: Sequence[str]) -> str:
    """Words where most of the first thousand lines have several of a word's length, else characters."""
    some = [line.split() for line in lines[:1000]]
    several = sum(len(words) >= 3 for words in some)
    count = sum(map(len, some))
    letters = sum(len(word) for words in some for word in words)
    return "words" if several > len(some) / 2 and letters < 12 * count else "characters"


def _divided(
    name: str,
    read: Lines,
    units: str,
    length: int | None,
    vocabulary: int,
    limit: int | None,
    seed: int,
    spec: Spec | None,
    progress: Callable[[int, int], None] | None,
) -> Data:
    lines, notes = read.lines, read.notes
    if spec is not None:
        units, length = spec.details["units"], spec.shape[0]
    elif units == "auto":
        units = choose_units(lines)
    split = split_words if units == "words" else list
    parts = [split(line) for line in lines]
    if progress is not None:
        progress(len(lines), len(lines))
    if length is None:
        needed = sorted(len(part) + 1 for part in parts)
        length = max(2, min(LONGEST[units], needed[min(len(needed) - 1, math.ceil(0.995 * len(needed)))]))
    of = [(row, i) for row, part in enumerate(parts) for i in range(0, len(part), length)]
    pieces = [parts[row][i : i + length] for row, i in of]
    known = Known() if read.labels is None else of_classes([read.labels[row] for row, _ in of], notes)
    if len(pieces) > len(parts):
        longer = sum(len(part) > length for part in parts)
        notes.append(f"{longer:,} lines of more than {length} {units} cut into pieces of that length")
    if spec is None:
        spec = _spec(pieces, units, length, vocabulary, known.classes, notes)
    else:
        known = known.among(spec.classes)
    symbols = {symbol: i for i, symbol in enumerate(spec.details["symbols"])}
    x = np.full((len(pieces), length), END, dtype=np.int64)
    for row, piece in zip(x, pieces):
        row[: len(piece)] = [symbols.get(unit, UNKNOWN) for unit in piece]
    digest = np.array(
        [int.from_bytes(hashlib.blake2b("\x1f".join(p).encode(), digest_size=8).digest(), "little") for p in pieces],
        dtype=np.uint64,
    )
    notes.insert(0, f"{len(lines):,} lines as {units}, at most {length} a line")
    part = np.full(len(pieces), ANY, dtype=np.int8)
    decoded = Decoded(torch.from_numpy(x), digest, known.c, known.classes, part, notes, read.skipped)
    return divide(decoded, name, seed, limit, spec)


def _spec(
    pieces: list[list[str]], units: str, length: int, vocabulary: int, classes: tuple[str, ...], notes: list[str]
) -> Spec:
    counts = Counter(unit for piece in pieces for unit in piece)
    kept = sorted(counts, key=lambda unit: (-counts[unit], unit))[: vocabulary - 2]
    lost = sum(counts.values()) - sum(counts[unit] for unit in kept)
    rare = f"; {len(counts) - len(kept):,} rarer ones ({lost / counts.total():.1%} of the text) are unknown"
    notes.append(f"a vocabulary of {len(kept):,} {units}" + (rare if lost else ""))
    symbols = ["", SHOWN_UNKNOWN, *kept]
    return Spec("text", (length,), classes, {"units": units, "symbols": symbols, "ends": True})
