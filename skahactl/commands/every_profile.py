"""The jobs on every server in the local record: ``get jobs -A``, and the jobs that ``skahactl`` without arguments
lists."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skahactl.commands.listing import GetOptions, GetQuery, WatchReporter, show_limited
from skahactl.commands.runtime import open_runtime, poll_or_error, run
from skahactl.engine import snapshot
from skahactl.errors import AuthError, Exit, ProfileError, ProfileFileError, SkahactlError, UnreachableError
from skahactl.invocation import current
from skahactl.ledger.database import read_ledger
from skahactl.ledger.runs import job_keys, last_runs, summaries
from skahactl.model import ENDED, State
from skahactl.profiles import choose, shown_name
from skahactl.render.columns import ALL_PROFILES
from skahactl.render.tables import sort_rows
from skahactl.render.watch import watched_view
from skahactl.system import SystemClock, state_dir
from skahactl.text import about_duration, count_noun, suggest

if TYPE_CHECKING:
    from skahactl.shapes import Row


def get_every_profile(asked: GetOptions) -> int:
    """Print the jobs on every server in the local record, or watch them.

    Once: each server is polled at most once, all at the same time. Watched: each server is polled at its own pace.
    """
    context, reporter = current(), WatchReporter()
    queries: list[GetQuery] = []
    fixed: list[Row] = []  # of servers that are in no profile any more
    failed: list[SkahactlError] = []
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(read_ledger(state_dir(context.environ)))
        for server in dict.fromkeys(key.server for key in job_keys(ledger)):
            runs = last_runs(ledger, server)
            try:
                profile = choose(runs[0].profile, context.environ)
            except ProfileError as error:  # a removed profile is not an error: its jobs are shown as recorded
                failed += [error] if isinstance(error, ProfileFileError) else []
                profile = None
            if profile is not None and profile.server == server:
                runtime = stack.enter_context(open_runtime(profile, reads_only=True, shown=reporter))
                queries.append(GetQuery(runtime, ("jobs",), asked))
            else:
                fixed += snapshot.job_rows(ledger, runs)
        failed += run(lambda: _watch(queries, fixed, reporter, asked) if asked.watch else _show(queries, fixed, asked))
    context.stdout.flush()
    for one in failed[1:]:
        context.warn(one.message)
    if failed:
        raise failed[0]
    return Exit.DONE


async def _show(queries: Sequence[GetQuery], fixed: Sequence[Row], asked: GetOptions) -> list[SkahactlError]:
    """Poll each server at most once, print the rows, and return the errors."""
    answers = await asyncio.gather(*map(_poll_once, queries))
    rows = [*fixed, *(row for found, _ in answers for row in found)]
    show_limited(ALL_PROFILES, sort_rows(ALL_PROFILES, rows, asked.sort_by), asked)
    return [error for _, error in answers if error is not None]


async def _poll_once(query: GetQuery) -> tuple[list[Row], SkahactlError | None]:
    try:
        listing, error = await poll_or_error(query.runtime, query.runs) if query.is_due() else (None, None)
        return query.rows(listing), error
    finally:
        await query.runtime.close()


async def _watch(
    queries: Sequence[GetQuery], fixed: Sequence[Row], reporter: WatchReporter, asked: GetOptions
) -> list[SkahactlError]:
    """Show the rows and update them until a signal. A server that fails for good is reported once; its rows then come
    from the local record."""
    view = reporter.view = watched_view(current(), ALL_PROFILES, asked.headers)
    found: dict[str, Sequence[Row]] = {"": fixed}

    async def follow(query: GetQuery) -> None:
        is_answering = True
        while True:
            listing = None
            try:
                listing = await query.poll_while_watched() if is_answering else None
            except (AuthError, UnreachableError) as problem:
                is_answering = False
                reporter.say(f"{query.runtime.where}: {problem.message}; showing the local record")
            found[query.runtime.profile.server] = query.rows(listing)
            rows = [row for one in found.values() for row in one]
            view.show(sort_rows(ALL_PROFILES, rows, asked.sort_by)[: asked.limit], query.runtime.clock.now())
            await query.runtime.pause()

    try:
        await asyncio.gather(*map(follow, queries))
    finally:
        view.close()
        for query in queries:
            await query.runtime.close()
    return []


_MOST_LIVE = 15  # lines, so that they fit a small terminal


def live_jobs() -> list[str]:
    """Return a title and a line for each unfinished job in the local record, on any server. No server is contacted.

    A line is for example ``canfar  psfex  Running 412/600 ✗3  about 40 min left``.
    """
    from skahactl.engine.progress import ProgressTracker
    from skahactl.engine.record import snapshot_of

    now = SystemClock().now()
    with read_ledger(state_dir(current().environ)) as ledger:
        servers = dict.fromkeys(key.server for key in job_keys(ledger))
        runs = [one for server in servers for one in last_runs(ledger, server) if one.ended is None]
        unfinished = [summary for summary in summaries(ledger, runs) if summary.status not in ENDED]
        rows = []
        for summary in unfinished[:_MOST_LIVE]:
            counts, items = summary.counts, summary.items
            done, total = counts[State.COMPLETED], sum(counts.values())
            if items["total"] > total:
                done, total = items["completed"], items["total"]
            failed = counts[State.FAILED] - summary.retriable
            left = ProgressTracker(ledger, now, now).progress(snapshot_of(ledger, summary.run.id), summary, now).left
            standing = f"{summary.status} {done}/{total}" + (f" ✗{failed}" if failed > 0 else "")
            about = f"about {about_duration(left)} left" if left else ""
            rows.append((shown_name(summary.run.profile), summary.run.key.name, standing, about))
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = len(unfinished) - len(rows)
    title = ["Jobs that have not ended, as last seen:"] if rows else []
    return title + lines + ([f"{count_noun(more, 'more job')}: {suggest('get', 'jobs', '-A')}"] if more else [])
