"""Worlds to act in: n episodes side by side, each a function of its seed and of what is done in it.

    observations = world.start(seeds)                       (n, O)
    observations, rewards = world.step(actions)             (n, O), (n,)        `horizon` times, never fewer

Every episode lasts `horizon` steps. Where gymnasium's would end early (a pole that fell), the world stands still from
there on: the same observation, reward 0, whatever is done; `world.over` says for whom. Otherwise the length of an
episode would tell who did well, and any reward of one sign would do: paid 1 a step, without one demonstration, a learner
keeps the pole of the ordinary CartPole up for 500 steps (Kostrikov et al. 2019, section 4).

    point-mass      a mass in the plane, to be brought to a place                   ours
    Pendulum-v1     the arithmetic of gymnasium's, all episodes at once             Brockman et al. 2016
    CartPole-v1     the arithmetic of gymnasium's, at a fixed horizon               Barto, Sutton and Anderson 1983
    anything else   gymnasium's own, from `pip install 'amalgan[control]'`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from amalgan.errors import UsageError
from amalgan.noise import generator


@dataclass(frozen=True)
class Actions:
    """What can be done: one of `choices` things, or `size` numbers between `low` and `high`.

    Arguments:
        choices: how many things, 0 where actions are numbers.
        low, high: (size,) bounds of the numbers, () where actions are choices.
    """

    choices: int = 0
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Values that one action takes in a network: a place for each choice, or the numbers."""
        return self.choices or len(self.low)


class World:
    """n episodes side by side. Abstract: a world says how one begins and what a step does; endings are written here.

    Attributes:
        name: as asked for; observed: values of an observation, O; actions: what can be done.
        horizon: steps of an episode.
        over: (n,) bool, whose episode has ended early: what is done there changes nothing.
    """

    name: str
    observed: int
    actions: Actions
    horizon: int
    over: np.ndarray

    def start(self, seeds: Sequence[int]) -> np.ndarray:
        """Begin an episode for each seed; observations float32 (n, O)."""
        self.over = np.zeros(len(seeds), bool)
        self._seen = self._start(seeds)
        return self._seen

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Observations float32 (n, O) and rewards float64 (n,) after actions: int (n,), or float (n, A) in their units."""
        seen, rewards, over = self._step(actions)
        self._seen = np.where(self.over[:, None], self._seen, seen)
        rewards = np.where(self.over, 0.0, rewards)
        self.over = self.over | over
        return self._seen, rewards

    def _start(self, seeds: Sequence[int]) -> np.ndarray:
        raise NotImplementedError

    def _step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observations, rewards, and which episodes end with this step."""
        raise NotImplementedError


def uniform(seeds: Sequence[int], low: float, high: float, size: int) -> np.ndarray:
    """float64 (n, size), each row from its seed alone."""
    drawn = [torch.rand(size, generator=generator(seed, "start"), dtype=torch.float64) for seed in seeds]
    return low + (high - low) * torch.stack(drawn).numpy()


GOAL = 2.0  # both coordinates of the place where the mass should be


class PointMass(World):
    """A mass in the plane: pushed with up to one unit of force each way, paid minus its distance from a goal g = (2, 2).

        v' = 0.9 v + 0.2 a,   p' = p + 0.2 v',   reward -|p' - g|,   p_0 uniform in [-1, 1]^2, v_0 = 0

    Observed are p and v. The goal lies apart from the starts: in their middle it would be found by whoever merely stays
    where he has been, and the constant-reward control would score.
    """

    name, observed, actions, horizon = "point-mass", 4, Actions(0, (-1.0, -1.0), (1.0, 1.0)), 40

    def _start(self, seeds: Sequence[int]) -> np.ndarray:
        self.position = uniform(seeds, -1, 1, 2)
        self.velocity = np.zeros_like(self.position)
        return self._observed()

    def _step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.velocity = 0.9 * self.velocity + 0.2 * np.clip(actions, -1, 1)
        self.position = self.position + 0.2 * self.velocity
        return self._observed(), -np.sqrt(((self.position - GOAL) ** 2).sum(1)), np.zeros(len(actions), bool)

    def _observed(self) -> np.ndarray:
        return np.concatenate([self.position, self.velocity], 1).astype(np.float32)


def settle(observations: np.ndarray) -> np.ndarray:
    """What the bundled demonstrator does in the point-mass world: (n, 2) from (n, 4), a spring and a brake."""
    return np.clip(-4 * (observations[:, :2] - GOAL) - 3 * observations[:, 2:], -1, 1)


class Pendulum(World):
    """gymnasium's Pendulum-v1: swing up and stay, paid minus angle^2 + 0.1 speed^2 + 0.001 torque^2.

    Observed are cosine and sine of the angle from upright, and the speed in radians a second. It never ends early.
    """

    name, observed, actions, horizon = "Pendulum-v1", 3, Actions(0, (-2.0,), (2.0,)), 200

    def _start(self, seeds: Sequence[int]) -> np.ndarray:
        self.angle, self.speed = (uniform(seeds, -1, 1, 2) * (np.pi, 1.0)).T
        return self._observed()

    def _step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        torque = np.clip(actions[:, 0], -2.0, 2.0)
        around = (self.angle + np.pi) % (2 * np.pi) - np.pi
        cost = around**2 + 0.1 * self.speed**2 + 0.001 * torque**2
        self.speed = np.clip(self.speed + (15 * np.sin(self.angle) + 3 * torque) * 0.05, -8.0, 8.0)
        self.angle = self.angle + self.speed * 0.05
        return self._observed(), -cost, np.zeros(len(actions), bool)

    def _observed(self) -> np.ndarray:
        return np.stack([np.cos(self.angle), np.sin(self.angle), self.speed], 1).astype(np.float32)


