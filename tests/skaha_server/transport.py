"""The test server without a socket, for tests in which time is simulated: real sockets would wait in real time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from tests.skaha_server.app import App
from tests.skaha_server.messages import Call, Reply


class AppTransport(httpx.AsyncBaseTransport):
    """Answers ``http://ANY/skaha/v1/...`` from ``app``; a connection that is cut is a ReadError."""

    def __init__(self, app: App):
        self.app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        reply = await self.app.handle(Call(request.method, path, query, headers, await request.aread()))
        if reply.drop is not None:
            raise httpx.ReadError("the connection was cut", request=request)
        return httpx.Response(reply.status, headers=_headers(reply), stream=_Stream(reply), request=request)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, reply: Reply):
        self._parts = [reply.body] if isinstance(reply.body, bytes) else reply.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


def _headers(reply: Reply) -> dict[str, str]:
    return {**reply.headers, **({"Content-Type": reply.content_type} if reply.content_type else {})}
