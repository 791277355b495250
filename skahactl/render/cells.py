"""The picture of a driver's progress: one cell per replica, counts and remarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from skahactl.engine.runtime import RunProgress
from skahactl.invocation import one_line
from skahactl.model import ENDED, State
from skahactl.render.outcomes import head_of, times_text
from skahactl.render.terminal import STYLES, Size
from skahactl.text import count_noun, format_duration, format_ranges

#: A different character for every state, so that no colour is needed: (with Unicode, without).
CELLS: dict[str, tuple[str, str]] = {
    State.COMPLETED: ("■", "#"),
    State.RUNNING: ("▸", ">"),
    State.PENDING: ("○", "o"),
    State.CREATING: ("+", "+"),
    State.UNCONFIRMED: ("?", "?"),
    State.QUEUED: ("·", "."),
    State.FAILED: ("✗", "x"),
    State.REJECTED: ("!", "!"),
    State.UNKNOWN: ("~", "~"),
    State.DELETED: ("-", "-"),
    State.SKIPPED: ("/", "/"),
}


#: Where one cell stands for several replicas it shows the one that a person would want to know of.
_TELLING = (
    State.FAILED,
    State.REJECTED,
    State.UNKNOWN,
    State.UNCONFIRMED,
    State.CREATING,
    State.RUNNING,
    State.PENDING,
    State.QUEUED,
    State.SKIPPED,
    State.DELETED,
    State.COMPLETED,
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
        lines.append(Text(f"  failed: {format_ranges(failed)}", style=STYLES[State.FAILED]))
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
    ranked = sorted(runs, key=lambda run: all(state in ENDED for state in run.states))
    lines = list(_one_line_each(ranked))
    if len(lines) > room:
        hidden = len(lines) - max(0, room - 1)
        lines = [*lines[: max(0, room - 1)], Text(f"and {count_noun(hidden, 'more job', 'more jobs')}", style="dim")]
    return Text("\n").join(lines)


def _one_line_each(runs: Sequence[RunProgress]) -> Iterator[Text]:
    for run in runs:
        line = _title(run)
        failed = _failed(run)
        done = run.summary.counts[State.COMPLETED]
        line.append(f", {done} of {len(run.states)} Completed")
        if failed:
            line.append(f", failed: {format_ranges(failed)}", style=STYLES[State.FAILED])
        yield line


def _failed(run: RunProgress) -> list[int]:
    return [number for number, state in enumerate(run.states, 1) if state in (State.FAILED, State.REJECTED)]
