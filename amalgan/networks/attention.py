"""Self-attention over an image: every pixel looks at all others, however far (SAGAN, Zhang et al. 2019, section 3).

    s_ij = f(x_i) . g(x_j)                                  how well pixel i answers pixel j, not divided by sqrt(d)
    beta_ji = exp(s_ij) / sum_i exp(s_ij)                   how much j looks at i: a softmax over the pixels looked at
    y_j = x_j + gamma v(sum_i beta_ji h(x_i))               gamma is learned and starts at 0

f, g, h, v are 1x1 convolutions without biases, so that spectral normalisation reaches all four. `watching` shows beta.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

# Numbers of one example's map up to which it is written out: that of 32 x 32 pixels looking at 16 x 16. On one CPU thread
# this takes half the time in bf16 up to there, and twice the time at four times as many.
WRITTEN_OUT = 2**18


def weights(queries: Tensor, keys: Tensor) -> Tensor:
    """beta (B, N, M): each row is how much one of the queries (B, N, d) looks at each of the keys (B, M, d).

    In fp32 or better: a score of 20 rounded to bf16 is off by up to 0.06, and its share by as many hundredths.
    """
    precise = torch.promote_types(queries.dtype, torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        return torch.softmax(queries.to(precise) @ keys.to(precise).mT, -1)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """beta h: (B, N, e) for queries (B, N, d), keys (B, M, d) and values (B, M, e), e >= d; differentiable twice."""
    if queries.shape[1] * keys.shape[1] > WRITTEN_OUT:
        looked: Tensor = Fused.apply(queries, keys, values)
        return looked
    return weights(queries, keys).to(values.dtype) @ values


class Fused(torch.autograd.Function):
    """`attend` by torch's fused attention, which never holds the map (B, N, M).

    That cannot be differentiated twice, which penalties on the discriminator's slope ask for. So it goes forward, and
    backward too, except where that is to be differentiated once more: there the slopes are written out.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(queries, keys, values)
        return _fused(queries, keys, values)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, ...]:
        saved = ctx.saved_tensors  # once: where they are computed again, they are not twice
        if not torch.is_grad_enabled():
            with torch.enable_grad():
                inputs = [t.detach().requires_grad_() for t in saved]
                return torch.autograd.grad(_fused(*inputs), inputs, slope)
        beta = weights(*saved[:2])
        with torch.autocast(slope.device.type, enabled=False):
            queries, keys, values, slope = (t.to(beta.dtype) for t in (*saved, slope))
            by_beta = slope @ values.mT
            by_score = beta * (by_beta - (beta * by_beta).sum(-1, keepdim=True))
            return by_score @ keys, by_score.mT @ queries, beta.mT @ slope


def _fused(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """On a CPU only vectors of one width are fused, so zeros are added to the shorter ones: that changes no product."""
    missing = values.shape[2] - queries.shape[2]
    q, k, v = (t.unsqueeze(1) for t in (pad(queries, (0, missing)), pad(keys, (0, missing)), values))
    return scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)


class SelfAttention(nn.Module):
    """x (B, C, H, W) -> y (B, C, H, W).

    The paper's f, g and h have C / 8 channels. The code that its authors released (brain-research/self-attention-gan)
    differs: f(x) and h(x) are max-pooled 2x2, which is four times cheaper, and h has C / 2 channels.

    Arguments:
        channels: C.
        released: as in the released code; else as in the paper.
    """

    def __init__(self, channels: int, released: bool = False) -> None:
        super().__init__()
        narrow = max(1, channels // 8)
        wide = max(1, channels // 2) if released else narrow
        self.f, self.g, self.h, self.v = (
            nn.Conv2d(before, after, 1, bias=False)
            for before, after in ((channels, narrow), (channels, narrow), (channels, wide), (wide, channels))
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True) if released else nn.Identity()
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        f, g, h = self.pool(self.f(x)), self.g(x), self.pool(self.h(x))
        looked = attend(_pixels(g), _pixels(f), _pixels(h))
        return x + self.gamma * self.v(looked.mT.unflatten(2, x.shape[2:]))

    def maps(self, x: Tensor, row: int, column: int) -> Tensor:
        """How much one pixel looks at all others: (B, H', W'), half the sides where f(x) is pooled; each map sums to 1."""
        keys = self.pool(self.f(x))
        query = self.g(x)[:, :, row, column].unsqueeze(1)
        return weights(query, _pixels(keys)).view(len(x), *keys.shape[2:])


@contextlib.contextmanager
def watching(network: nn.Module, places: Sequence[tuple[float, float]]) -> Iterator[dict[str, Tensor]]:
    """Where each self-attention within a network looks from some places, whenever the network is used meanwhile:

        with torch.no_grad(), watching(model, [(0.5, 0.5)]) as maps:
            model.decode(z)
        maps["decoder.levels.attention.16"]  # (B, 1, 16, 16)

    Arguments:
        network: a network, or a model with several.
        places: P of them, (down, right), shares of height and width in [0, 1): one place on maps of all sizes.

    Yields names of layers -> (B, P, H', W'), of which each map sums to 1; they are filled in as the layers are used.
    """
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[SelfAttention, tuple[Tensor]], None]:
        def look(layer: SelfAttention, given: tuple[Tensor]) -> None:
            (x,) = given
            pixels = [(int(down * x.shape[2]), int(right * x.shape[3])) for down, right in places]
            found[name] = torch.stack([layer.maps(x, *pixel) for pixel in pixels], 1)

        return look

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, SelfAttention)]
    watches = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers]
    try:
        yield found
    finally:
        for hook in watches:
            hook.remove()


def _pixels(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C)."""
    return x.flatten(2).mT.contiguous()  # no fused kernel takes another order, nor says so
