"""The life of a job, as a person drives it: applied again, changed, ended, retried, deleted; real processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.desk import Desk, end, overlapping, wait_for

OUTCOME = {"profile", "server", "dry_run", "exit", "jobs"}
PART = {"name", "run", "digest", "action", "reason", "differences", "status", "counts", "steps"}
STEP = {"replica", "name", "action", "reason", "outcome", "session", "attempt", "error"}


def ledger_text(desk: Desk) -> str:
    """All that the ledger holds, but for what each poll adds: its time, and samples of what sessions use."""
    with contextlib.closing(sqlite3.connect(desk.state / "ledger.sqlite3")) as connection:
        connection.execute("UPDATE runs SET observed = NULL")
        connection.execute("UPDATE runs SET observed_before = NULL")
        connection.execute("UPDATE attempts SET observed = NULL")
        connection.execute("DELETE FROM usage")
        return "\n".join(connection.iterdump())


def integrity(desk: Desk) -> str:
    with contextlib.closing(sqlite3.connect(desk.state / "ledger.sqlite3")) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def driving(desk: Desk, job: str, *words: str) -> subprocess.Popen[str]:
    """A driver, once it drives and all replicas run."""
    process = desk.start(*words)
    wait_for(lambda: desk.is_driven(job) and set(desk.recorded(job)) == {"Running"})
    return process


def test_applied_twice_nothing_changes(desk: Desk, long: str) -> None:
    first = desk.data("apply", long)
    wait_for(lambda: desk.states("long") == ["Running"] * 2)
    desk.run("apply", long)
    before = ledger_text(desk)
    again = desk.data("apply", long)
    assert ledger_text(desk) == before
    assert [step["action"] for step in first["jobs"][0]["steps"]] == ["create"] * 2
    assert [(step["action"], step["outcome"]) for step in again["jobs"][0]["steps"]] == [("keep", "unchanged")] * 2
    for told in (first, again):
        assert set(told) >= OUTCOME
        assert set(told["jobs"][0]) >= PART
        assert all(set(step) >= STEP for step in told["jobs"][0]["steps"])
    assert again["exit"] == 0
    assert again["jobs"][0]["differences"] == []


@pytest.mark.once
def test_applied_after_the_end_nothing_starts_and_the_exit_is_the_runs(desk: Desk) -> None:
    desk.job("good", "echo $REPLICA_ID of $REPLICA_COUNT", 2)
    desk.job("bad", "exit $REPLICA_ID", 1)
    desk.run("apply", "good.toml", "--wait")
    desk.run("apply", "bad.toml", "--wait", exit=1)
    before = ledger_text(desk)
    assert "run 1 ended" in desk.run("apply", "good.toml").stderr
    assert "Failed" in desk.run("apply", "bad.toml", exit=1).stderr
    desk.run("apply", "good.toml", "bad.toml", "--wait", exit=1)
    assert ledger_text(desk) == before
    assert desk.run("diff", "good.toml").stdout.count("unchanged") == 1
    desk.run("apply", "good.toml", "--rerun", "--wait")
    assert desk.run_of("good") == 2


STAMPS = """
import os, sys, time
with open(f"stamps/{os.environ['REPLICA_ID']}", "a") as stream:
    begun = time.time()
    time.sleep(0.3)
    print(begun, time.time(), file=stream)
"""


@pytest.mark.once
def test_killed_at_several_moments_every_replica_runs_once(desk: Desk) -> None:
    (desk.root / "stamps").mkdir()
    desk.write("work.py", STAMPS)
    desk.job("tiles", f"{sys.executable} work.py", 12)
    draw = random.Random(7)
    moments = [draw.uniform(0.15, 0.9) for _ in range(8)]
    for place, moment in enumerate(moments):
        process = desk.start("apply", "tiles.toml", *(["--wait"] if place % 2 else []))
        time.sleep(moment)
        end(process)
    desk.run("apply", "tiles.toml", "--wait")
    assert desk.recorded("tiles") == ["Completed"] * 12
    for number in range(1, 13):
        lines = (desk.root / "stamps" / str(number)).read_text().splitlines()
        spans = [(float(line.split()[0]), float(line.split()[1])) for line in lines]
        assert len(spans) == 1, number
        assert not overlapping(spans)
    assert integrity(desk) == "ok"


def test_failing_replicas_are_named_their_logs_kept_and_the_others_run_on(desk: Desk) -> None:
    shell = """
