"""Questions before something is lost, what a live driver takes over, and what -q still prints."""

from __future__ import annotations

import os
import signal

import pytest

from tests.workplace import Workplace, end, wait_for

pytestmark = pytest.mark.once


def test_a_replacement_that_is_declined_changes_no_job_of_the_call(here: Workplace) -> None:
    here.job("one", "sleep 100")
    here.run("apply", "one.toml")
    here.job("one", "sleep 101")
    here.job("two", "sleep 100")
    terminal = here.at_a_terminal("apply", "one.toml", "two.toml", "--replace")
    terminal.read_until(b"[y/N]")
    os.write(terminal.master, b"n\r")
    assert terminal.ended() == 1
    assert terminal.text.count(b"[y/N]") == 1
    assert b"nothing was replaced; run 1 continues" in terminal.text
    assert b"--yes" not in terminal.text
    assert [row["name"] for row in here.data("get", "jobs")] == ["one"]
    assert here.states("one") == ["Running"]
    here.clear("one")


def test_delete_asks_once_at_a_terminal(here: Workplace, long: str) -> None:
    here.run("apply", long)
    terminal = here.at_a_terminal("delete", "long", "--no-logs")
    terminal.read_until(b"without saving the logs of what runs (--no-logs)")
    os.write(terminal.master, b"n\r")
    assert terminal.ended() == 1
    for answer, code, left in ((b"n\r", 1, ["Running", "Running"]), (b"y\r", 0, ["Deleted", "Deleted"])):
        terminal = here.at_a_terminal("delete", "long")
        terminal.read_until(b"[y/N]")
        os.write(terminal.master, answer)
        assert terminal.ended() == code
        assert (b"nothing was deleted" in terminal.text) == bool(code)
        assert b"error:" not in terminal.text
        assert here.states("long") == left
    terminal = here.at_a_terminal("delete", "long", "--forget")
    terminal.read_until(b"record and saved logs of 1 run")
    os.write(terminal.master, b"n\r")
    assert terminal.ended() == 1
    assert here.at_a_terminal("delete", "long", "--forget", "-y").ended() == 0


def test_what_a_live_driver_takes_over_is_done(here: Workplace) -> None:
    here.job("mixed", "test $REPLICA_ID = 1 || exit 3; sleep 100", 2)
    driver = here.start("apply", "mixed.toml", "--wait")
    wait_for(lambda: here.recorded("mixed") == ["Running", "Failed"])
    assert "it starts the new attempts" in here.run("retry", "mixed", expect=0).stderr
    assert "it starts the new attempts" in here.run("retry", "mixed", "-r", "2", "--wait", expect=0).stderr
    here.job("mixed", "test $REPLICA_ID = 1 || exit 3; sleep 100", 2, more="[limits]\nalive = 7")
    here.run("apply", "mixed.toml", expect=0)
    here.run("apply", "mixed.toml", expect=6)  # nothing is handed to the driver
    here.run("resume", "mixed", expect=6)
    end(driver, signal.SIGTERM)
    here.clear("mixed")


def test_quiet_hides_no_failure(here: Workplace) -> None:
    here.job("bad", "exit 3")
    done = here.run("-q", "apply", "bad.toml", "--wait", expect=1)
    assert "Failed" in done.stderr
    here.job("good", "true")
    assert here.run("-q", "apply", "good.toml", "--wait").stderr == ""


def test_an_interrupted_driver_names_what_will_not_start(here: Workplace) -> None:
    here.job("few", "sleep 100", 5, more="[limits]\nalive = 2")
    driver = here.start("apply", "few.toml", "--wait")
    wait_for(lambda: here.recorded("few").count("Running") == 2)
    code, _, err = end(driver, signal.SIGINT)
    assert code == 130
    assert "no command is driving it: 3 queued replicas will not start" in err
    here.clear("few")


def test_no_name_sends_a_terminal_commands(here: Workplace) -> None:
    here.extra["NO_COLOR"] = "1"
    nasty = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
    here.write(
        "job.toml",
        f'name = "a"\nimage = "x/y:1"\n"{nasty.encode("unicode_escape").decode()}" = 1\n'.replace("\\x", "\\u00"),
    )
    terminal = here.at_a_terminal("validate", "job.toml")
    assert terminal.ended() == 2
    assert b"owned" in terminal.text
    for part in ("\x1b", "\x07", "\x9b", "\u202e"):
        assert part.encode() not in terminal.text, terminal.text
