"""Derive changes of a run from evidence. No I/O.

A session is attributed by the rules of "one session per replica": it is ours by its id, or by its session name if this
ledger holds an ambiguous create of exactly that name. Otherwise it is never counted, adopted or deleted.

A single list proves nothing about a session that it lacks: it may be empty, stale or incomplete. A request for the id
is proof: ``GET /session/ID`` answers 404 for a session that does not exist (skaha-api 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from skahactl.ledger.records import AttemptRow, Ending, ReplicaState, Run
from skahactl.model import ALIVE, ENDED, State, base_session_name

if TYPE_CHECKING:
    from skahactl.skaha.models import Listing, ServerSession

#: Two lists that lack a session must be this far apart, in seconds, before it counts as gone.
AGREEMENT = 10.0
#: If more sessions than this number, or than this share of them, vanish at once, two lists do not suffice either.
FEW, SHARE = 5, 0.2
#: An id that was recorded more than this many seconds after the list was received: the clock was set back since.
LATE = 300.0


class Presence(Enum):
    """What the evidence says about one session id."""

    PRESENT = auto()  # the list or the reply to its id contains it
    ABSENT = auto()  # the reply to its id is 404, and the list lacks it
    UNSEEN = auto()  # the list lacks it
    UNJUDGED = auto()  # the id was recorded after the list was requested


@dataclass(frozen=True, slots=True)
class Evidence:
    """A list of sessions, and ``answers``: the reply to ``GET /session/ID`` by id; None for 404."""

    listing: Listing
    answers: Mapping[str, ServerSession | None] = field(default_factory=dict)
    by_id: Mapping[str, ServerSession] = field(init=False)

    def __post_init__(self) -> None:
        found = {id: session for id, session in self.answers.items() if session is not None}
        found.update((session.id, session) for session in self.listing.sessions)
        object.__setattr__(self, "by_id", found)

    def presence(self, session: str, recorded: float | None) -> Presence:
        """Return what the evidence says about a session. ``recorded``: when the ledger learned its id."""
        if session in self.by_id:
            return Presence.PRESENT
        if session in self.answers:
            return Presence.ABSENT
        if self.listing.requested <= (recorded or 0.0) <= self.listing.received + LATE:
            return Presence.UNJUDGED
        return Presence.UNSEEN

    def of(self, attempts: Iterable[AttemptRow]) -> dict[str, Presence]:
        """Return the presence of every session of these attempts."""
        return {a.session: self.presence(a.session, a.recorded) for a in attempts if a.session is not None}


def is_mass(missing: int, expected: int) -> bool:
    """Return whether so many of the expected sessions are missing that the list itself counts as unreliable."""
    return missing > FEW or missing > SHARE * expected


#: Why an attempt is Unknown.
UNSEEN = "the replica finished unobserved, and the server has discarded its result"


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run as the ledger holds it at one moment."""

    run: Run
    replicas: tuple[ReplicaState, ...]
    attempts: tuple[AttemptRow, ...]

    def latest(self) -> dict[int, AttemptRow]:
        """Return the current attempt of every replica that has one. It determines the state of the replica."""
        current = {replica.number: replica.attempt for replica in self.replicas}
        return {one.replica: one for one in self.attempts if current.get(one.replica) == one.number}

    def by_replica(self) -> dict[int, tuple[AttemptRow, ...]]:
        """Return every attempt, by replica."""
        found: dict[int, list[AttemptRow]] = {}
        for attempt in self.attempts:
            found.setdefault(attempt.replica, []).append(attempt)
        return {number: tuple(rows) for number, rows in found.items()}


@dataclass(frozen=True, slots=True)
class Seen:
    """The session of the attempt exists; ``state`` is the state that it gives the attempt."""

    attempt: AttemptRow
    session: ServerSession
    state: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """An ambiguous create made this session."""

    attempt: AttemptRow
    session: ServerSession
    state: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Another session of an ambiguous create, which has to be deleted."""

    attempt: AttemptRow
    session: ServerSession


@dataclass(frozen=True, slots=True)
class Missing:
    """The list lacks the session, which proves nothing yet."""

    attempt: AttemptRow


@dataclass(frozen=True, slots=True)
class Gone:
    """The session no longer exists; ``state`` is Unknown, Deleted, or Failed."""

    attempt: AttemptRow
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A session with one of our names that this ledger did not create: it is reported and left untouched."""

    replica: int
    session: ServerSession


Change = Seen | Adopt | Duplicate | Missing | Gone | Unrecognised


def observe(
    snapshot: RunSnapshot, evidence: Evidence, known: Set[str], in_flight: frozenset[int]
) -> tuple[Change, ...]:
    """Return the changes that ``evidence`` makes to a run.

    ``known``: the listed session ids that this ledger knows, with those of duplicates. ``in_flight``: replicas with a
    create in flight at any moment of the list call; their unknown sessions are not judged.
    """
    return (*_of_known(snapshot, evidence), *_of_unknown(snapshot, evidence, known, in_flight))


