"""Where things stand in a manifest: the line of a key, and problems that name it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from skahactl.errors import Problem
from skahactl.manifest.schema import KINDS, JobTable, show_value
from skahactl.text import did_you_mean

#: A key from the top of the file: names, and numbers from 0 for the tables of a list such as ``[[job]]``.
Path = tuple[str | int, ...]

_KEY = r"(?:\"(?:[^\"\\]|\\.)*\"|'[^']*'|[A-Za-z0-9_-]+)"
_KEYS = re.compile(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*")
_ONE = re.compile(_KEY)
_TOKEN = re.compile(r"\"\"\"|'''|\"(?:[^\"\\]|\\.)*\"|'[^']*'|#|[\[\]{}]")


@dataclass(frozen=True, slots=True)
class SourceMap:
    """The file of a job as it was given, the lines of its keys, and where in the file the job's keys may stand.

    ``roots`` are the tables that hold them, the nearest first: ``("job", 1)`` before ``("common",)``, or ``()``.
    ``label`` goes before a key (``tiles.``), and ``sets`` are the dotted keys given by ``--set``.
    """

    file: str
    lines: Mapping[Path, int] = field(default_factory=dict)
    roots: tuple[Path, ...] = ((),)
    label: str = ""
    sets: frozenset[str] = frozenset()

    def problem(self, path: Path, message: str, hint: str | None = None, *, line: int | None = None) -> Problem:
        """What is wrong at the job's key ``path``; ``()`` is the job itself."""
        if self.is_set(path):
            return Problem("--set", message, None, dotted_key(path), hint)
        found, root = self._find(path)
        label = "common." if root == ("common",) else self.label
        key = (label + dotted_key(path)).rstrip(".") or None
        return Problem(self.file, message, found if line is None else line, key, hint)

    def line(self, path: Path) -> int | None:
        """The line of the key, or of the nearest table around it."""
        return self._find(path)[0]

    def _find(self, path: Path) -> tuple[int | None, Path | None]:
        """The line, and the root that was found."""
        for end in range(len(path), -1, -1):
            for root in self.roots:
                whole = (*root, *path[:end])
                if whole in self.lines:
                    return self.lines[whole], root
        return None, None

    def is_set(self, path: Path) -> bool:
        """Whether the key, or a table around it, was given by ``--set``."""
        return any(dotted_key(path[:end]) in self.sets for end in range(1, len(path) + 1))

    def where(self, path: Path) -> str:
        """``file:line: key``, for warnings."""
        line = self.line(path)
        if self.is_set(path):
            return f"--set {dotted_key(path)}"
        return f"{self.file}{'' if line is None else f':{line}'}: {self.label}{dotted_key(path)}"


def dotted_key(path: Path) -> str:
    """``items.matrix``; a number from 0 becomes ``[1]``."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def scan_source(text: str) -> dict[Path, int]:
    """The line, from 1, of each key and table of a TOML text that ``tomllib`` accepts; those inside ``{}`` left out."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    prefix: Path = ()
    state = _State()
    for number, line in enumerate(text.split("\n"), start=1):
        if state.inside:
            state.walk(line)
            continue
        stripped = line.lstrip()
        if stripped.startswith("["):
            prefix = _header(stripped, counts)
            lines.setdefault(prefix, number)
            continue
        found = _KEYS.match(line)
        if found is None:
            continue
        path = (*prefix, *_parts(found[1]))
        for end in range(len(prefix) + 1, len(path) + 1):
            lines.setdefault(path[:end], number)
        state.walk(line[found.end() :])
    return lines


