"""What every act on the platform works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from skahactl.errors import AuthError
from skahactl.ledger import runs
from skahactl.ledger.records import JobKey, Run, RunSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skahactl.eventloop import Stop
    from skahactl.ledger.database import Ledger
    from skahactl.model import Job
    from skahactl.profile import ClientSettings, Profile
    from skahactl.skaha.client import Client
    from skahactl.system import Clock


@dataclass(frozen=True, slots=True)
class RunProgress:
    """A run as it stands: its summary, the state of each replica in order, and who runs longest.

    ``longest``: up to five (replica number, seconds Running so far), the longest first.
    ``why``: what Pending replicas wait for, from their events, when known: (replica number, words).
    """

    summary: RunSummary
    states: tuple[str, ...]
    longest: tuple[tuple[int, float], ...] = ()
    why: tuple[tuple[int, str], ...] = ()
    started: float | None = None  # when this driver began
    now: float = 0.0


class Reporter(Protocol):
    def say(self, text: str) -> None:
        """One line that a person should see, once."""

    def progress(self, runs: Sequence[RunProgress]) -> None:
        """Where things stand; called once a poll, cheap to ignore."""

    def close(self, *, told: bool = False) -> None:
        """Leaves the screen and the cursor clean. ``told``: how things stand is said by the command itself now."""


class SilentReporter:
    """Says nothing."""

    def say(self, text: str) -> None:
        del text

    def progress(self, runs: Sequence[RunProgress]) -> None:
        del runs

    def close(self, *, told: bool = False) -> None:
        del told


@dataclass(frozen=True, slots=True)
class Runtime:
    """Opened once a command, closed by whoever opened it. ``stop``: set by a signal; every wait is given up then."""

    ledger: Ledger
    client: Client
    profile: Profile
    clock: Clock
    reporter: Reporter
    stop: Stop


def check_owner(
    profile: Profile, driven: Iterable[Run], user: str | None, nothing: str = "nothing was changed"
) -> None:
    """AuthError if one of these runs is another's than ``user``'s, whom the server says we are: its list of sessions
    says nothing of them. ``nothing``: how the hint says that there was no harm."""
    for run in driven:
        if user and run.key.user and user != run.key.user:
            raise AuthError(
                f"the server says you are {user}, but {run.key.name} is {run.key.user}'s",
                where=f"{profile.name} ({profile.host})",
                hint=f"{nothing}. Log in as that user, or choose another profile with -p",
            )


def check_user(ledger: Ledger, profile: Profile, jobs: Sequence[Job], user: str | None) -> None:
    """AuthError if one of ``jobs`` is new for ``user``, whom the server says we are, while it goes on for another user
    that we were here before."""
    if not user:
        return
    for other in runs.users_seen(ledger, profile.server):
        for job in jobs if other not in ("", user) else ():
            theirs = runs.last_run(ledger, JobKey(profile.server, other, job.name))
            ours = runs.last_run(ledger, JobKey(profile.server, user, job.name))
            if theirs is not None and theirs.ended is None and ours is None:
                raise AuthError(
                    f"the server says you are {user}, but {job.name} is {other}'s, and goes on",
                    where=f"{profile.name} ({profile.host})",
                    hint="nothing was changed. Log in as that user, choose another profile with -p, or rename the job",
                )


#: A jump of wall time against monotonic time, in seconds, from which on the machine must have slept.
JUMP = 30.0


@dataclass
class PollPace:
    """The interval between looks: short at first, longer as the job ages, never above ``poll_max`` nor a quarter of
    the time that the platform remembers an ended session."""

    clock: Clock
    settings: ClientSettings
    begun: float = field(init=False)
    _wall: float = field(init=False)
    _mono: float = field(init=False)
    _failures: int = 0

    def __post_init__(self) -> None:
        self.begun = self._mono = self.clock.monotonic()
        self._wall = self.clock.now()

    def interval(self, doubtful: bool = False) -> float:
        """Seconds until the next look; ``doubtful``: something waits for looks to settle."""
        settings = self.settings
        age = self.clock.monotonic() - self.begun
        longest = min(settings.poll_max, settings.memory / 4)
        if self._failures:
            return min(longest, max(settings.poll_min, 1.0) * float(2 ** min(self._failures, 6)))
        if doubtful:
            return min(longest, max(settings.poll_min, settings.settle / 20))
        return min(longest, max(settings.poll_min, age / 30))

    def failed(self) -> None:
        self._failures += 1

    def looked(self) -> None:
        self._failures = 0

    def slept(self) -> bool:
        """True once after each jump of the clock since the last call."""
        wall, mono = self.clock.now(), self.clock.monotonic()
        jumped = (wall - self._wall) - (mono - self._mono)
        self._wall, self._mono = wall, mono
        return abs(jumped) > JUMP
