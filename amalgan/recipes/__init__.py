"""Named models: one function each, whose signature is its configuration.

A recipe takes the data's `Spec` and keyword arguments, and returns a `Plan`: networks chosen from the spec, the sum of
terms to minimise, and step sizes. The keyword arguments are the flags of the command line and the JSON of a run folder.

    ae        reconstruction
    vae       reconstruction + beta KL
    gan       a game
    vaegan    vae(beta) + lam * gan(game)            in three forms: joint, learned similarity, two-stage
    aae       reconstruction + a game of codes     bigan      a game of pairs of examples and codes
    infogan   a game + information                 cvaegan    vaegan with labels, classified, with features matched
    sagan     a game of normalised networks that look far     r3gan    a game + slopes, of residual networks
    wavegan, specgan                                 a game + slopes, of waves and of spectrograms, between long strides
    cloning   likelihood of demonstrated actions     of a policy
    gail      cloning, then imitation                against a judge of what is seen and done
    mle       likelihood                             of sequences of tokens
    seqgan    likelihood, then policy gradient       against a discriminator of whole sequences
    line      a discriminator alone                  of edges against pairs of vertices drawn uniformly
    graphgan  policy gradient                        of walks, against a discriminator of pairs of vertices
    rvae, rgan, rvaegan                              the same sums of recurrent networks, of time series
    timegan   embedding, supervision, then a game    between codes of time series
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from amalgan import modalities, signatures
from amalgan.errors import UsageError
from amalgan.recipes.control import cloning, gail
from amalgan.recipes.graphs import graphgan, line
from amalgan.recipes.images import Form, Game, ae, gan, vae, vaegan
from amalgan.recipes.relatives import aae, bigan, cvaegan, infogan
from amalgan.recipes.residual import r3gan, sagan
from amalgan.recipes.series import rgan, rvae, rvaegan, timegan
from amalgan.recipes.sound import specgan, wavegan
from amalgan.recipes.text import mle, seqgan

if TYPE_CHECKING:
    from amalgan.data import Spec
    from amalgan.modalities import Modality
    from amalgan.training import Plan

__all__ = [
    "RECIPES",
    "Form",
    "Game",
    "aae",
    "ae",
    "bigan",
    "check",
    "cloning",
    "cvaegan",
    "gail",
    "gan",
    "graphgan",
    "infogan",
    "line",
    "mle",
    "modality",
    "parameters",
    "plan",
    "r3gan",
    "rgan",
    "rvae",
    "rvaegan",
    "sagan",
    "seqgan",
    "specgan",
    "timegan",
    "vae",
    "vaegan",
    "wavegan",
]

PICTURED = (ae, vae, gan, vaegan, aae, bigan, infogan, cvaegan, r3gan, sagan)
KINDS: dict[str, tuple[Callable[..., Plan], ...]] = {  # by the modality that they take
    "images": PICTURED,
    "sound": PICTURED,
    "waves": (wavegan,),
    "spectra": (specgan,),
    "text": (mle, seqgan),
    "edges": (line, graphgan),
    "control": (cloning, gail),
    "series": (rvae, rgan, rvaegan, timegan),
}
RECIPES = {recipe.__name__: recipe for recipes in KINDS.values() for recipe in recipes}

RANGES: dict[str, tuple[float, float]] = {  # inclusive, units in the recipes' docstrings
    "latent": (1, 4096),
    "common": (0, 4096),
    "width": (1, 4096),
    "beta": (0, 1e6),
    "warm_up": (0, 1),
    "free_bits": (0, 1e3),
    "delta": (0, 1e3),
    "balance": (0, 1e3),
    "ramp": (0, 0.5),
    "lam": (0, 1e9),
    "codes": (1, 4096),
    "information": (0, 1e6),
    "matching": (0, 1e6),
    "gamma": (0, 1e9),
    "variance": (1e-8, 1e3),
    "r1": (0, 1e6),
    "r2": (0, 1e6),
    "gradient_penalty": (0, 1e6),
    "lazy": (1, 1000),
    "critic_steps": (1, 100),
    "shuffle": (0, 16),
    "ttur": (1e-3, 1e3),
    "noise": (0, 1e3),
    "hidden": (0, 0.99),
    "attention_at": (0, 128),
    "pack": (1, 64),
    "share": (0.01, 0.99),
    "dropout": (0, 0.99),
    "rollouts": (1, 1000),
    "follow": (0, 0.999),
    "likelihood": (0, 1e6),
    "cloned": (0, 0.99),
    "episodes": (1, 10_000),
    "epochs": (1, 100),
    "parts": (1, 1000),
    "reach": (1e-3, 10),
    "discount": (0, 0.9999),
    "trace": (0, 1),
    "entropy": (0, 1e3),
    "value_lr": (1e-8, 10),
    "pretrain": (0.01, 0.98),
    "judging": (0.01, 0.98),
    "layers": (1, 10),
    "embedding": (0.01, 0.98),
    "supervision": (0.01, 0.98),
    "supervised": (0, 1e6),
    "moments": (0, 1e6),
    "rest": (0, 1e3),
    "generator_steps": (1, 100),
    "policy_lr": (1e-8, 10),
    "critic_lr": (1e-8, 10),
    "lr": (1e-8, 10),
    "batch": (2, 1_000_000),
    "ema": (0, 0.999999),
}


# What tune looks for: arguments by name, each between a recipe's own default divided and multiplied by a factor. Left out:
# what buys quality with time (width, batch, critic_steps), and what changes the unit that others are measured in (variance).
SEARCH: dict[str, float] = {
    "latent": 4,
    "beta": 10,
    "lam": 10,
    "gamma": 10,
    "information": 10,
    "matching": 10,
    "supervised": 10,
    "moments": 10,
    "entropy": 10,
    "r1": 10,
    "r2": 10,
    "gradient_penalty": 10,
    "lr": 4,
    "policy_lr": 4,
    "critic_lr": 4,
    "value_lr": 4,
}


def plan(recipe: str, spec: Spec, arguments: dict[str, Any]) -> Plan:
    """The plan of a named recipe, its arguments checked.

    Raises:
        UsageError: no such recipe, no such argument, or a value outside its range.
    """
    checked = check(recipe, arguments)
    made = RECIPES[recipe](spec, **checked)
    made.model.config = {"recipe": recipe, "arguments": checked}
    return made


def takes(recipe: str) -> tuple[Modality, ...]:
    """The kinds of data that a recipe takes.

    Raises:
        UsageError: no such recipe.
    """
    parameters(recipe)
    return tuple(modalities.of(kind) for kind, recipes in KINDS.items() if RECIPES[recipe] in recipes)


def modality(recipe: str, source: Any = None) -> Modality:
    """The kind of data that a recipe takes: of several the one that a source (or a Data) plainly is, else the first.

    Raises:
        UsageError: no such recipe.
    """
    kinds, spec = takes(recipe), getattr(source, "spec", None)
    if source is None:
        return kinds[0]
    return next(
        (kind for kind in kinds if (spec.modality in kind.names if spec else kind.recognises(source))), kinds[0]
    )


def parameters(recipe: str) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a recipe, in order.

    Raises:
        UsageError: no such recipe.
    """
    if recipe not in RECIPES:
        raise UsageError("a recipe", repr(recipe), f"write one of {', '.join(RECIPES)}")
    return signatures.parameters(RECIPES[recipe])


