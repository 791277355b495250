"""What apply does with a whole job, given what the ledger and the platform know of it: pure, a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skahactl import states
from skahactl.durations import format_duration, time_ago
from skahactl.job import Job
from skahactl.ledger.records import RunSummary
from skahactl.manifest.resolve import Difference, differences
from skahactl.skaha.models import Session


@dataclass(frozen=True, slots=True)
class ApplyWishes:
    """What the caller asked for besides the manifest."""

    rerun: bool = False
    replace: bool = False
    adopt: str | None = None  # create | expired


@dataclass(frozen=True, slots=True)
class Decision:
    """action: create (the next run) | adopt | replace | keep (go on with the last run) | ended | refuse | foreign.

    ``refuse`` is an answer of no (1), ``foreign`` needs a choice first (2). ``hint``: the ways out.
    """

    action: str
    reason: str
    differences: tuple[Difference, ...] = ()
    hint: str | None = None


def decide(
    job: Job,
    last: RunSummary | None,
    foreign: Mapping[int, Sequence[Session]],
    wishes: ApplyWishes,
    stale: str | None,
    now: float,
) -> Decision:
    """``foreign``: sessions on the server with exactly a replica's name that this ledger never made, by replica.
    ``stale``: why an ended run is to be run anew, because what it came after has a newer run."""
    if last is None:
        return _decide_first(job, foreign, wishes)
    if last.run.deleting:
        if not _alive(last):
            return Decision("create", f"run {last.run.number} was deleted")
        return Decision("replace", f"run {last.run.number} is being deleted")
    changed = differences(last.run.content, job.content, job.sources)
    if last.run.digest == job.digest:
        changed = ()
    if _ended(last):
        return _decide_ended(last, changed, wishes, stale, now)
    if wishes.rerun and not changed:
        return Decision(
            "refuse",
            f"run {last.run.number} has not ended: {_alive_words(last, now)}",
            hint="--rerun starts the next run once the last has ended; --replace ends it first",
        )
    return _decide_unfinished(job, last, changed, wishes, now)


def _decide_first(job: Job, foreign: Mapping[int, Sequence[Session]], wishes: ApplyWishes) -> Decision:
    if not foreign:
        return Decision("create", "no run of it is known here")
    found = sum(len(sessions) for sessions in foreign.values())
    missing = len(job.replicas) - len(foreign)
    if wishes.adopt is not None:
        rest = "created" if wishes.adopt == "create" else "taken as Expired"
        return Decision(
            "adopt", f"{found} sessions with this job's names are taken over; {missing} replicas are {rest}"
        )
    return Decision(
        "foreign",
        f"no record of {job.name} here, but {found} sessions with exactly its names are on the server, "
        f"for {len(foreign)} of its {len(job.replicas)} replicas",
        hint="another machine runs this very manifest, or its record was lost. Take them over with --adopt create (and "
        "create the replicas that have none) or --adopt expired (those without one ended unseen)",
    )


def _decide_ended(
    last: RunSummary, changed: tuple[Difference, ...], wishes: ApplyWishes, stale: str | None, now: float
) -> Decision:
    number = last.run.number
    if wishes.rerun or wishes.replace:
        return Decision("create", f"run {number} has ended; the next run was asked for", changed)
    if stale is not None:
        return Decision("create", stale, changed)
    if changed:
        return Decision(
            "refuse",
            f"run {number} has results, and the manifest has changed",
            changed,
            hint="--rerun starts the next run with the manifest as it is now; to keep what is there, change nothing",
        )
    when = time_ago(last.run.ended, now)
    again = f"skahactl retry {last.run.key.name} tries what failed again, " if last.counts[states.FAILED] else ""
    return Decision("ended", f"run {number} ended {when}: {last.status}; {again}--rerun starts the next run")


def _decide_unfinished(
    job: Job, last: RunSummary, changed: tuple[Difference, ...], wishes: ApplyWishes, now: float
) -> Decision:
    del job
    number = last.run.number
    if wishes.replace:
        return Decision("replace", f"run {number} is replaced: {_alive_words(last, now)}", changed)
    if not changed:
        return Decision("keep", f"run {number} goes on")
    if last.run.started is None:
        return Decision("replace", f"run {number} has no session yet; it is replaced", changed)
    if all(difference.path.split(".")[0].split("[")[0] == "items" for difference in changed):
        return Decision("keep", f"run {number} goes on with the items it recorded; the list has changed since", changed)
    return Decision(
        "refuse",
        f"run {number} has sessions or results, and the manifest has changed",
        changed,
        hint=f"--replace ends run {number} ({_alive_words(last, now)}) and starts the next; --rerun starts the next "
        "once it has ended; to leave it alone, undo the change",
    )


def _ended(last: RunSummary) -> bool:
    going = sum(last.counts[state] for state in (states.HELD, states.UNSETTLED, states.PENDING, states.RUNNING))
    return going == 0 and last.retriable == 0


def _alive(last: RunSummary) -> int:
    return sum(last.counts[state] for state in states.ALIVE)


def _alive_words(last: RunSummary, now: float) -> str:
    parts = [f"{last.counts[state]} {state}" for state in states.STATES if last.counts[state]]
    age = "" if last.run.started is None else f", oldest {format_duration(now - last.run.started)}"
    return ", ".join(parts) + age
