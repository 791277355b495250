"""Pending for long: what the events say it waits for, asked once a session and for a few of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from skahactl import states
from skahactl.clock import Clock
from skahactl.engine.observe import RunSnapshot
from skahactl.errors import AuthError, UnreachableError
from skahactl.ledger.records import AttemptRow
from skahactl.skaha.client import Client
from skahactl.skaha.models import Event

#: Seconds of Pending from which on the events are worth a request.
LONG = 60.0
#: Replicas of a run whose events are asked for.
MOST = 3


@dataclass
class PendingReasons:
    """Asks in the background; an answer that does not come is not asked for again."""

    client: Client
    clock: Clock
    failure: BaseException | None = None  # a mistake of ours, to be raised by the driver
    _asked: dict[int, set[str]] = field(default_factory=dict)  # run to sessions
    _words: dict[str, str] = field(default_factory=dict)  # of sessions
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def words(self, watch: RunSnapshot) -> tuple[tuple[int, str], ...]:
        """(replica number, words) of those that are Pending still; asks for what is due."""
        pending = [a for a in watch.latest().values() if a.state == states.PENDING and a.session is not None]
        asked = self._asked.setdefault(watch.run.id, set())
        for attempt in pending:
            if len(asked) < MOST and self.clock.now() - (attempt.pending_since or attempt.created) > LONG:
                self._ask(attempt, asked)
        return tuple((a.replica, self._words[a.session]) for a in pending if a.session in self._words)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ask(self, attempt: AttemptRow, asked: set[str]) -> None:
        session = attempt.session or ""
        if session in asked:
            return
        asked.add(session)
        task = asyncio.create_task(self._read(session))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()

    async def _read(self, session: str) -> None:
        try:
            events = await self.client.events(session)
        except (AuthError, UnreachableError):
            return
        self._words[session] = pending_reason(events)


def pending_reason(events: Sequence[Event] | None) -> str:
    """The last warning, else the last event; without a pod there are none."""
    if events is None:
        return "queued, the platform has made no pod of it yet"
    if not events:
        return "nothing has happened to its pod lately"
    last = [event for event in events if event.type == "Warning"] or list(events)
    return f"{last[-1].reason}: {last[-1].message}"
