"""[limits] failures, apply --rerun --missing, [retry] ram, and the choices of retry."""

from __future__ import annotations

import json
import re

import pytest

from tests.desk import Desk, wait_for

pytestmark = pytest.mark.once

#: Items that end in 4 fail until the file "fixed" exists.
MEASURE = 'echo "$TILE"; case "$TILE" in *4) [ -e fixed ] || { echo "cannot open $TILE"; exit 2; };; esac'


def survey(desk: Desk, items: int, more: str = "", replicas: str | None = None) -> str:
    desk.write("tiles.txt", "".join(f"tile-{number}\n" for number in range(1, items + 1)))
    return desk.write(
        "survey.toml",
        f"name = 'survey'\nimage = 'x/y:1'\nreplicas = {replicas or items}\nshell = '''{MEASURE}'''\n"
        f"[env]\nTILE = '{{item}}'\n[items]\nfile = 'tiles.txt'\n{more}\n",
    ).name


def by_state(desk: Desk, job: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, state in enumerate(desk.states(job), 1):
        found.setdefault(state, []).append(number)
    return found


def test_a_job_stops_after_its_failures_and_says_so(desk: Desk) -> None:
    job = survey(desk, 30, "[limits]\nalive = 2\nfailures = 3")
    done = desk.run("apply", job, "--wait", exit=1)
    states = by_state(desk, "survey")
    assert set(states) == {"Completed", "Failed", "Queued"}
    assert 3 <= len(states["Failed"]) <= 4  # what ran when the third failed continued
    reason = f"stopped after {len(states['Failed'])} failures"
    assert reason in done.stderr + done.stdout
    advice = [
        f"{reason} (limits.failures = 3); ",
        "To continue: skahactl retry survey --wait (retries all failed replicas)",
        f"skahactl apply survey.toml --set limits.failures={len(states['Failed']) + 3} --wait",
        "After a change of the manifest: skahactl apply survey.toml --rerun --missing\n",
    ]
    assert [text for text in advice if text not in done.stderr] == []
    (shown,) = desk.data("get", "jobs")
    assert (shown["status"], shown["reason"]) == ("Queued", reason)
    assert {row["reason"] for row in desk.data("get", "replicas", "survey", "--state", "Queued")} == {reason}
    again = desk.run("apply", job, exit=1)
    assert reason in again.stderr + again.stdout
    assert by_state(desk, "survey") == states
    assert not desk.is_driven("survey")
    for words in (["resume"], ["wait"], ["retry", "-r", str(states["Queued"][0])]):
        said = desk.run(*words, "survey", exit=1).stderr
        assert [text for text in advice if text not in said] == []
        assert "resume survey" not in said
    assert f"survey/{states['Queued'][0]}: it is Queued already: {reason}\n" in said


def test_retry_or_a_higher_limit_continues_a_stopped_run(desk: Desk) -> None:
    job = survey(desk, 12, "[limits]\nalive = 1\nfailures = 1")
    desk.run("apply", job, "--wait", exit=1)
    assert by_state(desk, "survey") == {"Completed": [1, 2, 3], "Failed": [4], "Queued": list(range(5, 13))}
    desk.write("fixed", "")
    desk.run("retry", "survey", "--wait")
    assert by_state(desk, "survey") == {"Completed": list(range(1, 13))}


def test_a_driver_announces_only_failures_that_were_seen_since_it_began(desk: Desk) -> None:
    job = desk.job("fail", 'echo "no $REPLICA_ID"; exit "$REPLICA_ID"', 2)
    assert "replica 2 failed (exit 2)" in desk.run("apply", job, "--wait", exit=1).stderr
    said = desk.run("retry", "fail/1", "--wait", exit=1).stderr
    assert "replica 1 failed (exit 1); last line of its log: no 1\n" in said
    assert "replica 2 failed" not in said
    assert "not completed: replicas 1-2" in said
    lines = desk.run("describe", "fail").stdout.splitlines()
    assert [line.split() for line in lines if "no 1" in line or "no 2" in line][:2] == [
        ["replica", "1", "exit", "1:", "no", "1"],
        ["replica", "2", "exit", "2:", "no", "2"],
    ]


def test_a_higher_limit_continues_a_stopped_run(desk: Desk) -> None:
    job = survey(desk, 15, "[limits]\nalive = 1\nfailures = 1")
    desk.run("apply", job, "--wait", exit=1)
    desk.run("apply", job, "--wait", "--set", "limits.failures=3", exit=1)
    states = by_state(desk, "survey")
    assert states["Failed"] == [4, 14]
    assert "Queued" not in states


def test_a_typo_fails_as_often_as_the_limit_says_and_the_rest_runs_after_the_correction(desk: Desk) -> None:
    """Without [limits] alive: all would be created before the first failure is seen."""
    job = survey(desk, 40, "[limits]\nfailures = 3")
    right = (desk.root / job).read_text()
    desk.write(job, right.replace(MEASURE, "no-such-program"))
    desk.run("apply", job, "--wait", exit=1)
    assert {state: len(those) for state, those in by_state(desk, "survey").items()} == {"Failed": 3, "Queued": 37}
    desk.write(job, right.replace(MEASURE, "true"))
    desk.run("apply", job, "--rerun", "--missing", "--wait")
    assert desk.states("survey") == ["Completed"] * 40


def test_attempts_that_are_left_do_not_count_as_failures(desk: Desk) -> None:
    shell = '[ -e "$REPLICA_ID" ] || { touch "$REPLICA_ID"; exit 1; }'
    more = "[limits]\nalive = 1\nfailures = 1\n[retry]\nattempts = 2"
    desk.run("apply", desk.job("flaky", shell, 3, more), "--wait")
    assert desk.states("flaky") == ["Completed"] * 3


def test_rerun_missing_runs_exactly_the_rest(desk: Desk) -> None:
    job = survey(desk, 20, "[limits]\nalive = 1\nfailures = 1")
    desk.run("apply", job, "--wait", exit=1)
    desk.write("fixed", "")
    job = survey(desk, 22, "[limits]\nalive = 4")  # two tiles were added
    desk.run("apply", job, exit=1)  # the run has results
    plan = desk.data("apply", job, "--rerun", "--missing", "--dry-run")
    assert len(plan["jobs"][0]["steps"]) == 19
    desk.run("apply", job, "--rerun", "--missing", "--wait")
    assert desk.run_of("survey") == 2
    items = [row["item"] for row in desk.data("get", "items", "survey")]
    assert items == [f"tile-{number}" for number in range(4, 23)]
    assert {row["state"] for row in desk.data("get", "replicas", "survey", "--run", "1")} == {
        "Completed",
        "Failed",
        "Deleted",
    }
    done = desk.run("apply", job, "--rerun", "--missing", "--wait")
    assert "nothing to do" in done.stderr
    assert desk.run_of("survey") == 2
    desk.run("apply", job)  # unchanged and ended: the result again


def test_rerun_missing_goes_by_items_with_each(desk: Desk) -> None:
    job = survey(desk, 9, replicas="2").replace("survey", "survey")
    text = (desk.root / job).read_text().replace("[items]", "[items]\neach = true")
    desk.write(job, text)
    desk.run("apply", job, "--wait", exit=1)
    desk.write("fixed", "")
    desk.run("apply", job, "--rerun", "--missing", "--wait")
    assert [row["item"] for row in desk.data("get", "items", "survey")] == ["tile-4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--missing"], "--missing needs --rerun"), (["--rerun", "--missing"], "needs a job with [items]")],
)
def test_missing_where_it_has_no_meaning_is_an_error(desk: Desk, words: list[str], said: str) -> None:
    done = desk.run("apply", desk.job("plain", "true", 2), *words, exit=2)
    assert said in done.stderr


