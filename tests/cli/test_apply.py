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

from tests.workplace import COMMAND, Workplace, end, wait_for

OUTCOME = {"profile", "server", "dry_run", "exit", "jobs"}
PART = {"name", "run", "digest", "action", "reason", "differences", "status", "counts", "steps"}
STEP = {"replica", "name", "action", "reason", "outcome", "session", "attempt", "error"}


def ledger_text(here: Workplace) -> str:
    """All that the ledger holds, but for what each poll adds: its time, and samples of what sessions use."""
    with contextlib.closing(sqlite3.connect(here.state / "ledger.sqlite3")) as connection:
        connection.execute("UPDATE runs SET observed = NULL")
        connection.execute("UPDATE runs SET observed_before = NULL")
        connection.execute("UPDATE attempts SET observed = NULL")
        connection.execute("DELETE FROM usage")
        return "\n".join(connection.iterdump())


def integrity(here: Workplace) -> str:
    with contextlib.closing(sqlite3.connect(here.state / "ledger.sqlite3")) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def driving(here: Workplace, job: str, *words: str) -> subprocess.Popen[str]:
    """A driver, once it drives and all replicas run."""
    process = here.start(*words)
    wait_for(lambda: here.is_driven(job) and set(here.recorded(job)) == {"Running"})
    return process


@pytest.mark.once
def test_applied_twice_nothing_changes(here: Workplace, long: str) -> None:
    first = here.data("apply", long)
    wait_for(lambda: here.states("long") == ["Running"] * 2)
    here.run("apply", long)
    before = ledger_text(here)
    again = here.data("apply", long)
    assert ledger_text(here) == before
    assert [step["action"] for step in first["jobs"][0]["steps"]] == ["create"] * 2
    assert [(step["action"], step["outcome"]) for step in again["jobs"][0]["steps"]] == [("keep", "unchanged")] * 2
    for told in (first, again):
        assert set(told) >= OUTCOME
        assert set(told["jobs"][0]) >= PART
        assert all(set(step) >= STEP for step in told["jobs"][0]["steps"])
    assert again["exit"] == 0
    assert again["jobs"][0]["differences"] == []


@pytest.mark.once
def test_applied_after_the_end_nothing_starts_and_the_exit_is_the_runs(here: Workplace) -> None:
    here.job("good", "echo $REPLICA_ID of $REPLICA_COUNT", 2)
    here.job("bad", "exit $REPLICA_ID", 1)
    here.run("apply", "good.toml", "--wait")
    here.run("apply", "bad.toml", "--wait", expect=1)
    before = ledger_text(here)
    assert "run 1 ended" in here.run("apply", "good.toml").stderr
    assert "Failed" in here.run("apply", "bad.toml", expect=1).stderr
    here.run("apply", "good.toml", "bad.toml", "--wait", expect=1)
    assert ledger_text(here) == before
    assert here.run("diff", "good.toml").stdout.count("unchanged") == 1
    here.run("apply", "good.toml", "--rerun", "--wait")
    assert here.run_of("good") == 2


STAMPS = """
import os, time
with open(f"stamps/{os.environ['REPLICA_ID']}", "a") as stream:
    time.sleep(0.3)
    print("ended", file=stream)
"""


@pytest.mark.once
def test_killed_at_several_moments_every_replica_runs_once(here: Workplace) -> None:
    (here.root / "stamps").mkdir()
    here.write("work.py", STAMPS)
    here.job("tiles", f"{sys.executable} work.py", 12)
    draw = random.Random(7)
    moments = [draw.uniform(0.15, 0.9) for _ in range(8)]
    for place, moment in enumerate(moments):
        process = here.start("apply", "tiles.toml", *(["--wait"] if place % 2 else []))
        time.sleep(moment)
        end(process)
    here.run("apply", "tiles.toml", "--wait")
    assert here.recorded("tiles") == ["Completed"] * 12
    for number in range(1, 13):
        assert len((here.root / "stamps" / str(number)).read_text().splitlines()) == 1, number
    assert integrity(here) == "ok"


def test_failing_replicas_are_named_their_logs_kept_and_the_others_run_on(here: Workplace) -> None:
    shell = """
echo this is $REPLICA_ID
case $REPLICA_ID in 2) exit 3;; 3) kill -SEGV $$;; 4) exec /no/such/command;; *) sleep 0.5; echo done;; esac"""
    here.job("mixed", shell, 5)
    done = here.run("apply", "mixed.toml", "--wait", expect=1)
    assert "not completed: replicas 2-4" in done.stderr
    assert here.recorded("mixed") == ["Completed", "Failed", "Failed", "Failed", "Completed"]
    logs = here.run("logs", "mixed", "--failed").stdout
    for number in (2, 3, 4):
        assert f"this is {number}" in logs
    assert "/no/such/command" in logs
    assert "this is 1" not in logs
    assert all(row["log"]["complete"] for row in here.data("get", "replicas", "mixed"))


