"""Drive a run again from the ledger: resume, retry, and mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.engine import outcome
from skahactl.engine.driver import Driver, gates_of_jobs, release_locks
from skahactl.engine.outcome import JobOutcome, Outcome, StepOutcome
from skahactl.engine.plan import JobAction, Step, StepAction
from skahactl.engine.record import is_ended, snapshot_of, unread_logs
from skahactl.errors import BusyError, Exit, NegativeResult, UsageError
from skahactl.eventloop import Interrupted
from skahactl.ledger import replicas, runs
from skahactl.ledger.attempts import attempts_of, set_attempt
from skahactl.ledger.lock import JobLock, acquire, living_driver
from skahactl.ledger.records import ResultSource
from skahactl.model import ENDED, State
from skahactl.text import count_noun, name_replicas, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import ItemRow, ReplicaRow, ReplicaState, Run, RunSummary
    from skahactl.model import Resources

_MOST_ITEMS = 10  # items of one replica that a dry run lists

#: States of named replicas that a retry may start again. Live replicas are never retried.
RETRIABLE = (State.FAILED, State.REJECTED, State.UNKNOWN, State.DELETED, State.SKIPPED, State.COMPLETED)


@dataclass(frozen=True, slots=True)
class RetryChoice:
    """Replicas to retry, with the positions of their items if only some are requested."""

    replicas: dict[int, tuple[int, ...] | None]
    left: tuple[Step, ...] = ()  # named replicas that cannot be retried
    resources: Resources | None = None  # resources of these attempts, instead of those of the replicas


def choose_retries(
    ledger: Ledger, run: Run, numbers: Collection[int] | None, wanted: frozenset[str], items: Sequence[str] | None
) -> RetryChoice:
    """Return the replicas to retry.

    ``numbers``: replicas that were named. ``wanted``: states; only replicas in one of them are chosen, among the named
    ones if there are any. Without either, the Failed replicas are chosen. ``items``: replicas with these items are
    chosen; with ``each``, these items run, and those that are not Completed. Raise UsageError for an item that the run
    does not have.
    """
    if items is not None:
        return _with_items(ledger, run, items)
    rows = replicas.replica_states(ledger, run.id)
    if wanted or numbers is None:
        meant = wanted or {State.FAILED}
        within = numbers or range(1, run.total + 1)
        return RetryChoice({row.number: None for row in rows if row.state in meant and row.number in within})
    return _named(ledger, run, dict.fromkeys(numbers))


def _named(ledger: Ledger, run: Run, wanted: Mapping[int, tuple[int, ...] | None]) -> RetryChoice:
    """Return the choice of named replicas, with the positions of their items; None for all items."""
    stopped = runs.summaries(ledger, [run])[0].stop_reason
    chosen: dict[int, tuple[int, ...] | None] = {}
    left: list[Step] = []
    for row in replicas.replica_states(ledger, run.id):
        if row.number not in wanted:
            continue
        if row.state in RETRIABLE:
            chosen[row.number] = wanted[row.number]
        else:
            left.append(Step(row.number, row.name, StepAction.KEEP, _why_not(row, stopped)))
    return RetryChoice(chosen, tuple(left))


def _with_items(ledger: Ledger, run: Run, items: Sequence[str]) -> RetryChoice:
    """Return the choice of the replicas with these items. With ``each``, a replica runs these items, and its others
    that are not Completed: otherwise it would become Completed without them."""
    wanted = set(items)
    rows = replicas.items_of(ledger, run.id)
    seen = {row.item for row in rows} & wanted
    found: dict[int, list[int]] = {row.replica: [] for row in rows if row.item in wanted}
    for row in rows:
        if row.replica in found and (row.item in wanted or row.state != State.COMPLETED):
            found[row.replica].append(row.position)
    missing = [item for item in items if item not in seen]
    if missing:
        raise UsageError(
            f"run {run.number} of {run.key.name} has no item '{missing[0]}'" + _more(len(missing) - 1), where="--items"
        )
    each = replicas.replicas_with_each(ledger, run.id)
    return _named(
        ledger, run, {number: tuple(positions) if number in each else None for number, positions in found.items()}
    )


def _why_not(row: ReplicaState, stopped: str | None) -> str:
    """Return why a replica is not retried. ``stopped``: why no more replicas of its run are created."""
    if row.state != State.QUEUED:
        return f"{row.state}: a live replica is never retried"
    return "it is Queued already" + (f": {stopped}" if stopped else "")


def _more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""


@dataclass
class Retry:
    """Drives runs again, all in one loop, under their locks. A run with another driver is left to it.

    ``known``: the outcomes so far, even if an error ends the command.
    """

    runtime: Runtime
    deadline: float | None = None
    break_lock: bool = False
    known: Outcome | None = None
    _handed: frozenset[int] = frozenset()  # ids of runs with new attempts, which the driver of the run starts

    async def resume(self, run: Run) -> Outcome:
        """Drive a run until its end.

        Raise NegativeResult for a deleted run, and BusyError if another command is driving it.
        """
        if run.deleting:
            hint = outcome.deleted_hint(self.runtime.ledger, run)
            raise NegativeResult(f"{run.key.name} cannot be resumed", hint=hint)
        return await self._drive([(run, ())], JobAction.RESUME, "from the ledger", follow=True)

    async def retry(self, wanted: Sequence[tuple[Run, RetryChoice]], wait: bool) -> Outcome:
        """Allow one more attempt of the chosen replicas, and drive the runs: one pass, or with ``wait`` until their
        end.

        If another command drives a run, that command starts the new attempts.
        """
        self._handed = frozenset(run.id for run, chosen in wanted if chosen.replicas)
        for run, chosen in wanted:
            if chosen.replicas:  # a run without retries is only driven
                replicas.allow_again(self.runtime.ledger, run.id, chosen.replicas, chosen.resources)
        return await self._drive(
            [(run, chosen.left) for run, chosen in wanted], JobAction.RETRY, "requested", follow=wait
        )

    async def _drive(
        self, work: Sequence[tuple[Run, tuple[Step, ...]]], action: JobAction, reason: str, follow: bool
    ) -> Outcome:
        locks: list[JobLock] = []
        driven: list[tuple[Run, tuple[Step, ...], JobOutcome]] = []
        self.known = Outcome(self.runtime.profile, False, [])
        try:
            for run, left in work:
                part = JobOutcome(run.key.name, action, reason, run.number, run.digest)
                try:
                    locks.append(
                        acquire(self.runtime.ledger, run.key, self.runtime.clock.now(), break_lock=self.break_lock)
                    )
                    driven.append((run, left, part))
                except BusyError as error:
                    if follow and run.id not in self._handed and len(work) == 1:
                        raise
                    self._leave(error, run, left, part)
                self.known.jobs.append(part)
            if driven:
                await self._together(driven, locks, follow)
        finally:
            release_locks(locks)
        return self.known

    async def _together(
        self, driven: Sequence[tuple[Run, tuple[Step, ...], JobOutcome]], locks: Sequence[JobLock], follow: bool
    ) -> None:
        """Drive the runs, and set the outcomes in their parts, even if an error ends the command."""
        every = tuple(run for run, _, _ in driven)
        driver = Driver(self.runtime, every, follow, gates_of_jobs(self.runtime.ledger, locks), self.deadline)
        try:
            await driver.drive()
        except Interrupted as error:
            raise outcome.interruption(self.runtime, error, every) from None
        finally:
            for run, left, part in driven:
                steps = (*left, *driver.first_steps.get(run.id, ()))
                part.steps = outcome.done_steps(self.runtime.ledger, run.id, steps, driver.results)
                part.exit = outcome.exit_of_driven(part, self._fill(part, run), follow)
        for _, _, part in driven:
            part.has_driver = follow

    def _leave(self, driver: BusyError, run: Run, left: tuple[Step, ...], part: JobOutcome) -> None:
        """Fill the part of a run that another command drives; that command starts the new attempts."""
        part.has_driver = True
        part.steps = outcome.done_steps(self.runtime.ledger, run.id, left, {})
        self._fill(part, run)
        if run.id in self._handed:
            self.runtime.reporter.say(f"{driver.message}; it starts the new attempts")
        else:
            part.action, part.reason, part.exit, part.hint = JobAction.BUSY, driver.message, driver.exit, driver.hint

    def _fill(self, part: JobOutcome, run: Run) -> RunSummary:
        fresh = runs.run_by_id(self.runtime.ledger, run.id)
        assert fresh is not None
        summary = runs.summaries(self.runtime.ledger, [fresh])[0]
        outcome.job_outcome(part, summary)
        outcome.fill_results(part, self.runtime.ledger, run.id)
        return summary


def preview_retry(ledger: Ledger, run: Run, chosen: RetryChoice) -> JobOutcome:
    """Return what retry would do, with the items that each attempt would run."""
    reason = f"{len(chosen.replicas)} of {count_noun(run.total, 'replica')}" if chosen.replicas else "nothing to retry"
    part = JobOutcome(run.key.name, JobAction.RETRY, reason, run.number, run.digest)
    unread = {attempt.replica for attempt in unread_logs(snapshot_of(ledger, run.id))}
    steps = [
        Step(
            row.number,
            row.name,
            StepAction.RETRY,
            _with_item_names(ledger, run, row, chosen.replicas[row.number], row.number in unread),
        )
        for row in replicas.replicas_of(ledger, run.id, chosen.replicas)
    ]
    part.steps = outcome.planned_steps([*steps, *chosen.left])
    outcome.job_outcome(part, runs.summaries(ledger, [run])[0])
    return part


def _with_item_names(
    ledger: Ledger, run: Run, row: ReplicaRow, positions: tuple[int, ...] | None, is_unread: bool
) -> str:
    """Return the state of a replica, and the items that its next attempt runs.

    ``is_unread``: its log, which says which items ended with 0, has not been read.
    """
    if not row.items:
        return row.state
    if row.each is None:
        items = row.items
    elif positions is None and is_unread and row.state == State.FAILED:
        these = count_noun(len(row.items), "item")
        return f"{row.state}; those of its {these} that did not end with 0 (known when its log has been read)"
    else:
        positions = positions or replicas.positions_to_run(ledger, run.id, row)
        items = tuple(row.items[position - 1] for position in positions)
    return f"{row.state}; {_name_items(items)}"


def _name_items(items: Sequence[str]) -> str:
    """Return a text such as ``item a`` or ``items a, b and 3 more``."""
    named = f"{'item' if len(items) == 1 else 'items'} {', '.join(items[:_MOST_ITEMS])}"
    return named + _more(len(items) - _MOST_ITEMS)


def is_unfinished(ledger: Ledger, run: Run, chosen: RetryChoice) -> bool:
    """Return whether driving the run is useful although no replica is retried.

    It is if the run has not ended, or if named replicas could not be chosen.
    """
    fresh = runs.run_by_id(ledger, run.id)
    return bool(chosen.left) or (fresh is not None and fresh.ended is None)


def nothing_to_retry(ledger: Ledger, run: Run, chosen: RetryChoice, dry_run: bool, follow: bool) -> JobOutcome:
    """Return the part of a retry without any replica to retry.

    Its exit code is 1 if replicas were named that cannot be retried, else 0 in a dry run. Otherwise, it is that of the
    run's result if the run has ended, was stopped, or was waited for (``follow``).
    """
    part = preview_retry(ledger, run, chosen)
    assert part.summary is not None
    part.exit = Exit.NO if chosen.left else Exit.DONE
    if not dry_run and not chosen.left:
        part.exit = outcome.exit_of_driven(part, part.summary, follow)
    part.reason_is_final = True
    part.hint = _retriable_hint(ledger, part.summary, chosen.resources)
    part.has_driver = living_driver(ledger, run.key) is not None
    part.resume = outcome.continuing(ledger, [run])
    for step in part.steps:
        step.outcome = StepOutcome.PLANNED if dry_run else StepOutcome.UNCHANGED
    return part


def _retriable_hint(ledger: Ledger, summary: RunSummary, resources: Resources | None) -> str | None:
    """Return how to start replicas that a plain retry leaves out. ``resources``: those of this retry, for the hint."""
    run = summary.run
    if summary.stop_reason is not None:
        return outcome.stop_hint(summary)
    rows = replicas.replica_states(ledger, run.id)
    rejected = [row.number for row in rows if row.state == State.REJECTED]
    if rejected:
        given = {} if resources is None else {"--ram": resources.ram, "--cores": resources.cores}
        words = [word for name, amount in given.items() if amount is not None for word in (name, f"{amount:g}")]
        again = suggest("retry", run.key.name, "--rejected", *words)
        return f"Rejected: {name_replicas(rejected)}. To retry: {again}"
    if any(row.state == State.SKIPPED for row in rows):
        return outcome.skip_hint(ledger, run)
    return outcome.deleted_hint(ledger, run) if summary.status == State.DELETED else None


@dataclass(frozen=True, slots=True)
class Marked:
    """The result of ``mark``.

    ``replicas``: those that have the result now. ``text``: the same in words. ``changed``: places with an observed
    result that was overridden.
    """

    replicas: tuple[int, ...]
    text: str
    changed: tuple[str, ...] = ()


#: The opposite of each result that can be observed.
OTHER = {State.COMPLETED: State.FAILED, State.FAILED: State.COMPLETED}


def mark_results(
    ledger: Ledger,
    run: Run,
    state: State,
    numbers: Collection[int],
    items: Sequence[str] | None,
    now: float,
    force: bool = False,
) -> Marked:
    """Record results that the user set.

    Raise NegativeResult for a live replica, and without ``force`` for one with another observed result.

    All items of a replica that is marked Completed become Completed. The items of one that is marked Failed become
    Failed, except those with exit code 0 if any other failed. With ``items``, only these are marked; a replica becomes
    Completed when all of its items are. If the run can no longer continue after that, it has ended.
    """
    if items:
        return _mark_items(ledger, run, state, items, now, force)
    wanted = set(numbers)
    chosen = {row.number: row.state for row in replicas.replica_states(ledger, run.id) if row.number in wanted}
    alive = [number for number, former in chosen.items() if former not in ENDED]
    if alive:
        raise NegativeResult(
            f"replica {alive[0]} of {run.key.name} has not ended; only ended replicas can be marked",
            hint=f"to drive it until it ends: {suggest('resume', run.key.name)}",
        )
    others = _observed(ledger, run, chosen, OTHER[state])
    refused = [number for number in others if chosen[number] != state]
    if refused and not force:
        raise _observed_error(run, name_replicas(refused))
    with ledger.transaction():
        replicas.mark_items(ledger, run.id, _items_to_mark(ledger, run, chosen, state), state)
        _mark_replicas(ledger, run, chosen, state, now)
    text = f"{name_replicas(chosen)} marked {state}" if chosen else ""
    return Marked(tuple(chosen), text, (name_replicas(others),) if others else ())


def _items_to_mark(ledger: Ledger, run: Run, numbers: Collection[int], state: State) -> dict[int, tuple[int, ...]]:
    """Return the positions of the items of replicas with ``each`` that get another result when their replica is
    marked."""
    marked: dict[int, list[ItemRow]] = {number: [] for number in replicas.replicas_with_each(ledger, run.id)}
    for row in replicas.items_of(ledger, run.id):
        if row.replica in numbers and row.replica in marked:
            marked[row.replica].append(row)
    found = {}
    for number, rows in marked.items():
        if state == State.FAILED:  # what an item reported stays, unless the replica would have no failed item
            rows = [row for row in rows if row.exit_code != 0] or rows
        found[number] = tuple(row.position for row in rows if row.state != state)
    return found


def _observed(ledger: Ledger, run: Run, numbers: Collection[int], state: State) -> list[int]:
    """Return those of these replicas with a latest attempt that has this state, even if they are marked otherwise."""
    latest = {attempt.replica: attempt.state for attempt in attempts_of(ledger, run.id)}
    return [number for number in numbers if latest.get(number) == state]


def _observed_error(run: Run, places: str) -> NegativeResult:
    return NegativeResult(
        f"the result of {places} of {run.key.name} was observed; it is not changed",
        hint="add --force to change it anyway",
    )


def _mark_items(ledger: Ledger, run: Run, state: State, items: Sequence[str], now: float, force: bool) -> Marked:
    chosen = _with_items(ledger, run, items)
    if chosen.left:
        raise NegativeResult(f"replica {chosen.left[0].replica} of {run.key.name} has not ended; wait for it first")
    wanted = set(items)
    rows = [row for row in replicas.items_of(ledger, run.id) if row.item in wanted]
    # Without marks in its log, a replica's result is that of its items.
    whole = set(_observed(ledger, run, chosen.replicas, OTHER[state])) - replicas.replicas_with_each(ledger, run.id)
    observed = [
        row.item for row in rows if row.state == OTHER[state] and (row.exit_code is not None or row.replica in whole)
    ]
    if observed and not force:
        raise _observed_error(run, _name_items(observed))
    positions: dict[int, list[int]] = {}
    for row in rows:
        positions.setdefault(row.replica, []).append(row.position)
    before = {row.number: row.state for row in replicas.replica_states(ledger, run.id)}
    with ledger.transaction():
        replicas.mark_items(ledger, run.id, {number: tuple(found) for number, found in positions.items()}, state)
        by_replica: dict[int, set[str]] = {}
        for row in replicas.items_of(ledger, run.id):
            by_replica.setdefault(row.replica, set()).add(row.state)
        done = [number for number in positions if by_replica[number] == {State.COMPLETED}]
        failed = [number for number in positions if State.FAILED in by_replica[number]]
        if state == State.COMPLETED:  # a replica that failed because of another item keeps its reason and its attempts
            failed = [number for number in failed if before[number] != State.FAILED]
        _mark_replicas(ledger, run, done, State.COMPLETED, now)
        _mark_replicas(ledger, run, failed, State.FAILED, now)
    after = {row.number: row.state for row in replicas.replica_states(ledger, run.id) if row.number in positions}
    grouped: dict[tuple[str, bool], list[int]] = {}
    for number, now_is in after.items():
        grouped.setdefault((now_is, now_is == before[number]), []).append(number)
    texts = [f"{_name_items([row.item for row in rows])} marked {state}"]
    for (now_is, is_same), these in grouped.items():
        texts.append(f"{name_replicas(these)} {'is' if len(these) == 1 else 'are'} {'still ' * is_same}{now_is}")
    marked = tuple(number for number, now_is in after.items() if now_is == state)
    return Marked(marked, "; ".join(texts), (_name_items(observed),) if observed else ())


def _mark_replicas(ledger: Ledger, run: Run, numbers: Collection[int], state: str, now: float) -> None:
    if not numbers:
        return
    replicas.set_states(ledger, run.id, numbers, state, "marked by a user")
    replicas.stop_retries(ledger, run.id, numbers)
    marked = set(numbers)
    for attempt in attempts_of(ledger, run.id):
        if attempt.replica in marked and attempt.state == State.UNKNOWN:
            replicas.add_note(ledger, run.id, now, f"marked {state}", attempt.replica)
        if attempt.replica in marked:
            set_attempt(ledger, attempt, {"source": ResultSource.MARKED})
    watch = snapshot_of(ledger, run.id)
    if watch.run.ended is None and is_ended(watch) and not unread_logs(watch):
        runs.end_run(ledger, run.id, now)
