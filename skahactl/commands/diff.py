"""``skahactl diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skahactl.commands.opening import opened, run, unless_stopped, variables
from skahactl.context import current
from skahactl.errors import Exit, UsageError

if TYPE_CHECKING:
    from skahactl.engine.outcome import JobOutcome
    from skahactl.job import Job
    from skahactl.profile import Profile


def diff(
    *manifests: str,
    file: Annotated[list[str] | None, Parameter(name=["--file", "-f"], negative=())] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    var: Annotated[list[str] | None, Parameter(name="--var", negative=())] = None,
) -> int:
    """Show what apply would change: exit 0 for nothing, 1 for something.

    Examples:

      skahactl diff job.toml
      skahactl diff job.toml --set resources.ram=64

    Parameters
    ----------
    manifests
        Files, directories, or - for standard input.
    file
        Another manifest.
    set_
        KEY=VALUE, over the manifest's own.
    var
        NAME=VALUE, over the [vars] of manifest and profile.
    """
    from skahactl.manifest import read
    from skahactl.profiles import choose

    files = [*manifests, *(file or [])]
    if not files:
        raise UsageError("diff needs a manifest", hint="skahactl diff job.toml")
    context = current()
    profile = choose(context.profile, context.environ)
    jobs = read(files, profile, sets=set_ or [], variables=variables(var or []), stdin=context.stdin)
    return run(lambda: _diff(profile, jobs))


async def _diff(profile: Profile, jobs: tuple[Job, ...]) -> int:
    from skahactl.commands.applying import Asked, applier_for
    from skahactl.render.outcomes import show_outcome

    async with opened(profile) as here:
        outcome = await unless_stopped(here.stop, applier_for(here, Asked(dry_run=True)).preview(jobs))
        for part in outcome.jobs:
            part.exit = Exit.NO if changes(part) else Exit.DONE
        show_outcome(here.context, outcome)
        return int(outcome.exit)


def changes(part: JobOutcome) -> bool:
    """Whether apply would change anything of this job."""
    return bool(part.differences) or any(step["action"] not in ("keep", "hold") for step in part.steps)
