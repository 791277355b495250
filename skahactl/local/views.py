"""Sessions as clients see them: the session object, its public part, events, statistics (skaha-api 4, 5)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from math import floor

from skahactl.local import pages
from skahactl.local.store import FAILED, QUEUED, RUNNING


def session_status(row: sqlite3.Row) -> str:
    return "Pending" if row["state"] == QUEUED else str(row["state"])


def session_view(row: sqlite3.Row, user: str) -> dict[str, object]:
    """The session object in the server's order; what is null there is absent here."""
    fixed = row["ram"] is not None
    started = row["started"]
    fields: dict[str, object | None] = {
        "id": row["id"],
        "userid": user,
        "runAsUID": str(os.getuid()),
        "runAsGID": str(os.getuid()),
        "supplementalGroups": sorted(os.getgroups()),
        "image": row["image"],
        "type": "headless",
        "status": session_status(row),
        "name": row["name"][:63].rstrip("-"),
        "startTime": None if started is None else start_time(started),
        "expiryTime": None if started is None else _seconds(row["expires"]),
        "connectURL": "",
        "requestedRAM": f"{row['ram'] * 1.073741824:.2f}" if fixed else None,
        "requestedCPUCores": _cores(row["cores"]) if fixed else None,
        "requestedGPUCores": str(row["gpus"] or 0),
        "isFixedResources": fixed,
    }
    return {name: value for name, value in fields.items() if value is not None}


def public_view(row: sqlite3.Row, user: str) -> dict[str, object]:
    """What ``view=all`` shows of a session."""
    whole = session_view(row, user)
    return {name: whole[name] for name in ("userid", "type", "status", "startTime") if name in whole}


def start_time(epoch: float) -> str:
    """ISO 8601 as Java prints an instant's date and time: seconds omitted when they are zero."""
    return _seconds(epoch).replace(":00Z", "Z") if floor(epoch) % 60 == 0 else _seconds(epoch)


def _seconds(epoch: float) -> str:
    return datetime.fromtimestamp(floor(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cores(cores: float | None) -> str:
    amount = 1.0 if cores is None else cores
    return str(int(amount)) if amount == int(amount) else f"{amount:.3f}"


def events_view(row: sqlite3.Row) -> str:
    """The events of a session that has started, as a table."""
    started = _seconds(row["started"])
    rows = [
        ("Normal", "Scheduled", "Assigned to this machine", started),
        ("Normal", "Started", f"Started the command of {row['name']}, without its image {row['image']}", started),
    ]
    if row["state"] == FAILED:
        rows.append(("Warning", "Failed", f"The command ended: {row['reason']}", _seconds(row["ended"])))
    return text_table([("TYPE", "REASON", "MESSAGE", "FIRST-TIME", "LAST-TIME"), *((*line, line[3]) for line in rows)])


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as kubectl prints them: as wide as their widest, three blanks between."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def stats_view(rows: Sequence[sqlite3.Row], slots: int) -> dict[str, object]:
    """``view=stats``: here, the slots and what runs in them (skaha-api 4.3)."""
    running = [row for row in rows if row["state"] == RUNNING]
    cores = sum(row["cores"] or 1.0 for row in running)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**9
    return {
        "cores": {
            "requestedCPUCores": cores,
            "cpuCoresAvailable": slots,
            "maxCPUCores": {"cpuCores": pages.CORES[-1], "withRam": f"{pages.MEMORY[-1]}Gi"},
        },
        "ram": {
            "requestedRAM": f"{sum(row['ram'] or 4.0 for row in running):g}G",
            "ramAvailable": f"{memory}G",
            "maxRAM": {"ram": f"{pages.MEMORY[-1]}Gi", "withCPUCores": pages.CORES[-1]},
        },
    }
