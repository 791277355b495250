"""The network that httpcore sends through, on asyncio alone: what has come is handed on whole.

What httpcore takes by itself, anyio, cuts off 64 KiB at a time and copies what is left, and reads one record of TLS
(16 KiB) at a time: a long log takes it two to three times as long.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Self, cast

import httpcore

_HELD = 512 * 1024  # bytes that wait to be read; from there on no more is taken from the system
_NEXT_ADDRESS = 0.25  # seconds until the next address of a host is tried as well


class Network(httpcore.AsyncNetworkBackend):
    """Connections over TCP; no local address and no socket options can be chosen."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        connect = asyncio.get_running_loop().create_connection
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                _, stream = await connect(_NetworkStream, host, port, happy_eyeballs_delay=_NEXT_ADDRESS)
        return stream


class _NetworkStream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection. ``write`` returns at once: what we send is a form of 2 MiB at the most."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._more = asyncio.Event()  # there is a piece, or the end
        self._ended = False
        self._error: Exception | None = None
        self._transport: asyncio.Transport

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next piece as it came, however long; empty at the end."""
        if not self._more.is_set():
            with _as_httpcore(httpcore.ReadTimeout, httpcore.ReadError):
                async with asyncio.timeout(timeout):
                    await self._more.wait()
        if not self._pieces:
            if self._error is not None:
                raise httpcore.ReadError(str(self._error)) from self._error
            return b""
        piece = self._pieces.popleft()
        self._held -= len(piece)
        if not self._pieces and not self._ended:
            self._more.clear()
            self._transport.resume_reading()
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._transport.write(buffer)

    async def aclose(self) -> None:
        self._transport.abort()
        await asyncio.sleep(0)  # the loop closes the socket

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Self:
        start = asyncio.get_running_loop().start_tls
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                transport = await start(self._transport, self, ssl_context, server_hostname=server_hostname)
        self._transport = cast(asyncio.Transport, transport)
        return self

    def get_extra_info(self, info: str) -> Any:
        """``is_readable``: of a connection that waits for no answer, whether it has come to its end."""
        if info != "is_readable":
            return self._transport.get_extra_info(info)
        if self._more.is_set():
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= _HELD:
            self._transport.pause_reading()
        self._more.set()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self._error = self._error or error
        self._more.set()


@contextlib.contextmanager
def _as_httpcore(late: type[Exception], lost: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:
        raise lost(str(error)) from error
