"""Demonstrations: what somebody saw and did, episode after episode, as rows that networks take.

    x (N, O + A)    an observation, less the demonstrations' mean and over their deviation; then the action: a 1 at the
                    place of a choice, or numbers scaled so that [-1, 1] is all that can be done
    c (N,)          which demonstration a row is from; rows of one stand together, in order

A file is an .npz as the `imitation` library and others write it, with E episodes of T_1..T_E steps:

    obs (sum T + E, O)   acts (sum T,) or (sum T, A)   indices (E - 1,) where acts is cut   rews (sum T,)   terminal (E,)

so each episode has one observation more than actions. `rews` and `terminal` may be missing: rewards are looked at when
a model is judged, never when it is trained.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import environments
from ..environments import World
from ..errors import UsageError
from ..noise import key
from .core import Data, Spec, Split, uniform
from .packed import arrays

BUNDLED = "point-mass"
EPISODES = 60  # that the bundled demonstrator shows
NEEDED = ("obs", "acts")
SOURCES = "an .npz file with obs, acts, indices and rews, or point-mass, which is bundled"


@dataclass(frozen=True, eq=False)
class Episode:
    """One demonstration, or one that a model played, up to where the world stands still.

    Arguments:
        observations: float32 (T + 1, O); actions: int64 (T,) or float32 (T, A), in the world's units.
        rewards: float64 (T,), or None where nobody wrote them down.
        whole: whether it went on to its end, not merely to where somebody stopped writing.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray | None
    whole: bool = True

    def __len__(self) -> int:
        return len(self.actions)

    def __eq__(self, other: object) -> bool:
        """Whether the same was seen and done."""
        return (
            isinstance(other, Episode)
            and np.array_equal(self.observations, other.observations)
            and np.array_equal(self.actions, other.actions)
        )


