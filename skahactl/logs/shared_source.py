"""Logs of the shared record: read by path, and in place of a log that the server has discarded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skahactl.logs.keep import LogSource
    from skahactl.logs.select import AttemptLog
    from skahactl.skaha.storage import SharedStorage


class SharedLogSource:
    """Logs of the shared record by path, as ``logs.keep.fetch`` reads them."""

    server = ""

    def __init__(self, storage: SharedStorage) -> None:
        self._storage = storage

    @asynccontextmanager
    async def log(self, id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._storage.log(id) as pieces:
            yield _nothing() if pieces is None else pieces


class FallbackLogs:
    """Reads a log by session id or by path in the shared record, from whichever of the two has text.

    ``empty``: paths of logs that exist and have no text.
    """

    def __init__(self, client: LogSource, storage: SharedStorage) -> None:
        self.empty: set[str] = set()
        self._client = client
        self._storage = storage
        self._other: dict[str, str] = {}

    def add(self, logs: Iterable[AttemptLog]) -> None:
        """Record which session and which path belong to the same attempt."""
        for log in logs:
            if log.session is not None and log.shared is not None:
                self._other[log.session] = log.shared
                self._other[log.shared] = log.session

    @asynccontextmanager
    async def read(self, source: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the log at ``source``; if it has no text, read the other copy of it."""
        async with self._open(source) as pieces:
            first = await anext(pieces, None)
            if first is not None:
                yield _joined(first, pieces)
                return
        other = self._other.get(source)
        if other is None:
            yield _nothing()
            return
        async with self._open(other) as pieces:
            yield pieces

    @asynccontextmanager
    async def _open(self, source: str) -> AsyncIterator[AsyncIterator[bytes]]:
        if not source.startswith("/"):
            async with self._client.log(source) as pieces:
                yield pieces
            return
        async with self._storage.log(source) as found:
            yield _nothing() if found is None else self._noted(source, found)

    async def _noted(self, path: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        is_empty = True
        async for piece in pieces:
            is_empty = False
            yield piece
        if is_empty:
            self.empty.add(path)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield
