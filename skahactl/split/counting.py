"""Counting the ends of lines in a regular file, fast."""

from __future__ import annotations

import os
from collections.abc import Iterator

BLOCK = 1 << 20


def counts(fd: int, begin: int, end: int, mark: bytes) -> Iterator[tuple[int, int, int]]:
    """(offset, size, number of marks) of consecutive blocks from ``begin`` to ``end``. Holds one block."""
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    while begin < end:
        size = os.preadv(fd, [view[: min(BLOCK, end - begin)]], begin)
        if not size:
            break
        yield begin, size, buffer.count(mark, 0, size)
        begin += size
