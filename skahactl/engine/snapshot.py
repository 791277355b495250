"""The rows that a command shows that only reads: from the ledger, in which its poll has recorded the list."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skahactl import shapes
from skahactl.ledger.attempts import attempts_of, known_sessions, usage_of
from skahactl.ledger.lock import living_driver
from skahactl.ledger.replicas import failed_items, items_of, replica_states, replicas_of, replicas_with_each
from skahactl.ledger.runs import last_runs, run_by_id, summaries, unsaved_log_counts
from skahactl.model import ALIVE, ENDED, State
from skahactl.targets import Target, by_run, current_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow, ReplicaRow, Run, RunSummary
    from skahactl.profile import Profile
    from skahactl.shapes import Row
    from skahactl.skaha.models import Listing


#: The reason of a live replica with a session that the last list lacks.
NOT_LISTED = "the last poll did not list it"


def poll_is_due(runs: Sequence[Run]) -> bool:
    """Return whether the platform may have news of these runs: one of them has not ended."""
    return any(run.ended is None for run in runs)


def runs_in_question(ledger: Ledger, profile: Profile, targets: Sequence[Target]) -> tuple[Run, ...]:
    """Return the runs of the targets, each once; without targets, the last run of every job, the newest first."""
    if targets:
        return tuple({target.run.id: target.run for target in targets if target.run is not None}.values())
    mine = {current_user(ledger, profile), ""}
    return tuple(run for run in last_runs(ledger, profile.server) if run.key.user in mine)


def job_rows(ledger: Ledger, runs: Sequence[Run], *, folders: bool = True) -> list[Row]:
    """Return a row for each run. ``folders``: add where its logs are saved, which takes time for thousands of runs."""
    deadlines = _deadlines(ledger, [run.id for run in runs if run.ended is None])
    return [
        shapes.job(
            _without_dead(ledger, one),
            logs=_log_folder(ledger, one.run) if folders else None,
            deadline=deadlines.get(one.run.id),
        )
        for one in summaries(ledger, runs)
    ]


def replica_rows(ledger: Ledger, targets: Sequence[Target], runs: Sequence[Run], now: float) -> list[Row]:
    """Return a row for each replica of the runs, or only for those that the targets name."""
    chosen = _numbers(targets)
    found: list[Row] = []
    for run in runs:
        attempts = attempts_of(ledger, run.id)
        latest = {attempt.replica: attempt for attempt in attempts}
        rows = replicas_of(ledger, run.id, chosen.get(run.id))
        failed = failed_items(ledger, run.id)
        used = usage_of(ledger, run.id)
        held = idle = None
        if any(row.state == State.QUEUED for row in rows):
            held = _hold_reason(ledger, run, attempts, now)
            idle = None if living_driver(ledger, run.key) else "no driver is running"
        for row in rows:
            item = _failed_item(row, failed.get(row.number))
            own, attempt = used.get((row.number, row.attempt)), latest.get(row.number)
            if row.state == State.QUEUED:
                row = replace(row, reason=held or row.reason or idle)
            elif row.state in ALIVE and attempt is not None and attempt.missing_since is not None:
                row = replace(row, reason=row.reason or NOT_LISTED)
            found.append(shapes.replica(run, row, attempt, item, own))
    return found


def _hold_reason(ledger: Ledger, run: Run, attempts: tuple[AttemptRow, ...], now: float) -> str | None:
    """Return what keeps Queued replicas of a run from being created: another job or a limit. None if nothing does."""
    from skahactl.engine.driver import gate_for
    from skahactl.engine.observe import RunSnapshot
    from skahactl.engine.plan import full_reason

    if run.started is None and (waits := gate_for(ledger, run, set()).reason):
        return waits
    return full_reason(RunSnapshot(run, replica_states(ledger, run.id), attempts), now)


def _failed_item(row: ReplicaRow, failed: tuple[int, int] | None) -> shapes.FailedItem | None:
    if failed is None or failed[0] > len(row.items):
        return None
    return shapes.FailedItem(row.items[failed[0] - 1], failed[1])


def item_rows(ledger: Ledger, targets: Sequence[Target], runs: Sequence[Run]) -> list[Row]:
    """Return a row for each item. An item without its own result has the state of its replica."""
    chosen = _numbers(targets)
    found: list[Row] = []
    for run in runs:
        wanted = chosen.get(run.id)
        rows = [row for row in items_of(ledger, run.id) if wanted is None or row.replica in wanted]
        found.extend(shapes.item(run, row, number) for number, row in enumerate(rows, 1))
    return found


def unread_failures(
    ledger: Ledger, targets: Sequence[Target], runs: Sequence[Run]
) -> Iterator[tuple[Run, tuple[int, ...]]]:
    """Yield each run with its Failed replicas that mark their items in a log that was not read.

    Only replicas that the targets name count.
    """
    from skahactl.engine.record import snapshot_of, unread_logs

    chosen = _numbers(targets)
    for run in runs:
        wanted, marked = chosen.get(run.id), replicas_with_each(ledger, run.id)
        rows = unread_logs(snapshot_of(ledger, run.id)) if marked else []
        failed = {row.replica for row in rows if row.state == State.FAILED and row.replica in marked}
        found = tuple(sorted(number for number in failed if wanted is None or number in wanted))
        if found:
            yield run, found


def uncounted_jobs(ledger: Ledger, runs: Iterable[Run]) -> tuple[str, ...]:
    """Return the jobs with running replicas that mark their items, but without a driver that reads the marks."""
    found = []
    for run in runs:
        if run.ended is None and living_driver(ledger, run.key) is None:
            running = {row.number for row in replica_states(ledger, run.id) if row.state == State.RUNNING}
            if running & replicas_with_each(ledger, run.id):
                found.append(run.key.name)
    return tuple(found)


def unsaved_logs(ledger: Ledger, runs: Iterable[Run], memory: float, now: float) -> tuple[int, float, tuple[str, ...]]:
    """Return how many logs only the platform has, in how many seconds it discards the first of them, and the jobs.

    ``memory``: seconds for which the platform lists an ended session. Jobs with a driver are left out, because it saves
    their logs.
    """
    keys = {run.id: run.key for run in runs}
    unsaved = unsaved_log_counts(ledger, keys, now - memory)
    found = {key.name: unsaved[id] for id, key in keys.items() if id in unsaved and living_driver(ledger, key) is None}
    first = min((ended for _, ended in found.values()), default=now)
    return sum(number for number, _ in found.values()), first + memory - now, tuple(found)


def session_rows(ledger: Ledger, targets: Sequence[Target], listing: Listing) -> list[Row]:
    """Return the listed sessions with their replicas; with targets, only the sessions that they name."""
    owners = session_owners(ledger, (session.id for session in listing.sessions))
    found = [shapes.session(row, owners(id)) for id, row in listing.objects().items()]
    return _matches(found, targets) if targets else found


def session_owners(ledger: Ledger, sessions: Iterable[str]) -> Callable[[str], tuple[Run, int, int] | None]:
    """Return a function that maps one of these session ids to (run, replica, attempt), or None."""
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


def latest_attempts(ledger: Ledger, run: Run) -> dict[int, AttemptRow]:
    """Return the newest attempt of every replica that has one."""
    return {row.replica: row for row in attempts_of(ledger, run.id)}


def is_over(rows: Iterable[Row]) -> bool:
    """Return whether all of these rows of jobs or replicas show an ended state."""
    return all(row.get("state", row.get("status")) in (*ENDED, State.UNKNOWN) for row in rows)


def _numbers(targets: Sequence[Target]) -> dict[int, frozenset[int] | None]:
    """Return the requested replicas by run id; None means all."""
    return {target.run.id: target.numbers for target in by_run(targets) if target.run is not None}


def _matches(rows: Iterable[Row], targets: Sequence[Target]) -> list[Row]:
    """Return the session rows that the targets name, directly or as replicas of a job."""
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
    """Return the earliest deadline of the live sessions, by run. One query serves any number of runs."""
    if not run_ids:
        return {}
    wanted = ",".join(map(str, run_ids)) if len(run_ids) <= 500 else "SELECT id FROM runs WHERE ended IS NULL"
    rows = ledger.rows(
        f"SELECT run, min(deadline) AS first FROM attempts WHERE run IN ({wanted}) AND state IN ('Pending', 'Running')"
        " AND deadline IS NOT NULL GROUP BY run"
    )
    return {row["run"]: row["first"] for row in rows}


def _log_folder(ledger: Ledger, run: Run) -> str | None:
    """Return where the logs of a run are saved; None if none are saved."""
    from skahactl.logs.copies import log_path

    return None if run.keep == "none" else str(log_path(ledger.state_dir, run, 1, 1).parent)


def _without_dead(ledger: Ledger, summary: RunSummary) -> RunSummary:
    """Return the summary without its driver, if that ran on this machine and has ended. Its row is not changed."""
    if summary.driver is None:
        return summary
    return replace(summary, driver=living_driver(ledger, summary.run.key))
