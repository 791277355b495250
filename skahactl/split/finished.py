"""Items that need not be done again: named in a file, or their result is there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from skahactl.errors import UsageError
from skahactl.split.lines import everything, item, lines
from skahactl.split.sources import Source, open_list, shown_path

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class FinishedItems(NamedTuple):
    """``named``: the items of the ``--exclude`` files, ``sources``. ``result``: where an item's result is, ``{}`` for
    the item."""

    named: frozenset[bytes]
    result: bytes | None
    sources: tuple[Source, ...] = ()

    def has(self, item: bytes) -> bool:
        """Is the item named, or its result a file that is not empty?"""
        return item in self.named or (self.result is not None and _written(self.result.replace(b"{}", item)))


def read_finished(excludes: Sequence[str], unless: str | None, stdin: int) -> FinishedItems:
    """What ``--exclude`` and ``--unless`` name. Raises UsageError for a file that cannot be read."""
    if unless is not None and "{}" not in unless:
        raise UsageError(
            f"--unless '{shown_path(unless)}' has no {{}} in it: every item would have the same result",
            hint="write {} where the item stands, as in --unless '/arc/out/{}.OK'",
        )
    if "-" in excludes:
        raise UsageError("--exclude reads files", hint="in bash, --exclude <(command) reads what a command prints")
    sources = tuple(open_list(name, stdin) for name in excludes)
    named = frozenset(item(line, True) for source in sources for line in lines(everything([source], True)))
    return FinishedItems(named, None if unless is None else os.fsencode(os.path.expanduser(unless)), sources)


def _written(path: bytes) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _ABSENT:
            return False
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--unless cannot look at this file: {reason}", where=shown_path(path)) from error
    return stat.S_ISREG(status.st_mode) and status.st_size > 0
