"""The life of one replica: its phase, and what a driver does next. No I/O. All decisions for replicas are made here.

``observe`` turns evidence into changes, the recorder writes them, and ``plan`` says which creates fit the limits. From
the rows after that, ``advance`` derives the actions. They depend only on the ledger, so a driver that was killed at any
moment can be continued by another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum

from skahactl.engine.observe import Presence
from skahactl.engine.plan import CREATES, Step
from skahactl.ledger.records import DISCARD_LOGS, UNREAD, AttemptKey, AttemptRow, ReplicaState, Run
from skahactl.model import ALIVE, ENDED, OBSERVED, State

#: A session that still exists after this many DELETEs is reported as staying.
MAX_DELETES = 12


class Phase(StrEnum):
    """The phase of a replica, for a driver."""

    QUEUED = "queued"  # not created: a limit, `after`, a pause
    CREATING = "creating"  # a create request waits for its turn or is in flight
    UNCONFIRMED = "unconfirmed"  # the reply to a create was lost
    PENDING = "pending"
    RUNNING = "running"
    UNSEEN = "unseen"  # alive on record, but the last list lacks it; its id is being requested
    LOG_DUE = "log-due"  # it ended, and its log is still to be read
    LOG_READING = "log-reading"
    RETRY_AT = "retry-at"  # it failed, and its next attempt is due later
    DELETING = "deleting"
    UNDELETED = "undeleted"  # its session exists after the maximum number of DELETEs
    DONE = "done"


#: Phases that a single pass leaves to the platform or to a later pass.
RESTING = frozenset({Phase.QUEUED, Phase.PENDING, Phase.RUNNING, Phase.RETRY_AT, Phase.UNDELETED, Phase.DONE})
#: Phases that soon need another list or the reply to a request.
UNCERTAIN = frozenset({Phase.UNCONFIRMED, Phase.UNSEEN})


@dataclass(frozen=True, slots=True)
class Create:
    """Send a create for this replica."""

    replica: int


@dataclass(frozen=True, slots=True)
class AskSession:
    """Send ``GET /session/ID``, because the last list lacks the session."""

    session: str


@dataclass(frozen=True, slots=True)
class DeleteSession:
    """Send DELETE, then ask whether the session still exists."""

    session: str


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the log of this attempt and save it."""

    attempt: AttemptRow


@dataclass(frozen=True, slots=True)
class LoseLog:
    """Record that the log of this attempt can no longer be read: its session is gone."""

    attempt: AttemptRow


Action = Create | AskSession | DeleteSession | ReadLog | LoseLog


@dataclass(frozen=True, slots=True)
class Deletes:
    """The DELETEs of one session so far: how many were sent, and when the last one ended."""

    tries: int = 0
    last: float = float("-inf")


@dataclass(frozen=True, slots=True)
class ReplicaRun:
    """One replica: its rows in the ledger, and what only this process knows about it.

    ``presence``: of its session ids, by the latest evidence. ``duplicates``: listed sessions that a repeated create
      made.
    ``reading``: numbers of the attempts with a log that is being read, or was read and waits for confirmation.
    """

    run: Run
    row: ReplicaState
    attempts: tuple[AttemptRow, ...]
    presence: Mapping[str, Presence]
    duplicates: tuple[str, ...] = ()
    creating: bool = False
    reading: Set[int] = frozenset()
    deletes: Mapping[str, Deletes] = field(default_factory=dict)

    @property
    def deleting(self) -> bool:
        """Whether a delete of this replica was requested."""
        return bool(self.row.deleting or self.run.deleting)

    @property
    def discards_logs(self) -> bool:
        return DISCARD_LOGS in (self.row.deleting, self.run.deleting)

    def presence_of(self, attempt: AttemptRow) -> Presence:
        return self.presence.get(attempt.session or "", Presence.UNJUDGED)


@dataclass(frozen=True, slots=True)
class DriverRules:
    """What a driver may do.

    ``keep_until``: until this time, a log is saved before its session is deleted. ``unsaved``: attempts with a log that
    cannot be saved now, and with a session that is kept until it can be. ``repeat``: seconds between two DELETEs of a
    session. ``gives_up``: whether a session that exists after ``most_deletes`` DELETEs is left alone.
    """

    creates: bool = True
    keep_until: float = 0.0
    unsaved: Set[AttemptKey] = frozenset()
    repeat: float = 5.0
    gives_up: bool = False
    most_deletes: int = MAX_DELETES


def advance(replica: ReplicaRun, step: Step | None, now: float, rules: DriverRules) -> tuple[Phase, tuple[Action, ...]]:
    """Return the phase of a replica, and the actions for it now.

    ``step``: its step in the plan of the run; None if the plan has none.
    """
    to_delete = tuple(_to_be_deleted(replica))
    logs = tuple(_log_actions(replica, to_delete, now, rules))
    creates = _creates(replica, step, rules, logs)
    deletes = tuple(_deletes(replica, to_delete, creates, now, rules))
    asks = tuple(_asks(replica, deletes))
    return _phase(replica, to_delete, creates, logs, rules), (*logs, *asks, *deletes, *creates)


def _to_be_deleted(replica: ReplicaRun) -> Iterator[AttemptRow]:
    """Yield the attempts with a session that has to be deleted and is not known to be gone."""
    for attempt in replica.attempts:
        presence = replica.presence_of(attempt)
        if attempt.session is None or presence is Presence.ABSENT:
            continue
        if attempt.state in ALIVE:
            if replica.deleting or attempt.ending is not None:
                yield attempt
        elif attempt.state == State.DELETED:
            if presence is Presence.PRESENT:
                yield attempt
        elif replica.deleting and (attempt.state == State.UNKNOWN or presence is Presence.PRESENT):
            yield attempt


