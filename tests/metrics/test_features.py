from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from metrics_fakes import digits, idx, ring
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from amalgan.errors import UsageError
from amalgan.metrics import features
from amalgan.metrics.coverage import coverage
from amalgan.metrics.distance import frechet
from amalgan.metrics.inception import Inception


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of its own, kept over the tests of this file: networks are trained once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("AMALGAN_CACHE", str(folder))
        yield folder


STEPS = 120


def test_the_classifier_of_digits() -> None:
    data = digits()
    eyes = features.classifier(data, steps=STEPS)
    seen = eyes(data.test.x)
    assert seen.shape == (400, 64) and not seen.requires_grad and eyes.accuracy > 0.95
    assert (eyes.classes(seen) == data.test.c).double().mean() > 0.95
    assert torch.allclose(eyes(data.test.x[7:8]), seen[7:8], atol=1e-5), "features do not depend on the batch"
    assert torch.allclose(eyes(data.train.x).std(0).mean(), torch.tensor(1.0), atol=0.2), "features have one scale"


def test_the_same_seed_gives_the_same_fingerprint_with_and_without_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.random.get_rng_state()
    first = features.classifier(digits(), steps=20)
    kept = features.classifier(digits(), steps=20)
    monkeypatch.setenv("AMALGAN_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads % 2 + 1)
    again = features.classifier(digits(), steps=20)
    torch.set_num_threads(threads)
    assert (
        first.fingerprint == kept.fingerprint == again.fingerprint and first.accuracy == kept.accuracy == again.accuracy
    )
    assert torch.equal(first(digits().test.x), kept(digits().test.x))
    assert torch.equal(first.classes(torch.eye(64)), kept.classes(torch.eye(64)))
    assert features.classifier(digits(), seed=1, steps=20).fingerprint != first.fingerprint
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers are left alone"


def test_a_damaged_cache_is_trained_anew_and_an_unwritable_one_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMALGAN_CACHE", str(tmp_path))
    wanted = features.classifier(digits(), steps=5).fingerprint
    (file,) = (tmp_path / "features").iterdir()
    whole = file.read_bytes()
    for damaged in (b"", b"not a file", whole[:-100], whole[:-8] + b"\0\1\2\3\4\5\6\7"):
        file.write_bytes(damaged)
        assert features.classifier(digits(), steps=5).fingerprint == wanted
        assert file.read_bytes() == whole
    assert [f.name for f in file.parent.iterdir()] == [file.name], "nothing half-written is left"
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    monkeypatch.setenv("AMALGAN_CACHE", str(blocked))
    assert features.classifier(digits(), steps=5).fingerprint == wanted


def test_only_the_training_split_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMALGAN_CACHE", str(tmp_path / "a"))
    wanted = features.classifier(digits(), steps=5)
    data = digits()
    data.test.x, data.validation.x = torch.rand_like(data.test.x), torch.rand_like(data.validation.x)
    monkeypatch.setenv("AMALGAN_CACHE", str(tmp_path / "b"))
    found = features.classifier(data, steps=5)
    assert found.fingerprint == wanted.fingerprint and found.accuracy < 0.5


def test_unknown_labels_are_left_out() -> None:
    data = replace(digits(), fingerprint="half unknown")
    x, c = data.train.x, data.train.c
    data.train.x, data.train.c = torch.cat([x, torch.rand_like(x)]), torch.cat([c, torch.full_like(c, -1)])
    assert features.classifier(data, steps=60).accuracy > 0.9


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 12), (3, 32, 32), (1, 28, 28), (3, 64, 64)])
def test_all_sizes(shape: tuple[int, ...]) -> None:
    assert features.SmallNetwork(shape).eval()(torch.rand(2, *shape)).shape == (2, 64)


def blur(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1)


def noise(x: Tensor, size: float) -> Tensor:
    return (x + size * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [True, False])
def test_features_order_corruptions_and_see_collapse(labels: bool) -> None:
    data = digits(labels)
    eyes = features.classifier(data, steps=STEPS) if labels else features.self_supervised(data, steps=STEPS)
    real, other = eyes(data.test.x), data.train.x[:400]
    for worse in (
        [other, noise(other, 0.1), noise(other, 0.3), noise(other, 1.0)],
        [other, blur(other), blur(blur(other)), blur(blur(blur(other)))],
        [other, 0.9 * other, 0.5 * other, 0 * other],
    ):
        distances = [frechet(real, eyes(x)) for x in worse]
        assert distances == sorted(distances) and distances[-1] > 3 * distances[0], distances
    spread, collapsed = coverage(real, eyes(other)), coverage(real, eyes(noise(other[:2].repeat(200, 1, 1, 1), 0.02)))
    assert spread.recall > 0.8 and collapsed.recall < 0.1 and collapsed.coverage < 0.2


def test_without_labels_there_are_no_classes() -> None:
    eyes = features.self_supervised(digits(labels=False), steps=5)
    with pytest.raises(UsageError, match="classifier"):
        eyes.classes(torch.zeros(1, 64))
    with pytest.raises(UsageError, match="self_supervised"):
        features.classifier(digits(labels=False))


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "classifier", lambda data, seed: "classifier")
    monkeypatch.setattr(features, "self_supervised", lambda data, seed: "self-supervised")
    alike = digits()
    alike.train.c = torch.zeros_like(alike.train.c)
    assert [features.choose(d) for d in (digits(), digits(False), alike)] == ["classifier", *["self-supervised"] * 2]


def test_points_are_their_own_features() -> None:
    data = ring(300)
    eyes = features.choose(data)
    assert torch.equal(eyes(data.test.x), data.test.x) and eyes.name == "coordinates"


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\(1, 8, 8\)"):
        features.classifier(digits(), steps=20)(torch.zeros(2, 1, 9, 9))


def test_inception(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Inception()
    # The textbook network without its classifier has 21,785,568 weights; the names are those of the known port.
    assert sum(p.numel() for p in network.parameters()) == 21_785_568
    weights = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(weights) == 94 * 5
    assert weights["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert weights["Mixed_6b.branch7x7dbl_5.bn.running_var"].shape == (192,)
    path = tmp_path / "inception.safetensors"
    save_file(weights | {"fc.weight": torch.zeros(1008, 2048)}, path)  # the known file has a classifier, too
    eyes = features.from_file(path)
    x = torch.rand(2, 1, 28, 28)
    seen = eyes(x)
    assert seen.shape == (2, 2048) and torch.allclose(seen, eyes(x.expand(2, 3, 28, 28)), atol=1e-5)
    assert eyes.fingerprint == features.fingerprint(network.state_dict()) and not eyes.quick

    save_file({k: v for k, v in weights.items() if k != "Mixed_5b.branch1x1.bn.bias"}, path)
    with pytest.raises(UsageError, match=r"1 of 470 .* Mixed_5b.branch1x1.bn.bias"):
        features.from_file(path)
    save_file(weights | {"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 1, 3, 3)}, path)
    with pytest.raises(UsageError, match=r"\(32, 1, 3, 3\), the network needs \(32, 3, 3, 3\)"):
        features.from_file(path)
    path.write_bytes(b"\x80\x02pickle")
    with pytest.raises(UsageError, match="not a readable safetensors file"):
        features.from_file(path)
    with pytest.raises(UsageError, match="no such file"):
        features.from_file(tmp_path / "absent.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name, accuracy", [("mnist", 0.98), ("fashion_mnist", 0.87)])
def test_the_classifier_of_real_data(name: str, accuracy: float) -> None:
    assert features.classifier(idx(name)).accuracy > accuracy
