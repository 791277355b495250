"""Names of sessions: legal, recognisable, alike on every machine, and of one replica alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.model import Request, Resources, Secret, attempt_name, legal_name, session_name
from tests.manifests import job

#: What servers take as a name without harm (skaha-api 3.5).
LEGAL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
REQUEST = Request("headless", "a.b/c:1", ("x", "y"), (("A", "1"), ("REPLICA_ID", "1")), Resources(2, 4))


@given(st.text(), st.integers(1, 10**6), st.integers(1, 10**5))
def test_every_name_is_legal(text: str, number: int, attempt: int) -> None:
    name = attempt_name(session_name(text, "tiles", number, REQUEST), attempt)
    assert LEGAL.fullmatch(name), name
    assert len(name) <= 63


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("tiles-17", "tiles-17"),
        ("271.281", "s-271-281"),
        ("M 31_x", "m-31-x"),
        ("-a-", "a"),
        ("ÜBER", "ber"),
        ("...", "s"),
        ("", "s"),
        ("a--b", "a--b"),
        ("x" * 80, "x" * 50),
        ("x" * 49 + "-y", "x" * 49),
    ],
)
def test_a_text_made_legal(text: str, made: str) -> None:
    assert legal_name(text) == made


def test_a_name_is_the_same_everywhere() -> None:
    """Written down: another value would make every job of an older version look new."""
    assert session_name("tiles-17", "tiles", 17, REQUEST) == "tiles-17-bdc7u"
    secret = replace(REQUEST, env=(("T", Secret("file", "/home/me/token", "~/token")),))
    assert session_name("t", "tiles", 1, secret) == session_name(
        "t", "tiles", 1, replace(REQUEST, env=(("T", Secret("file", "/Users/me/token", "~/token")),))
    )


OTHERS = [
    replace(REQUEST, kind="notebook"),
    replace(REQUEST, image="a.b/c:2"),
    replace(REQUEST, command=("x", "z")),
    replace(REQUEST, command=("xy",)),
    replace(REQUEST, env=(("A", "2"), ("REPLICA_ID", "1"))),
    replace(REQUEST, env=(("A", Secret("env", "1")), ("REPLICA_ID", "1"))),
    replace(REQUEST, env=(("A", Secret("file", "1")), ("REPLICA_ID", "1"))),
    replace(REQUEST, resources=Resources(2, 4, 1)),
    replace(REQUEST, resources=Resources(2)),
]


def test_a_name_says_what_it_runs() -> None:
    names = {session_name("t", "tiles", 1, request) for request in [REQUEST, *OTHERS]}
    names |= {session_name("t", "other", 1, REQUEST), session_name("t", "tiles", 2, REQUEST)}
    assert len(names) == len(OTHERS) + 3


def test_what_a_name_does_not_depend_on() -> None:
    turned = replace(REQUEST, env=REQUEST.env[::-1], resources=Resources(2.0, 4.0))
    assert session_name("t", "tiles", 1, turned) == session_name("t", "tiles", 1, REQUEST)


def test_names_of_attempts() -> None:
    assert [attempt_name("tiles-1-abcde", attempt) for attempt in (1, 2, 3)] == [
        "tiles-1-abcde",
        "tiles-1-abcde-2",
        "tiles-1-abcde-3",
    ]


def test_names_of_a_job(tmp_path: Path) -> None:
    assert job(tmp_path, "").replicas[0].name.startswith("tiles-")
    assert job(tmp_path, "").replicas[0].name.count("-") == 1
    assert [one.name.rpartition("-")[0] for one in job(tmp_path, "replicas = 2").replicas] == ["tiles-1", "tiles-2"]
    items = "command = ['{item}']\nsession-name = '{item}'\n[items]\nvalues = ['271.281', 'B x']\nper-replica = 1"
    assert [one.name.rpartition("-")[0] for one in job(tmp_path, items).replicas] == ["s-271-281", "b-x"]
