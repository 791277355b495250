"""A job's attempts along one line of time: how long each replica waited and ran, as bars, so that an unbalanced split
is seen at a glance. Text alone, the same on a terminal and in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skahactl import states
from skahactl.durations import format_duration
from skahactl.ledger.records import AttemptRow

_ENDS = {states.FAILED: "x", states.REFUSED: "!", states.EXPIRED: "~", states.DELETED: "d"}


@dataclass(frozen=True, slots=True)
class TimelineSpan:
    """One attempt in time, epoch seconds. ``started`` is None if it never ran; ``ended`` is now for what is alive."""

    replica: int
    attempt: int
    state: str
    created: float
    started: float | None
    ended: float

    @property
    def waited(self) -> float:
        return max(0.0, (self.ended if self.started is None else self.started) - self.created)

    @property
    def ran(self) -> float:
        return 0.0 if self.started is None else max(0.0, self.ended - self.started)


def spans(attempts: Sequence[AttemptRow], now: float) -> list[TimelineSpan]:
    """Attempts whose times are known, in their order; the end of one that nobody saw is when it was last seen."""
    found = []
    for row in attempts:
        ended = now if row.state in states.ALIVE else row.finished or row.observed or row.started or row.created
        waits = row.started is None or row.pending_since is not None  # a server's start is when it was admitted
        started = None if waits else max(row.started or row.created, row.created)
        found.append(TimelineSpan(row.replica, row.number, row.state, row.created, started, max(ended, row.created)))
    return found


def timeline(
    attempts: Sequence[AttemptRow], now: float, *, width: int = 80, most: int = 60, unicode: bool = True
) -> list[str]:
    """A scale, a line for each attempt, and what the running times are like. Of more than ``most`` attempts those
    that ran longest, and how many are left out."""
    every = spans(attempts, now)
    if not every:
        return []
    shown = every
    if len(every) > most:
        longest = sorted(every, key=lambda span: span.ran + span.waited, reverse=True)[:most]
        shown = sorted(longest, key=lambda span: (span.replica, span.attempt))
    first, last = min(span.created for span in every), max(span.ended for span in every)
    labels = [f"{span.replica}" + (f".{span.attempt}" if span.attempt > 1 else "") for span in shown]
    wide = max(map(len, labels))
    notes = [_note(span) for span in shown]
    bar = max(10, width - wide - 4 - max(map(len, notes)) - 2)
    lines = [f"{'':{wide}}  {_scale(first, last, bar)}"]
    for label, span, note in zip(labels, shown, notes, strict=True):
        lines.append(f"{label:>{wide}}  {_bar(span, first, last, bar, '░█' if unicode else '-#')}  {note}".rstrip())
    if len(every) > len(shown):
        lines.append(f"and {len(every) - len(shown)} more that took less; -o wide shows them all")
    return [*lines, *_balance(every)]


def _scale(first: float, last: float, width: int) -> str:
    """The beginning and the length of the whole, over the bars."""
    end = format_duration(last - first)
    return f"0{end:>{max(1, width - 1)}}"


def _bar(span: TimelineSpan, first: float, last: float, width: int, fill: str) -> str:
    """``  ░░███x``: waiting, running, and a mark for an end that was not Completed."""
    whole = max(last - first, 1e-9)

    def place(at: float) -> int:
        return min(width, round((at - first) / whole * width))

    begin, end = place(span.created), place(span.ended)
    middle = end if span.started is None else place(span.started)
    if end == begin:  # never nothing
        begin, end = (begin, begin + 1) if begin < width else (begin - 1, begin)
        middle = end if span.started is None else begin
    text = " " * begin + fill[0] * (middle - begin) + fill[1] * (end - middle)
    mark = _ENDS.get(span.state)
    return f"{text[:-1] + mark if mark else text:<{width}}"


def _note(span: TimelineSpan) -> str:
    waited = f"waited {format_duration(span.waited)}"
    if span.started is None:
        return f"{span.state}, {waited}"
    ran = f"{'runs' if span.state == states.RUNNING else 'ran'} {format_duration(span.ran)}"
    return f"{'' if span.state in (states.COMPLETED, states.RUNNING) else span.state + ', '}{waited}, {ran}"


def _balance(every: Sequence[TimelineSpan]) -> list[str]:
    """The shortest, the middle and the longest run of what completed, and what that says of the split."""
    done = sorted(
        (span for span in every if span.state == states.COMPLETED and span.started is not None),
        key=lambda span: span.ran,
    )
    if len(done) < 3:
        return []
    shortest, middle, longest = done[0], done[len(done) // 2], done[-1]
    text = (
        f"completed ones ran {format_duration(shortest.ran)} at least, {format_duration(middle.ran)} in the middle, "
        f"{format_duration(longest.ran)} at most (replica {longest.replica})"
    )
    if longest.ran > 60 and longest.ran > 2 * middle.ran:
        text += ": the split is unbalanced"
    return [text]
