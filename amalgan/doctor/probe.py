"""What a doctor reads while a run trains: a few numbers, now and then, that move nothing.

A probe looks at a model from outside: at training, held-out and generated examples through its discriminator, at the
gradient of every term by every network it moves, at the code, and at samples beside data. It takes its own random
numbers, keeps the batch statistics as they are, and leaves no gradient: a probed run and another end in the same weights,
bit for bit. What cannot be asked of a model (a code without an encoder) is left out.

    verdicts    separation   P(D(held out) > D(fake)): 1/2 where D cannot tell, 1 where it always can
                memory       P(D(train) > D(held out)): above 1/2 where D knows its examples by heart
                spread       standard deviation of D on data, samples and both
    gradients   norm of weight * value by each network of each turn; cosine between terms of the same network
    code        kl           nats of each dimension, on held-out data
                gap          nats between the codes' mean and variance and N(0, 1), summed over dimensions
                use          error of decoding another example's code, over that of the own: 1 where z is ignored
                error        of reconstructions, on training and on held-out data
                sharpness    energy of differences between neighbours of reconstructions, over that of data
    pace        how far a step moves each network, by its own length
    scale       how much larger the largest matrix of a network makes what passes it
    samples     coverage, density, diversity, duplicates, missing: see `beside`
                copied       share of samples nearer to a training example than half the median of held-out ones, less the
                             share of held-out examples that are
                sharpness    as above, of samples
                classes      of each, the share of samples whose nearest training example is of it, over its share of those
                at           where the first samples lie along the data's two main directions, in the data's unit
    labels      use          change of a sample under another label over that under other noise: 0 where c is ignored
                kept         share of samples of the class that was asked for, as the nearest training example has it
                real, chance the same of held-out examples; and of labels that are shuffled
    data        what the examples are like, at the first look: count, duplicates, low, high, spread of the values, and the
                share of examples with values that are no numbers
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from amalgan.metrics.coverage import coverage, radii
from amalgan.networks.together import pack
from amalgan.noise import Noise, generator, key
from amalgan.objectives.core import Loss, Turn

EXAMPLES = 192  # of each kind
KNOWN, KNOWN_VALUES = 4096, 2**24  # training examples that samples are held against; fewer of large ones
WIDTH = 64  # of what samples are compared by
CENTRES = 32  # of the data, among which samples are counted
NEIGHBOURS = 5
FAINT = 1.0  # of a wave's spectrum, whose hiss would count as much as its tones without it
CLASSES = 50  # at most, of which the doctor counts samples
PLACES = 32  # samples, of the same noise at every look, whose place is noted


class Probe:
    """Looks at a trainer's model; made once a run, so that every look is at the same examples.

    Arguments:
        trainer: whose model, objective and step it is.
        data: with training and validation splits.
    """

    def __init__(self, trainer: Any, data: Any) -> None:
        self.trainer, self.model, self.device = trainer, trainer.model, trainer.device
        self.seed = key(trainer.seed, "probe")
        self.train = _some(data.train, self.seed, self.device)
        self.held_out = _some(data.validation, self.seed, self.device)
        # tokens and vertices are not compared as numbers, and a handful of examples says nothing
        self.looks = self.held_out[0].is_floating_point() and len(self.held_out[0]) > NEIGHBOURS + 1
        self.classes: Tensor | None = None  # of known examples, where there are classes
        if self.looks:
            self.real = Likeness(self.train[0], self.seed)
            self.against = self.real(self.held_out[0])
            self.reach = radii(self.against, NEIGHBOURS)
            known, c = _some(data.train, self.seed, torch.device("cpu"), KNOWN_VALUES // self.train[0][0].numel())
            self.data: dict[str, float] = {"count": float(len(data.train)), **about(known)}
            self.known = self.real(known)
            apart, nearest = _nearest(self.against, self.known)
            if c is not None and c.dim() == 1:
                self.classes, share = c, torch.bincount(c[c >= 0]) / max(1, int((c >= 0).sum()))
                self.of_labels = {"real": self._kept(nearest, self.held_out[1]), "chance": float(share.square().sum())}
            self.near = float(apart.median()) / 2  # a held-out example is seldom so near to a training one
            self.usual = float((apart < self.near).float().mean())

    def read(self) -> dict[str, Any]:
        """Every signal there is, by group."""
        bf16 = self.trainer.plan.precision == "bf16"
        with _undisturbed(self.model), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            found = {"gradients": self._gradients(), "pace": dict(self._paces()), "scale": dict(self._scales())}
            with torch.no_grad():
                draws = [self._draw(*part, number) for number, part in enumerate((self.train, self.held_out))]
                found |= {
                    "verdicts": self._verdicts(*draws),
                    "code": self._code(*draws),
                    "samples": self._samples(draws[1]),
                    "labels": self._labels(draws[1]),
                }
        if self.looks and self.data:
            found["data"], self.data = self.data, {}
        return {name: group for name, group in found.items() if group}

    def _draw(self, x: Tensor, c: Tensor | None, number: int) -> Any:
        return self.model.draw(x, c, Noise(self.seed, number, device=self.device))

    # Verdicts

    def _verdicts(self, train: Any, held_out: Any) -> dict[str, float]:
        model = held_out.model
        if getattr(model, "discriminator", None) is None or _fake(held_out) is None:
            return {}
        sides = getattr(model, "sides", ("x", "fake"))
        real, fake = (getattr(held_out, side) for side in sides)
        d_train = _verdict(train.model, getattr(train, sides[0]))
        d_real, d_fake = _verdict(model, real), _verdict(model, fake)
        return {
            "separation": _above(d_real, d_fake),
            "memory": _above(d_train, d_real),
            "real": float(d_real.mean()),
            "fake": float(d_fake.mean()),
            "spread": float(torch.cat([d_real, d_fake]).std()),
            "within": float((d_real.var() / 2 + d_fake.var() / 2).sqrt()),
            **self._by_batch(model.discriminator, real, fake),
        }

    def _by_batch(self, discriminator: Any, real: Tensor, fake: Tensor) -> dict[str, float]:
        """With batch statistics: what of the separation is owed to each kind being judged in a batch of its own."""
        norms = [module for module in discriminator.modules() if isinstance(module, _BatchNorm)]
        if not norms:
            return {}
        for norm in norms:
            norm.train()
        alone = _above(*(discriminator(x)[0] for x in (real, fake)))
        mixed = _above(*discriminator(torch.cat([real, fake]))[0].split([len(real), len(fake)]))
        for norm in norms:
            norm.eval()
        return {"alone": alone, "mixed": mixed}

    # Gradients

    def _gradients(self) -> dict[str, Any]:
        """Norms by "player/term/network", and cosines by "term~term/network" of the generator's side."""
        trainer = self.trainer
        objective, progress = trainer.stage(min(trainer.step_count, trainer.steps - 1))
        x, c = self.train
        batch = trainer.plan.batch // trainer.parts  # what fits: the trainer holds no more at a time
        draw = self._draw(x[:batch], None if c is None else c[:batch], 2)
        norms: dict[str, float] = {}
        directions: dict[str, dict[str, Tensor]] = {}
        for player in ("discriminator", "generator"):
            # step 0: lazy penalties, too, are asked
            losses: list[Loss] = next(objective.rounds(Turn(draw, player, 0, progress)), [])
            for loss in losses:
                for name, flat in self._by_network(loss):
                    norms[f"{player}/{loss.name}/{name}"] = float(flat.norm())
                    if player == "generator":
                        directions.setdefault(name, {})[loss.name] = flat
        return {"norms": norms, "cosines": dict(_cosines(directions))}

    def _by_network(self, loss: Loss) -> Iterator[tuple[str, Tensor]]:
        demand = loss.weight * loss.value
        if not demand.requires_grad:
            return
        networks = self.trainer.networks
        parameters = [p for name in loss.moves for p in networks[name]]
        gradients = torch.autograd.grad(demand, parameters, retain_graph=True, allow_unused=True)
        left = iter(gradients)
        for name in loss.moves:
            mine = [(p, next(left)) for p in networks[name]]
            if any(g is not None for _, g in mine):
                yield name, torch.cat([(torch.zeros_like(p) if g is None else g).flatten().float() for p, g in mine])

    # Steps

    def _paces(self) -> Iterator[tuple[str, float]]:
        """lr |Adam's direction| / |weights|, of every network that has moved."""
        for name, optimiser in self.trainer.optimisers.items():
            (group,) = optimiser.param_groups
            (beta1, beta2), states = (
                group["betas"],
                [optimiser.state[p] for p in group["params"] if p in optimiser.state],
            )
            if not states:
                continue
            length = sum(float(p.detach().square().sum()) for p in group["params"])
            moved = 0.0
            for state in states:
                count = float(state["step"])
                mean = state["exp_avg"] / max(1 - beta1**count, 1e-12)
                square = state["exp_avg_sq"] / max(1 - beta2**count, 1e-12)
                moved += float((mean / (square.sqrt() + group["eps"])).square().sum())
            yield name, float(group["lr"]) * math.sqrt(moved / max(length, 1e-30))

    def _scales(self) -> Iterator[tuple[str, float]]:
        """The largest of a network's matrices, by what keeps the size of what passes: rms weight * sqrt(inputs)."""
        for name, parameters in self.trainer.networks.items():
            matrices = [p.detach() for p in parameters if p.dim() > 1]
            sizes = [p.square().mean().sqrt() * math.sqrt(p[0].numel()) for p in matrices]
            if sizes:
                yield name, float(torch.stack(sizes).max())

    # Code

    def _code(self, train: Any, held_out: Any) -> dict[str, Any]:
        if not self.looks or not self.model.has_encoder or not hasattr(type(held_out), "reconstruction"):
            return {}
        found: dict[str, Any] = {}
        posterior = held_out.posterior
        if self.model.has_density:
            found["kl"] = [round(value, 4) for value in posterior.kl().mean(0).tolist()]
            found["gap"] = _nats_to_normal(held_out.z.double())
        own = _error(held_out.reconstruction, held_out.x)
        others = held_out.model.decode(held_out.z.roll(1, 0))
        found |= {
            "error": own,
            "error_train": _error(train.reconstruction, train.x),
            "use": _error(others, held_out.x) / own,
        }
        found["sharpness"] = self.real.sharpness(held_out.reconstruction)
        return found

    # Samples

    def _samples(self, held_out: Any) -> dict[str, Any]:
        x, fake = self.held_out[0], _made(held_out)
        if not self.looks or fake is None or fake.shape[1:] != x.shape[1:] or len(fake) <= NEIGHBOURS + 1:
            return {}
        seen = self.real(fake)
        found = beside(seen, self.against, self.reach, self.real.centres, self.real.shares)
        low, high = self.real.range
        width = max(high - low, 1e-12)
        outside = float(((fake < low - 0.1 * width) | (fake > high + 0.1 * width)).float().mean())
        distance, nearest = _nearest(seen, self.known)
        if self.classes is not None and 1 < (k := int(self.classes.max()) + 1) <= CLASSES:
            made, there = (torch.bincount(c[c >= 0], minlength=k) for c in (self.classes[nearest], self.classes))
            ratio = (made / made.sum().clamp(min=1)) / (there / there.sum().clamp(min=1)).clamp(min=1e-9)
            found["classes"] = [round(value, 3) for value in ratio.tolist()]
        return found | {
            "copied": float((distance < self.near).float().mean()) - self.usual,
            "outside": outside,
            "mean": float((fake.mean() - x.mean()) / width),
            "contrast": float(fake.std() / x.std().clamp(min=1e-12)),
            "sharpness": self.real.sharpness(fake),
            "at": [round(value, 3) for value in seen[:PLACES, :2].flatten().tolist()],
        }

    # Labels

    def _labels(self, held_out: Any) -> dict[str, float]:
        c, fake = held_out.c, _fake(held_out)
        if c is None or fake is None or not hasattr(self.model, "labels") or not fake.is_floating_point():
            return {}  # of samples that are choices no code is known
        noise = held_out.code
        differs = (c != c.roll(1, 0)).reshape(len(c), -1).any(1)
        if not bool(differs.any()):
            return {}
        relabelled = self.model.given(c.roll(1, 0)).decode(noise)[differs]
        renewed = self.model.given(c).decode(noise.roll(1, 0))[differs]
        found = {"use": _error(relabelled, fake[differs]) / max(_error(renewed, fake[differs]), 1e-12)}
        if self.classes is not None and not self.model.has_encoder:  # else a prior fitted class by class will tell them
            _, nearest = _nearest(self.real(fake), self.known)
            found |= {"kept": self._kept(nearest, c), **self.of_labels}
        return found

    def _kept(self, nearest: Tensor, c: Tensor | None) -> float:
        """Share of examples whose nearest training example (n,) is of their class c (n,), where that is known."""
        assert c is not None and self.classes is not None
        of_nearest = self.classes[nearest]
        known = (c.cpu() >= 0) & (of_nearest >= 0)
        return float((of_nearest == c.cpu())[known].float().mean()) if bool(known.any()) else 0.0


