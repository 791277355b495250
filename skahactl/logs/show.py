"""Show logs once, in order: from a complete copy on this machine, else from the platform."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.logs.keep import Read, blocks, size_of
from skahactl.logs.writers import WriterChain, last_lines_at

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from skahactl.logs.select import AttemptLog

_HELD = 2 << 20  # bytes of one log that are read ahead
_FAILURES = 3  # consecutive failures after which the remaining logs are not requested


@dataclass(slots=True)
class Shown:
    """The result of each log: with text, without text, from an unfinished copy, or not read because of an error."""

    with_text: list[AttemptLog] = field(default_factory=list)
    empty: list[AttemptLog] = field(default_factory=list)
    partial: list[AttemptLog] = field(default_factory=list)
    failed: list[AttemptLog] = field(default_factory=list)
    error: SkahactlError | None = None


async def show_logs(
    logs: Sequence[AttemptLog],
    read: Read | None,
    sink: Callable[[AttemptLog], WriterChain],
    *,
    at_once: int,
    tail: int | None = None,
) -> Shown:
    """Write each log to its sink, in order. Up to ``at_once`` logs are read ahead, each within bounded memory.

    With ``tail``, only that many last lines of a local copy are read. ``read`` reads a log without a complete copy.
    Errors of the platform are part of the result; errors of the sink are raised.
    """
    shown = Shown()
    remote = [log.remote for log in logs if log.whole is None and log.remote is not None]
    ahead = _ReadAhead(read, remote, at_once) if read is not None and remote else None
    try:
        for log in logs:
            await _one(log, ahead, sink(log), shown, tail)
    finally:
        if ahead is not None:
            await ahead.stop()
    return shown


async def _one(log: AttemptLog, ahead: _ReadAhead | None, sink: WriterChain, shown: Shown, tail: int | None) -> None:
    size, failed = 0, False
    try:
        if log.whole is not None:
            size = _pour(log.whole, sink, tail)
        elif log.remote is not None and ahead is not None:
            held, task = ahead.next(sink)
            try:
                await task
            except (UnreachableError, AuthError) as error:
                failed = True
                shown.error = error
            size = held.size
            if not size and log.partial is not None:
                size = _pour(log.partial, sink, tail)
                shown.partial.append(log)
                failed = False
        sink.release()
    except BaseException:
        sink.discard()
        raise
    if failed:
        sink.discard()
        shown.failed.append(log)
        return
    sink.close()
    (shown.with_text if size else shown.empty).append(log)


def _pour(path: Path, sink: WriterChain, tail: int | None) -> int:
    """Write a saved copy, or its last ``tail`` lines, to the sink, and return the size of the whole copy."""
    with path.open("rb") as stream:
        for block in blocks(stream, 0 if tail is None else last_lines_at(stream, tail)):
            sink(block)
        return size_of(stream)


class _ReadAhead:
    """Reads logs in order: starts before their turn, pauses at a full buffer, and writes to the sink at their turn."""

    def __init__(self, read: Read, sessions: Sequence[str], at_once: int):
        self._read = read
        self._waiting = deque(sessions)
        self._at_once = max(1, at_once)
        self._running: deque[tuple[_HeldPart, asyncio.Task[None]]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._failures = 0
        self._last: SkahactlError | None = None

    def next(self, sink: WriterChain) -> tuple[_HeldPart, asyncio.Task[None]]:
        """Start to write the next log to ``sink``. The task ends with the log, and raises errors of the client."""
        import asyncio  # late: completion and help import this module, too

        while self._waiting and len(self._running) < self._at_once:
            held = _HeldPart()
            task = asyncio.create_task(self._pump(self._waiting.popleft(), held))
            self._tasks.append(task)
            self._running.append((held, task))
        held, task = self._running.popleft()
        held.begin(sink)
        return held, task

    async def _pump(self, session: str, held: _HeldPart) -> None:
        if self._failures >= _FAILURES and self._last is not None:
            raise self._last
        try:
            async with self._read(session) as chunks:
                async for chunk in chunks:
                    held.take(chunk)
                    if held.is_full:
                        await held.turn.wait()
        except (UnreachableError, AuthError) as error:
            self._failures = _FAILURES if isinstance(error, AuthError) else self._failures + 1
            self._last = error
            raise
        self._failures = 0

    async def stop(self) -> None:
        import asyncio

        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _HeldPart:
    """The buffered beginning of a log. From its turn on, all text goes directly to its sink."""

    def __init__(self) -> None:
        import asyncio

        self.size = 0
        self.turn = asyncio.Event()
        self._chunks: list[bytes] = []
        self._sink: WriterChain | None = None

    @property
    def is_full(self) -> bool:
        return self._sink is None and self.size >= _HELD

    def take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._sink is None:
            self._chunks.append(chunk)
        else:
            self._sink(chunk)

    def begin(self, sink: WriterChain) -> None:
        for chunk in self._chunks:
            sink(chunk)
        self._chunks.clear()
        self._sink = sink
        self.turn.set()
