"""How many creates may be under way at once: halved when the server struggles, raised again as it recovers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Throttle:
    """At most ``limit`` holders of a slot at once, in order of asking; ``limit`` moves between 1 and ``most``.

    A struggle (503, timeout) halves the limit, once for all creates that were under way together; every
    second success raises it by one, so that a few refusals among many creates cost little.
    """

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.limit = self.most
        self._held = 0
        self._successes = 0
        self._excused = 0  # those that were under way when the limit was halved: their struggles are the same one
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        await self._acquire()
        try:
            yield
        finally:
            self._held -= 1
            self._excused = max(0, self._excused - 1)
            self._wake()

    def succeeded(self) -> None:
        self._successes += 1
        if self._successes >= 2 and self.limit < self.most:
            self.limit += 1
            self._successes = 0
            self._wake()

    def struggled(self) -> None:
        self._successes = 0
        if self._excused == 0:
            self.limit = max(1, self.limit // 2)
            self._excused = self._held

    async def _acquire(self) -> None:
        if self._held < self.limit and not self._waiting:
            self._held += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was handed over in the same moment
                self._held -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._held < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._held += 1
                turn.set_result(None)
