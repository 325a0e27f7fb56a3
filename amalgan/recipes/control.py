"""Recipes of control: behaviour cloning, and generative adversarial imitation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.networks.control import Policy
    from amalgan.objectives import Objective
    from amalgan.training import Plan

Reward = Literal["softplus", "negative", "logit", "constant"]


def cloning(
    spec: Spec,
    *,
    width: int = 64,
    lr: float = 1e-3,
    batch: int = 256,
    ema: float = 0.99,
) -> Plan:
    """Behaviour cloning: do what was done where the like was seen (the baseline of all imitation).

    Arguments:
        width: of both hidden layers, >= 1.
        lr: Adam's step size.
        batch: demonstrated steps per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.models.control import ControlModel

    return _plan(ControlModel(spec, _policy(spec, width)), [(o.cloning(), 1.0)], {"generator": lr}, batch, ema)


def gail(
    spec: Spec,
    *,
    width: int = 64,
    reward: Reward = "softplus",
    cloned: float = 0.5,
    episodes: int = 8,
    epochs: int = 2,
    parts: int = 4,
    reach: float = 0.2,
    discount: float = 0.99,
    trace: float = 0.95,
    entropy: float = 1e-3,
    gradient_penalty: float = 0.1,
    critic_steps: int = 1,
    lr: float = 1e-3,
    policy_lr: float = 3e-4,
    value_lr: float = 1e-3,
    critic_lr: float = 3e-3,
    batch: int = 256,
    ema: float = 0.99,
) -> Plan:
    """Generative adversarial imitation: a policy, paid by a judge of what is seen and done (Ho and Ermon 2016).

    Arguments:
        width: of both hidden layers of the policy, the value and the judge, >= 1.
        reward: what a step is paid for the judge's logit: softplus, negative (its mirror), logit, or constant, which
            learns nothing from demonstrations and so tells whether the world gives the answer away.
        cloned: share of the steps that clone behaviour first, in [0, 1).
        episodes: played at each step.
        epochs: passes over them.
        parts: gradient steps of a pass.
        reach: how far the ratio of probabilities may move before nothing more is won, > 0.
        discount: of what is paid a step later, in [0, 1).
        trace: lambda of the advantages, in [0, 1]: 0 trusts the value, 1 what was paid.
        entropy: weight of the policy's entropy, >= 0.
        gradient_penalty: strength of the penalty on the judge's slope between demonstrated and played, >= 0.
        critic_steps: turns of the judge per step, each on fresh episodes, >= 1.
        lr: Adam's step size while behaviour is cloned.
        policy_lr: Adam's step size of the policy after that.
        value_lr: Adam's step size of the value.
        critic_lr: Adam's step size of the judge.
        batch: demonstrated steps per step.
        ema: decay of the moving average of the weights, in [0, 1); 0 for none.
    """
    from amalgan import objectives as o
    from amalgan.models.control import ControlModel
    from amalgan.networks.control import Judge, Value

    (rows,), seen = spec.shape, len(spec.details["mean"])
    model = ControlModel(spec, _policy(spec, width), Judge(rows, width), Value(seen, width), episodes)
    game = o.imitation(reward, discount, trace, reach, epochs, parts, entropy) + o.judge()
    if gradient_penalty > 0:
        game = game + o.OneCentred(gradient_penalty)
    stages = [(o.cloning(), cloned), (game, 1 - cloned)] if cloned > 0 else [(game, 1.0)]
    rates: dict[str, Any] = {
        "generator": lambda progress: lr if progress < cloned else policy_lr * tent((progress - cloned) / (1 - cloned)),
        "value": value_lr,
        "discriminator": critic_lr,
    }
    return _plan(model, stages, rates, batch, ema, critic_steps)


def tent(progress: float) -> float:
    """Up to 1 over the first fifth, then down to 0: judge and value learn first, and at the end the game comes to rest."""
    return min(progress / 0.2, (1 - progress) / 0.8)


def _policy(spec: Spec, width: int) -> Policy:
    from amalgan.networks.control import Choices, Numbers

    seen, choices = len(spec.details["mean"]), spec.details["choices"]
    return Choices(seen, choices, width) if choices else Numbers(seen, len(spec.details["low"]), width)


def _plan(
    model: Any,
    stages: list[tuple[Objective, float]],
    lr: dict[str, Any],
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
        clip=1.0,
    )
