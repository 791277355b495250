"""What a command tells although something ends it: the error on stderr, and what is known by then as data on stdout."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.skaha_server.process import running
from tests.workplace import Done, Workplace, end, wait_for

JSON = ("-o", "json")

pytestmark = pytest.mark.once


def told(done: Done) -> tuple[Any, Any]:
    """The outcome on stdout, and the error: the last line of stderr."""
    return json.loads(done.stdout), json.loads(done.stderr.splitlines()[-1])


def test_out_of_time_the_outcome_is_printed_all_the_same(here: Workplace, long: str) -> None:
    outcome, error = told(here.run("apply", long, "--wait", "--timeout", "1s", *JSON, expect=5))
    assert (error["code"], outcome["exit"]) == ("timeout", 5)
    (job,) = outcome["jobs"]
    assert (job["name"], job["run"], sum(job["counts"].values())) == ("long", 1, 2)
    assert [step["action"] for step in job["steps"]] == ["create"] * 2
    wait_for(lambda: here.states("long") == ["Running"] * 2)
    outcome, error = told(here.run("resume", "long", "--timeout", "0.5s", *JSON, expect=5))
    assert (error["code"], outcome["exit"], outcome["jobs"][0]["counts"]["Running"]) == ("timeout", 5, 2)
    assert here.run("apply", long, "--wait", "--timeout", "0.5s", expect=5).stdout == ""


def test_interrupted_the_outcome_is_printed_all_the_same(here: Workplace, long: str) -> None:
    process = here.start("apply", long, "--wait", *JSON)
    wait_for(lambda: here.recorded("long") == ["Running"] * 2)
    code, out, err = end(process, signal.SIGINT)
    assert code == 130
    assert json.loads(out)["exit"] == 130
    assert json.loads(out)["jobs"][0]["counts"]["Running"] == 2
    assert json.loads(err.splitlines()[-1])["code"] == "interrupted"


def test_an_interruption_speaks_of_the_jobs_that_were_driven(here: Workplace, long: str) -> None:
    driver = here.start("apply", long, "--wait")
    wait_for(lambda: here.recorded("long") == ["Running"] * 2)
    process = here.start("apply", long, here.job("slow", "sleep 100"), "--wait")
    wait_for(lambda: here.recorded("slow") == ["Running"])
    code, _, err = end(process, signal.SIGINT)
    assert (code, "interrupted; slow keeps running" in err) == (130, True)
    end(driver, signal.SIGTERM)
    here.clear("slow")


def stop_without_a_lock(driver: subprocess.Popen[str], here: Workplace) -> None:
    """Stops it at a moment when others can write."""
    while True:
        driver.send_signal(signal.SIGSTOP)
        try:
            for path in (here.state / "ledger.sqlite3", here.state / "local" / "queue.db"):
                with contextlib.closing(sqlite3.connect(path, timeout=1)) as connection:
                    connection.execute("BEGIN EXCLUSIVE")  # a reader keeps others from committing
        except sqlite3.OperationalError:
            driver.send_signal(signal.SIGCONT)
            time.sleep(0.1)
        else:
            return


def test_a_delete_that_is_interrupted_tells_what_it_did(here: Workplace, long: str) -> None:
    here.run("apply", here.job("done", "true"), "--wait")
    driver = here.start("apply", long, "--wait")
    wait_for(lambda: here.recorded("long") == ["Running"] * 2)
    stop_without_a_lock(driver, here)  # it will not carry out the delete
    try:
        process = here.start("delete", "done", "long", *JSON)
        wait_for(lambda: here.is_asked_to_go("long"))
        wait_for(lambda: {row["name"][:4] for row in here.data("get", "sessions")} == {"long"}, every=0.5)
        time.sleep(1)  # the verified delete of the first job is on record now; the second waits for its driver
        code, out, err = end(process, signal.SIGTERM)
    finally:
        driver.send_signal(signal.SIGCONT)
        driver.communicate(timeout=120)
    assert code == 143, err
    outcome = json.loads(out)
    assert (outcome["exit"], [job["name"] for job in outcome["jobs"]]) == (143, ["done", "long"])
    assert [{step["outcome"] for step in job["steps"]} for job in outcome["jobs"]] == [{"done"}, {"planned"}]
    assert "on record" in json.loads(err.splitlines()[-1])["hint"]


def test_an_error_as_data_is_the_last_line_whatever_is_said_before(here: Workplace) -> None:
    here.write("loud.toml", "name = 'loud'\nimage = 'x/y:1'\ncommand = ['tail', '-f', '/dev/null', '$HOME']\n")
    words = ("apply", "loud.toml", "--wait", "--timeout", "0.5s", *JSON)
    lines = here.run(*words, expect=5).stderr.splitlines()
    assert lines[0].startswith("warning: ")
    assert json.loads(lines[-1])["code"] == "timeout"
    (line,) = here.run(*words, "-q", expect=5).stderr.splitlines()
    assert json.loads(line)["code"] == "timeout"
    here.clear("loud")


def test_an_outage_that_outlasts_the_timeout_leaves_what_was_known(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"seed": 3}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("job.toml", 'name = "fits"\nimage = "images.canfar.net/a/b:1"\ncommand = ["true"]\nreplicas = 3\n')
        process = here.start("apply", "job.toml", "--wait", "--timeout", "6s", *JSON)
        wait_for(lambda: server.counts().get("create", 0) == 3)
        server.tell("outage", kind="drop")
        out, err = process.communicate(timeout=120)
        assert process.returncode == 5, err
        (job,) = json.loads(out)["jobs"]
        assert (job["run"], len(job["steps"])) == (1, 3)
        assert "; retrying" in err
        assert json.loads(err.splitlines()[-1])["code"] == "timeout"


def test_who_asked_for_data_gets_data_where_nothing_was_to_be_done(here: Workplace) -> None:
    here.run("apply", here.job("short", "true"), "--wait")
    (job,) = here.data("retry", "short")["jobs"]
    assert (job["action"], job["reason"], job["steps"]) == ("retry", "nothing to retry", [])
    assert here.data("delete", "nothing", "--ignore-not-found")["jobs"] == []
    lines = ("retry short/1 nothing", "retry short -r 1 --dry-run", "retry jobs short", "retry short")
    unknown, planned, with_noun, plain = here.each(*lines)
    assert [done.returncode for done in (unknown, planned, with_noun, plain)] == [2, 0, 0, 0]
    assert (plain.stdout, "nothing to retry" in plain.stderr, "nothing to retry" in with_noun.stderr) == (
        "",
        True,
        True,
    )
    assert [row["attempt"] for row in here.data("get", "replicas", "short")] == [1], "one is unknown: none is retried"


def test_several_jobs_are_retried_in_one_loop_and_reported_as_one_outcome(here: Workplace) -> None:
    here.slots(4)
    meet = (  # each waits for the other
        "A=${SKAHACTL_ATTEMPT:-1}; touch NAME.$A; n=0; until [ -e one.$A ] && [ -e two.$A ]; do n=$((n + 1));"
        " [ $n -lt 600 ] || exit 1; sleep 0.1; done; [ -e ready ]"
    )
    for name in ("one", "two"):
        here.job(name, meet.replace("NAME", name), 1)
    here.run("apply", "one.toml", "two.toml", "--wait", expect=1)
    here.write("ready", "")
    outcome = here.data("retry", "one", "two", "--wait")
    assert (outcome["exit"], [job["name"] for job in outcome["jobs"]]) == (0, ["one", "two"])
    assert {job["status"] for job in outcome["jobs"]} == {"Completed"}


def test_a_retry_leaves_a_driven_job_to_its_driver_and_drives_the_others(here: Workplace) -> None:
    here.slots(4)
    here.job("driven", "[ $REPLICA_ID = 1 ] && [ ! -e ready ] && exit 1; sleep 100", 2)
    here.job("other", "[ -e ready ]")
    here.run("apply", "other.toml", "--wait", expect=1)
    driver = here.start("apply", "driven.toml", "--wait")
    wait_for(lambda: here.recorded("driven") == ["Failed", "Running"])
    here.write("ready", "")
    outcome = here.data("retry", "driven", "other", "--wait")  # what a live driver takes over counts as done
    handed, other = outcome["jobs"]
    assert (handed["action"], handed["counts"]["Running"]) == ("retry", 1)
    assert (other["action"], other["status"]) == ("retry", "Completed")
    wait_for(lambda: here.recorded("driven") == ["Running", "Running"])
    end(driver, signal.SIGTERM)
    here.clear("driven")


def test_a_session_of_no_job_that_is_deleted_is_reported_as_data_too(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"seed": 3}) as server:
        here = Workplace(tmp_path / "here", server)
        theirs = server.tell("session", name="theirs-1")["id"]
        for words, outcome in ((("--dry-run",), "planned"), ((), "done")):
            (job,) = here.data("delete", "theirs-1", *words)["jobs"]
            (step,) = job["steps"]
            assert (job["name"], step["session"], step["outcome"]) == ("theirs-1", theirs, outcome)
        assert here.data("get", "sessions") == []
        stays = server.tell("session", name="theirs-2")["id"]
        server.tell("plan", delete_ignored=100)
        told = here.data("delete", stays, expect=1)
        assert (told["exit"], told["jobs"][0]["steps"][0]["error"]["code"]) == (1, "stays")


def test_the_time_limit_holds_while_a_run_is_replaced(tmp_path: Path) -> None:
    """The pods of the old run have ``grace`` to stop; what was done, and that nothing was started, is said."""
    with running(tmp_path / "server", {}) as server:
        here = Workplace(tmp_path / "here", server, {"grace": 3600})
        job = "name = 'tiles'\nimage = 'images.canfar.net/skaha/astroml:latest'\ncommand = ['x']\n"
        here.write("job.toml", job)
        here.run("apply", "-q", "job.toml")
        made = server.counts()["create"]
        here.write("job.toml", job + "[env]\nNEW = '1'\n")
        words = ("apply", "job.toml", "--replace", "--yes", "--wait", "--timeout")
        told = here.run(*words, "4s", expect=5, timeout=60).stderr
        assert "was deleted; the next run was not started" in told
        assert server.counts()["create"] == made
