"""Delete jobs: request it in the ledger, let the driver of the job carry it out, and verify it by the session ids."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skahactl.engine import outcome
from skahactl.engine.driver import Driver, gates_of_jobs, release_locks, wait_for_lock
from skahactl.engine.lifecycle import MAX_DELETES
from skahactl.engine.outcome import JobOutcome, StepOutcome, StepResult, Undeleted
from skahactl.engine.plan import JobAction, StepAction
from skahactl.engine.runtime import Runtime
from skahactl.engine.tasks import check_logs_can_be_saved
from skahactl.errors import BusyError, Exit, SkahactlError
from skahactl.eventloop import Interrupted
from skahactl.ledger import replicas, runs
from skahactl.ledger.attempts import attempts_of, forget_logs, runs_with
from skahactl.ledger.lock import JobLock, acquire
from skahactl.ledger.records import DISCARD_LOGS
from skahactl.logs.copies import log_path
from skahactl.model import ALIVE, ENDED, OBSERVED, State
from skahactl.skaha.models import ServerError
from skahactl.text import count_noun, join_words

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, JobKey, ReplicaState, Run, RunSummary
    from skahactl.skaha.models import Listing, ServerSession

#: ``017.1.log``, its events, and temporary files of an interrupted write.
_OURS = re.compile(r"\.?\d+\.\d+\.log(\.events)?(\.new|\.joined)?")


def forget_job(ledger: Ledger, key: JobKey, now: float, memory: float) -> int:
    """Remove all runs of the job with their logs, and return the bytes of removed logs. The caller holds its lock.

    ``memory``: see ``runs.forget``.
    """
    found = runs.runs_of(ledger, key)
    size = sum(remove_logs(ledger, run) for run in found)
    runs.forget(ledger, [run.id for run in found], now, memory)
    return size


def ended_before(ledger: Ledger, every: Sequence[Run], before: float) -> tuple[RunSummary, ...]:
    """Return the runs that ended before the time ``before`` and have no live session."""
    ended = runs.summaries(ledger, [run for run in every if run.ended is not None and run.ended < before])
    return tuple(one for one in ended if not any(one.counts[state] for state in ALIVE))


@dataclass(frozen=True, slots=True)
class Prune:
    """Removes runs that ended before the time ``before``, or only their logs. ``memory``: see ``runs.forget``."""

    ledger: Ledger
    before: float
    memory: float
    only_logs: bool

    def prune(self, key: JobKey, wanted: Collection[int], now: float) -> tuple[Run, ...]:
        """Remove those of the ``wanted`` runs (ids) of a job that are still old enough, under its lock, and return
        them.

        Raise BusyError if another command is driving the job. The logs are removed first, so that no log remains
        without a record.
        """
        lock = acquire(self.ledger, key, now)
        try:
            chosen = self._still(key, wanted)
            for run in chosen:
                remove_logs(self.ledger, run)
            with self.ledger.transaction():
                chosen = self._still(key, {run.id for run in chosen})
                if self.only_logs:
                    forget_logs(self.ledger, [run.id for run in chosen])
                else:
                    runs.forget(self.ledger, [run.id for run in chosen], now, self.memory)
            return chosen
        finally:
            lock.release()

    def _still(self, key: JobKey, wanted: Collection[int]) -> tuple[Run, ...]:
        every = [run for run in runs.runs_of(self.ledger, key) if run.id in wanted]
        return tuple(one.run for one in ended_before(self.ledger, every, self.before))


def remove_logs(ledger: Ledger, run: Run) -> int:
    """Remove the saved logs of a run and the folders that this leaves empty; return the bytes freed."""
    freed = 0
    kept = kept_files(ledger, run)
    for path, size in kept.items():
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    for folder in {path.parent for path in kept} | {_folder(ledger, run)}:
        with contextlib.suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
    return freed


def kept_bytes(ledger: Ledger, run: Run) -> int:
    """Return the bytes on disk of the saved logs of a run, with the events of failed replicas."""
    return sum(kept_files(ledger, run).values())


def kept_files(ledger: Ledger, run: Run) -> dict[Path, int]:
    """Return the saved logs and events of a run, with their sizes in bytes.

    These are the files in the folder of the run, and those that the ledger records elsewhere, as after a move of the
    state directory.
    """
    folder = _folder(ledger, run)
    found: dict[Path, int] = {}
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _OURS.fullmatch(entry.name):
                found[folder / entry.name] = entry.stat(follow_symlinks=False).st_size
    for attempt in attempts_of(ledger, run.id):
        if attempt.log_path is None or Path(attempt.log_path).parent == folder:
            continue
        for path in (Path(attempt.log_path), Path(attempt.log_path + ".events")):
            with contextlib.suppress(OSError):
                found[path] = path.stat().st_size
    return found


def _folder(ledger: Ledger, run: Run) -> Path:
    return log_path(ledger.state_dir, run, 1, 1).parent


#: Seconds to wait for a live driver to carry out a delete before reporting that it was requested.
LONGEST_WAIT = 300.0
#: Maximum number of DELETEs for a session outside the ledger, and the seconds between two of them.
TRIES, PAUSE = 8, 1.0
_STAYS = ServerError("stays", None, "it still exists")


#: A run, and the numbers of its replicas to delete; None: all.
DeleteTarget = tuple["Run", "Collection[int] | None"]


@dataclass
class JobDeletion:
    """One call of delete. ``parts`` contains the outcome of each run so far, even if an error ends the call.

    Logs and results are saved first, unless ``keep_logs`` is False. A session counts as deleted only if the server
    answers 404 for its id, or if two lists agree; a single list proves nothing.
    """

    runtime: Runtime
    parts: list[JobOutcome] = field(default_factory=list)
    keep_logs: bool = True

    @property
    def _mark(self) -> int:
        return 1 if self.keep_logs else DISCARD_LOGS

    async def preview(self, run: Run, numbers: Collection[int] | None, forget: bool) -> None:
        """Add the parts that a delete would have; with ``forget``, also those of earlier runs of the job."""
        listing = await self.runtime.first_poll((run,))
        self.parts.append(self._planned(run, numbers, listing))
        if forget and numbers is None:
            earlier = [one for one in await self.undeleted_runs(run.key) if one.id != run.id]
            self.parts += [self._planned(one, None, listing) for one in earlier]

    async def delete(
        self, targets: Sequence[DeleteTarget], held: Sequence[JobLock] = (), *, verify: bool = True
    ) -> None:
        """Delete the sessions of runs, or of some of their replicas, all at once, and verify it.

        ``held``: locks that the caller holds. Without ``verify``, each DELETE is sent once: the request stays on
        record, and a driver of the job, or a later delete, carries it out.
        """
        if not targets:
            return
        listing = await self.runtime.first_poll([run for run, _ in targets])
        for run, _ in targets if self.keep_logs else ():
            check_logs_can_be_saved(self.runtime.ledger, run)
        parts = [(run, self._part(run, numbers, listing)) for run, numbers in targets]
        self.parts += [part for _, part in parts]
        for run, numbers in targets:
            replicas.request_delete(self.runtime.ledger, run.id, numbers, mark=self._mark)
        done: set[int] = set()
        undeleted: dict[str, SkahactlError | None] = {}
        try:
            await self._carry_out(targets, held, verify, done, undeleted)
        except Interrupted as error:
            error.hint = "the delete is on record: the same command continues it, and so does a driver of the job"
            raise
        finally:
            for run, part in parts:
                self._fill(part, run)
                if run.id in done:  # also if the delete is interrupted while it waits for other runs
                    (self._judge if verify else _judge_request)(run, part, undeleted)

    def _judge(self, run: Run, part: JobOutcome, undeleted: Undeleted) -> None:
        latest = self._latest(run)
        own = {attempt.session for attempt in latest.values()} | {attempt.name for attempt in latest.values()}
        mine = {session: error for session, error in undeleted.items() if session in own}
        for step in part.steps:
            step.outcome, step.error = _deletion_result(latest.get(step.replica or 0), undeleted)
        part.exit = outcome.exit_of_undeleted(mine)
        if mine:
            part.hint = "some of its sessions still exist; run the same command again to retry"
        # reason_is_final: no live or queued replica was deleted, so the reason is the whole message
        part.reason_is_final = not mine and ENDED.issuperset(step.reason for step in part.steps if _deletes(step))
        part.reason = outcome.deletion_text(part.steps, self._remains(part, run, latest)) or _nothing_left(part, run)

    def _remains(self, part: JobOutcome, run: Run, latest: Mapping[int, AttemptRow]) -> str:
        """Return what a delete left: the record, and the logs of its sessions that were saved."""
        ran = (State.RUNNING, *OBSERVED)
        logs = [latest[step.replica or 0] for step in part.steps if _deletes(step) and step.reason in ran]
        saved = sum(log.log_path is not None or log.log_bytes == 0 for log in logs)
        if saved == len(logs) or run.shared is not None:
            return "the record and the logs remain"
        why = loss_of_logs(run, self.keep_logs)
        were = "was" if len(logs) == 1 else "were"
        return f"the record remains, {saved} of {count_noun(len(logs), 'log')} {were} saved{why}"

    async def forget(self, run: Run) -> int | None:
        """Delete all runs of the job, and their records once no session is left; return the bytes of removed logs.

        Wait first until the job has no driver. Return None if sessions still exist.
        """
        lock = await wait_for_lock(self.runtime.ledger, run.key, self.runtime.clock, self.runtime.stop)
        try:
            before = len(self.parts)
            await self.delete([(one, None) for one in await self.undeleted_runs(run.key)], [lock])
            if any(part.exit is not Exit.DONE for part in self.parts[before:]):
                return None
            size = forget_job(self.runtime.ledger, run.key, self.runtime.clock.now(), self.runtime.profile.memory)
            for part in self.parts:
                if part.name == run.key.name:
                    _forgotten_reason(part, size if part.run == run.number else None, run.shared)
            return size
        finally:
            release_locks([lock])

    async def undeleted_runs(self, key: JobKey) -> list[Run]:
        """Return the runs of a job that may have sessions, oldest first.

        Their sessions are listed, live on record, or finished unobserved.
        """
        every = runs.runs_of(self.runtime.ledger, key)
        listing = await self.runtime.first_poll(every, record=False)
        holding = runs_with(self.runtime.ledger, [session.id for session in listing.sessions])
        return [run for run in every if run.id in holding or self._may_have_sessions(run)]

    def _may_have_sessions(self, run: Run) -> bool:
        unsure = ALIVE | {State.UNKNOWN}
        return any(one.state in unsure and one.session for one in attempts_of(self.runtime.ledger, run.id))

    async def delete_session(self, session: str) -> bool:
        """Delete a session that is not in the ledger; return whether it is gone."""
        for _ in range(TRIES):
            await self.runtime.stop.guard(self.runtime.client.delete(session))
            if await self.runtime.stop.guard(self.runtime.client.session(session)) is None:
                return True
            await self.runtime.stop.sleep(self.runtime.clock, PAUSE)
        return False

    def of_session(self, session: ServerSession, outcome: StepOutcome) -> JobOutcome:
        """Return the part of a session that is not in the ledger. ``outcome`` is PLANNED, DONE or STAYS."""
        part = JobOutcome(
            session.name,
            JobAction.DELETE,
            "delete requested",
            exit=Exit.NO if outcome is StepOutcome.STAYS else Exit.DONE,
        )
        error = _STAYS if outcome is StepOutcome.STAYS else None
        step = StepResult(None, session.name, StepAction.DELETE, session.status, outcome)
        step.session, step.url, step.error = session.id, session.url, error
        part.steps.append(step)
        return part

    async def _carry_out(
        self,
        targets: Sequence[DeleteTarget],
        held: Sequence[JobLock],
        verify: bool,
        done: set[int],
        undeleted: dict[str, SkahactlError | None],
    ) -> None:
        """Carry the deletes out, or leave each to the command that drives the job.

        Add the ids of the runs that are dealt with to ``done``, and the sessions that still exist to ``undeleted``.
        """
        locks: list[JobLock] = []
        mine, theirs = [], []
        try:
            for run, numbers in targets:
                try:
                    if all(lock.key != run.key for lock in (*held, *locks)):
                        locks.append(acquire(self.runtime.ledger, run.key, self.runtime.clock.now()))
                    mine.append(run)
                except BusyError as error:
                    self.runtime.reporter.say(f"{error.message}; it carries out the delete")
                    theirs.append((run, numbers))
            if mine:
                gates = gates_of_jobs(self.runtime.ledger, [*held, *locks])
                most = MAX_DELETES if verify else 1
                driver = Driver(self.runtime, tuple(mine), False, gates, create=False, most_deletes=most)
                await driver.drive()
                undeleted |= driver.undeleted
                done |= {run.id for run in mine}
        finally:
            release_locks(locks)
        for run, numbers in theirs:
            if verify:
                undeleted |= dict.fromkeys(await self._carried_out(run, numbers))
            done.add(run.id)

    async def _carried_out(self, run: Run, numbers: Collection[int] | None) -> set[str]:
        """Wait until the driver of a run has deleted it; return the names of attempts that are alive after
        LONGEST_WAIT."""
        begun = self.runtime.clock.now()
        while True:
            left = {
                attempt.name
                for attempt in attempts_of(self.runtime.ledger, run.id)
                if attempt.state in ALIVE and (numbers is None or attempt.replica in numbers)
            }
            if not left or self.runtime.clock.now() - begun > LONGEST_WAIT:
                return left
            await self.runtime.stop.sleep(self.runtime.clock, 0.5)

    def _part(self, run: Run, numbers: Collection[int] | None, listing: Listing) -> JobOutcome:
        """Return the part of a run with its planned steps."""
        part = JobOutcome(run.key.name, JobAction.DELETE, "delete requested", run.number, run.digest, has_driver=True)
        self._fill(part, run)
        listed = {session.id for session in listing.sessions}
        latest = self._latest(run)
        for row in replicas.replica_states(self.runtime.ledger, run.id):
            if numbers is None or row.number in numbers:
                part.steps.append(_step(row, latest.get(row.number), listed))
        return part

    def _planned(self, run: Run, numbers: Collection[int] | None, listing: Listing) -> JobOutcome:
        part = self._part(run, numbers, listing)
        count = sum(step.action is StepAction.DELETE for step in part.steps)
        part.reason = f"{count} of {count_noun(run.total, 'replica')}"
        return part

    def _latest(self, run: Run) -> dict[int, AttemptRow]:
        return {attempt.replica: attempt for attempt in attempts_of(self.runtime.ledger, run.id)}

    def _fill(self, part: JobOutcome, run: Run) -> None:
        """Set the counts and the status of the run in ``part``, from the ledger."""
        summary = runs.summaries(self.runtime.ledger, [runs.run_by_id(self.runtime.ledger, run.id) or run])[0]
        outcome.job_outcome(part, summary)
        part.unseen = outcome.count_unseen(replicas.replica_states(self.runtime.ledger, run.id))
        part.next_run = run.number + 1 if summary.run.deleting and summary.run.manifest else None


def _step(row: ReplicaState, attempt: AttemptRow | None, listed: set[str]) -> StepResult:
    there = attempt is not None and attempt.session in listed
    needed = there or row.state in ALIVE or row.state == State.QUEUED
    action = StepAction.DELETE if needed else StepAction.KEEP
    return StepResult(row.number, row.name, action, row.state, StepOutcome.PLANNED).with_attempt(attempt)


def _deletes(step: StepResult) -> bool:
    return step.action is StepAction.DELETE


def loss_of_logs(run: Run, keep_logs: bool) -> str:
    """Return in parentheses why a delete does not save the logs of running replicas; "" if it saves them."""
    if not keep_logs:
        return " (--no-logs)"
    return "" if run.keep == "all" else f' ([logs] keep = "{run.keep}")'


def _judge_request(run: Run, part: JobOutcome, undeleted: Undeleted) -> None:
    """State in ``part`` what was requested by a delete that is not verified."""
    for step in part.steps:
        step.outcome = StepOutcome.REQUESTED if step.action is StepAction.DELETE else StepOutcome.DONE
    requested = [step for step in part.steps if step.action is StepAction.DELETE]
    queued = sum(step.reason == State.QUEUED for step in requested)
    sessions = len(requested) - queued
    asked = [f"deletion of {count_noun(sessions, 'session')} requested; not verified"] if sessions else []
    asked += [f"{count_noun(queued, 'queued replica')} deleted"] if queued else []
    part.reason = "; ".join(asked) or _nothing_left(part, run)
    part.reason_is_final = True
    own = {step.session for step in requested}
    errors = {session: error for session, error in undeleted.items() if error is not None and session in own}
    part.exit = outcome.exit_of_undeleted(errors)
    part.hint = "the server did not accept every delete; run the same command again to retry" if errors else None


def _nothing_left(part: JobOutcome, run: Run) -> str:
    """Return what a delete without sessions did. ``run``: as it was before the delete."""
    nothing = "there is no session to delete"
    if part.summary is None or not part.summary.run.deleting:
        return nothing
    if run.deleting:
        return f"{nothing}; run {run.number} was deleted before"
    return f"{nothing}; run {run.number} now counts as deleted, and its record and saved logs remain"


def _forgotten_reason(part: JobOutcome, size: int | None, shared: str | None) -> None:
    """State in ``part`` that the record and ``size`` bytes of logs were deleted too.

    If ``size`` is None, another part of the job says so. The ``shared`` record remains, and the numbers of its runs are
    not used again.
    """
    deleted = outcome.deleted(part.steps)
    if size is not None:
        deleted += ["the record", f"the saved logs ({size} bytes)"]
    part.reason = f"{join_words(deleted or ['no session'])}{'' if deleted[1:] else f' of run {part.run}'} deleted"
    part.reason_is_final = True
    if size is None or part.next_run is None:
        part.next_run = None
    elif shared is None:
        part.next_run = 1
    else:
        part.reason += f"; the logs in {shared} remain"


def _deletion_result(attempt: AttemptRow | None, undeleted: Undeleted) -> tuple[StepOutcome, ServerError | None]:
    """Return the outcome of a planned step, and its error, by the latest attempt of the replica."""
    stays = undeleted.keys() & ({attempt.session, attempt.name} if attempt is not None else set())
    if not stays:
        return StepOutcome.DONE, None
    error = undeleted[stays.pop()]
    if error is None:
        return StepOutcome.STAYS, _STAYS
    return StepOutcome.STAYS, replace(_STAYS, message=error.message, hint=error.hint)
