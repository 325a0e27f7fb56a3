"""Terms that train nothing: numbers of a network that one wants to see in the log."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from amalgan.networks.attention import SelfAttention
from amalgan.objectives.core import Loss, Objective, Turn


class Gammas(Objective):
    """How much each network listens to its attention: gamma, 0 at the start, mean over its blocks; watched, not trained."""

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player != "generator":
            return
        for name, network in turn.draw.model.players().items():
            parts = network.modules() if network is not None else ()
            found = [part.gamma.detach() for part in parts if isinstance(part, SelfAttention)]
            if found:
                yield Loss(f"gamma {name}", torch.stack(found).mean(), (name,), weight=0.0)
