"""Changes to a generated text that fail where the text they rest on is not there: a newer generator is noticed."""

from __future__ import annotations

import re

#: Verbs whose files are manifests: ``*.toml`` and directories.
MANIFEST_VERBS = ("apply", "diff", "validate")


def swapped(text: str, old: str, new: str, count: int = 1) -> str:
    """``old`` replaced by ``new``, which must be there ``count`` times; 0 is any number but none."""
    found = text.count(old)
    if not found or (count and found != count):
        raise RuntimeError(f"the generator of completion scripts has changed: {found} times {old!r}")
    return text.replace(old, new)


def rewritten(text: str, pattern: str, new: str) -> str:
    """Every match of ``pattern``, at least one, replaced; ^ and $ are ends of lines."""
    text, count = re.subn(pattern, new, text, flags=re.MULTILINE)
    if not count:
        raise RuntimeError(f"the generator of completion scripts has changed: no {pattern!r}")
    return text
