"""Logs followed: read again and again until every attempt has ended, the new lines handed on as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from skahactl.clock import Clock
from skahactl.errors import AuthError, UnreachableError
from skahactl.logs.overlap import blocks
from skahactl.logs.pace import ReadPace
from skahactl.logs.strand import ENDED, GONE, WAITING, LogStream, StreamRead, StreamWriter
from skahactl.logs.tail import Tail
from skahactl.words import count_noun

_PATIENCE = 5.0  # seconds that one round waits for its readings; slower ones go on beside the next
_EMPTY_READS = 3  # of a log whose session has ended, before it counts as empty
_MOST_FAILURES_WAIT = 60.0


class Follower:
    """Follows what ``look`` shows; at most ``most`` logs at a time, the others as these end."""

    def __init__(
        self,
        look: Callable[[], Awaitable[StreamRead]],
        read: Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]],
        sink: Callable[[LogStream], StreamWriter],
        flush: Callable[[], object],
        say: Callable[[str], object],
        *,
        clock: Clock,
        pace: ReadPace,
        most: int = 32,
    ):
        self._look = look
        self._read = read
        self._sink = sink
        self._flush = flush
        self._say = say
        self._clock = clock
        self._pace = pace
        self._most = most
        self._followed: dict[tuple[int, int, int], _Followed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing = 0  # failures in a row
        self._told: set[str] = set()
        self.moved = 0  # bytes read, in all
        self.lost = False  # a log is neither there nor here any more

    async def run(self) -> None:
        """Until every log has ended and no other will appear. The first look's errors are raised; a later outage is
        told, and outlasted."""
        began = looked = self._clock.monotonic()
        look = await self._look()
        try:
            while True:
                self._update(look)
                await self._round()
                if not look.more and all(one.done for one in self._followed.values()):
                    return
                await self._clock.sleep(self._until_next(looked, began))
                if self._clock.monotonic() >= looked + self._look_interval(began):
                    looked = self._clock.monotonic()
                    look = await self._looked(look)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for one in self._followed.values():
                one.close()
            self._flush()

    def _update(self, look: StreamRead) -> None:
        now = self._clock.monotonic()
        there = {strand.key for strand in look.strands}
        for key in [key for key, one in self._followed.items() if key not in there and one.tail is None]:
            del self._followed[key]  # a replica that had no attempt yet, and has one now
        for strand in look.strands:
            known = self._followed.get(strand.key)
            if known is None or known.strand.session != strand.session:
                if known is not None:
                    known.close()
                self._followed[strand.key] = _Followed(strand, now)
            elif known.strand.state != strand.state:
                known.strand, known.due, known.empty = strand, now, 0
        waiting = sum(one.strand.state == WAITING for one in self._followed.values())
        if waiting and waiting == len(self._followed):
            self._tell_once("waiting", f"waiting for {count_noun(waiting, 'log')}: nothing runs yet")

    async def _round(self) -> None:
        """Starts the readings that are due, and waits for them, but not for long."""
        now = self._clock.monotonic()
        for one in self._chosen():
            if one.due <= now and not one.busy:
                one.busy = True
                self._tasks.add(asyncio.create_task(self._one(one)))
        if self._tasks:
            done, self._tasks = await asyncio.wait(self._tasks, timeout=_PATIENCE)
            self._flush()
            for task in done:
                task.result()

    def _chosen(self) -> list[_Followed]:
        """Those that are followed already, and as many others as there is room for, in the order of their keys."""
        open_ones = [one for one in self._followed.values() if one.tail is not None and not one.done]
        others = [self._followed[key] for key in sorted(self._followed) if self._followed[key].may_begin]
        room = max(0, self._most - len(open_ones))
        if len(others) > room:
            self._tell_once(
                "many",
                f"following {self._most} logs of {len(open_ones) + len(others)}; the others as these end (--max)",
            )
        return open_ones + others[:room]

    async def _one(self, one: _Followed) -> None:
        """One reading of one log."""
        strand, before, began = one.strand, one.seen, self._clock.monotonic()
        tail = one.begin(self._sink)
        moved = tail.moved
        try:
            if not await self._taken(strand, tail):
                await self._taken(strand, tail)
            self._recovered()
        except (UnreachableError, AuthError) as error:
            self._failed(error)
            one.due = self._clock.monotonic() + min(_MOST_FAILURES_WAIT, self._pace.least * 2**self._failing)
            return
        finally:
            self.moved += tail.moved - moved
            one.busy = False
        one.after(strand, tail.moved > moved, tail.seen > before)
        if one.done and strand.state == GONE and not tail.seen:
            self.lost = True
            self._say(f"{strand.label}: the platform has forgotten its log, and it was not kept")
        now = self._clock.monotonic()
        one.due = now + self._pace.reading(tail.seen, one.idle, now - began)

    async def _taken(self, strand: LogStream, tail: Tail) -> bool:
        if strand.kept is not None and strand.state in (ENDED, GONE):
            return await tail.read(_file(strand.kept))
        if strand.session is None or strand.state == GONE:
            return True
        async with self._read(strand.session) as chunks:
            return await tail.read(chunks)

    async def _looked(self, before: StreamRead) -> StreamRead:
        try:
            look = await self._look()
        except (UnreachableError, AuthError) as error:
            self._failed(error)
            return before
        self._recovered()
        return look

    def _failed(self, error: UnreachableError | AuthError) -> None:
        self._failing += 1
        if self._failing == 1:
            self._say(f"{error.message}; going on as soon as it answers")

    def _recovered(self) -> None:
        if self._failing:
            self._say("the platform answers again")
        self._failing = 0

    def _until_next(self, looked: float, began: float) -> float:
        due = [one.due for one in self._chosen() if not one.busy]
        next_look = looked + self._look_interval(began)
        wait = max(0.05, min([*due, next_look]) - self._clock.monotonic())
        return min(wait, 0.25) if self._tasks else wait  # a slow reading may have been the last

    def _look_interval(self, began: float) -> float:
        return self._pace.look(self._clock.monotonic() - began)

    def _tell_once(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._say(text)


class _Followed:
    """One log on its way."""

    def __init__(self, strand: LogStream, due: float):
        self.strand = strand
        self.due = due
        self.tail: Tail | None = None
        self.busy = False
        self.done = False
        self.idle = 0  # readings in a row without news
        self.empty = 0  # of them, empty ones after the end
        self._sink: StreamWriter | None = None

    @property
    def seen(self) -> int:
        return 0 if self.tail is None else self.tail.seen

    @property
    def may_begin(self) -> bool:
        return self.tail is None and not self.done and self.strand.state != WAITING

    def begin(self, sink: Callable[[LogStream], StreamWriter]) -> Tail:
        if self.tail is None:
            self._sink = sink(self.strand)
            self.tail = Tail(self._sink)
        return self.tail

    def after(self, strand: LogStream, answered: bool, news: bool) -> None:
        """Counts a reading that began when the log stood as ``strand`` says."""
        if answered and self._sink is not None:
            self._sink.release()
        self.idle = 0 if news else self.idle + 1
        self.empty = 0 if answered else self.empty + 1
        ended = strand.state in (ENDED, GONE)
        if ended and (answered or strand.kept or strand.state == GONE or self.empty >= _EMPTY_READS):
            self.close()

    def close(self) -> None:
        self.done = True
        if self._sink is not None:
            self._sink.release()
            self._sink.close()
            self._sink = None


async def _file(path: Path) -> AsyncIterator[bytes]:
    """A kept log as one reading; nothing if it is not there any more."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        for block in blocks(stream):
            yield block
