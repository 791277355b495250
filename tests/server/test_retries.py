"""retry, mark, delete, renew and wait: which replicas their words mean, and what a retry of nothing answers."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from skahactl.model import zero_filled
from skahactl.render.columns import VIEWS, columns_of
from skahactl.render.tables import cells, sort_rows, terminal_lines
from tests.skaha_server.process import running
from tests.workplace import Workplace, wait_for

pytestmark = pytest.mark.once

SECOND_LIVES = "if [ -e ready ]; then sleep 100; else exit 1; fi"


def sessions(here: Workplace, job: str) -> list[str]:
    """The sessions of a job's replicas as they are now."""
    return [row["session"] for row in here.data("get", "replicas", job)]


def test_a_session_of_an_earlier_run_is_not_tried_again_beside_the_last(here: Workplace) -> None:
    here.run("apply", here.job("live", SECOND_LIVES, 2), "--wait", expect=1)
    old = sessions(here, "live")
    here.write("ready", "")
    here.run("apply", "live.toml", "--rerun")
    wait_for(lambda: here.states("live") == ["Running"] * 2)
    for done in here.each(f"retry {' '.join(old)}", f"resume {old[0]}", f"mark {old[0]} completed"):
        assert (done.returncode, "a session of run 1 of live; the last run is 2" in done.stderr) == (2, True), done
    assert len(here.data("get", "sessions", "--state", "Running")) == 2
    here.clear("live")


def test_a_session_of_an_earlier_attempt_does_not_mean_the_one_after_it(here: Workplace) -> None:
    here.run("apply", here.job("one", SECOND_LIVES), "--wait", expect=1)
    (old,) = sessions(here, "one")
    here.write("ready", "")
    here.run("retry", old)
    wait_for(lambda: here.states("one") == ["Running"])
    for done in here.each(f"retry {old} --dry-run", f"renew {old}", f"wait {old}", f"mark {old} failed"):
        assert (done.returncode, "an earlier attempt of one/1" in done.stderr) == (2, True), done
    told = here.each(f"delete {old} --dry-run", f"delete {old}", f"delete {old}")
    assert [done.returncode for done in told] == [0, 0, 0]
    assert "nothing to delete" in told[-1].stderr
    assert here.states("one") == ["Running"]
    (new,) = sessions(here, "one")
    here.run("delete", new)
    assert here.states("one") == ["Deleted"]


def test_pending_sessions_are_not_renewed(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"pending": [600, 600]}) as server:
        here = Workplace(tmp_path / "here", server)
        create = "create headless images.canfar.net/skaha/astroml:latest -n new -r 3 -q -- true"
        here.run(*create.split())
        said = here.run("renew", "new").stderr
        assert "no session is Running yet, so there is nothing to renew" in said
        assert "3 Pending: a session can be renewed once it is Running" in said
        assert server.counts().get("renew", 0) == 0


def test_marked_is_what_was_named_and_no_more(here: Workplace) -> None:
    here.run("apply", here.job("m", "exit 1", 4), "--wait", expect=1)
    refused, same = here.each("mark m/1 completed", "mark m/1 failed")
    assert (refused.returncode, same.returncode) == (1, 0)
    assert "replica 1 of m was observed" in refused.stderr
    assert "add --force" in refused.stderr
    assert here.states("m") == ["Failed"] * 4
    forced = here.run("mark", "m/1", "completed", "--force").stderr
    assert forced.startswith("m on ")
    assert "the observed result of replica 1 was Failed" in forced
    assert here.states("m") == ["Completed", "Failed", "Failed", "Failed"]
    assert "nothing marked" in here.run("mark", "m/2", "completed", "--unknown").stderr
    here.write("items.txt", "a\n")
    for done in here.each(
        "mark m completed",
        "mark m completed --items items.txt --unknown",
        "mark m completed --items items.txt -r 1",
        "mark m/1 completed --items items.txt",
    ):
        assert (done.returncode, "specify replicas with -r" in done.stderr) == (2, True), done


