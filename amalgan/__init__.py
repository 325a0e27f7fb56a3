"""amalgan: an amalgam of generative models. Objectives add up; judgements do not flatter.

    run = amalgan.train("vaegan", data="photos/", steps=5000)
    x = run.sample(64)

Rooms: objectives, networks, models, data, training, metrics; recipes and runs join them.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AmalganError", "compare", "from_pretrained", "load", "resume", "train", "tune"]

if TYPE_CHECKING:
    from amalgan.comparison import compare
    from amalgan.errors import AmalganError
    from amalgan.models.pretrained import from_pretrained
    from amalgan.runs import load, resume, train
    from amalgan.tuning import tune

_HOMES = {
    "AmalganError": "amalgan.errors",
    "compare": "amalgan.comparison",
    "from_pretrained": "amalgan.models.pretrained",
    "load": "amalgan.runs",
    "resume": "amalgan.runs",
    "train": "amalgan.runs",
    "tune": "amalgan.tuning",
}


def __getattr__(name: str) -> Any:
    """Import on first use: torch is not needed to print a --help."""
    if name not in _HOMES:
        raise AttributeError(f"module 'amalgan' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
