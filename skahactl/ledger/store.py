"""The ledger's file: opened, checked, and changed in transactions.

The rollback journal is used, not WAL, so that the file is whole on shared home directories too; the state
directory needs working locks.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from skahactl.errors import LedgerError
from skahactl.ledger import schema
from skahactl.paths import made_private

FILE = "ledger.sqlite3"


class Ledger:
    """An open ledger. ``path`` is its file, ``state_dir`` where kept logs and locks lie beside it."""

    def __init__(self, connection: sqlite3.Connection, state_dir: Path):
        self.connection = connection
        self.state_dir = state_dir
        self._undone = 0

    @property
    def path(self) -> Path:
        return self.state_dir / FILE

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; durable at the end. Joins a transaction that is already open."""
        if self.connection.in_transaction:
            yield self.connection
            return
        with told(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                self._undone += 1
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    def version(self) -> tuple[int, int, int]:
        """Another value after every change of the ledger, by this connection or by others."""
        others = self.row("PRAGMA data_version")
        return self.connection.total_changes, self._undone, 0 if others is None else int(others[0])

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with told(self.path):
            return self.connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: object) -> sqlite3.Row | None:
        with told(self.path):
            found: sqlite3.Row | None = self.connection.execute(sql, values).fetchone()
            return found

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_ledger(state_dir: Path) -> Ledger:
    """The ledger in ``state_dir``, made or migrated if need be. LedgerError if it cannot be used, never a new file
    over a damaged one."""
    path = made_private(state_dir) / FILE
    with told(path):
        connection = _connect(path)
        try:
            _check_version(connection, path)
            schema.migrate(connection)
        except BaseException:
            connection.close()
            raise
    with contextlib.suppress(OSError):
        os.chmod(path, 0o600)
    return Ledger(connection, state_dir)


def read_ledger(state_dir: Path) -> Ledger:
    """The ledger for reading alone: nothing is made where there is none (an empty one in memory answers)."""
    path = state_dir / FILE
    if not path.exists():
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.row_factory = sqlite3.Row
        schema.migrate(connection)
        return Ledger(connection, state_dir)
    with told(path):
        connection = _connect(path)
        try:
            _check_version(connection, path)
            if schema.version_of(connection) < schema.VERSION:
                schema.migrate(connection)
        except BaseException:
            connection.close()
            raise
    return Ledger(connection, state_dir)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """SQLite's complaints in words that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise LedgerError(
            f"the ledger cannot be used: {error}",
            where=str(path),
            hint="check that the disk is not full and that you may write there, or set SKAHACTL_STATE_DIR",
        ) from error
    except sqlite3.DatabaseError as error:
        raise LedgerError(
            f"the ledger is damaged: {error}",
            where=str(path),
            hint=f"nothing was changed. Sessions on the platform are not touched by this. Restore the file from a "
            f"backup, or move it away (mv {path} {path}.damaged) and apply again: skahactl then finds the sessions "
            "by name and asks what to do (--adopt)",
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode = PERSIST")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -32000")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = schema.version_of(connection)
    if version > schema.VERSION:
        raise LedgerError(
            f"the ledger was written by a newer skahactl (version {version} of its tables; this one knows "
            f"{schema.VERSION})",
            where=str(path),
            hint="upgrade this skahactl, or set SKAHACTL_STATE_DIR to another directory",
        )
