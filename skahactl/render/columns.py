"""The columns of each noun's table, computed from the rows of shapes.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from skahactl.model import State
from skahactl.profiles import shown_name
from skahactl.text import format_amount, format_duration, format_ranges, format_resources

if TYPE_CHECKING:
    from skahactl.shapes import Row

Cell = Callable[[Mapping[str, Any], float], object]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    ``cell`` returns the text of a row at a time (epoch seconds); None and "" are shown as ``-``. ``by`` returns the
    sort key of a row, if it is not the cell. ``cut`` is where a terminal shortens a text: at its "end"; at its end, but
    after all other columns ("last", for times); in the "middle" (for names, which differ at their ends); in the middle
    after those, as far as the rows stay distinct ("key"); or "never" (for ids and states).
    """

    title: str
    cell: Cell
    wide: bool = False  # only with -o wide
    right: bool = False
    is_state: bool = False  # coloured by state
    cut: str = "end"
    by: Callable[[Mapping[str, Any]], object] | None = None

    def rank(self, row: Mapping[str, Any]) -> object:
        """Return the sort key of ``row``; None if it is unknown."""
        return self.cell(row, 0.0) if self.by is None else self.by(row)


@dataclass(frozen=True, slots=True)
class View:
    """The columns of a noun, and ``name``: what ``-o name`` prints for a row, a word that other commands take as a
    target."""

    columns: tuple[Column, ...]
    name: Callable[[Mapping[str, Any]], str]


