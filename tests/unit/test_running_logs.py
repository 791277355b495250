"""Reading the logs of running replicas: how often, how much, and what is recorded; time is simulated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from skahactl.engine.tasks import LOCAL, SERVER, ReadRate, RunningLogs
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.database import open_ledger
from skahactl.ledger.replicas import items_of
from skahactl.model import Each, State
from skahactl.profile import Profile
from skahactl.skaha.client import Client
from tests import ledgers
from tests.simulated_time import SimulatedClock, SimulatedLoop


def follow(folder: Path, rate: ReadRate, seconds: float, answer: Callable[[float], bytes]) -> tuple[list[float], int]:
    """Follows one running replica of two items for so long: when its log was read, and how often ends came."""
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    reads: list[float] = []
    changes: list[float] = []

    def reply(request: httpx.Request) -> httpx.Response:
        reads.append(clock.monotonic())
        return httpx.Response(200, content=answer(clock.monotonic()))

    async def main() -> None:
        made = ledgers.with_each(ledgers.job("tiles", 2, items=[["a", "b"], ["c", "d"]]), Each("x", (("a",), ("b",))))
        with open_ledger(folder) as ledger:
            run = ledgers.add(ledger, made)
            ledgers.start(ledger, run, [1, 2])
            ledgers.move(ledger, run, dict.fromkeys((1, 2), (State.RUNNING, ledgers.NOW, None)))
            profile = Profile("test", "http://127.0.0.1:1/skaha/v1")
            async with Client(profile, transport=httpx.MockTransport(reply), clock=clock, environ={}) as client:
                logs = RunningLogs(client, ledger, clock, rate, lambda: changes.append(clock.monotonic()))
                logs.follow(attempts_of(ledger, run.id))
                await clock.sleep(seconds)
                await logs.stop()
                assert logs.failure is None

    loop.run_until_complete(main())
    loop.close()
    return reads, len(changes)


def test_a_log_on_this_machine_is_read_once_per_second(tmp_path: Path) -> None:
    reads, changes = follow(tmp_path, LOCAL, 10.5, lambda now: b"::skahactl item 1 exit 0\n" if now > 5 else b"work\n")
    assert len(reads) == pytest.approx(10, abs=1)
    assert changes == 1


def test_a_log_on_a_server_is_read_once_per_minute(tmp_path: Path) -> None:
    reads, _ = follow(tmp_path, SERVER, 305, lambda now: b"work\n")
    assert reads == pytest.approx([60, 120, 180, 240, 300], abs=2)


def test_a_large_log_is_read_less_often(tmp_path: Path) -> None:
    reads, _ = follow(tmp_path, ReadRate(1.0, 1e5, 4), 100, lambda now: b"x" * 1_000_000)
    assert len(reads) <= 11, "1 MB at 0.1 MB/s is 10 s for each read"


def test_items_have_the_states_that_the_marks_show(tmp_path: Path) -> None:
    log = b"cannot open a.fits\n::skahactl item 1 exit 2\nmore\n"
    follow(tmp_path, LOCAL, 2.5, lambda now: log)
    with open_ledger(tmp_path) as ledger:
        found = [(row.item, row.state, row.exit_code) for row in items_of(ledger, 1)]
    assert found == [("a", "Failed", 2), ("b", "Running", None), ("c", "Running", None), ("d", "Running", None)]
