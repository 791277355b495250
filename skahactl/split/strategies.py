"""The lines of one replica, in internal form (see ``sources``): streamed, or found by counting."""

from __future__ import annotations

import os
import stat
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from io import BytesIO
from itertools import chain, islice
from typing import NamedTuple

from skahactl.errors import UsageError
from skahactl.split.shares import Share, balanced, bounds
from skahactl.split.sources import Source, shown_path

BLOCK = 1 << 20  # bytes of a file that are counted together


BATCH = 16  # lines per write: enough to make writes cheap, and few enough for lines of 10 MB


def stripe(sources: Sequence[Source], share: Share, structured: bool) -> Iterator[bytes]:
    """Yield lines i, i+N, i+2N, ... of all sources together, several at a time. Holds one piece and one batch."""
    mine = islice(lines(everything(sources, structured)), share.replica - 1, None, share.total)
    while batch := b"".join(islice(mine, BATCH)):
        yield batch


def chunk(sources: Sequence[Source], share: Share, structured: bool) -> Iterator[bytes]:
    """Yield the contiguous block of the share, in pieces that need not end with a line.

    Regular files are counted first, and then the share is read, so nothing is held in memory. Input that cannot be read
    twice is held, except lines that can no longer belong to the share: the start of the share only moves forward as the
    count grows.
    """
    blocks, before = _blocks(sources, share, structured)
    start, stop = bounds(before + sum(block.marks for block in blocks), *share)
    for block in blocks:
        if stop > start and before < stop and before + block.marks >= start:
            yield from block.between(start - before, stop - before)
        before += block.marks


def everything(sources: Sequence[Source], structured: bool, *, again: bool = False) -> Iterator[bytes]:
    """Yield all lines of all sources, in pieces. A last line without its end gets one (see ``_missing_end``).

    ``again``: all sources are regular files or names that globs match, and will be read once more.
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
    """Return the number of lines in the pieces; a last line without its end counts."""
    count, last = 0, b"\n"
    for piece in pieces:
        count += piece.count(b"\n")
        last = piece[-1:] or last
    return count + (last != b"\n")


def lines_with_count(sources: Sequence[Source], structured: bool) -> tuple[int, Iterator[bytes]]:
    """Return the number of lines, and all of them."""
    first, second = _twice(sources, structured)
    return number_of_lines(first), lines(second)


def _twice(sources: Sequence[Source], structured: bool) -> tuple[Iterable[bytes], Iterable[bytes]]:
    """Return all pieces twice; the first iterable must be read before the second.

    The lists are held in memory only if one of them cannot be read twice.
    """
    if all(source.begin is not None or source.fd < 0 for source in sources):
        return everything(sources, structured, again=True), everything(sources, structured)
    held = list(held_within_limit(everything(sources, structured)))
    return held, held


def held_within_limit(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same pieces. Raises UsageError after LARGEST_HELD bytes, for lists that cannot be read twice."""
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
    """Return the end that the last line of ``source`` lacks.

    It is empty for the very last line of plain output, which stays as it is, as with GNU split. In a NUL-separated list
    or in structured output, every item gets its end.
    """
    return b"" if source is sources[-1] and not source.nul and not structured else b"\n"


class _Block(NamedTuple):
    """A part of a list with the number of line ends (``marks``) in it; ``pieces`` returns its text."""

    marks: int
    pieces: Callable[[], Iterable[bytes]]

    def between(self, start: int, stop: int) -> Iterable[bytes]:
        """Return the text after line end ``start`` up to line end ``stop``, counted from 1."""
        if start <= 0 and stop > self.marks:
            return self.pieces()
        return [b"".join(islice(BytesIO(b"".join(self.pieces())), max(0, start), stop))]


def _blocks(sources: Sequence[Source], share: Share, structured: bool) -> tuple[deque[_Block], int]:
    """Return every block that can contain lines of the share, and the number of lines before the first one."""
    blocks: deque[_Block] = deque()
    before = total = 0
    for source in sources:
        for block in _counted(source, sources, structured):
            blocks.append(block)
            total += block.marks
            start, _ = bounds(total, *share)
            while before + blocks[0].marks < start:
                before += blocks.popleft().marks
    return blocks, before


def _counted(source: Source, sources: Sequence[Source], structured: bool) -> Iterator[_Block]:
    end = b"\n"
    if source.begin is not None and source.end is not None:
        for begin in range(source.begin, source.end, BLOCK):
            pieces = partial(source.span, begin, min(begin + BLOCK, source.end), structured)
            yield _Block(sum(piece.count(b"\n") for piece in pieces()), pieces)
        end = b"".join(source.span(max(source.begin, source.end - 1), source.end, structured)) or end
    else:
        for piece in held_within_limit(source.pieces(structured)):
            yield _Block(piece.count(b"\n"), partial(iter, [piece]))
            end = piece[-1:] or end
    if end != b"\n":
        yield _Block(1, partial(iter, [_missing_end(source, sources, structured)]))


NAMED = 3  # number of missing files that a message names


def item_weights(found: Iterable[bytes], structured: bool) -> array[int]:
    """Return the size in bytes of the file that each line names.

    Raises UsageError with the first names for which there is no size.
    """
    sizes, missing = array("q"), []
    for line in found:
        size = _size(item_of(line, structured))
        if isinstance(size, int):
            sizes.append(size)
            continue
        missing.append(size)
        if len(missing) > NAMED:  # probably not a list of files: do not check millions of lines
            break
    if missing:
        more = ", and more" if len(missing) > NAMED else ""
        raise UsageError(
            "cannot get the size of " + "; ".join(missing[:NAMED]) + more,
            hint="with -s size, every item must be the name of a file; chunk and stripe accept any text",
        )
    return sizes


def owned_items(sources: Sequence[Source], total: int, structured: bool) -> Iterator[tuple[int, bytes, int]]:
    """Yield (replica, line, size) of every item, in the order of the list."""
    first, second = _twice(sources, structured)
    sizes = item_weights(lines(first), structured)
    return zip(balanced(sizes, total), lines(second), sizes, strict=True)


def _size(name: bytes) -> int | str:
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:
        return f"'{shown_path(name)}' ({error.strerror if isinstance(error, OSError) else error})"
    return f"'{shown_path(name)}' (is a directory)" if stat.S_ISDIR(status.st_mode) else status.st_size


LARGEST_HELD = 1 << 30  # bytes of a list that cannot be read twice
