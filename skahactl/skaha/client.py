"""The Skaha v1 interface: one method per request, with replies as values."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

from skahactl.errors import AuthError, SkahactlError, UnreachableError, UsageError
from skahactl.skaha import credentials, encoding, failures, models
from skahactl.skaha.failures import HttpReply
from skahactl.skaha.models import CreateOutcome, CreateResult, Event, Listing, Options, ServerError, ServerSession
from skahactl.skaha.transport import FAILURES, Exchange, PreparedRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import TracebackType

    import httpx

    from skahactl.model import Request
    from skahactl.profile import Profile
    from skahactl.skaha.storage import SharedStorage
    from skahactl.system import Clock


class Throttle:
    """Allows ``limit`` creates at a time; ``limit`` moves between 1 and ``most``.

    An overload (429, 503, 504 or a timeout) halves the limit, once for all creates that were in flight together. Every
    second success raises it by one, so that a few errors among many creates cost little.
    """

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.limit = self.most
        self._held = 0
        self._successes = 0
        self._grace = 0  # creates in flight when the limit was halved: their failures count as the same overload
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: self._held < self.limit)
            self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._grace = max(0, self._grace - 1)
            async with self._changed:
                self._changed.notify(self.limit)

    def record_success(self) -> None:
        self._successes += 1
        if self._successes >= 2 and self.limit < self.most:
            self.limit += 1
            self._successes = 0

    def record_overload(self) -> None:
        self._successes = 0
        if self._grace == 0:
            self.limit = max(1, self.limit // 2)
            self._grace = self._held


_OVERLOADS = frozenset({429, 503, 504})
Value = TypeVar("Value")


class Client:
    """A client of one platform; ``async with`` closes it.

    ``report`` receives a line per request, and with ``verbose`` 2 the form of each create, with secrets masked. Every
    method except ``create`` raises AuthError or UnreachableError if its request fails. A method with a session id
    raises UsageError for an id that no URL can contain: empty, ``.`` or ``..``.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        transport: httpx.AsyncBaseTransport,
        clock: Clock,
        environ: Mapping[str, str],
        report: Callable[[str], None] = lambda line: None,
        verbose: int = 0,
        open_storage: Callable[[], SharedStorage] | None = None,
    ) -> None:
        self.server = profile.server
        self._open_storage = open_storage
        self._storage: SharedStorage | None = None
        self._profile = profile
        self._where = f"{profile.name} ({profile.host})"  # its name in errors
        self._login_hint = credentials.login_hint(profile)
        self._outage_hint = credentials.outage_hint(profile)
        self._memory = profile.local.memory if profile.is_local else profile.client.memory
        self._clock = clock
        self.secrets = encoding.SecretReader(environ)
        self._exchange = Exchange(profile, transport, clock, environ, report, verbose)
        self._throttle = Throttle(profile.client.concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, AuthError | UnreachableError):
            self._named(error)
        await self.aclose()

    async def aclose(self) -> None:
        if self._storage is not None:
            await self._storage.aclose()
        await self._exchange.aclose()

    @property
    def storage(self) -> SharedStorage:
        """Return the shared storage of the profile, opened at its first use."""
        if self._storage is None:
            from skahactl.skaha.storage import SharedStorage

            opened = None if self._open_storage is None else self._open_storage()
            self._storage = opened or SharedStorage(self._profile, self._clock, None)
        return self._storage

    @property
    def user(self) -> str | None:
        """Return the user that the server reported; None before its first reply."""
        return self._exchange.user

    @property
    def concurrency(self) -> int:
        """Return the current number of parallel creates."""
        return self._throttle.limit

    async def create(self, request: Request, name: str, directory: str | None = None) -> CreateResult:
        """Send one create, once, after waiting for its turn, and return its result.

        ``directory`` is the working directory of the command on the local platform; it is not sent to a server.

        Before anything is sent, raises UsageError if a secret cannot be read, and ProfileError if the connection is not
        safe for secrets.
        """
        revealed = await self.secrets.reveal(request)
        form = encoding.fields(revealed, name)
        registry = await self.registry_auth()
        secrets = encoding.secret_texts(request, revealed)
        if secrets:
            credentials.require_safe_secrets(self._profile)
        secrets += registry.secrets
        shown = encoding.fields(request, name)
        try:
            await self._exchange.prepare_credentials()
            prepared = self._exchange.prepared(
                "POST", "/session", form=form, shown=shown, extra=registry.header, secrets=secrets, directory=directory
            )
        except AuthError as error:
            return _denied(error)
        async with self._throttle.slot():
            result = await self._created(prepared)
            if result.error is not None and (result.error.code == "timeout" or result.error.http_status in _OVERLOADS):
                self._throttle.record_overload()
            elif result.outcome == CreateOutcome.CREATED:
                self._throttle.record_success()
        if result.error is not None and result.outcome is CreateOutcome.AUTH and result.error.hint is None:
            return replace(result, error=replace(result.error, hint=self._login_hint))
        return result

    async def registry_auth(self) -> credentials.RegistryAuth:
        """Return the credentials of the image registry. Raises as ``credentials.registry_auth``."""
        registry, environ = self._profile.registry, self.secrets.environ
        what = "cannot read the registry secret"
        return await self.secrets.once(registry, what, lambda: credentials.registry_auth(registry, environ))

    async def sessions(self) -> Listing:
        """Return the sessions of the user, with one list call."""
        requested = self._clock.now()
        reply = await self._get("/session")
        found = _read_reply(models.parse_sessions, reply)
        return Listing(found, requested, self._clock.now(), self.user, self._memory, reply.body)

    async def session(self, id: str) -> ServerSession | None:
        """Return one session; None if the user has no session with this id (404)."""
        reply = await self._found("GET", _path(id))
        return None if reply is None else _read_reply(models.parse_one_session, reply)

    @asynccontextmanager
    async def log(self, id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the current log in pieces; empty for a session without a pod and for an unknown id (skaha-api 5)."""
        await self._exchange.prepare_credentials()
        prepared = self._exchange.prepared("GET", _path(id), params={"view": "logs"})
        try:
            async with self._exchange.stream(prepared) as answer:
                if isinstance(answer, HttpReply):
                    raise self._named(
                        _no_skaha("a web page") if answer.status == 200 else failures.error_of_reply(answer)
                    )
                yield _log_request(answer)
        except FAILURES as error:
            raise self._named(failures.error_of_exception(error)) from None

    async def events(self, id: str) -> tuple[Event, ...] | None:
        """Return the events of the pod of a session; None if it has no pod."""
        reply = await self._found("GET", _path(id), {"view": "events"})
        return None if reply is None else _read_reply(models.parse_events, reply)

    async def events_text(self, id: str) -> str | None:
        """Return the events of the pod of a session as the server's table; None if it has no pod."""
        reply = await self._found("GET", _path(id), {"view": "events"})
        return None if reply is None else reply.body.decode("utf-8", "replace")

    async def delete(self, id: str) -> None:
        """Send one DELETE. A successful reply proves nothing; verify it with a list (skaha-api 6)."""
        await self._found("DELETE", _path(id))  # servers before 1.0.0 reply 404 for an unknown session

    async def renew(self, id: str) -> str | None:
        """Renew the deadline of a session. Return None on success, else the server's message."""
        reply = await self._send("POST", _path(id), form=[("action", "renew")])
        if reply.status in (400, 404) and not reply.not_logged_in and not reply.is_page:
            return reply.words
        self._require_success(reply)
        return None

    async def options(self) -> Options:
        """Return the cores, GB and GPUs that the platform offers."""
        return _read_reply(models.parse_options, await self._get("/context"))

    async def images(self, kind: str | None = None) -> tuple[dict[str, object], ...]:
        """Return the public images that the platform has cached."""
        params = {"type": kind} if kind is not None else None
        return _read_reply(models.parse_images, await self._get("/image", params))

    async def stats(self) -> dict[str, object]:
        """Return how much of the cluster is in use. Raises UnreachableError if the server does not report it (503)."""
        reply = await self._get("/session", {"view": "stats"})
        return _read_reply(lambda body: models.parse_mapping(body, "statistics"), reply)

    async def available(self) -> str:
        """Return the note of the availability page. Raises UnreachableError if the platform is not available."""
        good, note = _read_reply(models.parse_availability, await self._get("/availability"))
        if not good:
            raise UnreachableError(f"the platform reports that it is not available: {note}")
        return note

    async def _created(self, prepared: PreparedRequest) -> CreateResult:
        try:
            reply = await self._exchange.send(prepared)
        except AuthError as error:
            return _denied(error)
        except FAILURES as error:
            return failures.create_result_of_error(error)
        return failures.create_result(reply)

    async def _send(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, form: encoding.Fields | None = None
    ) -> HttpReply:
        await self._exchange.prepare_credentials()
        prepared = self._exchange.prepared(method, path, params=params, form=form)
        try:
            return await self._exchange.send(prepared)
        except FAILURES as error:
            raise self._named(failures.error_of_exception(error)) from None

    async def _get(self, path: str, params: Mapping[str, str] | None = None) -> HttpReply:
        return self._require_success(await self._send("GET", path, params=params))

    async def _found(self, method: str, path: str, params: Mapping[str, str] | None = None) -> HttpReply | None:
        """Send a request and return its reply; None for a 404 that is not a web page."""
        reply = await self._send(method, path, params=params)
        return None if reply.status == 404 and not reply.is_page else self._require_success(reply)

    def _require_success(self, reply: HttpReply) -> HttpReply:
        if not 200 <= reply.status < 300:
            raise self._named(failures.error_of_reply(reply))
        return reply

    def _named(self, error: SkahactlError) -> SkahactlError:
        """Add the name of the platform and a hint to an error, and return it."""
        error.where = error.where or self._where
        if isinstance(error, AuthError | UnreachableError):
            error.hint = error.hint or (self._login_hint if isinstance(error, AuthError) else self._outage_hint)
        return error


def _denied(error: AuthError) -> CreateResult:
    return CreateResult(CreateOutcome.AUTH, error=ServerError(error.code, None, error.message, error.hint))


async def _log_request(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces of a log. Raises AuthError or UnreachableError if the connection breaks."""
    try:
        async for piece in pieces:
            yield piece
    except FAILURES as error:
        raise failures.error_of_exception(error) from None


def _path(id: str) -> str:
    if id in ("", ".", ".."):  # would address all sessions, or the path above them (skaha-api 1)
        raise UsageError(f"'{id}' is not a session id")
    return f"/session/{quote(id, safe='')}"


def _read_reply(reader: Callable[[bytes], Value], reply: HttpReply) -> Value:
    try:
        return reader(reply.body)
    except models.UnreadableReply as error:
        words = "a web page" if reply.is_page else str(error)
        raise _no_skaha(words) from None


def _no_skaha(words: str) -> UnreachableError:
    return UnreachableError(
        f"not a reply from a Skaha server: {words}",
        hint=failures.WRONG_URL,
        code="not-skaha",
        is_permanent=True,
        answered=True,
    )
