"""Files with wrong bytes: whatever is read of any kind of data is read, or refused in three parts, and nothing else."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amalgan import modalities
from amalgan.errors import UsageError

LINES = gzip.compress("\n".join(f"{i} {i * 7 % 13} word{i}" for i in range(300)).encode())


def arrays(**named: Any) -> bytes:
    held = io.BytesIO()
    np.savez_compressed(held, allow_pickle=False, **named)
    return held.getvalue()


SOURCE = np.random.default_rng(0)
STEPS = {"obs": SOURCE.random((121, 4)), "acts": SOURCE.random((120, 2)), "indices": np.array([40, 80])}
FILES: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "text": ("lines.txt.gz", LINES, {}),
    "edges": ("edges.txt.gz", LINES, {}),
    "series": ("table.csv.gz", LINES, {}),
    "series-arrays": ("windows.npz", arrays(x=SOURCE.random((300, 3))), {}),
    "images": ("images.npz", arrays(x=SOURCE.random((60, 8, 8))), {}),
    "control": ("steps.npz", arrays(**STEPS), {"env": "point-mass"}),
    "text-oracle": ("oracle.npz", arrays(embedding=SOURCE.random((50, 32))), {}),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.filterwarnings("ignore")
def test_wrong_bytes_are_refused_in_three_parts(kind: str, tmp_path: Path) -> None:
    name, content, flags = FILES[kind]
    refused = 0
    for trial in range(40):
        chance = random.Random(trial)
        wrong = bytearray(content)
        wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
        if trial % 4 == 0:
            wrong = wrong[: chance.randrange(1, len(wrong))]
        (tmp_path / name).write_bytes(bytes(wrong))
        try:
            modalities.of(kind.partition("-")[0]).open(str(tmp_path / name), **flags)
        except UsageError as error:
            assert error.asked and error.found and error.instead
            refused += 1
    assert refused >= 10  # a file that was cut short, at least


def test_places_of_episodes_are_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "steps.npz").write_bytes(arrays(**STEPS | {"indices": np.array([40.5, 80.0])}))
    with pytest.raises(UsageError, match="indices"):
        modalities.of("control").open(str(tmp_path / "steps.npz"), env="point-mass")
