"""``skahactl wait``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.runtime import deadline, open_write_context, run
from skahactl.engine.observe import Gone, Missing, RunSnapshot, Seen, observe
from skahactl.engine.record import snapshot_of
from skahactl.engine.runtime import PollPace, RunProgress, Runtime
from skahactl.errors import Exit, TimedOut, UnreachableError, UsageError
from skahactl.eventloop import seconds_left
from skahactl.ledger.attempts import known_of
from skahactl.ledger.lock import living_driver
from skahactl.ledger.records import Run, RunSummary
from skahactl.ledger.runs import run_by_id, summaries
from skahactl.model import ALIVE, ENDED, STATES, State, job_status, zero_filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.skaha.models import Listing

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
    from skahactl.text import did_you_mean

    condition = for_.lower().removeprefix("condition=")
    condition = {"completed": "complete"}.get(condition, condition)
    if condition not in CONDITIONS:
        hint = did_you_mean(condition, CONDITIONS)
        raise UsageError(f"--for takes complete, running or deleted, not '{for_}'", hint=hint)
    if not targets:
        raise UsageError("wait needs a job", hint="skahactl wait JOB; 'skahactl get jobs' lists them")
    return int(run(lambda: _wait(list(targets), condition, timeout)))


async def _wait(words: list[str], condition: str, timeout: str | None) -> Exit:
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


CONDITIONS = ("complete", "running", "deleted")


@dataclass(frozen=True, slots=True)
class WaitTarget:
    """A run that is waited for: some of its replicas, or all (None)."""

    run: Run
    numbers: frozenset[int] | None


@dataclass
class JobWaiter:
    """Waits for several runs at once, with one list call a look; ends are remembered while it lasts."""

    desk: Runtime
    condition: str
    deadline: float | None
    _ends: dict[tuple[int, int, int], str] = field(default_factory=dict)
    _missing: dict[tuple[int, int, int], float] = field(default_factory=dict)
    _shown: dict[int, tuple[str, ...]] = field(default_factory=dict)  # by run: the states of its replicas
    _is_out: bool = False  # the platform does not answer, and that was told

    async def wait(self, awaited: Sequence[WaitTarget]) -> tuple[Exit, tuple[tuple[Run, str], ...]]:
        """DONE when the condition holds for all; NO as soon as it cannot: of which runs, and the words why."""
        pace = PollPace(self.desk.clock, self.desk.profile.client)
        begun = self.desk.clock.now()
        while True:
            listing = await self._look(pace)
            if listing is not None:
                answers = [self._judge(one, listing) for one in awaited]
                self._show(awaited, begun)
                told = [(one.run, answer, words) for one, (answer, words) in zip(awaited, answers, strict=True)]
                if any(answer is False for answer, _ in answers):
                    return Exit.NO, tuple((run, words) for run, answer, words in told if answer is False)
                if all(answer is True for answer, _ in answers):
                    return Exit.DONE, tuple((run, words) for run, _, words in told)
            if self.deadline is not None and self.desk.clock.now() >= self.deadline:
                raise TimedOut(f"timed out waiting for {self.condition}", hint="the job goes on as it was")
            seconds = pace.interval()
            if self.deadline is not None:
                seconds = min(seconds, max(0.05, self.deadline - self.desk.clock.now()))
            await self.desk.stop.sleep(self.desk.clock, seconds)

    async def _look(self, pace: PollPace) -> Listing | None:
        try:
            left = seconds_left(self.deadline, self.desk.clock)
            listing = await self.desk.stop.guard(self.desk.client.sessions(), left)
        except UnreachableError as error:
            pace.failed()
            if not self._is_out:
                self.desk.reporter.say(f"{self.desk.profile.name} does not answer: {error.message}; trying again")
            self._is_out = True
            return None
        if self._is_out:
            self.desk.reporter.say(f"{self.desk.profile.name} answers again")
        self._is_out = False
        pace.looked()
        return listing

    def _judge(self, one: WaitTarget, listing: Listing) -> tuple[bool | None, str]:
        """True, False, or None for not yet; with words."""
        watch = snapshot_of(self.desk.ledger, one.run.id)
        shown = self._states(watch, listing)
        chosen = {n: s for n, s in shown.items() if one.numbers is None or n in one.numbers}
        if self.condition == "deleted":  # what lived is gone once two lists have agreed on it
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
        if not ALIVE & set(left.values()) and living_driver(self.desk.ledger, watch.run.key) is None:
            return False, f"{_counted(left)}, and nobody drives it; go on with: skahactl resume {watch.run.key.name}"
        return None, ""

    def _states(self, watch: RunSnapshot, listing: Listing) -> dict[int, str]:
        """The state of each replica as ledger and list together show it."""
        found = {replica.number: replica.state for replica in watch.replicas}
        known = known_of(self.desk.ledger, watch.attempts, listing)
        numbers = {replica.number: replica.attempt for replica in watch.replicas}
        for change in observe(self._remembered(watch), listing, known, frozenset(found)):
            attempt = getattr(change, "attempt", None)
            if attempt is None:
                continue
            key = (attempt.run_id, attempt.replica, attempt.number)
            if isinstance(change, Missing):
                self._missing.setdefault(key, attempt.missing_since or listing.requested)
                continue
            if not isinstance(change, Seen | Gone):
                continue
            if isinstance(change, Seen):
                self._missing.pop(key, None)
            if change.state in ENDED:
                self._ends[key] = change.state
            if numbers[attempt.replica] == attempt.number and found[attempt.replica] in ALIVE:
                found[attempt.replica] = change.state
        for (run_id, replica, number), state in self._ends.items():
            if run_id == watch.run.id and numbers[replica] == number and found[replica] in ALIVE:
                found[replica] = state
        self._shown[watch.run.id] = tuple(found.values())
        return found

    def _remembered(self, watch: RunSnapshot) -> RunSnapshot:
        """With what this wait has missed in an earlier list: nobody may be there to write it down."""
        attempts = (
            replace(one, missing_since=one.missing_since or self._missing.get((one.run_id, one.replica, one.number)))
            for one in watch.attempts
        )
        return replace(watch, attempts=tuple(attempts))

    def _show(self, awaited: Sequence[WaitTarget], begun: float) -> None:
        fresh = [run for one in awaited if (run := run_by_id(self.desk.ledger, one.run.id)) is not None]
        views = []
        for summary in summaries(self.desk.ledger, fresh):
            shown = self._shown[summary.run.id]
            counts = zero_filled({state: shown.count(state) for state in set(shown)})
            status = job_status(counts, summary.retriable)
            seen = RunSummary(summary.run, counts, status, summary.retriable, summary.items, summary.driver)
            views.append(RunProgress(seen, shown, started=begun, now=self.desk.clock.now()))
        self.desk.reporter.progress(views)


def _counted(chosen: dict[int, str]) -> str:
    from skahactl.text import format_ranges

    words = []
    for state in STATES:
        numbers = [number for number, found in chosen.items() if found == state]
        if numbers:
            words.append(f"{len(numbers)} {state} (replica {format_ranges(numbers)})")
    return ", ".join(words)
