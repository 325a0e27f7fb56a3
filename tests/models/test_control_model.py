"""Policies and plays: densities against torch's own, choices by their frequencies, episodes that are reproducible."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal

from amalgan.data import Spec
from amalgan.data import control as data
from amalgan.errors import UsageError
from amalgan.models.control import ControlModel
from amalgan.networks.control import Choices, Judge, Numbers, Value
from amalgan.noise import Noise

MASS = data.open("point-mass", demonstrations=3).spec
POLE = Spec("control", (6,), (), {
    "environment": "CartPole-v1", "horizon": 60, "choices": 2, "low": [], "high": [], "mean": [0.0] * 4,
    "deviation": [1.0, 0.5, 0.1, 0.5], "expert": 473.0,
})  # fmt: skip


def model(spec: Spec, episodes: int = 6) -> ControlModel:
    torch.manual_seed(0)
    policy = Choices(4, 2, 8) if spec is POLE else Numbers(4, 2, 8)
    return ControlModel(spec, policy, Judge(6, 8), Value(4, 8), episodes)


def test_numbers_have_the_density_of_a_gaussian() -> None:
    policy = Numbers(3, 2, 5)
    with torch.no_grad():
        policy.free_deviation.copy_(torch.tensor([-1.0, 2.0]))
    seen, done = torch.randn(7, 3), torch.randn(7, 2)
    known = Normal(policy.body(seen), policy.deviation)
    made = policy(seen)
    assert torch.allclose(policy.log_prob(made, done), known.log_prob(done).sum(1), atol=1e-5)
    assert torch.allclose(policy.entropy(made), known.entropy().sum(1), atol=1e-5)
    drawn = policy.choose(made[0], torch.randn(20_000, 2))
    assert torch.allclose(drawn.mean(0), made[0], atol=0.03) and torch.allclose(
        drawn.std(0), policy.deviation, atol=0.02
    )
    assert torch.equal(policy.best(made), made)


@torch.no_grad()
def test_choices_have_the_frequencies_of_their_probabilities() -> None:
    policy = Choices(3, 4, 5)
    policy.body[-1].weight.mul_(300)
    seen = torch.randn(1, 3)
    made, n = policy(seen), 20_000
    known = Categorical(logits=made)
    rows = torch.eye(4)
    assert torch.allclose(policy.log_prob(made, rows), known.log_prob(torch.arange(4)), atol=1e-6)
    assert torch.allclose(policy.entropy(made), known.entropy(), atol=1e-6)
    counts = policy.choose(made.expand(n, -1), torch.randn(n, 4)).sum(0)
    expected = n * known.probs[0]
    assert expected.min() > 5
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3  # chi-square, 3 degrees of freedom, 1 in 1000
    assert int(policy.best(made).argmax()) == int(known.probs.argmax())


@pytest.mark.parametrize("spec", [MASS, POLE], ids=["numbers", "choices"])
def test_an_episode_is_the_same_however_many_there_are(spec: Spec) -> None:
    made = model(spec)
    for explore in (False, True):
        few, many = made.sample(3, 5, explore), made.sample(20, 5, explore)
        assert few == many[:3] and len(many) == 20
        assert few != made.sample(3, 6, explore)
    assert made.sample(3, 5) != made.sample(3, 5, explore=True)


def test_a_pole_that_fell_ends_its_episode_and_leaves_rows_without_an_action() -> None:
    made = model(POLE)
    draw = made.draw(torch.zeros(12, 6), None, Noise(0, 0))
    play = draw.play
    lasted = play.alive.sum(1)
    assert play.alive.shape == (6, 60) and (lasted < 60).all()
    for n, last in enumerate(lasted.tolist()):
        assert play.alive[n, :last].all() and not play.alive[n, last:].any()
        assert torch.equal(play.pairs[n, :last, 4:].sum(1), torch.ones(last)) and not play.pairs[n, last:, 4:].any()
        assert (play.observations[n, last:] == play.observations[n, -1]).all()
        assert float(play.rewards[n].sum()) == last
    for episode, last in zip(made.told(play), lasted.tolist()):
        assert len(episode) == last and len(episode.observations) == last + 1
        assert abs(episode.observations[-1, 2]) > 0.2 or abs(episode.observations[-1, 0]) > 2.4
    assert draw.fake.shape == (12, 6)
    everything = {tuple(row.tolist()) for row in play.pairs.flatten(0, 1)}
    assert all(tuple(row.tolist()) in everything for row in draw.fake)


def test_what_is_sampled_is_what_the_world_makes_of_it() -> None:
    """The actions told, done once more in a fresh world, show what was told."""
    from amalgan import environments
    from amalgan.noise import key

    (episode,) = model(MASS).sample(1, 3, explore=True)
    world = environments.make("point-mass")
    seen = [world.start([key(3, "sample", 0)])]
    for action, reward in zip(episode.actions, episode.rewards):
        observations, rewards = world.step(action[None])
        seen.append(observations)
        assert float(rewards[0]) == pytest.approx(float(reward), abs=1e-5)
    assert np.allclose(np.concatenate(seen), episode.observations, atol=1e-5)
    assert np.abs(episode.actions).max() <= 1


def test_processes_play_their_shares_of_the_same_episodes() -> None:
    made, x = model(MASS), torch.zeros(12, 6)
    whole = made.draw(x, None, Noise(4, 9))
    halves = [made.draw(x[:6], None, Noise(4, 9, rank, 2)) for rank in range(2)]
    together = torch.cat([half.play.actions for half in halves])
    assert torch.allclose(whole.play.actions, together, atol=1e-5)
    assert torch.allclose(whole.fake, torch.cat([half.fake for half in halves]), atol=1e-5)
    with pytest.raises(UsageError, match="--episodes 4"):
        made.share(4)


def test_likelihood_is_that_of_the_pairs() -> None:
    made = model(POLE)
    with torch.no_grad():
        made.generator.body[-1].weight.zero_()
        made.generator.body[-1].bias.copy_(torch.tensor([0.0, math.log(3)]))
    rows = torch.cat([torch.randn(2, 4), torch.eye(2)], 1)
    assert made.log_likelihood(rows).tolist() == pytest.approx([math.log(1 / 4), math.log(3 / 4)])
