"""Our own way over the network: bytes pass unchanged, memory is bounded, and every end is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skahactl.errors import UnreachableError
from skahactl.model import Request
from skahactl.platforms import open_client
from skahactl.profile import Auth, ClientSettings, Profile
from skahactl.skaha.client import Client
from tests.certificates import file, issued

TEXT = b"".join(b"%09d the quick brown fox\n" % number for number in range(100_000))
PLAIN, COUNTED, CHUNKED = b"", b"Content-Length: %d\r\n" % len(TEXT), b"Transfer-Encoding: chunked\r\n"
Answer = Callable[[socket.socket], object]


class Wire:
    """A server; each connection answers its requests with the next of ``answers``, and is closed after the last."""

    def __init__(self, *connections: list[Answer], context: ssl.SSLContext | None = None) -> None:
        self._connections = connections
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._socket.getsockname()[1]}/skaha/v1"
        self.may_close = threading.Event()
        self.may_close.set()
        self.closed = threading.Event()  # the first connection is

    @contextlib.contextmanager
    def serving(self) -> Iterator[Wire]:
        thread = threading.Thread(target=self._serve)
        thread.start()
        try:
            yield self
        finally:
            thread.join(20)
            self._socket.close()

    def _serve(self) -> None:
        for answers in self._connections:
            accepted, _ = self._socket.accept()
            with contextlib.suppress(OSError), self._secured(accepted) as connection:
                for answer in answers:
                    _take_request(connection)
                    answer(connection)
                self.may_close.wait(20)
            self.closed.set()

    def _secured(self, accepted: socket.socket) -> socket.socket:
        return accepted if self._context is None else self._context.wrap_socket(accepted, server_side=True)


def _take_request(connection: socket.socket) -> None:
    with connection.makefile("rb") as stream:
        size = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        stream.read(size)


def head(*lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + b"".join(lines) + b"\r\n"


def created(connection: socket.socket) -> None:
    connection.sendall(head(b"Content-Length: 9\r\n") + b"abcd1234\n")


def with_client(wire: Wire, use: Callable[[Client], Awaitable[Any]], **settings: Any) -> Any:
    profile = Profile("test", wire.url, auth=Auth(), client=ClientSettings(**{"timeout": 5.0, **settings}))

    async def main() -> Any:
        async with open_client(profile, environ={}) as client:
            return await use(client)

    with wire.serving():
        return asyncio.run(main())


async def read(client: Client) -> bytes:
    async with client.log("x") as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """The context of a server, and the file of who vouches for it."""
    root: Path = tmp_path_factory.mktemp("tls")
    authority = issued("Test Authority")
    served = issued("server", authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file(root / "server.pem", served.pem, served.key_pem))
    return context, str(file(root / "ca.pem", authority.pem))


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("framing", [COUNTED, CHUNKED, PLAIN], ids=["counted", "chunked", "to the end"])
def test_bytes_pass_unchanged(framing: bytes, tls: bool, secure: tuple[ssl.SSLContext, str]) -> None:
    def answer(connection: socket.socket) -> None:
        sizes = random.Random(7)
        connection.sendall(head(framing))
        at = 0
        while at < len(TEXT):
            piece = TEXT[at : at + sizes.choice((1, 100, 8192, 70_000, 600_000))]
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if framing is CHUNKED else piece)
            at += len(piece)
        connection.sendall(b"0\r\n\r\n" if framing is CHUNKED else b"")

    context, authority = secure
    wire = Wire([answer], context=context if tls else None)
    assert with_client(wire, read, ca_file=authority) == TEXT


def test_what_no_command_reads_is_not_taken_in() -> None:
    taken = 0

    def answer(connection: socket.socket) -> None:
        nonlocal taken
        connection.sendall(head(b"Content-Length: 1000000000\r\n"))
        while taken < 1_000_000_000:
            taken += connection.send(TEXT[:100_000])

    async def use(client: Client) -> None:
        async with client.log("x") as pieces:
            assert await anext(pieces)
            before = 0
            while not 0 < before == taken:  # until no more is taken
                before = taken
                await asyncio.sleep(0.5)
            assert taken < 50_000_000

    with_client(Wire([answer]), use)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_an_answer_cut_short_is_an_error(tls: bool, secure: tuple[ssl.SSLContext, str]) -> None:
    context, authority = secure
    wire = Wire(
        [lambda connection: connection.sendall(head(COUNTED) + TEXT[:300_000])], context=context if tls else None
    )
    with pytest.raises(UnreachableError, match="broke"):
        with_client(wire, read, ca_file=authority)


def test_a_reset_is_an_error() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head(COUNTED) + TEXT[:300_000])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with pytest.raises(UnreachableError, match="broke"):
        with_client(Wire([answer]), read)


def test_silence_in_the_middle_is_reported() -> None:
    heard = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(head(COUNTED) + TEXT[:300_000])
        heard.wait(10)

    async def use(client: Client) -> None:
        try:
            await read(client)
        finally:
            heard.set()

    with pytest.raises(UnreachableError, match="the reply timed out"):
        with_client(Wire([answer]), use, timeout=0.3)


def trickling(connection: socket.socket) -> None:
    """Each piece comes in time, the end never."""
    connection.sendall(head(b"Content-Length: 100000\r\n"))
    for _ in range(200):
        connection.sendall(b" ")
        time.sleep(0.1)


def test_an_answer_that_never_ends_is_a_late_one() -> None:
    with pytest.raises(UnreachableError, match="the reply timed out"):
        with_client(Wire([trickling]), lambda client: client.sessions(), timeout=0.5)


def test_a_create_with_an_endless_answer_is_unconfirmed() -> None:
    request = Request("headless", "images.canfar.net/a/b:1")
    made = with_client(Wire([trickling]), lambda client: client.create(request, "n"), timeout=0.5)
    assert (made.outcome, made.error.code) == ("ambiguous", "timeout")


def test_a_log_may_come_as_slowly_as_it_likes() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head(b"Content-Length: 30\r\n"))
        for _ in range(30):
            connection.sendall(b".")
            time.sleep(0.1)

    assert with_client(Wire([answer]), read, timeout=2.0) == b"." * 30


def test_waiting_for_a_connection_is_not_a_late_answer() -> None:
    """What was not sent is not in doubt."""

    def slow(connection: socket.socket) -> None:
        time.sleep(0.8)
        created(connection)

    async def use(client: Client) -> list[str]:
        request = Request("headless", "images.canfar.net/a/b:1")
        made = await asyncio.gather(*(client.create(request, f"n-{number}") for number in range(5)))
        return [one.outcome for one in made]

    assert with_client(Wire([slow] * 5), use, timeout=3.0, concurrency=1) == ["created"] * 5


def test_an_answer_without_end_is_not_taken_in() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head(PLAIN))
        while True:
            connection.sendall(TEXT)

    with pytest.raises(UnreachableError, match="larger than 256 MiB"):
        with_client(Wire([answer]), lambda client: client.sessions(), timeout=20.0)


@pytest.mark.parametrize("asleep", [False, True], ids=["seen by the loop", "unseen"])
def test_a_create_never_goes_over_a_connection_that_has_ended(asleep: bool) -> None:
    """It would be in doubt for no reason."""
    wire = Wire([created], [created])
    wire.may_close.clear()

    async def use(client: Client) -> tuple[str, str]:
        request = Request("headless", "images.canfar.net/a/b:1")
        first = await client.create(request, "n-1")
        wire.may_close.set()
        assert wire.closed.wait(5)
        if asleep:
            time.sleep(0.05)  # noqa: ASYNC251 (the loop is to see nothing of it)
        else:
            await asyncio.sleep(0.05)
        return first.outcome, (await client.create(request, "n-2")).outcome

    assert with_client(wire, use) == ("created", "created")


def test_a_connection_is_used_again() -> None:
    async def use(client: Client) -> list[str]:
        request = Request("headless", "images.canfar.net/a/b:1")
        return [(await client.create(request, f"n-{number}")).outcome for number in range(3)]

    assert with_client(Wire([created, created, created]), use) == ["created"] * 3


def test_a_handshake_that_no_one_answers_is_certain() -> None:
    """Nothing was sent, so nothing was created."""
    wire = Wire([lambda connection: None])  # it goes on reading what is no request
    wire.url = wire.url.replace("http:", "https:")

    async def use(client: Client) -> str:
        return (await client.create(Request("headless", "images.canfar.net/a/b:1"), "n")).outcome

    assert with_client(wire, use, timeout=0.3) == "not-created"


class TwoAddresses(asyncio.SelectorEventLoop):
    """Every host has two addresses."""

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2)]


def test_a_host_of_two_addresses_that_both_refuse_is_reported_in_the_words_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    profile = Profile("test", f"http://skaha.test:{port}/skaha/v1")

    async def look() -> None:
        async with open_client(profile, environ={}) as client:
            await client.sessions()

    with asyncio.Runner(loop_factory=TwoAddresses) as runner, pytest.raises(UnreachableError) as error:
        runner.run(look())
    assert error.value.message == "no connection: Connection refused"


def test_a_read_request_survives_a_server_that_closes_idle_connections(tmp_path: Path) -> None:
    """Each connection answers one request, says that it stays open, and is closed a moment later."""
    body = b"[]"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    wire = Wire(*[[lambda connection: connection.sendall(head + body)] for _ in range(6)])

    async def main() -> int:
        async with open_client(Profile("test", wire.url), environ={}) as client:
            for _ in range(6):
                await client.sessions()
                time.sleep(0.05)  # noqa: ASYNC251  # the loop does not see the end of the connection
        return 6

    with wire.serving():
        assert asyncio.run(main()) == 6


def test_a_compressed_reply_expands_to_its_limit_and_no_further() -> None:
    import tracemalloc

    bomb = gzip.compress(bytes(1 << 28))  # 256 MiB in 260 KB
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    wire = Wire([lambda connection: connection.sendall(head + bomb)])

    async def main() -> None:
        async with open_client(Profile("test", wire.url), environ={}) as client:
            await client.delete("a1b2c3d4")

    with wire.serving():
        tracemalloc.start()
        with pytest.raises(UnreachableError, match="larger than 64 KiB"):
            asyncio.run(main())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 16 << 20