def open(
    source: Any,
    *,
    env: str | None = None,
    demonstrations: int | None = None,
    every: int = 1,
    seed: int = 0,
    spec: Spec | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Demonstrations in three parts: a tenth each, but at least one, for validation and test.

    Arguments:
        source: an .npz file, a mapping of such arrays, or "point-mass".
        env: the world they are of: one of `environments.OURS`, or a name that gymnasium knows.
        demonstrations: at most so many for training; all others than those held out by default.
        every: of those keep every so-manieth step alone, as Ho and Ermon (2016) did with 20, so that neighbours do not
            all say the same.
        seed: another seed divides differently.
        spec: of a trained model, whose world and units are taken over.
        progress: called with episodes done and episodes in all.

    Raises:
        UsageError: nothing there, no demonstrations, or ones that cannot be of that world.
    """
    if isinstance(source, Data):
        return source
    for flag, value in (("demonstrations", demonstrations), ("every", every)):
        if value is not None and value < 1:
            raise UsageError(f"--{flag} {value}", "fewer than one", f"write --{flag} 10, or leave it out")
    bundled = isinstance(source, str) and source == BUNDLED
    env = spec.details["environment"] if spec is not None else env or (BUNDLED if bundled else None)
    if env is None:
        raise UsageError("demonstrations", "no environment named", f"write --env {environments.known()}")
    world = environments.make(env)
    name, shown_ = (source, shown(EPISODES, seed)) if bundled else read(source, world)
    if progress is not None:
        progress(len(shown_), len(shown_))
    return divided(name, shown_, world, demonstrations, every, seed, spec)


def shown(count: int, seed: int = 0) -> list[Episode]:
    """The bundled demonstrator in the point-mass world, from places drawn from a seed."""
    seeds = [key(seed, "demonstration", i) for i in range(count)]
    return acted(environments.make(BUNDLED), seeds, lambda seen, _: environments.settle(seen).astype(np.float32))


def acted(world: World, seeds: Sequence[int], act: Callable[[np.ndarray, int], np.ndarray]) -> list[Episode]:
    """An episode for each seed, where `act` says what to do: observations (n, O) and the step -> actions (n,) or (n, A)."""
    seen, done, paid, alive = [world.start(seeds)], [], [], []
    for t in range(world.horizon):
        alive.append(~world.over)
        done.append(act(seen[-1], t))
        observations, rewards = world.step(done[-1])
        seen.append(observations)
        paid.append(rewards)
    return episodes(*(np.stack(columns, 1) for columns in (seen, done, paid, alive)))


def episodes(seen: np.ndarray, done: np.ndarray, paid: np.ndarray, alive: np.ndarray) -> list[Episode]:
    """Episodes from arrays (n, T + 1, O), (n, T) or (n, T, A), (n, T) and (n, T), each cut where it was over."""
    lasted = alive.sum(1)
    return [Episode(s[: k + 1], d[:k], p[:k]) for s, d, p, k in zip(seen, done, paid, lasted.tolist())]


# Files


def read(source: Any, world: World) -> tuple[str, list[Episode]]:
    """The name and the episodes of a file or a mapping, checked against the world that they are said to be of."""
    if isinstance(source, Mapping):
        return "demonstrations", cut("the arrays", {k: np.asarray(v) for k, v in source.items()}, world)
    if not isinstance(source, str | Path):
        raise UsageError("demonstrations", f"a {type(source).__name__}", f"give {SOURCES}")
    path = Path(source).expanduser()
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise UsageError(f"demonstrations from {path}", found, f"give {SOURCES}")
    asked, instead = f"demonstrations from {path}", f"give {SOURCES}"
    if not zipfile.is_zipfile(path):
        raise UsageError(asked, "it cannot be read: it is no .npz archive", instead)
    return path.name, cut(str(path), arrays(path, asked, instead, (*NEEDED, "indices", "rews", "terminal")), world)


def cut(where: str, arrays: dict[str, np.ndarray], world: World) -> list[Episode]:
    """The episodes of a file's arrays.

    Raises:
        UsageError: arrays missing or of wrong shape, values that the world does not have, or nothing in them.
    """

    def wrong(found: str, instead: str) -> UsageError:
        return UsageError(f"demonstrations of {world.name} from {where}", found, instead)

    for name in NEEDED:
        if name not in arrays:
            raise wrong(f"no array {name!r}", f"give {SOURCES}")
    obs, acts = arrays["obs"], arrays["acts"]
    cuts = arrays.get("indices", np.empty(0, np.int64))
    ends = np.append(cuts if cuts.size else cuts.astype(np.int64), len(acts))
    lengths = np.diff(ends, prepend=0)
    if not len(acts) or ends.dtype.kind not in "iu" or (lengths < 1).any():
        found = "no steps" if not len(acts) else f"indices {ends[:5].tolist()} of {len(acts)} actions"
        raise wrong(found, "give the places, in rising order, where acts is cut into episodes")
    if obs.ndim != 2 or obs.shape[1] != world.observed:
        raise wrong(f"obs of shape {obs.shape}", f"{world.name} shows (N, {world.observed})")
    if len(obs) != len(acts) + len(ends):
        found = f"{len(obs):,} observations for {len(acts):,} actions in {len(ends):,} episodes"
        raise wrong(found, "give one observation more than actions in each episode: the file may be cut short")
    if lengths.max() > world.horizon:
        raise wrong(f"an episode of {lengths.max():,} steps", f"{world.name} has {world.horizon} at most")
    acts = _actions(acts, world, wrong)
    rewards, terminal = arrays.get("rews"), arrays.get("terminal", np.ones(len(ends), bool))
    if rewards is not None and rewards.shape != (len(acts),):
        raise wrong(f"rews of shape {rewards.shape}", f"give one for each action: ({len(acts)},)")
    if terminal.shape != (len(ends),):
        raise wrong(f"terminal of shape {terminal.shape}", f"give one for each episode: ({len(ends)},)")
    for name, values in (("obs", obs), ("acts", acts), ("rews", rewards)):
        if values is not None and not np.isfinite(values).all():
            raise wrong(f"{name} with values that are not finite numbers", "leave those episodes out")
    return [
        Episode(
            obs[end - length + e : end + e + 1].astype(np.float32),
            acts[end - length : end],
            None if rewards is None else rewards[end - length : end].astype(np.float64),
            bool(terminal[e]) or length == world.horizon,
        )
        for e, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist()))
    ]


def _actions(acts: np.ndarray, world: World, wrong: Callable[[str, str], UsageError]) -> np.ndarray:
    """Actions as the world takes them, checked: int64 (N,) or float32 (N, A)."""
    about = world.actions
    if about.choices:
        if acts.ndim != 1 or not np.issubdtype(acts.dtype, np.integer):
            raise wrong(
                f"acts {acts.dtype} of shape {acts.shape}", f"give whole numbers from 0 to {about.choices - 1}, (N,)"
            )
        if acts.min() < 0 or acts.max() >= about.choices:
            raise wrong(f"actions from {acts.min()} to {acts.max()}", f"it knows 0 to {about.choices - 1}")
        return acts.astype(np.int64)
    if acts.shape[1:] != (about.size,) or not np.issubdtype(acts.dtype, np.number):
        raise wrong(f"acts {acts.dtype} of shape {acts.shape}", f"give numbers of shape (N, {about.size})")
    low, high = np.array(about.low), np.array(about.high)
    slack = 1e-3 * (high - low)
    if (acts < low - slack).any() or (acts > high + slack).any():
        found = f"actions from {acts.min(0).tolist()} to {acts.max(0).tolist()}"
        raise wrong(found, f"give what can be done: from {low.tolist()} to {high.tolist()}")
    return acts.astype(np.float32)


def arrays_of(episodes: list[Episode]) -> dict[str, np.ndarray]:
    """Episodes as the arrays of a file; those without rewards leave them out."""
    paid = [e.rewards for e in episodes if e.rewards is not None]
    return {
        "obs": np.concatenate([e.observations for e in episodes]),
        "acts": np.concatenate([e.actions for e in episodes]),
        "indices": np.cumsum([len(e) for e in episodes])[:-1],
        "terminal": np.array([e.whole for e in episodes]),
        **({"rews": np.concatenate(paid)} if len(paid) == len(episodes) else {}),
    }


# Rows


def divided(
    name: str,
    episodes: list[Episode],
    world: World,
    demonstrations: int | None,
    every: int,
    seed: int,
    spec: Spec | None,
) -> Data:
    """Different demonstrations in three parts, in an order drawn from their contents."""
    content = [
        hashlib.blake2b(e.observations.tobytes() + e.actions.tobytes(), digest_size=8).digest() for e in episodes
    ]
    different = {digest: episode for digest, episode in zip(content, episodes)}
    order = uniform(np.frombuffer(b"".join(different), "<u8").astype(np.uint64), seed).argsort(kind="stable")
    if len(different) < 3:
        found = f"{len(different)} different demonstration{'s' * (len(different) != 1)}"
        raise UsageError(
            f"demonstrations from {name}", found, "give 3 or more: one each is held out for validation and test"
        )
    held = max(1, len(different) // 10)
    sorted_ = [list(different.values())[i] for i in order]
    test, validation, rest = sorted_[:held], sorted_[held : 2 * held], sorted_[2 * held :]
    if demonstrations is not None and demonstrations > len(rest):
        found = f"{len(different)}, of which {2 * held} are held out"
        raise UsageError(f"{demonstrations} demonstrations to train on", found, f"write --demonstrations {len(rest)}")
    train = rest[:demonstrations]
    notes = _notes(episodes, len(different), world, train, held, every)
    returns = [float(e.rewards.sum()) for e in different.values() if e.rewards is not None and e.whole]
    expert = float(np.mean(returns)) if returns else None
    # another model's units, but what these demonstrations themselves were paid
    details = _details(world, train, every) if spec is None else spec.details
    spec = Spec("control", (world.observed + world.actions.size,), (), {**details, "expert": expert})
    parts = _split(train, spec, every), _split(validation, spec), _split(test, spec)
    digest = hashlib.blake2b(repr(spec).encode(), digest_size=16)
    for part in parts:
        digest.update(part.x.numpy().tobytes() + b"|")  # type: ignore[union-attr]
    return Data(name, spec, *parts, notes, digest.hexdigest())


def _notes(
    episodes: list[Episode], different: int, world: World, train: list[Episode], held: int, every: int
) -> list[str]:
    returns = [float(e.rewards.sum()) for e in episodes if e.rewards is not None and e.whole]
    paid = f", {np.mean(returns):.4g} paid on average" if returns else ", nobody wrote down what they were paid"
    steps = sum(-(-len(e) // every) for e in train)
    notes = [
        f"{len(episodes):,} demonstrations of {world.name}{paid}; every episode lasts {world.horizon} steps: "
        "one that ends early stands still and earns nothing more",
        f"{len(train):,} for training ({steps:,} steps{f', every {every}th' if every > 1 else ''}), {held:,} for "
        f"validation, {held:,} for test",
    ]
    if different < len(episodes):
        notes.append(f"{len(episodes) - different:,} that repeat another one left out")
    short = sum(not e.whole for e in episodes)
    if short:
        notes.append(f"{short:,} stop before their end, and do not count for what the demonstrator is paid")
    return notes


def _details(world: World, train: list[Episode], every: int) -> dict[str, Any]:
    """The world, and the units of its observations and actions."""
    seen = np.concatenate([e.observations[:-1][::every] for e in train]).astype(np.float64)
    deviation = seen.std(0)
    return {
        "environment": world.name,
        "horizon": world.horizon,
        "choices": world.actions.choices,
        "low": list(world.actions.low),
        "high": list(world.actions.high),
        "mean": seen.mean(0).tolist(),
        "deviation": np.where(deviation > 1e-6, deviation, 1.0).tolist(),
    }


def _split(episodes: list[Episode], spec: Spec, every: int = 1) -> Split:
    rows = [pairs(e.observations[:-1], e.actions, spec)[::every] for e in episodes]
    number = [torch.full((len(part),), i) for i, part in enumerate(rows)]
    return Split(torch.cat(rows), torch.cat(number))


def pairs(observations: np.ndarray, actions: np.ndarray, spec: Spec) -> Tensor:
    """Rows (N, O + A) in the units of the networks."""
    details = spec.details
    seen = (observations - np.array(details["mean"])) / np.array(details["deviation"])
    if details["choices"]:
        done = np.eye(details["choices"])[actions]
    else:
        low, high = np.array(details["low"]), np.array(details["high"])
        done = np.clip(2 * (actions - low) / (high - low) - 1, -1, 1)
    return torch.from_numpy(np.concatenate([seen, done], 1).astype(np.float32))


def demonstration(split: Split, spec: Spec) -> np.ndarray:
    """The observations (T, O) of a part's first demonstration, in the world's units."""
    assert isinstance(split.x, Tensor) and split.c is not None
    seen = split.x[split.c == 0, : len(spec.details["mean"])].double().numpy()
    return (seen * np.array(spec.details["deviation"]) + np.array(spec.details["mean"])).astype(np.float32)
