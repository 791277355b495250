"""``skahactl mark``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl import completers, states
from skahactl.commands.targeting import one_job, read_lines
from skahactl.completers import FileName
from skahactl.context import current
from skahactl.errors import Exit, UsageError

if TYPE_CHECKING:
    Word = str
else:
    Word = Literal["completed", "failed"] | str  # what Tab offers; others are refused in our words

WORDS = {"completed": states.COMPLETED, "failed": states.FAILED}


def mark(
    job: Annotated[str, Parameter(completer=completers.jobs)],
    state: Annotated[Word, Parameter(show_choices=False)],
    /,
    *,
    replicas: Annotated[str | None, Parameter(name=["--replicas", "-r"], completer=completers.replicas)] = None,
    items: Annotated[FileName | None, Parameter(metavar="FILE", allow_leading_hyphen=True)] = None,
    expired: bool = False,
) -> int:
    """Record what you found out about replicas that ended unseen; nothing is sent.

    Examples:

      skahactl mark tiles completed -r 17,40-42
      skahactl mark tiles completed --expired
      skahactl mark tiles failed --items missing.txt

    Parameters
    ----------
    job
        JOB or JOB/REPLICAS.
    state
        completed or failed.
    replicas
        These replicas: 1-10,17.
    items
        The items in this file, one a line; - is standard input.
    expired
        Every replica that is Expired, of those that were named if any were.
    """
    from skahactl.words import did_you_mean

    if state.lower() not in WORDS:
        raise UsageError(f"a replica is marked completed or failed, not '{state}'", hint=did_you_mean(state, WORDS))
    return _mark(job, WORDS[state.lower()], replicas, items, expired)


def _mark(job: str, state: str, replicas: str | None, items: str | None, expired: bool) -> int:
    from skahactl.engine.retry import mark_results
    from skahactl.ledger.database import open_ledger
    from skahactl.ledger.replicas import replica_states
    from skahactl.paths import state_dir
    from skahactl.ranges import format_ranges
    from skahactl.render.outcomes import head_of

    context = current()
    found = one_job(job, replicas)
    named = expired or found.numbers is not None
    if named == (items is not None):
        raise UsageError("mark needs -r LIST or --expired, or else --items FILE", hint="which replicas do you mean?")
    listed = None if items is None else read_lines(items)
    with open_ledger(state_dir(context.environ)) as ledger:
        numbers = found.numbers or frozenset()
        if expired:
            rows = replica_states(ledger, found.run.id)
            within = found.numbers or range(1, found.run.total + 1)
            numbers = frozenset(row.number for row in rows if row.state == states.EXPIRED and row.number in within)
        changed = mark_results(ledger, found.run, state, numbers, listed, time.time())
    where = head_of(found.run)
    if not changed:
        context.say(f"{where}: no replica of those is Expired; nothing marked")
        return Exit.DONE
    context.say(f"{where}: replica {format_ranges(changed)} marked {state}")
    return Exit.DONE
