"""What evidence says about a run: pure, no I/O.

The rules are those of "one session per replica": a session is ours by its id, or by its whole name if this ledger holds
an ambiguous create of exactly that name. Nothing is counted, adopted or deleted by less. A session counts as gone only
by the rules of ``evidence``.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.engine.evidence import AGREEMENT, Evidence, Presence, is_mass
from skahactl.ledger.records import AttemptRow, Ending, ReplicaState, Run
from skahactl.model import ALIVE, ENDED, State, base_session_name

if TYPE_CHECKING:
    from skahactl.skaha.models import ServerSession

#: Why an attempt is Unknown.
UNSEEN = "the replica finished unobserved, and the server has discarded its result"


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run as the ledger holds it at one moment."""

    run: Run
    replicas: tuple[ReplicaState, ...]
    attempts: tuple[AttemptRow, ...]

    def latest(self) -> dict[int, AttemptRow]:
        """The current attempt of every replica that has one: the one that says how the replica is."""
        current = {replica.number: replica.attempt for replica in self.replicas}
        return {one.replica: one for one in self.attempts if current.get(one.replica) == one.number}

    def by_replica(self) -> dict[int, tuple[AttemptRow, ...]]:
        """Every attempt, by replica."""
        found: dict[int, list[AttemptRow]] = {}
        for attempt in self.attempts:
            found.setdefault(attempt.replica, []).append(attempt)
        return {number: tuple(rows) for number, rows in found.items()}


@dataclass(frozen=True, slots=True)
class Seen:
    """The attempt's session exists; ``state`` is what that means."""

    attempt: AttemptRow
    session: ServerSession
    state: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """An ambiguous create did make a session: this one."""

    attempt: AttemptRow
    session: ServerSession
    state: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A second session of an ambiguous create, to be deleted."""

    attempt: AttemptRow
    session: ServerSession


@dataclass(frozen=True, slots=True)
class Missing:
    """The list lacks it, which proves nothing yet."""

    attempt: AttemptRow


@dataclass(frozen=True, slots=True)
class Gone:
    """It exists no longer: ``state`` is Unknown, Deleted, or Failed."""

    attempt: AttemptRow
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A session with one of our names that this ledger never made: reported, left untouched."""

    replica: int
    session: ServerSession


Change = Seen | Adopt | Duplicate | Missing | Gone | Unrecognised


def observe(
    snapshot: RunSnapshot, evidence: Evidence, known: Set[str], in_flight: frozenset[int]
) -> tuple[Change, ...]:
    """The changes that ``evidence`` makes to a run.

    ``known``: every session id that this ledger holds, duplicates included. ``in_flight``: replicas with a create in
    flight at any moment of the list call; unknown sessions of theirs are not judged.
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
    """Whether an earlier list lacked it too, long enough before this one."""
    return attempt.missing_since is not None and evidence.listing.requested - attempt.missing_since >= AGREEMENT


def _gone(attempt: AttemptRow, deleting: bool) -> Gone:
    if deleting:
        return Gone(attempt, State.DELETED, "deleted")
    if attempt.ending == Ending.PENDING_TIMEOUT:
        return Gone(attempt, State.FAILED, attempt.reason or "Pending for too long")
    if attempt.ending == Ending.SUPERSEDED:
        return Gone(attempt, State.DELETED, "deleted: another attempt of its replica was alive")
    return Gone(attempt, State.UNKNOWN, UNSEEN)


#: Results that stay whatever a later list shows. Unknown is withdrawn if the session is seen again.
FINAL = ENDED - {State.UNKNOWN}


def state_of(session: ServerSession, before: str) -> str:
    """The state that a session of an attempt means. Only Completed and Failed are ends; Terminating is not one
    (skaha-api 4.2). A recorded result stays."""
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
    """Unknown sessions of exactly this attempt's name: as many are ours as there are unresolved ambiguous creates."""
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
    """Of several sessions of one replica, the one that got furthest is kept."""
    return _FURTHEST.get(session.status, 3), session.started or float("inf"), session.id


@dataclass(frozen=True, slots=True)
class Rivals:
    """Attempts of one replica that are alive at once: ``kept`` got furthest, and says from now on how the replica is;
    the others have to end."""

    kept: AttemptRow
    ended: tuple[AttemptRow, ...]


def rivals(snapshot: RunSnapshot, in_flight: frozenset[int]) -> Iterator[Rivals]:
    """Replicas of which an earlier attempt turned out to be alive. A replica that is to be deleted has none: all of
    its sessions go, and one with a create in flight waits for its reply."""
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
