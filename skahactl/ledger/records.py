"""The rows of the ledger as values. Times are epoch seconds of the wall clock; None means unknown."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from skahactl.errors import LedgerError
from skahactl.model import (
    ALIVE,
    Each,
    EnvValue,
    Limits,
    Request,
    Resources,
    Secret,
    State,
)
from skahactl.text import stored_path

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class JobKey:
    """A job is identified by server, user and name. ``user`` is "" until the server has reported it."""

    server: str
    user: str
    name: str


@dataclass(frozen=True, slots=True)
class DriverRecord:
    """The driver of a job."""

    host: str
    boot: str
    pid: int
    since: float


@dataclass(frozen=True, slots=True)
class Run:
    """One complete execution of a job."""

    id: int
    key: JobKey
    number: int  # 1, 2, 3, ...
    profile: str  # name or path of the profile
    digest: str
    kind: str
    image: str
    content: dict[str, object]
    limits: Limits
    attempts: int  # [retry] attempts
    keep: str  # [logs] keep
    created: float
    total: int  # replicas
    after: tuple[str, ...] = ()
    after_runs: dict[str, int] = field(default_factory=dict)  # the runs of these jobs that this run waited for
    manifest: str | None = None
    started: float | None = None  # first create
    ended: float | None = None  # when the last replica was seen to have ended; None while any can continue
    observed: float | None = None  # when the last list that this run was compared with was received
    deleting: int = 0  # not 0: a delete of the whole run was requested (see DISCARD_LOGS), so no create is sent
    reason: str | None = None  # why the run as a whole is Queued or Skipped
    directory: str | None = None  # working directory of the command that created it; the local platform runs there
    retry_ram: tuple[float, ...] = ()  # [retry] ram
    shared: str | None = None  # directory of its shared record, as the replicas see it


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """One replica of a run: its definition and its current state."""

    run_id: int
    number: int
    name: str  # session name without attempt suffix
    request: Request
    items: tuple[str, ...]
    each: Each | None
    state: str
    reason: str | None
    attempt: int  # number of its current attempt, normally the latest; 0 for none
    allowed: int  # maximum number of attempts; retry raises it
    not_before: float | None  # backoff: earliest time of the next create
    deleting: bool  # a delete of this replica was requested
    override: Resources | None = None  # what ``retry`` requested for the attempts that it allowed

    def requested(self, attempt: AttemptRow | None) -> Resources:
        """Return what this attempt requested; without an attempt, what the replica requests."""
        return attempt.resources if attempt and attempt.resources else self.request.resources


#: Run, replica, and number of an attempt.
AttemptKey = tuple[int, int, int]


class ResultSource(StrEnum):
    """Where the result of an attempt comes from."""

    OBSERVED = "observed"  # a list of sessions
    SHARED_RECORD = "shared record"  # what the replica itself wrote
    MARKED = "marked"  # a person, with ``mark``


class Ending(StrEnum):
    """Why skahactl ends the session of an attempt without a request of the user."""

    PENDING_TIMEOUT = "pending-timeout"  # Pending for longer than its limit
    SUPERSEDED = "superseded"  # another attempt of its replica got further


#: Values of ``AttemptRow.log`` that mean: read the log once the attempt has ended. "partial" was read before the end.
UNREAD = frozenset({"none", "partial"})
#: Value of ``deleting``: delete without saving logs. All other values except 0 save logs first.
DISCARD_LOGS = 2
#: Value of ``deleting``: the command that starts the next run deletes this one.
REPLACED = 3


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt at running a replica, with its session if it is known."""

    run_id: int
    replica: int
    number: int
    name: str  # session name with attempt suffix
    state: str
    reason: str | None
    session: str | None  # the platform's id
    recorded: float | None  # when the id was written here
    created: float  # first intent
    started: float | None  # the server's startTime
    finished: float | None  # its end: as the server or the shared record reports it, else when a poll first showed it
    observed: float | None  # when a poll or the shared record last changed its state
    deadline: float | None  # the server's expiryTime
    url: str | None
    pending_since: float | None
    missing_since: float | None  # time of the first list without it
    sends: int  # creates sent
    ambiguous_sends: int  # ambiguous ones among them, with those that were in flight when their driver ended
    last_ambiguous_at: float | None  # when the last ambiguous one ended
    resolved_ambiguous: int  # ambiguous creates with a session that was found: adopted, or recorded as a duplicate
    log: str  # none | partial | kept | unwanted | lost | incomplete | cut | perhaps cut | limited | pruned | shared
    log_path: str | None  # absolute
    log_bytes: int | None
    exit_code: int | None = None  # from the local platform or the shared record; other servers do not report it
    last_line: str | None = None  # of the log of a failed attempt
    finished_after: float | None = None  # earliest possible end, if ``finished`` is the time of a poll
    ending: str | None = None  # an Ending
    excused: int = 0  # ambiguous sends during platform trouble, which do not count towards the limit of sends
    source: str | None = None  # a ResultSource, once there is a result
    unrecorded: int = 0  # 1: the shared record certainly lacks its end; -1: the record could not be read yet
    resources: Resources | None = None  # what it requested, if that differs from the request of its replica

    @property
    def key(self) -> AttemptKey:
        return self.run_id, self.replica, self.number

    @property
    def ran(self) -> float | None:
        """The run time in seconds; None unless it ran and has ended. Of a Pending session, the start that the server
        reports is only its admission."""
        if self.started is None or self.finished is None or self.pending_since is not None:
            return None
        return max(0.0, self.finished - max(self.started, self.created))

    @property
    def never_started(self) -> bool:
        """Whether its session was ended before it ran, so that there is no log."""
        return self.ending == Ending.PENDING_TIMEOUT and self.state == State.FAILED and self.log_path is None


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item of a run and its result (with ``each = true``, from the marks in the log)."""

    run_id: int
    replica: int
    position: int  # from 1 in the replica
    item: str
    state: str  # a replica state; Completed or Failed once its own end is known
    attempt: int | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """An event in the history of a run that is of interest to a user."""

    run_id: int
    at: float
    replica: int | None
    text: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run with the values of a table of jobs. A constant number of queries reads any number of summaries."""

    run: Run
    counts: dict[str, int]  # by state, zero-filled
    status: str  # states.job_status
    retriable: int
    items: dict[str, int] = field(default_factory=dict)  # total, completed, failed
    driver: DriverRecord | None = None
    ended: float | None = None  # end of its last replica; ``run.ended`` also waits until its logs and results are read

    @property
    def stop_reason(self) -> str | None:
        """Why no more replicas are created, if [limits] failures stopped the run and nothing of it is alive."""
        waiting = self.counts[State.QUEUED] + self.retriable
        if not waiting or any(self.counts[state] for state in ALIVE):
            return None
        return self.run.limits.stop_reason(self.counts[State.FAILED] - self.retriable)


