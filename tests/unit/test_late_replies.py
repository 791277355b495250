"""How a driver ends while creates are on their way, in simulated time: what they made is recorded, unless somebody
wants an end before that."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from skahactl.engine.driver import Driver
from skahactl.engine.plan import Gate
from skahactl.engine.runtime import Runtime, SilentReporter
from skahactl.errors import AuthError, TimedOut
from skahactl.eventloop import Interrupted, Stop
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.database import open_ledger
from skahactl.profile import Auth, ClientSettings, Profile
from skahactl.skaha.client import Client
from tests import ledgers
from tests.simulated_time import SimulatedClock, SimulatedLoop, run
from tests.skaha_server.app import App
from tests.skaha_server.plan import Plan
from tests.skaha_server.transport import AppTransport

#: Seconds until a create is answered, and until the credentials end; 4 creates are on their way at a time.
ANSWER, UNKNOWN = 40.0, 1.0
SETTINGS = ClientSettings(concurrency=4, timeout=60, poll_min=1, poll_max=5)

End = Callable[["asyncio.Task[None]"], object]


def test_answers_are_waited_for_when_the_credentials_end(tmp_path: Path) -> None:
    error, recorded, made, seconds = run_until(tmp_path)
    assert isinstance(error, AuthError)
    assert recorded == made
    assert len(made) == 4, "what had not left stays here"
    assert ANSWER <= seconds <= ANSWER + 1


def test_what_is_never_answered_is_let_go_of_when_it_times_out(tmp_path: Path) -> None:
    error, recorded, made, seconds = run_until(tmp_path, answer=3600)
    assert isinstance(error, AuthError)
    assert (recorded, made) == (set(), set())
    assert seconds <= SETTINGS.timeout + 10


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda task: os.kill(os.getpid(), signal.SIGTERM), Interrupted),
        (lambda task: task.cancel(), asyncio.CancelledError),  # the stop button of a notebook
    ],
    ids=["a signal", "given up"],
)
def test_whoever_wants_an_end_gets_it_in_five_seconds(tmp_path: Path, end: End, expected: type[BaseException]) -> None:
    error, recorded, made, seconds = run_until(tmp_path, end=(30.0, end))
    assert isinstance(error, expected)
    assert (recorded, len(made)) == (set(), 4)
    assert 34 <= seconds <= 36


def test_a_time_that_is_over_is_an_end_that_somebody_wants(tmp_path: Path) -> None:
    error, recorded, _, seconds = run_until(tmp_path, expired=False, limit=10.0)
    assert isinstance(error, TimedOut)
    assert recorded == set()
    assert seconds <= 20


def run_until(
    tmp_path: Path,
    *,
    answer: float = ANSWER,
    expired: bool = True,
    limit: float | None = None,
    end: tuple[float, End] | None = None,
) -> tuple[BaseException | None, set[str], set[str], float]:
    """Drives a job of 8 replicas until an error ends it: the error, the sessions on record, those that the server
    made, and the simulated seconds that it took. ``end``: when, and what is done to the driver then."""
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    app = App(Plan.of({"post_latency": answer}), clock)
    profile = Profile("test", "http://skaha.test/skaha/v1", auth=Auth("token", token_env="T"), client=SETTINGS)

    async def drive() -> tuple[BaseException | None, set[str], set[str], float]:
        with open_ledger(tmp_path) as ledger:
            made = ledgers.add(ledger, ledgers.job("tiles", 8), server=profile.server, now=clock.now())
            until = None if limit is None else clock.monotonic() + limit
            async with Client(profile, transport=AppTransport(app), clock=clock, environ={"T": "a-token"}) as client:
                with Stop().handling() as stop:
                    desk = Runtime(ledger, client, profile, clock, SilentReporter(), stop)
                    driver = Driver(desk, (made,), False, lambda _: Gate(), deadline=until)
                    task = asyncio.create_task(driver.drive())
                    if expired:
                        loop.call_at(UNKNOWN, lambda: app.plan.patch({"deny": "expired"}))
                    if end is not None:
                        loop.call_at(end[0], end[1], task)
                    await asyncio.wait((task,))
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
            recorded = {attempt.session for attempt in attempts_of(ledger, made.id) if attempt.session}
        return error, recorded, set(app.cluster.sessions), loop.time()

    return run(loop, drive())
