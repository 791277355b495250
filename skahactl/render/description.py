"""``describe`` as text: what it is, how it stands, its time, its history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skahactl.invocation import Invocation, is_screen, one_line, shows_unicode
from skahactl.model import ALIVE, State
from skahactl.render.columns import cells, columns_of, epoch, plain_lines
from skahactl.render.outcomes import counts_text, head
from skahactl.text import format_duration, time_ago

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
    """Attempts whose times are known, in their order; the end of one that nobody saw is when it was last seen."""
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
    ran = f"{'runs' if span.state == State.RUNNING else 'ran'} {format_duration(span.ran)}"
    return f"{'' if span.state in (State.COMPLETED, State.RUNNING) else span.state + ', '}{waited}, {ran}"


def _balance(every: Sequence[TimelineSpan]) -> list[str]:
    """The shortest, the middle and the longest run of what completed, and what that says of the split."""
    done = sorted(
        (span for span in every if span.state == State.COMPLETED and span.started is not None),
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


_LABEL = 12
_MOST_NOTES = 30


def description(
    context: Invocation, profile: Profile, data: Mapping[str, Any], attempts: Sequence[AttemptRow], now: float
) -> Iterator[str]:
    """The lines of what commands.describing gathered."""
    if "session" in data:
        yield from _session(data["session"], profile, now)
        return
    yield from _job(data, profile, now)
    yield from _replicas(data, context.output == "wide", now)
    most = len(attempts) if context.output == "wide" else 60
    lines = timeline(attempts, now, width=_width(context), most=most, unicode=shows_unicode(context.stdout))
    yield from _section("Timeline (waiting, then running)", lines)
    yield from _section("Why it is Pending", list(_events(data["events"])))
    yield from _section("History", list(_history(data["history"], now)))


def _job(data: Mapping[str, Any], profile: Profile, now: float) -> Iterator[str]:
    job = data["job"]
    yield head(job["name"], profile)
    status = job["status"] + (f": {job['reason']}" if job["reason"] else "")
    yield from _fields(
        {
            "Run": f"{job['run']}, {job['kind']}, {job['image']}",
            "Status": status,
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
        }
    )


def _session(row: Mapping[str, Any], profile: Profile, now: float) -> Iterator[str]:
    yield head(f"session {row.get('name') or row['id']}", profile)
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


def _replicas(data: Mapping[str, Any], wide: bool, now: float) -> Iterator[str]:
    """The table of replicas; each attempt before the last below its replica."""
    rows = data["replicas"]
    columns = columns_of("replicas", wide)
    lines = plain_lines(columns, cells(columns, rows, now), True)
    found = [lines[0]] if rows else []
    for line, row in zip(lines[1:], rows, strict=True):
        found.append(line)
        for tried in row["tried"][:-1]:
            why = f": {one_line(tried['reason'])}" if tried["reason"] else ""
            found.append(f"  attempt {tried['attempt']}  {tried['state']}  {tried['session'] or '-'}{why}")
    yield from _section("Replicas", found)


def _events(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield one_line(f"replica {row['replica']}: {row['reason']}: {row['message']}")


def _history(rows: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    if len(rows) > _MOST_NOTES:
        yield f"{len(rows) - _MOST_NOTES} earlier ones; -o json has them all"
    for row in rows[-_MOST_NOTES:]:
        who = f"replica {row['replica']}: " if row["replica"] is not None else ""
        yield one_line(f"{time_ago(epoch(row['at']), now)}: {who}{row['text']}")


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)


def _fields(values: Mapping[str, object]) -> Iterator[str]:
    """``Label       value``; what is unknown is left out."""
    for label, value in values.items():
        if value not in (None, ""):
            yield f"  {label:<{_LABEL}}{one_line(str(value))}"


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
    return ", ".join([*parts, f"{attempts} attempt{'s' if attempts > 1 else ''} a replica"])


def _when(text: str | None, now: float) -> str | None:
    at = epoch(text)
    return None if at is None else f"{text} ({time_ago(at, now)})"


def _driver(driver: Mapping[str, Any] | None, now: float) -> str:
    if driver is None:
        return "nobody"
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
    import shutil

    return shutil.get_terminal_size().columns - 2
