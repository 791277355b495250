"""The geometry of a report's charts: pure functions from times and values to coordinates.

Horizontal coordinates are percentages of a chart's width, so that a chart stretches with the page and its text does
not. Vertical coordinates are pixels.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skahactl.engine.progress import most_at_once
from skahactl.text import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from skahactl.render.timeline import AttemptSpan

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
_IDLE_SHARE = 0.5  # an idle time is shortened if it is longer than this part of the busy time
_IDLE_WIDTH = 4.0  # percent of the width for each shortened time
_NARROWEST = 0.08  # percent, so that the shortest attempt is visible
_MOST_ROWS = 120  # if there are more replicas, attempts share rows
_MOST_HEIGHT = 640.0  # pixels of rows, as long as each row keeps its least height
_LEAST_ROW = 2.0
_TALLEST_ROW = 20.0
_MOST_SAMPLES = 480  # points of the concurrency chart
_MOST_BINS = 30


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Idle:
    """A shortened time in which nothing was alive."""

    x: float
    width: float
    label: str


class TimeScale:
    """Maps times to percentages of the width. Long idle times are shortened, so that a retry on the next day does not
    squeeze everything else."""

    def __init__(self, spans: Iterable[tuple[float, float]]):
        """Create the scale for at least one of ``spans``: times (start, end) in which something was alive."""
        busy = list(_merged(spans))
        active = sum(end - start for start, end in busy) or 1.0
        self._segments: list[tuple[float, float]] = []
        for start, end in busy:
            if self._segments and start - self._segments[-1][1] <= _IDLE_SHARE * active:
                self._segments[-1] = (self._segments[-1][0], end)
            else:
                self._segments.append((start, end))
        gaps = len(self._segments) - 1
        gap_width = min(_IDLE_WIDTH, 40.0 / gaps) if gaps else 0.0
        lengths = [end - start for start, end in self._segments]
        per_second = (100.0 - gaps * gap_width) / (sum(lengths) or 1.0)
        self.start = self._segments[0][0]
        self.end = self._segments[-1][1]
        self._left: list[float] = []
        x = 0.0
        for length in lengths:
            self._left.append(x)
            x += length * per_second + gap_width
        self._per_second = per_second
        self._gap_width = gap_width

    def x(self, at: float) -> float:
        place = max(0, bisect_right(self._segments, at, key=lambda segment: segment[0]) - 1)
        start, end = self._segments[place]
        return self._left[place] + (min(max(at, start), end) - start) * self._per_second

    def at(self, x: float) -> float:
        """Return the time at a percentage of the width; within a shortened time, the end of the busy time before it."""
        place = max(0, bisect_right(self._left, x) - 1)
        start, end = self._segments[place]
        return min(end, start + (x - self._left[place]) / self._per_second)

    @property
    def idle(self) -> tuple[Idle, ...]:
        pairs = zip(self._segments, self._segments[1:], strict=False)
        return tuple(
            Idle(left - self._gap_width, self._gap_width, f"{format_duration(after[0] - before[1])} idle")
            for left, (before, after) in zip(self._left[1:], pairs, strict=True)
        )

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Round times since the start, far enough apart to be readable."""
        visible = sum(end - start for start, end in self._segments)
        step = next((step for step in _STEPS if visible / step <= 8), 604800 * math.ceil(visible / 604800 / 8))
        found: list[Tick] = []
        for start, end in self._segments:
            first = math.ceil((start - self.start) / step)
            for number in range(first, int((end - self.start) / step) + 1):
                x = self.x(self.start + number * step)
                if not found or x - found[-1].x >= 7:
                    found.append(Tick(x, format_duration(number * step) if number else "0"))
        return tuple(found)


