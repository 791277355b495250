"""What can be wrong in a manifest, and where: lines and columns, findings of pydantic, rules between keys."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from skahactl.errors import Guess, Problem
from skahactl.manifest.schema import KINDS, JobTable, show_value
from skahactl.text import did_you_mean, distance

#: The path of a key in the file: names, and numbers from 0 for tables of a list such as ``[[job]]``.
Path = tuple[str | int, ...]

MAX_ELEMENTS = 1000  # of a list: the positions of later ones are that of the list

_KEY = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_STRING = re.compile(r"\"\"\"(?:[^\\]|\\.)*?\"\"\"\"{0,2}|'''.*?''''{0,2}|\"(?:[^\"\\]|\\.)*\"|'[^']*'", re.DOTALL)
_SCALAR = re.compile(r"\d{4}-\d{2}-\d{2} \d[^,\]}\s#]*|[^,\]}\s#]+")


class KeySpan(NamedTuple):
    """Offsets in a text: of a key, and of its value (both of a table are those of its header)."""

    key: int
    key_end: int
    value: int
    value_end: int


class SourceText:
    """A text, and where its keys and values are."""

    def __init__(self, text: str = "", spans: Mapping[Path, KeySpan] | None = None):
        self.text = text
        self.spans = spans or {}
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    @classmethod
    def of(cls, text: str, *, is_valid: bool = False) -> SourceText:
        """Return the map of ``text``; with its keys if it ``is_valid``: TOML that ``tomllib`` accepts."""
        return cls(text, dict(_Scanner(text).scan()) if is_valid else None)

    def place(self, begin: int, end: int) -> tuple[int, int, int, str]:
        """Line and column from 1, the width on that line, and the line."""
        line = bisect_right(self._starts, begin)
        start = self._starts[line - 1]
        source = self.text[start:].split("\n", 1)[0] if line == len(self._starts) else self._line(line)
        return line, begin - start + 1, max(1, min(end, start + len(source)) - begin), source

    def _line(self, line: int) -> str:
        return self.text[self._starts[line - 1] : self._starts[line] - 1]


EMPTY = SourceText()


@dataclass(frozen=True, slots=True)
class SourceMap:
    """The file of a job as it was given, its source, and where in the file the job's keys may be.

    ``roots`` are the tables that hold them, the nearest first: ``("job", 1)`` before ``("common",)``, or ``()``.
    ``label`` goes before a key (``tiles.``), and ``sets`` are the dotted keys given by ``--set``. ``options`` are the
    options that gave dotted keys on the command line.
    """

    file: str
    source: SourceText = EMPTY
    roots: tuple[Path, ...] = ((),)
    label: str = ""
    sets: frozenset[str] = frozenset()
    options: Mapping[str, str] = field(default_factory=dict)

    def problem(self, path: Path, message: str, hint: str | None = None, at_key: bool = False) -> Problem:
        """Return what is wrong at the job's key ``path``; ``()`` is the job itself. ``at_key``: the key is, not its
        value."""
        if self.is_set(path):
            return Problem("--set", message, None, dotted_key(path), hint)
        if (option := self._option(path)) is not None:
            return Problem(option, message, hint=hint)
        whole, root = self._find(path)
        label = "common." if root == ("common",) else self.label
        key = (label + dotted_key(path)).rstrip("., ") or None
        if whole is None:
            return Problem(self.file, message, None, key, hint)
        span = self.source.spans[whole]
        is_exact = root is not None and len(whole) - len(root) == len(path)
        begin, end = (span.value, span.value_end) if is_exact and not at_key else (span.key, span.key_end)
        line, column, width, source = self.source.place(begin, end)
        return Problem(self.file, message, line, key, hint, column, width, source)

    def line(self, path: Path) -> int | None:
        """Return the line of the key, or of the nearest table around it."""
        whole, _ = self._find(path)
        return None if whole is None else self.source.place(*self.source.spans[whole][:2])[0]

    def _find(self, path: Path) -> tuple[Path | None, Path | None]:
        """Return the nearest key in the file that is ``path`` or is around it, and the root at which it was found."""
        for end in range(len(path), -1, -1):
            for root in self.roots:
                whole = (*root, *path[:end])
                if whole in self.source.spans:
                    return whole, root
        return None, None

    def _option(self, path: Path) -> str | None:
        """Return the option that gave the key, or the table around it; with the rest of the key."""
        for end in range(len(path), 0, -1):
            if (option := self.options.get(dotted_key(path[:end]))) is not None:
                return f"{option} {dotted_key(path[end:])}".rstrip()
        return None

    def is_set(self, path: Path) -> bool:
        """Return whether the key, or a table around it, was set with ``--set``."""
        return any(dotted_key(path[:end]) in self.sets for end in range(1, len(path) + 1))

    def where(self, path: Path) -> str:
        """Return ``file:line: key``, for warnings."""
        line = self.line(path)
        if self.is_set(path):
            return f"--set {dotted_key(path)}"
        if (option := self._option(path)) is not None:
            return option
        return f"{self.file}{'' if line is None else f':{line}'}: {self.label}{dotted_key(path)}"


def dotted_key(path: Path) -> str:
    """Return ``items.matrix``; of an element of a list ``command, word 2`` or ``after, element 1``, from 1."""
    text = ""
    for part in path:
        noun = "word" if text.endswith(".command") or not text else "element"
        text += f", {noun} {part + 1}" if isinstance(part, int) else f".{part}"
    return text.lstrip("., ")


class _Scanner:
    """Reads a text from its beginning to its end; ``at`` is the offset that comes next."""

    def __init__(self, text: str):
        self.text = text
        self.at = 0
        self.found: dict[Path, KeySpan] = {}
        self.counts: dict[Path, int] = {}

    def scan(self) -> Iterator[tuple[Path, KeySpan]]:
        prefix: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                prefix = self._header()
            else:
                self._pair(prefix)
            self._skip(_BLANK)
        return iter(self.found.items())

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _header(self) -> Path:
        """Return a ``[table]`` or ``[[table]]`` line; the latter are numbered."""
        begin = self.at
        many = self.text.startswith("[[", begin)
        self.at += 2 if many else 1
        names = self._keys()
        self.at = self.text.index("]", self.at) + (2 if many else 1)
        span = KeySpan(begin, self.at, begin, self.at)
        path: Path = ()
        for place, (name, _, _) in enumerate(names):
            path = (*path, name)
            self.found.setdefault(path, span)
            if many and place == len(names) - 1:
                self.counts[path] = self.counts.get(path, -1) + 1
            if path in self.counts:
                path = (*path, self.counts[path])
        self.found.setdefault(path, span)
        return path

    def _pair(self, prefix: Path) -> None:
        names = self._keys()
        self._skip(_EQUALS)
        path = (*prefix, *(name for name, _, _ in names))
        value = self.at
        self._value(path)
        for place, (_, begin, end) in enumerate(names, start=len(prefix) + 1):
            self.found.setdefault(path[:place], KeySpan(begin, end, value, self.at))

    def _keys(self) -> list[tuple[str, int, int]]:
        """Dotted keys, each with its offsets."""
        self._skip(_BLANK)
        names: list[tuple[str, int, int]] = []
        while (match := _KEY.match(self.text, self.at)) is not None:
            name = match[0][1:-1] if match[0][0] in "\"'" else match[0]
            names.append((name, match.start(), match.end()))
            self.at = match.end()
            dot = _DOT.match(self.text, self.at)
            if dot is None:
                return names
            self.at = dot.end()
        raise ValueError(f"no key at offset {self.at}")

    def _value(self, path: Path) -> None:
        sign = self.text[self.at]
        if sign == "[":
            self._array(path)
        elif sign == "{":
            self._inline_table(path)
        else:
            self._skip(_STRING if sign in "\"'" else _SCALAR)

    def _array(self, path: Path) -> None:
        self.at += 1
        self._skip(_BLANK)
        number = 0
        while self.text[self.at] != "]":
            begin = self.at
            self._value((*path, number))
            if number < MAX_ELEMENTS:
                self.found.setdefault((*path, number), KeySpan(begin, self.at, begin, self.at))
            number += 1
            self._separator()
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        self._skip(_BLANK)
        while self.text[self.at] != "}":
            self._pair(path)
            self._separator()
        self.at += 1

    def _separator(self) -> None:
        self._skip(_BLANK)
        if self.text[self.at] == ",":
            self.at += 1
            self._skip(_BLANK)


class Finding(NamedTuple):
    """A mistake at a key of a job: of its value, or of the key itself."""

    path: Path
    message: str
    hint: str | None = None
    at_key: bool = False


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a string in quotes",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}

#: Names that other tools use.
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


def validation_findings(error: ValidationError, table: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield each error, at its key in the file."""
    seen: set[Path] = set()
    for one in error.errors(include_url=False):
        path = _path(table, one["loc"])
        message, hint = _message(one["type"], one.get("ctx", {}), one.get("input"), path)
        if path not in seen:
            seen.add(path)
            yield Finding(path, message, hint, at_key=one["type"] == "extra_forbidden" or one["loc"][-1] == "[key]")


