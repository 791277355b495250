"""Runs: create, find, summarise, end and remove them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from skahactl.ledger.records import (
    DriverRecord,
    JobKey,
    Run,
    RunSummary,
    dump_json,
    each_text,
    known_state,
    limits_text,
    load_json,
    request_text,
    run_value,
)
from skahactl.ledger.replicas import MARKS_READ, replica_states, set_states
from skahactl.model import ENDED, Job, Limits, State, job_status, zero_filled
from skahactl.text import storable_path

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from skahactl.ledger.database import Ledger
    from skahactl.skaha.models import ServerSession

RUN_COLUMNS = "runs.*, jobs.server AS server, jobs.user AS user, jobs.name AS name"
_RUNS = f"SELECT {RUN_COLUMNS} FROM runs JOIN jobs ON jobs.id = runs.job"


def add_run(
    ledger: Ledger,
    key: JobKey,
    job: Job,
    profile: str,
    after_runs: dict[str, int],
    now: float,
    directory: str | None = None,
    number: int = 1,
) -> Run:
    """Add and return the next run of ``job``, with every replica Queued, in one transaction.

    ``after_runs``: the runs of other jobs that it waits for, by job name. ``directory``: the working directory of the
    command. ``number``: the lowest number that the run may get.
    """
    with ledger.transaction():
        run_id = _insert_run(ledger, key, job, profile, after_runs, now, directory, number)
        _insert_replicas(ledger, run_id, job)
        run = run_by_id(ledger, run_id)
    assert run is not None
    return run


def _insert_run(
    ledger: Ledger,
    key: JobKey,
    job: Job,
    profile: str,
    after_runs: dict[str, int],
    now: float,
    directory: str | None,
    number: int,
) -> int:
    owner = job_id(ledger, key)
    with ledger.transaction() as connection:
        last = connection.execute("SELECT coalesce(max(number), 0) FROM runs WHERE job = ?", (owner,)).fetchone()
        number = max(number, last[0] + 1)
        cursor = connection.execute(
            "INSERT INTO runs (job, number, profile, digest, kind, image, content, limits, attempts, keep, after,"
            " after_runs, manifest, created, total, directory, retry_ram, shared)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                owner,
                number,
                profile,
                job.digest,
                job.kind,
                job.image,
                dump_json(job.content),
                limits_text(job.limits),
                job.attempts,
                job.keep,
                dump_json(job.after),
                dump_json(after_runs),
                storable_path(job.manifest),
                now,
                len(job.replicas),
                storable_path(directory),
                dump_json(job.retry_ram),
                _record_directory(key, job, number),
            ),
        )
    return int(cursor.lastrowid or 0)


def _record_directory(key: JobKey, job: Job, number: int) -> str | None:
    """Return the directory of the run's shared record; None if the job has none."""
    shared = shared_directory(key, job)
    if shared is None:
        return None
    from skahactl.manifest.shared_record import RecordDirectory

    return RecordDirectory.of_run(shared, job.name, number, job.digest).path


def shared_directory(key: JobKey, job: Job) -> str | None:
    """Return ``[logs] shared`` of a job for its user; None if it is not set.

    Characters of the user name that a path of the record must not contain become ``_``.
    """
    if job.shared is None:
        return None
    return job.shared.replace("{user}", re.sub(r"[^A-Za-z0-9._-]", "_", key.user))


def _insert_replicas(ledger: Ledger, run_id: int, job: Job) -> None:
    with ledger.transaction() as connection:
        connection.executemany(
            "INSERT INTO replicas (run, number, name, request, items, item_count, each, state, allowed)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (
                (
                    run_id,
                    replica.number,
                    replica.name,
                    request_text(replica.request),
                    dump_json(replica.items),
                    len(replica.items),
                    each_text(replica.each),
                    State.QUEUED,
                    job.attempts,
                )
                for replica in job.replicas
            ),
        )


def job_id(ledger: Ledger, key: JobKey) -> int:
    """Return the id of a job; create the job if necessary. Call this in a transaction."""
    ledger.connection.execute(
        "INSERT INTO jobs (server, user, name) VALUES (?,?,?) ON CONFLICT DO NOTHING", (key.server, key.user, key.name)
    )
    found = ledger.row("SELECT id FROM jobs WHERE server = ? AND user = ? AND name = ?", key.server, key.user, key.name)
    assert found is not None
    return int(found["id"])


def not_ended(ledger: Ledger, known: Iterable[Run]) -> list[Run]:
    """Return those of these runs that have not ended, read again from the ledger."""
    return [found for run in known if (found := run_by_id(ledger, run.id)) is not None and found.ended is None]


