"""Sessions as the cluster keeps them: their life is a function of time, so that nothing runs in the background."""

from __future__ import annotations

import math
import random
import re
import string
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.skaha_server.plan import Plan

HEADLESS_DEADLINE = 1209600
INTERACTIVE_DEADLINE = 345600
JOB_NAME = re.compile(r"(?P<replica>(?P<job>.+?)(?:-(?P<number>\d+))?-[a-z0-9]{5})(?:-(?P<attempt>\d+))?")


@dataclass
class Session:
    """One Job. Times are the server's clock's; ``visible`` may lie ahead: it is not there before."""

    id: str
    name: str
    user: str
    kind: str
    image: str
    visible: float
    asked: float  # when its request came
    runs: float
    ends: float
    outcome: str  # Completed or Failed
    memory: float = 3600.0
    argv: list[str] = field(default_factory=list)
    env: list[tuple[str, str]] = field(default_factory=list)
    cores: float | None = None
    ram: float | None = None
    gpus: int | None = None
    dies: bool = False  # in the middle, so that its log ends early
    fault: str | None = None
    told: bool = False  # was its id sent to a client that was there to read it
    suspended: bool = False
    started: float | None = None
    deadline: int = HEADLESS_DEADLINE
    deleted: float | None = None
    forgotten: float | None = None
    deletes: int = 0
    log_reads: int = 0

    def there(self, now: float) -> bool:
        return self.visible <= now and now < self.gone

    @property
    def gone(self) -> float:
        """When it leaves, or left, the cluster."""
        times = (self.deleted, self.forgotten, self.ends + self.memory)
        return min(time for time in times if time is not None)

    @property
    def dead(self) -> float:
        """When it no longer counts as alive: ended or deleted."""
        return min(self.ends, self.gone)

    def status(self, now: float) -> str:
        if now >= self.ends:
            return self.outcome
        return "Pending" if self.suspended or now < self.runs else "Running"

    @property
    def job(self) -> str:
        """The Job's name in the cluster, by which lists are sorted."""
        return f"skaha-{self.kind}-{re.sub(r'[^A-Za-z0-9]', '-', self.user)}-{self.id}".lower()

    @property
    def label(self) -> str:
        return self.name.lower()[:63].rstrip("-")

    @property
    def replica_id(self) -> str | None:
        return dict(self.env).get("REPLICA_ID")

    @property
    def attempt(self) -> int:
        return int(dict(self.env).get("SKAHACTL_ATTEMPT", "1"))

    @property
    def replica_name(self) -> str:
        """Its name without the suffix of a later attempt."""
        found = JOB_NAME.fullmatch(self.name)
        return found["replica"] if found else self.name

    @property
    def job_prefix(self) -> str:
        found = JOB_NAME.fullmatch(self.name)
        return found["job"] if found else re.sub(r"-\d+$", "", self.name)


class Cluster:
    """Every session ever made, by id."""

    def __init__(self, plan: Plan, now: Callable[[], float]):
        self.plan = plan
        self.now = now
        self.sessions: dict[str, Session] = {}
        self._ids = random.Random(f"{plan.seed}:ids")
        self._sends: dict[str, int] = {}

    def new_id(self) -> str:
        letters, more = string.ascii_lowercase, string.ascii_lowercase + string.digits
        while True:
            made = self._ids.choice(letters) + "".join(self._ids.choices(more, k=7))
            if made not in self.sessions:
                return made

    def add(self, session: Session) -> Session:
        """Draws how it will live from its name and how often that name was made, whatever the order of requests."""
        times = self._sends[session.name] = self._sends.get(session.name, 0) + 1
        draw = random.Random(f"{self.plan.seed}:life:{session.name}:{times}")
        session.runs = session.visible + draw.uniform(*self.plan.pending)
        length = draw.uniform(*self.plan.running) if self.plan.running is not None else math.inf
        session.ends = session.runs + length
        may_fail = session.attempt == 1 or not self.plan.fail_once
        session.dies = draw.random() < self.plan.fail and may_fail
        session.outcome = "Failed" if session.dies else "Completed"
        session.started = session.visible
        session.deadline = HEADLESS_DEADLINE if session.kind == "headless" else INTERACTIVE_DEADLINE
        self.sessions[session.id] = session
        return session

    def of(self, user: str) -> list[Session]:
        now = self.now()
        return sorted((s for s in self.sessions.values() if s.user == user and s.there(now)), key=lambda s: s.job)

    def one(self, user: str, id: str) -> Session | None:
        session = self.sessions.get(id)
        return session if session and session.user == user and session.there(self.now()) else None

    def delete(self, user: str, id: str) -> bool:
        """One DELETE; True if it took the session away."""
        session = self.sessions.get(id)
        if session is None or session.user != user:
            return False
        session.deletes += 1
        if not session.there(self.now()) or session.deletes <= self.plan.delete_ignored:
            return False
        session.deleted = self.now()
        return True

    def named(self, key: str) -> list[Session]:
        """The sessions that are there and have this id or name."""
        now = self.now()
        return [s for s in self.sessions.values() if key in (s.id, s.name) and s.there(now)]

    def finish(self, session: Session, status: str) -> None:
        session.runs, session.ends, session.outcome = min(session.runs, self.now()), self.now(), status
        session.suspended = False

    def forget(self, session: Session) -> None:
        session.forgotten = self.now()

    def suspend(self, session: Session, on: bool) -> None:
        """A queue takes it back, or admits it: it starts from the beginning, with a new startTime."""
        length = session.ends - session.runs
        session.suspended = on
        session.runs = math.inf if on else self.now()
        session.ends = session.runs + length
        session.started = None if on else self.now()


def twins(sessions: list[Session]) -> list[Session]:
    """Copies whose reply was lost: no client was told of them, and others of that name were made."""
    names: dict[str, int] = {}
    for session in sessions:
        names[session.name] = names.get(session.name, 0) + 1
    return [session for session in sessions if not session.told and names[session.name] > 1]


def most_alive(sessions: list[Session]) -> int:
    """The largest number alive at any one time."""
    changes = []
    for session in sessions:
        if session.dead > session.visible:
            changes += [(session.visible, 1), (session.dead, -1)]
    alive = most = 0
    for _, change in sorted(changes):
        alive += change
        most = max(most, alive)
    return most
