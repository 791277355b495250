"""How far one log was read: what is new in the next reading of it, where every reading begins at its beginning.

The platform has no follow and no ranges (skaha-api 5), so each reading is passed over up to the place that is known.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator
from typing import BinaryIO, cast

from skahactl.logs.keep import GAP
from skahactl.logs.lines import Write
from skahactl.logs.overlap import blocks, overlap

_EDGE = 16_384  # bytes of the beginning and of the end that are remembered
_IN_MEMORY = 1 << 20


class Tail:
    """Hands on to ``write`` what each reading has beyond the last one, and GAP where lines may be missing."""

    def __init__(self, write: Write):
        self._write = write
        self.seen = 0  # bytes of the platform's text that were handed on or passed over
        self.moved = 0  # bytes read, in all
        self._head = b""
        self._end = b""
        self._whole = False  # take the next reading as a whole: its beginning is not the one that is known

    async def read(self, chunks: AsyncIterator[bytes]) -> bool:
        """Takes one reading. False: it has to be read once more, at once, to be understood."""
        if self._whole:
            await self._rejoin(b"", chunks)
            return True
        at = 0
        async for chunk in chunks:
            self.moved += len(chunk)
            if at < self.seen:
                if not _fits(chunk, at, self._head, 0):
                    await self._rejoin(self._head[:at] + chunk, chunks)
                    return True
                if not _fits(chunk, at, self._end, self.seen - len(self._end)):
                    self._whole = True
                    return False
            self._take(chunk, at)
            at += len(chunk)
        self._whole = 0 < at < self.seen
        return not self._whole

    def _take(self, chunk: bytes, at: int) -> None:
        """Hands on the part of ``chunk``, which stands at ``at``, that is new."""
        new = chunk if at >= self.seen else chunk[self.seen - at :]
        if not new:
            return
        self._hand_on(new)
        if len(self._head) < _EDGE:
            self._head += new[: _EDGE - len(self._head)]
        self.seen += len(new)

    def _hand_on(self, new: bytes) -> None:
        self._write(new)
        self._end = (self._end + new[-_EDGE:])[-_EDGE:]

    async def _rejoin(self, read: bytes, chunks: AsyncIterator[bytes]) -> None:
        """The beginning is another one: the whole reading is set down, and searched for the end that is known."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as spool:
            spool.write(read)
            async for chunk in chunks:
                self.moved += len(chunk)
                spool.write(chunk)
            text = cast(BinaryIO, spool)
            size = text.seek(0, io.SEEK_END)
            self._whole = False
            if not size:
                return
            known = overlap(io.BytesIO(self._end), text)
            if known is None:
                self._write(GAP if self._end.endswith(b"\n") else b"\n" + GAP)
            for block in blocks(text, known or 0):
                self._hand_on(block)
            text.seek(0)
            self.seen, self._head = size, text.read(_EDGE)


def _fits(chunk: bytes, at: int, known: bytes, where: int) -> bool:
    """Does ``chunk``, at offset ``at``, agree with ``known``, at offset ``where``, as far as they overlap?"""
    low, high = max(at, where), min(at + len(chunk), where + len(known))
    return low >= high or chunk[low - at : high - at] == known[low - where : high - where]
