"""retry, mark, delete, renew and wait: which replicas their words mean, and what a retry of nothing answers."""

from __future__ import annotations

import pytest

from tests.desk import Desk, wait_for

pytestmark = pytest.mark.once

SECOND_LIVES = "if [ -e ready ]; then sleep 100; else exit 1; fi"


def sessions(desk: Desk, job: str) -> list[str]:
    """The sessions of a job's replicas as they are now."""
    return [row["session"] for row in desk.data("get", "replicas", job)]


def test_a_session_of_an_earlier_run_is_not_tried_again_beside_the_last(desk: Desk) -> None:
    desk.run("apply", desk.job("live", SECOND_LIVES, 2), "--wait", exit=1)
    old = sessions(desk, "live")
    desk.write("ready", "")
    desk.run("apply", "live.toml", "--rerun")
    wait_for(lambda: desk.states("live") == ["Running"] * 2)
    for words in (("retry", *old), ("resume", old[0]), ("mark", old[0], "completed")):
        assert "run 1 of live, whose last run is 2" in desk.run(*words, exit=2).stderr
    assert len(desk.data("get", "sessions", "--state", "Running")) == 2
    desk.clear("live")


def test_a_session_of_an_earlier_attempt_does_not_mean_the_one_after_it(desk: Desk) -> None:
    desk.run("apply", desk.job("one", SECOND_LIVES), "--wait", exit=1)
    (old,) = sessions(desk, "one")
    desk.write("ready", "")
    desk.run("retry", old)
    wait_for(lambda: desk.states("one") == ["Running"])
    for words in (("retry", old, "--dry-run"), ("renew", old), ("wait", old), ("mark", old, "failed")):
        assert "an earlier attempt of one/1" in desk.run(*words, exit=2).stderr
    assert desk.run("delete", old, "--dry-run").returncode == 0
    desk.run("delete", old)
    assert "nothing to delete" in desk.run("delete", old).stderr
    assert desk.states("one") == ["Running"]
    (new,) = sessions(desk, "one")
    desk.run("delete", new)
    assert desk.states("one") == ["Deleted"]


def test_marked_is_what_was_named_and_no_more(desk: Desk) -> None:
    desk.run("apply", desk.job("m", "exit 1", 4), "--wait", exit=1)
    assert desk.run("mark", "m/1", "completed").stderr.startswith("m on ")
    assert desk.states("m") == ["Completed", "Failed", "Failed", "Failed"]
    assert "nothing marked" in desk.run("mark", "m/2", "completed", "--expired").stderr
    desk.write("items.txt", "a\n")
    for words in ((), ("--items", "items.txt", "--expired"), ("--items", "items.txt", "-r", "1")):
        assert "which replicas" in desk.run("mark", "m", "completed", *words, exit=2).stderr
    assert "which replicas" in desk.run("mark", "m/1", "completed", "--items", "items.txt", exit=2).stderr


def test_only_the_expired_among_the_named_are_marked(desk: Desk) -> None:
    desk.slots(4, memory=1)
    desk.run("apply", desk.job("unseen", "sleep 0.7", 3))
    wait_for(lambda: desk.data("get", "sessions") == [])
    wait_for(lambda: desk.run("apply", "unseen.toml", exit=None).returncode == 1)
    assert desk.recorded("unseen") == ["Expired"] * 3
    desk.run("mark", "unseen/2", "completed", "--expired")
    desk.run("mark", "unseen", "failed", "--expired", "-r", "1")
    assert desk.recorded("unseen") == ["Failed", "Completed", "Expired"]


def test_states_narrow_the_named_and_items_go_with_a_job_alone(desk: Desk) -> None:
    more = "[items]\nvalues = ['a', 'b', 'c', 'd']"
    desk.run("apply", desk.job("tiles", "test $REPLICA_ID -gt 2 # {item}", 4, more), "--wait", exit=1)

    def planned(*words: str) -> list[int]:
        (job,) = desk.data("retry", *words, "--dry-run")["jobs"]
        return [step["replica"] for step in job["steps"]]

    assert planned("tiles") == [1, 2]
    assert planned("tiles", "-r", "1-4") == [1, 2, 3, 4]
    assert planned("tiles", "-r", "2-4", "--failed") == planned("tiles/2-4", "--failed") == [2]
    assert planned("tiles/1-4", "--expired") == []
    assert planned("tiles/1-4", "--expired", "--failed") == [1, 2]
    desk.write("d.txt", "d\n")
    assert planned("tiles", "--items", "d.txt") == [4]
    desk.run("retry", "tiles/1", "--items", "d.txt", "--dry-run", exit=2)


def test_a_retry_that_waits_answers_for_the_job(desk: Desk) -> None:
    desk.run("apply", desk.job("good", "true"), "--wait")
    desk.run("retry", "good", "--wait")
    desk.run("apply", desk.job("bad", "exit 1"), "--wait", exit=1)
    desk.run("retry", "bad", "--expired", "--wait", exit=1)
    desk.run("retry", "bad", "--expired")
    desk.run("retry", "good", "bad", "--expired", "--wait", exit=1)
    desk.job("slow", "until [ -e go ]; do sleep 0.1; done")
    desk.run("apply", "slow.toml")
    assert "nobody is watching" in desk.run("retry", "slow").stderr
    waiting = desk.start("retry", "slow", "--wait")
    wait_for(lambda: desk.is_driven("slow"))
    assert "nobody is watching" not in desk.run("retry", "slow").stderr
    desk.run("retry", "slow", "--wait", exit=6)
    desk.write("go", "")
    _, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, desk.recorded("slow")) == (0, ["Completed"]), err
