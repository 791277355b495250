"""``skahactl retry``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl import completers, states
from skahactl.commands.ending import telling
from skahactl.commands.opening import deadline, opened, run, unless_stopped
from skahactl.commands.targeting import Found, jobs_named, lines_of
from skahactl.completers import FileName
from skahactl.errors import Exit, UsageError, worst


def retry(
    job: Annotated[str, Parameter(completer=completers.jobs_with_sessions)],
    /,
    *more: Annotated[str, Parameter(completer=completers.jobs_with_sessions)],
    replicas: Annotated[str | None, Parameter(name=["--replicas", "-r"], completer=completers.replicas)] = None,
    failed: bool = False,
    expired: bool = False,
    items: Annotated[FileName | None, Parameter(metavar="FILE", allow_leading_hyphen=True)] = None,
    wait: bool = False,
    timeout: str | None = None,
    dry_run: bool = False,
) -> int:
    """Start new attempts of replicas that ended badly; live ones never.

    Without a choice the Failed ones; others only when named with -r. With each = true an attempt runs only the items
    that did not end with 0. Examples:

      skahactl retry tiles --wait
      skahactl retry tiles --expired
      skahactl retry tiles --items missing.txt

    Parameters
    ----------
    job
        JOB or JOB/REPLICAS.
    more
        More of the same, as a pipe from 'skahactl get ... -o name | xargs skahactl retry' gives them.
    replicas
        These replicas, however they ended: 1-10,17.
    failed
        Those that Failed (what is meant without a choice).
    expired
        Those that Expired: gone, and nobody saw the end.
    items
        The replicas that have one of the items in this file; - is standard input.
    wait
        Drive the job to its end.
    timeout
        Stop waiting after this long; the job goes on. Exit 5.
    dry_run
        Show what would be tried again.
    """
    if items is not None and (replicas or failed or expired):
        raise UsageError("--items and -r, --failed or --expired: choose one way of naming replicas")
    wanted = frozenset({states.FAILED} if failed or not expired else ()) | frozenset(
        {states.EXPIRED} if expired else ()
    )
    listed = None if items is None else lines_of(items)
    every = jobs_named((job, *more), replicas)  # all of them, before any is retried
    codes = [
        run(lambda found=found: _retry(found, wanted, listed, wait, timeout, dry_run))  # type: ignore[misc]
        for found in every
    ]
    return worst([Exit(code) for code in codes])


async def _retry(
    found: Found,
    wanted: frozenset[str],
    items: tuple[str, ...] | None,
    wait: bool,
    timeout: str | None,
    dry_run: bool,
) -> int:
    from skahactl.engine.again import Again, choose_retries, preview_retry, untried
    from skahactl.engine.look import take_known, taken_back
    from skahactl.engine.whose import refuse_other_user
    from skahactl.render.outcomes import show_outcome

    async with opened(found.profile, found.run.directory) as here:
        listing = await unless_stopped(here.desk.stop, here.desk.client.sessions())
        refuse_other_user(here.desk.profile, (found.run,), listing.user)
        if not dry_run:
            take_known(here.desk.ledger, here.desk.profile.client, found.run, listing)
        chosen = choose_retries(here.desk.ledger, found.run, found.numbers, wanted, items)
        chosen = chosen.without(here.desk.ledger, found.run, taken_back(here.desk.ledger, found.run.id, listing))
        for step in chosen.left:
            here.context.warn(f"{found.run.key.name}/{step.replica}: {step.reason}")
        if not chosen.replicas:
            here.context.say(f"{found.run.key.name}: nothing to retry")
            outcome = untried(here.desk.ledger, here.desk.profile, found.run, chosen, dry_run)
            if here.context.machine_readable:
                show_outcome(here.context, outcome)
            return int(outcome.exit)
        if dry_run:
            outcome = preview_retry(here.desk.ledger, here.desk.profile, found.run, chosen, "asked for")
        else:
            again = Again(here.desk)
            again.deadline = deadline(timeout, here.desk.clock)
            with telling(here, lambda: again.known):
                outcome = await again.retry(found.run, chosen, wait, "asked for")
        show_outcome(here.context, outcome)
        return int(outcome.exit)
