"""Where samples come from: p(z).

A trained encoder rarely fills N(0, I): the hole between the prior and the aggregate posterior
q(z) = mean over x of q(z|x) costs samples far more than the decoder does. So, after training, a prior is *fitted* to
q(z) and samples are drawn from that (Ghosh et al. 2020; Dai and Wipf 2019); N(0, I) stays available beside it.
Where there is a discriminator, it may have the last word on what is drawn from either.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from amalgan.noise import generator, key, rows

LOG_2PI = math.log(2 * math.pi)
ODDS = 2.0  # about how many draws a judged sample takes; measured on mixtures, more than 2 gain little
ATTEMPTS = 100  # of a judged sample; after so many the last one is kept


class StandardNormal(nn.Module):
    """p(z) = N(0, I) in d dimensions."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Tensor:
        """Rows `start` to `start + n` of an endless table of samples, (n, d)."""
        return rows(n, (self.latent,), seed, "prior", start=start)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats: (..., d) -> (...)."""
        return -0.5 * (z**2 + LOG_2PI).sum(-1)


class Mixture(nn.Module):
    """p(z) = sum_k w_k N(z; m_k, L_k L_k^T), full covariances, fitted by expectation maximisation.

    Arguments:
        components: K.
        latent: d.
    """

    def __init__(self, components: int, latent: int) -> None:
        super().__init__()
        self.weights: Tensor
        self.means: Tensor
        self.scales: Tensor
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, latent))
        self.register_buffer("scales", torch.eye(latent).repeat(components, 1, 1))  # lower triangular factors

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Tensor:
        """Rows `start` to `start + n` of an endless table of samples, (n, d)."""
        epsilon = rows(n, (self.means.shape[1] + 1,), seed, "prior", start=start).to(self.means)
        uniform = torch.special.ndtr(epsilon[:, 0])
        return self._of(torch.searchsorted(self.weights.cumsum(0), uniform), epsilon[:, 1:])

    def _of(self, component: Tensor, epsilon: Tensor) -> Tensor:
        """Draws (n, d) of the components (n,), from normal numbers (n, d)."""
        component = component.clamp(max=len(self.weights) - 1)
        return self.means[component] + torch.einsum("nij,nj->ni", self.scales[component], epsilon)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats: (..., d) -> (...)."""
        flat = z.reshape(-1, z.shape[-1])
        chunks = [torch.logsumexp(self._joint(part), 1) for part in flat.split(4096)]
        return torch.cat(chunks).view(z.shape[:-1])

    def _joint(self, z: Tensor) -> Tensor:
        """log w_k + log N(z_n; m_k, C_k), (N, K)."""
        columns = []
        identity = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        for weight, mean, scale in zip(self.weights, self.means, self.scales):
            # a product with the inverse factor: three times as fast as solving for every point
            whitened = (z - mean) @ torch.linalg.solve_triangular(scale, identity, upper=False).T
            log_determinant = scale.diagonal().log().sum()
            columns.append(weight.log() - log_determinant - 0.5 * (whitened.square().sum(1) + z.shape[1] * LOG_2PI))
        return torch.stack(columns, 1)

    @torch.no_grad()
    def fit(self, z: Tensor, seed: int = 0, iterations: int = 30, ridge: float = 1e-3) -> Mixture:
        """Maximise mean log p(z) from z (N, d) by EM from a k-means++ start; `ridge` is added to variances, relative.

        Stops early when the mean log likelihood rises by less than 0.02 nats. Points that belong to a component with
        less than 1e-5 are left out of its moments: in many dimensions those are nearly all points, and nearly all work.
        """
        z = z.float()
        latent = z.shape[1]
        components = len(self.weights)
        shared = torch.cov(z.double().T).reshape(latent, latent)
        floor = ridge * shared.diagonal().mean() * torch.eye(latent, dtype=shared.dtype, device=z.device)
        owner = torch.cdist(z, _spread_centres(z, components, seed)).argmin(1)
        responsibility = torch.nn.functional.one_hot(owner, components).to(z)
        borrowed = 0.1 * latent  # a component that owns fewer points than dimensions takes on the shape of the whole
        before = -math.inf
        for _ in range(iterations):
            mass = responsibility.sum(0).clamp(min=1e-8)
            self.weights = mass / mass.sum()
            self.means = responsibility.T @ z / mass[:, None]
            for k, (mean, r) in enumerate(zip(self.means, responsibility.T)):
                mine = (r > 1e-5).nonzero().squeeze(1)
                gap = z[mine] - mean
                covariance = ((gap.T * r[mine]) @ gap + borrowed * shared) / (mass[k] + borrowed)
                self.scales[k] = torch.linalg.cholesky(covariance + floor)
            joint = self._joint(z)
            total = torch.logsumexp(joint, 1)
            responsibility = torch.exp(joint - total[:, None])
            after = float(total.mean())
            if after - before < 0.02:
                break
            before = after
        return self


