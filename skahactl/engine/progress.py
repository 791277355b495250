"""The progress of a run: its items, its failures with their last lines, and the time left."""

from __future__ import annotations

import heapq
import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    from skahactl.ledger.records import AttemptRow, ReplicaState, RunSummary

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
        median = statistics.median(durations) if durations else None
        left = self._left(snapshot, summary, now, running, durations, len(again))
        if left is not None and retries:
            left = max(left, max(retries) - now + (median or 0.0))
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
            median=median,
            left=left,
        )

    def _failures(
        self, snapshot: RunSnapshot, latest: Mapping[int, AttemptRow], live: LiveFailures
    ) -> Iterable[FailedReplica]:
        """Return the failed replicas, and the running ones with failed items, sorted by number."""
        run = snapshot.run.id
        failed = {row.number for row in snapshot.replicas if row.state == State.FAILED and not _is_retried(row)}
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
        return (found[number] for number in sorted(found))

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
        retries: int,
    ) -> float | None:
        """Return the seconds until the end, computed from items if replicas mark them, else from whole replicas.

        Return None if too little has ended to compute it.
        """
        run = snapshot.run
        waiting = sum(row.state in _WAITING for row in snapshot.replicas) + retries
        slots = min(most_at_once(_ran(snapshot.attempts, now)), run.limits.alive or len(snapshot.replicas))
        if run.id not in self._each:
            self._each[run.id] = replicas_with_each(self.ledger, run.id)
        if self._each[run.id] and running:
            found = self._by_items(snapshot, running)
            if found is not None:
                remaining, whole = found
                return finish_after(remaining, whole, waiting, slots)
        total = sum(summary.counts.values())
        if len(durations) < min(3, -(-total // 2)):
            return None
        longest, median = max(durations), statistics.median(durations)
        known = [_remaining(seconds, median, longest) for seconds in running.values()]
        return None if None in known else finish_after([t or 0.0 for t in known], median, waiting, slots)

    def _by_items(self, snapshot: RunSnapshot, running: Mapping[int, float]) -> tuple[list[float], float] | None:
        """Return the seconds that each running replica still needs, and those of a whole replica.

        Return None while fewer than three items have ended.
        """
        sizes = item_counts(self.ledger, snapshot.run.id)
        now, before = ended_items(self.ledger, snapshot.run.id)
        ended = sum(now.get(number, 0) for number in running)
        if ended < 3 or not sizes:
            return None
        each = sum(running.values()) / ended  # seconds per item
        left = [max(0, sizes.get(n, 0) - now.get(n, 0) - before.get(n, 0)) * each for n in running]
        return left, each * sum(sizes.values()) / len(sizes)


def finish_after(running: Sequence[float], whole: float, waiting: int, slots: int) -> float | None:
    """Return the seconds until all replicas have ended; None without a slot or without a replica.

    The running ones still need ``running`` seconds, each of the ``waiting`` ones needs ``whole`` seconds, and at most
    ``slots`` run at the same time.
    """
    if slots < 1:
        return None
    free = [0.0] * max(0, slots - len(running)) + list(running)
    heapq.heapify(free)
    last = max(running, default=0.0)
    for _ in range(waiting):
        end = heapq.heappop(free) + whole
        last = max(last, end)
        heapq.heappush(free, end)
    return last if running or waiting else None


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return the maximum number of these spans (start, end) that overlap."""
    steps = [step for start, end in spans for step in ((start, 1), (end, -1))]
    return max(itertools.accumulate(change for _, change in sorted(steps)), default=0)


def _ran(attempts: Iterable[AttemptRow], now: float) -> Iterator[tuple[float, float]]:
    """Yield (start, end) of each attempt that ran; a running one ends now."""
    for row in attempts:
        if row.started is not None and (row.finished is not None or row.state == State.RUNNING):
            yield row.started, now if row.finished is None else row.finished


def _remaining(seconds: float, median: float, longest: float) -> float | None:
    """Return the seconds that a replica still needs after it has run for ``seconds``.

    Return None if it has run longer than every replica that completed.
    """
    if seconds < median:
        return median - seconds
    return longest - seconds if seconds < longest else None


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
