"""What to do next for a run: a plan is a value, shown by --dry-run and diff, carried out by the driver. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.engine.observe import PENDING_TIMEOUT, RunSnapshot
from skahactl.ledger import replicas
from skahactl.ledger.attempts import end_unsent, set_attempt
from skahactl.model import ALIVE, ENDED, State
from skahactl.text import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skahactl.ledger.database import Ledger
    from skahactl.ledger.records import AttemptRow
    from skahactl.ledger.replicas import ReplicaState

#: At most so many creates are sent for one attempt.
MOST_SENDS = 5
#: An intent older than this, in seconds, is never sent again: what it made may have ended and been forgotten.
OLDEST_INTENT = 50 * 60.0
LONGEST_BACKOFF = 300.0


@dataclass(frozen=True, slots=True)
class Step:
    """What will be done for one replica, and why.

    action: create | retry | resend | hold | keep | adopt | skip | give-up | expire | delete
    """

    replica: int
    name: str
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What ``after`` says: open, or held with a reason; ``never``: it cannot open any more."""

    open: bool = True
    never: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Doubts:
    """Which unconfirmed replicas have been looked for long enough (replica numbers)."""

    settled: frozenset[int] = frozenset()


def plan_run(
    watch: RunSnapshot,
    now: float,
    *,
    gate: Gate = Gate(),
    queued: frozenset[int] = frozenset(),
    doubts: Doubts = Doubts(),
) -> tuple[Step, ...]:
    """Steps for every replica, in order; ``queued``: creates already handed on, not planned again but counted."""
    latest = watch.latest()
    room = _Room(watch, queued)
    steps: list[Step] = []
    for replica in watch.replicas:
        if replica.number in queued:
            continue
        step = _step(watch, replica, latest.get(replica.number), now, gate, doubts)
        if step.action in ("create", "retry"):
            full = room.full()
            if full is not None:
                step = Step(replica.number, step.name, "hold", full)
            else:
                room.take()
        steps.append(step)
    return tuple(steps)


class _Room:
    """How many more of this job's own sessions may be alive and pending."""

    def __init__(self, watch: RunSnapshot, queued: frozenset[int]):
        self._limits = watch.run.limits
        alive = {replica.number for replica in watch.replicas if replica.state in ALIVE} | queued
        running = {replica.number for replica in watch.replicas if replica.state == State.RUNNING}
        self._alive = len(alive)
        self._pending = len(alive - running)

    def full(self) -> str | None:
        if self._limits.alive is not None and self._alive >= self._limits.alive:
            return f"limit: {self._limits.alive} alive"
        if self._limits.pending is not None and self._pending >= self._limits.pending:
            return f"limit: {self._limits.pending} pending"
        return None

    def take(self) -> None:
        self._alive += 1
        self._pending += 1


def _step(
    watch: RunSnapshot, replica: ReplicaState, attempt: AttemptRow | None, now: float, gate: Gate, doubts: Doubts
) -> Step:
    number, name = replica.number, attempt.name if attempt else replica.name
    if replica.deleting or watch.run.deleting:
        return Step(number, name, "delete" if replica.state in ALIVE else "keep", "a delete was asked for")
    if replica.state == State.UNCONFIRMED:
        return _unsettled(replica, attempt, now, doubts)
    if replica.state == State.QUEUED:
        return _held(replica, name, now, gate)
    if replica.state == State.FAILED and replica.attempt < replica.allowed:
        if (replica.not_before or 0.0) > now:
            return Step(number, name, "hold", f"retry in {format_duration((replica.not_before or 0.0) - now)}")
        return Step(number, replica.name, "retry", f"attempt {replica.attempt} of {replica.allowed} failed")
    return Step(number, name, "keep", replica.state)


