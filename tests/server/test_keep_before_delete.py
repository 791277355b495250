"""Nothing is deleted before it is saved, and a retry waits for the end marks of the items."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faulty_proxy import proxy_to
from tests.serve_process import ServeProcess
from tests.skaha_server.process import Server, running
from tests.workplace import PYTHON, Workplace, wait_for

pytestmark = pytest.mark.once

JOB = "name = 'kept'\nimage = 'images.canfar.net/skaha/astroml:latest'\ncommand = ['echo', '{number}']\nreplicas = 4\n"
#: How late the retry comes: one moment, and many more on demand.
TURNS = pytest.mark.parametrize("turn", [1, *(pytest.param(turn, marks=pytest.mark.slow) for turn in range(2, 101))])
#: Waiting, and on demand without.
BOTH_WAYS = pytest.mark.parametrize("options", [[], pytest.param(["--wait=false"], marks=pytest.mark.slow)])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Server, Workplace]]:
    """Four replicas that were started, and have ended since; no command has seen that."""
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server, {"settle": 1, "grace": 0})
        here.write("job.toml", JOB.format(number=1))
        here.run("apply", "-q", "job.toml")
        server.tell("finish", sessions=[row["id"] for row in server.state()["sessions"]])
        yield server, here


def logs_of(server: Server) -> set[str]:
    return {row["log_sha256"] for row in server.state()["sessions"]}


@BOTH_WAYS
def test_delete_saves_ends_and_logs_first(place: tuple[Server, Workplace], options: list[str]) -> None:
    server, here = place
    here.run("delete", "kept", *options)
    assert here.kept_logs() == logs_of(server)
    assert all(not row["alive"] and row["deletes"] for row in server.state()["sessions"])
    assert {row["state"] for row in here.data("get", "replicas", "kept")} == {"Completed"}
    assert here.run("logs", "kept").stdout.count("\n") >= 4


def test_replace_saves_ends_and_logs_first(place: tuple[Server, Workplace]) -> None:
    server, here = place
    before = logs_of(server)
    here.write("job.toml", JOB.format(number=2))
    here.run("apply", "job.toml", "--replace", "--yes")
    assert before <= here.kept_logs(), "whatever the next run does"


@BOTH_WAYS
def test_delete_saves_the_logs_of_running_replicas(tmp_path: Path, options: list[str]) -> None:
    with running(tmp_path / "server", {"running": [60, 60], "log_lines": 600}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB.format(number=1))
        here.run("apply", "-q", "job.toml")
        time.sleep(1)
        here.run("delete", "kept", *options)
        assert len(list((here.state).rglob("*.log"))) == 4
        assert all(row["deletes"] for row in server.state()["sessions"])
        assert {row["state"] for row in here.data("get", "replicas", "kept")} == {"Deleted"}


@BOTH_WAYS
def test_no_logs_skips_it(place: tuple[Server, Workplace], options: list[str]) -> None:
    server, here = place
    said = here.run("delete", "kept", "--no-logs", *options).stderr
    assert options or "deleted; the record remains, 0 of 4 logs were saved (--no-logs)" in said
    assert not here.kept_logs()
    assert server.counts().get("logs", 0) == 0


def test_delete_says_which_logs_were_not_saved(here: Workplace) -> None:
    shell = "echo hi; case $REPLICA_ID in 1) exit 1;; 2) exit 0;; *) sleep 100;; esac"
    here.run("apply", here.job("some", shell, 3, '[logs]\nkeep = "failed"'), "-q", expect=None)
    wait_for(lambda: sorted(here.states("some")) == ["Completed", "Failed", "Running"])
    done = here.run("delete", "some").stderr
    assert 'the record remains, 1 of 3 logs were saved ([logs] keep = "failed")' in done
    said = here.run("logs", "some", expect=None)
    assert "some/2, some/3: log not available: [logs] keep of this run excludes it" in said.stderr
    here.run("apply", here.job("silent", "sleep 100"), "-q")
    wait_for(lambda: here.states("silent") == ["Running"])
    assert "the record and the logs remain" in here.run("delete", "silent").stderr
    assert "the log is empty" in here.run("logs", "silent").stderr
    here.run("apply", "silent.toml", "-q")
    wait_for(lambda: here.states("silent") == ["Running"])
    here.run("delete", "silent", "--no-logs")
    assert "the session was deleted, and no copy was saved" in here.run("logs", "silent", expect=None).stderr


DESTROY = """
from skahactl.session import Session
with Session() as session:
    ids = [row["id"] for row in session.fetch()]
    session.info(ids)
    assert session.destroy(ids) == dict.fromkeys(ids, True)
