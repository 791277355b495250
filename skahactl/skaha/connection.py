"""The way to a server: TLS, the proxies of the environment, and a certificate that may be renewed meanwhile."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from skahactl.errors import AuthError, ProfileError
from skahactl.profile import Profile
from skahactl.skaha import credentials
from skahactl.skaha.failures import LOG_IN, REFUSED
from skahactl.skaha.handshake import tls_refusal
from skahactl.skaha.lanes import ConnectionPool

_SOON = 3600.0
_KEPT = 20.0  # seconds that a connection without a request is kept


class Connection(httpx.AsyncBaseTransport):
    """A transport that takes up a renewed certificate without a restart.

    The file is read again when it has changed and the certificate in use ends within the hour, or was refused: on the
    platform itself the file is rewritten at every create, and connections should outlive that.
    """

    def __init__(self, profile: Profile, environ: Mapping[str, str], now: Callable[[], float]) -> None:
        self._profile = profile
        self._environ = environ
        self._now = now
        self._inner: ConnectionPool | None = None
        self._former: list[ConnectionPool] = []  # answers may still be read from them
        self._seen: tuple[int, int, int] | None = None
        self._ends: float | None = None
        self._refused = False
        self._accepted = False  # did the server ever answer to this certificate?
        self._context: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        inner = self._inner
        if inner is None or self._should_renew() or self._is_over():
            inner = self._renewed()
        try:
            response = await inner.handle_async_request(request)
        except (httpx.TransportError, ssl.SSLError):
            self._refused = True  # a server may end the handshake because of the certificate
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
        """AuthError if a read failed because the server refuses the certificate; a create stays in doubt."""
        if self._profile.auth.method != "x509" or self._accepted or request.method != "GET" or self._context is None:
            return
        if proxy_for(self._profile.server, self._environ) is not None:
            return
        reason = await tls_refusal(request.url.host, request.url.port or 443, self._context)
        if reason is not None:
            raise AuthError(REFUSED.format(reason), hint=LOG_IN, code="certificate") from None

    def _should_renew(self) -> bool:
        if self._profile.auth.method != "x509" or self._signature() == self._seen:
            return False
        return self._refused or self._ends is None or self._ends - self._now() < _SOON

    def _is_over(self) -> bool:
        return self._ends is not None and self._ends <= self._now()

    def _renewed(self) -> ConnectionPool:
        """A transport with the certificate as it is now; AuthError, and the former one stays, if it is of no use."""
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
        """When our certificate ends, and whom we trust. Reading the authorities takes as long as many requests: not
        where nothing asks for it, and elsewhere beside whatever else has to be done before the first request."""
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
            from skahactl.skaha.direct import DirectTransport

            return DirectTransport(context, _KEPT)
        return httpx.AsyncHTTPTransport(verify=context, limits=limits, proxy=proxy)

    return ConnectionPool(lane, profile.client.concurrency)


def usable_proxy(server: str, environ: Mapping[str, str]) -> str | None:
    """As ``proxy_for``; ProfileError, which does not tell the proxy's password, for one that cannot be used."""
    proxy = proxy_for(server, environ)
    if proxy is None:
        return None
    kind = proxy.split("://", 1)[0].lower()
    where = f"{urlsplit(server).scheme}_proxy or all_proxy of the environment"
    if kind.startswith("socks"):
        raise ProfileError("SOCKS proxies are not supported", where=where, hint="name an http:// proxy, or none")
    if kind not in ("http", "https"):
        raise ProfileError(f"a proxy is spoken to by http or https, not by '{kind}'", where=where)
    try:
        known = bool(httpx.URL(proxy).host)
    except httpx.InvalidURL:
        known = False
    if not known:
        raise ProfileError("this is no address of a proxy", where=where, hint="write it as http://HOST:PORT")
    return proxy


def proxy_for(server: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for this server, as curl reads it; never one to this machine."""
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
