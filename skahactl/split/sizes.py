"""Shares of equal weight: items are files, and weigh what they are long."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from skahactl.errors import UsageError
from skahactl.split.lines import everything, item, lines
from skahactl.split.shares import balanced
from skahactl.split.sources import Source, shown_path

NAMED = 3  # missing files that a message names


def item_weights(sources: Sequence[Source], structured: bool) -> tuple[list[bytes], list[int]]:
    """Every line, and the size of its file in bytes, read once. Raises UsageError naming files that have none."""
    found = list(lines(everything(sources, structured)))
    sizes, missing = [], []
    for line in found:
        size = _size(item(line, structured))
        if isinstance(size, int):
            sizes.append(size)
        else:
            missing.append(size)
    if missing:
        more = f", and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise UsageError(
            "no size for " + "; ".join(missing[:NAMED]) + more,
            hint="with -s size every item is the name of a file; chunk and stripe take any text",
        )
    return found, sizes


def owned_items(sources: Sequence[Source], total: int, structured: bool) -> Iterator[tuple[int, bytes, int]]:
    """(replica, line, size) of every item, in the order of the list."""
    found, sizes = item_weights(sources, structured)
    return zip(balanced(sizes, total), found, sizes, strict=True)


def _size(name: bytes) -> int | str:
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:
        return f"'{shown_path(name)}' ({error.strerror if isinstance(error, OSError) else error})"
    return f"'{shown_path(name)}' (is a directory)" if stat.S_ISDIR(status.st_mode) else status.st_size