"""


def test_destroy_saves_what_info_has_seen(place: tuple[Server, Workplace]) -> None:
    server, here = place
    here.run(DESTROY, program=PYTHON)
    assert here.kept_logs() == logs_of(server)
    assert {row["state"] for row in here.data("get", "replicas", "kept")} == {"Completed"}


def test_items_that_a_deleted_replica_has_done_stay_done(here: Workplace) -> None:
    command = "echo {item} >> ran.txt; [ {item} != b ] || [ -e go ] || sleep 100"
    here.write("items.toml", EACH.replace("echo {item} >> ran.txt; test {item} != b", command))
    here.run("apply", "-q", "items.toml")
    ran = here.root / "ran.txt"
    wait_for(lambda: ran.exists() and "b" in ran.read_text())
    here.run("delete", "items/1")
    here.write("go", "")
    here.run("retry", "items/1", "--wait")
    assert ran.read_text().split() == ["a", "b", "b", "c"]


def test_without_waiting_each_session_is_deleted_once(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"running": [60, 60], "delete_ignored": 9}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB.format(number=1))
        here.run("apply", "-q", "job.toml")
        assert "deletion of 4 sessions requested" in here.run("delete", "kept", "--wait=false").stderr
        assert [row["deletes"] for row in server.state()["sessions"]] == [1, 1, 1, 1]


EACH = """
name = "items"
image = "x/y:1"
command = ["sh", "-c", "echo {item} >> ran.txt; test {item} != b"]
replicas = 1
[items]
values = ["a", "b", "c"]
each = true
"""


@TURNS
def test_a_retry_runs_only_what_failed_although_no_command_looked(here: Workplace, turn: int) -> None:
    """The end of the first attempt is noticed by the retry itself, at any moment around that end."""
    here.write("items.toml", EACH)
    here.run("apply", "-q", "items.toml", expect=None)  # it may see the end itself
    if turn == 1:
        wait_for(lambda: (here.root / "ran.txt").exists() and (here.root / "ran.txt").read_text().count("\n") == 3)
    time.sleep(0.02 * (turn % 20))
    for _ in range(20):  # while the first attempt is alive, a retry has nothing to do
        here.run("retry", "items", "--wait", expect=None)
        if (here.root / "ran.txt").read_text().count("b") > 1:
            break
    ran = (here.root / "ran.txt").read_text().split()
    assert (ran.count("a"), ran.count("c")) == (1, 1), ran


@pytest.fixture(scope="module")
def slow_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServeProcess, Workplace]]:
    """The local platform over HTTP; every log takes 1.5 seconds."""
    root = tmp_path_factory.mktemp("slow")
    served = ServeProcess(Workplace(root))
    with proxy_to(served.url) as (url, proxy):
        proxy.log_delay = 1.5
        yield (
            served,
            Workplace(
                root / "here", Server(url.removesuffix("/skaha/v1")), {"settle": 1}, {"TEST_TOKEN": served.token}
            ),
        )
    served.stop()


@TURNS
def test_a_retry_waits_for_a_slow_log(slow_site: tuple[ServeProcess, Workplace], turn: int) -> None:
    """As above, but the end is known long before the log with the marks of the items has arrived."""
    served, here = slow_site
    name = f"turn-{turn}"
    ran = served.here.root / f"{name}.txt"
    here.write("items.toml", EACH.replace("ran.txt", str(ran)).replace('"items"', f'"{name}"'))
    here.run("apply", "-q", "items.toml", expect=None)  # it may see the end itself
    time.sleep(0.04 * (turn % 20))
    for _ in range(20):
        here.run("retry", name, "--wait", expect=None)
        if ran.exists() and ran.read_text().count("b") > 1:
            break
    lines = ran.read_text().split()
    assert (lines.count("a"), lines.count("c")) == (1, 1), lines
    assert lines.count("b") > 1
