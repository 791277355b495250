"""What can only be said of a job once its items are known and its requests are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set

from skahactl.errors import Problem
from skahactl.job import Replica, Request
from skahactl.manifest.each import each_variable
from skahactl.manifest.files import Draft
from skahactl.manifest.items import items_source
from skahactl.manifest.lists import Items
from skahactl.manifest.places import Path
from skahactl.manifest.texts import Templates, of_one_item
from skahactl.words import count_noun, did_you_mean

#: What cannot be sent in a request, in words with the way round; nothing for one that can.
Check = Callable[[Request], tuple[str, ...]]

_MOST_SHOWN = 5


def misuse_problems(draft: Draft, listed: Items, shares: Sequence[Sequence[int]], made: Templates) -> Iterator[Problem]:
    """Items that nothing uses, and placeholders of one item where a replica has several."""
    table, places = draft.table.items, draft.places
    if table is None:
        return
    several = next((number for number, share in enumerate(shares, start=1) if len(share) > 1), None)
    used = made.words & (made.item_words | {"items"})
    if not table.each and not used and (several or not listed.columns):
        yield places.problem(
            items_source(table),
            "nothing uses the items",
            "put {item} or {items} into command, or say each = true to run it once an item",
        )
    for path, template in of_one_item(made, draft, table.each) if several is not None else ():
        word = min(template.words & made.item_words)
        yield places.problem(
            path,
            f"{{{word}}} needs one item a replica, and replica {several} has {len(shares[(several or 1) - 1]):,}",
            "per-replica = 1" + ("" if table.each else ", or each = true to run the command once an item"),
        )
    if table.each and not made.command:
        yield places.problem(("items", "each"), "each = true needs a command or shell to run")
    yield from _clashes(draft, listed, table.each)


def unsendable_problems(draft: Draft, built: Sequence[Replica], check: Check) -> Iterator[Problem]:
    """What ``check`` says of the requests; one that differs only by its replica's number is not asked about again."""
    told: dict[str, int] = {}
    seen: set[Request] = set()
    for replica in built:
        request = replica.request
        env = tuple((key, value) for key, value in request.env if key != "REPLICA_ID")
        alike = Request(request.kind, request.image, request.command, env, request.resources)
        if alike not in seen:
            seen.add(alike)
            for message in check(request):
                told.setdefault(message, replica.number)
    for message, number in list(told.items())[:_MOST_SHOWN]:
        which = f"replica {number}: " if len(built) > 1 else ""
        yield draft.places.problem(_key(message, draft), which + message, _fewer(message, draft))
    if len(told) > _MOST_SHOWN:
        yield draft.places.problem((), f"and {count_noun(len(told) - _MOST_SHOWN, 'more problem')} of this kind")


def unused_problems(variables: Mapping[str, str], used: Set[str], known: Set[str]) -> Iterator[Problem]:
    """Words of --var that no job uses."""
    for name in variables:
        if name not in used:
            yield Problem("--var", f"nothing uses {{{name}}}", None, name, did_you_mean(name, known - {name}))


def _clashes(draft: Draft, listed: Items, each: bool) -> Iterator[Problem]:
    names = {each_variable(column) for column in listed.columns} | ({"ITEM"} if each else set())
    for key in draft.table.env:
        if key in names:
            yield draft.places.problem(("env", key), "the items set this variable", "give yours another name")
    for column in listed.columns:
        if column in draft.table.vars:
            yield draft.places.problem(("vars", column), "a column of the items has this name", "rename one")


def _key(message: str, draft: Draft) -> Path:
    if message.startswith("[env] ITEM_"):
        return ("items",)
    if message.startswith("[env]"):
        return ("env",)
    if message.startswith("the image"):
        return ("image",)
    return ("shell",) if draft.table.shell else ("command",)


def _fewer(message: str, draft: Draft) -> str | None:
    """The way round for a request that its items made too large."""
    if draft.table.items is None or " bytes" not in message:
        return None
    return "with too many items: more replicas, or 'skahactl split' in the container, which reads the list there"
