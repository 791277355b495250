"""Group commit: concurrent writes wait for one commit that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from skahactl.ledger.database import Ledger

T = TypeVar("T")
#: Seconds that a write waits for others: at least (after a commit on a fast disk) and at most (on a slow disk).
FIRST, SHORTEST, LONGEST = 0.003, 0.02, 0.1


class Journal:
    """Collects writes and commits them together; the result of a write is available when it is durable.

    For one event loop, which is blocked during a commit: commits take at most a third of its time.
    """

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None
        self._ended = float("-inf")  # end of the last commit, and how long the next one waits after it
        self._rest = 0.0

    async def write(self, change: Callable[[], T]) -> T:
        """Run ``change`` in a transaction, and return its result once it is on disk."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._flush())
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Wait for pending writes."""
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
