"""Recipes of graphs: vectors of the vertices by edges against other pairs, and GraphGAN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.training import Plan

Negatives = Literal["walks", "uniform", "mixed"]
Baseline = Literal["none", "mean"]


def line(
    spec: Spec,
    *,
    width: int = 50,
    start: str = "netmf",
    lr: float = 1e-3,
    batch: int = 256,
) -> Plan:
    """Vectors that tell edges from pairs drawn uniformly: first-order LINE (Tang et al. 2015), the baseline of GraphGAN.

    Arguments:
        width: of a vertex's vector, >= 1.
        start: netmf, the vectors that DeepWalk tends to; random ones; or a file of vectors: what embed wrote, or word2vec's text.
        lr: Adam's step size.
        batch: edges per step.
    """
    from amalgan import objectives as o
    from amalgan.models.graphs import GraphModel
    from amalgan.networks.graphs import Embedding
    from amalgan.training import Plan

    model = GraphModel(spec, Embedding(len(spec.details["vertices"]), width), start=start)
    return Plan(
        model=model,
        stages=[(o.judge(on=("random",)), 1.0)],
        lr={"discriminator": lr},
        betas={"discriminator": (0.9, 0.999)},
        batch=batch,
        ema=0,
    )


def graphgan(
    spec: Spec,
    *,
    width: int = 50,
    start: str = "netmf",
    negatives: Negatives = "walks",
    baseline: Baseline = "mean",
    lr: float = 1e-3,
    critic_lr: float = 1e-3,
    batch: int = 256,
    ema: float = 0.99,
) -> Plan:
    """GraphGAN: a generator that walks to likely neighbours, and a discriminator of pairs (Wang et al. 2018).

    Arguments:
        width: of a vertex's vector, >= 1.
        start: of both networks: netmf, the vectors that DeepWalk tends to; random ones; or a file of vectors: what embed
            wrote, or word2vec's text.
        negatives: what the discriminator holds against edges: walks of the generator as published, pairs drawn uniformly,
            or both (mixed).
        baseline: none as in the paper, or mean, which takes off the mean payment of the batch.
        lr: Adam's step size of the generator.
        critic_lr: Adam's step size of the discriminator.
        batch: edges per step.
        ema: decay of the moving average of the generator, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.models.graphs import GraphModel
    from amalgan.networks.graphs import Embedding
    from amalgan.training import Plan

    count = len(spec.details["vertices"])
    model = GraphModel(spec, Embedding(count, width), Embedding(count, width), start)
    fakes = {"walks": ("fake",), "uniform": ("random",), "mixed": ("fake", "random")}[negatives]
    return Plan(
        model=model,
        stages=[(o.reinforce("minimax", baseline) + o.judge("minimax", fakes), 1.0)],
        lr={"generator": lr, "discriminator": critic_lr},
        betas=dict.fromkeys(model.networks, (0.9, 0.999)),
        batch=batch,
        ema=ema,
    )
