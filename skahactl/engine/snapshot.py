"""What a command that only reads shows: the ledger, as one list of sessions would change it. Nothing is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skahactl import shapes
from skahactl.ledger.attempts import attempts_of, known_of, known_sessions, usage_of
from skahactl.ledger.lock import living_driver
from skahactl.ledger.replicas import failed_items, items_of, replica_states, replicas_of, replicas_with_each
from skahactl.ledger.runs import is_over as is_run_over
from skahactl.ledger.runs import last_runs, run_by_id, summaries, unsaved_log_counts
from skahactl.model import ENDED, State, job_status, zero_filled
from skahactl.targets import Target, by_run, current_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from skahactl.engine.observe import RunSnapshot
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, ReplicaRow, Run, RunSummary
    from skahactl.profile import ClientSettings, Profile
    from skahactl.shapes import Row
    from skahactl.skaha.models import Listing


NOT_LISTED = "the last poll did not list it"


@dataclass(frozen=True, slots=True)
class RunView:
    """The current view of a run. ``attempts``: those that differ from the ledger, by replica and number;
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
    """Return the run as ``listing`` shows it; without one, or if it has ended, as the ledger holds it."""
    if listing is None or run.ended is not None:
        return RunView(run)
    from skahactl.engine.observe import Adopt, Evidence, Gone, Missing, RunSnapshot, Seen, observe

    evidence = Evidence(listing)
    watch = RunSnapshot(run, replica_states(ledger, run.id), attempts_of(ledger, run.id))
    sessions = known_of(ledger, watch.attempts, evidence.by_id.keys())
    changed: dict[tuple[int, int], AttemptRow] = {}
    for change in observe(watch, evidence, sessions, frozenset()):
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
    return seen if state == State.PENDING else None


def snapshot_with_list(ledger: Ledger, run: Run, listing: Listing, settings: ClientSettings) -> RunSnapshot:
    """Return the run as a poll with ``listing`` would leave it in the ledger."""
    from skahactl.engine.plan import backoff
    from skahactl.engine.record import snapshot_of

    seen = view_run(ledger, run, listing)
    held = snapshot_of(ledger, run.id) if seen.held is None else seen.held
    rows = []
    for row in held.replicas:
        now = seen.latest.get(row.number)
        if now is not None and now.state != row.state:
            again = listing.received + backoff(settings.backoff, now.number) if now.state == State.FAILED else None
            row = replace(row, state=now.state, reason=now.reason, not_before=again)
        rows.append(row)
    return replace(held, run=seen.dated_run(), replicas=tuple(rows), attempts=tuple(map(seen.attempt, held.attempts)))


def latest_attempts(ledger: Ledger, seen: RunView) -> dict[int, AttemptRow]:
    """Return the newest attempt of every replica that has one, as it looks now."""
    rows = attempts_of(ledger, seen.run.id) if seen.held is None else seen.held.attempts
    return {row.replica: seen.attempt(row) for row in rows}


def view_summary(before: RunSummary, seen: RunView) -> RunSummary:
    """Return the counts and status of a run as it looks now."""
    if seen.held is None or not seen.latest:
        return replace(before, run=seen.dated_run())
    rows = seen.held.replicas
    now = [seen.latest[row.number].state if row.number in seen.latest else row.state for row in rows]
    retriable = sum(
        state == State.FAILED and row.attempt < row.allowed and not row.deleting
        for row, state in zip(rows, now, strict=True)
    )
    counts = zero_filled(Counter(now))
    status = job_status(counts, retriable)
    ended = before.ended if is_run_over(counts, retriable) else None
    return replace(before, run=seen.dated_run(), counts=counts, status=status, retriable=retriable, ended=ended)


def poll_is_due(runs: Sequence[Run]) -> bool:
    """Return whether the platform may know more of these runs than the ledger."""
    return any(run.ended is None for run in runs)


def runs_in_question(ledger: Ledger, profile: Profile, targets: Sequence[Target]) -> tuple[Run, ...]:
    """Return the runs that the targets name, each once; without targets the last run of every job, the newest first."""
    if targets:
        return tuple({target.run.id: target.run for target in targets if target.run is not None}.values())
    mine = {current_user(ledger, profile), ""}
    return tuple(run for run in last_runs(ledger, profile.server) if run.key.user in mine)


