"""One judged number, whatever it was judged of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One number with all that is needed to read it.

    Arguments:
        metric: its name, a key of the modality's `metrics`.
        value, unit, better: "lower" or "higher".
        floor, ceiling: best and trivial value at the same n, None where there is none.
        n: items behind the value, the same number of real and generated ones.
        prior: "fitted" or "standard" where samples or p(z) are involved, else "".
        note: k, standard errors, warnings.
        features: fingerprint of the feature network, "" where none is involved.
    """

    metric: str
    value: float
    unit: str
    better: str
    floor: float | None
    ceiling: float | None
    n: int
    prior: str = ""
    note: str = ""
    features: str = ""
