"""The lines of one replica, in internal form (see ``sources``): streamed, or located by counting."""

from __future__ import annotations

import os
import stat
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain, islice
from typing import NamedTuple

from skahactl.errors import UsageError
from skahactl.split.shares import Share, balanced, bounds
from skahactl.split.sources import Source, shown_path

BLOCK = 1 << 20


class LineCount(NamedTuple):
    """Bytes ``begin`` to ``end`` of a file, with the number of item ends (``marks``) in them."""

    begin: int
    end: int
    marks: int


def line_offset(fd: int, part: LineCount, number: int, mark: bytes) -> int:
    """Return the offset after mark ``number`` of ``part`` (1 <= number <= part.marks), from the nearer side."""
    if number <= part.marks // 2:
        for block in count_lines(fd, part.begin, part.end, mark):
            if block.marks >= number:
                return _within(fd, block, number, mark)
            number -= block.marks
    end, before = part.end, part.marks
    while end > part.begin:
        begin = max(part.begin, end - BLOCK)
        count = sum(block.marks for block in count_lines(fd, begin, end, mark))
        before -= count
        if before < number:
            return _within(fd, LineCount(begin, end, count), number - before, mark)
        end = begin
    raise OSError("the list changed while it was read")


def nth_line(data: bytes, number: int, mark: bytes) -> int:
    """Return the offset after mark ``number`` (from 1): 0 for 0 and below, the length if there are fewer marks."""
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


def count_lines(fd: int, begin: int, end: int, mark: bytes) -> Iterator[LineCount]:
    """Yield consecutive blocks from ``begin`` to ``end``, each with its count."""
    buffer = bytearray(min(BLOCK, end - begin))
    view = memoryview(buffer)
    while begin < end:
        size = os.preadv(fd, [view[: min(BLOCK, end - begin)]], begin)
        if not size:
            return
        yield LineCount(begin, begin + size, buffer.count(mark, 0, size))
        begin += size


BATCH = 16  # lines per write: enough to make writes cheap, and few enough for lines of 10 MB


def stripe(sources: Sequence[Source], share: Share, structured: bool) -> Iterator[bytes]:
    """Yield lines i, i+N, i+2N, ... of all sources together, several at a time. Holds one piece and one batch."""
    mine = islice(lines(everything(sources, structured)), share.replica - 1, None, share.total)
    while batch := b"".join(islice(mine, BATCH)):
        yield batch


def chunk(sources: Sequence[Source], share: Share, structured: bool) -> Iterator[bytes]:
    """Yield the contiguous block of the share, in pieces that need not end with a line.

    Regular files are counted first, and then the share is read, so nothing is held in memory. Input that cannot be read
    twice is held, except for what can no longer belong to the share: its beginning only moves forward as the count
    grows.
    """
    parts, before = _parts(sources, share, structured)
    start, stop = bounds(before + sum(part.marks for part in parts), *share)
    for part in parts:
        if stop > start and before < stop and before + part.marks >= start:
            yield from part.between(start - before, stop - before)
        before += part.marks


def everything(sources: Sequence[Source], structured: bool, *, again: bool = False) -> Iterator[bytes]:
    """Yield all lines of all sources, in pieces. A last line without its end gets one, but for the very last.

    ``again``: of regular files only, which can be read once more afterwards.
    """
    for source in sources:
        end = b"\n"
        for piece in source.all_of_it(structured) if again else source.pieces(structured):
            yield piece
            end = piece[-1:] or end
        if end != b"\n":
            yield _missing_end(source, sources, structured)


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield line by line, with line ends. One BytesIO per piece is the fastest way in Python."""
    return chain.from_iterable(map(BytesIO, _whole(pieces)))


def number_of_lines(pieces: Iterable[bytes]) -> int:
    """Return how many lines the pieces have; a last one without its end counts."""
    count, last = 0, b"\n"
    for piece in pieces:
        count += piece.count(b"\n")
        last = piece[-1:] or last
    return count + (last != b"\n")


def lines_with_count(sources: Sequence[Source], structured: bool) -> tuple[int, Iterator[bytes]]:
    """Return the number of lines, and all of them. Holds the lists only where one of them cannot be read twice."""
    if all(source.begin is not None or source.fd < 0 for source in sources):
        again = lines(everything(sources, structured))
        return number_of_lines(everything(sources, structured, again=True)), again
    held = list(held_within_limit(everything(sources, structured)))
    return number_of_lines(held), lines(held)


def held_within_limit(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same pieces; UsageError for more than what is held of a list that cannot be read twice."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > LARGEST_HELD:
            raise UsageError(
                f"the list is longer than {LARGEST_HELD >> 30} GiB and comes from a pipe or a device",
                hint="save it in a file, which is read without holding it in memory, or use -s stripe",
            )
        yield piece


def item_of(line: bytes, structured: bool) -> bytes:
    """Return the item of a line in its original form, without its line end."""
    bare = line.removesuffix(b"\n")
    return bare.replace(b"\0", b"\n") if structured else bare


def _whole(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, cut only at line ends."""
    rest: list[bytes] = []
    for piece in pieces:
        cut = piece.rfind(b"\n") + 1
        if cut:
            rest.append(piece[:cut])
            yield b"".join(rest)
            rest = [piece[cut:]]
        else:
            rest.append(piece)
    if last := b"".join(rest):
        yield last


