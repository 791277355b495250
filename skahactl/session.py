"""Sessions from Python, with the creation guarantees of ``skahactl apply``.

    from skahactl.session import AsyncSession

    async with AsyncSession() as session:
        ids = await session.create(
            name="fits-processing",
            image="images.canfar.net/skaha/astronomy:latest",
            cmd="python",
            args=["/path/to/batch_processing.py"],
            replicas=100,
        )

``Session`` is the same without ``await``; it runs the asynchronous one on a private thread, so that it works in
notebooks too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from skahactl.errors import CreateError, UsageError
from skahactl.own_loop import OwnLoop

__all__ = ["AsyncSession", "CreateError", "Session"]

if TYPE_CHECKING:
    from skahactl.ledger.store import Ledger
    from skahactl.profile import Profile
    from skahactl.skaha.client import Client

P = ParamSpec("P")
T = TypeVar("T")


class AsyncSession:
    """The sessions of one user on one platform.

    ``profile`` is a profile's name or path, None for the default (what ``skahactl profile use`` chose; the local
    platform where nothing was). Use it with ``async with``. Errors are those of skahactl.errors.
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        directory: str | None = None,
        report: Callable[[str], None] | None = None,
    ):
        self._profile_name = profile
        self._environ = os.environ if environ is None else environ
        self._directory = directory
        self._report = report
        self._names: dict[str, asyncio.Lock] = {}
        self._stack = contextlib.AsyncExitStack()
        self._open: tuple[Profile, Ledger, Client] | None = None

    async def __aenter__(self) -> Self:
        from skahactl.ledger.store import open_ledger
        from skahactl.paths import state_dir
        from skahactl.platforms import open_client
        from skahactl.profiles import choose

        profile = choose(self._profile_name, self._environ)
        client = open_client(profile, environ=self._environ, directory=self._directory, report=self._report)
        await self._stack.enter_async_context(client)
        ledger = self._stack.enter_context(open_ledger(state_dir(self._environ)))
        self._open = (profile, ledger, client)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._open = None
        await self._stack.aclose()

    async def create(
        self,
        name: str,
        image: str,
        kind: str = "headless",
        cores: float | None = None,
        ram: float | None = None,
        gpus: int | None = None,
        cmd: str | None = None,
        args: Sequence[str | os.PathLike[str] | int] | str | None = None,
        env: Mapping[str, Any] | None = None,
        replicas: int = 1,
        *,
        gpu: int | None = None,
    ) -> list[str]:
        """Creates ``replicas`` sessions and returns their ids, in the order of the replicas.

        Each call is a run of its own of the job ``name``. Every replica has REPLICA_ID (from 1) and REPLICA_COUNT in
        its environment. ``args`` is a list, or a string that is split on blanks; each element of a list arrives as it
        stands, with the placeholders that a manifest has, such as {replica}. ``cores`` and ``ram`` (GB) left out mean
        flexible resources; ``gpu`` is another name of ``gpus``. A create whose answer is lost is looked for, and never
        made twice.

        Raises:
            CreateError: if any replica could not be created, with the ids and the failures.
            UsageError: for what cannot be sent, before anything is.
            AuthError, UnreachableError: not logged in, or no platform; nothing was sent.
            BusyError: another command drives a job of this name, and does not end within a minute.
        """
        from skahactl.engine.once import create_once
        from skahactl.manifest import called, draft, resolve
        from skahactl.skaha.wire import problems

        profile, ledger, client = self._opened()
        table = {"name": name, "image": image, "kind": kind.lower(), "replicas": replicas}
        if kind.lower() != "headless" and replicas == 1:
            del table["replicas"]
        table.update(called.command(cmd, args))
        table.update(resources=called.resources(cores, ram, gpus, gpu), env=called.variables(env))
        present = {key: value for key, value in table.items() if value != {}}
        made = draft(present, directory=self._directory, file="create")
        (job,) = resolve([made], profile, check=lambda request: problems(request))
        async with self._names.setdefault(name, asyncio.Lock()):
            ids, failures = await create_once(ledger, client, profile, job, self._directory or os.getcwd())
        if failures:
            raise CreateError(name, ids, failures)
        return [found for found in ids if found is not None]

    async def fetch(
        self, kind: str | None = None, status: str | None = None, view: str | None = None
    ) -> list[dict[str, Any]]:
        """The user's sessions as the platform tells them, one list call; ``kind`` and ``status`` choose among them.
        ``view`` is accepted for callers of older clients: "all" is what is always returned."""
        del view
        _, _, client = self._opened()
        listing = await client.sessions()
        return [
            dict(session.raw)
            for session in listing.sessions
            if (kind is None or session.kind.lower() == kind.lower())
            and (status is None or session.status.lower() == status.lower())
        ]

    async def info(self, ids: str | Sequence[str]) -> list[dict[str, Any]]:
        """What the platform tells of each session that it knows, in the order of ``ids``; one list call."""
        _, _, client = self._opened()
        listed = {session.id: session for session in (await client.sessions()).sessions}
        return [dict(listed[one].raw) for one in _listed(ids) if one in listed]

    async def logs(self, ids: str | Sequence[str]) -> dict[str, str]:
        """The log of each session as it is now; empty for one that the platform does not know (any more)."""
        _, _, client = self._opened()
        slots = asyncio.Semaphore(8)

        async def read(one: str) -> str:
            async with slots, client.log(one) as chunks:
                return b"".join([chunk async for chunk in chunks]).decode("utf-8", "replace")

        names = _listed(ids)
        return dict(zip(names, await asyncio.gather(*map(read, names)), strict=True))

    async def events(self, ids: str | Sequence[str]) -> dict[str, list[dict[str, str]]]:
        """The scheduling events of each session: why it is Pending. Empty without a pod."""
        _, _, client = self._opened()
        found: dict[str, list[dict[str, str]]] = {}
        for one in _listed(ids):
            rows = await client.events(one) or ()
            found[one] = [
                {"type": e.type, "reason": e.reason, "message": e.message, "first": e.first, "last": e.last}
                for e in rows
            ]
        return found

    async def destroy(self, ids: str | Sequence[str]) -> dict[str, bool]:
        """Deletes sessions and looks whether they are gone: True for each that is."""
        from skahactl.engine.once import delete_ids

        profile, ledger, client = self._opened()
        return await delete_ids(ledger, client, profile, _listed(ids))

    async def destroy_with(self, prefix: str, kind: str = "headless", status: str = "Completed") -> dict[str, bool]:
        """Deletes the sessions whose name begins with ``prefix`` (or matches it, where it is a regular expression) and
        that have this kind and status; True for each that is gone."""
        pattern = re.compile(prefix if re.search(r"[.^$*+?{}\[\]()|\\]", prefix) else re.escape(prefix))
        chosen = [
            str(one["id"]) for one in await self.fetch(kind=kind, status=status) if pattern.match(str(one["name"]))
        ]
        return await self.destroy(chosen)

    async def stats(self) -> dict[str, Any]:
        """How much of the platform is in use, as it tells it; not every platform does."""
        _, _, client = self._opened()
        return await client.stats()

    def _opened(self) -> tuple[Profile, Ledger, Client]:
        if self._open is None:
            raise UsageError("the session is not open", hint="use it with 'async with AsyncSession() as session:'")
        return self._open


