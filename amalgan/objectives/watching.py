"""Terms that train nothing: numbers of a network that one wants to see in the log."""

from __future__ import annotations

from collections.abc import Iterator

from amalgan.networks.attention import SelfAttention
from amalgan.objectives.core import Loss, Objective, Turn


class Gammas(Objective):
    """How much each layer of self-attention counts: its gamma, 0 at the start; watched, not trained.

    Logged as "gamma", the network's name and the layer's own, which in residual networks is the height of its maps in px.
    """

    def losses(self, turn: Turn) -> Iterator[Loss]:
        if turn.player != "generator":
            return
        for name, network in turn.draw.model.players().items():
            for path, part in network.named_modules() if network is not None else ():
                if isinstance(part, SelfAttention):
                    gamma = part.gamma.detach()
                    yield Loss(f"gamma {name} {path.rpartition('.')[2]}", gamma, (name,), weight=0.0)
