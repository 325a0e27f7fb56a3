"""Division by content: disjoint, deterministic, official parts kept, small sets served."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgan import data
from amalgan.data.core import ANY, TEST, TRAIN, VALIDATION, Split, digests, sides, uniform
from amalgan.errors import UsageError


def contents(split: Split) -> set[bytes]:
    return {row.numpy().tobytes() for row in split.x}


def test_digits_are_the_bundled_ones_without_loss():
    from sklearn.datasets import load_digits

    bundled = load_digits()
    d = data.open("digits")
    assert d.spec == data.Spec("images", (1, 8, 8), tuple("0123456789"))
    splits = (d.train, d.validation, d.test)
    assert sum(map(len, splits)) == 1797
    mine = {
        (tuple(torch.round(x.float() * 16 / 255).flatten().tolist()), int(c)) for s in splits for x, c in zip(s.x, s.c)
    }
    assert mine == {(tuple(x), int(c)) for x, c in zip(bundled.data, bundled.target)}
    assert int(torch.cat([s.x for s in splits]).max()) == 255


def test_batch_gathers_and_divides_by_255():
    d = data.open("digits")
    index = torch.tensor([5, 0, 5])
    x, c = d.train.batch(index)
    assert x.dtype == torch.float32 and x.shape == (3, 1, 8, 8)
    assert torch.equal(x, d.train.x[index].float() / 255)
    assert c.tolist() == d.train.c[index].tolist()
    assert torch.equal(d.train.tensor(3), d.train.batch(torch.arange(3))[0])
    assert len(d.test.tensor()) == len(d.test)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([ANY, TRAIN, VALIDATION, TEST])), min_size=3, max_size=80),
    st.integers(0, 5),
)
def test_sides_never_share_a_content_and_keep_official_tests(items, seed):
    digest = digests(np.array([[k] for k, _ in items], np.float32))
    part = np.array([p for _, p in items], np.int8)
    try:
        side = sides(digest, part, seed)
    except UsageError:
        free = set(digest) - set(digest[part > TRAIN])
        assert len(free) < 3  # anything larger can be divided
        return
    owner: dict[int, int] = {}
    for h, s in zip(digest, side):
        if s != ANY:
            assert owner.setdefault(int(h), int(s)) == s
    assert set(owner) == set(map(int, digest))  # dropped items are duplicates, never lost contents
    assert set(owner.values()) == {TRAIN, VALIDATION, TEST}
    assert (side[part == TEST] == TEST).all()
    assert ((side == TEST).any() and not ((side == TEST) & (part != TEST)).any()) or not (part == TEST).any()


def test_a_validation_set_that_lies_within_the_test_set_is_replaced() -> None:
    part = np.array([ANY, VALIDATION, TEST, ANY, ANY], np.int8)
    side = sides(digests(np.array([[0], [1], [1], [2], [3]], np.float32)), part)
    assert side[1] == ANY and side[2] == TEST and sorted(side[[0, 3, 4]]) == [TRAIN, TRAIN, VALIDATION]


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 60), st.randoms())
def test_division_does_not_depend_on_order_and_survives_growth(n, random):
    x = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    order = list(range(n))
    random.shuffle(order)
    h = digests(x)
    none = np.full(n, ANY, np.int8)
    assert (sides(h, none)[order] == sides(h[order], none)).all()


def test_growing_a_large_set_moves_nothing():
    h = digests(np.arange(4000, dtype=np.float32)[:, None])
    none = np.full(4000, ANY, np.int8)
    assert (sides(h[:2000], none[:2000]) == sides(h, none)[:2000]).all()


def test_shares_are_ten_percent():
    side = sides(digests(np.arange(20000, dtype=np.float32)[:, None]), np.full(20000, ANY, np.int8))
    share = np.bincount(side) / 20000
    assert np.allclose(share, [0.8, 0.1, 0.1], atol=4 * np.sqrt(0.09 / 20000))  # four standard deviations


def test_official_test_set_stays_whole_and_tenth_of_train_is_validation():
    part = np.repeat(np.array([TRAIN, TEST], np.int8), [5000, 1000])
    side = sides(digests(np.arange(6000, dtype=np.float32)[:, None]), part)
    assert (side[5000:] == TEST).all() and not (side[:5000] == TEST).any()
    assert 400 < (side == VALIDATION).sum() < 600


def test_a_duplicate_of_a_test_item_leaves_training_and_is_counted():
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 8, 8), dtype=np.uint8) for n in (50, 10))
    train[3] = train[4] = test[0]
    d = data.open({"x_train": train, "x_test": test})
    assert len(d.train) + len(d.validation) == 48 and len(d.test) == 10
    assert not contents(d.train) & contents(d.test)
    assert any(note.startswith("2 items left") for note in d.notes)


def test_repeats_within_a_part_stay_and_are_counted():
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    d = data.open(np.concatenate([x, x[:5]]))
    assert len(d.train) + len(d.validation) + len(d.test) == 45
    assert any(note.startswith("5 items repeat") for note in d.notes)


@pytest.mark.parametrize("n", [3, 4, 9, 25])
def test_small_sets_have_one_of_each(n):
    d = data.open(np.random.default_rng(n).integers(0, 256, (n, 8, 8), dtype=np.uint8))
    share = max(1, n // 10)
    assert [len(s) for s in (d.train, d.validation, d.test)] == [n - 2 * share, share, share]


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_distinct_items_is_an_error_in_three_parts(n):
    x = np.arange(n * 64, dtype=np.uint8).reshape(n, 8, 8).repeat(10, 0)
    with pytest.raises(UsageError, match=f"{n} distinct item.*\ninstead: give at least 3"):
        data.open(x)


def test_seed_divides_differently_and_the_same_seed_alike():
    a, b, c = (data.open("digits", seed=s) for s in (0, 0, 1))
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert torch.equal(a.train.x, b.train.x) and contents(a.test) != contents(c.test)


def test_limit_is_the_start_of_each_part():
    whole, few = data.open("digits"), data.open("digits", limit=20)
    for name in ("train", "validation", "test"):
        assert torch.equal(getattr(few, name).x, getattr(whole, name).x[:20])
    with pytest.raises(UsageError, match="fewer than one"):
        data.open("digits", limit=0)


def test_the_first_items_of_sorted_data_are_of_many_classes():
    x = np.random.default_rng(0).integers(0, 256, (1000, 8, 8), dtype=np.uint8)
    d = data.open((x, np.arange(1000) // 100))
    assert len(set(d.train.c[:50].tolist())) >= 8


def test_a_grey_image_hashes_alike_in_one_channel_and_three():
    x = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    assert (digests(x) == digests(x.repeat(3, 1))).all()
    assert len(set(digests(np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)))) == 5


def test_zero_and_minus_zero_are_one_point():
    assert len(set(digests(np.array([[0.0, 1.0], [-0.0, 1.0]], np.float32)))) == 1


def test_uniform_is_splitmix64():
    # first outputs of splitmix64 seeded with 0 (state advances by the golden gamma): Vigna's reference values
    first = np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4], np.uint64) >> np.uint64(11)
    got = [uniform(np.zeros(1, np.uint64), seed)[0] for seed in (0, 1)]
    assert got == [float(f) * 2.0**-53 for f in first]


def test_data_opens_as_itself_and_wrong_options_are_named():
    d = data.open("digits")
    assert data.open(d) is d
    for wrong in ({"size": 0}, {"size": 5000}, {"size": 3.5}, {"channels": 2}):
        with pytest.raises(UsageError):
            data.open("digits", **wrong)
    with pytest.raises(UsageError, match="a int"):
        data.open(3)
