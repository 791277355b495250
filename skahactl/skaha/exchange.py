"""One request and its answer, over any httpx transport: nothing sent twice, no redirect followed, no secret told."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import httpx

from skahactl import __version__
from skahactl.clock import Clock
from skahactl.profile import Profile
from skahactl.skaha import credentials, wire
from skahactl.skaha.reply import Reply

#: What a request may end with instead of an answer; httpx lets errors of TLS through as they are while it reads.
FAILURES = (httpx.HTTPError, ssl.SSLError)
LOCAL_URL = "http://local/skaha/v1"
#: The extension of a request that names the directory to run in.
DIRECTORY = "skahactl.directory"


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
        self._http: httpx.AsyncClient | None = None

    async def send(
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
    ) -> Reply:
        """One request below the base, its answer read whole. Raises AuthError, or one of FAILURES.

        ``shown`` is the form as it may be told; ``secrets`` are taken out of the server's words; ``directory`` is for
        a transport that runs commands, and not part of the request.
        """
        who = self._who()
        headers = {**who, **(extra or {})}
        content = None
        if form is not None:
            headers["Content-Type"] = wire.CONTENT_TYPE
            content = wire.body(form)
        started = self._clock.monotonic()
        result: object = "cancelled"
        try:
            response = await self._client().request(
                method,
                self._url(path),
                params=params,
                content=content,
                headers=headers,
                extensions=None if directory is None else {DIRECTORY: directory},
            )
            result = response.status_code
        except FAILURES as error:
            result = type(error).__name__
            raise
        finally:
            self._note(method, path, result, started, shown)
        return self._reply(response, [*secrets, *_tokens(who)])

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes] | Reply]:
        """A GET whose body comes in pieces; anything but 200 is read whole and given as a Reply instead."""
        started = self._clock.monotonic()
        who = self._who()
        async with self._client().stream("GET", self._url(path), params=params, headers=who) as response:
            self._note("GET", path, response.status_code, started, None)
            if response.status_code == 200:
                self._remember(response)
                yield response.aiter_bytes()
            else:
                await response.aread()
                yield self._reply(response, _tokens(who))

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        else:
            await self._transport.aclose()

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                transport=self._transport,
                timeout=httpx.Timeout(self._profile.client.timeout, pool=None),
                headers={"User-Agent": f"skahactl/{__version__}"},
                follow_redirects=False,
                trust_env=False,  # proxies are the connection's; .netrc is for login alone
            )
        return self._http

    def _url(self, path: str) -> str:
        if path == "/availability":  # beside the version, not below it (skaha-api 1)
            return self._base.rsplit("/", 1)[0] + path
        return self._base + path

    def _reply(self, response: httpx.Response, secrets: Iterable[str]) -> Reply:
        self._remember(response)
        return Reply(response.status_code, response.headers, response.content, secrets)

    def _remember(self, response: httpx.Response) -> None:
        self.user = response.headers.get("x-vo-authenticated") or self.user

    def _who(self) -> dict[str, str]:
        return credentials.headers(self._profile, self._environ)

    def _note(self, method: str, path: str, result: object, started: float, shown: wire.Fields | None) -> None:
        self._report(f"{method} {self._url(path)} {result} {self._clock.monotonic() - started:.2f} s")
        if self._verbose >= 2 and shown is not None:
            for key, text in shown:
                self._report(f"  {key}={text}")


def _tokens(who: Mapping[str, str]) -> list[str]:
    return [text.removeprefix("Bearer ") for text in who.values()]
