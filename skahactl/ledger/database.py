"""The file of the ledger: open it, check it, and change it in transactions.

It uses the rollback journal, not WAL, so that the file stays consistent on shared home directories too. The state
directory needs working locks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

from skahactl.errors import LedgerError
from skahactl.ledger.records import DamagedRow
from skahactl.system import make_private, unusable_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VERSION = 7

_TABLES = """
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY, server TEXT NOT NULL, user TEXT NOT NULL, name TEXT NOT NULL,
  UNIQUE (server, user, name));
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, job INTEGER NOT NULL REFERENCES jobs (id), number INTEGER NOT NULL,
  profile TEXT NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL, image TEXT NOT NULL, content TEXT NOT NULL,
  limits TEXT NOT NULL, attempts INTEGER NOT NULL, keep TEXT NOT NULL, after TEXT NOT NULL, after_runs TEXT NOT NULL,
  manifest TEXT, created REAL NOT NULL, started REAL, ended REAL, observed REAL, directory TEXT,
  deleting INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL, reason TEXT,
  UNIQUE (job, number));
CREATE TABLE replicas (
  run INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, request TEXT NOT NULL, items TEXT NOT NULL,
  item_count INTEGER NOT NULL, each TEXT, state TEXT NOT NULL, reason TEXT, attempt INTEGER NOT NULL DEFAULT 0,
  allowed INTEGER NOT NULL, not_before REAL, deleting INTEGER NOT NULL DEFAULT 0, chosen TEXT,
  PRIMARY KEY (run, number)) WITHOUT ROWID;
CREATE TABLE attempts (
  run INTEGER NOT NULL, replica INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,
  reason TEXT, session TEXT, recorded REAL, created REAL NOT NULL, started REAL, finished REAL, observed REAL,
  deadline REAL, url TEXT, pending_since REAL, missing_since REAL, sends INTEGER NOT NULL DEFAULT 0,
  doubts INTEGER NOT NULL DEFAULT 0, doubt_ended REAL, twins INTEGER NOT NULL DEFAULT 0,
  log TEXT NOT NULL DEFAULT 'none', log_path TEXT, log_bytes INTEGER, exit_code INTEGER,
  PRIMARY KEY (run, replica, number)) WITHOUT ROWID;
CREATE INDEX attempts_session ON attempts (session);
CREATE INDEX attempts_name ON attempts (name);
CREATE TABLE sends (
  run INTEGER NOT NULL, replica INTEGER NOT NULL, attempt INTEGER NOT NULL, number INTEGER NOT NULL,
  sent REAL NOT NULL, ended REAL, outcome TEXT, words TEXT,
  PRIMARY KEY (run, replica, attempt, number)) WITHOUT ROWID;
CREATE INDEX sends_open ON sends (run) WHERE outcome IS NULL;
CREATE TABLE twins (
  session TEXT PRIMARY KEY, run INTEGER NOT NULL, replica INTEGER NOT NULL, attempt INTEGER NOT NULL,
  seen REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
  run INTEGER NOT NULL, replica INTEGER NOT NULL, position INTEGER NOT NULL, state TEXT NOT NULL,
  attempt INTEGER, exit_code INTEGER,
  PRIMARY KEY (run, replica, position)) WITHOUT ROWID;
CREATE TABLE notes (
  id INTEGER PRIMARY KEY, run INTEGER NOT NULL, at REAL NOT NULL, replica INTEGER, text TEXT NOT NULL);
CREATE INDEX notes_run ON notes (run);
CREATE TABLE drivers (
  job INTEGER PRIMARY KEY, host TEXT NOT NULL, boot TEXT NOT NULL, pid INTEGER NOT NULL, since REAL NOT NULL);
CREATE TABLE tallies (
  run INTEGER NOT NULL, state TEXT NOT NULL, replicas INTEGER NOT NULL, items INTEGER NOT NULL,
  PRIMARY KEY (run, state)) WITHOUT ROWID;
CREATE TABLE item_tallies (
  run INTEGER NOT NULL, state TEXT NOT NULL, items INTEGER NOT NULL, PRIMARY KEY (run, state)) WITHOUT ROWID;
"""

_TRIGGERS = """
CREATE TRIGGER replica_added AFTER INSERT ON replicas BEGIN
  INSERT INTO tallies VALUES (new.run, new.state, 1, new.item_count)
    ON CONFLICT DO UPDATE SET replicas = replicas + 1, items = items + excluded.items;
END;
CREATE TRIGGER replica_changed AFTER UPDATE OF state ON replicas WHEN old.state <> new.state BEGIN
  UPDATE tallies SET replicas = replicas - 1, items = items - old.item_count WHERE run = old.run AND state = old.state;
  INSERT INTO tallies VALUES (new.run, new.state, 1, new.item_count)
    ON CONFLICT DO UPDATE SET replicas = replicas + 1, items = items + excluded.items;
END;
CREATE TRIGGER item_added AFTER INSERT ON items BEGIN
  INSERT INTO item_tallies VALUES (new.run, new.state, 1) ON CONFLICT DO UPDATE SET items = items + 1;
