"""Sources of items: lists in files and on stdin, and globs. All are opened before the first item is read.

Internally, every list is a stream of *lines*: items that end with a newline, whatever ends them in the list. In a
NUL-separated list, newlines and NULs are exchanged, so that a newline within an item is a NUL internally. An item that
the output cannot represent is an error where it is read (see ``Source.internal``), so that no item is ever cut in two.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from skahactl.errors import UsageError

HEAD = 64 * 1024  # a list with a NUL in its first HEAD bytes is NUL-separated
BOM = b"\xef\xbb\xbf"
PIECE = 64 * 1024  # below malloc's mmap threshold: larger pieces cost a page fault for every 4 KiB read

#: Newlines become NULs, and NULs newlines.
SWAP = bytes([10, *range(1, 10), 0, *range(11, 256)])


class Source(NamedTuple):
    """An open list. ``head`` has been read from it, and ``fd`` is positioned after the head.

    ``begin`` and ``end`` are the byte offsets of the list in a regular file, or None if it cannot be read twice.
    """

    name: str
    fd: int
    head: bytes
    nul: bool
    begin: int | None = None
    end: int | None = None

    @property
    def mark(self) -> bytes:
        """Return the byte that ends an item in the list."""
        return b"\0" if self.nul else b"\n"

    @property
    def carriage_returns(self) -> bool:
        """Return whether a line in ``head`` ends with a carriage return."""
        return not self.nul and b"\r\n" in self.head

    def pieces(self, structured: bool) -> Iterator[bytes]:
        """Yield the list in internal form, in pieces; ``structured``: see ``internal``."""
        yield self.internal(self.head, structured)
        if self.fd >= 0:
            while piece := self._read(PIECE):
                yield self.internal(piece, structured)

    def all_of_it(self, structured: bool) -> Iterator[bytes]:
        """Yield the pieces of a regular file, or names that globs match; ``pieces`` can still be read afterwards."""
        if self.fd < 0:
            return iter([self.internal(self.head, structured)])
        assert self.begin is not None
        assert self.end is not None
        return self.span(self.begin, self.end, structured)

    def span(self, begin: int, end: int, structured: bool) -> Iterator[bytes]:
        """Yield the bytes ``begin`` to ``end`` of a regular file in internal form, in pieces."""
        while begin < end:
            piece = os.pread(self.fd, min(PIECE, end - begin), begin)
            if not piece:
                raise OSError(errno.EIO, "the list became shorter while it was read", self.name)
            begin += len(piece)
            yield self.internal(piece, structured)

    def internal(self, piece: bytes, structured: bool) -> bytes:
        """Return ``piece`` in internal form. ``structured``: the output can represent items that contain newlines.

        Raises UsageError for an item that the output cannot represent as one.
        """
        if self.nul:
            if not structured and b"\n" in piece:
                raise UsageError("an item contains a newline", where=self.name, hint="use -0 to end items with NUL")
            return piece.translate(SWAP)
        if structured and b"\0" in piece:
            raise UsageError(
                f"a NUL after the first {HEAD // 1024} KiB of lines",
                where=self.name,
                hint="a list must be either lines or NUL-separated",
            )
        return piece

    def _read(self, size: int) -> bytes:
        try:
            return os.read(self.fd, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from error


def open_all(lists: Sequence[str], globs: Sequence[str], stdin: int) -> list[Source]:
    """Open every list, in order, then what the globs match; without either, standard input.

    Raises UsageError for what cannot be opened, for a terminal or /dev/null as the list, and for an unquoted
    ``--glob *.txt``, which the shell turns into the first name as the pattern and the others as lists.
    """
    if not lists and not globs:
        return [_standard_input(stdin)]
    if lists.count("-") > 1:
        raise UsageError("standard input ('-') can be read only once")
    if lists and (plain := next((pattern for pattern in globs if not set("*?[").intersection(pattern)), None)):
        raise UsageError(
            f"--glob '{shown_path(plain)}' has no wildcard, but there are lists too",
            hint="quote the pattern, so that the shell does not expand it: --glob '*.fits'",
        )
    sources = [open_list(name, stdin) for name in lists]
    return [*sources, matches(globs)] if globs else sources


def open_list(name: str, stdin: int) -> Source:
    """Open the list in the file ``name``, or on standard input for ``-``. Raises UsageError."""
    try:
        return _opened("standard input", stdin) if name == "-" else _opened(name, os.open(name, os.O_RDONLY))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot read this list: {reason}", where=shown_path(name)) from error


def matches(globs: Sequence[str]) -> Source:
    """Return the matching names, each once, sorted by bytes, so that every container sees the same order.

    Raises UsageError for a pattern without matches.
    """
    from skahactl.split.patterns import matches as find_matches

    names: set[bytes] = set()
    for pattern in globs:
        found = find_matches(os.path.expanduser(pattern))
        if not found:
            raise UsageError(f"nothing matches --glob '{shown_path(pattern)}'", where=shown_path(os.getcwd()))
        names.update(os.fsencode(name) for name in found)
    return Source("--glob", -1, b"".join(name + b"\0" for name in sorted(names)), nul=True)


def shown_path(name: str | bytes) -> str:
    """Return a name for a message; bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _standard_input(stdin: int) -> Source:
    hint = "name a file, pipe a list, or use --glob"
    try:
        mode = os.fstat(stdin)
    except OSError as error:
        raise UsageError("no list: standard input is closed", hint=hint) from error
    if os.isatty(stdin):
        raise UsageError("no list: standard input is a terminal", hint=hint)
    if stat.S_ISCHR(mode.st_mode) and mode.st_rdev == os.stat(os.devnull).st_rdev:
        raise UsageError(f"no list: standard input is {os.devnull}", hint=hint)
    return open_list("-", stdin)


def _opened(name: str, fd: int) -> Source:
    status = os.fstat(fd)
    begin = os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(status.st_mode) else None
    head = b""
    while len(head) < HEAD and (piece := os.read(fd, HEAD - len(head))):
        head += piece
    end = None if begin is None else max(begin, status.st_size)
    if begin is not None and end is not None and len(head) != min(HEAD, end - begin):
        begin = end = None  # the reported size differs from the content: /proc, /sys, some FUSE file systems
    if head.startswith(BOM) and begin in (0, None):  # a byte order mark is not part of the first item
        head = head[len(BOM) :]
        begin = None if begin is None else begin + len(BOM)
    return Source(shown_path(name), fd, head, b"\0" in head, begin, end)
