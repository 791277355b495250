"""The runtime of a command, and the only function that polls: list, owner check, outages, interval, recording."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from skahactl.errors import AuthError, LedgerError, SkahactlError, TimedOut, UnreachableError
from skahactl.ledger import runs
from skahactl.ledger.attempts import is_alive
from skahactl.ledger.records import JobKey, Run, RunSummary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence

    from skahactl.engine.shared_results import SharedResults
    from skahactl.eventloop import Stop
    from skahactl.ledger.database import Ledger
    from skahactl.profile import ClientSettings, Profile
    from skahactl.skaha.client import Client
    from skahactl.skaha.models import Listing, ServerSession
    from skahactl.system import Clock

T = TypeVar("T")
#: Value of ``patience`` for a command that waits: endure outages and expired credentials until the deadline.
FOREVER = math.inf
#: Maximum number of sessions that one poll requests by id, because the list lacks them.
ASKED = 32


@dataclass(frozen=True, slots=True)
class FailedReplica:
    """Why a replica failed, according to its log.

    ``hint``: what the exit code means. ``running``: one of its items failed, and the replica still runs others.
    ``retried``: attempts are left, so nothing is lost yet.
    """

    replica: int
    item: str | None = None
    exit_code: int | None = None
    line: str | None = None  # the last line of its log
    hint: str | None = None
    running: bool = False
    reason: str | None = None  # why it failed, if the log does not show it
    retried: bool = False

    @property
    def words(self) -> str:
        """The last line or the reason, with what the exit code means."""
        return " ".join(filter(None, (self.line or self.reason, f"({self.hint})" if self.hint else "")))


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The progress of a run: its summary, the state of each replica in order, and the longest running replicas.

    ``longest``: up to five (replica number, seconds Running so far), the longest first.
    ``why``: what Pending replicas wait for, from their events, if known: (replica number, reason).
    ``retrying``: Failed replicas with attempts left; the next one starts at ``retry_at``.
    ``queued_for``: why replicas are Queued.
    ``median``: median run time of Completed replicas, in seconds.
    ``left``: seconds until the end, if they can be computed.
    """

    summary: RunSummary
    states: tuple[str, ...]
    longest: tuple[tuple[int, float], ...] = ()
    why: tuple[tuple[int, str], ...] = ()
    started: float | None = None  # when the driver or the wait began
    now: float = 0.0
    failures: tuple[FailedReplica, ...] = ()
    retrying: frozenset[int] = frozenset()
    retry_at: float | None = None
    queued_for: str | None = None
    median: float | None = None
    left: float | None = None


class Reporter(Protocol):
    def say(self, text: str) -> None:
        """Print one line for the user."""

    def warn(self, text: str) -> None:
        """Print a warning, even with ``-q``."""

    def progress(self, runs: Sequence[RunProgress]) -> None:
        """Show the progress of the runs. This is called once per poll."""

    def close(self, *, has_result: bool = False) -> None:
        """Restore the screen and the cursor. ``has_result``: the command itself prints the result."""


class SilentReporter:
    """Prints nothing."""

    def say(self, text: str) -> None:
        del text

    def warn(self, text: str) -> None:
        del text

    def progress(self, runs: Sequence[RunProgress]) -> None:
        del runs

    def close(self, *, has_result: bool = False) -> None:
        del has_result


class OutageReport:
    """Reports an outage once when it begins and once when it ends. ``error``: the error of the current outage."""

    def __init__(self, where: str, say: Callable[[str], object]) -> None:
        self.error: SkahactlError | None = None
        self._where = where
        self._say = say

    def begin(self, error: SkahactlError) -> None:
        if self.error is None:
            self._say(f"{self._where}: {error.message}; retrying")
        self.error = error

    def end(self) -> None:
        if self.error is not None:
            self._say(f"{self._where}: connection restored")
        self.error = None


