"""One look at the platform for several runs: one list call, its changes written, and what follows from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skahactl.engine.observe import (
    Adopt,
    Change,
    Duplicate,
    Gone,
    Missing,
    RunSnapshot,
    Seen,
    Unrecognised,
    observe,
    state_of,
)
from skahactl.engine.plan import backoff
from skahactl.ledger import attempts, replicas
from skahactl.ledger.attempts import attempts_of, known_of
from skahactl.ledger.runs import run_by_id, set_run
from skahactl.ledger.usage import record_usage
from skahactl.model import ALIVE, ENDED, State, job_status, zero_filled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, Run, RunSummary
    from skahactl.profile import ClientSettings
    from skahactl.skaha.models import Listing


def snapshot_of(ledger: Ledger, run_id: int) -> RunSnapshot:
    """The run as the ledger holds it now."""
    run = run_by_id(ledger, run_id)
    assert run is not None
    return RunSnapshot(run, replicas.replica_states(ledger, run_id), attempts_of(ledger, run_id))


class SnapshotCache:
    """What ``watch_of`` says, read again only when the ledger has changed since."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._held: dict[int, RunSnapshot] = {}
        self._version: tuple[int, int, int] | None = None

    def of(self, run_id: int) -> RunSnapshot:
        version = self._ledger.version()
        if version != self._version:
            self._held, self._version = {}, version
        if run_id not in self._held:
            self._held[run_id] = snapshot_of(self._ledger, run_id)
        return self._held[run_id]


@dataclass
class AmbiguousSend:
    """How often an unconfirmed attempt has been looked for since its last create ended."""

    ended: float
    looks: int = 0


@dataclass
class Recorder:
    """Turns listings into ledger writes; remembers between looks what need not be durable."""

    ledger: Ledger
    settings: ClientSettings
    strays: dict[str, str] = field(default_factory=dict)  # session id to name
    _doubts: dict[tuple[int, int, int], AmbiguousSend] = field(default_factory=dict)
    _settled: set[tuple[int, int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._watches = SnapshotCache(self.ledger)

    def watch(self, run: Run) -> RunSnapshot:
        """The run as the ledger holds it now."""
        return self._watches.of(run.id)

    def take(self, run: Run, listing: Listing, in_flight: frozenset[int]) -> tuple[Change, ...]:
        """Writes what ``listing`` shows of the run, in one transaction, and returns it."""
        with self.ledger.transaction():
            record_usage(self.ledger, run.id, listing)
            set_run(self.ledger, run.id, observed=listing.received)  # first, so that what is read next stays as it is
            watch = self.watch(run)
            changes = observe(watch, listing, known_of(self.ledger, watch.attempts, listing), in_flight)
            for change in changes:
                self._write(change, run, listing)
            self._count_looks(watch, listing, in_flight)
            if watch.run.ended is not None and any(_is_alive(change) for change in changes):
                set_run(self.ledger, run.id, ended=None)
        return changes

    def duplicates(self, run: Run, listing: Listing) -> tuple[str, ...]:
        """Sessions listed now that are duplicates of this run's attempts: to be deleted, again if need be."""
        duplicates = attempts.duplicates_of(self.ledger, run.id)
        return tuple(session.id for session in listing.sessions if session.id in duplicates)

    def settled(self, run: Run) -> frozenset[int]:
        """Unconfirmed replicas that have been looked for long enough."""
        return frozenset(replica for run_id, replica, _ in self._settled if run_id == run.id)

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
            self.strays[change.session.id] = change.session.name

    def _back_off(self, attempt: AttemptRow, at: float) -> None:
        pause = backoff(self.settings.backoff, attempt.number)
        replicas.set_not_before(self.ledger, attempt.run_id, attempt.replica, at + pause)

    def _note_restart(self, change: Seen, run: Run, at: float) -> None:
        before, now = change.attempt.started, change.session.started
        if before is not None and now is not None and now > before + 1 and change.state in ALIVE:
            replicas.add_note(
                self.ledger, run.id, at, f"the platform restarted {change.attempt.name}", change.attempt.replica
            )

    def _count_looks(self, watch: RunSnapshot, listing: Listing, in_flight: frozenset[int]) -> None:
        """An unconfirmed attempt that this list did not show: one more look; settled after enough of them."""
        needed = 1 if self.settings.settle == 0 else 3
        for replica, attempt in watch.latest().items():
            if attempt.session is not None or attempt.state != State.UNCONFIRMED or replica in in_flight:
                continue
            key = (attempt.run_id, replica, attempt.number)
            ended = attempt.last_ambiguous_at if attempt.last_ambiguous_at is not None else attempt.created
            doubt = self._doubts.get(key)
            if doubt is None or doubt.ended != ended:
                doubt = self._doubts[key] = AmbiguousSend(ended)
                self._settled.discard(key)
            if listing.requested >= ended:
                doubt.looks += 1
            if doubt.looks >= needed and listing.requested >= ended + self.settings.settle:
                self._settled.add(key)


def _is_alive(change: Change) -> bool:
    return isinstance(change, Seen | Adopt) and change.state in ALIVE


def shows_more(ledger: Ledger, run_id: int, listing: Listing) -> bool:
    """Whether ``listing`` shows of a run that has ended what asks for another pass: a session that was taken for gone,
    or a copy of a create in doubt. Writes nothing."""
    duplicates = attempts.duplicates_of(ledger, run_id)
    if any(session.id in duplicates for session in listing.sessions):
        return True
    watch = snapshot_of(ledger, run_id)
    changes = observe(watch, listing, known_of(ledger, watch.attempts, listing), frozenset())
    return any(
        isinstance(change, Adopt | Duplicate) or (isinstance(change, Seen) and change.state != change.attempt.state)
        for change in changes
    )


def with_listed_sessions(ledger: Ledger, last: RunSummary, listing: Listing) -> RunSummary:
    """The run with those of its sessions that ``listing`` shows alive, though they were taken for gone, counted as
    alive. Writes nothing."""
    back = withdrawn_ends(ledger, last.run.id, listing)
    if not back:
        return last
    rows = replicas.replica_states(ledger, last.run.id)
    counts = zero_filled(Counter(back.get(row.number, row.state) for row in rows))
    return replace(last, counts=counts, status=job_status(counts, last.retriable))


def withdrawn_ends(ledger: Ledger, run_id: int, listing: Listing) -> dict[int, str]:
    """Replicas whose latest session was taken for gone, and is listed alive: the state that it means."""
    watch = snapshot_of(ledger, run_id)
    listed = {session.id: session for session in listing.sessions}
    back: dict[int, str] = {}
    for replica, attempt in watch.latest().items():
        if attempt.state in ENDED and attempt.session in listed:
            state = state_of(listed[attempt.session], attempt.state)
            if state in ALIVE:
                back[replica] = state
    return back


def record_known_sessions(ledger: Ledger, settings: ClientSettings, runs: Iterable[Run], listing: Listing) -> None:
    """Writes what ``listing`` shows of the sessions that the ledger knows, in one transaction. Others are not judged,
    so that this needs no lock."""
    with ledger.transaction():
        for run in runs:
            everyone = frozenset(row.number for row in replicas.replica_states(ledger, run.id))
            Recorder(ledger, settings).take(run, listing, everyone)
