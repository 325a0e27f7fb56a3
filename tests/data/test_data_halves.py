"""Images whose halves must match: as drawn, as judged, and out of reach of a verdict that looks nowhere far."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from amalgan import data
from amalgan.data.halves import CELL, HEIGHT, MARK, ROWS, WIDTH, Agreement, Halves, strangers
from amalgan.errors import UsageError
from amalgan.networks import images, residual
from amalgan.networks.attention import SelfAttention


def drawn(n: int, seed: int = 0) -> Tensor:
    return Halves().draw(n, seed)[0].float() / 255


def looking(shape: tuple[int, ...], width: int) -> nn.Module:
    """A discriminator with attention."""
    return residual.Discriminator(shape, width, {8: SelfAttention})


def by_hand(x: Tensor) -> Tensor:
    """How bright the cells of an image's two marks are, (2, 2, 2), and nothing else may be drawn."""
    ink, cells = (x[0] - 0.5).abs() > 0.25, []
    for start in (0, WIDTH - 8):
        assert ink[4:12, start : start + 8].all()
        blocks = x[0, 4:12, start : start + 8].unflatten(0, (2, 4)).unflatten(2, (2, 4))
        assert torch.equal(blocks.amax((1, 3)), blocks.amin((1, 3))), "a cell has one ink"
        cells.append(blocks.mean((1, 3)))
    assert ink.sum() == 2 * 8 * 8
    return torch.stack(cells)


def test_an_image_is_what_is_said_of_it() -> None:
    x, c = Halves().draw(300)
    assert x.shape == (300, 1, HEIGHT, WIDTH) and x.dtype == torch.uint8
    cells = torch.stack([by_hand(image.float() / 255) for image in x])
    bright = cells > 0.5
    assert torch.equal(bright[:, 0], bright[:, 1]) and (cells[:, 0] != cells[:, 1]).any((1, 2)).all()
    assert torch.equal((bright[:, 0].flatten(1).long() * torch.tensor([1, 2, 4, 8])).sum(1), c)
    assert Halves().classes[int(c[0])] == "".join(str(int(b)) for b in reversed(bright[0, 0].flatten().tolist()))
    # 300 draws of 16 patterns: a count beyond 5 standard deviations in one of a hundred thousand such tests
    counts = torch.bincount(c, minlength=16)
    assert ((counts - 300 / 16).abs() < 5 * math.sqrt(300 * 15 / 256)).all()


def test_draws_depend_on_the_seed_and_not_on_their_number() -> None:
    (x, c), (y, d) = Halves().draw(50, 3), Halves().draw(20, 3)
    assert torch.equal(x[:20], y) and torch.equal(c[:20], d) and not torch.equal(drawn(20, 4), drawn(20, 3))


def test_opened_halves_know_their_judge_and_share_nothing() -> None:
    made = data.open("halves", limit=2000)
    assert made.spec == data.Spec("images", (1, HEIGHT, WIDTH), Halves().classes)
    parts = [{bytes(image.numpy()) for image in split.x} for split in (made.train, made.validation, made.test)]
    assert [len(part) for part in parts] == [2000] * 3 and len(set.union(*parts)) == 6000
    assert made.known.agreement(made.test.tensor()) == Agreement(1.0, 1.0)
    assert data.open("halves", limit=2000).fingerprint == made.fingerprint
    assert data.open("halves", limit=2000, seed=1).fingerprint != made.fingerprint
    assert data.open("halves", size=16, channels=1, limit=9).spec == made.spec  # as a run opens its data again
    for wrong in ({"size": 32}, {"channels": 3}):
        with pytest.raises(UsageError, match="leave out size and channels"):
            data.open("halves", **wrong)  # type: ignore[arg-type]


def test_the_judge_knows_real_strange_and_broken_images() -> None:
    x = drawn(4000)
    assert Halves().agreement(x) == Agreement(1.0, 1.0)
    strange = Halves().agreement(strangers(x))
    # a share of 1/16 at n = 4,000 over 15/16: standard deviation 0.0041; four of them, one false alarm in 16,000
    assert strange.formed == 1 and strange.kappa == pytest.approx(0, abs=0.0163)
    x = x[:200]
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    for nothing in (
        noise,
        torch.full_like(x, 0.5),
        torch.zeros_like(x),
        x.flip(3).roll(WIDTH // 2, 3),
        x.mT.reshape(x.shape),
    ):
        assert Halves().agreement(nothing) == Agreement(0.0, 0.0)
    half_empty = torch.cat([x[..., : WIDTH // 2], torch.full_like(x[..., : WIDTH // 2], 0.5)], 3)
    assert Halves().agreement(half_empty).formed == 0
    assert Halves().agreement(torch.cat([x, half_empty])) == Agreement(0.5, 1.0)
    assert Halves().agreement(x[:1].expand(200, -1, -1, -1)) == Agreement(1.0, 0.0), "a collapse has learned nothing"
    with pytest.raises(UsageError, match="pass grey ones of 16 x 64 px"):
        Halves().agreement(x.mT)


@pytest.mark.parametrize("wrong, formed", [(0, 1.0), (CELL**2 - 1, 1.0), (CELL**2, 0.0)])
def test_a_half_may_miss_less_than_a_cell(wrong: int, formed: float) -> None:
    """Pixels between the marks turned bright, then as many of one mark turned grey."""
    x = drawn(200)
    stray = x.clone()
    stray[:, 0, 5, 10 : 10 + wrong] = 1
    assert Halves().agreement(stray) == Agreement(formed, formed)
    for i in range(wrong):
        x[:, 0, ROWS.start + i // MARK, i % MARK] = 0.5
    assert Halves().agreement(x).formed == formed


def test_kappa_by_hand() -> None:
    """Patterns A|A, A|A, B|B, A|B: three of four match; by chance 3/4 * 2/4 + 1/4 * 2/4 = 1/2 would."""
    x, pattern = Halves().draw(100)
    a = x[:1]
    b = x[int((pattern != pattern[0]).nonzero()[0])][None]
    mixed = torch.cat([a[..., : WIDTH // 2], b[..., WIDTH // 2 :]], 3)
    assert Halves().agreement(torch.cat([a, a, b, mixed]) / 255) == Agreement(1.0, 0.5)


def test_inks_may_be_off_by_a_sixth() -> None:
    x = drawn(500)
    off = 0.12 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert Halves().agreement((x + off).clamp(0, 1)) == Agreement(1.0, 1.0)


@pytest.mark.parametrize(
    "make, blind", [(images.Discriminator, True), (residual.Discriminator, True), (looking, False)]
)
def test_verdicts_without_attention_cannot_tell_whether_halves_match(
    make: Callable[..., nn.Module], blind: bool
) -> None:
    """D = a function of the left half + one of the right: two images that exchange halves have the same sum of verdicts."""
    torch.manual_seed(0)
    judge, x = make((1, HEIGHT, WIDTH), 8), drawn(64)
    with torch.no_grad():
        for parameter in judge.parameters():
            parameter.normal_(0, 0.3)
        own, exchanged = judge(x)[0], judge(strangers(x))[0]
    gap = (own.sum() - exchanged.sum()).abs() / own.std()
    assert gap < 1e-3 if blind else gap > 0.03
