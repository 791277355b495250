"""The words for what became of a replica and of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HELD: Final = "Held"  # not created yet: limits, after, backoff
UNSETTLED: Final = "Unsettled"  # a create in flight or in doubt
PENDING: Final = "Pending"
RUNNING: Final = "Running"
COMPLETED: Final = "Completed"
FAILED: Final = "Failed"
REFUSED: Final = "Refused"  # the server would not make it; its words kept
EXPIRED: Final = "Expired"  # gone, and nobody saw the end
DELETED: Final = "Deleted"
SKIPPED: Final = "Skipped"

STATES: Final = (HELD, UNSETTLED, PENDING, RUNNING, COMPLETED, FAILED, REFUSED, EXPIRED, DELETED, SKIPPED)
ALIVE: Final = frozenset({UNSETTLED, PENDING, RUNNING})
ENDED: Final = frozenset({COMPLETED, FAILED, REFUSED, EXPIRED, DELETED, SKIPPED})
UNKNOWN: Final = "Unknown"  # a job's status only


def job_status(counts: Mapping[str, int], retriable: int) -> str:
    """A job's status from its replicas' counts by state; ``retriable``: Failed replicas with attempts left."""
    total = sum(counts.values())
    if counts.get(RUNNING):
        return RUNNING
    if counts.get(PENDING) or counts.get(UNSETTLED):
        return PENDING
    if counts.get(HELD) or retriable:
        return HELD
    if counts.get(COMPLETED) == total:
        return COMPLETED
    if counts.get(DELETED) == total:
        return DELETED
    if counts.get(FAILED) or counts.get(REFUSED) or counts.get(SKIPPED):
        return FAILED
    return UNKNOWN


def zero_filled(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts with every state, in the order of STATES."""
    return {state: counts.get(state, 0) for state in STATES}
