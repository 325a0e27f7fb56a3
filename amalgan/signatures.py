"""A function's signature as its configuration: keyword arguments are flags, their docstring is the help.

Nothing here imports torch: a --help is instant.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any, get_args

Parameters = dict[str, inspect.Parameter]


def parameters(function: Callable[..., Any]) -> Parameters:
    """The keyword-only arguments of a function, in order."""
    named = inspect.signature(function).parameters.values()
    return {p.name: p for p in named if p.kind is p.KEYWORD_ONLY}


def meanings(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring says of each argument, in one line each."""
    _, _, tail = (inspect.getdoc(function) or "").partition("Arguments:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", tail, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}


def summary(function: Callable[..., Any]) -> str:
    """The docstring before its arguments."""
    return (inspect.getdoc(function) or "").partition("\nArguments:\n")[0]


def kind(function: Callable[..., Any], parameter: inspect.Parameter) -> str:
    """The name of an argument's type: int, float, bool, str, or that of a Literal; `| None` is left out."""
    return str(parameter.annotation).removesuffix(" | None")


def choices(function: Callable[..., Any], parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The words that an argument may take, () for anything else: a Literal, by its name in the function's module."""
    return get_args(getattr(sys.modules[function.__module__], kind(function, parameter), None))
