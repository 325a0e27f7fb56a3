"""Latent models: what each can do, draws that compute nothing unread, samples that depend on their number alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Split
from amalgan.errors import UsageError
from amalgan.models import LatentModel
from amalgan.noise import Noise

SPECS = {"images": Spec("images", (1, 8, 8)), "colour": Spec("images", (3, 9, 12)), "points": Spec("points", (2,))}


def model(recipe: str, spec: Spec, **arguments: Any) -> LatentModel:
    torch.manual_seed(0)
    return recipes.plan(recipe, spec, {"latent": 3, "width": 4 if len(spec.shape) == 3 else 32, **arguments}).model


def batch(spec: Spec, n: int = 5) -> torch.Tensor:
    return torch.rand(n, *spec.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("recipe", ["ae", "vae", "gan", "vaegan"])
def test_shapes_of_everything_a_model_can_do(recipe: str, spec: Spec) -> None:
    made, x = model(recipe, spec), batch(spec)
    assert made.sample(4).shape == (4, *spec.shape)
    assert made.decode(torch.zeros(2, 3)).shape == (2, *spec.shape)
    assert made.has_encoder == (recipe != "gan") and made.has_density == (recipe in ("vae", "vaegan"))
    if recipe == "gan":
        with pytest.raises(UsageError, match="without encoder"):
            made.encode(x)
        assert made.fit_prior([(x, None)]) is None
        return
    assert made.encode(x).shape == (5, 3)
    assert made.reconstruct(x).shape == x.shape
    assert torch.equal(made.reconstruct(x), made.decode(made.encode(x)))
    assert made.log_likelihood(x, made.encode(x)).shape == (5,)


def test_networks_share_no_parameter_and_miss_none() -> None:
    made = model("vaegan", SPECS["images"], likelihood="gaussian-learned")
    listed = [id(p) for parameters in made.networks.values() for p in parameters]
    assert len(listed) == len(set(listed)) and set(listed) == {id(p) for p in made.parameters()}
    assert any(p is made.likelihood.log_variance for p in made.networks["decoder"])


def test_a_draw_computes_each_field_once_and_only_when_read() -> None:
    made, x = model("vaegan", SPECS["points"]), batch(SPECS["points"])
    calls: list[str] = []
    for name in ("encoder", "decoder", "discriminator"):
        getattr(made, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    draw = made.draw(x, None, Noise(0))
    assert calls == []
    assert draw.log_likelihood.shape == (5,) and calls == ["encoder", "decoder"]
    assert draw.reconstruction.shape == x.shape and draw.posterior is draw.posterior
    assert calls == ["encoder", "decoder"]
    assert draw.fake.shape == x.shape and calls == ["encoder", "decoder", "decoder"]


def test_a_draws_noise_is_named() -> None:
    """Reading the fake first does not shift the posterior's noise."""
    made, x = model("vae", SPECS["points"]), batch(SPECS["points"])
    one, other = made.draw(x, None, Noise(0, 3)), made.draw(x, None, Noise(0, 3))
    assert torch.equal((one.fake, one.z)[1], (other.z, other.fake)[0])
    assert not torch.equal(one.z, made.draw(x, None, Noise(0, 4)).z)
    assert torch.equal(one.fake, made.decode(Noise(0, 3)("prior", (5, 3))))
    assert torch.equal(one.z, one.posterior.sample(Noise(0, 3)("posterior", (5, 3))))
    share = one.noise.uniform("between", (10_000,))
    assert share.min() >= 0 and share.max() <= 1 and abs(share.mean() - 0.5) < 5 * (1 / 12 / 10_000) ** 0.5


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("prior", ["fitted", "standard"])
def test_sample_i_is_the_same_whatever_n_start_and_batch(spec: Spec, prior: str) -> None:
    made = model("vae", spec)
    made.fit_prior([(part, None) for part in batch(spec, 90).split(30)])
    whole = made.sample(70, seed=1, prior=prior)
    assert torch.allclose(made.sample(9, seed=1, prior=prior), whole[:9], atol=1e-6)
    assert torch.allclose(made.sample(70, seed=1, prior=prior, batch=7), whole, atol=1e-6)
    assert torch.allclose(made.sample(5, seed=1, prior=prior, start=62), whole[62:67], atol=1e-6)
    assert not torch.allclose(made.sample(9, seed=2, prior=prior), whole[:9], atol=1e-3)


