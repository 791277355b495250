"""The work list of a manifest: read, and checked for what no list may have."""

from __future__ import annotations

import os
from collections.abc import Iterator

from skahactl.errors import Problem
from skahactl.manifest.each import each_variable
from skahactl.manifest.lists import (
    SHOWN,
    Items,
    items_from_csv,
    items_from_file,
    items_from_glob,
    items_from_matrix,
    missing_arc_hint,
)
from skahactl.manifest.places import Path, SourceMap, dotted_key
from skahactl.manifest.schema import ItemsTable


def read_items(table: ItemsTable, places: SourceMap, directory: str, found: list[Problem]) -> Items | None:
    """The items, or None with what is wrong in ``found``. Relative paths begin at ``directory``."""
    before = len(found)
    if table.file is not None:
        items = items_from_file(table.file, places, directory, found)
    elif table.csv is not None:
        items = items_from_csv(table.csv, places, directory, found)
    elif table.glob is not None:
        items = items_from_glob(table.glob, places, directory, found)
    elif table.matrix is not None:
        items = items_from_matrix(table.matrix, places, found)
    else:
        items = Items(table.values or [])
    if items is None or len(found) > before:
        return None
    key = items_source(table)
    if not items.texts:
        found.append(places.problem(key, "no items", f"{items.file} has none" if items.file else None))
    found += _alike(items, places, key, table.duplicates)
    found += _columns(items, places, key)
    return items if len(found) == before else None


def items_source(table: ItemsTable) -> Path:
    """The key that says where the items come from."""
    return (
        "items",
        next(key for key in ("file", "glob", "values", "csv", "matrix") if getattr(table, key) is not None),
    )


def item_sizes(items: Items, places: SourceMap, directory: str, found: list[Problem]) -> list[int]:
    """Bytes of the files that the items name."""
    weights, missing = [], []
    for position, text in enumerate(items.texts):
        try:
            weights.append(os.stat(os.path.join(directory, os.path.expanduser(text))).st_size)
        except (OSError, ValueError):
            missing.append(position)
    for position in missing[:SHOWN]:
        text = items.texts[position]
        found.append(
            places.problem(
                ("items", "strategy"),
                f"no file '{text}' ({items.place(position)}), so it has no size",
                missing_arc_hint(text),
            )
        )
    if len(missing) > SHOWN:
        found.append(
            places.problem(("items", "strategy"), f"and {len(missing) - SHOWN:,} more items that are no files")
        )
    return weights


def _alike(items: Items, places: SourceMap, key: Path, allowed: bool) -> Iterator[Problem]:
    """Equal items, each told once with the first two places."""
    if allowed or len(set(items.texts)) == len(items.texts):
        return
    first: dict[str, int] = {}
    told: set[str] = set()
    for position, text in enumerate(items.texts):
        if first.setdefault(text, position) != position and text not in told:
            told.add(text)
            message = f"'{text}' twice: {items.place(first[text])} and {items.place(position)}"
            if len(told) <= SHOWN:
                line = items.lines[position] if items.lines else None
                hint = "take one out, or say duplicates = true in [items]"
                yield (
                    Problem(items.file or places.file, message, line, dotted_key(key), hint)
                    if line
                    else places.problem(key, message, hint)
                )
    if len(told) > SHOWN:
        yield places.problem(key, f"and {len(told) - SHOWN:,} more equal items")


def _columns(items: Items, places: SourceMap, key: Path) -> Iterator[Problem]:
    names: dict[str, str] = {}
    for column in items.columns:
        made = each_variable(column)
        if not column or any(character in column for character in "{}"):
            yield places.problem(key, f"'{column}' is no name of a column", "a name without braces")
        elif made in names:
            yield places.problem(key, f"columns '{names[made]}' and '{column}' would both be {made}", "rename one")
        names[made] = column