def run_by_id(ledger: Ledger, run_id: int) -> Run | None:
    row = ledger.row(f"{_RUNS} WHERE runs.id = ?", run_id)
    return None if row is None else run_value(row)


def request_settings(ledger: Ledger, run_id: int) -> tuple[str | None, tuple[float, ...]]:
    """Return the settings of a run that its requests depend on.

    These are the directory of its shared record, and [retry] ram: GB for attempts 1, 2, ..., empty if every attempt
    requests the same.
    """
    row = ledger.row("SELECT shared, retry_ram FROM runs WHERE id = ?", run_id)
    assert row is not None
    return row["shared"], tuple(load_json(row["retry_ram"] or "[]"))


def last_run(ledger: Ledger, key: JobKey) -> Run | None:
    row = ledger.row(
        f"{_RUNS} WHERE server = ? AND user = ? AND jobs.name = ? ORDER BY number DESC LIMIT 1",
        key.server,
        key.user,
        key.name,
    )
    return None if row is None else run_value(row)


def runs_of(ledger: Ledger, key: JobKey) -> tuple[Run, ...]:
    """Return every run of a job, oldest first."""
    rows = ledger.rows(
        f"{_RUNS} WHERE server = ? AND user = ? AND jobs.name = ? ORDER BY number", key.server, key.user, key.name
    )
    return tuple(run_value(row) for row in rows)


def last_runs(ledger: Ledger, server: str) -> tuple[Run, ...]:
    """Return the last run of every job on this server, newest first."""
    rows = ledger.rows(
        f"{_RUNS} WHERE server = ? AND runs.id IN (SELECT max(id) FROM runs GROUP BY job) ORDER BY runs.id DESC", server
    )
    return tuple(run_value(row) for row in rows)


def unfinished_runs(ledger: Ledger, server: str) -> tuple[Run, ...]:
    """Return every run on this server that has not ended, oldest first."""
    rows = ledger.rows(f"{_RUNS} WHERE server = ? AND ended IS NULL ORDER BY runs.id", server)
    return tuple(run_value(row) for row in rows)


def job_keys(ledger: Ledger, server: str | None = None) -> tuple[JobKey, ...]:
    """Return every job with a run, the one with the newest run first."""
    rows = ledger.rows(
        "SELECT server, user, name FROM jobs JOIN runs ON runs.job = jobs.id"
        " WHERE ? IS NULL OR server = ? GROUP BY jobs.id ORDER BY max(runs.created) DESC, max(runs.id) DESC",
        server,
        server,
    )
    return tuple(JobKey(row["server"], row["user"], row["name"]) for row in rows)


def users_seen(ledger: Ledger, server: str) -> tuple[str, ...]:
    """Return the user names that this server has reported, the one with the newest run first."""
    rows = ledger.rows(
        "SELECT user FROM jobs JOIN runs ON runs.job = jobs.id WHERE server = ? AND user <> ''"
        " GROUP BY user ORDER BY max(runs.id) DESC",
        server,
    )
    return tuple(row["user"] for row in rows)


def summaries(ledger: Ledger, runs: Sequence[Run]) -> tuple[RunSummary, ...]:
    """Return what a table of jobs shows of these runs; the number of queries is constant."""
    wanted = {run.id for run in runs}
    only = ("IN (" + ",".join(map(str, sorted(wanted))) + ")") if len(wanted) <= 500 else "> 0"
    counts: dict[int, dict[str, int]] = {}
    items: dict[int, dict[str, int]] = {}
    for row in ledger.rows(f"SELECT run, state, replicas, items FROM tallies WHERE run {only}"):
        if row["replicas"]:
            counts.setdefault(row["run"], {})[known_state(row["state"])] = row["replicas"]
        _add_items(items.setdefault(row["run"], _no_items()), row["state"], row["items"])
    own_ends = ledger.rows(f"SELECT run, state, items FROM item_tallies WHERE run {only}")
    own_ids = {run.id for run in runs if _has_each(run)} | {row["run"] for row in own_ends}
    for run_id in own_ids:
        items.setdefault(run_id, _no_items()).update(completed=0, failed=0)
    for row in (*own_ends, *_without_own_end(ledger, own_ids)):
        items[row["run"]][row["state"].lower()] += row["items"]
    retriable = {
        row["run"]: row["n"]
        for row in ledger.rows(
            "SELECT run, count(*) AS n FROM replicas JOIN runs ON runs.id = run WHERE runs.ended IS NULL"
            " AND replicas.state = 'Failed' AND attempt < allowed AND replicas.deleting = 0"
            f" AND run {only} GROUP BY run"
        )
    }
    drivers = {
        row["job"]: (row["id"], DriverRecord(row["host"], row["boot"], row["pid"], row["since"]))
        for row in ledger.rows(
            "SELECT drivers.*, (SELECT max(id) FROM runs WHERE runs.job = drivers.job) AS id FROM drivers"
        )
    }
    driver_of = dict(drivers.values())
    found = [_summary(run, counts, items, retriable, driver_of) for run in runs]
    over = [one.run.id for one in found if one.ended is None and is_over(one.counts, one.retriable)]
    ends = _last_ends(ledger, over)
    return tuple(replace(one, ended=ends[one.run.id]) if one.run.id in ends else one for one in found)


