"""Outputs of logs: the standard output or a file, with the requested filters."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from skahactl.logs.keep import BLOCK, Write, blocks, describe_write_error
from skahactl.manifest.placeholders import MARK

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skahactl.logs.select import AttemptLog, Part

_HELD = 32 << 20  # bytes of the last lines that are held in memory
_LONGEST_LINE = 1 << 20  # maximum number of bytes of an incomplete line; a longer one is broken
_IN_MEMORY = 8 << 20  # bytes of one log that are buffered in memory; more go to a temporary file
_COLOURS = (36, 32, 35)  # colours that are readable on white and on black


class Lines:
    """Write whole lines, each with ``prefix``. An incomplete line waits for its newline, or for ``close``."""

    def __init__(self, write: Write, prefix: bytes = b"", draw: Callable[[bytes], bytes] | None = None):
        self._write = write
        self._prefix = prefix
        self._draw = draw
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
        """Write the incomplete rest as a line."""
        if self._rest:
            self._lines(self._rest)
            self._rest = b""

    def _lines(self, text: bytes) -> None:
        """Write ``text``, which is one or more lines without the last newline."""
        if self._draw is not None:
            text = self._draw(text + b"\n")[:-1]
        if self._prefix:
            text = self._prefix + text.replace(b"\n", b"\n" + self._prefix)
        self._write(text + b"\n")


class LastLines:
    """Hold the last ``count`` lines until ``release`` writes them; write everything after that directly.

    An incomplete line counts as one, as in ``tail``. Only the pieces with these lines are held, in a file if they are
    more than some tens of MB: a log of any length takes no more.
    """

    def __init__(self, write: Write, count: int):
        self._write = write
        self._count = count
        self._holds = True
        self._held: deque[tuple[bytes, int]] = deque()  # pieces, each with its number of newlines
        self._lines = 0  # newlines in the held pieces
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
        """Write the last lines, and hold nothing from now on."""
        if not self._holds:
            return
        self._holds = False
        if self._file is None:
            self._file = io.BytesIO(b"".join(data for data, _ in self._held))
            self._held.clear()
        with self._file as stream:
            for block in blocks(cast(BinaryIO, stream), last_lines_at(cast(BinaryIO, stream), self._count)):
                self._write(block)

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
            import tempfile  # late: completion and help import this module, too

            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by release)
            self._file.writelines(data for data, _ in self._held)
            self._held.clear()


def last_lines_at(stream: BinaryIO, count: int) -> int:
    """Return the offset of the last ``count`` lines of a file. Read blocks from its end."""
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


def _after_newline(text: bytes, count: int) -> int:
    """Return the offset after the ``count``-th newline from the end."""
    place = len(text)
    for _ in range(count):
        place = text.rfind(b"\n", 0, place)
    return place + 1


def draw_marks(text: bytes, items: Mapping[int, str], colour: bool, unicode: bool) -> bytes:
    """Replace each item mark in ``text`` with a readable line: ``── item 271.285 · exit 2 ──``.

    ``items``: item names by position.
    """

    def drawn(mark: re.Match[bytes]) -> bytes:
        position, code = int(mark[1]), int(mark[2])
        name = "".join(char if char.isprintable() else "?" for char in items.get(position, str(position)))
        line = f"── item {name} · exit {code} ──" if unicode else f"-- item {name}, exit {code} --"
        if colour:
            line = f"\x1b[{'31' if code else '2'}m{line}\x1b[0m"
        begins_line = mark.start() == 0 or text[mark.start() - 1 : mark.start()] == b"\n"
        return (b"" if begins_line else b"\n") + line.encode() + b"\n"

    return MARK.sub(drawn, text)


def prefix(label: str, colour: bool, width: int = 0) -> bytes:
    """Return a prefix such as ``tiles/3 | ``, with a colour that depends only on the label."""
    text = f"{label:<{width}} |"
    if colour:
        # neighbours get different colours, because the sum grows with the number at the end of the label
        text = f"\x1b[{_COLOURS[sum(label.encode()) % len(_COLOURS)]}m{text}\x1b[0m"
    return text.encode() + b" "


_LONGEST_MARK = 1 << 20  # bytes without a newline that are examined together


class ItemPart:
    """Write only the text of the item at ``position``, without the marks.

    ``after`` is the position of the last mark before this item begins; 0 if the item is the first of its attempt. The
    text after that mark belongs to the item even if its own mark is missing, because it still runs or was stopped.
    """

    def __init__(self, write: Write, position: int, after: int):
        self._write = write
        self._position = position
        self._after = after
        self._last = 0
        self._rest = b""
        import tempfile  # late: completion and help import this module, too

        self._held: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 (closed by release)
        self.found = False

    def __call__(self, data: bytes) -> None:
        text, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if newline:
            self._take(text + newline)
        if len(self._rest) > _LONGEST_MARK:
            self._held.write(self._rest[:-256])
            self._rest = self._rest[-256:]

    def release(self) -> None:
        """Write the text of an item without its own mark. Call this when the log has ended."""
        if self._held.closed:
            return
        self._held.write(self._rest)
        if self._last == self._after and self._held.tell():
            self._hand_on()
        self._held.close()

    def close(self) -> None:
        self.release()

    def _take(self, text: bytes) -> None:
        at = 0
        for mark in MARK.finditer(text):
            self._held.write(text[at : mark.start()])
            at = mark.end()
            self._last = int(mark[1])
            if self._last == self._position:
                self._hand_on()
            self._held.seek(0)
            self._held.truncate()
        self._held.write(text[at:])

    def _hand_on(self) -> None:
        self.found = True
        last = b"\n"
        for block in blocks(cast(BinaryIO, self._held)):
            self._write(block)
            last = block[-1:]
        if last != b"\n":  # the mark followed the text on the same line
            self._write(b"\n")


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How logs are shown: last lines, prefixes and their width, colour, JSON objects, whole lines of several mixed
    logs."""

    tail: int | None = None
    prefixed: bool = False
    colour: bool = False
    objects: bool = False
    mixed: bool = False
    width: int = 0  # of the longest prefix


