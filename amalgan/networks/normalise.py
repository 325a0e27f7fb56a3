"""Spectral normalisation: no layer lengthens what it is given.

    W_SN = W / sigma(W),  sigma(W) = max |W h| / |h|                            (Miyato et al. 2018, equation 8)

sigma is followed by one step of the power method at every pass in training, v <- W^T W v / |W^T W v|; v is a buffer, saved
and resumed with the weights. With units of slope at most 1, such as leaky ones, a network of linear layers has a slope of
at most 1. The W of a convolution is its kernel as a matrix, as in the paper's experiments: what it does to a whole image
may be longer.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

from amalgan.errors import UsageError

Network = TypeVar("Network", bound=nn.Module)
STEPS = 15  # of the power method, before the first pass


class Unit(nn.Module):
    """W -> W / sigma(W), sigma = |W v| / |v|.

    torch's own has sigma = u^T W v, with u and v of length 1. Means of them over training are shorter, so what is read
    from averaged weights would be longer than 1, and was by up to a fifth for attention in a generator.
    """

    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("v", torch.randn_like(weight[0].flatten(), requires_grad=False))
        for _ in range(STEPS):
            self._follow(weight.flatten(1))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            if self.training:
                self._follow(matrix)
            v = self.v.clone()  # the next pass moves it, while this one's slope is still to be taken
            return weight / ((matrix @ v).norm() / v.norm())

    @torch.no_grad()
    def _follow(self, matrix: Tensor) -> None:
        self.v.copy_(normalize(matrix.mT @ (matrix @ self.v), dim=0))


def spectral(network: Network) -> Network:
    """The same network, every linear and convolutional layer of it divided by its largest singular value.

    Raises:
        UsageError: a network with recurrent layers, or without any that could be normalised.
    """
    if any(isinstance(module, nn.RNNBase) for module in network.modules()):
        raise UsageError("spectral normalisation", "recurrent layers", "use a penalty on the slope, --r1 or --r2")
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    if not layers:
        raise UsageError("spectral normalisation", "a network without linear or convolutional layers", "leave it out")
    for layer in layers:
        if not layer.weight.any():  # as some of residual networks start, which this divides by zero: here they need not
            layer.reset_parameters()
        parametrize.register_parametrization(layer, "weight", Unit(layer.weight))
    return network
