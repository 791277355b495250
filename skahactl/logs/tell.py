"""What is said of logs that gave no text, in a few lines however many they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skahactl import states
from skahactl.logs.choose import AttemptLog
from skahactl.words import count_noun

_NAMED = 5

_LOST = "the platform has forgotten it, and it was not kept"
_PRUNED = "the platform has forgotten it, and its copy was pruned"


def why_empty(log: AttemptLog, statuses: Mapping[str, str] | None) -> str:
    """Why a log has no text. ``statuses``: of the sessions that the platform lists, by id; None: it was not asked."""
    if log.session is None:
        reason = f": {log.reason}" if log.reason else ""
        if log.state in (states.HELD, states.UNSETTLED):
            return f"not created yet{reason}"
        return f"{log.state}, no session{reason}"
    if log.whole is not None:
        return "it wrote nothing"
    if statuses is None:
        return "no text"
    status = statuses.get(log.session)
    if status is None:
        return _PRUNED if log.pruned else _LOST
    if status == "Pending":
        return "Pending, no log yet"
    return "it wrote nothing" if status in ("Completed", "Failed") else f"{status}, nothing written yet"


def is_lost(log: AttemptLog, statuses: Mapping[str, str] | None) -> bool:
    return why_empty(log, statuses) in (_LOST, _PRUNED)


def describe_log(reasons: Sequence[tuple[str, str]]) -> list[str]:
    """One line for each reason of (label, reason), which names the first few labels."""
    by_reason: dict[str, list[str]] = {}
    for label, reason in reasons:
        by_reason.setdefault(reason, []).append(label)
    return [_line(labels, reason) for reason, labels in by_reason.items()]


def _line(labels: list[str], reason: str) -> str:
    if len(labels) <= _NAMED:
        return f"{', '.join(labels)}: {reason}"
    return f"{count_noun(len(labels), 'log')} ({', '.join(labels[:3])}, ...): {reason}"
