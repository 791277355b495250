"""Attempts over time, as text: a bar for each, and their run times."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.model import ALIVE, OBSERVED, State
from skahactl.render.columns import is_upper_bound
from skahactl.text import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skahactl.ledger.records import AttemptRow

_ENDS: dict[str, str] = {State.FAILED: "x", State.REJECTED: "!", State.UNKNOWN: "~", State.DELETED: "d"}


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """One attempt over time, in epoch seconds. ``started`` is None if it never ran; ``ended`` is now for a live
    attempt."""

    row: AttemptRow
    created: float
    started: float | None
    ended: float

    @property
    def waited(self) -> float:
        return (self.ended if self.started is None else self.started) - self.created

    @property
    def ran(self) -> float:
        return 0.0 if self.started is None else self.ended - self.started

    @property
    def is_late(self) -> bool:
        """Whether the end was noticed so late that ``ran`` is only an upper bound."""
        return is_upper_bound(self.started, self.ended, self.row.finished_after)


def spans(attempts: Iterable[AttemptRow], now: float) -> list[AttemptSpan]:
    """Return a span for each attempt, in order. An unknown end is replaced by the last known time: last poll, start or
    create."""
    found = []
    for row in attempts:
        ended = now if row.state in ALIVE else row.finished or row.observed or row.started or row.created
        # while a session is Pending, the start that the server reports is only its admission
        waits = row.started is None or row.pending_since is not None
        started = None if waits else max(row.started or row.created, row.created)
        found.append(AttemptSpan(row, row.created, started, max(ended, started or row.created)))
    return found


def timeline(
    attempts: Sequence[AttemptRow], now: float, *, width: int = 80, most: int = 60, unicode: bool = True
) -> list[str]:
    """Return a scale and a line for each attempt. Of more than ``most`` attempts, only the longest and some of the
    shortest are shown (waiting included), and a last line gives the total."""
    every = spans(attempts, now)
    if not every:
        return []
    shown = every
    if len(every) > most:
        ranked = sorted(every, key=lambda span: span.ran + span.waited)
        shortest = most // 4
        shown = sorted(
            [*ranked[:shortest], *ranked[shortest - most :]], key=lambda span: (span.row.replica, span.row.number)
        )
    first, last = min(span.created for span in every), max(span.ended for span in every)
    labels = [f"{span.row.replica}" + (f".{span.row.number}" if span.row.number > 1 else "") for span in shown]
    wide = max(map(len, labels))
    notes = [_note(span) for span in shown]
    bar = max(10, width - wide - 4 - max(map(len, notes)) - 2)
    lines = [f"{'':{wide}}  {_scale(first, last, bar)}"]
    for label, span, note in zip(labels, shown, notes, strict=True):
        lines.append(f"{label:>{wide}}  {_bar(span, first, last, bar, '░█' if unicode else '-#')}  {note}".rstrip())
    later = next((span for span in shown if span.row.number > 1), None)
    if later is not None:
        lines.append(
            f"{later.row.replica}.{later.row.number} = replica {later.row.replica}, attempt {later.row.number}"
        )
    if len(every) > len(shown):
        lines.append(f"the longest and shortest of {len(every)} attempts; -o wide shows all")
    return lines


def run_times(attempts: Sequence[AttemptRow], now: float, *, width: int = 80, unicode: bool = True) -> list[str]:
    """Return the minimum, median and maximum run time of Completed attempts, and a histogram of at most 8 rows. Empty
    for fewer than 3 attempts."""
    done = sorted(
        (span for span in spans(attempts, now) if span.row.state == State.COMPLETED and span.started is not None),
        key=lambda span: span.ran,
    )
    if len(done) < 3:
        return []
    shortest, middle, longest = done[0], done[len(done) // 2], done[-1]
    text = (
        f"min {format_duration(shortest.ran)}, median {format_duration(middle.ran)}, "
        f"max {format_duration(longest.ran)} (replica {longest.row.replica})"
    )
    if longest.ran > 60 and longest.ran > 2 * middle.ran:
        text += ": the split is unbalanced"
    return [text, *_histogram([span.ran for span in done], width, "█" if unicode else "#")]


def _histogram(seconds: Sequence[float], width: int, mark: str) -> list[str]:
    """Return rows such as ``  30 s - 45 s   12  ████████``; empty if the times differ by less than 1 s or are fewer
    than 8."""
    low, high = math.floor(seconds[0]), seconds[-1]
    if high - seconds[0] < 1.0 or len(seconds) < _ROWS:
        return []
    step = max(1, math.ceil((high - low) / _ROWS))
    rows = min(_ROWS, int((high - low) // step) + 1)
    counts = [0] * rows
    for one in seconds:
        counts[min(rows - 1, int((one - low) // step))] += 1
    edges = [format_duration(low + row * step) for row in range(rows + 1)]
    labels = [f"{begin} - {end}" for begin, end in itertools.pairwise(edges)]
    left, middle = max(map(len, labels)), len(str(max(counts)))
    room = max(10, min(60, width - left - middle - 4))
    return [
        f"{label:>{left}}  {count:>{middle}}  {mark * (-(-count * room // max(counts)))}".rstrip()
        for label, count in zip(labels, counts, strict=True)
    ]


_ROWS = 8


def _scale(first: float, last: float, width: int) -> str:
    """Return the line above the bars: 0 and the total duration."""
    end = format_duration(last - first)
    return f"0{end:>{max(1, width - 1)}}"


def _bar(span: AttemptSpan, first: float, last: float, width: int, fill: str) -> str:
    """Return a bar such as ``  ░░███x``: waiting, running, and a mark for an end other than Completed."""
    whole = max(last - first, 1e-9)

    def place(at: float) -> int:
        return min(width, round((at - first) / whole * width))

    begin, end = place(span.created), place(span.ended)
    middle = end if span.started is None else place(span.started)
    if end == begin:  # every attempt is at least one character
        begin, end = (begin, begin + 1) if begin < width else (begin - 1, begin)
        middle = end if span.started is None else begin
    text = " " * begin + fill[0] * (middle - begin) + fill[1] * (end - middle)
    mark = _ENDS.get(span.row.state)
    return f"{text[:-1] + mark if mark else text:<{width}}"


def _note(span: AttemptSpan) -> str:
    waited = f"waited {format_duration(span.waited)}"
    if span.started is None and span.row.state in (*OBSERVED, State.UNKNOWN):  # it ended while no command polled
        return f"{span.row.state} {format_duration(span.waited)} after its create, start unknown"
    if span.started is None:
        return f"{span.row.state}, {waited}"
    ran = "runs" if span.row.state == State.RUNNING else "ran at most" if span.is_late else "ran"
    ran += f" {format_duration(span.ran)}"
    return f"{'' if span.row.state in (State.COMPLETED, State.RUNNING) else span.row.state + ', '}{waited}, {ran}"
