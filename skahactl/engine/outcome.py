"""The outcome of a command as plain data: apply, create, delete, retry, renew and dry runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from skahactl.engine.plan import CREATES, JobAction, StepAction
from skahactl.engine.record import snapshot_of, unread_results
from skahactl.errors import BusyError, Exit, SkahactlError, worst
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.lock import other_driver
from skahactl.ledger.records import REPLACED, JobKey
from skahactl.ledger.replicas import replica_states
from skahactl.ledger.runs import last_run, not_ended, summaries
from skahactl.model import ALIVE, ENDED, Job, State, zero_filled
from skahactl.skaha.models import ServerError
from skahactl.text import count_noun, format_duration, format_ranges, join_words, left_undriven, name_replicas, suggest

if TYPE_CHECKING:
    from skahactl.engine.decide import Decision
    from skahactl.engine.plan import Step
    from skahactl.engine.runtime import Runtime
    from skahactl.eventloop import Interrupted
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, ReplicaRow, ReplicaState, Run, RunSummary
    from skahactl.model import Difference
    from skahactl.profile import Profile
    from skahactl.skaha.models import CreateResult

#: Actions that send a request to the platform, or adopt a session.
ACTIVE = CREATES | {StepAction.ADOPT, StepAction.DELETE, StepAction.RENEW}


class StepOutcome(StrEnum):
    """The outcome of a step."""

    PLANNED = "planned"
    DONE = "done"
    QUEUED = "queued"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    NOT_CREATED = "not created"
    UNCONFIRMED = "unconfirmed"
    REQUESTED = "requested"
    STAYS = "stays"


@dataclass
class StepResult:
    """One step in the shape of the outcome, for all commands. Unknown values are None."""

    replica: int | None
    name: str
    action: StepAction
    reason: str
    outcome: StepOutcome
    session: str | None = None
    attempt: int | None = None
    url: str | None = None
    error: ServerError | None = None
    request: dict[str, object] | None = None  # in a dry run: the form that would be sent

    def with_attempt(self, attempt: AttemptRow | None) -> Self:
        """Add the name, session, number and URL of the latest attempt of the replica."""
        if attempt is not None:
            self.name, self.session = attempt.name, attempt.session
            self.attempt, self.url = attempt.number, attempt.url
        return self

    def data(self) -> dict[str, object]:
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data["error"] = None if self.error is None else self.error.data()
        if self.request is None:
            del data["request"]
        return data


@dataclass
class JobOutcome:
    """The part of one job: what was decided, its steps, and its current status."""

    name: str
    action: JobAction
    reason: str
    run: int | None = None
    digest: str | None = None
    status: str | None = None
    counts: dict[str, int] = field(default_factory=lambda: zero_filled({}))
    differences: tuple[Difference, ...] = ()
    steps: list[StepResult] = field(default_factory=list)
    exit: Exit = Exit.DONE
    hint: str | None = None
    summary: RunSummary | None = None
    failed: tuple[int, ...] = ()  # replicas that are Failed, Rejected or Unknown
    unread: int = 0  # Unknown replicas with a result that may be in the shared record, which could not be read
    unlogged: int = 0  # Failed replicas that never started, and have no log
    unseen: int = 0  # Unknown replicas without a session when the job was adopted
    took: str | None = None  # see time_taken
    reason_is_final: bool = False  # ``reason`` is the whole message, and is shown instead of a general one
    next_run: int | None = None  # the run that the next apply of a deleted job starts
    manifest: str | None = None  # the path as it was given
    call: tuple[str, ...] = ()  # the words of apply: see suggest_apply
    resume: str | None = None  # the command that drives it until it ends
    has_driver: bool = False  # whether a command monitors it until it ends

    def data(self) -> dict[str, object]:
        return {
            "name": self.name,
            "run": self.run,
            "digest": self.digest,
            "action": self.action,
            "reason": self.reason,
            "hint": self.hint,
            "differences": [difference.data() for difference in self.differences],
            "status": self.status,
            "counts": self.counts,
            "steps": [step.data() for step in self.steps],
        }


@dataclass
class Outcome:
    profile: Profile
    dry_run: bool
    jobs: list[JobOutcome]
    ended_by: Exit | None = None  # the exit code of an error that ended the command

    @property
    def exit(self) -> Exit:
        return worst([job.exit for job in self.jobs]) if self.ended_by is None else self.ended_by

    def with_jobs(self, more: Iterable[JobOutcome]) -> Outcome:
        """Return this outcome with the parts of ``more`` jobs."""
        return Outcome(self.profile, self.dry_run, [*self.jobs, *more])

    def data(self) -> dict[str, object]:
        """Return the outcome as JSON data (the outcome shape)."""
        return {
            "profile": self.profile.name,
            "server": self.profile.server,
            "dry_run": self.dry_run,
            "exit": int(self.exit),
            "jobs": [job.data() for job in self.jobs],
        }


def suggest_apply(manifest: str | None, call: Sequence[str], *options: str) -> str:
    """Return the command that applies a job again.

    It names the manifest, or repeats the ``call`` of apply (its words) if that has --set or --var.
    """
    has_settings = not {"--set", "--var"}.isdisjoint(call)
    return suggest("apply", *(call if has_settings else [manifest or "FILE"]), *options)


def fill_results(part: JobOutcome, ledger: Ledger, run_id: int, call: Sequence[str] = ()) -> None:
    """Add the results of a run to ``part``.

    These are the replicas that did not complete, the number of unread results, the time that the run took, and hints
    to continue what was skipped, deleted or stopped. ``call``: see ``suggest_apply``.
    """
    snapshot = snapshot_of(ledger, run_id)
    part.resume = continuing(ledger, [snapshot.run])
    if part.counts[State.SKIPPED]:
        part.hint = skip_hint(ledger, snapshot.run, call)
    if part.status == State.DELETED:
        part.hint = deleted_hint(ledger, snapshot.run, call, by=" by another command")
    if part.summary is not None and part.summary.stop_reason is not None:
        part.hint = stop_hint(part.summary, call)
    part.took = None if part.summary is None else time_taken(part.summary, snapshot.attempts)
    unread = {attempt.replica for attempt in unread_results(snapshot)}
    bad = (State.FAILED, State.REJECTED, State.UNKNOWN)
    rows = [row for row in snapshot.replicas if row.state in bad]
    part.failed = tuple(row.number for row in rows if row.number not in unread)
    part.unread = sum(row.number in unread for row in rows)
    latest = snapshot.latest()
    failed = [latest[row.number] for row in rows if row.state == State.FAILED and row.number in latest]
    part.unlogged = sum(attempt.never_started for attempt in failed)
    part.unseen = count_unseen(rows)


def count_unseen(rows: Iterable[ReplicaRow | ReplicaState]) -> int:
    """Return how many replicas are Unknown without any attempt on this machine."""
    return sum(row.state == State.UNKNOWN and row.attempt == 0 for row in rows)


def time_taken(summary: RunSummary, attempts: Iterable[AttemptRow]) -> str | None:
    """Return how long an ended run took, from its first create to the end of its last replica: ``1 h 2 min``.

    After long pauses, for example before a retry, this includes the time with sessions: ``26 h (40 s with sessions)``.
    ``attempts``: all attempts of the run. Return None for a run that has not ended, or never started.
    """
    if summary.ended is None or summary.run.started is None:
        return None
    whole, busy = summary.ended - summary.run.started, busy_seconds(attempts)
    has_pauses = whole > 2 + 1.1 * busy
    return format_duration(whole) + f" ({format_duration(busy)} with sessions)" * has_pauses


def busy_seconds(attempts: Iterable[AttemptRow]) -> float:
    """Return the seconds in which any of these attempts was alive, from its creation to its end.

    Pauses before retries do not count.
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted((one.created, one.finished) for one in attempts if one.finished is not None):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def interruption(runtime: Runtime, error: Interrupted, left: Iterable[Run]) -> Interrupted:
    """Return ``error`` with what happens to these runs, which have no driver now, and how to continue."""
    fresh = not_ended(runtime.ledger, left)
    return error.leaving(
        [run.key.name for run in fresh], left_behind(runtime, fresh), continuing(runtime.ledger, fresh)
    )


