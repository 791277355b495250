"""Where the text of a log goes: the output or a file, through what was asked to be cut from it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from skahactl.errors import SkahactlError
from skahactl.logs.choose import AttemptLog, Part
from skahactl.logs.item import ItemPart
from skahactl.logs.lines import LastLines, Lines, Write, prefix


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """How logs are shown: last lines, prefixes, colour, objects instead of lines, several at the same time."""

    tail: int | None = None
    prefixed: bool = False
    colour: bool = False
    objects: bool = False
    mixed: bool = False


class WriterChain:
    """One log's way out. ``release`` lets the last lines out, ``close`` what still waits."""

    def __init__(self, write: Write, look: WriterOptions, label: str, part: Part | None = None):
        self._lines: Lines | ObjectWriter | None = None
        self._item: ItemPart | None = None
        self._last: LastLines | None = None
        if look.objects:
            write = self._lines = ObjectWriter(write, label)
        elif look.prefixed or look.mixed:
            write = self._lines = Lines(write, prefix(label, look.colour) if look.prefixed else b"")
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
    """One log's way to a file of its own, which is there when it is complete, and not before."""

    def __init__(self, path: Path, look: WriterOptions, label: str, part: Part | None = None):
        self.path = path
        self._part_file = path.with_name(f".{path.name}.part")
        self._stream: BinaryIO | None = None
        super().__init__(self._write, WriterOptions(tail=look.tail), label, part)

    def _write(self, data: bytes) -> None:
        with _describe_read(self.path):
            if self._stream is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._part_file.open("wb")
            self._stream.write(data)

    @property
    def written(self) -> bool:
        return self.path.exists() and self._stream is not None

    def close(self) -> None:
        if self._stream is not None:
            with _describe_read(self.path):
                self._stream.close()
                os.replace(self._part_file, self.path)

    def discard(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._part_file.unlink(missing_ok=True)


class ObjectWriter:
    """Each line as a JSON object: ``{"log": "tiles/3", "line": "..."}``; bytes that are no UTF-8 are replaced."""

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
    """``tiles-007.log``, with several attempts ``tiles-007.2.log``; a session's own name without a job."""
    _, replica, attempt = log.key
    if not replica:
        return f"{name}.log"
    number = "" if total == 1 else f"-{replica:0{len(str(total))}d}"
    return f"{name}{number}" + (f".{attempt}" if several_attempts else "") + ".log"


@contextlib.contextmanager
def _describe_read(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SkahactlError(f"the log cannot be saved: {error.strerror or error}", where=str(path)) from error