@pytest.mark.once
def test_changed_content_is_refused_with_differences_and_the_ways_out(here: Workplace, long: str) -> None:
    here.run("apply", long)
    here.job("long", "sleep 101", 2)
    done = here.run("apply", long, expect=1)
    assert re.search(r'-shell = "sleep 100"\n\+shell = "sleep 101"', done.stderr)
    assert "--replace" in done.stderr
    assert "--rerun" in done.stderr
    assert here.run("diff", long, expect=1).stdout
    part = here.data("apply", long, expect=1)["jobs"][0]
    assert part["action"] == "refuse"
    assert {"path", "old", "new", "source"} <= set(part["differences"][0])
    refused = here.run("apply", long, "--replace", expect=1)  # no terminal, no --yes
    assert "--yes" in refused.stderr
    assert "Running" in refused.stderr
    assert here.run_of("long") == 1
    here.run("apply", long, "--replace", "--yes")
    assert here.run_of("long") == 2
    assert set(here.recorded("long")) <= {"Pending", "Running"}


def test_deleted_while_it_is_driven_the_driver_ends_and_says_so(here: Workplace, long: str) -> None:
    driver = driving(here, "long", "apply", long, "--wait")
    done = here.run("delete", "long")
    assert "carries out the delete" in done.stderr
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "was deleted by another command" in err
    assert here.recorded("long") == ["Deleted"] * 2
    assert here.data("get", "sessions") == []


@pytest.mark.once
def test_deleted_and_forgotten_while_it_is_driven(here: Workplace, long: str) -> None:
    driver = driving(here, "long", "apply", long, "--wait")
    here.run("delete", "long", "--forget")
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "should not have happened" not in err
    assert here.data("get", "jobs") == []


@pytest.mark.once
def test_replaced_while_it_is_driven(here: Workplace, long: str) -> None:
    driver = driving(here, "long", "apply", long, "--wait")
    here.job("long", "echo new", 2)
    refused = here.run("apply", long, "--replace", expect=1).stderr
    assert "nothing was replaced; run 1 continues" in refused
    assert "no command is driving" not in refused
    here.run("apply", long, "--replace", "--yes", "--wait")
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "run 1 was deleted by another command, to start run 2. To see it: skahactl get jobs long" in err
    assert here.recorded("long") == ["Completed"] * 2
    assert here.run_of("long") == 2


@pytest.mark.once
def test_a_second_driver_hears_who_drives(here: Workplace, long: str) -> None:
    driver = driving(here, "long", "apply", long, "--wait")
    for words in (("apply", long), ("apply", long, "--wait"), ("resume", "long")):
        done = here.run(*words, expect=6)
        assert f"process {driver.pid} " in done.stderr
    assert here.run("apply", long, "-o", "json", expect=6).stderr.startswith('{"code": "busy"')
    end(driver, signal.SIGTERM)


@pytest.mark.once
def test_of_several_jobs_those_that_no_command_drives_continue(here: Workplace, long: str) -> None:
    driver = driving(here, "long", "apply", long, "--wait")
    here.job("short", "true", 2)
    outcome = here.data("apply", long, "short.toml", "--wait", expect=6)
    assert outcome["exit"] == 6
    busy, done = outcome["jobs"]
    assert (busy["action"], busy["steps"], done["counts"]["Completed"]) == ("busy", [], 2)
    assert f"process {driver.pid} " in busy["reason"]
    told = here.run("apply", "short.toml", long, "-q", expect=6).stderr
    assert f"another command is driving long: process {driver.pid} " in told
    assert "short" not in told
    end(driver, signal.SIGTERM)


@pytest.mark.once
def test_a_driver_with_a_broken_lock_ends(here: Workplace, long: str) -> None:
    driver = driving(here, "long", "apply", long, "--wait")
    with contextlib.closing(sqlite3.connect(here.state / "ledger.sqlite3", isolation_level=None)) as connection:
        connection.execute(
            "UPDATE drivers SET host = 'elsewhere', boot = 'other', pid = 7"
        )  # as --break-lock on that machine does
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 6
    assert "process 7 on elsewhere" in err
    assert here.run("apply", long, expect=6).stderr.count("elsewhere") == 1
    here.run("apply", long, "--break-lock")


@pytest.mark.once
def test_the_time_is_over_and_the_job_continues(here: Workplace, long: str) -> None:
    done = here.run("apply", long, "--wait", "--timeout", "1s", expect=5)
    assert "timed out; long keeps running, but no command is driving it" in done.stderr
    assert set(here.recorded("long")) <= {"Queued", "Pending", "Running"}, "it waited for their end"
    here.run("wait", "long", "--timeout", "0.5s", expect=5)
    wait_for(lambda: here.states("long") == ["Running"] * 2)
    here.run("apply", long)