def known_keys(path: Path = ()) -> dict[str, type[BaseModel] | None]:
    """Return the keys of the table at ``path`` (``()`` is a job), each with the model of its own table, if any."""
    model: type[BaseModel] | None = JobTable
    for part in path:
        model = _tables(model).get(str(part)) if model else None
    return _tables(model) if model else {}


def unknown_key(path: Path) -> tuple[str, str | None]:
    """Return message and hint for an unknown key."""
    *parts, key = (str(part) for part in path)
    table = ".".join(parts)
    siblings = known_keys(tuple(parts))
    wanted = key.lower().replace("_", "-")
    home = None if wanted in siblings else _home(wanted)
    hint = _move(home, table) if home else did_you_mean(wanted, siblings)
    if key.isupper() and wanted not in siblings and not home:
        hint = "a variable of the command belongs below a line [env]; if that line begins with #, delete the #"
    return "unknown key" + f" in [{table}]" * bool(table), hint or "known keys: " + ", ".join(siblings)


def _home(key: str) -> str | None:
    """Return where a key of that name belongs, or the key that other tools call so."""
    top = known_keys()
    if key in top:
        return key
    return next((f"{name}.{key}" for name, model in top.items() if key in _tables(model)), FOREIGN.get(key))


def _move(full: str, table: str) -> str:
    home, _, key = full.rpartition(".")
    if home == table:
        return Guess(f"did you mean '{key}'?")
    if not home:
        return f"'{key}' belongs at the top level: move it above the first [table]"
    return Guess(f"did you mean '{key}' in [{home}]?")


