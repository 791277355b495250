"""Marks of ended items, drawn for people."""

from __future__ import annotations

import pytest

from skahactl.logs.writers import WriterChain, WriterOptions, draw_marks, prefix


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        (b"a\n::skahactl item 2 exit 2\nb\n", "a\n── item 271.285 · exit 2 ──\nb\n"),
        (b"no newline::skahactl item 1 exit 0\n", "no newline\n── item β Pic · exit 0 ──\n"),
        (b"::skahactl item 9 exit 0\n", "── item 9 · exit 0 ──\n"),
        (b"nothing\n", "nothing\n"),
    ],
)
def test_a_mark_is_a_line_with_the_item(text: bytes, drawn: str) -> None:
    assert draw_marks(text, {1: "β Pic", 2: "271.285"}, False, True).decode() == drawn


def test_a_mark_in_pieces_is_drawn_whole() -> None:
    out: list[bytes] = []
    chain = WriterChain(
        out.append, WriterOptions(), "tiles", draw=lambda text: draw_marks(text, {1: "a"}, False, False)
    )
    for byte in b"x\n::skahactl item 1 exit 3\nrest":
        chain(bytes([byte]))
    chain.close()
    assert b"".join(out) == b"x\n-- item a, exit 3 --\nrest\n"


def test_prefixes_have_one_width() -> None:
    assert prefix("tiles/3", False, 8) == b"tiles/3  | "
    assert prefix("tiles/12", False, 8) == b"tiles/12 | "
