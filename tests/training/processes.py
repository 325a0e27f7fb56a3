"""Several processes on this machine, none of which outlives the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 240  # seconds


def launched(processes: int, *words: str) -> str:
    """What a command says that is run in so many processes; all are ended if one fails or they take too long."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    agent = subprocess.Popen([*torchrun, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             env=environment)  # fmt: skip
    try:
        said, _ = agent.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        agent.send_signal(signal.SIGINT)  # it ends its workers; killed it would leave them behind
        said, _ = agent.communicate(timeout=60)
        raise AssertionError(f"it hangs: {said[-3000:]}") from None
    assert agent.returncode == 0, said[-3000:]
    return said
