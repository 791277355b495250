"""Connect a profile to its platform: a server over HTTP, or the local platform in this process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from skahactl.system import Clock, SystemClock, make_private, state_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from skahactl.profile import Profile
    from skahactl.skaha.client import Client
    from skahactl.skaha.storage import SharedStorage


def open_client(
    profile: Profile,
    *,
    clock: Clock | None = None,
    environ: Mapping[str, str] | None = None,
    directory: str | None = None,
    report: Callable[[str], None] | None = None,
    verbose: int = 0,
) -> Client:
    """Return a client for the profile, for ``async with``. Nothing is sent or read before its first request.

    ``directory`` is where the local platform runs commands (None: the working directory). Raises ProfileError if
    credentials would be sent unencrypted.
    """
    from skahactl.skaha.client import Client
    from skahactl.skaha.credentials import require_safe_channel

    clock = clock or SystemClock()
    environ = os.environ if environ is None else environ
    require_safe_channel(profile)
    transport = _transport(profile, clock, environ, directory or os.getcwd())
    say = report or (lambda line: None)

    def open_storage() -> SharedStorage:
        from skahactl.skaha.storage import SharedStorage

        return SharedStorage.open(profile, clock, environ, say, lambda beside: _transport(beside, clock, environ, ""))

    return Client(
        profile,
        transport=transport,
        clock=clock,
        environ=environ,
        report=say,
        verbose=verbose,
        open_storage=open_storage,
    )


def _transport(profile: Profile, clock: Clock, environ: Mapping[str, str], directory: str) -> httpx.AsyncBaseTransport:
    if profile.is_local:
        from skahactl.local.transport import LocalTransport

        return LocalTransport(make_private(state_dir(environ)), profile.local, directory, environ, clock.now)
    from skahactl.skaha.transport import Connection

    return Connection(profile, environ, clock.now)
