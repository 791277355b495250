"""What a command that only reads shows: the ledger, as one list of sessions would change it. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skahactl import states
from skahactl.ledger.attempts import attempts_of, known_of
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import AttemptRow, ReplicaRow, Run, RunSummary
from skahactl.ledger.replicas import replica_states

if TYPE_CHECKING:
    from skahactl.engine.observe import RunSnapshot
    from skahactl.profile import ClientSettings
    from skahactl.skaha.models import Listing

NOT_LISTED = "the platform did not list it when last looked at"


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as it looks now. ``attempts``: those whose look differs from the ledger's, by replica and number;
    ``latest``: of these the ones that say how their replica is; ``observed``: when; ``held``: what the ledger holds,
    where it had to be read for this."""

    run: Run
    attempts: Mapping[tuple[int, int], AttemptRow] = field(default_factory=dict)
    latest: Mapping[int, AttemptRow] = field(default_factory=dict)
    observed: float | None = None
    held: RunSnapshot | None = None

    def replica(self, row: ReplicaRow) -> ReplicaRow:
        changed = self.latest.get(row.number)
        if changed is None or (changed.state, changed.reason) == (row.state, row.reason):
            return row
        return replace(row, state=changed.state, reason=changed.reason)

    def attempt(self, row: AttemptRow) -> AttemptRow:
        return self.attempts.get((row.replica, row.number), row)

    def dated_run(self) -> Run:
        return self.run if self.observed is None else replace(self.run, observed=self.observed)


def view_run(ledger: Ledger, run: Run, listing: Listing | None) -> RunView:
    """The run as ``listing`` shows it; without one, or if it has ended, as the ledger holds it."""
    if listing is None or run.ended is not None:
        return RunView(run)
    from skahactl.engine.observe import UNSEEN, Adopt, Gone, Missing, RunSnapshot, Seen, observe

    watch = RunSnapshot(run, replica_states(ledger, run.id), attempts_of(ledger, run.id))
    sessions = known_of(ledger, watch.attempts, listing)
    changed: dict[tuple[int, int], AttemptRow] = {}
    for change in observe(watch, listing, sessions, frozenset()):
        if isinstance(change, Seen | Adopt):
            row = change.attempt
            seen = replace(
                row,
                state=change.state,
                reason=row.reason if change.state == row.state else None,
                session=change.session.id,
                started=change.session.started or row.started,
                deadline=change.session.expires or row.deadline,
                url=change.session.url or row.url,
                observed=listing.received,
                pending_since=_pending_since(row, change.state, listing.received),
            )
        elif isinstance(change, Missing) and _is_forgotten(change.attempt, run, listing):
            seen = replace(change.attempt, state=states.EXPIRED, reason=UNSEEN)
        elif isinstance(change, Missing):
            seen = replace(change.attempt, reason=change.attempt.reason or NOT_LISTED)
        elif isinstance(change, Gone):
            seen = replace(change.attempt, state=change.state, reason=change.reason)
        else:
            continue
        changed[change.attempt.replica, change.attempt.number] = seen
    known_states = {row.number: (row.attempt, row.state) for row in watch.replicas}
    before = {(row.replica, row.number): row.state for row in watch.attempts}
    latest = {  # a replica that was moved on since, to a retry or a delete, is what the ledger says
        key[0]: row for key, row in changed.items() if known_states[key[0]] == (key[1], before[key])
    }
    return RunView(run, changed, latest, listing.received, watch)


def _pending_since(row: AttemptRow, state: str, seen: float) -> float | None:
    """As ledger.looks would write it."""
    if state == row.state:
        return row.pending_since
    return seen if state == states.PENDING else None


def _is_forgotten(attempt: AttemptRow, run: Run, listing: Listing) -> bool:
    """Whether the session was last looked at so long ago that it may have ended, and been forgotten, since."""
    seen = max(at for at in (attempt.created, attempt.recorded, attempt.observed, run.observed) if at is not None)
    return listing.requested - seen > listing.memory


def snapshot_with_list(ledger: Ledger, run: Run, listing: Listing, settings: ClientSettings) -> RunSnapshot:
    """The run as a look at ``listing`` would leave it in the ledger."""
    from skahactl.engine.look import snapshot_of
    from skahactl.engine.plan import backoff

    seen = view_run(ledger, run, listing)
    held = snapshot_of(ledger, run.id) if seen.held is None else seen.held
    rows = []
    for row in held.replicas:
        now = seen.latest.get(row.number)
        if now is not None and now.state != row.state:
            again = listing.received + backoff(settings.backoff, now.number) if now.state == states.FAILED else None
            row = replace(row, state=now.state, reason=now.reason, not_before=again)
        rows.append(row)
    return replace(held, run=seen.dated_run(), replicas=tuple(rows), attempts=tuple(map(seen.attempt, held.attempts)))


def latest_attempts(ledger: Ledger, seen: RunView) -> dict[int, AttemptRow]:
    """The newest attempt of every replica that has one, as it looks now."""
    rows = attempts_of(ledger, seen.run.id) if seen.held is None else seen.held.attempts
    return {row.replica: seen.attempt(row) for row in rows}


def view_summary(before: RunSummary, seen: RunView) -> RunSummary:
    """The counts and status of a run as it looks now."""
    if seen.held is None or not seen.latest:
        return replace(before, run=seen.dated_run())
    rows = seen.held.replicas
    now = [seen.latest[row.number].state if row.number in seen.latest else row.state for row in rows]
    retriable = sum(
        state == states.FAILED and row.attempt < row.allowed and not row.deleting
        for row, state in zip(rows, now, strict=True)
    )
    counts = states.zero_filled(Counter(now))
    status = states.job_status(counts, retriable)
    return replace(before, run=seen.dated_run(), counts=counts, status=status, retriable=retriable)


def poll_is_due(runs: Sequence[Run]) -> bool:
    """Whether the platform may know more of these runs than the ledger."""
    return any(run.ended is None for run in runs)
