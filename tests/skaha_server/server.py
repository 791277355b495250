"""The test server on a socket, inside a test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Self

from skahactl.system import Clock, SystemClock
from tests.skaha_server import connection
from tests.skaha_server.app import App
from tests.skaha_server.plan import Plan


class FakeSkaha:
    """``async with FakeSkaha(plan) as server``: listens at ``server.url``; ``server.app`` is open to the test."""

    def __init__(self, plan: Plan, *, clock: Clock | None = None, tls: ssl.SSLContext | None = None, port: int = 0):
        self.app = App(plan, clock or SystemClock())
        self.port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What a profile names: version included, no trailing slash."""
        return f"{self.base}/skaha/v1"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, ssl=self._tls, backlog=1024, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """New connections are refused until ``listen``; those that stand go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def refuse_for(self, seconds: float) -> None:
        await self.refuse()
        await asyncio.sleep(seconds)
        await self.listen()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        open_now = self.app.connections
        open_now["ever"] += 1
        open_now["open"] += 1
        open_now["most"] = max(open_now["most"], open_now["open"])
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the end of the test, which asyncio would log
                await connection.serve(reader, writer, self.app.handle)
        finally:
            open_now["open"] -= 1
            self._tasks.discard(task)
