"""``skahactl renew``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import ANY_TARGET, DryRun, Replicas
from skahactl.commands.runtime import connected_runtime, run
from skahactl.invocation import current


def renew(
    *targets: Annotated[
        str, Parameter(name="TARGET", help=ANY_TARGET, completer=completers.jobs_with_sessions, required=True)
    ],
    replicas: Replicas = None,
    dry_run: DryRun = False,
) -> int:
    """Extend the deadlines of live sessions, and report what actually changed.

    A headless session lives for 14 days; the server extends it only when fewer than 4 days are left.

    Examples:
      skahactl renew tiles
      skahactl renew tiles/1-10
    """
    return run(lambda: _renew(list(targets), replicas, dry_run))


async def _renew(words: list[str], replicas: str | None, dry_run: bool) -> int:
    from skahactl.engine.renew import Renewal
    from skahactl.render.outcomes import show_outcome
    from skahactl.targets import by_run, find, refuse_past

    async with connected_runtime() as runtime:
        found = find(runtime.ledger, runtime.profile, words, replicas=replicas, sessions=True)
        refuse_past(found)
        renewal = Renewal(runtime)
        outcome = await renewal.renew(by_run(found), dry_run)
        runtime.reporter.close()
        show_outcome(current(), outcome)
        return int(outcome.exit)
