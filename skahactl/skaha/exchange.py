"""One request and its answer, over any httpx transport: nothing sent twice, no redirect followed, no secret told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from skahactl import __version__
from skahactl.clock import Clock
from skahactl.profile import Profile
from skahactl.skaha import credentials, wire
from skahactl.skaha.lanes import BEGUN
from skahactl.skaha.reply import HttpReply

#: What a request may end with instead of an answer; httpx lets errors of TLS through as they are while it reads.
FAILURES = (httpx.HTTPError, ssl.SSLError)
LOCAL_URL = "http://local/skaha/v1"
#: The extension of a request that names the directory to run in.
DIRECTORY = "skahactl.directory"
#: An answer may come in pieces; the whole of it has so many times the profile's timeout, and so many bytes.
_LONGEST = 2.0
_LARGEST = 256 << 20
_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "User-Agent": f"skahactl/{__version__}",
}


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request that only has to be sent: nothing is left to compute between two requests on a connection."""

    request: httpx.Request
    path: str
    shown: wire.Fields | None  # the form as it may be told
    secrets: tuple[str, ...]  # are taken out of the server's words


class Exchange:
    """What a Client sends through. ``user`` is whom the last reply said we are (x-vo-authenticated)."""

    def __init__(
        self,
        profile: Profile,
        transport: httpx.AsyncBaseTransport,
        clock: Clock,
        environ: Mapping[str, str],
        report: Callable[[str], None],
        verbose: int,
    ) -> None:
        self.user: str | None = None
        self._profile = profile
        self._base = LOCAL_URL if profile.is_local else profile.server.rstrip("/")
        self._transport = transport
        self._clock = clock
        self._environ = environ
        self._report = report
        self._verbose = verbose
        self._timeout = httpx.Timeout(profile.client.timeout, pool=None).as_dict()
        self._longest = _LONGEST * profile.client.timeout

    def prepared(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        form: wire.Fields | None = None,
        shown: wire.Fields | None = None,
        extra: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        directory: str | None = None,
    ) -> PreparedRequest:
        """One request below the base, with the credentials as they are now. Raises AuthError.

        ``shown`` is the form as it may be told; ``secrets`` are taken out of the server's words; ``directory`` is for
        a transport that runs commands, and not part of the request.
        """
        who = credentials.headers(self._profile, self._environ)
        headers = {**_HEADERS, **who, **(extra or {})}
        content = None
        if form is not None:
            headers["Content-Type"] = wire.CONTENT_TYPE
            content = wire.body(form)
        extensions: dict[str, object] = {"timeout": self._timeout}
        if directory is not None:
            extensions[DIRECTORY] = directory
        request = httpx.Request(
            method, self._url(path), params=params, headers=headers, content=content, extensions=extensions
        )
        return PreparedRequest(request, path, shown, (*secrets, *_request_tokens(who)))

    async def send(self, prepared: PreparedRequest) -> HttpReply:
        """Sends it, once, and reads the answer whole. Raises one of FAILURES, or AuthError."""
        started = self._clock.monotonic()
        result: object = "cancelled"
        try:
            async with self._in_time(prepared.request):
                response = await self._transport.handle_async_request(prepared.request)
                try:
                    body = await _read_whole(response)
                finally:
                    await response.aclose()
            result = response.status_code
        except FAILURES as error:
            result = type(error).__name__
            raise
        finally:
            self._note(prepared, result, started)
        return self._reply(prepared, response, body)

    @asynccontextmanager
    async def stream(self, prepared: PreparedRequest) -> AsyncIterator[AsyncIterator[bytes] | HttpReply]:
        """An answer whose body comes in pieces, however long; anything but 200, and a web page, is read whole and given
        as a Reply instead."""
        started = self._clock.monotonic()
        async with self._in_time(prepared.request):
            response = await self._transport.handle_async_request(prepared.request)
        try:
            self._note(prepared, response.status_code, started)
            if response.status_code == 200 and "html" not in response.headers.get("content-type", "").lower():
                self._remember(response)
                yield response.aiter_bytes()
            else:
                async with self._in_time(prepared.request, begun=True):
                    body = await _read_whole(response)
                yield self._reply(prepared, response, body)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def _in_time(self, request: httpx.Request, *, begun: bool = False) -> AsyncIterator[None]:
        """ReadTimeout unless what is done in it ends soon enough, from the request's turn on: each piece of an answer
        may be in time, and its end never come."""
        try:
            async with asyncio.timeout(self._longest if begun else None) as limit:
                now = asyncio.get_running_loop().time
                request.extensions[BEGUN] = lambda: limit.reschedule(now() + self._longest)
                yield
        except TimeoutError as error:
            raise httpx.ReadTimeout("the answer did not end in time", request=request) from error

    def _url(self, path: str) -> str:
        if path == "/availability":  # beside the version, not below it (skaha-api 1)
            return self._base.rsplit("/", 1)[0] + path
        return self._base + path

    def _reply(self, prepared: PreparedRequest, response: httpx.Response, body: bytes) -> HttpReply:
        self._remember(response)
        return HttpReply(response.status_code, response.headers, body, prepared.secrets)

    def _remember(self, response: httpx.Response) -> None:
        self.user = response.headers.get("x-vo-authenticated") or self.user

    def _note(self, prepared: PreparedRequest, result: object, started: float) -> None:
        took = self._clock.monotonic() - started
        self._report(f"{prepared.request.method} {self._url(prepared.path)} {result} {took:.2f} s")
        if self._verbose >= 2 and prepared.shown is not None:
            for key, text in prepared.shown:
                self._report(f"  {key}={text}")


async def _read_whole(response: httpx.Response) -> bytes:
    pieces, size = [], 0
    async for piece in response.aiter_bytes():
        size += len(piece)
        if size > _LARGEST:
            raise httpx.RemoteProtocolError(f"an answer of more than {_LARGEST >> 20} MiB is not read")
        pieces.append(piece)
    return b"".join(pieces)


def _request_tokens(who: Mapping[str, str]) -> list[str]:
    return [text.removeprefix("Bearer ") for text in who.values()]
