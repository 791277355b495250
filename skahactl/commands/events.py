"""``skahactl events``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from skahactl.commands.params import Limit, NoHeaders, Replicas, RunNumber, SortBy, TargetWord
from skahactl.invocation import current
from skahactl.model import State
from skahactl.text import count_noun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skahactl.engine.runtime import Runtime
    from skahactl.profile import Profile
    from skahactl.shapes import Row
    from skahactl.skaha.models import Event, Listing
    from skahactl.targets import Target

_MOST_NAMES = 3  # maximum number of names in a line about several sessions
_MOST = 50  # maximum number of sessions for which events are requested, unless they are named


def events(
    *targets: TargetWord,
    replicas: Replicas = None,
    run: RunNumber = None,
    sort_by: SortBy = None,
    no_headers: NoHeaders = False,
    limit: Limit = None,
) -> int:
    """Show the scheduling events of sessions, which explain why a session is Pending.

    For a job, these are the events of its Pending replicas, or if there are none, of its Running replicas. The server
    keeps events for about one hour.

    Examples:
      skahactl events tiles
      skahactl events tiles/17 -o json
    """
    from skahactl.commands.listing import GetOptions, list_rows

    asked = GetOptions(replicas=replicas, run=run, sort_by=sort_by, headers=not no_headers, limit=limit)
    return list_rows(("events", *targets), asked)


class NamedSession(NamedTuple):
    """A session for which events are requested, and its label."""

    session: str
    name: str


async def event_rows(runtime: Runtime, targets: Sequence[Target]) -> list[Row]:
    """Return the events of the sessions that the targets name. A whole job means its Pending replicas, or if there are
    none, its Running ones; no targets means all Pending sessions."""
    import asyncio

    from skahactl import shapes
    from skahactl.engine import snapshot

    named = snapshot.runs_in_question(runtime.ledger, runtime.profile, targets) if targets else ()
    seen = await runtime.first_poll(named)
    chosen = _chosen_sessions(runtime, targets, seen)
    answers = await asyncio.gather(*(runtime.client.events(one.session) for one in chosen))
    _say_without_events(runtime.profile, chosen, answers, seen)
    owners = snapshot.session_owners(runtime.ledger, (one.session for one in chosen))
    return [
        shapes.event(one.session, owner[:2] if (owner := owners(one.session)) else None, event)
        for one, found in zip(chosen, answers, strict=True)
        for event in found or ()
    ]


def _say_without_events(
    profile: Profile, chosen: Sequence[NamedSession], answers: Sequence[Sequence[Event] | None], seen: Listing
) -> None:
    """Print why sessions have no events, on one line for each reason."""
    from skahactl.engine.tasks import pending_reason

    pending = {session.id for session in seen.sessions if session.status == State.PENDING}
    found: dict[str, list[str]] = {}
    for one, events in zip(chosen, answers, strict=True):
        if events is None:
            waits = pending_reason(None, profile.local.slot_count if profile.is_local else None)
            found.setdefault(waits if one.session in pending else "no pod: the session is gone", []).append(one.name)
        elif not events:
            found.setdefault("no events (they are kept for an hour)", []).append(one.name)
    for why, names in found.items():
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        current().say(f"{', '.join(names[:_MOST_NAMES])}{more}: {why}")


def _chosen_sessions(runtime: Runtime, targets: Sequence[Target], seen: Listing) -> list[NamedSession]:
    """Return the sessions for which events are requested."""
    if not targets:
        return _not_too_many([NamedSession(s.id, s.name) for s in seen.sessions if s.status == State.PENDING])
    chosen: list[NamedSession] = []
    for target in targets:
        if target.is_job:
            chosen += _of_job(runtime, target, seen)
        else:
            chosen.append(_of_session(runtime, target, seen))
    return chosen


def _of_session(runtime: Runtime, target: Target, seen: Listing) -> NamedSession:
    """Return the session that a target names. Raises UsageError if neither the ledger nor the platform knows it."""
    from skahactl.targets import unknown_target

    word = target.session or target.word
    found = next((s.id for s in seen.sessions if word in (s.id, s.name)), None)
    if found is None and target.run is None:
        raise unknown_target(runtime.ledger, runtime.profile, target.word)
    return NamedSession(found or word, target.word)


def _of_job(runtime: Runtime, target: Target, seen: Listing) -> list[NamedSession]:
    from skahactl.engine import snapshot

    assert target.run is not None
    run = target.run
    chosen_ones = snapshot.latest_attempts(runtime.ledger, run).values()
    with_session = [row for row in chosen_ones if row.session is not None and target.has(row.replica)]
    if target.numbers is None:
        pending = [row for row in with_session if row.state == State.PENDING]
        with_session = pending or [row for row in with_session if row.state == State.RUNNING]
    chosen = [NamedSession(row.session or "", f"{run.key.name}/{row.replica}") for row in with_session]
    if not chosen:
        current().say(f"{target.word}: no session that is Pending or Running")
    return chosen if target.numbers is not None else _not_too_many(chosen)


def _not_too_many(chosen: list[NamedSession]) -> list[NamedSession]:
    if len(chosen) > _MOST:
        more = count_noun(len(chosen) - _MOST, "more session")
        current().say(f"{more} not shown; to see their events, name their replicas")
    return chosen[:_MOST]
