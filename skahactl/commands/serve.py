"""``skahactl serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from skahactl.context import Invocation, current
from skahactl.errors import Exit, UsageError
from skahactl.profile import Profile


def serve(
    *,
    port: Annotated[int, Parameter(help="Port to listen on; 0 is any that is free.")] = 0,
    token_file: Annotated[
        Path | None, Parameter(help="File that holds the bearer token clients must show. Default: one made at start.")
    ] = None,
) -> int:
    """Offer the local platform to other programs, over HTTP on this machine alone.

    Every client of the Skaha interface can use it: it creates, lists and ends the very sessions that
    skahactl -p local sees. It runs commands as you, for whoever shows the bearer token; requests of web
    pages are refused. Sessions go on when it ends (Ctrl-C).

    Examples:

    skahactl serve

    skahactl serve --port 8080 --token-file ~/.config/skahactl/serve.token
    """
    from skahactl.local.serve import run_server
    from skahactl.paths import make_private, state_dir

    context = current()
    profile = _local_profile(context)
    run_server(
        make_private(state_dir(context.environ)),
        profile.local,
        context.cwd,
        context.environ,
        port=port,
        token_file=None if token_file is None else Path(os.path.expanduser(token_file)),
        ready=lambda url, token, kept: _tell(context, url, None if token_file else token, kept),
    )
    return Exit.DONE


def _local_profile(context: Invocation) -> Profile:
    from skahactl import profiles

    profile = profiles.load(context.profile or "local", context.environ)
    if not profile.is_local:
        raise UsageError(
            f'profile "{profile.name}" is not of the local platform', hint="serve needs -p local, or no -p at all"
        )
    return profile


def _tell(context: Invocation, url: str, token: str | None, kept: Path) -> None:
    """The URL is the data; the rest is for people. A token that came from a file is not shown."""
    context.out(url)
    context.stdout.flush()
    context.warn(
        f"Serving the local platform at {url}; commands run on this machine, in {context.cwd}. Ctrl-C ends it."
    )
    context.warn(f"The bearer token is in {kept}" if token is None else f"The bearer token is {token}, also in {kept}")
    context.say(f'skahactl elsewhere:  export SKAHACTL_SERVER={url} SKAHACTL_TOKEN="$(cat {kept})"')
    context.say(f'the canfar client:   export CANFAR_URL={url} CANFAR_TOKEN="$(cat {kept})"')
