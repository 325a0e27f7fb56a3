"""BLEU against sacrebleu; the rest by hand."""

from __future__ import annotations

import random

import pytest

from amalgan.metrics import text

NEAR = [["a", "b", "c", "d", "e"], ["a", "b", "b", "c"], ["c", "d", "e", "f", "g", "h"], ["a", "a", "a"]]


def lines(count: int, seed: int) -> list[list[str]]:
    source = random.Random(seed)
    return [[source.choice("abcdefg") for _ in range(source.randint(1, 12))] for _ in range(count)]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_is_sacrebleus(order: int) -> None:
    bleu = pytest.importorskip("sacrebleu.metrics").BLEU
    theirs = bleu(tokenize="none", smooth_method="floor", smooth_value=0.1, max_ngram_order=order)
    references = [*NEAR, *lines(30, 1)]
    ours = text.References(references, order)
    compared = 0
    for line in [*NEAR, *lines(60, 2)]:
        if len(line) < order:
            assert text.bleu(line, ours, order) == 0  # no such k-gram at all
            continue
        expected = theirs.sentence_score(" ".join(line), [" ".join(r) for r in references]).score / 100
        assert text.bleu(line, ours, order) == pytest.approx(expected, abs=1e-9)
        compared += 1
    assert compared > 40


@pytest.mark.parametrize("order", [2, 4])
def test_self_bleu_is_bleu_against_all_the_others(order: int) -> None:
    some = [*NEAR, *lines(20, 3), NEAR[0]]
    each = [text.bleu(line, text.References(some[:i] + some[i + 1 :], order), order) for i, line in enumerate(some)]
    assert text.self_bleu(some, text.References(some, order), order) == pytest.approx(sum(each) / len(each))
    alike = [NEAR[0]] * 5
    assert text.self_bleu(alike, text.References(alike, 4), order) == pytest.approx(1.0)


def test_distinct_unique_and_copied_by_hand() -> None:
    some = [[1, 2, 1], [1, 2], [1, 2]]
    assert text.distinct(some, 1) == 2 / 7 and text.distinct(some, 2) == 2 / 4
    assert text.unique(some) == 2 / 3
    assert text.share_in(some, [(1, 2), (9,)]) == 2 / 3
    assert text.distinct([[1]], 2) == 0.0 and text.bleu([], text.References(some, 2), 2) == 0.0
