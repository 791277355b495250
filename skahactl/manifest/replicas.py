"""The replicas of a job: the exact request of each, its name, its items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.errors import Problem
from skahactl.manifest.load import Draft
from skahactl.manifest.placeholders import (
    BUILT_IN,
    Template,
    each_command,
    each_script,
    each_variable,
    replica_words,
)
from skahactl.manifest.syntax import Path, SourceMap, first_problems
from skahactl.manifest.templates import ALL_ITEMS, Templates, of_one_item
from skahactl.model import (
    AMOUNTS,
    Each,
    EnvValue,
    Replica,
    Request,
    RequestProblem,
    Resources,
    session_name,
    tidy_number,
)
from skahactl.spelling import did_you_mean
from skahactl.text import name_replicas

if TYPE_CHECKING:
    from skahactl.manifest.items import Items

#: For each key of [resources] and invalid value of it, the numbers of the replicas that have it.
WrongAmounts = dict[tuple[str, str], list[int]]


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """What the replicas of a job share; ``shares`` has the positions of each replica's items."""

    name: str
    kind: str
    image: str
    texts: Templates
    variables: Mapping[str, str]
    total: int
    each: bool = False
    items: Items | None = None
    shares: Sequence[Sequence[int]] = ()


def build_replicas(pattern: JobTemplate, places: SourceMap, found: list[Problem]) -> tuple[Replica, ...]:
    """Return every replica, in order; problems of single replicas are added to ``found``."""
    values = dict(pattern.variables)
    wrong: WrongAmounts = {}
    made: list[Replica] = []
    for number in range(1, pattern.total + 1):
        values |= replica_words(pattern.name, number, pattern.total)
        made.append(_replica(pattern, number, values, wrong))
    found += _bad_resources(wrong, places)
    found += _same_names(made, places)
    return tuple(made)


def _replica(pattern: JobTemplate, number: int, values: dict[str, str], wrong: WrongAmounts) -> Replica:
    items, share = pattern.items, pattern.shares[number - 1] if pattern.items else ()
    texts = tuple(items.texts[position] for position in share) if items else ()
    single = _item_values(items, share[0]) if items and len(share) == 1 else {}
    words = {**values, **single}
    resources = _resources(pattern.texts, words, number, wrong)
    env = _env(pattern, values if pattern.each else words, number, single)
    each = _each(pattern, values, share) if pattern.each and items else None
    argv = each_command(each, range(1, len(share) + 1)) if each else _argv(pattern, words, texts)
    request = Request(pattern.kind, pattern.image, argv, env, resources)
    given_name = pattern.texts.session_name.render(words)
    return Replica(number, session_name(given_name, pattern.name, number, request), request, texts, each)


def _item_values(items: Items, position: int) -> dict[str, str]:
    values = {"item": items.texts[position]}
    for column, value in zip(items.columns, items.rows[position] if items.rows else (), strict=True):
        values[f"item.{column}"] = value
        if column not in BUILT_IN:
            values[column] = value
    return values


def _argv(pattern: JobTemplate, words: Mapping[str, str], items: Sequence[str]) -> tuple[str, ...]:
    argv: list[str] = []
    for template in pattern.texts.command:
        argv += items if template == ALL_ITEMS else [template.render(words)]
    return tuple(argv)


def _each(pattern: JobTemplate, values: Mapping[str, str], share: Sequence[int]) -> Each:
    items, texts = pattern.items, pattern.texts
    assert items is not None
    env = [(key, value) for key, value in texts.env if isinstance(value, Template) and texts.uses_item(value)]
    script = each_script(texts.command, env, items.columns, values, joined=items.joined)
    if items.columns:
        return Each(script, tuple(items.rows[position] for position in share))
    return Each(script, tuple((items.texts[position],) for position in share))


def _env(
    pattern: JobTemplate, words: Mapping[str, str], number: int, single: Mapping[str, str]
) -> tuple[tuple[str, EnvValue], ...]:
    """Return the environment: [env], the columns of the item if there is only one, REPLICA_ID and REPLICA_COUNT."""
    if pattern.kind != "headless":
        return ()
    texts = pattern.texts
    env: list[tuple[str, EnvValue]] = []
    for key, value in texts.env:
        if not isinstance(value, Template):
            env.append((key, value))
        elif not (pattern.each and texts.uses_item(value)):
            env.append((key, value.render(words)))
    if not pattern.each and single and pattern.items:
        env += [(each_variable(column), single[f"item.{column}"]) for column in pattern.items.columns]
    return (*env, ("REPLICA_ID", str(number)), ("REPLICA_COUNT", str(pattern.total)))


def _resources(texts: Templates, words: Mapping[str, str], number: int, wrong: WrongAmounts) -> Resources:
    amounts: dict[str, float | None] = {"cores": None, "ram": None, "gpus": None}
    for key, value in texts.resources.items():
        text = value.render(words) if isinstance(value, Template) else None
        amount = value if not isinstance(value, Template) else _amount(str(text), key)
        if amount is None:
            wrong.setdefault((key, str(text)), []).append(number)
        amounts[key] = amount
    gpus = amounts["gpus"]
    return Resources(tidy_number(amounts["cores"]), tidy_number(amounts["ram"]), int(gpus) if gpus else None)


