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
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from skahactl.errors import CreateError
from skahactl.eventloop import OwnLoop
from skahactl.session_runtime import (
    Overrides,
    SessionRuntime,
    current_status,
    known_kind,
    known_status,
    name_pattern,
    poll_for,
    session_ids,
)

__all__ = ["AsyncSession", "CreateError", "Session"]

_LOG = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class AsyncSession:
    """The sessions of one user on one platform.

    Use it with ``async with``; without, it opens itself at first use, and the end of the program closes it. Errors are
    those of skahactl.errors.

    Args:
        profile: A profile's name or path; None for the default, as on the command line.
        timeout: Seconds without a response, instead of the profile's.
        concurrency: Maximum number of connections, instead of the profile's.
        token: A bearer token, instead of the profile's credentials: a string, or a pydantic ``SecretStr``.
        url: The server's base URL with its version, instead of the profile's.
        certificate: The path of a proxy certificate, instead of the profile's credentials.
        environ: Used in place of ``os.environ``.
        directory: Where the local platform runs commands (default: the working directory).
        report: Called with a line for each request.
    """

    def __init__(
        self,
        profile: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = None,
        concurrency: int | None = None,
        token: Any = None,
        url: Any = None,
        certificate: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        directory: str | None = None,
        report: Callable[[str], None] | None = None,
    ):
        self._directory = directory
        overrides = Overrides(timeout, concurrency, token, url, certificate)
        chosen = None if profile is None else os.fspath(profile)
        self._opening = SessionRuntime(chosen, os.environ if environ is None else environ, directory, report, overrides)

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
        args: Sequence[Any] | str | None = None,
        env: Mapping[str, Any] | None = None,
        replicas: int = 1,
        *,
        gpus: int | None = None,
    ) -> list[str]:
        """Create ``replicas`` sessions and return their ids, in the order of the replicas.

        Each call is a run of its own of the job ``name`` (capitals become lower case). Every replica has REPLICA_ID
        (from 1) and REPLICA_COUNT in its environment. ``args`` is a list of strings, paths and numbers, or a string
        that is split on blanks; each element of a list arrives unchanged, except for the placeholders that a manifest
        has, such as {replica}. Without ``cmd``, the image's own entry point gets ``args``. Values in ``env`` are
        strings, numbers and paths. Without ``cores`` and ``ram`` (GB), the resources are flexible; ``gpus`` is another
        name of ``gpu``. Numbers can be those of NumPy. If the reply to a create is lost, the session is searched for
        and never created twice.

        Raises:
            CreateError: if any replica could not be created, with the ids and the failures.
            UsageError: for what cannot be sent, before anything is.
            AuthError, UnreachableError: not logged in, or no platform; nothing was sent.
            BusyError: another command is driving a job of this name, and does not end within a minute.
        """
        from skahactl.engine.precheck import require_secrets
        from skahactl.manifest.load import draft
        from skahactl.manifest.resolve import resolve
        from skahactl.session_runtime import (
            command_words,
            create_once,
            env_table,
            named_kind,
            plain_number,
            resource_table,
        )
        from skahactl.skaha.encoding import problems

        runtime = await self._opening.get()
        table = {"name": name, "image": image, "kind": named_kind(kind), "replicas": plain_number(replicas)}
        if table["kind"] != "headless" and replicas == 1:
            del table["replicas"]
        table.update(command_words(cmd, args))
        table.update(resources=resource_table(cores, ram, gpus, gpu), env=env_table(env))
        present = {key: value for key, value in table.items() if value != {}}
        made = draft(present, directory=self._directory, file="create", entry_point=True)
        (job,) = resolve([made], runtime.profile, check=problems)
        await require_secrets(job, runtime)
        async with self._opening.one_at_a_time(job.name):
            ids, failures = await create_once(runtime, job, self._directory or os.getcwd())
        if failures:
            raise CreateError(job.name, ids, failures)
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
        objects = listing.objects()
        return [
            objects[session.id]
            for session in listing.sessions
            if wanted_kind in (None, session.kind.lower()) and wanted_status in (None, current_status(session.status))
        ]

    async def info(self, ids: str | Iterable[str]) -> list[dict[str, Any]]:
        """Return each known session as the platform lists it, in the order of ``ids``, with one list call."""
        names = session_ids(ids)
        listing = await poll_for(await self._opening.get(), names)
        objects = listing.objects()
        return [dict(objects[one]) for one in names if one in objects]

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

    async def events(self, ids: str | Iterable[str], verbose: bool = False) -> list[dict[str, str]] | None:
        """Return the scheduling events of each session, which say why it is Pending: one ``{id: text}`` per session.

        The text is the platform's table; it is empty for a session that has no pod. With ``verbose`` the texts are
        printed, and None is returned.
        """
        names = session_ids(ids)
        runtime = await self._opening.get()
        await poll_for(runtime, names)
        texts = {one: await runtime.client.events_text(one) or "" for one in names}
        if verbose:
            _print(texts)
        return None if verbose else [{one: text} for one, text in texts.items()]

    async def renew(self, ids: str | Iterable[str]) -> dict[str, bool]:
        """Extend the deadlines of sessions. Returns True for each session that the platform accepted."""
        names = session_ids(ids)
        runtime = await self._opening.get()
        await poll_for(runtime, names)
        return {one: await runtime.client.renew(one) is None for one in names}

    async def connect(self, ids: str | Iterable[str]) -> None:
        """Open the pages of interactive sessions in the browser; log a warning for a session without a page."""
        import webbrowser

        for session in await self.info(ids):
            address = str(session.get("connectURL") or "")
            if session.get("status") == "Running" and address.startswith(("http://", "https://")):
                webbrowser.open_new_tab(address)
            else:
                _LOG.warning("session %s is %s and has no page yet", session.get("id"), session.get("status"))

    async def destroy(self, ids: str | Iterable[str]) -> dict[str, bool]:
        """Delete sessions and verify that they are gone. Returns True for each session that is gone."""
        from skahactl.session_runtime import delete_ids

        names = session_ids(ids)
        return await delete_ids(await self._opening.get(), names)

    async def destroy_with(self, prefix: str, kind: str = "headless", status: str = "Completed") -> dict[str, bool]:
        """Delete sessions of this kind and status with a name that begins with ``prefix``.

        A prefix that looks like a regular expression matches any part of the name. Returns True for each session that
        is gone.
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
    """Return a method of Session that runs ``method`` on the session's thread and waits for its result."""

    @functools.wraps(method)
    def waited(self: Session, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._session, *args, **kwargs))

    return waited


def _same_arguments(make: Callable[P, AsyncSession]) -> Callable[Concatenate[Session, P], None]:
    """Return a constructor of Session that takes the arguments of ``make``."""

    @functools.wraps(AsyncSession.__init__)
    def construct(self: Session, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self._session = make(*args, **kwargs)
        self._before = []
        self._begin()

    return construct


class Session:
    """AsyncSession without ``await``: every method waits for its result, on one private thread of this session.

    Works in scripts and notebooks. Use it with ``with``, or call ``close`` when done; it opens at first use.
    """

    _session: AsyncSession
    _before: list[object]  # loops of other processes

    __init__ = _same_arguments(AsyncSession)

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
    renew = _sync(AsyncSession.renew)
    connect = _sync(AsyncSession.connect)
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
        """Forget the thread in a forked process, where it does not exist; the next call starts a new one."""
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
