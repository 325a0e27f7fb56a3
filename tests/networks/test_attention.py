"""Self-attention against its formula, pixel by pixel: values, slopes, slopes of slopes; fused and written out alike."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from amalgan.networks import attention
from amalgan.networks.attention import Fused, SelfAttention, attend, watching
from amalgan.networks.normalise import spectral

FORMS = pytest.mark.parametrize("released", [True, False], ids=["released", "paper"])


@pytest.fixture(params=["written out", "fused"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways to the same numbers, whatever the size."""
    monkeypatch.setattr(attention, "WRITTEN_OUT", 0 if request.param == "fused" else 2**62)
    yield request.param


def block(channels: int, released: bool, gamma: float = 0.7) -> SelfAttention:
    torch.manual_seed(0)
    made = SelfAttention(channels, released)
    with torch.no_grad():
        made.gamma.fill_(gamma)
    return made


def by_hand(made: SelfAttention, x: Tensor) -> Tensor:
    """y_j = x_j + gamma v(sum_i beta_ji h(x_i)), one pixel j after the other."""
    f, g, h = made.pool(made.f(x)).flatten(2), made.g(x), made.pool(made.h(x)).flatten(2)
    y = torch.empty_like(x)
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            s = (f * g[:, :, row, column, None]).sum(1)
            beta = s.exp() / s.exp().sum(1, keepdim=True)
            o = (h * beta[:, None]).sum(2)
            y[:, :, row, column] = x[:, :, row, column] + made.gamma * made.v(o[:, :, None, None])[:, :, 0, 0]
    return y


def slopes(made: SelfAttention, x: Tensor, forward: object) -> list[Tensor]:
    """By x and every parameter: of a sum over y, and of the squared slope of that sum by x."""
    inputs = [x.requires_grad_(), *made.parameters()]
    y = forward(x)  # type: ignore[operator]
    weighted = (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()
    first = torch.autograd.grad(weighted, inputs, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), inputs, allow_unused=True, retain_graph=True)
    plain = torch.autograd.grad(weighted, inputs)
    assert all(torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in zip(first, plain))
    return [*plain, *(torch.zeros(1) if s is None else s for s in second)]


@FORMS
@pytest.mark.parametrize("channels, sides", [(16, (6, 4)), (16, (5, 7)), (5, (4, 4)), (1, (3, 1))])
def test_it_is_the_formula(either: str, released: bool, channels: int, sides: tuple[int, int]) -> None:
    """Also with odd sides, which pooling rounds up, and with fewer than eight channels."""
    made, x = block(channels, released), 2 * torch.randn(3, channels, *sides)
    assert torch.allclose(made(x), by_hand(made, x), atol=1e-5)
    for ours, theirs in zip(slopes(made, x, made), slopes(made, x, lambda x: by_hand(made, x))):
        assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


def test_fused_slopes_are_those_of_differences() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, n, d, dtype=torch.float64, requires_grad=True) for n, d in ((5, 2), (4, 2), (4, 3))]
    assert torch.autograd.gradcheck(Fused.apply, inputs)
    assert torch.autograd.gradgradcheck(Fused.apply, inputs)


@FORMS
def test_large_maps_are_never_held(released: bool) -> None:
    """Forward and backward by the fused kernel alone, and nothing the size of a map is kept between them."""
    made, kept = block(16, released), []
    x = torch.randn(1, 16, 40, 40, requires_grad=True)
    keys = made.pool(x[:, :1]).numel()
    assert 1600 * keys > attention.WRITTEN_OUT
    with (
        sdpa_kernel(SDPBackend.FLASH_ATTENTION),
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t),
    ):
        made(x).sum().backward()
    assert max(kept) < 1600 * keys / 10


@FORMS
def test_shares_are_taken_over_what_is_looked_at(either: str, released: bool) -> None:
    """Values that are the same everywhere come out the same everywhere: the weights of each pixel sum to one.

    Normalised over the pixels that look, they would not: some would get many times as much as others.
    """
    made, x = block(8, released, gamma=1.0), 3 * torch.randn(2, 8, 6, 6)
    x[:, 0] = 1
    with torch.no_grad():
        made.h.weight[:, 1:] = 0  # values know the channel that is constant, and no other
        added = made(x) - x
    assert torch.allclose(added, added[:, :, :1, :1].expand_as(added), atol=1e-5) and added.abs().max() > 0.1


@FORMS
def test_a_constant_image_stays_constant(either: str, released: bool) -> None:
    made = block(16, released)
    x = torch.randn(2, 16, 1, 1).expand(-1, -1, 5, 6)
    y = made(x)
    assert torch.allclose(y, y[:, :, :1, :1].expand_as(y), atol=1e-6) and not torch.allclose(y, x, atol=1e-2)
    assert torch.allclose(made.maps(x, 2, 3), torch.full((2, *made.pool(x).shape[2:]), 1 / made.pool(x)[0, 0].numel()))


