"""Attempts: the intent before a create, its outcome, and what lists and logs showed later.

The name of an attempt is unique in this ledger: the session name of the replica, with ``-2``, ``-3``, ... from the
second attempt on. Attempts of earlier runs with the same content count. A session with that name can only belong to
this attempt.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from skahactl.ledger.records import (
    ATTEMPT_COLUMNS,
    AttemptKey,
    AttemptRow,
    Ending,
    Intent,
    ResultSource,
    Usage,
    attempt_value,
    dump_json,
    resources_text,
)
from skahactl.ledger.replicas import set_not_before
from skahactl.model import ALIVE, State, attempt_name, base_session_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import ReplicaRow
    from skahactl.model import Resources
    from skahactl.skaha.models import CreateResult, Listing, ServerSession


def attempts_of(ledger: Ledger, run_id: int, replica: int | None = None) -> tuple[AttemptRow, ...]:
    """Return every attempt of the run, or of one replica, sorted by replica and number."""
    rows = ledger.rows(
        f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE run = ?{'' if replica is None else ' AND replica = ?'}"
        " ORDER BY replica, number",
        *((run_id,) if replica is None else (run_id, replica)),
    )
    return tuple(attempt_value(row) for row in rows)


def attempt_of_session(ledger: Ledger, session: str) -> AttemptRow | None:
    row = ledger.row(f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE session = ?", session)
    return None if row is None else attempt_value(row)


def is_alive(ledger: Ledger, session: str) -> bool:
    """Return whether the attempt with this session has not ended, as far as the ledger knows."""
    attempt = attempt_of_session(ledger, session)
    return attempt is not None and attempt.state in ALIVE


def attempts_named(ledger: Ledger, name: str) -> tuple[AttemptRow, ...]:
    """Return the attempts with exactly this session name."""
    rows = ledger.rows(f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE name = ?", name)
    return tuple(attempt_value(row) for row in rows)


def known_sessions(ledger: Ledger, sessions: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Return run, replica and attempt of the session ids that belong to an attempt."""
    rows = ledger.rows(
        "SELECT session, run, replica, number FROM attempts WHERE session IN (SELECT value FROM json_each(?))",
        dump_json(list(sessions)),
    )
    return {row["session"]: (row["run"], row["replica"], row["number"]) for row in rows}


def known_among(ledger: Ledger, sessions: Iterable[str]) -> frozenset[str]:
    """Return those of these session ids that this ledger knows: of an attempt, of a duplicate, or of a removed run."""
    asked = dump_json(list(sessions))
    rows = ledger.rows(
        "SELECT session FROM attempts WHERE session IN (SELECT value FROM json_each(?))"
        " UNION SELECT session FROM duplicates WHERE session IN (SELECT value FROM json_each(?))"
        " UNION SELECT session FROM forgotten WHERE session IN (SELECT value FROM json_each(?))",
        asked,
        asked,
        asked,
    )
    return frozenset(row["session"] for row in rows)


def runs_with(ledger: Ledger, sessions: Iterable[str]) -> frozenset[int]:
    """Return the ids of the runs with any of these session ids, of an attempt or of a duplicate."""
    asked = dump_json(list(sessions))
    rows = ledger.rows(
        "SELECT run FROM attempts WHERE session IN (SELECT value FROM json_each(?))"
        " UNION SELECT run FROM duplicates WHERE session IN (SELECT value FROM json_each(?))",
        asked,
        asked,
    )
    return frozenset(row["run"] for row in rows)


def known_of(ledger: Ledger, attempts: Iterable[AttemptRow], listed: Set[str]) -> frozenset[str]:
    """Return those of the ``listed`` session ids that this ledger knows.

    ``attempts`` were read from the ledger before; only the other ids are looked up.
    """
    own = {attempt.session for attempt in attempts}
    return frozenset(listed & own) | known_among(ledger, listed - own)


