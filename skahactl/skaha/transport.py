"""Transport to a server: TLS, proxies of the environment, and certificates that are renewed during use."""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlsplit

import httpcore
import httpx

from skahactl import __version__
from skahactl.errors import AuthError, ProfileError
from skahactl.skaha import credentials, encoding
from skahactl.skaha.failures import LOG_IN, REJECTED, HttpReply, tls_refusal
from skahactl.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from skahactl.profile import Profile
    from skahactl.system import Clock

#: The extension of a request: a function that is called when its turn comes.
BEGUN = "skahactl.begun"


class ConnectionPool(httpx.AsyncBaseTransport):
    """Runs at most ``most`` requests at a time, in order, each on a transport from ``make``.

    The last used transport is used first. A response holds its connection until it is closed.
    """

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport], most: int) -> None:
        self._make = make
        self._free = asyncio.Semaphore(most)
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._all: list[httpx.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._free.acquire()
        try:
            lane = self._idle.pop() if self._idle else self._another()
        except BaseException:
            self._free.release()
            raise
        try:
            if BEGUN in request.extensions:
                request.extensions[BEGUN]()
            response = await lane.handle_async_request(request)
        except BaseException:
            self._give_back(lane)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _LanedStream(response.stream, lambda: self._give_back(lane))
        return response

    async def aclose(self) -> None:
        for lane in self._all:
            await lane.aclose()
        self._all, self._idle = [], []

    def _another(self) -> httpx.AsyncBaseTransport:
        lane = self._make()
        self._all.append(lane)
        return lane

    def _give_back(self, lane: httpx.AsyncBaseTransport) -> None:
        self._idle.append(lane)
        self._free.release()


class _LanedStream(httpx.AsyncByteStream):
    """The body of a response; ``release`` is called once, when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, release: Callable[[], None]) -> None:
        self._inner = inner
        self._release: Callable[[], None] | None = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            release, self._release = self._release, None
            if release is not None:
                release()


_SOON = 3600.0
_KEPT = 20.0  # seconds that an idle connection is kept


class Connection(httpx.AsyncBaseTransport):
    """A transport that uses a renewed certificate without a restart.

    The file is read again if it changed and the current certificate ends within the hour, or was refused. On the
    platform itself, the file is rewritten at every create, and connections should survive that.
    """

    def __init__(self, profile: Profile, environ: Mapping[str, str], now: Callable[[], float]) -> None:
        self._profile = profile
        self._environ = environ
        self._now = now
        self._inner: ConnectionPool | None = None
        self._former: list[ConnectionPool] = []  # replies may still be read from them
        self._seen: tuple[int, int, int] | None = None
        self._ends: float | None = None
        self._refused = False
        self._accepted = False  # whether the server ever accepted this certificate
        self._context: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        inner = self._inner
        if inner is None or self._should_renew() or self._is_over():
            inner = self._renewed()
        try:
            response = await inner.handle_async_request(request)
        except (httpx.TransportError, ssl.SSLError):
            self._refused = True  # a server can end the handshake because of the certificate
            await self._explain(request)
            raise
        self._accepted = True
        self._refused = response.status_code in (400, 401, 403)
        return response

    async def aclose(self) -> None:
        for transport in (self._inner, *self._former):
            if transport is not None:
                await transport.aclose()
        self._inner = None
        self._former = []

    async def _explain(self, request: httpx.Request) -> None:
        """Raise AuthError if a read failed because the server refuses the certificate; a create stays unconfirmed."""
        if self._profile.auth.method != "x509" or self._accepted or request.method != "GET" or self._context is None:
            return
        if proxy_for(self._profile.server, self._environ) is not None:
            return
        reason = await tls_refusal(request.url.host, request.url.port or 443, self._context)
        if reason is not None:
            raise AuthError(REJECTED.format(reason), hint=LOG_IN, code="certificate") from None

    def _should_renew(self) -> bool:
        if self._profile.auth.method != "x509" or self._signature() == self._seen:
            return False
        return self._refused or self._ends is None or self._ends - self._now() < _SOON

    def _is_over(self) -> bool:
        return self._ends is not None and self._ends <= self._now()

    def _renewed(self) -> ConnectionPool:
        """Return a transport with the current certificate.

        Raises AuthError, and keeps the former one, if it is invalid.
        """
        seen = self._signature()
        ends, context = self._checked()
        credentials.load(context, self._profile)
        inner = _transport(self._profile, self._environ, context)
        if self._inner is not None:
            self._former.append(self._inner)
        self._inner, self._context, self._accepted = inner, context, False
        self._seen = seen
        self._ends = ends
        self._refused = False
        return inner

    def _checked(self) -> tuple[float | None, ssl.SSLContext]:
        """Return the end of our certificate, and the trusted authorities.

        Reading the authorities takes as long as many requests, so it runs only when needed, and in parallel with other
        preparations of the first request.
        """
        server = self._profile.server
        if server.startswith("http://") and proxy_for(server, self._environ) is None:
            ends = credentials.check(self._profile, self._now(), self._environ)
            return ends, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with ThreadPoolExecutor(max_workers=1) as beside:
            trusted = beside.submit(credentials.server_context, self._profile, self._environ)
            ends = credentials.check(self._profile, self._now(), self._environ)
            import httpcore  # noqa: F401  # as the first connection does

            return ends, trusted.result()

    def _signature(self) -> tuple[int, int, int] | None:
        if self._profile.auth.certificate is None:
            return None
        try:
            status = Path(self._profile.auth.certificate).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _transport(profile: Profile, environ: Mapping[str, str], context: ssl.SSLContext) -> ConnectionPool:
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEPT)
    proxy = usable_proxy(profile.server, environ)

    def lane() -> httpx.AsyncBaseTransport:
        if proxy is None:
            return DirectTransport(context, _KEPT)
        return httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=proxy)

    return ConnectionPool(lane, profile.client.concurrency)


def usable_proxy(server: str, environ: Mapping[str, str]) -> str | None:
    """Like ``proxy_for``, but raise ProfileError, without the password of the proxy, for one that cannot be used."""
    proxy = proxy_for(server, environ)
    if proxy is None:
        return None
    kind = proxy.split("://", 1)[0].lower()
    where = f"{urlsplit(server).scheme}_proxy or all_proxy of the environment"
    if kind.startswith("socks"):
        raise ProfileError("SOCKS proxies are not supported", where=where, hint="use an http:// proxy, or none")
    if kind not in ("http", "https"):
        raise ProfileError(f"unsupported kind of proxy '{kind}' (use http or https)", where=where)
    try:
        known = bool(httpx.URL(proxy).host)
    except httpx.InvalidURL:
        known = False
    if not known:
        raise ProfileError("invalid address of a proxy", where=where, hint="write it as http://HOST:PORT")
    return proxy


def proxy_for(server: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy of the environment for this server, by the rules of curl; never one for this machine."""
    parts = urlsplit(server)
    host = (parts.hostname or "").lower()
    if host in credentials.LOOPBACK or _exempt(host, _lookup(environ, "no_proxy")):
        return None
    proxy = _lookup(environ, f"{parts.scheme}_proxy") or _lookup(environ, "all_proxy")
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _lookup(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or ("" if name == "http_proxy" else environ.get(name.upper(), "")) or ""


def _exempt(host: str, listed: str) -> bool:
    for entry in listed.lower().split(","):
        domain = entry.strip().split(":", 1)[0].lstrip(".")
        if domain == "*" or (domain and (host == domain or host.endswith(f".{domain}"))):
            return True
    return False


#: Exceptions that a request can end with; httpx passes TLS errors through while it reads.
FAILURES = (httpx.HTTPError, ssl.SSLError)
LOCAL_URL = "http://local/skaha/v1"
#: The extension of a request that names the working directory.
DIRECTORY = "skahactl.directory"
#: Limits of a whole reply: multiples of the profile's timeout, and bytes.
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
    """A request that is ready to be sent, so that nothing is computed between two requests on a connection."""

    request: httpx.Request
    path: str
    shown: encoding.Fields | None  # the form with secrets masked
    secrets: tuple[str, ...]  # removed from messages of the server


class Exchange:
    """Sends the requests of a Client. ``user`` comes from the last reply (x-vo-authenticated)."""

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
        form: encoding.Fields | None = None,
        shown: encoding.Fields | None = None,
        extra: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        directory: str | None = None,
    ) -> PreparedRequest:
        """Prepare one request below the base URL, with the current credentials. Raises AuthError.

        ``shown`` is the form with secrets masked; ``secrets`` are removed from messages of the server; ``directory`` is
        for a transport that runs commands, and not part of the request.
        """
        who = credentials.headers(self._profile, self._environ)
        headers = {**_HEADERS, **who, **(extra or {})}
        content = None
        if form is not None:
            headers["Content-Type"] = encoding.CONTENT_TYPE
            content = encoding.body(form)
        extensions: dict[str, object] = {"timeout": self._timeout}
        if directory is not None:
            extensions[DIRECTORY] = directory
        request = httpx.Request(
            method, self._url(path), params=params, headers=headers, content=content, extensions=extensions
        )
        return PreparedRequest(request, path, shown, (*secrets, *_request_tokens(who)))

    async def send(self, prepared: PreparedRequest) -> HttpReply:
        """Send it once, and read the whole reply. Raises one of FAILURES, or AuthError."""
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
        """Stream a reply in pieces, of any length.

        Anything except 200, and a web page, is read and returned as a Reply.
        """
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
        """Raise ReadTimeout if the body takes too long in total, counted from the turn of the request.

        Each piece of a reply can be in time although its end never comes.
        """
        try:
            async with asyncio.timeout(self._longest if begun else None) as limit:
                now = asyncio.get_running_loop().time
                request.extensions[BEGUN] = lambda: limit.reschedule(now() + self._longest)
                yield
        except TimeoutError as error:
            raise httpx.ReadTimeout("the reply did not end in time", request=request) from error

    def _url(self, path: str) -> str:
        if path == "/availability":  # next to the version, not below it (skaha-api 1)
            return self._base.rsplit("/", 1)[0] + path
        return self._base + path

    def _reply(self, prepared: PreparedRequest, response: httpx.Response, body: bytes) -> HttpReply:
        self._remember(response)
        return HttpReply(response.status_code, response.headers, body, prepared.secrets)

    def _remember(self, response: httpx.Response) -> None:
        user = response.headers.get("x-vo-authenticated")
        if user and isinstance(self._clock, SystemClock):
            correct_clock(self._clock, response.headers.get("date"))
        self.user = user or self.user

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
            raise httpx.RemoteProtocolError(f"the reply exceeds {_LARGEST >> 20} MiB")
        pieces.append(piece)
    return b"".join(pieces)


def _request_tokens(who: Mapping[str, str]) -> list[str]:
    return [text.removeprefix("Bearer ") for text in who.values()]


_HELD = 512 * 1024  # bytes that wait to be read; from there on no more is taken from the system
_NEXT_ADDRESS = 0.25  # seconds until the next address of a host is tried as well


class Network(httpcore.AsyncNetworkBackend):
    """Connections over TCP; no local address and no socket options can be chosen."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        connect = asyncio.get_running_loop().create_connection
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                _, stream = await connect(_NetworkStream, host, port, happy_eyeballs_delay=_NEXT_ADDRESS)
        return stream


class _NetworkStream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection. ``write`` returns at once: what we send is a form of 2 MiB at the most."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._more = asyncio.Event()  # there is a piece, or the end
        self._ended = False
        self._error: Exception | None = None
        self._transport: asyncio.Transport

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next piece as it came, however long; empty at the end."""
        if not self._more.is_set():
            with _as_httpcore(httpcore.ReadTimeout, httpcore.ReadError):
                async with asyncio.timeout(timeout):
                    await self._more.wait()
        if not self._pieces:
            if self._error is not None:
                raise httpcore.ReadError(str(self._error)) from self._error
            return b""
        piece = self._pieces.popleft()
        self._held -= len(piece)
        if not self._pieces and not self._ended:
            self._more.clear()
            self._transport.resume_reading()
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._transport.write(buffer)

    async def aclose(self) -> None:
        self._transport.abort()
        await asyncio.sleep(0)  # the loop closes the socket

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Self:
        start = asyncio.get_running_loop().start_tls
        with _as_httpcore(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                transport = await start(self._transport, self, ssl_context, server_hostname=server_hostname)
        self._transport = cast(asyncio.Transport, transport)
        return self

    def get_extra_info(self, info: str) -> Any:
        """``is_readable``: of a connection that waits for no answer, whether it has come to its end."""
        if info != "is_readable":
            return self._transport.get_extra_info(info)
        if self._more.is_set():
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        if self._held >= _HELD:
            self._transport.pause_reading()
        self._more.set()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self._error = self._error or error
        self._more.set()


@contextlib.contextmanager
def _as_httpcore(late: type[Exception], lost: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:
        raise lost(str(error)) from error


_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


class DirectTransport(httpx.AsyncBaseTransport):
    """As httpx.AsyncHTTPTransport with one connection and no proxy; it ends with the same errors."""

    def __init__(self, context: ssl.SSLContext, keepalive: float) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context, max_connections=1, keepalive_expiry=keepalive, network_backend=Network()
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        assert isinstance(request.stream, httpx.AsyncByteStream)
        sent = httpcore.Request(
            request.method,
            url,
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = await self._pool.handle_async_request(sent)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_DirectBody(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _DirectBody(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for piece in self._answer.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()


@contextlib.contextmanager
def _as_httpx() -> Iterator[None]:
    """httpx has an error of the same name for each of httpcore's."""
    try:
        yield
    except _ERRORS as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


def correct_clock(clock: SystemClock, date: str | None) -> None:
    """Lets the clock follow the Date header of a reply of the platform itself."""
    from email.utils import parsedate_to_datetime

    with contextlib.suppress(ValueError, TypeError, OverflowError):
        clock.correct(parsedate_to_datetime(date or "").timestamp())
