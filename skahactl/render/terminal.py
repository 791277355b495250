"""A picture on a terminal that is repainted in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich.console import Console, RenderableType

from skahactl.invocation import has_colour, make_displayable, size_of
from skahactl.text import wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Size = tuple[int, int]


def console(stream: TextIO, environ: Mapping[str, str], size: Size | None = None) -> Console:
    """Return a rich console for a stream that is a terminal. ``size``: columns and lines (default: those of the
    terminal)."""
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


class RepaintedDisplay:
    """The lower part of a terminal, which is painted again and again.

    Nothing else may write to the terminal meanwhile, except with ``above``. A new size clears the screen, since
    terminals treat lines that no longer fit in different ways.
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
        """Show what ``make`` returns for the size of the terminal; excess lines are cut."""
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
        """Set the title of the terminal; ``close`` restores the former one."""
        if text != self._title:
            self._write(("" if self._title is not None else "\x1b[22;0t") + f"\x1b]0;{text}\x07")
            self._title = text

    def above(self, text: str) -> None:
        """Print a line that stays above the picture; the next ``paint`` shows the picture again."""
        shown = "\n".join(wrapped(text, self._size_of()[0]))
        self._said.append(shown)
        del self._said[:-100]
        up = f"\x1b[{self._height}A" if self._height else ""
        self._write(f"\r{up}\x1b[J{shown}\n")
        self._height = 0

    def close(self, *, keep: bool = False) -> None:
        """Remove the picture (``keep``: leave it), show the cursor, and restore the title."""
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
        self._stream.write(make_displayable(text, self._stream, self._environ))
        self._stream.flush()
