"""The content of a job: what its replicas are sent, as plain data that is alike on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set

from skahactl.manifest.files import Draft
from skahactl.manifest.lists import Items
from skahactl.manifest.places import dotted_key
from skahactl.manifest.replicas import JobTemplate
from skahactl.manifest.schema import JobTable
from skahactl.profile import Profile


def job_content(pattern: JobTemplate, table: JobTable, resources: Mapping[str, float | str]) -> dict[str, object]:
    """The texts as written, with the words of [vars] that they use; a list of items as its count and hash."""
    made: dict[str, object] = {"kind": pattern.kind, "image": pattern.image, "replicas": pattern.total}
    if table.command:
        made["command"] = list(table.command)
    if table.shell:
        made["shell"] = table.shell
    if table.env:
        made["env"] = {key: _value(value) for key, value in table.env.items()}
    if resources:
        made["resources"] = {key: _amount(amount) for key, amount in resources.items() if key != "gpus" or amount != 0}
    if pattern.items is not None and table.items is not None:
        made["items"] = _items(pattern, table)
    if table.session_name not in (None, "{name}" if pattern.total == 1 else "{name}-{replica}"):
        made["session-name"] = table.session_name
    words = {word: pattern.variables[word] for word in sorted(pattern.texts.words) if word in pattern.variables}
    if words:
        made["vars"] = words
    return made


def content_sources(
    draft: Draft, profile: Profile, given: Set[str], made: Mapping[str, object], items: Items | None
) -> dict[str, str]:
    """Where each part of the content comes from, if not from the manifest; ``given`` are the words of --var."""
    found: dict[str, str] = {}
    if items is not None and items.file is not None:
        found["items"] = "items file"
        if draft.table.replicas is None:
            found["replicas"] = "items file"
    for key in draft.places.sets:
        found["items" if key.startswith("items.") else key] = "--set"
    words = made.get("vars")
    for word in words if isinstance(words, dict) else ():
        if word in given:
            found[dotted_key(("vars", word))] = "--var"
        elif word in profile.vars:
            found[dotted_key(("vars", word))] = "profile default"
    return found


def _value(value: str | dict[str, str]) -> object:
    return value if isinstance(value, str) else dict(value)


def _amount(amount: float | str) -> float | str:
    return int(amount) if isinstance(amount, float) and amount.is_integer() else amount


def _items(pattern: JobTemplate, table: JobTable) -> dict[str, object]:
    assert pattern.items is not None
    assert table.items is not None
    made: dict[str, object] = {
        "count": len(pattern.items.texts),
        "hash": pattern.items.digest(),
        "strategy": table.items.strategy,
        "each": table.items.each,
    }
    if table.items.strategy == "size":
        shares = json.dumps([list(share) for share in pattern.shares], separators=(",", ":"))
        made["shares"] = hashlib.sha256(shares.encode("ascii")).hexdigest()
    return made
