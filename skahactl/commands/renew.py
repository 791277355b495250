"""``skahactl renew``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.opening import open_write_context, run
from skahactl.errors import UsageError


def renew(
    *targets: Annotated[str, Parameter(completer=completers.jobs_with_sessions)],
    replicas: Annotated[str | None, Parameter(name=["--replicas", "-r"], completer=completers.replicas)] = None,
    dry_run: bool = False,
) -> int:
    """Extend the deadlines of live sessions, and say what really changed.

    The server answers "done" whether or not it changed anything: a headless session has 14 days, and is extended
    only when fewer than 4 are left. Examples:

      skahactl renew tiles
      skahactl renew tiles/1-10

    Parameters
    ----------
    targets
        JOB, JOB/REPLICAS, a session's name or id.
    replicas
        Only these replicas: 1-10,17.
    dry_run
        Show which sessions would be asked for.
    """
    if not targets:
        raise UsageError("renew needs a job or a session", hint="skahactl renew JOB")
    return run(lambda: _renew(list(targets), replicas, dry_run))


async def _renew(words: list[str], replicas: str | None, dry_run: bool) -> int:
    from skahactl.engine.renewal import Renewal
    from skahactl.render.outcomes import show_outcome
    from skahactl.targets import by_run, find, refuse_past

    async with open_write_context() as here:
        found = find(here.desk.ledger, here.desk.profile, words, replicas=replicas, sessions=True)
        refuse_past(found)
        renewal = Renewal(here.desk)
        outcome = await renewal.renew(by_run(found), dry_run)
        here.desk.reporter.close()
        show_outcome(here.context, outcome)
        return int(outcome.exit)
