"""Judging what acts: what it earns, between chance and the demonstrator, and whether it does what was demonstrated.

    normalised score    (return - random's) / (demonstrator's - random's): 0 for chance, 1 for the demonstrator
    occupancy           the Frechet distance of pairs (observation, action) played from pairs demonstrated, in the units of
                        the networks: what imitation makes small (Ho and Ermon 2016, proposition 3.2)

and the control: the same learner, paid 1 for every step and shown nothing. Where that comes near 1 the world itself
gives the answer away, and no score of imitation means anything there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from amalgan import environments
from amalgan.data import Data, Spec, Split
from amalgan.data.control import Episode, acted, pairs
from amalgan.metrics.distance import frechet
from amalgan.noise import generator, key

CONTROL = 40  # steps that the constant-reward control trains for


def mean_return(episodes: Sequence[Episode]) -> float:
    """What an episode earned, on average."""
    return float(np.mean([0.0 if e.rewards is None else e.rewards.sum() for e in episodes]))


def normalised(earned: float, chance: float, expert: float) -> float:
    """0 for chance, 1 for the demonstrator, linear in between and beyond."""
    return (earned - chance) / (expert - chance)


def occupied(episodes: Sequence[Episode], spec: Spec) -> Tensor:
    """All pairs (N, O + A) of episodes, in the units of the networks."""
    return torch.cat([pairs(e.observations[:-1], e.actions, spec) for e in episodes])


def occupancy(some: Tensor, others: Tensor) -> float:
    """The Frechet distance of pairs (N, O + A) from pairs (M, O + A)."""
    return frechet(some, others)


def as_many(*splits: Split) -> int:
    """How many demonstrations each of the splits has: distances are compared at equal numbers."""
    return min(int(split.c.max()) + 1 for split in splits if split.c is not None)


def first(split: Split, count: int) -> Tensor:
    """The pairs of a split's first demonstrations."""
    assert isinstance(split.x, Tensor) and split.c is not None
    return split.x[split.c < count]


def by_chance(spec: Spec, n: int, seed: int) -> list[Episode]:
    """n episodes in which anything is done, all of it as likely."""
    world = environments.make(spec.details["environment"])
    seeds = [key(seed, "sample", i) for i in range(n)]
    size = (n, world.horizon, max(1, len(world.actions.low)))
    drawn = torch.rand(size, generator=generator(seed, "chance"), dtype=torch.float64).numpy()
    if world.actions.choices:
        return acted(world, seeds, lambda _, t: (drawn[:, t, 0] * world.actions.choices).astype(np.int64))
    low, high = np.array(world.actions.low), np.array(world.actions.high)
    return acted(world, seeds, lambda _, t: low + (high - low) * drawn[:, t])


def constant_reward(data: Data, n: int, seed: int) -> float:
    """What n episodes earn after learning from a constant reward and nothing else, by the recipe `gail`."""
    from amalgan import recipes
    from amalgan.training import Trainer

    with torch.random.fork_rng():
        torch.manual_seed(key("control", "weights"))
        plan = recipes.plan("gail", data.spec, {"reward": "constant", "cloned": 0.0})
    trainer = Trainer(plan, data.train, CONTROL)
    for _ in trainer.run():
        pass
    with trainer.averaged_model() as model:
        return mean_return(model.sample(n, seed))
