"""Read and check the work list of a manifest."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace

from skahactl.errors import Problem
from skahactl.manifest.arrays import parse_array
from skahactl.manifest.placeholders import each_variable
from skahactl.manifest.schema import SOURCES, ItemsTable
from skahactl.manifest.syntax import Path, SourceMap, dotted_key, first_problems
from skahactl.split.patterns import matches as find_matches
from skahactl.split.shares import balanced, bounds
from skahactl.system import read_limited
from skahactl.text import count_noun

MOST = 10_000_000  # maximum number of combinations of a matrix


@dataclass(frozen=True, slots=True)
class Items:
    """A work list: ``texts`` are the items, ``rows`` their columns (empty for a plain list).

    ``file`` is their source, as shown to a user; ``lines`` are their line numbers in it, if it has lines.
    """

    texts: Sequence[str]
    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    file: str | None = None
    lines: Sequence[int] = ()
    joined: bool = False  # an item is all its columns, separated by commas, instead of the first one

    def digest(self) -> str:
        """Return the SHA-256 of the list, in hex."""
        data = [self.columns, self.rows] if self.columns else self.texts
        return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode("ascii")).hexdigest()

    def without(self, completed: Set[str]) -> Items:
        """Return the list without these items; of equal items, all are removed."""
        kept = [position for position, text in enumerate(self.texts) if text not in completed]
        return replace(
            self,
            texts=[self.texts[position] for position in kept],
            rows=[self.rows[position] for position in kept] if self.rows else (),
            lines=[self.lines[position] for position in kept] if self.lines else (),
        )

    def place(self, position: int) -> str:
        """Return where the item at ``position`` is, for messages."""
        return f"line {self.lines[position]}" if self.lines else f"item {position + 1}"


def resolve_path(path: str, directory: str, given: bool) -> str:
    """Return an absolute path: ``~`` is expanded, and a relative path starts at the manifest.

    If it was ``given`` with --set, a path that exists in the working directory is used.
    """
    path = os.path.expanduser(path)
    here = os.path.abspath(path)
    return here if given and os.path.exists(here) else os.path.normpath(os.path.join(directory, path))


def shown_items(path: str, key: Path, places: SourceMap) -> str:
    """Return the path of a list for messages, relative to the path of the manifest, so that the user can open it."""
    if path.startswith("~") or places.is_set(key):
        return path
    return os.path.join(os.path.dirname(places.file), path)


def _content(path: str, key: Path, places: SourceMap, directory: str, found: list[Problem]) -> bytes | None:
    whole = resolve_path(path, directory, places.is_set(key))
    try:
        data = read_limited(whole, LARGEST)
    except (OSError, ValueError) as error:
        beside = f"full path: {whole}" if whole != path else None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        found.append(places.problem(key, f"cannot read '{path}': {reason}", missing_arc_hint(whole) or beside))
        return None
    if len(data) > LARGEST:
        found.append(places.problem(key, f"'{path}' has more than {LARGEST >> 30} GiB"))
        return None
    return data


def missing_arc_hint(path: str) -> str | None:
    if not path.startswith("/arc"):
        return None
    return "/arc is read on the machine where skahactl runs; run it in a session, or copy the list to this machine"


def _decode(data: bytes, path: str, found: list[Problem]) -> str | None:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found.append(Problem(path, "not UTF-8", data.count(b"\n", 0, error.start) + 1))
        return None


def items_from_file(path: str, places: SourceMap, directory: str, found: list[Problem]) -> Items | None:
    data = _content(path, ("items", "file"), places, directory, found)
    path = shown_items(path, ("items", "file"), places)
    text = None if data is None else _decode(data, path, found)
    if data is None or text is None:
        return None
    end = "\0" if b"\0" in data[:65536] else "\n"
    lines = text.split(end)
    if lines[-1] == "":
        lines.pop()
    blank = [number for number, line in enumerate(lines, start=1) if not line or line.isspace()]
    found += _at_lines(path, blank, "a blank line", "every line is an item; remove this line")
    if end == "\n":
        returns = [number for number, line in enumerate(lines, start=1) if line.endswith("\r")]
        found += _at_lines(path, returns[:1], "a carriage return at the end of the line", r"sed -i 's/\r$//' " + path)
    if not blank:
        return Items(lines, file=path, lines=range(1, len(lines) + 1))
    kept = [number for number, line in enumerate(lines, start=1) if line and not line.isspace()]
    return Items([lines[number - 1] for number in kept], file=path, lines=kept)


def items_from_csv(path: str, places: SourceMap, directory: str, found: list[Problem]) -> Items | None:
    data = _content(path, ("items", "csv"), places, directory, found)
    path = shown_items(path, ("items", "csv"), places)
    text = None if data is None else _decode(data, path, found)
    if text is None:
        return None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    begin = 1
    try:
        for row in reader:
            if not header:
                header = tuple(name.strip() for name in row)
            elif (message := _row_problem(row, header)) is not None:
                found.append(Problem(path, message, begin))
            else:
                rows.append(tuple(row))
                lines.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        found.append(Problem(path, f"invalid CSV: {error}", reader.line_num))
        if not header:
            return None
    return Items([row[0] for row in rows], header, rows, path, lines)


def _row_problem(row: list[str], header: tuple[str, ...]) -> str | None:
    if not row or not "".join(row).strip():
        return "a blank line"
    if len(row) != len(header):
        return f"{count_noun(len(row), 'field')}, but the header has {len(header)}"
    return None if row[0].strip() else f"the first column ('{header[0]}') is the item, but it is empty in this row"


def items_from_glob(patterns: str | list[str], places: SourceMap, directory: str, found: list[Problem]) -> Items:
    paths: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        whole = resolve_path(pattern, os.getcwd() if places.is_set(("items", "glob")) else directory, False)
        matches = find_matches(whole)
        if not matches:
            found.append(
                places.problem(
                    ("items", "glob"), f"nothing matches '{pattern}'", missing_arc_hint(whole) or f"full path: {whole}"
                )
            )
        paths.update(matches)
    for path in sorted(paths):
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            found.append(places.problem(("items", "glob"), f"{os.fsencode(path)!r} is not UTF-8"))
    return Items(sorted(paths, key=os.fsencode), file=patterns if isinstance(patterns, str) else ", ".join(patterns))


def items_from_matrix(matrix: dict[str, list[str]], places: SourceMap, found: list[Problem]) -> Items | None:
    empty = [key for key, values in matrix.items() if not values]
    for key in empty:
        found.append(places.problem(("items", "matrix", key), "an empty list"))
    for key, values in matrix.items():
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            found.append(places.problem(("items", "matrix", key), f"'{twice}' is given twice"))
    count = math.prod(len(values) for values in matrix.values())
    if count > MOST:
        found.append(places.problem(("items", "matrix"), f"{count:,} combinations, more than {MOST:,}"))
        return None
    if not matrix:
        return Items([])
    rows = list(itertools.product(*map(dict.fromkeys, matrix.values())))
    return Items([",".join(row) for row in rows], tuple(matrix), rows, joined=True)


def _at_lines(path: str, lines: list[int], message: str, hint: str) -> Iterator[Problem]:
    return first_problems(lines, lambda line: Problem(path, message, line, None, hint))


def read_items(table: ItemsTable, places: SourceMap, directory: str, found: list[Problem]) -> Items | None:
    """Return the items that could be read, None if none could, and add the problems to ``found``.

    Relative paths start at ``directory``.
    """
    before = len(found)
    if table.file is not None:
        items = items_from_file(table.file, places, directory, found)
    elif table.csv is not None:
        items = items_from_csv(table.csv, places, directory, found)
    elif table.glob is not None:
        items = items_from_glob(table.glob, places, directory, found)
    elif table.matrix is not None:
        items = items_from_matrix(table.matrix, places, found)
    elif table.range is not None:
        items = Items(parse_array(table.range).texts())
    else:
        items = Items(table.values or [])
    key = items_source(table)
    if items is not None:
        found += _alike(items, places, key, table.duplicates)
        found += _columns(items, places, key)
    found[before:] = [_of_manifest(problem, places, key) for problem in found[before:]]
    return items


def _of_manifest(problem: Problem, places: SourceMap, key: Path) -> Problem:
    """Return a problem in a list, with the manifest that names the list added."""
    if problem.line is None or problem.file in ("--set", places.file):
        return problem
    return replace(problem, key=dotted_key(key), manifest=places.file)


def items_source(table: ItemsTable) -> Path:
    """Return the key that names the source of the items."""
    return "items", next(key for key in SOURCES if getattr(table, key) is not None)


def item_warnings(items: Items, table: ItemsTable) -> Iterator[str]:
    """Yield warnings about items that are valid, but rarely intended."""
    if table.file is None:
        return
    comments = [position for position, text in enumerate(items.texts) if text.startswith("#")]
    if comments:
        count = count_noun(len(comments), "line begins", "lines begin")
        yield (
            f"{items.file}:{items.lines[comments[0]]}: {count} with #, and each is an item like any other "
            f"(first: {items.texts[comments[0]][:60]!r})"
        )


def item_sizes(items: Items, places: SourceMap, directory: str, found: list[Problem]) -> list[int]:
    """Return the sizes in bytes of the files that the items name; missing files are added to ``found``."""
    weights: list[int] = []
    missing: list[int] = []
    for position, text in enumerate(items.texts):
        try:
            weights.append(os.stat(os.path.join(directory, os.path.expanduser(text))).st_size)
        except (OSError, ValueError):
            missing.append(position)

    def problem(position: int) -> Problem:
        text = items.texts[position]
        message = f"no file '{text}' ({items.place(position)}), so its size is unknown"
        return places.problem(("items", "strategy"), message, missing_arc_hint(text))

    found += first_problems(missing, problem)
    return weights


def _alike(items: Items, places: SourceMap, key: Path, allowed: bool) -> Iterator[Problem]:
    """Report equal items, each once with its first two positions."""
    if allowed or len(set(items.texts)) == len(items.texts):
        return
    first: dict[str, int] = {}
    second: dict[str, int] = {}
    for position, text in enumerate(items.texts):
        if first.setdefault(text, position) != position:
            second.setdefault(text, position)

    def problem(text: str) -> Problem:
        message = f"duplicate item '{text}': {items.place(first[text])} and {items.place(second[text])}"
        hint = "remove one, or set duplicates = true in [items]"
        if not items.lines:
            return places.problem(key, message, hint)
        return Problem(items.file or places.file, message, items.lines[second[text]], dotted_key(key), hint)

    yield from first_problems(list(second), problem)


def _columns(items: Items, places: SourceMap, key: Path) -> Iterator[Problem]:
    names: dict[str, str] = {}
    for column in items.columns:
        made = each_variable(column)
        if not column or any(character in column for character in "{}"):
            yield places.problem(key, f"'{column}' is not a valid column name", "use a non-empty name without braces")
        elif made in names:
            yield places.problem(key, f"columns '{names[made]}' and '{column}' would both become {made}", "rename one")
        names[made] = column


def share_items(count: int, total: int, strategy: str, weights: Sequence[int] = ()) -> list[Sequence[int]]:
    """Return the positions of each replica, 1 to ``total``; ``weights`` are item sizes, only for ``size``."""
    if strategy == "stripe":
        return [range(replica, count, total) for replica in range(total)]
    if strategy == "size":
        made: list[list[int]] = [[] for _ in range(total)]
        for position, replica in enumerate(balanced(weights, total)):
            made[replica - 1].append(position)
        return list(made)
    return [range(*bounds(count, replica, total)) for replica in range(1, total + 1)]


LARGEST = 1 << 30  # bytes of a list
