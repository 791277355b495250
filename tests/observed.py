"""A run, a session and an attempt, for tests of what is decided about them."""

from __future__ import annotations

from dataclasses import replace

from skahactl.ledger.records import AttemptRow, JobKey, Run
from skahactl.model import Limits, State
from skahactl.skaha.models import ServerSession

RUN = Run(
    1, JobKey("s", "u", "fits"), 1, "canfar", "d", "headless", "i", {}, Limits(), 1, "all", 0.0, 1, started=0.0
)  # fmt: skip


def session(
    id: str, name: str = "fits-1-abcde", status: str = "Running", started: float | None = 50.0
) -> ServerSession:
    return ServerSession(id, name, "headless", status, "u", "i", started, None, None)


def attempt(**changes: object) -> AttemptRow:
    row = AttemptRow(
        1, 1, 1, "fits-1-abcde", State.UNCONFIRMED, None, None, None, 10.0, None, None, None, None, None, None, None,
        1, 0, None, 0, "none", None, None,
    )  # fmt: skip
    return replace(row, **changes)  # type: ignore[arg-type]