def left_behind(runtime: Runtime, left: Sequence[Run]) -> str:
    """Return, as text, what happens to these runs, which have no driver now.

    During an outage, return the status in which each was last seen.
    """
    if runtime.outage.error is not None and left:
        seen = [f"{one.run.key.name} was last seen {one.status}" for one in summaries(runtime.ledger, left)]
        return f"the server did not answer; {join_words(seen)}"
    return left_undriven([run.key.name for run in left], *unfinished_counts(runtime.ledger, left))


def unfinished_counts(ledger: Ledger, left: Iterable[Run]) -> tuple[int, int, int]:
    """Return counts of these runs: live sessions, Queued replicas, and Failed replicas with attempts left."""
    found = summaries(ledger, tuple(left))
    alive = sum(one.counts[state] for one in found for state in ALIVE)
    return alive, sum(one.counts[State.QUEUED] for one in found), sum(one.retriable for one in found)


def continuing(ledger: Ledger, left: Sequence[Run]) -> str:
    """Return the command that drives these runs again.

    For one job, this is ``resume``, after those of the jobs that it waits for, because repeating ``create`` would start
    a second job.
    """
    if len(left) != 1:
        return "the same command again"
    return resume_commands([*undriven_before(ledger, left[0]), left[0].key.name])


def resume_commands(jobs: Sequence[str]) -> str:
    """Return the commands that drive these jobs, one after the other."""
    return " && ".join(suggest("resume", name) for name in jobs)