def test_retries_end_well_and_a_third_is_not_tried(here: Workplace) -> None:
    here.profile("server = 'local'\n[client]\nbackoff = 0.1\n")
    shell = 'echo attempt ${SKAHACTL_ATTEMPT:-1}; [ "$REPLICA_ID" = 1 ] && [ "$SKAHACTL_ATTEMPT" = 2 ]'
    here.job("again", shell, 2, "[retry]\nattempts = 2")
    here.run("apply", "again.toml", "--wait", expect=1)
    rows = here.data("get", "replicas", "again")
    assert [(row["state"], row["attempt"]) for row in rows] == [("Completed", 2), ("Failed", 2)]
    assert [row["name"].endswith("-2") for row in rows] == [True, True]
    assert "attempt 1" in here.run("logs", "again", "-r", "1", "--attempt", "all").stdout


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
def test_after_a_failed_shard_the_merge_is_skipped_and_runs_when_it_is_done(here: Workplace) -> None:
    here.write("chain.toml", CHAIN)
    first = here.run("apply", "chain.toml", "--wait", expect=1)
    assert here.recorded("merge") == ["Skipped"]
    assert "merge was skipped because shards is Failed" in first.stderr
    before = ledger_text(here)
    here.run("apply", "chain.toml", "--wait", expect=1)
    assert ledger_text(here) == before
    told = here.run("resume", "merge", expect=1).stderr
    assert "to retry shards: skahactl retry shards --wait\n  then to run merge: skahactl apply chain.toml" in told
    here.write("ok", "")
    here.run("retry", "shards", "--wait")
    here.run("apply", "chain.toml", "--wait")
    assert here.recorded("merge") == ["Completed"]
    here.run("apply", "chain.toml", "--wait")
    assert here.run_of("merge") == 2


@pytest.mark.once
def test_a_skipped_job_names_the_job_that_failed_and_not_the_skipped_one_between(here: Workplace) -> None:
    table = "[[job]]\nname = '{}'\nafter = ['{}']\ncommand = ['true']\n"
    here.write("chain.toml", CHAIN + table.format("report", "merge"))
    said = here.run("apply", "chain.toml", "--wait", expect=1).stderr
    assert (
        "report was skipped because shards is Failed (report comes after merge, merge comes after shards)\n"
        "  to retry shards: skahactl retry shards --wait\n"
        "  then to run report: skahactl apply chain.toml --wait\n"
    ) in said
    assert "retry merge" not in said
    here.write("ok", "")
    here.run("retry", "shards", "--wait")
    here.run("apply", "chain.toml", "--wait")
    assert here.recorded("report") == ["Completed"]


@pytest.mark.slow
def test_a_stale_merge_runs_anew_and_only_once(here: Workplace) -> None:
    here.write("ok", "")
    shards, merge = here.job("shards", "true", 2), here.job("merge", "true", 1, file="merge.toml")
    here.write(merge, "after = ['shards']\n" + (here.root / merge).read_text())
    here.run("apply", merge, shards, "--wait")
    here.run("apply", shards, "--rerun", "--wait")
    done = here.run("apply", merge, "--wait")
    assert "merge: shards has a newer run than the one that run 1 came after" in done.stderr
    assert here.run_of("merge") == 2
    here.run("apply", merge, shards, "--wait")
    assert (here.run_of("shards"), here.run_of("merge")) == (2, 2)


@pytest.mark.once
def test_after_a_job_that_no_command_knows_is_an_error(here: Workplace) -> None:
    merge = here.job("merge", "true", 1)
    here.write(merge, "after = ['shard']\n" + (here.root / merge).read_text())
    here.job("shards", "true", 1)
    for words in (("apply", merge, "--dry-run"), ("apply", merge, "shards.toml", "--wait")):
        done = here.run(*words, expect=2)
        assert "merge comes after shard" in done.stderr
    assert "did you mean 'shards'" in done.stderr
    assert here.data("get", "jobs") == []


@pytest.mark.slow
def test_two_jobs_of_one_name_are_an_error(here: Workplace) -> None:
    here.job("tiles", "true", 1)
    here.job("tiles", "true", 1, file="other.toml")
    done = here.run("apply", "tiles.toml", "other.toml", expect=2)
    assert "tiles.toml" in done.stderr
    assert "other.toml" in done.stderr
    assert here.data("get", "jobs") == []