def requested(desk: Desk) -> list[object]:
    return [row["resources"]["ram"] for row in desk.data("get", "replicas", "hungry")]


def test_each_attempt_requests_its_own_memory(desk: Desk) -> None:
    shell = 'echo x >>tries; [ "$(wc -l <tries)" -ge 4 ]'
    desk.run("apply", desk.job("hungry", shell, 1, "[retry]\nattempts = 4\nram = [2, 4]"), "--wait")
    tried = desk.data("describe", "hungry")["replicas"][0]["tried"]
    assert [attempt["resources"]["ram"] for attempt in tried] == [2, 4, 4, 4]
    (session,) = desk.data("get", "sessions")  # of the last attempt; those before were replaced
    assert session["requestedRAM"] == "4.29"
    assert requested(desk) == [4]


def test_retry_requests_more_for_this_attempt_only(desk: Desk) -> None:
    desk.run("apply", desk.job("hungry", "exit 1", 2, "[resources]\ncores = 1\nram = 2"), "--wait", exit=1)
    desk.run("retry", "hungry", "--ram", "8", "--cores", "2", "--wait", exit=1)
    assert requested(desk) == [8, 8]
    desk.run("retry", "hungry/1", "--wait", exit=1)
    assert requested(desk) == [2, 8]
    assert desk.run("retry", "hungry", "--ram", "0", exit=2).stderr


