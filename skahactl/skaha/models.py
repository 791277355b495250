"""The replies of the platform as values, for every server version (skaha-api 4.1, 4.2, 7)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class ServerSession:
    """One session of the user. ``status`` is one of Pending, Running, Completed, Failed and Terminating."""

    id: str
    name: str
    kind: str
    status: str
    user: str
    image: str
    started: float | None  # epoch seconds of startTime; of exactStartTime, which only the local platform sends
    expires: float | None  # epoch seconds of expiryTime
    url: str | None  # connectURL, None for headless
    ram_in_use: float | None = None  # from ramInUse, in GB as manifests count them (2**30 bytes)
    cores_in_use: float | None = None  # from cpuCoresInUse
    ended: float | None = None  # from endTime and exitCode, which only the local platform sends
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The result of one list call, the wall times before and after it, and the user that the server reported.

    ``requested`` and ``received`` are the times. ``memory``: seconds for which a session is listed after its end.
    ``body``: the reply as received.
    """

    sessions: tuple[ServerSession, ...]
    requested: float
    received: float
    user: str | None
    memory: float = 3600.0
    body: bytes = field(default=b"[]", repr=False, compare=False)

    def objects(self) -> dict[str, dict[str, object]]:
        """Return the server's JSON object of each session, by id.

        The body is parsed again, and objects are not kept: a driver that lists thousands of sessions does not need
        them, and they take most of the memory of a list.
        """
        wanted = {session.id: session for session in self.sessions}
        return {session.id: row for session, row in _parsed(self.body) if session == wanted[session.id]}


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error of the platform: a stable code, the HTTP status if any, its message without secrets, and a hint."""

    code: str
    http_status: int | None
    message: str
    hint: str | None = None

    def data(self) -> dict[str, object]:
        return {"code": self.code, "http_status": self.http_status, "message": self.message, "hint": self.hint}


class CreateOutcome(StrEnum):
    """The outcome of a create."""

    CREATED = "created"
    NOT_CREATED = "not-created"  # certainly no session; send the request again
    REJECTED = "rejected"  # certainly no session; sending the request again does not help
    AUTH = "auth"  # certainly no session: the credentials were refused
    AMBIGUOUS = "ambiguous"  # the session may exist, now or later


@dataclass(frozen=True, slots=True)
class CreateResult:
    """The result of one create: ``id`` if it was CREATED; ``retry_after``: seconds that the server asks to wait."""

    outcome: CreateOutcome
    id: str | None = None
    error: ServerError | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A scheduling event of the pod of a session (skaha-api 5)."""

    type: str
    reason: str
    message: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Options:
    """The reply to GET context: the allowed numbers of cores, GB of memory and GPUs; ``raw`` is the whole object."""

    cores: tuple[int, ...]
    ram: tuple[int, ...]
    gpus: tuple[int, ...]
    raw: dict[str, object] = field(default_factory=dict, repr=False, compare=False)


_STATUS = {
    "pending": "Pending",
    "running": "Running",
    "completed": "Completed",
    "complete": "Completed",
    "succeeded": "Completed",
    "failed": "Failed",
    "error": "Failed",
    "terminating": "Terminating",
}
_QUANTITY = re.compile(r"(\d{1,24}(?:\.\d{1,24})?)([a-zA-Z]{0,2})")
_CORE_UNITS = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_RAM_UNITS = {
    "": 1e9,
    **{unit: 1000.0 ** (place + 1) for place, unit in enumerate(("k", "M", "G", "T"))},
    **{unit: 1024.0 ** (place + 1) for place, unit in enumerate(("Ki", "Mi", "Gi", "Ti"))},
}
_ABSENT = frozenset({"", "<none>"})
_SESSION_ID = re.compile(r"[a-z][a-z0-9]{7}")  # skaha-api 3.3
_EVENT = re.compile(r"(\S+)\s+(\S+)\s+(.*?)\s+(\S+)\s+(\S+)\s*")
_NOTE = re.compile(r"<(?:\w+:)?(available|note)\b[^>]*>([^<]*)<")


class UnreadableReply(ValueError):
    """The reply does not have the format of its endpoint; the message says what was expected."""


def parse_sessions(body: bytes) -> tuple[ServerSession, ...]:
    """Parse the list of GET session. Of rows with the same id, return the one with the most advanced status.

    Raises UnreadableReply if any row is invalid, because a session that is not in the list counts as gone.
    """
    found: dict[str, ServerSession] = {}
    for session, _ in _parsed(body):
        known = found.get(session.id)
        if known is None or _RANK.get(session.status, 0) > _RANK.get(known.status, 0):
            found[session.id] = session
    return tuple(found.values())


def _parsed(body: bytes) -> Iterator[tuple[ServerSession, dict[str, object]]]:
    """Yield each session with its JSON object, in order. Each row is removed from the list first, to free memory."""
    rows = _list(body, "a list of sessions")
    rows.reverse()
    while rows:
        row = rows.pop()
        yield parse_session(row), row


_RANK = {"Pending": 1, "Running": 2, "Completed": 3, "Failed": 3}


def parse_one_session(body: bytes) -> ServerSession:
    """Parse the object of GET session/{id}; old servers return it in a list."""
    row = _json(body, "a session")
    return parse_session(row[0] if isinstance(row, list) and row else row)