def _merged(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the union of the spans, in order."""
    current: tuple[float, float] | None = None
    for start, end in sorted(spans):
        if current is None or start > current[1]:
            if current is not None:
                yield current
            current = (start, max(start, end))
        else:
            current = (current[0], max(current[1], end))
    if current is not None:
        yield current


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt in the timeline: the time it waited, then the time it ran."""

    span: AttemptSpan
    y: float
    waiting: tuple[float, float] | None  # x, width
    running: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Timeline:
    bars: tuple[Bar, ...]
    height: float
    row_height: float  # of a bar, without the space below it
    labels: tuple[tuple[float, str], ...]  # (y of the middle, replica), empty where rows are shared
    rows: int


def timeline(spans: Sequence[AttemptSpan], scale: TimeScale) -> Timeline:
    """Return the bars of all attempts: a row per replica, or with many replicas, rows that attempts share one after
    another."""
    replicas = sorted({span.row.replica for span in spans})
    is_shared = len(replicas) > _MOST_ROWS
    if is_shared:
        rows = _shared_rows(spans)
    else:
        row_of = {replica: row for row, replica in enumerate(replicas)}
        rows = [row_of[span.row.replica] for span in spans]
    count = max(rows, default=-1) + 1
    pitch = min(_TALLEST_ROW, max(_LEAST_ROW, _MOST_HEIGHT / max(1, count)))
    height = pitch - (4 if pitch >= 16 else 2 if pitch >= 8 else 1 if pitch >= 5 else 0.4)
    bars = tuple(_bar(span, row * pitch, scale) for span, row in zip(spans, rows, strict=True))
    every = max(1, math.ceil(14 / pitch))
    labels = tuple(
        (row * pitch + height / 2, str(replica))
        for row, replica in enumerate(replicas)
        if not is_shared and (row % every == 0)
    )
    return Timeline(bars, count * pitch, height, labels, count)


def _shared_rows(spans: Sequence[AttemptSpan]) -> list[int]:
    """Return for each attempt the lowest row that is free for its whole duration."""
    order = sorted(range(len(spans)), key=lambda at: (spans[at].created, spans[at].ended, spans[at].row.replica))
    rows = [0] * len(spans)
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    for place in order:
        while busy and busy[0][0] <= spans[place].created:
            heapq.heappush(free, heapq.heappop(busy)[1])
        rows[place] = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (spans[place].ended, rows[place]))
    return rows


def _bar(span: AttemptSpan, y: float, scale: TimeScale) -> Bar:
    begin = span.ended if span.started is None else span.started
    waiting = _extent(scale, span.created, begin) if begin > span.created or span.started is None else None
    running = _extent(scale, begin, span.ended) if span.started is not None else None
    return Bar(span, y, waiting, running)


def _extent(scale: TimeScale, start: float, end: float) -> tuple[float, float]:
    left, right = scale.x(start), scale.x(end)
    width = max(_NARROWEST, right - left)
    return min(left, 100.0 - width), width


