"""A bounded number of connections, each with a pool of its own.

httpcore's pool looks at every connection, several times, for each request that comes or ends; requests that begin
together are all given the same idle connection, and try again. With one connection a pool that costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx

#: The extension of a request that is called, if it is there, when its turn has come.
BEGUN = "skahactl.begun"


class ConnectionPool(httpx.AsyncBaseTransport):
    """At most ``most`` requests at once, in order of asking, each on a transport that ``make`` made; the one used last
    is used first. A response holds its lane until it is closed."""

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport], most: int) -> None:
        self._make = make
        self._free = asyncio.Semaphore(most)
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._all: list[httpx.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._free.acquire()
        try:
            lane = self._idle.pop() if self._idle else self._another()
        except BaseException:
            self._free.release()
            raise
        try:
            if BEGUN in request.extensions:
                request.extensions[BEGUN]()
            response = await lane.handle_async_request(request)
        except BaseException:
            self._give_back(lane)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _LanedStream(response.stream, lambda: self._give_back(lane))
        return response

    async def aclose(self) -> None:
        for lane in self._all:
            await lane.aclose()
        self._all, self._idle = [], []

    def _another(self) -> httpx.AsyncBaseTransport:
        lane = self._make()
        self._all.append(lane)
        return lane

    def _give_back(self, lane: httpx.AsyncBaseTransport) -> None:
        self._idle.append(lane)
        self._free.release()


class _LanedStream(httpx.AsyncByteStream):
    """A response's body; ``release`` is called once, when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, release: Callable[[], None]) -> None:
        self._inner = inner
        self._release: Callable[[], None] | None = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            release, self._release = self._release, None
            if release is not None:
                release()