@pytest.mark.once
def test_changed_limits_reach_a_living_driver(here: Workplace) -> None:
    here.job("steered", "sleep 100", 4, "[limits]\nalive = 1")
    driver = here.start("apply", "steered.toml", "--wait")
    wait_for(lambda: here.is_driven("steered") and here.recorded("steered").count("Running") == 1)
    assert here.recorded("steered").count("Queued") == 3
    here.job("steered", "sleep 100", 4, "[limits]\nalive = 3\n[logs]\nkeep = 'none'")
    told = here.run("apply", "steered.toml").stderr
    assert "it applies the changed [limits] and [logs] from now on" in told
    assert "changed" not in here.run("apply", "steered.toml", expect=6).stderr
    wait_for(lambda: here.recorded("steered").count("Running") == 3)
    here.run("delete", "steered")
    assert driver.wait(20) == 1
    driver.communicate()


@pytest.mark.once
def test_what_waits_too_long_fails(here: Workplace) -> None:
    here.slots(1, kill_after=0.5)
    here.job("queued", "sleep 1.5", 2, "[limits]\npending-timeout = '0.6s'")
    here.run("apply", "queued.toml", "--wait", expect=1)
    assert sorted(here.recorded("queued")) == ["Completed", "Failed"]
    failed = next(row for row in here.data("get", "replicas", "queued") if row["state"] == "Failed")
    assert "pending-timeout" in failed["reason"]
    why = f"queued/{failed['replica']}: no log, because the session never started: {failed['reason']}"
    for follow in ((), ("-f",)):
        assert why in here.run("logs", "queued", "--failed", *follow, expect=1).stderr


@pytest.mark.once
def test_secrets_are_in_no_file_and_no_output_of_ours(here: Workplace) -> None:
    word, other = "hush-hush-7d1", "psst-psst-9c4"
    here.write("token", other + "\n")
    here.extra["MY_TOKEN"] = word
    shell = 'echo ${#A} ${#B}; [ "$A" = "$WANTED_A" ]; exit $((REPLICA_ID - 1))'
    env = "[env]\nA = { from-env = 'MY_TOKEN' }\nB = { from-file = 'token' }"
    here.job("secret", shell, 2, env)
    outputs = [
        here.run("apply", "secret.toml", "--dry-run", "-o", "json"),
        here.run("apply", "secret.toml", "--wait", "-vv", "--log-file", str(here.root / "verbose.log"), expect=1),
        here.run("apply", "secret.toml", "-o", "json", expect=1),
        here.run("describe", "secret"),
        here.run("get", "replicas", "secret", "-o", "json"),
        here.run("retry", "secret", "--wait", "-vv", expect=1),
        here.run("logs", "secret"),
    ]
    here.extra["MY_TOKEN"] = ""
    del here.extra["MY_TOKEN"]
    outputs.append(here.run("apply", "secret.toml", "--rerun", expect=2))
    assert "MY_TOKEN" in outputs[-1].stderr
    assert f"{len(word)} {len(other)}" in outputs[-2].stdout  # they did arrive
    for done in outputs:
        assert word not in done.stdout + done.stderr
        assert other not in done.stdout + done.stderr
    for path in here.root.rglob("*"):
        if path.is_file() and path.name != "token":
            text = path.read_bytes()
            assert word.encode() not in text, path
            assert other.encode() not in text, path


@pytest.mark.once
@pytest.mark.parametrize("words", [("resume", "placed"), ("apply", "../placed.toml", "--wait")])
def test_gone_on_with_from_another_directory(here: Workplace, words: tuple[str, ...]) -> None:
    """As cron does; all replicas of a run run where it was applied first."""
    (here.root / "here").mkdir()
    (here.root / "elsewhere").mkdir()
    here.job("placed", "echo ran > made-$REPLICA_ID", 2, "[limits]\nalive = 1")
    here.run("apply", "../placed.toml", cwd=here.root / "here")
    here.run(*words, cwd=here.root / "elsewhere")
    assert sorted(path.name for path in (here.root / "here").iterdir()) == ["made-1", "made-2"]
    assert list((here.root / "elsewhere").iterdir()) == []


@pytest.mark.slow
def test_retry_in_its_forms(here: Workplace) -> None:
    here.job("forms", '[ -e "ok-$REPLICA_ID" ]', 4)
    here.write("ok-1", "")
    here.run("apply", "forms.toml", "--wait", expect=1)
    plan = here.data("retry", "forms", "--dry-run")["jobs"][0]["steps"]
    assert [step["replica"] for step in plan] == [2, 3, 4]
    for number in (2, 3, 4):
        here.write(f"ok-{number}", "")
    here.run("retry", "forms/2", "--wait", expect=1)  # 3 and 4 are Failed still
    assert here.recorded("forms") == ["Completed", "Completed", "Failed", "Failed"]
    here.run("retry", "forms", "-r", "3", "--wait", expect=1)
    here.run("retry", "forms", "--failed", "--wait")
    assert [row["attempt"] for row in here.data("get", "replicas", "forms")] == [1, 2, 2, 2]
    assert "nothing to retry" in here.run("retry", "forms").stderr
    here.run("retry", "forms/1", "--wait")
    assert [row["attempt"] for row in here.data("get", "replicas", "forms")] == [2, 2, 2, 2]
    here.run("retry", "forms/9", expect=2)


