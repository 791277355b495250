"""Committed files that are generated: the man page and the schema of manifests."""

from __future__ import annotations

import json
import re
from pathlib import Path

from skahactl.app import VERBS
from skahactl.commands.help import TOPICS
from skahactl.commands.manifest import json_schema
from skahactl.manpage import man_page
from skahactl.render import pages

MAN_PAGE = Path(__file__).parents[2] / "skahactl" / "manual" / "skahactl.1"


def test_the_committed_man_page_is_up_to_date() -> None:
    assert man_page() == MAN_PAGE.read_text(encoding="utf-8"), f"python -m skahactl.manpage > {MAN_PAGE}"


def test_every_topic_of_help_has_a_page() -> None:
    assert list(TOPICS) == pages.topics()


def test_the_man_page_names_every_command_and_topic_and_is_plain_ascii() -> None:
    text = man_page()
    names = set(re.findall(r"^\.B (\S+)$", text, re.MULTILINE))
    assert set(VERBS) <= names
    assert {topic.replace("-", "\\-") for topic in TOPICS} <= names
    assert text.isascii()


CONFIGS = Path(__file__).parents[2] / "configs"
SCHEMA = CONFIGS / "skahactl.schema.json"


def test_the_committed_schema_is_up_to_date() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json_schema(), f"skahactl schema > {SCHEMA}"
    assert json_schema()["$id"] == "urn:skahactl:manifest"


def test_every_example_names_the_schema_in_its_first_line() -> None:
    manifests = [path for path in CONFIGS.glob("*/*.toml") if path.parent.name != "profiles"]
    assert len(manifests) >= 7
    first = {path: path.read_text(encoding="utf-8").splitlines()[0] for path in manifests}
    assert [path for path, line in first.items() if line != "#:schema ../skahactl.schema.json"] == []
