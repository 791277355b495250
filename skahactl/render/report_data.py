"""The data of a report page, as plain values. Times are epoch seconds, durations seconds; None is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReportAttempt:
    """One attempt at running a replica."""

    replica: int
    number: int
    state: str
    items: str  # the items of the replica in a few words, "" if it has none
    created: float  # the create was recorded
    started: float | None  # the server's startTime
    finished: float | None  # None while it may still run
    finished_after: float | None = None  # the earliest possible end, where the end itself was noticed later
    exit_code: int | None = None
    last_line: str | None = None  # the last line of its log, or why it ended


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """The end of the log of one failed attempt."""

    replica: int
    attempt: int
    items: str
    exit_code: int | None
    lines: tuple[str, ...]  # the last lines, oldest first; empty if there is no log
    log: str | None  # where the log is stored; without lines: why there is none


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Replicas that failed alike."""

    state: str  # Failed, Rejected, Unknown or Skipped
    reason: str
    replicas: tuple[int, ...]
    examples: tuple[FailedAttempt, ...]


@dataclass(frozen=True, slots=True)
class TimedItem:
    """How long one item took, or one replica with all its items."""

    label: str
    replica: int
    attempt: int
    state: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ReportUsage:
    """One quantity that the platform measured, of every replica that it measured.

    ``requested`` is None for flexible sessions. ``samples`` counts the polls that reported a value.
    """

    quantity: str  # memory | cpu
    unit: str  # GB | cores
    values: tuple[float, ...]  # memory: the peak of each replica; cpu: the mean of each replica
    requested: float | None
    samples: int
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class ReportJob:
    """One run of a job with everything that its section shows."""

    name: str
    run: int
    profile: str
    server: str  # host name
    user: str
    image: str
    resources: str  # "2 cores, 4 GB"
    status: str
    reason: str | None
    counts: Mapping[str, int]  # replicas by state
    items: Mapping[str, int]  # total, completed, failed; total 0 if the job has none
    created: float
    ended: float | None
    observed: float | None  # the last poll
    cores: float | None  # of each replica, where all request the same
    alive_limit: int | None
    after: tuple[str, ...]  # jobs that it waits for
    attempts: tuple[ReportAttempt, ...]  # by replica and number
    failures: tuple[FailureGroup, ...]  # the largest group first
    timed: tuple[TimedItem, ...]  # every one that ended
    timed_noun: str  # item | replica
    usage: tuple[ReportUsage, ...]
    manifest: str  # TOML
    is_stopped: bool = False  # by [limits] failures: nothing more is created
    commands: tuple[tuple[str, str], ...] = ()  # what to run next: (purpose, command)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page."""

    jobs: tuple[ReportJob, ...]  # in the order in which they ran
    generated: float
    version: str  # of skahactl
