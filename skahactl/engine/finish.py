"""After the end: the log of an attempt is kept before the platform forgets it. The end is recorded first."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from skahactl import states
from skahactl.clock import Clock
from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.ledger import replicas
from skahactl.ledger.attempts import set_attempt
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import AttemptRow, Run
from skahactl.logs import keep
from skahactl.logs.select import log_path
from skahactl.paths import write_atomically
from skahactl.profile import ClientSettings
from skahactl.skaha.client import Client
from skahactl.skaha.models import Event, Listing

Key = tuple[int, int, int]

#: How often the events of a session are asked for.
TRIES = 3


@dataclass
class LogCollector:
    """Reads the logs of ended attempts, a few at a time; each counts as kept once a list requested after the read
    still showed its session."""

    client: Client
    ledger: Ledger
    clock: Clock
    settings: ClientSettings
    on_end: Callable[[], None]
    say: Callable[[str], None]
    most: int = 8
    _queue: deque[tuple[Run, AttemptRow]] = field(default_factory=deque)
    _begun: set[Key] = field(default_factory=set)  # those that wait or are read
    _tasks: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    _moved: bool = False  # since on_end was called last, something was read to its end
    _first_try: dict[Key, float] = field(default_factory=dict)
    _unconfirmed: dict[Key, tuple[AttemptRow, keep.Fetched, float]] = field(default_factory=dict)
    failure: BaseException | None = None  # a mistake of ours, to be raised by the driver
    _told_disk: bool = False

    def confirm(self, listing: Listing) -> None:
        """Judges the logs read before ``listing`` was requested."""
        listed = {session.id for session in listing.sessions}
        judged = [key for key, (_, _, read) in self._unconfirmed.items() if listing.requested >= read]
        if not judged:
            return
        with self.ledger.transaction():
            for key in judged:
                attempt, fetched, _ = self._unconfirmed.pop(key)
                self._record(attempt, fetched, complete=attempt.session in listed)

    def begin(self, run: Run, ended: list[AttemptRow], listed: frozenset[str]) -> None:
        """Starts reading what has not been read; what is not listed any more is lost."""
        lost = []
        for attempt in ended:
            key = _key(attempt)
            if key in self._begun or key in self._unconfirmed or attempt.log != "none":
                continue
            if attempt.session not in listed:
                lost.append(attempt)
            else:
                self._begun.add(key)
                self._queue.append((run, attempt))
        if lost:
            with self.ledger.transaction():
                for attempt in lost:
                    set_attempt(self.ledger, attempt, {"log": "lost"})
        self._start_more()

    @property
    def idle(self) -> bool:
        return not self._begun and not self._unconfirmed

    @property
    def to_confirm(self) -> bool:
        """Whether all that is left to do is one more list."""
        return not self._begun and bool(self._unconfirmed)

    async def stop(self) -> None:
        """Lets go of what is being read; it is read again by the next command."""
        self._queue.clear()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _start_more(self) -> None:
        while self._queue and len(self._tasks) < self.most:
            run, attempt = self._queue.popleft()
            key = _key(attempt)
            self._first_try.setdefault(key, self.clock.now())
            self._tasks[key] = task = asyncio.create_task(self._read(run, attempt))
            task.add_done_callback(partial(self._done, key))

    def _done(self, key: Key, task: asyncio.Task[None]) -> None:
        self._tasks.pop(key, None)
        self._begun.discard(key)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            self._put_off()
        self._start_more()
        if not self._begun and (self._moved or self.failure is not None):
            self._moved = False
            self.on_end()

    def _put_off(self) -> None:
        """What waits is begun again after the next look."""
        self._begun -= {_key(attempt) for _, attempt in self._queue}
        self._queue.clear()

    async def _read(self, run: Run, attempt: AttemptRow) -> None:
        wanted = run.keep == "all" or (run.keep == "failed" and attempt.state == states.FAILED)
        path = log_path(self.ledger.state_dir, run, attempt.replica, attempt.number) if wanted else None
        marks = replicas.has_each(self.ledger, run.id, attempt.replica)
        if path is None and not marks:
            set_attempt(self.ledger, attempt, {"log": "unwanted"})
            self._moved = True
            return
        try:
            fetched = await keep.fetch(self.client, attempt.session or "", path, marks=marks)
        except (UnreachableError, AuthError):
            self._put_off()
            return  # read again at the next look
        except SkahactlError as error:
            self._tell_disk(f"{error.where}: {error.message}; {error.hint}")
            return
        key = _key(attempt)
        if fetched.bytes == 0 and self.clock.now() - self._first_try[key] < self.settings.log_patience:
            return  # it may not be there yet
        self._unconfirmed[key] = (attempt, fetched, self.clock.now())
        self._moved = True
        if path is not None and attempt.state == states.FAILED:
            await self._keep_events(attempt, str(path) + ".events")

    async def _keep_events(self, attempt: AttemptRow, path: str) -> None:
        """Beside the log, which is kept whatever becomes of them; what the disk has against them is told."""
        from pathlib import Path

        events = await self._events(attempt.session or "")
        if not events:
            return
        rows = [f"{event.last}  {event.type}  {event.reason}  {event.message}" for event in events]
        try:
            write_atomically(Path(path), ("\n".join(rows) + "\n").encode())
        except OSError as error:
            self._tell_disk(f"{path}: the events cannot be kept: {error.strerror or error}")

    async def _events(self, session: str) -> tuple[Event, ...] | None:
        """None where a few tries did not get them: they are not worth more."""
        for _ in range(TRIES):
            with contextlib.suppress(UnreachableError, AuthError):
                return await self.client.events(session)
            await self.clock.sleep(self.settings.poll_min)
        return None

    def _tell_disk(self, text: str) -> None:
        """Once, however many files it is."""
        if not self._told_disk:
            self.say(text)
            self._told_disk = True

    def _record(self, attempt: AttemptRow, fetched: keep.Fetched, complete: bool) -> None:
        state = "kept" if complete else "incomplete"
        if fetched.cut is not None and complete:
            state = "cut" if fetched.cut == "cut" else "perhaps cut"
        with self.ledger.transaction():
            if fetched.ends:
                replicas.record_items(self.ledger, attempt.run_id, attempt.replica, attempt.number, fetched.ends)
            columns = {"log": state, "log_path": fetched.path, "log_bytes": fetched.bytes}
            set_attempt(self.ledger, attempt, columns)


def _key(attempt: AttemptRow) -> Key:
    return attempt.run_id, attempt.replica, attempt.number
