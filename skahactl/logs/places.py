"""Where logs are kept on this machine."""

from __future__ import annotations

import re
import time
from pathlib import Path

from skahactl.ledger.records import Run


def log_path(state_dir: Path, run: Run, replica: int, attempt: int) -> Path:
    """Where the log of an attempt is kept: ``logs/HOST/JOB/RUN-DATE/REPLICA.ATTEMPT.log`` in the state directory.

    The date is that of the run's making, so that a ledger begun anew never takes older logs for its own.
    """
    server = run.key.server.split("://", 1)[-1].removesuffix("/skaha/v1")
    where = f"{run.key.user}@{server}" if run.key.user else server
    made = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(run.created))
    width = len(str(run.total))
    folder = state_dir / "logs" / _safe(where) / _safe(run.key.name) / f"{run.number}-{made}"
    return folder / f"{replica:0{width}d}.{attempt}.log"


def _safe(text: str) -> str:
    """``text`` as one file name."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "_", text).lstrip(".")[:200] or "_"
