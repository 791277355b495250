"""Record evidence in the ledger: what a poll shows of several runs, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from skahactl.engine.observe import (
    Adopt,
    Change,
    Duplicate,
    Evidence,
    Gone,
    Missing,
    Rivals,
    RunSnapshot,
    Seen,
    Unrecognised,
    observe,
    rivals,
    state_of,
)
from skahactl.engine.plan import backoff
from skahactl.ledger import attempts, replicas
from skahactl.ledger.attempts import attempts_named, attempts_of, known_of, record_usage
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import UNREAD, AttemptRow, Run, RunSummary
from skahactl.ledger.runs import run_by_id, set_run
from skahactl.model import ALIVE, ENDED, OBSERVED, State, job_status, zero_filled
from skahactl.profile import ClientSettings
from skahactl.skaha.models import Listing, ServerSession


def snapshot_of(ledger: Ledger, run_id: int) -> RunSnapshot:
    """Return a snapshot of the run from the ledger."""
    run = run_by_id(ledger, run_id)
    assert run is not None
    return RunSnapshot(run, replicas.replica_states(ledger, run_id), attempts_of(ledger, run_id))


@dataclass
class Search:
    """The number of polls that searched for the session of an unconfirmed create since that create ended."""

    ended: float
    polls: int = 0


@dataclass
class Recorder:
    """Records what polls show, and remembers between them what need not be durable.

    ``unrecognised``: live sessions with the name of a replica that this ledger did not create, by run and replica.
    ``holds_lock``: only the holder of a job's lock adopts sessions, finds duplicates, and decides between rivals.
    """

    ledger: Ledger
    settings: ClientSettings
    holds_lock: bool = True
    unrecognised: dict[int, dict[int, ServerSession]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)  # for the user, about what was just recorded
    _absent: set[str] = field(default_factory=set)  # ids that were answered with 404
    _searches: dict[tuple[int, int, int], Search] = field(default_factory=dict)
    _settled: set[tuple[int, int, int]] = field(default_factory=set)
    _snapshots: dict[int, RunSnapshot] = field(default_factory=dict)  # by run; valid for _version of the ledger
    _version: tuple[int, int, int] | None = None

    def snapshot(self, run: Run) -> RunSnapshot:
        """Return a snapshot of the run; read it again only after a change of the ledger."""
        version = self.ledger.version()
        if version != self._version:
            self._snapshots, self._version = {}, version
        if run.id not in self._snapshots:
            self._snapshots[run.id] = snapshot_of(self.ledger, run.id)
        return self._snapshots[run.id]

    def evidence(self, listing: Listing, answers: Mapping[str, ServerSession | None]) -> Evidence:
        """Return the evidence of a list and of the ``answers`` to requests for single ids since the last call.

        A 404 counts until the session is seen.
        """
        self._absent.update(id for id, session in answers.items() if session is None)
        self._absent.difference_update(session.id for session in listing.sessions)
        found = {id: session for id, session in answers.items() if session is not None}
        self._absent.difference_update(found)
        return Evidence(listing, {**dict.fromkeys(self._absent), **found})

    def record(
        self, runs: Iterable[Run], evidence: Evidence, in_flight: Callable[[int], frozenset[int]] | None = None
    ) -> dict[int, tuple[Change, ...]]:
        """Record what the evidence shows of these runs, in one transaction, and return the changes by run."""
        with self.ledger.transaction():
            return {run.id: self._record(run, evidence, in_flight) for run in runs}

    def settled(self, run: Run) -> frozenset[int]:
        """Return the unconfirmed replicas with a session that was searched for long enough."""
        return frozenset(replica for run_id, replica, _ in self._settled if run_id == run.id)

    def _record(
        self, run: Run, evidence: Evidence, in_flight: Callable[[int], frozenset[int]] | None
    ) -> tuple[Change, ...]:
        listing = evidence.listing
        record_usage(self.ledger, run.id, listing)
        set_run(self.ledger, run.id, observed=listing.received)  # first: a later write would invalidate the snapshot
        snapshot = self.snapshot(run)
        everyone = frozenset(row.number for row in snapshot.replicas)
        flying = in_flight(run.id) if in_flight is not None and self.holds_lock else everyone
        changes = observe(snapshot, evidence, known_of(self.ledger, snapshot.attempts, evidence.by_id.keys()), flying)
        self.unrecognised[run.id] = {}
        for change in changes:
            self._write(change, run, listing)
        if self.holds_lock:
            self._count_polls(snapshot, listing, flying)
            for found in tuple(rivals(self.snapshot(run), flying)):
                self._supersede(found, run, listing)
        if snapshot.run.ended is not None and any(_is_alive(change) for change in changes):
            set_run(self.ledger, run.id, ended=None)
        return changes

    def _write(self, change: Change, run: Run, listing: Listing) -> None:
        at = listing.received
        if isinstance(change, Seen):
            self._note_restart(change, run, at)
            attempts.record_seen(self.ledger, change.attempt, change.session, change.state, at)
            if change.state == State.FAILED and change.attempt.state != State.FAILED:
                self._back_off(change.attempt, at)
        elif isinstance(change, Adopt):
            attempts.record_adopted(self.ledger, change.attempt, change.session, change.state, at)
            if change.state == State.FAILED:
                self._back_off(change.attempt, at)
        elif isinstance(change, Duplicate):
            attempts.record_duplicate(self.ledger, change.attempt, change.session.id, at)
        elif isinstance(change, Missing):
            attempts.record_missing(self.ledger, change.attempt, listing.requested)
        elif isinstance(change, Gone):
            again = None
            if change.state == State.FAILED:
                again = at + backoff(self.settings.backoff, change.attempt.number)
            attempts.record_gone(self.ledger, change.attempt, change.state, change.reason, at, again)
        elif isinstance(change, Unrecognised):
            self._take_unrecognised(change, run, at)

    def _take_unrecognised(self, change: Unrecognised, run: Run, at: float) -> None:
        """Record a duplicate if an earlier run of the job has an unresolved ambiguous create of exactly this name.

        Otherwise remember the session as unrecognised, if it is alive.
        """
        for attempt in attempts_named(self.ledger, change.session.name):
            if (
                attempt.run_id != run.id
                and attempt.ambiguous_sends > attempt.resolved_ambiguous
                and _is_same_job(self.ledger, run, attempt)
            ):
                attempts.record_duplicate(self.ledger, attempt, change.session.id, at)
                return
        if change.session.status not in (State.COMPLETED, State.FAILED):
            self.unrecognised[run.id][change.replica] = change.session

    def _supersede(self, found: Rivals, run: Run, listing: Listing) -> None:
        attempts.record_rivals(self.ledger, found.kept, found.ended)
        others = ", ".join(one.name for one in found.ended if one.session is not None)
        if others:
            text = f"{found.kept.name} and {others} were alive at once; keeping {found.kept.name}, deleting the other"
            replicas.add_note(self.ledger, run.id, listing.received, text, found.kept.replica)
            self.warnings.append(text)

    def _back_off(self, attempt: AttemptRow, at: float) -> None:
        pause = backoff(self.settings.backoff, attempt.number)
        replicas.set_not_before(self.ledger, attempt.run_id, attempt.replica, at + pause)

    def _note_restart(self, change: Seen, run: Run, at: float) -> None:
        before, now = change.attempt.started, change.session.started
        if before is not None and now is not None and now > before + 1 and change.state in ALIVE:
            replicas.add_note(
                self.ledger, run.id, at, f"the platform restarted {change.attempt.name}", change.attempt.replica
            )

    def _count_polls(self, snapshot: RunSnapshot, listing: Listing, in_flight: frozenset[int]) -> None:
        """Count this list for each unconfirmed attempt, and settle the attempts that enough lists lacked."""
        needed = 1 if self.settings.settle == 0 else 3
        for replica, attempt in snapshot.latest().items():
            if attempt.session is not None or attempt.state != State.UNCONFIRMED:
                continue
            key = (attempt.run_id, replica, attempt.number)
            ended = attempt.last_ambiguous_at if attempt.last_ambiguous_at is not None else attempt.created
            search = self._searches.get(key)
            if search is None or search.ended != ended:
                search = self._searches[key] = Search(ended)
                self._settled.discard(key)
            if replica in in_flight:
                continue
            if listing.requested >= ended:
                search.polls += 1
            if search.polls >= needed and listing.requested >= ended + self.settings.settle:
                self._settled.add(key)


def shows_more(ledger: Ledger, run_id: int, listing: Listing) -> bool:
    """Return whether ``listing`` shows that an ended run needs another pass. Write nothing.

    It does if it shows a session that counted as gone, a session of an ambiguous create, or a duplicate.
    """
    duplicates = attempts.duplicates_of(ledger, run_id)
    snapshot = snapshot_of(ledger, run_id)
    evidence = Evidence(_relevant(listing, snapshot, duplicates))
    if any(session in duplicates for session in evidence.by_id):
        return True
    changes = observe(snapshot, evidence, known_of(ledger, snapshot.attempts, evidence.by_id.keys()), frozenset())
    return any(
        isinstance(change, Adopt | Duplicate) or (isinstance(change, Seen) and _is_news(change)) for change in changes
    )


def _relevant(listing: Listing, snapshot: RunSnapshot, duplicates: Collection[str]) -> Listing:
    """Return the list with only the sessions of one run, because looking up all ids for each job takes long."""
    ids = {attempt.session for attempt in snapshot.attempts} | set(duplicates)
    names = {attempt.name for attempt in snapshot.attempts}
    return replace(listing, sessions=tuple(one for one in listing.sessions if one.id in ids or one.name in names))


def _is_news(change: Seen) -> bool:
    """Return whether a seen session changes its attempt: it counted as gone and is alive, or its state differs."""
    is_back = change.attempt.state in (State.DELETED, State.UNKNOWN) and change.session.status in ALIVE
    return is_back or change.state != change.attempt.state


def with_listed_sessions(ledger: Ledger, last: RunSummary, listing: Listing) -> RunSummary:
    """Return the summary with the sessions that ``listing`` shows alive although they counted as gone. Write
    nothing."""
    listed = {session.id: session for session in listing.sessions}
    back: dict[int, str] = {}
    for replica, attempt in snapshot_of(ledger, last.run.id).latest().items():
        if attempt.state in ENDED and attempt.session in listed:
            state = state_of(listed[attempt.session], attempt.state)
            if state in ALIVE:
                back[replica] = state
    if not back:
        return last
    rows = replicas.replica_states(ledger, last.run.id)
    counts = zero_filled(Counter(back.get(row.number, row.state) for row in rows))
    return replace(last, counts=counts, status=job_status(counts, last.retriable))


def record_known_sessions(
    ledger: Ledger, settings: ClientSettings, runs: Iterable[Run], evidence: Evidence
) -> tuple[str, ...]:
    """Record what the evidence shows of sessions in the ledger, in one transaction.

    Other sessions are not judged, so this needs no lock. Return the ids of sessions that are alive on record, but
    neither listed nor known to be gone.
    """
    changes = Recorder(ledger, settings, holds_lock=False).record(runs, evidence)
    missing = (change for found in changes.values() for change in found if isinstance(change, Missing))
    return tuple(change.attempt.session for change in missing if change.attempt.session is not None)


def is_ended(snapshot: RunSnapshot) -> bool:
    """Return whether a run has ended.

    It has not if a replica is alive or Queued, will be retried, or has an end that may still be read from the shared
    record.
    """
    if snapshot.run.deleting:
        return all(replica.state in ENDED for replica in snapshot.replicas)
    return not unread_results(snapshot) and all(
        replica.state in ENDED
        and not (replica.state == State.FAILED and replica.attempt < replica.allowed and not replica.deleting)
        for replica in snapshot.replicas
    )


def unread_results(snapshot: RunSnapshot) -> list[AttemptRow]:
    """Return the attempts that ended unobserved and have a shared record that could not be read yet."""
    if snapshot.run.shared is None or snapshot.run.deleting:
        return []
    deleting = {replica.number for replica in snapshot.replicas if replica.deleting}
    return [
        attempt
        for attempt in snapshot.attempts
        if attempt.state == State.UNKNOWN and attempt.unrecorded < 0 and attempt.replica not in deleting
    ]


def unread_logs(snapshot: RunSnapshot) -> list[AttemptRow]:
    """Return the ended attempts with a session and an unread log."""
    deleting = {replica.number for replica in snapshot.replicas if replica.deleting or snapshot.run.deleting}
    return [
        attempt
        for attempt in snapshot.attempts
        if attempt.state in OBSERVED
        and attempt.session is not None
        and attempt.log in UNREAD
        and attempt.replica not in deleting
    ]


def _is_alive(change: Change) -> bool:
    return isinstance(change, Seen | Adopt) and change.state in ALIVE


def _is_same_job(ledger: Ledger, run: Run, attempt: AttemptRow) -> bool:
    other = run_by_id(ledger, attempt.run_id)
    return other is not None and other.key == run.key