def _without_own_end(ledger: Ledger, run_ids: Iterable[int]) -> Sequence[sqlite3.Row]:
    """Return by run and state the number of items that ``items_of`` gives the state of their ended replica."""
    return ledger.rows(
        "SELECT replicas.run, replicas.state, sum(item_count - (SELECT count(*) FROM items"
        " WHERE items.run = replicas.run AND items.replica = replicas.number)) AS items"
        " FROM json_each(?) JOIN replicas ON replicas.run = value"
        " LEFT JOIN attempts ON attempts.run = replicas.run AND replica = replicas.number AND attempt = attempts.number"
        f" WHERE replicas.state = 'Completed' AND (each IS NULL OR coalesce(log, '') NOT IN {MARKS_READ})"
        f" OR replicas.state = 'Failed' AND (each IS NULL OR log IN {MARKS_READ}"
        " AND (attempt >= allowed OR replicas.deleting))"
        " GROUP BY replicas.run, replicas.state",
        dump_json(sorted(run_ids)),
    )


def unsaved_log_counts(ledger: Ledger, run_ids: Iterable[int], since: float) -> dict[int, tuple[int, float]]:
    """Return, by run, how many logs are still to be saved, and when the first of their attempts ended.

    These are logs of attempts that ended after ``since`` and that [logs] keep requests, but that no command has saved.
    Runs that have ended, that are deleted, or that have a shared record, which contains the logs, are left out.
    """
    rows = ledger.rows(
        "SELECT runs.id AS run, count(*) AS number, min(finished) AS first FROM json_each(?)"
        " JOIN runs ON runs.id = value JOIN attempts ON attempts.run = runs.id"
        " JOIN replicas ON replicas.run = runs.id AND replicas.number = attempts.replica"
        " WHERE runs.ended IS NULL AND runs.shared IS NULL AND NOT runs.deleting AND NOT replicas.deleting"
        " AND (attempts.state = 'Failed' AND keep IN ('all', 'failed')"
        " OR attempts.state = 'Completed' AND keep = 'all')"
        " AND session IS NOT NULL AND log IN ('none', 'partial') AND finished > ? GROUP BY runs.id",
        dump_json(list(run_ids)),
        since,
    )
    return {row["run"]: (row["number"], row["first"]) for row in rows}


def is_over(counts: Mapping[str, int], retriable: int) -> bool:
    """Return whether every replica has ended; ``retriable`` is the number of Failed ones with attempts left."""
    return not retriable and not any(number for state, number in counts.items() if state not in ENDED)


def end_run(ledger: Ledger, run_id: int, now: float) -> None:
    """Record that all replicas of a run have ended: when its last attempt ended; without attempts, now."""
    set_run(ledger, run_id, ended=min(now, _last_ends(ledger, [run_id]).get(run_id, now)))


def _last_ends(ledger: Ledger, run_ids: Sequence[int]) -> dict[int, float]:
    """Return when the last attempt of each run ended; for an attempt without an end, when it was last observed."""
    if not run_ids:
        return {}
    last = "SELECT run, max(coalesce(finished, observed, created)) AS at FROM attempts"
    rows = ledger.rows(f"{last} WHERE run IN ({','.join(map(str, run_ids))}) GROUP BY run")
    return {row["run"]: row["at"] for row in rows}


def _summary(
    run: Run,
    counts: dict[int, dict[str, int]],
    items: dict[int, dict[str, int]],
    retriable: dict[int, int],
    driver_of: dict[int, DriverRecord],
) -> RunSummary:
    own = zero_filled(counts.get(run.id, {}))
    again = retriable.get(run.id, 0)
    own_items = items.get(run.id, _no_items())
    return RunSummary(run, own, job_status(own, again), again, own_items, driver_of.get(run.id), run.ended)


def _no_items() -> dict[str, int]:
    return {"total": 0, "completed": 0, "failed": 0}