def intend(ledger: Ledger, run_id: int, number: int, now: float) -> Intent | None:
    """Record that a create is about to be sent; return None if it must not be sent.

    It must not be sent if a delete was requested, or if the replica is in a state that allows no create. Call this in a
    transaction that is durable before the request is sent.
    """
    row = ledger.row(
        "SELECT replicas.name, replicas.state, replicas.attempt, replicas.deleting, runs.deleting AS whole"
        " FROM replicas JOIN runs ON runs.id = run WHERE run = ? AND replicas.number = ?",
        run_id,
        number,
    )
    if row is None or row["deleting"] or row["whole"] or row["state"] not in _CREATABLE:
        return None
    open_one = ledger.row(
        "SELECT number, name, sends FROM attempts WHERE run = ? AND replica = ? AND number = ? AND state IN ('Queued',"
        " 'Unconfirmed')",
        run_id,
        number,
        row["attempt"],
    )
    if open_one is not None:
        intent = Intent(run_id, number, open_one["number"], open_one["name"], open_one["sends"] + 1)
    else:
        newest = ledger.row("SELECT max(number) AS n FROM attempts WHERE run = ? AND replica = ?", run_id, number)
        last = max(row["attempt"], 0 if newest is None else newest["n"] or 0)  # a superseded attempt may be newer
        intent = Intent(run_id, number, last + 1, _next_name(ledger, row["name"], now), 1)
    _write_intent(ledger, intent, now)
    return intent


_CREATABLE = (State.QUEUED, State.UNCONFIRMED, State.FAILED)


def record_resources(ledger: Ledger, intent: Intent, resources: Resources) -> None:
    """Record what an attempt requests, if that differs from the request of its replica."""
    _update(ledger, intent.key, resources=resources_text(resources))


def _next_name(ledger: Ledger, name: str, now: float) -> str:
    """Return the session name of the next attempt at the replica with this ``name``.

    Its number is higher than those of all attempts that were created or adopted under ``name``, and of sessions of
    removed runs that the platform may still list.
    """
    rows = ledger.rows(  # "." follows "-", so the index finds every name that begins with this name and a "-"
        "SELECT name FROM attempts WHERE name = ? UNION SELECT name FROM attempts"
        " WHERE name > ? || '-' AND name < ? || '.'"
        " UNION SELECT name FROM forgotten WHERE name = ? AND until > ?"
        " UNION SELECT name FROM forgotten WHERE name > ? || '-' AND name < ? || '.' AND until > ?",
        *(name, name, name),
        *(name, now),
        *(name, name, now),
    )
    used = [row["name"][len(name) + 1 :] or "1" for row in rows if base_session_name(row["name"]) == name]
    return attempt_name(name, max(map(int, used), default=0) + 1)


def _write_intent(ledger: Ledger, intent: Intent, now: float) -> None:
    execute = ledger.connection.execute
    execute(
        "INSERT INTO attempts (run, replica, number, name, state, created, sends) VALUES (?,?,?,?,'Creating',?,1)"
        " ON CONFLICT DO UPDATE SET state = 'Creating', sends = ?,"
        " created = CASE WHEN ambiguous_sends = 0 THEN excluded.created ELSE created END",
        (*intent.key, intent.name, now, intent.send),
    )
    execute(
        "INSERT INTO sends (run, replica, attempt, number, sent) VALUES (?,?,?,?,?)", (*intent.key, intent.send, now)
    )
    execute(
        "UPDATE replicas SET state = 'Creating', reason = NULL, attempt = ?, not_before = NULL"
        " WHERE run = ? AND number = ?",
        (intent.attempt, intent.run_id, intent.replica),
    )
    execute(
        "UPDATE runs SET started = coalesce(started, ?), ended = NULL"
        " WHERE id = ? AND (started IS NULL OR ended IS NOT NULL)",
        (now, intent.run_id),
    )


def withdraw(ledger: Ledger, intent: Intent) -> None:
    """Withdraw the intent of a request that was certainly never sent. That send does not count."""
    ledger.connection.execute(
        "DELETE FROM sends WHERE run = ? AND replica = ? AND attempt = ? AND number = ?", (*intent.key, intent.send)
    )
    _update(ledger, intent.key, sends=intent.send - 1)
    state = State.UNCONFIRMED if _has_ambiguous_sends(ledger, intent.key) else State.QUEUED
    _set_state(ledger, intent.key, state, None)


