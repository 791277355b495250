"""``describe`` as text: what it is, how it stands, its time, its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skahactl.context import Invocation
from skahactl.durations import format_duration, time_ago
from skahactl.ledger.records import AttemptRow
from skahactl.profile import Profile
from skahactl.render.columns import epoch
from skahactl.render.layout import cells, columns_of, plain_lines
from skahactl.render.streams import is_screen, one_line, shows_unicode
from skahactl.render.summary import counts_text, head
from skahactl.render.timeline import timeline

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
