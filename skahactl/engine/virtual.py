"""Jobs as if what apply decided had been written: what a dry run plans on."""

from __future__ import annotations

from dataclasses import replace

from skahactl import states
from skahactl.engine.observe import Watch
from skahactl.job import Job
from skahactl.ledger.records import JobKey, Run
from skahactl.ledger.replicas import ReplicaState


def as_if_added(job: Job, key: JobKey, now: float) -> Watch:
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
    return Watch(run, rows, ())


def as_if_limited(watch: Watch, job: Job) -> Watch:
    """A run that goes on, with what its manifest may change in it: as ledger.runs.set_limits would write it."""
    run = replace(watch.run, limits=job.limits, keep=job.keep, attempts=job.attempts)
    rows = tuple(replace(row, allowed=max(row.allowed, job.attempts)) for row in watch.replicas)
    return replace(watch, run=run, replicas=rows)