def settle(ledger: Ledger, intent: Intent, created: CreateResult, now: float, again: float | None) -> None:
    """Record the outcome of a create.

    ``again`` is the earliest time of the next send, if the create certainly made no session.
    """
    key = intent.key
    words = None if created.error is None else created.error.message
    ledger.connection.execute(
        "UPDATE sends SET ended = ?, outcome = ?, words = ?"
        " WHERE run = ? AND replica = ? AND attempt = ? AND number = ?",
        (now, created.outcome, words, *key, intent.send),
    )
    if created.outcome == "created":
        _set_state(ledger, key, State.PENDING, None)
        _update(ledger, key, session=created.id, recorded=now, pending_since=now)
    elif created.outcome == "ambiguous":
        _count(ledger, [key], "ambiguous_sends")
        _update(ledger, key, last_ambiguous_at=now)
        _set_state(ledger, key, State.UNCONFIRMED, f"no usable reply to the create: {words}")
    elif created.outcome == "rejected":
        _set_state(ledger, key, State.REJECTED, words)
        _update(ledger, key, finished=now)
    else:  # this send made no session, but an earlier one may have
        state = State.UNCONFIRMED if _has_ambiguous_sends(ledger, key) else State.QUEUED
        _set_state(ledger, key, state, words)
        ledger.connection.execute("UPDATE replicas SET not_before = ? WHERE run = ? AND number = ?", (again, *key[:2]))


def excuse(ledger: Ledger, keys: Iterable[AttemptKey]) -> None:
    """Do not count one ambiguous create of each of these attempts towards the limit of sends.

    The platform had trouble, so the create says nothing about the replica.
    """
    _count(ledger, keys, "excused")


def _has_ambiguous_sends(ledger: Ledger, key: AttemptKey) -> bool:
    row = ledger.row("SELECT ambiguous_sends FROM attempts WHERE run = ? AND replica = ? AND number = ?", *key)
    return row is not None and row["ambiguous_sends"] > 0


def _update(ledger: Ledger, key: AttemptKey, **columns: object) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)
    ledger.connection.execute(
        f"UPDATE attempts SET {names} WHERE run = ? AND replica = ? AND number = ?", (*columns.values(), *key)
    )


def _count(ledger: Ledger, keys: Iterable[AttemptKey], column: str) -> None:
    """Add one to a column of these attempts."""
    ledger.connection.executemany(
        f"UPDATE attempts SET {column} = {column} + 1 WHERE run = ? AND replica = ? AND number = ?", keys
    )


def _set_state(ledger: Ledger, key: AttemptKey, state: str, reason: str | None) -> None:
    """Set the state of an attempt, and of its replica if this is its current attempt."""
    _update(ledger, key, state=state, reason=reason)
    ledger.connection.execute(
        "UPDATE replicas SET state = ?, reason = ? WHERE run = ? AND number = ? AND attempt = ?", (state, reason, *key)
    )


def close_open_sends(ledger: Ledger, run_id: int, now: float) -> int:
    """Mark creates without a recorded outcome as unconfirmed, and return their number.

    They were in flight when their driver ended.
    """
    from skahactl.skaha.models import CreateOutcome, CreateResult, ServerError

    lost = CreateResult(CreateOutcome.AMBIGUOUS, error=ServerError("ended", None, "the command ended first"))
    with ledger.transaction():
        open_sends = ledger.rows("SELECT replica, attempt, number FROM sends WHERE run = ? AND outcome IS NULL", run_id)
        for row in open_sends:
            settle(ledger, Intent(run_id, row["replica"], row["attempt"], "", row["number"]), lost, now, None)
    return len(open_sends)


def set_attempt(
    ledger: Ledger,
    attempt: AttemptRow,
    columns: Mapping[str, object] = MappingProxyType({}),
    *,
    state: str | None = None,
    reason: str | None = None,
) -> None:
    """Set columns of an attempt. ``state`` is also set for its replica, if this is its current attempt."""
    with ledger.transaction():
        if columns:
            _update(ledger, attempt.key, **columns)
        if state is not None:
            _set_state(ledger, attempt.key, state, reason)


