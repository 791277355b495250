"""A day of a large job in simulated time: what a driver sees, what it cannot have seen, and what it asks for."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from skahactl.ledger.records import AttemptRow
from tests.driving import drive
from tests.simulated_time import EPOCH, SimulatedClock, SimulatedLoop, run
from tests.skaha_server.app import App
from tests.skaha_server.plan import Plan
from tests.skaha_server.sessions import Session
from tests.skaha_server.transport import AppTransport

pytestmark = pytest.mark.once

HOUR = 3600.0
JOB = """
name = "day"
image = "images.canfar.net/skaha/astroml:latest"
command = ["python", "long.py"]
replicas = {replicas}
[limits]
alive = {alive}
"""
#: Wall times from the start, in seconds, at which the driver could not look.
OUTAGE = (3.5 * HOUR, 4.5 * HOUR)
NAP = (7 * HOUR, 16 * HOUR)
UNKNOWN = (18 * HOUR, 18.7 * HOUR)


class Counting(AppTransport):
    """Adds up the bytes that come back, and notes every request: its wall time from the start, method and path."""

    def __init__(self, app: App):
        super().__init__(app)
        self.moved = 0
        self.asked: list[tuple[float, str, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((self.app.clock.now() - EPOCH, request.method, request.url.path))
        response = await super().handle_async_request(request)
        self.moved += len(await response.aread())
        return response


@pytest.mark.parametrize(("replicas", "alive"), [(40, 10), pytest.param(500, 120, marks=pytest.mark.slow)])
def test_a_day_with_an_outage_a_sleep_and_an_expired_certificate(tmp_path: Path, replicas: int, alive: int) -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop, (NAP[0], NAP[1] - NAP[0]))
    plan = Plan.of({"seed": 4, "pending": [5, 900], "running": [2 * HOUR, 6 * HOUR], "log_lines": 40})
    app = App(plan, clock)
    transport = Counting(app)
    job = JOB.format(replicas=replicas, alive=alive)
    states, attempts = run(loop, in_weather(tmp_path, job, transport, clock))
    sessions = list(app.cluster.sessions.values())
    assert len(sessions) == replicas, "nothing is made twice"
    assert clock.now() - EPOCH > 20 * HOUR

    by_id = {attempt.session: attempt for attempt in attempts}
    for session in sessions:
        seen = seconds_to_see(session)
        if seen >= 180:
            assert by_id[session.id].state == "Completed", session.name
            assert by_id[session.id].log == "kept", session.name
        if seen == 0:
            assert by_id[session.id].state == "Unknown", session.name
    assert replicas / 10 < Counter(states)["Unknown"] <= sum(seconds_to_see(session) < 180 for session in sessions)
    assert set(states) == {"Completed", "Unknown"}

    awake = clock.now() - EPOCH - (NAP[1] - NAP[0])
    assert app.counts["list"] <= 1.1 * awake / 60 + 200
    assert app.counts["logs"] <= 1.1 * replicas
    assert app.counts["create"] <= 1.1 * replicas
    assert app.counts["get"] <= 2 * Counter(states)["Unknown"], "an id is asked for only where a list lacks it"
    listed = 1200 * 2 * alive  # bytes of a list: those alive, and those that ended within the hour
    assert transport.moved <= app.counts["list"] * listed + 2 * app.log_bytes


def seconds_to_see(session: Session) -> float:
    """For how long the driver could have seen its end: awake and answered, before it was forgotten."""
    ended = session.ends - EPOCH
    window = [ended, ended + session.memory]
    blind = sum(max(0.0, min(window[1], end) - max(window[0], start)) for start, end in (OUTAGE, NAP, UNKNOWN))
    return max(0.0, session.memory - blind)


def test_after_a_sleep_the_first_list_changes_nothing_on_the_server(tmp_path: Path) -> None:
    """Two have ended meanwhile and make room for two more, which wait for another list."""
    loop = SimulatedLoop()
    nap = (600.0, 1800.0)
    clock = SimulatedClock(loop, nap)
    transport = Counting(App(Plan.of({"running": [1200, 1200]}), clock))
    states, _ = run(loop, drive(tmp_path, JOB.format(replicas=4, alive=2), transport, clock))
    assert states == ["Completed"] * 4
    woken = [(method, path) for at, method, path in transport.asked if at >= sum(nap)]
    lists = [place for place, asked in enumerate(woken) if asked == ("GET", "/skaha/v1/session")]
    creates = [place for place, (method, _) in enumerate(woken) if method == "POST"]
    assert {method for method, _ in woken[: lists[1]]} == {"GET"}
    assert lists[1] < creates[0] < lists[2], "at the second they come"


class AwayAfterALog(AppTransport):
    """The service goes away for two hours just after the first log was read."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if b"view=logs" in request.url.query and self.app.outage is None:
            self.app.outage = ("unavailable", self.app.clock.now() + 2 * HOUR)
        assert self.app.counts["list"] < 300, "a service that is away is not asked all the time"
        return response


def test_an_outage_between_a_log_and_the_next_list_is_waited_out(tmp_path: Path) -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    app = App(Plan.of({"running": [500, 500], "memory": 86400}), clock)
    job = 'name = "one"\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = ["x"]\nreplicas = 1\n'
    states, attempts = run(loop, drive(tmp_path, job, AwayAfterALog(app), clock))
    assert (states, attempts[0].log) == (["Completed"], "kept")
    assert app.counts["list"] < 250


class EmptyAfterALog(AppTransport):
    """Lists are empty for half a minute, each time after a log was read for the first time, and once before."""

    def __init__(self, app: App, loop: SimulatedLoop):
        super().__init__(app)
        self._loop = loop
        self._read: set[str] = set()
        loop.call_later(100, self._lie)

    def _lie(self) -> None:
        self.app.plan.patch({"list_empty": True})
        self._loop.call_later(30, lambda: self.app.plan.patch({"list_empty": False}))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if b"view=logs" in request.url.query and request.url.path not in self._read:
            self._read.add(request.url.path)
            self._lie()
        return response


def test_empty_lists_end_no_driver_and_make_no_log_incomplete(tmp_path: Path) -> None:
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    app = App(Plan.of({"running": [500, 520], "memory": 86400}), clock)
    states, attempts = run(loop, drive(tmp_path, JOB.format(replicas=12, alive=12), EmptyAfterALog(app, loop), clock))
    assert states == ["Completed"] * 12
    assert {attempt.log for attempt in attempts} == {"kept"}
    assert app.counts["create"] == 12
    assert app.counts["list"] < 500, "a list that lacks sessions is not asked for without a pause"


async def in_weather(
    tmp_path: Path, job: str, transport: Counting, clock: SimulatedClock
) -> tuple[list[str], tuple[AttemptRow, ...]]:
    weather = asyncio.create_task(pass_weather(transport.app, clock))
    result = await drive(tmp_path, job, transport, clock)
    await weather
    return result


async def pass_weather(app: App, clock: SimulatedClock) -> None:
    """The service is away for an hour; later the credentials have expired for a while."""
    await until(clock, OUTAGE[0])
    app.outage = ("gateway", EPOCH + OUTAGE[1])
    await until(clock, UNKNOWN[0])
    app.plan.deny = "expired"
    await until(clock, UNKNOWN[1])
    app.plan.deny = None


async def until(clock: SimulatedClock, seconds: float) -> None:
    while clock.now() < EPOCH + seconds:
        await clock.sleep(min(10.0, EPOCH + seconds - clock.now()))