def test_the_fitted_prior_is_fitted_to_the_codes() -> None:
    made, x = model("vae", SPECS["points"]), 3 + batch(SPECS["points"], 400)
    assert made.prior("fitted") is made.standard  # nothing is fitted yet
    fitted = made.fit_prior([(part, None) for part in x.split(100)])
    assert made.prior() is fitted and made.prior("standard") is made.standard
    assert fitted is not None and len(fitted.weights) == 20  # 20 examples a component at least
    posterior = made.posterior(x)
    codes = posterior.sample(torch.randn(400, 3, generator=torch.Generator().manual_seed(5)))
    assert fitted.log_prob(codes).mean() > made.standard.log_prob(codes).mean()
    with pytest.raises(UsageError, match="fitted, standard or judged"):
        made.prior("flat")


@pytest.mark.parametrize("recipe", ["gan", "vaegan"])
def test_samples_are_judged_once_the_verdicts_are_calibrated(recipe: str) -> None:
    """What is calibrated is saved and found again; uncalibrated, a judged sample is refused."""
    made, x = model(recipe, SPECS["points"]).eval(), torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="not finished its training"):
        made.sample(4, prior="judged")
    made.calibrate(Split(x, None), seed=1)
    again = model(recipe, SPECS["points"]).eval()
    again.grow(made.grown())
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.sample(40, 2, "judged"), made.sample(40, 2, "judged"))
    # samples far from these data are not kept: those that are come nearer
    gap = [torch.cdist(made.sample(500, 2, prior), x).min(1).values.mean() for prior in ("judged", "fitted")]
    assert made.calibration is not None and (gap[0] < gap[1] or not made.calibration[0])


def test_a_labelled_model_is_not_judged() -> None:
    spec = Spec("series", (6, 2), ("a", "b"), {"changes": [0.1, 0.1]})
    made = recipes.plan("rgan", spec, {}).model
    with pytest.raises(UsageError, match="judges samples alone"):
        made.sample(2, prior="judged")


@pytest.mark.parametrize("told", ["none", "embedding", "modulation"])
@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian-pixel", "laplace", "bernoulli"])
@pytest.mark.parametrize("recipe", ["vae", "gan"])
def test_a_decoder_of_images_starts_from_the_level_of_the_data(recipe: str, likelihood: str, told: str) -> None:
    spec = Spec("images", (3, 8, 8), ("a", "b"))
    arguments = {"latent": 4, "width": 4} | ({"likelihood": likelihood} if recipe == "vae" else {})
    arguments |= {} if told == "none" else {"condition": "labels", "decoder_condition": told}
    model = recipes.plan(recipe, spec, recipes.check(recipe, arguments)).model
    levels = torch.tensor([0.1, 0.5, 0.0])
    x = levels[:, None, None].expand(5, 3, 8, 8).clone()
    model.begin(Split(x, None))
    plain = model.decoder if told == "none" else model.decoder.network
    torch.nn.init.zeros_(plain.pixels.weight)
    expected = levels.clamp(0.01, 0.99)[None, :, None, None].expand(2, 3, 8, 8)
    assert torch.allclose(model.decode(torch.randn(2, 4)), expected, atol=1e-6)


@pytest.mark.parametrize("arguments", [{}, {"attention": "released"}, {"attention_at": 16}, {"condition": "labels"}])
def test_attention_is_shown_for_any_pixel(arguments: dict[str, Any]) -> None:
    """As made and as judged, from each pixel for itself."""
    made = model("sagan", Spec("images", (3, 16, 16), ("a", "b")), **arguments).eval()
    told = made.given(torch.tensor([0, 1])) if "condition" in arguments else made
    z = torch.randn(2, 3)
    maps = told.attention(z, [(0, 0), (15, 7)])
    assert [name.partition(".")[0] for name in maps] == ["decoder", "discriminator"]
    side = 16 if "attention_at" in arguments else 4 if "attention" in arguments else 8
    for looks in maps.values():
        assert looks.shape == (2, 2, side, side)
        assert torch.allclose(looks.sum((2, 3)), torch.ones(2, 2), atol=1e-5)
        assert not torch.equal(looks[:, 0], looks[:, 1])
    (alone, _) = told.attention(z, [(15, 7)]).values()
    assert torch.equal(alone[:, 0], next(iter(maps.values()))[:, 1])


def test_without_attention_there_is_nothing_to_show() -> None:
    assert model("vaegan", SPECS["colour"]).attention(torch.randn(2, 3), [(0, 0)]) == {}
