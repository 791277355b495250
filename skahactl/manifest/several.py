"""Several jobs: ``[common]`` and ``[[job]]`` in one file, ``after`` between jobs, and names given twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from skahactl.errors import Problem
from skahactl.manifest.places import SourceMap
from skahactl.manifest.tables import overlay_table
from skahactl.manifest.values import show_value

_KEYS = ("common", "job", "vars")


def job_tables(
    data: Mapping[str, Any], places: SourceMap, found: list[Problem]
) -> Iterator[tuple[dict[str, Any], SourceMap]]:
    """The tables of a file's jobs, what is common to all laid under each, and where their keys stand."""
    if "job" not in data and "common" not in data:
        if data:
            yield dict(data), places
        else:
            found.append(Problem(places.file, "the manifest is empty", hint="a job needs name and image"))
        return
    found += _top_problems(data, places)
    common, tables = data.get("common", {}), data.get("job", [])
    if not isinstance(common, dict) or not isinstance(tables, list):
        return
    shared = overlay_table({"vars": data["vars"]} if "vars" in data else {}, common)
    for number, table in enumerate(tables):
        if isinstance(table, dict):
            name = table.get("name")
            label = f"{name}." if isinstance(name, str) and name else f"job[{number + 1}]."
            roots = (("job", number), ("common",), ())
            yield overlay_table(shared, table), replace(places, roots=roots, label=label)


def problems_of_jobs(raw: Sequence[tuple[Mapping[str, Any], SourceMap]]) -> Iterator[Problem]:
    """Names given twice, and jobs that wait for each other; of tables as they were read, right or wrong."""
    named = [(str(table["name"]), table, places) for table, places in raw if isinstance(table.get("name"), str)]
    first: dict[str, SourceMap] = {}
    for name, _, places in named:
        if name in first:
            line = first[name].line(("name",))
            where = first[name].file + (f", line {line}" if line else "")
            yield places.problem(("name",), f"a second job '{name}'", f"the first is in {where}")
        first.setdefault(name, places)
    after = {name: _names(table.get("after")) for name, table, _ in reversed(named)}
    for name, places in first.items():
        circle = _circle(name, after)
        if len(circle) > 1 and min(circle) == name:
            yield places.problem(("after",), f"jobs that wait for each other: {' -> '.join([*circle, name])}")


def _top_problems(data: Mapping[str, Any], places: SourceMap) -> Iterator[Problem]:
    for key in data:
        if key not in _KEYS:
            yield places.problem(
                (key,),
                "a file of several jobs has only [common], [[job]] and [vars] at its top",
                "move it into [common] or a [[job]]",
            )
    common, tables = data.get("common", {}), data.get("job")
    if not isinstance(common, dict):
        yield places.problem(("common",), f"expected a table, found {show_value(common)}")
    elif "name" in common:
        yield places.problem(("common", "name"), "every job has its own name", "move it into a [[job]]")
    if tables is None or tables == []:
        yield places.problem((), "no [[job]] in a file with [common]")
    elif not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        yield places.problem(
            ("job",),
            f"expected [[job]] tables, found {show_value(tables)}",
            "write [[job]] with double brackets" if isinstance(tables, dict) else None,
        )


def _circle(name: str, after: Mapping[str, Sequence[str]]) -> list[str]:
    """The jobs on a way from ``name`` back to itself, or nothing."""
    ways: list[list[str]] = [[name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for other in after.get(way[-1], ()):
            if other == name:
                return way
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def _names(after: object) -> list[str]:
    return [name for name in after if isinstance(name, str)] if isinstance(after, list) else []
