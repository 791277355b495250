"""The queue of the local platform: transactions on its sessions, from queued to discarded."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from skahactl.text import storable_path

VERSION = 1

#: States as stored; clients see the first one as "Pending".
QUEUED, RUNNING, COMPLETED, FAILED = "Queued", "Running", "Completed", "Failed"

SCHEMA = """
CREATE TABLE sessions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of the queue
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,                     -- lower case, as the pod's host name
    image TEXT NOT NULL,
    cores REAL, ram REAL, gpus INTEGER,     -- as requested; NULL: flexible
    argv TEXT NOT NULL, env TEXT NOT NULL,  -- JSON lists; blanked at the end
    directory TEXT NOT NULL,
    state TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,     -- hidden; its worker ends it and removes the row
    created REAL NOT NULL, started REAL, expires REAL, ended REAL,
    worker TEXT, pid INTEGER, born TEXT, boot TEXT,  -- the process group, with its start time and boot id
    termed REAL,                            -- when TERM was sent to the group of a dead worker
    exit INTEGER, reason TEXT
);
CREATE INDEX sessions_state ON sessions (state, seq);
CREATE INDEX sessions_ended ON sessions (ended) WHERE ended IS NOT NULL;
CREATE INDEX sessions_worker ON sessions (worker) WHERE worker IS NOT NULL;
CREATE TABLE workers (id TEXT PRIMARY KEY, since REAL NOT NULL, dead INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The file of the queue cannot be used until the user has done what ``hint`` says."""

    def __init__(self, message: str, hint: str):
        super().__init__(message)
        self.hint = hint


def queue_path(root: str) -> str:
    return os.path.join(root, "queue.db")


def log_directory(root: str) -> str:
    return os.path.join(root, "logs")


def log_path(root: str, session: str) -> str:
    return os.path.join(root, "logs", session + ".log")


def lock_path(root: str, worker: str) -> str:
    return os.path.join(root, "workers", worker + ".lock")


def prepare(root: str) -> None:
    """Create the directories of the platform, for this user only."""
    for directory in (root, log_directory(root), os.path.join(root, "workers")):
        os.makedirs(directory, mode=0o700, exist_ok=True)


def connect(root: str) -> sqlite3.Connection:
    """Open the queue in ``root`` (created by prepare), and create its tables if it is new. Raises StoreError.

    The connection is in autocommit mode, for use in one thread; the caller closes it.
    """
    path = queue_path(root)
    if not os.path.exists(path):
        _make(path)
    store = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        store.row_factory = sqlite3.Row
        store.execute("PRAGMA synchronous = OFF")
        store.execute("PRAGMA secure_delete = ON")
        store.execute("PRAGMA journal_mode = TRUNCATE")
        version = store.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            _create(store)
        elif version > VERSION:
            raise StoreError(
                "it was written by a newer skahactl",
                "upgrade this skahactl, or set SKAHACTL_STATE_DIR to another directory",
            )
    except BaseException:
        store.close()
        raise
    return store


def _make(path: str) -> None:
    """Create the file of the queue, for this user only.

    The file is closed before it gets its name: closing a file releases every lock that this process holds on it.
    """
    draft = f"{path}.{os.urandom(8).hex()}"
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        os.unlink(draft)


def _create(store: sqlite3.Connection) -> None:
    with immediate(store):
        if store.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in SCHEMA.split(";\n"):
                store.execute(statement)
            store.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def immediate(store: sqlite3.Connection) -> Iterator[None]:
    """Run an immediate transaction: commit it at the end, or roll it back after an exception."""
    store.execute("BEGIN IMMEDIATE")
    try:
        yield
        store.execute("COMMIT")
    except BaseException:
        if store.in_transaction:
            store.execute("ROLLBACK")
        raise


#: Seconds: the deadline of headless sessions, and the deadline from now on that renew sets (skaha-api 9, 6).
DEADLINE, RENEWED = 1209600.0, 345600.0


class QueuedSession(NamedTuple):
    """What a session runs, decoded from the form of the request."""

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
    """Add a session to the end of the queue. Call it within a transaction."""
    store.execute(
        "INSERT INTO sessions (id, name, image, cores, ram, gpus, argv, env, directory, state, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*order[:6], json.dumps(order.argv), json.dumps(order.env), storable_path(order.directory), QUEUED, now),
    )


def claim(store: sqlite3.Connection, worker: str, group: tuple[int, str, str], now: float) -> sqlite3.Row | None:
    """Claim the head of the queue and return it; None if the queue is empty. Call it within a transaction.

    The session is now Running on ``worker``, as the process ``group`` (pid, start time, id of the boot).
    """
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
    """Record the end of a session and clear its command. Call it within a transaction.

    A session that is marked as deleted is removed instead, with its log.
    """
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
    """Delete a session; a running one is hidden at once, and its worker ends it."""
    with immediate(store):
        gone = store.execute(
            "DELETE FROM sessions WHERE id = ? AND state != ? RETURNING id", (session, RUNNING)
        ).fetchall()
        store.execute("UPDATE sessions SET deleted = 1 WHERE id = ?", (session,))
        if gone:
            remove_log(root, session)


def renew(store: sqlite3.Connection, session: str, now: float) -> bool:
    """Extend the deadline of a running session, never shorten it. Return False if the session is not running."""
    with immediate(store):
        changed = store.execute(
            "UPDATE sessions SET expires = max(expires, ?) WHERE id = ? AND state = ? AND NOT deleted",
            (now + RENEWED, session, RUNNING),
        )
        return changed.rowcount > 0


def forget(store: sqlite3.Connection, root: str, memory: float, now: float) -> None:
    """Discard sessions and their logs ``memory`` seconds after their end.

    The logs are removed first, so that none remains without its session.
    """
    query = "SELECT id FROM sessions WHERE ended < ?"
    if store.execute(query + " LIMIT 1", (now - memory,)).fetchone() is None:
        return
    with immediate(store):
        old = [row[0] for row in store.execute(query, (now - memory,))]
        for session in old:
            remove_log(root, session)
        store.execute("DELETE FROM sessions WHERE ended < ?", (now - memory,))


def find_session(store: sqlite3.Connection, session: str) -> sqlite3.Row | None:
    """Return one session that is not deleted."""
    row: sqlite3.Row | None = store.execute(
        "SELECT * FROM sessions WHERE id = ? AND NOT deleted", (session,)
    ).fetchone()
    return row


def list_sessions(store: sqlite3.Connection) -> list[sqlite3.Row]:
    """Return all sessions that are not deleted, by id, which is the order of Kubernetes (skaha-api 4)."""
    return store.execute(
        "SELECT id, name, image, cores, ram, gpus, state, created, started, expires, ended, exit, pid, boot, reason"
        " FROM sessions WHERE NOT deleted ORDER BY id"
    ).fetchall()


def end_of_status(status: int) -> tuple[str, int, str]:
    """Return the state, exit code and reason of a wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return COMPLETED, 0, "exit code 0"
    return FAILED, code, f"exit code {code}" if code > 0 else f"killed by signal {-code}"


def remove_log(root: str, session: str) -> None:
    try:
        os.unlink(log_path(root, session))
    except FileNotFoundError:
        return
