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

``Session`` is the same without ``await``. It runs the asynchronous one on a private thread, so that it works in
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

    ``profile`` is the name or path of a profile, None for the default (set by ``skahactl profile use``; otherwise the
    local platform). Use it with ``async with``; without, it opens at first use, and the end of the program closes it.
    Errors are those of skahactl.errors.
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
        """Create ``replicas`` sessions and return their ids, in the order of the replicas.

        Each call is a run of its own of the job ``name``. Every replica has REPLICA_ID (from 1) and REPLICA_COUNT in
        its environment. ``args`` is a list, or a string that is split on spaces. Each element of a list arrives as it
        is, with the placeholders of a manifest, such as {replica}. Without ``cores`` and ``ram`` (GB), resources are
        flexible; ``gpus`` is another name for ``gpu``. After a lost reply, skahactl looks for the session and never
        creates it twice.

        Raises:
            CreateError: if any replica could not be created, with the ids and the failures.
            UsageError: for what cannot be sent, before anything is.
            AuthError, UnreachableError: not logged in, or no platform; nothing was sent.
            BusyError: another command is driving a job of this name, and does not end within a minute.
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
        """Return the sessions of the user as the platform lists them; ``kind`` and ``status`` select some of them.

        ``view`` is accepted for callers of older clients: everything is always returned.
        """
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
        """Return each known session, in the order of ``ids``, with one list call."""
        names = session_ids(ids)
        listing = await poll_for(await self._opening.get(), names)
        listed = {session.id: session for session in listing.sessions}
        return [dict(listed[one].raw) for one in names if one in listed]

    async def logs(self, ids: str | Iterable[str], verbose: bool = False) -> dict[str, str] | None:
        """Return the current log of each session; empty for an unknown one.

        ``verbose`` prints them and returns None.
        """
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
        """Return the scheduling events of each session; empty without a pod.

        ``verbose`` prints them and returns None.
        """
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
        """Delete sessions and verify it: True for each that is gone."""
        from skahactl.session_runtime import delete_ids

        names = session_ids(ids)
        return await delete_ids(await self._opening.get(), names)

    async def destroy_with(self, prefix: str, kind: str = "headless", status: str = "Completed") -> dict[str, bool]:
        """Delete sessions of this kind and status with a name that begins with ``prefix``.

        A prefix that is a regular expression matches any part of the name. Returns True for each that is gone.
        """
        pattern = name_pattern(prefix)
        chosen = [
            str(one["id"]) for one in await self.fetch(kind=kind, status=status) if pattern.search(str(one["name"]))
        ]
        return await self.destroy(chosen)

    async def stats(self) -> dict[str, Any]:
        """Return how much of the platform is in use; not every platform reports it."""
        runtime = await self._opening.get()
        return await runtime.ask_until_answered(runtime.client.stats, patience=0.0)


def _sync(
    method: Callable[Concatenate[AsyncSession, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Session, P], T]:
    """The same method, run on the thread of the session."""

    @functools.wraps(method)
    def waited(self: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._session, *args, **kwargs))

    return waited


class Session:
    """AsyncSession without ``await``: every method waits for its result, on one private thread of this session.

    Works in scripts and notebooks. Use it with ``with``, or call ``close`` when done; it opens at first use.
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
        self._before: list[object] = []  # loops of other processes
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
        """Close the connection and end the thread; the next call opens it again."""
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
        """Return the thread of this process: threads do not survive a fork."""
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
