"""Writing items: all or an error, and nothing more once something went wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, RawIOBase
from typing import TYPE_CHECKING, BinaryIO

from skahactl.errors import SkahactlError
from skahactl.split.sources import SWAP

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BUFFER = 128 * 1024


@contextmanager
def open_output(fd: int, null: bool) -> Iterator[BinaryIO]:
    """A stream to ``fd`` for lines in internal form, ended by newlines or, with ``null``, by NULs.

    What is still in the buffer is dropped when the body raises. BrokenPipeError passes; any other failure to
    write is a SkahactlError.
    """
    raw = _Descriptor(fd, null)
    stream = BufferedWriter(raw, BUFFER)
    try:
        yield stream
        stream.flush()
    finally:
        raw.dropped = True


class _Descriptor(RawIOBase):
    def __init__(self, fd: int, null: bool):
        self.fd = fd
        self.null = null
        self.dropped = False

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        block = memoryview(bytes(data).translate(SWAP)) if self.null else memoryview(data)
        at, size = 0, len(block)
        while at < size and not self.dropped:
            at += self._written(block[at:])
        return size

    def _written(self, block: memoryview) -> int:
        try:
            return os.write(self.fd, block)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SkahactlError(f"cannot write: {error.strerror}", where="standard output", code="output") from error
