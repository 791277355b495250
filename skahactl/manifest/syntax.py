"""The text of a TOML file: positions of its keys and values, and explanations of text that is not TOML."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, NamedTuple, TypeVar

from skahactl.errors import Problem
from skahactl.system import new_manifest, read_limited, read_stream

#: The path of a key in the file: names, and numbers from 0 for tables of a list such as ``[[job]]``.
Path = tuple[str | int, ...]

T = TypeVar("T")

MAX_ELEMENTS = 1000  # elements of a list with a position; later ones have that of the list

_KEY = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_STRING = re.compile(r"\"\"\"(?:[^\\]|\\.)*?\"\"\"\"{0,2}|'''.*?''''{0,2}|\"(?:[^\"\\]|\\.)*\"|'[^']*'", re.DOTALL)
_SCALAR = re.compile(r"\d{4}-\d{2}-\d{2} \d[^,\]}\s#]*|[^,\]}\s#]+")


class KeySpan(NamedTuple):
    """Offsets of a key and of its value in a text; for a table, both are the offsets of its header."""

    key: int
    key_end: int
    value: int
    value_end: int


class SourceText:
    """A text, with the positions of its keys and values."""

    def __init__(self, text: str = "", spans: Mapping[Path, KeySpan] | None = None):
        self.text = text
        self.spans = spans or {}
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    @classmethod
    def of(cls, text: str, *, is_valid: bool = False) -> SourceText:
        """Return the source of ``text``; with the positions of its keys if it ``is_valid`` TOML (for ``tomllib``)."""
        return cls(text, dict(_Scanner(text).scan()) if is_valid else None)

    def place(self, begin: int, end: int) -> tuple[int, int, int, str]:
        """Return line and column of ``begin`` (from 1), the width up to ``end`` on that line, and the line."""
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
        """Return a problem at the job's key ``path``; ``()`` is the job itself.

        ``at_key``: the position of the problem is the key, not its value.
        """
        if self.is_set(path):
            return Problem("--set", message, None, dotted_key(path), hint)
        if (option := self._option(path)) is not None:
            return Problem(option, message, hint=hint)
        whole, root = self._find(path)
        label = "common." if root == ("common",) else self.label if root in (None, self.roots[0]) else ""
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
        """Return the key in the file that is ``path`` or the nearest table around it, and the root that has it."""
        for end in range(len(path), -1, -1):
            for root in self.roots:
                whole = (*root, *path[:end])
                if whole in self.source.spans:
                    return whole, root
        return None, None

    def _option(self, path: Path) -> str | None:
        """Return the option that gave the key or a table around it, with the rest of the key; None if there is none."""
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
    """Return a key as ``items.matrix``, a list element as ``command, word 2`` or ``after, element 1`` (from 1)."""
    text = ""
    for part in path:
        noun = "word" if text.endswith(".command") or not text else "element"
        text += f", {noun} {part + 1}" if isinstance(part, int) else f".{part}"
    return text.lstrip("., ")


def first_problems(found: Sequence[T], problem_of: Callable[[T], Problem], most: int = 10) -> Iterator[Problem]:
    """Yield the first ``most`` problems of one kind; the last of these says how many more there are."""
    for place, one in enumerate(found[:most], start=1):
        problem = problem_of(one)
        more = len(found) - most if place == most else 0
        yield replace(problem, message=f"{problem.message}; and {more:,} more of this kind") if more > 0 else problem


def order_problems(found: Sequence[Problem]) -> tuple[Problem, ...]:
    """Return the problems without duplicates, sorted by file and line; those without a line come last."""
    files = list(dict.fromkeys(problem.file for problem in found))
    return tuple(
        sorted(
            dict.fromkeys(found),
            key=lambda one: (files.index(one.file), one.line is None, one.line or 0, one.column or 0),
        )
    )


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
        """Read a ``[table]`` or ``[[table]]`` line, and return the path of its table; ``[[table]]`` have numbers."""
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
        """Read dotted keys, and return each name with its offsets."""
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


#: A whole number of TOML that may have more digits than Python converts to text (4300).
_LONG_NUMBER = re.compile(r"0x[\da-fA-F_]{3500,}|0o[0-7_]{4500,}|0b[01_]{14000,}|\d[\d_]{4299,}")
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")
_WORD = re.compile(r"[^\s,\]}#]+")
_AFTER_QUOTE = re.compile(r"(?<=[\"'])\w")
_NAMES = re.compile(r"'((?:[^'\\]|\\.)*)'")
_HEADER = re.compile(r"[ \t]*(\[.*?\]+)([^\n#]*)")
_FIRST_LINE = re.compile(r"^(?![ \t]*#)[ \t]*\S.*", re.MULTILINE)
_TOML_LINE = re.compile(r"^[ \t]*(?:\[\[?\w|[\w.-]+[ \t]*=)", re.MULTILINE)
_YAML_LINE = re.compile(r"---|-\s|[\w.-]+:(?:\s|$)")

_OPEN_QUOTED = ("Unterminated string", 'Expected "\'"', "Expected \"'''\"")

_MESSAGES = {
    "Unclosed array": ("the list is not closed", "a list ends with ], and its elements have commas between them"),
    "Unclosed inline table": ("the { is not closed", "an inline table ends with }, on the same line"),
    "Invalid statement": ("expected KEY = VALUE or [TABLE]", None),
    "Expected newline or end of document after a statement": (
        "text after the value",
        "write one KEY = VALUE per line; to have quotes in a string, write it in '...'",
    ),
    "Unescaped '\\' in a string": (
        'in "..." a backslash begins an escape',
        "write the string in '...', where a backslash is only a backslash",
    ),
    "Cannot overwrite a value": ("the key is given twice", "keep one of the two"),
    "Invalid date or datetime": ("invalid date or time", "write it as a string, in quotes"),
    "Invalid initial character for a key part": ("invalid character in a key", "write the key in quotes"),
}


def read_text(file: str, path: str, what: str, limit: int, stdin: BinaryIO | None = None) -> str | Problem:
    """Return the text of a file, or of ``stdin`` if given, with line ends as newlines; or what is wrong with it.

    Messages call it ``file`` and ``what``. ``limit`` is in bytes.
    """
    try:
        data = read_limited(path, limit) if stdin is None else read_stream(stdin, limit)
    except OSError as error:
        return Problem(file, f"cannot be read: {error.strerror}")
    if len(data) > limit:
        return Problem(file, f"not {what}: it has more than {limit >> 20} MiB")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        return Problem(file, "not UTF-8", data.count(b"\n", 0, error.start) + 1)


def toml_tables(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises TOMLDecodeError for text that is not TOML, and another ValueError for what Python cannot represent.
    """
    try:
        tables = tomllib.loads(text)
        if _LONG_NUMBER.search(text):
            repr(tables)  # Python reads a long hexadecimal number, but cannot write it in decimal
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("tables or lists are nested too deeply") from None
    except ValueError:
        raise ValueError("a number with too many digits") from None
    return tables


