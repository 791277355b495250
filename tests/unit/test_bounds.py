"""Bounds on what a platform can send, and on how long it takes: endless logs, equal ids, clocks that differ."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from skahactl.logs import keep
from skahactl.profile import Auth, Profile
from skahactl.skaha.client import Client
from skahactl.skaha.failures import HttpReply, create_result
from skahactl.skaha.models import parse_sessions
from skahactl.system import SKEW, SystemClock
from tests.simulated_time import SimulatedLoop, run


class Endless:
    """A log that gives ``chunk`` every ``pause`` seconds, forever."""

    server = "https://skaha.test/skaha/v1"

    def __init__(self, chunk: bytes, pause: float):
        self.chunk, self.pause = chunk, pause

    @asynccontextmanager
    async def log(self, id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(self.pause)
            yield self.chunk


def fetch(
    log: Endless, path: Path | None, seconds: float | None = None, most: int = keep.MAX_BYTES
) -> tuple[keep.Fetched, float]:
    loop = SimulatedLoop()

    async def main() -> keep.Fetched:
        return await keep.fetch(log, "abcdefgh", path, marks=None, limit=keep.ReadLimit(seconds, most))

    return run(loop, main()), loop.seconds


def test_a_log_that_drips_forever_is_read_for_a_minute_and_marked(tmp_path: Path) -> None:
    saved, seconds = fetch(Endless(b"x\n", 0.5), tmp_path / "1.1.log")
    assert saved.cut == "limited"
    assert 59 <= seconds <= 62
    text = (tmp_path / "1.1.log").read_text()
    assert text.count("x\n") > 100
    assert "reading it stopped after 60 s" in text.splitlines()[-1]


def test_a_log_that_stalls_is_let_go_of_at_the_deadline(tmp_path: Path) -> None:
    saved, seconds = fetch(Endless(b"x\n", 1000.0), tmp_path / "1.1.log", seconds=5.0)
    assert saved.cut == "limited"
    assert seconds == pytest.approx(5.0, abs=0.5)


def test_an_endless_log_is_read_up_to_a_size(tmp_path: Path) -> None:
    saved, _ = fetch(Endless(b"y" * 65536, 0.001), tmp_path / "1.1.log", most=1 << 20)
    assert saved.cut == "limited"
    assert saved.bytes < (1 << 20) + 65536 + 200
    assert fetch(Endless(b"y" * 65536, 0.001), None, most=1 << 20)[0].bytes <= (1 << 20) + 65536


def test_a_slow_log_that_keeps_arriving_is_read_on(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(300):
            await asyncio.sleep(1.0)
            yield b"z" * 65536

    async def main() -> tuple[int, bytes | None]:
        limit = keep.ReadLimit()
        size = 0
        async for chunk in limit.chunks(chunks()):
            size += len(chunk)
        return size, limit.note

    assert run(SimulatedLoop(), main()) == (300 * 65536, None)


def test_rows_with_equal_ids_are_one_session_that_got_furthest() -> None:
    rows = [
        {"id": "a", "name": "n", "status": "Running"},
        {"id": "b", "name": "m", "status": "Pending"},
        {"id": "a", "name": "n", "status": "Completed"},
        {"id": "a", "name": "n", "status": "Pending"},
    ]
    found = parse_sessions(json.dumps(rows).encode())
    assert [(one.id, one.status) for one in found] == [("a", "Completed"), ("b", "Pending")]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, "not-created") for status in (404, 405, 408, 421, 429, 501)),
        *((status, "rejected") for status in (400, 413, 414, 415, 431)),
        *((status, "ambiguous") for status in (409, 500, 502, 503, 504)),
    ],
)
def test_what_a_status_means_for_a_create(status: int, outcome: str) -> None:
    reply = HttpReply(status, httpx.Headers({"content-type": "text/html", "retry-after": "7"}), b"<html>", ())
    found = create_result(reply)
    assert found.outcome == outcome
    if status == 429:
        assert found.retry_after == 7


def test_the_clock_follows_the_server_only_if_they_differ_much() -> None:
    clock = SystemClock()
    before = clock.now()
    try:
        clock.correct(before + SKEW / 2)
        assert clock.now() - before < 1
        clock.correct(before + 7200)
        assert clock.now() - before == pytest.approx(7200, abs=1)
    finally:
        clock.correct(clock.now() - 7200)


def test_times_are_by_the_clock_of_the_server() -> None:
    """The Date of its replies counts, and only where the platform itself has replied."""

    def reply(request: httpx.Request) -> httpx.Response:
        headers = {"date": formatdate(time.time() + 7200, usegmt=True)}
        named = {"x-vo-authenticated": "alice"} if request.url.host == "platform.test" else {}
        return httpx.Response(200, headers={**headers, **named}, json=[])

    async def received(host: str) -> float:
        profile = Profile("test", f"https://{host}/skaha/v1", auth=Auth("none"))
        async with Client(profile, transport=httpx.MockTransport(reply), clock=SystemClock(), environ={}) as client:
            return (await client.sessions()).received

    try:
        assert asyncio.run(received("gateway.test")) == pytest.approx(time.time(), abs=60)
        assert asyncio.run(received("platform.test")) == pytest.approx(time.time() + 7200, abs=60)
    finally:
        SystemClock().correct(time.time())
