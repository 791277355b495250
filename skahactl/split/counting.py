"""Counting the ends of lines in a regular file, and finding one of them, without holding the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

BLOCK = 1 << 20
LARGE = 32 * BLOCK  # above it, wc(1) is quicker than Python, its own start included


class LineCount(NamedTuple):
    """``marks`` ends of items in the bytes ``begin`` to ``end``."""

    begin: int
    end: int
    marks: int


def count_lines(fd: int, begin: int, end: int, mark: bytes, guesses: Sequence[int]) -> Iterator[LineCount]:
    """Consecutive parts from ``begin`` to ``end``, each with its count.

    ``guesses`` are offsets near which ends of lines will be looked for, ascending. Large lists of lines are
    counted by ``wc -l``, four times as fast as Python and one process for each guess; where there is none, and
    for all else, Python counts block by block. Both are exact.
    """
    if mark == b"\n" and end - begin >= LARGE and sys.platform == "linux":
        cuts = sorted({begin, *(guess for guess in guesses if begin < guess < end)})
        after = _lines_after(fd, cuts)
        if after is not None and os.fstat(fd).st_size == end:
            ends, following = [*cuts[1:], end], [*after[1:], 0]
            for first, last, count, later in zip(cuts, ends, after, following, strict=True):
                yield LineCount(first, last, count - later)
            return
    yield from _blocks(fd, begin, end, mark)


def line_offset(fd: int, part: LineCount, number: int, mark: bytes) -> int:
    """Where the bytes behind mark ``number`` of ``part`` begin, 1 <= number <= part.marks; from the nearer side."""
    if number <= part.marks // 2:
        for block in _blocks(fd, part.begin, part.end, mark):
            if block.marks >= number:
                return _within(fd, block, number, mark)
            number -= block.marks
    end, before = part.end, part.marks
    while end > part.begin:
        begin = max(part.begin, end - BLOCK)
        count = sum(block.marks for block in _blocks(fd, begin, end, mark))
        before -= count
        if before < number:
            return _within(fd, LineCount(begin, end, count), number - before, mark)
        end = begin
    raise OSError("the list changed while it was read")


def nth_line(data: bytes, number: int, mark: bytes) -> int:
    """The offset behind mark ``number`` (from 1): 0 for 0 and below, the length if there are fewer."""
    if number <= 0:
        return 0
    low, high = 0, len(data)
    while high - low > 64:
        middle = (low + high) // 2
        ends = data.count(mark, low, middle)
        if ends >= number:
            high = middle
        else:
            low, number = middle, number - ends
    while number and (behind := data.find(mark, low, high) + 1):
        low, number = behind, number - 1
    return len(data) if number else low


def _within(fd: int, block: LineCount, number: int, mark: bytes) -> int:
    return block.begin + nth_line(os.pread(fd, block.end - block.begin, block.begin), number, mark)


def _blocks(fd: int, begin: int, end: int, mark: bytes) -> Iterator[LineCount]:
    buffer = bytearray(min(BLOCK, end - begin))
    view = memoryview(buffer)
    while begin < end:
        size = os.preadv(fd, [view[: min(BLOCK, end - begin)]], begin)
        if not size:
            return
        yield LineCount(begin, begin + size, buffer.count(mark, 0, size))
        begin += size


def _lines_after(fd: int, cuts: Sequence[int]) -> list[int] | None:
    """How many ends of lines there are from each cut to the end of the file, counted at once; None: no way to."""
    running: list[tuple[int, int]] = []
    texts: list[bytes] = []
    try:
        running.extend(_wc(fd, cut) for cut in cuts)
    except OSError:
        texts.append(b"")
    for pid, answer in running:
        with open(answer, "rb") as stream:
            texts.append(stream.read())
        if os.waitpid(pid, 0)[1]:
            texts.append(b"")
    return [int(text) for text in texts] if all(text.strip().isdigit() for text in texts) else None


def _wc(fd: int, cut: int) -> tuple[int, int]:
    """(pid, descriptor of its output) of a ``wc -l`` from ``cut`` on; reads a description of the file of its own."""
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    answer, writing = os.pipe()
    try:
        os.lseek(reading, cut, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, reading, 0), (os.POSIX_SPAWN_DUP2, writing, 1)]
        return os.posix_spawnp("wc", ["wc", "-l"], os.environ, file_actions=actions), answer
    except OSError:
        os.close(answer)
        raise
    finally:
        os.close(reading)
        os.close(writing)