def parse_toml(file: str, text: str) -> dict[str, Any] | Problem:
    """Return the tables of a TOML text, or what is wrong with it."""
    try:
        return toml_tables(text)
    except tomllib.TOMLDecodeError as error:
        return _explain(file, text, str(error))
    except ValueError as error:
        found = _LONG_NUMBER.search(text)
        if found is None:
            return Problem(file, str(error))
        return _at(file, text, found.start(), str(error), "write it as a string")


def _explain(file: str, text: str, error: str) -> Problem:
    position = _POSITION.search(error)
    message = error[: position.start()] if position else error
    at = _offset(text, position)
    if message.startswith("Illegal character") or message in _OPEN_QUOTED:
        return _open_string(file, text, at, message)
    if message == "Invalid value":
        return _invalid_value(file, text, at)
    if message.startswith("Expected '=' after a key"):
        return _missing_equals(file, text, at)
    if message.startswith(("Unclosed", "Expected newline")) and _AFTER_QUOTE.match(text, at):
        quote, other = sorted("\"'", key=lambda one: one != text[at - 1])
        hint = f"write a text with {quote} in {other}...{other}, or in {other * 3}...{other * 3}"
        return _at(file, text, at - 1, "this quote ends the string", hint)
    if message.startswith("Expected newline") and (header := _HEADER.match(text, text.rfind("\n", 0, at) + 1)):
        pair = header[2].strip()
        return _at(file, text, at, "text after a table header", f"write {pair} on a line of its own, below {header[1]}")
    if names := _NAMES.findall(message.partition("(")[2]):
        return _repeated(file, text, at, message, ".".join(names))
    explained, advice = _MESSAGES.get(message, (f"{message[:1].lower()}{message[1:]}", None))
    return _at(file, text, at, explained, advice)


