"""The man page is the one that the help pages and the manual produce."""

from __future__ import annotations

import re
from pathlib import Path

from skahactl.app import VERBS
from skahactl.commands.help import TOPICS
from skahactl.manpage import man_page
from skahactl.render import pages

COMMITTED = Path(__file__).parents[2] / "skahactl" / "manual" / "skahactl.1"


def test_the_committed_man_page_is_up_to_date() -> None:
    assert man_page() == COMMITTED.read_text(encoding="utf-8"), f"python -m skahactl.manpage > {COMMITTED}"


def test_every_topic_of_help_has_a_page() -> None:
    assert list(TOPICS) == pages.topics()


def test_it_names_every_command_and_topic_and_is_plain_ascii() -> None:
    text = man_page()
    names = set(re.findall(r"^\.B (\S+)$", text, re.MULTILINE))
    assert set(VERBS) <= names
    assert {topic.replace("-", "\\-") for topic in TOPICS} <= names
    assert text.isascii()