@FORMS
def test_at_first_it_is_the_identity_and_learns_by_gamma(released: bool) -> None:
    torch.manual_seed(0)
    made, x = SelfAttention(16, released), torch.randn(2, 16, 4, 4)
    y = made(x)
    assert torch.equal(y, x)
    (slope,) = torch.autograd.grad((y**2).sum(), made.gamma)
    assert slope.abs() > 1e-3


@FORMS
def test_a_map_is_what_its_pixel_looks_at(released: bool) -> None:
    made, x = block(16, released), 2 * torch.randn(3, 16, 5, 6)
    maps = made.maps(x, 4, 2)
    values = made.pool(made.h(x))
    assert maps.shape == (3, *values.shape[2:]) and torch.allclose(maps.sum((1, 2)), torch.ones(3))
    o = (values * maps[:, None]).sum((2, 3), keepdim=True)
    assert torch.allclose(made(x)[:, :, 4:5, 2:3], x[:, :, 4:5, 2:3] + made.gamma * made.v(o), atol=1e-5)


@FORMS
def test_watched_layers_tell_where_they_look(released: bool) -> None:
    """Of every layer within, by its name, at the same place of maps of any size; and no longer than asked for."""
    within = nn.Sequential(block(8, released), nn.AvgPool2d(2), block(8, released))
    x = torch.randn(2, 8, 8, 12)
    with torch.no_grad(), watching(within, [(0.5, 0.5), (0.99, 0.0)]) as found:
        assert found == {}
        y = within(x)
    assert y.requires_grad is False and list(found) == ["0", "2"]
    fine, coarse = found.values()
    assert fine.shape == ((2, 2, 4, 6) if released else (2, 2, 8, 12)) and coarse.shape[2] * 2 == fine.shape[2]
    assert all(torch.allclose(maps.sum((2, 3)), torch.ones(2, 2), atol=1e-5) for maps in found.values())
    assert torch.equal(fine[:, 0], within[0].maps(x, 4, 6)) and torch.equal(fine[:, 1], within[0].maps(x, 7, 0))
    assert torch.equal(coarse[:, 0], within[2].maps(within[:2](x), 2, 3))
    within(x * 0)
    assert torch.equal(fine, found["0"])
    with watching(nn.Conv2d(8, 8, 1), [(0.5, 0.5)]) as nothing:
        pass
    assert nothing == {}


@FORMS
def test_one_pixel_sees_another_however_far(released: bool) -> None:
    made, x = block(16, released), torch.randn(1, 16, 12, 12)
    other = x.clone()
    other[0, :, 11, 11] += 3
    assert ((made(x) - made(other))[0, :, 0, 0].abs() > 1e-6).any()


@FORMS
def test_bf16_stays_near_fp32(either: str, released: bool) -> None:
    """Values, and slopes of slopes taken under autocast, as a penalty on a slope takes them."""
    made, x = block(16, released), torch.randn(2, 16, 8, 8, requires_grad=True)
    found = []
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = made(x)
            (slope,) = torch.autograd.grad((y.float() ** 2).sum(), x, create_graph=True)
            penalty = slope.float().square().sum()
        found.append([y.float(), slope, *torch.autograd.grad(penalty, [made.g.weight, made.v.weight])])
    for exact, rounded in zip(*found):
        assert (rounded - exact).norm() < 0.03 * exact.norm()
    assert found[1][0].dtype == torch.float32


def test_scores_are_not_rounded_to_bf16() -> None:
    q, k = (4 * torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))).bfloat16()
    exact = torch.softmax(q.double() @ k.double().mT, -1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(attention.weights(q, k).double(), exact, atol=1e-5)


@FORMS
def test_spectral_normalisation_reaches_all_four(released: bool) -> None:
    made = spectral(block(16, released))
    with torch.no_grad():
        for _ in range(100):
            made(torch.randn(2, 16, 4, 4))
    made.eval()
    for convolution in (made.f, made.g, made.h, made.v):
        assert torch.linalg.matrix_norm(convolution.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=2e-3)


def test_both_forms_have_the_published_widths() -> None:
    for made, values in ((SelfAttention(64), 8), (SelfAttention(64, released=True), 32)):
        shapes = [tuple(c.weight.shape[:2]) for c in (made.f, made.g, made.h, made.v)]
        assert shapes == [(8, 64), (8, 64), (values, 64), (64, values)]
        assert all(c.bias is None for c in (made.f, made.g, made.h, made.v))


def test_attend_takes_a_large_batch_of_small_maps() -> None:
    """How it is computed depends on one example, so that a share of a batch is computed like the whole."""
    q, k, v = torch.randn(1000, 4, 2), torch.randn(1000, 9, 2), torch.randn(1000, 9, 3)
    assert torch.equal(attend(q, k, v)[:1], attend(q[:1], k[:1], v[:1]))