def job_rows(ledger: Ledger, runs: Sequence[Run], listing: Listing | None, *, folders: bool = True) -> list[Row]:
    """Return a row for each run; where its logs are kept only with ``folders``, which takes time for thousands."""
    seen = [view_summary(before, view_run(ledger, before.run, listing)) for before in summaries(ledger, runs)]
    deadlines = _deadlines(ledger, [run.id for run in runs if run.ended is None])
    folder = _log_folders(ledger) if folders else _unpolled
    return [
        shapes.job(_without_dead(ledger, one), logs=folder(one.run), deadline=deadlines.get(one.run.id)) for one in seen
    ]


def replica_rows(ledger: Ledger, targets: Sequence[Target], runs: Sequence[Run], listing: Listing | None) -> list[Row]:
    """Return a row for each replica of the runs, or for those that the targets name."""
    chosen = _numbers(targets)
    found: list[Row] = []
    for run in runs:
        seen = view_run(ledger, run, listing)
        latest = latest_attempts(ledger, seen)
        dated = seen.dated_run()
        rows = replicas_of(ledger, run.id, chosen.get(run.id))
        failed = failed_items(ledger, run.id)
        used = usage_of(ledger, run.id)
        stopped, waits = summaries(ledger, [run])[0].stop_reason, None
        if run.after and run.started is None and run.ended is None:
            from skahactl.engine.driver import gate_for

            waits = gate_for(ledger, run, set()).reason
        for row in rows:
            item = _failed_item(row, failed.get(row.number))
            own = used.get((row.number, row.attempt))
            if row.state == State.QUEUED:
                row = replace(row, reason=stopped or waits or row.reason)
            found.append(shapes.replica(dated, seen.replica(row), latest.get(row.number), item, own))
    return found


def _failed_item(row: ReplicaRow, failed: tuple[int, int] | None) -> shapes.FailedItem | None:
    if failed is None or failed[0] > len(row.items):
        return None
    return shapes.FailedItem(row.items[failed[0] - 1], failed[1])


def item_rows(ledger: Ledger, targets: Sequence[Target], runs: Sequence[Run], listing: Listing | None) -> list[Row]:
    """Return a row for each item; one without its own result has the state of its replica."""
    chosen = _numbers(targets)
    found: list[Row] = []
    for run in runs:
        seen = view_run(ledger, run, listing)
        wanted = chosen.get(run.id)
        states = {number: row.state for number, row in seen.latest.items()}
        rows = [row for row in items_of(ledger, run.id, states) if wanted is None or row.replica in wanted]
        found.extend(shapes.item(run, row, number) for number, row in enumerate(rows, 1))
    return found


def unread_failures(
    ledger: Ledger, targets: Sequence[Target], runs: Sequence[Run]
) -> Iterator[tuple[Run, tuple[int, ...]]]:
    """Yield runs with those of their Failed replicas that the targets name, if they mark their items in a log that was
    not read."""
    from skahactl.engine.record import snapshot_of, unread_logs

    chosen = _numbers(targets)
    for run in runs:
        wanted, marked = chosen.get(run.id), replicas_with_each(ledger, run.id)
        rows = unread_logs(snapshot_of(ledger, run.id)) if marked else []
        failed = {row.replica for row in rows if row.state == State.FAILED and row.replica in marked}
        found = tuple(sorted(number for number in failed if wanted is None or number in wanted))
        if found:
            yield run, found


def unsaved_logs(ledger: Ledger, runs: Iterable[Run], memory: float, now: float) -> tuple[int, float, tuple[str, ...]]:
    """Return how many logs are on the platform only, in how many seconds it discards the first of them, and the jobs.

    ``memory``: seconds for which it lists an ended session. A driver saves the logs of its own job.
    """
    keys = {run.id: run.key for run in runs}
    unsaved = unsaved_log_counts(ledger, keys, now - memory)
    found = {key.name: unsaved[id] for id, key in keys.items() if id in unsaved and living_driver(ledger, key) is None}
    first = min((ended for _, ended in found.values()), default=now)
    return sum(number for number, _ in found.values()), first + memory - now, tuple(found)


