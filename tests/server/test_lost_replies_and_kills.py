"""One live session per replica, whatever happens: the real command against a server that loses replies and goes away.

Everything a seed decides is drawn from the number that a failure prints.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.skaha_server.process import Server, running
from tests.workplace import IMPATIENT, Workplace, end, wait_for

pytestmark = pytest.mark.once

REPLICAS = 100
FAULTS = {
    "drop_before": 0.06,
    "drop_after": 0.06,
    "error_before": 0.05,
    "error_after": 0.06,
    "slow_reply": 0.05,
    "unavailable": 0.06,
    "gateway_before": 0.05,
    "gateway_after": 0.05,
    "late_visible": 0.06,
}
#: Sessions that are none of this job's, though some have names much like its replicas'.
OTHERS = (
    "my-notebook",
    "fits",
    "fits-1",
    "fits-2",
    "fits-2-1-abcde",
    "fits-1-22222",
    "fits-100-zzzzz",
    "refits-1-abcde",
)
JOB = """
name = "fits"
image = "images.canfar.net/skaha/astroml:latest"
command = ["python", "-c", "print('a  b')", "$HOME"]
replicas = {replicas}
"""

Row = dict[str, Any]


def test_each_replica_has_one_session_at_the_end(tmp_path: Path, seed: int) -> None:
    plan = {
        "seed": seed,
        "faults": FAULTS,
        "late": [0.5, 2.0],
        "slow_reply": 1.5,
        "post_latency": 0.05,
        "list_faults": {"error": 0.05, "unavailable": 0.05, "drop": 0.05, "gateway": 0.05},
    }
    with running(tmp_path / "server", plan) as server:
        others = {add_other(server, name) for name in OTHERS}
        here = Workplace(tmp_path / "here", server, IMPATIENT)
        here.write("job.toml", JOB.format(replicas=REPLICAS))
        kill_at_random(here, server, random.Random(seed), times=3)
        settle(here)
        server.tell("plan", list_faults={})  # so that the last look is seen
        state = server.state()
        assert_one_each(here, state, others)
        assert state["jobs"]["fits"]["twins"] <= 10, "what a lost reply made is found, not made again"
        for fault in FAULTS:
            assert state["faults"][fault] >= 5, fault
        lists = {fault for fault in state["faults"] if fault.startswith("list.")}
        assert lists or state["list_calls"] < 20


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One seed by default, fifty on demand; the number in the test's name makes a run again."""
    if "seed" in metafunc.fixturenames:
        slow = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 51)]
        metafunc.parametrize("seed", [1, *slow])


def kill_at_random(here: Workplace, server: Server, draw: random.Random, times: int) -> None:
    """Starts apply and kills it a random time after it began to talk to the server, again and again."""
    for _ in range(times):
        before = sum(server.counts().values())
        process = here.start("apply", "job.toml")
        wait_for(lambda: sum(server.counts().values()) > before or process.poll() is not None)  # noqa: B023
        time.sleep(draw.choice((0.0, draw.uniform(0, 0.3), draw.uniform(0, 1.5))))
        end(process)


def settle(here: Workplace) -> None:
    """Applies until it says that all is done, then once more: twins live until the next look."""
    for _ in range(10):
        done = here.run("apply", "job.toml", expect=None)
        if done.returncode == 0:
            break
        assert done.returncode == 4, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    else:
        raise AssertionError(f"apply does not come to an end\n{done.stdout}\n{done.stderr}")
    time.sleep(0.5)
    for _ in range(10):
        if here.run("apply", "job.toml", expect=None).returncode == 0:
            return
    raise AssertionError("apply does not find the platform as it left it")


def add_other(server: Server, name: str) -> str:
    kind = "notebook" if name == "my-notebook" else "headless"
    return str(server.tell("session", name=name, kind=kind)["id"])


