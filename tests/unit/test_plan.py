"""What is done next: limits, backoff, doubts, after; and that a plan is only a value."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from skahactl.engine.observe import RunSnapshot
from skahactl.engine.plan import Gate, backoff, gate_of, plan_run
from skahactl.ledger.records import ReplicaState
from skahactl.model import ALIVE, STATES, Limits, State
from tests.observed import RUN, attempt

NOW = 10_000.0


def replica(number: int, state: str, **changes: object) -> ReplicaState:
    tried = 0 if state == State.QUEUED else 1
    return replace(ReplicaState(number, f"r-{number}", state, None, tried, 1, None, 0), **changes)  # type: ignore[arg-type]


def watch(*replicas: ReplicaState, limits: Limits | None = None, **run: object) -> RunSnapshot:
    rows = tuple(
        attempt(replica=row.number, number=row.attempt, name=row.name, state=row.state)
        for row in replicas
        if row.attempt
    )
    return RunSnapshot(replace(RUN, limits=limits or Limits(), total=len(replicas), **run), replicas, rows)  # type: ignore[arg-type]


def actions(found: RunSnapshot, **others: object) -> list[str]:
    return [step.action for step in plan_run(found, NOW, **others)]  # type: ignore[arg-type]


def test_held_ones_are_created_within_both_limits() -> None:
    held = [replica(n, State.QUEUED) for n in range(1, 6)]
    assert actions(watch(*held)) == ["create"] * 5
    assert actions(watch(*held, limits=Limits(alive=2))) == ["create", "create", "hold", "hold", "hold"]
    running = replica(9, State.RUNNING)
    assert actions(watch(*held, running, limits=Limits(alive=4, pending=2)))[:4] == ["create", "create", "hold", "hold"]
    unconfirmed = replica(9, State.UNCONFIRMED)
    assert actions(watch(*held, unconfirmed, limits=Limits(pending=1)))[0] == "hold"


def test_with_a_limit_of_failures_few_are_tried_first() -> None:
    limits = Limits(failures=2)
    queued = [replica(n, State.QUEUED) for n in range(2, 6)]
    tried = replica(1, State.RUNNING)
    assert actions(watch(tried, *queued, limits=limits))[1:] == ["create", "hold", "hold", "hold"]
    failed = replica(1, State.FAILED)
    assert actions(watch(failed, *queued, limits=limits))[1:] == ["create", "hold", "hold", "hold"]
    assert actions(watch(replica(1, State.COMPLETED), *queued, limits=limits))[1:] == ["create"] * 4
    found = watch(tried, *queued, limits=limits)
    for seconds, created in ((59.0, 1), (60.0, 4)):
        begun = (replace(found.attempts[0], started=NOW - seconds),)
        assert actions(replace(found, attempts=begun)).count("create") == created


def test_creates_on_their_way_count_and_are_not_planned_again() -> None:
    found = watch(replica(1, State.QUEUED), replica(2, State.QUEUED), limits=Limits(alive=1))
    (step,) = plan_run(found, NOW, queued=frozenset({1}))
    assert (step.replica, step.action) == (2, "hold")


def test_a_failed_one_is_tried_again_after_its_backoff() -> None:
    failed = replica(1, State.FAILED, allowed=2)
    assert actions(watch(failed)) == ["retry"]
    assert actions(watch(replace(failed, not_before=NOW + 5))) == ["hold"]
    assert actions(watch(replace(failed, allowed=1))) == ["keep"]


def test_nothing_is_created_for_what_is_to_be_deleted() -> None:
    found = [replica(1, State.QUEUED), replica(2, State.RUNNING), replica(3, State.UNCONFIRMED)]
    assert actions(watch(*found, deleting=True)) == ["keep", "delete", "delete"]


def test_an_unconfirmed_create_is_sent_again_only_when_settled() -> None:
    doubtful = replica(1, State.UNCONFIRMED)
    rows = (attempt(replica=1, name="r-1", created=NOW - 100, sends=1, ambiguous_sends=1),)
    found = RunSnapshot(RUN, (doubtful,), rows)
    settled = frozenset({1})
    assert actions(found) == ["keep"]
    assert actions(found, settled=settled) == ["resend"]
    many = replace(rows[0], ambiguous_sends=5)
    assert actions(RunSnapshot(RUN, (doubtful,), (many,)), settled=settled) == ["give-up"]
    excused = replace(many, excused=1)
    assert actions(RunSnapshot(RUN, (doubtful,), (excused,)), settled=settled) == ["resend"]
    old = replace(rows[0], created=NOW - 50 * 60 - 1)
    assert actions(RunSnapshot(RUN, (doubtful,), (old,)), settled=settled) == ["expire"]
    assert actions(RunSnapshot(RUN, (replace(doubtful, not_before=NOW + 1),), rows), settled=settled) == ["keep"]


def test_after_opens_only_for_completed_jobs() -> None:
    assert gate_of((), {}) == Gate()
    assert gate_of(("a", "b"), {"a": "Completed", "b": "Completed"}) == Gate()
    assert not gate_of(("a", "b"), {"a": "Completed", "b": "Running"}).open
    assert not gate_of(("a",), {}).never
    for status in ("Failed", "Unknown", "Deleted"):
        assert gate_of(("b", "a"), {"a": status, "b": "Running"}).never
    held = watch(replica(1, State.QUEUED))
    assert actions(held, gate=Gate(open=False, reason="after a")) == ["hold"]
    assert actions(held, gate=Gate(open=False, never=True)) == ["skip"]


def test_backoff_doubles_up_to_five_minutes() -> None:
    assert [backoff(10, n) for n in (1, 2, 3)] == [10, 20, 40]
    assert backoff(10, 1000) == 300


@given(
    states_=st.lists(st.sampled_from(STATES), max_size=40),
    alive=st.one_of(st.none(), st.integers(1, 20)),
    pending=st.one_of(st.none(), st.integers(1, 20)),
    queued=st.sets(st.integers(1, 40)),
)
def test_a_plan_never_passes_a_limit_and_never_forgets_a_replica(
    states_: list[str], alive: int | None, pending: int | None, queued: set[int]
) -> None:
    rows = [replica(n, state, allowed=2) for n, state in enumerate(states_, 1)]
    sent = frozenset(n for n in queued if n <= len(rows) and rows[n - 1].state in (State.QUEUED, State.FAILED))
    plan = plan_run(watch(*rows, limits=Limits(alive, pending)), NOW, queued=sent)
    assert {step.replica for step in plan} | sent == set(range(1, len(rows) + 1))
    fresh = sum(step.action in ("create", "retry") for step in plan)
    living = sum(row.state in ALIVE for row in rows) + len(sent)
    waiting = living - sum(row.state == State.RUNNING for row in rows)
    assert fresh == 0 or alive is None or living + fresh <= alive
    assert fresh == 0 or pending is None or waiting + fresh <= pending