def session_rows(ledger: Ledger, targets: Sequence[Target], listing: Listing) -> list[Row]:
    """Return the sessions of the platform with their replicas; only those of the targets, if there are any."""
    owners = session_owners(ledger, (session.id for session in listing.sessions))
    found = [shapes.session(row, owners(id)) for id, row in listing.objects().items()]
    return _matches(found, targets) if targets else found


def session_owners(ledger: Ledger, sessions: Iterable[str]) -> Callable[[str], tuple[Run, int, int] | None]:
    """Return a function from one of these session ids to run, replica, attempt."""
    known = known_sessions(ledger, sessions)
    runs: dict[int, Run | None] = {}

    def owner(identifier: str) -> tuple[Run, int, int] | None:
        if identifier not in known:
            return None
        run_id, replica, attempt = known[identifier]
        if run_id not in runs:
            runs[run_id] = run_by_id(ledger, run_id)
        run = runs[run_id]
        return None if run is None else (run, replica, attempt)

    return owner


def chosen_attempts(ledger: Ledger, target: Target, seen: RunView) -> list[AttemptRow]:
    """Return the latest attempts of the replicas that a target names, as they look now."""
    latest = latest_attempts(ledger, seen)
    return [row for number, row in latest.items() if target.numbers is None or number in target.numbers]


def is_over(rows: Iterable[Row]) -> bool:
    """Return whether nothing will change of these rows of jobs or replicas by itself."""
    return all(row.get("state", row.get("status")) in (*ENDED, State.UNKNOWN) for row in rows)


def _numbers(targets: Sequence[Target]) -> dict[int, frozenset[int] | None]:
    """Run id to the replicas wanted; None: all."""
    return {target.run.id: target.numbers for target in by_run(targets) if target.run is not None}


def _matches(rows: Iterable[Row], targets: Sequence[Target]) -> list[Row]:
    """Return those of these sessions that the targets name, themselves or as replicas of a job."""
    words = {target.session for target in targets if target.session is not None}
    jobs = {(t.run.key.name, t.run.number): t.numbers for t in targets if t.is_job and t.run is not None}

    def is_meant(row: Row) -> bool:
        if row["id"] in words or row.get("name") in words:
            return True
        ours = row["skahactl"]
        if not isinstance(ours, dict) or (ours["job"], ours["run"]) not in jobs:
            return False
        numbers = jobs[ours["job"], ours["run"]]
        return numbers is None or ours["replica"] in numbers

    return [row for row in rows if is_meant(row)]


def _deadlines(ledger: Ledger, run_ids: Sequence[int]) -> dict[int, float]:
    """Return the earliest deadline of what is alive, by run; one query for any number of runs."""
    if not run_ids:
        return {}
    wanted = ",".join(map(str, run_ids)) if len(run_ids) <= 500 else "SELECT id FROM runs WHERE ended IS NULL"
    rows = ledger.rows(
        f"SELECT run, min(deadline) AS first FROM attempts WHERE run IN ({wanted}) AND state IN ('Pending', 'Running')"
        " AND deadline IS NOT NULL GROUP BY run"
    )
    return {row["run"]: row["first"] for row in rows}


def _unpolled(run: Run) -> None:
    del run


def _log_folders(ledger: Ledger) -> Callable[[Run], str | None]:
    """Return where the logs of a run are kept; None if it keeps none."""
    from skahactl.logs.saved import log_path

    return lambda run: None if run.keep == "none" else str(log_path(ledger.state_dir, run, 1, 1).parent)


def _without_dead(ledger: Ledger, summary: RunSummary) -> RunSummary:
    """Without a driver of this machine that is gone; its row is left alone."""
    if summary.driver is None:
        return summary
    from dataclasses import replace

    from skahactl.ledger.lock import living_driver

    return replace(summary, driver=living_driver(ledger, summary.run.key))
