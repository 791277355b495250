"""Writes what a look at the platform showed: the changes of engine.observe, in one transaction."""

from __future__ import annotations

from skahactl import states
from skahactl.ledger.attempts import set_attempt
from skahactl.ledger.records import AttemptRow
from skahactl.ledger.replicas import set_not_before
from skahactl.ledger.store import Ledger
from skahactl.skaha.models import Session


def twins_of(ledger: Ledger, run_id: int) -> frozenset[str]:
    """Session ids of the run's twins found so far."""
    rows = ledger.rows("SELECT session FROM twins WHERE run = ?", run_id)
    return frozenset(row["session"] for row in rows)


def record_seen(ledger: Ledger, attempt: AttemptRow, session: Session, state: str, at: float) -> None:
    """The session is listed. The first time that it is seen ended is its end; ``startTime`` that changed is a restart
    by the platform, and noted by the caller."""
    columns: dict[str, object] = {}
    if attempt.missing_since is not None:
        columns["missing_since"] = None
    if session.started is not None and session.started != attempt.started:
        columns["started"] = session.started
    if session.expires is not None and session.expires != attempt.deadline:
        columns["deadline"] = session.expires
    if session.url and session.url != attempt.url:
        columns["url"] = session.url
    if state == attempt.state:
        if columns:
            set_attempt(ledger, attempt, columns)
        return
    columns["observed"] = at
    columns["pending_since"] = at if state == states.PENDING else None
    if state in (states.COMPLETED, states.FAILED):
        columns["finished"] = at
    set_attempt(ledger, attempt, columns, state=state)


def record_adopted(ledger: Ledger, attempt: AttemptRow, session: Session, state: str, at: float) -> None:
    """A create in doubt made this session; it answers one doubt."""
    with ledger.transaction():
        columns = {"session": session.id, "recorded": at, "twins": attempt.twins + 1, "missing_since": None}
        set_attempt(ledger, attempt, {**columns, "pending_since": at}, state=states.PENDING)
        record_seen(ledger, attempt, session, state, at)


def record_twin(ledger: Ledger, attempt: AttemptRow, session: str, at: float) -> None:
    """A twin, to be deleted; it answers one doubt, once."""
    with ledger.transaction() as connection:
        connection.execute(
            "INSERT INTO twins (session, run, replica, attempt, seen) VALUES (?,?,?,?,?)",
            (session, attempt.run_id, attempt.replica, attempt.number, at),
        )
        connection.execute(
            "UPDATE attempts SET twins = twins + 1 WHERE run = ? AND replica = ? AND number = ?",
            (attempt.run_id, attempt.replica, attempt.number),
        )


def record_missing(ledger: Ledger, attempt: AttemptRow, at: float) -> None:
    if attempt.missing_since is None:
        set_attempt(ledger, attempt, {"missing_since": at})


def record_gone(ledger: Ledger, attempt: AttemptRow, state: str, reason: str, at: float, again: float | None) -> None:
    """Not listed any more; ``again``: when a Failed one may be tried again."""
    log = {"log": "lost"} if attempt.log == "none" and state != states.DELETED else {}
    set_attempt(ledger, attempt, {"finished": at, "observed": at, **log}, state=state, reason=reason)
    if again is not None:
        set_not_before(ledger, attempt.run_id, attempt.replica, again)
