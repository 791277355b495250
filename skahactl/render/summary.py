"""How a job stands, in one line: the job, where it runs, and its replicas by state."""

from __future__ import annotations

from collections.abc import Mapping

from skahactl import states
from skahactl.durations import format_duration
from skahactl.engine.runtime import RunProgress
from skahactl.ledger.records import Run
from skahactl.profile import Profile
from skahactl.words import count_noun


def head(name: str, profile: Profile) -> str:
    """The job and where it runs, with which every summary begins."""
    return f"{name} on {profile.name} ({profile.host})"


def head_of(run: Run) -> str:
    """The same, of the profile that the run was made with."""
    return head(run.key.name, Profile(run.profile, run.key.server))


def standing(status: str | None, counts: Mapping[str, int]) -> str:
    """``Completed, 6 replicas`` or ``Running: 12 Completed, 4 Running of 16``."""
    total = sum(counts.values())
    if status is not None and counts.get(status) == total:
        return f"{status}, {count_noun(total, 'replica')}"
    return f"{status or states.UNKNOWN}: {counts_text(counts)} of {total}"


def counts_text(counts: Mapping[str, int]) -> str:
    """The states that there are: ``12 Completed, 4 Running``."""
    return ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts.get(state)) or "0 replicas"


def expected(run: RunProgress) -> float | None:
    """Seconds until the end, if the rest goes as what has ended so far; None while too little has."""
    began = run.summary.run.started
    total = sum(run.summary.counts.values())
    ended = sum(run.summary.counts[state] for state in states.ENDED)
    if began is None or ended < max(2, total // 50) or ended >= total:
        return None
    return (run.now - began) / ended * (total - ended)


def times_text(run: RunProgress) -> str:
    """``12 min, about 25 min left``."""
    began = run.summary.run.started or run.started
    if began is None:
        return ""
    left = expected(run)
    return format_duration(run.now - began) + (f", about {format_duration(left)} left" if left is not None else "")


_ORDER = (
    states.COMPLETED,
    states.RUNNING,
    states.PENDING,
    states.UNSETTLED,
    states.HELD,
    states.FAILED,
    states.REFUSED,
    states.EXPIRED,
    states.DELETED,
    states.SKIPPED,
)
