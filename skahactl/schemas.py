"""JSON schemas of what ``-o json`` prints: one for each shape. With ``-o jsonl``, each line is an element of the list.

Within a major version, fields are only ever added, so a reader must accept unknown ones. A test validates the real
output of every verb against its schema.
"""

from __future__ import annotations

from typing import Any

from skahactl.model import STATES

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: A type as the tables below write it: a name, with ? for "or null"; a list of one type; an object with its fields,
#: where a field with ~ can be missing.
Spec = str | list[Any] | dict[str, Any]

_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "flag": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time", "description": "ISO 8601, UTC"},
    "state": {"enum": list(STATES)},
    "status": {"enum": sorted({*STATES, "Unknown"})},
    "object": {"type": "object"},
    "any": {},
}

_COUNTS: Spec = dict.fromkeys(STATES, "whole")
_RESOURCES: Spec = {"cores": "number?", "ram": "number?", "gpus": "whole?"}
_LOG: Spec = {"path": "text?", "shared": "text?", "bytes": "whole?", "complete": "flag?"}
_TIMES = {
    **dict.fromkeys(("started", "finished", "finished_after", "observed", "deadline"), "time?"),
    "ran": "number?",  # seconds
}
_ERROR: dict[str, Any] = {"code": "text", "message": "text", "hint": "text?"}

_JOB: Spec = {
    "name": "text",
    "profile": "text",
    "server": "text",
    "user": "text?",
    "run": "whole",
    "digest": "text",
    "kind": "text",
    "image": "text",
    "status": "status",
    "reason": "text?",
    "replicas": "whole",
    "counts": _COUNTS,
    "items": {"total": "whole", "completed": "whole", "failed": "whole"},
    "attempts": "whole",
    "limits": {"alive": "whole?", "pending": "whole?", "pending_timeout": "number?", "failures": "whole?"},
    "created": "time",
    "started": "time?",
    "ended": "time?",
    "observed": "time?",
    "deadline": "time?",
    "manifest": "text?",
    "logs": "text?",
    "shared": "text?",
    "driver": {"?": {"host": "text", "pid": "whole", "since": "time"}},
}
_USAGE: dict[str, Any] = {
    "ram_peak_gb": "number?",
    "ram_requested_gb": "number?",
    "cpu_mean_cores": "number?",
    "cpu_requested": "number?",
    "samples": "whole",
}
_REPLICA: dict[str, Any] = {
    "job": "text",
    "run": "whole",
    "replica": "whole",
    "of": "whole",
    "state": "state",
    "reason": "text?",
    "session": "text?",
    "name": "text",
    "attempt": "whole",
    "attempts": "whole",
    "items": ["text"],
    "image": "text",
    "resources": _RESOURCES,
    **_TIMES,
    "exit_code": "whole?",
    "last_line": "text?",
    "log": _LOG,
    "url": "text?",
    "usage": _USAGE,
    "source": "text?",
}
_ATTEMPT: Spec = {
    "attempt": "whole",
    "name": "text",
    "state": "state",
    "reason": "text?",
    "session": "text?",
    "created": "time",
    **_TIMES,
    "sends": "whole",
    "exit_code": "whole?",
    "last_line": "text?",
    "log": _LOG,
    "url": "text?",
    "resources": {"?": _RESOURCES},
    "source": "text?",
}
_SESSION: Spec = {
    "id": "text",
    "name": "text",
    "status": "text",
    "skahactl": {"?": {"job": "text", "run": "whole", "replica": "whole", "attempt": "whole"}},
}
_EVENT: Spec = {
    "session": "text",
    "job": "text?",
    "run": "whole?",
    "replica": "whole?",
    "type": "text?",
    "reason": "text?",
    "message": "text?",
    "first": "any",
    "last": "any",
}
_STEP: Spec = {
    "replica": "whole?",
    "name": "text",
    "action": "text",
    "reason": "text?",
    "outcome": "text",
    "session": "text?",
    "attempt": "whole?",
    "url": "text?",
    "error": {"?": {**_ERROR, "http_status": "whole?"}},
    "request~": "object",
}

