"""Which density should be fitted to the codes of a trained encoder? Mixtures of Gaussians against normalising flows.

    python -m benchmarks.priors        table `priors` of docs/results/images.json; about ten CPU-minutes

One VAE on MNIST with a code of 64 dimensions, where a fitted prior matters most: with 8 dimensions, and on
Fashion-MNIST, samples from a fitted mixture are already as near to the data as reconstructions are. Every density is fitted to the
same codes of training images, and judged by 5,000 decoded samples against the validation split. The flow is a
RealNVP (Dinh et al. 2017): affine couplings with an orthogonal map before each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from amalgan import results, runs
from amalgan.metrics.evaluate import as_saved, sample_scores
from amalgan.models.priors import LOG_2PI, Mixture
from amalgan.results import Row
from benchmarks import jobs
from benchmarks.machine import ROOT, processor

LATENT, STEPS, SEED, SAMPLES, HELD_OUT = 64, 2000, 100, 5000, 5000


class Coupling(nn.Module):
    """y = (a, b exp(s(a)) + t(a)) with (a, b) = Q x; the scale s stays within 2."""

    def __init__(self, latent: int, units: int) -> None:
        super().__init__()
        self.half = latent // 2
        self.orthogonal: Tensor
        self.register_buffer("orthogonal", torch.linalg.qr(torch.randn(latent, latent))[0])
        self.net = nn.Sequential(
            *(nn.Linear(self.half, units), nn.SiLU(), nn.Linear(units, units), nn.SiLU()),
            nn.Linear(units, 2 * (latent - self.half)),
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def shift_and_scale(self, a: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = self.net(a).chunk(2, 1)
        return shift, 2 * torch.tanh(scale / 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (x @ self.orthogonal).tensor_split([self.half], 1)
        shift, scale = self.shift_and_scale(a)
        return torch.cat([a, b * scale.exp() + shift], 1), scale.sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        a, b = y.tensor_split([self.half], 1)
        shift, scale = self.shift_and_scale(a)
        return torch.cat([a, (b - shift) * (-scale).exp()], 1) @ self.orthogonal.T


class Flow(nn.Module):
    """p(z) of z standardised and sent through couplings to N(0, I)."""

    def __init__(self, z: Tensor, couplings: int, units: int) -> None:
        super().__init__()
        self.mean, self.deviation = z.mean(0), z.std(0)
        self.couplings = nn.ModuleList(Coupling(z.shape[1], units) for _ in range(couplings))

    def log_prob(self, z: Tensor) -> Tensor:
        x, log_determinant = (z - self.mean) / self.deviation, -self.deviation.log().sum()
        for coupling in self.couplings:
            x, more = coupling(x)
            log_determinant = log_determinant + more
        return log_determinant - 0.5 * (x.square() + LOG_2PI).sum(1)

    @torch.no_grad()
    def sample(self, n: int, seed: int) -> Tensor:
        x = torch.randn(n, len(self.mean), generator=torch.Generator().manual_seed(seed))
        for coupling in reversed(self.couplings):
            x = coupling.inverse(x)
        return x * self.deviation + self.mean

    def fit(self, z: Tensor, steps: int, batch: int = 512) -> Flow:
        optimiser = torch.optim.Adam(self.parameters(), lr=1e-3)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            loss = -self.log_prob(z[torch.randint(len(z), (batch,))]).mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 5.0)
            optimiser.step()
            falling.step()
        return self


def trained(data: Any) -> Any:
    """The VAE, trained once."""
    folder = ROOT / "runs" / "priors"
    if (folder / "model").is_dir():
        return runs.load(folder, data).model.eval()
    return runs.train("vae", data, steps=STEPS, seed=SEED, out=folder, threads=1, latent=LATENT).model.eval()


@torch.no_grad()
def codes(model: Any, data: Any) -> Tensor:
    """One z ~ q(z|x) for each training image, (N, d)."""
    source, made = torch.Generator().manual_seed(SEED), []
    for index in torch.arange(len(data.train)).split(500):
        posterior = model.posterior(data.train.batch(index)[0])
        made.append(posterior.sample(torch.randn(posterior.mean.shape, generator=source)).float())
    return torch.cat(made)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    data = jobs.opened("mnist")
    model, against = trained(data), jobs.judged("mnist", "validation", SAMPLES)
    z = codes(model, data)
    z, held_out = z[:-HELD_OUT], z[-HELD_OUT:]
    fits: dict[str, Callable[[], Any]] = {
        "mixture-10": lambda: Mixture(10, LATENT).fit(z),
        "mixture-30": lambda: Mixture(30, LATENT).fit(z),
        "mixture-100": lambda: Mixture(100, LATENT).fit(z),
        "mixture-300": lambda: Mixture(300, LATENT).fit(z),
        "mixture-100-of-20k-codes": lambda: Mixture(100, LATENT).fit(z[:20_000]),
        "flow-8x128": lambda: Flow(z, 8, 128).fit(z, 3000),
        "flow-12x256": lambda: Flow(z, 12, 256).fit(z, 6000),
    }

    def judge(samples: Tensor) -> dict[str, float]:
        with torch.no_grad():
            x = torch.cat([model.decode(part) for part in samples.split(256)])
        return {name: float(score[0]) for name, score in sample_scores(as_saved(x.float()), against).items()}

    floor = judge(held_out)  # real codes, that no density saw
    for name, fit in fits.items():
        before = time.process_time()
        prior = fit()
        took = time.process_time() - before
        with torch.no_grad():
            found = {**judge(prior.sample(SAMPLES, SEED)), "log_prob": float(prior.log_prob(held_out).mean())}
        rows = [
            Row(
                *("priors", name, metric, unit, better),
                value=found[metric],
                seeds=1,
                n=SAMPLES,
                floor=floor.get(metric),
                command="python -m benchmarks.priors",
                cpu_seconds=round(took, 1),
                device=f"{processor()}, 1 thread",
                note=f"VAE on MNIST, {LATENT} dimensions, {STEPS} steps, validation split; floor: codes of real images",
            )
            for metric, (unit, better) in METRICS.items()
        ]
        results.write("images", rows)
    results.show("images")


METRICS = {
    "frechet": ("squared features", "lower"),
    "coverage": ("share", "higher"),
    "log_prob": ("nats per held-out code", "higher"),
}


if __name__ == "__main__":
    main()