def _sync(
    method: Callable[Concatenate[AsyncSession, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Session, P], T]:
    """The same method, waited for on the session's own thread."""

    @functools.wraps(method)
    def waited(self: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._session, *args, **kwargs))

    return waited


class Session:
    """AsyncSession without ``await``: every method waits for its answer, on one private thread of this session.

    Works in scripts and notebooks. Use it with ``with``, or call ``close`` when done; it opens itself at first use.
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        directory: str | None = None,
        report: Callable[[str], None] | None = None,
    ):
        self._session = AsyncSession(profile, environ=environ, directory=directory, report=report)
        self._loop: OwnLoop | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    create = _sync(AsyncSession.create)
    fetch = _sync(AsyncSession.fetch)
    info = _sync(AsyncSession.info)
    logs = _sync(AsyncSession.logs)
    events = _sync(AsyncSession.events)
    destroy = _sync(AsyncSession.destroy)
    destroy_with = _sync(AsyncSession.destroy_with)
    stats = _sync(AsyncSession.stats)

    def close(self) -> None:
        """Closes the connection and ends the thread; the next call opens anew."""
        with self._opening:
            if self._loop is None:
                return
            loop, self._loop = self._loop, None
            loop.close(self._session.__aexit__(None, None, None))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            loop = self._start()
        except BaseException:
            work.close()
            raise
        return loop.run(work)

    def _start(self) -> OwnLoop:
        with self._opening:
            if self._loop is None:
                loop = OwnLoop()
                try:
                    loop.run(self._session.__aenter__())
                except BaseException:
                    loop.close()
                    raise
                self._loop = loop
            return self._loop


def _listed(ids: str | Sequence[str]) -> list[str]:
    return [ids] if isinstance(ids, str) else list(ids)
