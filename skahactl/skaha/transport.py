"""Transport to a server: TLS, proxies of the environment, and certificates that are renewed during use."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import ssl
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from skahactl import __version__
from skahactl.errors import ProfileError
from skahactl.profile import address_problem
from skahactl.skaha import credentials, encoding
from skahactl.skaha.failures import HttpReply, refusal_in
from skahactl.system import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from skahactl.profile import Profile
    from skahactl.system import Clock

#: Extension of a request: a function that is called when the pool starts the request.
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
        self._used: set[httpx.AsyncBaseTransport] = set()

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
            response = await self._sent(lane, request)
        except BaseException:
            self._give_back(lane)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _LanedStream(response.stream, lambda: self._give_back(lane))
        return response

    async def aclose(self) -> None:
        for lane in self._all:
            await lane.aclose()
        self._all, self._idle, self._used = [], [], set()

    async def _sent(self, lane: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
        """Send a request and return the response.

        A GET or HEAD on a reused connection that the server has just closed is sent once more, on a new one. A create
        is never sent again.
        """
        was_used = lane in self._used
        self._used.add(lane)
        try:
            return await lane.handle_async_request(request)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            if not was_used or request.method not in ("GET", "HEAD"):
                raise
        return await lane.handle_async_request(request)

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


_REFUSAL_TRIES = 3


class Connection(httpx.AsyncBaseTransport):
    """A transport that uses a renewed certificate without a restart.

    The certificate file is read again if it changed and the certificate in use expires within the hour or was refused,
    and if the certificate in use has expired. Otherwise open connections stay: on the platform itself, every create
    rewrites the file.
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
        self._accepted = False  # whether the server ever replied to a request with this certificate

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        inner = self._inner
        if inner is None or self._should_renew() or self._is_over():
            inner = self._renewed()
        try:
            response = await self._sent(inner, request)
        except (httpx.TransportError, ssl.SSLError):
            self._refused = True  # a server can end the handshake because of the certificate
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

    async def _sent(self, inner: ConnectionPool, request: httpx.Request) -> httpx.Response:
        """Send a request and return the response.

        A server that refuses a certificate sends a TLS alert, but a reset of the connection can hide it. Therefore a
        GET is repeated, as long as no request was accepted, to learn the reason.
        """
        if self._accepted or self._profile.auth.method != "x509" or request.method != "GET":
            return await inner.handle_async_request(request)
        for _ in range(_REFUSAL_TRIES - 1):
            try:
                return await inner.handle_async_request(request)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
                if refusal_in(error) is not None:
                    raise
        return await inner.handle_async_request(request)

    def _should_renew(self) -> bool:
        if self._profile.auth.method != "x509" or self._signature() == self._seen:
            return False
        return self._refused or self._ends is None or self._ends - self._now() < _SOON

    def _is_over(self) -> bool:
        return self._ends is not None and self._ends <= self._now()

    def _renewed(self) -> ConnectionPool:
        """Return a transport with the current certificate.

        Raises AuthError if the certificate is invalid, and then keeps the former transport.
        """
        seen = self._signature()
        ends, context = self._checked()
        credentials.load(context, self._profile)
        inner = _transport(self._profile, self._environ, context)
        if self._inner is not None:
            self._former.append(self._inner)
        self._inner, self._accepted = inner, False
        self._seen = seen
        self._ends = ends
        self._refused = False
        return inner

    def _checked(self) -> tuple[float | None, ssl.SSLContext]:
        """Return the end of the certificate (epoch seconds; None without one), and a context with trusted authorities.

        Reading the authorities is slow. It is skipped for plain http without a proxy, and else runs while the
        certificate is checked.
        """
        server = self._profile.server
        if server.startswith("http://") and proxy_for(server, self._environ) is None:
            ends = credentials.check(self._profile, self._now(), self._environ)
            return ends, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with ThreadPoolExecutor(max_workers=1) as beside:
            trusted = beside.submit(credentials.server_context, self._profile, self._environ)
            ends = credentials.check(self._profile, self._now(), self._environ)
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
        return httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=proxy, trust_env=False)

    return ConnectionPool(lane, profile.client.concurrency)


