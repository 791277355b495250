"""What a stream can show. Nothing heavy is imported here: most calls write to a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO


def is_screen(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """A terminal whose cursor can be moved; not one that calls itself dumb, as a screen reader's may."""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


def has_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    return is_screen(stream, environ) and not environ.get("NO_COLOR")


def shows_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def one_line(text: str) -> str:
    """``text`` as it may stand in one line of a terminal: no control characters, no line breaks."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)
