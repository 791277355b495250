"""Pending for long: the reason is asked for once, for a few, and told once."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from skahactl.engine.record import snapshot_of
from skahactl.engine.runtime import RunProgress
from skahactl.engine.tasks import LONG_PENDING, MAX_REASONS, PendingReasons, pending_reason
from skahactl.ledger.database import open_ledger
from skahactl.ledger.runs import summaries
from skahactl.profile import Profile
from skahactl.render.progress import PlainReporter
from skahactl.skaha.client import Client
from skahactl.skaha.models import Event
from tests import ledgers

EVENTS = """TYPE      REASON             MESSAGE                         FIRST-TIME             LAST-TIME
Normal    Queued             in the queue                    2026-01-01T00:00:00Z   2026-01-01T00:00:00Z
Warning   FailedScheduling   0/9 nodes have enough memory    2026-01-01T00:00:00Z   2026-01-01T00:00:00Z
Normal    Nominated          to be seen                      2026-01-01T00:00:00Z   2026-01-01T00:00:00Z
"""


class Frozen:
    """A clock that stands, a while after the creates."""

    def __init__(self, now: float):
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def test_each_is_asked_once_a_few_of_a_run_and_only_after_a_while(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path.rsplit("/", 1)[-1])
        return httpx.Response(200, text=EVENTS)

    async def look(after: float) -> tuple[tuple[int, str], ...]:
        clock = Frozen(ledgers.NOW + after)
        profile = Profile("test", "http://127.0.0.1:1/skaha/v1")
        async with Client(profile, transport=httpx.MockTransport(answer), clock=clock, environ={}) as client:
            why = PendingReasons(client, clock)
            for _ in range(5):
                found = why.reasons(snapshot_of(ledger, run.id))
                await asyncio.sleep(0.02)
            await why.pool.stop()
            return found

    with contextlib.closing(open_ledger(tmp_path)) as ledger:
        run = ledgers.add(ledger, ledgers.job("tiles", 6))
        ledgers.start(ledger, run, range(1, 7))
        assert asyncio.run(look(LONG_PENDING / 2)) == ()
        assert asked == []
        found = asyncio.run(look(LONG_PENDING * 2))
        assert found == tuple((number, "FailedScheduling: 0/9 nodes have enough memory") for number in (1, 2, 3))
        assert len(asked) == len(set(asked)) == MAX_REASONS
        said = io.StringIO()
        reporter = PlainReporter(said)
        view = RunProgress(summaries(ledger, [run])[0], (), why=found)
        for shown in (view, view, replace(view, why=())):
            reporter.progress([shown])
        assert said.getvalue().count("FailedScheduling") == 1


def test_what_is_reported() -> None:
    def made(*rows: tuple[str, str]) -> Sequence[Event]:
        return [Event(kind, reason, "words", "", "") for kind, reason in rows]

    assert pending_reason(made(("Normal", "A"), ("Normal", "B"))) == "B: words"
    assert pending_reason(made(("Warning", "A"), ("Normal", "B"))) == "A: words"
    assert "not created its pod" in pending_reason(None)
    assert pending_reason(None, 2) == "waiting for a free slot (2 slots, all in use)"
    assert pending_reason(None, 1) == "waiting for a free slot (1 slot, which is in use)"
    assert pending_reason(()) == "no recent events"
