"""The content of a job: its digest, and the differences between two contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: dotted ``path``, both values (None: missing), and the source of the new one."""

    path: str
    old: object
    new: object
    source: str

    def data(self) -> dict[str, object]:
        return {"path": self.path, "old": self.old, "new": self.new, "source": self.source}


def content_digest(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of the canonical JSON, in hex."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def differences(
    old: Mapping[str, object], new: Mapping[str, object], sources: Mapping[str, str] | None = None
) -> tuple[Difference, ...]:
    """Return the differences between two contents, in the order of the new one. Lists are compared as a whole.

    ``sources`` are those of the new job: dotted path, or the beginning of one, to the source of the value.
    """
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    paths = [*after, *(path for path in before if path not in after)]
    return tuple(
        Difference(path, before.get(path), after.get(path), source_of(path, sources or {}))
        for path in paths
        if before.get(path) != after.get(path)
    )


def source_of(path: str, sources: Mapping[str, str]) -> str:
    """Return the source of the value at ``path``: the entry of the longest path that it begins with."""
    while path:
        if path in sources:
            return sources[path]
        path = path.rpartition(".")[0]
    return MANIFEST


def _leaves(table: Mapping[str, object], prefix: str) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, list(value) if isinstance(value, tuple) else value))
    return found
