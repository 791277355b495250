"""File name patterns: as ``glob``, but ``**`` does not follow symbolic links to directories, so that it always ends."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from glob import escape, glob

_ANY_DEPTH = "**"


def matches(pattern: str) -> list[str]:
    """Return the names that match ``pattern``, each once, in no particular order.

    ``**`` as a whole component matches any number of directories, including none. It does not enter directories through
    symbolic links, as in bash (globstar) and find, nor hidden directories, as in glob. Every other component may be a
    link.
    """
    components = pattern.split("/")
    if _ANY_DEPTH not in components:
        return glob(pattern)
    parts = _around_any_depth(components)
    roots = _named([""], parts[0])
    for part in parts[1:-1]:
        roots = _named(list(_directories(roots)), part)
    last = parts[-1]
    if not last:
        return _unique(_everything(roots))
    bases = _unique(_directories(roots))
    if last == [""]:  # the pattern ends with a slash: directories only
        return [base for base in bases if base]
    return _unique(name for base in bases for name in glob(escape(base) + "/".join(last)))


def _around_any_depth(components: list[str]) -> list[list[str]]:
    """Return the components before, between and after each ``**``; several ``**`` in a row count as one."""
    parts: list[list[str]] = [[]]
    for position, component in enumerate(components):
        if component != _ANY_DEPTH:
            parts[-1].append(component)
        elif position == 0 or components[position - 1] != _ANY_DEPTH:
            parts.append([])
    return parts


def _named(bases: Iterable[str], components: list[str]) -> list[str]:
    """Return the directories below ``bases`` that match, with a slash at the end; empty for the working directory."""
    if not components:
        return list(bases)
    if components == [""]:  # the pattern begins with a slash
        return ["/"]
    return _unique(name for base in bases for name in glob(escape(base) + "/".join(components) + "/"))


def _directories(roots: Iterable[str]) -> Iterator[str]:
    """Yield ``roots`` and all directories below them, except hidden ones and links."""
    waiting = list(roots)
    while waiting:
        directory = waiting.pop()
        yield directory
        waiting += [f"{directory}{entry.name}/" for entry in _entries(directory) if entry.is_dir(follow_symlinks=False)]


def _everything(roots: list[str]) -> Iterator[str]:
    yield from (root for root in roots if root)
    for directory in _directories(roots):
        for entry in _entries(directory):
            yield directory + entry.name


def _entries(directory: str) -> list[os.DirEntry[str]]:
    """Return the entries of ``directory`` that are not hidden; none if it cannot be read, as in glob."""
    try:
        with os.scandir(directory or ".") as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
