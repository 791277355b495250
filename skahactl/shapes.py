"""The JSON shapes: the data of ``-o json`` and other formats, and the source of tables.

Fields are only ever added within a major version. None means unknown, times are ISO 8601 UTC, durations are in seconds,
RAM is in GB, and counts contain every state. The functions take rows of the ledger; no I/O here. The shape of outcomes
is in engine.outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.model import ALIVE, Limits, Resources, State, zero_filled
from skahactl.text import iso_time

if TYPE_CHECKING:
    from skahactl.ledger.records import AttemptRow, ItemRow, Note, ReplicaRow, Run, RunSummary, Usage
    from skahactl.skaha.models import Event

Row = dict[str, object]


def job(summary: RunSummary, *, logs: str | None, deadline: float | None = None) -> Row:
    """Return a job from its run. ``logs`` is the directory of its saved logs, ``deadline`` the earliest deadline of its
    live sessions."""
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
        "reason": run.reason or summary.stop_reason,
        "replicas": run.total,
        "counts": zero_filled(summary.counts),
        "items": {key: summary.items.get(key, 0) for key in ("total", "completed", "failed")},
        "attempts": run.attempts,
        "limits": _limits(run.limits),
        "created": iso_time(run.created),
        "started": iso_time(run.started),
        "ended": iso_time(summary.ended),
        "observed": iso_time(run.observed),
        "deadline": iso_time(deadline),
        "manifest": run.manifest,
        "logs": logs,
        "shared": run.shared,
        "driver": None if driver is None else {"host": driver.host, "pid": driver.pid, "since": iso_time(driver.since)},
    }


def replica(
    run: Run,
    row: ReplicaRow,
    attempt: AttemptRow | None,
    failed: FailedItem | None = None,
    used: Usage | None = None,
) -> Row:
    """Return a replica with its latest attempt, if there is one. ``attempts`` in the row is how many it may have.

    ``failed``: the last failed item. ``used``: what the latest attempt used, as polls reported.
    """
    resources = row.requested(attempt)
    return {
        "job": run.key.name,
        "run": run.number,
        "replica": row.number,
        "of": run.total,
        "state": row.state,
        "reason": row.reason or failure_reason(resources, attempt, failed),
        "session": attempt.session if attempt else None,
        "name": attempt.name if attempt else row.name,
        "attempt": row.attempt,
        "attempts": row.allowed,
        "items": list(row.items),
        "image": row.request.image,
        "resources": _resources(resources),
        "usage": _usage(resources, used),
        **_times(run, attempt),
        "exit_code": attempt.exit_code if attempt else None,
        "source": attempt.source if attempt else None,
        "last_line": attempt.last_line if attempt else None,
        "log": _log(run, attempt),
        "url": attempt.url if attempt else None,
    }


@dataclass(frozen=True, slots=True)
class FailedItem:
    """An item that ended with an exit code other than 0."""

    item: str
    exit_code: int


def failure_reason(resources: Resources, attempt: AttemptRow | None, failed: FailedItem | None = None) -> str | None:
    """Return why the latest attempt failed: the item and exit code if known, and the last line of the log. None if the
    attempt did not fail or nothing is known."""
    if attempt is None or attempt.state != State.FAILED:
        return None
    code = failed.exit_code if failed else attempt.exit_code
    parts = [f"item {failed.item}"] if failed else []
    parts += [f"exit {code}"] if code is not None else []
    parts += [attempt.last_line] if attempt.last_line else []
    hint = exit_hint(code, attempt.last_line, resources)
    return ": ".join(parts) + (f" ({hint})" if hint else "") or None


def exit_hint(code: int | None, last_line: str | None, resources: Resources) -> str | None:
    """Return what an exit code or a last line probably means, or None: 137 is 128 + SIGKILL, typical of a container
    that needed too much memory; 143 is 128 + SIGTERM."""
    is_told = (last_line or "").lower().endswith("killed")
    if code == 137 or (code is None and is_told):
        requested = f" requested {resources.ram:g} GB" if resources.ram else ""
        return f"{'' if is_told else 'killed, '}out of memory?{requested}"
    return "terminated from outside" if code == 143 else None


def attempt(run: Run, row: AttemptRow) -> Row:
    """Return one attempt of a replica, for ``describe``. ``resources`` is None if they are the replica's own."""
    return {
        "attempt": row.number,
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "session": row.session,
        "created": iso_time(row.created),
        "started": iso_time(row.started),
        "finished": iso_time(row.finished),
        "finished_after": iso_time(row.finished_after),
        "ran": _seconds(row.ran),
        "observed": iso_time(row.observed),
        "deadline": iso_time(row.deadline),
        "sends": row.sends,
        "resources": None if row.resources is None else _resources(row.resources),
        "exit_code": row.exit_code,
        "source": row.source,
        "last_line": row.last_line,
        "log": _log(run, row),
        "url": row.url,
    }


