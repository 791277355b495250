"""A job's record and its kept logs, forgotten."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from skahactl import states
from skahactl.ledger import runs
from skahactl.ledger.attempts import attempts_of, forget_logs
from skahactl.ledger.database import Ledger
from skahactl.ledger.lock import acquire
from skahactl.ledger.records import JobKey, Run, RunSummary
from skahactl.logs.select import log_path

#: ``017.1.log``, its events, and what a write that was cut off left of it.
_OURS = re.compile(r"\.?\d+\.\d+\.log(\.events)?(\.new|\.joined)?")


def forget_job(ledger: Ledger, key: JobKey, now: float, memory: float) -> int:
    """Forgets every run of the job, whose lock the caller holds; how many bytes of logs went with it. ``memory``: as
    for ``runs.forget``."""
    found = runs.runs_of(ledger, key)
    size = sum(remove_logs(ledger, run) for run in found)
    runs.forget(ledger, [run.id for run in found], now, memory)
    return size


def ended_before(ledger: Ledger, every: Sequence[Run], before: float) -> tuple[RunSummary, ...]:
    """Those of these runs that ended before that time, and of which nothing is alive."""
    ended = runs.summaries(ledger, [run for run in every if run.ended is not None and run.ended < before])
    return tuple(one for one in ended if not any(one.counts[state] for state in states.ALIVE))


@dataclass(frozen=True, slots=True)
class Prune:
    """Forgets runs that ended before that time, or their logs alone. ``memory``: as for ``runs.forget``."""

    ledger: Ledger
    before: float
    memory: float
    only_logs: bool

    def prune(self, key: JobKey, wanted: Collection[int], now: float) -> tuple[Run, ...]:
        """Those of the ``wanted`` runs (ids) of a job that are still as old as that, once nobody can start them
        again: they are forgotten. BusyError if another command drives the job.

        The logs go first, so that none is left without a record."""
        lock = acquire(self.ledger, key, now)
        try:
            chosen = self._still(key, wanted)
            for run in chosen:
                remove_logs(self.ledger, run)
            with self.ledger.transaction():
                chosen = self._still(key, {run.id for run in chosen})
                if self.only_logs:
                    forget_logs(self.ledger, [run.id for run in chosen])
                else:
                    runs.forget(self.ledger, [run.id for run in chosen], now, self.memory)
            return chosen
        finally:
            lock.release()

    def _still(self, key: JobKey, wanted: Collection[int]) -> tuple[Run, ...]:
        every = [run for run in runs.runs_of(self.ledger, key) if run.id in wanted]
        return tuple(one.run for one in ended_before(self.ledger, every, self.before))


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
    return log_path(ledger.state_dir, run, 1, 1).parent
