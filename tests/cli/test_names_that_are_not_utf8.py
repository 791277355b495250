"""Names that are not UTF-8, and text that the locale cannot write."""

from __future__ import annotations

import os

import pytest

from tests.workplace import Workplace

pytestmark = pytest.mark.once

JOB = 'name = "%s"\nimage = "a/b:1"\ncommand = ["echo", "hi"]\n'
STARS = 'name = "stars"\nimage = "a/b:1"\ncommand = ["echo", "{item}"]\n[items]\nvalues = ["β Pic"]\nper-replica = 1\n'


def test_a_manifest_and_a_directory_can_have_any_name(here: Workplace) -> None:
    directory = os.fsencode(here.root) + b"/d\xff"
    os.mkdir(directory)
    with open(directory + b"/job.toml", "w") as stream:
        stream.write(JOB % "there")
    with open(os.fsencode(here.root) + b"/j\xff.toml", "w") as stream:
        stream.write(JOB % "here")
    here.run("apply", "job.toml", "--wait", cwd=directory)
    here.run("apply", os.fsdecode(b"j\xff.toml"), "--wait")
    here.run("create", "headless", "a/b:1", "-n", "made", "--wait", "--", "pwd", cwd=directory)
    assert here.run("logs", "made", "--prefix", "never", text=False).stdout == directory + b"\n"
    rows = here.data("get", "jobs")
    assert {row["name"]: row["manifest"] for row in rows} == {
        "there": "job.toml",
        "here": "j\udcff.toml",
        "made": None,
    }
    for words in (["get", "jobs"], ["describe", "here"], ["apply", os.fsdecode(b"j\xff.toml"), "--dry-run"]):
        here.run(*words)


def test_data_is_utf_8_in_any_locale_and_tables_have_replacement_characters(here: Workplace) -> None:
    here.write("stars.toml", STARS)
    here.extra |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    here.run("apply", "stars.toml", "--wait")
    assert "β Pic" in here.run("get", "items", "stars", "-o", "json").stdout
    assert "? Pic" in here.run("get", "items", "stars").stdout
    words = ["create", "headless", "a/b:1", "-n", "made", "--dry-run", "-o", "toml", "--", "echo", "β Pic"]
    here.write("made.toml", here.run(*words).stdout)
    here.run("validate", "made.toml")


def test_a_value_of_create_that_is_not_utf_8_is_an_error_of_its_option(here: Workplace) -> None:
    word = os.fsdecode(b"\xff")
    mistakes = {("-n", word): "-n: ", ("-n", "made", "-e", f"{word}=1"): "-e: "}
    for options, place in mistakes.items():
        done = here.run("create", "headless", "a/b:1", *options, "--", "true", expect=2)
        assert done.stderr.startswith(f"error: {place}"), done.stderr
