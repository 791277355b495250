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
import functools
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from skahactl.errors import CreateError
from skahactl.eventloop import OwnLoop
from skahactl.session_runtime import (
    SessionRuntime,
    current_options,
    known_kind,
    known_status,
    name_pattern,
    poll_for,
    session_ids,
)

__all__ = ["AsyncSession", "CreateError", "Session"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncSession:
    """The sessions of one user on one platform.

    ``profile`` is a profile's name or path, None for the default (what ``skahactl profile use`` chose; the local
    platform where nothing was). Use it with ``async with``; without, it opens itself at first use, and the end of the
    program closes it. Errors are those of skahactl.errors.
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        directory: str | None = None,
        report: Callable[[str], None] | None = None,
    ):
        self._directory = directory
        self._opening = SessionRuntime(profile, os.environ if environ is None else environ, directory, report)

    async def __aenter__(self) -> Self:
        await self._opening.get()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._opening.close()

    async def create(
        self,
        name: str,
        image: str,
        cores: float | None = None,
        ram: float | None = None,
        kind: str = "headless",
        gpu: int | None = None,
        cmd: str | None = None,
        args: Sequence[str | os.PathLike[str] | int] | str | None = None,
        env: Mapping[str, Any] | None = None,
        replicas: int = 1,
        *,
        gpus: int | None = None,
    ) -> list[str]:
        """Creates ``replicas`` sessions and returns their ids, in the order of the replicas.

        Each call is a run of its own of the job ``name``. Every replica has REPLICA_ID (from 1) and REPLICA_COUNT in
        its environment. ``args`` is a list, or a string that is split on blanks; each element of a list arrives as it
        stands, with the placeholders that a manifest has, such as {replica}. ``cores`` and ``ram`` (GB) left out mean
        flexible resources; ``gpus`` is another name of ``gpu``. A create whose answer is lost is looked for, and never
        made twice.

        Raises:
            CreateError: if any replica could not be created, with the ids and the failures.
            UsageError: for what cannot be sent, before anything is.
            AuthError, UnreachableError: not logged in, or no platform; nothing was sent.
            BusyError: another command drives a job of this name, and does not end within a minute.
        """
        from skahactl.manifest.load import draft
        from skahactl.manifest.resolve import resolve
        from skahactl.session_runtime import command_words, create_once, env_table, named_kind, resource_table
        from skahactl.skaha.encoding import problems

        runtime = await self._opening.get()
        table = {"name": name, "image": image, "kind": named_kind(kind), "replicas": replicas}
        if table["kind"] != "headless" and replicas == 1:
            del table["replicas"]
        table.update(command_words(cmd, args))
        table.update(resources=resource_table(cores, ram, gpus, gpu), env=env_table(env))
        present = {key: value for key, value in table.items() if value != {}}
        made = draft(present, directory=self._directory, file="create")
        (job,) = resolve([made], runtime.profile, check=lambda request: problems(request))
        async with self._opening.one_at_a_time(name):
            ids, failures = await create_once(runtime, job, self._directory or os.getcwd())
        if failures:
            raise CreateError(name, ids, failures)
        return [found for found in ids if found is not None]

    async def fetch(
        self, kind: str | None = None, status: str | None = None, view: str | None = None
    ) -> list[dict[str, Any]]:
        """The user's sessions as the platform tells them, one list call; ``kind`` and ``status`` choose among them.
        ``view`` is accepted for callers of older clients: "all" is what is always returned."""
        del view
        wanted_kind = None if kind is None else known_kind(kind)
        wanted_status = None if status is None else known_status(status)
        listing = await (await self._opening.get()).first_poll()
        return [
            dict(session.raw)
            for session in listing.sessions
            if wanted_kind in (None, session.kind.lower()) and wanted_status in (None, current_options(session.status))
        ]

    async def info(self, ids: str | Iterable[str]) -> list[dict[str, Any]]:
        """What the platform tells of each session that it knows, in the order of ``ids``; one list call."""
        names = session_ids(ids)
        listing = await poll_for(await self._opening.get(), names)
        listed = {session.id: session for session in listing.sessions}
        return [dict(listed[one].raw) for one in names if one in listed]

    async def logs(self, ids: str | Iterable[str], verbose: bool = False) -> dict[str, str] | None:
        """The log of each session as it is now; empty for one that the platform does not know (any more).
        With ``verbose`` they are printed, and None is returned."""
        names = session_ids(ids)
        runtime = await self._opening.get()
        await poll_for(runtime, names)
        slots = asyncio.Semaphore(8)

        async def read(one: str) -> str:
            async with slots, runtime.client.log(one) as chunks:
                return b"".join([chunk async for chunk in chunks]).decode("utf-8", "replace")

        found = dict(zip(names, await asyncio.gather(*map(read, names)), strict=True))
        if verbose:
            _print(found)
        return None if verbose else found

    async def events(self, ids: str | Iterable[str], verbose: bool = False) -> dict[str, list[dict[str, str]]] | None:
        """The scheduling events of each session: why it is Pending. Empty without a pod. With ``verbose`` they are
        printed, and None is returned."""
        names = session_ids(ids)
        runtime = await self._opening.get()
        await poll_for(runtime, names)
        found: dict[str, list[dict[str, str]]] = {}
        for one in names:
            rows = await runtime.client.events(one) or ()
            found[one] = [
                {"type": e.type, "reason": e.reason, "message": e.message, "first": e.first, "last": e.last}
                for e in rows
            ]
        if verbose:
            _print({one: "\n".join("  ".join(row.values()) for row in found[one]) for one in names})
        return None if verbose else found

    async def destroy(self, ids: str | Iterable[str]) -> dict[str, bool]:
        """Deletes sessions and looks whether they are gone: True for each that is."""
        from skahactl.session_runtime import delete_ids

        names = session_ids(ids)
        return await delete_ids(await self._opening.get(), names)

    async def destroy_with(self, prefix: str, kind: str = "headless", status: str = "Completed") -> dict[str, bool]:
        """Deletes the sessions whose name begins with ``prefix`` (or has a part that matches it, where it is a regular
        expression) and that have this kind and status; True for each that is gone."""
        pattern = name_pattern(prefix)
        chosen = [
            str(one["id"]) for one in await self.fetch(kind=kind, status=status) if pattern.search(str(one["name"]))
        ]
        return await self.destroy(chosen)

    async def stats(self) -> dict[str, Any]:
        """How much of the platform is in use, as it tells it; not every platform does."""
        runtime = await self._opening.get()
        return await runtime.ask_until_answered(runtime.client.stats, patience=0.0)


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
        self._before: list[object] = []  # the loops of other processes
        self._begin()

    def _begin(self) -> None:
        self._loop: OwnLoop | None = None
        self._opening = threading.Lock()
        self._process = os.getpid()

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
        self._after_fork()
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

    def _after_fork(self) -> None:
        """Threads do not outlive a fork: the new process opens its own."""
        if self._process != os.getpid():
            self._before.append(self._loop)
            self._begin()

    def _start(self) -> OwnLoop:
        self._after_fork()
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


def _print(texts: Mapping[str, str]) -> None:
    for one, text in texts.items():
        print(f"Session ID: {one}\n\n{text}")
