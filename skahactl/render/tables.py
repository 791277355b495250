"""Rows of shapes.py as a table or as data, on stdout. rich is imported for a terminal alone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from skahactl.errors import UsageError
from skahactl.invocation import Invocation, has_colour, is_screen, one_line, shows_unicode
from skahactl.model import State
from skahactl.render.columns import (
    REPLICA,
    REPLICA_NUMBER,
    SHARE,
    VIEWS,
    Column,
    cells,
    column_widths,
    columns_of,
    plain_lines,
)
from skahactl.shapes import Row
from skahactl.spelling import did_you_mean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skahactl.render.terminal import Size


def show_rows(
    context: Invocation,
    noun: str,
    rows: Sequence[Row],
    *,
    headers: bool = True,
    raw: object = None,
    now: float | None = None,
    place: str = "",
) -> None:
    """``rows`` of ``noun`` in the format that was asked for.

    Tables show times relative to ``now`` (epoch seconds). ``raw`` is what data formats print instead of the rows,
    where the platform's own answer is one object. No rows: a table says on stderr that there are none
    in the ``place``, and prints nothing.
    """
    if context.output in ("table", "wide"):
        if rows:
            _show_table(context, noun, rows, headers, time.time() if now is None else now)
        else:
            context.say(f"no {noun}{place}")
    elif context.output == "name":
        for row in rows:
            context.out(one_line(VIEWS[noun].name(row)))
    else:
        data = rows if raw is None or context.output == "csv" else raw
        context.data(data_text(context.output, data, headers=headers))


def data_text(output: str, data: Any, *, headers: bool = True) -> str:
    """``data`` as json, yaml (JSON is YAML), jsonl (a line for each row) or csv."""
    rows: Sequence[Row] = [data] if isinstance(data, dict) else data
    if output == "csv":
        return _csv_text(rows, headers)
    if output == "jsonl":
        return "".join(_json_text(row) + "\n" for row in rows)
    return _json_text(data, indent=2) + "\n"


def _json_text(data: object, indent: int | None = None) -> str:
    """JSON has no NaN and no infinity: where a server gives such a number, null."""
    try:
        return json.dumps(data, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(data), parse_constant=lambda _: None)
        return json.dumps(finite, ensure_ascii=False, indent=indent)


def _csv_text(rows: Sequence[Row], headers: bool) -> str:
    """Return a column for each field, those of nested tables with a dot (``counts.Failed``); words of a list with
    blanks between them, and nothing for what is unknown."""
    import csv
    import io

    flat = [dict(_flattened(row, "")) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if headers and names:
        writer.writerow(names)
    writer.writerows([row.get(name) for name in names] for row in flat)
    return text.getvalue()


def _flattened(row: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield prefix + key, " ".join(map(str, value))
        else:
            yield prefix + key, value


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
    if is_screen(context.stdout, context.environ):
        from skahactl.render import terminal

        columns, title = terminal_columns(noun, columns, rows, now, shows_unicode(context.stdout))
        console = terminal.console(context.stdout, context.environ)
        terminal.print_table(console, columns, cells(columns, rows, now), headers, title if headers else None)
        return
    texts = cells(columns, rows, now)
    lines = plain_lines(columns, texts, headers, colour=has_colour(context.stdout, context.environ))
    context.stdout.write("".join(f"{line}\n" for line in lines))


_NOTHING = frozenset({"-", "0", "1/1", "0/1", " "})  # one attempt of one is nothing to show, either


def terminal_columns(
    noun: str, columns: Sequence[Column], rows: Sequence[Row], now: float, unicode: bool = True
) -> tuple[list[Column], str | None]:
    """Return the columns that a terminal shows of these rows, and a title above them.

    Replicas of one job are numbers below a title with the job. Columns that hold nothing are left out, but for keys
    and states.
    """
    shown, title = list(columns), None
    jobs = {(row.get("job"), row.get("run")) for row in rows} if noun in ("replicas", "items") else set()
    if len(jobs) == 1 and shown[0] is REPLICA:
        ((job, run),) = jobs
        shown[0], title = REPLICA_NUMBER, one_line(f"{job}, run {run}")
    if noun == "stats" and unicode:
        shown.append(SHARE)
    keep = [(column.cut == "never" and place == 0) or column.is_state for place, column in enumerate(shown)]
    empty = [all(text in _NOTHING for text in texts) for texts in zip(*cells(shown, rows, now), strict=True)]
    return [column for column, kept, gone in zip(shown, keep, empty, strict=True) if kept or not gone], title


def _value_of(noun: str, name: str, rows: Sequence[Row]) -> Callable[[Row], Any]:
    """Return the field or the column that ``name`` means: a field as it is written, a column, or a field in other
    letters."""
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
    """Return numbers before words, lists by their length, texts that are numbers as numbers."""
    if isinstance(value, list | tuple):
        return 0, float(len(value))
    if isinstance(value, int | float):
        return 0, float(value)
    try:
        return 0, float(str(value))
    except ValueError:
        return 1, str(value)


#: Fields that change at every poll without being a change.
_RESTLESS = frozenset({"observed", "cpuCoresInUse", "ramInUse"})


class WatchedView(Protocol):
    def show(self, rows: Sequence[Row], now: float) -> None:
        """The rows as they are now (epoch seconds)."""

    def say(self, text: str) -> None:
        """A message about them, such as an outage."""

    def close(self) -> None: ...


def watched_view(context: Invocation, noun: str, headers: bool) -> WatchedView:
    """For stdout as it is and the format that was asked for."""
    if context.output in ("table", "wide") and is_screen(context.stdout, context.environ):
        return LiveTable(context, noun, headers)
    return AppendedRows(context, noun, headers)


#: What a person looks for first in a table that is watched.
_URGENT = (State.FAILED, State.REJECTED, State.UNKNOWN, State.RUNNING, State.UNCONFIRMED, State.CREATING, State.PENDING)


def _urgency(row: Row) -> int:
    state = row.get("state", row.get("status"))
    rank = next((place for place, one in enumerate(_URGENT) if one == state), len(_URGENT))
    return rank + (state == State.COMPLETED)


class LiveTable:
    """Failed and running rows first, as many as fit. The last table stays on the screen when it is closed."""

    def __init__(self, context: Invocation, noun: str, headers: bool):
        from skahactl.render.terminal import RepaintedDisplay

        self._context = context
        self._picture = RepaintedDisplay(context.stdout, context.environ)
        self._unicode = shows_unicode(context.stdout)
        self._noun = noun
        self._headers = headers
        self._columns = columns_of(noun, context.output == "wide")
        self._make: Callable[[Size], RenderableType] | None = None

    def show(self, rows: Sequence[Row], now: float) -> None:
        from skahactl.render import terminal

        columns, title = terminal_columns(self._noun, self._columns, rows, now, self._unicode)
        texts = cells(columns, sorted(rows, key=_urgency), now)

        def make(size: Size) -> RenderableType:
            if not rows:
                return f"no {self._noun}"
            return terminal.watched_table(columns, texts, self._headers, size, title if self._headers else None)

        self._make = make
        self._paint()

    def _paint(self) -> None:
        if self._make is not None:
            self._picture.paint(self._make)

    def say(self, text: str) -> None:
        context = self._context
        if not is_screen(context.stderr, context.environ):
            context.warn(text)
            return
        self._picture.above(one_line(text))
        self._paint()

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
        self._begun = False

    def show(self, rows: Sequence[Row], now: float) -> None:
        current = {_key(self._noun, row): _news(row) for row in rows}
        changed = [row for row in rows if self._before.get(_key(self._noun, row)) != _news(row)]
        first = not self._begun
        self._begun = self._begun or bool(rows)
        self._before = current
        self._write(changed, now, first)
        self._context.stdout.flush()

    def say(self, text: str) -> None:
        self._context.warn(text)

    def close(self) -> None:
        return None

    def _write(self, rows: Sequence[Row], now: float, first: bool) -> None:
        context = self._context
        if context.machine_readable:  # while the list continues, each row is a line
            output = "csv" if context.output == "csv" else "jsonl"
            context.data(data_text(output, rows, headers=self._headers and first) if rows else "")
        elif context.output == "name":
            context.stdout.write("".join(one_line(VIEWS[self._noun].name(row)) + "\n" for row in rows))
        elif rows:
            columns = columns_of(self._noun, context.output == "wide")
            texts = cells(columns, rows, now)
            self._widths = self._widths or column_widths(columns, texts)
            colour = has_colour(context.stdout, context.environ)
            lines = plain_lines(columns, texts, self._headers and first, self._widths, colour=colour)
            context.stdout.write("".join(f"{line}\n" for line in lines))


def _key(noun: str, row: Row) -> tuple[object, ...]:
    """Return what makes a row the same one at every look."""
    return (*(row.get(field) for field in ("server", "job", "run", "replica", "position")), VIEWS[noun].name(row))


def _news(row: Row) -> Mapping[str, object]:
    return {key: value for key, value in row.items() if key not in _RESTLESS}
