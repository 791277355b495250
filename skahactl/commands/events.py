"""``skahactl events``."""

from __future__ import annotations

from skahactl.commands.params import Limit, NoHeaders, Replicas, RunNumber, SortBy, TargetWord


def events(
    *targets: TargetWord,
    replicas: Replicas = None,
    run: RunNumber = None,
    sort_by: SortBy = None,
    no_headers: NoHeaders = False,
    limit: Limit = None,
) -> int:
    """Show the scheduling events of sessions, which explain why a session is Pending.

    For a job, these are the events of its Pending replicas, or if there are none, of its Running replicas. The server
    keeps events for about one hour.

    Examples:
      skahactl events tiles
      skahactl events tiles/17 -o json
    """
    from skahactl.commands.listing import GetOptions, list_rows

    asked = GetOptions(replicas=replicas, run=run, sort_by=sort_by, headers=not no_headers, limit=limit)
    return list_rows(("events", *targets), asked)