def _of_known(snapshot: RunSnapshot, evidence: Evidence) -> Iterator[Change]:
    deleting = {replica.number for replica in snapshot.replicas if replica.deleting or snapshot.run.deleting}
    alive, lacking = 0, []
    for attempt in snapshot.attempts:
        if attempt.session is None:
            continue
        session = evidence.by_id.get(attempt.session)
        alive += attempt.state in ALIVE
        if session is not None:
            yield Seen(attempt, session, state_of(session, attempt.state))
        elif attempt.state in ALIVE:
            lacking.append(attempt)
    few = not is_mass(len(lacking), alive)
    for attempt in lacking:
        presence = evidence.presence(attempt.session or "", attempt.recorded)
        if presence is Presence.ABSENT or (presence is Presence.UNSEEN and few and _is_agreed(attempt, evidence)):
            yield _gone(attempt, attempt.replica in deleting)
        elif presence is Presence.UNSEEN:
            yield Missing(attempt)


def _is_agreed(attempt: AttemptRow, evidence: Evidence) -> bool:
    """Return whether an earlier list lacked the session too, at least AGREEMENT seconds before this one."""
    return attempt.missing_since is not None and evidence.listing.requested - attempt.missing_since >= AGREEMENT


def _gone(attempt: AttemptRow, deleting: bool) -> Gone:
    if deleting:
        return Gone(attempt, State.DELETED, "deleted")
    if attempt.ending == Ending.PENDING_TIMEOUT:
        return Gone(attempt, State.FAILED, attempt.reason or "Pending for too long")
    if attempt.ending == Ending.SUPERSEDED:
        return Gone(attempt, State.DELETED, "deleted: another attempt of its replica was alive")
    return Gone(attempt, State.UNKNOWN, UNSEEN)


#: Results that no later list changes. Unknown is changed if the session is seen again.
FINAL = ENDED - {State.UNKNOWN}


def state_of(session: ServerSession, before: str) -> str:
    """Return the state of an attempt with this session; ``before`` is its recorded state.

    Only Completed and Failed are ends; Terminating is not (skaha-api 4.2). A recorded result does not change.
    """
    if before in FINAL:
        return before
    if session.status in (State.COMPLETED, State.FAILED, State.RUNNING, State.PENDING):
        return session.status
    return before if before in (State.PENDING, State.RUNNING) else State.PENDING


def _of_unknown(
    snapshot: RunSnapshot, evidence: Evidence, known: Set[str], in_flight: frozenset[int]
) -> Iterator[Change]:
    by_name: dict[str, list[ServerSession]] = {}
    for session in evidence.by_id.values():
        if session.id not in known:
            by_name.setdefault(session.name, []).append(session)
    if not by_name:
        return
    tried = {attempt.name: attempt for attempt in snapshot.attempts}
    named = {replica.name: replica.number for replica in snapshot.replicas}
    current = {replica.number: replica.attempt for replica in snapshot.replicas}
    for name, sessions in by_name.items():
        attempt = tried.get(name)
        number = attempt.replica if attempt is not None else named.get(name) or named.get(base_session_name(name))
        if number is None or number in in_flight:
            continue
        if attempt is None:
            yield from (Unrecognised(number, session) for session in sessions)
        else:
            yield from _attributed(attempt, sessions, current[number] == attempt.number)


def _attributed(attempt: AttemptRow, sessions: list[ServerSession], is_current: bool) -> Iterator[Change]:
    """Yield the changes for unknown sessions with exactly the name of this attempt.

    As many of them are ours as there are unresolved ambiguous creates; the others are unrecognised.
    """
    unresolved = attempt.ambiguous_sends - attempt.resolved_ambiguous
    for place, session in enumerate(sorted(sessions, key=preference)):
        if place >= unresolved:
            yield Unrecognised(attempt.replica, session)
        elif place == 0 and attempt.session is None and is_current and attempt.state not in FINAL:
            yield Adopt(attempt, session, state_of(session, State.UNCONFIRMED))
        else:
            yield Duplicate(attempt, session)


_FURTHEST: dict[str, int] = {State.COMPLETED: 0, State.RUNNING: 1, State.PENDING: 2}


def preference(session: ServerSession) -> tuple[int, float, str]:
    """Return a sort key for several sessions of one replica: the one that got furthest, which is kept, comes first."""
    return _FURTHEST.get(session.status, 3), session.started or float("inf"), session.id


@dataclass(frozen=True, slots=True)
class Rivals:
    """Attempts of one replica that are alive at once.

    ``kept`` got furthest and determines the state of the replica; the sessions of the others have to be deleted.
    """

    kept: AttemptRow
    ended: tuple[AttemptRow, ...]


def rivals(snapshot: RunSnapshot, in_flight: frozenset[int]) -> Iterator[Rivals]:
    """Yield the replicas with an earlier attempt that turned out to be alive.

    A replica that is being deleted is left out, because all of its sessions are deleted. A replica with a create in
    flight is left out until the reply arrives.
    """
    deleting = {replica.number for replica in snapshot.replicas if replica.deleting or snapshot.run.deleting}
    current = snapshot.latest()
    for number, attempts in snapshot.by_replica().items():
        if number in deleting or number in in_flight or len(attempts) < 2:
            continue
        now = current.get(number)
        alive = [one for one in attempts if one.state in (State.PENDING, State.RUNNING) and one.ending is None]
        others = [one for one in alive if one is not now]
        if not others or now is None:
            continue
        if now.state == State.COMPLETED:
            yield Rivals(now, tuple(alive))
            continue
        kept = min(alive, key=lambda one: (_FURTHEST[one.state], one.started or float("inf"), one.number))
        rest = [one for one in (*alive, *((now,) if now.state == State.UNCONFIRMED else ())) if one is not kept]
        yield Rivals(kept, tuple(rest))
