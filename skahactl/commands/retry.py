"""``skahactl retry``, ``skahactl resume`` and ``skahactl mark``."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl import completers
from skahactl.commands.params import (
    RECORDED_TARGET,
    SELECTION,
    BreakLock,
    DryRun,
    ItemsFile,
    JobWord,
    Replicas,
    Timeout,
    UnknownFlag,
    WaitFlag,
)
from skahactl.commands.runtime import (
    FoundJob,
    check_timeout,
    connected_runtime,
    deadline,
    jobs_named,
    one_job,
    read_lines,
    run,
    run_with_report,
)
from skahactl.errors import Exit, UsageError
from skahactl.invocation import current
from skahactl.model import AMOUNTS, Resources, State
from skahactl.text import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.engine.retry import RetryChoice
    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.records import Run


_TWO_WAYS = "--items cannot be combined with -r, --failed, --unknown or --rejected"


def retry(
    *jobs: Annotated[
        str,
        Parameter(name="TARGET", help=RECORDED_TARGET, completer=completers.jobs_with_sessions, required=True),
    ],
    replicas: Replicas = None,
    failed: Annotated[bool, Parameter(group=SELECTION, help="Retry Failed replicas (default).")] = False,
    unknown: UnknownFlag = False,
    rejected: Annotated[
        bool, Parameter(group=SELECTION, help="Retry Rejected replicas: the server rejected their request.")
    ] = False,
    items: ItemsFile = None,
    ram: Annotated[
        float | None,
        Parameter(name=["--ram", "--memory", "-m"], metavar="GB", help="Request this memory for these attempts only."),
    ] = None,
    cores: Annotated[
        float | None,
        Parameter(name=["--cores", "--cpu", "-c"], metavar="N", help="Request these cores for these attempts only."),
    ] = None,
    wait: WaitFlag = False,
    timeout: Timeout = None,
    dry_run: DryRun = False,
) -> int:
    """Retry failed replicas. Live replicas are never touched.

    Replicas that you name (-r 3 or tiles/3) are retried however they ended. If items run one by one (each = true), only
    those that did not end with exit code 0 run again (and those of --items); if all of them did, all run again.

    Examples:
      skahactl retry tiles --wait
      skahactl retry tiles --unknown
      skahactl retry tiles --ram 16 --wait
      skahactl retry tiles --items missing.txt
    """
    check_timeout(timeout, wait, "retry", *jobs)
    flags = {State.FAILED: failed, State.UNKNOWN: unknown, State.REJECTED: rejected}
    wanted = frozenset(state for state, asked in flags.items() if asked)
    if items is not None and (replicas or wanted):
        raise UsageError(_TWO_WAYS)
    for key, amount in (("ram", ram), ("cores", cores)):
        least, most = AMOUNTS[key]
        if amount is not None and not least <= amount <= most:
            raise UsageError(f"invalid value for --{key}: {amount:g} (from {least} to {most:,})")
    listed = None if items is None else read_lines(items)
    every = jobs_named(jobs, replicas)  # all of them, before any is retried
    if items is not None and any(found.numbers is not None for found in every):
        raise UsageError(_TWO_WAYS, hint="with --items name the job alone")
    return run(lambda: _retry(every, RetryOptions(wanted, listed, wait, timeout, dry_run, ram, cores)))


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """The options of retry, for every job. ``states``: those selected by --failed, --unknown and --rejected."""

    states: frozenset[str]
    items: tuple[str, ...] | None
    wait: bool
    timeout: str | None
    dry_run: bool
    ram: float | None = None
    cores: float | None = None

    @property
    def resources(self) -> Resources | None:
        return None if self.ram is None and self.cores is None else Resources(self.cores, self.ram)


async def _retry(every: Sequence[FoundJob], wanted: RetryOptions) -> int:
    """Retry all jobs in one event loop, print one outcome, and return the exit code."""
    from skahactl.engine.outcome import Outcome
    from skahactl.engine.precheck import check_offered
    from skahactl.engine.retry import Retry, is_unfinished, nothing_to_retry, preview_retry
    from skahactl.engine.runtime import FOREVER
    from skahactl.render.outcomes import show_outcome

    async with connected_runtime(every[0].profile) as runtime:
        whole = Outcome(every[0].profile, wanted.dry_run, [])
        until = deadline(wanted.timeout, runtime.clock)
        runs = [found.run for found in every]
        await runtime.first_poll(runs, patience=FOREVER if wanted.wait else 0.0, deadline=until)
        if wanted.resources is not None:
            await check_offered(runtime.client, wanted.resources)
        chosen: list[tuple[Run, RetryChoice]] = []
        follow = wanted.wait and not wanted.dry_run
        for found in every:
            these = _chosen(runtime, found, wanted)
            if not these.replicas and not (follow and is_unfinished(runtime.ledger, found.run, these)):
                whole.jobs.append(nothing_to_retry(runtime.ledger, found.run, these, wanted.dry_run, follow))
            elif wanted.dry_run:
                whole.jobs.append(preview_retry(runtime.ledger, found.run, these))
            else:
                chosen.append((found.run, these))
        if chosen:
            again = Retry(runtime, until)
            with run_with_report(runtime, lambda: None if again.known is None else whole.with_jobs(again.known.jobs)):
                whole = whole.with_jobs((await again.retry(chosen, wanted.wait)).jobs)
        names = [found.run.key.name for found in every]
        whole.jobs.sort(key=lambda part: names.index(part.name))
        show_outcome(current(), whole)
        return int(whole.exit)


def _chosen(runtime: Runtime, found: FoundJob, wanted: RetryOptions) -> RetryChoice:
    """Return what to retry of a job, and print warnings for replicas that cannot be retried."""
    from skahactl.engine.retry import choose_retries

    run = found.run
    chosen = choose_retries(runtime.ledger, run, found.numbers, wanted.states, wanted.items)
    chosen = replace(chosen, resources=wanted.resources)
    for step in chosen.left:
        current().warn(f"{run.key.name}/{step.replica}: {step.reason}")
    return chosen


def resume(
    job: Annotated[str, Parameter(name="JOB", help="Name of the job.", completer=completers.jobs)],
    /,
    *,
    timeout: Timeout = None,
    break_lock: BreakLock = False,
) -> int:
    """Drive the last run of a job until it ends: create queued replicas, retry, save logs.

    It needs the local record, not the manifest. Exit with 0 only if every replica completed.

    Examples:
      skahactl resume tiles
      skahactl resume tiles --timeout 12h
    """
    return run(lambda: _resume(job, timeout, break_lock))


async def _resume(job: str, timeout: str | None, break_lock: bool) -> int:
    from skahactl.engine.retry import Retry
    from skahactl.render.outcomes import show_outcome

    found = one_job(job)
    async with connected_runtime(found.profile) as runtime:
        until = deadline(timeout, runtime.clock)
        again = Retry(runtime, until, break_lock)
        with run_with_report(runtime, lambda: again.known):
            outcome = await again.resume(found.run)
        show_outcome(current(), outcome)
        return int(outcome.exit)


Word = Literal["completed", "failed"] | str  # completion offers these; mark rejects others itself
WORDS = {"completed": State.COMPLETED, "failed": State.FAILED}


def mark(
    job: JobWord,
    state: Annotated[Word, Parameter(name="RESULT", show_choices=False, help="completed or failed.")],
    /,
    *,
    replicas: Replicas = None,
    items: ItemsFile = None,
    unknown: UnknownFlag = False,
    force: Annotated[bool, Parameter(help="Also change results that were observed.")] = False,
) -> int:
    """Set the result of replicas that finished unobserved. Nothing is sent to the server.

    Examples:
      skahactl mark tiles completed -r 17,40-42
      skahactl mark tiles completed --unknown
      skahactl mark tiles failed --items missing.txt
    """
    from skahactl.spelling import did_you_mean

    if state.lower() not in WORDS:
        raise UsageError(f"RESULT is completed or failed, not '{state}'", hint=did_you_mean(state, WORDS))
    return _mark(job, WORDS[state.lower()], replicas, items, unknown, force)


def _mark(job: str, state: State, replicas: str | None, items: str | None, unknown: bool, force: bool) -> int:
    from skahactl.engine.retry import OTHER, mark_results
    from skahactl.ledger.database import open_ledger
    from skahactl.ledger.replicas import replica_states
    from skahactl.render.outcomes import head_of
    from skahactl.system import state_dir

    context = current()
    found = one_job(job, replicas)
    named = unknown or found.numbers is not None
    if named == (items is not None):
        raise UsageError(
            "specify replicas with -r, --unknown or --items", hint=suggest("mark", job, state.lower(), "-r", "1-10")
        )
    listed = None if items is None else read_lines(items)
    with open_ledger(state_dir(context.environ)) as ledger:
        numbers = found.numbers or frozenset()
        if unknown:
            rows = replica_states(ledger, found.run.id)
            within = found.numbers or range(1, found.run.total + 1)
            numbers = frozenset(row.number for row in rows if row.state == State.UNKNOWN and row.number in within)
        marked = mark_results(ledger, found.run, state, numbers, listed, time.time(), force)
    where = head_of(found.run)
    for places in marked.changed:
        context.warn(f"{where}: the observed result of {places} was {OTHER[state]}")
    if context.machine_readable:
        from skahactl.render.tables import data_text

        data = {"name": found.run.key.name, "run": found.run.number, "state": state, "replicas": list(marked.replicas)}
        context.data(data_text(context.output, data))
        return Exit.DONE
    if not marked.text:
        context.say(f"{where}: {'no replica is Unknown; ' if unknown else ''}nothing marked")
        return Exit.DONE
    context.say(f"{where}: {marked.text}")
    return Exit.DONE
