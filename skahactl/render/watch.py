"""A table that goes on: painted in place on a terminal, changed rows appended elsewhere."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from skahactl.context import Invocation
from skahactl.render.columns import VIEWS
from skahactl.render.layout import cells, column_widths, columns_of, plain_lines
from skahactl.render.streams import is_screen, one_line
from skahactl.render.tables import data_text
from skahactl.shapes import Row

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skahactl.render.terminal import Size

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