def _tables(model: type[BaseModel] | None) -> dict[str, type[BaseModel] | None]:
    found: dict[str, type[BaseModel] | None] = {}
    for name, each in (model.model_fields if model else {}).items():
        kinds = [each.annotation, *get_args(each.annotation)]
        found[each.alias or name] = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return found


def _example(path: Path) -> str:
    """Return the line that ``explain`` shows for a key."""
    model: type[BaseModel] = JobTable
    for part in path[:-1]:
        model = _tables(model).get(str(part)) or model
    return next(
        str(field.examples[0])
        for name, field in model.model_fields.items()
        if field.examples and (field.alias or name) == path[-1]
    )


def _path(table: Mapping[str, Any], loc: tuple[str | int, ...]) -> Path:
    """Convert a location of pydantic to a key of the file, without the variants of a union."""
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
        alike = [one for one in choices if 2 * distance(str(found).lower(), one) < len(one)]
        guess = did_you_mean(found, alike) if isinstance(found, str) else None
        return f"expected one of {', '.join(choices)}, found {show_value(found)}", guess
    if kind == "string_too_short":
        return "the string is empty", None
    if kind == "too_short":
        return "the list is empty", f"for example {_example(path)}, or delete the key"
    if kind == "list_type" and isinstance(found, str):
        return f"expected a list, found {show_value(found)}", f"write {path[-1]} = [{show_value(found)}]"
    expected = _EXPECTED.get(kind, "something else")
    hint = "write it without quotes" if expected == "a whole number" and str(found).isdigit() else None
    return f"expected {expected}, found {show_value(found)}", hint


