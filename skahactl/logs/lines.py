"""One log's way to the output: whole lines with a prefix, or the last lines alone; memory is bounded."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable
from typing import IO, BinaryIO, cast

from skahactl.logs.overlap import BLOCK, blocks

_LONGEST_LINE = 1 << 20  # bytes of a line that is waited for; a longer one is broken
_HELD = 32 << 20  # bytes of last lines that are held in memory
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)

Write = Callable[[bytes], object]


class Lines:
    """Writes whole lines, each with ``prefix``; what has no newline yet waits until it has one, or ``close``."""

    def __init__(self, write: Write, prefix: bytes = b""):
        self._write = write
        self._prefix = prefix
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        text, newline, rest = data.rpartition(b"\n")
        if newline:
            self._lines(self._rest + text)
            self._rest = rest
        else:
            self._rest += data
        if len(self._rest) > _LONGEST_LINE:
            self.close()

    def close(self) -> None:
        """Writes what still waits, as a line."""
        if self._rest:
            self._lines(self._rest)
            self._rest = b""

    def _lines(self, text: bytes) -> None:
        """``text`` is one line or several, without the last newline."""
        if self._prefix:
            text = self._prefix + text.replace(b"\n", b"\n" + self._prefix)
        self._write(text + b"\n")


class LastLines:
    """Holds the last ``count`` lines of what it is given, until ``release`` hands them on; then hands on everything.

    A line that waits for its end counts as one, as ``tail`` counts. What is held is whole pieces around those lines;
    more than some tens of MB of them are set down in a file.
    """

    def __init__(self, write: Write, count: int):
        self._write = write
        self._count = count
        self._holds = True
        self._held: deque[tuple[bytes, int]] = deque()
        self._lines = 0  # newlines in what is held
        self._size = 0
        self._file: IO[bytes] | None = None

    def __call__(self, data: bytes) -> None:
        if not self._holds:
            self._write(data)
        elif self._file is not None:
            self._file.write(data)
        elif data and self._count:
            self._hold(data)

    def release(self) -> None:
        """Hands on what is held; no more is."""
        if not self._holds:
            return
        self._holds = False
        if self._file is not None:
            stream = cast(BinaryIO, self._file)
            for block in blocks(stream, last_lines_at(stream, self._count)):
                self._write(block)
            self._file.close()
        elif self._held:
            self._write(_last_lines(b"".join(data for data, _ in self._held), self._count))
            self._held.clear()

    def _hold(self, data: bytes) -> None:
        newlines = data.count(b"\n")
        self._held.append((data, newlines))
        self._lines += newlines
        self._size += len(data)
        while self._lines - self._held[0][1] > self._count:
            gone, newlines = self._held.popleft()
            self._lines -= newlines
            self._size -= len(gone)
        if self._size > _HELD:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by release)
            self._file.writelines(data for data, _ in self._held)
            self._held.clear()


def last_lines_at(stream: BinaryIO, count: int) -> int:
    """Where the last ``count`` lines of a file begin; blocks are read from its end."""
    size = end = stream.seek(0, os.SEEK_END)
    wanted = count
    while end > 0 and count > 0:
        start = max(0, end - BLOCK)
        stream.seek(start)
        block = stream.read(end - start)
        if end == size and block.endswith(b"\n"):
            wanted += 1
        newlines = block.count(b"\n")
        if newlines >= wanted:
            return start + _after_newline(block, wanted)
        wanted -= newlines
        end = start
    return 0 if count > 0 else size


def _last_lines(text: bytes, count: int) -> bytes:
    wanted = count + text.endswith(b"\n")
    return text if text.count(b"\n") < wanted else text[_after_newline(text, wanted) :]


def _after_newline(text: bytes, count: int) -> int:
    """The place after the ``count``-th newline from the end."""
    place = len(text)
    for _ in range(count):
        place = text.rfind(b"\n", 0, place)
    return place + 1


def prefix(label: str, colour: bool) -> bytes:
    """``tiles/3 | ``; with colour by the label's own number, the same every time and everywhere."""
    text = f"{label} |"
    if colour:
        import zlib

        text = f"\x1b[{_COLOURS[zlib.crc32(label.encode()) % len(_COLOURS)]}m{text}\x1b[0m"
    return text.encode() + b" "