class CartPole(World):
    """gymnasium's CartPole-v1 at a fixed horizon of 500 steps: paid 1 for each step until the pole or the cart is lost.

    Observed are place, speed, angle, turning speed. Beyond 2.4 units or 12 degrees the episode is over: the world stands
    still and pays nothing more.
    """

    name, observed, actions, horizon = "CartPole-v1", 4, Actions(2), 500

    def _start(self, seeds: Sequence[int]) -> np.ndarray:
        self.state = uniform(seeds, -0.05, 0.05, 4)
        return self.state.astype(np.float32)

    def _step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, speed, angle, turning = self.state.T
        force = np.where(actions == 1, 10.0, -10.0)
        cos, sin = np.cos(angle), np.sin(angle)
        pushed = (force + 0.05 * turning**2 * sin) / 1.1
        turns = (9.8 * sin - cos * pushed) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        slides = pushed - 0.05 * turns * cos / 1.1
        new = np.stack([x + 0.02 * speed, speed + 0.02 * slides, angle + 0.02 * turning, turning + 0.02 * turns], 1)
        self.state = np.where(self.over[:, None], self.state, new)  # what stands still must not run away unseen
        over = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 12 * 2 * math.pi / 360)
        return self.state.astype(np.float32), np.ones(len(actions)), over


class Gymnasium(World):
    """Any environment of gymnasium 1.x whose observations are vectors, and whose actions are choices or numbers.

    Arguments:
        name: as registered, such as "MountainCarContinuous-v0".

    Raises:
        UsageError: gymnasium is not installed, knows no such name, or the environment does not fit.
    """

    def __init__(self, name: str) -> None:
        gymnasium, spaces = _gymnasium(name)
        try:
            self._make: Callable[[], Any] = lambda: gymnasium.make(name)
            first = self._make()
        except gymnasium.error.Error as error:
            raise UsageError(f"the environment {name}", str(error).splitlines()[0], f"write {known()}") from None
        self.name, self.horizon = f"{GYMNASIUM}{name}", (first.spec.max_episode_steps if first.spec else None) or 0
        seen, done = first.observation_space, first.action_space
        if not isinstance(seen, spaces.Box) or len(seen.shape) != 1:
            raise UsageError(
                f"the environment {name}", f"its observations are {seen}", "choose one that shows a vector"
            )
        if isinstance(done, spaces.Discrete):
            self.actions, self._first_choice = Actions(int(done.n)), int(done.start)
        elif isinstance(done, spaces.Box) and len(done.shape) == 1 and np.isfinite([done.low, done.high]).all():
            self.actions = Actions(0, tuple(done.low.tolist()), tuple(done.high.tolist()))
        else:
            raise UsageError(
                f"the environment {name}", f"its actions are {done}", "choose one with choices or bounded numbers"
            )
        if not self.horizon:
            raise UsageError(f"the environment {name}", "it has no time limit", "register it with max_episode_steps")
        self.observed = seen.shape[0]
        self._episodes: list[Any] = [first]

    def _start(self, seeds: Sequence[int]) -> np.ndarray:
        while len(self._episodes) < len(seeds):
            self._episodes.append(self._make())
        return np.stack([e.reset(seed=seed % 2**31)[0] for e, seed in zip(self._episodes, seeds)]).astype(np.float32)

    def _step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen, rewards, over = self._seen.copy(), np.zeros(len(actions)), self.over.copy()
        for i, action in enumerate(actions):
            if not over[i]:
                given = int(action) + self._first_choice if self.actions.choices else np.asarray(action, np.float32)
                seen[i], rewards[i], over[i], _, _ = self._episodes[i].step(given)
        return seen, rewards, over


def _gymnasium(name: str) -> Any:
    try:
        import gymnasium
        from gymnasium import spaces
    except ImportError:
        instead = f"pip install 'amalgan[control]', or choose one of {', '.join(OURS)}"
        raise UsageError(f"the environment {name}", "gymnasium is not installed", instead) from None
    return gymnasium, spaces


OURS: dict[str, type[World]] = {world.name: world for world in (PointMass, Pendulum, CartPole)}
GYMNASIUM = "gymnasium:"  # before a name: gymnasium's own, where we have one of that name too


def known() -> str:
    """What a person may write."""
    return f"{', '.join(OURS)}, or what gymnasium registers"


def make(name: str) -> World:
    """The world of that name.

    Raises:
        UsageError: there is none, or gymnasium is needed and not installed.
    """
    if name in OURS:
        return OURS[name]()
    return Gymnasium(name.removeprefix(GYMNASIUM))
