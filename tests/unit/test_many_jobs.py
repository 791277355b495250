"""Work that grows with the number of jobs in one call: in proportion, and no faster."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from skahactl.engine.apply import Applier
from skahactl.engine.decide import ApplyMode
from skahactl.engine.plan import JobAction
from skahactl.engine.runtime import Runtime, SilentReporter
from skahactl.eventloop import Stop
from skahactl.ledger.database import open_ledger
from skahactl.ledger.records import JobKey
from skahactl.ledger.runs import add_run, set_run
from skahactl.manifest.load import load
from skahactl.manifest.resolve import resolve
from skahactl.model import State
from skahactl.profile import Auth, Profile
from skahactl.skaha.client import Client
from tests import ledgers
from tests.simulated_time import EPOCH, SimulatedClock, SimulatedLoop
from tests.simulated_time import run as run_simulated
from tests.skaha_server.app import App
from tests.skaha_server.plan import Plan
from tests.skaha_server.transport import AppTransport

PROFILE = Profile("many", "http://skaha.test/skaha/v1", auth=Auth("token", token_env="T"))


def calls_of_apply(directory: Path, jobs: int) -> int:
    """How many functions of skahactl are called to apply a file with so many jobs, all of which have ended."""
    directory.mkdir()
    manifest = directory / "jobs.toml"
    tables = "".join(f'[[job]]\nname = "job{number}"\n' for number in range(jobs))
    manifest.write_text(f'[common]\nimage = "images.canfar.net/x/y:1"\ncommand = ["x"]\n{tables}')
    loop = SimulatedLoop()
    clock = SimulatedClock(loop)
    count = 0

    def counted(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and "/skahactl/" in frame.f_code.co_filename

    with open_ledger(directory) as ledger:
        for job in resolve(load([str(manifest)]), PROFILE, variables={}):
            run = add_run(ledger, JobKey(PROFILE.server, "alice", job.name), job, "many", {}, EPOCH - 9000)
            ledgers.start(ledger, run, [1], EPOCH - 9000)
            ledgers.move(ledger, run, {1: (State.COMPLETED, EPOCH - 9000, EPOCH - 8000)})
            set_run(ledger, run.id, ended=EPOCH - 8000)

        async def apply() -> set[JobAction]:
            transport = AppTransport(App(Plan.of({}), clock))
            async with Client(PROFILE, transport=transport, clock=clock, environ={"T": "a-token"}) as client:
                runtime = Runtime(ledger, client, PROFILE, clock, SilentReporter(), Stop())
                made = resolve(load([str(manifest)]), PROFILE, variables={})
                outcome = await Applier(runtime, ApplyMode(), wait=False).apply(made)
                return {part.action for part in outcome.jobs}

        sys.setprofile(counted)
        try:
            actions = run_simulated(loop, apply())
        finally:
            sys.setprofile(None)
    assert actions == {JobAction.ENDED}
    return count


def test_apply_of_ended_jobs_grows_in_proportion(tmp_path: Path) -> None:
    """Of a straight line, each step adds the same. One more call for each pair of jobs would add 200 here."""
    few, more, most = (calls_of_apply(tmp_path / str(jobs), jobs) for jobs in (10, 20, 30))
    assert more - few > 10 * 50
    assert abs((most - more) - (more - few)) < 50
