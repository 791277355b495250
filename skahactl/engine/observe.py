"""What a list of sessions says about a run: pure, no I/O.

The rules are those of "one session per replica": a session is ours by its id, or by its whole name where this ledger
holds a create in doubt of exactly that name; nothing is counted, adopted or deleted by less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.model import ALIVE, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    from skahactl.ledger.records import AttemptRow, Run
    from skahactl.ledger.replicas import ReplicaState
    from skahactl.skaha.models import Listing, ServerSession

#: Two lists that do not show a session must be this far apart, in seconds, before it counts as gone.
AGREEMENT = 10.0
#: Why an attempt is Unknown.
UNSEEN = "the platform no longer knows the session, and nobody saw how it ended"
#: Reasons that begin so mark an attempt that is deleted because it waited too long.
PENDING_TIMEOUT = "pending-timeout"


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run as the ledger holds it at the start of a look."""

    run: Run
    replicas: tuple[ReplicaState, ...]
    attempts: tuple[AttemptRow, ...]

    def latest(self) -> dict[int, AttemptRow]:
        """The newest attempt of every replica that has one."""
        return {attempt.replica: attempt for attempt in self.attempts}


@dataclass(frozen=True, slots=True)
class Seen:
    """The attempt's session is listed; ``state`` is what that means."""

    attempt: AttemptRow
    session: ServerSession
    state: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """A create in doubt did make a session: this one."""

    attempt: AttemptRow
    session: ServerSession
    state: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A second session of a create in doubt, to be deleted."""

    attempt: AttemptRow
    session: ServerSession


@dataclass(frozen=True, slots=True)
class Missing:
    """Not listed, for the first time."""

    attempt: AttemptRow


@dataclass(frozen=True, slots=True)
class Gone:
    """Not listed any more: ``state`` is Unknown, Deleted, or Failed."""

    attempt: AttemptRow
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A session with one of our names that this ledger never made: reported, left alone."""

    replica: int
    session: ServerSession


Change = Seen | Adopt | Duplicate | Missing | Gone | Unrecognised


def observe(watch: RunSnapshot, listing: Listing, known: Set[str], in_flight: frozenset[int]) -> tuple[Change, ...]:
    """The changes that ``listing`` makes to a run.

    ``known``: every session id this ledger holds, duplicates included. ``in_flight``: replicas with a create on its way
    at any moment of the list call; unknown sessions of theirs are not judged.
    """
    by_id = {session.id: session for session in listing.sessions}
    return (
        *_of_known(watch, listing, by_id),
        *_of_unknown(watch, listing, known, in_flight),
    )


def _of_known(watch: RunSnapshot, listing: Listing, by_id: Mapping[str, ServerSession]) -> Iterator[Change]:
    deleting = {replica.number for replica in watch.replicas if replica.deleting or watch.run.deleting}
    for attempt in watch.attempts:
        if attempt.session is None:
            continue
        session = by_id.get(attempt.session)
        if session is not None:
            yield Seen(attempt, session, state_of(session, attempt.state))
        elif attempt.state in ALIVE and listing.requested > (attempt.recorded or 0.0):
            yield _absent(attempt, listing, attempt.replica in deleting)


def _absent(attempt: AttemptRow, listing: Listing, deleting: bool) -> Change:
    if deleting:
        return Gone(attempt, State.DELETED, "deleted")
    if attempt.reason is not None and attempt.reason.startswith(PENDING_TIMEOUT):
        return Gone(attempt, State.FAILED, attempt.reason)
    if attempt.missing_since is None:
        return Missing(attempt)
    if listing.requested - attempt.missing_since < AGREEMENT:
        return Missing(attempt)
    return Gone(attempt, State.UNKNOWN, UNSEEN)


def state_of(session: ServerSession, before: str) -> str:
    """The replica state that a listed session means. Only Completed and Failed are ends, and they stay; Terminating
    is no end (skaha-api 4.2)."""
    if before in (State.COMPLETED, State.FAILED):
        return before
    if session.status in (State.COMPLETED, State.FAILED, State.RUNNING, State.PENDING):
        return session.status
    return before if before in (State.PENDING, State.RUNNING) else State.PENDING


def _of_unknown(watch: RunSnapshot, listing: Listing, known: Set[str], in_flight: frozenset[int]) -> Iterator[Change]:
    by_name: dict[str, list[ServerSession]] = {}
    for session in listing.sessions:
        if session.id not in known:
            by_name.setdefault(session.name, []).append(session)
    if not by_name:
        return
    tried = {attempt.name for attempt in watch.attempts}
    current = {replica.number: replica.attempt for replica in watch.replicas}
    for attempt in watch.attempts:
        if attempt.name in by_name and attempt.replica not in in_flight:
            yield from _attribute(attempt, by_name[attempt.name], current[attempt.replica] == attempt.number)
    for replica in watch.replicas:
        if replica.name in by_name and replica.name not in tried and replica.number not in in_flight:
            yield from (Unrecognised(replica.number, session) for session in by_name[replica.name])


def _attribute(attempt: AttemptRow, sessions: list[ServerSession], is_latest: bool) -> Iterator[Change]:
    """Unknown sessions of exactly this attempt's name: as many as there are unanswered doubts are ours."""
    open_doubts = attempt.ambiguous_sends - attempt.resolved_ambiguous
    ranked = sorted(sessions, key=_preference)
    for place, session in enumerate(ranked):
        if place >= open_doubts:
            yield Unrecognised(attempt.replica, session)
        elif place == 0 and attempt.session is None and is_latest:
            yield Adopt(attempt, session, state_of(session, State.UNCONFIRMED))
        else:
            yield Duplicate(attempt, session)


def _preference(session: ServerSession) -> tuple[int, float, str]:
    """Of duplicates the one that got furthest is kept."""
    order: dict[str, int] = {State.COMPLETED: 0, State.RUNNING: 1, State.PENDING: 2}
    return order.get(session.status, 3), session.started or float("inf"), session.id
