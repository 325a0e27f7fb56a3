"""Toy mixtures: the published numbers, densities that integrate to one, samples that follow them; and pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from amalgan import data
from amalgan.data.known import grid, mixture, ring
from amalgan.errors import UsageError


def test_ring_and_grid_are_the_published_ones():
    r, g = ring(), grid()
    assert r.means.shape == (8, 2) and r.sigma == 0.01
    assert torch.allclose(r.means.norm(dim=1), torch.ones(8)) and torch.allclose(r.means[0], torch.tensor([1.0, 0.0]))
    assert torch.cdist(r.means, r.means).fill_diagonal_(9).min() == pytest.approx(2 * math.sin(math.pi / 8), rel=1e-5)
    assert sorted(map(tuple, g.means.tolist())) == [(a, b) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)]
    assert g.sigma == 0.05


def test_log_density_is_that_of_the_mixture():
    from sklearn.mixture import GaussianMixture

    m = ring(5, sigma=0.3)
    oracle = GaussianMixture(5, covariance_type="spherical")
    oracle.weights_, oracle.means_ = np.full(5, 0.2), m.means.double().numpy()
    oracle.covariances_, oracle.precisions_cholesky_ = np.full(5, 0.09), np.full(5, 1 / 0.3)
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert np.allclose(m.log_density(x).numpy(), oracle.score_samples(x.numpy()), atol=1e-9)


def test_the_density_integrates_to_one():
    line = torch.linspace(-3, 3, 600, dtype=torch.float64)
    mass = grid(2, sigma=0.2).log_density(torch.cartesian_prod(line, line)).exp().sum() * (line[1] - line[0]) ** 2
    assert mass == pytest.approx(1, abs=1e-6)


def test_samples_follow_the_density_and_do_not_depend_on_their_number():
    m = ring()
    x, c = m.draw(20_000, seed=3)
    assert torch.equal(m.sample(50, seed=3), x[:50]) and not torch.equal(m.sample(50, seed=4), x[:50])
    counts = torch.bincount(c, minlength=8)
    assert ((counts - 2500).abs() < 5 * math.sqrt(20_000 * 7 / 64)).all()  # five standard deviations
    distance = (x - m.means[c]).norm(dim=1) / m.sigma
    assert distance.square().mean() == pytest.approx(2, abs=5 * 2 / math.sqrt(20_000))  # chi-squared, 2 degrees
    entropy = math.log(8) + 1 + math.log(2 * math.pi * 1e-4)  # modes apart: log K + D/2 log(2 pi e sigma^2)
    assert -m.log_density(x).mean() == pytest.approx(entropy, abs=0.05)


def test_opened_toys_know_their_density_and_modes():
    d = data.open("ring")
    assert d.spec == data.Spec("points", (2,), tuple("01234567"))
    assert torch.equal(d.known.means, ring().means) and d.known.sigma == 0.01
    assert [len(s) for s in (d.train, d.validation, d.test)] == [100_000, 10_000, 10_000]
    nearest = torch.cdist(d.test.x, d.known.means).argmin(1)
    assert torch.equal(nearest, d.test.c)
    assert len(data.open("grid:3", limit=50).train) == 50
    assert data.open("ring").fingerprint == d.fingerprint != data.open("ring", seed=1).fingerprint


def test_options_of_toys():
    m = mixture("ring:6,radius=2,sigma=0.1")
    assert m.means.shape == (6, 2) and m.sigma == 0.1 and torch.allclose(m.means.norm(dim=1), torch.full((6,), 2.0))
    assert mixture("grid:spacing=1,side=3").means.abs().max() == 1
    for bad in (
        "ring:x",
        "ring:0",
        "ring:8,sigma=-1",
        "grid:5,radius=2",
        "ring:modes=2.5",
        "grid:5000",
        "ring:sigma=nan",
    ):
        with pytest.raises(UsageError, match="write for example"):
            mixture(bad)


def test_a_grid_of_images_keeps_every_pixel():
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sheet = np.asarray(data.show(x, columns=3, scale=4))
    assert sheet.shape == (2 * (32 + 2) + 2, 3 * (32 + 2) + 2, 3)
    for i in range(5):
        top, left = 2 + i // 3 * 34, 2 + i % 3 * 34
        tile = sheet[top : top + 32, left : left + 32]
        assert (tile[::4, ::4] == (x[i] * 255).round().byte().permute(1, 2, 0).numpy()).all()
        assert (tile == tile[::4, ::4].repeat(4, 0).repeat(4, 1)).all()
    assert (sheet[36:, 70:] == 255).all()  # the empty place


def test_small_images_are_shown_large_and_strange_values_bounded():
    assert data.show(torch.rand(1, 1, 8, 8)).size[0] >= 256
    assert data.show(torch.rand(400, 1, 8, 8)).size[0] >= 20 * 32
    x = torch.tensor([float("nan"), -5.0, 7.0, 0.5])[:, None, None, None].expand(4, 1, 8, 8)
    got = np.asarray(data.show(x, columns=4, scale=1))[5, 5::10][:4, 0]
    assert got.tolist() == [0, 0, 255, 128]
    assert data.show(torch.zeros(3, 8, 8)).size == data.show(torch.zeros(1, 3, 8, 8)).size
    byte = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    assert np.asarray(data.show(byte))[9, 9, 0] == 77


def test_points_are_drawn_where_they_are():
    picture = np.asarray(data.show(torch.tensor([[0.5, 0.5]]), bounds=1.0)).astype(int)
    inside = picture[24:504, 24:504]
    y, x = np.unravel_index(inside.sum(-1).argmin(), (480, 480))
    assert abs(x - 0.75 * 479) <= 1 and abs(y - 0.25 * 479) <= 1  # up is up
    assert isinstance(data.show(torch.randn(100, 1)), Image.Image)
    outside = np.asarray(data.show(torch.tensor([[5.0, 5.0], [float("nan"), 0.0]]), bounds=1.0))[24:504, 24:504]
    assert (outside == 255).all()


@pytest.mark.parametrize("x", [torch.zeros(0, 1, 8, 8), torch.zeros(5), torch.zeros(2, 2, 8, 8), torch.zeros(0, 2)])
def test_what_cannot_be_shown_is_said(x):
    with pytest.raises(UsageError, match="a tensor of shape"):
        data.show(x)
    with pytest.raises(UsageError, match="from 1 up"):
        data.show(torch.zeros(2, 1, 8, 8), scale=0)
