"""Which columns each noun's table has, drawn from the rows of shapes.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from skahactl.invocation import one_line
from skahactl.model import State
from skahactl.text import format_duration

if TYPE_CHECKING:
    from skahactl.shapes import Row

Cell = Callable[[Mapping[str, Any], float], object]


@dataclass(frozen=True, slots=True)
class Column:
    """``cell`` gives the text of a row at a time (epoch seconds); None and "" are shown as ``-``. ``by``: what rows are
    sorted by, where it is not the cell."""

    title: str
    cell: Cell
    wide: bool = False  # only with -o wide
    right: bool = False
    is_state: bool = False  # coloured by state
    by: Callable[[Mapping[str, Any]], object] | None = None

    def rank(self, row: Mapping[str, Any]) -> object:
        """What ``row`` is sorted by; None where it is unknown."""
        return self.cell(row, 0.0) if self.by is None else self.by(row)


@dataclass(frozen=True, slots=True)
class View:
    """A noun's columns, and what ``-o name`` prints of a row: a word that other commands take as a target."""

    columns: tuple[Column, ...]
    name: Callable[[Mapping[str, Any]], str]


def epoch(text: object) -> float | None:
    """Seconds of an ISO time; None for what is none, as a platform may have it."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _field(key: str, title: str | None = None, **options: bool) -> Column:
    return Column(title or key.upper(), lambda row, now: row.get(key), by=lambda row: row.get(key), **options)


def _since(key: str, title: str, **options: bool) -> Column:
    """How long ago a time was."""

    def cell(row: Mapping[str, Any], now: float) -> str | None:
        at = epoch(row.get(key))
        return None if at is None else format_duration(now - at)

    return Column(title, cell, by=lambda row: row.get(key), **options)


def _until(key: str, title: str, **options: bool) -> Column:
    def cell(row: Mapping[str, Any], now: float) -> str | None:
        at = epoch(row.get(key))
        return (
            None
            if at is None
            else f"in {format_duration(at - now)}"
            if at > now
            else f"{format_duration(now - at)} ago"
        )

    return Column(title, cell, by=lambda row: row.get(key), **options)


def _count(state: str) -> Column:
    return Column(state.upper(), lambda row, now: row["counts"][state], right=True)


_REST = (State.CREATING, State.UNCONFIRMED, State.REJECTED, State.UNKNOWN, State.DELETED, State.SKIPPED)


def _other_counts(row: Mapping[str, Any], now: float) -> str:
    return ", ".join(f"{row['counts'][state]} {state}" for state in _REST if row["counts"][state])


def _items_done(row: Mapping[str, Any], now: float) -> str | None:
    items = row["items"]
    return f"{items['completed']}/{items['total']}" if items["total"] else None


def _ran(row: Mapping[str, Any], now: float) -> str | None:
    """How long it ran, or has been running; None where an end is not known."""
    started, finished = epoch(row["started"]), epoch(row["finished"])
    if started is None:
        return None
    if finished is not None:
        return format_duration(finished - started)
    return format_duration(now - started) if row["state"] == State.RUNNING else None


def _ran_seconds(row: Mapping[str, Any]) -> float | None:
    """The same as a number; of what runs, until it was last looked at."""
    started, finished = epoch(row["started"]), epoch(row["finished"])
    if finished is None and row["state"] == State.RUNNING:
        finished = epoch(row["observed"])
    return None if started is None or finished is None else finished - started


def _sizes(row: Mapping[str, Any], now: float) -> str:
    wanted = row["resources"]
    if wanted["cores"] is None and wanted["ram"] is None:
        return "flexible" + (f", {wanted['gpus']} GPU" if wanted["gpus"] else "")
    parts = [f"{wanted['cores']:g} cores" if wanted["cores"] else "", f"{wanted['ram']:g} GB" if wanted["ram"] else ""]
    return ", ".join([part for part in parts if part] + ([f"{wanted['gpus']} GPU"] if wanted["gpus"] else []))


def _log(row: Mapping[str, Any], now: float) -> str | None:
    path = row["log"]["path"]
    if path is None:
        return "empty" if row["log"]["bytes"] == 0 else None
    return str(path) + ("" if row["log"]["complete"] else " (incomplete)")


def _owner(row: Mapping[str, Any]) -> str:
    """``tiles/3``, or nothing where it is none of ours."""
    ours = row.get("skahactl", row)
    return f"{ours['job']}/{ours['replica']}" if ours and ours.get("job") else ""


def _owner_rank(row: Mapping[str, Any]) -> str | None:
    """By job, then by number."""
    name, _, number = _owner(row).partition("/")
    return f"{name} {number:>9}" if name else None


_REPLICA = Column("REPLICA", lambda row, now: _owner(row), by=_owner_rank)

_JOBS = View(
    (
        _field("name"),
        _field("run", right=True),
        _field("status", is_state=True),
        Column(
            "COMPLETED",
            lambda row, now: f"{row['counts'][State.COMPLETED]}/{row['replicas']}",
            right=True,
            by=lambda row: row["counts"][State.COMPLETED],
        ),
        _count(State.RUNNING),
        _count(State.PENDING),
        _count(State.QUEUED),
        _count(State.FAILED),
        Column("OTHER", _other_counts, by=lambda row: sum(row["counts"][state] for state in _REST)),
        _since("created", "AGE"),
        _since("ended", "ENDED", wide=True),
        Column(
            "ITEMS", _items_done, wide=True, by=lambda row: row["items"]["completed"] if row["items"]["total"] else None
        ),
        _until("deadline", "DEADLINE", wide=True),
        _field("image", wide=True),
        _field("user", wide=True),
        _field("manifest", wide=True),
        Column(
            "DRIVER", lambda row, now: row["driver"] and f"{row['driver']['pid']}@{row['driver']['host']}", wide=True
        ),
        _field("reason", wide=True),
    ),
    lambda row: str(row["name"]),
)

_REPLICAS = View(
    (
        _REPLICA,
        _field("state", is_state=True),
        Column("ATTEMPT", lambda row, now: f"{row['attempt']}/{row['attempts']}", right=True),
        _field("session"),
        Column("ITEMS", lambda row, now: len(row["items"]) or None, right=True),
        _since("started", "STARTED"),
        Column("TIME", _ran, by=_ran_seconds),
        _field("reason"),
        _field("run", wide=True, right=True),
        _field("name", wide=True),
        Column("RESOURCES", _sizes, wide=True, by=lambda row: row["resources"]["cores"]),
        _until("deadline", "DEADLINE", wide=True),
        Column("LOG", _log, wide=True, by=lambda row: row["log"]["bytes"]),
        _field("url", wide=True),
    ),
    _owner,
)

_ITEMS = View(
    (
        _REPLICA,
        _field("item"),
        _field("state", is_state=True),
        _field("attempt", right=True),
        _field("exit_code", "EXIT", right=True),
        _field("position", wide=True, right=True),
        _field("run", wide=True, right=True),
    ),
    lambda row: str(row["item"]),
)

_SESSIONS = View(
    (
        _field("id"),
        _field("name"),
        _field("type", "KIND"),
        _field("status", is_state=True),
        _since("startTime", "STARTED"),
        _REPLICA,
        _field("image", wide=True),
        _field("requestedCPUCores", "CORES", wide=True, right=True),
        _field("requestedRAM", "RAM", wide=True, right=True),
        _field("requestedGPUCores", "GPUS", wide=True, right=True),
        _field("cpuCoresInUse", "CORES USED", wide=True, right=True),
        _field("ramInUse", "RAM USED", wide=True, right=True),
        _until("expiryTime", "DEADLINE", wide=True),
        _field("connectURL", "URL", wide=True),
    ),
    lambda row: str(row["id"]),
)

_EVENTS = View(
    (
        Column("REPLICA", lambda row, now: _owner(row) or row["session"], by=_owner_rank),
        _field("type"),
        _field("reason"),
        _since("last", "SEEN"),
        _field("message"),
        _field("session", wide=True),
        _since("first", "FIRST", wide=True),
    ),
    lambda row: str(row["session"]),
)

_IMAGES = View(
    (
        _field("id", "IMAGE"),
        Column("KINDS", lambda row, now: ",".join(sorted(map(str, row.get("types") or ())))),
        _field("digest", wide=True),
    ),
    lambda row: str(row["id"]),
)

_PAIRS = View((_field("name"), _field("value")), lambda row: str(row["name"]))

#: Jobs on every server, with a column for the profile.
ALL_PROFILES = "jobs of all profiles"

VIEWS: dict[str, View] = {
    "jobs": _JOBS,
    ALL_PROFILES: View((_field("profile"), *(one for one in _JOBS.columns if one.title != "PROFILE")), _JOBS.name),
    "replicas": _REPLICAS,
    "items": _ITEMS,
    "sessions": _SESSIONS,
    "events": _EVENTS,
    "images": _IMAGES,
    "resources": _PAIRS,
    "stats": _PAIRS,
}


def pairs(data: Mapping[str, object]) -> list[Row]:
    """Nested data as rows of ``name`` (dotted) and ``value``: lists of consecutive numbers as ranges."""
    found: list[Row] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            found.extend({"name": f"{key}.{row['name']}", "value": row["value"]} for row in pairs(value))
        else:
            found.append({"name": key, "value": _listed(value)})
    return found


def _listed(value: object) -> object:
    if not isinstance(value, list):
        return value
    if value and all(isinstance(part, int) and part > 0 for part in value):
        from skahactl.text import format_ranges

        return format_ranges(value)
    return ", ".join(map(str, value))


GAP = "  "


def columns_of(noun: str, wide: bool) -> list[Column]:
    return [column for column in VIEWS[noun].columns if wide or not column.wide]


def cells(columns: Sequence[Column], rows: Sequence[Row], now: float) -> list[list[str]]:
    """The text of every cell, each one line; ``-`` for what is unknown."""
    return [[_text(column.cell(row, now)) for column in columns] for row in rows]


def plain_lines(
    columns: Sequence[Column], texts: Sequence[Sequence[str]], headers: bool, widths: Sequence[int] | None = None
) -> list[str]:
    """One line a row, columns at least two blanks apart, nothing cut. ``widths``: at least so wide."""
    titles = [column.title for column in columns]
    widths = widths or column_widths(columns, texts)
    lines = [titles, *texts] if headers else texts
    return [_line(columns, line, widths) for line in lines]


def column_widths(columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(len(column.title), *(len(line[place]) for line in texts)) if texts else len(column.title)
        for place, column in enumerate(columns)
    ]


def _line(columns: Sequence[Column], line: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        text.rjust(width) if column.right else text.ljust(width)
        for column, text, width in zip(columns, line, widths, strict=True)
    ]
    return GAP.join(parts).rstrip()


def _text(value: object) -> str:
    return "-" if value is None or value == "" else one_line(str(value))
