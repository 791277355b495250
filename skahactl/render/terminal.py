"""Terminals: colours of states, tables, and a picture that is repainted in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.text import Text

from skahactl.invocation import has_colour, size_of
from skahactl.render.columns import Column
from skahactl.render.states import STYLES
from skahactl.text import count_noun, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Size = tuple[int, int]
#: rich.table.Table takes 2.9 s for 5,000 rows of 9 columns, these functions 0.4 s; for 40 rows 30 ms and 3 ms.
_NARROWEST = 10  # what is cut keeps at least so much
_SHORTEST = 4  # and a title over numbers


def shorten_middle(text: str, width: int) -> str:
    """``psfex…/12``: the middle goes, since what distinguishes names is at their ends."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return set_cell_size(text, width)
    head = (width - 1) // 2
    tail = text[::-1]  # cut from its end
    return set_cell_size(text, head).rstrip() + "…" + set_cell_size(tail, width - 1 - head)[::-1].lstrip()


def console(stream: TextIO, environ: Mapping[str, str], size: Size | None = None) -> Console:
    """For a stream that is a terminal; ``size`` is columns and lines, its own if None."""
    width, height = size or size_of(stream)
    colour = has_colour(stream, environ)
    return Console(
        file=stream,
        force_terminal=True,
        color_system="standard" if colour else None,
        no_color=not colour,
        width=width,
        height=height,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ=environ,
    )


def styled(stream: TextIO, environ: Mapping[str, str], parts: Sequence[tuple[str, str]]) -> str:
    """Return one line of (text, style), with the escapes of this terminal."""
    screen = console(stream, environ)
    with screen.capture() as captured:
        screen.print(Text.assemble(*parts), soft_wrap=True, end="")
    return captured.get()


def print_table(
    screen: Console, columns: Sequence[Column], texts: Sequence[Sequence[str]], headers: bool, title: str | None = None
) -> None:
    """Fits the terminal if shortening the longest cells can do it; else it is whole, and the terminal wraps it."""
    widths = _fitting(columns, texts, screen.width) or _natural(columns, texts)
    if title is not None:
        screen.print(Text(title, style="bold"), soft_wrap=True)
    screen.print(_table(columns, texts, headers, widths), soft_wrap=True)


def watched_table(
    columns: Sequence[Column], texts: Sequence[Sequence[str]], headers: bool, size: Size, title: str | None = None
) -> RenderableType:
    """As much as a picture of this size has room for, and how many more rows there are."""
    widths = _fitting(columns, texts, size[0]) or _natural(columns, texts)
    above = [] if title is None else [Text(title, style="bold")]
    room = size[1] - 1 - headers - len(above)
    if len(texts) <= room:
        return Group(*above, _table(columns, texts, headers, widths))
    shown = max(1, room - 1)
    more = count_noun(len(texts) - shown, "more row")
    return Group(*above, _table(columns, texts[:shown], headers, widths), Text(f"and {more}", style="dim"))


def _table(columns: Sequence[Column], texts: Sequence[Sequence[str]], headers: bool, widths: Sequence[int]) -> Text:
    lines = [_line(columns, line, widths) for line in texts]
    if headers:
        titles = _line(columns, [column.title for column in columns], widths)
        titles.stylize("bold")
        lines.insert(0, titles)
    return Text("\n").join(lines)


def _line(columns: Sequence[Column], texts: Sequence[str], widths: Sequence[int]) -> Text:
    """Cells of these widths, two blanks between them."""
    line = Text()
    for column, text, width in zip(columns, texts, widths, strict=True):
        shown = shorten_middle(text, width) if column.cut == "middle" else text
        cell = Text(shown, style=STYLES.get(text, "") if column.is_state else "")
        cell.truncate(width, overflow="ellipsis")
        blanks = " " * (width - cell.cell_len)
        line.append(blanks if column.right else "").append_text(cell).append("  " if column.right else f"{blanks}  ")
    line.rstrip()
    return line


