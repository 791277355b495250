"""``skahactl get``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.named import Replicas, RunNumber


def get(
    *words: Annotated[
        str,
        Parameter(
            name="NOUN-OR-TARGET",
            help="What to show, and of which JOB or JOB/REPLICAS.",
            completer=completers.nouns_or_jobs,
        ),
    ],
    state: Annotated[
        str | None, Parameter(help="In these states only: Running,Failed.", completer=completers.states)
    ] = None,
    replicas: Replicas = None,
    run: RunNumber = None,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], help="Go on, and show what changes.")] = False,
    cached: Annotated[bool, Parameter(help="As this machine knows it; no look at the platform.")] = False,
    sort_by: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="A field of -o json (started, counts.Failed) or a column; a - before it: the largest first.",
        ),
    ] = None,
    no_headers: Annotated[bool, Parameter(help="Without the line of titles.")] = False,
    limit: Annotated[int | None, Parameter(help="At most so many rows.")] = None,
) -> int:
    """Show jobs, replicas, items, sessions, events, images, resources or stats.

    NOUN is one of these words, singular or plural; without one, get JOB shows its replicas, and get alone the jobs.
    jobs, replicas and items come from this machine's record; one look at the platform brings what has not ended up
    to date. If that look fails the record is shown, and the exit code is 4. Nothing is written.

    On a terminal the table fits its width, and -w updates it in place. Elsewhere nothing is cut, a row is a line,
    columns are at least two blanks apart, and -w appends the rows that changed, until all that was named has ended.
    -o name prints words that other commands take as targets.

    Examples:

    skahactl get jobs

    skahactl get replicas tiles --state Failed -o name | xargs -r skahactl retry

    skahactl get sessions -o wide --sort-by startTime
    """
    from skahactl.commands.getting import GetOptions, run_get

    asked = GetOptions(state, replicas, run, watch, cached, sort_by, not no_headers, limit)
    if watch:
        from skahactl.commands.watching import watch_jobs

        return watch_jobs(words, asked)
    return run_get(words, asked)