EACH = """
name = "sweep"
image = "x/y:1"
replicas = 2
shell = "echo ran {item} >> ran; [ -e ok-{item} ]"
[items]
values = ["a", "b", "c", "d"]
each = true
"""


def test_a_dry_run_replaces_all_placeholders_but_those_of_an_item(here: Workplace) -> None:
    items = "vars = {out = '/arc/o', scale = 3}\nenv = {SCALE = '{scale}', OUT = '{out}/{item}'}\n"
    items += "items = {values = ['a', 'b'], each = true}"
    here.job("filled", "x -d {out} {item} {index}", 2, items)
    told = here.run("apply", "filled.toml", "--dry-run", "--var", "out=/p").stdout
    assert "args   -c 'x -d /p {item} 0'\n  env    OUT='/p/{item}'\n  env    SCALE=3\n" in told


@pytest.mark.once
def test_retry_of_single_items(here: Workplace) -> None:
    here.write("sweep.toml", EACH)
    for item in "abd":
        here.write(f"ok-{item}", "")
    here.run("apply", "sweep.toml", "--wait", expect=1)
    assert (here.root / "ran").read_text().split("\n")[:-1].count("ran c") == 1
    items = {row["item"]: row["state"] for row in here.data("get", "items", "sweep")}
    assert items == {"a": "Completed", "b": "Completed", "c": "Failed", "d": "Completed"}
    here.write("ok-c", "")
    here.write("missing.txt", "b\nc\n")
    here.run("retry", "sweep", "--items", "missing.txt", "--wait")
    ran = (here.root / "ran").read_text().split("\n")[:-1]
    assert sorted(ran) == ["ran a", "ran b", "ran b", "ran c", "ran c", "ran d"]
    assert "no item 'z'" in here.run("retry", "sweep", "--items", "-", expect=2, stdin=_text(here, "z\n")).stderr


@pytest.mark.once
def test_a_replica_is_completed_only_with_all_of_its_items(here: Workplace) -> None:
    here.write("sweep.toml", EACH)
    for item in "bd":
        here.write(f"ok-{item}", "")
    here.run("apply", "sweep.toml", "--wait", expect=1)
    here.write("again.txt", "b\nd\n")
    here.run("retry", "sweep", "--items", "again.txt", "--wait", expect=1)
    items = {row["item"]: (row["state"], row["attempt"]) for row in here.data("get", "items", "sweep")}
    assert items == {"a": ("Failed", 2), "b": ("Completed", 2), "c": ("Failed", 2), "d": ("Completed", 2)}
    here.run("mark", "sweep", "completed", "-r", "1", "--force")
    assert [row["state"] for row in here.data("get", "items", "sweep/1")] == ["Completed", "Completed"]
    assert here.data("get", "jobs")[0]["items"]["completed"] == 3


def _text(here: Workplace, text: str) -> int:
    path = here.write("input", text)
    return os.open(path, os.O_RDONLY)


@pytest.mark.slow
def test_marked_by_hand(here: Workplace, long: str) -> None:
    here.job("marked", "exit 1", 3)
    here.run("apply", "marked.toml", "--wait", expect=1)
    assert "add --force" in here.run("mark", "marked", "completed", "-r", "1,3", expect=1).stderr
    here.run("mark", "marked", "completed", "-r", "1,3", "--force")
    assert here.recorded("marked") == ["Completed", "Failed", "Completed"]
    here.run("mark", "marked", "completed", "-r", "2", "--force")
    here.run("apply", "marked.toml")
    here.run("mark", "marked", "failed", "-r", "2", "--force")
    here.run("apply", "marked.toml", expect=1)
    here.run("mark", "marked", "completed", expect=2)
    here.run("apply", long)
    assert "has not ended" in here.run("mark", "long", "completed", "-r", "1", expect=1).stderr


@pytest.mark.slow
def test_ended_unseen_is_expired_also_for_plain_apply(here: Workplace) -> None:
    here.slots(4, memory=1)
    here.job("unseen", "sleep 0.7", 2)
    here.run("apply", "unseen.toml")
    with contextlib.closing(sqlite3.connect(here.state / "local" / "queue.db", timeout=20)) as queue:
        wait_for(lambda: {row[0] for row in queue.execute("SELECT state FROM sessions")} == {"Completed"})
    time.sleep(1.5)
    done = here.run("apply", "unseen.toml", expect=1)
    assert here.recorded("unseen") == ["Unknown"] * 2
    assert "retry unseen --unknown" in done.stderr
    here.run("mark", "unseen", "completed", "--unknown")
    here.run("apply", "unseen.toml")


