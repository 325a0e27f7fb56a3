"""Real data sets against their published numbers; skipped where they are absent."""

from __future__ import annotations

import pytest
import torch

from amalgan import data


@pytest.mark.parametrize("name, mean, deviation", [("mnist", 0.13066, 0.30811), ("fashion_mnist", 0.28604, 0.35302)])
def test_idx_sets_have_the_published_moments(real_data, name, mean, deviation):
    d = data.open(real_data / name)
    assert d.spec == data.Spec("images", (1, 28, 28), tuple("0123456789"))
    assert len(d.test) == 10_000 and len(d.train) + len(d.validation) <= 60_000
    x = torch.cat([d.train.x, d.validation.x])
    count = torch.bincount(x.flatten(), minlength=256).double()
    value = torch.arange(256, dtype=torch.float64) / 255
    first = (count * value).sum() / count.sum()
    second = (count * value.square()).sum() / count.sum()
    assert first.item() == pytest.approx(mean, abs=5e-5)
    assert (second - first**2).sqrt().item() == pytest.approx(deviation, abs=5e-5)


def test_the_first_cifar_images_are_known(real_data):
    d = data.open(real_data / "cifar10" / "cifar10_png_4k1k.zip")
    assert d.spec.shape == (3, 32, 32) and len(d.test) == 1000 and len(d.train) + len(d.validation) == 4000
    x, c = torch.cat([d.train.x, d.validation.x]), torch.cat([d.train.c, d.validation.c])
    frog = (x[:, :, 0, :2] == torch.tensor([[59, 43], [62, 46], [63, 45]])).flatten(1).all(1)
    assert frog.sum() == 1 and d.spec.classes[c[frog].item()] == "frog"


def test_photographs_faces_and_emoji(real_data):
    photos = data.open(real_data / "bsds500_val" / "bsds500_val_jpg.zip")
    assert photos.spec == data.Spec("images", (3, 64, 64)) and any("481 x 321" in note for note in photos.notes)
    faces = data.open(real_data / "olivetti" / "olivetti_faces_png.zip")
    assert faces.spec.shape == (1, 64, 64) and len(faces.spec.classes) == 40
    assert data.open(real_data / "emoji" / "emojione2_bw_png64.zip").spec.shape[0] == 1


@pytest.mark.slow
def test_sixty_thousand_jpegs_in_a_compressed_tar(real_data):
    d = data.open(real_data / "cifar10" / "cifar10_jpg_60k.tar.gz")
    assert d.spec.shape == (3, 32, 32) and len(d.spec.classes) == 10 and not d.skipped
    assert len(d.test) == 10_000 and len(d.train) + len(d.validation) == 50_000
