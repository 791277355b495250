"""Saved logs: read a log from the platform and save it on this machine.

The platform discards a log one hour after the end, replies with an empty text for everything that it does not know, and
returns only the newest part of a long log (skaha-api 5). Therefore an empty reply never replaces a saved log, and a
beginning that the reply lacks is taken from an earlier read.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from skahactl.errors import SkahactlError
from skahactl.logs.copies import LastLine, last_line_of
from skahactl.profile import LOCAL_SERVER
from skahactl.text import suggest

if TYPE_CHECKING:
    from pathlib import Path

    from skahactl.manifest.placeholders import ItemMarks

#: Code of the error if a log cannot be saved for want of space.
DISK_FULL = "disk-full"

Write = Callable[[bytes], object]
Read = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]]  # of a session id, or a path
BLOCK = 1 << 20
_PROBE = 4096  # bytes of the tail; where they are found again, the text certainly continues
_LEAST = 32  # fewer equal bytes may be a coincidence
_TRIES = 64  # maximum number of occurrences of the tail; more occur only in a text of equal lines


def overlap(old: BinaryIO, new: BinaryIO) -> int | None:
    """Return how many bytes at the beginning of ``new`` repeat the end of ``old``; None if no overlap is proven.

    Both are seekable; memory is bounded. If several answers are possible, as in a text of equal lines, return the
    largest, so that such a text does not grow with every read. The answer can exceed the size of ``old`` if the
    beginning of ``old`` is missing.
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
    """Return the last ``count`` bytes of a seekable stream, or all of a shorter one."""
    stream.seek(max(0, size_of(stream) - count))
    return stream.read()


def size_of(stream: BinaryIO) -> int:
    return stream.seek(0, os.SEEK_END)


