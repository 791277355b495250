"""Merge tables: ``[common]`` below each ``[[job]]``, and ``--set KEY=VALUE`` above them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

from skahactl.manifest.schema import SOURCES
from skahactl.manifest.syntax import toml_tables

Table = dict[str, Any]

_RIVALS: dict[str, tuple[frozenset[str], ...]] = {
    "": (frozenset({"command", "shell"}),),
    "items": (frozenset(SOURCES),),
    "env.*": (frozenset({"from-env", "from-file"}),),
}
_DOTTED = re.compile(r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\.(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*""")


def overlay_table(under: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Return ``under`` with the keys of ``over``, which win, table by table.

    A key of ``over`` also removes the keys of ``under`` that it excludes, such as command and shell.
    """
    merged = _merged(under, over, "")
    items, below = over.get("items"), merged.get("items")
    if isinstance(items, dict) and "replicas" not in over and items.keys() & {"per-replica", "csv", "matrix"}:
        merged.pop("replicas", None)
    if "replicas" in over and isinstance(below, dict) and not (isinstance(items, dict) and "per-replica" in items):
        merged["items"] = {key: value for key, value in below.items() if key != "per-replica"}
    return merged


def parse_setting(text: str) -> tuple[tuple[str, ...], Table]:
    """Parse ``KEY=VALUE`` to the parts of the key and a table. The value is TOML, or else a string.

    Raises:
        ValueError: it is not KEY=VALUE, or the key is not dotted names.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not _DOTTED.fullmatch(key):
        raise ValueError(f"expected KEY=VALUE, for example resources.cores=8; found '{text}'")
    plain = tomllib.loads(f"{key} = {json.dumps(value)}")
    keys: tuple[str, ...] = ()
    here: Any = plain
    while isinstance(here, dict):
        ((name, here),) = here.items()
        keys = (*keys, name)
    try:
        made = toml_tables(f"{key} = {value}")
    except ValueError:  # not TOML, or more than Python can hold
        return keys, plain
    if len(made) > 1:  # the value has lines that are further keys
        return keys, plain
    is_text = keys[-2:-1] in (("env",), ("vars",)) and _has_spellings(reduce(getitem, keys, made), value)
    return keys, plain if is_text else made


def _has_spellings(value: object, written: str) -> bool:
    """Return whether the value is a number or a date that could be written in another way than ``written``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) != written.strip()
    return not isinstance(value, str | int | dict | list)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any], path: str) -> Table:
    merged = dict(under)
    for rivals in _RIVALS.get(path, ()):
        if rivals & over.keys():
            merged = {key: value for key, value in merged.items() if key not in rivals or key in over}
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = _merged(below, value, _inside_table(path, key))
        merged[key] = value
    return merged


def _inside_table(path: str, key: str) -> str:
    return "env.*" if path == "env" else f"{path}.{key}".lstrip(".")
