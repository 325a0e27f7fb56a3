"""Networks for vectors and points: plain multilayer perceptrons, (B, D) in and out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from amalgan.networks.conditions import modulations


def mlp(sizes: list[int], unit: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given sizes with `unit` between them: mlp([2, 128, 128, 1])."""
    layers: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:]):
        layers += [nn.Linear(before, after), unit()]
    return nn.Sequential(*layers[:-1])


class Encoder(nn.Module):
    """x (B, D) -> raw code (B, out)."""

    def __init__(self, shape: tuple[int, ...], out: int, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.net = mlp([shape[0], *[width] * depth, out])

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Decoder(nn.Module):
    """z (B, d) -> raw (B, D_out); where it is told, every hidden layer is modulated by a second input (B, told)."""

    def __init__(self, shape: tuple[int, ...], latent: int, width: int = 128, depth: int = 2, told: int = 0) -> None:
        super().__init__()
        self.net = mlp([latent, *[width] * depth, shape[0]])
        self.modulations = modulations([width] * depth, told)

    def forward(self, z: Tensor, e: Tensor | None = None) -> Tensor:
        if e is None:
            return self.net(z)
        *hidden, last = (layer for layer in self.net if isinstance(layer, nn.Linear))
        for layer, modulation in zip(hidden, self.modulations):
            z = modulation(layer(z), e).relu()
        return last(z)


class Discriminator(nn.Module):
    """x (B, D) -> logits (B,) and features (B, width)."""

    def __init__(self, shape: tuple[int, ...], width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.trunk = mlp([shape[0], *[width] * depth, width])
        self.verdict = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = nn.functional.leaky_relu(self.trunk(x), 0.2)
        return self.verdict(features).squeeze(1), features
