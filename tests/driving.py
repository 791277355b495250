"""A job that is driven to its end in simulated time. Imports nothing that the command itself would not import."""

from __future__ import annotations

from pathlib import Path

from skahactl.engine.driver import Driver
from skahactl.engine.plan import Gate
from skahactl.engine.runtime import Runtime, SilentReporter
from skahactl.eventloop import Stop
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.database import open_ledger
from skahactl.ledger.records import AttemptRow, JobKey
from skahactl.ledger.replicas import replica_states
from skahactl.ledger.runs import add_run
from skahactl.manifest.load import load
from skahactl.manifest.resolve import resolve
from skahactl.profile import Auth, ClientSettings, Profile
from skahactl.skaha.client import Client
from tests.simulated_time import SimulatedClock
from tests.skaha_server.transport import AppTransport


async def drive(
    tmp_path: Path,
    text: str,
    transport: AppTransport,
    clock: SimulatedClock,
    settings: ClientSettings = ClientSettings(),  # noqa: B008
) -> tuple[list[str], tuple[AttemptRow, ...]]:
    """Drives the job to its end; the states of its replicas and its attempts, as the ledger has them."""
    (tmp_path / "job.toml").write_text(text)
    profile = Profile("day", "http://skaha.test/skaha/v1", auth=Auth("token", token_env="T"), client=settings)
    job = resolve(load([str(tmp_path / "job.toml")]), profile, variables={})[0]
    environ = {"T": "a-token"}
    with open_ledger(tmp_path) as ledger:
        made = add_run(ledger, JobKey(profile.server, "alice", job.name), job, profile.name, {}, clock.now())
        async with Client(profile, transport=transport, clock=clock, environ=environ) as client:
            runtime = Runtime(ledger, client, profile, clock, SilentReporter(), Stop())
            await Driver(runtime, (made,), follow=True, gates=lambda _: Gate()).drive()
        return [replica.state for replica in replica_states(ledger, made.id)], attempts_of(ledger, made.id)
