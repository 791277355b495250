"""A delete ends, and says how: sessions that stay, servers that refuse DELETE or break at it, while the list works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from skahactl.engine.tasks import SessionDeleter
from skahactl.errors import UnreachableError
from skahactl.platforms import open_client
from skahactl.profile import Auth, ClientSettings, Profile
from tests.simulated_time import SimulatedClock, SimulatedLoop, run
from tests.skaha_server.process import Server, running
from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = "name = 'tiles'\nimage = 'images.canfar.net/skaha/astroml:latest'\ncommand = ['sleep', '1000']\nreplicas = 3\n"
MANY = 12  # DELETEs of one session until it is reported

Place = tuple[Server, Workplace]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A server where three replicas run for long."""
    with running(tmp_path / "server", {"running": [3000, 3000]}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB)
        here.run("apply", "job.toml")
        yield server, here


def test_sessions_that_stay_are_reported(place: Place) -> None:
    server, here = place
    server.tell("plan", delete_ignored=100)
    outcome = here.data("delete", "tiles", expect=1)
    (job,) = outcome["jobs"]
    assert outcome["exit"] == 1
    assert [step["outcome"] for step in job["steps"]] == ["stays"] * 3
    assert {step["error"]["message"] for step in job["steps"]} == {"it still exists"}
    assert server.counts()["delete"] <= 3 * (MANY + 1), "asked again at intervals, not all the time"
    server.tell("plan", delete_ignored=0)
    here.run("delete", "tiles")
    assert {row["state"] for row in here.data("get", "replicas", "tiles")} == {"Deleted"}


def test_a_server_that_refuses_deletes_is_reported_at_once(place: Place) -> None:
    server, here = place
    server.tell("plan", answers={"delete": [403, "text/plain", "Not authorized to use the skaha system\n"]})
    done = here.run("delete", "tiles", expect=3)
    assert "Not authorized to use the skaha system" in done.stderr
    assert server.counts()["delete"] <= 2 * 3


@pytest.mark.parametrize(
    "answer",
    [
        [500, "text/plain", "unexpected exception: it broke"],
        pytest.param([502, "text/html", "<html>"], marks=pytest.mark.slow),
    ],
)
def test_a_server_that_breaks_at_deletes_is_reported_in_its_words(place: Place, answer: list[object]) -> None:
    server, here = place
    server.tell("plan", answers={"delete": answer})
    outcome = here.data("delete", "tiles", expect=4)
    assert outcome["exit"] == 4
    for step in outcome["jobs"][0]["steps"]:
        assert step["outcome"] == "stays"
        assert step["error"]["message"].startswith(f"the server replied {answer[0]}")
    assert server.counts()["delete"] <= 3 * (MANY + 1)
    done = here.run("delete", "tiles", expect=4)
    assert f"delete failed: the server replied {answer[0]}" in done.stderr


def test_what_stays_is_not_replaced(place: Place) -> None:
    server, here = place
    server.tell("plan", delete_ignored=100)
    here.write("job.toml", JOB.replace("1000", "2000"))
    done = here.run("apply", "job.toml", "--replace", "--yes", expect=1)
    assert "not deleted after several tries: 3 sessions of run 1" in done.stderr
    assert server.counts()["create"] == 3


def test_deletes_that_only_fail_are_an_error_in_the_end() -> None:
    """A server that hangs at each: their number alone would take too long to tell."""
    loop, said = SimulatedLoop(), []
    clock = SimulatedClock(loop)
    nowhere = Profile("test", "http://127.0.0.1:1/skaha/v1", auth=Auth(), client=ClientSettings())

    async def main() -> None:
        idle = asyncio.Event()
        async with open_client(nowhere, environ={}) as client:
            deleter = SessionDeleter(client, clock, 4, {}, idle.set, said.append)
            deleter.delete(["abcdefgh", "bcdefghi"])
            await idle.wait()
            deleter.check(120.0)
            await clock.sleep(121.0)
            idle.clear()
            deleter.delete(["abcdefgh"])
            await idle.wait()
            with pytest.raises(UnreachableError):
                deleter.check(120.0)

    run(loop, main())
    assert len(said) == 1, "once, however many they are"
