"""Where things stand in a manifest: the line of a key, and problems that name it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from skahactl.errors import Problem

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