def assert_one_each(here: Workplace, state: Row, others: set[str], replicas: int = REPLICAS) -> None:
    """Exactly one live session a replica; the ledger says the same; nothing else was touched."""
    ours = [row for row in state["sessions"] if row["id"] not in others]
    live = [row for row in ours if row["alive"]]
    assert Counter(int(row["replica"]) for row in live) == Counter(range(1, replicas + 1))
    ledger = here.data("get", "replicas", "fits")
    assert {row["replica"]: row["session"] for row in ledger} == {int(row["replica"]): row["id"] for row in live}
    assert {row["state"] for row in ledger} <= {"Pending", "Running"}
    assert all(row["alive"] and row["deletes"] == 0 for row in state["sessions"] if row["id"] in others)
    assert state["unknown_deletes"] == []
    names = {row["name"] for row in live}
    assert all(row["name"] in names for row in ours if row["deletes"]), "only copies are deleted"


def test_unavailable_for_a_while_drops_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """A shell line as people write it, at most six alive, and 503 in the middle."""
    line = 'run_PhotoPipe.sh tiles_"$REPLICA_ID".txt 4 > PhotoPipe_$REPLICA_ID.log 2>&1'
    plan = {"running": [0.4, 0.8], "post_latency": 0.02}
    with running(tmp_path / "server", plan) as server:
        notebook = add_other(server, "my-notebook")
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", photometry(line, replicas=24, alive=6))
        process = here.start("apply", "job.toml", "--wait")
        try:
            while server.counts().get("create", 0) < 10:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            server.tell("outage", kind="unavailable", seconds=2.5)
            out, err = process.communicate(timeout=120)
        finally:
            end(process)
        assert process.returncode == 0, f"{out}\n{err}"
        state = server.state()
        made = [row for row in state["sessions"] if row["id"] != notebook]
        assert Counter(int(row["replica"]) for row in made) == Counter(range(1, 25))
        assert all(row["argv"] == ["bash", "-c", line] for row in made)
        assert state["jobs"]["photometry"]["most_alive"] == 6
        assert {row["log_sha256"] for row in made} == here.kept_logs()
        assert next(row for row in state["sessions"] if row["id"] == notebook)["alive"]


def photometry(line: str, *, replicas: int, alive: int) -> str:
    return (
        'name = "photometry"\nimage = "images.canfar.net/skaha/improc:latest"\n'
        f"command = ['bash', '-c', '''{line}''']\nreplicas = {replicas}\n"
        f"[resources]\ncores = 1\nram = 4\n[limits]\nalive = {alive}\n"
    )


@pytest.fixture
def place(tmp_path: Path) -> Any:
    """A server with others' sessions, and a machine that has applied three replicas of ``fits``."""
    with running(tmp_path / "server", {}) as server:
        others = {add_other(server, name) for name in OTHERS}
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB.format(replicas=3))
        here.run("apply", "job.toml")
        yield server, here, others


def test_delete_touches_nothing_else(place: Any) -> None:
    server, here, others = place
    assert_one_each(here, server.state(), others, 3)
    assert server.state()["requests"]["create"] == 3
    server.tell("plan", delete_ignored=1)
    here.run("delete", "fits")
    state = server.state()
    for row in state["sessions"]:
        assert row["alive"] == (row["id"] in others), row["name"]
        assert row["deletes"] == (0 if row["id"] in others else 2), "200 proves nothing: it is read back and repeated"
    assert {row["state"] for row in here.data("get", "replicas", "fits")} == {"Deleted"}


def test_another_machine_with_the_same_manifest_is_reported_and_may_adopt(place: Any, tmp_path: Path) -> None:
    server, _, others = place
    lost = next(row["id"] for row in server.state()["sessions"] if row["replica"] == "2")
    server.tell("delete", sessions=[lost])
    there = Workplace(tmp_path / "there", server)
    there.write("job.toml", JOB.format(replicas=3))
    told = there.run("apply", "job.toml", expect=2)
    assert "--adopt create" in told.stderr
    assert "--adopt unknown" in told.stderr
    assert server.state()["requests"]["create"] == 3
    there.run("apply", "job.toml", "--adopt", "create")
    state = server.state()
    assert state["requests"]["create"] == 4
    state["sessions"] = [row for row in state["sessions"] if row["id"] != lost]
    assert_one_each(there, state, others, 3)


