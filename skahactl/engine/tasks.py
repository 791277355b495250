"""Deletes, verified: a DELETE that is answered proves nothing, so the list is read until the session is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.ledger import replicas
from skahactl.ledger.attempts import set_attempt
from skahactl.logs import keep
from skahactl.logs.select import log_path
from skahactl.model import State
from skahactl.system import Clock, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skahactl.engine.observe import RunSnapshot
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, Run
    from skahactl.profile import ClientSettings
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Event, Listing

#: Seconds before a session that stays is asked to go again.
REPEAT = 5.0


@dataclass
class DeleteQueue:
    """Sends DELETEs, bounded; ``tries`` counts them by session id, ``errors`` is what the last one failed with."""

    client: Client
    clock: Clock
    concurrency: int
    on_end: Callable[[], None]  # after a DELETE that was answered well
    say: Callable[[str], None]
    repeat: float = REPEAT
    tries: dict[str, int] = field(default_factory=dict)
    errors: dict[str, SkahactlError] = field(default_factory=dict)
    failure: BaseException | None = None  # a mistake of ours, to be raised by the driver
    _last: dict[str, float] = field(default_factory=dict)  # when a DELETE ended
    _good: float | None = None  # when a DELETE was answered well, or the first of all was sent
    _told: set[str] = field(default_factory=set)
    _asking: set[str] = field(default_factory=set)  # whose DELETE waits for its turn, or is on its way
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _slots: asyncio.Semaphore | None = None

    def remove(self, sessions: Iterable[str]) -> None:
        """Asks these sessions to go, those asked a moment ago excepted. To be called after every look that still
        shows them."""
        now = self.clock.now()
        self._good = now if self._good is None or not (self._tasks or self.errors) else self._good
        for session in sessions:
            if session in self._asking or now - self._last.get(session, float("-inf")) < self.repeat:
                continue
            self._asking.add(session)
            task = asyncio.create_task(self._delete(session))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    @property
    def idle(self) -> bool:
        return not self._tasks

    def check(self, patience: float) -> None:
        """Raises AuthError where one was refused, and UnreachableError where they have only failed for ``patience``
        seconds."""
        for error in self.errors.values():
            if isinstance(error, AuthError) or self.clock.now() - (self._good or 0.0) > patience:
                raise error

    async def stop(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5.0)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*set(self._tasks), return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            self.on_end()

    async def _delete(self, session: str) -> None:
        if self._slots is None:
            self._slots = asyncio.Semaphore(self.concurrency)
        async with self._slots:
            self.tries[session] = self.tries.get(session, 0) + 1
            try:
                await self.client.delete(session)
            except (UnreachableError, AuthError) as error:
                self._failed(session, error)  # the next look tries again
            else:
                self._good = self.clock.now()
                self.errors.pop(session, None)
                self.on_end()
            finally:
                self._last[session] = self.clock.now()
                self._asking.discard(session)

    def _failed(self, session: str, error: SkahactlError) -> None:
        self.errors[session] = error
        if error.message not in self._told:
            self._told.add(error.message)
            self.say(f"a delete failed: {error.message}")


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
        wanted = run.keep == "all" or (run.keep == "failed" and attempt.state == State.FAILED)
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
        if path is not None and attempt.state == State.FAILED:
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
            if attempt.state == State.FAILED:
                columns["last_line"] = fetched.last_line
            set_attempt(self.ledger, attempt, columns)


def _key(attempt: AttemptRow) -> Key:
    return attempt.run_id, attempt.replica, attempt.number


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
        pending = [a for a in watch.latest().values() if a.state == State.PENDING and a.session is not None]
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
