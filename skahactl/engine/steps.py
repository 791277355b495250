"""What a pass of the driver derives from a watch: plans within its state, and small questions about it."""

from __future__ import annotations

from skahactl import states
from skahactl.durations import format_duration
from skahactl.engine.look import end_unsent
from skahactl.engine.observe import PENDING_TIMEOUT, RunSnapshot
from skahactl.engine.plan import Doubts, Gate, Step, plan_run
from skahactl.ledger import replicas
from skahactl.ledger.attempts import set_attempt
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import AttemptRow


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
        if attempt.session not in listed or attempt.session is None or attempt.state != states.PENDING:
            continue
        if attempt.reason is not None and attempt.reason.startswith(PENDING_TIMEOUT):
            found.append(attempt.session)
        elif longest is not None and now - (attempt.pending_since or now) > longest:
            reason = f"{PENDING_TIMEOUT}: Pending for more than {format_duration(longest)}"
            set_attempt(ledger, attempt, state=states.PENDING, reason=reason)
            found.append(attempt.session)
    return tuple(found)


def to_replace(watch: RunSnapshot, numbers: list[int], listed: frozenset[str]) -> tuple[str, ...]:
    """Listed sessions of earlier, ended attempts of replicas that are tried again."""
    again = set(numbers)
    return tuple(
        attempt.session
        for attempt in watch.attempts
        if attempt.replica in again and attempt.session in listed and attempt.session and attempt.state in states.ENDED
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
            replicas.set_states(ledger, watch.run.id, numbers, states.SKIPPED, skipped[0].reason)
        for number, attempt in watch.latest().items():
            if number in given_up:
                step = given_up[number]
                state = states.EXPIRED if step.action == "expire" else states.REFUSED
                end_unsent(ledger, attempt, state, step.reason, now)
            elif number in deleted and attempt.state == states.UNSETTLED:
                end_unsent(ledger, attempt, states.DELETED, "deleted; the create in doubt made no session", now)


def unread_logs(watch: RunSnapshot) -> list[AttemptRow]:
    """Ended attempts with a session whose log has not been read."""
    deleting = {replica.number for replica in watch.replicas if replica.deleting or watch.run.deleting}
    return [
        attempt
        for attempt in watch.attempts
        if attempt.state in (states.COMPLETED, states.FAILED)
        and attempt.session is not None
        and attempt.log == "none"
        and attempt.replica not in deleting
    ]


def is_doubtful(watch: RunSnapshot) -> bool:
    """Whether something waits for another look: a create in doubt, or a session that one list did not show."""
    return any(replica.state == states.UNSETTLED for replica in watch.replicas) or is_missing(watch)


def is_missing(watch: RunSnapshot) -> bool:
    """Whether one list did not show a session, and a second has not agreed yet."""
    return any(attempt.missing_since is not None and attempt.state in states.ALIVE for attempt in watch.attempts)


def due_times(watch: RunSnapshot, settle: float) -> list[float]:
    """Wall times from which on creates may be sent that may not be sent before."""
    times = [replica.not_before for replica in watch.replicas if replica.not_before is not None]
    return times + [
        attempt.doubt_ended + settle
        for attempt in watch.latest().values()
        if attempt.state == states.UNSETTLED and attempt.doubt_ended is not None
    ]


def is_ended(watch: RunSnapshot) -> bool:
    """Whether nothing of the run goes on, or may go on, by itself."""
    if watch.run.deleting:
        return all(replica.state in states.ENDED for replica in watch.replicas)
    return all(
        replica.state in states.ENDED
        and not (replica.state == states.FAILED and replica.attempt < replica.allowed and not replica.deleting)
        for replica in watch.replicas
    )


def is_up(watch: RunSnapshot) -> bool:
    """Whether every session of an interactive job is there to be used, or has ended: what its --wait waits for."""
    return watch.run.kind != "headless" and all(
        replica.state == states.RUNNING or replica.state in states.ENDED for replica in watch.replicas
    )


def longest_running(watch: RunSnapshot, now: float, most: int = 5) -> tuple[tuple[int, float], ...]:
    """Who runs longest: (replica, seconds)."""
    running = [
        (attempt.replica, now - attempt.started)
        for attempt in watch.latest().values()
        if attempt.state == states.RUNNING and attempt.started is not None
    ]
    return tuple(sorted(running, key=lambda pair: -pair[1])[:most])
