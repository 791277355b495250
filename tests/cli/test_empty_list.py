"""A job with an empty list of items is done: apply says so, creates no run, and exits with 0."""

from __future__ import annotations

import pytest

from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = 'name = "rest"\nimage = "a/b:1"\ncommand = ["echo", "{item}"]\n[items]\nfile = "missing.txt"\nper-replica = 1\n'
SEVERAL = """
[common]
image = "a/b:1"
[[job]]
name = "rest"
command = ["echo", "{item}"]
items = { file = "missing.txt", per-replica = 1 }
[[job]]
name = "merge"
command = ["echo", "merged"]
after = ["rest"]
"""


@pytest.fixture(autouse=True)
def lists(here: Workplace) -> None:
    here.write("missing.txt", "")
    here.write("rest.toml", JOB)
    here.write("several.toml", SEVERAL)


@pytest.mark.parametrize("words", [[], ["--wait"], ["--rerun"], ["--replace", "--yes"]], ids=" ".join)
def test_apply_says_that_there_is_nothing_to_do(here: Workplace, words: list[str]) -> None:
    done = here.run("apply", "rest.toml", *words)
    assert (done.stdout, done.stderr) == (
        "",
        "rest on local (this machine): nothing to do: the list of items is empty\n",
    )
    assert here.data("get", "jobs") == []


def test_a_dry_run_and_diff_say_it_too(here: Workplace) -> None:
    for words in (["apply", "rest.toml", "--dry-run"], ["diff", "rest.toml"]):
        assert "nothing to do: the list of items is empty" in here.run(*words).stdout
    (part,) = here.data("apply", "rest.toml")["jobs"]
    assert (part["name"], part["run"], part["steps"]) == ("rest", None, [])


def test_a_job_that_waits_for_one_with_nothing_to_do_runs(here: Workplace) -> None:
    assert "nothing to do" in here.run("apply", "several.toml", "--dry-run").stdout
    err = here.run("apply", "several.toml", "--wait").stderr
    assert "merge on local (this machine): Completed, 1 replica" in err
    assert "rest on local (this machine): nothing to do" in err
