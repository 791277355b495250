"""``skahactl wait``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import EXECUTION
from skahactl.commands.runtime import connected_runtime, deadline, run
from skahactl.engine.observe import RunSnapshot
from skahactl.engine.progress import ProgressTracker
from skahactl.engine.record import snapshot_of
from skahactl.engine.runtime import FOREVER, Runtime
from skahactl.errors import Exit, TimedOut, UsageError
from skahactl.invocation import current
from skahactl.ledger.lock import living_driver
from skahactl.ledger.records import Run
from skahactl.ledger.runs import run_by_id, summaries
from skahactl.model import ALIVE, ENDED, STATES, State
from skahactl.text import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.skaha.models import Listing

    Condition = str
else:
    Condition = Literal["complete", "running", "deleted"] | str  # what Tab offers; others are refused in our words


def wait(
    *targets: Annotated[
        str, Parameter(name="TARGET", help="JOB or JOB/REPLICAS.", completer=completers.jobs, required=True)
    ],
    for_: Annotated[
        Condition,
        Parameter(
            name="--for",
            metavar="complete|running|deleted",
            group=EXECUTION,
            show_choices=False,
            help="Condition to wait for (default: complete).",
        ),
    ] = "complete",
    timeout: Annotated[
        str | None,
        Parameter(metavar="DURATION", group=EXECUTION, help="Stop waiting after this time: 30s, 5m, 2h, 1d."),
    ] = None,
) -> int:
    """Wait for a job to complete, start or be deleted. It creates nothing.

    Exit with 0 when the condition is met, 1 as soon as it can no longer be met, or 5 on timeout.

    Examples:
      skahactl wait tiles && skahactl apply merge.toml --wait
      skahactl wait tiles/1-10 --for running --timeout 30m
    """
    from skahactl.text import did_you_mean

    condition = for_.lower().removeprefix("condition=")
    condition = _CONDITION_WORDS.get(condition, condition)
    if condition not in CONDITIONS:
        hint = did_you_mean(condition, CONDITIONS)
        raise UsageError(f"--for takes complete, running or deleted, not '{for_}'", hint=hint)
    return int(run(lambda: _wait(list(targets), condition, timeout)))


async def _wait(words: list[str], condition: str, timeout: str | None) -> Exit:
    from skahactl.render.outcomes import head
    from skahactl.targets import by_run, find, refuse_past

    async with connected_runtime() as runtime:
        awaited = []
        found = find(runtime.ledger, runtime.profile, words)
        refuse_past(found)
        for target in by_run(found):
            if target.run is None:
                raise UsageError(f"'{target.word}' has no record here", hint=f"{suggest('get', 'jobs')} lists the jobs")
            awaited.append(WaitTarget(target.run, target.numbers))
        code, reasons = await JobWaiter(runtime, condition, deadline(timeout, runtime.clock)).wait(awaited)
        runtime.reporter.close()
        if current().machine_readable:
            _print_data(condition, code, reasons)
            return code
        for run_of, why in reasons:
            current().say(f"{head(run_of.key.name, runtime.profile)}: {why}")
        return code


def _print_data(condition: str, code: Exit, reasons: Sequence[tuple[Run, str]]) -> None:
    """The jobs for which the condition is met, or those for which it can no longer be met."""
    import json

    met = code is Exit.DONE
    rows = [{"name": one.key.name, "run": one.number, "met": met, "reason": why} for one, why in reasons]
    data = {"condition": condition, "exit": int(code), "jobs": rows}
    current().out(json.dumps(data, ensure_ascii=False, indent=None if current().output == "jsonl" else 2))


CONDITIONS = ("complete", "running", "deleted")
#: What kubectl and people write for them.
_CONDITION_WORDS = {
    "completed": "complete",
    "completion": "complete",
    "delete": "deleted",
    "deletion": "deleted",
    "ready": "running",
}


@dataclass(frozen=True, slots=True)
class WaitTarget:
    """A run that is waited for: some of its replicas, or all (None)."""

    run: Run
    numbers: frozenset[int] | None


@dataclass
class JobWaiter:
    """Waits for several runs at once, with one list call for each poll. What a poll shows is in the ledger."""

    runtime: Runtime
    condition: str
    deadline: float | None
    _tracker: ProgressTracker | None = None

    async def wait(self, awaited: Sequence[WaitTarget]) -> tuple[Exit, tuple[tuple[Run, str], ...]]:
        """DONE when the condition holds for all; NO as soon as it can no longer be met: for which runs, and why."""
        begun = self.runtime.clock.now()
        every = [one.run for one in awaited]
        while True:
            listing = await self.runtime.poll(every, patience=FOREVER, deadline=self.deadline)
            if listing is not None:
                answers = [self._judge(one, listing) for one in awaited]
                self._show(awaited, begun)
                found = [(one.run, answer, words) for one, (answer, words) in zip(awaited, answers, strict=True)]
                if any(answer is False for answer, _ in answers):
                    return Exit.NO, tuple((run, words) for run, answer, words in found if answer is False)
                if all(answer is True for answer, _ in answers):
                    return Exit.DONE, tuple((run, words) for run, _, words in found)
            await self._pause()

    async def _pause(self) -> None:
        try:
            await self.runtime.pause(deadline=self.deadline)
        except TimedOut as error:
            error.message, error.hint = f"timed out waiting for {self.condition}", "the job keeps running"
            raise

    def _judge(self, one: WaitTarget, listing: Listing) -> tuple[bool | None, str]:
        """True, False, or None for not yet; with words."""
        watch = snapshot_of(self.runtime.ledger, one.run.id)
        shown = {row.number: row.state for row in watch.replicas}
        chosen = {n: s for n, s in shown.items() if one.numbers is None or n in one.numbers}
        if self.condition == "deleted":
            ids = {attempt.session for attempt in watch.attempts if attempt.replica in chosen}
            listed = any(session.id in ids for session in listing.sessions)
            left = any(state not in ENDED for state in chosen.values())
            return (None, "") if listed or left else (True, "deleted")
        if self.condition == "running":
            return self._judge_reached(watch, chosen, State.RUNNING, frozenset({State.RUNNING, State.COMPLETED}))
        return self._judge_reached(watch, chosen, State.COMPLETED, frozenset({State.COMPLETED}))

    def _judge_reached(
        self, watch: RunSnapshot, chosen: dict[int, str], wanted: str, enough: frozenset[str]
    ) -> tuple[bool | None, str]:
        """``enough``: the states in which a replica is as ``wanted``, or was."""
        left = {n: s for n, s in chosen.items() if s not in enough}
        if not left:
            return True, wanted
        again = {r.number for r in watch.replicas if r.state == State.FAILED and r.attempt < r.allowed}
        lost = {n: s for n, s in left.items() if s in ENDED and n not in again}
        if lost:
            return False, _counted(lost)
        if not ALIVE & set(left.values()) and living_driver(self.runtime.ledger, watch.run.key) is None:
            return (
                False,
                f"{_counted(left)}, and no driver is running; to continue: {suggest('resume', watch.run.key.name)}",
            )
        return None, ""

    def _show(self, awaited: Sequence[WaitTarget], begun: float) -> None:
        ledger, now = self.runtime.ledger, self.runtime.clock.now()
        fresh = [run for one in awaited if (run := run_by_id(ledger, one.run.id)) is not None]
        views = []
        tracker = self._tracker = self._tracker or ProgressTracker(ledger, begun)
        for summary in summaries(ledger, fresh):
            views.append(tracker.progress(snapshot_of(ledger, summary.run.id), summary, now))
        self.runtime.reporter.progress(views)


def _counted(chosen: dict[int, str]) -> str:
    from skahactl.text import format_ranges

    words = []
    for state in STATES:
        numbers = [number for number, found in chosen.items() if found == state]
        if numbers:
            words.append(f"{len(numbers)} {state} (replica {format_ranges(numbers)})")
    return ", ".join(words)
