"""Recipes of text: likelihood, and SeqGAN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from amalgan.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from amalgan.data import Spec
    from amalgan.networks.sequences import Reader
    from amalgan.objectives import Objective
    from amalgan.objectives.core import Schedule
    from amalgan.training import Plan

HIDDEN = 0.1  # share of the labels that are hidden in training, so that one model writes with and without
Baseline = Literal["none", "mean"]
ReaderSize = Literal["small", "paper"]


def mle(
    spec: Spec,
    *,
    width: int = 32,
    lr: float = 1e-2,
    batch: int = 64,
    ema: float = 0.99,
) -> Plan:
    """Maximum likelihood: a recurrent network that says how likely each next token is (the baseline of every text GAN).

    Of labelled lines it is conditional: the label is told with every token, and hidden from a tenth of the lines.

    Arguments:
        width: of embedding and state, >= 1.
        lr: Adam's step size.
        batch: lines per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o

    model = _model(spec, width)
    return _plan(model, [(o.likelihood(), 1.0)], {"generator": lr}, batch, ema)


def seqgan(
    spec: Spec,
    *,
    width: int = 32,
    reader: ReaderSize = "small",
    dropout: float = 0.25,
    rollouts: int = 16,
    baseline: Baseline = "mean",
    follow: float = 0.0,
    likelihood: float = 0.0,
    pretrain: float = 0.8,
    judging: float = 0.1,
    critic_steps: int = 5,
    lr: float = 1e-2,
    policy_lr: float = 1e-3,
    critic_lr: float = 1e-4,
    batch: int = 64,
    ema: float = 0.99,
) -> Plan:
    """SeqGAN: likelihood, then the policy gradient of what a discriminator pays for each token (Yu et al. 2017).

    Of labelled lines it is conditional: the writer is told the label with every token, and the reader asks for it by
    projection (Miyato and Koyama 2018); it is hidden from a tenth of the lines.

    Arguments:
        width: of the writer's embedding and state, >= 1.
        reader: the discriminator's convolutions: small, or the paper's 1,720 maps, a hundred times the work.
        dropout: share of the reader's features that is dropped in training, in [0, 1).
        rollouts: completions of every prefix, from which a token's payment is the mean (N in the paper), >= 1.
        baseline: none as in the paper, or mean, which takes off the mean payment at the same position.
        follow: share of its own weights that the policy that completes keeps at each step: 0.8 in the paper's text, 0
            in what its released code does, in [0, 1).
        likelihood: weight of the likelihood beside the policy gradient, >= 0.
        pretrain: share of the steps that train by likelihood alone, in (0, 1).
        judging: share of the steps that train the discriminator alone, in (0, 1).
        critic_steps: turns of the discriminator per step, each on fresh samples, >= 1.
        lr: Adam's step size in the likelihood's stage.
        policy_lr: Adam's step size of the writer after it.
        critic_lr: Adam's step size of the discriminator.
        batch: lines per step.
        ema: decay of the moving average of the writer, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.networks.sequences import PAPER, Reader

    if pretrain + judging >= 1:
        raise UsageError(
            f"pretrain={pretrain} and judging={judging}", "no steps left for the policy gradient", "lower one of them"
        )
    size = PAPER if reader == "paper" else {}
    model = _model(spec, width, lambda: Reader(len(spec.details["symbols"]), spec.shape[0], dropped=dropout, **size))
    policy = o.policy_gradient(rollouts, baseline, follow)
    if likelihood > 0:
        policy = policy + likelihood * o.likelihood()
    stages = [(o.likelihood(), pretrain), (o.judge(), judging), (policy + o.judge(), 1 - pretrain - judging)]
    rates: dict[str, float | Schedule] = {
        "generator": lambda progress: lr if progress < pretrain else policy_lr,
        "discriminator": critic_lr,
    }
    return _plan(model, stages, rates, batch, ema, critic_steps)


def _model(spec: Spec, width: int, reader: Callable[[], Reader] | None = None) -> Any:
    """A writer, and a reader if one is made; told labels, if there are."""
    from amalgan.models.labelled import LabelledSequences
    from amalgan.models.sequences import SequenceModel
    from amalgan.networks.conditions import Projected, embedding
    from amalgan.networks.sequences import Writer

    writer = Writer(len(spec.details["symbols"]), width, classes=len(spec.classes))
    judge = reader() if reader else None
    if not spec.classes:
        return SequenceModel(spec, writer, judge)
    asking = Projected(judge, embedding(spec, judge.verdict.in_features)) if judge else None
    return LabelledSequences(spec, writer, asking, hidden=HIDDEN)


def _plan(
    model: Any,
    stages: list[tuple[Objective, float]],
    lr: dict[str, float | Schedule],
    batch: int,
    ema: float,
    critic_steps: int = 1,
) -> Plan:
    from amalgan.training import Plan

    return Plan(
        model=model,
        stages=stages,
        lr=lr,
        betas=dict.fromkeys(model.networks, (0.9, 0.999)),
        turns={"discriminator": critic_steps},
        batch=batch,
        ema=ema,
        clip=5.0 * model.length,  # 5 nats per token, as published: the loss is a sum over tokens
        precision="bf16",  # of the reader's convolutions; whatever a probability hangs on is fp32
    )
