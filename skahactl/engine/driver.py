"""The loop that makes the platform match the ledger: look, plan, act, until it is so.

Plain ``apply`` goes round until nothing is unconfirmed; ``--wait`` until every run has ended and its logs are kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skahactl.engine.create import Creator
from skahactl.engine.plan import (
    Gate,
    Step,
    apply_offline_steps,
    due_times,
    gate_of,
    is_doubtful,
    is_ended,
    is_missing,
    is_up,
    plan_snapshot,
    to_delete,
    to_replace,
    unread_logs,
)
from skahactl.engine.progress import ProgressTracker
from skahactl.engine.record import Recorder
from skahactl.engine.running_logs import LOCAL, SERVER, RunningLogs
from skahactl.engine.runtime import PollPace, Runtime, check_owner
from skahactl.engine.tasks import DeleteQueue, LogCollector, PendingReasons
from skahactl.errors import AuthError, BusyError, SkahactlError, TimedOut, UnreachableError
from skahactl.eventloop import Interrupted, Stop, seconds_left
from skahactl.ledger import runs
from skahactl.ledger.attempts import close_open_sends
from skahactl.ledger.database import Ledger
from skahactl.ledger.journal import Journal
from skahactl.ledger.lock import JobLock, acquire
from skahactl.ledger.records import JobKey, Run
from skahactl.ledger.runs import set_run, summaries
from skahactl.model import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skahactl.engine.observe import RunSnapshot
    from skahactl.skaha.models import CreateResult, Listing
    from skahactl.system import Clock

#: Seconds that plain apply goes on against a platform that does not take creates for now.
PATIENCE = 120.0
#: A session that is still listed after so many DELETEs is reported as staying.
MOST_DELETES = 12
#: Actions that send a create.
CREATES = frozenset({"create", "retry", "resend"})


@dataclass
class Driver:
    """Drives ``runs``, whose locks the caller holds.

    ``follow``: to the end; else one pass of the same loop. ``gates``: what ``after`` says for a run, asked before each
    plan. ``deadline``: wall time after which TimedOut is raised. ``first_steps`` holds each run's first plan.
    """

    desk: Runtime
    runs: tuple[Run, ...]
    follow: bool
    gates: Callable[[Run], Gate]
    deadline: float | None = None
    create: bool = True  # False: nothing is created, only deletes and looks
    first_steps: dict[int, tuple[Step, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        client, ledger, profile, clock = self.desk.client, self.desk.ledger, self.desk.profile, self.desk.clock
        settings = profile.client
        if profile.is_local:
            settings = replace(settings, memory=profile.local.memory)
        self._wake = asyncio.Event()
        self._one_pass = not (self.follow and self.create)  # it ends although sessions go on
        self._journal = Journal(ledger)
        directories = {run.id: run.directory for run in self.runs}
        self._creator = Creator(client, ledger, self._journal, clock, settings, self._wake.set, directories)
        self._creator.user = next((run.key.user for run in self.runs), None)
        say = self.desk.reporter.say
        self._remover = DeleteQueue(client, clock, settings.concurrency, self._wake.set, say, settings.settle / 24)
        self._finisher = LogCollector(client, ledger, clock, settings, self._wake.set, say)
        self._lookout = Recorder(ledger, settings)
        self._pace = PollPace(clock, settings)
        self._begun = clock.now()
        self._outage: str | None = None
        self._last_good = self.desk.clock.monotonic()
        self._told: set[str] = set()
        self.undeleted: dict[str, SkahactlError | None] = {}  # sessions that stay, and why their last DELETE failed
        self._why = PendingReasons(self.desk.client, self.desk.clock)
        rate = LOCAL if profile.is_local else SERVER
        self._running_logs = RunningLogs(client, ledger, clock, rate, self._progress)
        self._tracker = ProgressTracker(ledger, self._begun)

    @property
    def results(self) -> dict[tuple[int, int], CreateResult]:
        """The last outcome of each (run id, replica) that a create was sent for."""
        return dict(self._creator.results)

    async def drive(self) -> None:
        """Until it is so. Raises Stop's interruption, TimedOut, AuthError, UnreachableError, what else went wrong;
        the ledger is whole whatever happens.

        Creates on their way are waited for, unless somebody wants an end: by a signal, a time that is over, or by
        giving up this call."""
        for run in self.runs:
            close_open_sends(self.desk.ledger, run.id, self.desk.clock.now())
        soon = True
        try:
            while not await self._pass():
                await self._pause()
        except Exception as error:
            soon = isinstance(error, Interrupted | TimedOut)
            raise
        finally:
            await self._end(soon)

    async def _end(self, soon: bool) -> None:
        creates = self._creator.stop(None if soon else self.desk.stop.arrived)
        try:
            others = (self._remover, self._finisher, self._why, self._running_logs)
            await asyncio.gather(creates, *(part.stop() for part in others))
        finally:
            await self._journal.close()
            for run in self.runs:
                close_open_sends(self.desk.ledger, run.id, self.desk.clock.now())
        if not soon:
            self.desk.stop.check()

    async def _pass(self) -> bool:
        """One look and what follows; True when there is nothing left to do."""
        listing = await self._look()
        if listing is None:
            return False
        cautious = self._pace.slept()
        done = True
        for run in self.runs:
            self._lookout.take(run, listing, self._creator.in_flight(run.id))
        self._finisher.confirm(listing)
        self._report_strays()
        for run in self.runs:
            done = self._act(run, listing, cautious) and done
        self._raise_failures()
        self._progress()
        return done and self._finisher.idle and self._remover.idle and self._creator.idle

    async def _look(self) -> Listing | None:
        self._creator.begin_look()
        try:
            left = seconds_left(self.deadline, self.desk.clock)
            listing = await self.desk.stop.guard(self.desk.client.sessions(), left)
        except AuthError as error:
            if not self.follow:
                raise
            self._begin_outage(error)
            return None
        except UnreachableError as error:
            if not self.follow and self.desk.clock.monotonic() - self._last_good > PATIENCE:
                raise
            self._begin_outage(error)
            return None
        check_owner(self.desk.profile, self.runs, listing.user)
        self._end_outage()
        return listing

    def _act(self, run: Run, listing: Listing, cautious: bool) -> bool:
        """Plans and starts what one run needs; True when it needs nothing more from this driver."""
        watch = self._lookout.watch(run)
        queued = self._creator.queued(run.id)
        now = self.desk.clock.now()
        gate = self.gates(watch.run)
        plan = plan_snapshot(watch, now, gate, queued, self._lookout.settled(run))
        self.first_steps.setdefault(run.id, plan)
        if not cautious:
            self._start(watch, listing, plan)
            watch = self._lookout.watch(run)
        return self._is_done(watch, plan, listing)

    def _start(self, watch: RunSnapshot, listing: Listing, plan: tuple[Step, ...]) -> None:
        run = watch.run
        listed = frozenset(session.id for session in listing.sessions)
        self._remover.remove(self._lookout.duplicates(run, listing))
        to_go = to_delete(watch, listed, self.desk.clock.now(), self.desk.ledger)
        self._remover.remove(one for one in to_go if not (self._one_pass and one in self.undeleted))
        self._finisher.begin(run, unread_logs(watch), listed)
        now = self.desk.clock.now()
        apply_offline_steps(self.desk.ledger, watch, plan, self._lookout.settled(run), now)
        if self.create:
            numbers = self._to_create(run, plan)
            self._remover.remove(to_replace(watch, numbers, listed))
            self._creator.submit(run.id, numbers)

    def _to_create(self, run: Run, plan: tuple[Step, ...]) -> list[int]:
        """Replicas that a create is to be sent for. Plain apply is one pass: what its first plan held stays held,
        even if room was made in the meantime."""
        numbers = [step.replica for step in plan if step.action in CREATES]
        if self.follow:
            return numbers
        first = {step.replica for step in self.first_steps.get(run.id, ()) if step.action != "hold"}
        return [number for number in numbers if number in first]

    def _still_listed(self, watch: RunSnapshot, listing: Listing) -> bool:
        """Whether a session that is to be deleted is still there, and not yet past hope."""
        if not watch.run.deleting and not any(replica.deleting for replica in watch.replicas):
            return False
        listed = frozenset(session.id for session in listing.sessions)
        left = to_delete(watch, listed, self.desk.clock.now(), self.desk.ledger)
        staying = {session for session in left if self._remover.tries.get(session, 0) >= MOST_DELETES}
        self.undeleted = {one: self._remover.errors.get(one) for one in (self.undeleted.keys() & listed) | staying}
        return bool(set(left) - staying)

    def _is_done(self, watch: RunSnapshot, plan: tuple[Step, ...], listing: Listing) -> bool:
        if self._still_listed(watch, listing) or self._is_busy(watch, plan):
            return False
        if self._is_doubtful(watch) or self._creator.queued(watch.run.id):
            return False
        if is_ended(watch):
            if unread_logs(watch):
                return False
            if watch.run.ended is None:
                set_run(self.desk.ledger, watch.run.id, ended=self.desk.clock.now())
            return True
        return (self._one_pass and not unread_logs(watch)) or is_up(watch)

    def _is_busy(self, watch: RunSnapshot, plan: tuple[Step, ...]) -> bool:
        """Whether something is still to be deleted or created; what stays in spite of all is not waited for."""
        staying = {number for number, attempt in watch.latest().items() if attempt.session in self.undeleted}
        deletes = any(step.action == "delete" and step.replica not in staying for step in plan)
        return deletes or (self.create and bool(self._to_create(watch.run, plan)))

    def _is_doubtful(self, watch: RunSnapshot) -> bool:
        """What is in doubt is sent again in the end, or given up: who does neither does not wait for it."""
        if self.create or any(replica.deleting for replica in watch.replicas) or watch.run.deleting:
            return is_doubtful(watch)
        return is_missing(watch)

    async def _pause(self) -> None:
        """Until the next look is due, or something ended that may let more begin."""
        at_once = self._creator.idle and self._finisher.to_confirm and self._outage is None
        seconds = 0.0 if at_once else self._pace.interval(any(self._doubtful(run) for run in self.runs))
        if not self.follow and self._outage is None:
            seconds = min(seconds, self._until_due())
        if self.deadline is not None:
            if self.desk.clock.now() >= self.deadline:
                raise TimedOut("timed out; the job goes on", hint="the same command goes on from here")
            seconds = min(seconds, max(0.0, self.deadline - self.desk.clock.now()))
        self._wake.clear()
        await self.desk.stop.sleep(self.desk.clock, seconds, self._wake if self._may_go_on() else None)

    def _until_due(self) -> float:
        """Seconds until what one pass still has to do may be done: a try again, the last look for a create. Of many
        that are due one after the other, each look serves several."""
        now = self.desk.clock.now()
        settings = self.desk.profile.client
        times = [t for run in self.runs for t in due_times(self._lookout.watch(run), settings.settle) if t > now]
        together = min(settings.poll_min, settings.settle / 40)
        return max(together, min(times, default=float("inf")) - now)

    def _may_go_on(self) -> bool:
        """Whether the end of all creates or of all logs that are under way is worth a look before its time: where one
        pass ends with it, where the platform is near, and where nothing else is left to do."""
        return (
            not self.follow
            or self.desk.profile.client.poll_min < 1.0
            or all(is_ended(self._lookout.watch(run)) for run in self.runs)
        )

    def _doubtful(self, run: Run) -> bool:
        return is_doubtful(self._lookout.watch(run))

    def _raise_failures(self) -> None:
        for part in (self._creator, self._finisher, self._remover, self._why, self._running_logs):
            if part.failure is not None:
                raise part.failure
        denied = self._creator.denied
        if self.follow:
            self._creator.denied = None  # credentials are read again before the next try
            return
        self._remover.check(PATIENCE)
        if denied is not None:
            error = denied.error
            raise AuthError(error.message if error else "rejected", hint=error.hint if error else None)

    def _begin_outage(self, error: SkahactlError) -> None:
        self._pace.failed()
        if self._outage is None:
            self._outage = error.message
            self.desk.reporter.say(f"{self.desk.profile.name} does not answer: {error.message}; trying again")

    def _end_outage(self) -> None:
        self._pace.looked()
        self._last_good = self.desk.clock.monotonic()
        if self._outage is not None:
            self.desk.reporter.say(f"{self.desk.profile.name} answers again")
            self._outage = None

    def _report_strays(self) -> None:
        for session, name in self._lookout.strays.items():
            if session not in self._told:
                self._told.add(session)
                self.desk.reporter.say(f"stray: session {session} is named {name}, but was not made here; left alone")

    def _progress(self) -> None:
        now = self.desk.clock.now()
        watches = [self._lookout.watch(run) for run in self.runs]
        found = summaries(self.desk.ledger, [watch.run for watch in watches])
        self.desk.reporter.progress(
            [
                self._tracker.progress(
                    watch,
                    summary,
                    now,
                    why=self._why.words(watch) if self.follow else (),
                    live=self._running_logs.failed,
                )
                for watch, summary in zip(watches, found, strict=True)
            ]
        )
        if self.follow:
            latest = (attempt for watch in watches for attempt in watch.latest().values())
            self._running_logs.follow(attempt for attempt in latest if attempt.state == State.RUNNING)


#: Seconds that a replaced run's driver may take to carry out the delete.
LONGEST_WAIT = 600.0


def gate_for(ledger: Ledger, run: Run, coming: set[str], record: bool = False) -> Gate:
    """What ``after`` says for a run now; ``coming``: jobs that get a new run first. ``record``: writes which runs it
    came after, the moment that it may start, or cannot any more."""
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
        runs.set_after_runs(ledger, run.id, numbers)
    return gate


def gates_of_jobs(ledger: Ledger, locks: Iterable[JobLock]) -> Callable[[Run], Gate]:
    """``gate_for`` for a driver: BusyError as soon as one of its locks was taken with --break-lock."""
    held = {lock.key: lock for lock in locks}

    def gate(run: Run) -> Gate:
        held[run.key].check()
        return gate_for(ledger, run, set(), record=True)

    return gate


async def wait_for_lock(ledger: Ledger, key: JobKey, clock: Clock, stop: Stop) -> JobLock:
    """The lock, as soon as the command that holds it lets go."""
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
