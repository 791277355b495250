"""A request as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event

from skahactl.local.answers import HttpRefusal


@dataclass(frozen=True, slots=True)
class LocalCall:
    """A request: header names in lower case, ``query`` without its question mark.

    ``directory``: where a created session is to run, if the caller says. ``abandoned`` is set when nobody waits for
    the answer any more: a create that is not committed by then never is.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    directory: str | None = None
    abandoned: Event = field(default_factory=Event)

    @property
    def origin(self) -> str:
        return "http://" + self.headers.get("host", "local")

    def allow(self, *methods: str) -> None:
        """405 for other methods."""
        if self.method not in methods:
            raise HttpRefusal(405, f"unsupported: HTTP {self.method}\n", {"allow": ", ".join(methods)})


class CallAbandoned(Exception):
    """Nobody waits for the answer; nothing was created."""