def epoch(text: object) -> float | None:
    """Return the epoch seconds of an ISO time; None for anything else, which a server may send."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _field(key: str, title: str | None = None, cut: str = "end", **options: bool) -> Column:
    return Column(title or key.upper(), lambda row, now: row.get(key), by=lambda row: row.get(key), cut=cut, **options)


def _since(key: str, title: str, *, wide: bool = False, suffix: str = " ago") -> Column:
    """Return a column with the time passed since the time in ``key``."""

    def cell(row: Mapping[str, Any], now: float) -> str | None:
        at = epoch(row.get(key))
        return None if at is None else format_duration(now - at) + suffix

    return Column(title, cell, wide, cut="last", by=lambda row: row.get(key))


def _until(key: str, title: str, *, wide: bool = False) -> Column:
    def cell(row: Mapping[str, Any], now: float) -> str | None:
        at = epoch(row.get(key))
        return (
            None
            if at is None
            else f"in {format_duration(at - now)}"
            if at > now
            else f"{format_duration(now - at)} ago"
        )

    return Column(title, cell, wide, cut="last", by=lambda row: row.get(key))


def _count(state: str) -> Column:
    return Column(state.upper(), lambda row, now: row["counts"][state], right=True)


_REST = (State.CREATING, State.UNCONFIRMED, State.REJECTED, State.UNKNOWN, State.DELETED, State.SKIPPED)


def _other_counts(row: Mapping[str, Any], now: float) -> str:
    return ", ".join(f"{row['counts'][state]} {state}" for state in _REST if row["counts"][state])


def _items_done(row: Mapping[str, Any], now: float) -> str | None:
    items = row["items"]
    return f"{items['completed']}/{items['total']}" if items["total"] else None


def _ran(row: Mapping[str, Any], now: float) -> str | None:
    """Return how long a replica ran or has been running; None if that is unknown."""
    if row["ran"] is not None:
        return ("≤ " if _is_late(row) else "") + format_duration(row["ran"])
    started = epoch(row["started"])
    return format_duration(now - started) if started is not None and row["state"] == State.RUNNING else None


def _is_late(row: Mapping[str, Any]) -> bool:
    """Return whether the end was noticed so late that the run time is an upper bound."""
    return is_upper_bound(*(epoch(row.get(key)) for key in ("started", "finished", "finished_after")))


def is_upper_bound(started: float | None, finished: float | None, after: float | None) -> bool:
    """Return whether a run time is only an upper bound: the end was between ``after`` and ``finished``, and these are
    far apart."""
    if started is None or finished is None or after is None:
        return False
    return finished - after > max(2.0, (finished - started) / 10)


def _ran_seconds(row: Mapping[str, Any]) -> float | None:
    """Return the run time in seconds; of a Running replica, until its last poll."""
    started, observed = epoch(row["started"]), epoch(row["observed"])
    if row["state"] == State.RUNNING and started is not None and observed is not None:
        return observed - started
    ran: float | None = row["ran"]
    return ran


def _sizes(row: Mapping[str, Any], now: float) -> str:
    return format_resources(row["resources"])


def _ram_peak(row: Mapping[str, Any], now: float) -> str | None:
    """Return ``3.1/32 GB``: the highest memory in any poll, and the request."""
    peak, requested = row["usage"]["ram_peak_gb"], row["usage"]["ram_requested_gb"]
    return None if peak is None else f"{format_amount(peak)}{f'/{requested:g}' if requested else ''} GB"


def _cpu_mean(row: Mapping[str, Any], now: float) -> str | None:
    """Return ``0.9/8``: the mean cores over all polls, and the request."""
    mean, requested = row["usage"]["cpu_mean_cores"], row["usage"]["cpu_requested"]
    return None if mean is None else f"{format_amount(mean)}{f'/{requested:g}' if requested else ''}"


def _log(row: Mapping[str, Any], now: float) -> str | None:
    path = row["log"]["path"]
    if path is None and row["log"]["complete"] and row["log"]["shared"] is not None:
        return str(row["log"]["shared"])
    if path is None:
        return "empty" if row["log"]["bytes"] == 0 else None
    return str(path) + ("" if row["log"]["complete"] else " (incomplete)")


def _owner(row: Mapping[str, Any]) -> str:
    """Return ``tiles/3``; "" for a session that belongs to no job here."""
    ours = row.get("skahactl", row)
    return f"{ours['job']}/{ours['replica']}" if ours and ours.get("job") else ""


def _owner_rank(row: Mapping[str, Any]) -> str | None:
    """Return a sort key: by job, then by number."""
    name, _, number = _owner(row).partition("/")
    return f"{name} {number:>9}" if name else None


REPLICA = Column("REPLICA", lambda row, now: _owner(row), by=_owner_rank, cut="key")

#: REPLICA for rows of one job, which the title names.
REPLICA_NUMBER = Column("REPLICA", lambda row, now: row["replica"], right=True, cut="never")

_JOBS = View(
    (
        _field("name", cut="key"),
        _field("run", right=True),
        _field("status", is_state=True, cut="never"),
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
        _since("created", "AGE", suffix=""),
        _since("ended", "ENDED", wide=True),
        Column(
            "ITEMS", _items_done, wide=True, by=lambda row: row["items"]["completed"] if row["items"]["total"] else None
        ),
        _until("deadline", "DEADLINE", wide=True),
        _field("image", wide=True, cut="middle"),
        _field("user", wide=True),
        _field("manifest", wide=True, cut="middle"),
        Column(
            "DRIVER", lambda row, now: row["driver"] and f"{row['driver']['pid']}@{row['driver']['host']}", wide=True
        ),
        _field("reason", wide=True),
    ),
    lambda row: str(row["name"]),
)

_REPLICAS = View(
    (
        REPLICA,
        _field("state", is_state=True, cut="never"),
        Column("ATTEMPT", lambda row, now: f"{row['attempt']}/{row['attempts']}", right=True),
        _field("session", cut="never"),
        Column("ITEMS", lambda row, now: len(row["items"]) or None, right=True),
        _since("started", "STARTED"),
        Column("TIME", _ran, by=_ran_seconds),
        _field("reason"),
        _field("run", wide=True, right=True),
        _field("name", wide=True, cut="middle"),
        Column("RESOURCES", _sizes, wide=True, by=lambda row: row["resources"]["cores"]),
        Column("RAM PEAK", _ram_peak, wide=True, right=True, by=lambda row: row["usage"]["ram_peak_gb"]),
        Column("CPU MEAN", _cpu_mean, wide=True, right=True, by=lambda row: row["usage"]["cpu_mean_cores"]),
        _until("deadline", "DEADLINE", wide=True),
        Column("LOG", _log, wide=True, by=lambda row: row["log"]["bytes"]),
        _field("url", wide=True),
    ),
    _owner,
)

_ITEMS = View(
    (
        REPLICA,
        _field("number", right=True),
        _field("item", cut="middle"),
        _field("state", is_state=True, cut="never"),
        _field("attempt", right=True),
        _field("exit_code", "EXIT", right=True),
        _field("position", wide=True, right=True),
        _field("run", wide=True, right=True),
    ),
    lambda row: str(row["item"]),
)

_SESSIONS = View(
    (
        _field("id", cut="never"),
        _field("name", cut="middle"),
        _field("type", "KIND"),
        _field("status", is_state=True, cut="never"),
        _since("startTime", "STARTED"),
        REPLICA,
        _field("image", wide=True, cut="middle"),
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
        Column("REPLICA", lambda row, now: _owner(row) or row["session"], by=_owner_rank, cut="key"),
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
        _field("id", "IMAGE", cut="never"),
        Column("KINDS", lambda row, now: ",".join(sorted(map(str, row.get("types") or ())))),
        _field("digest", wide=True),
    ),
    lambda row: str(row["id"]),
)

_PAIRS = View((_field("name", cut="never"), _field("value", cut="never")), lambda row: str(row["name"]))

#: How much of a total is in use, as a bar on a terminal.
SHARE = Column("", lambda row, now: _bar(row.get("share")), cut="never")

_PROFILE = Column("PROFILE", lambda row, now: shown_name(row["profile"]), by=lambda row: row["profile"])

#: Jobs on every server, with a column for the profile.
ALL_PROFILES = "jobs of all profiles"

VIEWS: dict[str, View] = {
    "jobs": _JOBS,
    ALL_PROFILES: View((_PROFILE, *(one for one in _JOBS.columns if one.title != "PROFILE")), _JOBS.name),
    "replicas": _REPLICAS,
    "items": _ITEMS,
    "sessions": _SESSIONS,
    "events": _EVENTS,
    "images": _IMAGES,
    "resources": _PAIRS,
    "stats": _PAIRS,
}


def stats_rows(stats: Mapping[str, Any]) -> list[Row]:
    """Return the load of the platform in words (skaha-api 4.3): ``cores  377 of 960 in use``, with ``share`` as a
    fraction. Data of another shape becomes rows of its keys."""
    try:
        cores, ram = stats["cores"], stats["ram"]
        largest, most = cores["maxCPUCores"], ram["maxRAM"]
        rows: list[Row] = [
            _in_use("cores", cores["requestedCPUCores"], cores["cpuCoresAvailable"], ""),
            _in_use("memory", ram["requestedRAM"], ram["ramAvailable"], " GB"),
            {
                "name": "largest session",
                "value": f"{_amount(largest['cpuCores']):g} cores with {_gb(largest['withRam'])}",
            },
        ]
        if (most["ram"], most["withCPUCores"]) != (largest["withRam"], largest["cpuCores"]):
            rows.append({"name": "", "value": f"{_gb(most['ram'])} with {_amount(most['withCPUCores']):g} cores"})
    except (KeyError, TypeError, ValueError):
        return pairs(stats)
    return rows


def resource_rows(offered: Mapping[str, Any]) -> list[Row]:
    """Return what a session can request, in words (skaha-api, ``GET /context``). Data of another shape becomes rows of
    its keys."""
    try:
        rows: list[Row] = []
        for key, name, unit in (("cores", "cores", ""), ("memoryGB", "memory", " GB"), ("gpus", "gpus", "")):
            table = offered[key]
            default = f" (default {table['default']})" if table.get("default") is not None else ""
            rows.append({"name": name, "value": f"{_listed(table['options'])}{unit}{default}"})
        sessions = int(offered.get("maxInteractiveSessions") or 0)
    except (AttributeError, KeyError, TypeError, ValueError):
        return pairs(offered)
    if sessions > 0:
        rows.append({"name": "interactive sessions", "value": f"at most {sessions} at the same time"})
    return rows


def _in_use(name: str, used: object, total: object, unit: str) -> Row:
    some, all_of = _amount(used), _amount(total)
    share = some / all_of if all_of else 0.0
    return {"name": name, "value": f"{some:g} of {all_of:g}{unit} in use, {share * 100:.0f} %", "share": share}


def _amount(value: object) -> float:
    """Return the number of ``32``, ``"32Gi"`` or ``"147G"``."""
    return float(str(value).rstrip("GiMB ").strip())


def _gb(value: object) -> str:
    return f"{_amount(value):g} GB"


def _bar(share: object, width: int = 10) -> str:
    """Return a bar such as ``███▉······``; a blank without a share."""
    if not isinstance(share, float):
        return " "
    eighths = max(0, min(width * 8, round(share * width * 8)))
    text = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return text.ljust(width, "·")


def pairs(data: Mapping[str, object]) -> list[Row]:
    """Convert nested data to rows of ``name`` (dotted) and ``value``; a list of positive whole numbers becomes
    ranges."""
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
        return format_ranges(value)
    return ", ".join(map(str, value))


def columns_of(noun: str, wide: bool) -> list[Column]:
    return [column for column in VIEWS[noun].columns if wide or not column.wide]
