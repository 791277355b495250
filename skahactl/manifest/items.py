"""The work list of a manifest: lines, files that a pattern finds, values, rows of a table, a cross product."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from skahactl.errors import Problem
from skahactl.manifest.each import variable
from skahactl.manifest.places import Path, Places, dotted
from skahactl.manifest.schema import ItemsTable

MOST = 10_000_000
_SHOWN = 10  # problems of one kind in one list


@dataclass(frozen=True, slots=True)
class Items:
    """The list: ``texts`` are the items; ``rows`` their columns, empty lists of both for a plain list.

    ``file`` is where they were read, as shown to a person; ``lines`` the line of each in it, if lines count.
    """

    texts: Sequence[str]
    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    file: str | None = None
    lines: Sequence[int] = ()

    def digest(self) -> str:
        """SHA-256 of the list, hex."""
        data = [self.columns, self.rows] if self.columns else self.texts
        return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode("ascii")).hexdigest()

    def place(self, position: int) -> str:
        """Where the item at ``position`` stands, for messages."""
        return f"line {self.lines[position]}" if self.lines else f"item {position + 1}"


def read(table: ItemsTable, places: Places, directory: str, found: list[Problem]) -> Items | None:
    """The items, or None with what is wrong in ``found``. Relative paths begin at ``directory``."""
    before = len(found)
    if table.file is not None:
        items = _from_file(table.file, places, directory, found)
    elif table.csv is not None:
        items = _from_csv(table.csv, places, directory, found)
    elif table.glob is not None:
        items = _from_glob(table.glob, places, directory, found)
    elif table.matrix is not None:
        items = _from_matrix(table.matrix, places, found)
    else:
        items = Items(table.values or [])
    if items is None or len(found) > before:
        return None
    key = source(table)
    if not items.texts:
        found.append(places.problem(key, "no items", f"{items.file} is empty" if items.file else None))
    found += _alike(items, places, key, table.duplicates)
    found += _columns(items, places, key)
    return items if len(found) == before else None


def source(table: ItemsTable) -> Path:
    """The key that says where the items come from."""
    return (
        "items",
        next(key for key in ("file", "glob", "values", "csv", "matrix") if getattr(table, key) is not None),
    )


def sizes(items: Items, places: Places, directory: str, found: list[Problem]) -> list[int]:
    """Bytes of the files that the items name."""
    weights, missing = [], []
    for position, text in enumerate(items.texts):
        try:
            weights.append(os.stat(os.path.join(directory, os.path.expanduser(text))).st_size)
        except (OSError, ValueError):
            missing.append(position)
    for position in missing[:_SHOWN]:
        text = items.texts[position]
        found.append(
            places.problem(
                ("items", "strategy"), f"no file '{text}' ({items.place(position)}), so it has no size", _arc(text)
            )
        )
    if len(missing) > _SHOWN:
        found.append(
            places.problem(("items", "strategy"), f"and {len(missing) - _SHOWN:,} more items that are no files")
        )
    return weights


def located(path: str, directory: str, given: bool) -> str:
    """An absolute path: ``~`` expanded; relative to the manifest; if ``given`` by --set, here if it exists here."""
    path = os.path.expanduser(path)
    here = os.path.abspath(path)
    return here if given and os.path.exists(here) else os.path.normpath(os.path.join(directory, path))


def _content(path: str, key: Path, places: Places, directory: str, found: list[Problem]) -> bytes | None:
    whole = located(path, directory, places.is_set(key))
    try:
        with open(whole, "rb") as stream:
            return stream.read()
    except OSError as error:
        beside = f"looked for {whole}" if whole != path else None
        found.append(places.problem(key, f"cannot read '{path}': {error.strerror}", _arc(whole) or beside))
        return None


def _arc(path: str) -> str | None:
    if not path.startswith("/arc"):
        return None
    return "/arc is read where skahactl runs: run it in a session of the platform, or keep a copy of the list here"


def _decoded(data: bytes, path: str, found: list[Problem]) -> str | None:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found.append(Problem(path, "not UTF-8", data.count(b"\n", 0, error.start) + 1))
        return None


def _from_file(path: str, places: Places, directory: str, found: list[Problem]) -> Items | None:
    data = _content(path, ("items", "file"), places, directory, found)
    text = None if data is None else _decoded(data, path, found)
    if data is None or text is None:
        return None
    end = "\0" if b"\0" in data[:65536] else "\n"
    lines = text.split(end)
    if lines[-1] == "":
        lines.pop()
    blank = [number for number, line in enumerate(lines, start=1) if not line or line.isspace()]
    found += _some(path, blank, "a blank line", "every line is an item: take it out")
    if end == "\n":
        returns = [number for number, line in enumerate(lines, start=1) if line.endswith("\r")]
        found += _some(path, returns[:1], "a carriage return at the end of the line", r"sed -i 's/\r$//' " + path)
    return Items(lines, file=path, lines=range(1, len(lines) + 1))


def _from_csv(path: str, places: Places, directory: str, found: list[Problem]) -> Items | None:
    data = _content(path, ("items", "csv"), places, directory, found)
    text = None if data is None else _decoded(data, path, found)
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
        found.append(Problem(path, f"no CSV: {error}", reader.line_num))
    return Items([row[0] for row in rows], header, rows, path, lines)


def _row_problem(row: list[str], header: tuple[str, ...]) -> str | None:
    if not row or not "".join(row).strip():
        return "a blank line"
    if len(row) != len(header):
        return f"{len(row)} fields, the header has {len(header)}"
    return None if row[0].strip() else f"the first column, '{header[0]}', is the item, and empty here"


def _from_glob(patterns: str | list[str], places: Places, directory: str, found: list[Problem]) -> Items:
    paths: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        whole = located(pattern, os.getcwd() if places.is_set(("items", "glob")) else directory, False)
        matches = glob.glob(whole, recursive=True)
        if not matches:
            found.append(
                places.problem(("items", "glob"), f"nothing matches '{pattern}'", _arc(whole) or f"looked for {whole}")
            )
        paths.update(matches)
    for path in sorted(paths):
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            found.append(places.problem(("items", "glob"), f"{os.fsencode(path)!r} is not UTF-8"))
    return Items(sorted(paths, key=os.fsencode), file=None if isinstance(patterns, list) else patterns)


def _from_matrix(matrix: dict[str, list[str]], places: Places, found: list[Problem]) -> Items | None:
    empty = [key for key, values in matrix.items() if not values]
    for key in empty:
        found.append(places.problem(("items", "matrix", key), "an empty list"))
    for key, values in matrix.items():
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            found.append(places.problem(("items", "matrix", key), f"'{twice}' stands there twice"))
    count = math.prod(len(values) for values in matrix.values())
    if count > MOST:
        found.append(places.problem(("items", "matrix"), f"{count:,} combinations, more than {MOST:,}"))
        return None
    if not matrix:
        return Items([])
    rows = list(itertools.product(*matrix.values()))
    return Items([",".join(row) for row in rows], tuple(matrix), rows)


def _alike(items: Items, places: Places, key: Path, allowed: bool) -> Iterator[Problem]:
    """Equal items, each told once with the first two places."""
    if allowed or len(set(items.texts)) == len(items.texts):
        return
    first: dict[str, int] = {}
    told: set[str] = set()
    for position, text in enumerate(items.texts):
        if first.setdefault(text, position) != position and text not in told:
            told.add(text)
            message = f"'{text}' twice: {items.place(first[text])} and {items.place(position)}"
            if len(told) <= _SHOWN:
                line = items.lines[position] if items.lines else None
                hint = "take one out, or say duplicates = true in [items]"
                yield (
                    Problem(items.file or places.file, message, line, dotted(key), hint)
                    if line
                    else places.problem(key, message, hint)
                )
    if len(told) > _SHOWN:
        yield places.problem(key, f"and {len(told) - _SHOWN:,} more equal items")


def _columns(items: Items, places: Places, key: Path) -> Iterator[Problem]:
    names: dict[str, str] = {}
    for column in items.columns:
        made = variable(column)
        if not column or any(character in column for character in "{}"):
            yield places.problem(key, f"'{column}' is no name of a column", "a name without braces")
        elif made in names:
            yield places.problem(key, f"columns '{names[made]}' and '{column}' would both be {made}", "rename one")
        names[made] = column


def _some(path: str, lines: list[int], message: str, hint: str) -> Iterator[Problem]:
    for line in lines[:_SHOWN]:
        yield Problem(path, message, line, None, hint)
    if len(lines) > _SHOWN:
        yield Problem(path, f"{message}, and {len(lines) - _SHOWN:,} more", lines[_SHOWN], None, hint)