def parse_session(row: object) -> ServerSession:
    if not isinstance(row, dict):
        raise UnreadableReply("the reply is not a session")
    identifier = _text(row, "id")
    if identifier is None:
        raise UnreadableReply("the reply contains a session without an id")
    url = _text(row, "connectURL")
    return ServerSession(
        id=identifier,
        name=_text(row, "name") or "",
        kind=_text(row, "type") or "headless",
        status=parse_status(_text(row, "status")),
        user=_text(row, "userid") or "",
        image=_text(row, "image") or "",
        started=_time(_text(row, "exactStartTime") or _text(row, "startTime")),
        expires=_time(_text(row, "expiryTime")),
        url=None if url == "not-applicable" else url,
        ram_in_use=parse_ram(_text(row, "ramInUse")),
        cores_in_use=parse_cores(_text(row, "cpuCoresInUse")),
        ended=_time(_text(row, "endTime")),
        exit_code=code if isinstance(code := row.get("exitCode"), int) else None,
    )


def parse_ram(text: str | None) -> float | None:
    """Convert ``0.22``, ``101M`` or ``16Gi`` to GB as manifests count them (2**30 bytes); None for other text.

    A plain number is in decimal GB (skaha-api 4.1).
    """
    amount, suffix = _quantity(text)
    if amount is None or suffix not in _RAM_UNITS:
        return None
    return amount * _RAM_UNITS[suffix] / 2**30


def parse_cores(text: str | None) -> float | None:
    """Convert ``0.001``, ``250m``, ``1234u``, ``3123456789n`` to cores (skaha-api 4.1); None for other text."""
    amount, suffix = _quantity(text)
    return None if amount is None or suffix not in _CORE_UNITS else amount * _CORE_UNITS[suffix]


def _quantity(text: str | None) -> tuple[float | None, str]:
    match = _QUANTITY.fullmatch(text or "")
    return (float(match[1]), match[2]) if match else (None, "")


def parse_status(word: str | None) -> str:
    """Convert any status that a server ever used to one of the five current ones; an unknown one to Pending."""
    first = (word or "").split(" ", 1)[0].lower()
    return _STATUS.get(first, "Pending")


def parse_session_id(body: bytes) -> str | None:
    """Return the id in the reply to a create, or None if it is not an id."""
    text = body[:200].decode("utf-8", "replace").strip()
    return text if _SESSION_ID.fullmatch(text) else None


def parse_events(body: bytes) -> tuple[Event, ...]:
    """Parse the table of view=events; a message can contain spaces, and continue on the next line."""
    lines = [line for line in body.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines or lines == ["<none>"]:
        return ()
    if lines[0].split()[:2] != ["TYPE", "REASON"]:
        raise UnreadableReply(f"the reply is not a table of events: {lines[0][:200]}")
    found: list[Event] = []
    for line in lines[1:]:
        match = _EVENT.fullmatch(line)
        if match:
            found.append(Event(*match.groups()))
        elif found:
            last = found[-1]
            found[-1] = Event(last.type, last.reason, f"{last.message} {line.strip()}", last.first, last.last)
    return tuple(found)


def parse_options(body: bytes) -> Options:
    """Parse the reply to GET context; a missing part is ()."""
    raw = parse_mapping(body, "the options of sessions")
    return Options(_offered(raw, "cores"), _offered(raw, "memoryGB"), _offered(raw, "gpus"), raw)


def parse_mapping(body: bytes, expected: str) -> dict[str, object]:
    data = _json(body, expected)
    if not isinstance(data, dict):
        raise UnreadableReply(f"the reply is not {expected}")
    return data


def parse_images(body: bytes) -> tuple[dict[str, object], ...]:
    rows = _list(body, "a list of images")
    return tuple(row if isinstance(row, dict) else {"id": str(row)} for row in rows)


def parse_availability(body: bytes) -> tuple[bool, str]:
    """Return whether the platform is available, and its note, from the VOSI document."""
    found = dict(_NOTE.findall(body.decode("utf-8", "replace")))
    if "available" not in found:
        raise UnreadableReply("the reply does not contain the availability")
    return found["available"].strip().lower() == "true", found.get("note", "").strip()


def _json(body: bytes, expected: str) -> object:
    try:
        data: object = json.loads(body)
    except (ValueError, RecursionError):  # includes UnicodeDecodeError
        raise UnreadableReply(f"the reply is not {expected}") from None
    return data


def _list(body: bytes, expected: str) -> list[Any]:
    data = _json(body, expected)
    if not isinstance(data, list):
        raise UnreadableReply(f"the reply is not {expected}")
    return data


def _text(row: Mapping[str, object], key: str) -> str | None:
    found = row.get(key)
    if found is None:
        return None
    text = found if isinstance(found, str) else str(found)
    return None if text in _ABSENT else text


def _time(text: str | None) -> float | None:
    """Return epoch seconds of "2025-04-10T15:45:33Z" or "2025-04-10T15:45Z"; None for anything else."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _offered(raw: Mapping[str, object], key: str) -> tuple[int, ...]:
    part = raw.get(key)
    offered = part.get("options") if isinstance(part, dict) else None
    return tuple(_whole_numbers(offered)) if isinstance(offered, list) else ()


def _whole_numbers(offered: list[object]) -> list[int]:
    numbers = []
    for item in offered:
        try:
            numbers.append(int(float(str(item))))
        except (ValueError, OverflowError):
            continue
    return numbers
