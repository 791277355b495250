"""What a list says about a run: every rule of "one session per replica" that needs no network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skahactl.engine.observe import (
    Adopt,
    Duplicate,
    Evidence,
    Gone,
    Missing,
    Rivals,
    RunSnapshot,
    Seen,
    Unrecognised,
    observe,
    rivals,
)
from skahactl.ledger.records import AttemptRow, Ending, ReplicaState
from skahactl.model import State
from skahactl.skaha.models import Listing, ServerSession
from tests.observed import RUN, attempt, session

NONE: frozenset[int] = frozenset()


def listing(*sessions: ServerSession, requested: float = 100.0) -> Evidence:
    return Evidence(Listing(sessions, requested, requested + 1, "u"))


def watch(*attempts: AttemptRow, deleting: bool = False, current: int = 1) -> RunSnapshot:
    state = attempts[-1].state if attempts else State.QUEUED
    replica = ReplicaState(1, "fits-1-abcde", state, None, current if attempts else 0, 1, None, int(deleting))
    return RunSnapshot(RUN, (replica,), attempts)


def test_a_listed_session_is_seen_with_its_state() -> None:
    known = attempt(state=State.PENDING, session="a", recorded=20.0)
    (change,) = observe(watch(known), listing(session("a")), {"a"}, NONE)
    assert isinstance(change, Seen)
    assert change.state == State.RUNNING


def test_terminating_is_not_an_end_and_an_end_stays() -> None:
    running = attempt(state=State.RUNNING, session="a", recorded=20.0)
    (change,) = observe(watch(running), listing(session("a", status="Terminating")), {"a"}, NONE)
    assert isinstance(change, Seen)
    assert change.state == State.RUNNING
    done = attempt(state=State.COMPLETED, session="a", recorded=20.0)
    (change,) = observe(watch(done), listing(session("a", status="Pending")), {"a"}, NONE)
    assert isinstance(change, Seen)
    assert change.state == State.COMPLETED


def test_an_id_is_judged_absent_only_by_a_later_list() -> None:
    known = attempt(state=State.RUNNING, session="a", recorded=100.5)
    assert observe(watch(known), listing(requested=100.0), {"a"}, NONE) == ()
    assert observe(watch(known), listing(requested=101.0), {"a"}, NONE) == (Missing(known),)


def attempts_of(count: int, **changes: object) -> list[AttemptRow]:
    """``count`` running attempts of as many replicas; the first one with these changes."""
    rows = [
        attempt(replica=n, name=f"fits-{n}-abcde", state=State.RUNNING, session=f"s{n}", recorded=20.0)
        for n in range(1, count + 1)
    ]
    return [replace(rows[0], **changes), *rows[1:]]  # type: ignore[arg-type]


def snapshot(rows: list[AttemptRow]) -> RunSnapshot:
    replicas = tuple(ReplicaState(row.replica, row.name, row.state, None, 1, 1, None, 0) for row in rows)
    return RunSnapshot(RUN, replicas, tuple(rows))


def listed(rows: list[AttemptRow]) -> list[ServerSession]:
    return [session(row.session or "", row.name) for row in rows]


def gone(changes: tuple[object, ...]) -> list[Gone]:
    return [change for change in changes if isinstance(change, Gone)]


def test_one_of_many_is_gone_by_two_lists_ten_seconds_apart() -> None:
    rows = attempts_of(5, missing_since=95.0)
    known = {f"s{n}" for n in range(1, 6)}
    assert not gone(observe(snapshot(rows), listing(*listed(rows[1:]), requested=104.9), known, NONE))
    (change,) = gone(observe(snapshot(rows), listing(*listed(rows[1:]), requested=105.0), known, NONE))
    assert (change.attempt.session, change.state) == ("s1", State.UNKNOWN)


def test_a_first_list_from_the_future_counts_for_nothing() -> None:
    rows = attempts_of(5, missing_since=7300.0)
    assert not gone(observe(snapshot(rows), listing(*listed(rows[1:]), requested=200.0), set(), NONE))


@pytest.mark.parametrize(("count", "missing"), [(1, 1), (4, 1), (10, 3), (100, 6)])
def test_of_many_that_vanish_at_once_each_is_asked_for(count: int, missing: int) -> None:
    rows = [replace(row, missing_since=1.0) for row in attempts_of(count)]
    lacking = listing(*listed(rows[missing:]), requested=1000.0)
    assert not gone(observe(snapshot(rows), lacking, set(), NONE))
    answers = {row.session or "": None for row in rows[:missing]}
    evidence = Evidence(lacking.listing, answers)
    assert len(gone(observe(snapshot(rows), evidence, set(), NONE))) == missing


def test_a_404_is_proof_unless_the_list_shows_the_session() -> None:
    known = attempt(state=State.RUNNING, session="a", recorded=20.0)
    (change,) = observe(watch(known), Evidence(listing().listing, {"a": None}), {"a"}, NONE)
    assert isinstance(change, Gone)
    shown = Evidence(listing(session("a")).listing, {"a": None})
    (change,) = observe(watch(known), shown, {"a"}, NONE)
    assert isinstance(change, Seen)


def test_a_session_that_answers_to_its_id_is_seen_although_the_list_lacks_it() -> None:
    known = attempt(state=State.RUNNING, session="a", recorded=20.0)
    evidence = Evidence(listing().listing, {"a": session("a", status="Completed")})
    (change,) = observe(watch(known), evidence, {"a"}, NONE)
    assert isinstance(change, Seen)
    assert change.state == State.COMPLETED


@pytest.mark.parametrize("status", ["Pending", "Running", "Completed"])
@pytest.mark.parametrize("result", [State.COMPLETED, State.FAILED, State.DELETED, State.REJECTED, State.SKIPPED])
def test_a_recorded_result_stays_whatever_a_list_shows(result: State, status: str) -> None:
    row = attempt(state=result, session="a", recorded=20.0)
    (change,) = observe(watch(row), listing(session("a", status=status)), {"a"}, NONE)
    assert isinstance(change, Seen)
    assert change.state == result


def test_of_two_attempts_alive_the_one_that_got_further_is_kept() -> None:
    first = attempt(state=State.RUNNING, session="a", recorded=20.0)
    second = attempt(number=2, name="fits-1-abcde-2", state=State.PENDING, session="b", recorded=30.0)
    assert list(rivals(watch(first, second, current=2), NONE)) == [Rivals(first, (second,))]
    running = replace(second, state=State.RUNNING, started=40.0)
    earlier = replace(first, state=State.PENDING)
    assert list(rivals(watch(earlier, running, current=2), NONE)) == [Rivals(running, (earlier,))]
    done = replace(second, state=State.COMPLETED)
    assert list(rivals(watch(first, done, current=2), NONE)) == [Rivals(done, (first,))]
    failed = replace(second, state=State.FAILED)
    assert list(rivals(watch(first, failed, current=2), NONE)) == [Rivals(first, ())]


def test_rivals_are_not_judged_during_a_create_or_a_delete() -> None:
    first = attempt(state=State.RUNNING, session="a", recorded=20.0)
    second = attempt(number=2, name="fits-1-abcde-2", state=State.PENDING, session="b", recorded=30.0)
    assert list(rivals(watch(first, second, current=2), frozenset({1}))) == []
    assert list(rivals(watch(first, second, current=2, deleting=True), NONE)) == []


def test_expired_is_taken_back_if_the_session_is_seen_again() -> None:
    gone = attempt(state=State.UNKNOWN, session="a", recorded=20.0)
    (change,) = observe(watch(gone), listing(session("a", status="Completed")), {"a"}, NONE)
    assert isinstance(change, Seen)
    assert change.state == State.COMPLETED


def test_an_absent_session_that_was_deleted_is_deleted() -> None:
    known = attempt(state=State.RUNNING, session="a", recorded=20.0)
    assert observe(watch(known, deleting=True), listing(), {"a"}, NONE) == (Missing(known),), "one list is no proof"
    (change,) = observe(watch(known, deleting=True), Evidence(listing().listing, {"a": None}), {"a"}, NONE)
    assert isinstance(change, Gone)
    assert change.state == State.DELETED


def test_an_absent_session_that_waited_too_long_failed() -> None:
    known = attempt(state=State.PENDING, ending=Ending.PENDING_TIMEOUT, reason="2 h", session="a", recorded=20.0)
    (change,) = observe(watch(known), Evidence(listing().listing, {"a": None}), {"a"}, NONE)
    assert isinstance(change, Gone)
    assert change.state == State.FAILED


def test_an_unconfirmed_create_adopts_by_its_whole_name_only() -> None:
    doubtful = attempt(ambiguous_sends=1, last_ambiguous_at=90.0)
    others = (session("x", "fits-1"), session("y", "fits-1-abcde-2"), session("z", "fits-11-abcde"))
    later = Unrecognised(1, others[1])  # the name of a second attempt, which this ledger never made
    assert observe(watch(doubtful), listing(*others), set(), NONE) == (later,)
    mine = session("m", status="Pending", started=None)
    changes = observe(watch(doubtful), listing(*others, mine), set(), NONE)
    assert set(changes) == {later, Adopt(doubtful, mine, State.PENDING)}


def test_nothing_unknown_is_judged_while_a_create_is_in_flight() -> None:
    doubtful = attempt(ambiguous_sends=1, last_ambiguous_at=90.0)
    assert observe(watch(doubtful), listing(session("m")), set(), frozenset({1})) == ()


def test_no_doubt_no_adoption() -> None:
    certain = attempt(state=State.QUEUED)
    (change,) = observe(watch(certain), listing(session("m")), set(), NONE)
    assert isinstance(change, Unrecognised)


def test_a_late_copy_beside_a_known_session_is_a_duplicate() -> None:
    known = attempt(state=State.RUNNING, session="a", recorded=20.0, sends=2, ambiguous_sends=1, last_ambiguous_at=30.0)
    seen, twin = observe(watch(known), listing(session("a"), session("b")), {"a"}, NONE)
    assert isinstance(seen, Seen)
    assert twin == Duplicate(known, session("b"))


def test_a_doubt_is_answered_once() -> None:
    adopted = attempt(state=State.RUNNING, session="a", recorded=20.0, ambiguous_sends=1, resolved_ambiguous=1)
    _, change = observe(watch(adopted), listing(session("a"), session("b")), {"a"}, NONE)
    assert isinstance(change, Unrecognised)


def test_a_copy_of_an_earlier_attempt_is_a_duplicate() -> None:
    first = attempt(state=State.UNKNOWN, ambiguous_sends=1, last_ambiguous_at=30.0)
    second = attempt(number=2, name="fits-1-abcde-2", state=State.RUNNING, session="b", recorded=20.0)
    changes = observe(watch(first, second, current=2), listing(session("a"), session("b", second.name)), {"b"}, NONE)
    assert Duplicate(first, session("a")) in changes


def test_of_two_copies_the_one_that_got_furthest_is_kept() -> None:
    doubtful = attempt(ambiguous_sends=2, last_ambiguous_at=90.0)
    late, done = session("b", status="Pending", started=None), session("a", status="Completed")
    assert observe(watch(doubtful), listing(late, done), set(), NONE) == (
        Adopt(doubtful, done, State.COMPLETED),
        Duplicate(doubtful, late),
    )


@given(
    doubts=st.integers(0, 5),
    answered=st.integers(0, 5),
    has_session=st.booleans(),
    copies=st.integers(0, 8),
    strangers=st.integers(0, 4),
)
def test_never_more_are_taken_than_were_unconfirmed(
    doubts: int, answered: int, has_session: bool, copies: int, strangers: int
) -> None:
    answered = min(answered, doubts)
    row = attempt(ambiguous_sends=doubts, resolved_ambiguous=answered, last_ambiguous_at=90.0)
    if has_session:
        row = replace(row, session="known", state=State.RUNNING, recorded=20.0)
    listed = [session(f"c{n}") for n in range(copies)] + [session(f"o{n}", f"other-{n}") for n in range(strangers)]
    if has_session:
        listed.append(session("known"))
    changes = observe(watch(row), listing(*listed), {"known"}, NONE)
    taken = [change for change in changes if isinstance(change, Adopt | Duplicate)]
    assert len(taken) == min(copies, doubts - answered)
    assert sum(isinstance(change, Adopt) for change in changes) == (not has_session and len(taken) > 0)
    assert all(change.session.name == row.name for change in taken)
