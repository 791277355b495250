"""Around a driver: locks, and the gates of ``after``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skahactl.clock import Clock
from skahactl.engine.plan import Gate, gate_of
from skahactl.engine.stop import Stop
from skahactl.errors import BusyError
from skahactl.ledger import runs
from skahactl.ledger.database import Ledger
from skahactl.ledger.lock import JobLock, acquire
from skahactl.ledger.records import JobKey, Run

#: Seconds that a replaced run's driver may take to carry out the delete.
LONGEST_WAIT = 600.0


def gate_for(ledger: Ledger, run: Run, coming: set[str], record: bool = False) -> Gate:
    """What ``after`` says for a run now; ``coming``: jobs that get a new run first. ``record``: writes which runs it
    came after, the moment that it may start, or cannot any more."""
    if not run.after:
        return Gate()
    status: dict[str, str | None] = {}
    numbers: dict[str, int] = {}
    for name in run.after:
        newest = runs.last_run(ledger, JobKey(run.key.server, run.key.user, name))
        status[name] = None
        if newest is not None and name not in coming:
            status[name] = runs.summaries(ledger, [newest])[0].status
            numbers[name] = newest.number
    gate = gate_of(run.after, status)
    if record and (gate.open or gate.never) and run.started is None and numbers != run.after_runs:
        runs.set_after_runs(ledger, run.id, numbers)
    return gate


def gates_of_jobs(ledger: Ledger, locks: Iterable[JobLock]) -> Callable[[Run], Gate]:
    """``gate_for`` for a driver: BusyError as soon as one of its locks was taken with --break-lock."""
    held = {lock.key: lock for lock in locks}

    def gate(run: Run) -> Gate:
        held[run.key].check()
        return gate_for(ledger, run, set(), record=True)

    return gate


async def wait_for_lock(ledger: Ledger, key: JobKey, clock: Clock, stop: Stop) -> JobLock:
    """The lock, as soon as the command that holds it lets go."""
    begun = clock.now()
    while True:
        try:
            return acquire(ledger, key, clock.now())
        except BusyError:
            if clock.now() - begun > LONGEST_WAIT:
                raise
        await stop.sleep(clock, 0.5)


def release_locks(locks: Iterable[JobLock]) -> None:
    for lock in locks:
        lock.release()