@pytest.mark.once
def test_create_in_its_forms(here: Workplace) -> None:
    image = "images.canfar.net/skaha/astronomy:latest"
    here.write("work.py", "import os; print(os.environ['REPLICA_ID'], os.environ.get('FOO'), os.environ['SECRET'])")
    here.extra["SECRET"] = "mine"
    words = ("-c", "1", "-m", "1", "-r", "2", "-n", "formed", "-e", "FOO=bar baz", "-e", "SECRET")
    here.run("create", *words, "headless", image, "--wait", "--", sys.executable, "work.py")
    assert here.run("logs", "formed", "--prefix", "never").stdout.splitlines() == ["1 bar baz mine", "2 bar baz mine"]
    here.run("create", "headless", image, "--name", "formed", "--wait", "--", "true")
    assert here.run_of("formed") == 2
    made = here.run("create", "headless", image, "--dry-run", "-o", "toml", "-e", "SECRET", "--", "echo", "a b").stdout
    here.write("made.toml", made)
    assert "mine" not in made
    here.run("apply", "made.toml", "--wait")
    name = here.run("create", "headless", image, "-o", "name", "--", "sleep", "100").stdout.strip()
    here.run("delete", input=name, program=("xargs", *COMMAND))
    assert here.recorded(name) == ["Deleted"]
    for wrong in (["headless"], ["headles", image], ["headless", image, "-r", "0", "--", "true"]):
        assert here.run("create", *wrong, expect=2).stdout == ""
    assert "NOT_SET" in here.run("create", "headless", image, "-e", "NOT_SET", "--", "true", expect=2).stderr


@pytest.mark.once
def test_create_under_the_name_of_a_job_names_its_run(here: Workplace) -> None:
    words = ("create", "headless", "x/y:1", "-n", "again", "--wait", "--", "true")
    assert "this is run" not in here.run(*words).stderr
    assert "this is run 2 of the job again; the run before: skahactl get again --run 1" in here.run(*words).stderr
    assert here.run("get", "again", "--failed").stderr == "no replicas that are Failed\n"
    told = here.run("delete", "again", "--wait=false").stderr
    assert "deletion of 1 session requested; not verified" in told


@pytest.mark.once
def test_create_of_a_job_that_continues_tells_its_own_ways_out(here: Workplace, long: str) -> None:
    here.run("apply", long)
    done = here.run("create", "headless", "x/y:1", "-n", "long", "--", "true", expect=1)
    assert "-n" in done.stderr
    assert "--replace" not in done.stderr


@pytest.mark.once
def test_wait_for_each_condition(here: Workplace, long: str) -> None:
    here.run("apply", long)
    here.run("wait", "long", "--for", "running", "--timeout", "20s")
    assert here.run("wait", "long/2", "long/1", "--for", "running").stderr.count("): Running\n") == 1
    assert ": long/2 is not Completed\n" in here.run("wait", "long/2", "--timeout", "1s", expect=5).stderr
    assert "long/2 on local (this machine): Running\n" in here.run("wait", "long/2", "--for", "running").stderr
    waiting = here.start("wait", "long", "--for", "deleted")
    here.run("delete", "long")
    for verb in ("retry", "resume"):
        said = here.run(verb, "long", expect=1).stderr
        assert "run 1 was deleted. To start the next run: skahactl apply long.toml\n" in said
    assert waiting.wait(20) == 0
    waiting.communicate()
    assert "Deleted" in here.run("wait", "long", expect=1).stderr
    assert "complete" in here.run("wait", "long", "--for", "compleet", expect=2).stderr
    here.job("queued", "true", 2, "[limits]\nalive = 1")
    here.run("apply", "queued.toml")
    assert "resume queued" in here.run("wait", "queued", "--timeout", "20s", expect=1).stderr


@pytest.mark.slow
def test_renew_says_what_changed(here: Workplace, long: str) -> None:
    here.run("apply", long)
    wait_for(lambda: here.states("long") == ["Running"] * 2)
    told = here.data("renew", "long")["jobs"][0]["steps"]
    assert {step["outcome"] for step in told} <= {"done", "unchanged"}
    assert len(told) == 2
    (part,) = here.data("renew", "long/2", "long/1")["jobs"]
    assert [step["replica"] for step in part["steps"]] == [1, 2]
    assert "2 deadlines unchanged: from 2" in here.run("renew", "long").stderr
    here.job("queued", "sleep 1000", 3, "[limits]\nalive = 1")
    here.run("apply", "queued.toml")
    for target, reason in (("2", "replica 2 has no live session"), ("2-3", "replicas 2-3 have no live session")):
        assert here.data("renew", f"queued/{target}")["jobs"][0]["reason"] == reason
    here.clear("queued")
    here.run("renew", "nothing", expect=2)


