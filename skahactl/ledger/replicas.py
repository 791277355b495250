"""Replicas of a run, their items, and notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skahactl.ledger.records import (
    REPLICA_COLUMNS,
    AttemptKey,
    AttemptRow,
    ItemRow,
    Note,
    QueuedReason,
    ReplicaRow,
    ReplicaState,
    dump_json,
    each_value,
    known_state,
    load_json,
    replica_value,
    resources_text,
)
from skahactl.model import ALIVE, State, ended_state

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable

    from skahactl.ledger.database import Ledger
    from skahactl.manifest.placeholders import ItemMarks
    from skahactl.model import Resources


def replica_states(ledger: Ledger, run_id: int, number: int | None = None) -> tuple[ReplicaState, ...]:
    """Return the states of all replicas of the run, or of the one with this number, in order."""
    rows = ledger.rows(
        "SELECT number, name, state, reason, attempt, allowed, not_before, deleting FROM replicas"
        f" WHERE run = ?{'' if number is None else ' AND number = ?'} ORDER BY number",
        *((run_id,) if number is None else (run_id, number)),
    )
    for row in rows:
        known_state(row["state"])
    return tuple(ReplicaState(*row) for row in rows)


def replicas_of(ledger: Ledger, run_id: int, numbers: Collection[int] | None = None) -> tuple[ReplicaRow, ...]:
    """Return all replicas of the run, or those with these numbers, in order, with their requests and items."""
    rows = ledger.rows(f"SELECT {REPLICA_COLUMNS} FROM replicas WHERE run = ? ORDER BY number", run_id)
    chosen = None if numbers is None else set(numbers)
    return tuple(replica_value(row) for row in rows if chosen is None or row["number"] in chosen)


def replica(ledger: Ledger, run_id: int, number: int) -> ReplicaRow:
    row = ledger.row(f"SELECT {REPLICA_COLUMNS} FROM replicas WHERE run = ? AND number = ?", run_id, number)
    assert row is not None
    return replica_value(row)


def set_states(
    ledger: Ledger, run_id: int, numbers: Iterable[int], state: str, reason: str | None, not_before: float | None = None
) -> None:
    """Set the same state and reason for these replicas."""
    with ledger.transaction() as connection:
        connection.executemany(
            "UPDATE replicas SET state = ?, reason = ?, not_before = ? WHERE run = ? AND number = ?",
            ((state, reason, not_before, run_id, number) for number in numbers),
        )


def request_delete(ledger: Ledger, run_id: int, numbers: Collection[int] | None, *, mark: int = 1) -> None:
    """Record that these replicas (None: the whole run) are to be deleted.

    From then on no create is sent for them, and the driver of the job deletes their sessions. Queued replicas become
    Deleted immediately. ``mark`` is 1, DISCARD_LOGS or REPLACED.
    """
    with ledger.transaction() as connection:
        if numbers is None:
            connection.execute("UPDATE runs SET deleting = ? WHERE id = ?", (mark, run_id))
        targets = [row["number"] for row in ledger.rows("SELECT number FROM replicas WHERE run = ?", run_id)]
        wanted = set(targets if numbers is None else numbers)
        chosen = [number for number in targets if number in wanted]
        connection.executemany(
            "UPDATE replicas SET deleting = ? WHERE run = ? AND number = ?",
            ((mark, run_id, number) for number in chosen),
        )
        connection.executemany(
            "UPDATE replicas SET state = 'Deleted', reason = 'deleted before it was created'"
            " WHERE run = ? AND number = ? AND state = 'Queued'",
            ((run_id, number) for number in chosen),
        )


def allow_again(
    ledger: Ledger, run_id: int, chosen: dict[int, tuple[int, ...] | None], resources: Resources | None = None
) -> None:
    """Allow one more attempt of these replicas, immediately; with positions, only of these items.

    ``chosen``: replica number to positions from 1, or None for all items. The new attempts request ``resources`` where
    these are set, instead of those of the replica.
    """
    with ledger.transaction() as connection:
        connection.executemany(
            "UPDATE replicas SET state = CASE WHEN state IN ('Failed', 'Rejected', 'Unknown', 'Deleted', 'Completed',"
            " 'Skipped')"
            " THEN 'Queued' ELSE state END, reason = ?, allowed = attempt + 1, not_before = NULL, deleting = 0,"
            " chosen = ?, resources = ? WHERE run = ? AND number = ?",
            (
                (
                    QueuedReason.RETRY,
                    None if positions is None else dump_json(positions),
                    resources_text(resources),
                    run_id,
                    number,
                )
                for number, positions in chosen.items()
            ),
        )
        connection.execute("UPDATE runs SET ended = NULL, deleting = 0 WHERE id = ?", (run_id,))


def positions_to_run(ledger: Ledger, run_id: int, row: ReplicaRow) -> tuple[int, ...]:
    """Return the items that the next attempt of an ``each`` replica runs, as positions from 1.

    These are the items that a retry chose, else those that are not Completed, or all items if every one is Completed.
    """
    found = ledger.row("SELECT chosen FROM replicas WHERE run = ? AND number = ?", run_id, row.number)
    if found is not None and found["chosen"] is not None:
        return tuple(load_json(found["chosen"]))
    done = {
        item["position"]
        for item in ledger.rows(
            "SELECT position FROM items WHERE run = ? AND replica = ? AND state = 'Completed'", run_id, row.number
        )
    }
    everything = tuple(range(1, len(row.items) + 1))
    return tuple(position for position in everything if position not in done) or everything


def positions_due(ledger: Ledger, attempt: AttemptRow) -> frozenset[int]:
    """Return the positions of the items that this attempt of an ``each`` replica runs.

    The log of the attempt contains a mark for the end of each of them.
    """
    row = ledger.row(
        "SELECT state, attempt, item_count, chosen FROM replicas WHERE run = ? AND number = ?",
        attempt.run_id,
        attempt.replica,
    )
    assert row is not None
    if row["chosen"] is not None and row["attempt"] == attempt.number and row["state"] != State.QUEUED:
        return frozenset(load_json(row["chosen"]))
    done = ledger.rows(
        "SELECT position FROM items WHERE run = ? AND replica = ? AND state = 'Completed' AND attempt < ?", *attempt.key
    )
    everything = frozenset(range(1, row["item_count"] + 1))
    return everything - {item["position"] for item in done} or everything


def record_items(ledger: Ledger, run_id: int, replica: int, attempt: int, ends: Iterable[tuple[int, int]]) -> None:
    """Record item ends from the log of an attempt: (position from 1, exit code). A later attempt takes precedence."""
    with ledger.transaction() as connection:
        connection.executemany(
            "INSERT INTO items (run, replica, position, state, attempt, exit_code) VALUES (?,?,?,?,?,?)"
            " ON CONFLICT DO UPDATE SET state = excluded.state, attempt = excluded.attempt,"
            " exit_code = excluded.exit_code WHERE excluded.attempt >= items.attempt",
            ((run_id, replica, position, ended_state(code), attempt, code) for position, code in ends),
        )


def mark_items(ledger: Ledger, run_id: int, chosen: dict[int, tuple[int, ...]], state: str) -> None:
    """Record the results that a user set for items: replica number to positions."""
    with ledger.transaction() as connection:
        connection.executemany(
            "INSERT INTO items (run, replica, position, state) VALUES (?,?,?,?)"
            " ON CONFLICT DO UPDATE SET state = excluded.state, exit_code = NULL",
            ((run_id, number, position, state) for number, positions in chosen.items() for position in positions),
        )


def items_of(ledger: Ledger, run_id: int) -> tuple[ItemRow, ...]:
    """Return all items of the run by replica and position, with their own result, else the state of their replica.

    A replica with marks runs its items one by one: while it runs, the first item without a result is the one that
    runs, and the items after it are Queued, as are those of a Failed replica with attempts left. If the log of a Failed
    replica was not read, or is lost, its items without a result are Unknown.
    """
    own = {(row["replica"], row["position"]): row for row in ledger.rows("SELECT * FROM items WHERE run = ?", run_id)}
    found: list[ItemRow] = []
    rows = ledger.rows(
        "SELECT replicas.number, replicas.state, attempt, allowed, replicas.deleting, items,"
        " each IS NOT NULL AS marks, log, exit_code FROM replicas"
        " LEFT JOIN attempts ON attempts.run = replicas.run AND replica = replicas.number AND attempt = attempts.number"
        " WHERE replicas.run = ? ORDER BY replicas.number",
        run_id,
    )
    for row in rows:
        number, state = row["number"], known_state(row["state"])
        was_read = row["log"] in MARKS_READ
        is_retried = state == State.FAILED and was_read and row["attempt"] < row["allowed"] and not row["deleting"]
        in_turn = row["marks"] and (state == State.RUNNING or is_retried)
        rest = State.UNKNOWN if row["marks"] and state == State.FAILED and not was_read else state
        for position, item in enumerate(load_json(row["items"]), 1):
            end = own.get((number, position))
            if end is not None and not _runs_again(end, state, row["attempt"]):
                code, tried = end["exit_code"], end["attempt"]
                found.append(ItemRow(run_id, number, position, item, known_state(end["state"]), tried, code))
                continue
            code = None if row["marks"] else row["exit_code"]  # without marks, an item has the result of its replica
            found.append(ItemRow(run_id, number, position, item, rest, row["attempt"] or None, code))
            rest = State.QUEUED if in_turn else rest
    return tuple(found)


#: Values of ``AttemptRow.log`` that mean that the marks in the log were read.
MARKS_READ = ("kept", "incomplete", "cut", "perhaps cut", "limited")


def completed_items(ledger: Ledger, run_id: int) -> frozenset[str]:
    """Return the items that a run completed."""
    return frozenset(row.item for row in items_of(ledger, run_id) if row.state == State.COMPLETED)


def _runs_again(end: sqlite3.Row, state: str, attempt: int) -> bool:
    """Return whether the item failed in an earlier attempt and belongs to the current attempt, which is alive."""
    return (
        end["state"] == State.FAILED
        and state in ALIVE
        and end["attempt"] is not None
        and bool(end["attempt"] < attempt)
    )


def add_note(ledger: Ledger, run_id: int, at: float, text: str, replica: int | None = None) -> None:
    with ledger.transaction() as connection:
        connection.execute("INSERT INTO notes (run, at, replica, text) VALUES (?,?,?,?)", (run_id, at, replica, text))


def notes_of(ledger: Ledger, run_id: int) -> tuple[Note, ...]:
    rows = ledger.rows("SELECT run, at, replica, text FROM notes WHERE run = ? ORDER BY id", run_id)
    return tuple(Note(*row) for row in rows)


def replicas_with_each(ledger: Ledger, run_id: int) -> frozenset[int]:
    """Return the replicas that run their command once per item, with marks in their log."""
    rows = ledger.rows("SELECT number FROM replicas WHERE run = ? AND each IS NOT NULL", run_id)
    return frozenset(row["number"] for row in rows)


def item_counts(ledger: Ledger, run_id: int) -> dict[int, int]:
    """Return the number of items by replica."""
    rows = ledger.rows("SELECT number, item_count FROM replicas WHERE run = ?", run_id)
    return {row["number"]: row["item_count"] for row in rows}


def failed_items(ledger: Ledger, run_id: int) -> dict[int, tuple[int, int]]:
    """Return (position, exit code) of the last failed item by replica."""
    rows = ledger.rows(
        "SELECT replica, position, exit_code FROM items WHERE run = ? AND state = 'Failed' AND exit_code IS NOT NULL"
        " ORDER BY replica, position",
        run_id,
    )
    return {row["replica"]: (row["position"], row["exit_code"]) for row in rows}


def ended_items(ledger: Ledger, run_id: int) -> tuple[dict[int, int], dict[int, int]]:
    """Count the ended items by replica: those of its latest attempt, and those that earlier attempts completed."""
    rows = ledger.rows(
        "SELECT replica, items.attempt = replicas.attempt AS latest, count(*) AS n FROM items JOIN replicas"
        " ON replicas.run = items.run AND number = replica WHERE items.run = ?"
        " AND (items.attempt = replicas.attempt OR items.state = 'Completed') GROUP BY replica, latest",
        run_id,
    )
    now = {row["replica"]: row["n"] for row in rows if row["latest"]}
    return now, {row["replica"]: row["n"] for row in rows if not row["latest"]}


def item_marks(ledger: Ledger, attempt: AttemptRow) -> ItemMarks | None:
    """Return which marks count in the log of an attempt; None for a replica without ``each``."""
    from skahactl.manifest.placeholders import ItemMarks

    row = ledger.row("SELECT each FROM replicas WHERE run = ? AND number = ?", attempt.run_id, attempt.replica)
    each = None if row is None else each_value(row["each"])
    if each is None:
        return None
    return ItemMarks(tuple(sorted(positions_due(ledger, attempt))), nonce_of(ledger, attempt.key, each.script))


def nonce_of(ledger: Ledger, key: AttemptKey, script: str) -> str | None:
    """Return the nonce in the item marks of an attempt (see ItemMarks)."""
    from skahactl.manifest.placeholders import attempt_nonce, has_nonce

    if not has_nonce(script):
        return ""
    row = ledger.row("SELECT name, created, sends FROM attempts WHERE run = ? AND replica = ? AND number = ?", *key)
    return None if row is None or not row["sends"] else attempt_nonce(row["name"], row["created"])


def set_not_before(ledger: Ledger, run_id: int, number: int, at: float) -> None:
    """Set the earliest time of the next attempt of a replica."""
    with ledger.transaction() as connection:
        connection.execute("UPDATE replicas SET not_before = ? WHERE run = ? AND number = ?", (at, run_id, number))


def stop_retries(ledger: Ledger, run_id: int, numbers: Iterable[int]) -> None:
    """Allow no further attempts of these replicas."""
    with ledger.transaction() as connection:
        connection.executemany(
            "UPDATE replicas SET allowed = attempt WHERE run = ? AND number = ?",
            ((run_id, number) for number in numbers),
        )
