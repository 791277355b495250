"""From manifests to an outcome: what apply, diff, create and their dry runs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.commands.ending import run_with_report
from skahactl.commands.opening import WriteContext, confirm, deadline, open_write_context, run
from skahactl.context import Invocation, current

if TYPE_CHECKING:
    from skahactl.engine.outcome import Outcome
    from skahactl.job import Job
    from skahactl.profile import Profile


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
    creating: bool = False  # by create, which has no --rerun and --replace


def apply_files(files: Sequence[str], asked: ApplyOptions, sets: Sequence[str], words: list[str]) -> int:
    """Loads and resolves the files, and applies what they say."""
    from skahactl.manifest.load import env_variables
    from skahactl.manifest.resolve import read
    from skahactl.skaha.encoding import problems

    context = current()

    def jobs(profile: Profile) -> tuple[Job, ...]:
        return read(
            files, profile, sets=sets, variables=env_variables(words), stdin=context.stdin, check=lambda r: problems(r)
        )

    return apply_jobs(jobs, asked)


def apply_jobs(jobs: Callable[[Profile], tuple[Job, ...]], asked: ApplyOptions) -> int:
    """Applies the jobs that ``jobs`` makes for the chosen profile; the exit code."""
    from skahactl.profiles import choose

    context = current()
    profile = choose(context.profile, context.environ)
    made = jobs(profile)
    return run(lambda: _apply(profile, made, asked))


async def _apply(profile: Profile, jobs: tuple[Job, ...], asked: ApplyOptions) -> int:
    from skahactl.engine.apply import precheck
    from skahactl.engine.stop import seconds_left
    from skahactl.render.outcomes import show_outcome

    async with open_write_context(profile) as here:
        applier = applier_for(here, asked)
        left = seconds_left(applier.deadline, here.desk.clock)
        warnings = await here.desk.stop.guard(precheck(jobs, here.desk, here.context.environ), left)
        for warning in warnings:
            here.desk.reporter.say(f"warning: {warning}")
        if asked.dry_run:
            left = seconds_left(applier.deadline, here.desk.clock)
            outcome = await here.desk.stop.guard(applier.preview(jobs), left)
            _show_preview(here.context, outcome, jobs)
            return int(outcome.exit)
        with run_with_report(here, lambda: applier.known):
            outcome = await applier.apply(jobs)
        if asked.creating:
            _hint_for_create(outcome)
        show_outcome(here.context, outcome)
        return int(outcome.exit)


def _show_preview(context: Invocation, outcome: Outcome, jobs: Sequence[Job]) -> None:
    """The plan, and what would be sent."""
    from skahactl.render.outcomes import add_requests, show_outcome, show_requests

    if context.machine_readable:
        add_requests(outcome, jobs)
    show_outcome(context, outcome)
    if context.output in ("table", "wide"):
        show_requests(context, outcome, jobs)


def applier_for(here: WriteContext, asked: ApplyOptions) -> Applier:
    from skahactl.engine.apply import Applier
    from skahactl.engine.decide import ApplyWishes

    return Applier(
        here.desk,
        ApplyWishes(asked.rerun, asked.replace, asked.adopt),
        wait=asked.wait,
        deadline=deadline(asked.timeout, here.desk.clock),
        break_lock=asked.break_lock,
        directory=here.context.cwd,
        confirm=lambda words: confirm(here.context, asked.yes, words),
    )


def _hint_for_create(outcome: Outcome) -> None:
    """A job that was created before: what it was then is of no interest, and the ways out are create's."""
    for part in outcome.jobs:
        part.differences = ()
        if part.action == "refuse":
            part.reason = f"run {part.run} of it has not ended, or has results"
            part.hint = f"choose another name with -n, or end it with: skahactl delete {part.name}"


if TYPE_CHECKING:
    from skahactl.engine.apply import Applier