class DamagedRow(LedgerError):
    """The content of a row is not valid. The ledger turns this into an error that names the file."""


@contextlib.contextmanager
def _translate_damage() -> Iterator[None]:
    """Translate errors that the content of a damaged row raises into DamagedRow."""
    try:
        yield
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedRow(str(error)) from error


@_translate_damage()
def load_json(text: str) -> Any:
    """Return the value that dump_json wrote. Raise DamagedRow for other text."""
    return json.loads(text)


def known_state(word: str) -> str:
    """Return ``word``, the state in a row. Raise DamagedRow if it is not a state."""
    if word not in _STATES:
        raise DamagedRow(f"'{word}' is not a state")
    return word


_STATES = frozenset(State)


def dump_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def request_text(request: Request) -> str:
    env = [[key, {value.source: value.name} if isinstance(value, Secret) else value] for key, value in request.env]
    resources = request.resources
    return dump_json(
        [request.kind, request.image, request.command, env, [resources.cores, resources.ram, resources.gpus]]
    )


def request_value(text: str) -> Request:
    kind, image, command, env, (cores, ram, gpus) = load_json(text)
    return Request(kind, image, tuple(command), tuple((k, _env_value(v)) for k, v in env), Resources(cores, ram, gpus))


def _env_value(value: Any) -> EnvValue:
    if isinstance(value, dict):
        ((source, name),) = value.items()
        return Secret(source, name)
    return str(value)


