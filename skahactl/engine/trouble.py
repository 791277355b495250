"""Platform trouble: creates fail although their requests are sound, so sending more of them does not help."""

from __future__ import annotations

from dataclasses import dataclass, field

from skahactl.ledger.records import AttemptKey
from skahactl.skaha.models import CreateResult

#: So many failures in a row, of so many replicas, mean that the platform has a problem, not the replicas.
FAILURES, REPLICAS = 3, 2


@dataclass
class PlatformTrouble:
    """SnapshotCache the replies to creates. ``pause``: seconds between two probes while the trouble lasts."""

    pause: float
    reason: str | None = None  # the server's message, while there is trouble
    _failed: list[AttemptKey] = field(default_factory=list)  # since the last success
    _next_probe: float = 0.0

    @property
    def is_on(self) -> bool:
        return self.reason is not None

    def may_send(self, now: float) -> bool:
        """Whether a create may be sent: at any time without trouble, and one probe from time to time with it."""
        return not self.is_on or now >= self._next_probe

    def sending(self, now: float) -> None:
        """A create is sent now."""
        self._next_probe = now + self.pause

    def take(self, key: AttemptKey, created: CreateResult, now: float) -> tuple[AttemptKey, ...]:
        """Record the reply to a create; returns the attempts with failures that do not count against them."""
        if created.outcome != "ambiguous" or not _is_server_error(created):
            if created.outcome == "created":
                self._failed.clear()
                self.reason = None
            return ()
        self._failed.append(key)
        if self.is_on:
            return (key,)
        if len(self._failed) < FAILURES or len({one[:2] for one in self._failed}) < REPLICAS:
            return ()
        self.reason = "" if created.error is None else created.error.message
        self._next_probe = now + self.pause
        return tuple(self._failed)


def _is_server_error(created: CreateResult) -> bool:
    return created.error is not None and (created.error.http_status or 0) >= 500
