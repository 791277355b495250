"""Decide what apply does with a whole job, from the ledger and one list of sessions. No I/O except reads of the
ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skahactl.engine.driver import gate_for
from skahactl.engine.observe import RunSnapshot
from skahactl.engine.outcome import deleted_hint, skip_hint, suggest_apply
from skahactl.engine.plan import NEXT_RUN, JobAction, Step, StepAction, plan_run, with_adopted
from skahactl.engine.record import shows_more, snapshot_of, with_listed_sessions
from skahactl.errors import UsageError
from skahactl.ledger import runs
from skahactl.ledger.attempts import known_among
from skahactl.ledger.records import JobKey, ReplicaState, Run, RunSummary
from skahactl.model import ALIVE, STATES, Difference, Job, State, base_session_name, differences, ended_state
from skahactl.spelling import did_you_mean
from skahactl.text import count_noun, suggest, time_ago

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skahactl.engine.runtime import Runtime
    from skahactl.engine.shared_results import EarlierRecord
    from skahactl.ledger.database import Ledger
    from skahactl.profile import Profile
    from skahactl.skaha.models import Listing, ServerSession


@dataclass(frozen=True, slots=True)
class ApplyMode:
    """The options of apply."""

    rerun: bool = False
    replace: bool = False
    adopt: str | None = None  # create | unknown
    words: tuple[str, ...] = ()  # the manifests and settings of the call, for hints that add an option


@dataclass(frozen=True, slots=True)
class Decision:
    """What apply does with a job.

    ``action`` is one of create (the next run), adopt, replace, keep (continue the last run), ended, refuse (exit code
    1) and foreign (exit code 2: the user has to choose first). ``hint`` names the alternatives.
    """

    action: JobAction
    reason: str
    differences: tuple[Difference, ...] = ()
    hint: str | None = None


def decide(
    job: Job,
    last: RunSummary | None,
    foreign: Mapping[int, Sequence[ServerSession]],
    mode: ApplyMode,
    stale: str | None,
    now: float,
) -> Decision:
    """Return what apply does with a job.

    ``foreign``: sessions on the server with exactly the name of a replica that this ledger did not create, by replica.
    ``stale``: why an ended run must run again, because a job that it comes after has a newer run; else None.
    """
    if last is None:
        return _decide_first(job, foreign, mode)
    if last.run.deleting:
        if not _alive(last):
            return Decision(JobAction.CREATE, f"run {last.run.number} was deleted")
        return Decision(JobAction.REPLACE, f"run {last.run.number} is being deleted")
    changed = differences(last.run.content, job.content, job.sources)
    if last.run.digest == job.digest:
        changed = ()
    if _ended(last) or (last.stop_reason is not None and (mode.rerun or changed)):
        return _decide_ended(job, last, changed, mode, stale, now)
    if mode.rerun and all(_is_of_items(difference) for difference in changed):
        return Decision(
            JobAction.REFUSE,
            f"run {last.run.number} has not ended: {_alive_words(last, now)}",
            changed,
            hint="use --rerun after the end of the last run, or --replace --yes to delete it now and start the next "
            "run",
        )
    return _decide_unfinished(job, last, changed, mode, now)


def _decide_first(job: Job, foreign: Mapping[int, Sequence[ServerSession]], mode: ApplyMode) -> Decision:
    if not foreign:
        return Decision(JobAction.CREATE, "it has no record on this machine")
    found = sum(len(sessions) for sessions in foreign.values())
    missing = len(job.replicas) - len(foreign)
    if mode.adopt is not None:
        rest = adopted_rest(missing, mode.adopt == "create")
        sessions = count_noun(found, "session")
        return Decision(JobAction.ADOPT, f"adopted: {sessions} with the names of this job{rest}")
    return Decision(
        JobAction.FOREIGN,
        f"no record of {job.name} on this machine, but the server has {count_noun(found, 'session')} with exactly "
        f"its names, for {len(foreign)} of its {count_noun(len(job.replicas), 'replica')}",
        hint="another machine runs this manifest, or the record was lost. Adopt them with --adopt create (and "
        "create the other replicas) or --adopt unknown (and record the other replicas as Unknown)",
    )


def adopted_rest(missing: int, creates: bool) -> str:
    """Return, as text, what happens to the ``missing`` replicas of an adopted job: those without a session and a
    result."""
    if not missing:
        return ""
    return f"; {count_noun(missing, 'other replica')}: {'to be created' if creates else 'recorded as Unknown'}"


def _decide_ended(
    job: Job, last: RunSummary, changed: tuple[Difference, ...], mode: ApplyMode, stale: str | None, now: float
) -> Decision:
    number = last.run.number
    if mode.rerun or mode.replace:
        how = last.stop_reason or "has ended"
        return Decision(JobAction.CREATE, f"run {number} {how}; the next run was requested", changed)
    if stale is not None:
        return Decision(JobAction.CREATE, stale, changed)
    rerun = suggest_apply(job.manifest, mode.words, "--rerun")
    if changed:
        hint = f"to run the manifest as it is now: {rerun}"
        if "items" in job.content and not changed_values(changed):
            hint += f"\nto leave out Completed items: {suggest_apply(job.manifest, mode.words, '--rerun', '--missing')}"
        return Decision(
            JobAction.REFUSE, f"the manifest differs from run {number}, which has results", changed, hint=hint
        )
    again = ""
    if last.counts[State.FAILED]:
        again = f"to retry what failed: {suggest('retry', job.name)}\n"
    elif last.counts[State.REJECTED]:
        again = f"to retry what was rejected: {suggest('retry', job.name, '--rejected')}\n"
    when = time_ago(last.run.ended, now)
    return Decision(JobAction.ENDED, f"run {number} ended {when}", hint=f"{again}to start the next run: {rerun}")


def _decide_unfinished(
    job: Job, last: RunSummary, changed: tuple[Difference, ...], mode: ApplyMode, now: float
) -> Decision:
    number = last.run.number
    if mode.replace:
        words = f"delete run {number} ({_alive_words(last, now)}) and start run {number + 1}"
        return Decision(JobAction.REPLACE, words, changed)
    if not changed:
        return Decision(JobAction.KEEP, f"run {number} continues")
    if last.run.started is None:
        return Decision(JobAction.REPLACE, f"run {number} has no session yet; it is replaced", changed)
    if all(_is_of_items(difference) for difference in changed):
        rerun = suggest_apply(job.manifest, mode.words, "--rerun", "--missing")
        return Decision(
            JobAction.KEEP,
            f"run {number} continues with the recorded items; the list has changed since",
            changed,
            hint=f"to run what is new in the list, after the end of run {number}: {rerun}",
        )
    return Decision(
        JobAction.REFUSE,
        f"run {number} has sessions or results, and the manifest has changed",
        changed,
        hint=f"run {number} has not ended: {_alive_words(last, now)}. To keep it, undo the change\n"
        f"to finish it: {suggest('resume', job.name)}\n"
        f"then to run the changed manifest: {suggest_apply(job.manifest, mode.words, '--rerun')}\n"
        f"to delete run {number} now and start the changed manifest as run {number + 1}: "
        f"{suggest_apply(job.manifest, mode.words, '--replace', '--yes')}\n"
        f"to only stop it: {suggest('delete', job.name)}",
    )


def changed_values(changed: Sequence[Difference]) -> tuple[str, ...]:
    """Return the paths of the differences that can change the result of an item, such as ``vars.scale``."""
    keys = ("image", "command", "shell", "env", "vars")
    return tuple(difference.path for difference in changed if difference.path.split(".")[0] in keys)


def _is_of_items(difference: Difference) -> bool:
    """Return whether the difference is in the list of items, or in the number of replicas that follows from it."""
    key = difference.path.split(".")[0].split("[")[0]
    return key == "items" or (key == "replicas" and difference.source in ("items", "items file"))


def _ended(last: RunSummary) -> bool:
    return last.counts[State.QUEUED] == 0 and _alive(last) == 0 and last.retriable == 0


def _alive(last: RunSummary) -> int:
    return sum(last.counts[state] for state in ALIVE)


def _alive_words(last: RunSummary, now: float) -> str:
    parts = [f"{last.counts[state]} {state}" for state in STATES if last.counts[state]]
    age = "" if last.run.started is None else f", started {time_ago(last.run.started, now)}"
    return ", ".join(parts) + age


@dataclass(frozen=True, slots=True)
class RunHistory:
    """Decides from the ledger and one list of sessions."""

    ledger: Ledger
    profile: Profile
    listing: Listing

    def key(self, name: str) -> JobKey:
        return JobKey(self.profile.server, self.listing.user or "", name)

    def last(self, name: str) -> RunSummary | None:
        """Return the last run of a job; None without one.

        Sessions of an ended run that counted as gone, but are listed as alive, count as alive. The poll has recorded
        all other runs.
        """
        run = runs.last_run(self.ledger, self.key(name))
        if run is None:
            return None
        held = runs.summaries(self.ledger, [run])[0]
        return held if run.ended is None else with_listed_sessions(self.ledger, held, self.listing)

    def decide(self, job: Job, mode: ApplyMode, now: float, coming: set[str] | None = None) -> Decision:
        """Return what apply does with a job. ``coming``: jobs that get a new run first."""
        last = self.last(job.name)
        foreign = {} if last is not None else self.foreign(job)
        stale = None if last is None else self._stale(last.run, coming or set())
        decision = decide(job, last, foreign, mode, stale, now)
        if job.left_out and decision.action in NEXT_RUN:
            done, total = len(job.left_out), len(job.left_out) + sum(len(replica.items) for replica in job.replicas)
            items = f"{total - done} of {count_noun(total, 'item')}; {done} Completed in earlier runs"
            return replace(decision, reason=f"{decision.reason}: {items}")
        if decision.action is not JobAction.ENDED or last is None:
            return decision
        if last.run.ended is None:
            return Decision(JobAction.KEEP, f"run {last.run.number} has ended")
        if shows_more(self.ledger, last.run.id, self.listing):
            return Decision(
                JobAction.KEEP, f"run {last.run.number} had ended, but the platform lists live sessions of it"
            )
        if job.attempts > last.run.attempts and last.counts[State.FAILED]:
            return Decision(JobAction.KEEP, f"run {last.run.number} has failed replicas that can be retried now")
        if last.counts[State.SKIPPED]:
            return replace(decision, hint=skip_hint(self.ledger, last.run, mode.words))
        if last.status == State.DELETED:
            return replace(decision, hint=f"{deleted_hint(self.ledger, last.run, mode.words)}\n{decision.hint}")
        return decision

    def foreign(self, job: Job) -> dict[int, list[ServerSession]]:
        """Return the sessions with exactly the names of the job's replicas that this ledger did not create, by replica.

        The names of later attempts count too.
        """
        numbers = {replica.name: replica.number for replica in job.replicas}
        named: list[tuple[int, ServerSession]] = []
        for session in self.listing.sessions:
            number = numbers.get(session.name) or numbers.get(base_session_name(session.name))
            if number is not None:
                named.append((number, session))
        known = known_among(self.ledger, (session.id for _, session in named))
        found: dict[int, list[ServerSession]] = {}
        for number, session in named:
            if session.id not in known:
                found.setdefault(number, []).append(session)
        return found

    def adoption(self, job: Job, rest: str | None, earlier: EarlierRecord | None = None) -> dict[int, Step]:
        """Return the steps of a job with adopted sessions and results, except creates.

        ``rest``: see ``adopt_sessions``.
        """
        found = self.foreign(job)
        steps: dict[int, Step] = {}
        for replica in job.replicas:
            if replica.number in found:
                action, reason = StepAction.ADOPT, "a session with its name exists"
            elif earlier is not None and replica.number in earlier.ends:
                code = earlier.ends[replica.number][1].exit_code
                action, reason = StepAction.ADOPT, f"its result is in the shared record: exit {code}"
            elif rest == "unknown":
                reason = "no session with its name exists"
                action = StepAction.EXPIRE
                if earlier is not None:
                    reason += ", and no result in the shared record"
            else:
                continue
            steps[replica.number] = Step(replica.number, replica.name, action, reason)
        return steps

    def runs_before(self, job: Job) -> dict[str, int]:
        """Return the number of the newest run of each job that ``job`` comes after; 0 without a run."""
        newest = {name: runs.last_run(self.ledger, self.key(name)) for name in job.after}
        return {name: 0 if run is None else run.number for name, run in newest.items()}

    def refuse_unknown_after(self, jobs: Sequence[Job]) -> None:
        """Raise UsageError for a name in ``after`` that is neither among these jobs nor in the ledger."""
        named = {job.name for job in jobs}
        for job in jobs:
            for name in job.after:
                if name in named or runs.last_run(self.ledger, self.key(name)) is not None:
                    continue
                known = [*named - {job.name}, *(key.name for key in runs.job_keys(self.ledger, self.profile.server))]
                raise UsageError(
                    f"{job.name} comes after {name}, which does not exist",
                    where=job.manifest,
                    hint=did_you_mean(name, known) or f"apply {name} first, or apply both manifests together",
                )

    def _stale(self, run: Run, coming: set[str]) -> str | None:
        """Return why an ended run must run again because of a job that it comes after; None if it need not."""
        for name, number in run.after_runs.items():
            newest = runs.last_run(self.ledger, JobKey(run.key.server, run.key.user, name))
            if name in coming or (newest is not None and newest.number > number):
                return f"{name} has a newer run than the one that run {run.number} came after"
        if run.after and run.started is None and not gate_for(self.ledger, run, coming).never:
            return f"run {run.number} was skipped, but the jobs that it comes after can complete now"
        return None


def in_order(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs so that each follows the jobs that it comes after; otherwise keep their order."""
    left = {job.name: job for job in jobs}
    ordered: list[Job] = []
    while left:
        free = (job for job in left.values() if not any(name in left for name in job.after))
        ordered.append(next(free, None) or next(iter(left.values())))
        del left[ordered[-1].name]
    return tuple(ordered)


