"""What a driver tells, as a person sees it: a picture on a terminal, plain lines elsewhere (engine.report.Reporter)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from rich.text import Text

from skahactl import ranges, states
from skahactl.context import Invocation
from skahactl.durations import format_duration
from skahactl.engine.runtime import Reporter, RunProgress, SilentReporter
from skahactl.render.outcomes import head_of, standing, times_text
from skahactl.render.streams import is_screen, one_line
from skahactl.render.terminal import STYLES, Size
from skahactl.words import count_noun

if TYPE_CHECKING:
    from skahactl.render.terminal import RepaintedDisplay


Monotonic = Callable[[], float]


def reporter(context: Invocation) -> Reporter:
    """For stderr as it is: LiveReporter on a terminal, PlainReporter elsewhere and with TERM=dumb; with ``-q``
    neither."""
    if context.quiet:
        return SilentReporter()
    if is_screen(context.stderr, context.environ):
        return LiveReporter(context.stderr, context.environ)
    return PlainReporter(context.stderr)


class PlainReporter:
    """A line when a job's counts change, at most one every ``interval`` seconds a job. A stream that is gone is no
    reason to stop working: what cannot be told is not told."""

    def __init__(self, stream: TextIO, *, monotonic: Monotonic = time.monotonic, interval: float = 5.0):
        self._stream = stream
        self._monotonic = monotonic
        self._interval = interval
        self._told: dict[int, tuple[float, str]] = {}
        self._due: dict[int, str] = {}
        self._reasons: set[tuple[int, str]] = set()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(one_line(text) + "\n")
            self._stream.flush()

    def progress(self, runs: Sequence[RunProgress]) -> None:
        for run in runs:
            key = run.summary.run.id
            line = f"{head_of(run.summary.run)}: {standing(run.summary.status, run.summary.counts)}"
            at, before = self._told.get(key, (float("-inf"), ""))
            if line == before:
                self._due.pop(key, None)
            elif self._monotonic() - at >= self._interval:
                self._tell(key, line)
            else:
                self._due[key] = line
            self._say_why(run)

    def close(self, *, told: bool = False) -> None:
        """Tells what was held back, unless it is ``told`` already."""
        for key, line in list(self._due.items()):
            if not told:
                self._tell(key, line)
        self._due.clear()

    def _say_why(self, run: RunProgress) -> None:
        """What Pending replicas wait for, each reason once."""
        key = run.summary.run.id
        for number, words in run.why:
            if (key, words) not in self._reasons:
                self._reasons.add((key, words))
                self.say(f"{head_of(run.summary.run)}: replica {number} is Pending: {words}")

    def _tell(self, key: int, line: str) -> None:
        self._due.pop(key, None)
        self._told[key] = (self._monotonic(), line)
        self.say(line)


class LiveReporter:
    """A picture of every job, painted at each poll and, for its clock and for a resize, every ``tick`` seconds. The
    terminal may be closed meanwhile; the work goes on.

    One thread alone writes to the terminal: an interrupt reaches the main thread only, so it can come between what
    was written and what is remembered of it nowhere.
    """

    def __init__(
        self,
        stream: TextIO,
        environ: Mapping[str, str],
        *,
        monotonic: Monotonic = time.monotonic,
        tick: float = 1.0,
        size: Callable[[], Size] | None = None,
    ):
        from skahactl.render.streams import shows_unicode
        from skahactl.render.terminal import RepaintedDisplay

        self._stream = stream
        self._picture: RepaintedDisplay = RepaintedDisplay(stream, environ, size)
        self._unicode = shows_unicode(stream)
        self._monotonic = monotonic
        self._tick = tick
        self._changed = threading.Condition()
        self._said: list[str] = []
        self._runs: tuple[RunProgress, ...] = ()
        self._at = 0.0
        self._news = self._closed = False
        self._thread = threading.Thread(target=self._keep_painting, name="progress", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        with self._changed:
            self._said.append(one_line(text))
            self._tell()

    def progress(self, runs: Sequence[RunProgress]) -> None:
        with self._changed:
            self._runs, self._at = tuple(runs), self._monotonic()
            self._tell()

    def close(self, *, told: bool = False) -> None:
        """Everything said is on the terminal then, and the picture is gone. What is said later is a plain line."""
        del told
        with self._changed:
            self._closed = True
            self._tell()
        self._thread.join()

    def _tell(self) -> None:
        if not self._thread.is_alive():
            self._write_said()
        self._news = True
        self._changed.notify()

    def _keep_painting(self) -> None:
        closed = False
        while not closed:
            with self._changed:
                self._changed.wait_for(lambda: self._news, self._tick)
                said, runs, at, closed = self._said, self._runs, self._at, self._closed
                self._said, self._news = [], False
            with contextlib.suppress(OSError):
                for line in said:
                    self._picture.above(line)
                if not closed:
                    self._paint(runs, at)
        with contextlib.suppress(OSError):
            self._picture.close()

    def _write_said(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.write("".join(f"{line}\n" for line in self._said))
            self._stream.flush()
        self._said = []

    def _paint(self, runs: Sequence[RunProgress], at: float) -> None:

        if not runs:
            return
        passed = self._monotonic() - at
        later = [replace(run, now=run.now + passed, longest=_later(run, passed)) for run in runs]
        self._picture.paint(lambda size: draw(later, size, self._unicode))


def _later(run: RunProgress, passed: float) -> tuple[tuple[int, float], ...]:
    return tuple((number, seconds + passed) for number, seconds in run.longest)


#: A different character for every state, so that no colour is needed: (with Unicode, without).
CELLS = {
    states.COMPLETED: ("■", "#"),
    states.RUNNING: ("▸", ">"),
    states.PENDING: ("○", "o"),
    states.UNSETTLED: ("?", "?"),
    states.HELD: ("·", "."),
    states.FAILED: ("✗", "x"),
    states.REFUSED: ("!", "!"),
    states.EXPIRED: ("~", "~"),
    states.DELETED: ("-", "-"),
    states.SKIPPED: ("/", "/"),
}

#: Where one cell stands for several replicas it shows the one that a person would want to know of.
_TELLING = (
    states.FAILED,
    states.REFUSED,
    states.EXPIRED,
    states.UNSETTLED,
    states.RUNNING,
    states.PENDING,
    states.HELD,
    states.SKIPPED,
    states.DELETED,
    states.COMPLETED,
)
_GROUP = 10  # cells between blanks


def draw(runs: Sequence[RunProgress], size: Size, unicode: bool = True) -> Text:
    """The picture for a terminal of ``size``; lines are cut by whoever paints it."""
    columns, lines = size
    room = lines - 1
    above = [[_title(run), *_counts(run, columns, unicode)] for run in runs]
    below = [_remarks(run, columns) for run in runs]
    spare = room - sum(map(len, above)) - sum(map(len, below)) - (len(runs) - 1)
    if spare < 0:
        return _crowded(runs, room)
    shown: list[Text] = []
    for place, run in enumerate(runs):
        grid = _grid(run, columns, spare // (len(runs) - place), unicode)
        spare -= len(grid)
        shown += [*([Text()] if place else []), *above[place], *grid, *below[place]]
    return Text("\n").join(shown)


def _remarks(run: RunProgress, columns: int) -> list[Text]:
    """Who failed, who takes longest, and why what is Pending is."""
    lines: list[Text] = []
    failed = _failed(run)
    if failed:
        lines.append(Text(f"  failed: {ranges.format_ranges(failed)}", style=STYLES[states.FAILED]))
    if run.longest:
        lines.append(Text(_longest(run, columns), style="dim"))
    for number, words in run.why[:2]:
        lines.append(Text(one_line(f"  replica {number} is Pending: {words}"), style="yellow"))
    return lines


def _title(run: RunProgress) -> Text:
    status = run.summary.status
    title = Text.assemble((head_of(run.summary.run), "bold"), ": ", (status, STYLES.get(status, "")))
    times = times_text(run)
    return title.append(f", {times}") if times else title


def _counts(run: RunProgress, columns: int, unicode: bool) -> list[Text]:
    """``■ 12 Completed  ▸ 4 Running  of 16``, in as many lines as it needs."""
    present = [(state, run.summary.counts[state]) for state in CELLS if run.summary.counts[state]]
    parts = [Text(f"{CELLS[state][not unicode]} {number} {state}", style=STYLES[state]) for state, number in present]
    lines = [Text()]
    for part in [*parts, Text(f"of {sum(number for _, number in present)}")]:
        if lines[-1].cell_len + 2 + part.cell_len > columns and lines[-1].cell_len:
            lines.append(Text())
        lines[-1].append("  ").append_text(part)
    return lines


def _longest(run: RunProgress, columns: int) -> str:
    """As many stragglers as fit, the longest first."""
    text = "  longest running:"
    for place, (number, seconds) in enumerate(run.longest):
        more = f"{',' if place else ''} replica {number} ({format_duration(seconds)})"
        if place and len(text) + len(more) > columns:
            break
        text += more
    return text


def _grid(run: RunProgress, columns: int, room: int, unicode: bool) -> list[Text]:
    """A cell a replica, in rows that begin with the number of their first; one for several where room is short."""
    if room < 1 or len(run.states) < 2:
        return []
    label = len(str(len(run.states))) + 4
    width = _cells_in(columns - label)
    share = -(-len(run.states) // (width * room))
    if share > 1 and room < 2:
        return []
    if share > 1:
        share = -(-len(run.states) // (width * (room - 1)))
    cells = [_most_telling(run.states[first : first + share]) for first in range(0, len(run.states), share)]
    rows = [_row(cells, first, width, share, label, unicode) for first in range(0, len(cells), width)]
    if share > 1:
        rows.append(Text(f"  each cell is {count_noun(share, 'replica')} and shows the worst of them", style="dim"))
    return rows


def _cells_in(columns: int) -> int:
    """Cells in a row of so many columns, with a blank after each group of them; whole groups where one fits."""
    whole = (columns + 1) // (_GROUP + 1) * _GROUP
    return whole or max(1, columns)


def _row(cells: Sequence[str], first: int, width: int, share: int, label: int, unicode: bool) -> Text:
    row = Text(f"{first * share + 1:>{label - 2}}  ", style="dim")
    for place, state in enumerate(cells[first : first + width]):
        if place and place % _GROUP == 0:
            row.append(" ")
        row.append(CELLS[state][not unicode], style=STYLES[state])
    return row


def _most_telling(chosen: Sequence[str]) -> str:
    return chosen[0] if len(chosen) == 1 else min(chosen, key=_TELLING.index)


def _crowded(runs: Sequence[RunProgress], room: int) -> Text:
    """More jobs than lines: one line each, those that have not ended first."""
    ranked = sorted(runs, key=lambda run: all(state in states.ENDED for state in run.states))
    lines = list(_one_line_each(ranked))
    if len(lines) > room:
        hidden = len(lines) - max(0, room - 1)
        lines = [*lines[: max(0, room - 1)], Text(f"and {count_noun(hidden, 'more job', 'more jobs')}", style="dim")]
    return Text("\n").join(lines)


def _one_line_each(runs: Sequence[RunProgress]) -> Iterator[Text]:
    for run in runs:
        line = _title(run)
        failed = _failed(run)
        done = run.summary.counts[states.COMPLETED]
        line.append(f", {done} of {len(run.states)} Completed")
        if failed:
            line.append(f", failed: {ranges.format_ranges(failed)}", style=STYLES[states.FAILED])
        yield line


def _failed(run: RunProgress) -> list[int]:
    return [number for number, state in enumerate(run.states, 1) if state in (states.FAILED, states.REFUSED)]