END;
CREATE TRIGGER item_changed AFTER UPDATE OF state ON items WHEN old.state <> new.state BEGIN
  UPDATE item_tallies SET items = items - 1 WHERE run = old.run AND state = old.state;
  INSERT INTO item_tallies VALUES (new.run, new.state, 1) ON CONFLICT DO UPDATE SET items = items + 1;
END;
CREATE TRIGGER run_forgotten AFTER DELETE ON runs BEGIN
  DELETE FROM replicas WHERE run = old.id;
  DELETE FROM attempts WHERE run = old.id;
  DELETE FROM sends WHERE run = old.id;
  DELETE FROM items WHERE run = old.id;
  DELETE FROM twins WHERE run = old.id;
  DELETE FROM notes WHERE run = old.id;
  DELETE FROM tallies WHERE run = old.id;
  DELETE FROM item_tallies WHERE run = old.id;
END;
"""

#: Sessions of removed runs, which are remembered for as long as the platform may list them.
_FORGOTTEN = """
CREATE TABLE forgotten (session TEXT PRIMARY KEY, name TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX forgotten_name ON forgotten (name);
"""

#: 0.2.0: plain names for states, columns and the table of duplicates.
_RENAMED = """
UPDATE replicas SET state = 'Queued' WHERE state = 'Held';
UPDATE replicas SET state = 'Unconfirmed' WHERE state = 'Unsettled';
UPDATE replicas SET state = 'Rejected' WHERE state = 'Refused';
UPDATE replicas SET state = 'Unknown' WHERE state = 'Expired';
UPDATE attempts SET state = 'Queued' WHERE state = 'Held';
UPDATE attempts SET state = 'Unconfirmed' WHERE state = 'Unsettled';
UPDATE attempts SET state = 'Rejected' WHERE state = 'Refused';
UPDATE attempts SET state = 'Unknown' WHERE state = 'Expired';
UPDATE items SET state = 'Queued' WHERE state = 'Held';
UPDATE items SET state = 'Unknown' WHERE state = 'Expired';
ALTER TABLE attempts RENAME COLUMN doubts TO ambiguous_sends;
ALTER TABLE attempts RENAME COLUMN doubt_ended TO last_ambiguous_at;
ALTER TABLE attempts RENAME COLUMN twins TO resolved_ambiguous;
ALTER TABLE twins RENAME TO duplicates;
"""

#: The last line of each failed attempt's log; and the earliest possible end of an attempt with an end that the server
#: does not report, which is the last time that its session was known to be alive.
_ENDS = """
ALTER TABLE attempts ADD COLUMN last_line TEXT;
ALTER TABLE attempts ADD COLUMN finished_after REAL;
ALTER TABLE runs ADD COLUMN observed_before REAL;
CREATE TRIGGER run_observed AFTER UPDATE OF observed ON runs WHEN old.observed IS NOT new.observed BEGIN
  UPDATE runs SET observed_before = old.observed WHERE id = new.id;
END;
"""

#: Memory and cores in use as polls showed them, by session, so that a poll needs one statement; and resources of
#: attempts that differ from those of their replica.
_USAGE = """
CREATE TABLE usage (
  session TEXT PRIMARY KEY, run INTEGER NOT NULL, replica INTEGER NOT NULL, attempt INTEGER NOT NULL,
  ram_peak REAL, cpu_sum REAL NOT NULL, cpu_samples INTEGER NOT NULL, samples INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX usage_run ON usage (run);
CREATE TRIGGER usage_forgotten AFTER DELETE ON runs BEGIN
  DELETE FROM usage WHERE run = old.id;
END;
ALTER TABLE runs ADD COLUMN retry_ram TEXT;
ALTER TABLE replicas ADD COLUMN resources TEXT;
ALTER TABLE attempts ADD COLUMN resources TEXT;
"""

#: Why a session is ended without a request to delete it, and ambiguous sends that platform trouble excuses.
_ENDING = """
ALTER TABLE attempts ADD COLUMN ending TEXT;
ALTER TABLE attempts ADD COLUMN excused INTEGER NOT NULL DEFAULT 0;
"""

#: The directory of a run's shared record; where the result of an attempt comes from (a ResultSource); and whether the
#: shared record is known to lack the end of an attempt, or could not be read.
_SHARED = """
ALTER TABLE runs ADD COLUMN shared TEXT;
ALTER TABLE attempts ADD COLUMN source TEXT;
ALTER TABLE attempts ADD COLUMN unrecorded INTEGER NOT NULL DEFAULT 0;
"""

#: Migrations from version n to n + 1. The first one creates the tables in an empty file.
MIGRATIONS: tuple[str, ...] = (_TABLES + _TRIGGERS, _FORGOTTEN, _RENAMED, _ENDS, _USAGE, _ENDING, _SHARED)


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate an empty or older file to VERSION. Each step is one transaction that also sets the version number."""
    while True:
        connection.execute("BEGIN IMMEDIATE")
        version = schema_version(connection)
        if version >= VERSION:
            connection.execute("COMMIT")
            return
        try:
            for statement in _statements(MIGRATIONS[version]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def schema_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> list[str]:
    found: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


FILE = "ledger.sqlite3"
#: Seconds that a command waits while another process locks the ledger, and between two checks for a signal meanwhile.
PATIENCE, BUSY_WAIT = 30.0, 0.2
T = TypeVar("T")


def _error_code(error: sqlite3.Error) -> int:
    """Return SQLite's code of an error.

    Errors that Python raises itself, as for text that is not UTF-8, have no code; they count as SQLITE_CORRUPT.
    """
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)


def retry_while_locked(act: Callable[[], T], check_interruption: Callable[[], None] = lambda: None) -> T:
    """Call ``act`` until it finds the file unlocked, for at most PATIENCE seconds, and return its result.

    Raise sqlite3.OperationalError after that. ``check_interruption`` runs between two tries and may raise.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return act()
        except sqlite3.OperationalError as error:
            if _error_code(error) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        check_interruption()


class Ledger:
    """An open ledger. ``path`` is its file; ``state_dir`` contains it, the saved logs and the locks."""

    def __init__(self, connection: sqlite3.Connection, state_dir: Path):
        self.connection = connection
        self.state_dir = state_dir
        self._undone = 0
        self.check_interruption: Callable[[], None] = lambda: None  # raises when a signal arrived

    @property
    def path(self) -> Path:
        return self.state_dir / FILE

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction: all of it or nothing, durable at the end. Join a transaction that is open already."""
        if self.connection.in_transaction:
            yield self.connection
            return
        with translate_sqlite_errors(self.path):
            self._retry_while_locked(lambda: self.connection.execute("BEGIN IMMEDIATE"))
            try:
                yield self.connection
                self._retry_while_locked(lambda: self.connection.execute("COMMIT"))
            except BaseException:
                self._undone += 1
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    def version(self) -> tuple[int, int, int]:
        """Return a value that differs after every change of the ledger, by this or another connection."""
        others = self.row("PRAGMA data_version")
        return self.connection.total_changes, self._undone, 0 if others is None else int(others[0])

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with translate_sqlite_errors(self.path):
            return self._retry_while_locked(lambda: self.connection.execute(sql, values).fetchall())

    def row(self, sql: str, *values: object) -> sqlite3.Row | None:
        with translate_sqlite_errors(self.path):
            found: sqlite3.Row | None = self._retry_while_locked(
                lambda: self.connection.execute(sql, values).fetchone()
            )
            return found

    def _retry_while_locked(self, act: Callable[[], T]) -> T:
        return retry_while_locked(act, self.check_interruption)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, DamagedRow):
            raise _damaged(self.path, error.message) from error


def open_ledger(state_dir: Path) -> Ledger:
    """Open the ledger in ``state_dir``; create or migrate it if necessary.

    Raise LedgerError if it cannot be used. A damaged file is never replaced.
    """
    path = make_private(state_dir) / FILE
    with contextlib.suppress(OSError):  # before SQLite creates the file: the journal gets the mode of the file
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for file in (path, path.with_name(f"{FILE}-journal")):
            os.chmod(file, 0o600)
    return _open(state_dir)


def read_ledger(state_dir: Path) -> Ledger:
    """Open the ledger for a command that only reads.

    If no file exists, return an empty ledger in memory and create nothing. Raise LedgerError if it cannot exist.
    """
    path = state_dir / FILE
    try:
        path.stat()
    except FileNotFoundError as error:
        if path.is_symlink() or state_dir.is_symlink():  # to something that is missing
            raise unusable_state(path, error) from error
    except OSError as error:
        raise unusable_state(path, error) from error
    else:
        return _open(state_dir)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection)
    return Ledger(connection, state_dir)


