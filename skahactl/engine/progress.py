"""The progress of a run: its items, its failures with their last lines, and the time left."""

from __future__ import annotations

import heapq
import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skahactl.engine.plan import full_reason
from skahactl.engine.runtime import FailedReplica, RunProgress
from skahactl.ledger.records import UNREAD, QueuedReason
from skahactl.ledger.replicas import ended_items, failed_items, item_counts, replica, replicas_with_each
from skahactl.model import State
from skahactl.text import format_duration

if TYPE_CHECKING:
    from skahactl.engine.observe import RunSnapshot
    from skahactl.engine.tasks import FailedPosition
    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptKey, AttemptRow, ReplicaState, RunSummary

_MOST_LONGEST = 5
_WAITING = frozenset({State.PENDING, State.CREATING, State.UNCONFIRMED, State.QUEUED})

#: Failed items of running attempts, by (run, replica, number).
LiveFailures = Mapping[tuple[int, int, int], "FailedPosition"]


@dataclass
class ProgressTracker:
    """Makes a RunProgress of every poll, and caches what need not be read twice.

    Only failures observed since ``observing`` are included: an earlier command reported the others.
    """

    ledger: Ledger
    started: float  # when the progress began
    observing: float  # when the command began
    _failed: dict[tuple[int, int, int], FailedReplica] = field(default_factory=dict)
    _each: dict[int, frozenset[int]] = field(default_factory=dict)
    #: Number of ended items by attempt, and the seconds that it had run when the last of them was noticed.
    _items: dict[AttemptKey, tuple[int, float]] = field(default_factory=dict)

    def progress(
        self,
        snapshot: RunSnapshot,
        summary: RunSummary,
        now: float,
        *,
        why: tuple[tuple[int, str], ...] = (),
        live: LiveFailures | None = None,
    ) -> RunProgress:
        """Return the progress of a run.

        ``why``: what Pending replicas wait for, as (replica number, reason). ``live``: failed items of attempts that
        still run.
        """
        latest = snapshot.latest()
        again = [row for row in snapshot.replicas if _is_retried(row)]
        running = _running(latest, now)
        durations = _durations(snapshot.attempts)
        retries = [row.not_before for row in again if row.not_before is not None]
        return RunProgress(
            summary,
            tuple(row.state for row in snapshot.replicas),
            tuple(sorted(running.items(), key=lambda pair: -pair[1])[:_MOST_LONGEST]),
            why,
            self.started,
            now,
            failures=tuple(self._failures(snapshot, latest, live or {})),
            retrying=frozenset(row.number for row in again),
            retry_at=min(retries, default=None),
            queued_for=_queued_for(snapshot, now),
            median=statistics.median(durations) if durations else None,
            left=self._left(snapshot, summary, now, running, durations),
        )

    def _failures(
        self, snapshot: RunSnapshot, latest: Mapping[int, AttemptRow], live: LiveFailures
    ) -> Iterable[FailedReplica]:
        """Return the failed replicas, and the running ones with failed items, sorted by number."""
        run = snapshot.run.id
        failed = {row.number for row in snapshot.replicas if row.state == State.FAILED}
        retried = {row.number for row in snapshot.replicas if row.attempt < row.allowed and not row.deleting}
        new = {
            n: (run, n, latest[n].number)
            for n in failed
            if n in latest and (latest[n].observed or self.observing) >= self.observing
        }
        missing = {n for n, key in new.items() if key not in self._failed or self._failed[key].line is None}
        if missing:
            items = failed_items(self.ledger, run)
            for number in missing:
                self._failed[new[number]] = self._failure(latest[number], items.get(number))
        found = {number: self._failed[key] for number, key in new.items()}
        for key, position in live.items():
            if key[0] == run and key[1] not in found and key[1] in latest:
                found[key[1]] = self._live_failure(latest[key[1]], key, position)
        return (replace(found[number], retried=number in retried) for number in sorted(found))

    def _failure(self, attempt: AttemptRow, failed: tuple[int, int] | None) -> FailedReplica:
        from skahactl.shapes import exit_hint

        position, code = failed or (None, attempt.exit_code)
        row = replica(self.ledger, attempt.run_id, attempt.replica)
        if position is None and len(row.items) == 1:
            position = 1
        item = row.items[position - 1] if position is not None and position <= len(row.items) else None
        if attempt.log in UNREAD and attempt.session is not None:  # its log may say more
            return FailedReplica(attempt.replica, item, code, attempt.last_line)
        hint = exit_hint(code, attempt.last_line, row.requested(attempt))
        return FailedReplica(attempt.replica, item, code, attempt.last_line, hint, reason=attempt.reason)

    def _live_failure(self, attempt: AttemptRow, key: tuple[int, int, int], found: FailedPosition) -> FailedReplica:
        from skahactl.shapes import exit_hint

        row = replica(self.ledger, attempt.run_id, attempt.replica)
        item = row.items[found.position - 1] if found.position <= len(row.items) else None
        hint = exit_hint(found.exit_code, found.line, row.requested(attempt))
        return FailedReplica(attempt.replica, item, found.exit_code, found.line, hint, running=True)

    def _left(
        self,
        snapshot: RunSnapshot,
        summary: RunSummary,
        now: float,
        running: Mapping[int, float],
        durations: Sequence[float],
    ) -> float | None:
        """Return the seconds until the end, computed from items if replicas mark them, else from whole replicas.

        Return None if too little has ended to compute it.
        """
        run = snapshot.run
        waiting = [row for row in snapshot.replicas if row.state in _WAITING or _is_retried(row)]
        if run.id not in self._each:
            self._each[run.id] = replicas_with_each(self.ledger, run.id)
        found = self._by_items(snapshot, now, running, durations) if self._each[run.id] else None
        if found is None:
            total = sum(summary.counts.values())
            if len(durations) < min(3, -(-total // 2)):
                return None
            median = statistics.median(durations)
            remaining = {number: _remaining(seconds, durations, median) for number, seconds in running.items()}
            needed = dict.fromkeys((row.number for row in waiting), median)
        else:
            remaining, needed = found
        slots = min(most_at_once(_ran(snapshot.attempts, now)), run.limits.alive or len(snapshot.replicas))
        left = finish_after(list(remaining.values()), [needed[row.number] for row in waiting], slots)
        retries = [row.not_before - now + needed[row.number] for row in waiting if row.not_before is not None]
        return None if left is None else max([left, *retries])

    def _by_items(
        self, snapshot: RunSnapshot, now: float, running: Mapping[int, float], durations: Sequence[float]
    ) -> tuple[dict[int, float | None], dict[int, float]] | None:
        """Return the seconds that each running replica still needs (None: unknown), and that an attempt of each replica
        needs from its start.

        Both come from the mean time of all items that have ended so far, up to the end of the last one in each attempt:
        the item that runs, or ended since the last read of the log, does not count. Return None while fewer than three
        items have ended.
        """
        sizes = item_counts(self.ledger, snapshot.run.id)
        ended, before = ended_items(self.ledger, snapshot.run.id)
        latest = snapshot.latest()
        for number, count in ended.items():
            row = latest.get(number)
            if row is not None and row.started is not None and self._items.get(row.key, (0, 0.0))[0] != count:
                self._items[row.key] = count, max(0.0, (now if row.finished is None else row.finished) - row.started)
        known = [found for key, found in self._items.items() if key[0] == snapshot.run.id]
        total = sum(count for count, _ in known)
        if total < 3:
            return None
        each = sum(seconds for _, seconds in known) / total
        needed = {n: each * max(1, size - before.get(n, 0) - ended.get(n, 0)) for n, size in sizes.items()}
        whole = each * sum(sizes.values()) / len(sizes)
        remaining: dict[int, float | None] = {}
        for number, seconds in running.items():
            _, until = self._items.get(latest[number].key, (0, 0.0))
            left = needed[number] - (seconds - until)
            remaining[number] = left if left > 0 else _remaining(seconds, durations, whole)
        return remaining, needed


def finish_after(running: Sequence[float | None], waiting: Sequence[float], slots: int) -> float | None:
    """Return the seconds until all replicas have ended; None if that cannot be computed.

    The running ones still need ``running`` seconds, the waiting ones ``waiting`` seconds, and at most ``slots`` run
    at the same time. A running one that may need any time (None) keeps its slot; if nothing waits, the end depends on
    it.
    """
    known = [seconds for seconds in running if seconds is not None]
    unknown = len(running) - len(known)
    if slots <= unknown or (unknown and not waiting):
        return None
    free = [0.0] * (slots - len(running)) + known
    heapq.heapify(free)
    last = max(known, default=0.0)
    for seconds in waiting:
        end = heapq.heappop(free) + seconds
        last = max(last, end)
        heapq.heappush(free, end)
    return last if last > 0 else None


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return the maximum number of these spans (start, end) that overlap."""
    steps = [step for start, end in spans for step in ((start, 1), (end, -1))]
    return max(itertools.accumulate(change for _, change in sorted(steps)), default=0)


def _ran(attempts: Iterable[AttemptRow], now: float) -> Iterator[tuple[float, float]]:
    """Yield (start, end) of each attempt that ran; a running one ends now, one with an end that was noticed late at the
    earliest possible time."""
    for row in attempts:
        if row.started is not None and (row.finished is not None or row.state == State.RUNNING):
            yield row.started, now if row.finished is None else row.finished_after or row.finished


def _remaining(seconds: float, durations: Sequence[float], usual: float) -> float | None:
    """Return the seconds that a replica still needs after it has run for ``seconds``: up to the median of the run times
    that were longer. If it has run longer than every replica that completed, it is about to end, or after the ``usual``
    run time more, it may need any time (None)."""
    longer = [one for one in durations if one > seconds]
    if longer:
        return statistics.median(longer) - seconds
    return 0.0 if seconds < max(durations, default=usual) + usual else None


def _durations(attempts: Iterable[AttemptRow]) -> list[float]:
    return [row.ran for row in attempts if row.state == State.COMPLETED and row.ran is not None]


def _running(latest: Mapping[int, AttemptRow], now: float) -> dict[int, float]:
    """Return the seconds that each running replica has run so far."""
    return {
        number: max(0.0, now - row.started)
        for number, row in latest.items()
        if row.state == State.RUNNING and row.started is not None
    }


def _is_retried(row: ReplicaState) -> bool:
    return row.state == State.FAILED and row.attempt < row.allowed and not row.deleting


def _queued_for(snapshot: RunSnapshot, now: float) -> str | None:
    """Return why replicas are Queued, in a few words; None if there is room for all of them."""
    reasons = Counter(row.reason for row in snapshot.replicas if row.state == State.QUEUED and row.reason)
    reasons.pop(QueuedReason.RETRY, None)
    if reasons:
        return reasons.most_common(1)[0][0]
    if snapshot.run.after and snapshot.run.started is None:
        return f"after {', '.join(snapshot.run.after)}"
    return full_reason(snapshot, now)


def retry_text(progress: RunProgress) -> str | None:
    """Return a text such as ``retrying 3 in 20 s``; None if nothing is retried."""
    if not progress.retrying:
        return None
    when = progress.retry_at
    soon = f" in {format_duration(when - progress.now)}" if when is not None and when > progress.now else ""
    return f"retrying {len(progress.retrying)}{soon}"
