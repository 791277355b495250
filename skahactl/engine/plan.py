"""Plan the next steps of a run. A plan is a value: --dry-run and diff show it, the driver carries it out. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from skahactl.engine.observe import RunSnapshot
from skahactl.ledger.records import UNREAD, AttemptRow, QueuedReason, ReplicaState
from skahactl.model import ALIVE, OBSERVED, State
from skahactl.text import count_noun, format_duration

#: Maximum number of ambiguous creates per attempt; those during platform trouble do not count.
MOST_SENDS = 5
#: An intent older than this, in seconds, is never sent again: its session may have ended and been discarded since.
OLDEST_INTENT = 50 * 60.0
LONGEST_BACKOFF = 300.0
#: A command that has run for this many seconds counts as correct: a typo fails earlier.
PROOF = 60.0


class JobAction(StrEnum):
    """What a command does with a job as a whole."""

    CREATE = "create"  # its next run
    ADOPT = "adopt"  # a run of sessions that this ledger did not make
    REPLACE = "replace"  # its last run, by the next
    KEEP = "keep"  # its last run, which continues
    ENDED = "ended"  # nothing: its last run has ended
    REFUSE = "refuse"
    FOREIGN = "foreign"  # refuse, because of sessions that this ledger did not make
    RETRY = "retry"
    RESUME = "resume"
    DELETE = "delete"
    RENEW = "renew"
    BUSY = "busy"  # nothing: another command drives it


#: Actions that create the next run of a job.
NEXT_RUN = frozenset({JobAction.CREATE, JobAction.REPLACE, JobAction.ADOPT})


class StepAction(StrEnum):
    """What is done for one replica."""

    CREATE = "create"
    RETRY = "retry"  # the next attempt of a Failed replica
    RESEND = "resend"  # the same create again, because the one before made no session
    HOLD = "hold"
    KEEP = "keep"
    ADOPT = "adopt"
    SKIP = "skip"
    GIVE_UP = "give-up"  # Rejected: too many creates without a usable answer
    EXPIRE = "expire"  # Unknown: a create that is too old to be sent again
    DELETE = "delete"
    RENEW = "renew"


#: Actions that send a create.
CREATES = frozenset({StepAction.CREATE, StepAction.RETRY, StepAction.RESEND})


@dataclass(frozen=True, slots=True)
class Step:
    """What will be done for one replica, and why."""

    replica: int
    name: str
    action: StepAction
    reason: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What ``after`` says: open, or closed with a reason. ``never``: it can no longer open."""

    open: bool = True
    never: bool = False
    reason: str | None = None


def plan_run(
    snapshot: RunSnapshot,
    now: float,
    *,
    gate: Gate = Gate(),
    queued: frozenset[int] = frozenset(),
    settled: frozenset[int] = frozenset(),
    blocked: Mapping[int, str] = MappingProxyType({}),
) -> tuple[Step, ...]:
    """Return one step for each replica, in order, except for those in ``queued``.

    ``queued``: replicas with a create that was started before; they count towards the limits. ``settled``: unconfirmed
    replicas with a session that was searched for long enough. ``blocked``: replicas that must not be created, and why.
    """
    latest = snapshot.latest()
    room = _Room(snapshot, queued, now)
    held = {**_waiting(snapshot), **blocked}
    steps: list[Step] = []
    for replica in snapshot.replicas:
        if replica.number in queued:
            continue
        step = _step(snapshot, replica, latest.get(replica.number), now, gate, settled)
        if step.action in CREATES and replica.number in held:
            step = Step(replica.number, step.name, StepAction.HOLD, held[replica.number])
        elif step.action in (StepAction.CREATE, StepAction.RETRY):
            full = room.full()
            if full is not None:
                step = Step(replica.number, step.name, StepAction.HOLD, full)
            else:
                room.take()
        steps.append(step)
    return tuple(steps)


def _waiting(snapshot: RunSnapshot) -> dict[int, str]:
    """Return why replicas must not be created yet: an attempt is alive, or its log is not saved."""
    found: dict[int, str] = {}
    for attempt in snapshot.attempts:
        if attempt.session is None:
            continue
        if attempt.state in ALIVE:
            found[attempt.replica] = f"{attempt.name} is alive"
        elif attempt.state in OBSERVED and attempt.log in UNREAD:
            found.setdefault(attempt.replica, f"saving the log of {attempt.name}")
    return found


class _Room:
    """How many more sessions of this job may be alive and pending."""

    def __init__(self, snapshot: RunSnapshot, queued: frozenset[int], now: float):
        self._limits = snapshot.run.limits
        alive = {replica.number for replica in snapshot.replicas if replica.state in ALIVE} | queued
        running = {replica.number for replica in snapshot.replicas if replica.state == State.RUNNING}
        self._alive = len(alive)
        self._pending = len(alive - running)
        self._stop_reason = stop_reason(snapshot)
        self._first = _most_unproven(snapshot, now)

    def full(self) -> str | None:
        if self._stop_reason is not None:
            return self._stop_reason
        if self._first is not None and self._alive >= self._first:
            return f"trying {self._first} first (limits.failures)"
        if self._limits.alive is not None and self._alive >= self._limits.alive:
            return f"limit of {count_noun(self._limits.alive, 'session')}"
        if self._limits.pending is not None and self._pending >= self._limits.pending:
            return f"limit of {count_noun(self._limits.pending, 'pending session')}"
        return None

    def take(self) -> None:
        self._alive += 1
        self._pending += 1