def undriven_before(ledger: Ledger, run: Run) -> list[str]:
    """Return the unfinished jobs that a run waits for and that no other command drives, in the order of their runs."""
    found: dict[str, None] = {}
    for name in run.after if run.started is None else ():
        newest = last_run(ledger, JobKey(run.key.server, run.key.user, name))
        if newest is None or _is_over(summaries(ledger, [newest])[0]) or other_driver(ledger, newest.key) is not None:
            continue
        found |= dict.fromkeys([*undriven_before(ledger, newest), name])
    return list(found)


def skip_hint(ledger: Ledger, run: Run, call: Sequence[str] = ()) -> str:
    """Return which job caused this run's replicas to be Skipped, and how to run them."""
    name, again = run.key.name, suggest_apply(run.manifest, call, "--wait")
    chain = _jobs_before(ledger, run)
    if not chain:
        return f"{name} was skipped because a job that it comes after did not complete. Once it has: {again}"
    cause = chain[-1]
    first = cause.run.key.name
    why = f"{name} was skipped because {first} is {cause.status}"
    names = [name, *(one.run.key.name for one in chain)]
    if len(chain) > 1:
        why += f" ({', '.join(f'{one} comes after {before}' for one, before in itertools.pairwise(names))})"
    if cause.status == State.DELETED and cause.run.deleting:
        return f"{why}. To run {first} again, and then {name}: {again}"
    then = f"then to run {name}: {again}"
    if cause.status == State.DELETED:
        return f"{why}\nto run {first}: {_retry_deleted(_deleted_replicas(ledger, cause.run), first)}\n{then}"
    if cause.status == State.UNKNOWN:
        mark = suggest("mark", first, "completed", "--unknown")
        retry = suggest("retry", first, "--unknown", "--wait")
        return f"{why}; check its results first\nif they are missing: {retry}\nif they are complete: {mark}\n{then}"
    retry = suggest("retry", first, *retry_options(cause.counts), "--wait")
    return f"{why}\nto retry {first}: {retry}\n{then}"


def _jobs_before(ledger: Ledger, run: Run) -> list[RunSummary]:
    """Return the chain of jobs that caused this run to be Skipped.

    The first is the job that it comes after; each Skipped job is followed by the job that it comes after.
    """
    for name in run.after:
        newest = last_run(ledger, JobKey(run.key.server, run.key.user, name))
        if newest is None:
            continue
        summary = summaries(ledger, [newest])[0]
        if summary.status not in (State.FAILED, State.UNKNOWN, State.DELETED):
            continue
        return [summary, *(_jobs_before(ledger, newest) if summary.counts[State.SKIPPED] else ())]
    return []


