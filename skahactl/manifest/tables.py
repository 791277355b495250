"""Tables of TOML, one laid over another: ``[common]`` under ``[[job]]``, ``--set`` over both."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from skahactl.errors import UsageError

Table = dict[str, Any]

_RIVALS: dict[str, tuple[frozenset[str], ...]] = {
    "": (frozenset({"command", "shell"}),),
    "items": (frozenset({"file", "glob", "values", "csv", "matrix"}),),
    "env.*": (frozenset({"from-env", "from-file"}),),
}
_DOTTED = re.compile(r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)(?:\.(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*""")


def overlay_table(under: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """A job's table: ``over``'s keys win, table by table; one that excludes another takes its place."""
    merged = _merged(under, over, "")
    items, below = over.get("items"), merged.get("items")
    if isinstance(items, dict) and "replicas" not in over and items.keys() & {"per-replica", "csv", "matrix"}:
        merged.pop("replicas", None)
    if "replicas" in over and isinstance(below, dict) and not (isinstance(items, dict) and "per-replica" in items):
        merged["items"] = {key: value for key, value in below.items() if key != "per-replica"}
    return merged


def parse_setting(text: str) -> tuple[tuple[str, ...], Table]:
    """``KEY=VALUE`` as the parts of its key and the table that it makes; the value is TOML, or else a string.

    Raises:
        ValueError: it is no KEY=VALUE, or the key is not dotted names.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not _DOTTED.fullmatch(key):
        raise ValueError(f"expected KEY=VALUE such as resources.cores=8, found '{text}'")
    plain = tomllib.loads(f"{key} = {json.dumps(value)}")
    keys = _keys(plain, key)
    try:
        made = tomllib.loads(f"{key} = {value}")
    except tomllib.TOMLDecodeError:
        return keys, plain
    wanted = len(made) == 1 and not (keys[-2:-1] in (("env",), ("vars",)) and _has_spellings(made, keys, value))
    return keys, made if wanted else plain


def _has_spellings(table: Table, keys: tuple[str, ...], written: str) -> bool:
    """Whether the value is a number or a date in one of several spellings, of which as text only that one is right."""
    here: Any = table
    for name in keys:
        here = here[name]
    if isinstance(here, int) and not isinstance(here, bool):
        return str(here) != written.strip()
    return not isinstance(here, str | int | dict | list)


def env_variables(texts: Sequence[str]) -> dict[str, str]:
    """``--var K=V`` as a mapping; the last of one name counts.

    Raises:
        UsageError: one is no K=V.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--var {text}: expected K=V such as survey=dr6")
        found[name] = value
    return found


def _keys(table: Table, key: str) -> tuple[str, ...]:
    parts: tuple[str, ...] = ()
    here: Any = table
    for _ in re.findall(r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)""", key):
        name, here = next(iter(here.items()))
        parts = (*parts, name)
    return parts


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