def full_reason(snapshot: RunSnapshot, now: float) -> str | None:
    """Return why some of the Queued replicas cannot be created now; None if there is room for all of them."""
    room = _Room(snapshot, frozenset(), now)
    for row in snapshot.replicas:
        if row.state == State.QUEUED:
            full = room.full()
            if full is not None:
                return full
            room.take()
    return None


def _step(
    snapshot: RunSnapshot,
    replica: ReplicaState,
    attempt: AttemptRow | None,
    now: float,
    gate: Gate,
    settled: frozenset[int],
) -> Step:
    number, name = replica.number, attempt.name if attempt else replica.name
    if replica.deleting or snapshot.run.deleting:
        return Step(
            number,
            name,
            StepAction.DELETE if replica.state in ALIVE else StepAction.KEEP,
            "delete requested",
        )
    if replica.state == State.UNCONFIRMED:
        return _unconfirmed_step(replica, attempt, now, settled)
    if replica.state == State.QUEUED:
        return _queued_step(replica, name, now, gate)
    if replica.state == State.FAILED and replica.attempt < replica.allowed:
        if (replica.not_before or 0.0) > now:
            return Step(number, name, StepAction.HOLD, f"retry in {format_duration((replica.not_before or 0.0) - now)}")
        return Step(number, replica.name, StepAction.RETRY, f"attempt {replica.attempt} of {replica.allowed} failed")
    return Step(number, name, StepAction.KEEP, replica.state)


def _queued_step(replica: ReplicaState, name: str, now: float, gate: Gate) -> Step:
    if gate.never:
        return Step(replica.number, name, StepAction.SKIP, gate.reason or "skipped")
    if not gate.open:
        return Step(replica.number, name, StepAction.HOLD, gate.reason or "held")
    if (replica.not_before or 0.0) > now:
        why = replica.reason or "the platform requested a pause"
        return Step(
            replica.number,
            name,
            StepAction.HOLD,
            f"{why}; again in {format_duration((replica.not_before or 0.0) - now)}",
        )
    reason = QueuedReason.RETRY if replica.reason == QueuedReason.RETRY else "not created yet"
    return Step(replica.number, name, StepAction.CREATE, reason)


def _unconfirmed_step(replica: ReplicaState, attempt: AttemptRow | None, now: float, settled: frozenset[int]) -> Step:
    """Return the step of an unconfirmed replica: it is created again only after its session was searched for long
    enough."""
    number, name = replica.number, attempt.name if attempt else replica.name
    if attempt is None or number not in settled or (replica.not_before or 0.0) > now:
        return Step(
            number, name, StepAction.KEEP, "the reply to the create was lost; checking whether the session exists"
        )
    if now - attempt.created > OLDEST_INTENT:
        return Step(
            number,
            name,
            StepAction.EXPIRE,
            "unconfirmed for more than 50 minutes; the server may have discarded its result",
        )
    if attempt.ambiguous_sends - attempt.excused >= MOST_SENDS:
        return Step(number, name, StepAction.GIVE_UP, f"no usable answer to {attempt.ambiguous_sends} creates")
    return Step(number, name, StepAction.RESEND, "the create with the lost reply made no session")


def stop_reason(snapshot: RunSnapshot) -> str | None:
    """Return why [limits] failures stops further creates; None if it does not."""
    return snapshot.run.limits.stop_reason(_failed(snapshot))


def _failed(snapshot: RunSnapshot) -> int:
    return sum(
        row.state == State.FAILED and (row.attempt >= row.allowed or bool(row.deleting)) for row in snapshot.replicas
    )


def _most_unproven(snapshot: RunSnapshot, now: float) -> int | None:
    """Return how many replicas may be alive before one has completed or has run for PROOF seconds.

    Return None after that, and without [limits] failures. Without this limit, thousands of replicas could be created
    before the first failure is seen.
    """
    most = snapshot.run.limits.failures
    if most is None or any(row.state == State.COMPLETED for row in snapshot.replicas):
        return None
    running = (one.started for one in snapshot.attempts if one.state == State.RUNNING)
    if any(started is not None and now - started >= PROOF for started in running):
        return None
    return most - _failed(snapshot)


def is_stopped(snapshot: RunSnapshot) -> bool:
    """Return whether [limits] failures stopped the run and nothing of it is alive."""
    return stop_reason(snapshot) is not None and not any(row.state in ALIVE for row in snapshot.replicas)


def backoff(base: float, failures: int) -> float:
    """Return the seconds before the next try: ``base``, doubled after each further failure, at most five minutes."""
    return float(min(LONGEST_BACKOFF, base * 2 ** max(0, min(failures, 16) - 1)))


def gate_of(after: tuple[str, ...], status: Mapping[str, str | None]) -> Gate:
    """Return what ``after`` says for a run.

    ``status``: the status of the last run of each job in ``after``; None without a run.
    """
    for name in after:
        state = status.get(name)
        if state in (State.FAILED, State.UNKNOWN, State.DELETED):
            return Gate(open=False, never=True, reason=f"after {name}, which is {state}")
    for name in after:
        if status.get(name) != State.COMPLETED:
            return Gate(open=False, reason=f"after {name}, which is {status.get(name) or 'not applied yet'}")
    return Gate()


def with_adopted(plan: Iterable[Step], adopted: Mapping[int, Step]) -> tuple[Step, ...]:
    """Return the plan of a run with the steps of adopted replicas. A replica that is adopted and retried keeps its
    retry."""
    steps = {step.replica: step for step in plan}
    retried = {number for number, step in steps.items() if step.action is StepAction.RETRY}
    steps |= {number: step for number, step in adopted.items() if number not in retried}
    return tuple(steps[number] for number in sorted(steps))
