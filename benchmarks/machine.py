"""Where a benchmark runs: the machine's processor, the project's folder, the data sets."""

from __future__ import annotations

import os
import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """Where the real data sets are: $AMALGAN_TEST_DATA, by default ../shared/data beside the project."""
    return Path(os.environ.get("AMALGAN_TEST_DATA", ROOT.parent / "shared" / "data"))


def processor() -> str:
    """What this machine calls its processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"