def forget_logs(ledger: Ledger, run_ids: Iterable[int]) -> None:
    """Record that the saved logs of these runs were removed."""
    with ledger.transaction() as connection:
        connection.executemany(
            "UPDATE attempts SET log = 'pruned', log_path = NULL WHERE run = ? AND log_path IS NOT NULL",
            ((run_id,) for run_id in run_ids),
        )


def duplicates_of(ledger: Ledger, run_id: int) -> dict[str, int]:
    """Return the duplicates found so far in all runs of the run's job, as session id to replica number."""
    rows = ledger.rows(
        "SELECT session, replica FROM duplicates WHERE run IN"
        " (SELECT id FROM runs WHERE job = (SELECT job FROM runs WHERE id = ?))",
        run_id,
    )
    return {row["session"]: row["replica"] for row in rows}


def record_seen(ledger: Ledger, attempt: AttemptRow, session: ServerSession, state: str, at: float) -> None:
    """Record what a list shows of the session of an attempt.

    The first poll that shows the session as ended sets its end. The caller records a changed ``startTime``, which means
    that the platform restarted the session.
    """
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
    columns["pending_since"] = at if state == State.PENDING else None
    if state in (State.COMPLETED, State.FAILED):
        columns["finished"] = at if session.ended is None else session.ended
        columns["source"] = ResultSource.OBSERVED
        columns["finished_after"] = _last_alive(ledger, attempt, session, at) if session.ended is None else None
        columns["exit_code"] = session.exit_code
    set_attempt(ledger, attempt, columns, state=state)


def _last_alive(ledger: Ledger, attempt: AttemptRow, session: ServerSession, at: float) -> float:
    """Return the latest time at which the session is known not to have ended.

    That is the poll before this one, or a later start or recorded change of the session.
    """
    row = ledger.row("SELECT observed_before FROM runs WHERE id = ?", attempt.run_id)
    before = None if row is None else row["observed_before"]
    known = [time for time in (attempt.recorded, attempt.observed, session.started, before) if time is not None]
    return min(at, max(known, default=attempt.created))


def record_adopted(ledger: Ledger, attempt: AttemptRow, session: ServerSession, state: str, at: float) -> None:
    """Record that an unconfirmed create made this session. This resolves one ambiguous send."""
    with ledger.transaction():
        columns = {
            "session": session.id,
            "recorded": at,
            "resolved_ambiguous": attempt.resolved_ambiguous + 1,
            "missing_since": None,
        }
        set_attempt(ledger, attempt, {**columns, "pending_since": at}, state=State.PENDING)
        record_seen(ledger, attempt, session, state, at)


def add_recorded_attempt(ledger: Ledger, replica: ReplicaRow, number: int, now: float) -> AttemptRow:
    """Add and return an attempt that only the shared record knows.

    Its session and its start are unknown. The caller records its end next.
    """
    key = (replica.run_id, replica.number)
    with ledger.transaction() as connection:
        connection.execute(
            "INSERT INTO attempts (run, replica, number, name, state, created, sends) VALUES (?,?,?,?,'Unknown',?,0)",
            (*key, number, attempt_name(replica.name, number), now),
        )
        connection.execute(
            "UPDATE replicas SET attempt = ?, state = 'Unknown', allowed = max(allowed, ?)"
            " WHERE run = ? AND number = ?",
            (number, number, *key),
        )
    return attempts_of(ledger, *key)[-1]


def record_duplicate(ledger: Ledger, attempt: AttemptRow, session: str, at: float) -> None:
    """Record a duplicate, to be deleted. This resolves one ambiguous send."""
    with ledger.transaction() as connection:
        connection.execute(
            "INSERT INTO duplicates (session, run, replica, attempt, seen) VALUES (?,?,?,?,?)",
            (session, attempt.run_id, attempt.replica, attempt.number, at),
        )
        _count(ledger, [attempt.key], "resolved_ambiguous")


