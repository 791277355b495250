"""One replica's lines out of sources, in internal form (see ``sources``): streamed, or found by counting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain, islice
from typing import NamedTuple

from skahactl.split.counting import LineCount, count_lines, line_offset, nth_line
from skahactl.split.shares import Share, bounds
from skahactl.split.sources import Source

FEW = 8  # replicas, below which a share is a large part of the list
BATCH = 16  # lines joined into one write: enough to forget the cost of a write, few enough for lines of 10 MB


def stripe(sources: Sequence[Source], share: Share, structured: bool) -> Iterator[bytes]:
    """Lines i, i+N, i+2N, ... of all sources together, several at a time. Holds a piece and a batch."""
    mine = islice(lines(everything(sources, structured)), share.replica - 1, None, share.total)
    while batch := b"".join(islice(mine, BATCH)):
        yield batch


def chunk(sources: Sequence[Source], share: Share, structured: bool) -> Iterator[bytes]:
    """The contiguous block of the share, in pieces that need not end with a line.

    Regular files are counted, then the share is read: nothing is held. What cannot be read twice is held, less
    what can no longer belong to the share: its beginning only moves forward while the count grows.
    """
    parts, before = _parts(sources, share, structured)
    start, stop = bounds(before + sum(part.marks for part in parts), *share)
    for part in parts:
        if stop > start and before < stop and before + part.marks >= start:
            yield from part.between(start - before, stop - before)
        before += part.marks


def everything(sources: Sequence[Source], structured: bool) -> Iterator[bytes]:
    """All lines of all sources, in pieces. A last line without its end gets one, but for the very last."""
    for source in sources:
        end = b"\n"
        for piece in source.pieces(structured):
            yield piece
            end = piece[-1:] or end
        if end != b"\n":
            yield _missing_end(source, sources, structured)


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Line by line, ends kept. A BytesIO a piece is the fastest way to lines that Python has."""
    return chain.from_iterable(map(BytesIO, _whole(pieces)))


def item(line: bytes, structured: bool) -> bytes:
    """The item of a line as it was outside, without its end."""
    bare = line.removesuffix(b"\n")
    return bare.replace(b"\0", b"\n") if structured else bare


def _whole(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut at ends of lines only."""
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
    """Lines pass untouched, as GNU split passes them: the last one stays as it is. NULs end every item."""
    return b"" if source is sources[-1] and not source.nul and not structured else b"\n"


class _HeldLine(NamedTuple):
    """Bytes that are held, with ``marks`` ends of lines in them."""

    marks: int
    data: bytes

    def between(self, start: int, stop: int) -> Iterator[bytes]:
        """What lies after the end number ``start`` and up to the end number ``stop``, ends counted from 1."""
        yield self.data[nth_line(self.data, start, b"\n") : nth_line(self.data, stop, b"\n")]


class _Region(NamedTuple):
    """Bytes of a regular file, counted and not held."""

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
    """Every part that may hold lines of the share, and how many lines lie before the first of them."""
    parts: deque[_HeldLine | _Region] = deque()
    before = total = 0
    for source in sources:
        for part in _counted(source, sources, share, structured):
            parts.append(part)
            total += part.marks
            start, _ = bounds(total, *share)
            while before + parts[0].marks < start:
                before += parts.popleft().marks
    return parts, before


def _counted(
    source: Source, sources: Sequence[Source], share: Share, structured: bool
) -> Iterator[_HeldLine | _Region]:
    end = b"\n"
    if source.begin is not None and source.end is not None:
        size = source.end - source.begin
        # A small share's end is found soon from its beginning; each guess more is read for from there to the end.
        near = (share.replica - 1, share.replica) if share.total < FEW else (share.replica - 1,)
        guesses = [source.begin + size * replica // share.total for replica in near]
        for part in count_lines(source.fd, source.begin, source.end, source.mark, guesses):
            yield _Region(source, part, structured)
        end = b"".join(source.span(max(source.begin, source.end - 1), source.end, structured)) or end
    else:
        for piece in source.pieces(structured):
            yield _HeldLine(piece.count(b"\n"), piece)
            end = piece[-1:] or end
    if end != b"\n":
        yield _HeldLine(1, _missing_end(source, sources, structured))
