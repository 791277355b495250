"""The ledger's tables, and how an older file becomes a newer one.

``tallies`` counts replicas and items by state for each run; triggers keep it, so that a table of thousands of
runs needs no count over their replicas.
"""

from __future__ import annotations

import sqlite3

VERSION = 2

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

#: Sessions of forgotten runs, for as long as the platform may list them.
_FORGOTTEN = """
CREATE TABLE forgotten (session TEXT PRIMARY KEY, name TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX forgotten_name ON forgotten (name);
"""

#: Migrations: version n to n + 1. The first makes an empty file a ledger.
MIGRATIONS: tuple[str, ...] = (_TABLES + _TRIGGERS, _FORGOTTEN)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings an empty or older file to VERSION, each step in one transaction with its number."""
    while True:
        connection.execute("BEGIN IMMEDIATE")
        version = version_of(connection)
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


def version_of(connection: sqlite3.Connection) -> int:
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
