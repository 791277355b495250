"""Sessions that another ledger made, taken over as this run's first attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skahactl import states
from skahactl.ledger.records import Run
from skahactl.ledger.replicas import replica_states, set_states
from skahactl.ledger.store import Ledger
from skahactl.skaha.models import Session

_ORDER = {states.RUNNING: 0, states.PENDING: 1, states.COMPLETED: 2}


def adopt_sessions(ledger: Ledger, run: Run, found: Mapping[int, Sequence[Session]], rest: str, now: float) -> None:
    """``found``: sessions by replica number; the one that got furthest and lives is taken, others are strays.
    ``rest``: "create" leaves replicas without one Held, "expired" takes them as ended unseen."""
    with ledger.transaction() as connection:
        for number, sessions in found.items():
            session = min(sessions, key=lambda one: (_ORDER.get(one.status, 3), one.started or 0.0, one.id))
            connection.execute(
                "INSERT INTO attempts (run, replica, number, name, state, session, recorded, created, pending_since,"
                " sends) VALUES (?,?,1,?,'Pending',?,?,?,?,0)",
                (run.id, number, session.name, session.id, now, now, now),
            )
            connection.execute(
                "UPDATE replicas SET state = 'Pending', attempt = 1 WHERE run = ? AND number = ?", (run.id, number)
            )
        connection.execute("UPDATE runs SET started = ? WHERE id = ?", (now, run.id))
        if rest == "expired":
            missing = [replica.number for replica in replica_states(ledger, run.id) if replica.number not in found]
            set_states(ledger, run.id, missing, states.EXPIRED, "no session of it was there when it was taken over")