def _held(replica: ReplicaState, name: str, now: float, gate: Gate) -> Step:
    if gate.never:
        return Step(replica.number, name, "skip", gate.reason or "skipped")
    if not gate.open:
        return Step(replica.number, name, "hold", gate.reason or "queued")
    if (replica.not_before or 0.0) > now:
        why = replica.reason or "the platform asked to wait"
        return Step(
            replica.number, name, "hold", f"{why}; again in {format_duration((replica.not_before or 0.0) - now)}"
        )
    return Step(replica.number, name, "create", replica.reason if replica.reason == "retry" else "not created yet")


def _unsettled(replica: ReplicaState, attempt: AttemptRow | None, now: float, doubts: Doubts) -> Step:
    """A create in doubt is sent again only when it has been looked for long enough."""
    number, name = replica.number, attempt.name if attempt else replica.name
    if attempt is None or number not in doubts.settled or (replica.not_before or 0.0) > now:
        return Step(number, name, "keep", "a create is in doubt; looking for its session")
    if now - attempt.created > OLDEST_INTENT:
        return Step(number, name, "expire", "in doubt for more than 50 minutes; what it made may be forgotten by now")
    if attempt.sends >= MOST_SENDS:
        return Step(number, name, "give-up", f"{attempt.sends} creates in doubt, and no session appeared")
    return Step(number, name, "resend", "the create in doubt made no session")


def backoff(base: float, failures: int) -> float:
    """Seconds before the next try after this many failures: base, doubled each time, at most five minutes."""
    return float(min(LONGEST_BACKOFF, base * 2 ** max(0, min(failures, 16) - 1)))


def gate_of(after: tuple[str, ...], status: Mapping[str, str | None]) -> Gate:
    """``status``: of each job named in ``after``, the status of its last run, None without one."""
    for name in after:
        state = status.get(name)
        if state in (State.FAILED, State.UNKNOWN, State.DELETED):
            return Gate(open=False, never=True, reason=f"after {name}, which is {state}")
    for name in after:
        if status.get(name) != State.COMPLETED:
            return Gate(open=False, reason=f"after {name}, which is {status.get(name) or 'not applied yet'}")
    return Gate()


def with_adopted(plan: Iterable[Step], adopted: Mapping[int, Step]) -> tuple[Step, ...]:
    """The plan of a run whose sessions were taken over, with what that meant for its replicas."""
    steps = {step.replica: step for step in plan} | dict(adopted)
    return tuple(steps[number] for number in sorted(steps))


def plan_snapshot(
    watch: RunSnapshot, now: float, gate: Gate, queued: frozenset[int], settled: frozenset[int]
) -> tuple[Step, ...]:
    """The plan; a retry waits until the log of the failed attempt is kept."""
    unkept = {attempt.replica for attempt in unread_logs(watch)}
    steps = plan_run(watch, now, gate=gate, queued=queued, doubts=Doubts(settled))
    return tuple(
        Step(step.replica, step.name, "hold", "keeping the log of the failed attempt")
        if step.action == "retry" and step.replica in unkept
        else step
        for step in steps
    )


def to_delete(watch: RunSnapshot, listed: frozenset[str], now: float, ledger: Ledger) -> tuple[str, ...]:
    """Listed sessions that are to go: of replicas whose delete was asked for, and those that waited too long."""
    deleting = {replica.number for replica in watch.replicas if replica.deleting or watch.run.deleting}
    gone = [a.session for a in watch.attempts if a.session in listed and a.replica in deleting]
    return tuple(session for session in gone if session) + _overdue(watch, listed, now, ledger)


def _overdue(watch: RunSnapshot, listed: frozenset[str], now: float, ledger: Ledger) -> tuple[str, ...]:
    """Pending for longer than ``pending-timeout``, as the list just read confirms."""
    longest = watch.run.limits.pending_timeout
    found: list[str] = []
    for attempt in watch.attempts:
        if attempt.session not in listed or attempt.session is None or attempt.state != State.PENDING:
            continue
        if attempt.reason is not None and attempt.reason.startswith(PENDING_TIMEOUT):
            found.append(attempt.session)
        elif longest is not None and now - (attempt.pending_since or now) > longest:
            reason = f"{PENDING_TIMEOUT}: Pending for more than {format_duration(longest)}"
            set_attempt(ledger, attempt, state=State.PENDING, reason=reason)
            found.append(attempt.session)
    return tuple(found)


