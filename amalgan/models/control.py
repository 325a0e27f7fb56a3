"""A policy that acts in a world, perhaps with a value that expects and a judge that pays.

    pi(a | s)                            the generator: its samples are what it sees and does, s_0 a_0 s_1 a_1 ...
    D(s, a)                              the discriminator of pairs: demonstrated or played
    V(s)                                 what is expected to be paid from s on

Each draw plays whole episodes afresh, from seeds that follow from the run's seed, the number of the draw and the number
of the episode. So no world has a state that outlives a draw, a run can be resumed exactly, and of n processes each
plays its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from amalgan import environments
from amalgan.data import Spec
from amalgan.data.control import Episode, episodes
from amalgan.errors import UsageError
from amalgan.models.core import Model
from amalgan.networks.control import Judge, Policy, Value
from amalgan.noise import Noise, key, rows

TOGETHER = 16  # episodes that are sampled side by side, always so many: the size decides how a product rounds


@dataclass(frozen=True)
class Play:
    """n whole episodes side by side.

    Arguments:
        observations: (n, T + 1, O), in the units of the networks.
        actions: (n, T, A) as the policy chose them: numbers may lie outside [-1, 1], where the world stops them.
        rewards: (n, T), what the world paid; nobody learns from it.
        alive: (n, T) bool, where what was done changed anything: false after an early end.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    alive: Tensor

    @property
    def pairs(self) -> Tensor:
        """(n, T, O + A) as data has them: actions as the world took them, 0 where nothing could be done any more."""
        taken = self.actions.clamp(-1, 1) * self.alive.unsqueeze(2)
        return torch.cat([self.observations[:, :-1], taken], 2)


class ControlDraw:
    """One play of a control model on a batch; each field is computed when first read, and kept.

    Fields: x (B, O + A) demonstrated pairs, c (B,) the demonstration that each is from, log_likelihood (B,) nats of the
    demonstrated actions, play, fake (B, O + A) pairs of the play, drawn from all of them alike.
    """

    def __init__(self, model: ControlModel, x: Tensor, c: Tensor | None, noise: Noise) -> None:
        self.model, self.x, self.c, self.noise = model, x, c, noise

    @cached_property
    def log_likelihood(self) -> Tensor:
        return self.model.log_likelihood(self.x)

    @cached_property
    def play(self) -> Play:
        mine = self.model.share(self.noise.world)
        numbers = range(self.noise.rank * mine, (self.noise.rank + 1) * mine)
        seeds = [key(self.noise.seed, "episode", self.noise.step, i) for i in numbers]
        shape = (mine, self.model.horizon, self.model.spec.shape[0] - self.model.observed)
        return self.model.play(seeds, self.noise("actions", shape))

    @cached_property
    def fake(self) -> Tensor:
        """A pair for each of x: as many from each episode, at places drawn at random."""
        pairs, count = self.play.pairs, len(self.x)
        episode = torch.arange(count, device=pairs.device) * len(pairs) // count  # so too if processes share both
        place = (self.noise.uniform("place", (count,)) * pairs.shape[1]).long().clamp(max=pairs.shape[1] - 1)
        return pairs[episode, place]


class ControlModel(Model):
    """A policy for the world of a spec, and what it may be trained with.

    Arguments:
        spec: of demonstrations; its details name the world and hold its units.
        generator: the policy.
        discriminator: the judge of pairs, or None.
        value: or None.
        episodes: played for each draw, over all processes.
    """

    def __init__(
        self,
        spec: Spec,
        generator: Policy,
        discriminator: Judge | None = None,
        value: Value | None = None,
        episodes: int = 8,
    ) -> None:
        super().__init__(spec)
        self.generator, self.discriminator, self.value, self.episodes = generator, discriminator, value, episodes
        self.observed, self.horizon = len(spec.details["mean"]), int(spec.details["horizon"])
        self.world = environments.make(spec.details["environment"])
        self.units = {name: np.array(spec.details[name]) for name in ("mean", "deviation", "low", "high")}

    def players(self) -> dict[str, nn.Module | None]:
        """The policy is the generator, the judge of pairs the discriminator."""
        return {"generator": self.generator, "discriminator": self.discriminator, "value": self.value}

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> ControlDraw:
        """One play on a batch x (B, O + A)."""
        return ControlDraw(self, x, c, noise)

    def share(self, world: int) -> int:
        """Episodes that each of so many processes plays.

        Raises:
            UsageError: they do not divide.
        """
        if self.episodes % world:
            found = "they do not divide"
            instead = f"write --episodes {max(1, self.episodes // world) * world}"
            raise UsageError(f"{self.episodes} episodes over {world} processes", found, instead)
        return self.episodes // world

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log pi(a | s) of pairs (B, O + A), in nats: (B,)."""
        seen, done = x[:, : self.observed], x[:, self.observed :]
        return self.generator.log_prob(self.generator(seen), done)

    @torch.no_grad()
    def play(self, seeds: Sequence[int], normal: Tensor | None) -> Play:
        """An episode for each seed.

        Arguments:
            normal: N(0, 1) numbers (n, T, A) that actions are drawn with; None does what is likeliest.
        """
        policy, like = self.generator, next(self.generator.parameters())
        seen = [self.seen(self.world.start(seeds), like.device)]
        done, paid, alive = [], [], []
        for t in range(self.horizon):
            made = policy(seen[t])
            done.append(policy.best(made) if normal is None else policy.choose(made, normal[:, t]))
            alive.append(~self.world.over)
            observations, earned = self.world.step(self.taken(done[t]))
            seen.append(self.seen(observations, like.device))
            paid.append(earned)
        rewards = torch.from_numpy(np.stack(paid, 1)).float().to(like.device)
        able = torch.from_numpy(np.stack(alive, 1)).to(like.device)
        return Play(torch.stack(seen, 1), torch.stack(done, 1), rewards, able)

    def seen(self, observations: np.ndarray, device: torch.device) -> Tensor:
        """Observations in the units of the networks."""
        scaled = (observations - self.units["mean"]) / self.units["deviation"]
        return torch.from_numpy(scaled.astype(np.float32)).to(device)

    def taken(self, actions: Tensor) -> np.ndarray:
        """Rows (..., A) as the world takes them: int64 (...), or float64 (..., A) in its units."""
        rows_ = actions.cpu().double().numpy()
        if self.spec.details["choices"]:
            return rows_.argmax(-1)
        low, high = self.units["low"], self.units["high"]
        return low + (high - low) * (np.clip(rows_, -1, 1) + 1) / 2

    def sample(self, n: int, seed: int = 0, explore: bool = False) -> list[Episode]:
        """n episodes; episode i is the same whatever n.

        Arguments:
            explore: draw actions instead of doing what is likeliest.
        """
        whole, plays = -(-n // TOGETHER) * TOGETHER, []
        size = self.spec.shape[0] - self.observed
        for first in range(0, whole, TOGETHER):
            seeds = [key(seed, "sample", i) for i in range(first, first + TOGETHER)]
            normal = rows(TOGETHER, (self.horizon, size), seed, "prior", start=first) if explore else None
            plays.append(self.play(seeds, None if normal is None else normal.to(next(self.parameters()).device)))
        return [episode for play in plays for episode in self.told(play)][:n]

    def told(self, play: Play) -> list[Episode]:
        """Episodes in the world's units, each cut where it was over."""
        seen = (play.observations.cpu().numpy() * self.units["deviation"] + self.units["mean"]).astype(np.float32)
        return episodes(seen, self.taken(play.actions), play.rewards.cpu().double().numpy(), play.alive.cpu().numpy())
