"""Demonstrations of control: read, acted out, judged by what is earned between chance and the demonstrator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from amalgan.modalities.core import Meaning, Modality, Page, Question

if TYPE_CHECKING:
    from torch import Tensor

    from amalgan.data import Data, Spec
    from amalgan.data.control import Episode
    from amalgan.metrics.rows import Row

EPISODES = 50  # that a model is judged by at most, as in Ho and Ermon (2016)

METRICS = {
    "normalised_score": Meaning(
        "score", "higher", "What an episode earns, where chance is 0 and the demonstrator 1; the likeliest action is taken."
    ),
    "return": Meaning("reward", "higher", "What an episode earns, as the world itself counts."),
    "occupancy": Meaning(
        "units^2", "lower", "Distance between what is seen and done and what was demonstrated, as two Gaussian clouds."
    ),
    "action_nll": Meaning("nats per action", "lower", "How surprised the model is by held-out demonstrated actions."),
    "constant_reward": Meaning(
        "score", "lower",
        "The control: the score of a learner that was paid 1 for every step and shown nothing. Near 0 or below, or "
        "the world itself gives the answer away.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """The real side: held-out demonstrations, and what the demonstrator, chance and the control earn.

    Arguments:
        alike: so many episodes of each side are compared in what is done in them; `shown` are the pairs of the real ones.
    """

    split: str
    n: int
    seed: int
    alike: int
    held_out: Tensor
    shown: Tensor
    film: Tensor
    control: float
    floor: dict[str, float] = field(default_factory=dict)
    ceiling: dict[str, float] = field(default_factory=dict)


class Control(Modality):
    """Observations and actions; see `amalgan.environments`, `amalgan.data.control` and `amalgan.metrics.control`."""

    names = ("control",)
    examples = "pairs"
    suffix = ""  # a folder: arrays to go on with, and a film to look at
    bundled = "point-mass"
    source = "demonstrations: an .npz file with obs, acts, indices and rews; point-mass, which is bundled"
    also = ("--demos",)
    metrics = METRICS
    labels: ClassVar[dict[str, str]] = {
        "action_nll": "surprise at actions",
        "occupancy": "distance of occupancies",
        "constant_reward": "constant-reward control",
    }
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "What is earned": ("normalised_score", "return", "constant_reward"),
        "What is done": ("occupancy", "action_nll"),
    }
    charts = ("normalised_score", "occupancy")
    in_terminal = ("normalised_score", "return", "constant_reward", "occupancy", "action_nll")
    ratios = ("occupancy",)
    unranked = frozenset(("constant_reward",))
    rules = (
        "Control is judged by the normalised score: what is earned, where random actions are 0 and the demonstrator 1.",
        "The floor is what the demonstrator earns, and how far training demonstrations are from held-out ones; the "
        "ceiling is what random actions come to. The control is the same learner with a constant reward and no "
        "demonstrations: only where it is near 0 does a score say that something was learned from demonstrations.",
    )

    def open(
        self,
        source: Any,
        *,
        env: str | None = None,
        demonstrations: int | None = None,
        every: int = 1,
        **options: Any,
    ) -> Data:
        """See `amalgan.data.control.open`.

        Arguments:
            env: the world: point-mass, Pendulum-v1 or CartPole-v1, which are built in and last a fixed number of
                steps, or what gymnasium registers (needs pip install 'amalgan[control]')
            demonstrations: use at most so many to train on (all but those held out)
            every: of each training demonstration keep every so-manieth step alone
        """
        from amalgan.data import control

        return control.open(source, env=env, demonstrations=demonstrations, every=every, **options)

    def reopen(self, source: Any, spec: Spec, **flags: Any) -> Data:
        """In the world and the units of `spec`."""
        return self.open(source, spec=spec, **flags)

    def sample(self, model: Any, n: int, seed: int, *, explore: bool = False) -> Played:
        """n episodes.

        Arguments:
            explore: draw actions from the policy instead of taking the likeliest
        """
        return Played(model.sample(n, seed, explore), model.spec)

    def save(self, samples: Played, path: Path, columns: int | None = None, prefix: str = "") -> None:
        """.npz arrays that can be demonstrations again, .gif a film of the first four; anything else a folder of both."""
        from amalgan import files
        from amalgan.data.control import arrays_of
        from amalgan.modalities import films

        if path.suffix == ".gif":
            films.save_film(samples.episodes, samples.spec, path)
        elif path.suffix == ".npz":
            files.write_arrays(path, arrays_of(samples.episodes))
        else:
            for suffix in (".npz", ".gif"):
                self.save(samples, path / f"{prefix}episodes{suffix}")

    def preview(self, model: Any, stem: Path) -> None:
        """A strip of one episode, always from the same start."""
        from amalgan.modalities import films

        films.save_strip(model.sample(1, 0)[0].observations, model.spec, stem.with_suffix(".png"))

    def questions(self, metrics: Sequence[str]) -> tuple[Question, ...]:
        """Who earns most; in rewards where nobody knows what the demonstrator was paid."""
        first = "normalised_score" if "normalised_score" in metrics else "return"
        return (Question("control", "controls", "control", (first,), ("occupancy", "action_nll"), "Random actions"),)

    def reference(self, data: Data, split: str, n: int) -> Reference:
        """Held-out demonstrations; what the demonstrator, random actions and the control earn in n episodes."""
        import math

        from amalgan.data.control import demonstration
        from amalgan.metrics import control as judge
        from amalgan.modalities import films
        from amalgan.noise import key

        held, spec, seed = data.held_out(split), data.spec, key("judged", split)
        n, details, alike = min(n, EPISODES), spec.details, judge.as_many(data.train, held)
        random = judge.by_chance(spec, n, seed)
        chance, expert = judge.mean_return(random), details["expert"]
        control = judge.constant_reward(data, n, seed)
        size = spec.shape[0] - len(details["mean"])
        shown = judge.first(held, alike)
        ceiling = {
            "return": chance,
            "occupancy": judge.occupancy(judge.occupied(random[:alike], spec), shown),
            "action_nll": math.log(details["choices"]) if details["choices"] else size * math.log(2),
        }
        floor = {"occupancy": judge.occupancy(judge.first(data.train, alike), shown)}
        if expert is not None:
            ceiling["normalised_score"], floor["normalised_score"], floor["return"] = 0.0, 1.0, expert
        film = films.strip(demonstration(held, spec), spec)
        return Reference(split, n, seed, alike, held.tensor(), shown, film, control, floor, ceiling)

    def evaluate(self, model: Any, data: Data, against: Reference) -> list[Row]:
        """Earnings of n episodes, pairs against demonstrated ones, and surprise at held-out actions."""
        import torch

        from amalgan.metrics import control as judge

        episodes = model.sample(against.n, against.seed)
        earned, expert, chance = judge.mean_return(episodes), data.spec.details["expert"], against.ceiling["return"]
        with torch.no_grad():
            surprise = -float(model.log_likelihood(against.held_out).mean())
        values = {
            "return": earned,
            "occupancy": judge.occupancy(judge.occupied(episodes[: against.alike], model.spec), against.shown),
            "action_nll": surprise,
        }
        if expert is not None:
            values["normalised_score"] = judge.normalised(earned, chance, expert)
            values["constant_reward"] = judge.normalised(against.control, chance, expert)
        notes = {"return": f"the constant-reward control earns {against.control:.4g}"}
        counts = {"action_nll": len(against.held_out), "occupancy": against.alike}
        return [
            self.row(
                name,
                values[name],
                against.floor.get(name),
                against.ceiling.get(name),
                counts.get(name, against.n),
                notes.get(name, ""),
            )
            for name in METRICS
            if name in values
        ]

    def judging_seconds(self, data: Data) -> float:
        """The control learns for a while."""
        return 10.0

    def exhibits(self, model: Any, against: Reference, seed: int = 0) -> dict[str, Tensor]:
        """Strips of a held-out demonstration, and of an episode of the model."""
        from amalgan.modalities import films

        (episode,) = model.sample(1, seed)
        return {"real": against.film, "samples": films.strip(episode.observations, model.spec)}

    def sections(self, page: Page) -> list[tuple[str, str, str]]:
        """A demonstration and an episode of each model, one under the other."""
        from html import escape

        from amalgan.drawing import colour_of, embedded, grid

        able = {name: kept for name, kept in page.shown.items() if kept}
        if not able:
            return []
        rows = [("expert", "real", next(iter(able.values()))["real"])]
        rows += [(name, colour_of(page.results, name), kept["samples"]) for name, kept in able.items()]
        strips = "".join(
            f'<div class="strip"><span><span class="chip {colour}"></span>{escape(name)}</span>'
            f"{embedded(grid(film, len(film)), f'{name}: {len(film)} moments of an episode')}</div>"
            for name, colour, film in rows
        )
        lead = (
            f'<p class="lead">Not picked: the first episode of each model of seed {page.seed}, from the same start, and a '
            "held-out demonstration, from a start of its own. From left to right, evenly spread over the whole time.</p>"
        )
        return [("samples", "Episodes", f'{lead}<div class="strips" style="--tiles:{len(rows[0][2])}">{strips}</div>')]


@dataclass(frozen=True)
class Played:
    """Episodes, and the spec of the world that they were played in."""

    episodes: list[Episode]
    spec: Spec

    def __len__(self) -> int:
        return len(self.episodes)
