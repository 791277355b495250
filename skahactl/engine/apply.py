"""Apply jobs: observe, decide, plan, execute, with an outcome for every step."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from skahactl.engine import outcome
from skahactl.engine.decide import ApplyMode, Decision, RunHistory, adopted_rest, in_order
from skahactl.engine.driver import Driver, gates_of_jobs, release_locks, wait_for_lock
from skahactl.engine.outcome import JobOutcome, Outcome
from skahactl.engine.plan import NEXT_RUN, JobAction, Step, with_adopted
from skahactl.engine.runtime import FOREVER, Runtime, check_user
from skahactl.engine.tasks import check_logs_can_be_saved
from skahactl.errors import AuthError, BusyError, Exit, SkahactlError, TimedOut, UnreachableError, UsageError
from skahactl.eventloop import Interrupted
from skahactl.ledger import replicas, runs
from skahactl.ledger.lock import JobLock, acquire, living_driver
from skahactl.ledger.records import REPLACED
from skahactl.model import ALIVE, Job
from skahactl.text import count_noun

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skahactl.engine.shared_results import EarlierRecord
    from skahactl.ledger.records import JobKey, Run, RunSummary
    from skahactl.skaha.models import Listing

#: Sessions that started within this many seconds may mean that another driver is running.
AT_WORK = 600.0
#: Actions that start nothing and write nothing.
_NOTHING = frozenset({JobAction.REFUSE, JobAction.ENDED, JobAction.FOREIGN})


@dataclass
class Applier:
    """One call of apply.

    ``confirm`` asks before a run is replaced: True continues, False or None ends the call; None means that no one could
    be asked. ``known`` contains the outcomes of the jobs that were begun, even if an error ends the call.
    """

    runtime: Runtime
    mode: ApplyMode
    wait: bool = False
    deadline: float | None = None
    break_lock: bool = False
    directory: str | None = None
    confirm: Callable[[str], bool | None] = lambda words: None
    known: Outcome | None = None
    _locks: list[JobLock] = field(default_factory=list)
    _consented: set[str] = field(default_factory=set)  # jobs that may be replaced
    _handed: set[str] = field(default_factory=set)  # jobs with a driver that adopted changed limits
    _adopted: dict[int, Mapping[int, Step]] = field(default_factory=dict)  # by run

    async def preview(self, jobs: Sequence[Job]) -> Outcome:
        """Return what apply would do, from one poll. Change nothing."""
        from skahactl.engine.decide import plan_new_run

        listing = await self._first_poll(jobs)
        history = RunHistory(self.runtime.ledger, self.runtime.profile, listing)
        history.refuse_unknown_after(jobs)
        jobs = in_order(jobs)
        decisions = self._decided(jobs, history)
        coming: set[str] = set()
        parts = []
        for job in jobs:
            last, decision = history.last(job.name), decisions[job.name]
            earlier = await self._earlier_record(job, history, last)
            part = outcome.decision_outcome(job, decision, last)
            if decision.action in NEXT_RUN:
                coming.add(job.name)
                part.run = await self._next_number(job, history, last)
            self._explain_adoption(part, job, history, earlier)
            part.steps = outcome.planned_steps(
                plan_new_run(self.runtime, history, job, decision, last, coming, self.mode.adopt, earlier)
            )
            outcome.job_outcome(
                part, last if decision.action in (JobAction.KEEP, JobAction.ENDED, JobAction.REFUSE) else None
            )
            parts.append(part)
        return Outcome(self.runtime.profile, True, parts)

    async def apply(self, jobs: Sequence[Job]) -> Outcome:
        """Apply the jobs.

        Raise errors that stop the whole call: no login, no reply from the platform, another driver, an interruption.
        """
        listing = await self._first_poll(jobs)
        history = RunHistory(self.runtime.ledger, self.runtime.profile, listing)
        history.refuse_unknown_after(jobs)
        jobs = in_order(jobs)
        busy: dict[str, BusyError] = {}
        try:
            decisions = self._decided(jobs, history)
            _refuse_foreign(decisions)
            self._warn_of_changed_lists(decisions)
            answer = self._may_replace(jobs, history, decisions)
            if not answer:
                return self._unchanged(jobs, history, decisions, declined=answer is False)
            busy = await self._take_locks(jobs, history, decisions)
            self.known = Outcome(self.runtime.profile, False, [])
            todo: dict[int, JobOutcome] = {}
            to_drive: list[Run] = []
            for job in jobs:
                if job.name in busy:
                    left = outcome.outcome_left_to(busy[job.name], job, history.last(job.name))
                    if job.name in self._handed:
                        left.action, left.exit = JobAction.KEEP, Exit.DONE
                    self.known.jobs.append(left)
                    continue
                part, run = await self._begin(job, history, self.known)
                if run is not None:
                    todo[run.id] = part
                    to_drive.append(run)
            if to_drive:
                await self._drive(to_drive, todo)
            return self.known
        except Interrupted as error:
            begun = [history.last(job.name) for job in jobs if job.name not in busy]
            left_alone = [last.run for last in begun if last is not None]
            raise outcome.interruption(self.runtime, error, left_alone) from None
        finally:
            release_locks(self._locks)

    async def _first_poll(self, jobs: Sequence[Job]) -> Listing:
        patience = FOREVER if self.wait else 0.0
        listing = await self.runtime.first_poll(patience=patience, deadline=self.deadline)
        check_user(self.runtime.ledger, self.runtime.profile, [job.name for job in jobs], listing.user)
        return listing

    def _may_replace(self, jobs: Sequence[Job], history: RunHistory, decisions: Mapping[str, Decision]) -> bool | None:
        """Ask once for the whole call, if it replaces runs that are alive or have a driver.

        Return None if no one can be asked.
        """
        asked = []
        for job in jobs:
            last, decision = history.last(job.name), decisions[job.name]
            if decision.action is not JobAction.REPLACE or last is None or last.run.deleting:
                continue
            if any(last.counts[state] for state in ALIVE) or living_driver(self.runtime.ledger, history.key(job.name)):
                asked.append(f"{job.name}: {decision.reason}")
            self._consented.add(job.name)
        return True if not asked else self.confirm("\n".join(asked))

    def _unchanged(
        self, jobs: Sequence[Job], history: RunHistory, decisions: Mapping[str, Decision], declined: bool
    ) -> Outcome:
        """Return the outcome of a call that changes nothing.

        A replacement was ``declined``, or could not be confirmed.
        """
        self.known = Outcome(self.runtime.profile, False, [])
        for job in jobs:
            last, decision = history.last(job.name), decisions[job.name]
            part = outcome.decision_outcome(job, decision, last)
            outcome.job_outcome(part, last)
            part.action, part.exit = JobAction.REFUSE, Exit.NO
            part.has_driver = living_driver(self.runtime.ledger, history.key(job.name)) is not None
            if decision.action is JobAction.REPLACE and last is not None:
                part.reason = f"nothing was replaced; run {last.run.number} continues"
                part.hint = None if declined else f"add --yes to {decision.reason}"
            else:
                part.reason = "not changed, because another job of this call was not to be replaced"
            self.known.jobs.append(part)
        return self.known

    def _decided(self, jobs: Sequence[Job], history: RunHistory) -> dict[str, Decision]:
        """Return the decisions before any lock is taken. ``jobs`` are sorted so that each follows those it comes
        after."""
        decisions: dict[str, Decision] = {}
        coming: set[str] = set()
        for job in jobs:
            decisions[job.name] = decision = history.decide(job, self.mode, self.runtime.clock.now(), coming)
            if decision.action in NEXT_RUN:
                coming.add(job.name)
        return decisions

    def _warn_of_changed_lists(self, decisions: Mapping[str, Decision]) -> None:
        for name, decision in decisions.items():
            if decision.action is JobAction.KEEP and decision.differences:
                self.runtime.warn(f"{name}: {decision.reason}")

    async def _begin(self, job: Job, history: RunHistory, known: Outcome) -> tuple[JobOutcome, Run | None]:
        """Decide under the lock and create the run. Return its part, and the run if it has to be driven.

        The part is added to ``known`` immediately. The results and logs of an unfinished run are saved before the run
        is left alone or followed by the next one.
        """
        last = history.last(job.name)
        decision = history.decide(job, self.mode, self.runtime.clock.now())
        if last is not None and last.run.ended is None and decision.action in (JobAction.REFUSE, JobAction.CREATE):
            if not last.run.deleting and self._may_lock(history.key(job.name)):
                await self._driver([last.run], follow=False, create=False).drive()
            last = history.last(job.name)
            decision = history.decide(job, self.mode, self.runtime.clock.now())
        part = outcome.decision_outcome(job, decision, last)
        if decision.action not in _NOTHING:
            try:
                self._lock(history.key(job.name))
            except BusyError as error:  # the new run of another job changed the decision
                known.jobs.append(outcome.outcome_left_to(error, job, last))
                return known.jobs[-1], None
        known.jobs.append(part)
        if decision.action in _NOTHING:
            outcome.job_outcome(part, last)
            part.has_driver = living_driver(self.runtime.ledger, history.key(job.name)) is not None
            return part, None
        if decision.action is JobAction.KEEP:
            assert last is not None
            runs.set_limits(self.runtime.ledger, last.run.id, job.limits, job.keep, job.attempts, job.retry_ram)
            if self.mode.adopt is not None:
                self._adopt(last.run, job, history)
            return part, last.run
        if decision.action is JobAction.REPLACE:
            assert last is not None
            if not await self._replace(last, part):
                return part, None
        is_requested = (self.mode.rerun or self.mode.replace) and not job.left_out
        if decision.action is JobAction.CREATE and last is not None and not is_requested:
            self.runtime.reporter.say(f"{job.name}: {decision.reason}")
        if last is not None and last.stop_reason is not None:
            runs.abandon(self.runtime.ledger, last.run.id, self.runtime.clock.now())
        earlier = await self._earlier_record(job, history, last)  # before anything is recorded, because it can fail
        run = self._add(job, history, await self._next_number(job, history, last))
        if decision.action is JobAction.ADOPT or earlier is not None:
            self._adopted[run.id] = history.adoption(job, self.mode.adopt, earlier)
            self._adopt(run, job, history)
        if earlier is not None:
            self._explain_adoption(part, job, history, earlier)
            self.runtime.reporter.say(f"{job.name}: {part.reason}")
            await self._adopt_results(run, earlier)
        part.run = run.number
        return part, run

    def _adopt(self, run: Run, job: Job, history: RunHistory) -> None:
        """Adopt sessions that this ledger did not create, for replicas that are not created yet."""
        found, now = history.foreign(job), self.runtime.clock.now()
        started = [one.started for sessions in found.values() for one in sessions if one.started is not None]
        if self.mode.adopt == "create" and any(now - at < AT_WORK for at in started):
            self.runtime.warn_once(
                f"{job.name} had sessions started within the last {AT_WORK / 60:.0f} minutes; if another "
                "command still drives it, both create its replicas"
            )
        runs.adopt_sessions(self.runtime.ledger, run, found, self.mode.adopt, now)

    async def _earlier_record(self, job: Job, history: RunHistory, last: RunSummary | None) -> EarlierRecord | None:
        """Return the results that can be adopted from the shared record, for a job without a local record; else
        None."""
        shared = runs.shared_directory(history.key(job.name), job)
        if self.mode.adopt is None or last is not None or shared is None:
            return None
        results = self.runtime.shared_results()
        earlier = await self.runtime.stop.guard(results.find_earlier(shared, job, history.foreign(job)))
        return earlier if earlier is not None and earlier.ends else None

    async def _next_number(self, job: Job, history: RunHistory, last: RunSummary | None) -> int:
        """Return the number of the next run.

        It also follows the runs of other machines in the shared record, which would be overwritten otherwise.
        """
        number = 1 if last is None else last.run.number + 1
        shared = runs.shared_directory(history.key(job.name), job)
        if shared is None or self.mode.adopt is not None:
            return number
        runtime = self.runtime
        try:
            newest = await runtime.stop.guard(runtime.shared_results().newest_run(shared, job))
        except (AuthError, UnreachableError) as error:
            runtime.warn_once(f"{job.name}: earlier runs in {shared} could not be looked for: {error.message}")
            return number
        if newest < number:
            return number
        adopt = f" (--adopt create takes them over instead of run {newest + 1})" if last is None else ""
        runtime.reporter.say(
            f"{job.name}: run {newest} of it is in {shared}, from another machine or before its record was deleted; "
            f"its results stay there{adopt}"
        )
        return newest + 1

    def _explain_adoption(self, part: JobOutcome, job: Job, history: RunHistory, earlier: EarlierRecord | None) -> None:
        """State in ``part`` which results are adopted from the shared record, and what happens to the other
        replicas."""
        if earlier is None:
            return
        sessions = sum(len(found) for found in history.foreign(job).values())
        missing = len(job.replicas) - len(earlier.ends) - len(history.foreign(job))
        part.action = JobAction.ADOPT
        part.reason = f"adopted: {count_noun(len(earlier.ends), 'result')} in the shared record {earlier.directory}"
        part.reason += f", and {count_noun(sessions, 'session')} with the names of this job" if sessions else ""
        part.reason += adopted_rest(missing, self.mode.adopt == "create")

    async def _adopt_results(self, run: Run, earlier: EarlierRecord) -> None:
        """Adopt the results in the shared record, for replicas without a session."""
        runtime = self.runtime
        error = await runtime.stop.guard(runtime.shared_results().adopt(run, earlier, runtime.clock.now()))
        if error is not None:
            runtime.reporter.say(f"the items of some adopted results could not be read: {error.message}")

    async def _replace(self, last: RunSummary, part: JobOutcome) -> bool:
        """Delete the last run, verify that, and wait until none of its pods can still write.

        Return False if the run is not replaced; ``part`` says why.
        """
        alive = sum(last.counts[state] for state in ALIVE)
        if alive and not last.run.deleting and part.name not in self._consented:
            part.action, part.exit, part.hint = JobAction.REFUSE, Exit.NO, "add --yes to replace it"
            return False
        self._request_replacement(last.run)
        if last.run.started is None:
            return True
        self.runtime.reporter.say(f"{part.name}: {part.reason}")
        driver = self._driver([last.run], follow=True, create=False)
        try:
            await driver.drive()
        finally:
            outcome.job_outcome(part, self._summaries([last.run])[0])
        if driver.undeleted:
            sessions = count_noun(len(driver.undeleted), "session")
            part.reason = f"not deleted after several tries: {sessions} of run {last.run.number}"
            part.hint = "run the same command again to retry"
            part.action, part.exit = JobAction.REFUSE, outcome.exit_of_undeleted(driver.undeleted)
            return False
        grace = self.runtime.profile.client.grace
        if alive and grace:
            self.runtime.reporter.say(
                f"{part.name}: run {last.run.number} is deleted; waiting {grace:g} s for its pods to stop"
            )
            await self._wait_for_grace(last, grace)
        return True

    def _request_replacement(self, run: Run) -> None:
        """Request the deletion of a run that is replaced. Raise SkahactlError if its logs cannot be saved before."""
        check_logs_can_be_saved(self.runtime.ledger, run)
        replicas.request_delete(self.runtime.ledger, run.id, None, mark=REPLACED)

    async def _wait_for_grace(self, last: RunSummary, grace: float) -> None:
        """Wait ``grace`` seconds, in which pods of the deleted run may still write.

        Raise TimedOut at the deadline of the call.
        """
        left = grace if self.deadline is None else min(grace, max(0.0, self.deadline - self.runtime.clock.monotonic()))
        await self.runtime.stop.sleep(self.runtime.clock, left)
        if left < grace:
            raise TimedOut(
                f"timed out: run {last.run.number} of {last.run.key.name} was deleted; the next run was not started",
                hint="run the same command again to start it",
            )

    def _add(self, job: Job, history: RunHistory, number: int) -> Run:
        runtime, key = self.runtime, history.key(job.name)
        before, now = history.runs_before(job), runtime.clock.now()
        run = runs.add_run(runtime.ledger, key, job, runtime.profile.name, before, now, self.directory, number)
        if runtime.profile.is_local and run.shared is not None:
            with contextlib.suppress(OSError):  # a run that waits for a slot keeps its number from another record
                Path(run.shared).mkdir(parents=True, exist_ok=True)
        return run

    async def _drive(self, to_drive: list[Run], parts: Mapping[int, JobOutcome]) -> None:
        driver = self._driver(to_drive, follow=self.wait, create=True)
        failure: SkahactlError | None = None
        try:
            await driver.drive()
        except SkahactlError as error:
            failure = error
            raise
        finally:
            self._finish(driver, to_drive, parts, failure)

    def _finish(
        self, driver: Driver, driven: list[Run], parts: Mapping[int, JobOutcome], failure: SkahactlError | None
    ) -> None:
        for summary in self._summaries(driven):
            part = parts[summary.run.id]
            plan = with_adopted(driver.first_steps.get(summary.run.id, ()), self._adopted.get(summary.run.id, {}))
            part.steps = outcome.done_steps(self.runtime.ledger, summary.run.id, plan, driver.results)
            outcome.job_outcome(part, summary)
            outcome.fill_results(part, self.runtime.ledger, summary.run.id, self.mode.words)
            if part.action is JobAction.KEEP and summary.run.ended is not None:
                part.reason = f"run {summary.run.number} has ended"
            part.has_driver = self.wait and failure is None
            part.exit = outcome.exit_of_driven(part, summary, self.wait) if failure is None else failure.exit

    def _driver(self, to_drive: list[Run], *, follow: bool, create: bool) -> Driver:
        gates = gates_of_jobs(self.runtime.ledger, self._locks)
        return Driver(self.runtime, tuple(to_drive), follow, gates, self.deadline, create)

    async def _take_locks(
        self, jobs: Sequence[Job], history: RunHistory, decisions: Mapping[str, Decision]
    ) -> dict[str, BusyError]:
        """Take the locks of the jobs to create or continue; return the error of each job that another command drives.

        Raise BusyError instead if the call has only this job. If a run may be replaced, request its deletion and wait
        for its lock.
        """
        busy: dict[str, BusyError] = {}
        for job in sorted(jobs, key=lambda job: job.name):
            decision, key = decisions[job.name], history.key(job.name)
            if decision.action in _NOTHING:
                continue
            try:
                self._lock(key)
            except BusyError as error:
                if decision.action is JobAction.REPLACE and job.name in self._consented:
                    last = history.last(job.name)
                    assert last is not None
                    self._request_replacement(last.run)
                    self._locks.append(
                        await wait_for_lock(self.runtime.ledger, key, self.runtime.clock, self.runtime.stop)
                    )
                    continue
                if decision.action is JobAction.KEEP and self._hand_on_limits(job, history, error):
                    self._handed.add(job.name)
                elif len(jobs) == 1:
                    raise
                busy[job.name] = error
        return busy

    def _lock(self, key: JobKey) -> None:
        """Take the lock of a job, once. Raise BusyError if another command holds it."""
        if all(lock.key != key for lock in self._locks):
            self._locks.append(acquire(self.runtime.ledger, key, self.runtime.clock.now(), break_lock=self.break_lock))

    def _may_lock(self, key: JobKey) -> bool:
        try:
            self._lock(key)
        except BusyError:
            return False
        return True

    def _hand_on_limits(self, job: Job, history: RunHistory, error: BusyError) -> bool:
        """Write changed limits, which the driver with the lock adopts; return whether any changed.

        The message of ``error`` then says so.
        """
        last = history.last(job.name)
        if last is None:
            return False
        run = last.run
        changed = {
            "[limits]": job.limits != run.limits,
            "[retry]": (job.attempts, job.retry_ram) != (run.attempts, run.retry_ram),
            "[logs]": job.keep != run.keep,
        }
        if any(changed.values()):
            runs.set_limits(self.runtime.ledger, run.id, job.limits, job.keep, job.attempts, job.retry_ram)
            words = " and ".join(table for table, differs in changed.items() if differs)
            error.message += f"; it applies the changed {words} from now on"
        return any(changed.values())

    def _summaries(self, driven: list[Run]) -> tuple[RunSummary, ...]:
        fresh = [found for run in driven if (found := runs.run_by_id(self.runtime.ledger, run.id)) is not None]
        return runs.summaries(self.runtime.ledger, fresh)


def _refuse_foreign(decisions: Mapping[str, Decision]) -> None:
    for decision in decisions.values():
        if decision.action is JobAction.FOREIGN:
            raise UsageError(decision.reason, hint=decision.hint, code="foreign")
