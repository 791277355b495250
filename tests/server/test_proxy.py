"""Everything through a proxy: creates, lists, long logs and logs that are followed, with TLS from end to end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.certificates import HOST, file, issued
from tests.skaha_server.plan import Plan
from tests.skaha_server.process import Server
from tests.skaha_server.server import FakeSkaha
from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = "name = 'NAME'\nimage = 'images.canfar.net/skaha/astroml:latest'\ncommand = ['run.sh']\nreplicas = 3\n"
FILLER = 3_000_000  # bytes of each log


@dataclass
class Proxy:
    """Connects whoever asks to the one server, by whatever name; ``asked`` are the first lines of what it was sent."""

    target: int
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.split(b"\r\n")[0].decode())
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_passed(reader, back), _passed(there, writer))


async def _passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


@dataclass
class Behind(Workplace):
    """A machine from which only the proxy can be reached."""

    proxy: str = ""

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "https_proxy": self.proxy}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Behind, Proxy]]:
    authority = issued("Test Authority")
    pair = issued("server", authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file(tmp_path / "server.pem", pair.pem, pair.key_pem))
    ca = file(tmp_path / "ca.pem", authority.pem)
    listening: list[tuple[Proxy, int]] = []
    ready, over = threading.Event(), threading.Event()

    async def main() -> None:
        plan = Plan(running=(3.0, 3.0), log_bytes=FILLER)
        async with FakeSkaha(plan, tls=context) as skaha:
            proxy = Proxy(skaha.port)
            server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
            listening.append((proxy, server.sockets[0].getsockname()[1]))
            ready.set()
            await asyncio.to_thread(over.wait)
            server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(20)
        proxy, port = listening[0]
        here = Behind(tmp_path / "here", Server(f"https://{HOST}"), proxy=f"http://127.0.0.1:{port}")
        profile = (here.root / "profile.toml").read_text()
        here.write("profile.toml", f'{profile}ca-file = "{ca}"\n'.replace("timeout = 1\n", "timeout = 20\n"))
        yield here, proxy
    finally:
        over.set()
        thread.join()


def test_a_job_its_logs_and_the_list_pass_through_a_proxy(served: tuple[Behind, Proxy]) -> None:
    here, proxy = served
    here.write("tiles.toml", JOB.replace("NAME", "tiles"))
    here.run("apply", "tiles.toml", "--wait")
    assert len(here.kept_logs()) == 3
    assert len(here.run("logs", "tiles", "-r", "2").stdout) > FILLER
    assert here.run("get", "sessions", "-o", "name").stdout.count("\n") == 3
    assert set(proxy.asked) == {f"CONNECT {HOST}:443 HTTP/1.1"}


def test_a_log_is_followed_through_a_proxy(served: tuple[Behind, Proxy]) -> None:
    here, proxy = served
    here.write("scan.toml", JOB.replace("NAME", "scan").replace("replicas = 3", "replicas = 1"))
    here.run("apply", "scan.toml")
    followed = here.run("logs", "scan", "-f").stdout
    assert len(followed) > FILLER
    assert followed == here.run("logs", "scan").stdout
    assert set(proxy.asked) == {f"CONNECT {HOST}:443 HTTP/1.1"}