def item(run: Run, row: ItemRow, number: int) -> Row:
    """Return one item. ``number`` is its position in the whole list, from 1, as in ``logs --item``; ``position`` is
    that in its replica. Without ``each``, ``exit_code`` is the replica's."""
    return {
        "job": run.key.name,
        "run": run.number,
        "replica": row.replica,
        "number": number,
        "position": row.position,
        "item": row.item,
        "state": row.state,
        "attempt": row.attempt,
        "exit_code": row.exit_code,
    }


def session(found: Row, owner: tuple[Run, int, int] | None) -> Row:
    """Return the server's object (``found``) with the run, replica and attempt of its ``owner``, if it belongs to a job
    here."""
    ours: Row | None = None
    if owner is not None:
        run, number, tried = owner
        ours = {"job": run.key.name, "run": run.number, "replica": number, "attempt": tried}
    return {**found, "skahactl": ours}


def event(session_id: str, owner: tuple[Run, int] | None, found: Event) -> Row:
    """Return a scheduling event of a session's pod. Its times are texts of the server."""
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
    """Return an event in the history of a run."""
    return {"at": iso_time(row.at), "replica": row.replica, "text": row.text}


def _limits(limits: Limits) -> Row:
    return {
        "alive": limits.alive,
        "pending": limits.pending,
        "pending_timeout": limits.pending_timeout,
        "failures": limits.failures,
    }


def _resources(resources: Resources) -> Row:
    return {"cores": resources.cores, "ram": resources.ram, "gpus": resources.gpus}


def _usage(requested: Resources, used: Usage | None) -> Row:
    """Return the requested and used resources. RAM is in GB of 2**30 bytes, as in manifests."""
    return {
        "ram_peak_gb": None if used is None or used.ram_peak is None else round(used.ram_peak, 3),
        "ram_requested_gb": requested.ram,
        "cpu_mean_cores": None if used is None or used.cpu_mean is None else round(used.cpu_mean, 3),
        "cpu_requested": requested.cores,
        "samples": 0 if used is None else used.samples,
    }


def _times(run: Run, attempt: AttemptRow | None) -> Row:
    if attempt is None:
        times = ("started", "finished", "finished_after", "ran", "deadline")
        return {**dict.fromkeys(times), "observed": iso_time(run.observed)}
    seen = max((at for at in (attempt.observed, _still(run, attempt)) if at is not None), default=None)
    return {
        "started": iso_time(attempt.started),
        "finished": iso_time(attempt.finished),
        "finished_after": iso_time(attempt.finished_after),
        "ran": _seconds(attempt.ran),
        "deadline": iso_time(attempt.deadline),
        "observed": iso_time(seen),
    }


def _seconds(ran: float | None) -> float | None:
    return None if ran is None else round(ran, 3)


def _still(run: Run, attempt: AttemptRow) -> float | None:
    """Return when a live attempt was last observed, which is when its run was; None for an ended one."""
    return run.observed if attempt.state in ALIVE else None


def _log(run: Run, attempt: AttemptRow | None) -> Row:
    """Return where the log is: ``path`` on this machine, ``shared`` as sessions see it.

    ``complete`` is None if the log was not read. An empty log is complete and has no file.
    """
    shared = None
    if run.shared is not None and attempt is not None:
        from skahactl.manifest.shared_record import RecordDirectory

        shared = RecordDirectory(run.shared).log(attempt.replica, attempt.number)
    if attempt is None or (attempt.log_path is None and (attempt.log, attempt.log_bytes) != ("kept", 0)):
        is_there = attempt is not None and attempt.log == "shared"
        return {"path": None, "shared": shared, "bytes": None, "complete": True if is_there else None}
    return {
        "path": attempt.log_path,
        "shared": shared,
        "bytes": attempt.log_bytes,
        "complete": attempt.log == "kept",
    }
