"""``skahactl resume``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.ending import run_with_report
from skahactl.commands.opening import deadline, open_write_context, run
from skahactl.commands.targeting import one_job


def resume(
    job: Annotated[str, Parameter(completer=completers.jobs)],
    /,
    *,
    timeout: str | None = None,
    break_lock: bool = False,
) -> int:
    """Drive a job's last run to its end, from the ledger, from anywhere.

    Exit 0 only if every replica completed. Examples:

      skahactl resume tiles
      skahactl resume tiles --timeout 12h

    Parameters
    ----------
    job
        The job; its manifest is not needed.
    timeout
        Stop waiting after this long (30s, 5m, 2h, 1d); the job goes on. Exit 5.
    break_lock
        Take the job from a command on another machine that is gone for good.
    """
    return run(lambda: _resume(job, timeout, break_lock))


async def _resume(job: str, timeout: str | None, break_lock: bool) -> int:
    from skahactl.engine.retry import Retry
    from skahactl.render.outcomes import show_outcome

    found = one_job(job)
    async with open_write_context(found.profile) as here:
        until = deadline(timeout, here.desk.clock)
        again = Retry(here.desk, until, break_lock)
        with run_with_report(here, lambda: again.known):
            outcome = await again.resume(found.run)
        show_outcome(here.context, outcome)
        return int(outcome.exit)
