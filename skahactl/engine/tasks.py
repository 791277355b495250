"""Background work of a driver other than creates: deletes, requests for single ids, logs, and reasons for Pending.

The logs of running replicas are read only if they mark ended items, and at a limited rate: on a server, one log at most
once per minute, large logs less often, and all logs together at 1 MB/s; on this machine, once per second.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from skahactl.engine.lifecycle import Deletes
from skahactl.engine.observe import Evidence, Presence, RunSnapshot
from skahactl.engine.pool import TaskPool
from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.ledger import replicas
from skahactl.ledger.attempts import attempts_of, set_attempt
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import UNREAD, AttemptKey, AttemptRow, Run
from skahactl.logs import keep
from skahactl.logs.copies import log_path
from skahactl.manifest.placeholders import ItemMarks
from skahactl.model import OBSERVED, State
from skahactl.profile import ClientSettings
from skahactl.skaha.client import Client
from skahactl.skaha.models import Event, ServerSession
from skahactl.system import Clock, write_atomically
from skahactl.text import suggest

#: Maximum number of parallel log reads, and of parallel requests for single ids.
READS, ASKS = 8, 8
#: Seconds until a log that could not be saved is read again.
RETRY = 10.0
#: Maximum number of requests for the events of a session.
EVENT_TRIES = 3
#: Seconds in Pending before the events are requested, and the maximum number of such replicas per run.
LONG_PENDING, MAX_REASONS = 60.0, 3


#: Answers to ``GET /session/ID`` that no poll has used yet; None for 404.
Answers = dict[str, ServerSession | None]


@dataclass
class SessionAsker:
    """Requests the ids of sessions that a list lacks.

    A session that exists is not requested again within ``pause`` seconds: each answer leads to another list, which may
    lack it as well.
    """

    client: Client
    clock: Clock
    pause: float
    answers: Answers
    on_idle: Callable[[], None]
    pool: TaskPool[str, None] = field(init=False)
    _existed: dict[str, float] = field(default_factory=dict)  # when, on the monotonic clock

    def __post_init__(self) -> None:
        self.pool = TaskPool(ASKS, self.on_idle)

    def ask(self, sessions: Iterable[str]) -> None:
        since = self.clock.monotonic() - self.pause
        for session in sessions:
            if self._existed.get(session, -math.inf) <= since:
                self.pool.submit(session, partial(self._ask, session))

    async def _ask(self, session: str) -> None:
        with contextlib.suppress(UnreachableError, AuthError):  # requested again after the next list
            answer = self.answers[session] = await self.client.session(session)
            if answer is not None:  # the list was wrong: request the others only if the next list lacks them too
                self._existed[session] = self.clock.monotonic()
                self.pool.clear()


@dataclass
class SessionDeleter:
    """Sends DELETEs. A reply to one proves nothing (skaha-api 6), so each is followed by a request for the id.

    ``sent``: the DELETEs by session. ``errors``: the error of the last DELETE, by session.
    """

    client: Client
    clock: Clock
    concurrency: int
    answers: Answers
    on_idle: Callable[[], None]
    say: Callable[[str], None]
    sent: dict[str, Deletes] = field(default_factory=dict)
    errors: dict[str, SkahactlError] = field(default_factory=dict)
    pool: TaskPool[str, None] = field(init=False)
    _last_success: float | None = None  # or when the first one was sent
    _reported: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pool = TaskPool(self.concurrency, self.on_idle)

    def delete(self, sessions: Iterable[str]) -> None:
        if self._last_success is None or not (self.pool.keys or self.errors):
            self._last_success = self.clock.now()
        for session in sessions:
            self.pool.submit(session, partial(self._delete, session))

    def check(self, patience: float) -> None:
        """Raise AuthError if a DELETE was refused, and UnreachableError if none has succeeded for ``patience``
        seconds."""
        for error in self.errors.values():
            if isinstance(error, AuthError) or self.clock.now() - (self._last_success or 0.0) > patience:
                raise error

    async def _delete(self, session: str) -> None:
        try:
            await self.client.delete(session)
            self._last_success = self.clock.now()
            self.errors.pop(session, None)
            self.answers[session] = await self.client.session(session)
        except (UnreachableError, AuthError) as error:  # tried again after the next list
            self.errors[session] = error
            if error.message not in self._reported:
                self._reported.add(error.message)
                self.say(f"delete failed: {error.message}")
        finally:
            self.sent[session] = Deletes(self.sent.get(session, Deletes()).tries + 1, self.clock.now())


@dataclass(frozen=True, slots=True)
class LogRead:
    """The result of reading a log. ``at``: when the read began."""

    attempt: AttemptRow
    saved: keep.Fetched | None  # None: neither the log nor its marks are wanted
    at: float


@dataclass
class LogReader:
    """Reads the logs of attempts, a few at a time.

    The log of an ended attempt counts as complete once its session is known to have existed after the read: the
    platform answers with an empty or shorter text for a session that is being removed.
    """

    client: Client
    ledger: Ledger
    clock: Clock
    settings: ClientSettings
    on_idle: Callable[[], None]
    say: Callable[[str], None]
    pool: TaskPool[AttemptKey, LogRead | None] = field(init=False)
    _first_try: dict[AttemptKey, float] = field(default_factory=dict)
    _unconfirmed: dict[AttemptKey, LogRead] = field(default_factory=dict)
    _unlisted: set[AttemptKey] = field(default_factory=set)  # those of _unconfirmed that a list after the read lacked
    refused: dict[AttemptKey, SkahactlError] = field(default_factory=dict)  # logs that cannot be saved
    _try_again: float = 0.0  # when they are read again, on the monotonic clock
    _is_reported: bool = False

    def __post_init__(self) -> None:
        self.pool = TaskPool(READS, self.on_idle)

    def read(self, run: Run, attempt: AttemptRow, until: float | None) -> None:
        """Start to read the log of an attempt. ``until``: when the read ends at the latest, with the text so far.

        A log that could not be saved is not read again within RETRY seconds.
        """
        if attempt.key in self.refused and self.clock.monotonic() < self._try_again:
            return
        self._first_try.setdefault(attempt.key, self.clock.now())
        self.pool.submit(attempt.key, partial(self._read, run, attempt, until))

    def add(self, read: LogRead) -> None:
        """Accept a log that a command has read, unless the end of the log may be missing."""
        self._first_try.setdefault(read.attempt.key, read.at)
        if read.saved is not None and not self._is_early(read.attempt, read.saved, self._marks(read.attempt)):
            self._unconfirmed[read.attempt.key] = read

    @property
    def reading(self) -> frozenset[AttemptKey]:
        """The attempts with a log that is being read, or was read and is not confirmed yet."""
        return self.pool.keys | self._unconfirmed.keys()

    @property
    def to_confirm(self) -> bool:
        """Whether logs were read that the next list may confirm, and no read is running."""
        return self.pool.idle and bool(self._unconfirmed)

    @property
    def next_list_confirms(self) -> bool:
        """Whether an immediate list may confirm a log. A list that lacked a session is not repeated immediately."""
        return self.pool.idle and bool(self._unconfirmed.keys() - self._unlisted)

    def record(self, evidence: Evidence) -> None:
        """Record the logs that the evidence confirms, in one transaction."""
        for _, read in self.pool.events():
            if read is not None:
                self._unconfirmed[read.attempt.key] = read
        judged = [read for read in self._unconfirmed.values() if self._is_judged(read, evidence)]
        since = {key for key, read in self._unconfirmed.items() if evidence.listing.requested >= read.at}
        self._unlisted = since - {read.attempt.key for read in judged}
        if not judged:
            return
        with self.ledger.transaction():
            for read in judged:
                del self._unconfirmed[read.attempt.key]
                self._record(read, evidence)

    def _is_judged(self, read: LogRead, evidence: Evidence) -> bool:
        if read.attempt.state not in OBSERVED or read.saved is None:
            return True
        presence = evidence.presence(read.attempt.session or "", None)
        return presence is Presence.ABSENT or (presence is Presence.PRESENT and evidence.listing.requested >= read.at)

    def _record(self, read: LogRead, evidence: Evidence) -> None:
        attempt, saved = read.attempt, read.saved
        if saved is None:
            set_attempt(self.ledger, attempt, {"log": "unwanted"})
            return
        if attempt.state not in OBSERVED:
            state = "partial"
        elif evidence.presence(attempt.session or "", None) is Presence.ABSENT:
            state = "incomplete"
        else:
            state = saved.cut or "kept"
        if saved.ends:
            replicas.record_items(self.ledger, attempt.run_id, attempt.replica, attempt.number, saved.ends)
        columns: dict[str, object] = {"log": state, "log_path": saved.path, "log_bytes": saved.bytes}
        if attempt.state == State.FAILED:
            columns["last_line"] = saved.last_line
        set_attempt(self.ledger, attempt, columns)

    async def _read(self, run: Run, attempt: AttemptRow, until: float | None) -> LogRead | None:
        path = self.path_of(run, attempt)
        marks = self._marks(attempt)
        if path is None and marks is None:
            return LogRead(attempt, None, self.clock.now())
        begun = self.clock.now()
        try:
            limit = keep.ReadLimit(None if until is None else max(1.0, until - begun))
            saved = await keep.fetch(self.client, attempt.session or "", path, marks=marks, limit=limit)
        except (UnreachableError, AuthError):
            return None  # read again after the next list
        except SkahactlError as error:
            self.refused[attempt.key] = error
            self._try_again = self.clock.monotonic() + RETRY
            return None
        self.refused.pop(attempt.key, None)
        if self._is_early(attempt, saved, marks):
            return None
        if path is not None and attempt.state == State.FAILED:
            await self._keep_events(attempt, str(path) + ".events")
        return LogRead(attempt, saved, begun)

    def path_of(self, run: Run, attempt: AttemptRow) -> Path | None:
        return _path_of(self.ledger, run, attempt)

    def _marks(self, attempt: AttemptRow) -> ItemMarks | None:
        return replicas.item_marks(self.ledger, attempt)

    def _is_early(self, attempt: AttemptRow, saved: keep.Fetched, marks: ItemMarks | None) -> bool:
        """Return whether text may still arrive: the log is empty, or lacks the end of an item.

        Return False after ``log_patience`` seconds.
        """
        if self.clock.now() - self._first_try[attempt.key] >= self.settings.log_patience:
            return False
        if attempt.state not in OBSERVED:
            return saved.state == "empty" and saved.bytes > 0  # an earlier read had text
        if saved.state == "empty":
            return True
        due = frozenset() if marks is None else frozenset(marks.due)
        return not due <= {position for position, _ in saved.ends}

    async def _keep_events(self, attempt: AttemptRow, path: str) -> None:
        """Save the events of an attempt beside its log. Report an error of the disk; the log is saved in any case."""
        events = await self._events(attempt.session or "")
        if not events:
            return
        rows = [f"{event.last}  {event.type}  {event.reason}  {event.message}" for event in events]
        try:
            write_atomically(Path(path), ("\n".join(rows) + "\n").encode())
        except OSError as error:
            self.report_disk(f"{path}: the events cannot be saved: {error.strerror or error}")

    async def _events(self, session: str) -> tuple[Event, ...] | None:
        for _ in range(EVENT_TRIES):
            with contextlib.suppress(UnreachableError, AuthError):
                return await self.client.events(session)
            await self.clock.sleep(self.settings.poll_min)
        return None

    def report_disk(self, text: str) -> None:
        """Report an error of the disk once, for any number of files."""
        if not self._is_reported:
            self.say(text)
            self._is_reported = True


def _path_of(ledger: Ledger, run: Run, attempt: AttemptRow) -> Path | None:
    """Return where the log of an attempt is saved; None if [logs] keep excludes it."""
    wanted = run.keep == "all" or (run.keep == "failed" and attempt.state == State.FAILED)
    return log_path(ledger.state_dir, run, attempt.replica, attempt.number) if wanted else None


def check_logs_can_be_saved(ledger: Ledger, run: Run) -> None:
    """Raise SkahactlError if the logs of a run cannot be saved before its sessions are deleted.

    A full disk is not an error here, because deleting frees space.
    """
    for attempt in attempts_of(ledger, run.id):
        if attempt.session is None or attempt.log not in UNREAD or attempt.state not in (State.RUNNING, *OBSERVED):
            continue
        path = _path_of(ledger, run, attempt)
        try:
            if path is not None:
                return keep.check_writable(path)
        except SkahactlError as error:
            if error.code == keep.DISK_FULL:
                return None
            raise with_delete_hint(error, run) from None
    return None


def with_delete_hint(error: SkahactlError, run: Run) -> SkahactlError:
    """Add to an error of saving logs how to delete a run without them, and return it."""
    error.hint = f"{error.hint}\nto delete without saving: {suggest('delete', run.key.name, '--no-logs')}"
    return error


class PendingReasons:
    """Reasons for Pending from events, requested once per session, for a few long-Pending sessions of each run."""

    def __init__(self, client: Client, clock: Clock, slots: int | None = None):
        self._client = client
        self._clock = clock
        self._slots = slots  # of the local platform
        self._asked: dict[int, set[str]] = {}  # run to sessions
        self._reasons: dict[str, str] = {}  # by session
        self.pool: TaskPool[str, None] = TaskPool(MAX_REASONS, lambda: None)

    def reasons(self, snapshot: RunSnapshot) -> tuple[tuple[int, str], ...]:
        """Return (replica number, reason) of replicas that are still Pending, and request events that are due."""
        pending = [a for a in snapshot.latest().values() if a.state == State.PENDING and a.session is not None]
        asked = self._asked.setdefault(snapshot.run.id, set())
        for attempt in pending:
            is_long = self._clock.now() - (attempt.pending_since or attempt.created) > LONG_PENDING
            session = attempt.session or ""
            if is_long and len(asked) < MAX_REASONS and session not in asked:
                asked.add(session)
                self.pool.submit(session, partial(self._read, session))
        return tuple((a.replica, self._reasons[a.session]) for a in pending if a.session in self._reasons)

    async def _read(self, session: str) -> None:
        with contextlib.suppress(AuthError, UnreachableError):
            self._reasons[session] = pending_reason(await self._client.events(session), self._slots)


def pending_reason(events: Sequence[Event] | None, slots: int | None = None) -> str:
    """Return the last warning, else the last event, as a reason.

    ``events`` is None if the session has no pod, or no slot of the local platform, yet.
    """
    if events is None and slots is not None:
        return f"waiting for a free slot ({'1 slot, which is' if slots == 1 else f'{slots} slots, all'} in use)"
    if events is None:
        return "queued: the platform has not created its pod yet"
    if not events:
        return "no recent events"
    last = [event for event in events if event.type == "Warning"] or list(events)
    return f"{last[-1].reason}: {last[-1].message}"


_Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ReadRate:
    """Minimum seconds between two reads of one log, bytes per second of all logs, and maximum number of parallel
    reads."""

    interval: float
    bytes_per_second: float
    at_once: int

    def pause(self, size: int, logs: int) -> float:
        """Return the seconds until a log of this size is read again, if ``logs`` logs share the rate."""
        return max(self.interval, size * logs / self.bytes_per_second)


SERVER = ReadRate(60.0, 1e6, 4)
LOCAL = ReadRate(1.0, 20e6, 1)


@dataclass(frozen=True, slots=True)
class FailedPosition:
    """The last item of a running replica that failed: its position, exit code, and the last line before its mark."""

    position: int
    exit_code: int
    line: str | None


@dataclass
class RunningLogs:
    """Reads the logs of running attempts that mark their items, and records the ends of items in the ledger.

    ``failed``: the last failed item so far, by attempt that still runs.
    """

    client: Client
    ledger: Ledger
    clock: Clock
    rate: ReadRate
    on_ends: Callable[[], None]  # called after ends of items were recorded
    failure: BaseException | None = None  # an internal error, to be raised by the driver
    failed: dict[_Key, FailedPosition] = field(default_factory=dict)
    _with_items: dict[int, frozenset[int]] = field(default_factory=dict)  # by run: replicas that mark their items
    _running: dict[_Key, AttemptRow] = field(default_factory=dict)
    _due: dict[_Key, float] = field(default_factory=dict)  # monotonic time
    _ends: dict[_Key, int] = field(default_factory=dict)  # number of ends that were recorded
    _reading: set[_Key] = field(default_factory=set)
    _free_at: float = 0.0  # when the rate allows the next read
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def follow(self, running: Iterable[AttemptRow]) -> None:
        """Read the logs of these attempts from now on. Call this after every poll."""
        now = self.clock.monotonic()
        found = {self._key(row): row for row in running if row.session and row.replica in self._marking(row.run_id)}
        for gone in self._running.keys() - found.keys():
            self._due.pop(gone, None)
            self.failed.pop(gone, None)
        for key in found.keys() - self._running.keys():
            self._due[key] = now + self.rate.interval
        self._running = found
        while self._running and len(self._tasks) < self.rate.at_once:
            task = asyncio.create_task(self._loop())
            self._tasks.add(task)
            task.add_done_callback(self._done)

    async def stop(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _key(row: AttemptRow) -> _Key:
        return row.run_id, row.replica, row.number

    def _marking(self, run_id: int) -> frozenset[int]:
        if run_id not in self._with_items:
            self._with_items[run_id] = replicas.replicas_with_each(self.ledger, run_id)
        return self._with_items[run_id]

    async def _loop(self) -> None:
        """Read one log after the other, the one that is due first, until no attempt runs."""
        while idle := self._running.keys() - self._reading:
            key = min(idle, key=self._due.__getitem__)
            wait = max(self._due[key], self._free_at) - self.clock.monotonic()
            if wait > 0:
                await self.clock.sleep(min(wait, self.rate.interval))
                continue
            self._reading.add(key)
            try:
                await self._read(key, self._running[key])
            finally:
                self._reading.discard(key)

    async def _read(self, key: _Key, attempt: AttemptRow) -> None:
        self._due[key] = self.clock.monotonic() + self.rate.interval
        try:
            marks = replicas.item_marks(self.ledger, attempt)
            read = await keep.fetch(self.client, attempt.session or "", None, marks=marks)
        except (UnreachableError, AuthError, SkahactlError):
            return  # the poll reports an outage
        now = self.clock.monotonic()
        self._free_at = max(self._free_at, now) + read.bytes / self.rate.bytes_per_second
        if key not in self._running:
            return
        self._due[key] = now + self.rate.pause(read.bytes, len(self._running))
        if len(read.ends) > self._ends.get(key, 0):
            self._ends[key] = len(read.ends)
            replicas.record_items(self.ledger, *key, read.ends)
            failed = [(position, code) for position, code in read.ends if code]
            if failed:
                self.failed[key] = FailedPosition(*failed[-1], read.last_line)
            self.on_ends()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