echo this is $REPLICA_ID
case $REPLICA_ID in 2) exit 3;; 3) kill -SEGV $$;; 4) exec /no/such/command;; *) sleep 0.5; echo done;; esac"""
    desk.job("mixed", shell, 5)
    done = desk.run("apply", "mixed.toml", "--wait", exit=1)
    assert "not completed: replicas 2-4" in done.stderr
    assert desk.recorded("mixed") == ["Completed", "Failed", "Failed", "Failed", "Completed"]
    logs = desk.run("logs", "mixed", "--failed").stdout
    for number in (2, 3, 4):
        assert f"this is {number}" in logs
    assert "/no/such/command" in logs
    assert "this is 1" not in logs
    assert all(row["log"]["complete"] for row in desk.data("get", "replicas", "mixed"))


@pytest.mark.once
def test_changed_content_is_refused_with_differences_and_the_ways_out(desk: Desk, long: str) -> None:
    desk.run("apply", long)
    desk.job("long", "sleep 101", 2)
    done = desk.run("apply", long, exit=1)
    assert re.search(r'-shell = "sleep 100"\n\+shell = "sleep 101"', done.stderr)
    assert "--replace" in done.stderr
    assert "--rerun" in done.stderr
    assert desk.run("diff", long, exit=1).stdout
    part = desk.data("apply", long, exit=1)["jobs"][0]
    assert part["action"] == "refuse"
    assert {"path", "old", "new", "source"} <= set(part["differences"][0])
    refused = desk.run("apply", long, "--replace", exit=1)  # no terminal, no --yes
    assert "--yes" in refused.stderr
    assert "Running" in refused.stderr
    assert desk.run_of("long") == 1
    desk.run("apply", long, "--replace", "--yes")
    assert desk.run_of("long") == 2
    assert set(desk.recorded("long")) <= {"Pending", "Running"}


def test_deleted_while_it_is_driven_the_driver_ends_and_says_so(desk: Desk, long: str) -> None:
    driver = driving(desk, "long", "apply", long, "--wait")
    done = desk.run("delete", "long")
    assert "carries out the delete" in done.stderr
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "was deleted by another command" in err
    assert desk.recorded("long") == ["Deleted"] * 2
    assert desk.data("get", "sessions") == []


@pytest.mark.once
def test_deleted_and_forgotten_while_it_is_driven(desk: Desk, long: str) -> None:
    driver = driving(desk, "long", "apply", long, "--wait")
    desk.run("delete", "long", "--forget")
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "should not have happened" not in err
    assert desk.data("get", "jobs") == []


@pytest.mark.once
def test_replaced_while_it_is_driven(desk: Desk, long: str) -> None:
    driver = driving(desk, "long", "apply", long, "--wait")
    desk.job("long", "echo new", 2)
    desk.run("apply", long, "--replace", "--yes", "--wait")
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "run 1 was deleted by another command, to start run 2. To see it: skahactl get jobs long" in err
    assert desk.recorded("long") == ["Completed"] * 2
    assert desk.run_of("long") == 2


@pytest.mark.once
def test_a_second_driver_is_told_who_drives(desk: Desk, long: str) -> None:
    driver = driving(desk, "long", "apply", long, "--wait")
    for words in (("apply", long), ("apply", long, "--wait"), ("resume", "long")):
        done = desk.run(*words, exit=6)
        assert f"process {driver.pid} " in done.stderr
    assert desk.run("apply", long, "-o", "json", exit=6).stderr.startswith('{"code": "busy"')
    end(driver, signal.SIGTERM)


@pytest.mark.once
def test_of_several_jobs_those_that_nobody_drives_go_on(desk: Desk, long: str) -> None:
    driver = driving(desk, "long", "apply", long, "--wait")
    desk.job("short", "true", 2)
    outcome = desk.data("apply", long, "short.toml", "--wait", exit=6)
    assert outcome["exit"] == 6
    busy, done = outcome["jobs"]
    assert (busy["action"], busy["steps"], done["counts"]["Completed"]) == ("busy", [], 2)
    assert f"process {driver.pid} " in busy["reason"]
    told = desk.run("apply", "short.toml", long, "-q", exit=6).stderr
    assert f"another command is driving long: process {driver.pid} " in told
    assert "short" not in told
    end(driver, signal.SIGTERM)


@pytest.mark.once
def test_a_driver_whose_lock_was_broken_ends(desk: Desk, long: str) -> None:
    driver = driving(desk, "long", "apply", long, "--wait")
    with contextlib.closing(sqlite3.connect(desk.state / "ledger.sqlite3", isolation_level=None)) as connection:
        connection.execute(
            "UPDATE drivers SET host = 'elsewhere', boot = 'other', pid = 7"
        )  # as --break-lock on that machine does
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 6
    assert "process 7 on elsewhere" in err
    assert desk.run("apply", long, exit=6).stderr.count("elsewhere") == 1
    desk.run("apply", long, "--break-lock")


@pytest.mark.once
def test_the_time_is_over_and_the_job_goes_on(desk: Desk, long: str) -> None:
    done = desk.run("apply", long, "--wait", "--timeout", "1s", exit=5)
    assert "timed out; long keeps running, but no command is driving it" in done.stderr
    assert set(desk.recorded("long")) <= {"Queued", "Pending", "Running"}, "it waited for their end"
    desk.run("wait", "long", "--timeout", "0.5s", exit=5)
    wait_for(lambda: desk.states("long") == ["Running"] * 2)
    desk.run("apply", long)


def test_retries_end_well_and_a_third_is_not_tried(desk: Desk) -> None:
    desk.write("profile.toml", (desk.root / "profile.toml").read_text() + "[client]\nbackoff = 0.1\n")
    shell = 'echo attempt ${SKAHACTL_ATTEMPT:-1}; [ "$REPLICA_ID" = 1 ] && [ "$SKAHACTL_ATTEMPT" = 2 ]'
    desk.job("again", shell, 2, "[retry]\nattempts = 2")
    desk.run("apply", "again.toml", "--wait", exit=1)
    rows = desk.data("get", "replicas", "again")
    assert [(row["state"], row["attempt"]) for row in rows] == [("Completed", 2), ("Failed", 2)]
    assert [row["name"].endswith("-2") for row in rows] == [True, True]
    assert "attempt 1" in desk.run("logs", "again", "-r", "1", "--attempt", "all").stdout


CHAIN = """
[common]
image = "x/y:1"
[[job]]
name = "merge"
after = ["shards"]
command = ["echo", "merged"]
[[job]]
name = "shards"
shell = "[ $REPLICA_ID != 2 ] || [ -e ok ]"
replicas = 3
"""


@pytest.mark.once
def test_after_a_failed_shard_the_merge_is_skipped_and_runs_when_it_is_done(desk: Desk) -> None:
    desk.write("chain.toml", CHAIN)
    first = desk.run("apply", "chain.toml", "--wait", exit=1)
    assert desk.recorded("merge") == ["Skipped"]
    assert "merge was skipped because shards is Failed" in first.stderr
    before = ledger_text(desk)
    desk.run("apply", "chain.toml", "--wait", exit=1)
    assert ledger_text(desk) == before
    told = desk.run("resume", "merge", exit=1).stderr
    assert "Run skahactl retry shards --wait, then: skahactl apply chain.toml" in told
    desk.write("ok", "")
    desk.run("retry", "shards", "--wait")
    desk.run("apply", "chain.toml", "--wait")
    assert desk.recorded("merge") == ["Completed"]
    desk.run("apply", "chain.toml", "--wait")
    assert desk.run_of("merge") == 2


def test_a_skipped_job_names_the_job_that_failed_and_not_the_skipped_one_between(desk: Desk) -> None:
    table = "[[job]]\nname = '{}'\nafter = ['{}']\ncommand = ['true']\n"
    desk.write("chain.toml", CHAIN + table.format("report", "merge"))
    said = desk.run("apply", "chain.toml", "--wait", exit=1).stderr
    assert (
        "report was skipped because shards is Failed (report comes after merge, merge comes after shards). "
        "Run skahactl retry shards --wait, then: skahactl apply chain.toml --wait\n"
    ) in said
    assert "retry merge" not in said
    desk.write("ok", "")
    desk.run("retry", "shards", "--wait")
    desk.run("apply", "chain.toml", "--wait")
    assert desk.recorded("report") == ["Completed"]


@pytest.mark.slow
def test_a_stale_merge_runs_anew_and_only_once(desk: Desk) -> None:
    desk.write("ok", "")
    shards, merge = desk.job("shards", "true", 2), desk.job("merge", "true", 1, file="merge.toml")
    desk.write(merge, "after = ['shards']\n" + (desk.root / merge).read_text())
    desk.run("apply", merge, shards, "--wait")
    desk.run("apply", shards, "--rerun", "--wait")
    done = desk.run("apply", merge, "--wait")
    assert "1 session created" in done.stderr
    desk.run("apply", merge, shards, "--wait")
    assert (desk.run_of("shards"), desk.run_of("merge")) == (2, 2)


@pytest.mark.once
def test_after_a_job_that_nobody_knows_is_an_error(desk: Desk) -> None:
    merge = desk.job("merge", "true", 1)
    desk.write(merge, "after = ['shard']\n" + (desk.root / merge).read_text())
    desk.job("shards", "true", 1)
    for words in (("apply", merge, "--dry-run"), ("apply", merge, "shards.toml", "--wait")):
        done = desk.run(*words, exit=2)
        assert "merge comes after shard" in done.stderr
    assert "did you mean 'shards'" in done.stderr
    assert desk.data("get", "jobs") == []


@pytest.mark.slow
def test_two_jobs_of_one_name_are_an_error(desk: Desk) -> None:
    desk.job("tiles", "true", 1)
    desk.job("tiles", "true", 1, file="other.toml")
    done = desk.run("apply", "tiles.toml", "other.toml", exit=2)
    assert "tiles.toml" in done.stderr
    assert "other.toml" in done.stderr
    assert desk.data("get", "jobs") == []


@pytest.mark.once
def test_changed_limits_reach_a_living_driver(desk: Desk) -> None:
    desk.job("steered", "sleep 100", 4, "[limits]\nalive = 1")
    driver = desk.start("apply", "steered.toml", "--wait")
    wait_for(lambda: desk.is_driven("steered") and desk.recorded("steered").count("Running") == 1)
    assert desk.recorded("steered").count("Queued") == 3
    desk.job("steered", "sleep 100", 4, "[limits]\nalive = 3\n[logs]\nkeep = 'none'")
    told = desk.run("apply", "steered.toml").stderr
    assert "it applies the changed [limits] and [logs] from now on" in told
    assert "changed" not in desk.run("apply", "steered.toml", exit=6).stderr
    wait_for(lambda: desk.recorded("steered").count("Running") == 3)
    desk.run("delete", "steered")
    assert driver.wait(20) == 1
    driver.communicate()


@pytest.mark.once
def test_what_waits_too_long_fails(desk: Desk) -> None:
    desk.slots(1, kill_after=0.5)
    desk.job("queued", "sleep 1.5", 2, "[limits]\npending-timeout = '0.6s'")
    desk.run("apply", "queued.toml", "--wait", exit=1)
    assert sorted(desk.recorded("queued")) == ["Completed", "Failed"]
    failed = next(row for row in desk.data("get", "replicas", "queued") if row["state"] == "Failed")
    assert "pending-timeout" in failed["reason"]
    why = f"queued/{failed['replica']}: no log, because the session never started: {failed['reason']}"
    for follow in ((), ("-f",)):
        assert why in desk.run("logs", "queued", "--failed", *follow, exit=1).stderr


@pytest.mark.once
def test_secrets_are_in_no_file_and_no_output_of_ours(desk: Desk) -> None:
    word, other = "hush-hush-7d1", "psst-psst-9c4"
    desk.write("token", other + "\n")
    desk.extra["MY_TOKEN"] = word
    shell = 'echo ${#A} ${#B}; [ "$A" = "$WANTED_A" ]; exit $((REPLICA_ID - 1))'
    env = "[env]\nA = { from-env = 'MY_TOKEN' }\nB = { from-file = 'token' }"
    desk.job("secret", shell, 2, env)
    outputs = [
        desk.run("apply", "secret.toml", "--dry-run", "-o", "json"),
        desk.run("apply", "secret.toml", "--wait", "-vv", "--log-file", str(desk.root / "verbose.log"), exit=1),
        desk.run("apply", "secret.toml", "-o", "json", exit=1),
        desk.run("describe", "secret"),
        desk.run("get", "replicas", "secret", "-o", "json"),
        desk.run("retry", "secret", "--wait", "-vv", exit=1),
        desk.run("logs", "secret"),
    ]
    desk.extra["MY_TOKEN"] = ""
    del desk.extra["MY_TOKEN"]
    outputs.append(desk.run("apply", "secret.toml", "--rerun", exit=2))
    assert "MY_TOKEN" in outputs[-1].stderr
    assert f"{len(word)} {len(other)}" in outputs[-2].stdout  # they did arrive
    for done in outputs:
        assert word not in done.stdout + done.stderr
        assert other not in done.stdout + done.stderr
    for path in desk.root.rglob("*"):
        if path.is_file() and path.name != "token":
            text = path.read_bytes()
            assert word.encode() not in text, path
            assert other.encode() not in text, path


@pytest.mark.once
@pytest.mark.parametrize("words", [("resume", "placed"), ("apply", "../placed.toml", "--wait")])
def test_gone_on_with_from_another_directory(desk: Desk, words: tuple[str, ...]) -> None:
    """As cron does; all replicas of a run run where it was applied first."""
    (desk.root / "here").mkdir()
    (desk.root / "elsewhere").mkdir()
    desk.job("placed", "echo ran > made-$REPLICA_ID", 2, "[limits]\nalive = 1")
    desk.run("apply", "../placed.toml", cwd=desk.root / "here")
    desk.run(*words, cwd=desk.root / "elsewhere")
    assert sorted(path.name for path in (desk.root / "here").iterdir()) == ["made-1", "made-2"]
    assert list((desk.root / "elsewhere").iterdir()) == []


@pytest.mark.slow
def test_retry_in_its_forms(desk: Desk) -> None:
    desk.job("forms", '[ -e "ok-$REPLICA_ID" ]', 4)
    desk.write("ok-1", "")
    desk.run("apply", "forms.toml", "--wait", exit=1)
    plan = desk.data("retry", "forms", "--dry-run")["jobs"][0]["steps"]
    assert [step["replica"] for step in plan] == [2, 3, 4]
    for number in (2, 3, 4):
        desk.write(f"ok-{number}", "")
    desk.run("retry", "forms/2", "--wait", exit=1)  # 3 and 4 are Failed still
    assert desk.recorded("forms") == ["Completed", "Completed", "Failed", "Failed"]
    desk.run("retry", "forms", "-r", "3", "--wait", exit=1)
    desk.run("retry", "forms", "--failed", "--wait")
    assert [row["attempt"] for row in desk.data("get", "replicas", "forms")] == [1, 2, 2, 2]
    assert "nothing to retry" in desk.run("retry", "forms").stderr
    desk.run("retry", "forms/1", "--wait")
    assert [row["attempt"] for row in desk.data("get", "replicas", "forms")] == [2, 2, 2, 2]
    desk.run("retry", "forms/9", exit=2)


EACH = """
name = "sweep"
image = "x/y:1"
replicas = 2
shell = "echo ran {item} >> ran; [ -e ok-{item} ]"
[items]
values = ["a", "b", "c", "d"]
each = true
"""


@pytest.mark.once
def test_retry_of_single_items(desk: Desk) -> None:
    desk.write("sweep.toml", EACH)
    for item in "abd":
        desk.write(f"ok-{item}", "")
    desk.run("apply", "sweep.toml", "--wait", exit=1)
    assert (desk.root / "ran").read_text().split("\n")[:-1].count("ran c") == 1
    items = {row["item"]: row["state"] for row in desk.data("get", "items", "sweep")}
    assert items == {"a": "Completed", "b": "Completed", "c": "Failed", "d": "Completed"}
    desk.write("ok-c", "")
    desk.write("missing.txt", "b\nc\n")
    desk.run("retry", "sweep", "--items", "missing.txt", "--wait")
    ran = (desk.root / "ran").read_text().split("\n")[:-1]
    assert sorted(ran) == ["ran a", "ran b", "ran b", "ran c", "ran c", "ran d"]
    assert "no item 'z'" in desk.run("retry", "sweep", "--items", "-", exit=2, stdin=_text(desk, "z\n")).stderr


def _text(desk: Desk, text: str) -> int:
    path = desk.write("input", text)
    return os.open(path, os.O_RDONLY)


@pytest.mark.slow
def test_marked_by_hand(desk: Desk, long: str) -> None:
    desk.job("marked", "exit 1", 3)
    desk.run("apply", "marked.toml", "--wait", exit=1)
    desk.run("mark", "marked", "completed", "-r", "1,3")
    assert desk.recorded("marked") == ["Completed", "Failed", "Completed"]
    desk.run("mark", "marked", "completed", "-r", "2")
    desk.run("apply", "marked.toml")
    desk.run("mark", "marked", "failed", "-r", "2")
    desk.run("apply", "marked.toml", exit=1)
    desk.run("mark", "marked", "completed", exit=2)
    desk.run("apply", long)
    assert "has not ended" in desk.run("mark", "long", "completed", "-r", "1", exit=1).stderr


@pytest.mark.slow
def test_ended_unseen_is_expired_also_for_plain_apply(desk: Desk) -> None:
    desk.slots(4, memory=1)
    desk.job("unseen", "sleep 0.7", 2)
    desk.run("apply", "unseen.toml")
    with contextlib.closing(sqlite3.connect(desk.state / "local" / "queue.db", timeout=20)) as queue:
        wait_for(lambda: {row[0] for row in queue.execute("SELECT state FROM sessions")} == {"Completed"})
    time.sleep(1.5)
    done = desk.run("apply", "unseen.toml", exit=1)
    assert desk.recorded("unseen") == ["Unknown"] * 2
    assert "retry unseen --unknown" in done.stderr
    desk.run("mark", "unseen", "completed", "--unknown")
    desk.run("apply", "unseen.toml")


@pytest.mark.once
def test_create_in_its_forms(desk: Desk) -> None:
    image = "images.canfar.net/skaha/astronomy:latest"
    desk.write("work.py", "import os; print(os.environ['REPLICA_ID'], os.environ.get('FOO'), os.environ['SECRET'])")
    desk.extra["SECRET"] = "mine"
    words = ("-c", "1", "-m", "1", "-r", "2", "-n", "formed", "-e", "FOO=bar baz", "-e", "SECRET")
    desk.run("create", *words, "headless", image, "--wait", "--", sys.executable, "work.py")
    assert desk.run("logs", "formed", "--prefix", "never").stdout.splitlines() == ["1 bar baz mine", "2 bar baz mine"]
    desk.run("create", "headless", image, "--name", "formed", "--wait", "--", "true")
    assert desk.run_of("formed") == 2
    made = desk.run("create", "headless", image, "--dry-run", "-o", "toml", "-e", "SECRET", "--", "echo", "a b").stdout
    desk.write("made.toml", made)
    assert "mine" not in made
    desk.run("apply", "made.toml", "--wait")
    name = desk.run("create", "headless", image, "-o", "name", "--", "sleep", "100").stdout.strip()
    done = subprocess.run(
        ["xargs", sys.executable, "-m", "skahactl", "delete"],
        input=name,
        cwd=desk.root,
        env=desk.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert desk.recorded(name) == ["Deleted"]
    for wrong in (["headless"], ["headles", image], ["headless", image, "-r", "0", "--", "true"]):
        assert desk.run("create", *wrong, exit=2).stdout == ""
    assert "NOT_SET" in desk.run("create", "headless", image, "-e", "NOT_SET", "--", "true", exit=2).stderr


@pytest.mark.once
def test_create_under_the_name_of_a_job_names_its_run(desk: Desk) -> None:
    words = ("create", "headless", "x/y:1", "-n", "again", "--wait", "--", "true")
    assert "this is run" not in desk.run(*words).stderr
    assert "this is run 2 of the job again; the run before: skahactl get again --run 1" in desk.run(*words).stderr
    assert desk.run("get", "again", "--failed").stderr == "no replicas that are Failed\n"
    assert "nothing is alive, so there is nothing to delete" in desk.run("delete", "again", "--wait=false").stderr


@pytest.mark.once
def test_create_of_a_job_that_goes_on_tells_its_own_ways_out(desk: Desk, long: str) -> None:
    desk.run("apply", long)
    done = desk.run("create", "headless", "x/y:1", "-n", "long", "--", "true", exit=1)
    assert "-n" in done.stderr
    assert "--replace" not in done.stderr


@pytest.mark.once
def test_wait_for_each_condition(desk: Desk, long: str) -> None:
    desk.run("apply", long)
    desk.run("wait", "long", "--for", "running", "--timeout", "20s")
    assert desk.run("wait", "long/2", "long/1", "--for", "running").stderr.count("): Running\n") == 1
    waiting = desk.start("wait", "long", "--for", "deleted")
    desk.run("delete", "long")
    assert waiting.wait(20) == 0
    waiting.communicate()
    assert "Deleted" in desk.run("wait", "long", exit=1).stderr
    assert "complete" in desk.run("wait", "long", "--for", "compleet", exit=2).stderr
    desk.job("queued", "true", 2, "[limits]\nalive = 1")
    desk.run("apply", "queued.toml")
    assert "resume queued" in desk.run("wait", "queued", "--timeout", "20s", exit=1).stderr


@pytest.mark.slow
def test_renew_says_what_changed(desk: Desk, long: str) -> None:
    desk.run("apply", long)
    wait_for(lambda: desk.states("long") == ["Running"] * 2)
    told = desk.data("renew", "long")["jobs"][0]["steps"]
    assert {step["outcome"] for step in told} <= {"done", "unchanged"}
    assert len(told) == 2
    (part,) = desk.data("renew", "long/2", "long/1")["jobs"]
    assert [step["replica"] for step in part["steps"]] == [1, 2]
    assert "2 deadlines unchanged: from 2" in desk.run("renew", "long").stderr
    desk.run("renew", "nothing", exit=2)


def test_errors_are_one_json_object(desk: Desk) -> None:
    import json

    for words, code in ((("apply", "no.toml"), 2), (("delete", "nothing"), 2), (("apply",), 2)):
        done = desk.run(*words, "-o", "json", exit=code)
        assert done.stdout == ""
        assert json.loads(done.stderr)["exit"] == code


@pytest.mark.once
def test_delete_in_its_forms(desk: Desk, long: str) -> None:
    desk.run("apply", long)
    plan = desk.run("delete", "long/1", "--dry-run")
    assert "delete" in plan.stdout
    assert "Deleted" not in desk.recorded("long")
    desk.run("delete", "long", "-r", "1")
    assert desk.recorded("long")[0] == "Deleted"
    assert "[y/N]" not in desk.run("delete", "-f", long).stderr, "there is no terminal to ask on"
    assert desk.recorded("long") == ["Deleted"] * 2
    assert "nothing" in desk.run("delete", "long").stderr
    desk.run("delete", "nothing", exit=2)
    desk.run("delete", "nothing", "--ignore-not-found")
    desk.run("apply", long)  # starts the next run
    assert desk.run_of("long") == 2


@pytest.mark.once
def test_one_unknown_target_and_nothing_is_deleted(desk: Desk, long: str) -> None:
    desk.run("apply", long)
    hints = {
        "long lnog": "did you mean 'long'?",
        "long nothing/3": "jobs there: long",
        f"long/1 {long}": f"skahactl delete -f {long}",
    }
    for hint, done in zip(hints.values(), desk.each(*(f"delete {words}" for words in hints)), strict=True):
        assert (done.returncode, hint in done.stderr) == (2, True), done
    assert "invalid target ''" in desk.run("delete", "long", "", exit=2).stderr
    assert "Deleted" not in desk.recorded("long")
    desk.run("delete", "job", "long")
    assert desk.recorded("long") == ["Deleted"] * 2


@pytest.mark.once
def test_a_delete_that_ends_nothing_says_so(desk: Desk) -> None:
    desk.run("apply", desk.job("short", "true", 2), "--wait")
    assert "1 ended session deleted; the record and the logs remain" in desk.run("delete", "short", "-r", "1").stderr
    assert "1 ended session deleted; the record and the logs remain" in desk.run("delete", "short").stderr
    assert desk.data("get", "sessions") == []
    outcome = desk.data("delete", "short")
    assert outcome["jobs"][0]["reason"] == "nothing is left to delete"
    assert "nothing to renew" in desk.run("renew", "short").stderr
    assert {step["action"] for step in outcome["jobs"][0]["steps"]} == {"keep"}
    assert desk.recorded("short") == ["Completed"] * 2


@pytest.mark.once
def test_a_profile_found_by_name_is_shown_by_its_name_and_commands_can_be_pasted(desk: Desk) -> None:
    profiles = desk.root / "home" / ".config" / "skahactl" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "slow.toml").write_text("server = 'local'\n[local]\nslots = 1\n")
    job = desk.job("bad", "exit 3", 2)
    done = desk.run("apply", job, "-p", "slow", "--wait", exit=1)
    assert {line.split(":")[0] for line in done.stderr.splitlines() if line.startswith("bad on")} == {
        "bad on slow (this machine)"
    }
    assert done.stderr.splitlines()[-1].endswith(". Logs: skahactl -p slow logs bad --failed")
    (row,) = desk.data("get", "jobs", "-p", "slow")
    assert row["profile"] == "slow"
    desk.job("queued", "sleep 100", 2)
    told = desk.run("apply", "queued.toml", "-p", "slow").stderr
    assert told.endswith("To continue: skahactl -p slow resume queued\n")
    refused = desk.run("mark", "queued", "completed", "-r", "1", "-p", "./profile.toml", "-o", "json", exit=1).stderr
    assert json.loads(refused)["hint"].endswith("skahactl -p ./profile.toml resume queued")
    desk.run("delete", "queued", "-p", "slow")
    assert "-p" not in desk.run("apply", "queued.toml").stderr
    desk.run("delete", "queued")


@pytest.mark.once
def test_steps_have_one_shape_whatever_the_command(desk: Desk, long: str) -> None:
    parts = [desk.data("apply", long), desk.data("renew", "long")]
    wait_for(lambda: desk.states("long") == ["Running"] * 2)
    parts += [desk.data("delete", "long/1", "--dry-run"), desk.data("delete", "long/1")]
    stray = desk.data("get", "replicas", "long")[1]["session"]
    (desk.state / "ledger.sqlite3").unlink()
    parts += [desk.data("delete", stray, "--dry-run"), desk.data("delete", stray)]
    shapes = {tuple(step) for part in parts for step in part["jobs"][0]["steps"]}
    assert shapes == {("replica", "name", "action", "reason", "outcome", "session", "attempt", "url", "error")}


@pytest.mark.once
def test_a_changed_list_is_told_without_hashes(desk: Desk) -> None:
    for name in ("a.x", "b.x", "c.y"):
        desk.write(name, "")
    job = desk.job("listed", "true", 1, "items = { glob = ['*.x', '*.y'], each = true }")
    desk.run("apply", job, "--wait")
    (desk.root / "a.x").rename(desk.root / "d.x")
    told = desk.run("diff", job, exit=1).stdout.splitlines()[1:]
    assert told[2] == " items = other ones than those recorded, as many  # items file"
    assert not any("hash" in line for line in told)
    desk.write("e.x", "")
    told = desk.run("diff", job, exit=1).stdout.splitlines()[1:]
    assert told[2:4] == ["-items.count = 3", "+items.count = 4  # items file"]
    assert not any("hash" in line for line in told)
    data = desk.data("diff", job, exit=1)
    assert "items.hash" in [row["path"] for row in data["jobs"][0]["differences"]]


def test_logs_that_no_command_has_saved_are_counted(desk: Desk) -> None:
    desk.slots(3)
    desk.run("apply", desk.job("three", "until [ -e go ]; do sleep 0.1; done", replicas=3), "-q")
    desk.write("go", "")
    wait_for(lambda: desk.states("three") == ["Completed"] * 3)
    told = re.compile(r"3 logs are on the local platform only, for [0-9a-z ]+\. To save: skahactl resume three\n")
    for words in (["get", "jobs"], ["get", "replicas", "three"], ["describe", "three"]):
        assert told.fullmatch(desk.run(*words).stderr), words
    assert desk.run("get", "jobs", "-o", "json").stderr == ""
    desk.run("apply", desk.job("other", "until [ -e gone ]; do sleep 0.1; done"), "-q")
    desk.write("gone", "")
    wait_for(lambda: desk.states("other") == ["Completed"])
    told = re.compile(r"4 logs .*\. To save: skahactl resume other; skahactl resume three\n")
    assert told.fullmatch(desk.run("get", "jobs").stderr)
    desk.run("resume", "other")
    desk.run("resume", "three")
    assert desk.run("get", "jobs").stderr == ""


def test_sessions_without_events_are_named_in_one_line_for_each_reason(desk: Desk) -> None:
    desk.slots(1)
    desk.run("apply", desk.job("queue", "sleep 100", 6))
    wait_for(lambda: desk.states("queue").count("Running") == 1)
    said = desk.run("events", "queue").stderr
    waits = r"(queue/\d, ){2}queue/\d and 2 more: waiting for a free slot \(1 slot, which is in use\)"
    assert re.fullmatch(f"{waits}\nno events\n", said)
    desk.clear("queue")
    assert "queue/1: no " in desk.run("events", "queue/1").stderr
