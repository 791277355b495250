"""Writes of many creates at once: each waits for one commit that it shares with its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from skahactl.ledger.database import Ledger

T = TypeVar("T")
#: Seconds that a write waits for its neighbours: at least, after another commit on a quick disk, and at the most,
#: however slow the disk is.
FIRST, SHORTEST, LONGEST = 0.003, 0.02, 0.1


class Journal:
    """Collects writes while others are on their way and commits them together; a write's result comes when it is
    durable. For one event loop, which stands still while the disk works: so at most a third of its time."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None
        self._ended = float("-inf")  # when the last commit did, and how long the next one waits from then
        self._rest = 0.0

    async def write(self, change: Callable[[], T]) -> T:
        """Runs ``change`` in a transaction and returns what it returned, once that is on disk."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush())
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Waits for what is under way."""
        if self._task is not None:
            await self._task

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(max(FIRST, self._ended + self._rest - loop.time()))
            batch, self._waiting = self._waiting, []
            begun = loop.time()
            try:
                results = self._commit(batch)
            except Exception as error:
                for _, future in batch:
                    if not future.cancelled():
                        future.set_exception(error)
                continue
            finally:
                self._ended = loop.time()
                self._rest = min(LONGEST, max(SHORTEST, 2 * (self._ended - begun)))
            for (_, future), result in zip(batch, results, strict=True):
                if not future.cancelled():
                    future.set_result(result)

    def _commit(self, batch: list[tuple[Callable[[], Any], asyncio.Future[Any]]]) -> list[Any]:
        with self._ledger.transaction():
            return [change() for change, _ in batch]