def test_errors_are_one_json_object(here: Workplace) -> None:
    import json

    for words, code in ((("apply", "no.toml"), 2), (("delete", "nothing"), 2), (("apply",), 2)):
        done = here.run(*words, "-o", "json", expect=code)
        assert done.stdout == ""
        assert json.loads(done.stderr)["exit"] == code


@pytest.mark.once
def test_delete_in_its_forms(here: Workplace, long: str) -> None:
    here.run("apply", long)
    plan = here.run("delete", "long/1", "--dry-run")
    assert "delete" in plan.stdout
    assert "Deleted" not in here.recorded("long")
    here.run("delete", "long", "-r", "1")
    assert here.recorded("long")[0] == "Deleted"
    assert "[y/N]" not in here.run("delete", "-f", long).stderr, "there is no terminal to ask on"
    assert here.recorded("long") == ["Deleted"] * 2
    assert "there is no session to delete; run 1 was deleted before" in here.run("delete", "long").stderr
    here.run("delete", "nothing", expect=2)
    here.run("delete", "nothing", "--ignore-not-found")
    here.run("apply", long)  # starts the next run
    assert here.run_of("long") == 2


@pytest.mark.once
def test_one_unknown_target_and_nothing_is_deleted(here: Workplace, long: str) -> None:
    here.run("apply", long)
    hints = {
        "long lnog": "did you mean 'long'?",
        "long nothing/3": "jobs there: long",
        f"long/1 {long}": f"skahactl delete -f {long}",
    }
    for hint, done in zip(hints.values(), here.each(*(f"delete {words}" for words in hints)), strict=True):
        assert (done.returncode, hint in done.stderr) == (2, True), done
    assert "invalid target ''" in here.run("delete", "long", "", expect=2).stderr
    assert "Deleted" not in here.recorded("long")
    here.run("delete", "job", "long")
    assert here.recorded("long") == ["Deleted"] * 2


@pytest.mark.once
def test_a_delete_that_ends_nothing_says_so(here: Workplace) -> None:
    here.run("apply", here.job("short", "true", 2), "--wait")
    assert "1 ended session deleted; the record and the logs remain" in here.run("delete", "short", "-r", "1").stderr
    assert "1 ended session deleted; the record and the logs remain" in here.run("delete", "short", "-r", "2").stderr
    assert "there is no session to delete; run 1 now counts as deleted" in here.run("delete", "short").stderr
    assert here.data("get", "sessions") == []
    outcome = here.data("delete", "short")
    assert outcome["jobs"][0]["reason"] == "there is no session to delete; run 1 was deleted before"
    assert "nothing to renew" in here.run("renew", "short").stderr
    assert {step["action"] for step in outcome["jobs"][0]["steps"]} == {"keep"}
    assert here.recorded("short") == ["Completed"] * 2


@pytest.mark.once
def test_a_profile_found_by_name_is_shown_by_its_name_and_commands_can_be_pasted(here: Workplace) -> None:
    here.add_profile("slow", "server = 'local'\n[local]\nslots = 1\n")
    here.write("profile.toml", "server = 'local'\n")
    job = here.job("bad", "exit 3", 2)
    done = here.run("apply", job, "-p", "slow", "--wait", expect=1)
    assert {line.split(":")[0] for line in done.stderr.splitlines() if line.startswith("bad on")} == {
        "bad on slow (this machine)"
    }
    assert done.stderr.splitlines()[-1].endswith(". Logs: skahactl -p slow logs bad --failed")
    (row,) = here.data("get", "jobs", "-p", "slow")
    assert row["profile"] == "slow"
    here.job("queued", "sleep 100", 2)
    told = here.run("apply", "queued.toml", "-p", "slow").stderr
    assert told.endswith("To continue: skahactl -p slow resume queued\n")
    refused = here.run("mark", "queued", "completed", "-r", "1", "-p", "./profile.toml", "-o", "json", expect=1).stderr
    assert json.loads(refused)["hint"].endswith("skahactl -p ./profile.toml resume queued")
    here.run("delete", "queued", "-p", "slow")
    assert "-p" not in here.run("apply", "queued.toml").stderr
    here.run("delete", "queued")


@pytest.mark.once
def test_steps_have_one_shape_whatever_the_command(here: Workplace, long: str) -> None:
    parts = [here.data("apply", long), here.data("renew", "long")]
    wait_for(lambda: here.states("long") == ["Running"] * 2)
    parts += [here.data("delete", "long/1", "--dry-run"), here.data("delete", "long/1")]
    stray = here.data("get", "replicas", "long")[1]["session"]
    (here.state / "ledger.sqlite3").unlink()
    parts += [here.data("delete", stray, "--dry-run"), here.data("delete", stray)]
    shapes = {tuple(step) for part in parts for step in part["jobs"][0]["steps"]}
    assert shapes == {("replica", "name", "action", "reason", "outcome", "session", "attempt", "url", "error")}


