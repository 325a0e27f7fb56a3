"""What several processes send is what the model on paper says: each network's gradients, once for each of its moves."""

from __future__ import annotations

import pytest
from torch import Tensor

from amalgan.training import distributed
from benchmarks import processes

MOVES = {
    "vae": {"encoder": 1, "decoder": 1},
    "gan": {"discriminator": 2, "decoder": 1},
    "vaegan": {"encoder": 1, "decoder": 1, "discriminator": 2},
}


@pytest.fixture
def _two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two processes that are alike, played alone: what is summed over both is twice what it has."""

    def act(operation: object, tensor: Tensor, *more: int) -> None:
        if operation in (processes.dist.all_reduce, processes.dist.reduce):
            tensor *= 2

    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "together", act)


@pytest.mark.usefixtures("_two")
@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_sends_the_gradients_of_each_move(name: str, parts: int) -> None:
    """Four bytes a weight and move, in however many parts the batch comes."""
    given = {"critic_steps": 2} if "discriminator" in MOVES[name] else {}
    made = processes.trainer(name, 8, width=4, latent=4, parts=parts, **given)
    bytes_of = {of: 4 * sum(p.numel() for p in parameters) for of, parameters in made.networks.items()}
    expected = sum(moves * bytes_of[of] for of, moves in MOVES[name].items())
    assert processes.sent(made, 2) == {"all_reduce": expected}


@pytest.mark.usefixtures("_two")
def test_shared_out_gradients_go_and_weights_come() -> None:
    made = processes.trainer("vaegan", 8, width=4, latent=4, shard=True)
    whole = 4 * sum(p.numel() for parameters in made.networks.values() for p in parameters)
    assert processes.sent(made, 2) == {"reduce": whole, "broadcast": whole}
