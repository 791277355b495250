"""The JSON shapes: what ``-o json``, ``jsonl`` and ``toml`` print, and what tables are drawn from.

Fields are only ever added within a major version. None is unknown (TOML leaves it out), times are ISO 8601 UTC,
durations seconds, RAM in GB, and counts have every state. The functions take what the ledger holds; no I/O here.
The shape of outcomes is engine.outcome's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skahactl.model import ALIVE, Limits, Resources, zero_filled
from skahactl.text import iso_time

if TYPE_CHECKING:
    from skahactl.ledger.records import AttemptRow, ItemRow, Note, ReplicaRow, Run, RunSummary
    from skahactl.skaha.models import Event, ServerSession

Row = dict[str, object]


def job(summary: RunSummary, *, logs: str | None, deadline: float | None = None) -> Row:
    """A job by its run. ``logs`` is the directory of its kept logs, ``deadline`` the earliest of what is alive."""
    run = summary.run
    driver = summary.driver
    return {
        "name": run.key.name,
        "profile": run.profile,
        "server": run.key.server,
        "user": run.key.user or None,
        "run": run.number,
        "digest": run.digest,
        "kind": run.kind,
        "image": run.image,
        "status": summary.status,
        "reason": run.reason,
        "replicas": run.total,
        "counts": zero_filled(summary.counts),
        "items": {key: summary.items.get(key, 0) for key in ("total", "completed", "failed")},
        "attempts": run.attempts,
        "limits": _limits(run.limits),
        "created": iso_time(run.created),
        "started": iso_time(run.started),
        "ended": iso_time(run.ended),
        "observed": iso_time(run.observed),
        "deadline": iso_time(deadline),
        "manifest": run.manifest,
        "logs": logs,
        "driver": None if driver is None else {"host": driver.host, "pid": driver.pid, "since": iso_time(driver.since)},
    }


def replica(run: Run, row: ReplicaRow, attempt: AttemptRow | None) -> Row:
    """A replica with its latest attempt, if there is one; ``attempts`` is how many it may have."""
    return {
        "job": run.key.name,
        "run": run.number,
        "replica": row.number,
        "of": run.total,
        "state": row.state,
        "reason": row.reason,
        "session": attempt.session if attempt else None,
        "name": attempt.name if attempt else row.name,
        "attempt": row.attempt,
        "attempts": row.allowed,
        "items": list(row.items),
        "image": row.request.image,
        "resources": _resources(row.request.resources),
        **_times(run, attempt),
        "log": _log(attempt),
        "url": attempt.url if attempt else None,
    }


def attempt(row: AttemptRow) -> Row:
    """One attempt of a replica, as ``describe`` lists them."""
    return {
        "attempt": row.number,
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "session": row.session,
        "created": iso_time(row.created),
        "started": iso_time(row.started),
        "finished": iso_time(row.finished),
        "observed": iso_time(row.observed),
        "deadline": iso_time(row.deadline),
        "sends": row.sends,
        "exit_code": row.exit_code,
        "log": _log(row),
        "url": row.url,
    }


def item(run: Run, row: ItemRow) -> Row:
    """One item; ``position`` counts from 1 in its replica, ``exit_code`` is known with ``each = true``."""
    return {
        "job": run.key.name,
        "run": run.number,
        "replica": row.replica,
        "position": row.position,
        "item": row.item,
        "state": row.state,
        "attempt": row.attempt,
        "exit_code": row.exit_code,
    }


def session(found: ServerSession, owner: tuple[Run, int, int] | None) -> Row:
    """The platform's own object, and which attempt of ours it is: run, replica, attempt."""
    ours: Row | None = None
    if owner is not None:
        run, number, tried = owner
        ours = {"job": run.key.name, "run": run.number, "replica": number, "attempt": tried}
    return {**found.raw, "skahactl": ours}


def event(session_id: str, owner: tuple[Run, int] | None, found: Event) -> Row:
    """A scheduling event of a session's pod; its times are the platform's words."""
    return {
        "session": session_id,
        "job": owner[0].key.name if owner else None,
        "run": owner[0].number if owner else None,
        "replica": owner[1] if owner else None,
        "type": found.type,
        "reason": found.reason,
        "message": found.message,
        "first": found.first,
        "last": found.last,
    }


def note(row: Note) -> Row:
    """An event of a run's history."""
    return {"at": iso_time(row.at), "replica": row.replica, "text": row.text}


def _limits(limits: Limits) -> Row:
    return {"alive": limits.alive, "pending": limits.pending, "pending_timeout": limits.pending_timeout}


def _resources(resources: Resources) -> Row:
    return {"cores": resources.cores, "ram": resources.ram, "gpus": resources.gpus}


def _times(run: Run, attempt: AttemptRow | None) -> Row:
    if attempt is None:
        return {"started": None, "finished": None, "observed": iso_time(run.observed), "deadline": None}
    seen = max((at for at in (attempt.observed, _still(run, attempt)) if at is not None), default=None)
    return {
        "started": iso_time(attempt.started),
        "finished": iso_time(attempt.finished),
        "observed": iso_time(seen),
        "deadline": iso_time(attempt.deadline),
    }


def _still(run: Run, attempt: AttemptRow) -> float | None:
    """An attempt that is alive was looked at whenever its run was."""
    return run.observed if attempt.state in ALIVE else None


def _log(attempt: AttemptRow | None) -> Row:
    """Where the log is kept; ``complete`` is None where none is. A log without a byte is complete, and has no file."""
    if attempt is None or (attempt.log_path is None and (attempt.log, attempt.log_bytes) != ("kept", 0)):
        return {"path": None, "bytes": None, "complete": None}
    return {"path": attempt.log_path, "bytes": attempt.log_bytes, "complete": attempt.log == "kept"}
