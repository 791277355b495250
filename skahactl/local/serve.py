"""The local platform on a loopback port, for any client of the Skaha interface."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from skahactl.errors import UsageError
from skahactl.local.api import Platform
from skahactl.local.asgi import AccessGate
from skahactl.profile import LocalSettings
from skahactl.signals import handled_signals

ADDRESS = "127.0.0.1"


def run_server(
    state_dir: Path,
    settings: LocalSettings,
    directory: str,
    environ: Mapping[str, str],
    *,
    port: int = 0,
    token_file: Path | None = None,
    ready: Callable[[str, str, Path], None],
) -> None:
    """Answer until a signal ends it; the signal's own handler then has its way.

    ``port`` 0: any that is free. ``ready`` is called once it listens, with the base URL, the token, and the file that
    holds it: ``token_file``, else one made here with mode 0600 and removed at the end. Sessions go on without it.
    UsageError: the port is taken, or the token file is no good.
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
            _serve_forever(platform, token, listener)
        finally:
            if token_file is None:
                kept.unlink(missing_ok=True)


def _serve_forever(platform: Platform, token: str, listener: socket.socket) -> None:
    import uvicorn

    number = listener.getsockname()[1]
    hosts = frozenset(f"{host}:{number}" for host in (ADDRESS, "localhost"))
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="skahactl-serve") as threads:
        config = uvicorn.Config(
            AccessGate(platform, token, hosts, threads),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        with _hangup_is_term():
            uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _hangup_is_term() -> Iterator[None]:
    """A closed terminal ends the server as TERM does. uvicorn takes INT and TERM alone; another handler that raised
    in the middle of its loop would leave it hanging."""
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
        reason = error.strerror if isinstance(error, OSError) else "ports go from 0 to 65535"
        raise UsageError(
            f"cannot listen on {ADDRESS}:{port}: {reason}", hint="give another --port, or none for any that is free"
        ) from None
    return listener


def _read(path: Path) -> str:
    """The token in a file: one line that only its owner may read."""
    try:
        mode, text = path.stat().st_mode, path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise UsageError(f"the token file cannot be read: {reason}", where=str(path)) from None
    if len(text) < 16 or len(text.split()) != 1:
        raise UsageError(
            "the token file must hold one word of 16 characters or more",
            where=str(path),
            hint=f"(umask 077; openssl rand -hex 32 > {path})",
        )
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError("the token file can be read by others", where=str(path), hint=f"chmod 600 {path}")
    return text


def _keep(path: Path, token: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(token + "\n")
