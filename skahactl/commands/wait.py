"""``skahactl wait``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.commands.params import EXECUTION, RecordTarget
from skahactl.commands.runtime import connected_runtime, deadline, run
from skahactl.errors import Exit, UsageError
from skahactl.invocation import current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.engine.wait import WaitTarget

Condition = Literal["complete", "running", "deleted"] | str  # completion offers these; wait rejects others itself


def wait(
    *targets: RecordTarget,
    for_: Annotated[
        Condition,
        Parameter(
            name="--for",
            metavar="complete|running|deleted",
            group=EXECUTION,
            show_choices=False,
            help="complete: every replica is Completed (default); running: every one is Running or Completed; deleted.",
        ),
    ] = "complete",
    timeout: Annotated[
        str | None,
        Parameter(
            metavar="DURATION",
            group=EXECUTION,
            help="Stop waiting after this time: 30s, 5m, 2h; no unit: seconds.",
        ),
    ] = None,
) -> int:
    """Wait for a job to complete, start or be deleted. It creates nothing.

    Exit with 0 when the condition is met, 1 as soon as it can no longer be met, or 5 on timeout.

    Examples:
      skahactl wait tiles && skahactl apply merge.toml --wait
      skahactl wait tiles/1-10 --for running --timeout 30m
    """
    from skahactl.spelling import did_you_mean

    condition = for_.lower().removeprefix("condition=")
    condition = _CONDITION_WORDS.get(condition, condition)
    if condition not in CONDITIONS:
        hint = did_you_mean(condition, CONDITIONS)
        raise UsageError(f"--for takes complete, running or deleted, not '{for_}'", hint=hint)
    return int(run(lambda: _wait(list(targets), condition, timeout)))


async def _wait(words: list[str], condition: str, timeout: str | None) -> Exit:
    from skahactl.engine.wait import JobWaiter, WaitTarget
    from skahactl.render.outcomes import head
    from skahactl.targets import by_run, find_in_record

    async with connected_runtime() as runtime:
        found = by_run(find_in_record(runtime.ledger, runtime.profile, words))
        awaited = [WaitTarget(target.run, target.numbers, target.word) for target in found if target.run is not None]
        code, reasons = await JobWaiter(runtime, condition, deadline(timeout, runtime.clock)).wait(awaited)
        runtime.reporter.close()
        if current().machine_readable:
            _print_data(condition, code, reasons)
            return code
        for one, why in reasons:
            current().say(f"{head(one.word, runtime.profile)}: {why}".replace("\n", "\n  "))
        return code


def _print_data(condition: str, code: Exit, reasons: Sequence[tuple[WaitTarget, str]]) -> None:
    """Print as data the jobs that meet the condition, or those that can no longer meet it."""
    from skahactl.render.tables import data_text

    met = code is Exit.DONE
    rows = [{"name": one.run.key.name, "run": one.run.number, "met": met, "reason": why} for one, why in reasons]
    data = {"condition": condition, "exit": int(code), "jobs": rows}
    current().data(data_text(current().output, data))


CONDITIONS = ("complete", "running", "deleted")
#: Other words for the conditions, for example of kubectl.
_CONDITION_WORDS = {
    "completed": "complete",
    "completion": "complete",
    "delete": "deleted",
    "deletion": "deleted",
    "ready": "running",
}
