"""How far apart two sets lie, as a discriminator would put it: the Jensen-Shannon divergence, from samples.

For the best discriminator, E_p[log D] + E_q[log(1 - D)] = -2 log 2 + 2 JSD(p, q) (Goodfellow et al. 2014, theorem 1),
and any other one's value is less. So a discriminator that is trained on one half of the samples and asked about the
other half gives, on average, no more than the truth:

    JSD(p, q) >= log 2 + 1/2 (E_p[log D] + E_q[log(1 - D)])        in nats, between 0 and log 2

That is why a discriminator's loss says so little. It is the divergence as far as this discriminator, on these many
examples, has seen it; and once no example is mistaken it stands at log 2 however near the two sets lie. Images fill so
little of pixel space that any two models are told apart (Arjovsky and Bottou 2017, theorem 2.2): there a value of log 2
means "not the same", and nothing about how far.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import softplus

from amalgan.errors import UsageError
from amalgan.noise import generator, key

WIDTH, STEPS, BATCH, RATE = 64, 600, 128, 3e-3  # of the discriminator that measures
LOOK = 10  # steps between two looks at examples that choose when it stops


class Divergence(NamedTuple):
    """JSD in nats, its 95 % interval as a measurement, and how many held-out examples were mistaken for the other kind.

    The interval is that of the bound: the truth may lie above it, by what a better discriminator would see.
    """

    value: float
    low: float
    high: float
    mistaken: int
    n: int

    @property
    def saturated(self) -> bool:
        """Whether hardly an example was mistaken: then log 2 is all that can be said, near or far."""
        return self.mistaken <= 0.005 * self.n

    @property
    def sentence(self) -> str:
        """What the number means."""
        value, low, high = (round(number, 3) + 0.0 for number in (self.value, self.low, self.high))  # no -0.000
        told = f"JSD at least {value:.3f} nats [{low:.3f}, {high:.3f}] of log 2 = 0.693"
        if self.saturated:
            return (
                f"{told}: {self.mistaken} of {self.n} examples were mistaken, so it says that the sets differ and not by "
                "how much; sets that hardly differ give the same wherever they are narrow"
            )
        if self.low <= 0:
            return f"{told}: {self.n} examples do not tell the two apart"
        return f"{told}: {self.mistaken} of {self.n} examples were mistaken"


def jensen_shannon(real: Tensor, fake: Tensor, seed: int = 0) -> Divergence:
    """JSD between what two sets (n, F) and (m, F) were drawn from, by discriminators on halves they were not trained on.

    Raises:
        UsageError: shapes differ, or fewer than 40 examples of a kind.
    """
    if real.dim() != 2 or fake.dim() != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) < 40:
        found = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise UsageError("a divergence", found, "give two matrices (n, F) and (m, F) of 40 rows or more")
    both = torch.cat([real, fake]).float()
    scaled = (both - both.mean(0)) / both.std(0).clamp(min=1e-8)
    halves = [
        [part[torch.randperm(len(part), generator=generator(seed, "halves"))[half::2]] for half in (0, 1)]
        for part in scaled.split([len(real), len(fake)])
    ]
    verdicts: list[list[Tensor]] = [[], []]
    for half in (0, 1):
        judge = _trained(halves[0][1 - half], halves[1][1 - half], key(seed, half))
        for kind in (0, 1):
            verdicts[kind].append(judge(halves[kind][half]).squeeze(1).double())
    of_real, of_fake = torch.cat(verdicts[0]), torch.cat(verdicts[1])
    terms = [-softplus(-of_real), -softplus(of_fake)]  # log D, log(1 - D)
    value = math.log(2) + sum(float(t.mean()) for t in terms) / 2
    error = math.sqrt(sum(float(t.var()) / len(t) for t in terms)) / 2
    mistaken = int((of_real <= 0).sum() + (of_fake > 0).sum())  # undecided about all, it mistakes half of them
    return Divergence(value, value - 1.96 * error, value + 1.96 * error, mistaken, len(of_real) + len(of_fake))


def _trained(real: Tensor, fake: Tensor, seed: int) -> nn.Module:
    """A discriminator, stopped where a fifth of its examples, which it does not learn from, was told apart best."""
    kept = [part.tensor_split([len(part) // 5]) for part in (real, fake)]
    asked, told = (
        torch.cat([kept[0][0], kept[1][0]]),
        torch.cat([torch.ones(len(kept[0][0])), torch.zeros(len(kept[1][0]))]),
    )
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        verdict = nn.Linear(WIDTH, 1)
        nn.init.zeros_(verdict.weight)  # it begins undecided
        nn.init.zeros_(verdict.bias)
        judge = nn.Sequential(
            *(nn.Linear(real.shape[1], WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU()), verdict
        )
        optimiser = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=0.01, fused=True)
        best, state = math.inf, {}
        for step in range(STEPS + 1):
            if step % LOOK == 0:
                with torch.no_grad():
                    loss = float(cross_entropy(judge(asked).squeeze(1), told))
                if loss < best:
                    best, state = loss, {name: value.clone() for name, value in judge.state_dict().items()}
            source = generator(seed, step)
            x = torch.cat([part[1][torch.randint(len(part[1]), (BATCH,), generator=source)] for part in kept])
            c = torch.arange(2 * BATCH) < BATCH
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / (STEPS + 1))
            optimiser.zero_grad()
            cross_entropy(judge(x).squeeze(1), c.float()).backward()
            optimiser.step()
    judge.load_state_dict(state)
    return judge.requires_grad_(False)