#: shape: (where it is printed, its type)
SHAPES: dict[str, tuple[str, Spec]] = {
    "jobs": ("get jobs", [_JOB]),
    "replicas": ("get replicas", [_REPLICA]),
    "items": (
        "get items",
        [
            {
                "job": "text",
                "run": "whole",
                "replica": "whole",
                "number": "whole",
                "position": "whole",
                "item": "text",
                "state": "state",
                "attempt": "whole?",
                "exit_code": "whole?",
            }
        ],
    ),
    "sessions": ("get sessions: the server's own objects, and which attempt of a job each one is", [_SESSION]),
    "events": ("get events, events", [_EVENT]),
    "images": ("get images: the server's own objects", [{"id": "text"}]),
    "resources": ("get resources: the server's own object", "object"),
    "stats": ("get stats: the server's own object", "object"),
    "description": (
        "describe of a job; of several targets a list",
        {
            "job": _JOB,
            "keep_logs": "text",
            "log_bytes": "whole",
            "after": ["text"],
            "usage": {**_USAGE, "summary": "text?", "advice": "text?"},
            "replicas": [{**_REPLICA, "tried": [_ATTEMPT]}],
            "history": [{"at": "time", "replica": "whole?", "text": "text"}],
            "events": [_EVENT],
        },
    ),
    "outcome": (
        "apply, create, retry, resume, delete, renew, diff and --dry-run",
        {
            "profile": "text",
            "server": "text",
            "dry_run": "flag",
            "exit": "whole",
            "jobs": [
                {
                    "name": "text",
                    "run": "whole?",
                    "digest": "text?",
                    "action": "text",
                    "reason": "text",
                    "hint": "text?",
                    "status": "status?",
                    "counts": _COUNTS,
                    "steps": [_STEP],
                    "differences": [{"path": "text", "old": "any", "new": "any", "source": "text?"}],
                }
            ],
        },
    ),
    "lines": ("logs -o jsonl, a line", {"log": "text", "line": "text"}),
    "wait": (
        "wait",
        {
            "condition": "text",
            "exit": "whole",
            "jobs": [{"name": "text", "run": "whole", "met": "flag", "reason": "text"}],
        },
    ),
    "mark": ("mark", {"name": "text", "run": "whole", "state": "state", "replicas": ["whole"]}),
    "runs": (
        "prune",
        [{"name": "text", "run": "whole", "status": "status", "ended": "time?", "log_bytes": "whole"}],
    ),
    "validation": (
        "validate",
        {"jobs": [{"name": "text", "replicas": "whole", "items": "whole?", "manifest": "text"}]},
    ),
    "key": (
        "explain KEY",
        {
            "key": "text",
            "type": "text",
            "required": "flag",
            "description": "text",
            "example": "text",
            "keys": [{"key": "text", "description": "text"}],
        },
    ),
    "keys": ("explain", {"keys": [{"key": "text", "description": "text"}]}),
    "profile": (
        "profile show",
        {
            "name": "text",
            "path": "text?",
            "server": "text",
            "registry": "text?",
            "registry-user": "text?",
            "registry-secret-env": "text?",
            "registry-secret-file": "text?",
            "storage": "any",
            "auth": {
                "method": "text",
                "certificate": "text?",
                "token-file": "text?",
                "token-env": "text?",
                "token-command": "any",
                "login-url": "text?",
            },
            "defaults": "object",
            "vars": "object",
            "client": "object",
            "local": "object",
            "notify": {"command": {"?": ["text"]}},
        },
    ),
    "profiles": (
        "profile list",
        {
            "profiles": [
                {"name": "text", "used": "flag", "server": "text?", "auth": "text?", "path": "text?", "error": "text?"}
            ]
        },
    ),
    "check": (
        "profile check",
        {
            "profile": "text",
            "server": "text",
            "availability": "text?",
            "credentials": "text?",
            "user": "text?",
            "sessions": "whole?",
            "storage": "text?",
            "resources": "text?",
            "encoding": "text?",
        },
    ),
    "version": ("--version", {"version": "text", "python": "text", "platform": "text", "profile": "text"}),
    "error": (
        "an error, on standard error",
        {"code": "text", "message": "text", "where": "text?", "hint": "text?", "exit": "whole"},
    ),
}


def json_schema_of(shape: str) -> dict[str, Any]:
    """Return the JSON schema of a shape."""
    where, spec = SHAPES[shape]
    return {"$schema": DIALECT, "title": f"skahactl {shape}", "description": f"Printed by: {where}.", **_schema(spec)}


def _schema(spec: Spec) -> dict[str, Any]:
    if isinstance(spec, list):
        return {"type": "array", "items": _schema(spec[0])}
    if isinstance(spec, dict):
        if set(spec) == {"?"}:
            return {"anyOf": [_schema(spec["?"]), {"type": "null"}]}
        return {
            "type": "object",
            "properties": {name.rstrip("~"): _schema(part) for name, part in spec.items()},
            "required": [name for name in spec if not name.endswith("~")],
        }
    if spec.endswith("?"):
        return {"anyOf": [_TYPES[spec[:-1]], {"type": "null"}]}
    return dict(_TYPES[spec])
