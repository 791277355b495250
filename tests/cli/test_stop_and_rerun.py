"""[limits] failures, apply --rerun --missing, [retry] ram, and the choices of retry."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.workplace import Workplace, wait_for

pytestmark = pytest.mark.once

#: Items that end in 4 fail until the file "fixed" exists.
MEASURE = 'echo "$TILE"; case "$TILE" in *4) [ -e fixed ] || { echo "cannot open $TILE"; exit 2; };; esac'


def survey(here: Workplace, items: int, more: str = "", replicas: str | None = None) -> str:
    here.write("tiles.txt", "".join(f"tile-{number}\n" for number in range(1, items + 1)))
    return here.write(
        "survey.toml",
        f"name = 'survey'\nimage = 'x/y:1'\nreplicas = {replicas or items}\nshell = '''{MEASURE}'''\n"
        f"[env]\nTILE = '{{item}}'\n[items]\nfile = 'tiles.txt'\n{more}\n",
    ).name


def by_state(here: Workplace, job: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, state in enumerate(here.states(job), 1):
        found.setdefault(state, []).append(number)
    return found


def test_a_job_stops_after_its_failures_and_says_so(here: Workplace) -> None:
    job = survey(here, 30, "[limits]\nalive = 2\nfailures = 3")
    done = here.run("apply", job, "--wait", expect=1)
    states = by_state(here, "survey")
    assert set(states) == {"Completed", "Failed", "Queued"}
    assert 3 <= len(states["Failed"]) <= 4  # what ran when the third failed continued
    reason = f"stopped after {len(states['Failed'])} failures"
    assert reason in done.stderr + done.stdout
    advice = [
        f"{reason} (limits.failures = 3); ",
        "to continue, and retry all failed replicas: skahactl retry survey --wait\n",
        f"skahactl apply survey.toml --set limits.failures={len(states['Failed']) + 3} --wait",
        "after a change of the manifest: skahactl apply survey.toml --rerun --missing\n",
    ]
    assert [text for text in advice if text not in done.stderr] == []
    (shown,) = here.data("get", "jobs")
    assert (shown["status"], shown["reason"]) == ("Queued", reason)
    assert {row["reason"] for row in here.data("get", "replicas", "survey", "--state", "Queued")} == {reason}
    again = here.run("apply", job, expect=1)
    assert reason in again.stderr + again.stdout
    assert by_state(here, "survey") == states
    assert not here.is_driven("survey")
    for words in (["resume"], ["wait"], ["retry", "-r", str(states["Queued"][0])]):
        said = here.run(*words, "survey", expect=1).stderr
        assert [text for text in advice if text not in said] == []
        assert "resume survey" not in said
    assert f"survey/{states['Queued'][0]}: it is Queued already: {reason}\n" in said


def test_retry_or_a_higher_limit_continues_a_stopped_run(here: Workplace) -> None:
    job = survey(here, 12, "[limits]\nalive = 1\nfailures = 1")
    here.run("apply", job, "--wait", expect=1)
    assert by_state(here, "survey") == {"Completed": [1, 2, 3], "Failed": [4], "Queued": list(range(5, 13))}
    here.write("fixed", "")
    here.run("retry", "survey", "--wait")
    assert by_state(here, "survey") == {"Completed": list(range(1, 13))}


def test_a_driver_announces_only_failures_that_were_seen_since_it_began(here: Workplace) -> None:
    job = here.job("fail", 'echo "no $REPLICA_ID"; exit "$REPLICA_ID"', 2)
    assert "replica 2 failed (exit 2)" in here.run("apply", job, "--wait", expect=1).stderr
    said = here.run("retry", "fail/1", "--wait", expect=1).stderr
    assert "replica 1 failed (exit 1); last line of its log: no 1\n" in said
    assert "replica 2 failed" not in said
    assert "not completed: replicas 1-2" in said
    lines = here.run("describe", "fail").stdout.splitlines()
    assert [line.split() for line in lines if "no 1" in line or "no 2" in line][:2] == [
        ["replica", "1", "exit", "1:", "no", "1"],
        ["replica", "2", "exit", "2:", "no", "2"],
    ]


def test_a_higher_limit_continues_a_stopped_run(here: Workplace) -> None:
    job = survey(here, 15, "[limits]\nalive = 1\nfailures = 1")
    here.run("apply", job, "--wait", expect=1)
    here.run("apply", job, "--wait", "--set", "limits.failures=3", expect=1)
    states = by_state(here, "survey")
    assert states["Failed"] == [4, 14]
    assert "Queued" not in states


def test_a_typo_fails_as_often_as_the_limit_says_and_the_rest_runs_after_the_correction(here: Workplace) -> None:
    """Without [limits] alive: all would be created before the first failure is seen."""
    job = survey(here, 40, "[limits]\nfailures = 3")
    right = (here.root / job).read_text()
    here.write(job, right.replace(MEASURE, "no-such-program"))
    here.run("apply", job, "--wait", expect=1)
    assert {state: len(those) for state, those in by_state(here, "survey").items()} == {"Failed": 3, "Queued": 37}
    here.write(job, right.replace(MEASURE, "true"))
    here.run("apply", job, "--rerun", "--missing", "--wait")
    assert here.states("survey") == ["Completed"] * 40


def test_attempts_that_are_left_do_not_count_as_failures(here: Workplace) -> None:
    shell = '[ -e "$REPLICA_ID" ] || { touch "$REPLICA_ID"; exit 1; }'
    more = "[limits]\nalive = 1\nfailures = 1\n[retry]\nattempts = 2"
    here.run("apply", here.job("flaky", shell, 3, more), "--wait")
    assert here.states("flaky") == ["Completed"] * 3


def test_rerun_missing_runs_exactly_the_rest(here: Workplace) -> None:
    job = survey(here, 20, "[limits]\nalive = 1\nfailures = 1")
    here.run("apply", job, "--wait", expect=1)
    here.write("fixed", "")
    job = survey(here, 22, "[limits]\nalive = 4")  # two tiles were added
    refused = here.run("apply", job, expect=1)  # the run has results
    assert "to leave out Completed items: skahactl apply survey.toml --rerun --missing\n" in refused.stderr
    plan = here.data("apply", job, "--rerun", "--missing", "--dry-run")
    assert len(plan["jobs"][0]["steps"]) == 19
    started = here.run("apply", job, "--rerun", "--missing", "--wait").stderr
    assert "19 of 22 items; 3 Completed in earlier runs" in started
    assert "left out" not in started, "they were completed with the same values"
    assert here.run_of("survey") == 2
    items = [row["item"] for row in here.data("get", "items", "survey")]
    assert items == [f"tile-{number}" for number in range(4, 23)]
    assert {row["state"] for row in here.data("get", "replicas", "survey", "--run", "1")} == {
        "Completed",
        "Failed",
        "Deleted",
    }
    done = here.run("apply", job, "--rerun", "--missing", "--wait")
    assert "nothing to do" in done.stderr
    assert here.run_of("survey") == 2
    here.run("apply", job)  # unchanged and ended: the result again


def test_missing_warns_of_items_that_were_completed_with_other_values(here: Workplace) -> None:
    more = '[items]\nvalues = ["a", "b", "c"]\neach = true\n[vars]\nscale = 1'
    job = here.job("fit", "test {item} != c || exit {scale}", more=more)
    here.run("apply", job, "--wait", expect=1)
    other = ("apply", job, "--var", "scale=0")
    assert "--missing" not in here.run(*other, expect=1).stderr
    warning = "warning: fit: 2 items are left out; they were completed with other values of: vars.scale"
    plan = here.run(*other, "--rerun", "--missing", "--dry-run")
    assert warning in plan.stderr
    assert "1 of 3 items; 2 Completed in earlier runs" in plan.stdout
    here.run(*other, "--rerun", "--missing", "--wait")
    nothing = here.run(*other, "--rerun", "--missing").stderr
    assert warning in nothing
    assert "nothing to do: every item is Completed" in nothing
    here.run(*other, "--rerun", "--wait")
    assert "left out" not in here.run(*other, "--rerun", "--missing").stderr


def test_rerun_missing_goes_by_items_with_each(here: Workplace) -> None:
    job = survey(here, 9, replicas="2").replace("survey", "survey")
    text = (here.root / job).read_text().replace("[items]", "[items]\neach = true")
    here.write(job, text)
    here.run("apply", job, "--wait", expect=1)
    here.write("fixed", "")
    here.run("apply", job, "--rerun", "--missing", "--wait")
    assert [row["item"] for row in here.data("get", "items", "survey")] == ["tile-4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--missing"], "--missing needs --rerun"), (["--rerun", "--missing"], "needs a job with [items]")],
)
def test_missing_where_it_has_no_meaning_is_an_error(here: Workplace, words: list[str], said: str) -> None:
    done = here.run("apply", here.job("plain", "true", 2), *words, expect=2)
    assert said in done.stderr


def requested(here: Workplace) -> list[object]:
    return [row["resources"]["ram"] for row in here.data("get", "replicas", "hungry")]


def test_each_attempt_requests_its_own_memory(here: Workplace) -> None:
    shell = 'echo x >>tries; [ "$(wc -l <tries)" -ge 4 ]'
    here.run("apply", here.job("hungry", shell, 1, "[retry]\nattempts = 4\nram = [2, 4]"), "--wait")
    tried = here.data("describe", "hungry")["replicas"][0]["tried"]
    assert [attempt["resources"]["ram"] for attempt in tried] == [2, 4, 4, 4]
    (session,) = here.data("get", "sessions")  # of the last attempt; those before were replaced
    assert session["requestedRAM"] == "4.29"
    assert requested(here) == [4]


def test_retry_requests_more_for_this_attempt_only(here: Workplace) -> None:
    here.run("apply", here.job("hungry", "exit 1", 2, "[resources]\ncores = 1\nram = 2"), "--wait", expect=1)
    here.run("retry", "hungry", "--ram", "8", "--cores", "2", "--wait", expect=1)
    assert requested(here) == [8, 8]
    here.run("retry", "hungry/1", "--wait", expect=1)
    assert requested(here) == [2, 8]
    for amount in ("0", "1e9", "nan"):
        assert "(from 1 to 999,999)" in here.run("retry", "hungry", "--ram", amount, expect=2).stderr


def test_a_killed_retry_names_the_memory_that_it_requested(here: Workplace) -> None:
    job = here.job("hungry", "sleep 2.5; kill -KILL $$", 1, "[resources]\ncores = 1\nram = 4")
    assert "requested 4 GB" in here.run("apply", job, "--wait", expect=1).stderr
    again = here.run("retry", "hungry", "--ram", "8", "--wait", expect=1).stderr
    assert "requested 8 GB" in again
    assert "requested 4 GB" not in again
    usage = here.data("describe", "hungry")["usage"]
    assert usage["samples"] > 0
    assert usage["advice"] is None  # what was killed does not need less, however little was measured


def test_both_kinds_of_memory_are_an_error(here: Workplace) -> None:
    more = "[resources]\nram = 4\n[retry]\nattempts = 2\nram = [4, 8]"
    assert (
        "resources.ram and retry.ram exclude"
        in here.run("validate", here.job("both", "true", 1, more), expect=2).stderr
    )
    wrong = "[retry]\nram = []"
    here.run("validate", here.job("both", "true", 1, wrong), expect=2)


def test_a_dry_run_of_retry_lists_replicas_and_items(here: Workplace) -> None:
    here.run("apply", survey(here, 5), "--wait", expect=1)
    done = here.run("retry", "survey", "--dry-run")
    assert re.search(r"\b4\b.*item tile-4", done.stdout)
    (step,) = here.data("retry", "survey", "--dry-run")["jobs"][0]["steps"]
    assert (step["replica"], step["action"]) == (4, "retry")
    assert "tile-4" in step["reason"]
    assert by_state(here, "survey")["Failed"] == [4]
    (job,) = here.data("retry", "survey", "--rejected", "--dry-run")["jobs"]
    assert job["steps"] == [], "none was rejected"


def test_items_of_a_failed_replica_are_unknown_until_its_log_is_read(here: Workplace) -> None:
    job = survey(here, 4, replicas="1")
    text = (here.root / job).read_text().replace("[items]", "[items]\neach = true")
    here.write(job, text.replace("echo", "until [ -e go ]; do sleep 0.05; done; echo"))
    here.run("apply", job)
    here.write("go", "")
    wait_for(lambda: here.states("survey") == ["Failed"])
    shown = here.run("get", "items", "survey", "-o", "json")
    assert {row["state"] for row in json.loads(shown.stdout)} == {"Unknown"}
    said = "the log of survey/1 has not been read; which of its items failed is not known yet. To read it: "
    assert shown.stderr == f"{said}skahactl resume survey\n"
    assert here.data("get", "jobs")[0]["items"] == {"total": 4, "completed": 0, "failed": 0}
    (step,) = here.data("retry", "survey", "--dry-run")["jobs"][0]["steps"]
    reason = "Failed; those of its 4 items that did not end with 0 (known when its log has been read)"
    assert step["reason"] == reason
    here.run("resume", "survey", expect=1)
    assert [row["state"] for row in here.data("get", "items", "survey")] == ["Completed"] * 3 + ["Failed"]
    (step,) = here.data("retry", "survey", "--dry-run")["jobs"][0]["steps"]
    assert step["reason"] == "Failed; item tile-4"


def test_a_run_ended_when_its_last_replica_did_no_matter_who_looks_later(here: Workplace) -> None:
    job = here.job("short", "true", 2)
    here.run("apply", job)
    wait_for(lambda: by_state(here, "short") == {"Completed": [1, 2]})
    ended = max(row["finished"] for row in here.data("get", "replicas", "short"))
    assert here.data("get", "jobs", "short")[0]["ended"] == ended
    time.sleep(1.1)
    here.run("resume", "short")
    assert here.data("get", "jobs", "short")[0]["ended"] == ended
