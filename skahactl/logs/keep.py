"""Logs kept on this machine: where they lie, and how one is read from the platform and kept.

The platform forgets a log one hour after the end, answers with an empty text for whatever it does not know, and
returns only the newest part of a long one (skaha-api 5). So an empty answer never replaces what was kept, and a
beginning that is gone there is taken from what was read before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from skahactl.errors import SkahactlError
from skahactl.logs.overlap import BLOCK, blocks, last_bytes, overlap, size_of
from skahactl.profile import LOCAL_SERVER

_LONG_ENOUGH = 256  # bytes before a newline that hold any mark

#: Stands in a kept or followed log where text may be missing.
GAP = b"[skahactl: lines may be missing here; the platform keeps only the newest part of a long log]\n"

ROTATED = 10_000_000  # bytes; from there on the platform may have dropped the beginning


class LogSource(Protocol):
    """What is needed of a client."""

    @property
    def server(self) -> str: ...

    def log(self, id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of reading a log.

    ``bytes`` is the size of the kept copy (without a path: of the answer); ``path`` is None while nothing is kept.
    ``state`` is "kept" (something new), "unchanged", or "empty": the answer was, and what was kept before still is.
    ``cut`` tells of the kept copy: "cut" (text is missing), "perhaps cut" (long enough to have lost its beginning
    before it was first read), or None. ``ends`` are the item ends in it: (position, exit code).
    """

    bytes: int
    path: str | None
    state: str
    cut: str | None
    ends: tuple[tuple[int, int], ...]


async def fetch(client: LogSource, session: str, path: Path | None, *, marks: bool) -> Fetched:
    """Reads the log of ``session`` and keeps it at ``path``; with None only reads the item marks.

    The file is replaced in one step. SkahactlError if the disk will not have it (what was kept before stays, nothing
    else remains); what the client raises goes through, likewise.
    """
    if path is None:
        return await _read_marks(client, session, marks)
    temporary = path.with_name(f".{path.name}.new")
    reading = None
    try:
        with _describe_log(path):
            _make_folder(path.parent)
            reading = _Reading(temporary, path)
        async with client.log(session) as chunks:
            async for chunk in chunks:
                with _describe_log(path):
                    reading.take(chunk)
        with _describe_log(path):
            return await asyncio.to_thread(reading.settle, marks, client.server != LOCAL_SERVER)
    finally:
        if reading is not None:
            reading.close()
        with contextlib.suppress(OSError):
            temporary.unlink()


def item_ends(stream: BinaryIO) -> tuple[tuple[int, int], ...]:
    """The item ends marked in a log that is open: (position, exit code)."""
    from skahactl.manifest.placeholders import each_ends

    return tuple(each_ends(blocks(stream)))


class _Reading:
    """A log as it arrives in ``temporary``, compared on the way with what ``path`` held before."""

    def __init__(self, temporary: Path, path: Path):
        self._temporary = temporary
        self._path = path
        self._size = 0
        self._same = True  # so far the new text is what the old one is
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

    def settle(self, marks: bool, rotates: bool) -> Fetched:
        """Keeps the new text, alone or joined to the old one; ``rotates``: the platform drops beginnings."""
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
        """The beginning differs: what was kept, and the new text from where that ended."""
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

    def _fetched(self, state: str, cut: str | None, marks: bool) -> Fetched:
        if not self._path.exists():
            return Fetched(0, None, state, cut, ())
        with open(self._path, "rb") as kept:
            return Fetched(size_of(kept), str(self._path), state, cut, item_ends(kept) if marks else ())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a disk that was full at the write is full at the last flush
            self._new.close()
        if self._old is not None:
            self._old.close()


async def _read_marks(client: LogSource, session: str, marks: bool) -> Fetched:
    """Nothing is kept. A mark counts with its whole line, so pieces are looked at up to their last newline."""
    from skahactl.manifest.placeholders import each_ends

    size, rest = 0, b""
    found: list[tuple[int, int]] = []
    async with client.log(session) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if marks:
                lines, newline, rest = (rest[-_LONG_ENOUGH:] + chunk).rpartition(b"\n")
                found.extend(each_ends([lines + newline]))
    return Fetched(size, None, "kept" if size else "empty", None, tuple(found))


def _holds_gap(stream: BinaryIO) -> bool:
    carry = b""
    for block in blocks(stream):
        if GAP in (window := carry + block):
            return True
        carry = window[-len(GAP) :]
    return False


def _make_folder(folder: Path) -> None:
    """With every parent that is missing, each for the user alone."""
    missing: Iterable[Path] = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(list(missing)):
        place.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def _describe_log(path: Path) -> Iterator[None]:
    """What the disk says, in words that say what to do."""
    try:
        yield
    except OSError as error:
        raise SkahactlError(
            f"the log cannot be kept: {error.strerror or error}",
            where=str(path),
            hint="make room there (skahactl prune --logs) or set SKAHACTL_STATE_DIR; until the platform forgets the "
            "session it can be read again",
            code="log-not-kept",
        ) from error
