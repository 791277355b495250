"""Rows of shapes.py as a table or as data, on stdout. rich is imported for a terminal alone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from skahactl.errors import UsageError
from skahactl.invocation import Invocation, is_screen, one_line
from skahactl.render.columns import VIEWS, cells, column_widths, columns_of, plain_lines
from skahactl.text import did_you_mean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skahactl.render.terminal import Size
    from skahactl.shapes import Row


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


#: What changes at every look and is no news.
_RESTLESS = frozenset({"observed", "cpuCoresInUse", "ramInUse"})


class WatchedView(Protocol):
    def show(self, rows: Sequence[Row], now: float) -> None:
        """The rows as they are now (epoch seconds)."""

    def close(self) -> None: ...


def watched_view(context: Invocation, noun: str, headers: bool) -> WatchedView:
    """For stdout as it is and the format that was asked for."""
    if context.output in ("table", "wide") and is_screen(context.stdout, context.environ):
        return LiveTable(context, noun, headers)
    return AppendedRows(context, noun, headers)


class LiveTable:
    """The last table stays on the screen when it is closed."""

    def __init__(self, context: Invocation, noun: str, headers: bool):
        from skahactl.render.terminal import RepaintedDisplay

        self._picture = RepaintedDisplay(context.stdout, context.environ)
        self._noun = noun
        self._headers = headers
        self._columns = columns_of(noun, context.output == "wide")

    def show(self, rows: Sequence[Row], now: float) -> None:
        from skahactl.render import terminal

        texts = cells(self._columns, rows, now)

        def make(size: Size) -> RenderableType:
            if not rows:
                return f"no {self._noun}"
            return terminal.watched_table(self._columns, texts, self._headers, size)

        self._picture.paint(make)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._picture.close(keep=True)


class AppendedRows:
    """Every row once, then each that changed, as soon as it did; widths are those of the first rows."""

    def __init__(self, context: Invocation, noun: str, headers: bool):
        self._context = context
        self._noun = noun
        self._headers = headers
        self._before: dict[tuple[object, ...], Mapping[str, object]] = {}
        self._widths: list[int] = []

    def show(self, rows: Sequence[Row], now: float) -> None:
        current = {_key(self._noun, row): _news(row) for row in rows}
        changed = [row for row in rows if self._before.get(_key(self._noun, row)) != _news(row)]
        first = not self._widths
        self._before = current
        self._write(changed, now, first)
        self._context.stdout.flush()

    def close(self) -> None:
        return None

    def _write(self, rows: Sequence[Row], now: float, first: bool) -> None:
        context = self._context
        if context.output in ("json", "jsonl"):
            context.stdout.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        elif context.output == "toml":
            context.stdout.write(data_text("toml", self._noun, rows) + "\n" if rows else "")
        elif context.output == "name":
            context.stdout.write("".join(one_line(VIEWS[self._noun].name(row)) + "\n" for row in rows))
        elif rows:
            columns = columns_of(self._noun, context.output == "wide")
            texts = cells(columns, rows, now)
            self._widths = self._widths or column_widths(columns, texts)
            lines = plain_lines(columns, texts, self._headers and first, self._widths)
            context.stdout.write("".join(f"{line}\n" for line in lines))


def _key(noun: str, row: Row) -> tuple[object, ...]:
    """What makes a row the same one at every look."""
    return (*(row.get(field) for field in ("job", "run", "replica", "position")), VIEWS[noun].name(row))


def _news(row: Row) -> Mapping[str, object]:
    return {key: value for key, value in row.items() if key not in _RESTLESS}