def _log_actions(
    replica: ReplicaRun, to_delete: tuple[AttemptRow, ...], now: float, rules: DriverRules
) -> Iterator[Action]:
    for attempt in replica.attempts:
        if attempt.number in replica.reading or attempt.session is None:
            continue
        presence = replica.presence_of(attempt)
        if attempt.state in OBSERVED and attempt.log in UNREAD:
            if presence is Presence.ABSENT:
                yield LoseLog(attempt)
            elif presence is Presence.PRESENT and (
                attempt not in to_delete or _is_kept_first(replica, attempt, now, rules)
            ):
                yield ReadLog(attempt)
        elif attempt in to_delete and presence is Presence.PRESENT and _is_kept_first(replica, attempt, now, rules):
            yield ReadLog(attempt)


def _is_kept_first(replica: ReplicaRun, attempt: AttemptRow, now: float, rules: DriverRules) -> bool:
    """Return whether the log of a session that has to be deleted is saved before the DELETE."""
    if replica.discards_logs or (now >= rules.keep_until and attempt.key not in rules.unsaved):
        return False
    if attempt.state in OBSERVED:
        return attempt.log in UNREAD
    return attempt.state == State.RUNNING and attempt.log == "none"


def _creates(
    replica: ReplicaRun, step: Step | None, rules: DriverRules, logs: tuple[Action, ...]
) -> tuple[Create, ...]:
    """Return the create if the plan has one, once the logs of earlier attempts are saved or known to be lost."""
    if step is None or step.action not in CREATES or not rules.creates or replica.deleting or replica.creating:
        return ()
    unsure = any(a.state in OBSERVED and a.log in UNREAD and a.session is not None for a in replica.attempts)
    return () if logs or unsure or replica.reading else (Create(replica.row.number),)


def _deletes(
    replica: ReplicaRun, to_delete: tuple[AttemptRow, ...], creates: tuple[Create, ...], now: float, rules: DriverRules
) -> Iterator[DeleteSession]:
    """Yield the DELETEs that are due: of sessions that have to end, of duplicates, and of ended attempts before the
    next create.

    A session that has to end waits while its log can still be saved first.
    """
    due = [a.session for a in to_delete if not (_is_kept_first(replica, a, now, rules) and _is_readable(replica, a))]
    due += replica.duplicates
    if creates:
        due += [a.session for a in replica.attempts if a.state in ENDED and replica.presence_of(a) is Presence.PRESENT]
    for session in dict.fromkeys(session for session in due if session is not None):
        sent = replica.deletes.get(session, Deletes())
        if now - sent.last >= rules.repeat and not (rules.gives_up and sent.tries >= rules.most_deletes):
            yield DeleteSession(session)


def _is_readable(replica: ReplicaRun, attempt: AttemptRow) -> bool:
    return replica.presence_of(attempt) is Presence.PRESENT


def _asks(replica: ReplicaRun, deletes: tuple[DeleteSession, ...]) -> Iterator[AskSession]:
    """Yield requests for ids that the last list lacks, if it matters whether the session exists.

    A session with a DELETE is not asked for, because the DELETE is followed by such a request.
    """
    asked = {one.session for one in deletes}
    for attempt in replica.attempts:
        if attempt.session is None or attempt.session in asked or replica.presence_of(attempt) is not Presence.UNSEEN:
            continue
        unread = attempt.state in OBSERVED and attempt.log in UNREAD
        if attempt.state in ALIVE or unread or attempt.number in replica.reading:
            yield AskSession(attempt.session)


_RESTING_STATES: dict[str, Phase] = {
    State.PENDING: Phase.PENDING,
    State.RUNNING: Phase.RUNNING,
    State.QUEUED: Phase.QUEUED,
}


def _phase(
    replica: ReplicaRun,
    to_delete: tuple[AttemptRow, ...],
    creates: tuple[Create, ...],
    logs: tuple[Action, ...],
    rules: DriverRules,
) -> Phase:
    state = replica.row.state
    if to_delete:
        return Phase.UNDELETED if _is_hopeless(replica, to_delete, rules) else Phase.DELETING
    if replica.creating or creates:
        return Phase.DELETING if replica.deleting else Phase.CREATING
    if state == State.UNCONFIRMED:
        return Phase.DELETING if replica.deleting else Phase.UNCONFIRMED
    if any(a.state in ALIVE and replica.presence_of(a) is Presence.UNSEEN for a in replica.attempts):
        return Phase.UNSEEN
    if replica.reading:
        return Phase.LOG_READING
    if logs or any(a.state in OBSERVED and a.log in UNREAD and a.session for a in replica.attempts):
        return Phase.LOG_DUE
    if state == State.FAILED and replica.row.attempt < replica.row.allowed and not replica.deleting:
        return Phase.RETRY_AT
    return _RESTING_STATES.get(state, Phase.DONE)


def _is_hopeless(replica: ReplicaRun, to_delete: tuple[AttemptRow, ...], rules: DriverRules) -> bool:
    if not rules.gives_up:
        return False
    return all(replica.deletes.get(a.session or "", Deletes()).tries >= rules.most_deletes for a in to_delete)
