"""Read shared records: from the file system where the path exists, else from the storage service (skaha-api 15).

The service is small, and every request starts several processes on it. Therefore at most four requests run at once, and
one listing replaces requests for many files that do not exist. The client checks the format of what it reads: the
service can cut a file that is replaced during the read, with status 200.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.etree import ElementTree

from skahactl.errors import AuthError, SkahactlError, UnreachableError
from skahactl.manifest.shared_record import SAFE_PATH, RecordDirectory, RecordedEnd, end_name, parse_end

if TYPE_CHECKING:
    import httpx

    from skahactl.profile import Profile
    from skahactl.skaha.failures import HttpReply
    from skahactl.skaha.transport import Exchange
    from skahactl.system import Clock

#: Maximum number of requests at a time.
MOST = 4
#: If at least this many ends are requested, the directory is listed first.
LISTING_FROM = 65
#: Maximum number of tries of one request; and the number of failures in a row, over all requests, after which the
#: service counts as unavailable.
TRIES = 10
MOST_FAILURES = 12
#: Maximum number of tries until the first connection to the service: there may be no network.
FIRST_TRIES = 3
#: Maximum number of reads of a listing or an end with a wrong format, which may be cut.
MOST_READS = 5
#: The longest pause between two tries, in seconds.
_LONGEST_PAUSE = 60.0
#: Maximum sum of pauses, in seconds, in a command that only reads, because a user waits for it.
READ_PATIENCE = 60.0
_LARGEST_END = 256
_PIECE = 256 * 1024
_WRONG_URL = "check [storage] url in the profile, such as https://ws-uv.canfar.net/arc"
_NODE = "{http://www.ivoa.net/xml/VOSpace/v2.0}node"

#: Directory, replica and attempt.
EndKey = tuple[str, int, int]


@dataclass
class FoundEnds:
    """The answers for some ends: ``ends`` exist; ``absent`` do not exist or are not valid.

    ``failed`` are those that the service failed to return, because of ``error``. An end in none of the three could not
    be requested: neither the file system nor the service has its path.
    """

    ends: dict[EndKey, RecordedEnd] = field(default_factory=dict)
    absent: set[EndKey] = field(default_factory=set)
    failed: set[EndKey] = field(default_factory=set)
    error: SkahactlError | None = None


class SharedStorage:
    """The shared storage of one platform.

    ``connect`` opens the exchange with its service at the first request; None if there is no service, only the file
    system.
    """

    def __init__(self, profile: Profile, clock: Clock, connect: Callable[[], Exchange] | None) -> None:
        self._root = (profile.storage.root or "").rstrip("/")
        self._address = profile.storage.url or ""
        self._clock = clock
        self._connect = connect
        self._exchange: Exchange | None = None
        self._free = asyncio.Semaphore(MOST)
        self._failures = 0  # in a row
        self._tries = FIRST_TRIES  # maximum for a request that gets no connection
        self.patience = math.inf  # seconds of pauses, in all
        self._paused, self._paused_until = 0.0, -math.inf  # seconds with any pause so far, and when the last one ends

    @classmethod
    def open(
        cls,
        profile: Profile,
        clock: Clock,
        environ: Mapping[str, str],
        report: Callable[[str], None],
        make_transport: Callable[[Profile], httpx.AsyncBaseTransport],
    ) -> SharedStorage:
        """Return the storage that the profile names, with the credentials of its server.

        The first request raises ProfileError if the credentials would be sent over an insecure channel.
        """
        url = profile.storage.url
        if url is None or profile.storage.root is None:
            return cls(profile, clock, None)
        beside = replace(profile, server=url.rstrip("/"))

        def connect() -> Exchange:
            from skahactl.skaha.credentials import require_safe_channel
            from skahactl.skaha.transport import Exchange

            require_safe_channel(beside)
            return Exchange(beside, make_transport(beside), clock, environ, report, 0)

        return cls(profile, clock, connect)

    async def aclose(self) -> None:
        if self._exchange is not None:
            await self._exchange.aclose()

    async def ends(self, wanted: Iterable[EndKey], *, are_listed: bool = False) -> FoundEnds:
        """Return the recorded ends of these attempts. Errors of the service are in the result and are not raised.

        ``are_listed``: the caller has found them in a listing, so none is requested here.
        """
        found = FoundEnds()
        by_directory: dict[str, list[EndKey]] = {}
        for key in wanted:
            by_directory.setdefault(key[0], []).append(key)
        for directory, keys in by_directory.items():
            try:
                await self._ends_of(directory, keys, found, are_listed)
            except (UnreachableError, AuthError) as error:
                found.error = error
                found.failed.update(keys)
        return found

    async def names(self, directory: str) -> tuple[str, ...] | None:
        """Return the names in a directory; None if it does not exist or the service does not serve it.

        Raises AuthError or UnreachableError.
        """
        if await asyncio.to_thread(os.path.isdir, directory):
            return tuple(await asyncio.to_thread(os.listdir, directory))
        if not self._is_served(directory):
            return None
        for attempt in range(1, MOST_READS + 1):
            async with self._free:
                reply = await self._get("nodes", directory, {"detail": "min"})
            if reply is None:
                return None
            names = _children(reply.body)
            if names is not None:
                return names
            await self._clock.sleep(_pause(attempt, None))  # a listing can be cut at status 200
        raise self._located(UnreachableError(f"incomplete listings of {directory}"))

    @asynccontextmanager
    async def log(self, path: str) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """Yield the current log in pieces; None if it does not exist or the service does not serve it."""
        if await asyncio.to_thread(os.path.exists, path):
            yield _file_pieces(Path(path))
            return
        if not self._is_served(path):
            yield None
            return
        async with self._free, self._stream(path) as pieces:
            yield pieces

    async def check(self) -> None:
        """List the root, to verify address and credentials. Raises AuthError or UnreachableError."""
        if self._connect is None:
            return
        reply = await self._get("nodes", self._root, {"limit": "0"})
        if reply is None or _children(reply.body) is None:
            raise self._located(UnreachableError("no storage service answers there", hint=_WRONG_URL))

    @asynccontextmanager
    async def _stream(self, path: str) -> AsyncIterator[AsyncIterator[bytes] | None]:
        async with aclosing(self._pieces(path)) as pieces:
            try:
                await anext(pieces)
                exists = True
            except FileNotFoundError:
                exists = False
            yield pieces if exists else None

    async def _pieces(self, path: str) -> AsyncGenerator[bytes]:
        """Yield an empty piece as soon as the service has answered, then the pieces of the file.

        If the connection breaks, the file is requested again, and what was read is skipped: a log only grows. Raises
        FileNotFoundError if the file does not exist, AuthError or UnreachableError.
        """
        from skahactl.skaha.failures import HttpReply, error_of_exception, error_of_reply, is_without_connection
        from skahactl.skaha.transport import FAILURES

        read: int | None = None  # bytes; None before the first answer
        for attempt in range(1, TRIES + 1):
            tries = TRIES
            try:
                exchange = self._opened()
                async with exchange.stream(exchange.prepared("GET", self._url("files", path))) as answer:
                    self._tries = TRIES
                    if not isinstance(answer, HttpReply):
                        if read is None:
                            read = 0
                            yield b""
                        at = 0
                        async for piece in answer:
                            new = piece[max(0, read - at) :]
                            at += len(piece)
                            if new:
                                read = at
                                yield new
                        return
                    if answer.status in (204, 404):
                        if read is None and answer.status == 404:
                            raise FileNotFoundError(path)
                        yield b""
                        return
                    error, pause = error_of_reply(answer), answer.retry_after
            except FAILURES as failure:
                error, pause = error_of_exception(failure), None
                tries = self._tries if is_without_connection(failure) else TRIES
            if attempt >= tries or not _is_worth_retrying(error):
                raise self._located(error)
            await self._sleep(_pause(attempt, pause), error)

    async def _ends_of(self, directory: str, keys: Sequence[EndKey], found: FoundEnds, are_listed: bool) -> None:
        if await asyncio.to_thread(os.path.isdir, directory):
            for key in keys:
                self._judge(key, await asyncio.to_thread(_read_end, key), found)
            return
        if not self._is_served(directory):
            return
        if len(keys) >= LISTING_FROM and not are_listed:
            names = set(await self.names(directory) or ())
            found.absent.update(key for key in keys if end_name(*key[1:]) not in names)
            keys = [key for key in keys if end_name(*key[1:]) in names]
        self._failures = 0
        await asyncio.gather(*(self._end(key, found) for key in keys))

    async def _end(self, key: EndKey, found: FoundEnds) -> None:
        async with self._free:
            if isinstance(found.error, AuthError) or (found.error is not None and self._failures >= MOST_FAILURES):
                found.failed.add(key)
                return
            try:
                content = await self._end_content(RecordDirectory(key[0]).end(*key[1:]))
            except (AuthError, UnreachableError) as error:
                found.error = error
                found.failed.add(key)
                return
        self._judge(key, content, found)

    async def _end_content(self, path: str) -> bytes | None:
        """Return the content of an end; None if it does not exist.

        Content with a wrong format may be cut, and is read again.
        """
        for attempt in range(1, MOST_READS + 1):
            reply = await self._get("files", path)
            if reply is None or not reply.body or attempt == MOST_READS or parse_end(reply.body) is not None:
                break
            await self._clock.sleep(_pause(attempt, None))
        return None if reply is None else reply.body

    def _judge(self, key: EndKey, content: bytes | None, found: FoundEnds) -> None:
        end = None if content is None else parse_end(content)
        if end is not None:
            found.ends[key] = end
        else:
            found.absent.add(key)

    def _is_served(self, path: str) -> bool:
        below = path == self._root or path.startswith(f"{self._root}/")
        return self._connect is not None and below and is_safe_path(path)

    def _url(self, service: str, path: str) -> str:
        return f"/{service}{path.removeprefix(self._root)}"

    async def _get(self, service: str, path: str, params: Mapping[str, str] | None = None) -> HttpReply | None:
        """Return the reply with status 200 or 204; None for 404. Tries again. Raises AuthError or UnreachableError."""
        from skahactl.skaha.failures import error_of_exception, error_of_reply, is_without_connection
        from skahactl.skaha.transport import FAILURES

        exchange = self._opened()
        for attempt in range(1, TRIES + 1):
            pause, tries = None, TRIES
            try:
                reply = await exchange.send(exchange.prepared("GET", self._url(service, path), params=params))
            except FAILURES as failure:
                error = error_of_exception(failure)
                tries = self._tries if is_without_connection(failure) else TRIES
            else:
                self._tries = TRIES
                if reply.status in (200, 204) and "html" not in reply.content_type:
                    self._failures = 0
                    return reply
                if reply.status == 404:
                    self._failures = 0
                    return None
                error, pause = error_of_reply(reply), reply.retry_after
            self._failures += 1
            is_last = attempt >= tries or self._failures >= MOST_FAILURES
            if is_last or not _is_worth_retrying(error):
                raise self._located(error)
            await self._sleep(_pause(attempt, pause), error)
        raise AssertionError("unreachable")

    async def _sleep(self, seconds: float, error: SkahactlError) -> None:
        """Pause before the next try. Raises ``error`` instead if the sum of all pauses would exceed ``patience``."""
        now = self._clock.monotonic()
        more = max(0.0, now + seconds - max(now, self._paused_until))  # overlapping pauses count once
        if self._paused + more > self.patience:
            raise self._located(error)
        self._paused += more
        self._paused_until = max(self._paused_until, now + seconds)
        await self._clock.sleep(seconds)

    def _located(self, error: SkahactlError) -> SkahactlError:
        """Return the error with the address of the storage service, which differs from that of the server."""
        error.where = f"storage service {self._address}"
        return error

    def _opened(self) -> Exchange:
        if self._exchange is None:
            assert self._connect is not None
            self._exchange = self._connect()
        return self._exchange


def is_safe_path(path: str) -> bool:
    """Return whether the service reads the path unchanged: only safe characters, and no ``.`` or ``..``."""
    return bool(SAFE_PATH.fullmatch(path)) and not {".", ".."} & set(path.split("/"))


def newest_run(job: str, digest: str, names: Iterable[str]) -> int:
    """Return the newest run of this job with this content that has a directory among ``names``; 0 if there is none."""
    tag = RecordDirectory.of_run("", job, 0, digest).path.rpartition("-")[2]
    form = re.compile(rf"{re.escape(job)}-r(\d{{1,9}})-{tag}")
    return max((int(found[1]) for found in map(form.fullmatch, names) if found), default=0)


def _is_worth_retrying(error: SkahactlError) -> bool:
    return isinstance(error, UnreachableError) and not error.is_permanent


def _pause(attempt: int, wanted: float | None) -> float:
    return min(_LONGEST_PAUSE, wanted if wanted is not None else 0.125 * 2.0 ** min(attempt, 4))


def _children(body: bytes) -> tuple[str, ...] | None:
    """Return the names of the children in a listing; None if it is not a complete document."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return None
    if root.tag != _NODE:
        return None
    nodes = (node for node in root.iter(_NODE) if node is not root)
    return tuple(unquote(node.get("uri", "").rpartition("/")[2]) for node in nodes)


def _read_end(key: EndKey) -> bytes | None:
    try:
        with open(RecordDirectory(key[0]).end(*key[1:]), "rb") as file:
            return file.read(_LARGEST_END)
    except OSError:
        return None


async def _file_pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
