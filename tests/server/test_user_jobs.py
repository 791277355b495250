"""Jobs of the size that people have: items, limits, retries and logs, on a server that forgets and loses replies."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.skaha_server.process import Server, running
from tests.workplace import Workplace, end, wait_for

pytestmark = pytest.mark.once

JOB = """
name = "tiles"
image = "images.canfar.net/skaha/astroml:latest"
command = ["process", "--tile", "{{item}}"]
replicas = {replicas}

[items]
file = "tiles.txt"
strategy = "chunk"
each = true

[limits]
alive = {alive}

[retry]
attempts = 4
"""

Row = dict[str, Any]


def test_items_over_replicas(tmp_path: Path) -> None:
    items_over_replicas(tmp_path, items=150, replicas=24, alive=8, kills=2, lost=0.08)


@pytest.mark.slow
def test_five_thousand_items_over_six_hundred_replicas(tmp_path: Path) -> None:
    items_over_replicas(tmp_path, items=5000, replicas=600, alive=50, kills=10, lost=0.02)


def items_over_replicas(tmp_path: Path, *, items: int, replicas: int, alive: int, kills: int, lost: float) -> None:
    """5 % of attempts fail once, a share of replies are lost, the driver is killed and started again."""
    plan = {
        "seed": 7,
        "pending": [0.0, 0.3],
        "running": [0.3, 1.0],
        "fail": 0.05,
        "fail_once": True,
        "faults": {"drop_after": lost},
        "post_latency": 0.02,
        "log_lines": 50,
    }
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", JOB.format(replicas=replicas, alive=alive))
        here.write("tiles.txt", "".join(f"tile-{number:05d}.fits\n" for number in range(items)))
        drive_and_kill(here, server, replicas // (kills + 1), kills)
        here.run("apply", "job.toml", "--wait", timeout=1200)
        state = server.state()
        ours = state["sessions"]
        assert state["jobs"]["tiles"]["most_alive_without_twins"] <= alive
        assert any(row["outcome"] == "Failed" for row in ours)
        assert state["faults"]["drop_after"] >= 1
        assert_every_item_done(here, ours, items, replicas)
        assert_logs_kept(here, ours)


def drive_and_kill(here: Workplace, server: Server, creates: int, kills: int) -> None:
    """Kills the driver each time when it has made so many creates more, and a little later."""
    draw = random.Random(7)
    for number in range(1, kills + 1):
        process = here.start("apply", "job.toml", "--wait")
        wanted = number * creates
        wait_for(lambda: server.counts().get("create", 0) >= wanted, process=process)  # noqa: B023
        time.sleep(draw.uniform(0, 0.5))
        end(process)


def assert_every_item_done(here: Workplace, sessions: list[Row], items: int, replicas: int) -> None:
    """By the server: each replica has a Completed session, whose items and those of earlier attempts are all."""
    rows = here.data("get", "replicas", "tiles")
    assert [row["state"] for row in rows] == ["Completed"] * replicas
    completed = {row["id"]: row for row in sessions if row["outcome"] == "Completed"}
    assert all(row["session"] in completed for row in rows)
    done = here.data("get", "items", "tiles")
    assert len(done) == items
    assert {row["state"] for row in done} == {"Completed"}
    given = defaultdict(set)
    for row in sessions:
        given[int(row["replica"])] |= set(row["positions"])
    assert sum(len(positions) for positions in given.values()) == items


def assert_logs_kept(here: Workplace, sessions: list[Row]) -> None:
    """Of each attempt that ended, the whole log; of two copies of one attempt, one."""
    kept = here.kept_logs()
    attempts = defaultdict(set)
    for row in sessions:
        attempts[row["name"]].add(row["log_sha256"])
    assert [name for name, logs in attempts.items() if not logs & kept] == []


def test_an_end_that_is_discarded_soon_is_seen_by_a_driver(tmp_path: Path) -> None:
    plan = {"seed": 3, "memory": 5.0, "pending": [0.0, 1.0], "running": [0.2, 3.0], "log_lines": 20}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server, {"memory": 5})
        here.write("job.toml", JOB.format(replicas=12, alive=6))
        here.write("tiles.txt", "".join(f"tile-{number}\n" for number in range(36)))
        here.run("apply", "job.toml", "--wait")
        assert_every_item_done(here, server.state()["sessions"], 36, 12)
        assert_logs_kept(here, server.state()["sessions"])


def test_an_end_that_no_command_saw_is_unknown_until_it_is_marked(tmp_path: Path) -> None:
    plan = {"memory": 0.5, "running": [0.2, 0.3]}
    with running(tmp_path / "server", plan) as server:
        here = Workplace(tmp_path / "here", server, {"memory": 0.5})
        here.write(
            "job.toml",
            'name = "lone"\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = [\'x\']\nreplicas = 4\n',
        )
        here.run("apply", "job.toml")
        wait_for(lambda: all(row["status"] is None for row in server.state()["sessions"]), every=0.1)
        assert {row["state"] for row in here.data("get", "replicas", "lone")} == {"Unknown"}
        assert [row["status"] for row in here.data("get", "jobs")] == ["Unknown"]
        assert here.data("describe", "lone")["job"]["status"] == "Unknown"
        for _ in range(2):  # looks twice, ten seconds apart; then only says so
            here.run("apply", "job.toml", expect=1)
            assert {row["state"] for row in here.data("get", "replicas", "lone")} == {"Unknown"}
            assert server.counts()["create"] == 4
        here.run("mark", "lone", "completed", "-r", "1-2")
        assert [row["state"] for row in here.data("get", "replicas", "lone")] == ["Completed"] * 2 + ["Unknown"] * 2
        here.run("retry", "lone", "--unknown", "--wait")
        assert server.counts()["create"] == 6
        assert [row["state"] for row in here.data("get", "replicas", "lone")] == ["Completed"] * 4
        assert sorted(row["attempt"] for row in server.state()["sessions"]) == [1, 1, 1, 1, 2, 2]


def test_a_log_that_was_shown_is_saved(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"log_lines": 200}) as server:
        here = Workplace(tmp_path / "here", server)
        text = 'name = "lone"\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = ["x"]\nreplicas = 3\n'
        here.write("job.toml", text)
        here.run("apply", "-q", "job.toml")
        assert here.run("logs", "lone", expect=None).returncode in (0, 1)
        assert here.kept_logs() == set(), "a log that still grows is not saved"
        server.tell("finish")
        shown = here.run("logs", "lone", "--tail", "5").stdout
        assert here.kept_logs() == {row["log_sha256"] for row in server.state()["sessions"]}
        server.tell("forget")
        assert here.run("logs", "lone", "--tail", "5").stdout == shown
        assert [row["log"]["complete"] for row in here.data("get", "replicas", "lone")] == [True] * 3


POLLS = (
    ("get", "jobs"),
    ("get", "sessions"),
    ("describe", "lone"),
    ("logs", "lone"),
    ("events", "lone"),
    ("diff", "job.toml"),
    ("apply", "job.toml", "--dry-run"),
    ("wait", "lone"),
)


def test_every_command_that_polls_records_the_ends_that_it_sees(tmp_path: Path) -> None:
    with running(tmp_path / "server", {}) as server:
        first = Workplace(tmp_path / "first", server)
        text = 'name = "lone"\nimage = "images.canfar.net/skaha/astroml:latest"\ncommand = ["x"]\nreplicas = 2\n'
        first.write("job.toml", text)
        first.run("apply", "-q", "job.toml")
        places = [Path(shutil.copytree(first.root, tmp_path / str(number))) for number in range(len(POLLS))]
        server.tell("finish")
        wrong = {}
        for root, words in zip(places, POLLS, strict=True):
            Workplace(root, server).run(*words, expect=None)
            with contextlib.closing(sqlite3.connect(root / "state" / "ledger.sqlite3")) as ledger:
                found = ledger.execute("SELECT DISTINCT state FROM replicas").fetchall()
            if found != [("Completed",)]:
                wrong[words] = found
        assert wrong == {}