def test_another_user_changes_nothing(place: Any) -> None:
    server, here, others = place
    before = server.state()
    server.tell("plan", user="bob")
    assert "nothing was changed" in here.run("apply", "job.toml", expect=3).stderr
    assert "nothing was changed" in here.run("delete", "fits", expect=3).stderr
    assert server.state()["requests"]["create"] == 3
    server.tell("plan", user="alice")
    here.run("apply", "job.toml")
    assert server.state()["sessions"] == updated(before["sessions"], server.state()["sessions"])
    assert_one_each(here, server.state(), others, 3)


def updated(before: list[Row], after: list[Row]) -> list[Row]:
    """``before`` with what time alone changes."""
    return [{**row, "log_reads": new["log_reads"]} for row, new in zip(before, after, strict=True)]


def test_what_is_not_a_list_of_ours_changes_nothing(place: Any) -> None:
    server, here, others = place
    for deny, code in ((None, 4), ("expired", 3), ("anonymous", 3), ("echo", 3)):
        server.tell("plan", list_page=deny is None, deny=deny)
        done = here.run("apply", "job.toml", expect=code)
        assert "the-token-of-the-test" not in done.stdout + done.stderr
    server.tell("plan", list_page=False, deny=None)
    here.run("apply", "job.toml")
    assert server.state()["requests"]["create"] == 3
    assert_one_each(here, server.state(), others, 3)


def test_empty_lists_change_nothing(place: Any) -> None:
    """Whatever a list lacks is asked for by its id before anything is concluded."""
    server, here, others = place
    server.tell("plan", list_empty=True)
    here.run("apply", "job.toml")
    assert {row["state"] for row in here.data("get", "replicas", "fits")} == {"Running"}
    assert "run 1 has not ended" in here.run("apply", "job.toml", "--rerun", expect=1).stderr
    assert here.run("retry", "fits", "--unknown", "--dry-run", expect=None).returncode in (0, 1)
    here.run("apply", "job.toml")
    server.tell("plan", list_empty=False)
    here.run("apply", "job.toml")
    assert server.state()["requests"]["create"] == 3
    assert_one_each(here, server.state(), others, 3)


def test_replace_ends_every_recorded_session_although_lists_are_empty(place: Any) -> None:
    server, here, others = place
    old = {row["id"] for row in server.state()["sessions"]} - others
    server.tell("plan", list_empty=True)
    here.write("job.toml", JOB.format(replicas=3) + "[env]\nNEW = '1'\n")
    here.run("apply", "job.toml", "--replace", "--yes")
    alive = {row["id"] for row in server.state()["sessions"] if row["alive"]}
    assert not alive & old
    assert others <= alive
    assert len(alive - others) == 3


@pytest.mark.parametrize("lie", ["empty", "stale"])
def test_a_record_is_removed_only_after_its_sessions_are_gone(place: Any, lie: str) -> None:
    server, here, others = place
    server.tell("plan", list_faults={lie: 1.0}, stale=10.0)
    here.run("delete", "fits", "--forget")
    assert {row["id"] for row in server.state()["sessions"] if row["alive"]} == others


def test_delete_that_has_no_effect_is_not_believed_although_lists_are_empty(place: Any) -> None:
    server, here, others = place
    server.tell("plan", list_empty=True, delete_ignored=2)
    here.run("delete", "fits")
    assert {row["id"] for row in server.state()["sessions"] if row["alive"]} == others
    assert {row["state"] for row in here.data("get", "replicas", "fits")} == {"Deleted"}


