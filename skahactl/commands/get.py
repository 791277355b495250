"""``skahactl get``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import DISPLAY, SELECTION, Cached, Limit, NoHeaders, Replicas, RunNumber, SortBy


def get(
    *words: Annotated[
        str,
        Parameter(
            name="NOUN|TARGET",
            help="jobs, replicas, items, sessions, events, images, resources or stats, and JOB or JOB/REPLICAS.",
            completer=completers.nouns_or_jobs,
        ),
    ],
    state: Annotated[
        str | None,
        Parameter(
            metavar="STATES",
            group=SELECTION,
            help="Only rows in these states: Running,Failed.",
            completer=completers.states,
        ),
    ] = None,
    failed: Annotated[bool, Parameter(group=SELECTION, help="Only rows that are Failed.")] = False,
    replicas: Replicas = None,
    run: RunNumber = None,
    every_profile: Annotated[
        bool,
        Parameter(name=["--all-profiles", "-A"], group=SELECTION, help="Jobs on every server in the local record."),
    ] = False,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], group=DISPLAY, help="Watch for changes.")] = False,
    cached: Cached = False,
    sort_by: SortBy = None,
    no_headers: NoHeaders = False,
    limit: Limit = None,
) -> int:
    """List jobs, replicas, items, sessions, events, images, resources or stats.

    'get' lists jobs, 'get JOB' its replicas. Rows come from the local record, brought up to date by one request to
    the server; exit with 4 if that request fails. Use -o name to print targets for other commands; the items
    that 'get items' prints are for --items of retry and mark.

    Examples:
      skahactl get jobs
      skahactl get tiles --failed
      skahactl get replicas tiles --state Failed -o name | xargs -r skahactl retry
      skahactl get sessions -o wide --sort-by startTime
    """
    from skahactl.commands.listing import GetOptions, list_rows

    if failed:
        state = ",".join(filter(None, (state, "Failed")))
    sort_by = None if sort_by is None else sort_by.replace(".", "", 1) if sort_by.lstrip("-")[:1] == "." else sort_by
    asked = GetOptions(state, replicas, run, watch, cached, sort_by, not no_headers, limit)
    return list_rows(words, asked, every_profile=every_profile)