def record_rivals(ledger: Ledger, kept: AttemptRow, ended: Iterable[AttemptRow]) -> None:
    """Make ``kept`` the current attempt of its replica, and mark the live sessions of the others for deletion."""
    with ledger.transaction() as connection:
        for other in ended:
            if other.session is None:  # an ambiguous create: its session, if it made one, is a duplicate from now on
                set_attempt(ledger, other, {"log": "lost"}, state=State.DELETED, reason="superseded")
            elif other.state in ALIVE:
                set_attempt(ledger, other, {"ending": Ending.SUPERSEDED})
        connection.execute(
            "UPDATE replicas SET attempt = ?, state = ?, reason = NULL, not_before = NULL WHERE run = ? AND number = ?",
            (kept.number, kept.state, kept.run_id, kept.replica),
        )


def record_missing(ledger: Ledger, attempt: AttemptRow, at: float) -> None:
    """Record the time of the first list that lacks the session.

    A recorded time in the future means that the clock was set back since; it is replaced.
    """
    if attempt.missing_since is None or attempt.missing_since > at:
        set_attempt(ledger, attempt, {"missing_since": at})


def record_gone(ledger: Ledger, attempt: AttemptRow, state: str, reason: str, at: float, again: float | None) -> None:
    """Record that a session no longer exists.

    ``again`` is the earliest time of a retry if ``state`` is Failed.
    """
    log = {"log": "lost"} if attempt.log == "none" and state != State.DELETED else {}
    after = None if state == State.DELETED else attempt.observed or attempt.created
    columns = {"finished": at, "finished_after": after, "observed": at, **log}
    set_attempt(ledger, attempt, columns, state=state, reason=reason)
    if again is not None:
        set_not_before(ledger, attempt.run_id, attempt.replica, again)


def end_unsent(ledger: Ledger, attempt: AttemptRow, state: str, reason: str, at: float) -> None:
    """End an unconfirmed attempt of which no session was seen."""
    set_attempt(ledger, attempt, {"finished": at, "log": "lost"}, state=state, reason=reason)


def record_usage(ledger: Ledger, run_id: int, listing: Listing) -> None:
    """Add the memory and cores in use that ``listing`` shows for the sessions of a run.

    One statement serves any number of sessions.
    """
    shown = [
        [session.id, session.ram_in_use, session.cores_in_use]
        for session in listing.sessions
        if session.ram_in_use is not None or session.cores_in_use is not None
    ]
    if not shown:
        return
    # CROSS and + keep SQLite from searching all attempts of the run for each session, which takes quadratic time
    with ledger.transaction() as connection:
        connection.execute(
            "INSERT INTO usage (session, run, replica, attempt, ram_peak, cpu_sum, cpu_samples, samples)"
            " SELECT attempts.session, run, replica, number, json_extract(value, '$[1]'),"
            " coalesce(json_extract(value, '$[2]'), 0), json_extract(value, '$[2]') IS NOT NULL, 1"
            " FROM json_each(?) CROSS JOIN attempts ON attempts.session = json_extract(value, '$[0]') WHERE +run = ?"
            " ON CONFLICT (session) DO UPDATE SET"
            " ram_peak = max(coalesce(ram_peak, excluded.ram_peak), coalesce(excluded.ram_peak, ram_peak)),"
            " cpu_sum = cpu_sum + excluded.cpu_sum, cpu_samples = cpu_samples + excluded.cpu_samples,"
            " samples = samples + 1",
            (dump_json(shown), run_id),
        )


def usage_of(ledger: Ledger, run_id: int) -> dict[tuple[int, int], Usage]:
    """Return the measured usage by (replica, attempt). Attempts that no poll measured are left out."""
    rows = ledger.rows(
        "SELECT replica, attempt, ram_peak, cpu_sum, cpu_samples, samples FROM usage WHERE run = ?", run_id
    )
    return {
        (row["replica"], row["attempt"]): Usage(
            row["ram_peak"], row["cpu_sum"] / row["cpu_samples"] if row["cpu_samples"] else None, row["samples"]
        )
        for row in rows
    }


def was_killed(ledger: Ledger, run_id: int) -> bool:
    """Return whether an attempt or an item of a run ended with exit code 137 (SIGKILL)."""
    tables = (f"SELECT 1 FROM {table} WHERE run = ? AND exit_code = 137" for table in ("attempts", "items"))
    return ledger.row(" UNION ".join(tables), run_id, run_id) is not None