def deleted_hint(ledger: Ledger, run: Run, call: Sequence[str] = (), *, by: str = "") -> str:
    """Return how to continue a run that was deleted, or that has deleted replicas. ``by``: who deleted the run."""
    name, number = run.key.name, run.number
    if run.deleting == REPLACED:
        look = suggest("get", "jobs", name)
        return f"run {number} was deleted{by}, to start run {number + 1}. To see it: {look}"
    if run.deleting:
        again = "" if run.manifest is None else f". To start the next run: {suggest_apply(run.manifest, call)}"
        return f"run {number} was deleted{by}{again}"
    numbers = _deleted_replicas(ledger, run)
    were, them = ("was", "it") if len(numbers) == 1 else ("were", "them")
    return f"{name_replicas(numbers)} {were} deleted. To run {them}: {_retry_deleted(numbers, name)}"


def _deleted_replicas(ledger: Ledger, run: Run) -> list[int]:
    return [row.number for row in replica_states(ledger, run.id) if row.state == State.DELETED]


def _retry_deleted(numbers: Sequence[int], job: str) -> str:
    return suggest("retry", f"{job}/{format_ranges(numbers)}", "--wait")


def retry_options(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return the options with which ``retry`` retries Failed and Rejected replicas."""
    if not counts[State.REJECTED]:
        return ()
    return ("--failed", "--rejected") if counts[State.FAILED] else ("--rejected",)


def decision_outcome(job: Job, decision: Decision, last: RunSummary | None) -> JobOutcome:
    """Return the part of a job before anything is changed."""
    return JobOutcome(
        job.name,
        decision.action,
        decision.reason,
        run=None if last is None else last.run.number,
        digest=job.digest,
        differences=decision.differences,
        exit=exit_of_decision(decision, last),
        hint=decision.hint,
    )


def outcome_left_to(driver: BusyError, job: Job, last: RunSummary | None) -> JobOutcome:
    """Return the part of a job that another command drives."""
    part = JobOutcome(job.name, JobAction.BUSY, driver.message, digest=job.digest, exit=driver.exit, hint=driver.hint)
    part.reason_is_final = True
    part.has_driver = True
    job_outcome(part, last)
    return part


def job_outcome(part: JobOutcome, summary: RunSummary | None) -> None:
    """Set the run, the status and the counts of ``part`` from the summary of its run, if there is one."""
    if summary is None:
        return
    part.summary = summary
    part.run, part.status, part.counts = summary.run.number, summary.status, summary.counts


def planned_steps(plan: Iterable[Step]) -> list[StepResult]:
    """Return the steps of a dry run."""
    return [StepResult(step.replica, step.name, step.action, step.reason, StepOutcome.PLANNED) for step in plan]


def done_steps(
    ledger: Ledger, run_id: int, plan: Iterable[Step], results: Mapping[tuple[int, int], CreateResult]
) -> list[StepResult]:
    """Return the steps with their outcomes."""
    now = {replica.number: replica for replica in replica_states(ledger, run_id)}
    latest = {attempt.replica: attempt for attempt in attempts_of(ledger, run_id)}
    rows = []
    for step in plan:
        replica = now[step.replica]
        result = results.get((run_id, step.replica))
        attempt = latest.get(step.replica)
        became = _outcome_name(step, replica.state)
        row = StepResult(step.replica, replica.name, step.action, step.reason, became).with_attempt(attempt)
        if replica.state == State.REJECTED or (step.action in ACTIVE and replica.state == State.QUEUED):
            row.error = result.error if result and result.error else _rejected(replica.reason)
        rows.append(row)
    return rows


def _outcome_name(step: Step, state: str) -> StepOutcome:
    if step.action is StepAction.HOLD and state == State.QUEUED:
        return StepOutcome.QUEUED
    if step.action not in ACTIVE:
        return StepOutcome.UNCHANGED if step.action is StepAction.KEEP else StepOutcome.DONE
    if state == State.REJECTED:
        return StepOutcome.REJECTED
    if state == State.QUEUED:
        return StepOutcome.NOT_CREATED
    if state == State.UNCONFIRMED:
        return StepOutcome.UNCONFIRMED
    return StepOutcome.DONE


def _rejected(reason: str | None) -> ServerError | None:
    return None if reason is None else ServerError("rejected", None, reason)


#: Sessions (or names) that still exist after a delete, and the error of their last DELETE, if it failed.
Undeleted = Mapping[str, SkahactlError | None]


def exit_of_driven(part: JobOutcome, summary: RunSummary, waited: bool) -> Exit:
    """Return the exit code of a job that was driven.

    If it was ``waited`` for, has ended or was stopped, this is its result. Otherwise it says whether every planned step
    was done; replicas that stay queued count as done, and what the platform did not accept may be accepted later. A
    result that could not be read counts as unreachable.
    """
    if part.unread:
        return Exit.UNREACHABLE
    if waited or _is_over(summary) or summary.stop_reason is not None:
        return Exit.DONE if _went_well(summary) else Exit.NO
    codes = {
        StepOutcome.REJECTED: Exit.NO,
        StepOutcome.NOT_CREATED: Exit.UNREACHABLE,
        StepOutcome.UNCONFIRMED: Exit.UNREACHABLE,
    }
    return worst([codes.get(step.outcome, Exit.DONE) for step in part.steps])


def deleted(steps: Sequence[StepResult]) -> list[str]:
    """Return what a delete removed, by the state before it: live replicas, queued replicas, ended sessions."""
    gone = [step for step in steps if step.action is StepAction.DELETE and step.outcome is StepOutcome.DONE]
    ended = sum(step.reason in ENDED for step in gone)
    queued = sum(step.reason == State.QUEUED for step in gone)
    if len(gone) == 1 and not ended:
        return [f"replica {gone[0].replica}"]
    counted = ((len(gone) - queued - ended, "live replica"), (queued, "queued replica"), (ended, "ended session"))
    return [count_noun(number, noun) for number, noun in counted if number]


def deletion_text(steps: Sequence[StepResult], remains: str) -> str:
    """Return what a delete did, in one sentence; "" if it did nothing. ``remains``: what it left."""
    removed = deleted(steps)
    done = [f"{join_words(removed)} deleted; {remains}"] if removed else []
    stays = sum(step.outcome is StepOutcome.STAYS for step in steps)
    return "; ".join([*done, *([f"{count_noun(stays, 'replica')} not gone yet"] if stays else [])])


def stop_hint(summary: RunSummary, call: Sequence[str] = ()) -> str:
    """Return how to continue a run that [limits] failures stopped."""
    run, limit = summary.run, summary.run.limits.failures or 0
    waiting = count_noun(summary.counts[State.QUEUED] + summary.retriable, "replica")
    stop = f"{summary.stop_reason} (limits.failures = {limit}); {waiting} will not start"
    lines = [stop, f"to continue, and retry all failed replicas: {suggest('retry', run.key.name, '--wait')}"]
    if run.manifest is not None:
        more = f"limits.failures={summary.counts[State.FAILED] - summary.retriable + limit}"
        missing = ["--missing"] * ("items" in run.content)
        lines += [
            f"to continue with a higher limit: {suggest_apply(run.manifest, call, '--set', more, '--wait')}",
            f"after a change of the manifest: {suggest_apply(run.manifest, call, '--rerun', *missing)}",
        ]
    return "\n".join(lines)


def _is_over(summary: RunSummary) -> bool:
    return summary.status in (State.COMPLETED, State.FAILED, State.DELETED, State.UNKNOWN)


def _went_well(summary: RunSummary) -> bool:
    if summary.run.kind != "headless":
        return summary.counts[State.RUNNING] + summary.counts[State.COMPLETED] == summary.run.total
    return summary.status == State.COMPLETED


def exit_of_decision(decision: Decision, last: RunSummary | None) -> Exit:
    """Return the exit code of a decision before it is carried out. For an ended run, this is its result."""
    if decision.action is JobAction.ENDED:
        return Exit.DONE if last is not None and _went_well(last) else Exit.NO
    return {JobAction.REFUSE: Exit.NO, JobAction.FOREIGN: Exit.USAGE}.get(decision.action, Exit.DONE)


def exit_of_undeleted(undeleted: Undeleted) -> Exit:
    """Return the exit code of a delete: 0 if no session remains, else by the errors of the DELETEs; 1 without an
    error."""
    return worst([Exit.NO if error is None else error.exit for error in undeleted.values()])
