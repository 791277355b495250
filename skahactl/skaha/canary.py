"""The canary: a small session that verifies that a server decodes what skahactl encodes (skaha-api 3.6).

It prints a known argument list and environment. The result is remembered for 30 days. The image needs ``sh``.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.errors import AuthError, NegativeResult, SkahactlError, TimedOut, UnreachableError
from skahactl.model import Request, Resources
from skahactl.system import make_private, write_atomically
from skahactl.text import suggest

if TYPE_CHECKING:
    from pathlib import Path

    from skahactl.skaha.client import Client
    from skahactl.skaha.models import CreateOutcome, CreateResult, ServerError
    from skahactl.system import Clock

MEMORY = 30 * 86400.0
_FILE = "canary.json"
_BEGIN, _END = "<<skahactl-canary", "skahactl-canary>>"

ARGUMENTS = (
    "two  blanks ",
    " $HOME $(CANARY_PLAIN) $$ ${x} $0 $1",
    "\"double\" and 'single' `quotes`",
    "C:\\new\\table\\",
    "\\",
    "",
    "first line\nsecond line\n\n\tand a tab",
    "a=b=c; x > /dev/null 2>&1 | y & # no comment",
    "é 日本 \U0001f600 \u2028",
    "",
)
ENVIRONMENT = (
    ("CANARY_PLAIN", "plain"),
    ("CANARY_EQUALS", "b64=="),
    ("CANARY_EMPTY", ""),
    ("CANARY_TEXT", 'a "b" $(CANARY_PLAIN) $CANARY_PLAIN \\n\nnext = line \\'),
)
_SCRIPT = f"""printf '%s\\n' '{_BEGIN}'
for text in "$@"; do printf '[%s]\\n' "$text"; done
for text in {" ".join(f'"${name}"' for name, _ in ENVIRONMENT)}; do printf '{{%s}}\\n' "$text"; done
printf '%s\\n' '{_END}'
"""


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """The result of a canary: whether everything arrived as it was sent, and the output of its session (``log``)."""

    arrived: bool
    log: bytes


def remembered_result(state_dir: Path, server: str, now: float) -> bool | None:
    """Return the last result on this server: True if it decodes, False if not, None without a canary in 30 days."""
    entry = _entries(state_dir).get(server)
    if not isinstance(entry, Mapping):
        return None
    at, arrived = entry.get("at"), entry.get("arrived")
    if not isinstance(at, int | float) or not isinstance(arrived, bool) or not 0 <= now - at < MEMORY:
        return None
    return arrived


def remember_result(state_dir: Path, server: str, arrived: bool, now: float) -> None:
    entries = {**_entries(state_dir), server: {"arrived": arrived, "at": now}}
    write_atomically(make_private(state_dir) / _FILE, (json.dumps(entries, indent=2) + "\n").encode())


def request(image: str, resources: Resources) -> Request:
    """Return the request of the canary."""
    return Request("headless", image, ("sh", "-c", _SCRIPT, "canary", *ARGUMENTS), ENVIRONMENT, resources)


def expected() -> bytes:
    """Return the expected output."""
    lines = [_BEGIN, *(f"[{text}]" for text in ARGUMENTS), *(f"{{{text}}}" for _, text in ENVIRONMENT), _END]
    return "".join(f"{line}\n" for line in lines).encode()


async def run_canary(client: Client, image: str, clock: Clock, *, timeout: float, patience: float) -> CanaryResult:
    """Start the canary, wait for its end, read its log, and always delete it.

    ``patience``: seconds for which an empty or incomplete log is read again.

    Raises AuthError, UnreachableError or TimedOut, and NegativeResult if the server rejects the canary or the canary
    has no output.
    """
    name = f"skahactl-canary-{secrets.token_hex(4)}"
    until = clock.now() + timeout
    options = await client.options()
    small = Resources(_least(options.cores), _least(options.ram))
    created = await client.create(request(image, small), name)
    id = created.id
    if id is None and created.outcome == CreateOutcome.AMBIGUOUS:
        id = await _found(client, name, clock, until)
    if id is None:
        raise _failure(created)
    try:
        await _ended(client, id, clock, until)
        log = await _log(client, id, clock, patience)
    finally:
        await _deleted(client, id, clock)
    if not log.strip():
        raise NegativeResult(
            "the canary produced no output; the result is inconclusive",
            hint="check that the image contains sh, or use another image",
        )
    return CanaryResult(expected() in log.replace(b"\r\n", b"\n"), log)


async def _ended(client: Client, id: str, clock: Clock, until: float) -> None:
    while True:
        session = await client.session(id)
        if session is None:
            raise UnreachableError("the session of the canary disappeared before it ended")
        if session.status in ("Completed", "Failed"):
            return
        if clock.now() >= until:
            raise TimedOut(
                f"the canary is still {session.status}; it was deleted",
                hint="a Pending canary gives no result; try again later, or with a longer --timeout",
            )
        await clock.sleep(1.0)


async def _log(client: Client, id: str, clock: Clock, patience: float) -> bytes:
    """Return the log, which can become available late: read it until it is complete or ``patience`` has passed."""
    until = clock.now() + patience
    while True:
        async with client.log(id) as pieces:
            data = b"".join([piece async for piece in pieces])
        if _END.encode() in data or clock.now() >= until:
            return data
        await clock.sleep(1.0)


async def _deleted(client: Client, id: str, clock: Clock) -> None:
    """Delete the session and check that it is gone, because a successful reply to DELETE proves nothing."""
    for _ in range(10):
        await client.delete(id)
        if await client.session(id) is None:
            return
        await clock.sleep(1.0)
    raise UnreachableError(f"the session {id} of the canary still exists after 10 deletes", hint=suggest("delete", id))


async def _found(client: Client, name: str, clock: Clock, until: float) -> str | None:
    """Return the id of the canary after its reply was lost: poll until it is listed; None after ``until``."""
    while clock.now() < until:
        listing = await client.sessions()
        for session in listing.sessions:
            if session.name == name:
                return session.id
        await clock.sleep(2.0)
    return None


def _failure(created: CreateResult) -> SkahactlError:
    words: ServerError | None = created.error
    message = words.message if words is not None else "no answer"
    hint = words.hint if words is not None else None
    if created.outcome == CreateOutcome.AUTH:
        return AuthError(message, hint=hint)
    if created.outcome == CreateOutcome.REJECTED:
        return NegativeResult(f"the server rejected the canary: {message}", hint=hint)
    return UnreachableError(f"the canary could not be created: {message}", hint=hint)


def _least(offered: tuple[int, ...]) -> float | None:
    return float(min(offered)) if offered else None


def _entries(state_dir: Path) -> dict[str, object]:
    try:
        data = json.loads((state_dir / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