def _open(state_dir: Path) -> Ledger:
    path = state_dir / FILE
    with translate_sqlite_errors(path):
        connection = retry_while_locked(lambda: _connect(path))
        try:
            version = retry_while_locked(lambda: schema_version(connection))
            if version > VERSION:
                raise LedgerError(
                    f"the local record was written by a newer skahactl (table version {version}; this one knows "
                    f"{VERSION})",
                    where=str(path),
                    hint="upgrade this skahactl, or set SKAHACTL_STATE_DIR to another directory",
                )
            if version < VERSION:
                retry_while_locked(lambda: migrate(connection))
        except BaseException:
            connection.close()
            raise
    return Ledger(connection, state_dir)


@contextlib.contextmanager
def translate_sqlite_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite into a LedgerError with a hint."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and _error_code(error) != sqlite3.SQLITE_CORRUPT:
            raise LedgerError(
                f"the local record cannot be used: {error}",
                where=str(path),
                hint="check that the disk is not full and that you may write there, or set SKAHACTL_STATE_DIR",
            ) from error
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> LedgerError:
    return LedgerError(
        f"the local record is damaged: {reason}",
        where=str(path),
        hint=f"nothing was changed, and sessions on the platform are not affected. Restore the file from a "
        f"backup, or move it away (mv {path} {path}.damaged) and apply again; skahactl then asks "
        "(--adopt) about sessions that the server still lists; jobs that ended earlier run again",
    )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_WAIT, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode = PERSIST")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -32000")
    except BaseException:
        connection.close()
        raise
    return connection
