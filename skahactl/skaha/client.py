"""The Skaha v1 interface over any httpx transport: one method a request, nothing sent twice, no redirect followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx

from skahactl import __version__
from skahactl.clock import Clock
from skahactl.errors import AuthError, UnreachableError
from skahactl.job import Request
from skahactl.profile import Profile
from skahactl.skaha import credentials, failures, replies, wire
from skahactl.skaha.failures import Reply
from skahactl.skaha.models import Created, Event, Listing, Options, ServerWords, Session
from skahactl.skaha.throttle import Throttle

LOCAL_URL = "http://local/skaha/v1"
Value = TypeVar("Value")
_STRUGGLES = frozenset({"timeout", "unavailable"})


def _silent(line: str) -> None:
    """Reports nothing."""


class Client:
    """A connection to one platform; ``async with`` closes it.

    ``user`` is whom the last reply said we are (x-vo-authenticated), None before the first. ``report`` is given a line
    for each request, and with ``verbose`` 2 its parameters too, secrets masked.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        transport: httpx.AsyncBaseTransport,
        clock: Clock,
        environ: Mapping[str, str],
        report: Callable[[str], None] = _silent,
        verbose: int = 0,
    ) -> None:
        self.server = profile.server
        self.user: str | None = None
        self._profile = profile
        self._base = LOCAL_URL if profile.is_local else profile.server.rstrip("/")
        self._transport = transport
        self._clock = clock
        self._environ = environ
        self._report = report
        self._verbose = verbose
        self._http: httpx.AsyncClient | None = None
        self._throttle = Throttle(profile.client.concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        else:
            await self._transport.aclose()

    @property
    def concurrency(self) -> int:
        """How many creates are sent at once at present."""
        return self._throttle.limit

    async def create(self, request: Request, name: str) -> Created:
        """Sends one create, once, and says what became of it; waits for its turn before.

        Raises UsageError or ProfileError before anything is sent: a secret that cannot be read, an unsafe channel.
        """
        form = wire.fields(request, name, self._environ)
        extra = credentials.registry_header(self._profile.registry, self._environ)
        secrets = [*wire.secret_texts(request, self._environ), *extra.values()]
        async with self._throttle.slot():
            result = await self._created(form, wire.masked_fields(request, name), extra, secrets)
            if result.error is not None and (result.error.code in _STRUGGLES or result.error.http_status == 503):
                self._throttle.struggled()
            elif result.outcome == "created":
                self._throttle.succeeded()
        return result

    async def sessions(self) -> Listing:
        """The caller's sessions, one list call; AuthError or UnreachableError."""
        requested = self._clock.now()
        reply = await self._ask("GET", "/session")
        found = _read(replies.sessions, reply)
        return Listing(found, requested, self._clock.now(), self.user)

    async def session(self, id: str) -> Session | None:
        """One session; None if the platform knows none of ours with this id (404)."""
        reply = await self._send("GET", _path(id))
        if reply.status == 404 and not reply.is_page:
            return None
        return _read(replies.one_session, _good(reply))

    @asynccontextmanager
    async def log(self, id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The log as it is now, in pieces as they come. Empty for a session without a pod, or unknown."""
        started = self._clock.monotonic()
        path = _path(id)
        failure: Exception | None = None
        try:
            async with self._client().stream(
                "GET", self._url(path), params={"view": "logs"}, headers=self._who()
            ) as response:
                self._note("GET", path, response.status_code, started)
                self._remember(response)
                if response.status_code != 200:
                    raise failures.raised(
                        Reply(response.status_code, response.headers, await response.aread(), self._secrets())
                    )
                yield response.aiter_bytes()
        except httpx.HTTPError as error:
            failure = failures.raised_by(error)
        if failure is not None:
            raise failure

    async def events(self, id: str) -> tuple[Event, ...] | None:
        """The events of the session's pod; None if it has no pod, now or any more."""
        reply = await self._send("GET", _path(id), params={"view": "events"})
        if reply.status == 404 and not reply.is_page:
            return None
        return _read(replies.events, _good(reply))

    async def delete(self, id: str) -> None:
        """One DELETE. That it is answered proves nothing: look again (skaha-api 6)."""
        reply = await self._send("DELETE", _path(id))
        if reply.status != 404:  # servers before 1.0.0 said so of an unknown session
            _good(reply)

    async def renew(self, id: str) -> str | None:
        """Asks for a later deadline; None when done, else the server's words."""
        reply = await self._send("POST", _path(id), content=b"action=renew")
        if reply.status in (400, 404) and not reply.not_logged_in and not reply.is_page:
            return reply.words
        _good(reply)
        return None

    async def options(self) -> Options:
        """Which cores, GB and GPUs the platform offers."""
        return _read(replies.options, await self._ask("GET", "/context"))

    async def images(self, kind: str | None = None) -> tuple[dict[str, object], ...]:
        """The public images that the platform has cached."""
        params = {"type": kind} if kind is not None else None
        return _read(replies.images, await self._ask("GET", "/image", params=params))

    async def repository(self) -> tuple[str, ...]:
        """The registries that images may come from."""
        return _read(replies.hosts, await self._ask("GET", "/repository"))

    async def stats(self) -> dict[str, object]:
        """How much of the cluster is in use, as the server has it; not every server has it."""
        reply = await self._ask("GET", "/session", params={"view": "stats"})
        return _read(lambda body: replies.mapping(body, "statistics"), reply)

    async def available(self) -> str:
        """The note of the platform's availability page; UnreachableError if it says it is not available."""
        good, note = _read(replies.availability, await self._ask("GET", "/../availability"))
        if not good:
            raise UnreachableError(f"the platform says that it is not available: {note}")
        return note

    async def _created(
        self, form: wire.Fields, masked: wire.Fields, extra: dict[str, str], secrets: list[str]
    ) -> Created:
        try:
            reply = await self._send(
                "POST", "/session", content=wire.body(form), extra=extra, secrets=secrets, shown=masked, raw=True
            )
        except AuthError as error:
            return Created("auth", error=ServerWords(error.code, None, error.message, error.hint))
        except httpx.HTTPError as error:
            return failures.created_by(error)
        return failures.created(reply)

    async def _ask(self, method: str, path: str, params: dict[str, str] | None = None) -> Reply:
        return _good(await self._send(method, path, params=params))

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: bytes | None = None,
        extra: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        shown: wire.Fields | None = None,
        raw: bool = False,
    ) -> Reply:
        """One request, its answer read whole; exceptions of httpx told as ours unless ``raw``."""
        headers = {**self._who(), **(extra or {})}
        if content is not None:
            headers["Content-Type"] = wire.CONTENT_TYPE
        started = self._clock.monotonic()
        failure: Exception | None = None
        try:
            response = await self._client().request(
                method, self._url(path), params=params, content=content, headers=headers
            )
        except httpx.HTTPError as error:
            self._note(method, path, type(error).__name__, started, shown)
            if raw:
                raise
            failure = failures.raised_by(error)
        except asyncio.CancelledError:
            self._note(method, path, "cancelled", started, shown)
            raise
        if failure is not None:  # outside the handler: the request, and its headers, is no part of what is raised
            raise failure
        self._note(method, path, response.status_code, started, shown)
        self._remember(response)
        return Reply(response.status_code, response.headers, response.content, [*secrets, *self._secrets()])

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                transport=self._transport,
                timeout=httpx.Timeout(self._profile.client.timeout, pool=None),
                headers={"User-Agent": f"skahactl/{__version__}", "Accept": "*/*"},
                follow_redirects=False,
                trust_env=False,
            )
        return self._http

    def _url(self, path: str) -> str:
        if path.startswith("/../"):
            return self._base.rsplit("/", 1)[0] + path[3:]
        return self._base + path

    def _who(self) -> dict[str, str]:
        return credentials.headers(self._profile, self._environ)

    def _secrets(self) -> list[str]:
        if self._profile.auth.method != "token":
            return []
        try:
            return [credentials.token(self._profile.auth, self._environ, self._profile.name)]
        except AuthError:
            return []

    def _remember(self, response: httpx.Response) -> None:
        self.user = response.headers.get("x-vo-authenticated") or self.user

    def _note(self, method: str, path: str, result: object, started: float, shown: wire.Fields | None = None) -> None:
        self._report(f"{method} {self._url(path)} {result} {self._clock.monotonic() - started:.2f} s")
        if self._verbose >= 2 and shown is not None:
            for key, text in shown:
                self._report(f"  {key}={text}")


def _path(id: str) -> str:
    if not id:
        raise ValueError("an empty id would name the whole collection")  # skaha-api 1, the trailing slash
    return f"/session/{quote(id, safe='')}"


def _good(reply: Reply) -> Reply:
    if not 200 <= reply.status < 300:
        raise failures.raised(reply)
    return reply


def _read(reader: Callable[[bytes], Value], reply: Reply) -> Value:
    try:
        return reader(reply.body)
    except replies.Unreadable as error:
        words = "a web page" if reply.is_page else str(error)
        raise UnreachableError(f"no answer of a Skaha server: {words}", hint=failures.WRONG_URL) from None
