"""Limits on the connections of ``serve``, so that half-sent requests and idle connections cannot block it."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

#: A connection is closed after this many seconds without data from the client, unless a request is being answered.
PATIENCE = 10.0
#: Maximum number of connections at a time. Half of the process's open files stay free for the queue and its logs.
MOST = 256


def most_connections() -> int:
    """Return how many connections may be open at once, given the process's limit of open files."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if files == resource.RLIM_INFINITY else max(8, min(MOST, files // 2 - 16))


def bounded_protocol(patience: float = PATIENCE, most: int | None = None) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP/1.1 protocol with a limit on waiting and on the number of connections.

    ``patience``: seconds. uvicorn itself closes only connections that are idle between two requests.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    limit = most_connections() if most is None else most

    class BoundedConnection(H11Protocol):
        _received = 0  # bytes, since the last check
        _check: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limit:
                self._make_room()
            self._check = self.loop.call_later(patience, self._close_if_stalled)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._check is not None:
                self._check.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._received += len(data)
            super().data_received(data)

        def _make_room(self) -> None:
            """Close a connection that is not being answered; this one, if all others are being answered."""
            others = (one for one in self.connections if isinstance(one, BoundedConnection) and one is not self)
            next((one for one in others if not one.is_answering()), self).transport.abort()

        def is_answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

        def _close_if_stalled(self) -> None:
            if not self.is_answering() and not self._received:
                self.transport.abort()
                return
            self._received = 0
            self._check = self.loop.call_later(patience, self._close_if_stalled)

    return BoundedConnection
