"""What apply, diff and --dry-run decide and plan: by what the platform shows now, and as it is then carried out."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import pytest

from tests.desk import Desk, wait_for

pytestmark = pytest.mark.once


#: Does not end before ``go`` is there.
WORK = "until [ -e go ]; do sleep 0.05; done; echo ran"


def shown(desk: Desk, job: str, *states: str) -> None:
    """Waits until the platform shows the replicas so; what it shows is recorded."""
    wait_for(lambda: desk.states(job) == list(states))


def ended_unseen(desk: Desk, sessions: int) -> None:
    """Waits until so many sessions are Completed, without a poll that would record it."""
    with contextlib.closing(sqlite3.connect(desk.state / "local" / "queue.db", timeout=20)) as queue:
        wait_for(lambda: queue.execute("SELECT state FROM sessions").fetchall() == [("Completed",)] * sessions)


def actions(outcome: Any, job: int = 0) -> list[str]:
    return [step["action"] for step in outcome["jobs"][job]["steps"]]


def kept(desk: Desk, job: str, run: int) -> list[bool]:
    return [bool(row["log"]["bytes"]) for row in desk.data("get", "replicas", job, "--run", str(run), "--cached")]


@pytest.mark.parametrize("dry_run_first", [False, True])
def test_a_run_whose_end_nobody_noted_is_followed_by_the_next(desk: Desk, dry_run_first: bool) -> None:
    desk.run("apply", desk.job("quick", WORK, 2))
    desk.write("go", "")
    ended_unseen(desk, 2)
    assert desk.recorded("quick") != ["Completed", "Completed"]
    if dry_run_first:  # it polls, and so it records the ends
        assert actions(desk.data("apply", "quick.toml", "--rerun", "--dry-run")) == ["create", "create"]
        assert desk.recorded("quick") == ["Completed", "Completed"]
    desk.run("apply", "quick.toml", "--rerun", "--wait")
    assert desk.run_of("quick") == 2
    assert kept(desk, "quick", 1) == [True, True]


def test_ends_are_noted_and_logs_kept_though_a_changed_manifest_is_refused(desk: Desk) -> None:
    desk.run("apply", desk.job("quick", WORK, 2))
    desk.write("go", "")
    ended_unseen(desk, 2)
    assert desk.recorded("quick") != ["Completed", "Completed"]
    told = desk.run("apply", desk.job("quick", "echo other", 2), exit=1).stderr
    assert "the manifest differs from run 1, which has results" in told
    assert desk.recorded("quick") == ["Completed", "Completed"]
    assert kept(desk, "quick", 1) == [True, True]


def test_a_changed_manifest_is_refused_while_a_create_is_in_doubt_or_a_driver_lives(desk: Desk, long: str) -> None:
    driver = desk.start("apply", long, "--wait")
    wait_for(lambda: desk.recorded("long") == ["Running", "Running"])
    desk.job("long", "sleep 101", 2)
    assert "the manifest has changed" in desk.run("apply", long, exit=1).stderr
    driver.terminate()
    driver.communicate(timeout=120)
    assert "the manifest has changed" in desk.run("apply", long, exit=1).stderr
    assert desk.states("long") == ["Running", "Running"]


def test_diff_shows_the_room_that_an_end_has_made(desk: Desk) -> None:
    desk.run("apply", desk.job("queued", "true", 3, "[limits]\nalive = 2"))
    shown(desk, "queued", "Completed", "Completed", "Queued")
    plan = desk.data("diff", "queued.toml", exit=1)
    assert actions(plan) == ["keep", "keep", "create"]
    assert actions(desk.data("apply", "queued.toml")) == ["keep", "keep", "create"]


def test_diff_shows_what_changed_limits_do(desk: Desk) -> None:
    desk.run("apply", desk.job("queued", "sleep 100", 3, "[limits]\nalive = 1"))
    shown(desk, "queued", "Running", "Queued", "Queued")
    desk.run("diff", "queued.toml")
    assert actions(desk.data("diff", "queued.toml", "--set", "limits.alive=2", exit=1)) == ["keep", "create", "hold"]
    assert desk.data("apply", "queued.toml", "--set", "limits.alive=2")["jobs"][0]["counts"]["Queued"] == 1
    desk.clear("queued")


def test_more_attempts_for_a_run_that_ended_badly(desk: Desk) -> None:
    desk.run("apply", desk.job("weak", "[ -e ready ]"), "--wait", exit=1)
    ended = desk.run("apply", "weak.toml", exit=1).stderr
    assert "skahactl retry weak" in ended
    desk.write("ready", "")
    desk.job("weak", "[ -e ready ]", 1, "[retry]\nattempts = 2")
    desk.run("apply", "weak.toml", "--wait")
    assert desk.run_of("weak") == 1
    assert [row["attempt"] for row in desk.data("get", "replicas", "weak")] == [2]


STAGES = """
[common]
image = "x/y:1"

