"""Reads the logs of running replicas for the marks of ended items, at a bounded rate.

Only replicas that run their command once per item are read. On a server, a log is read at most once per minute, large
logs less often, and all logs together at 1 MB/s; on this machine, once per second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.ledger import replicas
from skahactl.logs import keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow
    from skahactl.skaha.client import Client
    from skahactl.system import Clock

_Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ReadRate:
    """Seconds between two reads of one log at least, bytes per second of all logs, and reads at the same time."""

    interval: float
    bytes_per_second: float
    at_once: int

    def pause(self, size: int, logs: int) -> float:
        """Seconds until a log of this size is read again, if so many logs share the rate."""
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
    """``failed`` holds what failed so far in attempts that still run; ends of items are recorded in the ledger."""

    client: Client
    ledger: Ledger
    clock: Clock
    rate: ReadRate
    on_ends: Callable[[], None]  # after ends of items were recorded
    failure: BaseException | None = None  # an internal error, to be raised by the driver
    failed: dict[_Key, FailedPosition] = field(default_factory=dict)
    _with_items: dict[int, frozenset[int]] = field(default_factory=dict)  # by run: replicas that mark their items
    _running: dict[_Key, AttemptRow] = field(default_factory=dict)
    _due: dict[_Key, float] = field(default_factory=dict)  # monotonic time
    _ends: dict[_Key, int] = field(default_factory=dict)  # how many were recorded
    _reading: set[_Key] = field(default_factory=set)
    _free_at: float = 0.0  # when the rate allows the next read
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def follow(self, running: Iterable[AttemptRow]) -> None:
        """From now on the logs of these attempts are read. To be called after every poll."""
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
        """Reads one log after the other, that which is due first, until nothing runs."""
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
