"""Every test of this room keeps its decoded copies to itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AMALGAN_CACHE", str(folder))
    return folder


@pytest.fixture
def real_data() -> Path:
    root = Path(os.environ.get("AMALGAN_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root} (set AMALGAN_TEST_DATA)")
    return root