def test_only_the_expired_among_the_named_are_marked(here: Workplace) -> None:
    here.slots(4, memory=1)
    here.run("apply", here.job("unseen", "sleep 0.7; echo >> ended", 3))
    wait_for(lambda: (here.root / "ended").exists() and (here.root / "ended").stat().st_size == 3)
    time.sleep(2)  # longer than the platform remembers; a command that looks would record the ends
    wait_for(lambda: here.run("apply", "unseen.toml", expect=None).returncode == 1)
    assert here.recorded("unseen") == ["Unknown"] * 3
    here.run("mark", "unseen/2", "completed", "--unknown")
    here.run("mark", "unseen", "failed", "--unknown", "-r", "1")
    assert here.recorded("unseen") == ["Failed", "Completed", "Unknown"]


def test_states_narrow_the_named_and_items_go_with_a_job_alone(here: Workplace) -> None:
    more = "[items]\nvalues = ['a', 'b', 'c', 'd']"
    here.run("apply", here.job("tiles", "test $REPLICA_ID -gt 2 # {item}", 4, more), "--wait", expect=1)

    here.write("d.txt", "d\n")
    planned = {
        "tiles": [1, 2],
        "tiles -r 1-4": [1, 2, 3, 4],
        "tiles -r 2-4 --failed": [2],
        "tiles/2-4 --failed": [2],
        "tiles/1-4 --unknown": [],
        "tiles/1-4 --unknown --failed": [1, 2],
        "tiles --items d.txt": [4],
    }
    *told, refused = here.each(*(f"retry {words} --dry-run -o json" for words in (*planned, "tiles/1 --items d.txt")))
    found = [[step["replica"] for step in json.loads(done.stdout)["jobs"][0]["steps"]] for done in told]
    assert dict(zip(planned, found, strict=True)) == planned
    assert refused.returncode == 2


def test_a_retry_of_nothing_answers_for_the_job(here: Workplace) -> None:
    here.job("good", "true")
    here.job("bad", "exit 1")
    codes = {
        "apply good.toml --wait": 0,
        "retry good --wait": 0,
        "apply bad.toml --wait": 1,
        "retry bad --unknown --wait": 1,
        "retry bad --unknown": 1,
        "retry good --unknown": 0,
        "retry bad --unknown --dry-run": 0,
        "retry good bad --unknown --wait": 1,
    }
    assert dict(zip(codes, (done.returncode for done in here.each(*codes)), strict=True)) == codes
    here.job("slow", "until [ -e go ]; do sleep 0.1; done")
    here.run("apply", "slow.toml")
    assert "no command is driving this job" in here.run("retry", "slow").stderr
    waiting = here.start("retry", "slow", "--wait")
    wait_for(lambda: here.is_driven("slow"))
    assert "no command is driving this job" not in here.run("retry", "slow").stderr
    here.run("retry", "slow", "--wait", expect=6)
    here.write("go", "")
    _, err = waiting.communicate(timeout=120)
    assert (waiting.returncode, here.recorded("slow")) == (0, ["Completed"]), err


def test_wait_ends_where_no_command_creates_what_is_held(here: Workplace) -> None:
    here.run("apply", here.job("queued", "sleep 100", 3, "[limits]\nalive = 1"))
    wait_for(lambda: here.states("queued").count("Running") == 1)
    told = here.run("wait", "queued", "--for", "running", "--timeout", "30s", expect=1).stderr
    assert told.startswith("queued on ")
    assert "2 Queued (replicas 2-3); no command is driving this job: 2 queued replicas will not start" in told
    here.run("wait", "queued/1", "--for", "Running")
    left = "help: queued keeps running, but no command is driving it: 2 queued replicas will not start. To continue: "
    assert left in here.run("wait", "queued/1", "--timeout", "0.1s", expect=5).stderr
    here.clear("queued")


def test_conditions_of_wait_as_kubectl_writes_them(here: Workplace) -> None:
    here.run("apply", here.job("short", "true"), "--wait")
    conditions = ("condition=complete", "Complete", "condition=Completed", "Running", "condition=compleet")
    done = here.each(*(f"wait short --for {condition}" for condition in conditions))
    assert [answer.returncode for answer in done] == [0, 0, 0, 0, 2]
    assert ["it has already run: Completed" in answer.stderr for answer in done[:4]] == [False] * 3 + [True]
    said = here.run("wait", "short", "--for", "deleted", "--timeout", "0.1s", expect=5).stderr
    assert "help: short is Completed; to delete it: skahactl delete short\n" in said


