"""What the ledger holds, as values. Times are epoch seconds, wall clock; None is unknown."""

from __future__ import annotations

from dataclasses import dataclass, field

from skahactl.job import Each, Limits, Request


@dataclass(frozen=True, slots=True)
class JobKey:
    """A job is known by server, user and name. ``user`` is "" until the server has said who we are."""

    server: str
    user: str
    name: str


@dataclass(frozen=True, slots=True)
class Driver:
    """Who drives a job now."""

    host: str
    boot: str
    pid: int
    since: float


@dataclass(frozen=True, slots=True)
class Run:
    """One generation of a job."""

    id: int
    key: JobKey
    number: int  # 1, 2, 3, ...
    profile: str  # name of the profile, or the path it was given by
    digest: str
    kind: str
    image: str
    content: dict[str, object]
    limits: Limits
    attempts: int  # [retry] attempts
    keep: str  # [logs] keep
    after: tuple[str, ...]
    after_runs: dict[str, int]  # the runs of those jobs that this run waited for
    manifest: str | None
    created: float
    started: float | None  # first create
    ended: float | None  # when the last replica was seen ended; None while any may go on
    observed: float | None  # the last list that this run was compared with
    deleting: bool  # a delete of the whole run was asked for; no intent is recorded any more
    total: int  # replicas
    reason: str | None = None  # why held or skipped, as a whole
    directory: str | None = None  # where the command that made it stood; the local platform runs there


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """One replica of a run: what it is, and what became of it so far."""

    run_id: int
    number: int
    name: str  # whole session name without attempt suffix
    request: Request
    items: tuple[str, ...]
    each: Each | None
    state: str
    reason: str | None
    attempt: int  # number of its latest attempt, 0: none yet
    allowed: int  # attempts it may have; raised by retry
    not_before: float | None  # backoff: not created again before this
    deleting: bool  # a delete of this replica was asked for


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt at running a replica; its session, if one is known."""

    run_id: int
    replica: int
    number: int
    name: str  # whole session name, attempt suffix included
    state: str
    reason: str | None
    session: str | None  # the platform's id
    recorded: float | None  # when the id was written here
    created: float  # first intent
    started: float | None  # the server's startTime
    finished: float | None  # when the end was first seen
    observed: float | None  # last seen in a list, or looked for
    deadline: float | None  # the server's expiryTime
    url: str | None
    pending_since: float | None
    missing_since: float | None  # first list that did not show it
    sends: int  # creates sent
    doubts: int  # of these, ambiguous ones (those whose end is unknown included)
    doubt_ended: float | None  # when the last ambiguous one ended
    twins: int  # ambiguous creates that are accounted for: sessions adopted, or deleted as twins
    log: str  # none | kept | unwanted | lost | incomplete | cut | perhaps cut | pruned
    log_path: str | None  # absolute
    log_bytes: int | None
    exit_code: int | None = None  # never told by the server; by `mark` or an item marker only


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item of a run and how it ended (``each = true``: read from the log's markers)."""

    run_id: int
    replica: int
    position: int  # from 1 in the replica
    item: str
    state: str  # a replica state; Completed or Failed once its own end is known
    attempt: int | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """An event in a run's history that a person may want to know of."""

    run_id: int
    at: float
    replica: int | None
    text: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run with what a table of jobs shows, read with a constant number of queries for any number of runs."""

    run: Run
    counts: dict[str, int]  # by state, zero-filled
    status: str  # states.job_status
    retriable: int
    items: dict[str, int] = field(default_factory=dict)  # total, completed, failed
    driver: Driver | None = None