def _has_each(run: Run) -> bool:
    table = run.content.get("items")
    return isinstance(table, dict) and bool(table.get("each"))


def _add_items(tally: dict[str, int], state: str, number: int) -> None:
    tally["total"] += number
    if state == State.COMPLETED:
        tally["completed"] += number
    elif state == State.FAILED:
        tally["failed"] += number


def set_limits(
    ledger: Ledger, run_id: int, limits: Limits, keep: str, attempts: int, retry_ram: Sequence[float] = ()
) -> None:
    """Set what a manifest can change in an unfinished run: limits, logs to save, attempts (only more), and retry
    ram."""
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE runs SET limits = ?, keep = ?, attempts = ?, retry_ram = ? WHERE id = ?",
            (limits_text(limits), keep, attempts, dump_json(retry_ram), run_id),
        )
        connection.execute("UPDATE replicas SET allowed = max(allowed, ?) WHERE run = ?", (attempts, run_id))


def abandon(ledger: Ledger, run_id: int, now: float) -> None:
    """End a run of which nothing is alive: Queued replicas become Deleted, and Failed ones are not retried."""
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE replicas SET state = 'Deleted', reason = 'never created: the next run was started'"
            " WHERE run = ? AND state = 'Queued'",
            (run_id,),
        )
        connection.execute("UPDATE replicas SET allowed = attempt WHERE run = ? AND state = 'Failed'", (run_id,))
        set_run(ledger, run_id, ended=now)


def set_run(ledger: Ledger, run_id: int, **columns: object) -> None:
    """Set columns of a run."""
    names = ", ".join(f"{name} = ?" for name in columns)
    with ledger.transaction() as connection:
        connection.execute(f"UPDATE runs SET {names} WHERE id = ?", (*columns.values(), run_id))


def forget(ledger: Ledger, run_ids: Collection[int], now: float, memory: float) -> None:
    """Delete the records of these runs, and of jobs without further runs. The caller removes their logs.

    The ids of sessions that the platform may still list stay known: the server lists an ended session for ``memory``
    seconds, and an interactive one for a day (skaha-api 9).
    """
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM forgotten WHERE until <= ?", (now,))
        connection.executemany(
            "INSERT OR REPLACE INTO forgotten SELECT session, attempts.name,"
            " coalesce(finished, runs.observed, recorded, attempts.created)"
            " + CASE kind WHEN 'headless' THEN ? ELSE max(?, 86400) END AS until"
            " FROM attempts JOIN runs ON runs.id = run WHERE run = ? AND session IS NOT NULL AND until > ?",
            ((memory, memory, run_id, now) for run_id in run_ids),
        )
        connection.executemany("DELETE FROM runs WHERE id = ?", ((run_id,) for run_id in run_ids))
        connection.execute("DELETE FROM jobs WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.job = jobs.id)")


_ORDER: dict[str, int] = {State.RUNNING: 0, State.PENDING: 1, State.COMPLETED: 2}


def adopt_sessions(
    ledger: Ledger, run: Run, found: Mapping[int, Sequence[ServerSession]], rest: str | None, now: float
) -> None:
    """Adopt sessions for Queued replicas.

    ``found``: sessions by replica number. The one that got furthest is adopted; the others are unrecognised sessions.
    ``rest``: "create" leaves replicas without a session Queued; "unknown" makes those of them that were never created
    Unknown.
    """
    with ledger.transaction() as connection:
        queued = {row.number: row for row in replica_states(ledger, run.id) if row.state == State.QUEUED}
        for number in found.keys() & queued.keys():
            session = min(found[number], key=lambda one: (_ORDER.get(one.status, 3), one.started or 0.0, one.id))
            newest = ledger.row("SELECT max(number) AS n FROM attempts WHERE run = ? AND replica = ?", run.id, number)
            attempt = 1 + (0 if newest is None else newest["n"] or 0)
            connection.execute(
                "INSERT INTO attempts (run, replica, number, name, state, session, recorded, created, pending_since,"
                " sends) VALUES (?,?,?,?,'Pending',?,?,?,?,0)",
                (run.id, number, attempt, session.name, session.id, now, now, now),
            )
            connection.execute(
                "UPDATE replicas SET state = 'Pending', attempt = ? WHERE run = ? AND number = ?",
                (attempt, run.id, number),
            )
        connection.execute("UPDATE runs SET started = coalesce(started, ?) WHERE id = ?", (now, run.id))
        if rest == "unknown":
            missing = [row.number for row in queued.values() if row.number not in found and row.attempt == 0]
            set_states(ledger, run.id, missing, State.UNKNOWN, "it had no session when the job was adopted")
