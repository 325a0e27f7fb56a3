"""Spectral normalisation: no layer lengthens what it is given.

    W_SN = W / sigma(W),  sigma(W) = max |W h| / |h|                            (Miyato et al. 2018, equation 8)

sigma is followed by one step of the power method at every pass in training: u <- W v / |W v|, v <- W^T u / |W^T u|; u
and v are buffers, saved and resumed with the weights. With units of slope at most 1, such as leaky ones, a network of
linear layers has a slope of at most 1. The W of a convolution is its kernel as a matrix, as in the paper's experiments:
what it does to a whole image may be longer.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrizations

from amalgan.errors import UsageError

Network = TypeVar("Network", bound=nn.Module)


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
        parametrizations.spectral_norm(layer)
    return network
