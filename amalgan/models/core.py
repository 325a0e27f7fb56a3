"""What all models share: named networks that terms may move, and what is done once, after training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from amalgan.noise import Noise

if TYPE_CHECKING:
    from amalgan.data import Spec


class Model(nn.Module):
    """Networks that play together. Abstract; none knows a loss.

    Arguments:
        spec: what the data looks like.
    """

    has_encoder = has_density = False

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.config: dict[str, Any] = {}  # how to build this model again: recipe and arguments

    def players(self) -> dict[str, nn.Module | None]:
        """The networks by the names under which terms move them; None where this model lacks one."""
        raise NotImplementedError

    @property
    def networks(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each network that a term may move."""
        return {name: list(part.parameters()) for name, part in self.players().items() if part is not None}

    def draw(self, x: Tensor, c: Tensor | None, noise: Noise) -> Any:
        """One play on a batch: see `amalgan.objectives.core.Draw`."""
        raise NotImplementedError

    def begin(self, split: Any) -> None:
        """What is done once, before training, with the data's training split; by default nothing."""

    def finish(self, data: Any, seed: int = 0) -> None:
        """What is done once, after training, with the data's training and validation splits; by default nothing."""

    def grown(self) -> dict[str, Any]:
        """What `finish` added that the recipe's arguments do not say, for `grow`."""
        return {}

    def grow(self, grown: dict[str, Any]) -> None:
        """Make room for what a finished model holds, before its weights are loaded."""
