"""The local platform over HTTP: access checks, size limits, and running the server."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import shlex
import signal
import socket
import sqlite3
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skahactl.errors import UsageError
from skahactl.local import http
from skahactl.local.api import Platform
from skahactl.local.http import HttpAnswer, LocalCall
from skahactl.local.queue import StoreError
from skahactl.local.storage import PREFIX, Storage
from skahactl.local.transport import LocalLogStream
from skahactl.system import handled_signals, read_limited

if TYPE_CHECKING:
    import uvicorn

    from skahactl.profile import LocalSettings


#: The limit of the servlet container (skaha-api 3.1).
LARGEST_BODY = 2 * 1024 * 1024

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AccessGate:
    """An ASGI application in front of a Platform; ``hosts`` are the valid values of Host, in lower case."""

    def __init__(
        self,
        platform: Platform,
        token: str,
        hosts: frozenset[str],
        threads: ThreadPoolExecutor,
        storage: Storage | None = None,
    ):
        self._storage = storage
        self._platform, self._token, self._hosts, self._threads = platform, token.encode(), hosts, threads

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        pairs = [(name.decode("latin-1").lower(), value) for name, value in scope["headers"]]
        headers = {name: value.decode("latin-1") for name, value in reversed(pairs)}
        refusal = self._refusal(pairs) or _too_large(headers.get("content-length"))
        body = b"" if refusal else await _body(receive)
        if body is None:
            refusal = _TOO_LARGE
        if refusal is not None:
            await _send_reply(refusal, send, self._threads, scope["method"])
            return
        query = scope["query_string"].decode("latin-1")
        call = LocalCall(scope["method"], scope["path"], query, headers, body or b"")
        await _send_reply(await self._answered(call), send, self._threads, scope["method"])

    def _refusal(self, pairs: list[tuple[str, bytes]]) -> HttpAnswer | None:
        """Return 403 for a request that a browser may have sent, 401 for one without the token, else None."""
        values: dict[str, list[bytes]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        if [host.decode("latin-1").lower() in self._hosts for host in values.get("host", [])] != [True]:
            return http.text("The Host header does not name this server.\n", 403)
        if "origin" in values or "sec-fetch-site" in values:
            return http.text("Requests from web pages are refused.\n", 403)
        tokens = values.get("authorization", [])
        if not tokens:
            return _unauthorized("Unauthorized\n")
        scheme, _, token = tokens[0].partition(b" ")
        known = hmac.compare_digest(token.strip(), self._token)
        if len(tokens) != 1 or scheme.lower() != b"bearer" or not known:
            return _unauthorized("Invalid token")
        return None

    async def _answered(self, call: LocalCall) -> HttpAnswer:
        handler = self._storage if self._storage is not None and call.path.startswith(PREFIX) else self._platform
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, handler.answer, call)
        except (OSError, sqlite3.Error, StoreError) as error:
            headers = {"retry-after": "30", "x-skahactl-reason": _one_line(error)}
            return http.text("temporarily unavailable: null\n", 503, headers)
        except Exception as error:
            return http.text(f"unexpected exception: {_one_line(error)}", 500)


_TOO_LARGE = http.text(f"The request exceeds {LARGEST_BODY} bytes.\n", 413)


def _too_large(length: str | None) -> HttpAnswer | None:
    return _TOO_LARGE if length is not None and length.isdigit() and int(length) > LARGEST_BODY else None


def _unauthorized(body: str) -> HttpAnswer:
    return http.text(body, 401, {"www-authenticate": 'Bearer realm="skahactl serve"'})


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".encode("ascii", "replace").decode().split())


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body; None if it is too large or incomplete."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _send_reply(answer: HttpAnswer, send: Send, threads: ThreadPoolExecutor, method: str) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.status == 413:
        headers.append((b"connection", b"close"))
    stream = None if answer.log is None else LocalLogStream(*answer.log, threads)
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if stream is not None and method != "HEAD":
            async for piece in stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})
    finally:
        if stream is not None:
            await stream.aclose()


ADDRESS = "127.0.0.1"


def run_server(
    state_dir: Path,
    settings: LocalSettings,
    directory: str,
    environ: Mapping[str, str],
    *,
    port: int = 0,
    token_file: Path | None = None,
    storage: Path | None = None,
    ready: Callable[[str, str, Path], None],
) -> None:
    """Serve requests until a signal arrives; then the handler of the signal runs.

    ``port`` 0 means any free port. ``ready`` is called when the server listens, with the base URL, the token, and the
    file of the token: ``token_file``, or else a file that is created with mode 0600 and removed at the end. Sessions
    continue after the server has ended. Raises UsageError if the port is in use or the token file is invalid.
    """
    token = None if token_file is None else _read(token_file)
    with _listening(port) as listener:
        number = listener.getsockname()[1]
        kept = token_file or state_dir / "local" / f"serve-{number}.token"
        if token is None:
            token = secrets.token_urlsafe(32)
            _keep(kept, token)
        try:
            platform = Platform(state_dir, settings, directory, environ)
            ready(f"http://{ADDRESS}:{number}/skaha/v1", token, kept)
            _serve_forever(platform, token, listener, storage)
        finally:
            if token_file is None:
                kept.unlink(missing_ok=True)


def _serve_forever(platform: Platform, token: str, listener: socket.socket, directory: Path | None) -> None:
    import uvicorn

    from skahactl.local.connection import bounded_protocol

    number = listener.getsockname()[1]
    storage = None if directory is None else Storage(directory, platform.user)
    hosts = frozenset(f"{host}:{number}" for host in (ADDRESS, "localhost"))
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="skahactl-serve") as threads:
        config = uvicorn.Config(
            AccessGate(platform, token, hosts, threads, storage),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            http=bounded_protocol(),
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        with _hangup_is_term():
            asyncio.run(_serve_quietly(uvicorn.Server(config), listener))


async def _serve_quietly(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until a signal arrives. A broken connection is not an error of the server and prints nothing."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    await server.serve(sockets=[listener])


@contextlib.contextmanager
def _hangup_is_term() -> Iterator[None]:
    """Handle HUP like TERM. uvicorn handles only INT and TERM; a handler that raises within its loop would block it."""
    before = signal.getsignal(signal.SIGHUP)
    if signal.SIGHUP in handled_signals():
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port))
        listener.listen(512)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "the port must be between 0 and 65535"
        raise UsageError(
            f"cannot listen on {ADDRESS}:{port}: {reason}", hint="use another --port, or omit it for any free port"
        ) from None
    return listener


def _read(path: Path) -> str:
    """Return the token in a file: one word, in a file that only its owner can read. Raises UsageError."""
    make = f"to make one: (umask 077; openssl rand -hex 32 > {shlex.quote(str(path))})"
    try:
        mode, text = path.stat().st_mode, read_limited(str(path), 1 << 16).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise UsageError(f"the token file cannot be read: {reason}", where=str(path), hint=make) from None
    if stat.S_ISCHR(mode):
        raise UsageError("the token file is not a regular file", where=str(path))
    if len(text) < 16 or len(text.split()) != 1:
        raise UsageError(
            "the token file must contain one word of at least 16 characters",
            where=str(path),
            hint=make,
        )
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError("the token file is readable by other users", where=str(path), hint=f"chmod 600 {path}")
    return text


def _keep(path: Path, token: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(token + "\n")
