"""Sequences of tokens: a writer, and perhaps a reader that judges what it writes.

    log p(x) = sum_t log p(x_t | x_<t)                              token 0 ends a sequence, where sequences have ends

Samples are integers, so no gradient passes through them. What a token was worth is told by completing the sequence
from there: with D the reader and N completions y^n of the prefix x_1..x_t,

    Q(x_<t, x_t) = 1/N sum_n D(x_1..x_t, y^n),        Q(x_<T, x_T) = D(x)              (Yu et al. 2017, equation 4)
"""

from __future__ import annotations

from copy import copy, deepcopy
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from amalgan.data import Spec
from amalgan.models.core import Model
from amalgan.networks.conditions import Given, is_told
from amalgan.networks.sequences import START, Dropout, State, Writer
from amalgan.noise import Noise, uniform_rows

SCORED, BATCH = 4096, 256  # sequences that the reader scores, and the writer samples, at once
CHOSEN = 128  # tokens chosen at once: 128 rows of 5,000 logits are 2.5 MB


class SequenceDraw:
    """One play of a sequence model on a batch; each field is computed when first read, and kept.

    Fields: x (B, T) tokens, c (B,) or None, log_likelihood (B,) nats, fake (B, T) tokens without gradient, choices (B, T)
    log-probabilities of the fake's tokens, with gradient, 0 after its end, made (B, T) which of them count.
    """

    def __init__(self, model: SequenceModel, x: Tensor, c: Tensor | None, noise: Noise) -> None:
        self.model, self.x, self.c, self.noise = model, x, c, noise

    @cached_property
    def log_likelihood(self) -> Tensor:
        return self.model.token_log_probs(self.x).sum(1)

    @cached_property
    def fake(self) -> Tensor:
        return self.model.write(self.uniform("fake"))

    @cached_property
    def choices(self) -> Tensor:
        return self.model.token_log_probs(self.fake)

    @cached_property
    def made(self) -> Tensor:
        return self.model.alive(self.fake)

    def uniform(self, name: str, *more: int) -> Tensor:
        """(B, ..., T) numbers in [0, 1) from the named stream."""
        return self.noise.uniform(name, (len(self.x), *more, self.model.length))

    def action_values(self, rollouts: int, follow: float = 0.0) -> Tensor:
        """Q of the fake's tokens, (B, T): see `SequenceModel.action_values`."""
        uniform = self.uniform("rollouts", self.model.length - 1, rollouts)
        return self.model.action_values(self.fake, uniform, follow)