class MixtureByClass(Mixture):
    """p(z | c): a mixture for the codes of each class; without a class, all of them together.

    What a code says of the class, the decoder need not be told: a code drawn for any class and the word for another
    contradict each other, and on MNIST the code wins (28 % of such samples were of the class that was asked for).

    Arguments:
        components: K, of all classes together.
        latent: d.
    """

    def __init__(self, components: int, latent: int) -> None:
        super().__init__(components, latent)
        self.classes: Tensor  # of each component, -1 for codes of unknown class
        self.register_buffer("classes", torch.full((components,), -1))

    def sample(self, n: int, seed: int = 0, start: int = 0, c: Tensor | None = None) -> Tensor:
        """Rows `start` to `start + n` of an endless table of samples, (n, d), for classes c (n,), -1 for any."""
        if c is None:
            return super().sample(n, seed, start)
        epsilon = rows(n, (self.means.shape[1] + 1,), seed, "prior", start=start).to(self.means)
        c = c.to(self.classes)[:, None]
        fits = (c == self.classes) | (c < 0)
        fits |= ~fits.any(1, keepdim=True)  # a class without codes: any
        share = (self.weights * fits).cumsum(1)
        uniform = torch.special.ndtr(epsilon[:, :1]) * share[:, -1:]
        return self._of(torch.searchsorted(share, uniform).squeeze(1), epsilon[:, 1:])

    @staticmethod
    def of(z: Tensor, c: Tensor, seed: int, components: int) -> MixtureByClass:
        """Fitted to codes z (N, d) of classes c (N,): about so many components, at least 20 examples each."""
        parts, classes = [], c.unique().tolist()
        for label in classes:
            mine = z[c == label]
            count = max(1, min(round(components / len(classes)), len(mine) // 20))
            parts.append((label, len(mine) / len(z), Mixture(count, z.shape[1]).fit(mine, seed)))
        made = MixtureByClass(sum(len(part.weights) for _, _, part in parts), z.shape[1])
        made.weights = torch.cat([share * part.weights for _, share, part in parts])
        made.means, made.scales = (
            torch.cat([getattr(part, name) for _, _, part in parts]) for name in ("means", "scales")
        )
        made.classes = torch.cat([torch.full((len(part.weights),), label) for label, _, part in parts])
        return made


class Judged:
    """p(z) ~ p_0(z) min(1, r(z) / m), r = p_data / p_model at the sample of z: what a discriminator takes for data is kept.

    The samples then follow min(p_data, m p_model): where the generator makes too much, as on the ways between modes,
    the excess is drawn again, and what it makes m times too rarely still comes as often as it should. Nothing brings
    back what it never makes. (Azadi et al. 2019, where m is the largest r: in many dimensions next to nothing passes.)

    Arguments:
        prior: p_0.
        log_ratio: z (n, d) -> log r (n,), see `calibrated`.
        odds: m >= 1. A sample takes about m draws.
    """

    def __init__(
        self, prior: StandardNormal | Mixture, log_ratio: Callable[[Tensor], Tensor], odds: float = ODDS
    ) -> None:
        self.prior, self.log_ratio, self.odds = prior, log_ratio, odds

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Tensor:
        """Rows `start` to `start + n` of an endless table of samples, (n, d)."""
        z = self.prior.sample(n, seed, start)
        again = torch.arange(n)
        for attempt in range(ATTEMPTS):
            luck = torch.special.ndtr(rows(n, (), seed, "verdict", attempt, start=start))[again]
            again = again[luck.log() > self.log_ratio(z[again]).cpu() - math.log(self.odds)]
            if not len(again):
                break
            z[again] = self.prior.sample(n, key(seed, "drawn again", attempt), start)[again]
        return z


def calibrated(real: Tensor, fake: Tensor) -> Tensor:
    """(a, b) for which a D + b estimates log p_data / p_model, from verdicts D on as many real as generated examples.

    A logistic regression whose targets lie just inside 0 and 1 (Platt 1999), so that verdicts that tell all apart give
    a finite slope; a >= 0. On real examples that the discriminator was not trained on, or r is too sure of itself
    (Turner et al. 2019, section 3.1).
    """
    verdicts = torch.cat([real, fake]).double().cpu()
    centre, spread = verdicts.mean(), verdicts.std().clamp(min=1e-12)
    x = (verdicts - centre) / spread
    inside = 1 / (len(real) + 2)
    target = torch.cat([torch.full((len(real),), 1 - inside), torch.full((len(fake),), inside)]).double()
    line = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = binary_cross_entropy_with_logits(line[0] * x + line[1], target)
        value.backward()
        return value.detach()

    with torch.enable_grad():
        search.step(loss)
    slope, offset = line.detach()
    if slope <= 0:  # verdicts that say nothing
        return torch.zeros(2)
    return torch.stack([slope / spread, offset - slope * centre / spread]).float()


def _spread_centres(z: Tensor, count: int, seed: int) -> Tensor:
    """k-means++ seeding (Arthur and Vassilvitskii 2007): each next centre drawn with probability ~ squared distance."""
    source = generator(seed, "k-means++")
    centres = [z[int(torch.randint(len(z), (1,), generator=source))]]
    nearest = (z - centres[0]).square().sum(1)
    for _ in range(count - 1):
        if float(nearest.sum()) == 0.0:
            pick = int(torch.randint(len(z), (1,), generator=source))
        else:
            pick = int(torch.multinomial(nearest.cpu(), 1, generator=source))
        centres.append(z[pick])
        nearest = torch.minimum(nearest, (z - centres[-1]).square().sum(1))
    return torch.stack(centres)