def check(recipe: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """All keyword arguments of a recipe: the given ones, checked, and the defaults.

    Raises:
        UsageError: no such argument, wrong type, or outside its range.
    """
    known = parameters(recipe)
    for name, value in arguments.items():
        if name not in known:
            raise UsageError(f"{name}={value!r} for {recipe}", "no such argument", f"write one of {', '.join(known)}")
        annotation = str(known[name].annotation)
        words = signatures.choices(RECIPES[recipe], known[name])
        if words:
            if value not in words:
                raise UsageError(f"{name} for {recipe}", repr(value), f"write one of {', '.join(words)}")
            continue
        if annotation == "str" and isinstance(value, str):
            continue
        number = isinstance(value, int | float) and (annotation == "bool") == isinstance(value, bool)
        if not number or (annotation == "int" and not float(value).is_integer()):
            raise UsageError(f"{name} for {recipe}", repr(value), f"write a value of type {annotation}")
        low, high = RANGES.get(name, (float("-inf"), float("inf")))
        if not low <= value <= high:
            raise UsageError(f"{name} for {recipe}", f"{value}", f"write {name} between {low:g} and {high:g}")
    given = {name: int(v) if known[name].annotation == "int" else v for name, v in arguments.items()}
    return {name: given.get(name, p.default) for name, p in known.items()}