def explain_other_format(file: str, text: str) -> Problem | None:
    """Return a problem for a text that is a script, YAML or JSON instead of a manifest; None for any other text."""
    if re.search(r"^#SBATCH\s", text, re.MULTILINE):
        where = "-" if file == "-" else shlex.quote(file)
        made = shlex.quote(new_manifest(file, os.getcwd()))
        hint = f"convert it: skahactl init --from-sbatch {where} > {made}"
        return Problem(file, "this is a Slurm batch script, not a manifest", hint=hint)
    if text.startswith("#!"):
        return Problem(file, "this is a script, not a manifest", hint="name it in the command of a manifest")
    first = _FIRST_LINE.search(text)
    if first is None or _TOML_LINE.search(text):
        return None
    other = "JSON" if first[0].startswith("{") else "YAML" if _YAML_LINE.match(first[0]) else None
    hint = "to begin: skahactl init > job.toml"
    return Problem(file, f"this is {other}, and a manifest is TOML", hint=hint) if other else None


def _offset(text: str, position: re.Match[str] | None) -> int:
    if position is None or position[1] is None:
        return max(0, len(text.rstrip()) - 1)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    return starts[int(position[1]) - 1] + int(position[2]) - 1


def _at(file: str, text: str, at: int, message: str, hint: str | None = None, width: int = 1) -> Problem:
    line, column, width, source = SourceText.of(text).place(at, at + width)
    return Problem(file, f"not TOML: {message}", line, None, hint, column, width, source)


def _open_string(file: str, text: str, at: int, message: str) -> Problem:
    """Return the problem of a string that is not closed, at the quote that opens it."""
    begin = text.rfind("\n", 0, at) + 1
    line = text[begin:].split("\n", 1)[0]
    rest = _QUOTED.sub(lambda match: "." * len(match[0]), line)
    quote = re.search("[\"']", rest)
    if not message.startswith("Illegal") and (long := max(text.rfind('"""'), text.rfind("'''"))) >= 0:
        return _at(file, text, long, "the string is not closed", f"it ends with {text[long : long + 3]}", 3)
    if quote is None:
        return _at(file, text, at, "a control character", "write it as an escape such as \\u0007")
    hint = f"close it with {quote[0]} on the same line; write a text of several lines in '''...'''"
    return _at(file, text, begin + quote.start(), "the string is not closed", hint, len(rest) - quote.start())


def _invalid_value(file: str, text: str, at: int) -> Problem:
    word = _WORD.match(text, at)
    if word is None:
        return _at(file, text, at, "the value is missing")
    lowered = word[0].lower()
    if lowered in ("true", "false", "yes", "no", "on", "off", "none", "null"):
        hint = "write true or false" if lowered not in ("none", "null") else "leave the key out"
    elif word[0][0] in "“”‘’«»":
        hint = "use straight quotes: \" or '"
    else:
        rest = text[at:].split("\n", 1)[0].partition("#")[0].strip()
        plain = "," not in rest and not {'"', "'", "\\"} & set(rest)
        hint = f'write text in quotes: "{rest if plain else word[0]}"'
    return _at(file, text, at, "invalid value", hint, len(word[0]))


def _missing_equals(file: str, text: str, at: int) -> Problem:
    begin = text.rfind("\n", 0, at) + 1
    key = re.match(r"\s*([\w.-]+)", text[begin:])
    name = key[1] if key else "KEY"
    return _at(file, text, at, f"expected = after {name}", f"TOML writes {name} = ...")


def _repeated(file: str, text: str, at: int, message: str, name: str) -> Problem:
    """Return the problem of a table or key that is given twice, or added to after it was complete."""
    begin = text.rfind("\n", 0, at) + 1
    width = len(text[begin:].split("\n", 1)[0].rstrip())
    if message.startswith("Cannot declare"):
        first = re.search(rf"^\s*\[\[?\s*{re.escape(name)}\s*\]", text, re.MULTILINE)
        line = text.count("\n", 0, first.end()) + 1 if first and first.start() < begin else None
        where = f" (the first is in line {line})" if line else ""
        hint = f"put all its keys below one [{name}]"
        return _at(file, text, begin, f"[{name}] is given twice{where}", hint, width)
    hint = f"write all keys of {name} in one place"
    return _at(file, text, begin, f"{name} is complete already, and nothing can be added to it", hint, width)