SOURCES = ("file", "glob", "values", "range", "csv", "matrix")
_HEADLESS_ONLY = ("command", "shell", "env", "items", "retry")
_TOP = ("name", "image", "kind", "command", "shell", "replicas", "session-name", "after")


def rule_findings(table: Mapping[str, Any], *, from_file: bool) -> Iterator[Finding]:
    """Report every broken rule."""
    if "command" in table and "shell" in table:
        yield Finding(("shell",), "command and shell exclude each other", "delete one of the two", at_key=True)
    resources, retry = table.get("resources"), table.get("retry")
    if isinstance(resources, Mapping) and isinstance(retry, Mapping) and "ram" in resources and "ram" in retry:
        yield Finding(
            ("retry", "ram"),
            "resources.ram and retry.ram exclude each other",
            "retry.ram includes attempt 1",
            at_key=True,
        )
    yield from _kind(table)
    yield from _items(table)
    name, after = table.get("name"), table.get("after")
    if isinstance(after, list) and name in after:
        yield Finding(("after", after.index(name)), f"'{name}' cannot wait for itself")
    if from_file:
        yield from _misplaced(table)


def _misplaced(table: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys of the manifest below [env]. A variable can have such a name if the manifest has the key, too."""
    env = table.get("env")
    for name in env if isinstance(env, Mapping) else ():
        if name in _TOP and name not in table:
            message = f"'{name}' is a key of the manifest, but is below [env]"
            yield Finding(("env", name), message, "move it above the first [table]", at_key=True)


def _kind(table: Mapping[str, Any]) -> Iterator[Finding]:
    kind = table.get("kind", "headless")
    if kind == "headless" or kind not in KINDS:
        return
    for key in _HEADLESS_ONLY:
        if table.get(key):
            message = f"the platform ignores it for a {kind} session"
            yield Finding((key,), message, 'delete it, or write kind = "headless"', at_key=True)
    replicas = table.get("replicas")
    if isinstance(replicas, int) and replicas > 1:
        yield Finding(("replicas",), f"a {kind} job can have only one replica", 'only kind = "headless" allows several')


def _items(table: Mapping[str, Any]) -> Iterator[Finding]:
    items = table.get("items")
    if not isinstance(items, Mapping):
        return
    given = [key for key in items if key in SOURCES]
    if not given:
        yield Finding(("items",), "[items] needs a source", f"give one of {', '.join(SOURCES)}")
    for other in given[1:]:
        yield Finding(("items", other), f"both {given[0]} and {other} are given", "delete one of the two", at_key=True)
    yield from _share(table, items, given)


def _share(table: Mapping[str, Any], items: Mapping[str, Any], given: list[str]) -> Iterator[Finding]:
    rows = [source for source in given if source in ("csv", "matrix")]
    if "replicas" in table and "per-replica" in items:
        message = "both replicas and per-replica are given"
        yield Finding(("items", "per-replica"), message, "delete one of the two", at_key=True)
    elif "replicas" in table and rows:
        what = "row" if rows == ["csv"] else "combination"
        message = f"with {rows[0]}, one {what} is one replica"
        yield Finding(("replicas",), message, "delete replicas, or write per-replica in [items]", at_key=True)
    elif given and not rows and "replicas" not in table and "per-replica" not in items:
        message = "set replicas or items.per-replica: how many replicas share the items"
        yield Finding(("items",), message, "replicas = 10 above the first [table], or per-replica = 1 in [items]")
