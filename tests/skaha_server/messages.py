"""HTTP requests and replies as values, and the replies that the server's framework makes (skaha-api 1, 2, 8)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

TEXT = "text/plain"
_ROWS = json.JSONEncoder(separators=(",\n    ", ": "), ensure_ascii=False)


@dataclass
class Call:
    """A request as it came; header names in lower case."""

    method: str
    path: str  # percent-encoded, without query
    query: str
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


@dataclass
class Reply:
    """An answer; ``drop``: none at all, the connection is cut ("reset") or closed ("close")."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    content_type: str | None = TEXT
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None  # of a body that comes in parts
    pause: float = 0.0  # seconds after each part
    drop: str | None = None


class Refusal(Exception):
    """An answer that is an error; raised from wherever it is found out."""

    def __init__(self, reply: Reply):
        super().__init__(reply.status)
        self.reply = reply


def words(status: int, message: str, **headers: str) -> Refusal:
    """An error of Skaha: plain text, newline at the end."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Refusal(Reply(status, f"{message}\n".encode(), headers=named))


def opaque(what: str) -> Refusal:
    """The 500 of everything that is not mapped: no newline at the end."""
    return Refusal(Reply(500, f"unexpected exception: {what}".encode()))


def job_refused(job: str) -> Refusal:
    """The 500 after a kubectl create that the cluster refused: the Job cannot be read back (3.3 row 19)."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'jobs.batch "{job}" not found',
        "reason": "NotFound",
        "details": {"name": job, "group": "batch", "kind": "jobs"},
        "code": 404,
    }
    return opaque(
        "java.lang.RuntimeException: io.kubernetes.client.openapi.ApiException: Message: \n"
        f"HTTP response code: 404\nHTTP response body: {json.dumps(status)}\nHTTP response headers: {{}}"
    )


def no_fork() -> Reply:
    return opaque('java.io.IOException: Cannot run program "kubectl": error=11, Resource temporarily unavailable').reply


def api_error() -> Reply:
    return opaque("java.lang.RuntimeException: io.kubernetes.client.openapi.ApiException: ").reply


def unavailable(retry_after: int) -> Reply:
    return words(503, "temporarily unavailable: null", Retry_After=str(retry_after)).reply


def page(status: int, title: str) -> Reply:
    """A page that a gateway, a proxy or Tomcat itself makes."""
    heading = f"{status} {title}"
    text = f"<html>\r\n<head><title>{heading}</title></head>\r\n<body>\r\n<h1>{heading}</h1>\r\n</body>\r\n</html>\r\n"
    return Reply(status, text.encode(), "text/html")


def pretty(data: object) -> Reply:
    """JSON as Gson prints it: null fields left out by whoever made ``data``."""
    if not isinstance(data, list):
        return Reply(200, json.dumps(data, indent=2, ensure_ascii=False).encode(), "application/json")
    rows = ",\n  ".join(map(_ROWS.encode, data))  # an indent would make the list of a large job slow
    return Reply(200, f"[\n  {rows}\n]".encode(), "application/json")


def compact(data: object) -> Reply:
    return Reply(200, json.dumps(data, separators=(",", ":")).encode(), "application/json")


def trickle() -> Reply:
    """An answer that keeps coming for minutes and says nothing."""
    return Reply(200, (b" " for _ in range(1000)), "application/json", length=1000, pause=0.2)