[[job]]
name = "shards"
shell = "[ -e ready ]"

[[job]]
name = "merge"
shell = "echo merged"
after = ["shards"]
"""


def test_a_merge_that_a_new_run_of_its_shards_makes_stale_runs_in_the_same_call(desk: Desk) -> None:
    desk.write("stages.toml", STAGES)
    desk.write("ready", "")
    desk.run("apply", "stages.toml", "--wait")
    desk.run("delete", "shards")
    assert [actions(desk.data("apply", "stages.toml", "--dry-run"), job) for job in (0, 1)] == [["create"], ["hold"]]
    desk.run("apply", "stages.toml", "--wait")
    assert (desk.run_of("shards"), desk.run_of("merge")) == (2, 2)
    assert desk.recorded("merge") == ["Completed"]


def test_a_skipped_merge_runs_with_the_apply_that_sees_its_shards_to_their_end(desk: Desk) -> None:
    desk.write("stages.toml", STAGES)
    desk.run("apply", "stages.toml", "--wait", exit=1)
    assert desk.recorded("merge") == ["Skipped"]
    desk.write("ready", "")
    desk.run("retry", "shards")
    desk.run("apply", "stages.toml", "--wait")
    assert desk.recorded("merge") == ["Completed"]


def test_without_its_record_a_job_is_known_by_later_attempts_too(desk: Desk) -> None:
    desk.slots(4, kill_after=0.5, memory=1)
    work = "[ -e long ] && sleep 100; true"
    desk.run("apply", desk.job("again", work, 2), "--wait")
    desk.write("long", "")
    desk.run("apply", "again.toml", "--rerun")
    wait_for(lambda: [row["name"][-2:] for row in desk.data("get", "sessions")] == ["-2", "-2"])
    (desk.state / "ledger.sqlite3").rename(desk.root / "lost.sqlite3")
    assert "2 sessions with exactly its names" in desk.run("apply", "again.toml", exit=2).stderr
    assert actions(desk.data("apply", "again.toml", "--dry-run", exit=2)) == []
    assert actions(desk.data("apply", "again.toml", "--adopt", "create", "--dry-run")) == ["adopt", "adopt"]
    before = [row["id"] for row in desk.data("get", "sessions")]
    assert actions(desk.data("apply", "again.toml", "--adopt", "create")) == ["adopt", "adopt"]
    assert [row["id"] for row in desk.data("get", "sessions")] == before
    desk.run("delete", "again")
    desk.run("apply", "again.toml")
    assert {row["name"][-2:] for row in desk.data("get", "sessions")} == {"-3"}
    desk.clear("again")


@pytest.mark.parametrize("words", [("get", "jobs"), ("wait", "quick"), ("describe", "quick"), ("logs", "quick")])
def test_a_run_has_ended_whichever_command_notices_it(desk: Desk, words: tuple[str, ...]) -> None:
    desk.run("apply", desk.job("quick", WORK, 2))
    desk.write("go", "")
    ended_unseen(desk, 2)
    desk.run(*words)
    (row,) = desk.data("get", "jobs", "--cached")
    assert row["status"] == "Completed"
    assert row["created"] <= row["ended"] <= row["observed"]
    assert desk.data("describe", "quick")["job"]["ended"] == row["ended"]