def _amount(text: str, key: str) -> float | None:
    """Return the number in a text; None if it is not a valid request."""
    try:
        amount = float(text)
    except ValueError:
        return None
    least, most = AMOUNTS[key]
    if not least <= amount <= most or (key == "gpus" and not amount.is_integer()):
        return None
    return amount


def _bad_resources(wrong: WrongAmounts, places: SourceMap) -> Iterator[Problem]:
    def problem(one: tuple[tuple[str, str], list[int]]) -> Problem:
        (key, text), numbers = one
        kind, (least, most) = "whole number" if key == "gpus" else "number", AMOUNTS[key]
        which = name_replicas(numbers[:20]) + ", ..." * (len(numbers) > 20)
        return places.problem(("resources", key), f"'{text}' is not a {kind} from {least} to {most:,} ({which})")

    return first_problems(list(wrong.items()), problem)


def _same_names(replicas: Sequence[Replica], places: SourceMap) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for replica in replicas:
        other = first.setdefault(replica.name, replica.number)
        if other != replica.number:
            yield places.problem(
                ("session-name",),
                f"replicas {other} and {replica.number} would have the same session name, {replica.name}",
                "use {replica} in session-name",
            )
            return


#: A function that returns what cannot be sent in a request, with alternatives; empty if all of it can.
Check = Callable[[Request], tuple[RequestProblem, ...]]


def misuse_problems(draft: Draft, listed: Items, shares: Sequence[Sequence[int]], made: Templates) -> Iterator[Problem]:
    """Report items that nothing uses, and placeholders of one item where a replica has several."""
    table, places = draft.table.items, draft.places
    if table is None:
        return
    several = next((number for number, share in enumerate(shares, start=1) if len(share) > 1), None)
    used = made.words & (made.item_words | {"items"})
    if not table.each and not used and (several or not listed.columns):
        from skahactl.manifest.items import items_source

        yield places.problem(
            items_source(table),
            "the items are not used",
            "put {item} or {items} into command, or write each = true to run it once per item",
        )
    for path, template in of_one_item(made, draft, table.each) if several is not None else ():
        word = min(template.words & made.item_words)
        yield places.problem(
            path,
            f"{{{word}}} needs one item per replica, and replica {several} has {len(shares[(several or 1) - 1]):,}",
            "per-replica = 1" + ("" if table.each else ", or each = true to run the command once per item"),
        )
    if table.each and not made.command:
        yield places.problem(("items", "each"), "each = true needs a command or shell to run")
    yield from _clashes(draft, listed, table.each)


def unsendable_text_problems(draft: Draft, made: Templates, check: Check) -> Iterator[Problem]:
    """Yield the problems that ``check`` finds in texts without placeholders, of a job with other mistakes."""
    command = tuple(template.literal or "x" for template in made.command)
    env = tuple((key, value.literal or "x") for key, value in made.env if isinstance(value, Template))
    for found in check(Request("headless", draft.table.image, command, env)):
        yield draft.places.problem(_key(found, draft), found.message)


def unsendable_problems(draft: Draft, built: Sequence[Replica], check: Check) -> Iterator[Problem]:
    """Yield what ``check`` finds in the requests. Requests that differ only in REPLICA_ID are checked once."""
    reported: dict[RequestProblem, int] = {}
    seen: set[Request] = set()
    for replica in built:
        request = replica.request
        env = tuple((key, value) for key, value in request.env if key != "REPLICA_ID")
        alike = Request(request.kind, request.image, request.command, env, request.resources)
        if alike not in seen:
            seen.add(alike)
            for found in check(request):
                reported.setdefault(found, replica.number)

    def problem(one: tuple[RequestProblem, int]) -> Problem:
        found, number = one
        which = f"replica {number}: " if len(built) > 1 else ""
        return draft.places.problem(_key(found, draft), which + found.message, _fewer(found, draft))

    yield from first_problems(list(reported.items()), problem)


def unused_problems(variables: Mapping[str, str], used: Set[str], known: Set[str]) -> Iterator[Problem]:
    """Report variables of --var that no job uses."""
    for name in variables:
        if name not in used:
            yield Problem("--var", f"no job uses {{{name}}}", None, name, did_you_mean(name, known - {name}))


def _clashes(draft: Draft, listed: Items, each: bool) -> Iterator[Problem]:
    names = {each_variable(column) for column in listed.columns} | ({"ITEM"} if each else set())
    for key in draft.table.env:
        if key in names:
            yield draft.places.problem(
                ("env", key), "this variable is set for the items", "use another name", at_key=True
            )
    for column in listed.columns:
        if column in draft.table.vars:
            yield draft.places.problem(
                ("vars", column), "a column of the items has the same name", "rename one", at_key=True
            )


def _key(found: RequestProblem, draft: Draft) -> Path:
    """Return the key of the manifest for a problem of a request."""
    table = draft.table
    if found.part[:1] == ("env",):
        name = str(found.part[-1])
        return ("env", name) if name in table.env else ("items",) if name.startswith("ITEM_") else ("env",)
    if found.part == ("image",):
        return ("image",)
    if found.part and table.command and "{items}" not in table.command:
        return found.part
    return ("shell",) if table.shell else ("command",)


def _fewer(found: RequestProblem, draft: Draft) -> str | None:
    """Return how to fix a request that is too large because of its items; None for other problems."""
    if draft.table.items is None or not found.too_large:
        return None
    return "for fewer items per request: use more replicas, or read the list in the container with 'skahactl split'"