def test_copies_that_come_too_late_are_deleted_at_the_next_poll(tmp_path: Path) -> None:
    """Sessions that appear only after they were looked for long enough, and were made again."""
    plan = {"seed": 9, "faults": {"late_visible": 0.5, "drop_before": 0.2}, "fault_sends": 1, "late": [4.0, 5.0]}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server, {"settle": 0.6})
        here.write("job.toml", JOB.format(replicas=20))
        here.run("apply", "job.toml")
        assert_one_each(here, server.state(), set(), 20)
        time.sleep(max(0.0, max(row["visible"] for row in server.state()["sessions"]) - time.time()) + 0.1)
        state = server.state()
        assert state["jobs"]["fits"]["twins"] >= 5
        here.run("apply", "job.toml")
        assert_one_each(here, server.state(), set(), 20)


def test_a_copy_that_comes_when_all_is_done_is_deleted_at_the_next_poll(tmp_path: Path) -> None:
    plan = {"seed": 9, "faults": {"late_visible": 1.0}, "fault_sends": 1, "late": [3.0, 3.0]}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server, {"settle": 0.6, "log-patience": 0})
        here.write("job.toml", JOB.format(replicas=1))
        here.run("apply", "job.toml")
        told = [row["id"] for row in server.state()["sessions"] if row["told"]]
        server.tell("finish", sessions=told)
        here.run("apply", "job.toml")
        time.sleep(max(0.0, max(row["visible"] for row in server.state()["sessions"]) - time.time()) + 0.1)
        here.run("apply", "job.toml")
        assert [row["deletes"] for row in server.state()["sessions"] if not row["told"]] == [1]
        assert {row["state"] for row in here.data("get", "replicas", "fits")} == {"Completed"}


def test_a_session_of_our_very_name_that_was_not_made_here_is_left_alone(place: Any) -> None:
    server, here, others = place
    name = next(row["name"] for row in server.state()["sessions"] if row["replica"] == "1")
    stray = add_other(server, name)
    told = here.run("apply", "job.toml")
    assert "unrecognised session" in told.stderr
    assert stray in told.stderr
    here.run("delete", "fits")
    state = server.state()
    assert {row["id"] for row in state["sessions"] if row["alive"]} == others | {stray}


def test_a_gateway_that_answers_for_the_server_and_the_same_command_later(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"seed": 5}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB.format(replicas=3))
        server.tell("outage", kind="gateway", seconds=600)
        here.run("apply", "job.toml", expect=4)
        assert server.counts().get("create", 0) == 0
        server.tell("outage", seconds=0)
        here.run("apply", "job.toml")
        assert_one_each(here, server.state(), set(), 3)


def test_refused_connections_are_certain_and_nothing_is_looked_for(tmp_path: Path) -> None:
    """The port closes in mid-run and opens again: what met a closed port is sent again at once, not after settling."""
    plan = {"seed": 5, "post_latency": 0.15}
    with running(tmp_path / "server", plan) as server:
        port = Door(int(server.base.rpartition(":")[2]), at_once=2)
        here = Workplace(tmp_path / "here", server, {"settle": 600, "concurrency": 2})
        through = server.url.replace(server.base, f"http://127.0.0.1:{port.number}")
        here.write("profile.toml", (here.root / "profile.toml").read_text().replace(server.url, through))
        here.write("job.toml", JOB.format(replicas=12))
        port.close()
        refused = here.run("apply", "job.toml", expect=4)
        assert "Connection refused" in refused.stderr
        port.open(creates=4)
        process = here.start("apply", "job.toml", "--wait", "--timeout", "300s")
        try:
            assert process.stderr is not None
            said = next((line for line in process.stderr if "Connection refused" in line), None)
            assert said is not None, "it ended before the port closed"
            wait_for(lambda: met_a_closed_port(here) > 0, 60)
            assert server.counts()["create"] < 12
            port.open()
            wait_for(lambda: sum(row["alive"] for row in server.state()["sessions"]) == 12, 120)
        finally:
            process.terminate()
            process.communicate(timeout=120)
        assert_one_each(here, server.state(), set(), 12)
        assert server.counts()["create"] == 12