class Likeness:
    """By what samples are compared with data: x (B, ...) -> (B, F) numbers, coarse, with unit scale.

    Pictures are averaged to at most 8 x 8, and everything wider than `WIDTH` is turned onto that many of the data's own
    principal directions; so noise in single pixels does not hide what the examples are of.

    Arguments:
        x: training examples.
        seed: of the centres.
    """

    def __init__(self, x: Tensor, seed: int) -> None:
        coarse = _coarse(x).double()
        self.mean = coarse.mean(0)
        centred = coarse - self.mean
        _, scale, directions = torch.linalg.svd(centred, full_matrices=False)
        kept = int((scale > 1e-6 * scale[0].clamp(min=1e-12)).sum())
        self.directions = directions[: max(1, min(WIDTH, kept))]
        self.unit = float(centred.square().sum(1).mean().sqrt().clamp(min=1e-12))
        seen = self(x)
        self.centres = _centres(seen, min(CENTRES, max(1, len(x) // 8)), seed)
        owner = torch.cdist(seen, self.centres).argmin(1)
        self.shares = torch.bincount(owner, minlength=len(self.centres)) / len(seen)
        self.range = float(x.min()), float(x.max())
        self.detail = _detail(x)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, F), float32 on the processor."""
        return ((_coarse(x).double() - self.mean) @ self.directions.T / self.unit).float().cpu()

    def sharpness(self, x: Tensor) -> float:
        """Energy of differences between neighbours over that of training examples; 1 where there are no neighbours."""
        return _detail(x) / self.detail if self.detail > 0 else 1.0


def beside(fake: Tensor, real: Tensor, reach: Tensor, centres: Tensor, shares: Tensor) -> dict[str, Any]:
    """Samples (n, F) beside data (m, F).

    coverage    share of data with a sample nearer than the data's own 5th neighbour
    density     samples within such distances of data, over how many there would be of data
    diversity   mean distance between samples over that between data
    duplicates  share of samples whose nearest other sample is nearer than a tenth of what is usual between data
    missing     share of the data that lies around centres around which there is hardly a sample
    """
    found = coverage(real, fake, NEIGHBOURS, reach)
    apart, usual = (torch.cdist(x, x) for x in (fake, real))
    nearest, typical = (d.clone().fill_diagonal_(math.inf).amin(1) for d in (apart, usual))
    counts = torch.bincount(torch.cdist(fake, centres).argmin(1), minlength=len(centres)) / len(fake)
    return {
        "coverage": found.coverage,
        "density": found.density,
        "diversity": float(apart.mean() / usual.mean().clamp(min=1e-12)),
        "duplicates": float((nearest < 0.1 * typical.median()).float().mean()),
        "missing": float(shares[counts < 0.1 * shares].sum()),
    }


def about(x: Tensor) -> dict[str, float]:
    """What examples (n, ...) are like: share that has been there before, ends of the middle 99.8 % of values, spread."""
    flat = x.flatten(1).double()
    # equal rows, and hardly any others, are equal along a random direction
    along = flat @ torch.randn(flat.shape[1], dtype=torch.float64, generator=generator(0, "alike"))
    values = flat.flatten()
    values = values[torch.randint(len(values), (100_000,), generator=generator(0, "values"))]
    values = values[values.isfinite()]
    low, high = torch.quantile(values, torch.tensor([0.001, 0.999], dtype=torch.float64)).tolist()
    return {
        "looked_at": float(len(x)),
        "broken": float((~flat.isfinite()).any(1).float().mean()),
        "duplicates": 1 - len((along * 1e6).round().unique()) / len(along),
        "low": low,
        "high": high,
        "spread": float(values.std()),
    }


# Small helpers


def _some(split: Any, seed: int, device: torch.device, most: int = EXAMPLES) -> tuple[Tensor, Tensor | None]:
    """So many examples of a split, (x, c); all of a smaller one."""
    index = torch.randperm(len(split), generator=generator(seed, "examples"))[: min(most, KNOWN)]
    x, c = split.batch(index, device)
    return x, c


@contextlib.contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """In evaluation mode, and back in the mode it was in; buffers stay as they are, statistics and what terms remember."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _fake(draw: Any) -> Any:
    """What the discriminator takes for made, None where nobody makes anything."""
    makes = {"decoder", "generator"} & draw.model.networks.keys()
    return draw.fake if makes and hasattr(type(draw), "fake") else None


def _made(draw: Any) -> Any:
    """The same, as data are: what a fake is decoded to, where the game is played among codes."""
    return draw.sample if hasattr(type(draw), "sample") else _fake(draw)


def _verdict(model: Any, x: Tensor) -> Tensor:
    """(B,): the mean where there are several; (B / m,) of packs of m, what is left over left out."""
    whole = len(x) - len(x) % pack(model.discriminator)
    logits: Tensor = model.discriminator(x[:whole])[0]
    return logits.float().reshape(len(logits), -1).mean(1)


def _above(a: Tensor, b: Tensor) -> float:
    """P(a > b), ties half."""
    gap = a[:, None] - b[None]
    return float(((gap > 0).float() + (gap == 0).float() / 2).mean())


def _cosines(directions: dict[str, dict[str, Tensor]]) -> Iterator[tuple[str, float]]:
    for network, by_term in directions.items():
        terms = list(by_term)
        for i, one in enumerate(terms):
            for other in terms[i + 1 :]:
                a, b = by_term[one], by_term[other]
                yield f"{one}~{other}/{network}", float((a @ b) / (a.norm() * b.norm()).clamp(min=1e-30))


def _nearest(x: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) distances of x (n, F) to the nearest of others (m, F), and which those are."""
    distance, index = torch.cdist(x, others).min(1)
    return distance, index


def _error(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


def _nats_to_normal(z: Tensor) -> float:
    """Sum over dimensions of KL(N(mean, variance) || N(0, 1)) of codes z (N, d), in nats, less what chance makes of it."""
    mean, variance = z.mean(0), z.var(0).clamp(min=1e-12)
    by_chance = 0.75 * z.shape[1] / len(z)  # (1 + 1/2) / (2 N) a dimension, for N draws from N(0, 1) itself
    return float(0.5 * (variance + mean.square() - 1 - variance.log()).sum()) - by_chance


def _coarse(x: Tensor) -> Tensor:
    """(B, F): pictures averaged to at most 8 x 8, waves likewise as spectra of eight windows, everything else as it is."""
    if x.dim() == 3 and x.shape[1] == 1:  # the same sound at another phase is far away, sample by sample
        windows = x[..., : x.shape[2] // 8 * 8].unflatten(2, (8, -1))
        x = (torch.fft.rfft(windows).abs() + FAINT).log()
    if x.dim() == 4 and max(x.shape[2:]) > 8:
        x = torch.nn.functional.adaptive_avg_pool2d(x, (min(8, x.shape[2]), min(8, x.shape[3])))
    return x.flatten(1).nan_to_num()  # what is broken is told by others; a look must not break a run


def _detail(x: Tensor) -> float:
    """Mean square of differences between neighbours along every axis but the first two; of series, and of waves, along time."""
    axes = range(2, x.dim()) if x.dim() == 4 or x.shape[1] == 1 else range(1, x.dim() - 1)
    return float(sum(x.diff(dim=axis).square().mean() for axis in axes))


def _centres(x: Tensor, count: int, seed: int) -> Tensor:
    """k-means, ten rounds from a random start."""
    centres = x[torch.randperm(len(x), generator=generator(seed, "centres"))[:count]]
    for _ in range(10):
        owner = torch.cdist(x, centres).argmin(1)
        members = torch.nn.functional.one_hot(owner, count).to(x)
        held = members.sum(0)
        centres = torch.where(held[:, None] > 0, members.T @ x / held.clamp(min=1)[:, None], centres)
    return centres