class SequenceModel(Model):
    """A writer of sequences of `length` tokens, and perhaps a reader.

    Arguments:
        spec: of text: shape (T,), and in its details the symbols and whether sequences end.
        generator: the writer.
        discriminator: the reader, or None.
    """

    def __init__(self, spec: Spec, generator: Writer, discriminator: nn.Module | None = None) -> None:
        super().__init__(spec)
        self.generator, self.discriminator = generator, discriminator
        self.length, self.ends = spec.shape[0], bool(spec.details.get("ends", True))
        self.rollout = deepcopy(generator).requires_grad_(False) if discriminator is not None else None
        self.rollout_started: Tensor
        self.register_buffer("rollout_started", torch.tensor(False))
        self.told: Tensor | None = None  # the labels (B,) of a batch, in a view that was given them

    def given(self, c: Tensor) -> SequenceModel:
        """The same networks, told the labels c (B,) of a batch of B."""
        view = copy(self)
        view.told = c
        if self.discriminator is not None and is_told(self.discriminator):
            view._modules = self._modules | {"discriminator": Given(self.discriminator, c)}
        return view

    def labels_of(self, n: int) -> Tensor | None:
        """The labels of n sequences, B in turn; None where none were given."""
        return None if self.told is None else self.told.repeat(n // len(self.told))

    def players(self) -> dict[str, nn.Module | None]:
        """The writer is the generator, the reader the discriminator."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> SequenceDraw:
        """One play on a batch x (B, T)."""
        return SequenceDraw(self, x, c, self.heard(noise))

    def heard(self, noise: Noise) -> Noise:
        """The noise of a draw, once its networks have been told of it."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.noise = noise
        return noise

    def alive(self, tokens: Tensor) -> Tensor:
        """Which tokens (B, T) count: up to the first end, itself included."""
        if not self.ends:
            return torch.ones_like(tokens, dtype=torch.bool)
        ended = (tokens == START).cumsum(1)
        return (ended - (tokens == START).long()) == 0

    def token_log_probs(self, tokens: Tensor) -> Tensor:
        """log p(x_t | x_<t) in nats, (B, T), 0 after the end."""
        logits = self.generator(tokens, self.labels_of(len(tokens))).float()
        chosen = log_softmax(logits, 2).gather(2, tokens.unsqueeze(2)).squeeze(2)
        return torch.where(self.alive(tokens), chosen, chosen.new_zeros(()))

    @torch.no_grad()
    def write(
        self, uniform: Tensor, prefix: Tensor | None = None, temperature: float = 1.0, writer: Writer | None = None
    ) -> Tensor:
        """Sequences (B, T) from uniform numbers (B, T), after a prefix (B, P) that they go on from."""
        writer = writer or self.generator
        batch = len(uniform)
        begun = writer.start(batch, self.labels_of(batch))
        state = writer.read(torch.full((batch,), START, device=uniform.device), begun)
        columns = [] if prefix is None else list(prefix.unbind(1))
        for column in columns:
            state = writer.read(column, state)
        return self._go_on(columns, state, uniform, temperature, writer)

    def _go_on(
        self, columns: list[Tensor], state: State, uniform: Tensor, temperature: float, writer: Writer
    ) -> Tensor:
        over = torch.zeros(len(uniform), dtype=torch.bool, device=uniform.device)
        for column in columns if self.ends else []:
            over |= column == START
        for t in range(len(columns), self.length):
            token = choose(writer, state[0], uniform[:, t], temperature)
            token = torch.where(over, START, token)
            columns.append(token)
            if self.ends:
                over |= token == START
            if t + 1 < self.length:
                state = writer.read(token, state)
        return torch.stack(columns, 1)

    @torch.no_grad()
    def action_values(self, tokens: Tensor, uniform: Tensor, follow: float = 0.0) -> Tensor:
        """Q of each token of the sequences, (B, T) in [0, 1]: the mean judgement of N completions from there.

        Arguments:
            tokens: (B, T).
            uniform: (B, T - 1, N, T) numbers in [0, 1), for N completions of each prefix.
            follow: how much of the rollout policy's weights is kept at each call, the rest being the writer's: 0.8 in
                the paper's text, 0 (the current writer) in what its released code does.
        """
        assert self.rollout is not None
        self._follow(follow)
        batch, length = tokens.shape
        rollouts = uniform.shape[2]
        lanes = batch * rollouts
        states = self.rollout.states(tokens, self.labels_of(batch))
        uniform = uniform.permute(1, 2, 0, 3).flatten(1, 2)
        done = tokens.new_empty(length - 1, lanes, length)
        # one growing batch: at each position the completions of all shorter prefixes go on together
        state = self.rollout.start(0)
        over = torch.zeros(0, dtype=torch.bool, device=tokens.device)
        for t in range(1, length):
            state = tuple(torch.cat([part, new.repeat(rollouts, 1)]) for part, new in zip(state, states[t]))
            done[t - 1, :, :t] = tokens[:, :t].repeat(rollouts, 1)
            finished = (
                (tokens[:, :t] == START).any(1) if self.ends else torch.zeros_like(tokens[:, 0], dtype=torch.bool)
            )
            over = torch.cat([over, finished.repeat(rollouts)])
            token = choose(self.rollout, state[0], uniform[:t, :, t].flatten())
            token = torch.where(over, START, token)
            done[:t, :, t] = token.view(t, lanes)
            if self.ends:
                over |= token == START
            if t + 1 < length:
                state = self.rollout.read(token, state)
        judged = self.judge(done.flatten(0, 1)).view(length - 1, rollouts, batch).mean(1)
        return torch.cat([judged, self.judge(tokens)[None]]).T

    def _follow(self, kept: float) -> None:
        kept = kept if self.rollout_started else 0.0
        for ours, theirs in zip(self.rollout.parameters(), self.generator.parameters()):  # type: ignore[union-attr]
            ours.lerp_(theirs, 1 - kept)
        self.rollout_started.fill_(True)

    @torch.no_grad()
    def judge(self, tokens: Tensor) -> Tensor:
        """The probability that each sequence is real, (B,), without dropout."""
        assert self.discriminator is not None
        training = self.discriminator.training
        self.discriminator.eval()
        whole = SCORED - SCORED % (1 if self.told is None else len(self.told))  # batches, whose labels are in turn
        logits = torch.cat([self.discriminator(part)[0] for part in tokens.split(whole)])
        self.discriminator.train(training)
        return torch.sigmoid(logits.float())

    def sample(
        self, n: int, seed: int = 0, prefix: Tensor | None = None, temperature: float = 1.0, c: Tensor | None = None
    ) -> Tensor:
        """n sequences (n, T); sample i is the same whatever n.

        Arguments:
            prefix: (P,) tokens that all of them begin with.
            temperature: below 1 likelier tokens become likelier still: better lines, and fewer different ones.
            c: (n,) labels, of a model that is told such.
        """
        device = self.generator.logits.weight.device
        whole = -(-n // BATCH) * BATCH  # batches of one size: the size decides how a matrix product rounds
        uniform = uniform_rows(whole, (self.length,), seed, "prior").to(device)
        starts = None if prefix is None else prefix.to(device).expand(BATCH, -1)
        told = [self] * (whole // BATCH)
        if c is not None:
            c = torch.cat([c, c.new_full((whole - n,), -1)]).to(device)
            told = [self.given(some) for some in c.split(BATCH)]
        parts = zip(told, uniform.split(BATCH))
        return torch.cat([model.write(part, starts, temperature) for model, part in parts])[:n]


def choose(writer: Writer, h: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """The next token (B,) after states h (B, H), from numbers uniform (B,); in parts that stay in the cache."""
    parts = zip(h.split(CHOSEN), uniform.split(CHOSEN))
    return torch.cat([pick(writer.logits(some) / temperature, numbers) for some, numbers in parts])


def pick(logits: Tensor, uniform: Tensor) -> Tensor:
    """A token (B,) for each row of logits (B, V): the inverse of the cumulative distribution at uniform (B,).

    Six times as fast as torch.multinomial at 5,000 tokens, and the same for the same number on every machine but for
    rounding.
    """
    logits = logits.float()
    cumulative = (logits - logits.amax(1, keepdim=True)).exp_().cumsum_(1)
    # not divided by its last entry: the number is multiplied by it, and never falls beyond
    found = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True).squeeze(1)
    return found.clamp(max=logits.shape[1] - 1)
