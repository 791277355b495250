"""Questions before something is lost, what a live driver takes over, and what -q still prints."""

from __future__ import annotations

import os
import signal

import pytest

from tests.desk import Desk, end, wait_for

pytestmark = pytest.mark.once


def test_a_replacement_that_is_declined_changes_no_job_of_the_call(desk: Desk) -> None:
    desk.job("one", "sleep 100")
    desk.run("apply", "one.toml")
    desk.job("one", "sleep 101")
    desk.job("two", "sleep 100")
    terminal = desk.at_a_terminal("apply", "one.toml", "two.toml", "--replace")
    terminal.read_until(b"[y/N]")
    os.write(terminal.master, b"n\r")
    assert terminal.ended() == 1
    assert terminal.text.count(b"[y/N]") == 1
    assert b"nothing was replaced; run 1 continues" in terminal.text
    assert b"--yes" not in terminal.text
    assert [row["name"] for row in desk.data("get", "jobs")] == ["one"]
    assert desk.states("one") == ["Running"]
    desk.clear("one")


def test_delete_asks_once_at_a_terminal(desk: Desk, long: str) -> None:
    desk.run("apply", long)
    for answer, code, left in ((b"n\r", 1, ["Running", "Running"]), (b"y\r", 0, ["Deleted", "Deleted"])):
        terminal = desk.at_a_terminal("delete", "long")
        terminal.read_until(b"[y/N]")
        os.write(terminal.master, answer)
        assert terminal.ended() == code
        assert (b"nothing was deleted" in terminal.text) == bool(code)
        assert b"error:" not in terminal.text
        assert desk.states("long") == left
    terminal = desk.at_a_terminal("delete", "long", "--forget")
    terminal.read_until(b"record and saved logs of 1 run")
    os.write(terminal.master, b"n\r")
    assert terminal.ended() == 1
    assert desk.at_a_terminal("delete", "long", "--forget", "-y").ended() == 0


def test_what_a_live_driver_takes_over_is_done(desk: Desk) -> None:
    desk.job("mixed", "test $REPLICA_ID = 1 || exit 3; sleep 100", 2)
    driver = desk.start("apply", "mixed.toml", "--wait")
    wait_for(lambda: desk.recorded("mixed") == ["Running", "Failed"])
    assert "it starts the new attempts" in desk.run("retry", "mixed", exit=0).stderr
    assert "it starts the new attempts" in desk.run("retry", "mixed", "-r", "2", "--wait", exit=0).stderr
    desk.job("mixed", "test $REPLICA_ID = 1 || exit 3; sleep 100", 2, more="[limits]\nalive = 7")
    desk.run("apply", "mixed.toml", exit=0)
    desk.run("apply", "mixed.toml", exit=6)  # nothing is handed to the driver
    desk.run("resume", "mixed", exit=6)
    end(driver, signal.SIGTERM)
    desk.clear("mixed")


def test_quiet_hides_no_failure(desk: Desk) -> None:
    desk.job("bad", "exit 3")
    done = desk.run("-q", "apply", "bad.toml", "--wait", exit=1)
    assert "Failed" in done.stderr
    desk.job("good", "true")
    assert desk.run("-q", "apply", "good.toml", "--wait").stderr == ""


def test_an_interrupted_driver_names_what_will_not_start(desk: Desk) -> None:
    desk.job("few", "sleep 100", 5, more="[limits]\nalive = 2")
    driver = desk.start("apply", "few.toml", "--wait")
    wait_for(lambda: desk.recorded("few").count("Running") == 2)
    code, _, err = end(driver, signal.SIGINT)
    assert code == 130
    assert "no command is driving it: 3 queued replicas will not start" in err
    desk.clear("few")


def test_no_name_sends_a_terminal_commands(desk: Desk) -> None:
    desk.extra["NO_COLOR"] = "1"
    nasty = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
    desk.write(
        "job.toml",
        f'name = "a"\nimage = "x/y:1"\n"{nasty.encode("unicode_escape").decode()}" = 1\n'.replace("\\x", "\\u00"),
    )
    terminal = desk.at_a_terminal("validate", "job.toml")
    assert terminal.ended() == 2
    assert b"owned" in terminal.text
    for part in ("\x1b", "\x07", "\x9b", "\u202e"):
        assert part.encode() not in terminal.text, terminal.text
