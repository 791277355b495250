"""Logs shown as they are now, in order: from the copy on this machine where it is whole, else from the platform."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.logs.choose import AttemptLog
from skahactl.logs.lines import last_lines_at
from skahactl.logs.overlap import blocks, size_of

Read = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]]

_PIECE = 64 * 1024
_PIECES = 48  # of a log that waits for its turn: 3 MB
_FAILURES = 3  # in a row, and the platform is not asked for the rest


class Sink(Protocol):
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


async def show(
    logs: Sequence[AttemptLog],
    read: Read | None,
    sink: Callable[[AttemptLog], Sink],
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
    ahead = _Ahead(read, remote, at_once) if read is not None and remote else None
    try:
        for log in logs:
            await _one(log, ahead, sink(log), shown, tail)
    finally:
        if ahead is not None:
            await ahead.stop()
    return shown


async def _one(log: AttemptLog, ahead: _Ahead | None, sink: Sink, shown: Shown, tail: int | None) -> None:
    size, failed = 0, False
    try:
        if log.whole is not None:
            size = _pour(log.whole, sink, tail)
        elif log.session is not None and ahead is not None:
            try:
                async for piece in ahead.next():
                    size += len(piece)
                    sink(piece)
            except (UnreachableError, AuthError) as error:
                failed = True
                shown.error = error
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


def _pour(path: Path, sink: Sink, tail: int | None) -> int:
    """Hands on a copy, or what of it is needed; its whole size."""
    with path.open("rb") as stream:
        for block in blocks(stream, 0 if tail is None else last_lines_at(stream, tail)):
            sink(block)
        return size_of(stream)


class _Ahead:
    """Readings of logs in order, begun before their turn and held up when their buffer is full."""

    def __init__(self, read: Read, sessions: Sequence[str], at_once: int):
        self._read = read
        self._waiting = deque(sessions)
        self._at_once = max(1, at_once)
        self._running: deque[tuple[asyncio.Queue[bytes | SkahactlError | None], asyncio.Task[None]]] = deque()
        self._failures = 0
        self._last: SkahactlError | None = None

    async def next(self) -> AsyncIterator[bytes]:
        """The pieces of the next log; raises what the client raised."""
        while self._waiting and len(self._running) < self._at_once:
            queue: asyncio.Queue[bytes | SkahactlError | None] = asyncio.Queue(_PIECES)
            self._running.append((queue, asyncio.create_task(self._pump(self._waiting.popleft(), queue))))
        queue, task = self._running.popleft()
        while (piece := await queue.get()) is not None:
            if isinstance(piece, SkahactlError):
                raise piece
            yield piece
        await task

    async def _pump(self, session: str, queue: asyncio.Queue[bytes | SkahactlError | None]) -> None:
        if self._failures >= _FAILURES and self._last is not None:
            await queue.put(self._last)
            return
        held: list[bytes] = []
        size = 0
        try:
            async with self._read(session) as chunks:
                async for chunk in chunks:
                    held.append(chunk)
                    size += len(chunk)
                    if size >= _PIECE:
                        await queue.put(b"".join(held))
                        held, size = [], 0
        except (UnreachableError, AuthError) as error:
            self._failures = _FAILURES if isinstance(error, AuthError) else self._failures + 1
            self._last = error
            await queue.put(error)
            return
        self._failures = 0
        if held:
            await queue.put(b"".join(held))
        await queue.put(None)

    async def stop(self) -> None:
        for _, task in self._running:
            task.cancel()
        await asyncio.gather(*(task for _, task in self._running), return_exceptions=True)
