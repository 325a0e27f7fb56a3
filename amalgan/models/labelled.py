"""Models of data with conditions: their networks are told what they make, judge and encode.

    z ~ q(z|x, c),  p(x|z, c)                                                 (Sohn et al. 2015)
    fake = G(z, c),  D(x, c), D(fake, c)                                      (Mirza and Osindero 2014; RCGAN for series)

A condition is a class, or several numbers that describe an example. Some are hidden while it trains, so that the model
makes examples without one, too (Ho and Salimans 2022, for diffusion); where the data lack them, they are unknown as well.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor

from amalgan.errors import UsageError
from amalgan.models.core import Model
from amalgan.models.latent import LatentDraw, LatentModel
from amalgan.models.priors import Mixture, MixtureByClass
from amalgan.models.sequences import SequenceDraw, SequenceModel
from amalgan.networks.conditions import Given, is_told
from amalgan.noise import Noise, uniform_rows

EXAMPLES = 1_000  # conditions of the training set that samples draw theirs from, where they are numbers
NEAREST = 100  # of those, that lend the numbers nobody named


class Conditions(Model):
    """A model whose data have conditions: those it has seen, those that are asked for, those that are hidden.

    Arguments as for the model that it is mixed into; the spec has classes, or numbers in its details. And

        hidden: the share of conditions that are hidden from all networks in training, in [0, 1).
    """

    def __init__(self, *args: Any, hidden: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hidden = hidden
        numbers = self.spec.details.get("numbers", [])
        # of the training set: how frequent classes are, or some of its numbers
        self.seen: Tensor
        of_classes = torch.full((len(self.spec.classes),), 1 / max(1, len(self.spec.classes)))
        self.register_buffer("seen", of_classes if self.spec.classes else torch.zeros(EXAMPLES, len(numbers)))

    def hide(self, x: Tensor, c: Tensor | None, noise: Noise) -> Tensor:
        """The conditions (B, ...) of a batch x (B, ...) that networks are told: in training some are hidden."""
        c = self.unknown(len(x)).to(x.device) if c is None else c
        if self.training and self.hidden > 0:
            hidden = noise.uniform("hidden", (len(x),)) < self.hidden
            c = torch.where(hidden.view(-1, *[1] * (c.dim() - 1)), self.unknown(len(x)).to(c), c)
        return c

    def unknown(self, n: int) -> Tensor:
        """n conditions of which nothing is known: -1 (n,), or NaN (n, K)."""
        return torch.full((n,), -1) if self.spec.classes else torch.full((n, self.seen.shape[1]), torch.nan)

    def labels(self, n: int, seed: int = 0) -> Tensor:
        """n conditions (n, ...), as frequent as in the training set; the i-th is the same for any n."""
        uniform = uniform_rows(n, (), seed, "labels")
        if not self.spec.classes:
            return self.seen.cpu()[(uniform * EXAMPLES).long().clamp(max=EXAMPLES - 1)]
        return torch.searchsorted(self.seen.cpu().cumsum(0), uniform, right=True).clamp(max=len(self.seen) - 1)

    def asked(self, label: str | None, n: int, seed: int = 0) -> Tensor:
        """n conditions (n, ...) in a person's words: None, as frequent as in the training set; "none", unknown; "each",
        the classes in turn; the name of a class, or part of what it says, where it says several things ("7" of "7 ann");
        or "name=value, ..." in the data's units, the other numbers as in training examples that are nearest in those.

        Raises:
            UsageError: no such class, number or value.
        """
        classes = self.spec.classes
        if label is None:
            return self.labels(n, seed)
        if label == "none":
            return self.unknown(n)
        if not classes:
            return self._numbers(label, n, seed)
        if label == "each":
            return torch.arange(n) % len(classes)
        found = [i for i, name in enumerate(classes) if name.lower() == label.lower()]
        place = classes.index(label) if label in classes else found[0] if len(found) == 1 else -1
        words = set(label.split())
        partly = [words <= set(of) for of in self.spec.details.get("factors", [])]
        if place < 0 and any(partly):
            share = (self.seen.cpu() * torch.tensor(partly)).cumsum(0)
            uniform = uniform_rows(n, (), seed, "labels") * share[-1]
            return torch.searchsorted(share, uniform, right=True).clamp(max=len(share) - 1)
        if place < 0:
            shown = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
            raise UsageError(f"examples labelled {label!r}", "no such label", f"write one of {shown}, each or none")
        return torch.full((n,), place)

    def _numbers(self, said: str, n: int, seed: int) -> Tensor:
        """(n, K) of "name=value, ..." in the units of the data. A model has never seen some numbers without the others, so
        those that are not named are lent by examples."""
        details = self.spec.details
        named: dict[int, float] = {}
        for part in said.split(","):
            name, _, value = (word.strip() for word in part.partition("="))
            try:
                k = details["numbers"].index(name)
                named[k] = (float(value) - details["mean"][k]) / details["deviation"][k]
            except ValueError:
                instead = f"write --label {details['numbers'][0]}=VALUE; known are {', '.join(details['numbers'])}"
                raise UsageError(f"examples with {part.strip()!r}", "no such name, or no number", instead) from None
        where, values = list(named), torch.tensor(list(named.values()))
        seen = self.seen.cpu()
        nearest = (seen[:, where] - values).square().sum(1).nan_to_num(torch.inf).argsort(stable=True)[:NEAREST]
        c = seen[nearest][(uniform_rows(n, (), seed, "labels") * NEAREST).long().clamp(max=NEAREST - 1)]
        c[:, where] = values
        return c

    @torch.no_grad()
    def begin(self, split: Any) -> None:
        """What is done once, before training: the conditions of the training set are counted, or some of them kept."""
        super().begin(split)
        c = split.c
        if c is None:
            return
        if self.spec.classes:
            self.seen.copy_(torch.bincount(c[c >= 0], minlength=len(self.seen)) / max(1, int((c >= 0).sum())))
        else:
            self.seen.copy_(c[torch.arange(EXAMPLES) % len(c)])


class LabelledSequences(Conditions, SequenceModel):
    """A model of sequences with labels: its writer, and its reader if it has one, are told them."""

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> SequenceDraw:
        """One play on a batch x (B, T) with labels c (B,), of which some are hidden in training."""
        c = self.hide(x, c, noise)
        return SequenceDraw(self.given(c), x, c, self.heard(noise))

    def sample(
        self, n: int, seed: int = 0, prefix: Tensor | None = None, temperature: float = 1.0, c: Tensor | None = None
    ) -> Tensor:
        """n sequences (n, T) with labels c (n,), by default those of `labels`."""
        return super().sample(n, seed, prefix, temperature, self.labels(n, seed) if c is None else c)


class LabelledModel(Conditions, LatentModel):
    """A latent model of data with conditions, told to those of its networks that take them beside x or z."""

    def given(self, c: Tensor) -> LatentModel:
        """The same networks, told the conditions c (B, ...) of a batch of B."""
        view = copy(self)
        view._modules = {
            name: Given(part, c) if part is not None and is_told(part) else part for name, part in self._modules.items()
        }
        return view

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> LatentDraw:
        """One play on a batch x (B, *shape) with conditions c (B, ...), of which some are hidden in training."""
        c = self.hide(x, c, noise)
        return LatentDraw(self.given(c), x, c, noise)

    def calibrate(self, split: Any, seed: int = 0) -> None:
        """Nothing: verdicts are about examples with their conditions, and a prior draws codes alone."""

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        prior: str = "fitted",
        start: int = 0,
        batch: int = 256,
        c: Tensor | None = None,
    ) -> Tensor:
        """n samples (n, *shape) with the conditions c (n, ...), by default those of `labels`."""
        device, p = self.seen.device, self.prior(prior)
        c = self.labels(start + n, seed)[start:] if c is None else c
        z = p.sample(n, seed, start, c) if isinstance(p, MixtureByClass) else p.sample(n, seed, start)
        z, c = z.to(device), c.to(device)
        parts = zip(z.split(batch), c.split(batch))
        return torch.cat([self.given(some).decode(part) for part, some in parts])

    def _mixture(self, components: int) -> Mixture:
        return MixtureByClass(components, self.latent) if self.spec.classes else super()._mixture(components)

    def _mixture_of(self, z: Tensor, c: Tensor | None, seed: int, components: int) -> Mixture:
        if c is None or not self.spec.classes:
            return super()._mixture_of(z, c, seed, components)
        return MixtureByClass.of(z, c, seed, components)
