"""Rows that are watched: repainted in place on a terminal; elsewhere, each row is printed again when it changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from skahactl.invocation import Invocation, has_colour, is_screen, one_line, shows_unicode
from skahactl.model import State
from skahactl.render.columns import VIEWS, columns_of
from skahactl.render.tables import cells, column_widths, data_text, plain_lines, terminal_columns, terminal_lines
from skahactl.shapes import Row

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skahactl.render.terminal import Size

#: Fields that differ at every poll; their changes are ignored.
_RESTLESS = frozenset({"observed", "usage", "cpuCoresInUse", "ramInUse"})


class WatchedView(Protocol):
    def show(self, rows: Sequence[Row], now: float) -> None:
        """Show the current rows. ``now``: epoch seconds."""

    def say(self, text: str) -> None:
        """Show a message about the rows, such as an outage."""

    def close(self) -> None: ...


def watched_view(context: Invocation, noun: str, headers: bool) -> WatchedView:
    """Return the view for the requested format and for what stdout is."""
    if context.output in ("table", "wide") and is_screen(context.stdout, context.environ):
        return LiveTable(context, noun, headers)
    return AppendedRows(context, noun, headers)


#: States in the order in which a watched table shows them.
_URGENT = (State.FAILED, State.REJECTED, State.UNKNOWN, State.RUNNING, State.UNCONFIRMED, State.CREATING, State.PENDING)


def _urgency(row: Row) -> int:
    state = row.get("state", row.get("status"))
    rank = next((place for place, one in enumerate(_URGENT) if one == state), len(_URGENT))
    return rank + (state == State.COMPLETED)


class LiveTable:
    """A repainted table: Failed and Running rows first, as many as fit. The last table stays on the screen after
    ``close``."""

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
        from rich.text import Text

        columns, title = terminal_columns(self._noun, self._columns, rows, now, self._unicode)
        texts = cells(columns, sorted(rows, key=_urgency), now)

        def make(size: Size) -> RenderableType:
            lines = terminal_lines(columns, texts, size[0], headers=self._headers, title=title, most=size[1] - 1)
            return Text.from_ansi("\n".join(lines)) if rows else f"no {self._noun}"

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
    """Prints every row once, and again whenever it changes. The widths are those of the first rows."""

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
        if context.machine_readable:  # the list has no end yet, so each row is a line
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
    """Return what identifies a row at every poll."""
    return (*(row.get(field) for field in ("server", "job", "run", "replica", "position")), VIEWS[noun].name(row))


def _news(row: Row) -> Mapping[str, object]:
    return {key: value for key, value in row.items() if key not in _RESTLESS}
