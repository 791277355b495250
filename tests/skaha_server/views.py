"""What the server shows of sessions: the object of skaha-api 4.1, events (5), context and stats (4.3, 7)."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

from tests.skaha_server.plan import Plan
from tests.skaha_server.sessions import Session

CORES = list(range(1, 17))
RAM = [1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 26, 28, 30, 32, 36, 40, 44, 48, 56, 64, 80, 92, 112, 128, 140, 170, 192]


@functools.lru_cache(65536)  # every list of a large job says the same times
def instant(seconds: float, *, always_seconds: bool = False) -> str:
    """ISO 8601 as Java prints it: seconds are left out when they are zero."""
    time = datetime.fromtimestamp(int(seconds), UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ" if always_seconds or time.second else "%Y-%m-%dT%H:%MZ")


def session_object(session: Session, now: float, plan: Plan) -> dict[str, object]:
    """One session, null fields left out; an old server writes ``<none>`` for them, and other words."""
    old = plan.version == "old"
    status = session.status(now)
    fixed = session.ram is not None
    running = status == "Running"
    started = session.started
    data: dict[str, object | None] = {
        "id": session.id,
        "userid": session.user,
        "runAsUID": "10001",
        "runAsGID": "10001",
        "supplementalGroups": [34241, 34337],
        "appid": "<none>" if old else None,
        "image": session.image,
        "type": session.kind,
        "status": {"Completed": "Succeeded"}.get(status, status) if old else status,
        "name": session.label,
        "startTime": instant(started) if started is not None else None,
        "expiryTime": instant(started + session.deadline, always_seconds=True) if started is not None else None,
        "connectURL": connect_url(session, old),
        "requestedRAM": _ram(session.ram, old) if session.ram is not None else None,
        "requestedCPUCores": _cores(session.cores or 1) if fixed else None,
        "requestedGPUCores": str(session.gpus or 0),
        "ramInUse": ("101M" if old else "0.22") if running else None,
        "gpuRAMInUse": None,
        "gpuUtilization": None,
        "cpuCoresInUse": "0.001" if running else None,
        "isFixedResources": fixed,
    }
    if old:
        return {key: "<none>" if value is None else value for key, value in data.items()}
    return {key: value for key, value in data.items() if value is not None}


def _ram(gib: float, old: bool) -> str:
    return f"{gib:g}G" if old else f"{gib * 1.073741824:.2f}"


def _cores(cores: float) -> str:
    return str(int(cores)) if cores == int(cores) else f"{cores:.3f}"


def connect_url(session: Session, old: bool) -> str:
    host, id = "sessions.test", session.id
    forms = {
        "desktop": f"https://{host}/session/desktop/{id}/?password={id}&path=session/desktop/{id}/",
        "notebook": f"https://{host}/session/notebook/{id}/lab/tree/arc/home/{session.user}?token={id}",
        "carta": f"https://{host}/session/carta/{id}/",
        "contributed": f"https://{host}/session/contrib/{id}/",
        "firefly": f"https://{host}/session/firefly/{id}/firefly/",
    }
    return forms.get(session.kind, "not-applicable" if old else "")


def events(session: Session, now: float) -> str:
    """The fixed-width table of kubectl."""
    first = instant(session.visible, always_seconds=True)
    rows = [("Normal", "Scheduled", f"Successfully assigned skaha-workload/{session.job} to node-7", first, first)]
    if now < session.runs:
        rows.append(("Warning", "Failed", "Error: ErrImagePull", first, "<none>"))
    else:
        start = instant(session.runs, always_seconds=True)
        rows.append(("Normal", "Started", f"Started container {session.job}", start, start))
    table = [("TYPE", "REASON", "MESSAGE", "FIRST-TIME", "LAST-TIME"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "".join(line.rstrip() + "\n" for line in lines)


def context(plan: Plan) -> dict[str, object]:
    return {
        "cores": {"default": 2, "defaultRequest": 1, "defaultLimit": 8, "options": CORES},
        "memoryGB": {"default": 8, "defaultRequest": 4, "defaultLimit": 32, "options": RAM},
        "gpus": {"options": list(range(1, plan.gpus + 1))},
        "maxInteractiveSessions": str(plan.max_interactive),
    }


STATS = {
    "cores": {
        "requestedCPUCores": 12.5,
        "cpuCoresAvailable": 640.0,
        "maxCPUCores": {"cpuCores": 16, "withRam": "32Gi"},
    },
    "ram": {"requestedRAM": "100G", "ramAvailable": "2500G", "maxRAM": {"ram": "192Gi", "withCPUCores": 16}},
}

CAPABILITIES = """<?xml version="1.0" encoding="UTF-8"?>
<vosi:capabilities xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0"
  xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <capability standardID="http://www.opencadc.org/std/platform#session-1">
    <interface xsi:type="vs:ParamHTTP" role="std" version="1.0">
      <accessURL use="base">%s/v1/session</accessURL>
      <securityMethod standardID="ivo://ivoa.net/sso#token" />
    </interface>
  </capability>
</vosi:capabilities>
"""

AVAILABILITY = """<?xml version="1.0" encoding="UTF-8"?>
<vosi:availability xmlns:vosi="http://www.ivoa.net/xml/VOSIAvailability/v1.0">
  <vosi:available>true</vosi:available>
  <vosi:note>Skaha Service Available.</vosi:note>
</vosi:availability>
"""
