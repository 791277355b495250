"""A server of logs alone, on a real socket: each session's log is what the test last said it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from skahactl.platforms import open_client
from skahactl.profile import Auth, ClientSettings, Profile
from skahactl.skaha.client import Client


class LogServer:
    """``texts``: session to log. ``breaks_after``: the connection is closed after so many bytes of a log."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.breaks_after: int | None = None
        self.reads = 0
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def profile(self) -> Profile:
        url = f"http://127.0.0.1:{self.port}/skaha/v1"
        return Profile("test", url, auth=Auth(), client=ClientSettings(timeout=10))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(await reader.readuntil(b"\r\n\r\n"), writer):
                    pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        session = head.split(b" ")[1].split(b"?")[0].rsplit(b"/", 1)[-1].decode()
        text = self.texts.get(session, b"")
        self.reads += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(text))
        writer.write(text[: self.breaks_after])
        await writer.drain()
        return self.breaks_after is None


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[LogServer, Client]]:
    """The server, and a client of it."""
    logs = LogServer()
    server = await asyncio.start_server(logs.serve, "127.0.0.1", 0)
    logs.port = server.sockets[0].getsockname()[1]
    try:
        async with open_client(logs.profile, environ={}) as client:
            yield logs, client
    finally:
        server.close()
        for task in logs.tasks:
            task.cancel()
        await asyncio.gather(*logs.tasks)


def lines(first: int, last: int) -> bytes:
    """Lines ``first`` to ``last`` - 1 of a log in which no two are equal; 32 bytes each."""
    return b"".join(b"%08d a line like any others\n" % number for number in range(first, last))
