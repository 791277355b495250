"""Errors as people read them: on a terminal with the line of the file and carets below it, in a pipe one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from skahactl.errors import Declined, Guess, Problem, ProblemsError, SkahactlError
from skahactl.invocation import Invocation, has_colour, is_screen, one_line, shows_unicode, size_of
from skahactl.render.styles import paint
from skahactl.text import count_noun, display_width, wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping


def error_lines(context: Invocation, error: SkahactlError) -> list[str]:
    """Return the lines of an error for stderr."""
    colour = has_colour(context.stderr, context.environ)
    if isinstance(error, ProblemsError) and error.problems:
        if not is_screen(context.stderr, context.environ):
            # tools look for a place at the start of a line; a mistake without a place begins with error:
            placed = [(problem.line is not None or problem.key is not None, problem) for problem in error.problems]
            return [one_line(("" if has_place else "error: ") + problem.text()) for has_place, problem in placed]
        unicode = shows_unicode(context.stderr)
        return [
            line
            for file, problems in _by_file(error.problems).items()
            for line in _FilePage(file, problems, size_of(context.stderr)[0], colour, unicode).lines()
        ]
    where = f"{error.where}: " if error.where else ""
    begin = "" if isinstance(error, Declined) else f"{paint('error:', 'bold red', colour)} "
    lines = [f"{begin}{where}{line}" for line in error.message.splitlines() or [""]]
    return lines + [f"{paint('help:', 'bold', colour)} {line}" for line in (error.hint or "").splitlines()]


def _by_file(problems: Iterable[Problem]) -> Mapping[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.file, []).append(problem)
    return found


class _FilePage:
    """The mistakes of one file, in the order of its lines."""

    def __init__(self, file: str, problems: Sequence[Problem], columns: int, colour: bool, unicode: bool):
        self._file = "standard input" if file == "-" else one_line(file)
        self._problems = sorted(problems, key=lambda one: (one.line is None, one.line or 0, one.column or 0))
        self._columns = columns
        self._colour = colour
        self._bar, self._corner = ("│", "╭─") if unicode else ("|", ",-")
        numbers = [str(one.line) for one in self._problems if one.line is not None]
        self._gutter = max(map(len, numbers), default=1)

    def lines(self) -> Iterator[str]:
        if all(problem.line is None and problem.key is None for problem in self._problems):  # of the whole file
            for problem in self._problems:
                yield f"{paint('error:', 'bold red', self._colour)} {self._file}: {one_line(problem.message)}"
                yield from (
                    f"{paint('help:', 'bold', self._colour)} {one_line(line)}"
                    for line in (problem.hint or "").splitlines()
                )
            return
        mistakes = count_noun(len(self._problems), "mistake")
        yield f"{paint('error:', 'bold red', self._colour)} {self._file} has {mistakes}"
        first = self._problems[0]
        if first.line is not None:
            place = ":".join(str(part) for part in (self._file, first.line, first.column) if part is not None)
            yield f"{' ' * self._gutter} {self._blue(self._corner)} {place}"
        shown: int | None = None
        for problem in self._problems:
            if problem.source is not None and problem.line is not None and problem.column is not None:
                if problem.line != shown:
                    yield self._line(str(problem.line), self._window(problem)[0])
                yield from self._carets(problem)
                shown = problem.line
            else:
                number = "" if problem.line is None else str(problem.line)
                message = wrapped(one_line(problem.owner + problem.message), max(20, self._columns - self._gutter - 3))
                yield from (self._line(number * (place == 0), part) for place, part in enumerate(message))
            yield from self._help(problem)

    def _line(self, number: str, text: str) -> str:
        return f"{self._blue(f'{number:>{self._gutter}} {self._bar}')} {text}".rstrip()

    def _carets(self, problem: Problem) -> Iterator[str]:
        """Yield a line with carets below the mistake, and the message beside the carets, or below them if it does not
        fit."""
        text, column = self._window(problem)
        before = display_width(text[: column - 1])
        marked = max(1, display_width(text[column - 1 : column - 1 + problem.width]))
        message = self._words(problem)
        room = self._columns - self._gutter - 3
        if before + marked + 1 + display_width(message) <= room:
            yield self._line("", " " * before + paint(f"{'^' * marked} {message}", "bold red", self._colour))
            return
        yield self._line("", " " * before + paint("^" * marked, "bold red", self._colour))
        for line in wrapped(message, max(20, room)):
            yield self._line("", paint(line, "bold red", self._colour))

    def _words(self, problem: Problem) -> str:
        """Return the message, followed by a short guess if there is one."""
        guess = problem.hint if isinstance(problem.hint, Guess) else None
        return one_line(f"{problem.message}; {guess}" if guess else problem.message)

    def _help(self, problem: Problem) -> Iterator[str]:
        if problem.hint and not (isinstance(problem.hint, Guess) and problem.column is not None):
            for line in problem.hint.splitlines():
                text = f"{paint('help:', 'bold', self._colour)} {one_line(line)}"
                yield from (self._line("", part) for part in wrapped(text, max(20, self._columns - self._gutter - 3)))

    def _window(self, problem: Problem) -> tuple[str, int]:
        """Return the line of the file, or the part around the mistake that fits, and the column of the mistake in
        it."""
        text, column = one_line(problem.source or ""), problem.column or 1
        room = max(20, self._columns - self._gutter - 4)
        if len(text) <= room:
            return text, column
        start = max(0, min(column - 1 - room // 3, len(text) - room + 1))
        if start == 0:
            return text[: room - 1] + "…", column
        end = "…" if start + room - 1 < len(text) else ""
        return "…" + text[start : start + room - 1 - len(end)] + end, column - start + 1

    def _blue(self, text: str) -> str:
        return paint(text, "bold blue", self._colour)
