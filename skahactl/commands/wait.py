"""``skahactl wait``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.opening import deadline, open_write_context, run
from skahactl.errors import Exit, UsageError

if TYPE_CHECKING:
    Condition = str
else:
    Condition = Literal["complete", "running", "deleted"] | str  # what Tab offers; others are refused in our words


def wait(
    *targets: Annotated[str, Parameter(completer=completers.jobs)],
    for_: Annotated[Condition, Parameter(name="--for", metavar="WHAT", show_choices=False)] = "complete",
    timeout: str | None = None,
) -> int:
    """Wait until it is so, or cannot be; creates nothing.

    Exit 0 when it is so, 1 as soon as it cannot be any more, 5 when the time is over. Examples:

      skahactl wait tiles && skahactl apply merge.toml --wait
      skahactl wait tiles/1-10 --for running --timeout 30m

    Parameters
    ----------
    targets
        JOB or JOB/REPLICAS.
    for_
        complete, which it is if nothing is said, running or deleted.
    timeout
        Give up after this long (30s, 5m, 2h, 1d).
    """
    from skahactl.engine.waiting import CONDITIONS
    from skahactl.words import did_you_mean

    condition = for_.lower().removeprefix("condition=")
    condition = {"completed": "complete"}.get(condition, condition)
    if condition not in CONDITIONS:
        hint = did_you_mean(condition, CONDITIONS)
        raise UsageError(f"--for takes complete, running or deleted, not '{for_}'", hint=hint)
    if not targets:
        raise UsageError("wait needs a job", hint="skahactl wait JOB; 'skahactl get jobs' lists them")
    return int(run(lambda: _wait(list(targets), condition, timeout)))


async def _wait(words: list[str], condition: str, timeout: str | None) -> Exit:
    from skahactl.engine.waiting import JobWaiter, WaitTarget
    from skahactl.render.outcomes import head
    from skahactl.targets import by_run, find, refuse_past

    async with open_write_context() as here:
        awaited = []
        found = find(here.desk.ledger, here.desk.profile, words)
        refuse_past(found)
        for target in by_run(found):
            if target.run is None:
                raise UsageError(f"'{target.word}' has no record here", hint="'skahactl get jobs' lists the jobs")
            awaited.append(WaitTarget(target.run, target.numbers))
        code, told = await JobWaiter(here.desk, condition, deadline(timeout, here.desk.clock)).wait(awaited)
        here.desk.reporter.close()
        for run_of, why in told:
            here.context.say(f"{head(run_of.key.name, here.desk.profile)}: {why}")
        return code