def _natural(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column without any cut, in cells of the terminal."""
    return [
        max([len(column.title), *(cell_len(line[place]) for line in texts)]) for place, column in enumerate(columns)
    ]


def _fitting(columns: Sequence[Column], texts: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Widths that fit, the widest columns made narrower first, and if need be the titles over numbers cut; keys are
    never cut. None if that would leave too little of one."""
    widths = _natural(columns, texts)
    for whole in (("never", "last"), ("never",)):
        least = [
            width if column.cut in whole else max(_NARROWEST, len(column.title))
            for column, width in zip(columns, widths, strict=True)
        ]
        _make_narrower(widths, least, room)
    numbers = [max([_SHORTEST, *(len(line[place]) for line in texts)]) for place in range(len(columns))]
    least = [numbers[place] if column.right else least[place] for place, column in enumerate(columns)]
    _make_narrower(widths, least, room)
    return widths if _whole(widths) <= room else None


def _make_narrower(widths: list[int], least: Sequence[int], room: int) -> None:
    """The widest first, none below its ``least``, until they fit or none is left."""
    while _whole(widths) > room:
        loose = [place for place, width in enumerate(widths) if width > least[place]]
        if not loose:
            return
        widest = max(loose, key=widths.__getitem__)
        second = max([widths[place] for place in loose if place != widest], default=0)
        widths[widest] = max(least[widest], second - 1, widths[widest] - (_whole(widths) - room))


def _whole(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


class RepaintedDisplay:
    """A part of the terminal, below what was written before, that is painted again and again.

    Nothing else may write to the terminal while it is shown, but through ``above``. A changed size clears the
    screen and paints anew, since terminals differ in what they do with lines that no longer fit.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str], size: Callable[[], Size] | None = None):
        self._stream = stream
        self._environ = environ
        self._size_of = size or (lambda: size_of(stream))
        self._size: Size | None = None
        self._height = 0
        self._said: list[str] = []
        self._title: str | None = None

    def paint(self, make: Callable[[Size], RenderableType]) -> None:
        """Show what ``make`` returns for the size of the terminal; what is too high is cut."""
        size = self._size_of()
        before = "" if self._size is not None else "\x1b[?25l"
        if self._size not in (None, size):
            before = "\x1b[H\x1b[2J" + "".join(f"{line}\n" for line in self._said[-max(1, size[1] // 3) :])
            self._height = 0
        self._size = size
        lines = self._rendered(make(size), size)[: size[1] - 1]
        up = f"\x1b[{self._height}A" if self._height else ""
        body = "".join(f"{line}\x1b[K\n" for line in lines)
        self._write(f"{before}\r{up}{body}\x1b[J")
        self._height = len(lines)

    def title(self, text: str) -> None:
        """Set the title of the terminal, and keep the former one for ``close``."""
        if text != self._title:
            self._write(("" if self._title is not None else "\x1b[22;0t") + f"\x1b]0;{text}\x07")
            self._title = text

    def above(self, text: str) -> None:
        """A line that stays, over the picture; the picture comes back with the next ``paint``."""
        shown = "\n".join(wrapped(text, self._size_of()[0]))
        self._said.append(shown)
        del self._said[:-100]
        up = f"\x1b[{self._height}A" if self._height else ""
        self._write(f"\r{up}\x1b[J{shown}\n")
        self._height = 0

    def close(self, *, keep: bool = False) -> None:
        """Take the picture away (or leave it, with ``keep``) and give the cursor back."""
        if self._size is None:
            return
        up = f"\x1b[{self._height}A" if self._height and not keep else ""
        title = "" if self._title is None else "\x1b[23;0t"
        self._write(f"\r{up}\x1b[J\x1b[?25h{title}")
        self._size, self._height = None, 0

    def _rendered(self, content: RenderableType, size: Size) -> list[str]:
        screen = console(self._stream, self._environ, size)
        with screen.capture() as captured:
            screen.print(content, overflow="ellipsis", no_wrap=True, crop=True)
        return captured.get().rstrip("\n").split("\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
