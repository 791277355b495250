"""A job's record and its kept logs, forgotten."""

from __future__ import annotations

import contextlib
from pathlib import Path

from skahactl.ledger import runs
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.records import JobKey, Run
from skahactl.ledger.store import Ledger


def forget_job(ledger: Ledger, server: str, user: str, name: str) -> int:
    """Forgets every run of the job; how many bytes of logs went with it."""
    found = runs.runs_of(ledger, JobKey(server, user, name))
    size = sum(remove_logs(ledger, run) for run in found)
    runs.forget(ledger, [run.id for run in found])
    return size


def remove_logs(ledger: Ledger, run: Run) -> int:
    """Removes the kept logs of a run, and folders left empty; bytes freed."""
    freed = 0
    folders: set[Path] = set()
    for attempt in attempts_of(ledger, run.id):
        if attempt.log_path is None:
            continue
        for path in (Path(attempt.log_path), Path(attempt.log_path + ".events")):
            folders.add(path.parent)
            with contextlib.suppress(OSError):
                freed += path.stat().st_size
                path.unlink()
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
    return freed
