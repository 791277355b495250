"""A proxy in front of a server: it counts the requests, and fails some of those for the storage service.

It leaves out the exit code and the end of a session, which the local platform gives and a server does not.

A fault depends on the seed, the path and how often that path was asked for, not on the order of parallel requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

_ENDS = re.compile(rb',\s*"(?:exactStartTime|endTime|exitCode)":\s*(?:"[^"]*"|\d+)')
#: What is done to a failed request. ``short``: the connection ends after half of the body; ``cut``: half of the body
#: is sent as if it were the whole.
FAULTS = ("500", "503", "reset", "short", "cut")


@dataclass
class FaultyProxy:
    """Passes requests on to ``target`` (host and port); ``share`` of those below /arc fail, with one of ``faults``."""

    target: str
    share: float = 0.0
    seed: int = 0
    faults: tuple[str, ...] = FAULTS
    log_delay: float = 0.0  # seconds before the reply to a request for the log of a session
    requests: Counter[str] = field(default_factory=Counter)  # METHOD /path
    failed: Counter[str] = field(default_factory=Counter)  # by fault

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                is_open = True
                while is_open:
                    head = await reader.readuntil(b"\r\n\r\n")
                    reply, is_open = await self._answer(head, await reader.readexactly(_length(head)))
                    writer.write(reply)
                    await writer.drain()
            finally:
                writer.close()

    async def _answer(self, head: bytes, body: bytes) -> tuple[bytes, bool]:
        """The bytes to send back, and whether the connection stays open then."""
        method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
        key = f"{method} {path.partition('?')[0]}"
        self.requests[key] += 1
        if path.endswith("?view=logs"):
            await asyncio.sleep(self.log_delay)
        fault = self._fault(key)
        if fault is not None:
            self.failed[fault] += 1
        if fault == "500":
            return _reply(b"500 Internal Server Error", b"unexpected exception: java.io.IOException"), True
        if fault == "503":
            return _reply(b"503 Service Unavailable", b"temporarily unavailable", b"Retry-After: 1\r\n"), True
        if fault == "reset":
            return b"", False
        start, content = await self._upstream(head, body)
        if fault == "cut":  # as of a file that is replaced while it is read: nothing shows that something is missing
            content = content[: len(content) // 2]
        reply = start + (b"" if b" 204 " in start[:16] else b"\r\nContent-Length: %d" % len(content)) + b"\r\n\r\n"
        if fault == "short":
            return reply + content[: len(content) // 2], False
        return reply + content, True

    def _fault(self, key: str) -> str | None:
        if not key.partition(" ")[2].startswith("/arc/"):
            return None
        random = Random(f"{self.seed} {key} {self.requests[key]}")
        faults = [fault for fault in self.faults if fault != "cut" or not key.endswith(".log")]  # a log only grows
        return random.choice(faults) if random.random() < self.share else None

    async def _upstream(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """The head of the server's reply without a length, and its body."""
        host, _, port = self.target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = _without(head, b"host", b"connection")
        lines[0] = lines[0].replace(b"HTTP/1.1", b"HTTP/1.0")
        lines[1:1] = [b"Host: " + self.target.encode()]
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        start, _, content = (await reader.read()).partition(b"\r\n\r\n")
        if b"application/json" in start:
            content = _ENDS.sub(b"", content)
        writer.close()
        return b"\r\n".join(_without(start, b"connection", b"content-length", b"transfer-encoding")), content


def _without(head: bytes, *names: bytes) -> list[bytes]:
    """The lines of a head without these headers."""
    return [line for line in head.split(b"\r\n") if line and line.partition(b":")[0].lower() not in names]


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _reply(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    form = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s\r\n%s"
    return form % (status, len(body), headers, body)


@contextlib.contextmanager
def proxy_to(url: str, share: float = 0.0, seed: int = 0) -> Iterator[tuple[str, FaultyProxy]]:
    """The address that stands for ``url``, and the proxy behind it, which can be changed at any time."""
    proxy = FaultyProxy(urlsplit(url).netloc, share, seed)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    port = server.sockets[0].getsockname()[1]
    try:
        yield url.replace(proxy.target, f"127.0.0.1:{port}"), proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
