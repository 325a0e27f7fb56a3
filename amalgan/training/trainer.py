"""The trainer: whose turn it is.

At each step every player takes its turns on a draw: the objective says what the player must minimise and which networks
that moves, gradients are taken for exactly those, and the moved networks' optimisers step. The trainer knows no method:
a VAE is an objective that never asks anything of the discriminator.

Everything random is a function of (seed, step), so that a run is its weights, its optimisers' moments and a number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from amalgan.errors import AmalganError, UsageError
from amalgan.noise import Noise, generator
from amalgan.objectives.core import Loss, Objective, Schedule, Turn
from amalgan.training import distributed

PLAYERS = ("discriminator", "generator")  # the judge moves first, on the same draw
SMALLEST = 2.3e-308  # a normal number, half of which is none


@contextlib.contextmanager
def _tiny_as_zero() -> Iterator[None]:
    """Meanwhile, what is too small for a normal number, in fp32 below 1.2e-38, is zero to this thread.

    Processors take many times as long for such numbers, and Adam's averages end among them where a gradient stays zero:
    after 900 steps on MNIST, with its black borders, a step of a linear VAE took 8.3 ms in place of 5.3.
    """
    before = SMALLEST / 2 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@dataclass(frozen=True)
class Plan:
    """What a recipe hands to the trainer: a model, what it minimises, and how its networks are moved.

    Arguments:
        model: the networks.
        stages: (objective, share of the steps) in order; shares sum to 1.
        lr: Adam's step size, a number or a schedule of the run's progress, for each network.
        betas: Adam's decay rates, for each network.
        turns: turns of a player per step, 1 where it is not named; all but the last take fresh draws.
        batch: examples per step.
        ema: decay of the moving average of all networks but the discriminator; 0 keeps none.
        clip: largest norm of a network's gradient; None leaves it.
        precision: "bf16" where the networks profit from it and the machine has it, else "fp32".
    """

    model: Any
    stages: list[tuple[Objective, float]]
    lr: dict[str, float | Schedule]
    betas: dict[str, tuple[float, float]]
    turns: dict[str, int] = field(default_factory=dict)
    batch: int = 64
    ema: float = 0.999
    clip: float | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for objective, _ in self.stages:
            objective.remember(self.model)


class Order:
    """Which examples the t-th draw holds: epoch after epoch, each a permutation of its own from (seed, epoch)."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self._epochs: dict[int, Tensor] = {}

    def __call__(self, draw: int) -> Tensor:
        start, end = draw * self.batch, (draw + 1) * self.batch
        epochs = range(start // self.count, (end - 1) // self.count + 1)
        return torch.cat([self._epoch(e)[max(0, start - e * self.count) : end - e * self.count] for e in epochs])

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            self._epochs = {e: order for e, order in self._epochs.items() if e >= epoch - 1}
            source = generator(self.seed, "order", epoch)
            self._epochs[epoch] = torch.randperm(self.count, generator=source)
        return self._epochs[epoch]


class Signals:
    """Sums of every term since the last tick, kept on the device; nothing waits for them until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.weights: dict[str, float] = {}
        self.first_bad: dict[str, Tensor] = {}  # step at which the term first was not finite, else -1

    def add(self, loss: Loss, step: int) -> None:
        value = loss.value.detach()
        if loss.name not in self.sums:
            self.sums[loss.name] = torch.zeros_like(value, dtype=torch.float32)
            self.counts[loss.name] = 0
            self.first_bad[loss.name] = torch.full_like(value, -1, dtype=torch.int64)
        self.sums[loss.name] += value
        self.counts[loss.name] += 1
        self.weights[loss.name] = float(loss.weight)
        bad = self.first_bad[loss.name]
        bad.copy_(torch.where((bad < 0) & ~torch.isfinite(value), step, bad))

    def read(self) -> dict[str, float]:
        """Mean of each term since the last reading, unweighted, and start anew."""
        means = {name: distributed.mean(self.sums[name] / self.counts[name]).item() for name in self.sums}
        self.sums, self.counts = {}, {}
        return means

    def bad(self) -> tuple[str, int] | None:
        """The term that first was not finite and its step, if any."""
        found = [(int(step), name) for name, step in self.first_bad.items() if int(step) >= 0]
        return (min(found)[1], min(found)[0]) if found else None


class Diverged(AmalganError):
    """A loss or a weight is no longer a finite number: which, since which step, and which training examples did it."""

    what, step = "", 0
    examples: tuple[int, ...] = ()


class Trainer:
    """Trains a plan's model on a split of the data.

    Arguments:
        plan: model, stages, learning rates.
        split: the training data: `len(split)`, `split.batch(index, device)` -> x, c, and `split.prefetch(index)` if it
            streams.
        steps: the whole budget, over all stages.
        seed: of everything random.
        device: where the model and the batches live.
        clip: largest norm of a network's gradient; None takes the plan's.
        parts: of the batch, one of which is held at a time: their gradients add up to that of the whole. A part is
            like a process of its own, noise included; each player plays it anew.
        shard: each process keeps moments and averages of its share of the weights alone.

    Raises:
        UsageError: a batch that does not divide over processes and parts; in training, parts where a term decides by
            the whole batch, or where a turn has several gradient steps.
    """

    def __init__(
        self,
        plan: Plan,
        split: Any,
        steps: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
        clip: float | None = None,
        parts: int = 1,
        shard: bool = False,
    ) -> None:
        self.plan, self.split, self.steps, self.seed = plan, split, steps, seed
        self.clip = plan.clip if clip is None else clip
        self.rank, self.world, self.parts = distributed.rank(), distributed.world(), parts
        if parts < 1:
            raise UsageError(f"--accumulate {parts}", "no number of parts", "write --accumulate 1 or more")
        if plan.batch % (self.world * parts):
            cut = f" in {parts} parts" if parts > 1 else ""
            raise UsageError(
                f"a batch of {plan.batch}{cut} over {self.world} process{'es'[: 2 * (self.world > 1)]}",
                "the batch does not divide",
                f"write --batch {max(1, plan.batch // (self.world * parts)) * self.world * parts}",
            )
        self.device = torch.device(device)
        self.model = plan.model.to(self.device).to(memory_format=torch.channels_last)
        self.networks: dict[str, list[torch.nn.Parameter]] = self.model.networks
        self.owners = distributed.owners(self.model.parameters()) if shard else {}
        self.kept = {
            name: [index for index, p in enumerate(parameters) if self._keeps(p)]
            for name, parameters in self.networks.items()
        }
        self.optimisers = {
            # in a group, since a process may keep nothing of a small network
            name: torch.optim.Adam(
                [{"params": [parameters[index] for index in self.kept[name]]}],
                lr=1.0,
                betas=plan.betas[name],
                fused=True,
            )
            for name, parameters in self.networks.items()
        }
        self.step_count = 0
        self.signals = Signals()
        self.order = Order(len(split), plan.batch, seed)
        self._own = self._averaged()  # aliases of the weights, which are only ever changed in place
        self._parameters = dict(self.model.named_parameters(remove_duplicate=False))
        kept = {name for name in self._own if name not in self._parameters or self._keeps(self._parameters[name])}
        self.average = {name: value.clone() for name, value in self._own.items() if name in kept} if plan.ema else {}

    def _keeps(self, parameter: torch.nn.Parameter) -> bool:
        """Whether this process has that weight's moments and average."""
        return self.owners.get(parameter, self.rank) == self.rank

    # One step

    def _begin(self) -> None:
        """What the model does once before training; all processes start from the first one's weights."""
        self.model.begin(self.split)
        distributed.broadcast(self.model)
        for name, value in self.average.items():
            value.copy_(self._own[name])

    @_tiny_as_zero()
    def step(self) -> None:
        """Every player's turns, once."""
        if self.step_count == 0:
            self._begin()
        step, objective, progress = self.step_count, *self.stage(self.step_count)
        self._set_learning_rates()
        draws = max(self.plan.turns.get(player, 1) for player in PLAYERS)
        for number in range(draws):
            plays = self._plays(step * draws + number)
            for player in PLAYERS:
                # of k turns the last falls on the last draw, which all players share
                if number >= draws - self.plan.turns.get(player, 1):
                    self._turn(objective, (Turn(draw, player, step, progress, self._mean) for draw in plays()))
        self._update_average()
        self.step_count += 1

    def stage(self, step: int) -> tuple[Objective, float]:
        """The objective at a step and the share of its stage that has passed."""
        start = 0.0
        for left, (objective, share) in zip(range(len(self.plan.stages) - 1, -1, -1), self.plan.stages):
            end = start + share * self.steps
            if step < end - 1e-6 or not left:
                return objective, (step - start) / max(1.0, end - start)
            start = end
        raise AssertionError("a plan has at least one stage")

    def _plays(self, number: int) -> Callable[[], Iterable[Any]]:
        """The plays of a draw: one that the players share, or parts, played anew for each, so that one is held at a time."""
        if self.parts > 1:
            return lambda: (self._draw(number, part) for part in range(self.parts))
        whole = [self._draw(number)]
        return lambda: whole

    def _draw(self, number: int, part: int = 0) -> Any:
        x, c = self.split.batch(self._index(number, part), self.device)
        if hasattr(self.split, "prefetch"):  # a streamed split decodes the next batch while this one is learned from
            self.split.prefetch(self._index(number + (part + 1) // self.parts, (part + 1) % self.parts))
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        place, places = self.rank * self.parts + part, self.world * self.parts
        return self.model.draw(x, c, Noise(self.seed, number, place, places, self.device))

    def _index(self, number: int, part: int = 0) -> Tensor:
        """The examples of a draw that are this process's, a part of them."""
        index = self.order(number)
        share = len(index) // (self.world * self.parts)
        return index[(self.rank * self.parts + part) * share :][:share]

    def _mean(self, value: Tensor) -> Tensor:
        """What a term decides by: the mean over processes."""
        if self.parts > 1:
            raise UsageError(
                f"--accumulate {self.parts} with {self.stage(self.step_count)[0]!r}",
                "a term that decides by the whole batch, of which only a part is there at a time",
                "leave out that term, or --accumulate; several processes may share the batch",
            )
        return distributed.mean(value)

    def _turn(self, objective: Objective, turns: Iterable[Turn]) -> None:
        """A player's turn: a gradient step on all the parts of a draw, and on a draw that is whole perhaps more steps."""
        moved: dict[str, None] = {}
        for turn in turns:
            rounds = objective.rounds(turn)
            moved |= self._pull(rounds, turn.step) or {}
        while True:
            for name in moved:
                self._move(name)
            more = self._pull(rounds, turn.step)
            if more is None:
                return
            if more and self.parts > 1:
                raise UsageError(
                    f"--accumulate {self.parts} with {objective!r}",
                    "a turn of several gradient steps",
                    "leave --accumulate out; several processes may share the batch",
                )
            moved = more

    def _pull(self, rounds: Iterator[list[Loss]], step: int) -> dict[str, None] | None:
        """The next round's gradients, added to what is there, and the networks they move; None where no round is left."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16"):
            losses = next(rounds, None)
        if losses is None:
            return None
        for loss in losses:
            self._check_route(loss)
            self.signals.add(loss, step)
        routes: dict[tuple[str, ...], Tensor] = {}
        for loss in losses:
            if loss.weight != 0:
                demand = loss.weight / self.parts * loss.value
                routes[loss.moves] = routes[loss.moves] + demand if loss.moves in routes else demand
        for left, (moves, demand) in zip(range(len(routes) - 1, -1, -1), routes.items()):
            parameters = [p for name in moves for p in self.networks[name]]
            # gradients for exactly the networks that the terms move: nothing leaks, nothing is thrown away
            torch.autograd.backward(demand, inputs=parameters, retain_graph=left > 0)
        return dict.fromkeys(name for moves in routes for name in moves)

    def _check_route(self, loss: Loss) -> None:
        if not set(loss.moves) <= self.networks.keys():
            raise UsageError(
                f"the term {loss.name!r}, which moves {', '.join(loss.moves)}",
                f"a model with {', '.join(self.networks)}",
                "name networks that the model has in the term's `moves`",
            )

    def _move(self, name: str) -> None:
        """A step of a network along its gradient, the mean over processes."""
        parameters = self.networks[name]
        distributed.average_gradients(parameters, self.owners)
        if self.clip is not None:
            self._clip([p for p in parameters if p.grad is not None], self.clip)
        self.optimisers[name].step()
        self.optimisers[name].zero_grad(set_to_none=True)
        distributed.spread((p.detach(), self.owners[p]) for p in parameters if p in self.owners)

    def _clip(self, parameters: list[torch.nn.Parameter], most: float) -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).to(self.device)
        if self.owners:
            norm = distributed.everyones(norm).norm()
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)

    def _set_learning_rates(self) -> None:
        for name, optimiser in self.optimisers.items():
            lr = self.plan.lr[name]
            optimiser.param_groups[0]["lr"] = lr(self.step_count / self.steps) if callable(lr) else lr

    # Moving average

    def _averaged(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if not name.startswith("discriminator.")}

    @torch.no_grad()
    def _update_average(self) -> None:
        if not self.average:
            return
        decay = min(self.plan.ema, (1 + self.step_count) / (10 + self.step_count))  # young averages forget faster
        floats = [name for name, value in self.average.items() if value.is_floating_point()]
        if floats:
            torch._foreach_lerp_([self.average[n] for n in floats], [self._own[n] for n in floats], 1 - decay)
        for name in self.average.keys() - set(floats):
            self.average[name].copy_(self._own[name])

    @contextlib.contextmanager
    def averaged_model(self) -> Iterator[Any]:
        """The model, carrying its averaged weights while the context lasts, in evaluation mode; for all processes together."""
        own = {name: value.clone() for name, value in self._own.items()} if self.plan.ema else {}
        self.model.load_state_dict(self.average, strict=False)
        owned = ((self._own[name], self.owners.get(p)) for name, p in self._parameters.items() if name in own)
        distributed.spread((value, owner) for value, owner in owned if owner is not None)
        training = self.model.training
        self.model.eval()  # with batch norm a sample would otherwise depend on those beside it
        try:
            yield self.model
        finally:
            self.model.load_state_dict(own, strict=False)
            self.model.train(training)

    # A loop

    def run(self, until: int | None = None) -> Iterator[int]:
        """Step up to `until` (the whole budget), yielding the number of steps done after each."""
        while self.step_count < (self.steps if until is None else until):
            self.step()
            yield self.step_count

    def check(self) -> None:
        """Raise if a term or a weight stopped being finite; reads the device, so call it now and then.

        Raises:
            Diverged: with the term, the network and the step.
        """
        weights = [name for name, p in self.model.named_parameters() if not bool(torch.isfinite(p).all())]
        found = self.signals.bad()
        (trouble,) = distributed.any_of(found is not None or bool(weights))
        if not trouble:  # one process's trouble stops all, or the others would wait for it
            return
        networks = ", ".join(dict.fromkeys(name.split(".")[0] for name in weights))
        also = f", and weights of {networks} are not" if weights else ""
        first = weights[0] if weights else "a loss of another process"
        what, step = (f"term {found[0]!r}", found[1]) if found is not None else (first, self.step_count)
        examples = self._broken(step) if found is not None else ()
        error = Diverged(
            f"finite losses up to step {self.step_count}",
            f"{what} is not a finite number since step {step}{also}"
            + (f", which met training example {examples[0]}: no finite numbers either" if examples else ""),
            "mend or remove that example; the last checkpoint is intact"
            if examples
            else "lower --lr, set --clip 1, or raise the penalty; the last checkpoint is intact",
        )
        error.what, error.step, error.examples = what, step, examples
        raise error

    def _broken(self, step: int) -> tuple[int, ...]:
        """The examples of a step that hold values that are no finite numbers."""
        draws = max(self.plan.turns.get(player, 1) for player in PLAYERS)
        numbers, parts = range(step * draws, (step + 1) * draws), range(self.parts)
        index = torch.cat([self._index(number, part) for number in numbers for part in parts])
        x, _ = self.split.batch(index, "cpu")
        return tuple(index[~torch.isfinite(x).flatten(1).all(1)].unique().tolist())

    # Saving

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All that later processes need, as named tensors in named groups; with `step_count`, the whole state.

        All processes ask together, and what each has logged for itself is averaged: they go on from one state. Where
        weights are shared out, all but the first say only what they alone keep.
        """
        groups = {"model": dict(self.model.state_dict()), "average": dict(self.average)}
        for name, optimiser in self.optimisers.items():
            groups[f"optimiser.{name}"] = {
                f"{self.kept[name][index]}.{key}": value
                for index, state in optimiser.state_dict()["state"].items()
                for key, value in state.items()
            }
        groups["signals"] = {
            # weights are numbers of 64 bits, and must come back as they were
            f"{kind}.{name}": torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
            for kind in ("counts", "weights", "first_bad")
            for name, value in getattr(self.signals, kind).items()
        } | {f"sums.{name}": distributed.mean(value) for name, value in self.signals.sums.items()}
        if self.owners and self.rank:
            del groups["model"], groups["signals"]
            groups["average"] = {name: value for name, value in self.average.items() if name in self._parameters}
        return groups

    def wants(self, group: str, name: str) -> bool:
        """Whether this process needs that tensor of a state."""
        kind, _, network = group.partition(".")
        if kind == "optimiser":
            return int(name.partition(".")[0]) in self.kept.get(network, ())
        return kind != "average" or name in self.average

    def load_state(self, groups: dict[str, dict[str, Tensor]], step_count: int) -> None:
        """Go on exactly where `state()` was taken."""
        self.model.load_state_dict(groups["model"])
        groups = {of: {k: v for k, v in group.items() if self.wants(of, k)} for of, group in groups.items()}
        for name, value in groups.get("average", {}).items():
            self.average[name].copy_(value)
        for name, optimiser in self.optimisers.items():
            states: dict[int, dict[str, Tensor]] = {}
            for key, value in groups.get(f"optimiser.{name}", {}).items():
                index, slot = key.split(".", 1)
                weight = self.networks[name][int(index)]
                # the fused step walks memory, so moments must lie in memory as their weights do
                like = torch.empty_like(weight, dtype=value.dtype) if value.shape == weight.shape else value.clone()
                states.setdefault(self.kept[name].index(int(index)), {})[slot] = like.copy_(value)
            optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
        self.signals = Signals()
        for key, value in groups.get("signals", {}).items():
            kind, name = key.split(".", 1)
            plain: Callable[[Tensor], Any] = {"counts": int, "weights": float}.get(kind, Tensor.clone)
            getattr(self.signals, kind)[name] = plain(value)
        self.step_count = step_count
