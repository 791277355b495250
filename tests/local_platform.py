"""What the tests of the local platform share: a client on its transport, waiting, and looks behind its answers."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from skahactl.local.transport import LocalTransport
from skahactl.profile import LocalSettings

IMAGE = "images.canfar.net/skaha/astroml:latest"
FORM = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}


def platform(
    state: Path,
    *,
    slots: int = 2,
    memory: float = 3600.0,
    kill_after: float = 0.5,
    environ: Mapping[str, str] | None = None,
    now: Callable[[], float] = time.time,
) -> httpx.AsyncClient:
    """A client of the local platform below ``state``; commands run in ``state``."""
    settings = LocalSettings(slots=slots, memory=memory, kill_after=kill_after)
    environ = {"PATH": os.environ["PATH"], "HOME": str(state), "LANG": "C.UTF-8"} if environ is None else environ
    transport = LocalTransport(state, settings, str(state), environ, now)
    return httpx.AsyncClient(transport=transport, base_url="http://local/skaha/v1", timeout=60)


def encoded(argument: str) -> str:
    """An argument or value as the encoding that the platform's template undoes (skaha-api 3.6)."""
    if not argument:
        return "\\\\\n"
    safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,@%+-"
    return "".join(char if char in safe else _escape(char) for char in argument)


def _escape(char: str) -> str:
    code = ord(char)
    if char == "$":
        return "\\\\x24\\\\x24"
    return f"\\\\x{code:02x}" if code < 0x100 else f"\\\\u{code:04x}" if code < 0x10000 else f"\\\\U{code:08x}"


async def create(client: httpx.AsyncClient, name: str, *argv: str, env: Mapping[str, str] | None = None) -> str:
    """A session that runs ``argv`` as it stands; its id."""
    fields: dict[str, str | list[str]] = {"name": name, "image": IMAGE, "cmd": encoded(argv[0])}
    if argv[1:]:
        fields["args"] = " ".join(encoded(word) for word in argv[1:])
    fields["env"] = [f"{key}={encoded(value)}" for key, value in (env or {}).items()]
    reply = await client.post("/session", data=fields, headers=FORM)
    assert reply.status_code == 200, reply.text
    return reply.text.strip()


async def sessions(client: httpx.AsyncClient) -> dict[str, str]:
    """Name: status."""
    return {row["name"]: row["status"] for row in (await client.get("/session")).json()}


async def ended(client: httpx.AsyncClient, seconds: float = 120) -> dict[str, str]:
    """The statuses once every session has ended."""
    return await until(lambda: sessions(client), lambda all_: set(all_.values()) <= {"Completed", "Failed"}, seconds)


async def until(look, good, seconds: float = 120):  # type: ignore[no-untyped-def]
    """What ``look`` gives, once it is ``good``."""
    limit = time.monotonic() + seconds
    while True:
        seen = await look()
        if good(seen):
            return seen
        assert time.monotonic() < limit, f"still {seen}"
        await asyncio.sleep(0.02)


def alive_workers(state: Path) -> int:
    """How many worker locks are held."""
    return sum(_held(path) for path in (state / "local" / "workers").glob("*.lock"))


def _held(path: Path) -> bool:
    try:
        with open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def processes(word: str) -> list[int]:
    """The ids of living processes whose command line holds ``word``."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if word.encode() in line and state not in "ZX" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found
