"""Targets: jobs, replicas and sessions as words, against a real ledger."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from skahactl.errors import UsageError
from skahactl.ledger.database import Ledger, open_ledger
from skahactl.ledger.records import Run
from skahactl.logs.select import Choice, logs_of
from skahactl.profile import LOCAL_SERVER, Profile
from skahactl.targets import Target, by_run, elsewhere_hint, find, job_names, record_hint, recorded_runs
from skahactl.text import parse_duration, parse_ranges
from tests import ledgers

LOCAL = Profile("local", LOCAL_SERVER)
CANFAR = Profile("canfar", "https://ws-uv.canfar.net/skaha/v1")


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[tuple[Ledger, Run]]:
    ledger, run = ledgers.survey(tmp_path)
    with ledger:
        yield ledger, run


def only(found: tuple[Target, ...]) -> Target:
    (target,) = found
    return target


def test_a_job_means_its_last_run_and_all_replicas(survey: tuple[Ledger, Run]) -> None:
    ledger, run = survey
    second = ledgers.add(ledger, ledgers.job("tiles", 3))
    assert only(find(ledger, LOCAL, ["tiles"])) == Target(second, None, None, "tiles")
    first = only(find(ledger, LOCAL, ["tiles"], run=1))
    assert first.run is not None
    assert (first.run.id, first.run.total) == (run.id, 6)


@pytest.mark.parametrize(
    "words",
    [["tiles"], ["jobs/tiles"], ["job/tiles"], ["replicas/tiles"], ["jobs", "tiles"], ["replica", "tiles"]],
)
def test_nouns_before_a_target_change_nothing(survey: tuple[Ledger, Run], words: list[str]) -> None:
    target = only(find(survey[0], LOCAL, words))
    assert target.is_job
    assert (target.run, target.numbers) == (survey[1], None)


@pytest.mark.parametrize("words", [["tiles/1-2,5"], ["replicas/tiles/5,1-2"], ["replicas", "tiles/1-2,5"]])
def test_replicas_after_a_slash(survey: tuple[Ledger, Run], words: list[str]) -> None:
    assert only(find(survey[0], LOCAL, words)).numbers == frozenset({1, 2, 5})


def test_replicas_by_option(survey: tuple[Ledger, Run]) -> None:
    assert only(find(survey[0], LOCAL, ["tiles"], replicas="2-3")).numbers == frozenset({2, 3})


def test_a_job_that_is_called_like_a_noun_wins(survey: tuple[Ledger, Run]) -> None:
    ledger, _ = survey
    items = ledgers.add(ledger, ledgers.job("items", 4))
    assert only(find(ledger, LOCAL, ["items/2"])) == Target(items, frozenset({2}), None, "items/2")
    assert [target.run for target in find(ledger, LOCAL, ["items", "tiles"])] == [items, survey[1]]


def test_a_session_by_id_and_by_whole_name(survey: tuple[Ledger, Run]) -> None:
    ledger, run = survey
    identifier = ledgers.session_of(run, 4)
    for words in ([identifier], ["tiles-4-abcde"], [f"sessions/{identifier}"], ["session", identifier]):
        target = only(find(ledger, LOCAL, words))
        assert (target.run, target.numbers, target.session) == (run, {4}, identifier)
        assert not target.is_job


@pytest.mark.parametrize(
    ("words", "numbers", "word"),
    [
        (["tiles/5", "tiles/1-2", "tiles/2"], {1, 2, 5}, "tiles/1-2,5"),
        (["tiles/5", "job/tiles", "tiles/1"], None, "tiles"),
        (["tiles", "tiles"], None, "tiles"),
    ],
)
def test_words_that_name_one_run_are_one_target(
    survey: tuple[Ledger, Run], words: list[str], numbers: set[int] | None, word: str
) -> None:
    target = only(find(survey[0], LOCAL, words))
    assert (target.run, target.numbers, target.session, target.word) == (survey[1], numbers, None, word)


def test_targets_stand_where_the_first_of_their_words_did(survey: tuple[Ledger, Run]) -> None:
    ledger, tiles = survey
    other = ledgers.add(ledger, ledgers.job("merge", 2))
    found = find(ledger, LOCAL, ["tiles/2", "merge", "a1b2c3d4", "tiles/1", "a1b2c3d4"])
    assert [(one.run, one.numbers, one.session) for one in found] == [
        (tiles, {1, 2}, None),
        (other, None, None),
        (None, None, "a1b2c3d4"),
    ]


def test_a_session_stays_one_unless_runs_are_asked_for(survey: tuple[Ledger, Run]) -> None:
    ledger, run = survey
    found = find(ledger, LOCAL, ["tiles-4-abcde", "tiles/1", ledgers.session_of(run, 2), "a1b2c3d4"])
    assert [(one.numbers, one.session is None) for one in found] == [
        ({4}, False),
        ({1}, True),
        ({2}, False),
        (None, False),
    ]
    runs = by_run(found)
    assert [(one.run, one.numbers, one.session) for one in runs] == [(run, {1, 2, 4}, None), (None, None, "a1b2c3d4")]


def test_a_session_is_found_without_reading_its_whole_run(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        done: list[int] = []
        for many in (10, 1000):
            run = ledgers.add(ledger, ledgers.job(f"of{many}", many))
            ledgers.start(ledger, run, range(1, many + 1))
            steps = itertools.count()
            ledger.connection.set_progress_handler(lambda steps=steps: next(steps) < 0, 1)  # SQLite's own steps
            (target,) = find(ledger, LOCAL, [ledgers.session_of(run, 3)])
            assert logs_of(ledger, target, 0, Choice())
            ledger.connection.set_progress_handler(None, 0)
            done.append(next(steps))
    assert done[1] < 2 * done[0]


def test_a_session_that_the_ledger_does_not_know(survey: tuple[Ledger, Run]) -> None:
    ledger, _ = survey
    assert only(find(ledger, LOCAL, ["a1b2c3d4"])) == Target(None, None, "a1b2c3d4", "a1b2c3d4")
    assert only(find(ledger, LOCAL, ["my-notebook"], sessions=True)).session == "my-notebook"
    with pytest.raises(UsageError, match="no job or session 'my-notebook' in the local record for local"):
        find(ledger, LOCAL, ["my-notebook"])


def test_an_unknown_job_gets_a_suggestion(survey: tuple[Ledger, Run]) -> None:
    with pytest.raises(UsageError) as caught:
        find(survey[0], LOCAL, ["tilse"])
    assert caught.value.hint == "did you mean 'tiles'?"
    with pytest.raises(UsageError) as caught:
        find(survey[0], LOCAL, ["photometry"])
    assert caught.value.hint == "jobs there: tiles"


def test_a_job_of_another_server_is_not_meant_but_reported(survey: tuple[Ledger, Run]) -> None:
    with pytest.raises(UsageError) as caught:
        find(survey[0], CANFAR, ["tiles"])
    assert "canfar (ws-uv.canfar.net)" in caught.value.message
    assert caught.value.hint == "it has a record with another profile; use -p local instead"
    with pytest.raises(UsageError):
        find(survey[0], CANFAR, ["tiles-4-abcde"])


def test_a_job_of_a_server_that_only_the_environment_named_leads_to_the_variable(
    tmp_path: Path, survey: tuple[Ledger, Run]
) -> None:
    ledger, _ = survey
    ledgers.add(ledger, ledgers.job("far", 1), server="https://a.org/skaha/v1", profile="environment")
    with pytest.raises(UsageError) as caught:
        find(ledger, LOCAL, ["far"])
    way = "it has a record on another server; to use that: export SKAHACTL_SERVER=https://a.org/skaha/v1"
    assert caught.value.hint == way
    call = "SKAHACTL_SERVER=https://a.org/skaha/v1 skahactl logs far"
    (run,) = recorded_runs(["logs", "far"], {"SKAHACTL_STATE_DIR": str(tmp_path)})
    assert record_hint(["logs", "far"], run) == f"far has a record on another server: {call}"


def test_a_profile_is_suggested_only_if_it_names_the_server_of_the_job(
    survey: tuple[Ledger, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, _ = survey
    ledgers.add(ledger, ledgers.job("moved", 1), server="https://a.org/skaha/v1", profile="local")
    ledgers.add(ledger, ledgers.job("here", 1), profile="canfar")
    assert elsewhere_hint(ledger, LOCAL, "moved") == (
        "it has a record on another server; to use that: export SKAHACTL_SERVER=https://a.org/skaha/v1"
    )
    assert elsewhere_hint(ledger, LOCAL, "here") is None
    assert elsewhere_hint(ledger, CANFAR, "here") == "it has a record with another profile; use -p local instead"
    monkeypatch.setenv("SKAHACTL_SERVER", CANFAR.server)
    hint = "it has a record with another profile; unset SKAHACTL_SERVER, and use -p local instead"
    assert elsewhere_hint(ledger, CANFAR, "here") == hint


def test_the_newest_user_of_a_server_is_meant(survey: tuple[Ledger, Run]) -> None:
    ledger, _ = survey
    other = ledgers.add(ledger, ledgers.job("tiles", 2), user="bob")
    assert only(find(ledger, LOCAL, ["tiles"])).run == other
    assert job_names(ledger, LOCAL) == ("tiles",)


def test_before_the_server_reported_who_we_are(tmp_path: Path) -> None:
    with ledgers.survey(tmp_path)[0] as ledger:
        early = ledgers.add(ledger, ledgers.job("early", 2), user="")
        assert only(find(ledger, LOCAL, ["early"])).run == early
        assert only(find(ledger, LOCAL, ["tiles"])).run is not None


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["tiles/7"], {}, "tiles: replica 7 does not exist: the job has replicas 1 to 6"),
        (["tiles/x"], {}, "tiles: 'x' is not a replica range"),
        (["tiles/"], {}, "tiles: '' is not a replica range"),
        (["tiles/1"], {"replicas": "2"}, "name replicas"),
        (["tiles"], {"run": 9}, "tiles has no run 9"),
        (["tiles-4-abcde"], {"replicas": "1"}, "-r applies only to jobs"),
        (["a1b2c3d4"], {"run": 1}, "--run applies only to jobs"),
    ],
)
def test_what_cannot_be_meant(
    survey: tuple[Ledger, Run], words: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        find(survey[0], LOCAL, words, **options)  # type: ignore[arg-type]


def test_an_unconfirmed_attempt_has_no_id_yet(survey: tuple[Ledger, Run]) -> None:
    ledger, run = survey
    ledgers.doubt(ledger, run, 6)
    target = only(find(ledger, LOCAL, ["tiles-6-abcde"]))
    assert (target.run, target.numbers, target.session) == (run, {6}, "tiles-6-abcde")


def test_blanks_in_ranges_and_durations_are_no_mistakes() -> None:
    assert parse_ranges(" 1 - 3, 7 ", 9) == (1, 2, 3, 7)
    assert [parse_duration(text) for text in ("5 s", " 1h 30 m ", "2 h")] == [5.0, 5400.0, 7200.0]
    assert parse_ranges("1..3,5:6,8-", 9) == (1, 2, 3, 5, 6, 8, 9)
    assert parse_ranges("*", 3) == (1, 2, 3)
    for text in ("", " ", "1 2", "1 - - 3", "0", "5-3"):
        with pytest.raises(ValueError, match="not a replica range"):
            parse_ranges(text, 9)
    for text in ("", "yesterday", "5 x", "-5"):
        with pytest.raises(ValueError, match="invalid duration"):
            parse_duration(text)
