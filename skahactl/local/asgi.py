"""The local platform behind a socket: who may ask, and how answers go out.

It runs commands for whoever is let in, and every web page can make a browser send a form to a loopback port. So each
request needs the bearer token, must name this server as its Host, must not come from a page (Origin), and has at most
2 MiB.
"""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from skahactl.local import http
from skahactl.local.api import Platform
from skahactl.local.http import HttpAnswer, LocalCall
from skahactl.local.queue import StoreError
from skahactl.local.transport import LogStream

#: As the servlet container has it (skaha-api 3.1).
LARGEST_BODY = 2 * 1024 * 1024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AccessGate:
    """An ASGI application in front of a Platform.

    ``hosts``: the values of Host that are ours, in lower case.
    """

    def __init__(self, platform: Platform, token: str, hosts: frozenset[str], threads: ThreadPoolExecutor):
        self._platform, self._token, self._hosts, self._threads = platform, token.encode(), hosts, threads

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        pairs = [(name.decode("latin-1").lower(), value) for name, value in scope["headers"]]
        headers = {name: value.decode("latin-1") for name, value in reversed(pairs)}
        refusal = self._refusal(pairs) or _too_large(headers.get("content-length"))
        body = b"" if refusal else await _body(receive)
        if body is None:
            refusal = _TOO_LARGE
        if refusal is not None:
            await _send_reply(refusal, send, self._threads, scope["method"])
            return
        query = scope["query_string"].decode("latin-1")
        call = LocalCall(scope["method"], scope["path"], query, headers, body or b"")
        await _send_reply(await self._answered(call), send, self._threads, scope["method"])

    def _refusal(self, pairs: list[tuple[str, bytes]]) -> HttpAnswer | None:
        """403 for what a browser may have sent, 401 for who does not know the token."""
        values: dict[str, list[bytes]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        if [host.decode("latin-1").lower() in self._hosts for host in values.get("host", [])] != [True]:
            return http.text("This server answers to its own name and port only.\n", 403)
        if "origin" in values or "sec-fetch-site" in values:
            return http.text("Requests of web pages are not served.\n", 403)
        tokens = values.get("authorization", [])
        if not tokens:
            return _unauthorized("Unauthorized\n")
        scheme, _, token = tokens[0].partition(b" ")
        known = hmac.compare_digest(token.strip(), self._token)
        if len(tokens) != 1 or scheme.lower() != b"bearer" or not known:
            return _unauthorized("Invalid token")
        return None

    async def _answered(self, call: LocalCall) -> HttpAnswer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._platform.answer, call)
        except (OSError, sqlite3.Error, StoreError) as error:
            plain = http.text("temporarily unavailable: null\n", 503)
            return HttpAnswer(
                503, {**plain.headers, "retry-after": "30", "x-skahactl-reason": _one_line(error)}, plain.body
            )
        except Exception as error:
            return http.text(f"unexpected exception: {_one_line(error)}", 500)


_TOO_LARGE = http.text(f"A request has at most {LARGEST_BODY} bytes.\n", 413)


def _too_large(length: str | None) -> HttpAnswer | None:
    return _TOO_LARGE if length is not None and length.isdigit() and int(length) > LARGEST_BODY else None


def _unauthorized(body: str) -> HttpAnswer:
    plain = http.text(body, 401)
    return HttpAnswer(401, {**plain.headers, "www-authenticate": 'Bearer realm="skahactl serve"'}, plain.body)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".encode("ascii", "replace").decode().split())


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if it is too large, or never came."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _send_reply(answer: HttpAnswer, send: Send, threads: ThreadPoolExecutor, method: str) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.status == 413:
        headers.append((b"connection", b"close"))
    stream = None if answer.log is None else LogStream(*answer.log, threads)
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if stream is not None and method != "HEAD":
            async for piece in stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})
    finally:
        if stream is not None:
            await stream.aclose()
