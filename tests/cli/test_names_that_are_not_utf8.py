"""Names that are not UTF-8, and text that the locale cannot write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.home import Home

pytestmark = pytest.mark.once

JOB = 'name = "%s"\nimage = "a/b:1"\ncommand = ["echo", "hi"]\n'
STARS = 'name = "stars"\nimage = "a/b:1"\ncommand = ["echo", "{item}"]\n[items]\nvalues = ["β Pic"]\nper-replica = 1\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_manifest_and_a_directory_can_have_any_name(home: Home) -> None:
    directory = os.fsencode(home.root) + b"/d\xff"
    os.mkdir(directory)
    with open(directory + b"/job.toml", "w") as stream:
        stream.write(JOB % "there")
    with open(os.fsencode(home.root) + b"/j\xff.toml", "w") as stream:
        stream.write(JOB % "here")
    home.ended(home.start("apply", "job.toml", "--wait", cwd=directory), 0)
    home.ended(home.start("apply", os.fsdecode(b"j\xff.toml"), "--wait"), 0)
    home.ended(home.start("create", "headless", "a/b:1", "-n", "made", "--wait", "--", "pwd", cwd=directory), 0)
    assert home.ended(home.start("logs", "made", "--prefix", "never"), 0)[0] == directory + b"\n"
    rows = json.loads(home.ended(home.start("get", "jobs", "-o", "json"), 0)[0])
    assert {row["name"]: row["manifest"] for row in rows} == {
        "there": "job.toml",
        "here": "j\udcff.toml",
        "made": None,
    }
    for words in (["get", "jobs"], ["describe", "here"], ["apply", os.fsdecode(b"j\xff.toml"), "--dry-run"]):
        home.ended(home.start(*words), 0)


def test_data_is_utf_8_in_any_locale_and_tables_have_replacement_characters(home: Home) -> None:
    (home.root / "stars.toml").write_text(STARS, encoding="utf-8")
    home.environ |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    home.ended(home.start("apply", "stars.toml", "--wait"), 0)
    assert "β Pic".encode() in home.ended(home.start("get", "items", "stars", "-o", "json"), 0)[0]
    assert b"? Pic" in home.ended(home.start("get", "items", "stars"), 0)[0]
    words = ["create", "headless", "a/b:1", "-n", "made", "--dry-run", "-o", "toml", "--", "echo", "β Pic"]
    text = home.ended(home.start(*words), 0)[0]
    (home.root / "made.toml").write_bytes(text)
    home.ended(home.start("validate", "made.toml"), 0)
