"""The queue's file: one SQLite database in the local platform's directory, shared by all commands and workers.

Everything the workers import stays in the standard library and cheap: a worker starts once a slot, but starts often.
Commits are not synced to the disk: a commit must survive the death of a process, and that needs no sync; what a power
cut takes away are sessions whose processes it took as well.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

VERSION = 1

#: States as they are stored; the first is "Pending" to a client.
QUEUED, RUNNING, COMPLETED, FAILED = "Queued", "Running", "Completed", "Failed"

SCHEMA = """
CREATE TABLE sessions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of the queue
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,                     -- lower case, as the pod's host name
    image TEXT NOT NULL,
    cores REAL, ram REAL, gpus INTEGER,     -- as asked for; NULL: flexible
    argv TEXT NOT NULL, env TEXT NOT NULL,  -- JSON lists; blanked at the end
    directory TEXT NOT NULL,
    state TEXT NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,     -- hidden; its worker ends it and takes the row away
    created REAL NOT NULL, started REAL, expires REAL, ended REAL,
    worker TEXT, pid INTEGER, born TEXT, boot TEXT,  -- the process group, and what tells its number from a later one
    termed REAL,                            -- when the group of a dead worker was told to end
    exit INTEGER, reason TEXT
);
CREATE INDEX sessions_state ON sessions (state, seq);
CREATE INDEX sessions_ended ON sessions (ended) WHERE ended IS NOT NULL;
CREATE INDEX sessions_worker ON sessions (worker) WHERE worker IS NOT NULL;
CREATE TABLE workers (id TEXT PRIMARY KEY, since REAL NOT NULL, dead INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The queue's file cannot be used, with the reason and the way on."""


def log_directory(root: str) -> str:
    return os.path.join(root, "logs")


def log_path(root: str, session: str) -> str:
    return os.path.join(root, "logs", session + ".log")


def lock_path(root: str, worker: str) -> str:
    return os.path.join(root, "workers", worker + ".lock")


def prepare(root: str) -> None:
    """Make the platform's directories, for this user alone."""
    for directory in (root, log_directory(root), os.path.join(root, "workers")):
        os.makedirs(directory, mode=0o700, exist_ok=True)


def connect(root: str) -> sqlite3.Connection:
    """Open the queue below ``root`` (made before by prepare), creating its tables if it is new.

    The connection is in autocommit mode, for use in one thread; close it.
    """
    path = os.path.join(root, "queue.db")
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
            raise StoreError(f"{path} was written by a newer skahactl; use that one, or another SKAHACTL_STATE_DIR")
    except BaseException:
        store.close()
        raise
    return store


def _make(path: str) -> None:
    """Make the file, for this user alone.

    It must be closed before it has its name: closing a file takes away every lock that this process holds on it.
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
    """One immediate transaction: committed at the end, rolled back when anything is raised."""
    store.execute("BEGIN IMMEDIATE")
    try:
        yield
        store.execute("COMMIT")
    except BaseException:
        if store.in_transaction:
            store.execute("ROLLBACK")
        raise