@pytest.mark.once
def test_a_changed_list_is_reported_without_hashes(here: Workplace) -> None:
    for name in ("a.x", "b.x", "c.y"):
        here.write(name, "")
    job = here.job("listed", "true", 1, "items = { glob = ['*.x', '*.y'], each = true }")
    here.run("apply", job, "--wait")
    (here.root / "a.x").rename(here.root / "d.x")
    told = here.run("diff", job, expect=1).stdout.splitlines()[1:]
    assert told[2] == " items = other ones than those recorded, as many  # items file"
    assert not any("hash" in line for line in told)
    here.write("e.x", "")
    told = here.run("diff", job, expect=1).stdout.splitlines()[1:]
    assert told[2:4] == ["-items.count = 3", "+items.count = 4  # items file"]
    assert not any("hash" in line for line in told)
    data = here.data("diff", job, expect=1)
    assert "items.hash" in [row["path"] for row in data["jobs"][0]["differences"]]


@pytest.mark.once
def test_logs_that_no_command_has_saved_are_counted(here: Workplace) -> None:
    here.slots(3)
    here.run("apply", here.job("three", "until [ -e go ]; do sleep 0.1; done", replicas=3), "-q")
    here.write("go", "")
    wait_for(lambda: here.states("three") == ["Completed"] * 3)
    told = re.compile(
        r"3 logs are on the local platform only, for [0-9a-z ]+\. To save: skahactl logs three --save DIR\n"
    )
    for words in (["get", "jobs"], ["get", "replicas", "three"], ["describe", "three"]):
        assert told.fullmatch(here.run(*words).stderr), words
    assert here.run("get", "jobs", "-o", "json").stderr == ""
    here.run("apply", here.job("other", "until [ -e gone ]; do sleep 0.1; done"), "-q")
    here.write("gone", "")
    wait_for(lambda: here.states("other") == ["Completed"])
    told = re.compile(r"4 logs .*\. To save: skahactl logs other three --save DIR\n")
    assert told.fullmatch(here.run("get", "jobs").stderr)
    here.run("resume", "other")
    here.run("resume", "three")
    assert here.run("get", "jobs").stderr == ""


@pytest.mark.once
def test_sessions_without_events_are_named_in_one_line_for_each_reason(here: Workplace) -> None:
    here.slots(1)
    here.run("apply", here.job("queue", "sleep 100", 6))
    wait_for(lambda: here.states("queue").count("Running") == 1)
    said = here.run("events", "queue").stderr
    waits = r"(queue/\d, ){2}queue/\d and 2 more: waiting for a free slot \(1 slot, which is in use\)"
    assert re.fullmatch(f"{waits}\nno events\n", said)
    here.clear("queue")
    assert "queue/1: no " in here.run("events", "queue/1").stderr


def test_a_list_that_adds_replicas_does_not_stop_a_job(here: Workplace) -> None:
    here.write("list.txt", "a\nb\n")
    here.write(
        "grow.toml",
        'name = "grow"\nimage = "x/y:1"\ncommand = ["sh", "-c", "sleep 300", "{item}"]\n[limits]\nalive = 1\n'
        '[items]\nfile = "list.txt"\nper-replica = 1\n',
    )
    here.run("apply", "grow.toml")
    here.write("list.txt", "a\nb\nc\n")
    again = here.run("apply", "grow.toml")
    assert "run 1 continues with the recorded items; the list has changed since" in again.stderr
    assert "skahactl apply grow.toml --rerun --missing" in again.stderr
    assert "the list has changed since" in here.run("apply", "grow.toml", "-q").stderr
    refused = here.run("apply", "grow.toml", "--rerun", "--missing", "--wait", expect=1).stderr
    assert "run 1 has not ended" in refused
    assert here.recorded("grow")[1:] == ["Queued"]
    here.run("delete", "grow", "-y")


def test_a_quiet_call_prints_its_warnings(here: Workplace) -> None:
    shown = here.run("create", "headless", "x/y:1", "-n", "q", "-q", "--", "echo", "$HOME").stderr
    assert shown.startswith("warning: COMMAND word 2: '$HOME' is passed on as it is; no shell reads it.")
    assert "sh -c '...' after --" in shown


def test_a_retry_asks_for_what_is_offered(here: Workplace) -> None:
    here.run("apply", here.job("one", "exit 1", replicas=1), "--wait", expect=1)
    refused = here.run("retry", "one", "--ram", "500", "--dry-run", expect=2).stderr
    assert "--ram: this platform does not offer 500 GB" in refused
    assert here.states("one") == ["Failed"]
