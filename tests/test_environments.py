"""Worlds: gymnasium's arithmetic step for step, fixed horizons, episodes that are functions of their seeds."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amalgan import environments
from amalgan.environments import CartPole, Pendulum, PointMass
from amalgan.errors import UsageError

SEEDS = list(range(7))


def random_actions(world: environments.World, n: int, t: int) -> np.ndarray:
    drawn = np.random.default_rng(t)
    if world.actions.choices:
        return drawn.integers(0, world.actions.choices, n)
    return drawn.uniform(1.3 * np.array(world.actions.low), 1.3 * np.array(world.actions.high), (n, world.actions.size))


def test_pendulum_is_gymnasiums_step_for_step() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    ours, theirs = Pendulum(), [gymnasium.make("Pendulum-v1") for _ in SEEDS]
    ours.start(SEEDS)
    for i, one in enumerate(theirs):
        one.reset(seed=0)
        one.unwrapped.state = np.array([ours.angle[i], ours.speed[i]])
    for t in range(ours.horizon):
        actions = random_actions(ours, len(SEEDS), t)
        seen, rewards = ours.step(actions)
        for i, one in enumerate(theirs):
            observation, reward, ended, cut, _ = one.step(actions[i])
            assert np.allclose(seen[i], observation, atol=1e-6) and rewards[i] == pytest.approx(float(reward), abs=1e-9)
            assert not ended and cut == (t == ours.horizon - 1)


def test_cart_pole_is_gymnasiums_until_it_ends_and_stands_still_from_there() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    ours, theirs = CartPole(), [gymnasium.make("CartPole-v1") for _ in SEEDS]
    ours.start(SEEDS)
    for i, one in enumerate(theirs):
        one.reset(seed=0)
        one.unwrapped.state = ours.state[i].copy()
    last: dict[int, np.ndarray] = {}
    for t in range(80):
        actions = random_actions(ours, len(SEEDS), t)
        seen, rewards = ours.step(actions)
        for i, one in enumerate(theirs):
            if i in last:
                assert rewards[i] == 0 and np.array_equal(seen[i], last[i]) and ours.over[i]
                continue
            observation, reward, ended, _, _ = one.step(int(actions[i]))
            assert np.allclose(seen[i], observation, atol=1e-6) and rewards[i] == reward == 1
            assert ours.over[i] == ended
            if ended:
                last[i] = seen[i]
    assert len(last) == len(SEEDS), "by chance nobody balances a pole for 80 steps"


@pytest.mark.parametrize("name, theirs", [("Pendulum-v1", "pendulum"), ("CartPole-v1", "cartpole")])
def test_demonstrations_of_others_follow_our_arithmetic(name: str, theirs: str, real_data: Path) -> None:
    """Every recorded step, from the state that was recorded."""
    path = real_data / "expert_rollouts" / f"{theirs}_expert.npz"
    with np.load(path, allow_pickle=False) as held:
        obs, acts, rews, cuts = (held[key] for key in ("obs", "acts", "rews", "indices"))
    lasts = np.append(cuts, len(acts)) + np.arange(len(cuts) + 1)
    before, after = np.delete(obs, lasts, 0), np.delete(obs, np.append(0, lasts[:-1] + 1), 0)
    world = environments.make(name)
    world.start(range(len(acts)))
    if isinstance(world, Pendulum):
        world.angle, world.speed = np.arctan2(before[:, 1], before[:, 0]).astype(float), before[:, 2].astype(float)
    elif isinstance(world, CartPole):
        world.state = before.astype(float)
    seen, rewards = world.step(acts)
    assert np.abs(seen - after).max() < 1e-5 and np.abs(rewards - rews).max() < 1e-5


def test_the_point_mass_by_hand() -> None:
    world = PointMass()
    start = world.start([3])
    assert np.array_equal(start, world.start([3])) and not np.array_equal(start, world.start([4]))
    world.position, world.velocity = np.array([[0.5, 0.0]]), np.array([[0.0, 1.0]])
    seen, rewards = world.step(np.array([[-2.0, 0.5]]))  # what is beyond the bounds counts as the bound
    assert np.allclose(seen, [[0.5 - 0.04, 0.2, -0.2, 1.0]]) and rewards[0] == pytest.approx(
        -math.hypot(2 - 0.46, 2 - 0.2)
    )


@pytest.mark.parametrize("name", [*environments.OURS, "gymnasium:CartPole-v1", "MountainCarContinuous-v0"])
def test_an_episode_is_a_function_of_its_seed_and_of_what_is_done(name: str) -> None:
    if name not in environments.OURS:
        pytest.importorskip("gymnasium")
    world = environments.make(name)
    few, many = [5, 9], [1, 5, 7, 9]

    def played(seeds: list[int]) -> list[np.ndarray]:
        seen = [world.start(seeds)]
        assert seen[0].shape == (len(seeds), world.observed) and seen[0].dtype == np.float32
        for t in range(40):
            one = random_actions(world, 1, t)
            observations, rewards = world.step(np.repeat(one, len(seeds), 0))
            assert observations.dtype == np.float32 and rewards.shape == (len(seeds),)
            seen.append(observations)
        return seen

    for some, more in zip(played(few), played(many)):
        assert np.array_equal(some, more[[1, 3]])


def test_gymnasiums_own_cart_pole_stands_still_too() -> None:
    pytest.importorskip("gymnasium")
    world = environments.make("gymnasium:CartPole-v1")
    world.start([0, 1])
    earned = sum(world.step(np.array([0, 1]))[1] for _ in range(world.horizon))
    assert world.horizon == 500 and world.over.all() and (earned < 15).all()


def test_what_gymnasium_does_not_know_or_cannot_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    with pytest.raises(UsageError, match="Pendulum-v1"):
        environments.make("Pendulumm-v77")
    with pytest.raises(UsageError, match="vector"):
        environments.make("CliffWalking-v1")

    plain = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "gymnasium":
            raise ImportError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"amalgan\[control\]") as caught:
        environments.make("Acrobot-v1")
    assert "point-mass" in caught.value.instead
    assert environments.make("CartPole-v1").horizon == 500, "our own worlds need nothing"
