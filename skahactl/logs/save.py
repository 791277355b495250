"""Save the logs of ended attempts that ``logs`` reads from the platform: the next command may come too late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from skahactl.engine.observe import Evidence
from skahactl.engine.record import snapshot_of, unread_logs
from skahactl.engine.tasks import LogRead, LogReader
from skahactl.errors import AuthError, UnreachableError
from skahactl.ledger.lock import living_driver
from skahactl.ledger.replicas import item_marks
from skahactl.logs.keep import LogCopy, Read

if TYPE_CHECKING:
    from pathlib import Path

    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.records import AttemptRow, Run


class SavingLogs:
    """Reads logs with ``read``, and saves those that no command has saved yet. A driver saves the logs of its own
    job."""

    def __init__(self, runtime: Runtime, runs: Iterable[Run], read: Read) -> None:
        self._runtime, self._source = runtime, read
        settings, say = runtime.profile.client, runtime.reporter.say
        self._reader = LogReader(runtime.client, runtime.ledger, runtime.clock, settings, lambda: None, say)
        self._runs = [run for run in runs if living_driver(runtime.ledger, run.key) is None]
        self._unread: dict[str, tuple[Path, AttemptRow]] = {}
        for run in self._runs:
            for attempt in unread_logs(snapshot_of(runtime.ledger, run.id)):
                path = self._reader.path_of(run, attempt)
                if path is not None and attempt.session is not None:
                    self._unread[attempt.session] = (path, attempt)

    @asynccontextmanager
    async def read(self, session: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the log of ``session`` from the source, and save a copy if no command has saved it yet."""
        async with self._source(session) as pieces:
            unread = self._unread.get(session)
            yield pieces if unread is None else self._copied(pieces, *unread)

    async def confirm(self) -> None:
        """Record what was saved, after one more list has shown that the sessions existed after their logs were read."""
        if not self._reader.to_confirm:
            return
        with contextlib.suppress(AuthError, UnreachableError):  # the logs were shown, and can be read again
            listing = await self._runtime.poll(self._runs)
            if listing is not None:
                self._reader.record(Evidence(listing))

    async def _copied(self, pieces: AsyncIterator[bytes], path: Path, attempt: AttemptRow) -> AsyncIterator[bytes]:
        begun = self._runtime.clock.now()
        copy = LogCopy(path)
        try:
            async for piece in pieces:
                copy.take(piece)
                yield piece
            marks = item_marks(self._runtime.ledger, attempt)
            saved = await asyncio.to_thread(copy.settle, marks, not self._runtime.profile.is_local)
            if saved is not None:
                self._reader.add(LogRead(attempt, saved, begun))
        finally:
            copy.close()
