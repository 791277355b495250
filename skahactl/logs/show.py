"""Logs shown as they are now, in order: from the copy on this machine where it is whole, else from the platform."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.logs.keep import blocks, size_of
from skahactl.logs.writers import last_lines_at

if TYPE_CHECKING:
    from pathlib import Path

    from skahactl.logs.select import AttemptLog

Read = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]]

_HELD = 2 << 20  # bytes of a log that waits for its turn
_FAILURES = 3  # in a row, and the platform is not asked for the rest


class PartWriter(Protocol):
    """Where one log goes: ``release`` at its end, then ``close``, or ``discard`` where it could not be read to it."""

    def __call__(self, data: bytes) -> None: ...

    def release(self) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...


@dataclass(slots=True)
class Shown:
    """What became of each log: with text, without any, from an unfinished copy, or not read because of an error."""

    with_text: list[AttemptLog] = field(default_factory=list)
    empty: list[AttemptLog] = field(default_factory=list)
    partial: list[AttemptLog] = field(default_factory=list)
    failed: list[AttemptLog] = field(default_factory=list)
    error: SkahactlError | None = None


async def show_logs(
    logs: Sequence[AttemptLog],
    read: Read | None,
    sink: Callable[[AttemptLog], PartWriter],
    *,
    at_once: int,
    tail: int | None = None,
) -> Shown:
    """Hands each log on to its sink, in order; up to ``at_once`` are read ahead, each within a bounded memory.

    ``tail``: only so many last lines are wanted, so a copy here is read from there on. ``read`` is needed where a log
    has no whole copy. Errors of the platform are kept in the result; those of the sink are raised.
    """
    shown = Shown()
    remote = [log.session for log in logs if log.whole is None and log.session is not None]
    ahead = _ReadAhead(read, remote, at_once) if read is not None and remote else None
    try:
        for log in logs:
            await _one(log, ahead, sink(log), shown, tail)
    finally:
        if ahead is not None:
            await ahead.stop()
    return shown


async def _one(log: AttemptLog, ahead: _ReadAhead | None, sink: PartWriter, shown: Shown, tail: int | None) -> None:
    size, failed = 0, False
    try:
        if log.whole is not None:
            size = _pour(log.whole, sink, tail)
        elif log.session is not None and ahead is not None:
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


def _pour(path: Path, sink: PartWriter, tail: int | None) -> int:
    """Hands on a copy, or what of it is needed; its whole size."""
    with path.open("rb") as stream:
        for block in blocks(stream, 0 if tail is None else last_lines_at(stream, tail)):
            sink(block)
        return size_of(stream)


class _ReadAhead:
    """Readings of logs in order: begun before their turn, held up when they have enough, passed on when it comes."""

    def __init__(self, read: Read, sessions: Sequence[str], at_once: int):
        self._read = read
        self._waiting = deque(sessions)
        self._at_once = max(1, at_once)
        self._running: deque[tuple[_HeldPart, asyncio.Task[None]]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._failures = 0
        self._last: SkahactlError | None = None

    def next(self, sink: PartWriter) -> tuple[_HeldPart, asyncio.Task[None]]:
        """Begins to hand the next log on; the task ends with it, and raises what the client raised."""
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _HeldPart:
    """What was read of a log before its turn; from then on everything goes straight to its sink."""

    def __init__(self) -> None:
        self.size = 0
        self.turn = asyncio.Event()
        self._chunks: list[bytes] = []
        self._sink: PartWriter | None = None

    @property
    def is_full(self) -> bool:
        return self._sink is None and self.size >= _HELD

    def take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._sink is None:
            self._chunks.append(chunk)
        else:
            self._sink(chunk)

    def begin(self, sink: PartWriter) -> None:
        for chunk in self._chunks:
            sink(chunk)
        self._chunks.clear()
        self._sink = sink
        self.turn.set()
