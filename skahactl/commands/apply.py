"""``skahactl apply``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skahactl.commands.manifests import Files, Manifest, Sets, Variables, read_manifests
from skahactl.errors import Exit, UsageError

if TYPE_CHECKING:
    Adoption = str
else:
    Adoption = Literal["create", "expired"] | str  # what Tab offers; others are refused in our words

OPTIONS = (
    "--file",
    "--dry-run",
    "--wait",
    "--timeout",
    "--rerun",
    "--replace",
    "--yes",
    "--adopt",
    "--set",
    "--var",
    "--break-lock",
    "--help",
)


def apply(
    *manifests: Manifest,
    file: Files = None,
    dry_run: bool = False,
    wait: bool = False,
    timeout: str | None = None,
    rerun: bool = False,
    replace: bool = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    adopt: Annotated[Adoption | None, Parameter(metavar="WHAT", show_choices=False)] = None,
    sets: Sets = None,
    variables: Variables = None,
    break_lock: bool = False,
) -> int:
    """Make the platform match one or more manifests, as often as you like.

    Without --wait it is one pass: note ends, keep logs, create what the limits allow. Examples:

      skahactl apply job.toml
      skahactl apply job.toml --wait --timeout 12h
      skahactl apply survey/ --dry-run -o json

    Parameters
    ----------
    dry_run
        Show what would be sent and done; nothing is.
    wait
        Drive the job to its end: exit 0 only if every replica completed.
    timeout
        Stop waiting after this long (30s, 5m, 2h, 1d); the job goes on. Exit 5.
    rerun
        Start the next run once the last has ended.
    replace
        End the run that goes on, and start the next.
    yes
        Do not ask before replacing.
    adopt
        Take over sessions with exactly this job's names that have no record here: create or expired.
    break_lock
        Take the job from a command on another machine that is gone for good.
    """
    from skahactl.commands.applying import ApplyOptions, apply_files

    files = read_manifests("apply", manifests, file, OPTIONS)
    if adopt not in (None, "create", "expired"):
        raise UsageError(f"--adopt takes create or expired, not '{adopt}'")
    asked = ApplyOptions(dry_run, wait, timeout, rerun, replace, yes, adopt, break_lock)
    return Exit(apply_files(files, asked, sets or [], variables or []))
