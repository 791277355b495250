"""Select the logs that a command names, and where each can be read; from the ledger only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from skahactl.errors import UsageError
from skahactl.ledger.attempts import attempts_of
from skahactl.ledger.records import ReplicaState
from skahactl.ledger.replicas import items_of, replica_states, replicas_of
from skahactl.model import ENDED, State
from skahactl.spelling import did_you_mean
from skahactl.text import count_noun, suggest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, ItemRow, Run
    from skahactl.targets import Target

_WHOLE = (
    "kept",
    "cut",
    "perhaps cut",
    "limited",
)  # values of ``AttemptRow.log``: the platform has no more text than the saved copy
#: Values of ``AttemptRow.log``: the shared record has more text than this machine and the platform.
_BETTER_SHARED = ("shared", "lost", "incomplete", "cut", "perhaps cut", "limited", "pruned")


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """The log of one attempt, according to the ledger.

    ``whole`` is a copy on this machine that no other source can extend, ``partial`` a copy that may lack the end.
    ``state`` is the state of the attempt, or of the replica if it has no attempt yet; it is "" for a session that the
    ledger does not know.
    """

    key: tuple[int, int, int]  # number of its target, replica, attempt
    label: str
    session: str | None
    state: str
    reason: str | None = None
    whole: Path | None = None
    partial: Path | None = None
    pruned: bool = False  # there was a copy
    unwanted: bool = False  # [logs] keep excludes it
    never_started: bool = False  # there is no log
    shared: str | None = None  # its path in the shared record, as the replicas see it
    prefers_shared: bool = False  # the server's log is gone, truncated or rotated

    @property
    def remote(self) -> str | None:
        """Where to read the log if there is no whole copy: a session id, or a path in the shared record."""
        return self.shared if self.prefers_shared or self.session is None else self.session

    @property
    def kept(self) -> Path | None:
        return self.whole or self.partial


@dataclass(frozen=True, slots=True)
class Choice:
    """What was requested in addition to the target.

    ``attempt`` is None for the latest, 0 for all. ``failed_sessions`` are Failed according to the platform, which the
    ledger may not have recorded yet.
    """

    failed: bool = False
    attempt: int | None = None
    item: str | None = None
    failed_sessions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """The location of an item: its replica, its position there, and the position of the last mark before it begins."""

    replica: int
    attempt: int | None
    position: int
    after: int
    marked: bool  # its log has marks; without marks, the whole log of the replica is shown


def logs_of(ledger: Ledger, target: Target, place: int, choice: Choice) -> tuple[AttemptLog, ...]:
    """Return the logs of ``target`` by replica and attempt; ``place`` is its position among the targets."""
    if target.run is None:
        return (AttemptLog((place, 0, 0), target.word, target.session, ""),)
    run = target.run
    (only,) = target.numbers if target.numbers is not None and len(target.numbers) == 1 else (None,)
    rows: dict[int, list[AttemptRow]] = {}
    for row in attempts_of(ledger, run.id, only):
        rows.setdefault(row.replica, []).append(row)
    found: list[AttemptLog] = []
    for replica in replica_states(ledger, run.id, only):
        if target.numbers is not None and replica.number not in target.numbers:
            continue
        own = rows.get(replica.number, [])
        if choice.failed and not _has_failed(replica, own, choice.failed_sessions):
            continue
        found += _of_replica(run, replica, own, target, place, choice)
    return tuple(found)


def part_of(ledger: Ledger, run: Run, item: str, numbers: Collection[int] | None) -> Part:
    """Find an item by its text, or by its number in ``get items``. Raise UsageError if it does not exist."""
    items = [row for row in items_of(ledger, run.id) if numbers is None or row.replica in numbers]
    if not items:
        raise UsageError(f"{run.key.name} has no items")
    found = [row for row in items if row.item == item]
    if not found and item.isdecimal() and 0 < int(item) <= len(items):
        found = [items[int(item) - 1]]
    if not found:
        hint = did_you_mean(item, (row.item for row in items)) or f"see {suggest('get', 'items', run.key.name)}"
        raise UsageError(f"{run.key.name} has no item '{item}'", hint=hint)
    own = found[0]
    replica = replicas_of(ledger, run.id, (own.replica,))[0]
    siblings = [row for row in items if row.replica == own.replica]
    latest = replica.attempt or None
    attempt = own.attempt if own.exit_code is not None else latest
    return Part(own.replica, attempt, own.position, _before(siblings, own, attempt), replica.each is not None)


def _before(siblings: Iterable[ItemRow], own: ItemRow, attempt: int | None) -> int:
    """Return the position of the item that ran before ``own`` in ``attempt``; 0 if ``own`` ran first.

    Items that an earlier attempt completed did not run.
    """
    ran = [
        row.position
        for row in siblings
        if row.position < own.position
        and not (row.state == State.COMPLETED and row.attempt is not None and row.attempt < (attempt or 1))
    ]
    return max(ran, default=0)


def _of_replica(
    run: Run, replica: ReplicaState, rows: list[AttemptRow], target: Target, place: int, choice: Choice
) -> list[AttemptLog]:
    full = f"{run.key.name}/{replica.number}"
    name = run.key.name if run.total == 1 else full
    if target.session is not None:
        rows = [row for row in rows if target.session in (row.session, row.name)]
    elif choice.attempt == 0:
        rows = [row for row in rows if _readable(row)] or rows[-1:]
    elif choice.attempt is not None:
        rows = [row for row in rows if row.number == choice.attempt]
    else:
        rows = [row for row in rows if _readable(row)][-1:] or rows[-1:]
    if not rows and not choice.attempt:
        return [AttemptLog((place, replica.number, 0), name, None, replica.state, replica.reason)]
    return [_of_attempt(run, row, name if choice.attempt is None else f"{full}.{row.number}", place) for row in rows]


def _has_failed(replica: ReplicaState, rows: list[AttemptRow], sessions: frozenset[str]) -> bool:
    return replica.state == State.FAILED or any(row.session in sessions for row in rows[-1:])


def _readable(row: AttemptRow) -> bool:
    return row.session is not None or row.log_path is not None or row.log == "shared"


def _of_attempt(run: Run, row: AttemptRow, label: str, place: int) -> AttemptLog:
    shared = None
    if run.shared is not None:
        from skahactl.manifest.shared_record import RecordDirectory

        shared = RecordDirectory(run.shared).log(row.replica, row.number)
    path = Path(row.log_path) if row.log_path is not None and Path(row.log_path).exists() else None
    had_none = row.log_bytes == 0 and (row.log == "kept" or row.state == State.DELETED)
    if had_none:
        path = Path(os.devnull)  # there was nothing to save
    prefers_shared = shared is not None and row.state in ENDED and row.log in _BETTER_SHARED
    whole = path is not None and row.state in ENDED and (had_none or row.log in _WHOLE) and not prefers_shared
    return AttemptLog(
        (place, row.replica, row.number),
        label,
        row.session,
        row.state,
        row.reason,
        whole=path if whole else None,
        partial=None if whole else path,
        pruned=row.log == "pruned",
        unwanted=row.log_path is None and (row.log == "unwanted" or bool(row.log_bytes)),  # or only marks were read
        never_started=row.never_started,
        shared=shared,
        prefers_shared=prefers_shared,
    )


_NAMED = 5


class Empty(StrEnum):
    """Why a log has no text."""

    NOT_CREATED = "not created yet"
    NO_SESSION = "no session"
    NO_OUTPUT = "the log is empty"
    NOT_ASKED = "no text"
    LOST = "log not available: the server has discarded it, and no copy was saved"
    DELETED = "log not available: the session was deleted, and no copy was saved"
    UNWANTED = "log not available: [logs] keep of this run excludes it"
    PRUNED = "log not available: the server has discarded it, and the saved copy was pruned"
    NEVER_STARTED = "no log, because the session never started"
    PENDING = "Pending, no log yet"
    NO_OUTPUT_YET = "nothing written yet"


_GONE = (Empty.LOST, Empty.DELETED, Empty.UNWANTED, Empty.PRUNED, Empty.NEVER_STARTED)


def emptiness(log: AttemptLog, statuses: Mapping[str, str] | None) -> Empty:
    """Return why a log has no text.

    ``statuses`` are the statuses of the listed sessions by id; None if the platform was not polled.
    """
    if log.session is None and log.prefers_shared:
        return Empty.LOST
    if log.session is None:
        not_yet = (State.QUEUED, State.CREATING, State.UNCONFIRMED)
        return Empty.NOT_CREATED if log.state in not_yet else Empty.NO_SESSION
    if log.whole is not None:
        return Empty.NO_OUTPUT
    if statuses is None:
        return Empty.NOT_ASKED
    status = statuses.get(log.session)
    if status is None and log.state in (State.PENDING, State.RUNNING):
        status = log.state  # a list that lacks the session proves nothing
    if status is None:
        return _absence(log)
    if status == "Pending":
        return Empty.PENDING
    return Empty.NO_OUTPUT if status in ("Completed", "Failed") else Empty.NO_OUTPUT_YET


def _absence(log: AttemptLog) -> Empty:
    """Return why neither the server nor this machine has the log."""
    reasons = (
        (log.never_started, Empty.NEVER_STARTED),
        (log.pruned, Empty.PRUNED),
        (log.unwanted, Empty.UNWANTED),
        (log.state == State.DELETED, Empty.DELETED),
    )
    return next((reason for applies, reason in reasons if applies), Empty.LOST)


def why_empty(log: AttemptLog, statuses: Mapping[str, str] | None) -> str:
    """Describe ``emptiness`` in words; add the reason of a replica without a session, or that never started."""
    why = emptiness(log, statuses)
    reason = f": {log.reason}" if log.reason and (log.session is None or why is Empty.NEVER_STARTED) else ""
    if why is Empty.NO_SESSION:
        return f"{log.state}, {why}{reason}"
    if why is Empty.NO_OUTPUT_YET and statuses is not None and log.session is not None:
        return f"{statuses.get(log.session, log.state)}, {why}"
    return f"{why}{reason}"


def is_lost(log: AttemptLog, statuses: Mapping[str, str] | None) -> bool:
    """Return whether the log does not exist and never will."""
    return emptiness(log, statuses) in _GONE


def is_awaited(log: AttemptLog, statuses: Mapping[str, str] | None) -> bool:
    """Return whether there may be text later."""
    return emptiness(log, statuses) in (Empty.NOT_CREATED, Empty.PENDING, Empty.NO_OUTPUT_YET)


def describe_log(reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Return one line per reason, from (label, reason) pairs. With more than five labels, name the first three."""
    by_reason: dict[str, list[str]] = {}
    for label, reason in reasons:
        by_reason.setdefault(reason, []).append(label)
    return [_line(labels, reason) for reason, labels in by_reason.items()]


def _line(labels: list[str], reason: str) -> str:
    if len(labels) <= _NAMED:
        return f"{', '.join(labels)}: {reason}"
    return f"{count_noun(len(labels), 'log')} ({', '.join(labels[:3])}, ...): {reason}"