def plan_new_run(
    runtime: Runtime,
    history: RunHistory,
    job: Job,
    decision: Decision,
    last: RunSummary | None,
    coming: set[str],
    rest: str | None,
    earlier: EarlierRecord | None = None,
) -> tuple[Step, ...]:
    """Return the steps that follow if ``decision`` is carried out; none if the user has to choose first.

    ``coming``: jobs that get a new run first. ``rest``: as for ``adopt_sessions``, if sessions are adopted.
    ``earlier``: results that are adopted.
    """
    now = runtime.clock.now()
    if decision.action is JobAction.FOREIGN:
        return ()
    if last is None or decision.action not in (JobAction.KEEP, JobAction.ENDED, JobAction.REFUSE):
        watch = _with_results(snapshot_of_new_run(job, history.key(job.name), now), earlier)
    else:
        watch = snapshot_of(runtime.ledger, last.run.id)
    if decision.action is JobAction.KEEP:
        watch = with_new_limits(watch, job)
    plan = plan_run(watch, now, gate=gate_for(runtime.ledger, watch.run, coming))
    if rest is None or (earlier is None and decision.action is not JobAction.ADOPT):
        return plan
    return with_adopted(plan, history.adoption(job, rest, earlier))


def _with_results(snapshot: RunSnapshot, earlier: EarlierRecord | None) -> RunSnapshot:
    if earlier is None:
        return snapshot
    rows = []
    for row in snapshot.replicas:
        if row.number in earlier.ends:
            attempt, end = earlier.ends[row.number]
            row = replace(row, state=ended_state(end.exit_code), attempt=attempt, allowed=max(row.allowed, attempt))
        rows.append(row)
    return replace(snapshot, replicas=tuple(rows))


def snapshot_of_new_run(job: Job, key: JobKey, now: float) -> RunSnapshot:
    """Return a snapshot of a run that does not exist yet: every replica Queued, no attempts, id 0."""
    run = Run(
        id=0,
        key=key,
        number=0,
        profile="",
        digest=job.digest,
        kind=job.kind,
        image=job.image,
        content=job.content,
        limits=job.limits,
        attempts=job.attempts,
        keep=job.keep,
        created=now,
        total=len(job.replicas),
        after=job.after,
        retry_ram=job.retry_ram,
    )
    rows = tuple(
        ReplicaState(replica.number, replica.name, State.QUEUED, None, 0, job.attempts, None, 0)
        for replica in job.replicas
    )
    return RunSnapshot(run, rows, ())


def with_new_limits(watch: RunSnapshot, job: Job) -> RunSnapshot:
    """Return the snapshot with the settings of ``job`` that can change in an unfinished run, as set_limits writes
    them."""
    run = replace(watch.run, limits=job.limits, keep=job.keep, attempts=job.attempts, retry_ram=job.retry_ram)
    rows = tuple(replace(row, allowed=max(row.allowed, job.attempts)) for row in watch.replicas)
    return replace(watch, run=run, replicas=rows)
