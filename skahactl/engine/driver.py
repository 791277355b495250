"""The loop that makes the platform match the ledger: poll, record, decide, act, until nothing is left to do.

Plain ``apply`` runs passes until nothing is uncertain; with ``--wait``, until every run has ended and its logs are
saved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from skahactl.engine import outcome
from skahactl.engine.create import Creator, Journal
from skahactl.engine.lifecycle import (
    MAX_DELETES,
    RESTING,
    UNCERTAIN,
    Action,
    AskSession,
    Create,
    Deletes,
    DeleteSession,
    DriverRules,
    Phase,
    ReadLog,
)
from skahactl.engine.observe import Evidence, RunSnapshot
from skahactl.engine.plan import Gate, Step, StepAction, gate_of, is_stopped
from skahactl.engine.progress import ProgressTracker
from skahactl.engine.reconcile import InFlight, Pass, Reconciler
from skahactl.engine.record import unread_results
from skahactl.engine.runtime import FOREVER, Runtime
from skahactl.engine.tasks import (
    LOCAL,
    SERVER,
    Answers,
    LogReader,
    PendingReasons,
    RunningLogs,
    SessionAsker,
    SessionDeleter,
    with_delete_hint,
)
from skahactl.errors import AuthError, BusyError, SkahactlError, TimedOut, UsageError
from skahactl.eventloop import Interrupted, Stop
from skahactl.ledger import runs
from skahactl.ledger.attempts import close_open_sends
from skahactl.ledger.database import Ledger
from skahactl.ledger.lock import JobLock, acquire
from skahactl.ledger.records import JobKey, Run, dump_json
from skahactl.ledger.runs import set_run, summaries
from skahactl.logs.keep import DISK_FULL
from skahactl.model import State
from skahactl.skaha.models import CreateResult, Listing, ServerSession
from skahactl.system import Clock
from skahactl.text import count_noun, join_words, suggest

#: Seconds for which a single pass retries while the platform does not answer, or all deletes fail.
PATIENCE = 120.0
#: Seconds that saving logs may take before their sessions are deleted.
KEEP_SECONDS = 60.0


@dataclass
class Driver:
    """Drives ``runs``; the caller holds their locks.

    ``follow``: drive until the end; else one pass of the same loop, which is repeated until nothing is uncertain.
    ``gates``: returns what ``after`` says for a run; called before each plan.
    ``deadline``: monotonic time after which TimedOut is raised.
    ``create``: False only deletes and observes.
    ``first_steps``: the first plan of each run.
    """

    runtime: Runtime
    runs: tuple[Run, ...]
    follow: bool
    gates: Callable[[Run], Gate]
    deadline: float | None = None
    create: bool = True
    most_deletes: int = MAX_DELETES  # DELETEs of each session in a single pass
    first_steps: dict[int, tuple[Step, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        client, ledger, profile, clock = (
            self.runtime.client,
            self.runtime.ledger,
            self.runtime.profile,
            self.runtime.clock,
        )
        settings = profile.client
        if profile.is_local:
            settings = replace(settings, memory=profile.local.memory)
        self._settings = settings
        self._wake = asyncio.Event()
        self._one_pass = not (self.follow and self.create)  # the driver ends although sessions keep running
        self._journal = Journal(ledger)
        say, wake = self.runtime.reporter.say, self._wake.set
        directories = {run.id: run.directory for run in self.runs}
        self._creator = Creator(client, ledger, self._journal, clock, settings, wake, say, directories)
        self._creator.user = next((run.key.user for run in self.runs), None)
        self._answers: Answers = {}
        self._asker = SessionAsker(client, clock, 2 * settings.poll_min, self._answers, wake)
        self._deleter = SessionDeleter(client, clock, settings.concurrency, self._answers, wake, say)
        self._logs = LogReader(client, ledger, clock, settings, wake, say)
        self._reasons = PendingReasons(client, clock, profile.local.slot_count if profile.is_local else None)
        self._core = Reconciler(ledger, settings)
        self._begun = clock.now()
        rate = LOCAL if profile.is_local else SERVER
        self._running_logs = RunningLogs(client, ledger, clock, rate, self._progress)
        self._tracker = ProgressTracker(ledger, self._begun, self.runtime.begun)
        self._phases: dict[int, dict[int, Phase]] = {}  # by run and replica
        self._keep_until: float | None = None  # during a delete: end of saving logs
        self.undeleted: dict[str, SkahactlError | None] = {}  # sessions that still exist: error of their last DELETE

    @property
    def results(self) -> dict[tuple[int, int], CreateResult]:
        """The last outcome by (run id, replica) for which a create was sent."""
        return dict(self._creator.results)

    async def drive(self) -> None:
        """Drive the runs until nothing is left to do.

        Raise the interruption of Stop, TimedOut, AuthError, UnreachableError and other errors; the ledger is consistent
        in any case. Creates in flight are waited for, unless a signal arrives, the deadline passes, or this call is
        cancelled.
        """
        for run in self.runs:
            close_open_sends(self.runtime.ledger, run.id, self.runtime.clock.now())
        self._say_waits()
        soon = True
        try:
            while not await self._pass():
                await self._pause()
            self._refuse_unrecognised()
        except Exception as error:
            soon = isinstance(error, Interrupted | TimedOut)
            raise
        finally:
            await self._end(soon)

    def _say_waits(self) -> None:
        """Say which unfinished jobs the runs come after that no command drives: this command only waits for them."""
        own = {run.key.name for run in self.runs}
        for run in self.runs if self.follow and self.create else ():
            before = [name for name in outcome.undriven_before(self.runtime.ledger, run) if name not in own]
            if before:
                self.runtime.reporter.say(
                    f"{run.key.name} waits for {join_words(before)}, which no command is driving. "
                    f"To continue: {outcome.resume_commands(before)}"
                )

    async def _end(self, soon: bool) -> None:
        creates = self._creator.stop(None if soon else self.runtime.stop.arrived)
        deletes = self._deleter.pool.stop(0.0 if soon else 5.0)
        others = (pool.stop() for pool in (self._asker.pool, self._logs.pool, self._reasons.pool))
        try:
            await asyncio.gather(creates, deletes, self._running_logs.stop(), *others)
        finally:
            await self._journal.close()
            for run in self.runs:
                close_open_sends(self.runtime.ledger, run.id, self.runtime.clock.now())
        if not soon:
            self.runtime.stop.check()

    async def _pass(self) -> bool:
        """Poll once, record the list, and start the actions that follow; return True when nothing is left to do."""
        listing = await self._poll()
        if listing is None:
            return False
        cautious = self.runtime.pace.slept()
        recorder, pace = self._core.recorder, self.runtime.pace
        with pace.working(), self.runtime.ledger.transaction():
            evidence = recorder.evidence(listing, self._answers)
            self._answers.clear()
            recorder.record(self.runs, evidence, self._creator.in_flight)
            self._logs.record(evidence)
        await self.runtime.read_shared_records(self.runs, listing, patience=FOREVER, deadline=self.deadline)
        with pace.working(), self.runtime.ledger.transaction():
            passes = [(run, self._reconcile(run, evidence)) for run in self.runs]
        self._warn()
        if not any(phase is Phase.DELETING for phases in self._phases.values() for phase in phases.values()):
            self._keep_until = None
        self._check_logs(passes)
        for run, found in passes:
            self.first_steps.setdefault(run.id, found.plan)
            self._start(run, found.actions, cautious)
        self._note_undeleted()
        self._raise_failures()
        self._progress()
        return self._is_done(passes) and self._is_idle

    async def _poll(self) -> Listing | None:
        self._creator.begin_poll()
        patience = FOREVER if self.follow else PATIENCE
        return await self.runtime.poll(self.runs, patience=patience, deadline=self.deadline, record=False)

    def _reconcile(self, run: Run, evidence: Evidence) -> Pass:
        now = self.runtime.clock.now()
        snapshot = self._core.recorder.snapshot(run)
        under_way = InFlight(self._creator.creating(run.id), self._logs.reading, self._deleter.sent)
        rules = DriverRules(
            self.create,
            self._until_kept(snapshot, now),
            {key for key, error in self._logs.refused.items() if error.code != DISK_FULL},
            self._settings.settle / 24,
            gives_up=self._one_pass,
            most_deletes=self.most_deletes,
        )
        gate = self.gates(snapshot.run)
        found = self._core.reconcile(run, evidence, now, under_way, rules, gate, self._chosen(run))
        self._phases[run.id] = found.phases
        return found

    def _until_kept(self, snapshot: RunSnapshot, now: float) -> float:
        """Return until when logs are saved before their sessions are deleted: for at most KEEP_SECONDS in total."""
        ending = snapshot.run.deleting or any(row.deleting for row in snapshot.replicas)
        if not ending and all(attempt.ending is None for attempt in snapshot.attempts):
            return now + KEEP_SECONDS
        if any(error.code == DISK_FULL for error in self._logs.refused.values()):  # a delete must be able to free space
            return 0.0
        if self._keep_until is None:
            self._keep_until = now + KEEP_SECONDS
        if now >= self._keep_until and self._logs.reading:
            self.runtime.warn_once(f"saving logs takes more than {KEEP_SECONDS:.0f} s; deleting without the rest")
        return self._keep_until

    def _check_logs(self, passes: list[tuple[Run, Pass]]) -> None:
        """Report that logs cannot be saved. A single pass raises the error as soon as nothing else is left to do."""
        refused = self._logs.refused
        due = [(run, one.attempt) for run, found in passes for one in found.actions if isinstance(one, ReadLog)]
        held = {(run.id, one.replica): (run, refused[one.key]) for run, one in due if one.key in refused}
        if not (self._one_pass and held):
            for error in refused.values():
                becomes = "deleting without the rest, to free space" if self._one_pass else error.hint
                self._logs.report_disk(f"{error.where}: {error.message}; {becomes}")
            return
        places = ((id, number, phase) for id, phases in self._phases.items() for number, phase in phases.items())
        deleting = {(id, number) for id, number, phase in places if phase is Phase.DELETING}
        if deleting <= held.keys() and self._logs.pool.idle and self._creator.pool.idle:
            run, error = held[next(iter(deleting or held))]
            raise with_delete_hint(error, run) if deleting else error

    def _chosen(self, run: Run) -> Callable[[Step], Step]:
        """Return a function that keeps queued, in a single pass, the replicas that the first plan of the run left
        queued.

        They stay queued even if there is room in the meantime.
        """
        first = self.first_steps.get(run.id)
        if self.follow or first is None:
            return lambda step: step
        held = {step.replica for step in first if step.action is StepAction.HOLD}
        return lambda step: replace(step, action=StepAction.HOLD) if step.replica in held else step

    def _start(self, run: Run, actions: Iterable[Action], cautious: bool) -> None:
        """Start the actions of a pass.

        After a jump of the clock (``cautious``), the first list starts no creates and no deletes.
        """
        actions = tuple(actions)
        phases = self._phases[run.id]
        self._asker.ask(one.session for one in actions if isinstance(one, AskSession))
        for one in actions:
            if isinstance(one, ReadLog):
                is_ending = phases.get(one.attempt.replica) is Phase.DELETING
                self._logs.read(run, one.attempt, self._keep_until if is_ending else None)
        if cautious:
            return
        self._deleter.delete(one.session for one in actions if isinstance(one, DeleteSession))
        self._creator.submit(run.id, [one.replica for one in actions if isinstance(one, Create)])

    @property
    def _is_idle(self) -> bool:
        return (
            all(pool.idle for pool in (self._creator.pool, self._deleter.pool, self._logs.pool, self._asker.pool))
            and not self._logs.to_confirm
        )

    def _is_done(self, passes: list[tuple[Run, Pass]]) -> bool:
        done = [self._is_run_done(run, found) for run, found in passes]  # each call may write that its run has ended
        return all(done)

    def _is_run_done(self, run: Run, found: Pass) -> bool:
        if any(isinstance(action, Create | DeleteSession | ReadLog) for action in found.actions):
            return False
        snapshot = self._core.recorder.snapshot(run)
        phases = set(found.phases.values())
        if phases <= {Phase.DONE, Phase.UNDELETED}:
            if unread_results(snapshot):  # a driver waits until the storage service answers again
                return self._one_pass or not self.runtime.is_storage_out
            if snapshot.run.ended is None and Phase.UNDELETED not in phases:
                runs.end_run(self.runtime.ledger, run.id, self.runtime.clock.now())
            return True
        if snapshot.run.kind != "headless" and self.follow and phases <= {Phase.DONE, Phase.RUNNING}:
            return True
        if not self._one_pass and not is_stopped(snapshot):
            queued = {number for number, phase in found.phases.items() if phase is Phase.QUEUED}
            return phases <= {Phase.DONE, Phase.QUEUED} and queued <= self._blocked(run).keys()
        resting = RESTING
        if not self.create or self._is_waiting_for_the_platform(snapshot):
            resting |= {Phase.UNCONFIRMED}
        return phases <= resting

    def _blocked(self, run: Run) -> dict[int, ServerSession]:
        """Return the queued replicas that are not created, because an unrecognised session with their name is alive."""
        queued = {row.number for row in self._core.recorder.snapshot(run).replicas if row.state == State.QUEUED}
        unrecognised = self._core.recorder.unrecognised.get(run.id, {})
        return {number: session for number, session in unrecognised.items() if number in queued}

    def _refuse_unrecognised(self) -> None:
        for run in self.runs if self.create else ():
            blocked = self._blocked(run)
            if blocked:
                first = next(iter(blocked.values()))
                raise UsageError(
                    f"{run.key.name}: {count_noun(len(blocked), 'replica')} not created; sessions with exactly their "
                    f"names are alive, but not in the local record ({first.name}, {first.id})",
                    hint="another machine drives this job, or the local record was restored. Take them over with "
                    "apply --adopt create (or --adopt unknown), or delete them",
                    code="foreign",
                )

    def _is_waiting_for_the_platform(self, snapshot: RunSnapshot) -> bool:
        """Return whether all unconfirmed replicas only wait to be created again, while the platform fails to create."""
        unconfirmed = {row.number for row in snapshot.replicas if row.state == State.UNCONFIRMED}
        return self._creator.trouble.is_on and unconfirmed <= self._core.recorder.settled(snapshot.run)

    async def _pause(self) -> None:
        """Wait until the next poll is due, or until background work ends that makes an earlier poll worthwhile."""
        at_once = self._logs.next_list_confirms and self._is_idle_but_for_logs and self.runtime.outage.error is None
        uncertain = any(phase in UNCERTAIN for phases in self._phases.values() for phase in phases.values())
        seconds = 0.0 if at_once else self.runtime.pace.interval(uncertain)
        if not self.follow and self.runtime.outage.error is None:
            seconds = min(seconds, self._until_due())
        if self.deadline is not None:
            left = self.deadline - self.runtime.clock.monotonic()
            if left <= 0:
                raise self._timed_out()
            seconds = min(seconds, left)
        self._wake.clear()
        await self.runtime.stop.sleep(self.runtime.clock, seconds, self._wake if self._may_hurry() else None)

    def _timed_out(self) -> TimedOut:
        fresh = runs.not_ended(self.runtime.ledger, self.runs)
        left = [run.key.name for run in fresh]
        becomes = outcome.left_behind(self.runtime, fresh)
        again = outcome.continuing(self.runtime.ledger, fresh)
        return TimedOut(f"timed out; {becomes}", hint=f"to continue: {again}\nto stop: {suggest('delete', *left)}")

    @property
    def _is_idle_but_for_logs(self) -> bool:
        return self._creator.pool.idle and self._asker.pool.idle

    def _until_due(self) -> float:
        """Return the seconds until a single pass can continue: until a retry, or the last poll for an unconfirmed
        create.

        The minimum lets one poll serve several that are due one after the other.
        """
        now, settle = self.runtime.clock.now(), self._settings.settle
        times = [t for run in self.runs for t in due_times(self._core.recorder.snapshot(run), settle) if t > now]
        together = min(self._settings.poll_min, settle / 40)
        return max(together, min(times, default=float("inf")) - now)

    def _may_hurry(self) -> bool:
        """Return whether the end of background work makes an earlier poll worthwhile.

        It does in a single pass, with a poll interval below one second, if a list lacks a live session, and if no
        replica is queued, being created, pending, running or waiting for a retry.
        """
        busy = {Phase.QUEUED, Phase.PENDING, Phase.RUNNING, Phase.RETRY_AT, Phase.CREATING}
        phases = {phase for run in self._phases.values() for phase in run.values()}
        return self._one_pass or self._settings.poll_min < 1.0 or Phase.UNSEEN in phases or not phases & busy

    def _note_undeleted(self) -> None:
        """Set ``undeleted`` to the sessions that exist in spite of the maximum number of deletes."""
        stuck: dict[str, SkahactlError | None] = {}
        for run in self.runs:
            phases = self._phases.get(run.id, {})
            for attempt in self._core.recorder.snapshot(run).attempts:
                session = attempt.session or ""
                if phases.get(attempt.replica) is Phase.UNDELETED and self._deleter.sent.get(session, Deletes()).tries:
                    stuck[session] = self._deleter.errors.get(session)
        self.undeleted = stuck

    def _raise_failures(self) -> None:
        pools = (self._creator.pool, self._logs.pool, self._deleter.pool, self._asker.pool, self._reasons.pool)
        for failure in (*(pool.failure for pool in pools), self._running_logs.failure):
            if failure is not None:
                raise failure
        denied = self._creator.denied
        if self.follow:
            self._creator.denied = None  # credentials are read again before the next try
        else:
            self._deleter.check(PATIENCE)
            if denied is not None:
                error = denied.error
                raise AuthError(error.message if error else "refused", hint=error.hint if error else None)
        self._check_secrets()

    def _check_secrets(self) -> None:
        """Raise AuthError if a secret cannot be read, and only replicas that need it are left to do.

        A single pass raises it as soon as the other replicas are created.
        """
        lacking = {run.id: self._creator.lacking.get(run.id) for run in self.runs}
        for run in self.runs if self.follow else ():
            error = lacking[run.id]
            if error is not None:
                self.runtime.warn_once(f"{run.key.name}: {error.message}; replicas that need it stay Queued")
        left = [run for run in self.runs if lacking[run.id] is not None]
        if not left or not (self._is_idle if self.follow else self._creator.pool.idle):
            return
        if self.follow and not all(self._is_held(run, run in left) for run in self.runs):
            return
        counts = [summary.counts[State.QUEUED] for summary in summaries(self.runtime.ledger, left)]
        first = lacking[left[0].id]
        assert first is not None
        names = [run.key.name for run in left]
        stay = "stays" if sum(counts) == 1 else "stay"
        raise AuthError(
            f"{', '.join(names)}: {first.message}; {count_noun(sum(counts), 'replica')} {stay} Queued",
            hint="\n".join(filter(None, [first.hint, f"to continue: {outcome.continuing(self.runtime.ledger, left)}"])),
        )

    def _is_held(self, run: Run, is_lacking: bool) -> bool:
        """Return whether nothing of a run can be done now.

        It has ended, or all of its other replicas wait for a secret or for a job that it comes after.
        """
        left = set(self._phases[run.id].values()) - {Phase.DONE, Phase.UNDELETED}
        return not left or (left <= {Phase.QUEUED, Phase.RETRY_AT} and (is_lacking or not self.gates(run).open))

    def _warn(self) -> None:
        recorder = self._core.recorder
        for session in (one for run in self.runs for one in recorder.unrecognised.get(run.id, {}).values()):
            self.runtime.warn_once(f"unrecognised session {session.name} ({session.id}) left untouched")
        for text in recorder.warnings:
            self.runtime.warn(text)
        recorder.warnings.clear()

    def _progress(self) -> None:
        now = self.runtime.clock.now()
        snapshots = [self._core.recorder.snapshot(run) for run in self.runs]
        rows = summaries(self.runtime.ledger, [one.run for one in snapshots])
        self.runtime.reporter.progress(
            [
                self._tracker.progress(
                    snapshot,
                    summary,
                    now,
                    why=self._reasons.reasons(snapshot) if self.follow else (),
                    live=self._running_logs.failed,
                )
                for snapshot, summary in zip(snapshots, rows, strict=True)
            ]
        )
        if self.follow:
            latest = (attempt for snapshot in snapshots for attempt in snapshot.latest().values())
            self._running_logs.follow(attempt for attempt in latest if attempt.state == State.RUNNING)


def due_times(snapshot: RunSnapshot, settle: float) -> list[float]:
    """Return the times before which retries and repeated creates of a run must not be sent.

    ``settle``: seconds after an ambiguous create, after which a list can show that it made no session.
    """
    times = [replica.not_before for replica in snapshot.replicas if replica.not_before is not None]
    return times + [
        attempt.last_ambiguous_at + settle
        for attempt in snapshot.latest().values()
        if attempt.state == State.UNCONFIRMED and attempt.last_ambiguous_at is not None
    ]


#: Seconds to wait for the driver of a run that is to be replaced or deleted.
LONGEST_WAIT = 600.0


def gate_for(ledger: Ledger, run: Run, coming: set[str], record: bool = False) -> Gate:
    """Return what ``after`` says for a run now. ``coming``: jobs that get a new run first.

    ``record``: once the run may start, or can never start, write which runs of the other jobs it came after.
    """
    if not run.after:
        return Gate()
    status: dict[str, str | None] = {}
    numbers: dict[str, int] = {}
    for name in run.after:
        newest = runs.last_run(ledger, JobKey(run.key.server, run.key.user, name))
        status[name] = None
        if newest is not None and name not in coming:
            status[name] = runs.summaries(ledger, [newest])[0].status
            numbers[name] = newest.number
    gate = gate_of(run.after, status)
    if record and (gate.open or gate.never) and run.started is None and numbers != run.after_runs:
        set_run(ledger, run.id, after_runs=dump_json(numbers))
    return gate


def gates_of_jobs(ledger: Ledger, locks: Iterable[JobLock]) -> Callable[[Run], Gate]:
    """Return ``gate_for`` for a driver. It raises BusyError once another command took a lock with --break-lock."""
    held = {lock.key: lock for lock in locks}

    def gate(run: Run) -> Gate:
        held[run.key].check()
        return gate_for(ledger, run, set(), record=True)

    return gate


async def wait_for_lock(ledger: Ledger, key: JobKey, clock: Clock, stop: Stop) -> JobLock:
    """Return the lock as soon as its holder releases it. Raise BusyError after LONGEST_WAIT seconds."""
    begun = clock.now()
    while True:
        try:
            return acquire(ledger, key, clock.now())
        except BusyError:
            if clock.now() - begun > LONGEST_WAIT:
                raise
        await stop.sleep(clock, 0.5)


def release_locks(locks: Iterable[JobLock]) -> None:
    for lock in locks:
        lock.release()