class WriterChain:
    """The output of one log. ``release`` writes the last lines, ``close`` the incomplete rest."""

    def __init__(
        self,
        write: Write,
        look: WriterOptions,
        label: str,
        part: Part | None = None,
        draw: Callable[[bytes], bytes] | None = None,
    ):
        self._lines: Lines | ObjectWriter | None = None
        self._item: ItemPart | None = None
        self._last: LastLines | None = None
        if look.objects:
            write = self._lines = ObjectWriter(write, label)
        elif look.prefixed or look.mixed or draw is not None:
            before = prefix(label, look.colour, look.width) if look.prefixed else b""
            write = self._lines = Lines(write, before, draw)
        if look.tail is not None:
            write = self._last = LastLines(write, look.tail)
        if part is not None and part.marked:
            write = self._item = ItemPart(write, part.position, part.after)
        self._first = write

    def __call__(self, data: bytes) -> None:
        self._first(data)

    def release(self) -> None:
        if self._item is not None:
            self._item.release()
        if self._last is not None:
            self._last.release()

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()

    def discard(self) -> None:
        self.release()
        self.close()

    @property
    def found_item(self) -> bool:
        return self._item is None or self._item.found


class FileWriter(WriterChain):
    """The output of one log to its own file, which appears only when it is complete."""

    def __init__(self, path: Path, look: WriterOptions, label: str, part: Part | None = None):
        self.path = path
        self._part_file = path.with_name(f".{path.name}.part")
        self._stream: BinaryIO | None = None
        super().__init__(self._write, WriterOptions(tail=look.tail), label, part)

    def _write(self, data: bytes) -> None:
        with describe_write_error(self.path):
            if self._stream is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._part_file.open("wb")
            self._stream.write(data)

    @property
    def written(self) -> bool:
        return self.path.exists() and self._stream is not None

    def close(self) -> None:
        if self._stream is not None:
            with describe_write_error(self.path):
                self._stream.close()
                os.replace(self._part_file, self.path)

    def discard(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._part_file.unlink(missing_ok=True)


class ObjectWriter:
    """Writes each line as a JSON object: ``{"log": "tiles/3", "line": "..."}``. Bytes that are not UTF-8 are
    replaced."""

    def __init__(self, write: Write, label: str):
        self._out = write
        self._label = label
        self._rest = Lines(self._objects)

    def __call__(self, data: bytes) -> None:
        self._rest(data)

    def close(self) -> None:
        self._rest.close()

    def _objects(self, text: bytes) -> None:
        lines = text.decode(errors="replace").removesuffix("\n").split("\n")
        rows = (json.dumps({"log": self._label, "line": line}, ensure_ascii=False) + "\n" for line in lines)
        self._out("".join(rows).encode())


def file_name(log: AttemptLog, name: str, total: int, several_attempts: bool) -> str:
    """Return ``tiles-007.log``, or ``tiles-007.2.log`` with several attempts; without a job, ``NAME.log``."""
    _, replica, attempt = log.key
    if not replica:
        return f"{name}.log"
    number = "" if total == 1 else f"-{replica:0{len(str(total))}d}"
    return f"{name}{number}" + (f".{attempt}" if several_attempts else "") + ".log"
