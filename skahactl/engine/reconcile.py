"""Reconcile one run with the evidence, and decide what to do next. Nothing here waits or sends a request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from skahactl.engine.lifecycle import Action, Deletes, DriverRules, LoseLog, Phase, ReplicaRun, advance
from skahactl.engine.observe import Evidence, Presence
from skahactl.engine.plan import Gate, Step, StepAction, plan_run
from skahactl.engine.record import Recorder
from skahactl.ledger import attempts, replicas
from skahactl.ledger.attempts import end_unsent, set_attempt
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import AttemptKey, AttemptRow, Ending, Run
from skahactl.model import State
from skahactl.profile import ClientSettings
from skahactl.text import format_duration


@dataclass(frozen=True, slots=True)
class InFlight:
    """What a driver has under way for one run: creates (replicas), log reads (attempts), and the DELETEs so far."""

    creating: frozenset[int] = frozenset()
    reading: Collection[AttemptKey] = ()
    deletes: Mapping[str, Deletes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass found for a run: its plan, the phase of every replica, and what to do now."""

    plan: tuple[Step, ...]
    phases: dict[int, Phase]
    actions: tuple[Action, ...]


@dataclass
class Reconciler:
    """Decides from the ledger and the latest evidence; writes changes that need no request."""

    ledger: Ledger
    settings: ClientSettings
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.ledger, self.settings)

    def reconcile(
        self,
        run: Run,
        evidence: Evidence,
        now: float,
        under_way: InFlight,
        rules: DriverRules,
        gate: Gate,
        chosen: Callable[[Step], Step] = lambda step: step,
    ) -> Pass:
        """Run one pass over a run: apply steps that need no request, and return the plan, the phases and the actions.

        ``chosen``: may replace a step of the plan before actions are derived from it.
        """
        with self.ledger.transaction():
            self._end_overdue(run, evidence, now)
            plan = self._plan(run, now, under_way, gate)
            if self._apply_offline_steps(run, plan, now):
                plan = self._plan(run, now, under_way, gate)
            decided = self._advance(run, evidence, tuple(map(chosen, plan)), now, under_way, rules)
            lost = [action.attempt for action in decided.actions if isinstance(action, LoseLog)]
            for attempt in lost:
                self._warn_of_lost_items(attempt)
                set_attempt(self.ledger, attempt, {"log": "incomplete" if attempt.log == "partial" else "lost"})
        if lost:
            return self.reconcile(run, evidence, now, under_way, rules, gate, chosen)
        return Pass(plan, decided.phases, decided.actions)

    def _plan(self, run: Run, now: float, under_way: InFlight, gate: Gate) -> tuple[Step, ...]:
        blocked = {
            number: f"an unrecognised session {session.name} ({session.id}) is {session.status}"
            for number, session in self.recorder.unrecognised.get(run.id, {}).items()
        }
        settled = self.recorder.settled(run)
        return plan_run(
            self.recorder.snapshot(run), now, gate=gate, queued=under_way.creating, settled=settled, blocked=blocked
        )

    def _advance(
        self,
        run: Run,
        evidence: Evidence,
        plan: tuple[Step, ...],
        now: float,
        under_way: InFlight,
        rules: DriverRules,
    ) -> Pass:
        snapshot = self.recorder.snapshot(run)
        steps = {step.replica: step for step in plan}
        attempts = snapshot.by_replica()
        reading: dict[int, set[int]] = {}
        for run_id, of_replica, number in under_way.reading:
            if run_id == run.id:
                reading.setdefault(of_replica, set()).add(number)
        duplicates = self._duplicates(run, evidence)
        phases: dict[int, Phase] = {}
        actions: list[Action] = []
        for row in snapshot.replicas:
            own = attempts.get(row.number, ())
            replica = ReplicaRun(
                snapshot.run,
                row,
                own,
                evidence.of(own),
                duplicates.get(row.number, ()),
                row.number in under_way.creating,
                reading.get(row.number, frozenset()),
                under_way.deletes,
            )
            phases[row.number], todo = advance(replica, steps.get(row.number), now, rules)
            actions += todo
        return Pass(plan, phases, tuple(actions))

    def _duplicates(self, run: Run, evidence: Evidence) -> dict[int, tuple[str, ...]]:
        """Return the listed sessions that repeated creates made, by replica."""
        found: dict[int, tuple[str, ...]] = {}
        for session, replica in attempts.duplicates_of(self.ledger, run.id).items():
            if session in evidence.by_id:
                found[replica] = (*found.get(replica, ()), session)
        return found

    def _end_overdue(self, run: Run, evidence: Evidence, now: float) -> None:
        """Mark attempts that are Pending for longer than ``pending-timeout`` to be ended, if the last list shows
        them."""
        longest = self.recorder.snapshot(run).run.limits.pending_timeout
        if longest is None:
            return
        for attempt in self.recorder.snapshot(run).attempts:
            if attempt.state != State.PENDING or attempt.ending is not None or attempt.session is None:
                continue
            presence = evidence.presence(attempt.session, attempt.recorded)
            if presence is Presence.PRESENT and now - (attempt.pending_since or now) > longest:
                reason = f"Pending for more than {format_duration(longest)} (pending-timeout)"
                set_attempt(
                    self.ledger, attempt, {"ending": Ending.PENDING_TIMEOUT}, state=State.PENDING, reason=reason
                )

    def _apply_offline_steps(self, run: Run, plan: tuple[Step, ...], now: float) -> bool:
        """Apply the steps that need no request, and return whether there were any.

        These are skips, creates that are given up, and deletes of creates that made no session.
        """
        settled = self.recorder.settled(run)
        skipped = [step for step in plan if step.action is StepAction.SKIP]
        given_up = {step.replica: step for step in plan if step.action in (StepAction.GIVE_UP, StepAction.EXPIRE)}
        deleted = {step.replica for step in plan if step.action is StepAction.DELETE} & settled
        if not (skipped or given_up or deleted):
            return False
        if skipped:
            numbers = [step.replica for step in skipped]
            replicas.set_states(self.ledger, run.id, numbers, State.SKIPPED, skipped[0].reason)
        for number, attempt in self.recorder.snapshot(run).latest().items():
            if number in given_up:
                self._give_up(attempt, given_up[number], now)
            elif number in deleted and attempt.state == State.UNCONFIRMED:
                end_unsent(self.ledger, attempt, State.DELETED, "deleted; the ambiguous create made no session", now)
        return True

    def _warn_of_lost_items(self, attempt: AttemptRow) -> None:
        marks = replicas.item_marks(self.ledger, attempt)
        if marks is not None:
            self.recorder.warnings.append(
                f"the log of {attempt.name} is lost; its items without a known result run again if it is retried"
            )

    def _give_up(self, attempt: AttemptRow, step: Step, now: float) -> None:
        state = State.UNKNOWN if step.action is StepAction.EXPIRE else State.REJECTED
        end_unsent(self.ledger, attempt, state, step.reason, now)
