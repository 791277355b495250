"""A job with an empty list of items is done: apply says so, creates no run, and exits with 0."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.home import Home

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


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "missing.txt").touch()
    (tmp_path / "rest.toml").write_text(JOB)
    (tmp_path / "several.toml").write_text(SEVERAL)
    return Home(tmp_path)


def run(home: Home, *words: str, expect: int = 0) -> tuple[str, str]:
    out, err = home.ended(home.start(*words), expect)
    return out.decode(), err


@pytest.mark.parametrize("words", [[], ["--wait"], ["--rerun"], ["--replace", "--yes"]], ids=" ".join)
def test_apply_says_that_there_is_nothing_to_do(home: Home, words: list[str]) -> None:
    out, err = run(home, "apply", "rest.toml", *words)
    assert (out, err) == ("", "rest on local (this machine): nothing to do: the list of items is empty\n")
    assert json.loads(run(home, "get", "jobs", "-o", "json")[0]) == []


def test_a_dry_run_and_diff_say_it_too(home: Home) -> None:
    for words in (["apply", "rest.toml", "--dry-run"], ["diff", "rest.toml"]):
        assert "nothing to do: the list of items is empty" in run(home, *words)[0]
    (part,) = json.loads(run(home, "apply", "rest.toml", "-o", "json")[0])["jobs"]
    assert (part["name"], part["run"], part["steps"]) == ("rest", None, [])


def test_a_job_that_waits_for_one_with_nothing_to_do_runs(home: Home) -> None:
    assert "nothing to do" in run(home, "apply", "several.toml", "--dry-run")[0]
    _, err = run(home, "apply", "several.toml", "--wait")
    assert "merge on local (this machine): Completed, 1 replica" in err
    assert "rest on local (this machine): nothing to do" in err
