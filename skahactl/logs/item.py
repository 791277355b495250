"""The part of a replica's log that belongs to one item: what stands between the mark before and its own."""

from __future__ import annotations

import tempfile
from typing import IO, BinaryIO, cast

from skahactl.logs.lines import Write
from skahactl.logs.overlap import blocks
from skahactl.manifest.placeholders import MARK

_IN_MEMORY = 8 << 20
_LONGEST_MARK = 1 << 20  # bytes without a newline that are looked at together


class ItemPart:
    """Hands on the part of the item at ``position``; the marks themselves are left out.

    ``after``: the mark, by its position, that is the last before this item begins; 0: it is the first of its attempt.
    The text after that mark is this item's even if it has no mark of its own: it still runs, or was ended.
    """

    def __init__(self, write: Write, position: int, after: int):
        self._write = write
        self._position = position
        self._after = after
        self._last = 0
        self._rest = b""
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
        """The log ends here."""
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
        if last != b"\n":  # the mark stood at the end of that line
            self._write(b"\n")
