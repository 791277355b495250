"""Saved logs: their paths, and the last line of a log that has any text."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from skahactl.manifest.placeholders import MARK

if TYPE_CHECKING:
    from skahactl.ledger.records import Run

_EDGE = 16_384  # bytes before the end that are searched
_LONGEST = 500  # characters of a line that are kept
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")


class LastLine:
    """Takes a log in pieces; ``text`` is its last line with any text.

    If the log marks the ends of items, the line before the last mark of a failed item takes precedence, because later
    items may have completed. Marks themselves do not count as lines.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._failed: bytes | None = None

    def __call__(self, data: bytes) -> None:
        window = self._tail + data
        for mark in MARK.finditer(window):
            if int(mark[2]) and mark.end() > len(self._tail):
                self._failed = window[max(0, mark.start() - _EDGE) : mark.start()]
        self._tail = window[-_EDGE:]

    @property
    def text(self) -> str | None:
        """One line without control characters; None if nothing was written."""
        return (self._failed is not None and _last_text(self._failed)) or _last_text(self._tail)


def last_line_of(stream: BinaryIO, *, marks: bool = False) -> str | None:
    """Return the last line of a seekable log that has any text; None if no line has.

    ``marks``: the log marks the ends of items, so it is read from its beginning.
    """
    found = LastLine()
    stream.seek(0 if marks else max(0, stream.seek(0, os.SEEK_END) - _EDGE))
    while block := stream.read(1 << 20):
        found(block)
    return found.text


def _last_text(data: bytes) -> str | None:
    for line in reversed(MARK.sub(b"\n", data + b"\n").split(b"\n")):
        text = _printable(line)
        if text:
            return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return None


def _printable(line: bytes) -> str:
    """Return what a terminal would show of the line: text after the last carriage return, without escape sequences."""
    shown = next((part for part in reversed(line.split(b"\r")) if part.strip()), b"")
    text = _ESCAPE.sub("", shown.decode("utf-8", "replace"))
    return "".join(char if char.isprintable() else " " for char in text).strip()


def log_path(state_dir: Path, run: Run, replica: int, attempt: int) -> Path:
    """Return the path of a saved log: ``logs/HOST/JOB/RUN-DATE/REPLICA.ATTEMPT.log`` in the state directory.

    The date is the creation of the run, so that a new ledger never mistakes older logs for its own.
    """
    server = run.key.server.split("://", 1)[-1].removesuffix("/skaha/v1")
    where = f"{run.key.user}@{server}" if run.key.user else server
    made = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(run.created))
    width = len(str(run.total))
    folder = state_dir / "logs" / _safe(where) / _safe(run.key.name) / f"{run.number}-{made}"
    return folder / f"{replica:0{width}d}.{attempt}.log"


def _safe(text: str) -> str:
    """Convert ``text`` to one file name."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "_", text).lstrip(".")[:200] or "_"
