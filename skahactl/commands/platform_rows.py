"""Rows that only the platform knows: sessions, events, images, resources, stats. What the client raises goes
through."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skahactl import shapes, states
from skahactl.commands.looking import ReadContext, ask_platform
from skahactl.engine import snapshot
from skahactl.engine.snapshot import view_run
from skahactl.errors import UsageError
from skahactl.render.columns import pairs
from skahactl.shapes import Row
from skahactl.skaha.client import Client
from skahactl.skaha.models import Event, Listing, Options
from skahactl.targets import Target
from skahactl.words import count_noun

_MOST = 50  # sessions whose events are asked for, unless they are named


@dataclass(frozen=True, slots=True)
class EventsOptions:
    """A session whose events are wanted, and what to call it."""

    session: str
    name: str


def list_from_platform(place: ReadContext) -> Listing:
    """The platform's sessions, once."""
    return ask_platform(place, lambda client: client.sessions())


def platform_rows(place: ReadContext, noun: str, words: Sequence[str]) -> tuple[list[Row], object]:
    """Rows of images, resources or stats, and what data formats print instead (None: the rows). ``words``: parts of
    images' names."""
    if noun == "images":
        found = ask_platform(place, lambda client: client.images())
        return [dict(row) for row in found if all(word in str(row.get("id")) for word in words)], None
    if words:
        raise UsageError(f"{noun} are of the whole platform: '{words[0]}' says nothing", hint=f"skahactl get {noun}")
    if noun == "resources":
        options = ask_platform(place, lambda client: client.options())
        return pairs(_offered(options)), options.raw
    stats = ask_platform(place, lambda client: client.stats())
    return pairs(stats), stats


def event_rows(place: ReadContext, targets: Sequence[Target]) -> list[Row]:
    """The events of what the targets name; of a job those of its replicas that are Pending, or if none is, Running;
    without targets, of whatever is Pending."""

    async def question(client: Client) -> list[Row]:
        chosen = _chosen_sessions(place, targets, await client.sessions())
        answers = await asyncio.gather(*(client.events(one.session) for one in chosen))
        return _rows(place, chosen, answers)

    return ask_platform(place, question)


def _rows(place: ReadContext, chosen: Sequence[EventsOptions], answers: Sequence[Sequence[Event] | None]) -> list[Row]:
    owners = snapshot.session_owners(place.ledger, (one.session for one in chosen))
    rows: list[Row] = []
    for one, found in zip(chosen, answers, strict=True):
        owner = owners(one.session)
        if not found:
            why = "has no pod: it is queued, or gone" if found is None else "has no events (they are kept for an hour)"
            place.context.say(f"{one.name} {why}")
        rows.extend(shapes.event(one.session, owner[:2] if owner else None, event) for event in found or ())
    return rows


def _chosen_sessions(place: ReadContext, targets: Sequence[Target], seen: Listing) -> list[EventsOptions]:
    """The sessions whose events are asked for."""
    if not targets:
        return _not_too_many(place, [EventsOptions(s.id, s.name) for s in seen.sessions if s.status == states.PENDING])
    chosen: list[EventsOptions] = []
    for target in targets:
        if target.is_job:
            chosen += _of_job(place, target, seen)
        else:
            chosen.append(_of_session(target, seen))
    return chosen


def _of_session(target: Target, seen: Listing) -> EventsOptions:
    """A session named itself; one that neither the ledger nor the platform knows is a mistake."""
    word = target.session or target.word
    found = next((s.id for s in seen.sessions if word in (s.id, s.name)), None)
    if found is None and target.run is None:
        raise UsageError(f"there is no job or session '{target.word}'", hint="'skahactl get sessions' lists them")
    return EventsOptions(found or word, target.word)


def _of_job(place: ReadContext, target: Target, seen: Listing) -> list[EventsOptions]:
    assert target.run is not None
    run = target.run
    latest = snapshot.chosen_attempts(place.ledger, target, view_run(place.ledger, run, seen))
    with_session = [row for row in latest if row.session is not None]
    if target.numbers is None:
        pending = [row for row in with_session if row.state == states.PENDING]
        with_session = pending or [row for row in with_session if row.state == states.RUNNING]
    chosen = [EventsOptions(row.session or "", f"{run.key.name}/{row.replica}") for row in with_session]
    if not chosen:
        place.context.say(f"{target.word}: no session that is Pending or Running")
    return chosen if target.numbers is not None else _not_too_many(place, chosen)


def _not_too_many(place: ReadContext, chosen: list[EventsOptions]) -> list[EventsOptions]:
    if len(chosen) > _MOST:
        place.context.say(
            f"{count_noun(len(chosen) - _MOST, 'more session')} not asked for; name replicas to see theirs"
        )
    return chosen[:_MOST]


def _offered(options: Options) -> Mapping[str, object]:
    """What a table shows of the platform's answer: as it is, or at least what may be chosen."""
    return options.raw or {"cores": list(options.cores), "ram": list(options.ram), "gpus": list(options.gpus)}
