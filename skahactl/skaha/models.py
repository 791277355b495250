"""What the platform answers, as values: tolerant of every server version (skaha-api 4.1, 4.2, 7)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Session:
    """One session of the caller. ``status`` is one of Pending Running Completed Failed Terminating."""

    id: str
    name: str
    kind: str
    status: str
    user: str
    image: str
    started: float | None  # epoch seconds of startTime
    expires: float | None  # epoch seconds of expiryTime
    url: str | None  # connectURL, None for headless
    raw: dict[str, object] = field(default_factory=dict, repr=False, compare=False)  # the platform's own object


@dataclass(frozen=True, slots=True)
class Listing:
    """One list call: ``requested`` and ``received`` are wall times around it, ``user`` whom the server says we are.
    ``memory``: for so many seconds after its end a session is listed."""

    sessions: tuple[Session, ...]
    requested: float
    received: float
    user: str | None
    memory: float = 3600.0


@dataclass(frozen=True, slots=True)
class ServerError:
    """An error of the platform, told to a person: a stable code, HTTP status if any, its words (redacted), advice."""

    code: str
    http_status: int | None
    message: str
    hint: str | None = None

    def data(self) -> dict[str, object]:
        return {"code": self.code, "http_status": self.http_status, "message": self.message, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class CreateResult:
    """The answer to one create.

    outcome: "created" (``id`` is set), "not-created" (certainly not; send again after ``retry_after`` seconds),
    "refused" (certainly not, and sending it again is no use), "auth" (certainly not: log in), "ambiguous" (the session
    may exist, now or later).
    """

    outcome: str
    id: str | None = None
    error: ServerError | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A scheduling event of a session's pod (skaha-api 5)."""

    type: str
    reason: str
    message: str
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Options:
    """What GET context offers: allowed values, and defaults of flexible sessions (cores, GB)."""

    cores: tuple[int, ...]
    ram: tuple[int, ...]
    gpus: tuple[int, ...]
    raw: dict[str, object] = field(default_factory=dict, repr=False, compare=False)
