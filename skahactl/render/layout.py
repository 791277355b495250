"""Cells as texts, and how wide their columns are: a table before it is printed or painted."""

from __future__ import annotations

from collections.abc import Sequence

from skahactl.render.columns import VIEWS, Column
from skahactl.render.streams import one_line
from skahactl.shapes import Row

GAP = "  "


def columns_of(noun: str, wide: bool) -> list[Column]:
    return [column for column in VIEWS[noun].columns if wide or not column.wide]


def cells(columns: Sequence[Column], rows: Sequence[Row], now: float) -> list[list[str]]:
    """The text of every cell, each one line; ``-`` for what is unknown."""
    return [[_text(column.cell(row, now)) for column in columns] for row in rows]


def plain_lines(
    columns: Sequence[Column], texts: Sequence[Sequence[str]], headers: bool, widths: Sequence[int] | None = None
) -> list[str]:
    """One line a row, columns at least two blanks apart, nothing cut. ``widths``: at least so wide."""
    titles = [column.title for column in columns]
    widths = widths or column_widths(columns, texts)
    lines = [titles, *texts] if headers else texts
    return [_line(columns, line, widths) for line in lines]


def column_widths(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(len(column.title), *(len(line[place]) for line in texts)) if texts else len(column.title)
        for place, column in enumerate(columns)
    ]


def _line(columns: Sequence[Column], line: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        text.rjust(width) if column.right else text.ljust(width)
        for column, text, width in zip(columns, line, widths, strict=True)
    ]
    return GAP.join(parts).rstrip()


def _text(value: object) -> str:
    return "-" if value is None or value == "" else one_line(str(value))
