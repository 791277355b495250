"""Values of job.py and records.py to and from the ledger's columns."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from skahactl.job import Each, EnvValue, Limits, Request, Resources, Secret
from skahactl.ledger.records import AttemptRow, JobKey, ReplicaRow, Run


def dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def request_text(request: Request) -> str:
    env = [[key, {value.source: value.name} if isinstance(value, Secret) else value] for key, value in request.env]
    resources = request.resources
    return dump([request.kind, request.image, request.command, env, [resources.cores, resources.ram, resources.gpus]])


def request_value(text: str) -> Request:
    kind, image, command, env, (cores, ram, gpus) = json.loads(text)
    return Request(kind, image, tuple(command), tuple((k, _env_value(v)) for k, v in env), Resources(cores, ram, gpus))


def _env_value(value: Any) -> EnvValue:
    if isinstance(value, dict):
        ((source, name),) = value.items()
        return Secret(source, name)
    return str(value)


def each_text(each: Each | None) -> str | None:
    return None if each is None else dump([each.script, each.rows])


def each_value(text: str | None) -> Each | None:
    if text is None:
        return None
    script, rows = json.loads(text)
    return Each(script, tuple(tuple(row) for row in rows))


def limits_text(limits: Limits) -> str:
    return dump([limits.alive, limits.pending, limits.pending_timeout])


def run_value(row: sqlite3.Row) -> Run:
    """A row of ``runs`` joined with its job's server, user and name (RUN_COLUMNS)."""
    return Run(
        id=row["id"],
        key=JobKey(row["server"], row["user"], row["name"]),
        number=row["number"],
        profile=row["profile"],
        digest=row["digest"],
        kind=row["kind"],
        image=row["image"],
        content=json.loads(row["content"]),
        limits=Limits(*json.loads(row["limits"])),
        attempts=row["attempts"],
        keep=row["keep"],
        after=tuple(json.loads(row["after"])),
        after_runs=json.loads(row["after_runs"]),
        manifest=row["manifest"],
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
        observed=row["observed"],
        deleting=bool(row["deleting"]),
        total=row["total"],
        reason=row["reason"],
        directory=row["directory"],
    )


REPLICA_COLUMNS = "run, number, name, request, items, each, state, reason, attempt, allowed, not_before, deleting"


def replica_value(row: sqlite3.Row) -> ReplicaRow:
    """A row of REPLICA_COLUMNS, in their order."""
    run, number, name, request, items, each, state, reason, attempt, allowed, not_before, deleting = row
    return ReplicaRow(
        run_id=run,
        number=number,
        name=name,
        request=request_value(request),
        items=tuple(json.loads(items)),
        each=each_value(each),
        state=state,
        reason=reason,
        attempt=attempt,
        allowed=allowed,
        not_before=not_before,
        deleting=bool(deleting),
    )


ATTEMPT_COLUMNS = (
    "run, replica, number, name, state, reason, session, recorded, created, started, finished, observed, deadline, "
    "url, pending_since, missing_since, sends, doubts, doubt_ended, twins, log, log_path, log_bytes, exit_code"
)


def attempt_value(row: sqlite3.Row) -> AttemptRow:
    """A row of ATTEMPT_COLUMNS, in their order."""
    return AttemptRow(*row)