class Runtime:
    """The objects that a command uses. The function that creates the runtime also closes it.

    ``poll`` is the only way in which a command observes the platform. ``client`` connects when it is first used, so a
    command that only reads the ledger needs no connection. A signal sets ``stop``, which ends every wait.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: Client | Callable[[], Client],
        profile: Profile,
        clock: Clock,
        reporter: Reporter,
        stop: Stop | None = None,
    ) -> None:
        self.ledger = ledger
        self.profile = profile
        self.clock = clock
        self.reporter = reporter
        self.pace = PollPace(clock, profile.client)
        self.outage = OutageReport(self.where, reporter.say)
        self._client = client
        self._stop = stop
        self.begun = clock.now()
        self._warned: set[str] = set()
        self._storage_error: SkahactlError | None = None
        self._polled = False
        self._answered: float | None = None  # when the platform last answered, on the monotonic clock

    @property
    def client(self) -> Client:
        if callable(self._client):
            self._client = self._client()
        return self._client

    @property
    def stop(self) -> Stop:
        if self._stop is None:
            from skahactl.eventloop import Stop

            self._stop = Stop()
        self.ledger.check_interruption = self._stop.check
        return self._stop

    def warn_once(self, text: str) -> None:
        """Print a warning; the same text is printed only once."""
        if text not in self._warned:
            self._warned.add(text)
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.reporter.warn(f"warning: {text}")

    async def close(self) -> None:
        """Close the connection, if there is one. The ledger stays open, because the caller opened it."""
        if not callable(self._client):
            await self._client.aclose()

    @property
    def where(self) -> str:
        """The platform as messages name it: ``PROFILE (HOST)``."""
        return f"{self.profile.name} ({self.profile.host})"

    async def poll(
        self, jobs: Iterable[Run] = (), *, patience: float = 0.0, deadline: float | None = None, record: bool = True
    ) -> Listing | None:
        """Request one list of sessions, check its owner, record it in the ledger, and return it.

        Return None if the platform does not answer and ``patience`` has not run out. Raise what ``ask`` raises, and
        AuthError if the server reports another user than the owner of one of ``jobs``.

        ``record``: False for a driver, which records the list itself under the locks of its jobs.
        """
        from skahactl.eventloop import seconds_left

        jobs = tuple(jobs)
        if not self._polled:
            self._answered = None  # the answer to another request does not count as one to a list
        listing = await self.ask(lambda: self.client.sessions(), patience=patience, deadline=deadline)
        if listing is not None:
            self._polled = True
            check_owner(self.profile, jobs, listing.user)
            if not record:
                return listing
            missing = self._record(jobs, listing, {})
            await self._read_results(jobs, listing, patience, deadline)
            missing = tuple(session for session in missing if is_alive(self.ledger, session))
            if missing:
                answers = await self.stop.guard(self._ask_sessions(missing), seconds_left(deadline, self.clock))
                self._record(jobs, listing, answers)
                await self._read_results(jobs, listing, patience, deadline)
        return listing

    def shared_results(self, say: Callable[[str], None] | None = None) -> SharedResults:
        """Return an object that records results from shared records. ``say``: replaces that of the reporter."""
        from skahactl.engine.shared_results import SharedResults

        return SharedResults(self.ledger, self.client.storage, self.profile.client, say or self.reporter.say)

    async def _read_results(
        self, jobs: Sequence[Run], listing: Listing, patience: float, deadline: float | None
    ) -> None:
        every = self._recorded(jobs, listing)
        await self.read_shared_records(every, listing, patience=patience, deadline=deadline)

    async def read_shared_records(
        self,
        jobs: Iterable[Run],
        listing: Listing | None = None,
        *,
        exact: bool = False,
        numbers: Container[int] | None = None,
        patience: float = 0.0,
        deadline: float | None = None,
    ) -> None:
        """Record results that only the shared records of these runs contain. Report once why some could not be read.

        ``exact``: also read exit codes and ends of attempts that a list showed as ended. ``numbers``: only these
          replicas.
        ``patience``: 0 for a command that only reads, which stops after READ_PATIENCE. Raise TimedOut at ``deadline``.
        """
        shared = [run for run in jobs if run.shared is not None]
        if not shared:
            return
        from skahactl.eventloop import seconds_left
        from skahactl.skaha.storage import READ_PATIENCE

        listed = None if listing is None else frozenset(session.id for session in listing.sessions)
        before = self._storage_error
        results = self.shared_results(self.reporter.say if before is None else lambda text: None)
        self.client.storage.patience = math.inf if patience else READ_PATIENCE
        self._storage_error = error = await self.stop.guard(
            results.record(shared, self.clock.now(), listed, exact=exact, numbers=numbers),
            seconds_left(deadline, self.clock),
        )
        if error is not None and before is None:
            where = "" if error.where is None else f" from the {error.where}"
            self.reporter.say(f"the shared records could not all be read{where}: {error.message}")
        elif error is None and before is not None:
            self.reporter.say("the shared records were read")

    @property
    def is_storage_out(self) -> bool:
        """Whether the storage service gave no usable answer, and may give one later."""
        error = self._storage_error
        return isinstance(error, UnreachableError) and not error.is_permanent

    async def ask(
        self, question: Callable[[], Awaitable[T]], *, patience: float = 0.0, deadline: float | None = None
    ) -> T | None:
        """Return the answer to one request; None if the platform does not answer and ``patience`` has not run out.

        ``patience``: seconds since the last answer during which an outage is reported once and then endured; with
        FOREVER, expired credentials are endured too. Before the first answer, errors are raised at once; only FOREVER
        endures an outage then, unless it is permanent (a wrong address, an unknown host).

        Raise AuthError, UnreachableError, Interrupted, and TimedOut at ``deadline`` (monotonic time).
        """
        from skahactl.eventloop import seconds_left

        try:
            answer = await self.stop.guard(question(), seconds_left(deadline, self.clock))
        except (AuthError, UnreachableError) as error:
            error.where = error.where or self.where
            if not self._endures(error, patience):
                raise
            self.pace.failed()
            self.outage.begin(error)
            return None
        self.pace.polled()
        self._answered = self.clock.monotonic()
        self.outage.end()
        return answer

    async def ask_until_answered(
        self, question: Callable[[], Awaitable[T]], *, patience: float = FOREVER, deadline: float | None = None
    ) -> T:
        """Repeat ``ask`` until there is an answer, and return it."""
        while True:
            answer = await self.ask(question, patience=patience, deadline=deadline)
            if answer is not None:
                return answer
            await self.pause(deadline=deadline)

    async def first_poll(
        self, jobs: Iterable[Run] = (), *, patience: float = 0.0, deadline: float | None = None, record: bool = True
    ) -> Listing:
        """Repeat ``poll`` until there is a list, and return it."""
        jobs = tuple(jobs)
        while True:
            listing = await self.poll(jobs, patience=patience, deadline=deadline, record=record)
            if listing is not None:
                return listing
            await self.pause(deadline=deadline)

    async def pause(self, uncertain: bool = False, deadline: float | None = None) -> None:
        """Wait until the next poll is due. Raise TimedOut at ``deadline`` (monotonic time)."""
        seconds = self.pace.interval(uncertain)
        if deadline is not None:
            if self.clock.monotonic() >= deadline:
                if self._answered is None:
                    hint = "the server never answered, and nothing was sent to it; try again later"
                else:
                    hint = "run the same command again to continue"
                raise TimedOut("timed out", where=self.where, hint=hint)
            seconds = min(seconds, max(0.05, deadline - self.clock.monotonic()))
        await self.stop.sleep(self.clock, seconds)

    def _endures(self, error: AuthError | UnreachableError, patience: float) -> bool:
        if self._answered is None:
            return patience == FOREVER and isinstance(error, UnreachableError) and not error.is_permanent
        if isinstance(error, AuthError):
            return patience == FOREVER
        return self.clock.monotonic() - self._answered < patience

    async def _ask_sessions(self, sessions: Sequence[str]) -> dict[str, ServerSession | None]:
        """Return the replies to single ids that a list lacks, for the first ASKED of them.

        If one of the sessions exists, the list was wrong, so the others wait for the next list.
        """
        answers: dict[str, ServerSession | None] = {}
        for session in sessions[:ASKED]:
            try:
                answers[session] = await self.client.session(session)
            except (AuthError, UnreachableError):
                break
            if answers[session] is not None:
                break
        return answers

    def _recorded(self, jobs: Sequence[Run], listing: Listing) -> tuple[Run, ...]:
        """Return the runs for which a poll is recorded: ``jobs``, and all unfinished runs of this user."""
        user = listing.user or ""
        others = [run for run in runs.unfinished_runs(self.ledger, self.profile.server) if run.key.user in ("", user)]
        return tuple({run.id: run for run in (*jobs, *others)}.values())

    def _record(
        self, jobs: Sequence[Run], listing: Listing, answers: Mapping[str, ServerSession | None]
    ) -> tuple[str, ...]:
        """Record the list and the answers for ``jobs`` and all unfinished runs of this user.

        Return the ids to request, because they are alive on record and the list lacks them.
        """
        from skahactl.engine.observe import Evidence
        from skahactl.engine.record import record_known_sessions

        every = self._recorded(jobs, listing)
        if not every:
            return ()
        try:
            return record_known_sessions(self.ledger, self.profile.client, every, Evidence(listing, answers))
        except LedgerError as error:  # a full disk must not hide the requested data
            self.reporter.say(f"the poll could not be recorded: {error.message}")
            return ()


def other_user_error(profile: Profile, reported: str, job: str, owner: str) -> AuthError:
    return AuthError(
        f"the server reports user {reported}, but {job} belongs to {owner}",
        where=f"{profile.name} ({profile.host})",
        hint="nothing was changed. Log in as that user, or use another profile with -p",
    )


def check_owner(profile: Profile, jobs: Iterable[Run], user: str | None) -> None:
    """Raise AuthError if one of these runs belongs to another user than the server reports.

    The list of that user's sessions says nothing about the run.
    """
    for run in jobs:
        if user and run.key.user and user != run.key.user:
            raise other_user_error(profile, user, run.key.name, run.key.user)


def check_user(ledger: Ledger, profile: Profile, jobs: Iterable[str], user: str | None) -> None:
    """Raise AuthError if one of ``jobs`` (names) has an unfinished run of another user, and no run of ``user``.

    ``user`` is the user that the server reports.
    """
    if not user:
        return
    others = [other for other in runs.users_seen(ledger, profile.server) if other != user]
    for job in jobs if others else ():
        if runs.last_run(ledger, JobKey(profile.server, user, job)) is not None:
            continue
        for other in others:
            theirs = runs.last_run(ledger, JobKey(profile.server, other, job))
            if theirs is not None and theirs.ended is None:
                raise other_user_error(profile, user, job, other)


#: A difference between wall time and monotonic time above this, in seconds, means that the machine was suspended.
JUMP = 30.0
#: Minimum interval, as a multiple of the cost of the last poll: thousands of sessions take a while to process.
SHARE = 10.0


@dataclass
class PollPace:
    """The interval between polls: short at first, longer as the command runs, and at least SHARE times the last cost.

    The cost is the time that this machine spent on the last poll. The interval never exceeds ``poll_max``, nor a
    quarter of the time for which the platform lists an ended session.
    """

    clock: Clock
    settings: ClientSettings
    begun: float = field(init=False)
    _wall: float = field(init=False)
    _mono: float = field(init=False)
    _failures: int = 0
    _work: float = 0.0

    def __post_init__(self) -> None:
        self.begun = self._mono = self.clock.monotonic()
        self._wall = self.clock.now()

    def interval(self, uncertain: bool = False) -> float:
        """Return the seconds until the next poll. ``uncertain``: an attempt is unconfirmed, or missing from the last
        list."""
        settings = self.settings
        age = self.clock.monotonic() - self.begun
        longest = min(settings.poll_max, settings.memory / 4)
        if self._failures:
            return min(longest, max(settings.poll_min, 1.0) * float(2 ** min(self._failures, 6)))
        shortest = max(settings.poll_min, SHARE * self._work)
        return min(longest, max(shortest, settings.settle / 20 if uncertain else age / 30))

    def failed(self) -> None:
        self._failures += 1

    def polled(self) -> None:
        self._failures = 0
        self._work = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Add the duration of the block to the cost of this poll."""
        begun = self.clock.monotonic()
        try:
            yield
        finally:
            self._work += self.clock.monotonic() - begun

    def slept(self) -> bool:
        """Return whether the clock jumped since the last call, as after the machine was suspended."""
        wall, mono = self.clock.now(), self.clock.monotonic()
        jumped = (wall - self._wall) - (mono - self._mono)
        self._wall, self._mono = wall, mono
        return abs(jumped) > JUMP
