"""What apply, diff and --dry-run decide and plan: by what the platform shows now, and as it is then carried out."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import pytest

from tests.workplace import Workplace, wait_for

pytestmark = pytest.mark.once


#: Does not end before ``go`` is there.
WORK = "until [ -e go ]; do sleep 0.05; done; echo ran"


def shown(here: Workplace, job: str, *states: str) -> None:
    """Waits until the platform shows the replicas so; what it shows is recorded."""
    wait_for(lambda: here.states(job) == list(states))


def ended_unseen(here: Workplace, sessions: int) -> None:
    """Waits until so many sessions are Completed, without a poll that would record it."""
    with contextlib.closing(sqlite3.connect(here.state / "local" / "queue.db", timeout=20)) as queue:
        wait_for(lambda: queue.execute("SELECT state FROM sessions").fetchall() == [("Completed",)] * sessions)


def actions(outcome: Any, job: int = 0) -> list[str]:
    return [step["action"] for step in outcome["jobs"][job]["steps"]]


def kept(here: Workplace, job: str, run: int) -> list[bool]:
    return [bool(row["log"]["bytes"]) for row in here.data("get", "replicas", job, "--run", str(run), "--cached")]


@pytest.mark.parametrize("dry_run_first", [False, True])
def test_a_run_with_an_unrecorded_end_is_followed_by_the_next(here: Workplace, dry_run_first: bool) -> None:
    here.run("apply", here.job("quick", WORK, 2))
    here.write("go", "")
    ended_unseen(here, 2)
    assert here.recorded("quick") != ["Completed", "Completed"]
    if dry_run_first:  # it polls, and so it records the ends
        assert actions(here.data("apply", "quick.toml", "--rerun", "--dry-run")) == ["create", "create"]
        assert here.recorded("quick") == ["Completed", "Completed"]
    here.run("apply", "quick.toml", "--rerun", "--wait")
    assert here.run_of("quick") == 2
    assert kept(here, "quick", 1) == [True, True]


def test_ends_are_noted_and_logs_kept_though_a_changed_manifest_is_refused(here: Workplace) -> None:
    here.run("apply", here.job("quick", WORK, 2))
    here.write("go", "")
    ended_unseen(here, 2)
    assert here.recorded("quick") != ["Completed", "Completed"]
    told = here.run("apply", here.job("quick", "echo other", 2), expect=1).stderr
    assert "the manifest differs from run 1, which has results" in told
    assert here.recorded("quick") == ["Completed", "Completed"]
    assert kept(here, "quick", 1) == [True, True]


def test_a_changed_manifest_is_refused_while_a_create_is_unconfirmed_or_a_driver_lives(
    here: Workplace, long: str
) -> None:
    driver = here.start("apply", long, "--wait")
    wait_for(lambda: here.recorded("long") == ["Running", "Running"])
    here.job("long", "sleep 101", 2)
    assert "the manifest has changed" in here.run("apply", long, expect=1).stderr
    driver.terminate()
    driver.communicate(timeout=120)
    assert "the manifest has changed" in here.run("apply", long, expect=1).stderr
    assert here.states("long") == ["Running", "Running"]


def test_diff_shows_the_room_that_an_end_has_made(here: Workplace) -> None:
    here.run("apply", here.job("queued", "true", 3, "[limits]\nalive = 2"))
    shown(here, "queued", "Completed", "Completed", "Queued")
    plan = here.data("diff", "queued.toml", expect=1)
    assert actions(plan) == ["keep", "keep", "create"]
    assert actions(here.data("apply", "queued.toml")) == ["keep", "keep", "create"]


def test_diff_shows_what_changed_limits_do(here: Workplace) -> None:
    here.run("apply", here.job("queued", "sleep 100", 3, "[limits]\nalive = 1"))
    shown(here, "queued", "Running", "Queued", "Queued")
    here.run("diff", "queued.toml")
    assert actions(here.data("diff", "queued.toml", "--set", "limits.alive=2", expect=1)) == ["keep", "create", "hold"]
    assert here.data("apply", "queued.toml", "--set", "limits.alive=2")["jobs"][0]["counts"]["Queued"] == 1
    here.clear("queued")


def test_more_attempts_for_a_run_that_failed(here: Workplace) -> None:
    here.run("apply", here.job("weak", "[ -e ready ]"), "--wait", expect=1)
    ended = here.run("apply", "weak.toml", expect=1).stderr
    assert "skahactl retry weak" in ended
    here.write("ready", "")
    here.job("weak", "[ -e ready ]", 1, "[retry]\nattempts = 2")
    here.run("apply", "weak.toml", "--wait")
    assert here.run_of("weak") == 1
    assert [row["attempt"] for row in here.data("get", "replicas", "weak")] == [2]


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


def test_a_merge_that_a_new_run_of_its_shards_makes_stale_runs_in_the_same_call(here: Workplace) -> None:
    here.write("stages.toml", STAGES)
    here.write("ready", "")
    here.run("apply", "stages.toml", "--wait")
    here.run("delete", "shards")
    assert [actions(here.data("apply", "stages.toml", "--dry-run"), job) for job in (0, 1)] == [["create"], ["hold"]]
    here.run("apply", "stages.toml", "--wait")
    assert (here.run_of("shards"), here.run_of("merge")) == (2, 2)
    assert here.recorded("merge") == ["Completed"]


def test_a_skipped_merge_runs_with_the_apply_that_sees_its_shards_to_their_end(here: Workplace) -> None:
    here.write("stages.toml", STAGES)
    here.run("apply", "stages.toml", "--wait", expect=1)
    assert here.recorded("merge") == ["Skipped"]
    here.write("ready", "")
    here.run("retry", "shards")
    here.run("apply", "stages.toml", "--wait")
    assert here.recorded("merge") == ["Completed"]


def test_without_its_record_a_job_is_known_by_later_attempts_too(here: Workplace) -> None:
    here.slots(4, kill_after=0.5, memory=1)
    work = "[ -e long ] && sleep 100; true"
    here.run("apply", here.job("again", work, 2), "--wait")
    here.write("long", "")
    here.run("apply", "again.toml", "--rerun")
    wait_for(lambda: [row["name"][-2:] for row in here.data("get", "sessions")] == ["-2", "-2"])
    (here.state / "ledger.sqlite3").rename(here.root / "lost.sqlite3")
    assert "2 sessions with exactly its names" in here.run("apply", "again.toml", expect=2).stderr
    assert actions(here.data("apply", "again.toml", "--dry-run", expect=2)) == []
    assert actions(here.data("apply", "again.toml", "--adopt", "create", "--dry-run")) == ["adopt", "adopt"]
    before = [row["id"] for row in here.data("get", "sessions")]
    assert actions(here.data("apply", "again.toml", "--adopt", "create")) == ["adopt", "adopt"]
    assert [row["id"] for row in here.data("get", "sessions")] == before
    here.run("delete", "again")
    here.run("apply", "again.toml")
    assert {row["name"][-2:] for row in here.data("get", "sessions")} == {"-3"}
    here.clear("again")


@pytest.mark.parametrize("words", [("get", "jobs"), ("wait", "quick"), ("describe", "quick"), ("logs", "quick")])
def test_a_run_has_ended_whichever_command_notices_it(here: Workplace, words: tuple[str, ...]) -> None:
    here.run("apply", here.job("quick", WORK, 2))
    here.write("go", "")
    ended_unseen(here, 2)
    here.run(*words)
    (row,) = here.data("get", "jobs", "--cached")
    assert row["status"] == "Completed"
    assert row["created"] <= row["ended"] <= row["observed"]
    assert here.data("describe", "quick")["job"]["ended"] == row["ended"]
