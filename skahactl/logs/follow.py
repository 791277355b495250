"""Follow logs: read them repeatedly until every attempt has ended, and pass on new lines as they come."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skahactl.errors import AuthError, UnreachableError
from skahactl.ledger.lock import living_driver
from skahactl.ledger.runs import run_by_id
from skahactl.logs.keep import Read, Tail, blocks
from skahactl.logs.select import AttemptLog, Choice, Empty, logs_of, why_empty
from skahactl.model import ENDED, State
from skahactl.text import count_noun, no_driver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from skahactl.engine.runtime import OutageReport
    from skahactl.ledger.database import Ledger
    from skahactl.logs.writers import WriterChain
    from skahactl.skaha.models import Listing
    from skahactl.system import Clock
    from skahactl.targets import Target

WAITING, LIVE, END_OF_LOG, GONE = "waiting", "live", "ended", "gone"


@dataclass(frozen=True, slots=True)
class LogStream:
    """The log of one attempt: ``waiting`` (no log yet), ``live``, ``ended`` (the platform still has it) or ``gone``.

    ``kept`` is the copy on this machine, if there is one.
    """

    key: tuple[int, int, int]  # number of the target, replica, attempt
    label: str
    session: str | None
    state: str
    kept: Path | None = None
    shared: str | None = None  # path in the shared record, which is read when the platform has discarded the log
    lost: str = Empty.LOST  # why there is no text, once the log is gone


@dataclass(frozen=True, slots=True)
class StreamRead:
    """The logs that can be followed now. ``more``: other attempts can still appear."""

    streams: tuple[LogStream, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class ReadPace:
    """Intervals between reads and between list calls, in seconds, and the average bytes per second that one log may
    use."""

    least: float = 2.0
    most: float = 50.0
    most_idle: float = 50.0
    bytes_per_second: float = 8192.0
    list_least: float = 2.0  # between two list calls
    list_most: float = 30.0

    def reading(self, size: int, idle: int, took: float) -> float:
        """Return the seconds until the next read of a log of ``size`` bytes.

        ``idle`` is the number of reads without new text; the last read took ``took`` seconds.
        """
        by_size = min(self.most, max(self.least, size / self.bytes_per_second))
        by_idleness = min(self.most_idle, self.least * 1.5 ** min(idle, 20))
        return max(by_size, by_idleness, took)

    def list_interval(self, age: float) -> float:
        """Return the seconds until the next list call, ``age`` seconds after the first one."""
        return min(self.list_most, self.list_least + age / 60)


REMOTE = ReadPace()
#: The local platform reads a file on this machine.
LOCAL = ReadPace(least=0.5, most=20.0, most_idle=2.0, bytes_per_second=16e6, list_least=0.5, list_most=2.0)


_PATIENCE = 5.0  # seconds that one round waits for its reads; slower ones continue during the next round
_EMPTY_READS = 3  # number of empty reads of a log with an ended session before it counts as empty
_MOST_FAILURES_WAIT = 60.0


class Follower:
    """Follow the logs that ``poll`` returns, at most ``most`` at a time; the others follow when these end."""

    def __init__(
        self,
        poll: Callable[[], Awaitable[StreamRead | None]],
        read: Read,
        sink: Callable[[LogStream], WriterChain],
        flush: Callable[[], object],
        say: Callable[[str], object],
        *,
        outage: OutageReport,
        clock: Clock,
        pace: ReadPace,
        most: int = 32,
    ):
        self._poll = poll
        self._read = read
        self._sink = sink
        self._flush = flush
        self._say = say
        self._outage = outage
        self._clock = clock
        self._pace = pace
        self._most = most
        self._followed: dict[tuple[int, int, int], _Followed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing = 0  # failures in a row
        self._reported: set[str] = set()
        self.moved = 0  # bytes read, in all
        self.lost = False  # a log exists neither on the platform nor on this machine

    async def run(self) -> None:
        """Follow until every log has ended and no other log will appear.

        ``poll`` returns None while the platform does not answer, and raises errors that waiting does not cure.
        """
        began = polled = self._clock.monotonic()
        found = await self._poll()
        try:
            while True:
                if found is not None:
                    self._update(found)
                await self._round()
                if found is not None and not found.more and all(one.done for one in self._followed.values()):
                    return
                await self._clock.sleep(self._until_next(polled, began))
                if self._clock.monotonic() >= polled + self._list_interval(began):
                    polled = self._clock.monotonic()
                    found = await self._poll() or found
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for one in self._followed.values():
                one.close()
            self._flush()

    def _update(self, found: StreamRead) -> None:
        now = self._clock.monotonic()
        there = {stream.key for stream in found.streams}
        for key in [key for key, one in self._followed.items() if key not in there and one.tail is None]:
            del self._followed[key]  # the replica has its first attempt now, which has another key
        for stream in found.streams:
            known = self._followed.get(stream.key)
            if known is None or known.stream.session != stream.session:
                if known is not None:
                    known.close()
                self._followed[stream.key] = _Followed(stream, now)
            elif known.stream.state != stream.state:
                known.stream, known.due, known.empty = stream, now, 0
        waiting = sum(one.stream.state == WAITING for one in self._followed.values())
        if waiting and waiting == len(self._followed):
            self._tell_once("waiting", f"waiting for {count_noun(waiting, 'log')}: nothing is running yet")

    async def _round(self) -> None:
        """Start the reads that are due, and wait for them for up to _PATIENCE seconds."""
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
        """Return the open logs, and as many others as the limit allows, in the order of their keys."""
        open_ones = [one for one in self._followed.values() if one.tail is not None and not one.done]
        others = [self._followed[key] for key in sorted(self._followed) if self._followed[key].may_begin]
        room = max(0, self._most - len(open_ones))
        if len(others) > room:
            self._tell_once(
                "many",
                f"following {self._most} of {len(open_ones) + len(others)} logs; others follow as these end (--max)",
            )
        return open_ones + others[:room]

    async def _one(self, one: _Followed) -> None:
        """Read one log once."""
        stream, before, began = one.stream, one.seen, self._clock.monotonic()
        tail = one.begin(self._sink)
        moved = tail.moved
        try:
            if not await self._taken(stream, tail):
                await self._taken(stream, tail)
            self._failing = 0
            self._outage.end()
        except (UnreachableError, AuthError) as error:
            self._failing += 1
            self._outage.begin(error)
            one.due = self._clock.monotonic() + min(_MOST_FAILURES_WAIT, self._pace.least * 2**self._failing)
            return
        finally:
            self.moved += tail.moved - moved
            one.busy = False
        one.after(stream, tail.moved > moved, tail.seen > before)
        if one.done and stream.state == GONE and not tail.seen:
            self.lost = True
            self._say(f"{stream.label}: {stream.lost}")
        now = self._clock.monotonic()
        one.due = now + self._pace.reading(tail.seen, one.idle, now - began)

    async def _taken(self, stream: LogStream, tail: Tail) -> bool:
        if stream.state == GONE and stream.shared is not None:
            async with self._read(stream.shared) as chunks:
                return await tail.read(chunks)
        if stream.kept is not None and stream.state in (END_OF_LOG, GONE):
            return await tail.read(_file(stream.kept))
        if stream.session is None or stream.state == GONE:
            return True
        async with self._read(stream.session) as chunks:
            return await tail.read(chunks)

    def _until_next(self, polled: float, began: float) -> float:
        due = [one.due for one in self._chosen() if not one.busy]
        next_poll = polled + self._list_interval(began)
        wait = max(0.05, min([*due, next_poll]) - self._clock.monotonic())
        return min(wait, 0.25) if self._tasks else wait  # the slow read that is running may be the last one

    def _list_interval(self, began: float) -> float:
        return self._pace.list_interval(self._clock.monotonic() - began)

    def _tell_once(self, what: str, text: str) -> None:
        if what not in self._reported:
            self._reported.add(what)
            self._say(text)


class _Followed:
    """One log that is being followed."""

    def __init__(self, stream: LogStream, due: float):
        self.stream = stream
        self.due = due
        self.tail: Tail | None = None
        self.busy = False
        self.done = False
        self.idle = 0  # consecutive reads without new text
        self.empty = 0  # consecutive empty reads
        self._sink: WriterChain | None = None

    @property
    def seen(self) -> int:
        return 0 if self.tail is None else self.tail.seen

    @property
    def may_begin(self) -> bool:
        return self.tail is None and not self.done and self.stream.state != WAITING

    def begin(self, sink: Callable[[LogStream], WriterChain]) -> Tail:
        if self.tail is None:
            self._sink = sink(self.stream)
            self.tail = Tail(self._sink)
        return self.tail

    def after(self, stream: LogStream, answered: bool, news: bool) -> None:
        """Count a read that began when the log was in the state of ``stream``.

        ``answered``: the read returned text. ``news``: some of it was new.
        """
        if answered and self._sink is not None:
            self._sink.release()
        self.idle = 0 if news else self.idle + 1
        self.empty = 0 if answered else self.empty + 1
        ended = stream.state in (END_OF_LOG, GONE)
        if ended and (answered or stream.kept or stream.state == GONE or self.empty >= _EMPTY_READS):
            self.close()

    def close(self) -> None:
        self.done = True
        if self._sink is not None:
            self._sink.release()
            self._sink.close()
            self._sink = None


async def _file(path: Path) -> AsyncIterator[bytes]:
    """Yield a saved log in blocks; nothing if it no longer exists."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        for block in blocks(stream):
            yield block


