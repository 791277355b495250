"""``skahactl diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skahactl.commands.manifests import Files, Manifest, Sets, Variables, read_manifests
from skahactl.commands.opening import open_write_context, run
from skahactl.context import current
from skahactl.errors import Exit

if TYPE_CHECKING:
    from skahactl.engine.outcome import JobOutcome
    from skahactl.job import Job
    from skahactl.profile import Profile


def diff(
    *manifests: Manifest,
    file: Files = None,
    sets: Sets = None,
    variables: Variables = None,
) -> int:
    """Show what apply would change: exit 0 for nothing, 1 for something.

    Examples:

      skahactl diff job.toml
      skahactl diff job.toml --set resources.ram=64
    """
    from skahactl.manifest.load import env_variables as parsed
    from skahactl.manifest.resolve import read
    from skahactl.profiles import choose

    files = read_manifests("diff", manifests, file, ("--file", "--set", "--var", "--help"))
    context = current()
    profile = choose(context.profile, context.environ)
    jobs = read(files, profile, sets=sets or [], variables=parsed(variables or []), stdin=context.stdin)
    return run(lambda: _diff(profile, jobs))


async def _diff(profile: Profile, jobs: tuple[Job, ...]) -> int:
    from skahactl.commands.applying import ApplyOptions, applier_for
    from skahactl.render.outcomes import show_outcome

    async with open_write_context(profile) as here:
        outcome = await here.desk.stop.guard(applier_for(here, ApplyOptions(dry_run=True)).preview(jobs))
        for part in outcome.jobs:
            part.exit = Exit.NO if changes(part) else Exit.DONE
        show_outcome(here.context, outcome)
        return int(outcome.exit)


def changes(part: JobOutcome) -> bool:
    """Whether apply would change anything of this job."""
    return bool(part.differences) or any(step["action"] not in ("keep", "hold") for step in part.steps)