def blocks(stream: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield the bytes from ``start`` to ``end``, in blocks."""
    stream.seek(start)
    left = end - start if end is not None else None
    while block := stream.read(BLOCK if left is None else min(BLOCK, left)):
        yield block
        if left is not None:
            left -= len(block)


def _ends_of(stream: BinaryIO, text: bytes) -> Iterator[int]:
    """Yield the offsets at which ``text`` ends in the stream, the last first, at most _TRIES."""
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
    """Return whether ``new`` before ``end`` equals the end of ``old``, as far back as ``old`` reaches."""
    size = size_of(old)
    length = min(end, size)
    pairs = zip(blocks(old, size - length), blocks(new, end - length, end), strict=False)
    return all(mine == theirs for mine, theirs in pairs)


_LONG_ENOUGH = 256  # bytes before a newline that can contain a mark

#: Inserted into a saved or followed log where text may be missing.
GAP = b"[skahactl: lines may be missing here; the platform keeps only the newest part of a long log]\n"

ROTATED = 10_000_000  # bytes; of a longer log, the platform may have dropped the beginning
#: Limits for a log that never ends: maximum number of bytes, seconds of tolerance, and minimum bytes per second.
MAX_BYTES = 1 << 30
IDLE_SECONDS, SLOWEST = 60.0, 32_768


class LogSource(Protocol):
    """The part of a client that reads logs."""

    @property
    def server(self) -> str: ...

    def log(self, id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of reading a log.

    ``path``: the saved copy; None if there is none.
    ``bytes``: the size of the saved copy; without one, of the reply.
    ``state``: "kept" (there is new text, or without a path any text), "unchanged", or "empty" (the reply was empty, and
    an earlier copy stays as it is).
    ``cut``: what the saved copy lacks: "cut" (text is missing), "perhaps cut" (at the first read the log was so long
    that the platform may have dropped its beginning), "limited" (the log is longer than ReadLimit allows), or None.
    ``ends``: the item ends in it, as (position, exit code).
    ``last_line``: its last line with any text (see LastLine).
    """

    bytes: int
    path: str | None
    state: str
    cut: str | None
    ends: tuple[tuple[int, int], ...]
    last_line: str | None = None


class ReadLimit:
    """Limits the size and duration of reading one log.

    ``seconds``: maximum duration; None: only the minimum rate counts, which is SLOWEST bytes per second after
    IDLE_SECONDS. ``note``: why the read stopped before the end of the log, as text for the saved log.
    """

    def __init__(self, seconds: float | None = None, max_bytes: int = MAX_BYTES) -> None:
        import asyncio  # late: completion and help import this module, too

        self._max_bytes = max_bytes
        self._begun = asyncio.get_running_loop().time()
        self._seconds = seconds
        self._size = 0
        self.note: bytes | None = None

    async def chunks(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks of ``source`` up to the limit."""
        import asyncio

        while True:
            try:
                async with asyncio.timeout_at(self._end()):
                    chunk = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError:
                self._stop(f"{asyncio.get_running_loop().time() - self._begun:.0f} s")
                return
            self._size += len(chunk)
            yield chunk
            if self._size >= self._max_bytes:
                self._stop(f"{self._max_bytes} bytes")
                return

    def _end(self) -> float:
        longest = IDLE_SECONDS + self._size / SLOWEST
        return self._begun + (longest if self._seconds is None else min(longest, self._seconds))

    def _stop(self, limit: str) -> None:
        self.note = f"\n[skahactl: the log is longer; reading it stopped after {limit}]\n".encode()


async def fetch(
    client: LogSource, session: str, path: Path | None, *, marks: ItemMarks | None, limit: ReadLimit | None = None
) -> Fetched:
    """Read the log of ``session`` and save it at ``path``; without a path, read only its item marks and last line.

    The file is replaced in one step. Raise SkahactlError if it cannot be written; errors of the client pass through. In
    both cases the earlier copy stays as it is, and no temporary file remains.
    """
    limit = limit or ReadLimit()
    if path is None:
        return await _read_marks(client, session, marks, limit)
    temporary = path.with_name(f".{path.name}.new")
    reading = None
    try:
        with describe_write_error(path, is_kept=True):
            _make_folder(path.parent)
            reading = _Reading(temporary, path)
        async with client.log(session) as chunks:
            async for chunk in limit.chunks(chunks):
                with describe_write_error(path, is_kept=True):
                    reading.take(chunk)
        with describe_write_error(path, is_kept=True):
            if limit.note is not None:
                reading.take(limit.note)
            import asyncio

            saved = await asyncio.to_thread(reading.settle, marks, client.server != LOCAL_SERVER)
            return saved if limit.note is None else replace(saved, cut="limited")
    finally:
        if reading is not None:
            reading.close()
        with contextlib.suppress(OSError):
            temporary.unlink()


class _Reading:
    """A log that arrives in the file ``temporary`` and is compared with the earlier copy at ``path``."""

    def __init__(self, temporary: Path, path: Path):
        self._temporary = temporary
        self._path = path
        self._size = 0
        self._same = True  # so far, the new text equals the old one
        self._old: BinaryIO | None = None
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._new: BinaryIO = open(handle, "w+b", buffering=BLOCK)  # noqa: SIM115 (closed by close)
        with contextlib.suppress(FileNotFoundError):
            self._old = open(path, "rb")  # noqa: SIM115

    def take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._new.write(chunk)
        if self._same and self._old is not None:
            self._same = chunk.startswith(self._old.read(len(chunk)))

    def settle(self, marks: ItemMarks | None, rotates: bool) -> Fetched:
        """Save the new text, alone or joined to the old text. ``rotates``: the platform drops the beginning of long
        logs."""
        old_size = 0 if self._old is None else size_of(self._old)
        state, cut = "kept", None
        if not self._size:
            state = "empty"
        elif self._old is None or (self._same and self._size > old_size):
            self._replace()
            whole_before = 0 < old_size < ROTATED
            cut = "perhaps cut" if rotates and not whole_before and self._size >= ROTATED else None
        elif self._same:
            state = "unchanged"
            cut = "perhaps cut" if rotates and old_size >= ROTATED else None
        else:
            state, cut = self._join(self._old)
        return self._fetched(state, cut, marks)

    def _join(self, old: BinaryIO) -> tuple[str, str | None]:
        """Join a log with a changed beginning: the saved text, then the new text after the overlap.

        Return the ``state`` and ``cut`` of the result (see Fetched).
        """
        shared = overlap(old, self._new)
        had_gap = _holds_gap(old)
        if shared is not None and shared >= self._size:
            return "unchanged", "cut" if had_gap else None
        joined_path = self._path.with_name(f".{self._path.name}.joined")
        try:
            with open(os.open(joined_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as joined:
                for block in blocks(old):
                    joined.write(block)
                if shared is None:
                    joined.write(GAP if last_bytes(old, 1) == b"\n" else b"\n" + GAP)
                for block in blocks(self._new, shared or 0):
                    joined.write(block)
                joined.flush()
                os.fsync(joined.fileno())
            os.replace(joined_path, self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                joined_path.unlink()
            raise
        return "kept", "cut" if had_gap or shared is None else None

    def _replace(self) -> None:
        self._new.flush()
        os.fsync(self._new.fileno())
        os.replace(self._temporary, self._path)

    def _fetched(self, state: str, cut: str | None, marks: ItemMarks | None) -> Fetched:
        if not self._path.exists():
            return Fetched(0, None, state, cut, ())
        with open(self._path, "rb") as kept:
            ends = () if marks is None else tuple(marks.reader()(blocks(kept)))
            last_line = last_line_of(kept, marks=marks is not None)
            return Fetched(size_of(kept), str(self._path), state, cut, ends, last_line)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a disk that was full at the write is also full at the last flush
            self._new.close()
        if self._old is not None:
            self._old.close()


class LogCopy:
    """Saves a log at ``path`` while a command reads it. If the file cannot be written, only the copy ends."""

    def __init__(self, path: Path) -> None:
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        self._reading: _Reading | None = None
        with contextlib.suppress(OSError):
            _make_folder(path.parent)
            self._reading = _Reading(self._temporary, path)

    def take(self, chunk: bytes) -> None:
        try:
            if self._reading is not None:
                self._reading.take(chunk)
        except OSError:
            self.close()

    def settle(self, marks: ItemMarks | None, rotates: bool) -> Fetched | None:
        """Save the text; return None if it could not be saved."""
        try:
            return None if self._reading is None else self._reading.settle(marks, rotates)
        except OSError:
            return None

    def close(self) -> None:
        """Discard text that ``settle`` did not save."""
        if self._reading is not None:
            self._reading.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink()
        self._reading = None


async def _read_marks(client: LogSource, session: str, marks: ItemMarks | None, limit: ReadLimit) -> Fetched:
    """Read the item marks and the last line of a log, and save nothing.

    A mark counts only with its whole line, so chunks are examined up to their last newline.
    """
    size, rest = 0, b""
    read = None if marks is None else marks.reader()
    found: list[tuple[int, int]] = []
    last = LastLine()
    async with client.log(session) as chunks:
        async for chunk in limit.chunks(chunks):
            size += len(chunk)
            last(chunk)
            if read is not None:
                lines, newline, rest = (rest[-_LONG_ENOUGH:] + chunk).rpartition(b"\n")
                found.extend(read([lines + newline]))
    return Fetched(size, None, "kept" if size else "empty", None, tuple(found), last.text)


def _holds_gap(stream: BinaryIO) -> bool:
    carry = b""
    for block in blocks(stream):
        if GAP in (window := carry + block):
            return True
        carry = window[-len(GAP) :]
    return False


def _make_folder(folder: Path) -> None:
    """Create a directory and its missing parents, accessible only to the user."""
    missing: Iterable[Path] = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(list(missing)):
        place.mkdir(mode=0o700, exist_ok=True)


def check_writable(path: Path) -> None:
    """Raise the error with which a log could not be saved at ``path``, if it is already certain."""
    import tempfile

    with describe_write_error(path, is_kept=True):
        _make_folder(path.parent)
        with tempfile.TemporaryFile(dir=path.parent):
            return


@contextlib.contextmanager
def describe_write_error(path: Path, *, is_kept: bool = False) -> Iterator[None]:
    """Translate an error of the file system into one that says which log cannot be saved.

    ``is_kept``: the log is in the state directory.
    """
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make sure that you can write to its directory"
        if is_full:
            remedy = f"make room there ({suggest('prune', '--logs')})"
        hint = f"{remedy}, or set SKAHACTL_STATE_DIR; the log can be read again until the platform discards the session"
        message = f"the log cannot be saved: {error.strerror or error}"
        code = DISK_FULL if is_full else "log-not-kept"
        raise SkahactlError(message, where=str(path), hint=hint if is_kept else None, code=code) from error


_EDGE = 16_384  # bytes of the beginning and of the end that are kept for comparison
_IN_MEMORY = 1 << 20


class Tail:
    """Pass the new text of each read to ``write``, and GAP where lines may be missing."""

    def __init__(self, write: Write):
        self._write = write
        self.seen = 0  # bytes of the platform's text that were passed on or skipped
        self.moved = 0  # bytes read, in all
        self._head = b""
        self._end = b""
        self._whole = False  # store the whole next read, because its beginning differs from the known one

    async def read(self, chunks: AsyncIterator[bytes]) -> bool:
        """Process one read. Return False if the log must be read again immediately."""
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
        """Pass on the new part of ``chunk``, which begins at offset ``at``."""
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
        """Process a read with a changed beginning: store all of it, and search it for the end of the known text."""
        import tempfile

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
    """Return whether ``chunk`` at offset ``at`` and ``known`` at offset ``where`` agree where they overlap."""
    low, high = max(at, where), min(at + len(chunk), where + len(known))
    return low >= high or chunk[low - at : high - at] == known[low - where : high - where]
