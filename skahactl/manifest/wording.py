"""pydantic's findings in our words: what was expected, what was found, and the nearest known key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from skahactl.errors import Problem
from skahactl.manifest.places import Path, SourceMap, dotted_key
from skahactl.manifest.schema import JobTable
from skahactl.manifest.values import show_value
from skahactl.words import did_you_mean

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}

#: What other tools call it.
FOREIGN = {
    "args": "command",
    "cmd": "command",
    "script": "shell",
    "run": "shell",
    "environment": "env",
    "count": "replicas",
    "parallelism": "replicas",
    "completions": "replicas",
    "instances": "replicas",
    "type": "kind",
    "container": "image",
    "cpu": "resources.cores",
    "cpus": "resources.cores",
    "core": "resources.cores",
    "mem": "resources.ram",
    "memory": "resources.ram",
    "gpu": "resources.gpus",
    "retries": "retry.attempts",
    "backoff-limit": "retry.attempts",
    "timeout": "limits.pending-timeout",
    "max-alive": "limits.alive",
    "depends-on": "after",
    "depends": "after",
    "dependencies": "after",
    "variables": "vars",
    "list": "items.file",
}


def validation_problems(error: ValidationError, places: SourceMap, table: Mapping[str, Any]) -> Iterator[Problem]:
    """Each finding, at its key in the file."""
    seen: set[Path] = set()
    for finding in error.errors(include_url=False):
        path = _path(table, finding["loc"])
        message, hint = _message(finding["type"], finding.get("ctx", {}), finding.get("input"), path)
        if path not in seen:
            seen.add(path)
            yield places.problem(path, message, hint)


def known_keys(path: Path = ()) -> dict[str, type[BaseModel] | None]:
    """The keys of the table at ``path`` (that of ``()`` is a job), each with its own table's model, if it has one."""
    model: type[BaseModel] | None = JobTable
    for part in path:
        model = _tables(model).get(str(part)) if model else None
    return _tables(model) if model else {}


def unknown_key(path: Path) -> tuple[str, str | None]:
    """Message and hint for a key that is not there."""
    *parts, key = (str(part) for part in path)
    table = ".".join(parts)
    siblings = known_keys(tuple(parts))
    wanted = key.lower().replace("_", "-")
    home = None if wanted in siblings else _home(wanted)
    hint = _move(home, table) if home else did_you_mean(wanted, siblings)
    return "unknown key" + f" in [{table}]" * bool(table), hint or "known keys: " + ", ".join(siblings)


def _home(key: str) -> str | None:
    """Where a key of that name stands, or the one that other tools call so."""
    top = known_keys()
    if key in top:
        return key
    return next((f"{name}.{key}" for name, model in top.items() if key in _tables(model)), FOREIGN.get(key))


def _move(full: str, table: str) -> str:
    home, _, key = full.rpartition(".")
    if home == table:
        return f"did you mean '{key}'?"
    if not home:
        return f"'{key}' stands at the top of the file: move it up, above the first [table]"
    return f"did you mean '{key}' in [{home}]?"


def _tables(model: type[BaseModel] | None) -> dict[str, type[BaseModel] | None]:
    found: dict[str, type[BaseModel] | None] = {}
    for name, field in (model.model_fields if model else {}).items():
        kinds = [field.annotation, *get_args(field.annotation)]
        found[field.alias or name] = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return found


def _path(table: Mapping[str, Any], loc: tuple[str | int, ...]) -> Path:
    """A pydantic location as a key of the file: without the names of a union's variants."""
    path: Path = ()
    here: Any = table
    for place, part in enumerate(loc):
        if isinstance(here, Mapping) and (part in here or (place == len(loc) - 1 and part != "[key]")):
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            continue
        path = (*path, part)
    return path


def _message(kind: str, context: Mapping[str, Any], found: object, path: Path) -> tuple[str, str | None]:
    if kind == "skahactl":
        return context["message"], context["hint"]
    if kind == "extra_forbidden":
        return unknown_key(path)
    if kind == "missing":
        return "missing", f"every job needs {dotted_key(path)}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']:,}"
        return f"expected {bound}, found {show_value(found)}", None
    if kind == "literal_error":
        choices = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        guess = did_you_mean(found, choices) if isinstance(found, str) else None
        return f"expected one of {', '.join(choices)}, found {show_value(found)}", guess
    if kind == "string_too_short":
        return "the text is empty", None
    expected = _EXPECTED.get(kind, "something else")
    hint = "write it without quotes" if expected == "a whole number" and str(found).isdigit() else None
    return f"expected {expected}, found {show_value(found)}", hint
