"""An answer as a value: status, headers, and a body in memory or in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """``log``: an open file descriptor and the number of bytes to send of it; whoever takes the answer closes it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    log: tuple[int, int] | None = field(default=None)


class HttpRefusal(Exception):
    """A request that is not served: HTTP status and body, text/plain."""

    def __init__(self, status: int, body: str, headers: dict[str, str] | None = None):
        super().__init__(body)
        self.status, self.body, self.headers = status, body, headers or {}


def bad(message: str) -> HttpRefusal:
    """400, as the server answers an IllegalArgumentException."""
    return HttpRefusal(400, message + "\n")


def missing(message: str) -> HttpRefusal:
    return HttpRefusal(404, message + "\n")


def text(body: str, status: int = 200) -> HttpAnswer:
    return _of(status, "text/plain", body)


def xml(body: str) -> HttpAnswer:
    return _of(200, "text/xml", body)


def html(body: str, status: int = 200) -> HttpAnswer:
    return _of(status, "text/html;charset=utf-8", body)


def pretty(data: object) -> HttpAnswer:
    """JSON as the server's library prints sessions and images: two blanks, no newline at the end."""
    return _of(200, "application/json", json.dumps(data, indent=2, ensure_ascii=False))


def compact(data: object) -> HttpAnswer:
    return _of(200, "application/json", json.dumps(data, separators=(",", ":")))


def empty() -> HttpAnswer:
    return HttpAnswer(200, {"content-length": "0"})


def _of(status: int, kind: str, body: str) -> HttpAnswer:
    data = body.encode("utf-8", "backslashreplace")
    return HttpAnswer(status, {"content-type": kind, "content-length": str(len(data))}, data)