def test_both_kinds_of_memory_are_an_error(desk: Desk) -> None:
    more = "[resources]\nram = 4\n[retry]\nattempts = 2\nram = [4, 8]"
    assert (
        "resources.ram and retry.ram exclude" in desk.run("validate", desk.job("both", "true", 1, more), exit=2).stderr
    )
    wrong = "[retry]\nram = []"
    desk.run("validate", desk.job("both", "true", 1, wrong), exit=2)


def test_a_dry_run_of_retry_lists_replicas_and_items(desk: Desk) -> None:
    desk.run("apply", survey(desk, 5), "--wait", exit=1)
    done = desk.run("retry", "survey", "--dry-run")
    assert re.search(r"\b4\b.*item tile-4", done.stdout)
    (step,) = desk.data("retry", "survey", "--dry-run")["jobs"][0]["steps"]
    assert (step["replica"], step["action"]) == (4, "retry")
    assert "tile-4" in step["reason"]
    assert by_state(desk, "survey")["Failed"] == [4]
    (job,) = desk.data("retry", "survey", "--rejected", "--dry-run")["jobs"]
    assert job["steps"] == [], "none was rejected"


def test_items_of_a_failed_replica_are_unknown_until_its_log_is_read(desk: Desk) -> None:
    job = survey(desk, 4, replicas="1")
    text = (desk.root / job).read_text().replace("[items]", "[items]\neach = true")
    desk.write(job, text.replace("echo", "until [ -e go ]; do sleep 0.05; done; echo"))
    desk.run("apply", job)
    desk.write("go", "")
    wait_for(lambda: desk.states("survey") == ["Failed"])
    shown = desk.run("get", "items", "survey", "-o", "json")
    assert {row["state"] for row in json.loads(shown.stdout)} == {"Unknown"}
    said = "the log of survey/1 has not been read; which of its items failed is not known yet. To read it: "
    assert shown.stderr == f"{said}skahactl resume survey\n"
    assert desk.data("get", "jobs")[0]["items"] == {"total": 4, "completed": 0, "failed": 0}
    (step,) = desk.data("retry", "survey", "--dry-run")["jobs"][0]["steps"]
    reason = "Failed; those of its 4 items that did not end with 0 (known when its log has been read)"
    assert step["reason"] == reason
    desk.run("resume", "survey", exit=1)
    assert [row["state"] for row in desk.data("get", "items", "survey")] == ["Completed"] * 3 + ["Failed"]
    (step,) = desk.data("retry", "survey", "--dry-run")["jobs"][0]["steps"]
    assert step["reason"] == "Failed; item tile-4"