def met_a_closed_port(here: Workplace) -> int:
    """How many creates certainly made nothing."""
    with contextlib.closing(sqlite3.connect(here.state / "ledger.sqlite3", timeout=20)) as connection:
        return int(connection.execute("SELECT count(*) FROM sends WHERE outcome = 'not-created'").fetchone()[0])


class Door:
    """A port that leads to the server, one request a connection, and can be closed as if nobody listened there.

    It closes by itself after some creates, at a moment when as many are on their way as the client sends ``at_once``:
    then no create can be just arriving, so that the end of the listener cuts off none; and answered they are all.
    """

    def __init__(self, behind: int, at_once: int):
        self._behind = behind
        self._at_once = at_once
        self._left: int | None = None  # creates after which it closes
        self._open_creates = 0
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.number = self._listener.getsockname()[1]
        self._start()

    def open(self, creates: int | None = None) -> None:
        """Until it is closed; ``creates``: until more than so many have come."""
        self._left = creates
        self._listener = socket.create_server(("127.0.0.1", self.number))
        self._start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._behind)) as server:
            request = one_message(client)
            create = request.startswith(b"POST")
            if create:
                self._comes()
            server.sendall(request)
            answer = one_message(server)
            if create:
                self._goes()
            client.sendall(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    def _comes(self) -> None:
        with self._changed:
            self._open_creates += 1
            if self._left is None:
                return
            self._left -= 1
            if self._left < 0 and self._open_creates == self._at_once:
                self._left = None
                self.close()
                self._changed.notify_all()

    def _goes(self) -> None:
        """Once it may be answered: a door that is about to close waits for the others."""
        with self._changed:
            self._changed.wait_for(lambda: self._left is None or self._left >= 0)
            self._open_creates -= 1


def one_message(stream: socket.socket) -> bytes:
    """A request or an answer; what came of it, if it ends early."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            return data
        more = stream.recv(1 << 16)
        if not more:
            return data
        data += more


def test_the_user_changes_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """From one answer to the next the server takes us for somebody else: nothing more is done, nothing is undone."""
    with running(tmp_path / "server", {"seed": 5, "post_latency": 0.1, "running": [600, 600]}) as server:
        here = Workplace(tmp_path / "here", server, {"concurrency": 2})
        here.write("job.toml", JOB.format(replicas=20))
        server.tell("plan", switch_user=[4, "bob"])
        told = here.run("apply", "job.toml", "--wait", expect=3)
        assert "reports user bob" in told.stderr
        state = server.state()
        alices = {row["id"] for row in state["sessions"] if row["user"] == "alice"}
        assert all(row["deletes"] == 0 for row in state["sessions"])
        assert len(state["sessions"]) - len(alices) <= 2, "no more than what was on its way"
        ledger = {row["session"] for row in here.data("get", "replicas", "fits", "--cached")}
        assert ledger - {None} == {row["id"] for row in state["sessions"]}, "nothing that was made is forgotten"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"faults": {"refuse": 1.0}}, 'the cluster rejected the session; message of the server: jobs.batch "'),
        ({"strict_images": True, "images": ["x"]}, "No authentication provided for unknown or private image."),
    ],
)
def test_what_the_server_will_not_make_is_reported_and_not_sent_again(tmp_path: Path, plan: Row, words: str) -> None:
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB.format(replicas=3))
        told = here.run("apply", "job.toml", expect=1)
        assert words in told.stdout + told.stderr
        assert {row["state"] for row in here.data("get", "replicas", "fits", expect=None)} == {"Rejected"}
        assert server.state()["requests"]["create"] == 3
