"""``skahactl apply`` and ``skahactl diff``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.commands.params import (
    EARLIER_RUNS,
    EXECUTION,
    BreakLock,
    Files,
    Manifest,
    Sets,
    Timeout,
    Variables,
    WaitFlag,
)
from skahactl.commands.runtime import (
    check_timeout,
    confirm,
    connected_runtime,
    deadline,
    read_manifests,
    run,
    run_with_report,
)
from skahactl.errors import Exit, UsageError
from skahactl.invocation import Invocation, current
from skahactl.text import count_noun, suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skahactl.engine.apply import Applier
    from skahactl.engine.outcome import JobOutcome, Outcome
    from skahactl.engine.runtime import Runtime
    from skahactl.ledger.records import Run
    from skahactl.model import Job
    from skahactl.profile import Profile


Adoption = Literal["create", "unknown"] | str  # completion offers these; apply rejects others itself


def apply(
    *manifests: Manifest,
    file: Files = None,
    sets: Sets = None,
    variables: Variables = None,
    wait: WaitFlag = False,
    timeout: Timeout = None,
    dry_run: Annotated[
        bool, Parameter(name=["--dry-run", "-n"], group=EXECUTION, help="Show the plan without changing anything.")
    ] = False,
    rerun: Annotated[
        bool, Parameter(name=["--rerun", "-R"], group=EARLIER_RUNS, help="Start a new run if the last one has ended.")
    ] = False,
    missing: Annotated[
        bool,
        Parameter(group=EARLIER_RUNS, help="With --rerun, run only items that no earlier run of the job completed."),
    ] = False,
    replace: Annotated[bool, Parameter(group=EARLIER_RUNS, help="Delete the current run and start a new one.")] = False,
    yes: Annotated[
        bool, Parameter(name=["--yes", "-y"], group=EARLIER_RUNS, help="Do not ask for confirmation of --replace.")
    ] = False,
    adopt: Annotated[
        Adoption | None,
        Parameter(
            metavar="create|unknown",
            group=EARLIER_RUNS,
            show_choices=False,
            help="If the job was started on another machine: take over its sessions. create: create the missing "
            "replicas; unknown: record them as Unknown.",
        ),
    ] = None,
    break_lock: BreakLock = False,
) -> int:
    """Make the platform match manifests: create what is missing, save results, start retries.

    You can run it any number of times; running or finished work is never restarted, unless you deleted the job or
    pruned its record. Without --wait it does one pass and exits.

    Examples:
      skahactl apply job.toml
      skahactl apply job.toml --wait --timeout 12h
      skahactl apply survey/ --dry-run -o json
    """
    check_timeout(timeout, wait, "apply", *manifests)
    if yes and not replace:
        raise UsageError("-y confirms --replace, which is missing", hint="leave out -y, or add --replace")
    files = read_manifests("apply", manifests, file)
    if adopt not in (None, "create", "unknown"):
        raise UsageError(f"--adopt takes create or unknown, not '{adopt}'")
    if missing and not rerun:
        raise UsageError("--missing needs --rerun", hint=suggest("apply", "--rerun", "--missing", "MANIFEST"))
    call = _call(files, sets, variables)
    asked = ApplyOptions(dry_run, wait, timeout, rerun, replace, yes, adopt, break_lock, missing=missing, words=call)
    return Exit(apply_files(files, asked, sets or [], variables or []))


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """The options of apply."""

    dry_run: bool = False
    wait: bool = False
    timeout: str | None = None
    rerun: bool = False
    replace: bool = False
    yes: bool = False
    adopt: str | None = None
    break_lock: bool = False
    creating: bool = False  # called by create, which has no --rerun and --replace
    missing: bool = False
    words: tuple[str, ...] = ()  # the manifests and settings of the call


def _call(files: Sequence[str], sets: Sequence[str] | None, variables: Sequence[str] | None) -> tuple[str, ...]:
    settings = [word for text in sets or () for word in ("--set", text)]
    return (*files, *settings, *(word for text in variables or () for word in ("--var", text)))


def apply_files(files: Sequence[str], asked: ApplyOptions, sets: Sequence[str], words: list[str]) -> int:
    """Load and resolve the files, apply their jobs, and return the exit code."""
    from skahactl.manifest.load import env_variables
    from skahactl.manifest.resolve import read
    from skahactl.skaha.encoding import problems

    context = current()

    def jobs(profile: Profile) -> tuple[Job, ...]:
        earlier = _EarlierRuns(profile)
        made = read(
            files,
            profile,
            sets=sets,
            variables=env_variables(words),
            stdin=context.stdin,
            check=lambda r: problems(r),
            completed=earlier.completed if asked.missing else None,
        )
        for job in made:
            earlier.warn_of_other_values(job)
        return made

    return apply_jobs(jobs, asked)


@dataclass(frozen=True, slots=True)
class _EarlierRuns:
    """The runs of jobs in the local record, with the items that each completed."""

    profile: Profile
    _found: dict[str, list[tuple[Run, frozenset[str]]]] = field(default_factory=dict)  # by job

    def completed(self, name: str) -> frozenset[str]:
        """Return the items that any run of the job completed."""
        from skahactl.ledger.database import read_ledger
        from skahactl.ledger.records import JobKey
        from skahactl.ledger.replicas import completed_items
        from skahactl.ledger.runs import runs_of
        from skahactl.system import state_dir
        from skahactl.targets import current_user

        with read_ledger(state_dir(current().environ)) as ledger:
            users = dict.fromkeys((current_user(ledger, self.profile), ""))
            runs = [run for user in users for run in runs_of(ledger, JobKey(self.profile.server, user, name))]
            found = self._found[name] = [(run, completed_items(ledger, run.id)) for run in runs]
        return frozenset().union(*(items for _, items in found))

    def warn_of_other_values(self, job: Job) -> None:
        """Warn of items that are left out, although no run completed them with the values that the job has now."""
        from skahactl.engine.decide import changed_values
        from skahactl.model import differences

        found = [
            (changed_values(differences(run.content, job.content)), items)
            for run, items in self._found.get(job.name, ())
        ]
        same = frozenset[str]().union(*(items for paths, items in found if not paths))
        left = set(job.left_out) - same
        paths = dict.fromkeys(path for paths, items in found if items & left for path in paths)
        if left:
            are, they = ("is", "it was") if len(left) == 1 else ("are", "they were")
            current().warn(
                f"warning: {job.name}: {count_noun(len(left), 'item')} {are} left out; {they} completed with other "
                f"values of: {', '.join(paths)}"
            )


def apply_jobs(jobs: Callable[[Profile], tuple[Job, ...]], asked: ApplyOptions) -> int:
    """Apply the jobs that ``jobs`` returns for the selected profile, and return the exit code."""
    from skahactl.profiles import choose

    context = current()
    profile = choose(context.profile, context.environ)
    made, empty = split_off_empty(jobs(profile), asked.missing)
    if not made:
        return _show_empty(profile, empty, asked.dry_run)
    return run(lambda: _apply(profile, made, empty, asked))


def split_off_empty(jobs: tuple[Job, ...], missing: bool = False) -> tuple[tuple[Job, ...], list[JobOutcome]]:
    """Return the jobs that have replicas, and outcomes for the others, which have an empty list of items.

    An empty job counts as done: it is removed from ``after`` of the other jobs.
    """
    from skahactl.engine.outcome import JobOutcome
    from skahactl.engine.plan import JobAction

    empty = {job.name for job in jobs if not job.replicas}
    rest = tuple(
        replace(job, after=tuple(name for name in job.after if name not in empty)) for job in jobs if job.replicas
    )
    reason = f"nothing to do: {'every item is Completed' if missing else 'the list of items is empty'}"
    parts = [
        JobOutcome(job.name, JobAction.KEEP, reason, digest=job.digest, reason_is_final=True, has_driver=True)
        for job in jobs
        if not job.replicas
    ]
    return rest, parts


def _show_empty(profile: Profile, empty: list[JobOutcome], dry_run: bool) -> int:
    from skahactl.engine.outcome import Outcome
    from skahactl.render.outcomes import show_outcome

    show_outcome(current(), Outcome(profile, dry_run, empty))
    return Exit.DONE


async def _apply(profile: Profile, jobs: tuple[Job, ...], empty: list[JobOutcome], asked: ApplyOptions) -> int:
    from skahactl.engine.precheck import precheck
    from skahactl.engine.runtime import FOREVER
    from skahactl.render.outcomes import show_outcome

    async with connected_runtime(profile) as runtime:
        applier = applier_for(runtime, asked)
        patience = FOREVER if asked.wait and not asked.dry_run else 0.0
        warnings = await runtime.ask_until_answered(
            lambda: precheck(jobs, runtime, current().environ), patience=patience, deadline=applier.deadline
        )
        for warning in warnings:
            runtime.warn_once(warning)
        if asked.dry_run:
            outcome = _with_manifests(await applier.preview(jobs), jobs, asked.words).with_jobs(empty)
            _show_preview(current(), outcome, jobs)
            return int(outcome.exit)
        with run_with_report(runtime, lambda: applier.known):
            outcome = _with_manifests(await applier.apply(jobs), jobs, asked.words).with_jobs(empty)
        if asked.creating:
            _hint_for_create(outcome)
        show_outcome(current(), outcome)
        return int(outcome.exit)


def _with_manifests(outcome: Outcome, jobs: Sequence[Job], call: tuple[str, ...]) -> Outcome:
    """Add to the outcome of each job its manifest and the call of apply; return the outcome."""
    manifests = {job.name: job.manifest for job in jobs}
    for part in outcome.jobs:
        part.manifest, part.call = manifests.get(part.name), call
    return outcome


def _show_preview(context: Invocation, outcome: Outcome, jobs: Sequence[Job]) -> None:
    """Print the plan and the requests that would be sent."""
    from skahactl.render.outcomes import add_requests, show_outcome, show_requests

    if context.machine_readable:
        add_requests(outcome, jobs)
    show_outcome(context, outcome)
    if context.output in ("table", "wide"):
        show_requests(context, outcome, jobs)


def applier_for(runtime: Runtime, asked: ApplyOptions) -> Applier:
    from skahactl.engine.apply import Applier
    from skahactl.engine.decide import ApplyMode

    return Applier(
        runtime,
        ApplyMode(asked.rerun, asked.replace, asked.adopt, asked.words),
        wait=asked.wait,
        deadline=deadline(asked.timeout, runtime.clock),
        break_lock=asked.break_lock,
        directory=current().cwd,
        confirm=lambda words: confirm(current(), asked.yes, words),
    )


def _hint_for_create(outcome: Outcome) -> None:
    """Adapt an outcome to create: leave out differences from the earlier run, say that a new run has an earlier one,
    and for a name in use suggest another name or a delete."""
    from skahactl.engine.plan import JobAction

    for part in outcome.jobs:
        part.differences = ()
        if part.action is JobAction.CREATE and (part.run or 0) > 1:
            earlier = suggest("get", part.name, "--run", str((part.run or 0) - 1))
            current().say(f"this is run {part.run} of the job {part.name}; the run before: {earlier}")
        if part.action is JobAction.REFUSE:
            part.reason = f"a job {part.name} exists already (run {part.run})"
            part.hint = f"choose another name with -n, or end it with: {suggest('delete', part.name)}"


def diff(
    *manifests: Manifest,
    file: Files = None,
    sets: Sets = None,
    variables: Variables = None,
) -> int:
    """Show what apply would change. Exit with 0 for no difference, 1 for differences.

    SKAHACTL_DIFF names another program that shows it, such as "diff -ru" or "meld".

    Examples:
      skahactl diff job.toml
      skahactl diff job.toml --set resources.ram=64
    """
    from skahactl.manifest.load import env_variables as parsed
    from skahactl.manifest.resolve import read
    from skahactl.profiles import choose

    files = read_manifests("diff", manifests, file)
    context = current()
    profile = choose(context.profile, context.environ)
    resolved = read(files, profile, sets=sets or [], variables=parsed(variables or []), stdin=context.stdin)
    jobs, empty = split_off_empty(resolved)
    call = _call(files, sets, variables)
    return run(lambda: _diff(profile, jobs, empty, call)) if jobs else _show_empty(profile, empty, True)


async def _diff(profile: Profile, jobs: tuple[Job, ...], empty: list[JobOutcome], call: tuple[str, ...]) -> int:
    from skahactl.engine.plan import JobAction
    from skahactl.render.differences import run_diff_program
    from skahactl.render.outcomes import show_outcome

    async with connected_runtime(profile) as runtime:
        preview = await applier_for(runtime, ApplyOptions(dry_run=True, words=call)).preview(jobs)
        outcome = _with_manifests(preview, jobs, call)
        for part in outcome.jobs:
            if part.action is not JobAction.FOREIGN:
                part.exit = Exit.NO if changes(part) else Exit.DONE
        outcome = outcome.with_jobs(empty)
        program = current().environ.get("SKAHACTL_DIFF")
        if program and current().output in ("table", "wide"):
            run_diff_program(current(), program, outcome.jobs, jobs)
        else:
            show_outcome(current(), outcome)
        return int(outcome.exit)


def changes(part: JobOutcome) -> bool:
    """Return whether apply would change anything of this job."""
    from skahactl.engine.plan import StepAction

    return bool(part.differences) or any(step.action not in (StepAction.KEEP, StepAction.HOLD) for step in part.steps)
