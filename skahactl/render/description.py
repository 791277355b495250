"""``describe`` as text: verdict, failures, run times, the job, its timeline and its history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skahactl.invocation import Invocation, has_colour, is_screen, one_line, shows_unicode, size_of
from skahactl.model import ENDED, State
from skahactl.render.columns import REPLICA_NUMBER, columns_of, epoch
from skahactl.render.outcomes import counts_text, head, standing
from skahactl.render.styles import paint, paint_state
from skahactl.render.tables import cells, plain_lines, terminal_columns
from skahactl.render.timeline import run_times, timeline
from skahactl.text import count_noun, format_duration, format_ranges, format_size, time_ago, without_numbers, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from skahactl.ledger.records import AttemptRow
    from skahactl.profile import Profile

_LABEL = 12
_MOST_NOTES = 15


def description(
    context: Invocation,
    profile: Profile,
    data: Mapping[str, Any],
    attempts: Sequence[AttemptRow],
    took: str | None,
    now: float,
) -> Iterator[str]:
    """Yield the lines for the data that commands.description gathered: the verdict, then failures, run times and the
    rest. ``took``: the time that an ended run took."""
    colour = has_colour(context.stdout, context.environ)
    if "session" in data:
        yield from _session(data["session"], profile, now)
        return
    wide, unicode, width = context.output == "wide", shows_unicode(context.stdout), _width(context)
    yield paint(head(data["job"]["name"], profile), "bold", colour)
    yield paint_state(_verdict(data["job"], took, now, unicode), data["job"]["status"], colour)
    yield from _section("Failures", _failures(data["replicas"], width, wide), colour)
    yield from _section("Run times", run_times(attempts, now, width=width, unicode=unicode), colour)
    screen, job = is_screen(context.stdout, context.environ), list(_job(data, now))
    if screen:
        job = [part for line in job for part in wrapped(line, width, _LABEL)]
    yield from _section("Job", job, colour)
    if wide or len(data["replicas"]) <= _FEW:
        yield from _section("Replicas", list(_replicas(data, wide, screen, now, colour)), colour)
    most = len(attempts) if wide else _MOST_SPANS
    lines = timeline(attempts, now, width=width, most=most, unicode=unicode)
    yield from _section("Timeline (waiting, then running)", lines, colour)
    yield from _section("Pending", list(_events(data["events"])), colour)
    yield from _section("History", list(_history(data["history"], now)), colour)


_FEW = 10  # replicas that are listed without -o wide
_MOST_SPANS = 16  # attempts in the timeline without -o wide
_MOST_FAILURES = 20  # different failures without -o wide


def _verdict(job: Mapping[str, Any], took: str | None, now: float, unicode: bool) -> str:
    """Return a line such as ``✗ Failed: 3 of 200 replicas failed, 1188/1200 items completed, in 1 h 2 min``."""
    status, counts, items = job["status"], job["counts"], job["items"]
    marks = {State.COMPLETED: ("✓", "ok"), State.FAILED: ("✗", "x"), State.UNKNOWN: ("~", "~")}
    mark = marks.get(status, ("▸", ">"))[not unicode]
    parts = [standing(status, counts).removeprefix(f"{status}: ").removeprefix(f"{status}, ")]
    if items["total"]:
        parts.append(f"{items['completed']}/{items['total']} items")
    begun = epoch(job["started"])
    if took:
        parts.append(f"in {took}")
    elif status not in ENDED and begun is not None:
        parts.append(f"for {format_duration(now - begun)}")
    reason = f" ({job['reason']})" if job["reason"] else ""
    return one_line(f"{mark} {status}: {', '.join(parts)}{reason}")


def _failures(rows: Sequence[Mapping[str, Any]], width: int, wide: bool) -> list[str]:
    """Return a line for each reason with the replicas that have it, the most frequent reason first."""
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
    """Return ``replica 3`` or ``12 replicas (1-10,17,20)``."""
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


def _replicas(data: Mapping[str, Any], wide: bool, screen: bool, now: float, colour: bool) -> Iterator[str]:
    """Yield the table of replicas, with the earlier attempts below each replica."""
    rows = data["replicas"]
    columns = [REPLICA_NUMBER, *columns_of("replicas", wide)[1:]]
    if not wide:  # the section of failures has the reasons
        columns = [column for column in columns if column.title != "REASON"]
    if screen:
        columns, _ = terminal_columns("replicas", columns, rows, now)
    lines = plain_lines(columns, cells(columns, rows, now), True, colour=colour)
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


def _section(title: str, lines: Sequence[str], colour: bool) -> Iterator[str]:
    if lines:
        yield ""
        yield paint(title, "bold", colour)
        yield from (f"  {line}" for line in lines)


def _fields(values: Mapping[str, object]) -> Iterator[str]:
    """Yield lines such as ``Label       value``, without unknown values."""
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
    return f"{folder} ({format_size(size)}{which})"


def _width(context: Invocation) -> int:
    """Return the width of the terminal without the margin; 98 elsewhere."""
    if not is_screen(context.stdout, context.environ):
        return 98
    return size_of(context.stdout)[0] - 2
