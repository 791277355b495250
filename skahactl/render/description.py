"""``describe`` as text: what it is, how it stands, its time, its history."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skahactl.engine.outcome import busy_seconds
from skahactl.invocation import Invocation, has_colour, is_screen, one_line, shows_unicode, size_of
from skahactl.model import ALIVE, ENDED, OBSERVED, State
from skahactl.render.columns import REPLICA_NUMBER, cells, columns_of, counts_text, epoch, in_colour, plain_lines
from skahactl.render.outcomes import head, standing
from skahactl.render.tables import terminal_columns
from skahactl.text import count_noun, format_duration, format_ranges, time_ago, without_numbers, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from skahactl.ledger.records import AttemptRow
    from skahactl.profile import Profile

_ENDS: dict[str, str] = {State.FAILED: "x", State.REJECTED: "!", State.UNKNOWN: "~", State.DELETED: "d"}


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
    """Attempts with known times, in order; an unobserved end is the time of the last observation."""
    found = []
    for row in attempts:
        ended = now if row.state in ALIVE else row.finished or row.observed or row.started or row.created
        waits = row.started is None or row.pending_since is not None  # a server's start is when it was admitted
        started = None if waits else max(row.started or row.created, row.created)
        found.append(TimelineSpan(row.replica, row.number, row.state, row.created, started, max(ended, row.created)))
    return found


def timeline(
    attempts: Sequence[AttemptRow], now: float, *, width: int = 80, most: int = 60, unicode: bool = True
) -> list[str]:
    """Return a scale, and a line for each attempt. Of more than ``most`` attempts the extremes: those that ran longest,
    and a few that ran shortest; and how many are left out."""
    every = spans(attempts, now)
    if not every:
        return []
    shown = every
    if len(every) > most:
        ranked = sorted(every, key=lambda span: span.ran + span.waited)
        shortest = most // 4
        shown = sorted([*ranked[:shortest], *ranked[shortest - most :]], key=lambda span: (span.replica, span.attempt))
    first, last = min(span.created for span in every), max(span.ended for span in every)
    labels = [f"{span.replica}" + (f".{span.attempt}" if span.attempt > 1 else "") for span in shown]
    wide = max(map(len, labels))
    notes = [_note(span) for span in shown]
    bar = max(10, width - wide - 4 - max(map(len, notes)) - 2)
    lines = [f"{'':{wide}}  {_scale(first, last, bar)}"]
    for label, span, note in zip(labels, shown, notes, strict=True):
        lines.append(f"{label:>{wide}}  {_bar(span, first, last, bar, '░█' if unicode else '-#')}  {note}".rstrip())
    later = next((span for span in shown if span.attempt > 1), None)
    if later is not None:
        lines.append(f"{later.replica}.{later.attempt} = replica {later.replica}, attempt {later.attempt}")
    if len(every) > len(shown):
        lines.append(f"the longest and shortest of {len(every)} attempts; -o wide shows all")
    return lines


def run_times(attempts: Sequence[AttemptRow], now: float, *, width: int = 80, unicode: bool = True) -> list[str]:
    """Minimum, median and maximum of what completed, and a histogram of at most 8 rows. Nothing for fewer than 3."""
    done = sorted(
        (span for span in spans(attempts, now) if span.state == State.COMPLETED and span.started is not None),
        key=lambda span: span.ran,
    )
    if len(done) < 3:
        return []
    shortest, middle, longest = done[0], done[len(done) // 2], done[-1]
    text = (
        f"min {format_duration(shortest.ran)}, median {format_duration(middle.ran)}, "
        f"max {format_duration(longest.ran)} (replica {longest.replica})"
    )
    if longest.ran > 60 and longest.ran > 2 * middle.ran:
        text += ": the split is unbalanced"
    return [text, *_histogram([span.ran for span in done], width, "█" if unicode else "#")]


def _histogram(seconds: Sequence[float], width: int, mark: str) -> list[str]:
    """``  30 s - 45 s   12  ████████``; nothing where all are alike."""
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
    """Return the beginning and the length of the whole, over the bars."""
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
    if span.started is None and span.state in OBSERVED:  # it ended while no command polled
        return f"{span.state} {format_duration(span.waited)} after its create, start unknown"
    if span.started is None:
        return f"{span.state}, {waited}"
    ran = f"{'runs' if span.state == State.RUNNING else 'ran'} {format_duration(span.ran)}"
    return f"{'' if span.state in (State.COMPLETED, State.RUNNING) else span.state + ', '}{waited}, {ran}"


_LABEL = 12
_MOST_NOTES = 15


def description(
    context: Invocation, profile: Profile, data: Mapping[str, Any], attempts: Sequence[AttemptRow], now: float
) -> Iterator[str]:
    """Yield the lines of what commands.describe gathered: the verdict first, then why, how long, and the rest."""
    colour = has_colour(context.stdout, context.environ)
    paint = _Paint(colour)
    if "session" in data:
        yield from _session(data["session"], profile, now)
        return
    wide, unicode, width = context.output == "wide", shows_unicode(context.stdout), _width(context)
    yield paint.bold(head(data["job"]["name"], profile))
    yield paint.state(_verdict(data["job"], attempts, now, unicode), data["job"]["status"])
    yield from _section("Failures", _failures(data["replicas"], width, wide), paint)
    yield from _section("Run times", run_times(attempts, now, width=width, unicode=unicode), paint)
    screen, job = is_screen(context.stdout, context.environ), list(_job(data, now))
    if screen:
        job = [part for line in job for part in wrapped(line, width, _LABEL)]
    yield from _section("Job", job, paint)
    if wide or len(data["replicas"]) <= _FEW:
        yield from _section("Replicas", list(_replicas(data, wide, screen, now, paint)), paint)
    most = len(attempts) if wide else _MOST_SPANS
    lines = timeline(attempts, now, width=width, most=most, unicode=unicode)
    yield from _section("Timeline (waiting, then running)", lines, paint)
    yield from _section("Pending", list(_events(data["events"])), paint)
    yield from _section("History", list(_history(data["history"], now)), paint)


_FEW = 10  # replicas that are listed without -o wide
_MOST_SPANS = 16  # attempts in the timeline without -o wide
_MOST_FAILURES = 20  # different failures without -o wide


@dataclass(frozen=True, slots=True)
class _Paint:
    """Colours for a terminal; nothing elsewhere."""

    colour: bool

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text

    def state(self, text: str, state: str) -> str:
        """``text`` in the colour of a state."""
        return in_colour(text, state) if self.colour else text


def _verdict(job: Mapping[str, Any], attempts: Sequence[AttemptRow], now: float, unicode: bool) -> str:
    """``✗ Failed: 3 of 200 replicas failed, 1188/1200 items completed, in 1 h 2 min``."""
    status, counts, items = job["status"], job["counts"], job["items"]
    marks = {State.COMPLETED: ("✓", "ok"), State.FAILED: ("✗", "x"), State.UNKNOWN: ("~", "~")}
    mark = marks.get(status, ("▸", ">"))[not unicode]
    parts = [standing(status, counts).removeprefix(f"{status}: ").removeprefix(f"{status}, ")]
    if items["total"]:
        parts.append(f"{items['completed']}/{items['total']} items")
    begun = epoch(job["started"])
    if status in ENDED and (seconds := busy_seconds(attempts)):
        parts.append(f"in {format_duration(seconds)}")
    elif status not in ENDED and begun is not None:
        parts.append(f"for {format_duration(now - begun)}")
    reason = f" ({job['reason']})" if job["reason"] else ""
    return one_line(f"{mark} {status}: {', '.join(parts)}{reason}")


def _failures(rows: Sequence[Mapping[str, Any]], width: int, wide: bool) -> list[str]:
    """Return a line for each reason, with the replicas that have it; the most frequent first."""
    bad = (State.FAILED, State.REJECTED, State.UNKNOWN, State.SKIPPED)
    groups: dict[tuple[str, int | None, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] in bad:
            reason = row["reason"] or "no reason is known"
            groups.setdefault((row["state"], row["exit_code"], without_numbers(reason)), []).append(row)
    ranked = sorted(groups.values(), key=lambda alike: (-len(alike), alike[0]["replica"]))
    shown = ranked if wide else ranked[:_MOST_FAILURES]
    names = [_named([row["replica"] for row in alike]) for alike in shown]
    widest = max(map(len, names), default=0)
    lines = []
    for name, alike in zip(names, shown, strict=True):
        state = "" if alike[0]["state"] == State.FAILED else f"{alike[0]['state']}: "
        example = f"for example replica {alike[0]['replica']}: " if len({row["reason"] for row in alike}) > 1 else ""
        text = one_line(f"{name:<{widest}}  {state}{example}{alike[0]['reason'] or 'no reason is known'}")
        lines.append(text if wide or len(text) <= width else text[: width - 1] + "…")
    if len(ranked) > len(shown):
        lines.append(f"and {len(ranked) - len(shown)} other reasons; -o wide shows all")
    return lines


def _named(numbers: Sequence[int]) -> str:
    """``replica 3`` or ``12 replicas (1-10,17,20)``."""
    ranges = format_ranges(numbers)
    if len(numbers) == 1:
        return f"replica {ranges}"
    return f"{len(numbers)} replicas ({ranges if len(ranges) <= 24 else f'{numbers[0]}, ...'})"


def _job(data: Mapping[str, Any], now: float) -> Iterator[str]:
    job = data["job"]
    yield from _fields(
        {
            "Run": f"{job['run']}, {job['kind']}, {job['image']}",
            "Replicas": f"{job['replicas']}: {counts_text(job['counts'])}",
            "Items": _items(job["items"]),
            "Limits": _limits(job["limits"], job["attempts"]),
            "After": ", ".join(data["after"]),
            "Manifest": job["manifest"],
            "Usage": data["usage"]["summary"],
            "Advice": data["usage"]["advice"],
            "Created": _when(job["created"], now),
            "Started": _when(job["started"], now),
            "Ended": _when(job["ended"], now),
            "Observed": _when(job["observed"], now),
            "Deadline": job["deadline"],
            "Driver": _driver(job["driver"], now),
            "URL": next((row["url"] for row in data["replicas"] if row["url"]), None),
            "Logs": _logs(job["logs"], data["log_bytes"], data["keep_logs"]),
            "Shared": None if job["shared"] is None else f"{job['shared']} (REPLICA-ATTEMPT.log)",
        }
    )


def _session(row: Mapping[str, Any], profile: Profile, now: float) -> Iterator[str]:
    yield one_line(head(f"session {row.get('name') or row['id']}", profile))
    cores, ram, gpus = (row.get(key) for key in ("requestedCPUCores", "requestedRAM", "requestedGPUCores"))
    yield from _fields(
        {
            "Id": row["id"],
            "Kind": row.get("type"),
            "Status": row.get("status"),
            "Image": row.get("image"),
            "Resources": f"{cores} cores, {ram} GB, {gpus or 0} GPU" if cores and ram else "flexible",
            "In use": f"{row['cpuCoresInUse']} cores, {row.get('ramInUse')} GB" if row.get("cpuCoresInUse") else None,
            "Started": _when(row.get("startTime"), now),
            "Deadline": row.get("expiryTime"),
            "URL": row.get("connectURL"),
        }
    )


def _replicas(data: Mapping[str, Any], wide: bool, screen: bool, now: float, paint: _Paint) -> Iterator[str]:
    """Yield the table of replicas; each attempt before the last below its replica."""
    rows = data["replicas"]
    columns = [REPLICA_NUMBER, *columns_of("replicas", wide)[1:]]
    if not wide:  # what failed says why above
        columns = [column for column in columns if column.title != "REASON"]
    if screen:
        columns, _ = terminal_columns("replicas", columns, rows, now)
    lines = plain_lines(columns, cells(columns, rows, now), True, colour=paint.colour)
    if rows:
        yield lines[0]
    for line, row in zip(lines[1:], rows, strict=True):
        yield line
        for tried in row["tried"][:-1]:
            why = tried["reason"] or tried["last_line"]
            text = f"  attempt {tried['attempt']}  {tried['state']}  {tried['session'] or '-'}"
            yield one_line(text + (f": {why}" if why else ""))


def _events(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield one_line(f"replica {row['replica']}: {row['reason']}: {row['message']}")


def _history(rows: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    if len(rows) > _MOST_NOTES:
        yield f"{len(rows) - _MOST_NOTES} earlier ones; -o json has them all"
    for row in rows[-_MOST_NOTES:]:
        who = f"replica {row['replica']}: " if row["replica"] is not None else ""
        yield one_line(f"{time_ago(epoch(row['at']), now)}: {who}{row['text']}")


def _section(title: str, lines: Sequence[str], paint: _Paint) -> Iterator[str]:
    if lines:
        yield ""
        yield paint.bold(title)
        yield from (f"  {line}" for line in lines)


def _fields(values: Mapping[str, object]) -> Iterator[str]:
    """``Label       value``; what is unknown is left out."""
    for label, value in values.items():
        if value not in (None, ""):
            yield f"{label:<{_LABEL}}{one_line(str(value))}"


def _items(items: Mapping[str, int]) -> str | None:
    if not items["total"]:
        return None
    return f"{items['total']}: {items['completed']} completed, {items['failed']} failed"


def _limits(limits: Mapping[str, Any], attempts: int) -> str:
    parts = [f"{limits[key]} {key}" for key in ("alive", "pending") if limits[key] is not None]
    if limits["pending_timeout"] is not None:
        parts.append(f"pending for {format_duration(limits['pending_timeout'])}")
    if limits["failures"] is not None:
        parts.append(f"stop after {limits['failures']} failures")
    return ", ".join([*parts, f"{count_noun(attempts, 'attempt')} per replica"])


def _when(text: str | None, now: float) -> str | None:
    at = epoch(text)
    return None if at is None else f"{text} ({time_ago(at, now)})"


def _driver(driver: Mapping[str, Any] | None, now: float) -> str:
    if driver is None:
        return "none"
    return f"process {driver['pid']} on {driver['host']}, since {time_ago(epoch(driver['since']), now)}"


def _logs(folder: str | None, size: int, keep: str) -> str:
    if folder is None:
        return "not kept"
    which = "" if keep == "all" else f", of {keep} replicas"
    return f"{folder} ({_bytes(size)}{which})"


def _bytes(size: int) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= one:
            return f"{size / one:.1f} {unit}"
    return f"{size} bytes"


def _width(context: Invocation) -> int:
    """Of a terminal its own, less the margin; elsewhere a page's."""
    if not is_screen(context.stdout, context.environ):
        return 98
    return size_of(context.stdout)[0] - 2