@dataclass(frozen=True, slots=True)
class Sample:
    x: float
    width: float
    running: int  # the largest number in this interval
    alive: int  # the largest number of running and waiting together
    since: float  # seconds since the start


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many attempts ran and waited at the same time: the largest number in each interval."""

    samples: tuple[Sample, ...]
    top: int  # of the axis
    peak: int  # largest number of running attempts
    steps: tuple[int, ...]  # labelled values of the axis, from the lowest

    def path(self, *, alive: bool) -> str:
        """Return an SVG path of the filled steps, in a box 1000 wide and 100 high."""
        parts = ["M0 100"]
        for sample in self.samples:
            value = sample.alive if alive else sample.running
            y = _rounded(100 - 100 * value / self.top)
            parts.append(f"L{_rounded(sample.x * 10)} {y}H{_rounded((sample.x + sample.width) * 10)}")
        return "".join(parts) + f"L{_rounded(1000)} 100Z"


def concurrency(spans: Sequence[AttemptSpan], scale: TimeScale) -> Concurrency:
    changes: list[tuple[float, int, int]] = []  # time, change of running, change of alive
    for span in spans:
        changes += [(span.created, 0, 1), (span.ended, 0, -1)]
        if span.started is not None:
            changes += [(span.started, 1, 0), (span.ended, -1, 0)]
    changes.sort()
    samples: list[Sample] = []
    running = alive = place = 0
    width = 100.0 / _MOST_SAMPLES
    for number in range(_MOST_SAMPLES):
        until = scale.at((number + 1) * width)
        most_running, most_alive = running, alive
        while place < len(changes) and (changes[place][0] < until or number == _MOST_SAMPLES - 1):
            at = changes[place][0]
            while place < len(changes) and changes[place][0] == at:  # changes at the same time count as one
                running += changes[place][1]
                alive += changes[place][2]
                place += 1
            most_running, most_alive = max(most_running, running), max(most_alive, alive)
        since = scale.at(number * width) - scale.start
        samples.append(Sample(number * width, width, most_running, most_alive, since))
    top, steps = _axis(max(sample.alive for sample in samples))
    peak = most_at_once((span.started, span.ended) for span in spans if span.started is not None)
    return Concurrency(tuple(samples), top, peak, steps)


def _axis(most: int) -> tuple[int, tuple[int, ...]]:
    """Return the top of an axis that holds ``most``, and its labelled values."""
    step = _nice_step(max(1, most) / 4)
    step = max(1, round(step))
    top = step * max(1, math.ceil(most / step))
    return top, tuple(range(0, top + 1, step))


def _nice_step(raw: float) -> float:
    power = 10 ** math.floor(math.log10(raw)) if raw > 0 else 1
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)


@dataclass(frozen=True, slots=True)
class Bin:
    """``parts``: (state, count), drawn from the bottom."""

    x: float
    width: float
    low: float
    high: float
    parts: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        return sum(count for _, count in self.parts)


@dataclass(frozen=True, slots=True)
class Histogram:
    bins: tuple[Bin, ...]
    top: int
    steps: tuple[int, ...]
    ticks: tuple[Tick, ...]
    marks: tuple[Tick, ...]  # vertical lines: the median, a request
    is_logarithmic: bool = False


def histogram_of_times(values: Sequence[tuple[float, str]]) -> Histogram | None:
    """Return the histogram of run times (seconds, state). The axis is logarithmic if the longest is at least 40 times
    the median."""
    if not values:
        return None
    times = sorted(seconds for seconds, _ in values)
    median = times[len(times) // 2]
    if median > 0 and times[-1] / median >= 40 and times[0] > 0:
        return _logarithmic(values, times, median)
    edges = _linear_edges(0.0 if times[0] < times[-1] * 0.5 else times[0], times[-1], _time_step)
    ticks = _sparse([Tick(_share(edge, edges), short_time(edge)) for edge in edges])
    return _filled(values, edges, ticks, (Tick(_share(median, edges), f"median {short_time(median)}"),))


def histogram_of_values(used: Sequence[float], requested: float | None) -> Histogram | None:
    """Return the histogram of what replicas used, with a line for the request if it is within the range of the
    values."""
    if not used:
        return None
    edges = _linear_edges(0.0, max(used), _nice_step)
    ticks = _sparse([Tick(_share(edge, edges), f"{edge:.4g}") for edge in edges])
    marks: tuple[Tick, ...] = ()
    if requested is not None and requested <= edges[-1]:
        marks = (Tick(_share(requested, edges), "requested"),)
    return _filled([(value, "used") for value in used], edges, ticks, marks)


def short_time(seconds: float) -> str:
    """Format a duration like ``text.format_duration``, but with a decimal below 10 seconds."""
    return f"{seconds:.2g} s" if 0 < seconds < 9.95 and seconds != round(seconds) else format_duration(seconds)


def _linear_edges(low: float, high: float, step_of: Callable[[float], float]) -> list[float]:
    step = step_of(max(high - low, high * 0.3, 1e-6) / 20)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [number * step for number in range(first, last + 1)]


def _time_step(raw: float) -> float:
    return next((float(step) for step in _STEPS if step >= raw), raw) if raw >= 1 else _nice_step(raw)


def _logarithmic(values: Sequence[tuple[float, str]], times: Sequence[float], median: float) -> Histogram:
    low, high = math.log10(times[0]), math.log10(times[-1])
    count = _MOST_BINS
    edges = [10 ** (low + (high - low) * number / count) for number in range(count + 1)]
    edges[0], edges[-1] = times[0], times[-1]

    def x(value: float) -> float:
        return 100.0 * (math.log10(value) - low) / (high - low)

    round_times = [float(step) for step in _STEPS if times[0] <= step <= times[-1]]
    ticks = _sparse([Tick(x(step), short_time(step)) for step in round_times])
    found = _filled(values, edges, ticks, (Tick(x(median), f"median {short_time(median)}"),))
    width = 100.0 / count
    bins = tuple(Bin(number * width, width, one.low, one.high, one.parts) for number, one in enumerate(found.bins))
    return Histogram(bins, found.top, found.steps, found.ticks, found.marks, is_logarithmic=True)


def _filled(
    values: Sequence[tuple[float, str]], edges: Sequence[float], ticks: Sequence[Tick], marks: tuple[Tick, ...]
) -> Histogram:
    counts: list[dict[str, int]] = [{} for _ in edges[1:]]
    for value, kind in values:
        place = min(max(bisect_right(edges, value) - 1, 0), len(counts) - 1)
        counts[place][kind] = counts[place].get(kind, 0) + 1
    width = 100.0 / len(counts)
    bins = tuple(
        Bin(number * width, width, edges[number], edges[number + 1], tuple(sorted(parts.items())))
        for number, parts in enumerate(counts)
    )
    top, steps = _axis(max(one.total for one in bins))
    return Histogram(bins, top, steps, tuple(ticks), marks)


def _share(value: float, edges: Sequence[float]) -> float:
    return 100.0 * (value - edges[0]) / (edges[-1] - edges[0])


def _sparse(ticks: Sequence[Tick]) -> list[Tick]:
    """Return the ticks without those that are too close to the one before."""
    found: list[Tick] = []
    for tick in ticks:
        if not found or tick.x - found[-1].x >= 12:
            found.append(tick)
    return found


def _rounded(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
