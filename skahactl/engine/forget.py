"""A job's record and its kept logs, forgotten."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from skahactl.ledger import runs
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.records import JobKey, Run
from skahactl.ledger.store import Ledger
from skahactl.logs import places

#: ``017.1.log``, its events, and what a write that was cut off left of it.
_OURS = re.compile(r"\.?\d+\.\d+\.log(\.events)?(\.new|\.joined)?")


def forget_job(ledger: Ledger, server: str, user: str, name: str) -> int:
    """Forgets every run of the job; how many bytes of logs went with it."""
    found = runs.runs_of(ledger, JobKey(server, user, name))
    size = sum(remove_logs(ledger, run) for run in found)
    runs.forget(ledger, [run.id for run in found])
    return size


def remove_logs(ledger: Ledger, run: Run) -> int:
    """Removes what is kept of a run's logs, and folders left empty; bytes freed."""
    freed = 0
    kept = kept_files(ledger, run)
    for path, size in kept.items():
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    for folder in {path.parent for path in kept} | {_folder(ledger, run)}:
        with contextlib.suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
    return freed


def kept_bytes(ledger: Ledger, run: Run) -> int:
    """What is kept of a run's logs takes on disk, the events of failed replicas included."""
    return sum(kept_files(ledger, run).values())


def kept_files(ledger: Ledger, run: Run) -> dict[Path, int]:
    """The files in the run's folder of logs with their bytes, and those that the record has elsewhere, as after a move
    of the state directory."""
    folder = _folder(ledger, run)
    found: dict[Path, int] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name):
                found[folder / entry.name] = entry.stat(follow_symlinks=False).st_size
    for attempt in attempts_of(ledger, run.id):
        if attempt.log_path is None or Path(attempt.log_path).parent == folder:
            continue
        for path in (Path(attempt.log_path), Path(attempt.log_path + ".events")):
            with contextlib.suppress(OSError):
                found[path] = path.stat().st_size
    return found


def _folder(ledger: Ledger, run: Run) -> Path:
    return places.log_path(ledger.state_dir, run, 1, 1).parent
