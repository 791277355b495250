"""One live session per replica, although lists are empty, stale, torn or doubled, replies are lost, and drivers end at
any moment: the real driver against the test server, in simulated time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from skahactl.engine.driver import Driver
from skahactl.engine.plan import Gate
from skahactl.engine.runtime import Runtime, SilentReporter
from skahactl.errors import SkahactlError
from skahactl.ledger import attempts, replicas
from skahactl.ledger.database import Ledger, open_ledger
from skahactl.ledger.records import Run
from skahactl.model import Limits, State
from skahactl.profile import Auth, ClientSettings, Profile
from skahactl.skaha.client import Client
from skahactl.skaha.models import CreateResult
from tests import ledgers
from tests.simulated_time import SimulatedClock, SimulatedLoop, run
from tests.skaha_server.app import App
from tests.skaha_server.plan import Plan
from tests.skaha_server.sessions import Session
from tests.skaha_server.transport import AppTransport

pytestmark = pytest.mark.once

SETTINGS = ClientSettings(concurrency=16, settle=60, poll_min=1, poll_max=20, log_patience=5)
PROFILE = Profile("test", "http://skaha.test/skaha/v1", auth=Auth("token", token_env="T"), client=SETTINGS)
LIES = {"empty": 0.1, "stale": 0.1, "partial": 0.1, "doubled": 0.1, "error": 0.03, "drop": 0.03}
FAULTS = {
    "drop_before": 0.06,
    "drop_after": 0.06,
    "error_before": 0.05,
    "error_after": 0.06,
    "unavailable": 0.06,
    "gateway_before": 0.05,
    "gateway_after": 0.05,
    "late_visible": 0.06,
}


class World:
    """A server, and a ledger on this machine; ``drive`` is one command."""

    def __init__(self, tmp_path: Path, plan: dict[str, object], replicas: int):
        self.loop = SimulatedLoop()
        self.clock = SimulatedClock(self.loop)
        self.app = App(Plan.of(plan), self.clock)
        self.path, self.count = tmp_path, replicas
        self.foreign = {self.add(name) for name in ("notebook", "fits-1-zzzzz", "refits-1-abcde")}

    def add(self, name: str) -> str:
        """The id of a session that was made elsewhere."""
        now = self.clock.now()
        made = Session(self.app.cluster.new_id(), name, "alice", "headless", "x/y:1", now, now, now, now, "Completed")
        return self.app.cluster.add(made).id

    async def drive(self, ledger: Ledger, job: Run, *, follow: bool = False, create: bool = True) -> None:
        transport = AppTransport(self.app)
        async with Client(PROFILE, transport=transport, clock=self.clock, environ={"T": "a-token"}) as client:
            runtime = Runtime(ledger, client, PROFILE, self.clock, SilentReporter())
            await Driver(runtime, (job,), follow, lambda _: Gate(), create=create).drive()

    async def until_done(self, ledger: Ledger, job: Run, **options: bool) -> None:
        for _ in range(30):
            with contextlib.suppress(SkahactlError):
                await self.drive(ledger, job, **options)
                return
            await self.clock.sleep(30)
        raise AssertionError("it does not come to an end")

    def own(self) -> list[Session]:
        return [one for one in self.app.cluster.sessions.values() if one.id not in self.foreign]

    def alive(self) -> list[Session]:
        now = self.clock.now()
        return [one for one in self.own() if one.visible <= now < one.dead]

    def assert_foreign_untouched(self) -> None:
        assert all(not self.app.cluster.sessions[one].deletes for one in self.foreign)
        assert self.app.unknown_deletes == []


def recorded_alive(ledger: Ledger, job: Run) -> set[str | None]:
    return {a.session for a in attempts.attempts_of(ledger, job.id) if a.state in (State.PENDING, State.RUNNING)}


def job_of(ledger: Ledger, world: World) -> Run:
    return ledgers.add(ledger, ledgers.job("fits", world.count, limits=Limits()), server=PROFILE.server)


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))])
def test_one_live_session_each_under_all_faults_at_once(tmp_path: Path, seed: int) -> None:
    count = 40 if seed < 3 else 200
    plan = {"seed": seed, "faults": FAULTS, "late": [1, 50], "post_latency": 0.2, "list_faults": LIES}
    world = World(tmp_path, plan, count)
    draw = random.Random(seed)

    async def body(ledger: Ledger) -> None:
        job = job_of(ledger, world)
        for _ in range(3):  # commands that end at any moment
            task = asyncio.ensure_future(world.drive(ledger, job))
            world.loop.call_later(draw.uniform(0.1, 100), task.cancel)
            with contextlib.suppress(asyncio.CancelledError, SkahactlError):
                await task
        await world.until_done(ledger, job)
        await world.clock.sleep(120)  # whatever is late has appeared
        await world.until_done(ledger, job)
        world.app.plan.patch({"list_faults": {}})
        await world.until_done(ledger, job)
        assert Counter(one.name.split("-")[1] for one in world.alive()) == Counter(map(str, range(1, count + 1)))
        assert recorded_alive(ledger, job) == {one.id for one in world.alive()}
        world.app.plan.patch({"list_faults": LIES, "delete_ignored": 1})
        replicas.request_delete(ledger, job.id, None)
        await world.until_done(ledger, job, create=False)
        assert world.alive() == [], "every session on record was deleted, whatever lists showed"
        assert {row.state for row in replicas.replica_states(ledger, job.id)} == {State.DELETED}
        world.assert_foreign_untouched()

    in_world(world, body)


def test_ten_minutes_of_500_on_creates_reject_no_replica_and_double_none(tmp_path: Path) -> None:
    world = World(tmp_path, {"running": [20, 40], "answers": {"create": ["500", "text/plain", "it broke"]}}, 30)

    async def body(ledger: Ledger) -> None:
        job = job_of(ledger, world)
        world.loop.call_later(600, lambda: world.app.plan.patch({"answers": {}}))
        await world.drive(ledger, job, follow=True)
        assert {row.state for row in replicas.replica_states(ledger, job.id)} == {State.COMPLETED}
        assert Counter(one.name.split("-")[1] for one in world.own()) == Counter(map(str, range(1, 31)))
        assert world.app.counts["create"] <= 30 + 600 / 30 + 30 + 5, (
            "all once, a probe from time to time, and all again"
        )

    in_world(world, body)


def test_an_earlier_attempt_that_is_alive_is_kept_or_ended_by_the_driver(tmp_path: Path) -> None:
    """As an older version left it: it took live sessions for gone, and a retry started others."""
    world = World(tmp_path, {}, 10)

    async def body(ledger: Ledger) -> None:
        job = job_of(ledger, world)
        await world.drive(ledger, job)
        for attempt in attempts.attempts_of(ledger, job.id):
            attempts.set_attempt(ledger, attempt, {"log": "lost"}, state=State.UNKNOWN)
        replicas.allow_again(ledger, job.id, dict.fromkeys(range(1, 11)))
        with ledger.transaction():
            for number in range(1, 11):
                intent = attempts.intend(ledger, job.id, number, world.clock.now())
                assert intent is not None
                created = CreateResult("created", world.add(intent.name))
                attempts.settle(ledger, intent, created, world.clock.now(), None)
        await world.clock.sleep(30)
        assert len(world.alive()) == 20
        await world.drive(ledger, job)
        assert Counter(one.name.split("-")[1] for one in world.alive()) == Counter(map(str, range(1, 11)))
        assert recorded_alive(ledger, job) == {one.id for one in world.alive()}
        world.assert_foreign_untouched()

    in_world(world, body)


def in_world(world: World, body: Callable[[Ledger], Awaitable[None]]) -> None:
    async def main() -> None:
        with open_ledger(world.path) as ledger:
            await body(ledger)

    run(world.loop, main())
