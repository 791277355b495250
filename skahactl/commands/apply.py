"""``skahactl apply``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from skahactl.errors import Exit, UsageError


def apply(
    *manifests: str,
    file: Annotated[list[str] | None, Parameter(name=["--file", "-f"], negative=())] = None,
    dry_run: bool = False,
    wait: bool = False,
    timeout: str | None = None,
    rerun: bool = False,
    replace: bool = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    adopt: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    var: Annotated[list[str] | None, Parameter(name="--var", negative=())] = None,
    break_lock: bool = False,
) -> int:
    """Make the platform match one or more manifests, as often as you like.

    Without --wait it is one pass: note ends, keep logs, create what the limits allow. Examples:

      skahactl apply job.toml
      skahactl apply job.toml --wait --timeout 12h
      skahactl apply survey/ --dry-run -o json

    Parameters
    ----------
    manifests
        Files, directories (their *.toml, sorted), or - for standard input.
    file
        Another manifest, as with kubectl.
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
    set_
        KEY=VALUE, over the manifest's own (resources.cores=4).
    var
        NAME=VALUE, over the [vars] of manifest and profile.
    break_lock
        Take the job from a command on another machine that is gone for good.
    """
    from skahactl.commands.applying import Asked, apply_files

    files = [*manifests, *(file or [])]
    if not files:
        raise UsageError("apply needs a manifest", hint="skahactl apply job.toml; 'skahactl explain' lists its keys")
    if adopt not in (None, "create", "expired"):
        raise UsageError(f"--adopt takes create or expired, not '{adopt}'")
    asked = Asked(dry_run, wait, timeout, rerun, replace, yes, adopt, break_lock)
    return Exit(apply_files(files, asked, set_ or [], var or []))
