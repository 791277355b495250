"""Jobs as if what apply decided had been written: what a dry run plans on."""

from __future__ import annotations

from dataclasses import replace

from skahactl import states
from skahactl.engine.decide import Decision
from skahactl.engine.desk import Runtime
from skahactl.engine.drive import gate_for
from skahactl.engine.glance import snapshot_with_list
from skahactl.engine.history import RunHistory
from skahactl.engine.observe import RunSnapshot
from skahactl.engine.plan import Step, plan_run, with_adopted
from skahactl.job import Job
from skahactl.ledger.records import JobKey, Run, RunSummary
from skahactl.ledger.replicas import ReplicaState


def plan_new_run(
    desk: Runtime,
    history: RunHistory,
    job: Job,
    decision: Decision,
    last: RunSummary | None,
    coming: set[str],
    rest: str | None,
) -> tuple[Step, ...]:
    """As if what was decided had been done; nothing where somebody has to choose first. ``coming``: jobs that get a new
    run first; ``rest``: as for ``adopt_sessions``, where sessions are taken over."""
    now = desk.clock.now()
    if decision.action == "foreign":
        return ()
    if last is None or decision.action not in ("keep", "ended", "refuse"):
        watch = snapshot_of_new_run(job, history.key(job.name), now)
    else:
        watch = snapshot_with_list(desk.ledger, last.run, history.listing, desk.profile.client)
    if decision.action == "keep":
        watch = with_new_limits(watch, job)
    plan = plan_run(watch, now, gate=gate_for(desk.ledger, watch.run, coming))
    return plan if rest is None or decision.action != "adopt" else with_adopted(plan, history.adoption(job, rest))


def snapshot_of_new_run(job: Job, key: JobKey, now: float) -> RunSnapshot:
    """Every replica Held, nothing tried; the run's id is 0."""
    run = Run(
        id=0,
        key=key,
        number=0,
        profile="",
        digest=job.digest,
        kind=job.kind,
        image=job.image,
        content=job.content,
        limits=job.limits,
        attempts=job.attempts,
        keep=job.keep,
        after=job.after,
        after_runs={},
        manifest=job.manifest,
        created=now,
        started=None,
        ended=None,
        observed=None,
        deleting=False,
        total=len(job.replicas),
    )
    rows = tuple(
        ReplicaState(replica.number, replica.name, states.HELD, None, 0, job.attempts, None, 0)
        for replica in job.replicas
    )
    return RunSnapshot(run, rows, ())


def with_new_limits(watch: RunSnapshot, job: Job) -> RunSnapshot:
    """A run that goes on, with what its manifest may change in it: as ledger.runs.set_limits would write it."""
    run = replace(watch.run, limits=job.limits, keep=job.keep, attempts=job.attempts)
    rows = tuple(replace(row, allowed=max(row.allowed, job.attempts)) for row in watch.replicas)
    return replace(watch, run=run, replicas=rows)
