"""``skahactl events``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl.commands.named import Replicas, RunNumber, TargetWord
from skahactl.errors import UsageError


def events(
    *targets: TargetWord,
    replicas: Replicas = None,
    run: RunNumber = None,
    sort_by: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="A field of -o json or a column.")] = None,
    no_headers: Annotated[bool, Parameter(help="Without the line of titles.")] = False,
    limit: Annotated[int | None, Parameter(help="At most so many rows.")] = None,
) -> int:
    """Show the scheduling events of sessions: why is it Pending?

    Of a job, those of its replicas that are Pending, or if none is, of those that are Running; named replicas and
    sessions always. The platform keeps events for about an hour, and has none for a session that it queues itself.

    Examples:

    skahactl events tiles

    skahactl events tiles/17 -o json
    """
    from skahactl.commands.getting import GetOptions, run_get

    if not targets:
        raise UsageError("whose events?", hint="skahactl events JOB, or JOB/REPLICA")
    asked = GetOptions(replicas=replicas, run=run, sort_by=sort_by, headers=not no_headers, limit=limit)
    return run_get(("events", *targets), asked)
