"""What ledger and platform know of a job before it is applied, and so what apply does with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skahactl import states
from skahactl.engine.decide import ApplyWishes, Decision, decide
from skahactl.engine.drive import gate_for
from skahactl.engine.glance import view_run, view_summary
from skahactl.engine.look import shows_more, with_listed_sessions
from skahactl.engine.plan import Step
from skahactl.errors import UsageError
from skahactl.job import Job
from skahactl.ledger import runs
from skahactl.ledger.attempts import known_among
from skahactl.ledger.database import Ledger
from skahactl.ledger.records import JobKey, Run, RunSummary
from skahactl.manifest.names import base_session_name
from skahactl.profile import Profile
from skahactl.skaha.models import Listing, Session
from skahactl.words import did_you_mean


@dataclass(frozen=True, slots=True)
class RunHistory:
    """Answers from the ledger and one list of sessions."""

    ledger: Ledger
    profile: Profile
    listing: Listing

    def key(self, name: str) -> JobKey:
        return JobKey(self.profile.server, self.listing.user or "", name)

    def last(self, name: str) -> RunSummary | None:
        """Its last run as the list shows it; sessions that were taken for gone, and are alive, count as alive."""
        run = runs.last_run(self.ledger, self.key(name))
        if run is None:
            return None
        held = runs.summaries(self.ledger, [run])[0]
        if run.ended is not None:
            return with_listed_sessions(self.ledger, held, self.listing)
        return view_summary(held, view_run(self.ledger, run, self.listing))

    def decide(self, job: Job, wishes: ApplyWishes, now: float, coming: set[str] | None = None) -> Decision:
        """``coming``: jobs that get a new run first."""
        last = self.last(job.name)
        foreign = {} if last is not None else self.foreign(job)
        stale = None if last is None else self._stale(last.run, coming or set())
        decision = decide(job, last, foreign, wishes, stale, now)
        if decision.action != "ended" or last is None:
            return decision
        if last.run.ended is None:
            return Decision("keep", f"run {last.run.number} has come to its end")
        if shows_more(self.ledger, last.run.id, self.listing):
            return Decision("keep", f"run {last.run.number} had ended, but the platform shows more of it")
        if job.attempts > last.run.attempts and last.counts[states.FAILED]:
            return Decision("keep", f"run {last.run.number} has failed replicas, which may be tried again now")
        return decision

    def foreign(self, job: Job) -> dict[int, list[Session]]:
        """Sessions with exactly the names of the job's replicas, or of later attempts at them, that this ledger never
        made, by replica."""
        numbers = {replica.name: replica.number for replica in job.replicas}
        named: list[tuple[int, Session]] = []
        for session in self.listing.sessions:
            number = numbers.get(session.name) or numbers.get(base_session_name(session.name))
            if number is not None:
                named.append((number, session))
        known = known_among(self.ledger, (session.id for _, session in named))
        found: dict[int, list[Session]] = {}
        for number, session in named:
            if session.id not in known:
                found.setdefault(number, []).append(session)
        return found

    def adoption(self, job: Job, rest: str) -> dict[int, Step]:
        """What becomes of the replicas of a job whose sessions are taken over; those to be created are left out.
        ``rest``: as for ``adopt_sessions``."""
        found = self.foreign(job)
        steps = {
            replica.number: Step(replica.number, replica.name, "adopt", "a session of its name is there")
            for replica in job.replicas
            if replica.number in found
        }
        if rest == "expired":
            for replica in job.replicas:
                gone = Step(replica.number, replica.name, "expire", "no session of its name is there")
                steps.setdefault(replica.number, gone)
        return steps

    def runs_before(self, job: Job) -> dict[str, int]:
        """The newest run, 0 without one, of each job that ``job`` comes after."""
        newest = {name: runs.last_run(self.ledger, self.key(name)) for name in job.after}
        return {name: 0 if run is None else run.number for name, run in newest.items()}

    def refuse_unknown_after(self, jobs: Sequence[Job]) -> None:
        """UsageError for ``after`` with a name that neither these jobs nor the ledger know."""
        named = {job.name for job in jobs}
        for job in jobs:
            for name in job.after:
                if name in named or runs.last_run(self.ledger, self.key(name)) is not None:
                    continue
                known = [*named - {job.name}, *(key.name for key in runs.job_keys(self.ledger, self.profile.server))]
                raise UsageError(
                    f"{job.name} comes after {name}, and there is no such job here",
                    where=job.manifest,
                    hint=did_you_mean(name, known) or f"apply {name} first, or both manifests together",
                )

    def _stale(self, run: Run, coming: set[str]) -> str | None:
        """Why a run that has ended is to be run anew, because of what it came after."""
        for name, number in run.after_runs.items():
            newest = runs.last_run(self.ledger, JobKey(run.key.server, run.key.user, name))
            if name in coming or (newest is not None and newest.number > number):
                return f"{name} has a newer run than the one that run {run.number} came after"
        if run.after and run.started is None and not gate_for(self.ledger, run, coming).never:
            return f"run {run.number} was skipped, and what it comes after goes on, or is Completed by now"
        return None


def in_order(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Each job behind those among them that it comes after, else as given."""
    left = list(jobs)
    ordered: list[Job] = []
    while left:
        waiting = {job.name for job in left}
        chosen = next((job for job in left if not waiting & set(job.after)), left[0])
        ordered.append(chosen)
        left.remove(chosen)
    return tuple(ordered)