def _missing_end(source: Source, sources: Sequence[Source], structured: bool) -> bytes:
    """Pass lines through unchanged, as GNU split does: the last one stays as it is.

    With NULs, every item gets its end.
    """
    return b"" if source is sources[-1] and not source.nul and not structured else b"\n"


class _HeldLine(NamedTuple):
    """Bytes held in memory, with the number of line ends (``marks``) in them."""

    marks: int
    data: bytes

    def between(self, start: int, stop: int) -> Iterator[bytes]:
        """Return the bytes after line end ``start`` up to line end ``stop``, counted from 1."""
        yield self.data[nth_line(self.data, start, b"\n") : nth_line(self.data, stop, b"\n")]


class _Region(NamedTuple):
    """Bytes of a regular file, counted but not held in memory."""

    source: Source
    part: LineCount
    structured: bool

    @property
    def marks(self) -> int:
        return self.part.marks

    def between(self, start: int, stop: int) -> Iterator[bytes]:
        begin = self._offset(start) if start > 0 else self.part.begin
        end = self._offset(stop) if stop <= self.marks else self.part.end
        return self.source.span(begin, end, self.structured)

    def _offset(self, number: int) -> int:
        return line_offset(self.source.fd, self.part, number, self.source.mark)


def _parts(sources: Sequence[Source], share: Share, structured: bool) -> tuple[deque[_HeldLine | _Region], int]:
    """Return every part that can contain lines of the share, and the number of lines before the first part."""
    parts: deque[_HeldLine | _Region] = deque()
    before = total = 0
    for source in sources:
        for part in _counted(source, sources, structured):
            parts.append(part)
            total += part.marks
            start, _ = bounds(total, *share)
            while before + parts[0].marks < start:
                before += parts.popleft().marks
    return parts, before


def _counted(source: Source, sources: Sequence[Source], structured: bool) -> Iterator[_HeldLine | _Region]:
    end = b"\n"
    if source.begin is not None and source.end is not None:
        for part in count_lines(source.fd, source.begin, source.end, source.mark):
            yield _Region(source, part, structured)
        end = b"".join(source.span(max(source.begin, source.end - 1), source.end, structured)) or end
    else:
        for piece in held_within_limit(source.pieces(structured)):
            yield _HeldLine(piece.count(b"\n"), piece)
            end = piece[-1:] or end
    if end != b"\n":
        yield _HeldLine(1, _missing_end(source, sources, structured))


NAMED = 3  # number of missing files that a message names


def item_weights(found: Iterable[bytes], structured: bool) -> array[int]:
    """Return the size in bytes of the file that each line names. Raises UsageError naming the first files that have
    none."""
    sizes, missing = array("q"), []
    for line in found:
        size = _size(item_of(line, structured))
        if isinstance(size, int):
            sizes.append(size)
            continue
        missing.append(size)
        if len(missing) > NAMED:  # hardly a list of files: millions of lines would be asked about
            break
    if missing:
        more = ", and more" if len(missing) > NAMED else ""
        raise UsageError(
            "cannot get the size of " + "; ".join(missing[:NAMED]) + more,
            hint="with -s size, every item must be the name of a file; chunk and stripe accept any text",
        )
    return sizes


def owned_items(sources: Sequence[Source], total: int, structured: bool) -> Iterator[tuple[int, bytes, int]]:
    """(replica, line, size) of every item, in the order of the list. Holds the lists only if one can be read once."""
    if all(source.begin is not None or source.fd < 0 for source in sources):
        sizes = item_weights(lines(everything(sources, structured, again=True)), structured)
        found: Iterable[bytes] = lines(everything(sources, structured))
    else:
        held = list(held_within_limit(everything(sources, structured)))
        sizes = item_weights(lines(held), structured)
        found = lines(held)
    return zip(balanced(sizes, total), found, sizes, strict=True)


def _size(name: bytes) -> int | str:
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:
        return f"'{shown_path(name)}' ({error.strerror if isinstance(error, OSError) else error})"
    return f"'{shown_path(name)}' (is a directory)" if stat.S_ISDIR(status.st_mode) else status.st_size


LARGEST_HELD = 1 << 30  # bytes of a list that cannot be read twice
