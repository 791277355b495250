"""``prune`` and ``delete --forget``: what they forget is not in use, and what comes after them starts anew."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from skahactl.ledger.database import FILE, open_ledger
from skahactl.ledger.lock import acquire
from skahactl.ledger.records import JobKey
from tests import ledgers
from tests.workplace import Workplace, end, wait_for

pytestmark = pytest.mark.once


def listed(here: Workplace) -> list[str]:
    return [row["id"] for row in here.data("get", "sessions")]


def test_what_starts_again_while_prune_asks_is_left_alone(here: Workplace) -> None:
    here.job("pr", "test ! -e go || sleep 100")
    here.run("apply", "pr.toml", "--wait")
    terminal = here.at_a_terminal("prune", "pr", "--older-than", "0s")
    terminal.read_until(b"[y/N]")
    here.write("go", "")
    driver = here.start("retry", "pr", "-r", "1", "--wait")
    wait_for(lambda: here.recorded("pr") == ["Running"])
    os.write(terminal.master, b"y\n")
    assert terminal.ended(20) == 0
    assert b"another command is driving pr" in terminal.text
    assert b"forgot 0 runs" in terminal.text
    assert here.recorded("pr") == ["Running"]
    end(driver)
    terminal = here.at_a_terminal("prune", "pr", "--older-than", "0s")
    assert terminal.ended(20) == 0
    assert b"kept: not ended, or the end is not known" in terminal.text
    here.clear("pr")


def test_what_was_started_again_and_is_not_driven_is_left_alone(here: Workplace) -> None:
    here.job("pr", "test ! -e go || sleep 100")
    here.run("apply", "pr.toml", "--wait")
    terminal = here.at_a_terminal("prune", "pr", "--older-than", "0s")
    terminal.read_until(b"[y/N]")
    here.write("go", "")
    here.run("retry", "pr", "-r", "1")
    os.write(terminal.master, b"y\n")
    assert terminal.ended(20) == 0
    assert b"1 run changed meanwhile, not removed" in terminal.text
    assert here.run_of("pr") == 1
    here.clear("pr")


def test_runs_of_a_job_that_is_driven_stay(here: Workplace) -> None:
    here.job("pr", "true")
    here.run("apply", "pr.toml", "--wait")
    with open_ledger(here.state) as ledger:
        (row,) = ledger.rows("SELECT server, user, name FROM jobs")
        lock = acquire(ledger, JobKey(*row), 1.0)
        done = here.run("prune", "--older-than", "0s", "--yes")
        lock.release()
    assert "pr is unchanged: another command is driving it" in done.stderr
    assert done.stdout == ""
    assert here.run_of("pr") == 1


def test_removing_logs_of_many_replicas_is_one_write(here: Workplace) -> None:
    here.job("many", "echo x", 12)
    here.run("apply", "many.toml", "--wait")
    before = ledgers.changes(here.state)
    here.run("prune", "--logs", "--older-than", "0s", "--yes")
    assert ledgers.changes(here.state) - before <= 3  # the lock, the logs, the lock
    with closing(sqlite3.connect(here.state / FILE)) as connection:
        assert set(connection.execute("SELECT log, log_path FROM attempts")) == {("pruned", None)}


def test_a_pruned_job_starts_anew_although_its_sessions_are_listed(here: Workplace) -> None:
    here.job("anew", "true", 2)
    here.run("apply", "anew.toml", "--wait")
    before = listed(here)
    here.run("prune", "--yes", "--older-than", "0s")
    assert listed(here) == before
    done = here.run("apply", "anew.toml", "--wait")
    assert "stray" not in done.stderr
    names = [row["name"] for row in here.data("get", "sessions")]
    assert len(names) == len(set(names)) == 4


def test_a_forgotten_job_starts_anew_whatever_runs_it_had(here: Workplace) -> None:
    here.job("anew", "true", 2)
    here.run("apply", "anew.toml", "--wait")
    here.run("apply", "anew.toml", "--wait", "--rerun")
    planned = here.data("delete", "anew", "--forget", "--dry-run")["jobs"]
    assert sorted((part["run"], {step["action"] for step in part["steps"]} == {"delete"}) for part in planned) == [
        (1, True),
        (2, True),
    ]
    done = here.data("delete", "anew", "--forget")
    assert sorted(part["run"] for part in done["jobs"]) == [1, 2]
    assert listed(here) == []
    assert here.data("get", "jobs") == []
    here.run("apply", "anew.toml", "--wait")
    assert len(listed(here)) == 2


def test_delete_says_what_it_forgot_and_which_run_comes_next(here: Workplace) -> None:
    here.job("anew", "echo x", 2)
    here.run("apply", "anew.toml", "--wait")
    here.run("apply", "anew.toml", "--wait", "--rerun")
    said = here.run("delete", "anew", "--forget").stderr
    deleted = "2 ended sessions, the record and the saved logs (8 bytes) deleted\n"
    following = "  the next apply of anew starts run 1; if cron runs apply, remove that line first\n"
    assert deleted + following in said
    assert said.count("next apply") == 1
    assert "the record and the logs remain" not in said
    here.run("apply", "anew.toml", "--wait")
    assert here.run_of("anew") == 1
    assert "2 ended sessions deleted; the record and the logs remain" in here.run("delete", "anew").stderr
    again = here.run("delete", "anew", "--forget").stderr
    assert "the record and the saved logs (4 bytes) deleted" in again
    here.run("create", "headless", "x/y:1", "-n", "made", "--wait", "--", "true")
    assert "next apply" not in here.run("delete", "made").stderr  # it has no manifest


def test_an_age_without_a_unit_removes_nothing(here: Workplace) -> None:
    here.job("pr", "true")
    here.run("apply", "pr.toml", "--wait")
    for age in ("0", "0.0", "0d0"):
        said = here.run("prune", "--older-than", age, "--yes", expect=2).stderr
        assert said == f"error: --older-than: '{age}' has no unit\nhelp: add a unit, such as {age}d\n"
    assert here.recorded("pr") == ["Completed"]
    here.run("prune", "--older-than", "0s", "--yes")
    assert here.recorded("pr") == []
