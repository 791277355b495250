"""The queue's transactions that are not about workers: a session's way from queued to forgotten."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from skahactl.local.store import COMPLETED, FAILED, QUEUED, RUNNING, immediate, log_path

#: activeDeadlineSeconds of headless sessions, and what renew asks for (skaha-api 9, 6).
DEADLINE, RENEWED = 1209600.0, 345600.0


class QueuedSession(NamedTuple):
    """What a session is to run, decoded: nothing is left of the request's form."""

    id: str
    name: str
    image: str
    cores: float | None
    ram: float | None
    gpus: int | None
    argv: Sequence[str]
    env: Sequence[tuple[str, str]]
    directory: str


def enqueue(store: sqlite3.Connection, order: QueuedSession, now: float) -> None:
    """Inside a transaction: put a session at the end of the queue."""
    store.execute(
        "INSERT INTO sessions (id, name, image, cores, ram, gpus, argv, env, directory, state, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*order[:6], json.dumps(order.argv), json.dumps(order.env), order.directory, QUEUED, now),
    )


def claim(store: sqlite3.Connection, worker: str, group: tuple[int, str, str], now: float) -> sqlite3.Row | None:
    """Inside a transaction: the head of the queue, now Running as the process group (pid, born, boot) of ``worker``."""
    row: sqlite3.Row | None = store.execute(
        "SELECT * FROM sessions WHERE state = ? ORDER BY seq LIMIT 1", (QUEUED,)
    ).fetchone()
    if row is not None:
        store.execute(
            "UPDATE sessions SET state = ?, worker = ?, pid = ?, born = ?, boot = ?, started = ?, expires = ?"
            " WHERE seq = ?",
            (RUNNING, worker, *group, now, now + DEADLINE, row["seq"]),
        )
    return row


def end(
    store: sqlite3.Connection, root: str, session: str, state: str, now: float, code: int | None, reason: str
) -> None:
    """Inside a transaction: note a session's end and blank what it ran with; a deleted one goes with its log."""
    row = store.execute("SELECT deleted FROM sessions WHERE id = ?", (session,)).fetchone()
    if row is not None and row["deleted"]:
        store.execute("DELETE FROM sessions WHERE id = ?", (session,))
        remove_log(root, session)
        return
    store.execute(
        "UPDATE sessions SET state = ?, ended = ?, exit = ?, reason = ?, argv = '[]', env = '[]', worker = NULL"
        " WHERE id = ?",
        (state, now, code, reason, session),
    )


def delete(store: sqlite3.Connection, root: str, session: str) -> None:
    """Take a session away; a running one is hidden at once, and ended by its worker."""
    with immediate(store):
        gone = store.execute(
            "DELETE FROM sessions WHERE id = ? AND state != ? RETURNING id", (session, RUNNING)
        ).fetchall()
        store.execute("UPDATE sessions SET deleted = 1 WHERE id = ?", (session,))
        if gone:
            remove_log(root, session)


def renew(store: sqlite3.Connection, session: str, now: float) -> bool:
    """Move a running session's deadline where it is nearer than a renewal gives; False if it does not run."""
    with immediate(store):
        changed = store.execute(
            "UPDATE sessions SET expires = max(expires, ?) WHERE id = ? AND state = ? AND NOT deleted",
            (now + RENEWED, session, RUNNING),
        )
        return changed.rowcount > 0


def forget(store: sqlite3.Connection, root: str, memory: float, now: float) -> None:
    """Forget sessions, logs too, ``memory`` seconds after their end. Logs go first: none is ever left behind."""
    query = "SELECT id FROM sessions WHERE ended < ?"
    if store.execute(query + " LIMIT 1", (now - memory,)).fetchone() is None:
        return
    with immediate(store):
        old = [row[0] for row in store.execute(query, (now - memory,))]
        for session in old:
            remove_log(root, session)
        store.execute("DELETE FROM sessions WHERE ended < ?", (now - memory,))


def find_session(store: sqlite3.Connection, session: str) -> sqlite3.Row | None:
    """One session that is not deleted."""
    row: sqlite3.Row | None = store.execute(
        "SELECT * FROM sessions WHERE id = ? AND NOT deleted", (session,)
    ).fetchone()
    return row


def list_sessions(store: sqlite3.Connection) -> list[sqlite3.Row]:
    """All sessions that are not deleted, by id: the order of Kubernetes' names (skaha-api 4)."""
    return store.execute(
        "SELECT id, name, image, cores, ram, gpus, state, created, started, expires, ended, reason"
        " FROM sessions WHERE NOT deleted ORDER BY id"
    ).fetchall()


def end_of_status(status: int) -> tuple[str, int, str]:
    """State, exit code and reason of a wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return COMPLETED, 0, "exit code 0"
    return FAILED, code, f"exit code {code}" if code > 0 else f"killed by signal {-code}"


def remove_log(root: str, session: str) -> None:
    try:
        os.unlink(log_path(root, session))
    except FileNotFoundError:
        return