def each_text(each: Each | None) -> str | None:
    return None if each is None else dump_json([each.script, each.rows])


def each_value(text: str | None) -> Each | None:
    if text is None:
        return None
    script, rows = load_json(text)
    return Each(script, tuple(tuple(row) for row in rows))


def limits_text(limits: Limits) -> str:
    return dump_json([limits.alive, limits.pending, limits.pending_timeout, limits.failures])


def resources_text(resources: Resources | None) -> str | None:
    return None if resources is None else dump_json([resources.cores, resources.ram, resources.gpus])


def resources_value(text: str | None) -> Resources | None:
    return None if text is None else Resources(*load_json(text))


@_translate_damage()
def run_value(row: sqlite3.Row) -> Run:
    """Convert a row of ``runs`` joined with the server, user and name of its job (RUN_COLUMNS)."""
    return Run(
        id=row["id"],
        key=JobKey(row["server"], row["user"], row["name"]),
        number=row["number"],
        profile=row["profile"],
        digest=row["digest"],
        kind=row["kind"],
        image=row["image"],
        content=load_json(row["content"]),
        limits=Limits(*load_json(row["limits"])),
        attempts=row["attempts"],
        keep=row["keep"],
        after=tuple(load_json(row["after"])),
        after_runs=load_json(row["after_runs"]),
        manifest=stored_path(row["manifest"]),
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
        observed=row["observed"],
        deleting=row["deleting"],
        total=row["total"],
        reason=row["reason"],
        directory=stored_path(row["directory"]),
        retry_ram=tuple(load_json(row["retry_ram"] or "[]")),
        shared=row["shared"],
    )


REPLICA_COLUMNS = (
    "run, number, name, request, items, each, state, reason, attempt, allowed, not_before, deleting, resources"
)


@_translate_damage()
def replica_value(row: sqlite3.Row) -> ReplicaRow:
    """Convert a row of REPLICA_COLUMNS, in their order."""
    run, number, name, request, items, each, state, reason, attempt, allowed, not_before, deleting, resources = row
    return ReplicaRow(
        run_id=run,
        number=number,
        name=name,
        request=request_value(request),
        items=tuple(load_json(items)),
        each=each_value(each),
        state=known_state(state),
        reason=reason,
        attempt=attempt,
        allowed=allowed,
        not_before=not_before,
        deleting=bool(deleting),
        override=resources_value(resources),
    )


ATTEMPT_COLUMNS = (
    "run, replica, number, name, state, reason, session, recorded, created, started, finished, observed, deadline, "
    "url, pending_since, missing_since, sends, "
    "ambiguous_sends, last_ambiguous_at, resolved_ambiguous, log, log_path, log_bytes, exit_code, "
    "last_line, finished_after, ending, excused, source, unrecorded, resources"
)


def attempt_value(row: sqlite3.Row) -> AttemptRow:
    """Convert a row of ATTEMPT_COLUMNS, in their order."""
    known_state(row[_ATTEMPT_STATE])
    if row[-1] is None:  # nearly always; a pass reads thousands of rows
        return AttemptRow(*row)
    values: list[Any] = list(row)
    values[-1] = resources_value(values[-1])
    return AttemptRow(*values)


_ATTEMPT_STATE = ATTEMPT_COLUMNS.split(", ").index("state")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one session used, as polls showed it.

    ``ram_peak`` is in GB as manifests count them (2**30 bytes), ``cpu_mean`` in cores; each is None if no poll showed a
    value. ``samples`` is the number of polls that showed either.
    """

    ram_peak: float | None
    cpu_mean: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Intent:
    """One create that is about to be sent: the attempt, its session name, and the number of the send."""

    run_id: int
    replica: int
    attempt: int
    name: str
    send: int

    @property
    def key(self) -> AttemptKey:
        return self.run_id, self.replica, self.attempt


class QueuedReason(StrEnum):
    """Reasons of Queued replicas on which decisions depend; all other reasons are text for people."""

    RETRY = "retry"  # a user requested another attempt


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A replica without its request and items: small enough for a driver to read thousands in each pass."""

    number: int
    name: str
    state: str
    reason: str | None
    attempt: int
    allowed: int
    not_before: float | None
    deleting: int
