"""What is kept of a judged run, so that a page needs neither data nor model: its numbers, and what there is to see.

RUN/judged/rows.json             the rows of the modality's `evaluate`, and what they were measured with
           exhibits.safetensors  the tensors of its `exhibits`
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from amalgan import __version__, files, modalities
from amalgan.runs import Run


def judge(run: Run, against: Any) -> list[dict[str, Any]]:
    """The rows of a finished run, measured once and kept, with what there is to see; anew if what they rest on changed.

    Raises:
        AmalganError: the model's samples are not finite.
    """
    kept, folder = read_rows(run, against), run.folder / "judged"
    if kept is not None:
        return kept
    model, modality = run.model.eval(), modalities.of(run.spec.modality)
    judged = modality.evaluate(model, run.data, against)
    rows = [{key: plain(value) for key, value in asdict(row).items()} for row in judged]
    kept_of = {name: x.contiguous() for name, x in modality.exhibits(model, against).items()}
    files.write_bytes(folder / "exhibits.safetensors", save(kept_of))
    files.write_json(folder / "rows.json", {"key": _key(run, against), "rows": rows})
    return rows


def read_rows(run: Run, against: Any = None) -> list[dict[str, Any]] | None:
    """The rows kept of a run, if they were measured `against` this reference (against any, if None); else None."""
    path = run.folder / "judged" / "rows.json"
    if not path.is_file() or not (path.parent / "exhibits.safetensors").is_file():
        return None
    held = files.read_json(path, f"the numbers of {run.folder}")
    return held["rows"] if against is None or held.get("key") == _key(run, against) else None


def read_exhibits(folder: Path) -> dict[str, Tensor]:
    """What was kept of a run, {} where there are none or they are damaged."""
    try:
        return load((folder / "judged" / "exhibits.safetensors").read_bytes())
    except (OSError, SafetensorError):
        return {}


def _key(run: Run, against: Any) -> str:
    """What the rows rest on: the model, the data, the feature network, the sample size, the metrics."""
    weights = (run.folder / "model" / "model.safetensors").stat()
    return json.dumps(
        [__version__, sorted(modalities.of(run.spec.modality).metrics), run.record["data"]["fingerprint"], modalities.of(run.spec.modality).looked_with(against)["features_fingerprint"], against.split,
         against.n, run.steps, weights.st_size, weights.st_mtime_ns]
    )  # fmt: skip


def plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
