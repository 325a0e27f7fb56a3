"""Kinds of data: what the rest of the library must know of one, and where it asks.

    modality = of(spec.modality)
    modality.open(source, **flags)      files to data                   modality.save(samples, path)    and back
    modality.reference(data, ...)       the real side of a judgement    modality.evaluate(model, ...)   as rows
    modality.sections(...)              what a person wants to see of it in a report

Trainer, algebra, runs, comparisons and the command line know no modality by name. torch is imported when it is needed,
never for a --help.
"""

from __future__ import annotations

from amalgan.errors import UsageError
from amalgan.modalities.control import Control
from amalgan.modalities.core import Meaning, Modality, Page, Question
from amalgan.modalities.graphs import Edges
from amalgan.modalities.images import Images
from amalgan.modalities.series import Series
from amalgan.modalities.sound import Sound
from amalgan.modalities.text import Text

__all__ = ["ALL", "Meaning", "Modality", "Page", "Question", "of"]

ALL: tuple[Modality, ...] = (
    Images(),
    Sound("sound"),
    Sound("waves"),
    Sound("spectra"),
    Text(),
    Series(),
    Edges(),
    Control(),
)


def of(name: str) -> Modality:
    """The modality that a `Spec` names.

    Raises:
        UsageError: none of that name.
    """
    for modality in ALL:
        if name in modality.names:
            return modality
    known = ", ".join(name for modality in ALL for name in modality.names)
    raise UsageError(f"data of the modality {name!r}", f"this version knows {known}", "update amalgan")
