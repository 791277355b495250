"""One run created by one call, for the Python interface: the same driver, one pass of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from skahactl import states
from skahactl.clock import SystemClock
from skahactl.engine.driver import Driver, release_locks
from skahactl.engine.plan import Gate
from skahactl.engine.runtime import Runtime, SilentReporter, check_owner
from skahactl.engine.stop import Stop
from skahactl.errors import BusyError, SkahactlError, UsageError
from skahactl.job import Job, Limits
from skahactl.ledger import replicas, runs
from skahactl.ledger.attempts import attempt_of_session, attempts_of, known_sessions, record_gone
from skahactl.ledger.database import Ledger
from skahactl.ledger.lock import JobLock, acquire
from skahactl.ledger.records import JobKey
from skahactl.profile import Profile
from skahactl.skaha.client import Client

#: How often, and how far apart in seconds, the list is read for sessions that are to be gone.
TRIES, PAUSE = 20, 0.5
#: Seconds that a create waits for another one of the same name.
PATIENCE = 60.0


async def create_once(
    ledger: Ledger, client: Client, profile: Profile, job: Job, directory: str
) -> tuple[list[str | None], dict[int, str]]:
    """Session ids in replica order, None where there is none, and the reasons of those by replica.

    Every replica is created now: limits of the profile hold back nothing here. Whatever stops it on the way is the
    reason of what was not created by then."""
    clock = SystemClock()
    listing = await client.sessions()
    key = JobKey(profile.server, listing.user or "", job.name)
    lock = await _lock(ledger, key, clock)
    stopped: SkahactlError | None = None
    try:
        run = runs.add_run(ledger, key, job, profile.name, {}, clock.now(), directory)
        desk = Runtime(ledger, client, profile, clock, SilentReporter(), Stop())
        try:
            runs.set_limits(ledger, run.id, Limits(), job.keep, 1)
            await Driver(desk, (run,), False, lambda watched: Gate()).drive()
        except SkahactlError as error:
            stopped = error
    finally:
        release_locks([lock])
    rows = replicas.replica_states(ledger, run.id)
    sessions = {attempt.replica: attempt.session for attempt in attempts_of(ledger, run.id)}
    ids = [sessions.get(row.number) for row in rows]
    failures = {
        row.number: row.reason or (row.state if stopped is None else stopped.message)
        for row in rows
        if sessions.get(row.number) is None or row.state in (states.REFUSED, states.UNSETTLED)
    }
    if stopped is not None and not any(ids):
        raise stopped
    return ids, failures


async def _lock(ledger: Ledger, key: JobKey, clock: SystemClock) -> JobLock:
    """The job's lock, as soon as another create of this name lets go of it; BusyError if that takes too long."""
    until = clock.monotonic() + PATIENCE
    while True:
        try:
            return acquire(ledger, key, clock.now())
        except BusyError:
            if clock.monotonic() > until:
                raise
        await asyncio.sleep(0.1)


async def delete_ids(ledger: Ledger, client: Client, profile: Profile, ids: Sequence[str]) -> dict[str, bool]:
    """Deletes these sessions and reads the list until they are gone; those with a record here are written Deleted.
    AuthError, before anything is changed, if the server takes us for another user than their jobs'."""
    if "" in ids:
        raise UsageError("an empty session id")
    known = known_sessions(ledger, ids)
    theirs = [runs.run_by_id(ledger, run_id) for run_id in {known[one][0] for one in ids if one in known}]
    check_owner(profile, filter(None, theirs), (await client.sessions()).user)
    chosen: dict[int, set[int]] = {}
    for one in ids:
        if one in known:
            chosen.setdefault(known[one][0], set()).add(known[one][1])
    with ledger.transaction():
        for run_id, numbers in chosen.items():
            replicas.ask_delete(ledger, run_id, numbers)
    slots = asyncio.Semaphore(profile.client.concurrency)

    async def ask(one: str) -> None:
        async with slots:
            await client.delete(one)

    left = set(ids)
    for _ in range(TRIES):
        await asyncio.gather(*map(ask, left))
        listing = await client.sessions()
        left &= {session.id for session in listing.sessions}
        if not left:
            break
        await asyncio.sleep(PAUSE)
    with ledger.transaction():
        for one in set(ids) - left:
            attempt = attempt_of_session(ledger, one)
            if attempt is not None and attempt.state in states.ALIVE:
                record_gone(ledger, attempt, states.DELETED, "deleted", time.time(), None)
    return {one: one not in left for one in ids}
