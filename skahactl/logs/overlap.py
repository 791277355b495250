"""Where a log that lost its beginning goes on from what was read of it before.

The platform returns the newest file of a log alone (skaha-api 5: rotation at 10 MiB loses the beginning), so what was
read earlier ends somewhere inside, or before, what is read now.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

BLOCK = 1 << 20
_PROBE = 4096  # a tail that is found again proves where the text goes on
_LEAST = 32  # fewer equal bytes are chance
_TRIES = 64  # of places where the tail occurs; more means a text of equal lines


def overlap(old: BinaryIO, new: BinaryIO) -> int | None:
    """How many bytes at the beginning of ``new`` are text that ``old`` ends with; None if nothing proves any.

    Both are seekable; memory is bounded. Of several answers, as in a text of equal lines, the largest: such a text
    must not grow with every reading. The answer may exceed the size of ``old``, where that is a tail itself.
    """
    tail = last_bytes(old, _PROBE)
    if len(tail) == _PROBE:
        for end in _ends_of(new, tail):
            if _same(old, new, end):
                return end
    new.seek(0)
    head = new.read(len(tail))
    lengths = range(min(len(head), _PROBE - 1), _LEAST - 1, -1)
    return next((length for length in lengths if tail.endswith(head[:length])), None)


def last_bytes(stream: BinaryIO, count: int) -> bytes:
    """The last ``count`` bytes of a seekable stream, or all of fewer."""
    stream.seek(max(0, size_of(stream) - count))
    return stream.read()


def size_of(stream: BinaryIO) -> int:
    return stream.seek(0, os.SEEK_END)


def blocks(stream: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes from ``start`` to ``end``, in blocks."""
    stream.seek(start)
    left = end - start if end is not None else None
    while block := stream.read(BLOCK if left is None else min(BLOCK, left)):
        yield block
        if left is not None:
            left -= len(block)


def _ends_of(stream: BinaryIO, text: bytes) -> Iterator[int]:
    """Where ``text`` ends in the stream, the last place first; not more places than are worth a try."""
    found: deque[int] = deque(maxlen=_TRIES)
    carry, base = b"", 0  # base: offset of carry in the stream
    for block in blocks(stream):
        window = carry + block
        found.extend(base + place + len(text) for place in reversed(_last_places(window, text)))
        carry = window[-(len(text) - 1) :]
        base += len(window) - len(carry)
    return reversed(found)


def _last_places(window: bytes, text: bytes) -> list[int]:
    places: list[int] = []
    place = window.rfind(text)
    while place >= 0 and len(places) < _TRIES:
        places.append(place)
        place = window.rfind(text, 0, place + len(text) - 1)
    return places


def _same(old: BinaryIO, new: BinaryIO, end: int) -> bool:
    """Is everything of ``new`` before ``end`` what ``old`` ends with, as far as ``old`` goes back?"""
    size = size_of(old)
    length = min(end, size)
    pairs = zip(blocks(old, size - length), blocks(new, end - length, end), strict=False)
    return all(mine == theirs for mine, theirs in pairs)