def test_one_list_that_lacks_it_deletes_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"seed": 3}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("d.toml", 'name = "d"\nimage = "images.canfar.net/a/b:1"\ncommand = ["sleep", "9"]\n')
        here.run("apply", "d.toml")
        server.tell("plan", list_empty=True)
        assert (
            "timed out after 2 s: not every replica of d is deleted"
            in here.run("wait", "d", "--for", "deleted", "--timeout", "2s", expect=5).stderr
        )


def test_an_outage_is_reported_once_by_wait(tmp_path: Path) -> None:
    with running(tmp_path / "server", {"seed": 3}) as server:
        here = Workplace(tmp_path / "here", server)
        here.write("d.toml", 'name = "d"\nimage = "images.canfar.net/a/b:1"\ncommand = ["sleep", "9"]\n')
        here.run("apply", "d.toml")
        alive = [row["id"] for row in here.data("get", "sessions")]
        server.tell("outage", kind="drop")
        waiting = here.start("wait", "d")
        wait_for(lambda: server.counts().get("outage", 0) >= 5)
        server.tell("outage", seconds=0)
        server.tell("finish", sessions=alive)
        err = waiting.communicate(timeout=60)[1]
        assert (err.count("; retrying"), err.count("connection restored")) == (1, 1), err


def test_followed_logs_that_are_lost_are_as_lost_as_shown_ones(here: Workplace) -> None:
    here.slots(4, memory=1)
    here.run("apply", here.job("exp", "sleep 0.7"))
    wait_for(lambda: here.data("get", "sessions") == [])
    here.run("logs", "exp", expect=1)
    here.run("logs", "exp", "-f", expect=1)


def test_what_a_person_declines_is_not_done(here: Workplace) -> None:
    here.run("apply", here.job("old", "true"), "--wait")
    terminal = here.at_a_terminal("prune", "old", "--older-than", "0s")
    terminal.read_until(b"[y/N]")
    os.write(terminal.master, b"n\n")
    assert terminal.ended(20) == 1
    assert here.run_of("old") == 1


def test_rows_are_sorted_by_every_column_that_is_shown(here: Workplace) -> None:
    more = "[items]\nvalues = ['a', 'b', 'c']"
    here.run("apply", here.job("tiles", "test $REPLICA_ID = 2 # {item}", 3, more), "--wait", expect=1)
    here.run("apply", here.job("one", "true"), "--wait")
    asked = ("jobs", "sessions", "replicas tiles", "items tiles", "events tiles")
    told = here.each(*(f"get {words} -o json" for words in asked))
    rows = {words.split()[0]: json.loads(done.stdout) for words, done in zip(asked, told, strict=True)}
    for noun, view in VIEWS.items():
        for column in view.columns:
            found = rows.get(noun, [])
            for name in (column.title, column.title.lower(), f"-{column.title}"):
                assert len(sort_rows(noun, found, name)) == len(found)
    assert [row["replica"] for row in sort_rows("replicas", rows["replicas"], "-REPLICA")] == [3, 2, 1]
    assert [row["name"] for row in sort_rows("jobs", rows["jobs"], "-FAILED")] == ["tiles", "one"]
    assert [row["name"] for row in sort_rows("jobs", rows["jobs"], "items")] == ["tiles", "one"]


@pytest.mark.parametrize(("name", "other"), [("fits-processing", {}), ("fits", {"Deleted": 100})])
def test_ordinary_jobs_fit_a_terminal(name: str, other: dict[str, int]) -> None:
    counts = zero_filled(other or {"Completed": 100})
    row = {"name": name, "run": 1, "status": "Completed", "replicas": 100, "counts": counts, "created": None}
    columns = columns_of("jobs", False)
    lines = terminal_lines(columns, cells(columns, [row], 0.0), 80, colour=False)
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert "…" in lines[0] or "…" in lines[1]
