"""``skahactl serve``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skahactl.errors import Exit, UsageError
from skahactl.invocation import Invocation, current

if TYPE_CHECKING:
    from skahactl.profile import Profile


def serve(
    *,
    port: Annotated[int, Parameter(metavar="N", help="Port to listen on (default: any free port).")] = 0,
    token_file: Annotated[
        Path | None,
        Parameter(metavar="FILE", help="Existing file with the bearer token of clients (default: a new token)."),
    ] = None,
    storage: Annotated[
        Path | None,
        Parameter(metavar="DIR", help="Directory to offer as the storage service, for [logs] shared (default: none)."),
    ] = None,
) -> int:
    """Serve the local platform over HTTP, on this machine only.

    Any Skaha client can use it and sees the same sessions as skahactl -p local. It runs commands as you for whoever
    shows the bearer token. Sessions keep running after it stops (Ctrl-C).

    Examples:
      skahactl serve
      skahactl serve --port 8080 --token-file ~/.config/skahactl/serve.token
    """
    from skahactl.local.server import run_server
    from skahactl.system import make_private, state_dir

    context = current()
    profile = _local_profile(context)
    run_server(
        make_private(state_dir(context.environ)),
        profile.local,
        context.cwd,
        context.environ,
        port=port,
        token_file=None if token_file is None else Path(os.path.expanduser(token_file)),
        storage=None if storage is None else _storage(Path(os.path.expanduser(storage))),
        ready=lambda url, token, kept: _tell(context, url, None if token_file else token, kept, storage),
    )
    return Exit.DONE


def _storage(directory: Path) -> Path:
    """Return the directory with an absolute path. Raises UsageError if it does not exist."""
    if not directory.is_dir():
        raise UsageError("not a directory", where=str(directory), hint=f"mkdir -p {directory}")
    return directory.absolute()


def _local_profile(context: Invocation) -> Profile:
    from skahactl import profiles

    profile = profiles.load(context.profile or "local", context.environ)
    if not profile.is_local:
        raise UsageError(
            f'profile "{profile.name}" is not of the local platform', hint="serve needs -p local, or no -p at all"
        )
    return profile


def _tell(context: Invocation, url: str, token: str | None, kept: Path, storage: Path | None) -> None:
    """Print the URL as data on stdout, and instructions on stderr. stderr may be a log that others can read, so a token
    is shown only on a terminal, and never one from a file."""
    context.out(url)
    context.stdout.flush()
    context.warn(
        f"Serving the local platform at {url}; commands run on this machine, in {context.cwd}. Ctrl-C ends it."
    )
    shown = token is not None and context.stderr.isatty()
    context.warn(f"The bearer token is {token}, also in {kept}" if shown else f"The bearer token is in {kept}")
    if token is not None:
        context.say("This file is deleted when serve ends; for a profile, use --token-file FILE and --port N.")
    file = shlex.quote(str(kept.absolute()))
    context.say(f'skahactl, in another shell:  export SKAHACTL_SERVER={url} SKAHACTL_TOKEN="$(cat {file})"')
    context.say(f'the canfar client:           export CANFAR_URL={url} CANFAR_TOKEN="$(cat {file})"')
    if storage is not None:
        from skahactl.local.storage import PREFIX

        service = url.rpartition("/skaha/")[0] + PREFIX.rstrip("/")
        context.say(f'shared storage, in a profile:\n[storage]\nroot = "{_storage(storage)}"\nurl = "{service}"')
