"""Requests that hang, and sessions to be used: a signal ends the command soon, --wait shows where to go."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import httpx
import pytest

from skahactl.engine.precheck import precheck
from skahactl.engine.runtime import Runtime, SilentReporter
from skahactl.errors import UnreachableError
from skahactl.eventloop import Stop
from skahactl.ledger.database import open_ledger
from skahactl.profile import Profile
from skahactl.skaha.client import Client
from skahactl.system import SystemClock
from tests import ledgers
from tests.skaha_server.process import running
from tests.workplace import Workplace, end, wait_for

pytestmark = pytest.mark.once

JOB = "name = 'tiles'\nimage = 'images.canfar.net/skaha/astroml:latest'\ncommand = ['run.sh']\nreplicas = 3\n"
#: Requests hang for HANG seconds: a command that waited for one would not end before the test gives up.
HANG = 3600
PATIENT = {"timeout": HANG, "settle": 3}


@pytest.mark.parametrize(
    "words",
    [
        ("apply", "job.toml", "--wait"),
        pytest.param(("wait", "tiles"), marks=pytest.mark.slow),
        pytest.param(("delete", "tiles"), marks=pytest.mark.slow),
    ],
)
def test_interrupted_while_a_list_hangs(tmp_path: Path, words: tuple[str, ...]) -> None:
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server, PATIENT)
        here.write("job.toml", JOB)
        here.run("apply", "job.toml")
        server.tell("plan", list_latency=HANG)
        before = server.counts().get("list", 0)
        code, err = _stopped(here.start(*words), signal.SIGINT, lambda: server.counts().get("list", 0) > before)
        assert code == -signal.SIGINT, err
        server.tell("plan", list_latency=0)


def test_a_list_that_hangs_does_not_outlast_the_timeout(tmp_path: Path) -> None:
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server, PATIENT)
        here.write("job.toml", JOB)
        here.run("apply", "job.toml")
        server.tell("plan", list_latency=50)
        for words in (["apply", "job.toml", "--wait"], ["wait", "tiles"], ["resume", "tiles"]):
            done = here.run(*words, "--timeout", "1s", expect=5, timeout=30)
            assert "timed out" in done.stderr
        server.tell("plan", list_latency=0)


def test_a_list_that_never_ends_is_an_outage(tmp_path: Path) -> None:
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server, {"timeout": 1})
        here.write("job.toml", JOB)
        here.run("apply", "job.toml")
        server.tell("plan", list_trickles=True)
        assert "the reply timed out" in here.run("get", "sessions", expect=4, timeout=30).stderr
        done = here.run("resume", "tiles", "--timeout", "4s", expect=5, timeout=30)
        assert "the reply timed out; retrying" in done.stderr
        server.tell("plan", list_trickles=False)


def test_interrupted_while_creates_hang_and_taken_up_later(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"post_latency": HANG}) as server:
        here = Workplace(tmp_path / "here", server, PATIENT)
        here.write("job.toml", JOB)
        process = here.start("apply", "job.toml", "--wait")
        code, err = _stopped(process, signal.SIGTERM, lambda: server.counts().get("create", 0) == 3)
        assert code == -signal.SIGTERM, err
        assert "skahactl resume tiles" in err
        server.tell("plan", post_latency=0)
        here.run("apply", "job.toml")
        names = [row["name"] for row in server.state()["sessions"] if row["alive"]]
        assert len(names) == len(set(names)) == 3


def test_an_interactive_session_is_waited_for_and_its_address_printed(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"pending": [0.3, 0.5]}) as server:
        here = Workplace(tmp_path / "here", server)
        image = "images.canfar.net/skaha/astroml:latest"
        done = here.run("create", "notebook", image, "-n", "look", "--wait")
        assert done.stdout.startswith("http")
        assert done.stdout.count("\n") == 1
        again = here.data("create", "notebook", image, "-n", "other", "--wait")
        assert again["jobs"][0]["status"] == "Running"
        assert again["jobs"][0]["steps"][0]["url"].startswith("http")


@pytest.mark.parametrize(("status", "passes"), [(404, True), (500, True), (None, False)])
def test_a_server_that_does_not_tell_what_it_offers(tmp_path: Path, status: int | None, passes: bool) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if status is None:
            raise httpx.ConnectError("no way", request=request)
        return httpx.Response(status) if request.url.path.endswith("/context") else httpx.Response(200, json=[])

    async def check() -> tuple[str, ...]:
        profile = Profile("test", "http://127.0.0.1:1/skaha/v1")
        clock = SystemClock()
        async with Client(profile, transport=httpx.MockTransport(answer), clock=clock, environ={}) as client:
            with open_ledger(tmp_path) as ledger:
                desk = Runtime(ledger, client, profile, clock, SilentReporter(), Stop())
                return await precheck([ledgers.job("tiles", 2)], desk, {})

    if passes:
        asyncio.run(check())
    else:
        with pytest.raises(UnreachableError):
            asyncio.run(check())


def _stopped(process, number: int, when) -> tuple[int, str]:  # type: ignore[no-untyped-def]
    """Sends the signal as soon as it is ``when``: exit code, and stderr."""
    try:
        wait_for(when)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    finally:
        end(process)
    return process.returncode, err


def test_a_job_of_a_server_that_has_gone_is_as_it_was_last_seen(tmp_path: Path) -> None:
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB)
        here.run("apply", "job.toml")
    seen = "the server did not answer; tiles was last seen "
    for words, told in (
        (("wait", "tiles"), rf"help: {seen}\w+\. To continue: "),
        (("wait", "tiles", "--for", "deleted"), rf"help: {seen}\w+; to delete it: "),
        (("resume", "tiles"), rf"error: timed out; {seen}\w+\n"),
    ):
        assert re.search(told, here.run(*words, "--timeout", "1s", expect=5).stderr)