def to_replace(watch: RunSnapshot, numbers: list[int], listed: frozenset[str]) -> tuple[str, ...]:
    """Listed sessions of earlier, ended attempts of replicas that are tried again."""
    again = set(numbers)
    return tuple(
        attempt.session
        for attempt in watch.attempts
        if attempt.replica in again and attempt.session in listed and attempt.session and attempt.state in ENDED
    )


def apply_offline_steps(
    ledger: Ledger, watch: RunSnapshot, plan: tuple[Step, ...], settled: frozenset[int], now: float
) -> None:
    """The steps that need no request: skips, give-ups, and deletes of what never became a session."""
    skipped = [step for step in plan if step.action == "skip"]
    given_up = {step.replica: step for step in plan if step.action in ("give-up", "expire")}
    deleted = {step.replica for step in plan if step.action == "delete"} & settled
    if not (skipped or given_up or deleted):
        return
    with ledger.transaction():
        if skipped:
            numbers = [step.replica for step in skipped]
            replicas.set_states(ledger, watch.run.id, numbers, State.SKIPPED, skipped[0].reason)
        for number, attempt in watch.latest().items():
            if number in given_up:
                step = given_up[number]
                state = State.UNKNOWN if step.action == "expire" else State.REJECTED
                end_unsent(ledger, attempt, state, step.reason, now)
            elif number in deleted and attempt.state == State.UNCONFIRMED:
                end_unsent(ledger, attempt, State.DELETED, "deleted; the create in doubt made no session", now)


def unread_logs(watch: RunSnapshot) -> list[AttemptRow]:
    """Ended attempts with a session whose log has not been read."""
    deleting = {replica.number for replica in watch.replicas if replica.deleting or watch.run.deleting}
    return [
        attempt
        for attempt in watch.attempts
        if attempt.state in (State.COMPLETED, State.FAILED)
        and attempt.session is not None
        and attempt.log == "none"
        and attempt.replica not in deleting
    ]


def is_doubtful(watch: RunSnapshot) -> bool:
    """Whether something waits for another look: a create in doubt, or a session that one list did not show."""
    return any(replica.state == State.UNCONFIRMED for replica in watch.replicas) or is_missing(watch)


def is_missing(watch: RunSnapshot) -> bool:
    """Whether one list did not show a session, and a second has not agreed yet."""
    return any(attempt.missing_since is not None and attempt.state in ALIVE for attempt in watch.attempts)


def due_times(watch: RunSnapshot, settle: float) -> list[float]:
    """Wall times from which on creates may be sent that may not be sent before."""
    times = [replica.not_before for replica in watch.replicas if replica.not_before is not None]
    return times + [
        attempt.last_ambiguous_at + settle
        for attempt in watch.latest().values()
        if attempt.state == State.UNCONFIRMED and attempt.last_ambiguous_at is not None
    ]


def is_ended(watch: RunSnapshot) -> bool:
    """Whether nothing of the run goes on, or may go on, by itself."""
    if watch.run.deleting:
        return all(replica.state in ENDED for replica in watch.replicas)
    return all(
        replica.state in ENDED
        and not (replica.state == State.FAILED and replica.attempt < replica.allowed and not replica.deleting)
        for replica in watch.replicas
    )


def is_up(watch: RunSnapshot) -> bool:
    """Whether every session of an interactive job is there to be used, or has ended: what its --wait waits for."""
    return watch.run.kind != "headless" and all(
        replica.state == State.RUNNING or replica.state in ENDED for replica in watch.replicas
    )
