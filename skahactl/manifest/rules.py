"""Rules between the keys of a job, checked on the table as it was read, whatever else is wrong in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skahactl.errors import Problem
from skahactl.manifest.places import SourceMap
from skahactl.manifest.values import KINDS

_SOURCES = ("file", "glob", "values", "csv", "matrix")
_HEADLESS_ONLY = ("command", "shell", "env", "items", "retry")


def rule_problems(table: Mapping[str, Any], places: SourceMap) -> Iterator[Problem]:
    """Every broken rule."""
    if "command" in table and "shell" in table:
        yield places.problem(("shell",), "both command and shell are given", "one of the two says what to run")
    yield from _kind(table, places)
    yield from _items(table, places)
    name, after = table.get("name"), table.get("after")
    if isinstance(after, list) and name in after:
        yield places.problem(("after",), f"'{name}' waits for itself")


def _kind(table: Mapping[str, Any], places: SourceMap) -> Iterator[Problem]:
    kind = table.get("kind", "headless")
    if kind == "headless" or kind not in KINDS:
        return
    for key in _HEADLESS_ONLY:
        if table.get(key):
            yield places.problem(
                (key,), f"the platform drops it for a {kind} session", 'leave it out, or kind = "headless"'
            )
    replicas = table.get("replicas")
    if isinstance(replicas, int) and replicas > 1:
        yield places.problem(("replicas",), f"a {kind} job has one replica", 'only kind = "headless" has several')


def _items(table: Mapping[str, Any], places: SourceMap) -> Iterator[Problem]:
    items = table.get("items")
    if not isinstance(items, Mapping):
        return
    given = [key for key in items if key in _SOURCES]
    if not given:
        yield places.problem(("items",), "where do the items come from?", f"give one of {', '.join(_SOURCES)}")
    if len(given) > 1:
        yield places.problem(("items", given[1]), f"both {given[0]} and {given[1]} are given", "one of them")
    yield from _share(table, items, given, places)


def _share(
    table: Mapping[str, Any], items: Mapping[str, Any], given: list[str], places: SourceMap
) -> Iterator[Problem]:
    rows = [source for source in given if source in ("csv", "matrix")]
    if "replicas" in table and "per-replica" in items:
        yield places.problem(
            ("items", "per-replica"), "both replicas and per-replica are given", "one of the two says how many"
        )
    elif "replicas" in table and rows:
        what = "row" if rows == ["csv"] else "combination"
        yield places.problem(
            ("replicas",),
            f"with {rows[0]}, one {what} is one replica",
            "leave replicas out, or give per-replica in [items]",
        )
    elif given and not rows and "replicas" not in table and "per-replica" not in items:
        yield places.problem(
            ("items",), "how are the items shared out?", "give replicas at the top, or per-replica in [items]"
        )
