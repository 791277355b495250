"""Wait until the replicas of several runs meet a condition, or can no longer meet it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.engine.observe import RunSnapshot
from skahactl.engine.outcome import continuing, left_behind, stop_hint, unfinished_counts
from skahactl.engine.progress import ProgressTracker
from skahactl.engine.record import snapshot_of, unread_results
from skahactl.engine.runtime import FOREVER, Runtime
from skahactl.errors import Exit, TimedOut
from skahactl.ledger.lock import living_driver
from skahactl.ledger.records import Run
from skahactl.ledger.runs import run_by_id, summaries
from skahactl.model import ALIVE, ENDED, STATES, State
from skahactl.text import format_duration, name_replicas, no_driver, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.skaha.models import Listing


@dataclass(frozen=True, slots=True)
class WaitTarget:
    """A run that is waited for: some of its replicas, or all (None). ``word``: the target as the user wrote it."""

    run: Run
    numbers: frozenset[int] | None
    word: str


@dataclass
class JobWaiter:
    """Waits for several runs at once, with one list call for each poll. The poll is recorded in the ledger."""

    runtime: Runtime
    condition: str
    deadline: float | None
    _tracker: ProgressTracker | None = None

    async def wait(self, awaited: Sequence[WaitTarget]) -> tuple[Exit, tuple[tuple[WaitTarget, str], ...]]:
        """Wait until the condition is met for all targets, or can no longer be met for one of them.

        Return DONE with all targets, or NO with those that can no longer meet it; each with a reason. Raise TimedOut at
        the deadline.
        """
        begun = self.runtime.clock.now()
        every = [one.run for one in awaited]
        while True:
            listing = await self.runtime.poll(every, patience=FOREVER, deadline=self.deadline)
            if listing is not None:
                answers = [self._judge(one, listing) for one in awaited]
                self._show(awaited, begun)
                found = [(one, answer, words) for one, (answer, words) in zip(awaited, answers, strict=True)]
                if any(answer is False for answer, _ in answers):
                    return Exit.NO, tuple((one, words) for one, answer, words in found if answer is False)
                if all(answer is True for answer, _ in answers):
                    return Exit.DONE, tuple((one, words) for one, _, words in found)
            await self._pause(awaited, begun)

    async def _pause(self, awaited: Sequence[WaitTarget], begun: float) -> None:
        try:
            await self.runtime.pause(deadline=self.deadline)
        except TimedOut as error:
            waited = format_duration(self.runtime.clock.now() - begun)
            names, wanted = ", ".join(one.word for one in awaited), _CONDITION_WORDS[self.condition]
            is_one = len(awaited) == 1 and len(awaited[0].numbers or ()) == 1
            left = f"{names} is not {wanted}" if is_one else f"not every replica of {names} is {wanted}"
            error.message = f"timed out after {waited}: {left}"
            error.hint = "\n".join(map(self._left, awaited))
            raise

    def _left(self, one: WaitTarget) -> str:
        """Return what happens to a run after the wait, or how to meet the condition."""
        run = one.run
        summary, name = summaries(self.runtime.ledger, [run])[0], run.key.name
        counts = unfinished_counts(self.runtime.ledger, [run])
        is_out = self.runtime.outage.error is not None
        status = left_behind(self.runtime, [run]) if is_out else f"{name} is {summary.status}"
        if self.condition == "deleted":
            return f"{status}; to delete it: {suggest('delete', one.word)}"
        if living_driver(self.runtime.ledger, run.key) is not None:
            return f"another command is driving {name}"
        if not any(counts):
            return status
        return f"{left_behind(self.runtime, [run])}. To continue: {continuing(self.runtime.ledger, [run])}"

    def _judge(self, one: WaitTarget, listing: Listing) -> tuple[bool | None, str]:
        """Return whether the condition is met (True), can no longer be met (False), or not yet (None), and why."""
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
        """Return as ``_judge`` whether all chosen replicas have reached a state.

        ``enough``: the states that meet the condition. ``wanted``: the state that the condition names.
        """
        left = {n: s for n, s in chosen.items() if s not in enough}
        if not left:
            return True, wanted if wanted in chosen.values() else "it has already run: Completed"
        again = {r.number for r in watch.replicas if r.state == State.FAILED and r.attempt < r.allowed}
        if self.runtime.is_storage_out:  # their results can be read when the storage service answers again
            again |= {attempt.replica for attempt in unread_results(watch)}
        lost = {n: s for n, s in left.items() if s in ENDED and n not in again}
        summary = summaries(self.runtime.ledger, [watch.run])[0]
        stopped = "" if summary.stop_reason is None else f"; {stop_hint(summary)}"
        if lost:
            return False, f"{_counted(lost)}{stopped}"
        if (
            not ALIVE & set(left.values())
            and State.UNKNOWN not in left.values()
            and (stopped or living_driver(self.runtime.ledger, watch.run.key) is None)
        ):
            if stopped:
                return False, f"{_counted(left)}{stopped}"
            undriven = no_driver(sum(state == State.QUEUED for state in left.values()), len(again & left.keys()))
            again_words = continuing(self.runtime.ledger, [watch.run])
            return False, f"{_counted(left)}; {undriven}. To continue: {again_words}"
        return None, ""

    def _show(self, awaited: Sequence[WaitTarget], begun: float) -> None:
        ledger, now = self.runtime.ledger, self.runtime.clock.now()
        fresh = [run for one in awaited if (run := run_by_id(ledger, one.run.id)) is not None]
        views = []
        tracker = self._tracker = self._tracker or ProgressTracker(ledger, begun, self.runtime.begun)
        for summary in summaries(ledger, fresh):
            views.append(tracker.progress(snapshot_of(ledger, summary.run.id), summary, now))
        self.runtime.reporter.progress(views)


_CONDITION_WORDS = {"complete": "Completed", "running": "Running or Completed", "deleted": "deleted"}


def _counted(chosen: dict[int, str]) -> str:
    words = []
    for state in STATES:
        numbers = [number for number, found in chosen.items() if found == state]
        if numbers:
            words.append(f"{len(numbers)} {state} ({name_replicas(numbers)})")
    return ", ".join(words)