_STATES = {"Pending": WAITING, "Running": LIVE, "Terminating": LIVE, "Completed": END_OF_LOG, "Failed": END_OF_LOG}
_LISTS = 2  # number of lists that must agree before a session counts as gone


class SessionWatch:
    """Returns the logs of ``targets`` at each poll. Replicas that no driver creates are reported once and left out."""

    def __init__(
        self,
        ledger: Ledger,
        targets: Sequence[Target],
        choice: Choice,
        poll: Callable[[], Awaitable[Listing | None]],
        say: Callable[[str], object],
    ):
        self._ledger = ledger
        self._targets = targets
        self._choice = choice
        self._poll = poll
        self._say = say
        self._earlier: dict[int, set[tuple[int, int, int]]] = {}  # by target: earlier attempts at the first poll
        self._absent: dict[str, int] = {}  # session: number of consecutive lists without it
        self._last: dict[str, str] = {}
        self._reported: set[str] = set()
        self.left_out = False  # replicas are queued, and no command creates them

    async def poll(self) -> StreamRead | None:
        """Return the logs that can be followed now; None if that takes a list and the platform does not answer."""
        logs: list[AttemptLog] = []
        more = False
        for place, target in enumerate(self._targets):
            driven = self._is_driven(target)
            more = more or driven
            logs += self._with_log(target, self._logs(target, place), driven)
        listed: dict[str, str] = {}
        if any(log.whole is None for log in logs):
            listing = await self._poll()
            if listing is None:
                return None
            listed = {session.id: session.status for session in listing.sessions}
        return StreamRead(tuple(self._stream(log, listed) for log in logs), more)

    def _is_driven(self, target: Target) -> bool:
        """Return whether a driver of the unfinished run is running, which may create further attempts."""
        run = None if target.run is None or target.session is not None else run_by_id(self._ledger, target.run.id)
        return run is not None and run.ended is None and living_driver(self._ledger, run.key) is not None

    def _logs(self, target: Target, place: int) -> list[AttemptLog]:
        """Return the logs of the requested attempt, else of the latest attempt at the first poll and all later ones."""
        if self._choice.attempt is not None or target.session is not None:
            return list(logs_of(self._ledger, target, place, self._choice))
        every = logs_of(self._ledger, target, place, replace(self._choice, attempt=0))
        latest = {log.key[1]: log.key for log in every}
        earlier = self._earlier.setdefault(place, {log.key for log in every} - set(latest.values()))
        first = "/1.1" if target.run is not None and target.run.total == 1 else ".1"
        return [replace(log, label=log.label.removesuffix(first)) for log in every if log.key not in earlier]

    def _with_log(self, target: Target, logs: list[AttemptLog], driven: bool) -> list[AttemptLog]:
        """Return the logs that exist or will exist; report replicas without a session and without a driver once."""
        there = [log for log in logs if driven or log.remote is not None or log.whole is not None]
        if len(there) < len(logs):
            name = target.word if target.run is None else target.run.key.name
            held = any(
                log.state in (State.QUEUED, State.CREATING, State.UNCONFIRMED) for log in logs if log not in there
            )
            self.left_out = self.left_out or held
            missing = count_noun(len(logs) - len(there), "replica")
            advice = ""
            if held and target.run is not None:
                from skahactl.engine.outcome import continuing

                again = continuing(self._ledger, [target.run])
                advice = f"; {no_driver()}, so nothing starts them. To continue: {again}"
            self._tell_once(f"{name}: {missing} without a session{advice}")
        return there

    def _stream(self, log: AttemptLog, listed: dict[str, str]) -> LogStream:
        lost = why_empty(log, listed) if log.state in ENDED else Empty.LOST
        state = self._state(log, listed)
        kept = log.kept if state == GONE else log.whole  # a part is of use only where nothing can extend it
        return LogStream(log.key, log.label, log.session, state, kept, log.shared, lost)

    def _state(self, log: AttemptLog, listed: dict[str, str]) -> str:
        if log.whole is not None:
            return END_OF_LOG
        if log.session is None:
            return GONE if log.state in ENDED else WAITING
        if log.session in listed:
            self._absent.pop(log.session, None)
            self._last[log.session] = _STATES.get(listed[log.session], LIVE)
            return self._last[log.session]
        self._absent[log.session] = self._absent.get(log.session, 0) + 1
        if self._absent[log.session] >= _LISTS or log.state in ENDED:
            return GONE
        return self._last.get(log.session, LIVE)

    def _tell_once(self, text: str) -> None:
        if text not in self._reported:
            self._reported.add(text)
            self._say(text)