def usable_proxy(server: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy of ``proxy_for``. Raises ProfileError, without its password, if it cannot be used."""
    proxy = proxy_for(server, environ)
    if proxy is None:
        return None
    kind = proxy.split("://", 1)[0].lower()
    where = f"{urlsplit(server).scheme}_proxy or all_proxy of the environment"
    if kind.startswith("socks"):
        raise ProfileError("SOCKS proxies are not supported", where=where, hint="use an http:// proxy, or none")
    if kind not in ("http", "https"):
        raise ProfileError(f"unsupported kind of proxy '{kind}' (use http or https)", where=where)
    problem = address_problem(proxy, ("http", "https"))
    if problem is not None:
        raise ProfileError(f"the address of the proxy is not valid: {problem}", where=where, hint="http://HOST:PORT")
    return proxy


def proxy_for(server: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy of the environment for this server, by the rules of curl; never one for this machine."""
    parts = urlsplit(server)
    host = (parts.hostname or "").lower()
    if host in credentials.LOOPBACK or _exempt(host, parts.port, _lookup(environ, "no_proxy")):
        return None
    proxy = _lookup(environ, f"{parts.scheme}_proxy") or _lookup(environ, "all_proxy")
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _lookup(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or ("" if name == "http_proxy" else environ.get(name.upper(), "")) or ""


def _exempt(host: str, port: int | None, listed: str) -> bool:
    """Return whether no_proxy (``listed``) contains the host, by curl's rules.

    A name, with or without a leading dot, also means its subdomains. Addresses may be IPv6, in brackets or not,
    and networks in CIDR notation. ``*`` means every host.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in re.split(r"[,\s]+", listed.lower()):
        name, only = _split_port(entry)
        if only not in (None, port):
            continue
        if entry == "*" or (address is not None and _is_in(address, name)):
            return True
        domain = name.strip(".")
        if address is None and domain and (host.rstrip(".") == domain or host.rstrip(".").endswith(f".{domain}")):
            return True
    return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split ``host:443`` or ``[fd00::1]:443`` into host and port; an IPv6 address without brackets has no port."""
    found = re.fullmatch(r"\[([^\]]*)\](?::(\d+))?|([^:]*):(\d+)", entry)
    if found is None:
        return entry, None
    port = found[2] or found[4]
    return found[1] or found[3] or "", int(port) if port else None


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


#: Exceptions that a request can end with; httpx passes TLS errors through while it reads.
FAILURES = (httpx.HTTPError, ssl.SSLError)
LOCAL_URL = "http://local/skaha/v1"
#: Extension of a request: the working directory of a command on the local platform.
DIRECTORY = "skahactl.directory"
#: Limits of a whole reply: its duration in multiples of the profile's timeout, and its size in bytes.
_LONGEST = 2.0
_LARGEST = 256 << 20
#: Bytes of the reply to a create, delete or renew: an id or a message.
SMALL = 64 << 10
_PIECE = 1 << 20
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
        self._token: str | None = None
        self._token_command = credentials.TokenCommand(profile, environ, clock.now)
        self._timeout = httpx.Timeout(profile.client.timeout, pool=None).as_dict()
        self._longest = _LONGEST * profile.client.timeout

    async def prepare_credentials(self) -> None:
        """Run the token-command of the profile if it has one and a new token is needed. Raises AuthError."""
        self._token = await self._token_command.token()

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
        the working directory of the command on the local platform, and is not sent to a server.
        """
        who = credentials.headers(self._profile, self._environ, self._token)
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
        """Send a request and return the whole reply. Never repeats a create. Raises one of FAILURES, or AuthError."""
        started = self._clock.monotonic()
        result: object = "cancelled"
        try:
            async with self._in_time(prepared.request):
                response = await self._transport.handle_async_request(prepared.request)
                try:
                    most = _LARGEST if prepared.request.method == "GET" else SMALL
                    body = await _read_whole(response, most)
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
        """Send a request, and yield an iterator over the pieces of the reply, which may have any length.

        If the status is not 200, or the reply is a web page, yields the whole HttpReply instead.
        """
        started = self._clock.monotonic()
        async with self._in_time(prepared.request):
            response = await self._transport.handle_async_request(prepared.request)
        try:
            self._note(prepared, response.status_code, started)
            if response.status_code == 200 and "html" not in response.headers.get("content-type", "").lower():
                self._remember(response)
                yield _decoded(response)
            else:
                async with self._in_time(prepared.request, begun=True):
                    body = await _read_whole(response, SMALL)
                yield self._reply(prepared, response, body)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def _in_time(self, request: httpx.Request, *, begun: bool = False) -> AsyncIterator[None]:
        """Raise ReadTimeout if the block takes longer than ``_longest`` seconds from the start of the request.

        The timeout of httpx only limits the time between two pieces, so that a reply could take forever. ``begun``: the
        request has started already.
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
        if response.status_code == 401:
            self._token_command.refuse()
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


async def _read_whole(response: httpx.Response, most: int) -> bytes:
    """Return the decoded body. Raises RemoteProtocolError, without reading on, if it is larger than ``most`` bytes."""
    pieces, size = [], 0
    async for piece in _decoded(response):
        size += len(piece)
        if size > most:
            limit = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
            raise httpx.RemoteProtocolError(f"the response is larger than {limit}")
        pieces.append(piece)
    return b"".join(pieces)


async def _decoded(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the decoded body in pieces of bounded size, even if a small compressed body expands to a large one."""
    if response.is_stream_consumed:  # the transport has read it already, as that of the local platform does
        yield response.content
        return
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        async for piece in response.aiter_raw():
            yield piece
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(f"the response has the encoding {coding!r}, which was not asked for")
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32) if "gzip" in coding else None
    async for piece in response.aiter_raw():
        if decoder is None:  # deflate is with a zlib header, or, from some servers, without one
            decoder = zlib.decompressobj(zlib.MAX_WBITS if piece[:1] and piece[0] & 0x0F == 8 else -zlib.MAX_WBITS)
        while piece:
            try:
                text = decoder.decompress(piece, _PIECE)
            except zlib.error as error:
                raise httpx.DecodingError(f"the response cannot be decompressed: {error}") from error
            piece = decoder.unconsumed_tail
            if text:
                yield text
    if decoder is not None and (rest := decoder.flush()):  # what one step left over: at most a window
        yield rest


def _request_tokens(who: Mapping[str, str]) -> list[str]:
    return [text.removeprefix("Bearer ") for text in who.values()]


def correct_clock(clock: SystemClock, date: str | None) -> None:
    """Correct the clock by the Date header of a reply from the server itself."""
    from email.utils import parsedate_to_datetime

    with contextlib.suppress(ValueError, TypeError, OverflowError):
        clock.correct(parsedate_to_datetime(date or "").timestamp())
