"""What a session from Python has open: a profile, the ledger, a connection; opened at first use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skahactl.ledger.database import Ledger
    from skahactl.profile import Profile
    from skahactl.skaha.client import Client


class SessionRuntime:
    """Opens once for each process and event loop: nothing that is open outlives a fork, or its loop."""

    def __init__(
        self,
        profile: str | None,
        environ: Mapping[str, str],
        directory: str | None,
        report: Callable[[str], None] | None,
    ):
        self._profile_name = profile
        self._environ = environ
        self._directory = directory
        self._report = report
        self._elsewhere: list[object] = []  # kept, so that nothing closes it here
        self._begin()

    def _begin(self) -> None:
        self._where: tuple[int, object] | None = None
        self._names: dict[str, asyncio.Lock] = {}
        self._lock = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()
        self._open: tuple[Profile, Ledger, Client] | None = None

    async def get(self) -> tuple[Profile, Ledger, Client]:
        """What is open here, or is opened now."""
        self._come_here()
        async with self._lock:
            if self._open is None:
                self._open = await self._opened()
            return self._open

    def one_at_a_time(self, name: str) -> asyncio.Lock:
        """Held while a job of this name is created."""
        return self._names.setdefault(name, asyncio.Lock())

    async def close(self) -> None:
        """Closes what is open here; what is needed after that is opened anew."""
        self._come_here()
        stack = self._stack
        self._begin()
        await stack.aclose()

    def _come_here(self) -> None:
        here = (os.getpid(), asyncio.get_running_loop())
        if self._where not in (None, here):
            self._leave()
            self._begin()
        self._where = here

    def _leave(self) -> None:
        """Of another loop the ledger alone can be closed from here; of another process nothing is touched."""
        assert self._where is not None
        self._elsewhere.append((self._stack, self._open, self._where))
        if self._open is not None and self._where[0] == os.getpid():
            with contextlib.suppress(sqlite3.ProgrammingError):  # it was opened in another thread
                self._open[1].close()

    async def _opened(self) -> tuple[Profile, Ledger, Client]:
        from skahactl.ledger.database import open_ledger
        from skahactl.paths import state_dir
        from skahactl.platforms import open_client
        from skahactl.profiles import choose

        profile = choose(self._profile_name, self._environ)
        client = open_client(profile, environ=self._environ, directory=self._directory, report=self._report)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            ledger = stack.enter_context(open_ledger(state_dir(self._environ)))
            self._stack = stack.pop_all()
        return profile, ledger, client