class _State:
    """Whether a value goes on in the next line: an open long string, or open brackets."""

    def __init__(self) -> None:
        self.quote: str | None = None
        self.depth = 0

    @property
    def inside(self) -> bool:
        return self.quote is not None or self.depth > 0

    def walk(self, line: str) -> None:
        at = 0
        while at < len(line):
            if self.quote is not None:
                at = self._closing(line, at)
                continue
            token = _TOKEN.search(line, at)
            if token is None or token[0] == "#":
                return
            at = token.end()
            if token[0] in ('"""', "'''"):
                self.quote = token[0]
            elif token[0] in "[{":
                self.depth += 1
            elif token[0] in "]}":
                self.depth -= 1

    def _closing(self, line: str, at: int) -> int:
        """The place after the end of the long string, which may itself end with up to two more quotes."""
        while at < len(line):
            if self.quote == '"""' and line[at] == "\\":
                at += 2
            elif line.startswith(str(self.quote), at):
                mark = str(self.quote)[0]
                self.quote = None
                at += 3
                while line.startswith(mark, at):
                    at += 1
                return at
            else:
                at += 1
        return at


def _header(line: str, counts: dict[Path, int]) -> Path:
    """The path of a ``[table]`` or ``[[table]]`` line; ``counts`` numbers the latter."""
    many = line.startswith("[[")
    found = _KEYS.match(line, 2 if many else 1)
    names = list(_parts(found[1])) if found else []
    path: Path = ()
    for place, name in enumerate(names):
        path = (*path, name)
        if many and place == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _parts(keys: str) -> Iterator[str]:
    for part in _ONE.findall(keys):
        yield part[1:-1] if part[0] in "\"'" else part


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
    for name, each in (model.model_fields if model else {}).items():
        kinds = [each.annotation, *get_args(each.annotation)]
        found[each.alias or name] = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
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


_SOURCES = ("file", "glob", "values", "csv", "matrix")
_HEADLESS_ONLY = ("command", "shell", "env", "items", "retry")


def rule_problems(table: Mapping[str, Any], places: SourceMap) -> Iterator[Problem]:
    """Every broken rule."""
    if "command" in table and "shell" in table:
        yield places.problem(("shell",), "both command and shell are given", "one of the two says what to run")
    yield from _kind(table, places)
    yield from _items(table, places)
    name, after = table.get("name"), table.get("after")
    if isinstance(after, list) and name in after:
        yield places.problem(("after",), f"'{name}' waits for itself")


def _kind(table: Mapping[str, Any], places: SourceMap) -> Iterator[Problem]:
    kind = table.get("kind", "headless")
    if kind == "headless" or kind not in KINDS:
        return
    for key in _HEADLESS_ONLY:
        if table.get(key):
            yield places.problem(
                (key,), f"the platform drops it for a {kind} session", 'leave it out, or kind = "headless"'
            )
    replicas = table.get("replicas")
    if isinstance(replicas, int) and replicas > 1:
        yield places.problem(("replicas",), f"a {kind} job has one replica", 'only kind = "headless" has several')


def _items(table: Mapping[str, Any], places: SourceMap) -> Iterator[Problem]:
    items = table.get("items")
    if not isinstance(items, Mapping):
        return
    given = [key for key in items if key in _SOURCES]
    if not given:
        yield places.problem(("items",), "where do the items come from?", f"give one of {', '.join(_SOURCES)}")
    if len(given) > 1:
        yield places.problem(("items", given[1]), f"both {given[0]} and {given[1]} are given", "one of them")
    yield from _share(table, items, given, places)


def _share(
    table: Mapping[str, Any], items: Mapping[str, Any], given: list[str], places: SourceMap
) -> Iterator[Problem]:
    rows = [source for source in given if source in ("csv", "matrix")]
    if "replicas" in table and "per-replica" in items:
        yield places.problem(
            ("items", "per-replica"), "both replicas and per-replica are given", "one of the two says how many"
        )
    elif "replicas" in table and rows:
        what = "row" if rows == ["csv"] else "combination"
        yield places.problem(
            ("replicas",),
            f"with {rows[0]}, one {what} is one replica",
            "leave replicas out, or give per-replica in [items]",
        )
    elif given and not rows and "replicas" not in table and "per-replica" not in items:
        yield places.problem(
            ("items",), "how are the items shared out?", "give replicas at the top, or per-replica in [items]"
        )
