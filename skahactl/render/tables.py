"""Rows of shapes.py as a table or as data, on stdout. rich is imported for a terminal alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skahactl.context import Invocation
from skahactl.errors import UsageError
from skahactl.render.columns import VIEWS
from skahactl.render.layout import cells, columns_of, plain_lines
from skahactl.render.streams import is_screen, one_line
from skahactl.shapes import Row
from skahactl.words import did_you_mean


def show_rows(
    context: Invocation,
    noun: str,
    rows: Sequence[Row],
    *,
    headers: bool = True,
    raw: object = None,
    now: float | None = None,
) -> None:
    """``rows`` of ``noun`` in the format that was asked for.

    Tables show times relative to ``now`` (epoch seconds). ``raw`` is what data formats print instead of the rows,
    where the platform's own answer is one object. No rows: a table says so on stderr, and prints nothing.
    """
    if context.output in ("table", "wide"):
        if rows:
            _show_table(context, noun, rows, headers, time.time() if now is None else now)
        else:
            context.say(f"no {noun}")
    elif context.output == "name":
        for row in rows:
            context.out(one_line(VIEWS[noun].name(row)))
    else:
        context.stdout.write(data_text(context.output, noun, rows if raw is None else raw))


def data_text(output: str, noun: str, data: object) -> str:
    """``data`` as json, jsonl (a line for each row) or toml (an array of tables called ``noun``)."""
    if output == "toml":
        import tomli_w

        return tomli_w.dumps(without_none(data if isinstance(data, Mapping) else {noun: data}))
    import json

    if output == "jsonl":
        rows = [data] if isinstance(data, Mapping) else data
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)  # type: ignore[attr-defined]
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def without_none(data: Any) -> Any:
    """TOML has no null: what is unknown is left out."""
    if isinstance(data, Mapping):
        return {key: without_none(value) for key, value in data.items() if value is not None}
    if isinstance(data, list | tuple):
        return [without_none(value) for value in data if value is not None]
    return data


def sort_rows(noun: str, rows: Sequence[Row], key: str | None) -> list[Row]:
    """By a field of the data (dotted: ``counts.Failed``) or a column's title; a ``-`` before it turns it round. What
    is unknown comes last. UsageError for what is neither."""
    if key is None:
        return list(rows)
    name = key.removeprefix("-")
    value = _value_of(noun, name, rows)
    known = [row for row in rows if value(row) is not None]
    unknown = [row for row in rows if value(row) is None]
    known.sort(key=lambda row: _rank(value(row)), reverse=key.startswith("-"))
    return known + unknown


def _show_table(context: Invocation, noun: str, rows: Sequence[Row], headers: bool, now: float) -> None:
    columns = columns_of(noun, context.output == "wide")
    texts = cells(columns, rows, now)
    if is_screen(context.stdout, context.environ):
        from skahactl.render import terminal

        console = terminal.console(context.stdout, context.environ)
        terminal.print_table(console, columns, texts, headers)
        return
    context.stdout.write("".join(f"{line}\n" for line in plain_lines(columns, texts, headers)))


def _value_of(noun: str, name: str, rows: Sequence[Row]) -> Callable[[Row], Any]:
    """The field or the column that ``name`` means: a field as it is written, a column, or a field in other letters."""
    fields = sorted(_fields(rows[:100]))
    columns = {column.title.lower(): column for column in VIEWS[noun].columns}
    if name not in fields and name.lower() in columns:
        return columns[name.lower()].rank
    lower = {field.lower(): field for field in fields}
    match = name if name in fields else lower.get(name.lower()) or lower.get(f"counts.{name.lower()}")
    if match is None and rows:
        raise UsageError(
            f"{noun} cannot be sorted by '{name}'",
            hint=did_you_mean(name, [*fields, *columns]) or f"there are {', '.join(fields)}",
        )
    path = tuple((match or name).split("."))
    return lambda row: _value(row, path)


def _fields(rows: Sequence[Row]) -> set[str]:
    """Dotted, where the value is itself one of fields: that has no order."""
    found = {key for row in rows for key in row}
    nested = {key for row in rows for key, value in row.items() if isinstance(value, Mapping)}
    inner = {f"{key}.{part}" for row in rows for key in nested for part in row.get(key) or ()}  # type: ignore[attr-defined]
    return (found - nested) | inner


def _value(row: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = row
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers before words, lists by their length, texts that are numbers as numbers."""
    if isinstance(value, list | tuple):
        return 0, float(len(value))
    if isinstance(value, int | float):
        return 0, float(value)
    try:
        return 0, float(str(value))
    except ValueError:
        return 1, str(value)
