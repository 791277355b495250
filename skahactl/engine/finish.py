"""After the end: the log of an attempt is kept before the platform forgets it. The end is recorded first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from skahactl import states
from skahactl.clock import Clock
from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.ledger import replicas
from skahactl.ledger.attempts import set_attempt
from skahactl.ledger.records import AttemptRow, Run
from skahactl.ledger.store import Ledger
from skahactl.logs import keep, places
from skahactl.paths import write_atomically
from skahactl.profile import ClientSettings
from skahactl.skaha.client import Client
from skahactl.skaha.models import Listing

Key = tuple[int, int, int]


@dataclass
class Finisher:
    """Reads the logs of ended attempts, a few at a time; each counts as kept once a list requested after the read
    still showed its session."""

    client: Client
    ledger: Ledger
    clock: Clock
    settings: ClientSettings
    on_end: Callable[[], None]
    say: Callable[[str], None]
    most: int = 8
    _tasks: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    _first_try: dict[Key, float] = field(default_factory=dict)
    _unconfirmed: dict[Key, tuple[AttemptRow, keep.Fetched, float]] = field(default_factory=dict)
    failure: BaseException | None = None  # a mistake of ours, to be raised by the driver
    _told_disk: bool = False

    def confirm(self, listing: Listing) -> None:
        """Judges the logs read before ``listing`` was requested."""
        listed = {session.id for session in listing.sessions}
        for key, (attempt, fetched, read) in list(self._unconfirmed.items()):
            if listing.requested >= read:
                del self._unconfirmed[key]
                self._record(attempt, fetched, complete=attempt.session in listed)

    def begin(self, run: Run, ended: list[AttemptRow], listed: frozenset[str]) -> None:
        """Starts reading what has not been read; what is not listed any more is lost."""
        for attempt in ended:
            key = (attempt.run_id, attempt.replica, attempt.number)
            if key in self._tasks or key in self._unconfirmed or attempt.log != "none":
                continue
            if attempt.session not in listed:
                set_attempt(self.ledger, attempt, {"log": "lost"})
            elif len(self._tasks) < self.most:
                self._first_try.setdefault(key, self.clock.now())
                task = asyncio.create_task(self._read(run, attempt))
                self._tasks[key] = task
                task.add_done_callback(partial(self._done, key))

    @property
    def idle(self) -> bool:
        return not self._tasks and not self._unconfirmed

    @property
    def to_confirm(self) -> bool:
        """Whether all that is left to do is one more list."""
        return not self._tasks and bool(self._unconfirmed)

    async def stop(self) -> None:
        """Lets go of what is being read; it is read again by the next command."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _done(self, key: Key, task: asyncio.Task[None]) -> None:
        self._tasks.pop(key, None)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
        self.on_end()

    async def _read(self, run: Run, attempt: AttemptRow) -> None:
        wanted = run.keep == "all" or (run.keep == "failed" and attempt.state == states.FAILED)
        path = places.log_path(self.ledger.state_dir, run, attempt.replica, attempt.number) if wanted else None
        marks = replicas.has_each(self.ledger, run.id, attempt.replica)
        if path is None and not marks:
            set_attempt(self.ledger, attempt, {"log": "unwanted"})
            return
        try:
            fetched = await keep.fetch(self.client, attempt.session or "", path, marks=marks)
            if path is not None and attempt.state == states.FAILED:
                await self._keep_events(attempt, str(path) + ".events")
        except (UnreachableError, AuthError):
            return  # read again at the next look
        except SkahactlError as error:
            if not self._told_disk:
                self.say(f"{error.where}: {error.message}; {error.hint}")
                self._told_disk = True
            return
        key = (attempt.run_id, attempt.replica, attempt.number)
        if fetched.bytes == 0 and self.clock.now() - self._first_try[key] < self.settings.log_patience:
            return  # it may not be there yet
        self._unconfirmed[key] = (attempt, fetched, self.clock.now())

    async def _keep_events(self, attempt: AttemptRow, path: str) -> None:
        from pathlib import Path

        events = await self.client.events(attempt.session or "")
        if events:
            rows = [f"{event.last}  {event.type}  {event.reason}  {event.message}" for event in events]
            write_atomically(Path(path), ("\n".join(rows) + "\n").encode())

    def _record(self, attempt: AttemptRow, fetched: keep.Fetched, complete: bool) -> None:
        state = "kept" if complete else "incomplete"
        if fetched.cut is not None and complete:
            state = "cut" if fetched.cut == "cut" else "perhaps cut"
        with self.ledger.transaction():
            if fetched.ends:
                replicas.record_items(self.ledger, attempt.run_id, attempt.replica, attempt.number, fetched.ends)
            columns = {"log": state, "log_path": fetched.path, "log_bytes": fetched.bytes}
            set_attempt(self.ledger, attempt, columns)
