"""HTTP/1.1 over asyncio streams with h11: one task a connection, requests one after another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

import h11

from tests.skaha_server.messages import Call, Reply, page

Handler = Callable[[Call], Awaitable[Reply]]
MAX_HEAD = 8192  # Tomcat's limit of request line and headers


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
    """Answers until either side ends. A request that was read is handled, whether or not its client is still there."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    try:
        while True:
            call = await _call(connection, reader, writer)
            if call is None:
                break
            reply = await handle(call)
            if reply.drop is not None:
                if reply.drop == "reset":
                    writer.transport.abort()
                break
            await _send(connection, writer, reply, head=call.method == "HEAD")
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                break
            connection.start_next_cycle()
    except (ConnectionError, h11.LocalProtocolError):
        pass  # the client went away
    except h11.RemoteProtocolError:
        with contextlib.suppress(ConnectionError):
            await _refuse(connection, writer)
    finally:
        writer.close()


async def _call(connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call | None:
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                writer.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return _as_call(request, bytes(body))
        else:
            return None  # closed, or paused for good


def _as_call(request: h11.Request, body: bytes) -> Call:
    head = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
    if head > MAX_HEAD:
        raise h11.RemoteProtocolError("Request header is too large")
    path, _, query = request.target.decode("latin-1").partition("?")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers}
    return Call(request.method.decode("ascii"), path, query, headers, body)


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, reply: Reply, *, head: bool) -> None:
    parts: Iterable[bytes] = [reply.body] if isinstance(reply.body, bytes) else reply.body
    length = len(reply.body) if isinstance(reply.body, bytes) else reply.length or 0
    headers = [("Content-Length", str(length)), *reply.headers.items()]
    if reply.content_type is not None and length:
        headers.append(("Content-Type", reply.content_type))
    begun = connection.send(h11.Response(status_code=reply.status, headers=headers)) or b""
    for part in () if head else parts:  # the head leaves with the first part, as Tomcat sends it
        writer.write(begun + (connection.send(h11.Data(data=part)) or b""))
        begun = b""
        await writer.drain()
        await asyncio.sleep(reply.pause)
    writer.write(begun + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()


async def _refuse(connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
    """Tomcat's page for a request that it cannot read."""
    if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        await _send(connection, writer, page(400, "Bad Request"), head=False)
